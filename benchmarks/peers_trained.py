"""Other projects' networks and Fathom's, trained on the same pairs for the same time of one core, in one table.

python benchmarks/peers_trained.py TRAINING_PHOTOS TEST_PHOTOS SCANS OUT [--minutes 20] [--only NAME ...]

It needs fastmri, deepinv and monai: `make peers`, and `pip install monai` in an environment of your own. Each network
makes as many steps as fit into MINUTES of a core that does nothing else. For this, steps of all networks are timed in
turn at first, on the same batches several times, of which the fastest counts. So other work on the machine favours
nobody, and the number of steps is the same however long they take. A training that was stopped goes on from its last
checkpoint, and what OUT holds is not made again. `--only` trains the named networks and makes no table: for a second
core.

**The same for all**: the pairs; Adam with a warm-up, and a rate that stays for three quarters of the steps and then
falls to 0 as half a cosine; gradients clipped to a norm of 10; single precision; and the loss, 20 log10 of the error of
the magnitude over the norm of the reference. It is one loss for all, because networks are compared here and not losses;
of magnitudes, because two of the peers give nothing else; and in decibel, so that each SNR has the same weight, as in a
mean PSNR. fastMRI and MONAI themselves train with SSIM, deepinv with the mean squared error.

**Each project's own**: the architecture, the rate and the batch. Peers have their defaults with fewer channels and
cascades, so that minutes make thousands of steps, and the batch of fastMRI's and MONAI's training code, which is 1. The
rate is fastMRI's own, 1e-3. With 3e-3 and 373 steps the training loss of MoDL was the same, that of fastMRI's VarNet
lower by 0.3 dB, and that of MONAI's by 11 dB, since its untrained images are far too large; it is given 3e-3. MONAI's
own rate, 5e-5, is for epochs of thousands of slices. Fathom's networks have the ready settings `laptop-variational` and
`laptop-unrolled`, whose rates were chosen for such trainings, but for bfloat16.

**Not the same**: Fathom's networks and MoDL are given coil maps (of photographs the true ones, of brains ESPIRiT's from
24 lines), while the two VarNets estimate maps. Fathom's unrolled network is given sigma, and its loss is also that of
its inner images. References are noisy and combined by the given maps; VarNets give roots of sums of squares, which have
more noise where there is no object. For brains, PSNR in the object compares them, and the results tell what the root of
the sum of squares of all lines reaches.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import laptop
import torch
import torchvision_standin
from peers_table import measures, photographs, slice_of, table, tested, with_baselines
from torch import nn

from pipelines.ready.names import TRAININGS
from recon import from_deepinv, from_fastmri, from_monai
from recon.data.datasets import PairDataset
from recon.data.joined_pairs import joined
from recon.data.loader import make_loader
from recon.models.catalogue import make_model
from recon.training.losses import loss_of
from recon.training.optimisers import optimiser_of
from recon.training.settings import AdamSpec, Training, load_training

RESULTS = Path(__file__).parent / "results" / "peers_trained.json"
CORPORA = (  # coils, R, outline, fit: as `laptop.py` makes them
    (8, 4, "none", "resize"),
    (8, 4, "rimmed", "crop"),
    (4, 4, "ellipse", "crop"),
    (4, 4, "rimmed", "resize"),
)
PAIRS, TESTED = 500, 100  # of each corpus
SAVED = 60.0  # seconds between checkpoints
TIMED, ROUNDS = 8, 5  # batches, of which half have four coils, and how often each network is timed on them
WARMUP, CLIP = 50, 10.0


def fastmri_varnet():
    """Of fastMRI's defaults (12 cascades, 18 and 8 channels, 4 pools), fewer cascades and channels."""
    from fastmri.models import VarNet

    return from_fastmri(VarNet(num_cascades=6, chans=8, pools=4, sens_chans=4, sens_pools=4))


def deepinv_modl():
    """deepinv's defaults (3 iterations, DnCNN of 7 layers), with 32 channels in place of 64."""
    torchvision_standin.install()
    from deepinv.models import DnCNN, MoDL

    return from_deepinv(MoDL(DnCNN(2, 2, depth=7, nf=32, pretrained=None), num_iter=3))


def monai_varnet():
    """Of MONAI's defaults (12 cascades, features 32 to 256), fewer cascades and a quarter of the features."""
    from monai.apps.reconstruction.networks.nets.coil_sensitivity_model import CoilSensitivityModel
    from monai.apps.reconstruction.networks.nets.complex_unet import ComplexUnet
    from monai.apps.reconstruction.networks.nets.varnet import VariationalNetworkModel

    features = (8, 8, 16, 32, 64, 8)
    maps = CoilSensitivityModel(2, features=(4, 4, 8, 16, 32, 4))
    return from_monai(VariationalNetworkModel(maps, ComplexUnet(2, features=features), num_cascades=6))


@dataclass(frozen=True)
class Peer:
    """How another project's network is made, with the rate and the batch of its own training code."""

    make: object
    rate: float
    batch: int = 1


PEERS = {
    "fastMRI VarNet": Peer(fastmri_varnet, 1e-3),
    "deepinv MoDL": Peer(deepinv_modl, 1e-3),
    "MONAI VarNet": Peer(monai_varnet, 3e-3),
}
OURS = {"Fathom variational": "laptop-variational", "Fathom unrolled": "laptop-unrolled"}
NAMES = (*OURS, *PEERS)


def made(name: str) -> tuple[nn.Module, Training]:
    """A network that is not trained, and its settings; of a peer's, only optimiser and batch size are used."""
    torch.manual_seed(1)
    if name in OURS:
        settings = load_training(TRAININGS / f"{OURS[name]}.toml")
        if hasattr(settings.model, "bf16"):
            settings = settings.model_copy(update={"model": settings.model.model_copy(update={"bf16": False})})
        return make_model(settings.model, 1), settings
    peer = PEERS[name]
    settings = load_training(TRAININGS / "laptop-variational.toml")
    length = settings.training.model_copy(update={"batch_size": peer.batch})
    how = AdamSpec(rate=peer.rate, warmup=WARMUP, clip=CLIP)
    return peer.make(), settings.model_copy(update={"model": None, "optimiser": how, "training": length})


def fall(spent: float) -> float:
    """The factor of the rate after a share of the steps: 1, and in the last quarter half a cosine, down to 0."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, 4 * spent - 3))))


def loss_on(network, batch, supervised):
    """Mean loss of magnitudes; with the inner images of an unrolled network, where these are supervised."""

    def loss(image):
        return loss_of(image.abs(), batch, "decibel").mean()

    if not supervised:
        return loss(network(batch))
    *inner, last = network.steps(batch)
    return loss(last) + supervised * torch.stack([loss(z) for z in inner]).mean()


class Trained:
    """A training of so many steps, which can be stopped."""

    def __init__(self, name: str, pairs, out: Path, steps: int):
        self.network, self.settings = made(name)
        self.optimiser = optimiser_of(self.network, self.settings)
        self.rates = [group["lr"] for group in self.optimiser.param_groups]
        self.loader = make_loader(pairs, self.settings.training.batch_size, seed=1, device="cpu", threads=1)
        self.file, self.steps = out / f"{name.replace(' ', '-')}.pt", steps
        self.facts = {"steps": 0, "pairs seen": 0, "skipped": 0, "seconds": 0.0, "losses": []}
        if self.file.exists():
            saved = torch.load(self.file, weights_only=True)
            self.network.load_state_dict(saved["network"])
            self.optimiser.load_state_dict(saved["optimiser"])
            self.loader.load_state_dict(saved["loader"])
            self.facts = saved["facts"]

    def save(self):
        parts = {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}
        whole = parts | {"loader": self.loader.state_dict(), "facts": self.facts}
        torch.save(whole, self.file.with_suffix(".partial"))
        self.file.with_suffix(".partial").replace(self.file)

    def run(self):
        """Make the steps that are left; facts of the training, with seconds of the processor."""
        started = time.process_time() - self.facts["seconds"]
        saved, window = self.facts["seconds"], []
        self.network.train()
        batches = self.loader.endless()
        while self.facts["steps"] < self.steps:
            window.append(self.step(next(batches)))
            self.facts["seconds"] = time.process_time() - started
            if self.facts["seconds"] > saved + SAVED or self.facts["steps"] >= self.steps:
                self.facts["losses"].append(round(sum(window) / len(window), 3))
                saved, window = self.facts["seconds"], []
                self.save()
                print(self.file.stem, self.facts["steps"], "steps, loss", self.facts["losses"][-1], flush=True)
        self.network.eval()
        parameters = sum(p.numel() for p in self.network.parameters())
        how = {"rate": self.settings.optimiser.rate, "batch": self.settings.training.batch_size}
        return {"parameters": parameters, **how, **self.facts}

    def step(self, batch):
        how, facts = self.settings.optimiser, self.facts
        factor = min(1.0, (facts["steps"] + 1) / (how.warmup + 1)) * fall(facts["steps"] / self.steps)
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        loss = loss_on(self.network, batch, self.settings.training.supervise_steps)
        self.optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), how.clip)
        if torch.isfinite(norm):
            self.optimiser.step()
        else:
            facts["skipped"] += 1
        if hasattr(self.network, "project"):
            self.network.project()
        facts["steps"] += 1
        facts["pairs seen"] += len(batch["target"])
        return float(loss.detach())


def seconds_of_steps(pairs, out: Path):
    """Processor seconds of a step of each network: mean over batches of the fastest of several rounds, in turn."""
    kept = out / "step_seconds.json"
    if not kept.exists():
        fastest = {name: [math.inf] * TIMED for name in NAMES}
        for _ in range(ROUNDS):
            for name in NAMES:
                training = Trained(name, pairs, out / "nothing is kept", 10**6)
                for k, batch in enumerate(timed_batches(training.loader)):
                    started = time.process_time()
                    training.step(batch)
                    fastest[name][k] = min(fastest[name][k], time.process_time() - started)
        kept.write_text(json.dumps({name: sum(part) / len(part) for name, part in fastest.items()}))
    return json.loads(kept.read_text())


def timed_batches(loader):
    """The first batches of a loader, as many of four coils as of eight, since the corpora have as many."""
    found = {4: [], 8: []}
    batches = loader.endless()
    while sum(map(len, found.values())) < TIMED:
        batch = next(batches)
        of = found[batch["masked_kspace"].shape[1]]
        if len(of) < TIMED // 2:
            of.append(batch)
    return found[4] + found[8]


def corpus(photos, out, name, *how):
    """The corpus `name` of `out`, which is made if it is not there; a second process may read it meanwhile."""
    return out / name if (out / name).exists() else laptop.corpus(photos, out, name, *how)


def main():
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("training", "tested", "scans", "out"):
        words.add_argument(name, type=Path)
    words.add_argument("--minutes", type=float, default=20.0)
    words.add_argument("--only", nargs="*", choices=NAMES)
    given = words.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    parts = [corpus(given.training, given.out, f"train-{k}.zarr", 21 + k, PAIRS, *how) for k, how in enumerate(CORPORA)]
    held_out = corpus(given.tested, given.out, "tested.zarr", 99, TESTED, 8, 4, "none", "resize", (10, 80))
    pairs, where = joined([PairDataset(part) for part in parts]), (held_out, given.scans, given.out)
    took, trainings, found = seconds_of_steps(pairs, given.out), {}, {}
    for name in given.only or NAMES:
        training = Trained(name, pairs, given.out, round(60 * given.minutes / took[name]))
        trainings[name] = training.run()
        found[name] = tested(f"{name}, {training.facts['steps']} steps", training.network, *where)
    if given.only:
        return
    found, best = with_baselines(found, *where)
    results = {"minutes of one core": given.minutes, "training pairs": len(pairs), "training identity": pairs.identity}
    results |= {
        "seconds of a step": took,
        "tested content hash": PairDataset(held_out).content_hash,
        "best lam": best,
        "trainings": trainings,
    }
    results["photographs"] = photographs({name: part["rows"] for name, part in found.items()})
    for scan in laptop.SCANS:
        batch, reference, squares = slice_of(given.scans / scan)
        facts = {"coils": batch["masked_kspace"].shape[1], "net acceleration": float(batch["acceleration_net"][0])}
        facts |= {"size": list(reference.shape), "models": {name: part[scan] for name, part in found.items()}}
        results[scan] = facts | {"root of the sum of squares of all lines": measures(squares, reference)}
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print("\n".join(table(results)))


if __name__ == "__main__":
    main()
