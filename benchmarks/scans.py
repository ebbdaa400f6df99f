"""Corpora with real coils and noise: 200 pairs from photographs, all slices of a scan; what they claim, measured back.

.venv/bin/python benchmarks/scans.py COILS_AND_NOISE_SCAN SCAN PHOTOS OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.corpus.verify import verify
from pipelines.ready.names import RECIPES
from pipelines.scans.calibrate import calibrate_scans
from pipelines.scans.harvest_maps import harvest
from synth.corpus.reader import open_corpus
from synth.recipe import load_recipe, parse_recipe
from synth.sources.scan_slices import ScansSpec
from synth.stages.noise import sigma_of_empty_rows
from synth.stages.readout import Readout


def photographs(scan, photos, out):
    """`knoll2019-17` with the coils and the noise covariance of a scan."""
    spec, cluster = ScansSpec(kind="scans", path=scan), ClusterSpec()
    library = harvest(spec, out / "coils.zarr", cluster)
    profile = calibrate_scans(spec).profile
    profile.save(out / "noise.json")
    coils = f'{{kind="library", path="{out}/coils.zarr", resample=true, flip=true, mix=false, sets=4}}'
    changes = [f"source.path={photos}", f"coils={coils}", f"noise.covariance={out}/noise.json"]
    made = build(load_recipe(RECIPES / "knoll2019-17.toml", changes), out / "photographs.zarr", cluster)
    print(f"library of {len(library['sets'])} sets, sigma {profile.rms_sigma:.4g} from the {profile.place}")
    print(f"photographs: {made.pairs} pairs, {made.rejected} rejected, {made.pairs_per_s} pairs/s")
    print(f"  verified: {verify(out / 'photographs.zarr', replay=10)}")
    (bucket,) = open_corpus(out / "photographs.zarr").buckets
    arrays = bucket.arrays
    readout = Readout(arrays["target"].shape[1], arrays["kspace"].shape[2])
    back = np.array([sigma_of_empty_rows(arrays["kspace"][row], readout) for row in range(made.pairs)])
    snr = bucket.numbers("snr_rms") / bucket.numbers("snr_wanted") - 1
    print(f"  SNR achieved over wanted: worst {100 * np.abs(snr).max():.3f} %")
    worst = np.abs(back / bucket.numbers("sigma") - 1).max()
    print(f"  sigma from the empty rows over that claimed: worst {100 * worst:.3f} %")
    covariance = np.zeros((profile.coils, profile.coils), complex)
    for row in range(made.pairs):
        images = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(arrays["kspace"][row], 1), axis=1, norm="ortho"), 1)
        empty = np.delete(images, np.arange(readout.samples)[readout.image_rows], axis=1).reshape(profile.coils, -1)
        covariance += empty @ empty.conj().T / empty.shape[1] / bucket.numbers("sigma")[row] ** 2 / made.pairs
    expected = profile.covariance * 2 * profile.coils / np.trace(profile.covariance).real
    off = np.linalg.norm(covariance - expected) / np.linalg.norm(expected)
    print(f"  covariance between coils over the profile's: {100 * off:.3f} % apart (Frobenius)")


def slices(scan, out):
    """All slices of a scan as pairs; sigma in the corners of the reference against what is claimed."""
    data = {
        "name": "slices",
        "source": {"kind": "scans", "path": scan},
        "target": {"fit": "native"},
        "coils": {"kind": "espirit"},
        "noise": {"kind": "none"},
        "sampling": {"kind": "regular", "acceleration": 2, "reference_lines": 24},
    }
    made = build(parse_recipe(data, "slices"), out / "slices.zarr", ClusterSpec())
    print(f"scan: {made.pairs} pairs, {made.rejected} rejected; verified: {verify(out / 'slices.zarr', replay=4)}")
    (bucket,) = open_corpus(out / "slices.zarr").buckets
    ratios = []
    for row in range(made.pairs):
        target = np.asarray(bucket.arrays["target"][row])
        rows, columns = target.shape
        side = target[rows // 3 : -rows // 3, : columns // 8]  # beside the head, in the middle of the readout
        ratios.append(float(np.median(np.abs(side)) / np.sqrt(2 * np.log(2)) / bucket.numbers("sigma")[row]))
    low, middle, high = np.percentile(ratios, [0, 50, 100])
    print(f"  sigma beside the object over that claimed: median {middle:.3f}, {low:.3f} ... {high:.3f}")


def main(coils_scan, scan, photos, out):
    out = Path(out)
    out.mkdir(parents=True)
    photographs(coils_scan, photos, out)
    slices(scan, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
