"""Networks and methods of users: tested, trained and used, from a file that is named on the command line."""

import csv
import json
import re
import shutil

import pytest
import torch
from conftest import ROOT
from safetensors.torch import save_file
from torch import nn
from trainings import Stopped, settings, stop_at, written
from typer.testing import CliRunner

from pipelines.cli.app import app
from recon.data.datasets import PairDataset
from recon.data.loader import make_loader
from recon.errors import CheckpointError, ModelError, TrainingError
from recon.training.loop import train
from recon.training.model_files import load_model
from recon.training.own_model import load_own, own_identity

run = CliRunner().invoke
LITTLE = """
import torch
from torch import nn

print("hello")
calls = []


class Little(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, batch):
        image = zero(batch)
        parts = torch.view_as_real(image).movedim(-1, 1)
        return image + torch.view_as_complex(self.conv(parts).movedim(1, -1).contiguous())


def zero(batch):
    from synth.physics import sense_adjoint

    return sense_adjoint(batch["masked_kspace"], batch["sens_maps"], batch["mask"])


def magnitude():
    return lambda batch: zero(batch).abs()


class Wide(nn.Module):
    def __init__(self, channels, levels):
        super().__init__()


def none():
    return None


def raises():
    raise KeyError("no weights here")


def inside():
    return lambda batch: helper(batch)


def helper(batch):
    return torch.matmul(batch["target"], torch.ones(3))


def quits():
    raise SystemExit(3)


def nan():
    return lambda batch: zero(batch) * float("nan")


def fixed_size():
    return lambda batch: batch["target"] * torch.ones(1, 2)


number = 3
"""


@pytest.fixture
def net(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(LITTLE)
    return file


def result_of(net, corpus, *models):
    out = net.parent / "tested"
    return run(app, ["test", *models, str(corpus), "--out", str(out), "--device", "cpu", "--json"]), out


def test_a_file_of_code_is_tested_beside_baselines(net, corpus):
    result, out = result_of(net, corpus, f"mine={net}:Little", f"mag={net}:magnitude", f"{net}:zero", "cg-sense:5")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout.splitlines()[-1])  # what the file prints is elsewhere
    assert set(summary["models"]) == {"mine", "mag", f"{net}:zero", "cg-sense:5"}
    assert f"runs the code in {net}" in result.stderr
    assert "hello" in result.stderr
    card = summary["models"]["mine"]["model"]
    assert card["file"] == "net.py"
    assert card["factory"] == "Little"
    assert card["parameters"] == {"conv.weight": [2, 2, 3, 3], "conv.bias": [2]}
    assert "no weights were given" in summary["models"]["mine"]["notes"][0]
    assert "gives magnitudes" in summary["models"]["mag"]["notes"][0]
    assert "nrmse_complex" not in summary["models"]["mag"]["metrics"]
    with (out / "rows.csv").open() as text:
        assert sum(row["model"] == "mine" for row in csv.DictReader(text)) == 10


def trained(model, corpus, out):
    """The result of `fathom train first` with a model of one's own."""
    data = f'data.corpora=["{corpus}"]'
    return run(app, ["train", "first", "--set", data, "--device", "cpu", "--out", str(out), "--model", model])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none", "gives NoneType; give a torch.nn.Module or a function"),
        ("Wide", "takes channels, levels, and a factory is called without arguments; give these defaults"),
        ("raises", "KeyError: 'no weights here'"),
        ("inside", "return torch.matmul(batch"),
        ("quits", "SystemExit: 3"),
        ("nan", "error: mine: pair 0: the reconstruction holds NaN or infinity"),
        ("fixed_size", "RuntimeError: The size of tensor a"),
        ("absent", "defines Little, zero, magnitude"),
        ("number", "there is no function or class of this name"),
    ],
)
def test_a_model_that_fails_is_told_and_the_others_go_on(net, corpus, name, told):
    result, out = result_of(net, corpus, f"mine={net}:{name}", "zero-filled")
    assert result.exit_code == 1
    assert told in result.stderr
    assert set(json.loads((out / "summary.json").read_text())["models"]) == {"zero-filled"}
    for foreign in ("site-packages", "own_model.py", "Traceback"):
        assert foreign not in result.stderr


def test_where_all_models_fail_each_is_told(net, corpus):
    result, _ = result_of(net, corpus, f"mine={net}:nan", f"other={net}:fixed_size")
    assert result.exit_code == 1
    assert "error: mine: pair 0: the reconstruction holds NaN or infinity" in result.stderr
    assert "RuntimeError: The size of tensor a" in result.stderr


def test_a_file_that_cannot_run_is_told_by_name(net, corpus):
    net.write_text("def make(:\n")
    result, _ = result_of(net, corpus, f"{net}:make")
    assert result.exit_code == 1
    assert f"{net}, line 1: invalid syntax" in result.stderr
    net.write_text("import a_package_that_is_not_there\n")
    result, _ = result_of(net, corpus, f"{net}:make")
    assert "ModuleNotFoundError: No module named 'a_package_that_is_not_there'" in result.stderr
    assert "importlib" not in result.stderr
    for name, why in ((f"{net}", f"such as {net}:make"), (f"{net}.py:make", "there is no such file")):
        result, _ = result_of(net, corpus, name)
        assert result.exit_code == 1
        assert why in result.stderr


def test_weights_are_read_from_safe_files_alone_and_must_fit(net, corpus):
    weights = {"conv.weight": torch.zeros(2, 2, 3, 3), "conv.bias": torch.ones(2)}
    folder = net.parent
    save_file(weights, folder / "w.safetensors")
    torch.save({"state_dict": weights}, folder / "w.pt")
    torch.save(nn.Conv2d(2, 2, 3), folder / "code.pt")
    save_file({"other": torch.zeros(1)}, folder / "other.safetensors")
    (folder / "cut.safetensors").write_bytes((folder / "w.safetensors").read_bytes()[:40])
    for good in ("w.safetensors", "w.pt"):
        own = load_own(f"{net}:Little,{folder / good}")
        assert torch.equal(own.made.conv.bias, torch.ones(2))
    with pytest.raises(CheckpointError, match="holds another network"):
        load_own(f"{net}:Little,{folder / 'other.safetensors'}")
    for bad, why in (("code.pt", "could run code"), ("cut.safetensors", "holds no weights that can be read")):
        with pytest.raises(ModelError, match=why):
            load_own(f"{net}:Little,{folder / bad}")
    with pytest.raises(ModelError, match="there is no such file of weights"):
        load_own(f"{net}:Little,{folder / 'absent.pt'}")
    with pytest.raises(ModelError, match="takes no weights"):
        load_own(f"{net}:magnitude,{folder / 'w.pt'}")


def test_the_identity_is_that_of_code_factory_and_weights(net):
    copy = net.parent / "copy.py"
    shutil.copy(net, copy)
    assert own_identity(f"{net}:Little") == own_identity(f"{copy}:Little")
    names = {own_identity(f"{net}:{factory}") for factory in ("Little", "zero")}
    copy.write_text(LITTLE + "\n")
    names.add(own_identity(f"{copy}:Little"))
    assert len(names) == 3
    first, again, other = (load_own(f"{file}:Little").identity for file in (net, net, copy))
    assert first == again != other


def test_a_network_of_ones_own_is_trained_stopped_continued_and_used(net, corpus, tmp_path):
    toml = written(tmp_path, corpus, "steps = 6\nbatch_size = 3\ncheckpoint_seconds = 0\n")
    arguments = ["train", str(toml), "--model", f"{net}:Little", "--device", "cpu"]
    result = run(app, [*arguments, "--out", str(tmp_path / "whole")])
    assert result.exit_code == 0, result.output
    assert "38 parameters, 6 steps" in result.output
    card = json.loads((tmp_path / "whole" / "model.json").read_text())
    assert card["model"]["factory"] == "Little"
    assert card["settings"]["model"] is None

    how = settings(corpus, data={"validation": [str(corpus)]}, training={"steps": 6})
    with pytest.raises(Stopped):
        train(how, tmp_path / "parts", load_own(f"{net}:Little", seed=5), device="cpu", tell=stop_at(4))
    train(how, tmp_path / "parts", load_own(f"{net}:Little", seed=5), device="cpu")
    assert (tmp_path / "parts" / "metrics.jsonl").exists()
    first, second = (load_own(f"{net}:Little,{tmp_path / name}").made.state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(first[name], second[name]) for name in first)

    with pytest.raises(CheckpointError, match=r"a user's code makes; give net\.py:Little,"):
        load_model(tmp_path / "whole")
    with pytest.raises(TrainingError, match="holds another training"):
        train(how, tmp_path / "parts", load_own(f"{net}:Little", seed=5).made, device="cpu")
    result, _ = result_of(net, corpus, f"{net}:Little,{tmp_path / 'whole'}")
    assert result.exit_code == 0, result.output
    assert "leakage: the network was trained on this corpus" in result.output


def test_in_python_any_module_is_trained_and_magnitudes_are_compared_with_magnitudes(corpus, tmp_path):
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter(torch.tensor(0.2))

        def forward(self, batch):
            return self.factor * batch["target"].abs()

    model = Scale()
    train(settings(corpus, optimiser={"rate": 0.1}, training={"steps": 80}), tmp_path / "t", model, device="cpu")
    assert model.factor.item() == pytest.approx(1, abs=0.02)
    with pytest.raises(TrainingError, match="has no parameter to train"):
        train(settings(corpus), tmp_path / "none", nn.Identity(), device="cpu")
    batch = next(iter(make_loader(PairDataset(corpus), 2, shuffle=False, device="cpu")))
    assert model(batch).dtype == torch.float32


def test_the_network_of_the_page_on_ones_own_is_trained_and_tested(corpus, tmp_path):
    page = (ROOT / "docs" / "own-network.md").read_text()
    net = tmp_path / "net.py"
    net.write_text(re.search(r"```python file=net.py\n(.*?)```", page, re.DOTALL)[1])
    toml = written(tmp_path, corpus, "steps = 3\nbatch_size = 3\n")
    out = tmp_path / "mine"
    for arguments in (
        ["train", str(toml), "--model", f"{net}:Net", "--out", str(out)],
        ["test", f"mine={net}:Net,{out}", "zero-filled", str(corpus), "--out", str(tmp_path / "tested")],
    ):
        result = run(app, [*arguments, "--device", "cpu"])
        assert result.exit_code == 0, result.output
        assert "times as large" not in result.output


def test_a_training_without_a_network_asks_for_one(corpus, tmp_path):
    how = settings(corpus).model_copy(update={"model": None})
    with pytest.raises(TrainingError, match=r"has no \[model\]; describe one there, or bring one"):
        train(how, tmp_path / "t", device="cpu")


def test_a_ready_training_of_an_unrolled_network_takes_ones_own(net, corpus, tmp_path):
    """`training.supervise_steps` of its file is for the steps of an unrolled network, which one's own does not have."""
    words = ["train", "first", "--model", f"{net}:Little", "--set", f'data.corpora=["{corpus}"]', "--device", "cpu"]
    made = run(app, [*words, "--out", str(tmp_path / "mine"), "--set", "training.steps=1"])
    assert made.exit_code == 0, made.output
    assert (tmp_path / "mine" / "model.safetensors").exists()


def test_a_network_that_ends_before_its_first_step_leaves_no_folder(corpus, tmp_path):
    file = tmp_path / "ends.py"
    file.write_text(
        "import torch\n\n\nclass Cut(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.w = torch.nn.Parameter(torch.ones(1))\n\n    def forward(self, batch):\n"
        "        return (batch['target'] * self.w).detach()\n\n\nclass Bare(Cut):\n    def __init__(self):\n"
        "        torch.nn.Module.__init__(self)\n"
    )
    told = {"Cut": "images do not depend on its parameters", "Bare": "has no parameter to train"}
    for name, why in told.items():
        made = trained(f"{file}:{name}", corpus, tmp_path / "mine")
        assert made.exit_code == 1
        assert why in made.stderr
        assert not (tmp_path / "mine").exists()


def test_a_training_that_ends_after_its_first_steps_keeps_their_log(corpus, tmp_path):
    file = tmp_path / "late.py"
    file.write_text(
        "import torch\n\n\nclass Late(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.w, self.calls = torch.nn.Parameter(torch.ones(1)), 0\n\n    def forward(self, batch):\n"
        "        self.calls += 1\n        return batch['target'] * self.w * (0.5 if self.calls < 4 else float('nan'))\n"
    )
    made = trained(f"{file}:Late", corpus, tmp_path / "mine")
    assert made.exit_code == 1
    assert len((tmp_path / "mine" / "metrics.jsonl").read_text().splitlines()) == 3
