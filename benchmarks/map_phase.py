"""The phase of ESPIRiT maps: version 1 of the stage "maps" beside the newest. `map_phase.py SCAN...`.

.venv/bin/python benchmarks/map_phase.py ../shared/data/scans/brain_8ch_bart/full.cfl

Printed as JSON, for every scan: vortices inside the object and the largest phase difference of neighbours in rad, over
all slices and over 12 augmented pairs. For its middle slice, with sigpy's maps beside it: what is left of the signal
after projection on the maps, in sigma, at the pixel where the versions differ most; the g-factor and the error of
CG-SENSE at R = 4 (2 with two coils); how much the maps change but for their phase; and the time, in turns.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np
import sigpy.mri
import torch

from recon.models.sense import cg_sense
from synth.calibration.espirit import espirit
from synth.calibration.map_phase import object_where_defined, phase_of_maps
from synth.calibration.noise_profile import whiten
from synth.calibration.scan_noise import calibrate
from synth.physics import ifft2c, rss
from synth.plan import Plan
from synth.recipe import parse_recipe
from synth.rng import rng
from synth.scans.open import open_scan
from synth.stages.mask_lines import RegularSpec
from synth.version import SCAN_STAGES

VERSIONS = (1, SCAN_STAGES["maps"])


def estimated(kspace, version):
    return espirit(kspace, reference=tuple(min(24, n) for n in kspace.shape[1:]), version=version)


def slices(scan):
    """Vortices and largest difference over all whitened slices, by version."""
    found = {version: [0, 0.0] for version in VERSIONS}
    for number in range(len(scan)):
        kspace = whiten(scan[number], calibrate(scan, number, checked=False))
        inside = object_where_defined(rss(ifft2c(kspace)), estimated(kspace, VERSIONS[-1]).eigenvalues[0])
        for version, sums in found.items():
            phase = phase_of_maps(estimated(kspace, version).maps[0], inside)
            sums[:] = sums[0] + len(phase.vortices), max(sums[1], phase.largest)
    return {"slices": len(scan), **{f"version {v}": f"{n} vortices, {d:.3f} rad" for v, (n, d) in found.items()}}


def pairs(path):
    """How many of 12 augmented pairs have a vortex, by version."""
    data = {"name": "augmented", "seed": 13, "pairs": 12, "source": {"kind": "scans", "path": str(path)}}
    data |= {"target": {"fit": "native", "flip": True, "shift": 0.05, "degrees": 10}, "coils": {"kind": "espirit"}}
    data |= {"noise": {"kind": "none"}, "sampling": {"kind": "regular", "acceleration": 4, "reference_lines": 24}}
    plan = Plan.of(parse_recipe(data, "benchmark"))
    found = {}
    for version in VERSIONS:
        made = [Plan(plan.recipe, plan.files, {"maps": version}).pair(k) for k in range(12)]
        insides = [object_where_defined(np.abs(p.target), np.ones(p.target.shape)) for p in made]
        count = sum(len(phase_of_maps(p.maps, i).vortices) > 0 for p, i in zip(made, insides, strict=True))
        found[f"version {version}"] = f"{count} of 12 with a vortex"
    return found


def residual(maps, images):
    """What is left [y x] of images after projection on maps, in sigma: rms over the 2 (coils - 1) numbers left."""
    return rss(images - maps * np.sum(maps.conj() * images, 0)) / np.sqrt(2 * (len(maps) - 1))


def g_factor(maps, inside, acceleration):
    """Mean and 99th percentile of g inside, for every `acceleration`-th column (Pruessmann, MRM 42:952, 1999)."""
    width = maps.shape[2] // acceleration * acceleration
    maps, inside = (a[..., :width] * inside[..., :width] for a in (maps, np.ones_like(inside)))
    folded = np.stack(np.split(maps, acceleration, axis=2), axis=-1).transpose(1, 2, 0, 3)  # [y x coil copy]
    gram = folded.conj().swapaxes(-1, -2) @ folded + 1e-6 * np.eye(acceleration)
    g = np.sqrt((np.linalg.inv(gram) * gram.swapaxes(-1, -2)).real.diagonal(axis1=-2, axis2=-1))
    g = g.transpose(0, 2, 1).reshape(inside.shape)[inside > 0]
    return float(g.mean()), float(np.percentile(g, 99))


def cg_error(maps, kspace, images, inside, acceleration):
    """NRMSE of CG-SENSE with 24 reference lines inside the object, against the combination of all lines."""
    spec = RegularSpec(acceleration=acceleration, reference_lines=24)
    mask = spec.draw(rng(0, "sampling"), kspace.shape[-2:]).sampled
    tensors = (torch.from_numpy(np.ascontiguousarray(a))[None] for a in (kspace * mask, maps, mask[None, None]))
    image = cg_sense(*tensors)[0].numpy()
    truth = np.sum(maps.conj() * images, 0)
    return float(np.linalg.norm((image - truth)[inside]) / np.linalg.norm(truth[inside]))


def middle(scan):
    number = len(scan) // 2
    kspace = whiten(scan[number], calibrate(scan, number, checked=False))
    images, found = ifft2c(kspace), {version: estimated(kspace, version) for version in VERSIONS}
    inside = object_where_defined(rss(images), found[VERSIONS[-1]].eigenvalues[0])
    maps = {f"version {version}": one.maps[0] for version, one in found.items()}
    maps["sigpy"] = sigpy.mri.app.EspiritCalib(kspace, calib_width=24, crop=0, show_pbar=False).run()
    change = np.abs(1 - np.abs(np.sum(maps["version 1"].conj() * maps[f"version {VERSIONS[-1]}"], 0)))
    worst = np.unravel_index(np.argmax(change * inside), inside.shape)
    acceleration = min(4, len(kspace))
    told = {"worst pixel": [int(n) for n in worst]}
    for name, one in maps.items():
        g, high = g_factor(one, inside, acceleration)
        phase = phase_of_maps(one, inside)
        told[name] = {
            "vortices": phase.vortices.tolist(),
            "largest difference, rad": round(phase.largest, 3),
            "residual there, sigma": round(float(residual(one, images)[worst]), 2),
            "residual inside, sigma, rms": round(float(np.sqrt(np.mean(residual(one, images)[inside] ** 2))), 4),
            f"g at R = {acceleration}, mean and 99th percentile": [round(g, 4), round(high, 4)],
            f"NRMSE of CG-SENSE at R = {acceleration}": round(cg_error(one, kspace, images, inside, acceleration), 6),
        }
    quantiles = {f"{q} %": float(np.percentile(change[inside], q)) for q in (50, 99, 100)}
    return {**told, "1 - cosine between the versions": quantiles, "milliseconds": speed(kspace)}


def speed(kspace, rounds=11):
    """Medians by version, measured in turns."""
    seconds = {version: [] for version in VERSIONS}
    for _ in range(rounds):
        for version, times in seconds.items():
            start = time.perf_counter()
            estimated(kspace, version)
            times.append(time.perf_counter() - start)
    return {f"version {version}": round(1e3 * statistics.median(times), 1) for version, times in seconds.items()}


def main(paths):
    for path in paths:
        scan = open_scan(path)
        told = {"all slices": slices(scan), "pairs": pairs(path), "middle slice": middle(scan)}
        print(json.dumps({Path(path).name: told}, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
