"""A training in an object store: the same weights and record as in a folder, stopped, killed, resumed, and read."""

import json
import os
import signal

import pytest
import torch
from commands import refused, run
from trainings import Stopped, settings, stop_at, written

from recon.errors import CheckpointError, TrainingError
from recon.training.checkpoint import load_tensors
from recon.training.loop import train
from recon.training.model_files import load_model
from synth.storage import lease


@pytest.fixture
def out(in_store):
    return in_store / "run"


def record(folder):
    """The lines of a record without the times in them."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def downloaded(place, folder):
    for name, _ in place.below():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((place / name).read())
    return folder


def the_same(place, near, folder):
    """Files, weights and record are those of the training in the folder `near`."""
    far = downloaded(place, folder)
    assert sorted(p.name for p in far.iterdir()) == sorted(p.name for p in near.iterdir())
    assert record(far) == record(near)
    for name in ("model.safetensors", "checkpoint.safetensors"):
        (a, _), (b, _) = load_tensors(far / name), load_tensors(near / name)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_killed_and_resumed_elsewhere(corpus, out, tmp_path, monkeypatch):
    how = settings(corpus, data={"validation": [str(corpus)]})
    train(how, tmp_path / "near", device="cpu")
    with monkeypatch.context() as dead:  # a process that is killed leaves its claim
        dead.setattr(lease.Lease, "release", lambda self: self._stop.set())
        with pytest.raises(Stopped):
            train(how, out, device="cpu", tell=stop_at(6))
    assert {name for name, _ in out.below() if name.startswith("claim/")}
    with pytest.raises(CheckpointError, match="its training has not ended"):
        load_model(str(out))
    monkeypatch.setattr(lease, "PERIOD", 0.2)
    monkeypatch.setattr(lease, "namespace", lambda: -1)  # as on another machine, which sees no sign of life
    steps = []
    card = train(how, str(out), device="cpu", tell=lambda step, *_: steps.append(step))
    assert steps[0] in (5, 6)  # not from the beginning
    the_same(out, tmp_path / "near", tmp_path / "far")
    assert train(how, out, device="cpu")["seconds"] == card["seconds"]  # it is finished already
    model, read = load_model(f"{out}/model.safetensors")
    assert read["identity"] == card["identity"]
    near = load_model(tmp_path / "near")[0].state_dict()
    assert all(torch.equal(value, near[name]) for name, value in model.state_dict().items())


def test_a_signal_keeps_a_checkpoint(corpus, out, tmp_path):
    how = settings(corpus, training={"checkpoint_seconds": 1000})
    train(how, tmp_path / "near", device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train(how, out, device="cpu", tell=lambda step, *_: os.kill(os.getpid(), signal.SIGINT) if step == 5 else None)
    assert load_tensors(out / "checkpoint.safetensors")[1]["state"]["step"] >= 5
    assert len((out / "metrics.jsonl").read().splitlines()) >= 5
    train(how, out, device="cpu")
    the_same(out, tmp_path / "near", tmp_path / "far")


def test_one_training_at_a_time(corpus, out, monkeypatch):
    how = settings(corpus)
    with lease.claimed(out, "fathom train"), pytest.raises(TrainingError, match="another `fathom train` is at work"):
        train(how, out, device="cpu")

    def takes_over(step, *_):
        if step == 4:
            (out / lease.FOLDER / "00000002.json").put(b"{}")

    with pytest.raises(TrainingError, match="another `fathom train` has taken over"):
        train(how, out, device="cpu", tell=takes_over)
    assert load_tensors(out / "checkpoint.safetensors")[1]["state"]["step"] < 6
    (out / lease.FOLDER / "00000002.json").delete()


def test_what_cannot_be_is_refused(corpus, out):
    with pytest.raises(ValueError, match=r"tensorboard = true writes files that grow, which \w\w://"):
        train(settings(corpus, training={"tensorboard": True}), out, device="cpu")
    (out / "thesis.txt").put(b"years of work")
    with pytest.raises(TrainingError, match="is not the folder of a training"):
        train(settings(corpus), out, device="cpu")
    assert [name for name, _ in out.below() if name not in ("settings.json", "metrics.jsonl")] == ["thesis.txt"]


def test_commands(corpus, out, tmp_path):
    file = written(tmp_path, corpus, "steps = 3\nbatch_size = 3\n")
    for place in (out, tmp_path / "near"):
        result = run("train", file, "--out", place, "--device", "cpu", "--json")
        assert result.exit_code == 0, result.output
    far = json.loads(run("verify", out, "--json").stdout)
    near = json.loads(run("verify", tmp_path / "near", "--json").stdout)
    assert far == {**near, "training": str(out)}
    assert far["intact"]
    for name, place in (("far", out), ("near", tmp_path / "near")):
        result = run("test", f"net={place}", corpus, "--out", tmp_path / f"{name}-t", "--device", "cpu")
        assert result.exit_code == 0, result.output
    assert (tmp_path / "far-t" / "rows.csv").read_bytes() == (tmp_path / "near-t" / "rows.csv").read_bytes()
    (tmp_path / "net.py").write_text(
        "from recon.models.variational import VariationalNetwork, VariationalSpec\n"
        "def make():\n    return VariationalNetwork(VariationalSpec(stages=2, filters=3, kernel=5, nodes=11))\n"
    )
    own = f"own={tmp_path / 'net.py'}:make,{out}"
    result = run("test", own, f"net={out}", corpus, "--out", tmp_path / "o", "--device", "cpu", "--json")
    assert json.loads(result.stdout)["differences"]["net"]["psnr_magnitude_slice_max"]["mean"] == 0
    result = run("train", file, "--out", tmp_path / "tuned", "--device", "cpu", "--set", f"start={out}")
    assert result.exit_code == 0, result.output
    assert run("publish", out, "--out", tmp_path / "published").exit_code == 0
    assert (tmp_path / "published" / "model.safetensors").exists()
    data = bytearray((out / "model.safetensors").read())
    data[-7] ^= 1
    (out / "model.safetensors").put(bytes(data))
    assert run("verify", out).exit_code == 1
    refused(run("test", out, corpus, "--out", tmp_path / "d"), f"{out}/model.safetensors is cut short or damaged")
    refused(run("test", f"{out}-no", corpus, "--out", tmp_path / "d"), f"{out}-no: no such folder")
