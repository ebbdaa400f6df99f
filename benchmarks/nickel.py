"""Nickel's Figure 3: PSNR of regularised SENSE over lam, at R = 4 (2x2) and R = 6 (2x3), with prior 0.

.venv/bin/python benchmarks/nickel.py PHOTOS OUT SCAN [SCAN ...]

On pairs from photographs, whose SNR is known, and on real scans that were measured fully, with ESPIRiT maps of their
centre. The best lam is told beside SNR / (2 sqrt(R)), the optimum for a white prior (papers: SNR is that of the fully
sampled, coil-combined image, rms over the field of view). Writes OUT/nickel.json.

A scan's own noise is in its reference, too, so that an image which keeps it is rewarded. Therefore the scan is also
tested with what is missing to 2 and 4 times its noise added to what the reconstruction is given, not to the reference.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import torch

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from recon.data.datasets import PairDataset
from recon.data.loader import make_loader
from recon.evaluation.metrics import psnr_magnitude_slice_max
from recon.models.sense import regularised_sense
from synth.calibration.espirit import espirit
from synth.calibration.noise_profile import whiten
from synth.calibration.scan_noise import calibrate
from synth.physics import ifft2c
from synth.recipe import parse_recipe
from synth.rng import rng
from synth.scans.open import open_scan
from synth.stages.mask_points import Regular2DSpec
from synth.stages.noise import complex_noise

LAMS = np.geomspace(0.5, 64, 29)
RATES = ((2, 2), (2, 3))
SNRS = (10, 20, 40)
NOISES = (1, 2, 4)  # times the scan's own


def sweep(batch):
    """Mean PSNR over a batch at every lam."""
    found = []
    for lam in LAMS:
        images = regularised_sense(
            batch["masked_kspace"], batch["sens_maps"], batch["mask"], lam=float(lam), iterations=300, tolerance=1e-5
        )
        pairs = zip(images.numpy(), batch["target"].numpy(), strict=True)
        found.append(float(np.mean([psnr_magnitude_slice_max(x, r) for x, r in pairs])))
    return found


def told(name, curve, optimum=None):
    """A row of the result: the best lam, refined by a parabola through the three best."""
    k = int(np.argmax(curve))
    interior = 0 < k < len(LAMS) - 1
    lam = LAMS[k]
    if interior:
        a, b, c = curve[k - 1 : k + 2]
        lam = float(np.exp(np.log(LAMS[k]) + 0.5 * (a - c) / (a - 2 * b + c) * np.log(LAMS[1] / LAMS[0])))
    row = {"best lam": round(lam, 2), "PSNR": round(max(curve), 2), "interior": interior}
    row |= {"PSNR at the ends": [round(curve[0], 2), round(curve[-1], 2)]}
    if optimum is not None:
        row |= {"SNR / (2 sqrt R)": round(optimum, 2), "ratio": round(lam / optimum, 2)}
    print(name, json.dumps(row), flush=True)
    return row


def photographs(photos, out, rate, snr):
    recipe = {
        "name": "nickel",
        "seed": 3,
        "pairs": 12,
        "source": {"kind": "images", "path": photos},
        "target": {"matrix": [192, 192], "fit": "resize", "reference": "clean"},
        "coils": {"kind": "loops", "count": 16, "sets": 4},
        "noise": {"snr": snr, "definition": "image"},
        "sampling": {"kind": "regular-2d", "acceleration": list(rate), "reference_lines": 0},
    }
    corpus = out / f"photographs-{rate[0]}x{rate[1]}-{snr}.zarr"
    build(parse_recipe(recipe, "nickel"), corpus, ClusterSpec())
    return next(iter(make_loader(PairDataset(corpus), 12, shuffle=False, device="cpu")))


def scanned(path, rate, times):
    scan = open_scan(path)
    kspace = whiten(scan[0], calibrate(scan))
    maps = espirit(kspace).maps[0]
    mask = Regular2DSpec(acceleration=rate, reference_lines=0).draw(rng(0, "mask"), kspace.shape[-2:]).sampled
    missing = complex_noise(kspace.shape, (times**2 - 1) ** 0.5, rng(0, "noise"))  # whitened: its own sigma is 1
    arrays = {
        "masked_kspace": (kspace + missing) * mask,
        "sens_maps": maps,
        "mask": mask[None],
        "target": np.sum(maps.conj() * ifft2c(kspace), axis=0),
    }
    return {name: torch.from_numpy(np.ascontiguousarray(a))[None] for name, a in arrays.items()}


def main(photos, out, *scans):
    out = Path(out)
    results = {}
    for snr in SNRS:
        for rate in RATES:
            name, product = f"photographs, SNR {snr}, {rate[0]}x{rate[1]}", rate[0] * rate[1]
            results[name] = told(name, sweep(photographs(photos, out, rate, snr)), snr / (2 * product**0.5))
    for scan, times, rate in itertools.product(scans, NOISES, RATES):
        name = f"{Path(scan).resolve().parent.name}/{Path(scan).name}, {times} times its noise, {rate[0]}x{rate[1]}"
        results[name] = told(name, sweep(scanned(scan, rate, times)))
    (out / "nickel.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
