"""Real scans of which only undersampled samples are known: sigma learnt from them, and a network that is told it.

.venv/bin/python benchmarks/noise_aware.py TRAINING_PHOTOS OUT     (half an hour on one core; ../shared/data is needed)

Builds three corpora of photographs, and trains the same small network twice on them: told each pair's sigma
(`noise_aware`), and not told. The scans are those of benchmarks/sampled_noise.py, every 4th line and 24 reference lines
kept, and und2x2.cfl. Sigma is learnt from the samples that are left. Then the noise-aware network is told this sigma
times 0.25, 0.5, 1, 2 and 4. All is done again after noise of 4 times the scan's own sigma was added to all samples, of
the scan's own covariance. PSNR is inside the object, against the image from all lines, without the noise that was
added, and with the same coil maps. Writes benchmarks/results/noise_aware.json. What was built or trained is not made
again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np
import torch
from sampled_noise import DATA, SCANS, read, sampled, scan_of, white

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.ready.names import RECIPES
from recon.data.scan_batch import Undersampling, batch_of, noise_of
from recon.evaluation.metrics import psnr_magnitude_object_max
from recon.models.baselines import CgSense, RegularisedSense
from recon.training.model_files import load_model
from synth.calibration.noise_profile import whiten
from synth.calibration.scan_noise import calibrate
from synth.errors import CalibrationError, ScanError
from synth.physics import coil_combine, ifft2c
from synth.recipe import load_recipe
from synth.scans.open import open_scan

RESULTS = Path(__file__).parent / "results" / "noise_aware.json"
FACTORS = (0.25, 0.5, 1, 2, 4)  # times the sigma that was learnt
ADDED = 4  # times the scan's own sigma
CORPORA = {  # changes of the recipe `laptop`
    "lines-8": {},
    "lines-4": {"coils.count": 4, "target.outline": "rimmed", "coils.distance": [1.2, 1.5], "seed": 22},
    "points-8": {"sampling": '{kind="regular-2d", acceleration=[2, 2], reference_lines=24}', "seed": 23},
}
TRAININGS = {  # changes of the ready training `laptop-unrolled-shrinkage`
    "aware": {},
    "unaware": {"model.noise_aware": "false", "model.lam": 2.0},
}
SHORT = {"model.iterations": 8, "training.steps": 900}
LAMS = (0.5, 1, 2, 4, 8, 16)


def networks(photos, out):
    """Build and train; the networks by name."""
    for name, changes in CORPORA.items():
        values = {"source.path": photos, "pairs": 400, **changes}
        recipe = load_recipe(RECIPES / "laptop.toml", [f"{key}={value}" for key, value in values.items()])
        build(recipe, out / f"{name}.zarr", ClusterSpec(workers=1))
    corpora = json.dumps([str((out / f"{name}.zarr").absolute()) for name in CORPORA])
    for name, changes in TRAININGS.items():
        values = {"data.corpora": corpora, **SHORT, **changes}
        words = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
        program = [str(Path(sys.executable).with_name("fathom")), "train", "laptop-unrolled-shrinkage", *words]
        subprocess.run([*program, "--out", str(out / name), "--device", "cpu"], check=True)
    return {name: load_model(out / name)[0] for name in TRAININGS}


def noisier(kspace, profile, added, generator):
    """K-space [coil y x] with noise of the profile's covariance, `added` times as strong, at samples that are not 0."""
    root = np.linalg.cholesky(profile.covariance / 2)
    noise = added * np.tensordot(root, white(generator, kspace.shape), axes=1)
    return np.where(kspace != 0, kspace + noise, 0).astype(np.complex64)


def measured(found, full, samples, truth):
    """The row of one slice: k-space from all lines, and the samples that are left, both [coil y x]."""
    profile, notes = noise_of(scan_of(samples))  # nothing else of the file is known
    if profile is None:
        return {"refused": notes[0].split("cannot be learnt. ")[-1]}
    row = {"place": profile.place, "sigma over the full scan's": round(profile.rms_sigma / truth, 3)}
    row |= {"half width": round(profile.uncertainty, 3), "notes": list(profile.notes)}
    try:
        batch, _, limits = batch_of(samples, profile, Undersampling())
    except ScanError as error:
        return row | {"no image": str(error)}
    maps = batch["sens_maps"][0].numpy()
    reference = coil_combine(ifft2c(whiten(full[len(full) // 2], profile)), maps)

    def score(model, factor=1.0):
        with torch.no_grad():
            image = model(batch | {"sigma": batch["sigma"] * factor})[0].numpy()
        return round(float(psnr_magnitude_object_max(image, reference)), 2)

    row["CG-SENSE, best iteration"] = max(score(CgSense(i)) for i in (3, 5, 8, 10, 15, 20, 30))
    row["regularised SENSE, best lam"] = max(score(RegularisedSense(lam)) for lam in LAMS)
    row["not told sigma"] = score(found["unaware"])
    row |= {f"told sigma x {factor:g}": score(found["aware"], factor) for factor in FACTORS}
    return row | {"net acceleration": round(float(batch["acceleration_net"][0]), 2), "limits of maps": list(limits)}


def scans():
    """Name, the full scan, its undersampled middle slice [coil y x]."""
    for name in SCANS:
        full = read(name)
        yield f"{name}, R = 4", full, sampled(full[len(full) // 2], "R4+24")
    t2 = open_scan(DATA / "scans/brain_t2_1ch/T2_single_channel.mat")
    yield "t2_1ch, R = 4", t2, sampled(t2[0], "R4+24")
    yield "und2x2.cfl", read("brain_8ch"), open_scan(DATA / "scans/brain_8ch_bart/und2x2.cfl")[0]


def main(photos, out):
    found, rows = networks(photos, Path(out)), {}
    for k, (name, full, samples) in enumerate(scans()):
        try:
            own = calibrate(full)
        except CalibrationError as error:
            rows[name] = {"refused": f"the full scan: {error}"}
            print(name, json.dumps(rows[name]), flush=True)
            continue
        for added in (0, ADDED):
            noisy = noisier(samples, own, added, np.random.default_rng([20, k]))
            truth = own.rms_sigma * (1 + added**2) ** 0.5
            key = f"{name}, noise added" if added else name
            rows[key] = measured(found, full, noisy, truth)
            print(key, json.dumps(rows[key]), flush=True)
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
