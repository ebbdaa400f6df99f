import json

import pytest
import torch
from trainings import settings, written
from typer.testing import CliRunner

from pipelines.cli.app import app
from pipelines.models.named_models import model_named
from pipelines.models.publish_training import publish_training
from pipelines.ready import names
from recon.data.datasets import PairDataset
from recon.errors import CheckpointError
from recon.training.loop import train
from recon.training.model_files import load_model


@pytest.fixture
def networks(corpus, tmp_path, monkeypatch):
    """A folder of networks that come with the package, with one that was trained for a step."""
    train(settings(corpus, training={"steps": 1}), tmp_path / "trained", device="cpu")
    folder = tmp_path / "networks"
    folder.mkdir()
    publish_training(tmp_path / "trained", folder / "small-1")
    monkeypatch.setattr(names, "NETWORKS", folder)
    return folder


def test_a_network_of_the_package_is_loaded_by_its_name(networks, corpus):
    batch = {name: value[None] for name, value in PairDataset(corpus)[0].items()}
    with torch.no_grad():
        images = [model_named(name, "cpu")[0](batch) for name in ("small-1", str(networks / "small-1"))]
    assert torch.equal(*images)
    assert model_named("small-1", "cpu")[1]["parameters"] > 0
    with pytest.raises(CheckpointError, match="those are small-1, zero-filled, cg-sense"):
        model_named("small-2", "cpu")


def test_networks_are_listed_with_what_they_are_for(networks):
    shown = CliRunner().invoke(app, ["models"])
    assert shown.exit_code == 0
    assert "for research and not for diagnosis" in shown.output
    assert "cg-sense:N: N conjugate gradients (30 without a number" in shown.output
    card = json.loads((networks / "small-1" / "model.json").read_text())
    assert f"variational, {card['parameters']:,} parameters" in shown.output


def test_a_published_network_can_be_verified(networks):
    """It has no note of a training's beginning; its record has the sha256 of the weights."""
    shown = CliRunner().invoke(app, ["verify", str(networks / "small-1")])
    assert shown.exit_code == 0, shown.output
    assert "a training, intact" in shown.output
    record = networks / "small-1" / "training.json"
    record.write_text(record.read_text().replace('"sha256": "', '"sha256": "0'))
    shown = CliRunner().invoke(app, ["verify", str(networks / "small-1")])
    assert shown.exit_code == 1
    assert "training.json does not say what is in model.safetensors" in shown.output


def test_the_card_of_a_tuned_network_tells_what_it_began_with(networks, corpus, tmp_path):
    train(settings(corpus, training={"steps": 1}, start=str(networks / "small-1")), tmp_path / "tuned", device="cpu")
    publish_training(tmp_path / "tuned", tmp_path / "card")
    told = f"| began with a network that was trained on `{PairDataset(corpus).path.name}` |"
    assert told in (tmp_path / "card" / "README.md").read_text()


def test_a_training_starts_from_a_network_of_the_package(networks, corpus, tmp_path):
    """By its name as by its folder, to the same bits; the card tells what the first network was trained on."""
    file, made = written(tmp_path, corpus, "steps = 1"), []
    for start in ("small-1", str(networks / "small-1")):
        out = tmp_path / f"tuned{len(made)}"
        words = ["train", str(file), "--out", str(out), "--start", start, "--device", "cpu"]
        shown = CliRunner().invoke(app, words)
        assert shown.exit_code == 0, shown.output
        made.append(load_model(out))
    assert all(torch.equal(a, b) for a, b in zip(*(m[0].state_dict().values() for m in made), strict=True))
    (first,) = made[0][1]["started_from"]
    assert first["content_hash"] == PairDataset(corpus).content_hash
    refused = CliRunner().invoke(app, [*words[:-3], "nothing"])
    assert "no such folder, and no network" in refused.output


def test_a_misspelt_model_is_refused_before_any_is_tested(corpus, tmp_path):
    """The corrected command then takes the same folder."""
    words = ["test", "zero-filled", "cgsense:3", str(corpus), "--out", str(tmp_path / "t")]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 1
    assert "cgsense:3: no such folder" in shown.output
    assert "did you mean cg-sense:3?" in shown.output
    assert not (tmp_path / "t").exists()
    words[2] = "cg-sense:3"
    assert CliRunner().invoke(app, words).exit_code == 0
    shown = CliRunner().invoke(app, ["test", "something", str(corpus), "--out", str(tmp_path / "u")])
    assert "a network of your own is FILE.py:FACTORY" in shown.output
