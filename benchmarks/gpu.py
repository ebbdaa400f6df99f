"""Fathom on a GPU: the same numbers as on a CPU, time and memory of every network, the loader, trainings, and peers.

    .venv/bin/python benchmarks/gpu.py --out gpu.json               # a machine with an NVIDIA GPU; some minutes
    .venv/bin/python benchmarks/gpu.py --out gpu.json --tiny        # the same code on a CPU, in half a minute

Each part is guarded and writes the file when it ends; ``--only NAME ...`` repeats parts. Networks are measured at the
papers' sizes: 15 coils, 320x368, masks of lines (every fourth, 24 in the middle) or points (2x2).
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "tests")]
import numpy as np
import peers_cg
import torch
from conftest import recipe_data, write_photos
from gpu_measures import Report, batch_of, eager, memory, profiled, quartiles, waits

import recon.data.loader
from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from recon.data.datasets import PairDataset
from recon.data.device_espirit import device_espirit
from recon.data.loader import make_loader
from recon.evaluation.rows import evaluate
from recon.models.baselines import CgSense, RegularisedSense
from recon.models.catalogue import make_model
from recon.models.cuda_graphs import FLAG
from recon.models.rbf import RbfTable, _Rbf, rbf
from recon.models.sense import Sense
from recon.models.solvers import conjugate_gradient
from recon.models.unet import UNet
from recon.models.unrolled_sense import DenoiserSpec, UnrolledSpec
from recon.models.variational import VariationalSpec
from recon.training.loop import train
from recon.training.losses import loss_of
from recon.training.settings import Training
from synth.calibration.espirit import espirit
from synth.recipe import parse_recipe

parser = argparse.ArgumentParser()
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--tiny", action="store_true")
parser.add_argument("--budget", type=float, default=520.0, help="seconds; parts that would begin later are left out")
parser.add_argument("--only", nargs="*", default=[])
args = parser.parse_args()
TINY = args.tiny
DEVICE = torch.device("cpu" if TINY else "cuda")
REPORT = Report(args.out, args.budget, args.only, DEVICE)
SIZE = (4, 48, 56) if TINY else (15, 320, 368)
WORK = Path(tempfile.gettempdir()) / f"fathom-gpu-{os.getpid()}"


def networks():
    """Name, settings, images per batch, and whether the mask is of points."""
    if TINY:
        few = {"iterations": 2, "channels": 4, "levels": 2, "cg_iterations": 4}
        yield "variational, 1", VariationalSpec(stages=2, filters=4, kernel=5, nodes=9), 1, False
        yield "unrolled, points, 2", UnrolledSpec(**few), 2, True
        return
    paper = {"cg_iterations": 32, "bf16": True}
    yield "variational, 1", VariationalSpec(), 1, False
    yield "variational, 5", VariationalSpec(), 5, False
    yield "unrolled, lines, 1", UnrolledSpec(**paper), 1, False
    yield "unrolled, points, 1", UnrolledSpec(**paper), 1, True
    yield "unrolled, points, 8", UnrolledSpec(**paper), 8, True
    yield "unrolled in float32, points, 8", UnrolledSpec(cg_iterations=32), 8, True
    yield "unrolled with shrinkage, points, 1", UnrolledSpec(**paper, shrinkage=True), 1, True
    yield "denoiser, 8", DenoiserSpec(bf16=True), 8, False


def step_of(spec, batch):
    """A training step that reads nothing from the device."""
    model = make_model(spec, 0).to(DEVICE)
    parameters = list(model.parameters())
    optimiser = torch.optim.Adam(parameters, lr=1e-4, fused=DEVICE.type == "cuda")
    loss = "magnitude" if isinstance(spec, VariationalSpec) else "nrmse"

    def step():
        optimiser.zero_grad()
        loss_of(model(batch), batch, loss).mean().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 10.0)
        optimiser.step()
        if hasattr(model, "project"):
            model.project()

    return step, model


@REPORT.part("machine", 1)
def _():
    facts = {"torch": torch.__version__, "python": platform.python_version(), "numpy": np.__version__}
    facts["cores"] = os.cpu_count()
    if TINY:
        return facts
    properties = torch.cuda.get_device_properties(0)
    facts |= {"gpu": properties.name, "GB": round(properties.total_memory / 1e9, 1), "cuda": torch.version.cuda}
    a = torch.empty(2**30, dtype=torch.uint8, device=DEVICE)
    b = torch.empty_like(a)
    facts["copy, TB/s read and written"] = round(2 * a.numel() / quartiles(lambda: b.copy_(a))["ms"] / 1e9, 2)
    one = torch.zeros((), device=DEVICE)
    facts["a launch, us"] = round(quartiles(lambda: [one.add_(1) for _ in range(1000)])["ms"], 2)
    facts["a wait, us"] = round(quartiles(lambda: [float(one) for _ in range(1000)])["ms"], 2)
    return facts


@REPORT.part("tests", 60)
def _():
    home = Path(__file__).resolve().parents[1]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        "--no-header",
        "tests/recon",
        "tests/pipelines/models",
    ]
    paths = {"PYTHONPATH": f"{home}:{os.environ.get('PYTHONPATH', '')}"}
    told = subprocess.run(command, cwd=home, capture_output=True, text=True, env={**os.environ, **paths}, check=False)
    return (told.stdout + told.stderr)[-4000:].splitlines()


@REPORT.part("as on a CPU", 20)
def _():
    """Relative differences of images and gradients from the CPU's, with and without TF32."""
    rows, columns = (24, 28) if TINY else (128, 136)
    here = batch_of(2, (SIZE[0], rows, columns), torch.device("cpu"), points=False)
    there = {name: t.to(DEVICE) for name, t in here.items()}
    specs = {
        "variational": VariationalSpec(stages=3),
        "unrolled": UnrolledSpec(iterations=2),
        "unrolled with shrinkage": UnrolledSpec(iterations=2, shrinkage=True, noise_aware=True),
        "unrolled, gradients of iterations": UnrolledSpec(iterations=2, gradients="iterations"),
        "unrolled in bf16": UnrolledSpec(iterations=2, bf16=True),
        "denoiser": DenoiserSpec(),
    }
    found = {}
    for name, spec in specs.items():
        made = {}
        for label, batch, tf32 in (("cpu", here, False), ("tf32", there, True), ("float32", there, False)):
            torch.backends.cudnn.allow_tf32 = tf32
            exact = spec.model_copy(update={"bf16": False}) if hasattr(spec, "bf16") and label == "cpu" else spec
            model = make_model(exact, 0)
            for p in model.parameters():
                if p.ndim == 4 and not p.any():
                    torch.nn.init.normal_(p, std=0.02, generator=torch.Generator().manual_seed(1))
            model = model.to(batch["target"].device)
            for _ in range(4):  # the third is recorded
                model.zero_grad()
                image = model(batch)
                loss_of(image, batch, "nrmse").mean().backward()
            slopes = [p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None]
            made[label] = image.detach().cpu(), torch.cat(slopes)
        torch.backends.cudnn.allow_tf32 = True
        found[name] = {
            label: [f"{float((a - b).norm() / b.norm()):.1e}" for a, b in zip(made[label], made["cpu"], strict=True)]
            for label in ("tf32", "float32")
        }
    for name, model in (("cg-sense:20", CgSense(20)), ("regularised-sense:4", RegularisedSense(4.0))):
        far = model(there).cpu() - model(here)
        found[name] = f"{float(far.norm() / model(here).norm()):.1e}"
    return found


@REPORT.part("steps", 60)
def _():
    """A training step of every network: with CUDA graphs, and without."""
    found = {}
    for name, spec, size, points in networks():
        batch = batch_of(size, SIZE, DEVICE, points=points)
        row = {}
        with eager():
            step, model = step_of(spec, batch)
            row["parameters"] = sum(p.numel() for p in model.parameters())
            row |= {"MB without graphs": memory(step, DEVICE), "without graphs": quartiles(step, 5)}
            row["kernels"] = profiled(step, DEVICE).get("kernels")
        step, model = step_of(spec, batch)
        for _ in range(4):
            step()
        row |= {"MB": memory(step, DEVICE), "step": quartiles(step, 9)}
        row["pairs/s"] = round(1e3 * size / row["step"]["ms"], 1)
        with torch.no_grad():
            row["forward"] = quartiles(lambda model=model, batch=batch: model(batch), 9, warm=4)
        seen = profiled(step, DEVICE)
        row |= {"top": seen.get("top"), "waits": waits(step, DEVICE)}
        if seen:
            row["busy"] = round(seen["kernel ms"] / row["step"]["ms"], 3)
        found[name] = row
    return found


@REPORT.part("parts", 10)
def _():
    """The normal operator, conjugate gradients and the activation: by torch's operations, and as they are."""
    found = {}
    for points in (False, True):
        for size in (1,) if TINY else (1, 8):
            batch = batch_of(size, SIZE, DEVICE, points=points)
            model, x = Sense(batch["sens_maps"], batch["mask"]), batch["target"]
            label = f"{'points' if points else 'lines'}, {size}"
            weight, conjugate, axes = model._weight, batch["sens_maps"].conj().resolve_conj(), model._axes

            def by_torch(x, batch=batch, weight=weight, conjugate=conjugate, axes=axes):
                spectrum = torch.fft.fftn(batch["sens_maps"] * x[:, None], dim=axes).mul_(weight)
                return torch.fft.ifftn(spectrum, dim=axes, norm="forward").mul_(conjugate).sum(1)

            with torch.no_grad():
                right = model.adjoint(batch["masked_kspace"])
                found[f"normal operator by torch, {label}"] = quartiles(lambda f=by_torch, x=x: f(x), 20)
                found[f"normal operator, {label}"] = quartiles(lambda m=model, x=x: m.normal(x), 20)
                how = {"iterations": 32, "tolerance": 0.0}
                found[f"32 CG by torch, {label}"] = quartiles(
                    lambda f=by_torch, r=right, how=how: conjugate_gradient(f, r, **how), 5
                )
                found[f"32 CG, {label}"] = quartiles(
                    lambda m=model, r=right: m.solve(r, None, None, 32, 0.0), 9, warm=4
                )
    table = RbfTable(9 if TINY else 31)
    for size in (1,) if TINY else (1, 5):
        filters = 4 if TINY else 24
        draw = torch.Generator().manual_seed(0)
        x = (0.1 * torch.randn(size, filters, SIZE[1] + 10, SIZE[2] + 10, generator=draw)).to(DEVICE).requires_grad_()
        w = (0.04 * table.centres.repeat(filters, 1)).to(DEVICE).requires_grad_()
        g = torch.randn_like(x)
        for label, way in (("by torch, ", _Rbf.apply), ("", rbf)):
            found[f"activation {label}{size}"] = quartiles(
                lambda way=way, x=x, w=w, g=g: torch.autograd.grad(way(x, w, table), (x, w), g), 9
            )
    return found


def corpora():
    """Two corpora of synthetic photographs: lines with an oversampled readout (640x368), and points (320x368)."""
    photos, pairs = WORK / "photos", 8 if TINY else 64
    if not photos.exists():
        write_photos(photos, 6, (60, 72) if TINY else (330, 490))
    common = {"pairs": pairs, "shard_pairs": 8, "coils": {"kind": "loops", "count": SIZE[0], "sets": 4}}
    matrix, middle = list(SIZE[1:]), 8 if TINY else 24
    recipes = {
        "lines": {
            "target": {"matrix": matrix, "readout_oversampling": 2},
            "sampling": {"kind": "regular", "acceleration": 4, "reference_lines": middle},
        },
        "points": {
            "target": {"matrix": matrix},
            "sampling": {"kind": "regular-2d", "acceleration": (2, 2), "reference_lines": 0},
        },
    }
    for name, recipe in recipes.items():
        if not (WORK / f"{name}.zarr").exists():
            made = parse_recipe(recipe_data(photos, **common, **recipe), name)
            build(made, WORK / f"{name}.zarr", ClusterSpec("sync"))  # workers would run this script, too
    return WORK / "lines.zarr", WORK / "points.zarr"


@REPORT.part("loader", 20)
def _():
    found, size = {}, 2 if TINY else 8
    for path in corpora():
        pairs = PairDataset(path)
        found[f"MB a pair, {path.stem}"] = round(pairs.pair_bytes / 1e6, 2)
        for threads in (1,) if TINY else (1, 4, 8):
            loader = make_loader(pairs, size, device=DEVICE, threads=threads)
            rates = []
            for _ in range(4):
                began, count = time.perf_counter(), 0
                for batch in loader:
                    count += len(batch["pair_id"])
                float(batch["max_value"].sum())
                rates.append(count / (time.perf_counter() - began))
            found[f"pairs/s, {path.stem}, {threads} threads"] = round(float(np.median(rates[1:])), 1)
        packed = pairs.packed(list(range(size)))
        there = packed.to(DEVICE)
        found[f"unpacking {size}, {path.stem}"] = quartiles(lambda pairs=pairs, there=there: pairs.unpacked(there))
        found[f"waits of unpacking, {path.stem}"] = waits(lambda pairs=pairs, t=there: pairs.unpacked(t), DEVICE)
    return found


@REPORT.part("trainings", 25)
def _():
    """`train` itself: time of a step, the share of it that waits for a batch, and the memory."""
    lines, points = corpora()
    few = {"iterations": 2, "channels": 4, "levels": 2, "cg_iterations": 4}
    small = {"stages": 2, "filters": 4, "kernel": 5, "nodes": 9} if TINY else {}
    unrolled = {"kind": "unrolled-sense", "noise_aware": True, **(few if TINY else {"cg_iterations": 32, "bf16": True})}
    cases = {
        "variational, adam, 5": (lines, {"kind": "variational", **small}, {"kind": "adam"}, 5, "magnitude"),
        "variational, ipalm, 5": (lines, {"kind": "variational", **small}, {"kind": "ipalm"}, 5, "magnitude"),
        "unrolled, points, 8": (points, unrolled, {"kind": "adam", "clip": 10.0}, 8, "decibel"),
        "unrolled, points, 1": (points, unrolled, {"kind": "adam", "clip": 10.0}, 1, "decibel"),
    }
    found = {}
    for name, (corpus, model, optimiser, size, loss) in cases.items():
        length = {"steps": 4 if TINY else 10 if "ipalm" in name else 30, "batch_size": min(size, 2 if TINY else 8)}
        how = {"name": "check", "data": {"corpora": (str(corpus),)}, "model": model, "optimiser": optimiser}
        settings = Training.model_validate({**how, "training": {**length, "loss": loss}})
        stamps, losses, waited = [], [], []
        real = recon.data.loader.PairLoader.endless

        def timed_batches(self, real=real, waited=waited):
            batches = real(self)
            while True:
                began = time.perf_counter()
                batch = next(batches, None)
                if batch is None:
                    return
                waited.append(time.perf_counter() - began)
                yield batch

        def tell(step, total, value, stamps=stamps, losses=losses):
            stamps.append(time.perf_counter())
            losses.append(value)

        recon.data.loader.PairLoader.endless = timed_batches
        try:
            train(settings, WORK / "training", device=str(DEVICE), tell=tell)
        finally:
            recon.data.loader.PairLoader.endless = real
            shutil.rmtree(WORK / "training", ignore_errors=True)
        last = len(stamps) // 2
        each = (stamps[-2] - stamps[last - 1]) / (len(stamps) - 1 - last)
        found[name] = {
            "step ms": round(1e3 * each, 1),
            "wait share": round(float(np.mean(waited[last:])) / each, 4),
            "pairs/s": round(settings.training.batch_size / each, 1),
            "losses": [round(losses[0], 4), round(losses[-1], 4)],
        }
    return found


@REPORT.part("espirit", 15)
def _():
    """Maps of a volume on the device, and of a slice of it on the host."""
    slices = 2 if TINY else 16
    kspace = batch_of(slices, SIZE, torch.device("cpu"), points=False)["masked_kspace"].numpy()
    there = torch.from_numpy(kspace).to(DEVICE)
    began = time.perf_counter()
    reference = (24, 8) if TINY else (24, 24)
    host = espirit(kspace[0], reference=reference)
    found = {"ms a slice on the host": round(1e3 * (time.perf_counter() - began), 1)}
    made = device_espirit(there, reference=reference)
    found["volume"] = quartiles(lambda: device_espirit(there, reference=reference), 5)
    found["ms a slice"] = round(found["volume"]["ms"] / slices, 2)
    sure = host.eigenvalues[0] > 0.95
    found["largest difference"] = f"{np.abs((made.maps[0].cpu().numpy() - host.maps)[:, :, sure]).max():.1e}"
    return found


@REPORT.part("evaluation", 10)
def _():
    """Milliseconds a pair of `evaluate`: reconstruction and all metrics."""
    _, points = corpora()
    found = {}
    for name, model in (("cg-sense:30", CgSense(30)), ("untrained unrolled", None)):
        spec = UnrolledSpec(channels=4, levels=2, iterations=2) if TINY else UnrolledSpec(bf16=True)
        model = model or make_model(spec, 0).to(DEVICE)
        evaluate(model, PairDataset(points), 8, DEVICE)  # imports, plans, graphs
        began = time.perf_counter()
        rows = evaluate(model, PairDataset(points), 8, DEVICE)
        found[f"ms a pair, {name}"] = round(1e3 * (time.perf_counter() - began) / len(rows), 1)
    return found


@REPORT.part("fastmri VarNet", 15)
def _():
    from fastmri.models.varnet import VarNet

    found = {}
    for cascades in (1,) if TINY else (12, 6):
        less = {"chans": 4, "pools": 2, "sens_chans": 4, "sens_pools": 2} if TINY else {}
        batch = batch_of(1, SIZE, DEVICE, points=False)
        kspace, mask = torch.view_as_real(batch["masked_kspace"]), batch["mask"][..., None]
        target, model = batch["target"].abs(), VarNet(num_cascades=cascades, **less).to(DEVICE)
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, fused=DEVICE.type == "cuda")

        def step(model=model, optimiser=optimiser, kspace=kspace, mask=mask, target=target):
            optimiser.zero_grad()
            (model(kspace, mask, 8 if TINY else 24) - target).abs().mean().backward()
            optimiser.step()

        row = {"parameters": sum(p.numel() for p in model.parameters()), "MB": memory(step, DEVICE)}
        found[f"{cascades} cascades"] = row | {"step": quartiles(step, 5)}
    return found


@REPORT.part("CG of peers", 10)
def _():
    """As many conjugate gradients by mrpro and deepinv, where they are installed, on the same card and problem."""
    found = {}
    for points in (False, True):
        batch = batch_of(1, SIZE, DEVICE, points=points)
        coil_maps, mask, kspace = (batch[key][0] for key in ("sens_maps", "mask", "masked_kspace"))
        given = kspace, coil_maps, mask[0].float().expand(SIZE[1:]).contiguous(), 32
        model = Sense(batch["sens_maps"], batch["mask"])
        with torch.no_grad():
            right = model.adjoint(batch["masked_kspace"])
            ours = model.solve(right, None, None, 32, 0.0)
            row = {"fathom": quartiles(lambda m=model, r=right: m.solve(r, None, None, 32, 0.0), 9, warm=4)}
            for name, way in peers_cg.WAYS.items():
                try:
                    image = way(*given)
                except ImportError as error:
                    row[name] = repr(error)
                    continue
                differs = float((image - ours[0]).norm() / ours.norm())
                row[name] = quartiles(lambda way=way, given=given: way(*given), 9) | {"differs by": differs}
        found["points" if points else "lines"] = row
    return found


@REPORT.part("compiled", 60)
def _():
    """A step of the U-net, forward and backward: by torch's operations, by torch.compile, and that with graphs."""
    found = {}
    for size in (1,) if TINY else (1, 8):
        net = UNet(4, 2) if TINY else UNet(32, 3, bf16=True)
        net, image = net.to(DEVICE), batch_of(size, SIZE, DEVICE, points=False)["target"]

        def step(net, image=image):
            net.zero_grad()
            torch.view_as_real(net(image)).square().mean().backward()

        began = time.monotonic()
        compiled = torch.compile(net)
        step(compiled)
        found[f"seconds to compile, {size}"] = round(time.monotonic() - began, 1)
        found[f"torch.compile, {size}"] = quartiles(lambda step=step, net=compiled: step(net), 20, warm=5)
        if DEVICE.type == "cuda":
            graphed = torch.compile(net, mode="reduce-overhead")
            found[f"torch.compile with graphs, {size}"] = quartiles(
                lambda step=step, net=graphed: step(net), 20, warm=5
            )
        found[f"torch's operations, {size}"] = quartiles(lambda step=step, net=net: step(net), 20, warm=5)
    return found


shutil.rmtree(WORK, ignore_errors=True)
print(f"{FLAG}={os.environ.get(FLAG, '1')}; {REPORT.end()}")
