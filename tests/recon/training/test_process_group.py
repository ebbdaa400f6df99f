import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from trainings import mean_loss, settings, written

from recon.data.datasets import PairDataset
from recon.data.loader import make_loader
from recon.models.catalogue import make_model
from recon.training.loop import train
from recon.training.losses import loss_of
from recon.training.process_group import local_device

ROOT = Path(__file__).resolve().parents[3]

WORKER = """
import sys, torch
from recon import load_training, train
torch.set_num_threads(1)
train(load_training(sys.argv[1]), sys.argv[2], device="cpu")
"""


def test_two_processes_train_as_one_with_both_batches(corpus, tmp_path):
    """With torchrun and gloo, on the loopback, the weights equal those of one process that averages both gradients."""
    how = settings(corpus)
    ending = 'epochs = 1\nbatch_size = 1\n[optimiser]\nkind = "adam"\nschedule = "constant"\n'
    toml, script = written(tmp_path, corpus, ending), tmp_path / "worker.py"
    script.write_text(WORKER)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    made = subprocess.run(
        [*torchrun, str(script), str(toml), str(tmp_path / "out")],
        capture_output=True, text=True, timeout=180, env=environment,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    model = make_model(how.model, 5)
    loaders = [make_loader(PairDataset(corpus), 1, seed=5, device="cpu", rank=rank, world_size=2) for rank in range(2)]
    optimiser = torch.optim.Adam(
        [
            {"params": [p for n, p in model.named_parameters() if not n.endswith("lam")], "lr": 1e-3},
            {"params": [p for n, p in model.named_parameters() if n.endswith("lam")], "lr": 1e-2},
        ]
    )
    for both in zip(*loaders, strict=True):
        optimiser.zero_grad()
        (sum(loss_of(model(b), b, "nrmse").mean() for b in both) / 2).backward()
        optimiser.step()
        model.project()
    found = load_file(tmp_path / "out" / "model.safetensors")
    for name, expected in model.state_dict().items():
        torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-5)
    card = json.loads((tmp_path / "out" / "model.json").read_text())
    assert (card["processes"], card["steps"]) == (2, 5)
    assert card["validation_loss"] == pytest.approx(mean_loss(model, corpus), rel=1e-4)


def test_a_gpu_that_is_not_there_is_said(corpus, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="finds no GPU"):
        train(settings(corpus), tmp_path / "out", device="cuda")


def test_processes_of_torchrun_do_not_share_one_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert local_device("cuda") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="would share it; write cuda"):
        local_device("cuda:0")
