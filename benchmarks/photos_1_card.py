"""The table of photos-1's card: the network beside SENSE at the best lam, on pairs that it did not learn from.

    python benchmarks/photos_1_card.py PHOTOS OUT [NETWORK]      (PHOTOS: BSDS500's val; NETWORK: photos-1)

It builds the corpora in OUT that are not there yet: computed heads and photographs as scanners see them, and
photographs without air in a wide ring of coils, as in docs/results.md. It prints the mean PSNR in the object in
dB, with 95 % intervals over sources; lam is the best of `LAMS` for each corpus.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.models.named_models import model_named
from pipelines.ready.names import named_recipe
from recon.data.datasets import PairDataset
from recon.evaluation.intervals import differences, summary_of
from recon.evaluation.rows import reconstructions, rows_of
from recon.models.baselines import RegularisedSense
from synth.recipe import load_recipe

METRIC = "psnr_magnitude_object_max"
LAMS = (1, 2, 4, 8, 16, 32, 64, 128)
USUAL, HIGH = "noise.snr=[20, 60]", "noise.snr=[200, 2000]"
HEADS = [
    'source={kind="heads"}', 'target.outline="none"', "target.matrix=[192, 160]", "coils.distance=[1.06, 1.15]",
    "pairs=24", "seed=77", USUAL,
]  # fmt: skip
SMALL = ["target.matrix=[96, 96]", "coils.count=16", HIGH]
LINES = 'sampling={kind="uniform", acceleration=4, reference_lines=24, partial_fourier=0.75}'
POINTS = 'sampling={kind="regular-2d", acceleration=[2, 2], reference_lines=24}'
WIDE = [
    "coils.count=8", 'target.outline="none"', 'target.fit="resize"', "coils.distance=[1.2, 1.5]",
    "coils.tilt=[-0.15, 0.15]", "seed=99", "pairs=60", "noise.snr=[10, 80]",
]  # fmt: skip


def corpora(photos):
    """Name, recipe and changes of each corpus, in the order of the card."""
    held = [f'source.path="{photos}"', "pairs=40", "seed=99", USUAL]
    wide = [*WIDE, f'source.path="{photos}"']
    yield "heads, R = 4", "scanner-like", HEADS
    yield "heads, 4 coils", "scanner-like", [*HEADS, "coils.count=4"]
    yield "heads, R = 6", "scanner-like", [*HEADS, "sampling.acceleration=6"]
    yield "heads, 6 of 8", "scanner-like", [*HEADS, "sampling.partial_fourier=0.75"]
    yield "heads, 2x2", "scanner-like", [*HEADS, POINTS]
    yield "heads, small", "scanner-like", [*HEADS, *SMALL]
    yield "held, R = 4", "scanner-like", held
    yield "held, R = 6", "scanner-like", [*held, "sampling.acceleration=6"]
    yield "held, random", "scanner-like", [*held, LINES]
    yield "held, high SNR", "scanner-like", [*held, HIGH]
    yield "wide, R = 4", "laptop", wide
    yield "wide, R = 6", "laptop", [*wide, "sampling.acceleration=6"]


def rows(model, pairs):
    made = reconstructions(model, pairs, 4, "cpu")
    return sorted((r for batch, images in made for r in rows_of(batch, images, pairs)), key=lambda r: r["pair"])


def told(found):
    return f"{found[METRIC]['mean']:.1f} [{found[METRIC]['low']:.1f}, {found[METRIC]['high']:.1f}]"


def main():
    photos, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    network, _ = model_named(sys.argv[3] if len(sys.argv) > 3 else "photos-1", "cpu")
    print("| pairs | photos-1 | SENSE, best lam | difference |\n|---|---|---|---|")
    for name, recipe, changes in corpora(photos):
        path = out / f"{name.replace(', ', '-').replace(' ', '')}.zarr"
        build(load_recipe(named_recipe(recipe), changes), path, ClusterSpec("sync"))
        pairs = PairDataset(path)
        ours = rows(network, pairs)
        best = max((rows(RegularisedSense(lam), pairs) for lam in LAMS), key=lambda r: np.mean([x[METRIC] for x in r]))
        parts = summary_of(ours), summary_of(best), differences(ours, best)
        print(f"| {name} | " + " | ".join(told(part) for part in parts) + " |", flush=True)


if __name__ == "__main__":
    main()
