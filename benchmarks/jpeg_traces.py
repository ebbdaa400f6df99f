"""How often `synth.sources.crimes` finds that a picture was a JPEG once: `jpeg_traces.py PHOTOS SCANS NIFTI`.

PHOTOS is a folder of JPEGs. They are read, changed, rounded to 8 bits, and judged as if they had been saved as PNG.
False alarms are counted on pictures that were never JPEGs: computed heads, magnitude images of scans (root of the sum
of squares), slices of a NIfTI volume, and the photographs reduced to 50 % (of which no trace is left: see the table).
Rates have Wilson's 95 % intervals (J Am Stat Assoc 1927;22:209). It takes two minutes on one core.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synth import ifft2c, open_scan
from synth.errors import FathomError
from synth.physics import rss
from synth.sources.crimes import BLOCKINESS, STEPS, blockiness
from synth.sources.heads import computed_head, names
from synth.sources.jpeg_steps import step_score
from synth.sources.mr_images import items_of
from synth.sources.photos import read_photo

Grey = NDArray[np.float32]
QUALITIES = (50, 75, 90, 95, 98)


def wilson(count: int, of: int) -> tuple[float, float]:
    """Ends of Wilson's 95 % interval of a rate."""
    z = 1.959964
    middle, half = count + z * z / 2, z * (count * (of - count) / of + z * z / 4) ** 0.5
    return (middle - half) / (of + z * z), (middle + half) / (of + z * z)


def eight_bits(image: NDArray[np.floating]) -> Grey:
    """Grey values as an 8-bit file holds them, from values in 0 ... 1."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.float32) / np.float32(255)


def resized(image: Grey, factor: float) -> Grey:
    """A picture of another size, by the filter that ``target.fit = "resize"`` uses."""
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    return eight_bits(np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)))


def as_jpeg(image: Grey, quality: int) -> Grey:
    """A picture after one JPEG."""
    held = io.BytesIO()
    Image.fromarray((image * 255).astype(np.uint8)).save(held, "JPEG", quality=quality)
    return np.asarray(Image.open(held), np.float32) / np.float32(255)


def line(what: str, pictures: Iterable[Grey]) -> None:
    """A line of the table: how many pictures have the blocks' edges, the steps, and one of both."""
    found = np.array([(blockiness(p) > BLOCKINESS, step_score(p) > STEPS) for p in pictures])
    cells = []
    for hits in (found[:, 0], found[:, 1], found.any(axis=1)):
        low, high = wilson(int(hits.sum()), len(hits))
        cells.append(f"{hits.sum()}: {100 * hits.mean():.1f} [{100 * low:.1f}, {100 * high:.1f}]")
    sys.stdout.write(f"| {what} | {len(found)} | {' | '.join(cells)} |\n")
    sys.stdout.flush()


def scans_of(folder: Path) -> Iterable[Grey]:
    """Magnitude images of all slices of the scans that can be read."""
    for file in sorted(p for p in folder.rglob("*") if p.suffix in (".cfl", ".mat", ".npy", ".h5", ".dat")):
        try:
            scan = open_scan(file)
            slices = [scan[k] for k in range(len(scan))]
        except (FathomError, OSError, ValueError):
            continue
        for kspace in slices:
            image = rss(ifft2c(kspace))
            if min(image.shape) >= 64:
                yield eight_bits(image / image.max())


if __name__ == "__main__":
    folder, scans, nifti = (Path(argument) for argument in sys.argv[1:])
    photos = [read_photo(file).image for file in sorted(folder.rglob("*.jpg"))]
    small = [resized(photo, 0.5) for photo in photos]
    draw = np.random.default_rng(0)
    changes: dict[str, Callable[[Grey], Grey]] = {
        "as they are": eight_bits,
        "cropped anywhere": lambda p: eight_bits(p[draw.integers(1, 8) :, draw.integers(1, 8) :]),
        **{f"resized to {100 * f:.0f} %": lambda p, f=f: resized(p, f) for f in (0.75, 1.5)},
    }
    sys.stdout.write("| pictures | number | edges of blocks, % | steps, % | one of both, % |\n|---|---|---|---|---|\n")
    for what, change in changes.items():
        line(f"JPEGs, {what}", map(change, photos))
    for quality in QUALITIES:
        line(f"JPEGs of quality {quality} of the photographs at 50 %", (as_jpeg(p, quality) for p in small))
    line("photographs at 50 %", small)
    line("computed heads", (eight_bits(computed_head(name)[0]) for name in names()))
    line("scans", scans_of(scans))
    volume = [read_photo(nifti.parent / f"{nifti.name}{item}").image for item in items_of(nifti)[30:150]]
    line("slices of a volume", map(eight_bits, volume))
