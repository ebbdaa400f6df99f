"""Noise maps from probes beside noise maps from replicas: agreement, precision and time, for SENSE and for networks.

.venv/bin/python benchmarks/noise_maps.py [SECONDS]     (fastMRI's VarNet comes with `make peers`)

Networks are trained for SECONDS each (default 60) of one core on photographs that come with scikit-image. For each
model and one pair: the correlation over the object of two maps of 400 replicas, and of the probes' map with each of
them; the map's own standard error; and its time beside that of replicas with this standard error, of which a complex
image needs 1 / (4 e^2), and a magnitude 1 / (2 e^2). Times are of one thread's processor. The table is written into
results/noise_maps.json.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.ready.names import RECIPES
from recon.data.datasets import PairDataset
from recon.data.loader import make_loader
from recon.evaluation.noise_map import noise_map
from recon.evaluation.probes import noise_maps
from recon.models.baselines import CgSense, RegularisedSense
from recon.models.gfactor import block_g
from recon.models.sense import cg_sense
from recon.models.unrolled_sense import UnrolledSense, UnrolledSpec
from recon.models.variational import VariationalNetwork, VariationalSpec
from synth.recipe import load_recipe
from synth.stages.object_mask import object_of

RESULTS = Path(__file__).parent / "results" / "noise_maps.json"
REPLICAS, PROBES, OF_NETWORKS = 400, (18, 72, 144), (72, 288)
COMMON = ["pairs=40", "target.matrix=[48,64]", "coils.distance=[1.0,1.1]", "noise.snr=[20,20]"]
CORPORA = {
    "regular": ["sampling.kind=regular", "sampling.reference_lines=0"],
    "regular with reference lines": ["sampling.kind=regular", "sampling.reference_lines=8"],
    "variable density": ["sampling.reference_lines=8"],
}


class VarNet(torch.nn.Module):
    """fastMRI's end-to-end variational network, small; it estimates maps itself and gives magnitudes."""

    def __init__(self):
        super().__init__()
        from fastmri.models import VarNet as Theirs

        self.net = Theirs(num_cascades=4, sens_chans=4, sens_pools=3, chans=8, pools=3)

    def forward(self, batch):
        kspace = torch.view_as_real(batch["masked_kspace"])
        return self.net(kspace, batch["mask"].expand(len(kspace), -1, -1, -1)[..., None], 8)


def trained(network, pairs, seconds):
    """A few epochs of Adam on the magnitude's error, which every network here can be trained by."""
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    end, epoch = time.process_time() + seconds, 0
    while time.process_time() < end:
        for batch in make_loader(pairs, 2, seed=epoch, device="cpu"):
            truth = batch["target"].abs()
            loss = ((network(batch).abs() - truth).square().sum() / truth.square().sum()).sqrt()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if hasattr(network, "project"):
                network.project()
        epoch += 1
    print(f"  {epoch} epochs, last loss {float(loss.detach()):.3f}", flush=True)
    return network.eval()


def timed(work):
    started = time.process_time()
    made = work()
    return made, time.process_time() - started


class ConvergedCgSense:
    """Unregularised SENSE until the residual is 1e-6; 30 iterations regularise where g is large."""

    def __call__(self, batch):
        arrays = batch["masked_kspace"], batch["sens_maps"], batch["mask"]
        return cg_sense(*arrays, iterations=200, tolerance=1e-6)


def measured(model, batch, exact=None):
    inside = object_of(batch["target"][0].abs().numpy())
    with torch.no_grad():
        complex_image = model(batch).is_complex()
        (first, seconds), second = (
            timed(lambda: noise_maps(model, batch, REPLICAS, 1)),
            noise_maps(model, batch, REPLICAS, 2),
        )
    unit = float(batch["sigma"])

    def alike(a, b):
        return float(np.corrcoef(a[0][inside], b[0][inside])[0, 1])

    found = {"two sets of replicas": {"correlation": alike(first, second), "seconds": seconds}}
    for probes in OF_NETWORKS if isinstance(model, torch.nn.Module) else PROBES:
        made, took = timed(lambda probes=probes: noise_map(model, batch, probes))
        error = float(made.error[0])
        equal = 1 / ((4 if complex_image else 2) * max(error, 1e-4) ** 2)  # replicas of this standard error
        found[f"{probes} probes"] = {
            "correlation": [alike(made.spread, part) for part in (first, second)],
            "mean over replicas' mean": float((made.spread[0] / unit / (first[0] + second[0]) * 2)[inside].mean()),
            "standard error": error,
            "seconds": took,
            "times faster than replicas of this error": equal * seconds / REPLICAS / took,
            "deviation from linear": float(made.deviation[0]),
            "derivative": made.how,
        }
        if exact is not None:
            off = made.spread[0][inside] / exact[inside] - 1
            found[f"{probes} probes"]["relative difference to the analytic map"] = {
                "rms": float((off**2).mean() ** 0.5),
                "largest": float(np.abs(off).max()),
            }
    return found


def analytic(batch, lam):
    """sigma sqrt(R) g, and g of unregularised SENSE where lam is None, for a regular mask."""
    maps, mask = batch["sens_maps"][0].numpy(), batch["mask"][0, 0, 0].numpy()
    return float(batch["sigma"]) * mask.mean() ** -0.5 * block_g(maps, mask, lam)


def main(seconds):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    results = {"threads": 1, "seconds of training": seconds}
    for name, changes in CORPORA.items():
        with tempfile.TemporaryDirectory() as folder:
            build(load_recipe(RECIPES / "demo.toml", [*COMMON, *changes]), Path(folder, "c.zarr"), ClusterSpec("sync"))
            pairs = PairDataset(Path(folder, "c.zarr"))
            batch = {key: value[None] for key, value in pairs[3].items()}
            models = {"cg-sense": (CgSense(30), None), "regularised-sense": (RegularisedSense(4.0), 4.0)}
            if name == "regular":
                models["cg-sense, converged"] = (ConvergedCgSense(), None)
            for label, (model, lam) in models.items():
                exact = analytic(batch, lam) if name == "regular" else None
                keep(results, name, label, measured(model, batch, exact))
            networks = {
                "unrolled-sense": lambda: UnrolledSense(UnrolledSpec(iterations=3, channels=12, levels=2)),
                "variational": lambda: VariationalNetwork(VariationalSpec(stages=6, filters=12, kernel=7)),
                "fastMRI's VarNet": VarNet,
            }
            for label in networks if name != "regular" else ():
                with contextlib.suppress(ImportError):
                    keep(results, name, label, measured(trained(networks[label](), pairs, seconds), batch))


def keep(results, corpus, label, found):
    results.setdefault(corpus, {})[label] = found
    print(corpus, label, json.dumps(found, indent=1), flush=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
