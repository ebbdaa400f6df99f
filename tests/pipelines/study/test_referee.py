"""The referee: images whose faults are known are put where a reader of images would put them."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from browser import look_at_both_widths
from typer.testing import CliRunner

from pipelines.cli.app import app
from pipelines.ready.names import NETWORKS, STUDIES
from pipelines.study.referee import facts_of
from pipelines.study.settings import load_study

run = CliRunner().invoke
STUDY = """
name = "little-referee"
base = "referee"

[scales.smoke]
recipes = ["pairs=4", "target.matrix=[64, 64]", "coils.count=4", "sampling.reference_lines=8"]

[tests]
models = ["zero-filled", "cg-sense:10"]
corpora = ["heads", "plain", "bright-4", "dark-4", "snr-8", "shifted"]
"""
MODELS = """
import numpy as np
import torch
from scipy.ndimage import gaussian_filter


def truth(batch):
    return batch["target"]


def black(batch):
    return torch.zeros_like(batch["target"])


def blurred(batch):
    image = batch["target"].numpy()
    return gaussian_filter(image.real, (0, 1.5, 1.5)) + 1j * gaussian_filter(image.imag, (0, 1.5, 1.5))


def invented(batch):
    image = batch["target"].clone()
    image[:, 26:31, 26:31] += 0.5 * image.abs().mean() * image[:, 26:31, 26:31].sgn()
    return image
"""


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("referee")
    (folder / "models.py").write_text(MODELS)
    (folder / "little.toml").write_text(STUDY + _measures())
    out = folder / "out"
    own = [f"--model={name}={folder / 'models.py'}:{name}" for name in ("truth", "black", "blurred", "invented")]
    made = run(app, ["study", str(folder / "little.toml"), "--scale", "smoke", "--out", str(out), *own])
    assert made.exit_code == 0, made.output
    assert made.output.splitlines()[-1] == str(out / "referee.html")
    return out


def _measures():
    tested = ("heads", "plain", "bright-4", "dark-4", "snr-8", "shifted")
    kept = [m for m in load_study(STUDIES / "referee.toml").measures if m.corpus in tested]
    lines = []
    for measure in kept:
        lines.append("[[measures]]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in measure.model_dump().items() if value is not None]
    return "\n".join(lines) + "\n"


def test_known_faults_are_put_where_a_reader_would_put_them(judged):
    card = json.loads((judged / "referee.json").read_text())

    def of(model, name):
        return card["models"][model]["measures"][name]["mean"]

    assert of("truth", "heads") == "infinite"
    assert of("truth", "bright-4") == of("truth", "dark-4") == of("truth", "false-bright") == 0
    for name in ("bright-4", "dark-4"):  # all lesions are lost
        assert of("black", name) == 1
        assert 0.2 < of("blurred", name) < 1
        assert of("cg-sense:10", name) < of("zero-filled", name) < 1
    for name in ("false-bright", "false-dark"):  # an image that does not show the object is no better for being empty
        assert of("black", name) == 1
    assert of("invented", "false-bright") > of("invented", "false-dark") == of("truth", "false-dark")
    assert of("invented", "structure") > of("blurred", "structure") > of("black", "structure")
    assert of("cg-sense:10", "snr-8") < 0
    assert of("cg-sense:10", "shifted") < 0
    assert of("zero-filled", "noise-gain") == pytest.approx(np.sqrt((16 + 6) / 64), rel=0.15)  # sampled share


def test_the_card_says_what_was_judged_and_is_the_same_when_it_is_made_again(judged, tmp_path):
    card = json.loads((judged / "referee.json").read_text())
    assert card["models"]["truth"]["what"]["factory"] == "truth"
    assert len(card["models"]["truth"]["what"]["identity"]) == 64
    assert card["models"]["zero-filled"]["what"] == {"name": "zero-filled"}
    assert card["corpora"]["heads"] == card["corpora"]["shifted"]  # the same pairs; the model is told wrong maps
    before = (judged / "referee.json").read_bytes()
    assert str(judged) not in before.decode()
    folder = judged.parent
    own = [f"--model={name}={folder / 'models.py'}:{name}" for name in ("truth", "black", "blurred", "invented")]
    again = run(app, ["study", str(folder / "little.toml"), "--scale", "smoke", "--out", str(judged), *own])
    assert ": made" not in again.output
    assert (judged / "referee.json").read_bytes() == before


def test_the_page_answers_five_questions(judged, tmp_path):
    page = (judged / "referee.html").read_text()
    assert "truth. PSNR of heads in dB: exact." in page
    assert "What happens at another SNR?" in page
    look_at_both_widths(judged / "referee.html", tmp_path)


def test_a_network_is_told_by_its_weights_and_not_by_its_place(tmp_path):
    weights = NETWORKS / "photos-1" / "model.safetensors"
    folder = shutil.copytree(weights.parent, tmp_path / "mine")
    told = {"name": "mine", "identity": hashlib.sha256(weights.read_bytes()).hexdigest()}
    assert facts_of(str(folder)) == told
    assert facts_of("photos-1") == {**told, "name": "photos-1"}
    assert facts_of("cg-sense:10") == {"name": "cg-sense:10"}
