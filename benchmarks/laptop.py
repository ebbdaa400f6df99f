"""Networks trained on photographs alone, in under an hour on two cores, and what they make of brains they never saw.

.venv/bin/python benchmarks/laptop.py TRAINING_PHOTOS VALIDATION_PHOTOS SCANS OUT

Builds fourteen corpora (four and eight coils, R = 4 and 6; no air around, air, and a bright rim as of fat, four of them
of enlarged parts of photographs), trains the ready settings `laptop-variational` on six of them by two processes, then
`laptop-unrolled-shrinkage` and `laptop-denoiser` on all, side by side with a core, about the same number of parameters
and the same time each. Writes OUT/laptop.json and reconstructions.png. What was built or trained already is not made
again. Baselines are tuned on the images that they are compared on, networks are not.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.display.image_panels import draw_rows, panels_of
from pipelines.ready.names import RECIPES
from recon.data.datasets import PairDataset
from recon.data.scan_batch import Undersampling, batch_of, noise_of
from recon.evaluation.intervals import differences, summary_of
from recon.evaluation.metrics import psnr_magnitude_object_max, psnr_magnitude_slice_max, ssim_windowed_slice_range
from recon.evaluation.rows import reconstructions, rows_of
from recon.models.baselines import CgSense, RegularisedSense, ZeroFilled
from recon.models.unrolled_sense import UnrolledSense, UnrolledSpec
from recon.training.model_files import load_model
from synth.recipe import load_recipe
from synth.scans.open import open_scan
from synth.writers.cfl import read_array, write_array

CORPORA = (  # coils, R, outline, fit
    (8, 4, "none", "resize"),
    (8, 6, "none", "crop"),
    (8, 4, "ellipse", "crop"),
    (8, 6, "ellipse", "resize"),
    (4, 4, "ellipse", "resize"),
    (4, 6, "ellipse", "crop"),
)
RIMMED = ((8, 4, "rimmed", "resize"), (8, 6, "rimmed", "crop"), (4, 4, "rimmed", "crop"), (4, 6, "rimmed", "resize"))
ZOOMED = tuple((coils, rate, "rimmed", "resize") for coils in (8, 4) for rate in (4, 6))
SETTINGS = {name: f"laptop-{name}" for name in ("variational", "denoiser")} | {"unrolled": "laptop-unrolled-shrinkage"}
CHANGES = {"denoiser": ("--set", "model.channels=38", "--set", "training.steps=16500")}  # as `unrolled` has and takes
SCANS = ("brain_8ch_bart/full.cfl", "brain_mprage_4ch/MPRAGE_multi_channel.mat")
LAMS = (0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16)
PSNR, SSIM = "psnr_magnitude_slice_max", "ssim_windowed_slice_range"


def corpus(photos, out, name, seed, pairs, coils, rate, outline, fit, snr=(8, 120), **more):
    values = {"coils.count": coils, "sampling.acceleration": rate, "target.outline": outline, "target.fit": fit}
    values |= {"coils.distance": [1.2, 1.5], "coils.tilt": [-0.15, 0.15]}  # some objects have no air around
    values |= {"seed": seed, "pairs": pairs, "source.path": photos, "noise.snr": list(snr), **more}
    recipe = load_recipe(RECIPES / "laptop.toml", [f"{key}={value}" for key, value in values.items()])
    build(recipe, out / name, ClusterSpec())
    return out / name


def start(kind, corpora, out, processes):
    """Begin a ready training, as one would from a shell."""
    fathom = str(Path(sys.executable).with_name("fathom"))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    changes = f"data.corpora={json.dumps([str(path.absolute()) for path in corpora])}"
    words = ["train", SETTINGS[kind], "--out", str(out / kind), "--device", "cpu"]
    words += ["--set", changes, *CHANGES.get(kind, ())]
    program = [fathom] if processes == 1 else [*torchrun, fathom]
    return subprocess.Popen([*program, *words], env={**os.environ, "OMP_NUM_THREADS": "1"})


def trained(trainings, out):
    """Run trainings (kind, corpora, processes) side by side, where they are not done; networks and cards by kind."""
    waiting = [start(kind, corpora, out, n) for kind, corpora, n in trainings]
    for process in waiting:
        if process.wait() != 0:
            raise SystemExit("a training failed")
    return {kind: load_model(out / kind) for kind, *_ in trainings}


def rows_on(model, pairs):
    made = [row for batch, images in reconstructions(model, pairs, 8, "cpu") for row in rows_of(batch, images, pairs)]
    return sorted(made, key=lambda row: row["pair"])


def photographs(models, path):
    """Held-out photographs: PSNR of every model, and paired differences to the best lam and to the denoiser."""
    pairs = PairDataset(path)
    sense = {lam: rows_on(RegularisedSense(lam), pairs) for lam in LAMS}
    best = max(LAMS, key=lambda lam: np.mean([row[PSNR] for row in sense[lam]]))
    rows = {name: rows_on(model, pairs) for name, model in models.items()} | {"regularised SENSE": sense[best]}
    found = {"pairs": len(pairs), "best lam": best}
    found |= {
        name: {PSNR: summary_of(part)[PSNR], "ssim": summary_of(part)["ssim_windowed_slice_range"]}
        for name, part in rows.items()
    }
    for name in models:
        found[f"{name} - regularised SENSE"] = differences(rows[name], rows["regularised SENSE"])[PSNR]
    found["unrolled - denoiser"] = {
        metric: differences(rows["unrolled"], rows["denoiser"])[metric]
        for metric in (PSNR, "ssim_windowed_slice_range")
    }
    return found


def wavelet_by_bart(batch, lam):
    """The weight is relative to the zero-filled image's maximum."""
    scale = float(ZeroFilled()(batch).abs().max())
    with tempfile.TemporaryDirectory() as folder:
        for part, values in (("k", batch["masked_kspace"][0] / scale), ("m", batch["sens_maps"][0])):
            write_array(Path(folder, part), values.numpy())
        command = ["bart", "pics", "-l1", f"-r{lam}", "-i100", "-w1", "k", "m", "x"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return scale * read_array(Path(folder, "x")).squeeze()


def brain(models, path, rate):
    """A real scan, undersampled retrospectively: PSNR inside the object, SSIM; baselines tuned by oracle."""
    scan = open_scan(path)
    batch, reference, _ = batch_of(scan[0], noise_of(scan)[0], Undersampling(rate, 24))

    def score(image):
        image = image[0].numpy() if isinstance(image, torch.Tensor) else image
        return psnr_magnitude_object_max(image, reference), ssim_windowed_slice_range(image, reference)

    found = {"net acceleration": round(float(batch["acceleration_net"][0]), 2)}
    found["CG-SENSE, best iteration"] = max(score(CgSense(i)(batch)) for i in (3, 5, 8, 10, 15, 20, 30))
    found["regularised SENSE, best lam"] = max(score(RegularisedSense(lam)(batch)) for lam in LAMS)
    if shutil.which("bart"):
        weights = (2e-4, 5e-4, 1e-3, 1.5e-3, 2e-3, 3e-3, 5e-3, 8e-3)
        found["l1-wavelet of BART, best weight"] = max(score(wavelet_by_bart(batch, w)) for w in weights)
    with torch.no_grad():
        found |= {name: score(model(batch)) for name, model in models.items()}
    return {
        name: [round(float(v), 3) for v in value] if isinstance(value, tuple) else value
        for name, value in found.items()
    }


def picture(models, out):
    """Rows of photographs that scikit-image carries: reference, and every model with its error."""
    changes = {"source": '{kind="skimage"}', "target.matrix": "[256, 256]", "pairs": 6, "noise.snr": 40, "seed": 5}
    recipe = load_recipe(RECIPES / "laptop.toml", [f"{key}={value}" for key, value in changes.items()])
    build(recipe, out / "picture.zarr", ClusterSpec())
    shown = {"CG-SENSE": CgSense(8), **{name: models[name] for name in ("denoiser", "variational", "unrolled")}}
    rows, pairs = [], PairDataset(out / "picture.zarr")
    for position in (0, 3):
        batch = {name: value[None] for name, value in pairs[position].items()}
        reference, titled = batch["target"][0].numpy(), {}
        for name, model in shown.items():
            with torch.no_grad():
                image = model(batch)[0].numpy()
            titled[f"{name}, {psnr_magnitude_slice_max(image, reference):.1f} dB"] = image
        rows += panels_of(reference, titled)
    draw_rows(rows, out / "reconstructions.png")


def main(training, validation, scans, out):
    out = Path(out)
    made = [corpus(training, out, f"train-{k}.zarr", 21 + k, 800, *how) for k, how in enumerate(CORPORA)]
    rimmed = [corpus(training, out, f"rimmed-{k}.zarr", 51 + k, 600, *how) for k, how in enumerate(RIMMED)]
    zoom = {"target.zoom": [1.5, 5.0]}
    zoomed = [corpus(training, out, f"zoomed-{k}.zarr", 71 + k, 500, *how, **zoom) for k, how in enumerate(ZOOMED)]
    networks = trained([("variational", made, 2)], out)
    networks |= trained([(kind, made + rimmed + zoomed, 1) for kind in ("unrolled", "denoiser")], out)
    models = {kind: network for kind, (network, _) in networks.items()}
    models["unrolled, untrained"] = UnrolledSense(UnrolledSpec.model_validate(networks["unrolled"][1]["model"])).eval()
    names = ("parameters", "steps", "seconds", "lam")
    results = {"training": {kind: {n: card[n] for n in names} for kind, (_, card) in networks.items()}}
    for rate in (4, 6):
        held_out = corpus(validation, out, f"validation-{rate}.zarr", 99, 60, 8, rate, "none", "resize", (10, 80))
        results[f"photographs, R = {rate}"] = photographs(models, held_out)
        for name in SCANS:
            results[f"{name}, R = {rate}"] = brain(models, Path(scans) / name, rate)
    picture(models, out)
    (out / "laptop.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main(*sys.argv[1:])
