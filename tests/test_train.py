import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import recipe_data
from safetensors.torch import load_file

from pipelines.build import build
from pipelines.cluster import ClusterSpec
from recon.batches import make_loader
from recon.checkpoint import CheckpointError, load_tensors, save_tensors
from recon.joined import JoinedPairs
from recon.journal import lines_of
from recon.loader import PairDataset
from recon.models import make_model
from recon.run import TrainingError
from recon.train import train
from recon.trained import load_model, strangeness
from recon.training import Training, loss_of
from synth.layout import UnfinishedCorpusError
from synth.recipe import parse_recipe
from synth.settings import SettingsError, parse_settings

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = {
    "variational": {"kind": "variational", "stages": 2, "filters": 3, "kernel": 5, "nodes": 11},
    "unrolled-sense": {"kind": "unrolled-sense", "iterations": 2, "channels": 4, "levels": 1, "cg_iterations": 6},
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
    """The same settings as a file, with the end of it given."""
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


@pytest.fixture(scope="module")
def other_corpus(photos, tmp_path_factory):
    """Of another size, coil number and sampling than `corpus`."""
    out = tmp_path_factory.mktemp("other") / "other.zarr"
    changes = {"target": {"matrix": [40, 44]}, "coils": {"count": 3}, "seed": 8, "pairs": 6}
    build(parse_recipe(recipe_data(photos, **changes), "other"), out, ClusterSpec("sync"))
    return out


@pytest.mark.parametrize("kind", NETWORKS)
def test_training_lowers_the_loss_and_leaves_a_model(kind, corpus, tmp_path):
    out, how = tmp_path / "run", settings(corpus, kind, training={"steps": 120}, optimiser={"rate": 5e-3})
    card = train(how, out, device="cpu")
    assert [line["step"] for line in lines_of(out / "metrics.jsonl")] == list(range(1, 121))
    model, kept = load_model(out)
    assert kept == json.loads((out / "model.json").read_text()) == card
    assert kept["data"][0]["content_hash"] == PairDataset(corpus).content_hash
    assert mean_loss(model, corpus) < 0.95 * mean_loss(make_model(how.model, 5), corpus)
    before = weights(out)
    assert train(how, out, device="cpu") == card  # already there
    assert weights(out) == before


class Stopped(Exception):
    pass


def stop_at(when):
    def tell(step, steps, loss):
        if step == when:
            raise Stopped

    return tell


@pytest.mark.parametrize(
    ("kind", "optimiser"), [("variational", "adam"), ("variational", "ipalm"), ("unrolled-sense", "adam")]
)
def test_stopped_and_resumed_training_is_the_same_to_the_last_bit(kind, optimiser, corpus, tmp_path):
    how = settings(corpus, kind, optimiser={"kind": optimiser}, data={"validation": [str(corpus)]})
    train(how, tmp_path / "whole", device="cpu")
    for when in (2, 7, 9):  # in the middle of epochs of 4 steps, and after each step a checkpoint
        with pytest.raises(Stopped):
            train(how, tmp_path / "parts", device="cpu", tell=stop_at(when))
    train(how, tmp_path / "parts", device="cpu")
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    strip = [
        [{k: v for k, v in line.items() if k != "seconds"} for line in lines_of(tmp_path / name / "metrics.jsonl")]
        for name in ("whole", "parts")
    ]
    assert strip[0] == strip[1]


def test_killed_training_goes_on_to_the_same_weights(corpus, tmp_path):
    """SIGKILL of the real command, wherever it strikes."""
    toml = written(tmp_path, corpus, "steps = 400\nbatch_size = 3\ncheckpoint_seconds = 0\n")
    code = "import sys; from pipelines.command import main; sys.argv = ['fathom', *sys.argv[1:]]; main()"

    def run(out):
        return [sys.executable, "-c", code, "train", str(toml), "--out", str(out), "--device", "cpu"]

    subprocess.run(run(tmp_path / "whole"), check=True, timeout=120, capture_output=True)
    record, killed = tmp_path / "parts" / "metrics.jsonl", 0
    for lines in (20, 150):
        process = subprocess.Popen(run(tmp_path / "parts"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if len(lines_of(record)) >= lines:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        process.kill()
        killed += process.wait(timeout=30) == -signal.SIGKILL
    assert killed > 0
    subprocess.run(run(tmp_path / "parts"), check=True, timeout=120, capture_output=True)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)


WORKER = """
import sys, torch
from recon.train import train
from recon.training import Training
from synth.settings import load_settings
torch.set_num_threads(1)
train(load_settings(Training, sys.argv[1]), __import__("pathlib").Path(sys.argv[2]), device="cpu")
"""


def test_two_processes_train_as_one_with_both_batches(corpus, tmp_path):
    """Through torchrun and gloo, on the loopback: the same weights as one process that averages both gradients."""
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


@pytest.mark.gpu
@pytest.mark.parametrize("kind", NETWORKS)
def test_training_on_a_gpu_stops_and_goes_on(kind, corpus, tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    how = settings(corpus, kind)
    train(how, tmp_path / "cpu", device="cpu")
    with pytest.raises(Stopped):
        train(how, tmp_path / "gpu", device="cuda", tell=stop_at(5))
    train(how, tmp_path / "gpu", device="cuda")
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("cpu", "gpu"))
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0.02, atol=1e-3)


def test_fine_tuning_starts_from_the_weights(corpus, other_corpus, tmp_path):
    train(settings(corpus), tmp_path / "first", device="cpu")
    still = {"rate": 1e-12, "rate_lam": 1e-12}
    tuning = settings(other_corpus, start=str(tmp_path / "first"), training={"steps": 1}, optimiser=still)
    train(tuning, tmp_path / "tuned", device="cpu")
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "tuned"))
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-6)
    with pytest.raises(CheckpointError, match="another network"):
        train(settings(corpus, "denoiser", start=str(tmp_path / "first")), tmp_path / "wrong", device="cpu")


def test_training_stops_early_and_keeps_the_best(corpus, tmp_path):
    how = settings(
        corpus,
        data={"validation": [str(corpus)]},
        training={"steps": 400, "validate_every": 2, "patience": 2},
        optimiser={"rate": 0.5, "rate_lam": 2.0, "schedule": "constant"},  # far too much: it soon gets worse
    )
    card = train(how, tmp_path / "out", device="cpu")
    validations = {
        line["step"]: line["validation"]
        for line in lines_of(tmp_path / "out" / "metrics.jsonl")
        if "validation" in line
    }
    assert card["steps"] < 400
    assert validations[card["step_kept"]] == card["validation_loss"] == min(validations.values())
    model, _ = load_model(tmp_path / "out")
    assert mean_loss(model, corpus) == pytest.approx(card["validation_loss"], rel=1e-5)


@pytest.mark.parametrize("kind", ["variational", "unrolled-sense"])
def test_checkpointing_stages_changes_nothing(kind, corpus, tmp_path, monkeypatch):
    from recon import unrolled_sense, variational

    calls = []

    def counted(function, *arguments, **how):
        calls.append(function)
        return torch.utils.checkpoint.checkpoint(function, *arguments, **how)

    for module in (unrolled_sense, variational):
        monkeypatch.setattr(module, "checkpoint", counted)
    for name, checkpointing in (("plain", False), ("less", True)):
        train(settings(corpus, kind, training={"checkpointing": checkpointing}), tmp_path / name, device="cpu")
        assert len(calls) == (24 if checkpointing else 0)  # two stages, twelve steps
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "less"))
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-6)


def test_supervised_steps_are_good_images(corpus, tmp_path):
    errors = {}
    for weight in (0.0, 1.0):
        how = settings(
            corpus, "unrolled-sense", training={"steps": 60, "supervise_steps": weight}, optimiser={"rate": 3e-3}
        )
        train(how, tmp_path / str(weight), device="cpu")
        model, _ = load_model(tmp_path / str(weight))
        batch = next(iter(make_loader(PairDataset(corpus), 10, shuffle=False, device="cpu")))
        first, last = model.steps(batch)
        assert torch.equal(last, model(batch))
        errors[weight] = loss_of(first, batch, "nrmse").mean().item()
    assert errors[1.0] < errors[0.0]
    with pytest.raises(SettingsError, match="leave it out"):
        settings(corpus, "denoiser", training={"supervise_steps": 1.0})


def test_joint_training_takes_from_every_corpus(corpus, other_corpus, tmp_path):
    pairs = JoinedPairs([PairDataset(corpus), PairDataset(other_corpus)])
    shapes = [tuple(batch["masked_kspace"].shape[1:]) for batch in make_loader(pairs, 3, device="cpu")]
    assert set(shapes) == {(4, 48, 56), (3, 40, 44)}
    assert "other.zarr, pair 0" in pairs.name_of(10)
    single = PairDataset(other_corpus)[2]
    for name, value in pairs[12].items():
        assert torch.equal(value, single[name]), name
    both = settings(corpus, data={"corpora": [str(corpus), str(other_corpus)]})
    card = train(both, tmp_path / "out", device="cpu")
    assert [part["coils"] for part in card["data"]] == [[4], [3]]


def test_strange_corpora_are_told(corpus, other_corpus, tmp_path):
    card = train(settings(corpus), tmp_path / "out", device="cpu")
    assert strangeness(card, [PairDataset(corpus)]) == []
    coils, matrix = strangeness(card, [PairDataset(other_corpus)])
    assert "trained with coils of 4, this corpus has 3" in coils
    assert "[48, 56]" in matrix


def test_the_losses_are_their_formulas(rng):
    image, reference = (rng.normal(size=(2, 5, 6)) + 1j * rng.normal(size=(2, 5, 6)) for _ in range(2))
    batch = {"target": torch.from_numpy(reference), "max_value": torch.tensor([2.0, 4.0])}
    peak = np.array([2.0, 4.0])
    expected = {
        "nrmse": np.linalg.norm(image - reference, axis=(1, 2)) / np.linalg.norm(reference, axis=(1, 2)),
        "decibel": 20
        * np.log10(np.linalg.norm(image - reference, axis=(1, 2)) / np.linalg.norm(reference, axis=(1, 2))),
        "complex": np.sum(np.abs(image - reference) ** 2, axis=(1, 2)) / peak**2,
        "magnitude": np.sum((np.abs(image) - np.abs(reference)) ** 2, axis=(1, 2)) / peak**2,
    }
    expected["decibel"] = 20 * np.log10(expected["nrmse"])
    for kind, value in expected.items():
        np.testing.assert_allclose(loss_of(torch.from_numpy(image), batch, kind).numpy(), value, rtol=1e-6)


def test_what_made_no_checkpoint_stands_in_nobodys_way(corpus, tmp_path):
    with pytest.raises(TrainingError, match=r"optimiser\.rate"):
        train(settings(corpus, "denoiser", optimiser={"rate": 1e30}), tmp_path / "out", device="cpu")
    if not (tmp_path / "out" / "checkpoint.safetensors").exists():
        train(settings(corpus, "denoiser"), tmp_path / "out", device="cpu")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "settings.json.partial").write_text("{")
    assert train(settings(corpus), tmp_path / "cut", device="cpu")["steps"] == 12


def test_two_trainings_do_not_share_a_folder(corpus, tmp_path):
    import fcntl

    (tmp_path / "out").mkdir()
    claim = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(claim, fcntl.LOCK_EX)
    with pytest.raises(TrainingError, match="at work on it"):
        train(settings(corpus), tmp_path / "out", device="cpu")
    os.close(claim)
    train(settings(corpus), tmp_path / "out", device="cpu")


def test_patience_survives_a_stop(corpus, tmp_path):
    how = settings(
        corpus,
        data={"validation": [str(corpus)]},
        training={"steps": 200, "validate_every": 2, "patience": 3},
        optimiser={"rate": 0.3, "rate_lam": 1.0, "schedule": "constant"},
    )
    whole = train(how, tmp_path / "whole", device="cpu")
    for when in (1, 3, 5):
        with pytest.raises(Stopped):
            train(how, tmp_path / "parts", device="cpu", tell=stop_at(when))
    parts = train(how, tmp_path / "parts", device="cpu")
    assert [whole[k] for k in ("steps", "step_kept", "validation_loss")] == [
        parts[k] for k in ("steps", "step_kept", "validation_loss")
    ]
    other = settings(corpus, training={"steps": 200, "validate_every": 2})
    with pytest.raises(TrainingError, match="another training"):
        train(other, tmp_path / "parts", device="cpu")
    with pytest.raises(SettingsError, match=r"patience needs data\.validation"):
        settings(corpus, training={"patience": 3})


def test_other_settings_and_other_folders_are_refused(corpus, other_corpus, tmp_path):
    with pytest.raises(Stopped):
        train(settings(corpus), tmp_path / "out", device="cpu", tell=stop_at(3))
    with pytest.raises(CheckpointError, match="has not ended"):
        load_model(tmp_path / "out")
    for changed in (settings(corpus, training={"steps": 13}), settings(other_corpus)):
        with pytest.raises(TrainingError, match="another training"):
            train(changed, tmp_path / "out", device="cpu")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("do not touch")
    with pytest.raises(TrainingError, match="no training's folder"):
        train(settings(corpus), tmp_path / "mine", device="cpu")


def test_a_pair_that_is_not_finite_stops_training_by_name(corpus, tmp_path, monkeypatch):
    unpacked = PairDataset.unpacked

    def spoiled(self, packed):
        batch = unpacked(self, packed)
        batch["masked_kspace"][batch["pair_id"] == 7] = float("nan")
        return batch

    monkeypatch.setattr(PairDataset, "unpacked", spoiled)
    how = settings(corpus)
    with pytest.raises(TrainingError, match=r"small\.zarr, pair 7 holds values that are no numbers"):
        train(how, tmp_path / "out", device="cpu")
    if (tmp_path / "out" / "checkpoint.safetensors").exists():  # of the step before
        tensors, _ = load_tensors(tmp_path / "out" / "checkpoint.safetensors")
        assert all(torch.isfinite(t).all() for name, t in tensors.items() if name.startswith("model."))


def test_a_loss_that_is_not_finite_says_what_to_lower(corpus, tmp_path):
    wild = settings(corpus, "denoiser", optimiser={"rate": 1e30}, training={"steps": 30})
    with pytest.raises(TrainingError, match=r"Lower optimiser\.rate"):
        train(wild, tmp_path / "out", device="cpu")


def test_bad_checkpoints_are_refused(corpus, tmp_path):
    train(settings(corpus), tmp_path / "out", device="cpu")
    whole = weights(tmp_path / "out")
    file = tmp_path / "model.safetensors"
    for content, message in (
        (whole[: len(whole) // 2], "cut short or damaged"),
        (b"", "cut short or damaged"),
        (b"\xff" * 4000, "cut short or damaged"),
        (pickle.dumps({"weights": 1}), "is a pickle"),
        (b"PK\x03\x04" + whole, "is a pickle"),
    ):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            load_model(file)
    for filler in range(300):  # a header of 128 bytes modulo 256 begins as a pickle does, and is none
        save_tensors(file, {"x": torch.ones(2)}, {"model": "x" * filler})
        if file.read_bytes().startswith(b"\x80"):
            break
    else:
        pytest.fail("no header of such a length was made")
    assert load_tensors(file)[1] == {"model": "x" * filler}
    from safetensors.torch import save_file

    save_file({"x": torch.ones(2)}, file, {"schema": "99", "fathom": "{}"})
    with pytest.raises(CheckpointError, match="schema 99"):
        load_model(file)
    save_tensors(file, {"x": torch.ones(2)}, {"model": NETWORKS["variational"]})
    with pytest.raises(CheckpointError, match="another network"):
        load_model(file)
    with pytest.raises(CheckpointError, match="does not exist"):
        load_model(tmp_path / "nowhere.safetensors")


def test_a_damaged_checkpoint_stops_a_resumed_training(corpus, tmp_path):
    with pytest.raises(Stopped):
        train(settings(corpus), tmp_path / "out", device="cpu", tell=stop_at(3))
    (tmp_path / "out" / "checkpoint.safetensors").write_bytes(b"half")
    with pytest.raises(CheckpointError, match="damaged"):
        train(settings(corpus), tmp_path / "out", device="cpu")


def test_unfinished_corpora_and_wrong_settings(corpus, tmp_path):
    (tmp_path / "x.zarr.building").mkdir()
    with pytest.raises(UnfinishedCorpusError):
        train(settings(tmp_path / "x.zarr"), tmp_path / "out", device="cpu")
    for sections, message in (
        ({"training": {"epochs": 2}}, "either steps or epochs"),
        ({"model": {"kernel": 6}}, "must be odd"),
        ({"model": {"kind": "transformer"}}, "must be one of"),
        ({"training": {"batchsize": 2}}, "did you mean 'batch_size'"),
        ({"data": {"corpora": []}}, "at least 1"),
    ):
        with pytest.raises(SettingsError, match=message):
            settings(corpus, **sections)
    with pytest.raises(SettingsError, match=r"is for model\.kind 'variational'"):
        settings(corpus, "denoiser", optimiser={"kind": "ipalm"})


def test_a_gpu_that_is_not_there_is_said(corpus, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="finds no GPU"):
        train(settings(corpus), tmp_path / "out", device="cuda")


def test_memory_that_is_not_there_is_said(corpus, tmp_path, monkeypatch):
    from recon import run as module

    def greedy(*_):
        return torch.empty(2**60, dtype=torch.uint8)  # really asked for, and refused

    monkeypatch.setattr(module, "loss_of", greedy)
    with pytest.raises(TrainingError, match=r"lower training\.batch_size"):
        train(settings(corpus), tmp_path / "out", device="cpu")
