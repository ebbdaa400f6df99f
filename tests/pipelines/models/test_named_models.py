import json

import pytest
import torch
from trainings import settings
from typer.testing import CliRunner

from pipelines.cli.app import app
from pipelines.models.named_models import model_named
from pipelines.models.publish_training import publish_training
from pipelines.ready import names
from recon.data.datasets import PairDataset
from recon.errors import CheckpointError
from recon.training.loop import train


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
    card = json.loads((networks / "small-1" / "model.json").read_text())
    assert f"variational, {card['parameters']:,} parameters" in shown.output
