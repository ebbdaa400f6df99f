"""A study may test a network that comes with the package, and its trainings may start from one."""

import json

import pytest
from conftest import recipe_text
from trainings import NETWORKS, settings
from typer.testing import CliRunner

from pipelines.cli.app import app
from pipelines.models.publish_training import publish_training
from pipelines.ready import names
from pipelines.study.settings import load_study
from pipelines.study.stages import stages_of
from recon.training.loop import train

STUDY = """
name = "tuning"
question = "Does it pay to go on?"
[scales.laptop]
[corpora.train]
recipe = "FOLDER/recipe.toml"
set = ["pairs=4"]
[trainings.tuned]
training = "FOLDER/training.toml"
corpora = ["train"]
start = "small-1"
seeds = [1, 2]
[tests]
models = ["small-1", "tuned"]
corpora = ["train"]
"""


@pytest.fixture
def study(corpus, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(names, "NETWORKS", tmp_path / "networks")
    publish(corpus, tmp_path, steps=1)
    (tmp_path / "recipe.toml").write_text(recipe_text(photos))
    model = "\n".join(f"{key} = {json.dumps(value)}" for key, value in NETWORKS["variational"].items())
    data = '[data]\ncorpora = ["c.zarr"]\n'
    (tmp_path / "training.toml").write_text(f'name = "t"\n{data}[model]\n{model}\n[training]\nsteps = 1\n')
    (tmp_path / "study.toml").write_text(STUDY.replace("FOLDER", str(tmp_path)))
    return tmp_path / "study.toml"


def publish(corpus, folder, steps):
    train(settings(corpus, training={"steps": steps}), folder / f"trained{steps}", device="cpu")
    (folder / "networks").mkdir(exist_ok=True)
    publish_training(folder / f"trained{steps}", folder / "networks" / "small-1")


def test_the_network_is_tested_and_tuned(study, tmp_path):
    out = tmp_path / "out"
    made = CliRunner().invoke(app, ["study", str(study), "--out", str(out)])
    assert made.exit_code == 0, made.output
    models = {line.split(",")[0] for line in (out / "rows.csv").read_text().splitlines()[1:]}
    assert models == {"small-1", "tuned"}
    for card in out.glob("trainings/*/model.json"):
        assert json.loads(card.read_text())["settings"]["start"].endswith("networks/small-1")


def test_a_trained_network_is_brought_to_a_study(study, tmp_path):
    """By the name of a network of the package, or by the folder of a training, which are the same weights here."""
    out, folder = tmp_path / "out", tmp_path / "trained1"
    words = ["study", str(study), "--out", str(out), "--model", "mine=small-1", "--model", f"too={folder}"]
    made = CliRunner().invoke(app, [*words, "--only", "test/*"])
    assert made.exit_code == 0, made.output
    lines = [line.split(",") for line in (out / "rows.csv").read_text().splitlines()[1:]]
    values = {name: [line[8:] for line in lines if line[0] == name] for name in ("small-1", "mine", "too")}
    assert values["mine"] == values["too"] == values["small-1"] != []
    refused = CliRunner().invoke(app, [*words[:-1], "too=nowhere"])
    assert "nowhere: no such folder, and no network or baseline of that name" in refused.output


def test_another_network_of_the_name_makes_its_stages_anew(study, corpus, tmp_path):
    """Keys are of the weights, not of the name; corpora stay."""
    before = stages_of(load_study(study), "laptop")
    for file in (tmp_path / "networks" / "small-1").iterdir():
        file.unlink()
    (tmp_path / "networks" / "small-1").rmdir()
    publish(corpus, tmp_path, steps=2)
    after = stages_of(load_study(study), "laptop")
    assert {name for name in before if before[name].key == after[name].key} == {"build/train"}
    assert len(before) == 6
