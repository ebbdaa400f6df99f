"""All 200 pairs of `knoll2019-17` on the BSDS's training photographs, and what the corpus claims, measured back.

.venv/bin/python benchmarks/knoll.py PHOTOS OUT.zarr
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.ready.names import RECIPES
from synth.corpus.reader import open_corpus
from synth.recipe import load_recipe
from synth.stages.noise import sigma_of_empty_rows
from synth.stages.readout import Readout


def main(photos, out):
    made = build(load_recipe(RECIPES / "knoll2019-17.toml", [f"source.path={photos}"]), Path(out), ClusterSpec())
    print(f"{made.pairs} pairs, {made.rejected} rejected, {made.pairs_per_s} pairs/s, hash {made.content_hash}")
    (bucket,) = open_corpus(out).buckets
    arrays, number = bucket.arrays, bucket.numbers
    snr = number("snr_rms") / number("snr_wanted") - 1
    readout = Readout(arrays["target"].shape[1], arrays["kspace"].shape[2])
    back = np.array([sigma_of_empty_rows(arrays["kspace"][row], readout) for row in range(made.pairs)])
    sigma = back / number("sigma") - 1
    low, high = number("snr_rms").min(), number("snr_rms").max()
    print(f"k-space {arrays['kspace'].shape[1:3]} x 368 columns, {arrays['kspace'].shape[3]} sampled")
    print(f"SNR (rms) {low:.1f} to {high:.1f}; achieved over wanted: worst {100 * np.abs(snr).max():.3f} %")
    print(f"sigma measured back from the empty rows of the stored k-space: worst {100 * np.abs(sigma).max():.3f} %")
    print(f"net acceleration {number('acceleration_net').min():.4f} to {number('acceleration_net').max():.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
