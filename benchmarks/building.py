"""Pairs per second of whole builds: reading photographs, synthesis, writing, checksums; one and two workers."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from synth.recipe import load_recipe
from synth.sources.photos import ImagesSpec, read_photo

RECIPE = Path(__file__).resolve().parents[1] / "pipelines" / "ready" / "recipes" / "knoll2019-17.toml"


def write_photos(folder):
    """JPEGs of 321x481 from the photographs of scikit-image, as large as the BSDS's."""
    folder.mkdir(parents=True)
    source = ImagesSpec(kind="skimage")
    for name in source.list_files():
        image = Image.fromarray((255 * read_photo(source.folder / name).image).astype(np.uint8))
        image.resize((481, 321)).save(folder / f"{Path(name).stem}.jpg", quality=90)
    return folder


def measure(folder, pairs=640, rounds=3):
    """Medians of interleaved builds without readout oversampling, as the synthesis is measured."""
    photos = write_photos(folder / "photos")
    changes = [f"source.path={photos}", f"pairs={pairs}", "target.readout_oversampling=1", "shard_pairs=16"]
    recipe = load_recipe(RECIPE, changes)
    rates, hashes = {1: [], 2: []}, set()
    for k in range(rounds):
        for workers in rates:
            out = folder / f"{k}-{workers}.zarr"
            made = build(recipe, out, ClusterSpec(workers=workers))
            rates[workers].append(made.pairs_per_s)
            hashes.add(made.content_hash)
            shutil.rmtree(out)
    assert len(hashes) == 1
    one, two = (statistics.median(r) for r in rates.values())
    return {"one worker": one, "two workers": two, "two over one": round(two / one, 3), "all": rates}
