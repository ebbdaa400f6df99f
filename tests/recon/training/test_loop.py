import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import recipe_data
from processes import forked, wait_for
from safetensors.torch import load_file
from trainings import NETWORKS, Stopped, mean_loss, settings, stop_at, weights, written
from typer.testing import CliRunner

from pipelines.cli.app import app
from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from recon.data.datasets import PairDataset
from recon.data.loader import make_loader
from recon.errors import CheckpointError, TrainingError
from recon.models.catalogue import make_model
from recon.training.check import check_training
from recon.training.checkpoint import load_tensors
from recon.training.dry_run import dry_run
from recon.training.loop import train
from recon.training.losses import loss_of
from recon.training.metrics_log import MetricsLog, lines_of
from recon.training.model_files import load_model
from recon.training.run import Run
from recon.training.settings import load_training
from synth.errors import SettingsError
from synth.recipe import parse_recipe


@pytest.mark.parametrize("kind", NETWORKS)
def test_training_lowers_the_loss_and_leaves_a_model(kind, corpus, tmp_path):
    out, how = tmp_path / "run", settings(corpus, kind, training={"steps": 60}, optimiser={"rate": 5e-3})
    card = train(how, out, device="cpu")
    assert [line["step"] for line in lines_of(out / "metrics.jsonl")] == list(range(1, 61))
    model, kept = load_model(out)
    assert kept == json.loads((out / "model.json").read_text()) == card
    assert (kept["powers"] is None) == (kind != "shrinking")  # of the SNR, where lam follows it
    assert kept["data"][0]["content_hash"] == PairDataset(corpus).content_hash
    assert mean_loss(model, corpus) < 0.95 * mean_loss(make_model(how.model, 5), corpus)
    before = weights(out)
    assert train(how, out, device="cpu") == card  # already there
    assert weights(out) == before


@pytest.mark.parametrize(
    ("kind", "optimiser"),
    [("variational", "adam"), ("variational", "ipalm"), ("unrolled-sense", "adam"), ("shrinking", "adam")],
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


def test_a_training_with_a_window_resumes_and_keeps_to_it(corpus, tmp_path):
    how = settings(corpus, data={"window": 4})  # of 10 pairs in shards of 3
    train(how, tmp_path / "whole", device="cpu")
    with pytest.raises(Stopped):
        train(how, tmp_path / "parts", device="cpu", tell=stop_at(6))
    assert load_tensors(tmp_path / "parts" / "checkpoint.safetensors")[1]["loader"]["window"] == 4
    with pytest.raises(TrainingError, match=r"differs in data\.window; choose another --out"):
        train(settings(corpus), tmp_path / "parts", device="cpu")
    train(how, tmp_path / "parts", device="cpu")
    train(settings(corpus), tmp_path / "other", device="cpu")
    one, same, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts", "other"))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_a_training_of_an_earlier_version_goes_on_with_its_conjugate_gradients(corpus, tmp_path):
    new = settings(corpus, "unrolled-sense", model={"cg_iterations": None})
    assert new.model.cg_iterations is None
    old = settings(corpus, "unrolled-sense", model={"cg_iterations": 12})  # what no number meant
    with pytest.raises(Stopped):
        train(old, tmp_path / "run", device="cpu", tell=stop_at(4))
    card = train(new, tmp_path / "run", device="cpu")
    assert card["model"]["cg_iterations"] == 12
    assert card["identity"] == json.loads((tmp_path / "run" / "settings.json").read_text())["identity"]
    assert train(new, tmp_path / "fresh", device="cpu")["model"]["cg_iterations"] is None


def test_a_training_of_an_earlier_version_can_be_made_longer(corpus, tmp_path):
    constant = {"schedule": "constant"}
    old = settings(corpus, "unrolled-sense", model={"cg_iterations": 12}, optimiser=constant, training={"steps": 2})
    train(old, tmp_path / "run", device="cpu")
    new = settings(corpus, "unrolled-sense", model={"cg_iterations": None}, optimiser=constant, training={"steps": 4})
    card = train(new, tmp_path / "run", device="cpu")
    assert (card["steps"], card["model"]["cg_iterations"]) == (4, 12)


def test_too_few_conjugate_gradients_are_told(corpus, tmp_path):
    model = "[model]\nkind = 'unrolled-sense'\niterations = 2\nchannels = 4\nlevels = 1\n"
    told = {}
    for name, more in (("few", "cg_iterations = 2\n"), ("enough", "")):
        data = f'name = "t"\n[data]\ncorpora = ["{corpus}"]\n'
        (tmp_path / f"{name}.toml").write_text(f"{data}{model}{more}[training]\nsteps = 1\nbatch_size = 2\n")
        words = ["train", str(tmp_path / f"{name}.toml"), "--out", str(tmp_path / name), "--device", "cpu"]
        made = CliRunner().invoke(app, words)
        assert made.exit_code == 0, made.output
        told[name] = made.output
        residuals = json.loads((tmp_path / name / "model.json").read_text())["cg_residuals"]
        assert (max(residuals) < 2e-4) == (name == "enough")
    assert "conjugate gradients ended early" in told["few"]
    assert "raise model.cg_iterations" in told["few"]
    assert "ended early" not in told["enough"]


def test_killed_training_goes_on_to_the_same_weights(corpus, tmp_path):
    """The real command is killed at any moment."""
    toml = written(tmp_path, corpus, "steps = 60\nbatch_size = 3\ncheckpoint_seconds = 0\n")
    command = ("train", toml, "--out", tmp_path / "parts", "--device", "cpu")
    train(load_training(toml), tmp_path / "whole", device="cpu")
    record, killed = tmp_path / "parts" / "metrics.jsonl", 0
    for lines in (10, 30):
        process = forked(*command)
        wait_for(lambda least=lines, one=process: len(lines_of(record)) >= least or not one.is_alive())
        process.kill()
        process.join(30)
        killed += process.exitcode == -signal.SIGKILL
    assert killed > 0
    last = forked(*command)
    last.join(120)
    assert last.exitcode == 0
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_step_and_saves_first(number, code, corpus, tmp_path):
    """The real command, which by its settings writes its first checkpoint after an hour."""
    toml = written(tmp_path, corpus, "steps = 20\nbatch_size = 3\ncheckpoint_seconds = 3600\n")
    start = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from recon.training.run import Run; advance = Run.advance\n"
        "def slow(self, batch):\n"
        f"    if self.state.step == 7: os.kill(os.getpid(), {int(number)})\n"
        "    advance(self, batch)\n"
        "Run.advance = slow\n"
        "from pipelines.cli.main import main; main()"
    )
    out = tmp_path / "out"
    command = [sys.executable, "-c", start, "train", str(toml), "--out", str(out), "--device", "cpu"]
    stopped = subprocess.run(command, capture_output=True, timeout=120, text=True)
    assert stopped.returncode == code
    assert "Traceback" not in stopped.stderr
    assert load_tensors(out / "checkpoint.safetensors")[1]["state"]["step"] == 8
    assert [line["step"] for line in lines_of(out / "metrics.jsonl")][-1] == 8
    for folder in (out, tmp_path / "whole"):
        train(load_training(toml), folder, device="cpu")
    one, other = (load_file(folder / "model.safetensors") for folder in (out, tmp_path / "whole"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_longer_training_goes_on_to_the_same_bits(corpus, tmp_path):
    def how(steps, **optimiser):
        return settings(corpus, training={"steps": steps}, optimiser={"schedule": "constant", **optimiser})

    train(how(6), tmp_path / "longer", device="cpu")
    train(how(12), tmp_path / "longer", device="cpu")
    train(how(12), tmp_path / "whole", device="cpu")
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("longer", "whole"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert load_model(tmp_path / "longer")[1]["identity"] == load_model(tmp_path / "whole")[1]["identity"]
    assert [line["step"] for line in lines_of(tmp_path / "longer" / "metrics.jsonl")] == list(range(1, 13))
    assert check_training(tmp_path / "longer")[0] == []
    with pytest.raises(TrainingError, match=r"12 steps already, more than training.steps = 9 allows"):
        train(how(9), tmp_path / "longer", device="cpu")
    with pytest.raises(TrainingError, match=r"differs in optimiser.rate; choose another"):
        train(how(12, rate=0.5), tmp_path / "longer", device="cpu")
    assert load_model(tmp_path / "longer")[1]["steps"] == 12
    before = load_model(tmp_path / "longer" / "model-6.safetensors")[1]
    assert before["steps"] == 6
    for name in ("model.safetensors", "model.json"):
        (tmp_path / "longer" / name).unlink()
    with pytest.raises(CheckpointError, match=r"has not ended; .* made longer is .*longer/model-6.safetensors"):
        load_model(tmp_path / "longer")


def test_epochs_are_added_but_not_taken_away(corpus, tmp_path):
    def how(epochs):
        length = {"steps": None, "epochs": epochs, "batch_size": 5}
        return settings(corpus, training=length, optimiser={"schedule": "constant"})

    train(how(2), tmp_path / "t", device="cpu")
    assert train(how(3), tmp_path / "t", device="cpu")["steps"] == 6
    before = weights(tmp_path / "t")
    with pytest.raises(TrainingError, match=r"6 steps already, more than training.epochs = 2 allows"):
        train(how(2), tmp_path / "t", device="cpu")
    (tmp_path / "t" / "checkpoint.safetensors").unlink()
    with pytest.raises(TrainingError, match=r"cannot go on, because it has no checkpoint.safetensors"):
        train(how(4), tmp_path / "t", device="cpu")
    assert weights(tmp_path / "t") == before


def test_a_dry_run_tells_the_time_and_writes_nothing(corpus, tmp_path):
    toml = written(tmp_path, corpus, "steps = 100000\nbatch_size = 3\n")
    result = CliRunner().invoke(app, ["train", str(toml), "--out", str(tmp_path / "t"), "--device", "cpu", "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "10 pairs, " in result.output
    assert " parameters, 100000 steps on cpu\n" in result.output
    assert re.search(r"\d s a step, about \d+ (s|min|h) in all; nothing was written", result.output)
    assert [path.name for path in tmp_path.iterdir()] == ["t.toml"]


def test_rates_that_fall_make_a_longer_training_another(corpus, tmp_path):
    train(settings(corpus, training={"steps": 3}), tmp_path / "t", device="cpu")
    before = weights(tmp_path / "t")
    with pytest.raises(
        TrainingError, match=r"training.steps = 3, and its rates fall .* training.steps = 6 .* start = '"
    ):
        train(settings(corpus, training={"steps": 6}), tmp_path / "t", device="cpu")
    assert weights(tmp_path / "t") == before


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


@pytest.mark.parametrize("kind", ["variational", "unrolled-sense", "shrinking"])
def test_checkpointing_stages_changes_nothing(kind, corpus, tmp_path, monkeypatch):
    from recon.models import unrolled_sense, variational

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


def test_what_made_no_checkpoint_stands_in_nobodys_way(corpus, tmp_path):
    wild = settings(corpus, "denoiser", optimiser={"rate": 1e30}, training={"checkpoint_seconds": 1000})
    with pytest.raises(TrainingError, match=r"optimiser\.rate"):
        train(wild, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out" / "checkpoint.safetensors").exists()
    assert train(settings(corpus, "denoiser"), tmp_path / "out", device="cpu")["steps"] == 12
    for name in ("settings.json", "checkpoint.safetensors", "best.safetensors"):  # killed while the file was written
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.partial").write_text("{")
        assert train(settings(corpus), tmp_path / name, device="cpu")["steps"] == 12
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt.partial").write_text("of somebody else's")
    with pytest.raises(TrainingError, match="is not the folder of a training"):
        train(settings(corpus), tmp_path / "other", device="cpu")


def test_two_trainings_do_not_share_a_folder(corpus, tmp_path):
    (tmp_path / "out").mkdir()
    claim = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(claim, fcntl.LOCK_EX)
    with pytest.raises(TrainingError, match="at work on it"):
        train(settings(corpus), tmp_path / "out", device="cpu")
    os.close(claim)
    train(settings(corpus), tmp_path / "out", device="cpu")


def test_a_longer_training_forgets_the_validation_of_its_last_step(corpus, tmp_path):
    """After 2 steps none is due: that of the end decides which weights are kept, and nothing in a longer training."""

    def how(steps):
        return settings(
            corpus,
            data={"validation": [str(corpus)]},
            training={"steps": steps, "validate_every": 4, "patience": 1},
            optimiser={"rate": 0.3, "schedule": "constant"},
        )

    short = train(how(2), tmp_path / "longer", device="cpu")
    assert short["step_kept"] == 2
    assert short["validation_loss"] == pytest.approx(mean_loss(load_model(tmp_path / "longer")[0], corpus), rel=1e-5)
    parts, whole = train(how(12), tmp_path / "longer", device="cpu"), train(how(12), tmp_path / "whole", device="cpu")
    assert [whole[k] for k in ("steps", "step_kept", "validation_loss")] == [
        parts[k] for k in ("steps", "step_kept", "validation_loss")
    ]
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("longer", "whole"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_loser_of_two_that_begin_together_leaves_the_folder(corpus, tmp_path, monkeypatch):
    """Between the look at the folder and its making, another process makes and locks it."""
    out, claims = tmp_path / "out", []
    make = Path.mkdir

    def made_by_another_first(path, *arguments, **options):
        if path == out and not claims:
            make(path)
            claims.append(os.open(path, os.O_RDONLY))
            fcntl.flock(claims[0], fcntl.LOCK_EX)
        make(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", made_by_another_first)
    with pytest.raises(TrainingError, match="at work on it"):
        train(settings(corpus), out, device="cpu")
    os.close(claims[0])
    assert out.is_dir()


def test_a_training_that_was_killed_at_its_end_tells_its_residuals(corpus, tmp_path, monkeypatch):
    how = settings(corpus, "unrolled-sense", model={"cg_iterations": 2})
    monkeypatch.setattr(Run, "finish", lambda self, journal: self.save())  # the last that is written before a kill
    train(how, tmp_path / "out", device="cpu")
    monkeypatch.undo()
    assert not (tmp_path / "out" / "model.json").exists()
    assert max(train(how, tmp_path / "out", device="cpu")["cg_residuals"]) > 1e-3


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
    with pytest.raises(TrainingError, match="is not the folder of a training"):
        train(settings(corpus), tmp_path / "mine", device="cpu")


def test_a_pair_that_is_not_finite_stops_training_by_name(corpus, tmp_path, monkeypatch):
    unpacked = PairDataset.unpacked

    def spoiled(self, packed):
        batch = unpacked(self, packed)
        batch["masked_kspace"][batch["pair_id"] == 7] = float("nan")
        return batch

    monkeypatch.setattr(PairDataset, "unpacked", spoiled)
    how = settings(corpus)
    with pytest.raises(TrainingError, match=r"small\.zarr, pair 7 holds NaN or infinity"):
        train(how, tmp_path / "out", device="cpu")
    tensors, _ = load_tensors(tmp_path / "out" / "checkpoint.safetensors")  # of the step before
    assert all(torch.isfinite(t).all() for name, t in tensors.items() if name.startswith("model."))


def test_a_wider_network_starts_from_a_narrower_one(corpus, tmp_path):
    train(settings(corpus, "shrinking", training={"steps": 1}), tmp_path / "first", device="cpu")
    still = {"rate": 1e-9, "rate_lam": 1e-9}
    wide = settings(corpus, "shrinking", start=str(tmp_path / "first"), training={"steps": 1}, optimiser=still)
    more = {"channels": wide.model.channels + 2, "misfit_aware": True}
    wide = wide.model_copy(update={"model": wide.model.model_copy(update=more)})
    card = train(wide, tmp_path / "wide", device="cpu")
    assert card["started_from"]
    pairs = PairDataset(corpus)
    batch = next(iter(make_loader(pairs, batch_size=2, device="cpu", shuffle=False)))
    narrower, wider = (load_model(tmp_path / name)[0] for name in ("first", "wide"))
    torch.testing.assert_close(wider(batch), narrower(batch), rtol=1e-3, atol=1e-4)
    fewer = wide.model_copy(update={"model": wide.model.model_copy(update={"channels": 1})})
    with pytest.raises(CheckpointError, match=r"model\.channels is \d+ there and 1 here"):
        train(fewer, tmp_path / "fewer", device="cpu")
    unaware = {"start": str(tmp_path / "wide"), "model": wide.model.model_copy(update={"misfit_aware": False})}
    with pytest.raises(CheckpointError, match=r"model\.misfit_aware is true there and false here"):
        train(wide.model_copy(update=unaware), tmp_path / "unaware", device="cpu")


def test_a_network_that_gives_nan_is_not_told_to_learn_slower(corpus, tmp_path):
    network = make_model(settings(corpus).model)
    torch.nn.init.constant_(next(iter(network.parameters())), float("nan"))
    how = settings(corpus).model_copy(update={"model": None})
    with pytest.raises(TrainingError, match=r"step 1: .* the network itself gives it, before any step"):
        train(how, tmp_path / "out", network, device="cpu")


def test_a_loss_that_is_not_finite_says_what_to_lower(corpus, tmp_path):
    wild = settings(corpus, "denoiser", optimiser={"rate": 1e30}, training={"steps": 30})
    with pytest.raises(TrainingError, match=r"lower optimiser\.rate"):
        train(wild, tmp_path / "out", device="cpu")
    with pytest.raises(TrainingError, match=r"set optimiser\.clip = 1$"):  # a dry run has no checkpoint to keep
        dry_run(wild, device="cpu")


def test_memory_that_is_not_there_is_said(corpus, tmp_path, monkeypatch):
    from recon.training import run as module

    def greedy(*_):
        return torch.empty(2**60, dtype=torch.uint8)  # really asked for, and refused

    monkeypatch.setattr(module, "loss_of", greedy)
    with pytest.raises(TrainingError, match=r"lower training\.batch_size"):
        train(settings(corpus), tmp_path / "out", device="cpu")


def test_a_noise_aware_network_is_not_trained_on_pairs_of_unknown_noise(photos, tmp_path):
    data = recipe_data(photos, pairs=4, shard_pairs=4, noise={"kind": "none"})
    build(parse_recipe(data, "t"), tmp_path / "a.zarr", ClusterSpec("sync"))
    with pytest.raises(TrainingError, match=r"pair 0: its sigma is 0 or not known \(4 of 4 pairs\)"):
        train(settings(tmp_path / "a.zarr", "shrinking"), tmp_path / "out", device="cpu")
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_step_can_be_read_at_once(tmp_path):
    """A line is in the file before the next checkpoint, so that a training can be watched."""
    with MetricsLog(tmp_path, 0) as journal:
        for step in (1, 2):
            journal.write(step, loss=0.5)
            assert [line["step"] for line in lines_of(tmp_path / "metrics.jsonl")] == list(range(1, step + 1))
