"""Small trainings that several tests share."""

import torch

from recon.data.datasets import PairDataset
from recon.data.loader import make_loader
from recon.training.losses import loss_of
from recon.training.settings import Training
from synth.settings.toml import parse_settings

NETWORKS = {
    "variational": {"kind": "variational", "stages": 2, "filters": 3, "kernel": 5, "nodes": 11},
    "unrolled-sense": {"kind": "unrolled-sense", "iterations": 2, "channels": 4, "levels": 1, "cg_iterations": 6},
    "shrinking": {"kind": "unrolled-sense", "iterations": 2, "channels": 4, "levels": 1, "cg_iterations": 6}
    | {"shrinkage": True, "noise_aware": True},
    "denoiser": {"kind": "denoiser", "channels": 8, "levels": 2, "cg_iterations": 6},
}


def settings(corpus, kind="variational", **sections):
    data = {
        "name": "t",
        "seed": 5,
        "data": {"corpora": [str(corpus)]},
        "model": NETWORKS[kind],
        "optimiser": {"kind": "adam"},
        "training": {"steps": 12, "batch_size": 3, "checkpoint_seconds": 0},
    }
    for name, value in sections.items():
        data[name] = {**data.get(name, {}), **value} if isinstance(value, dict) else value
    return parse_settings(Training, data, "test")


def written(folder, corpus, training):
    """The same settings as a file, which ends with the given text."""
    data = f'[data]\ncorpora = ["{corpus}"]\nvalidation = ["{corpus}"]\n'
    network = '[model]\nkind = "variational"\nstages = 2\nfilters = 3\nkernel = 5\nnodes = 11\n'
    (folder / "t.toml").write_text(f'name = "t"\nseed = 5\n{data}{network}[training]\n{training}')
    return folder / "t.toml"


def weights(out):
    return (out / "model.safetensors").read_bytes()


@torch.no_grad()
def mean_loss(model, corpus):
    batches = make_loader(PairDataset(corpus), 3, shuffle=False, device="cpu")
    return torch.cat([loss_of(model(batch), batch, "nrmse") for batch in batches]).mean().item()


class Stopped(Exception):
    pass


def stop_at(when):
    def tell(step, steps, loss):
        if step == when:
            raise Stopped

    return tell
