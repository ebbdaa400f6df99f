"""The Python of the README and its pages runs, their commands exist, and the files that they name are there."""

import re

import numpy as np
import pytest
import scipy.io
from conftest import ROOT
from properties import complex_normal
from typer.testing import CliRunner

from pipelines.cli.app import app
from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from recon.models.catalogue import make_model
from recon.training.settings import Training
from synth.physics import fft2c
from synth.recipe import load_recipe
from synth.settings.toml import load_settings
from synth.stages.coils import LoopsSpec, draw_coils

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
WORKED = ROOT / "docs" / "extending.md"  # its examples have a test of their own
TEXT = "\n".join(page.read_text() for page in PAGES if page != WORKED)


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def write_scan(path):
    """A disc in four coils, as MATLAB would save it."""
    y, x = (np.linspace(-1, 1, n) for n in (96, 80))
    disc = np.clip(0.3 - y[:, None] ** 2 - x**2, 0, None)
    maps = draw_coils(LoopsSpec(count=4), 1, 0).maps((96, 80))
    kspace = fft2c((disc * maps).astype(np.complex64)) + 0.002 * complex_normal(np.random.default_rng(0), 4, 96, 80)
    scipy.io.savemat(path, {"kData": kspace.transpose(1, 2, 0)})


def test_python_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    demo = load_recipe(ROOT / "pipelines" / "ready" / "recipes" / "demo.toml", ["pairs=8", "target.matrix=[128,128]"])
    build(demo, tmp_path / "demo" / "demo.zarr", ClusterSpec("sync"))
    write_scan(tmp_path / "kdata.mat")
    code = blocks("python")
    assert code
    for block in code:
        exec(compile(block, "README.md", "exec"), {})


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_other_projects_train_on_it(tmp_path, monkeypatch):
    pytest.importorskip("fastmri")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import torchvision_standin

    torchvision_standin.install()
    pytest.importorskip("deepinv")
    monkeypatch.chdir(tmp_path)
    demo = load_recipe(ROOT / "pipelines" / "ready" / "recipes" / "demo.toml", ["pairs=10", "target.matrix=[96,96]"])
    build(demo, tmp_path / "demo" / "demo.zarr", ClusterSpec("sync"))
    code = blocks("python peers")
    assert len(code) == 2
    for block in code:
        exec(compile(block, "README.md", "exec"), {})


def test_toml_blocks_are_recipes_trainings_and_a_study_that_runs(tmp_path):
    for k, block in enumerate(blocks("toml")):
        (tmp_path / f"{k}.toml").write_text(block)
        if "[tests]" in block:
            words = ["study", str(tmp_path / f"{k}.toml"), "--scale", "smoke", "--out", str(tmp_path / "study")]
            made = CliRunner().invoke(app, words)
            assert made.exit_code == 0, made.output
            rows = (tmp_path / "study" / "rows.csv").read_text().splitlines()
            assert len(rows) == 1 + 4 * 4  # two models on two corpora
        elif "[model]" in block:
            load_settings(Training, tmp_path / f"{k}.toml")
        else:
            load_recipe(tmp_path / f"{k}.toml")


@pytest.mark.parametrize(
    "file", sorted((ROOT / "pipelines" / "ready" / "trainings").glob("*.toml")), ids=lambda f: f.stem
)
def test_ready_trainings_are_valid(file):
    settings = load_settings(Training, file)
    assert sum(p.numel() for p in make_model(settings.model).parameters()) > 1000


def test_commands_and_options_exist():
    commands = re.findall(r"^fathom (manifest \w+|\w+)(.*)$", "\n".join(blocks("sh")), re.MULTILINE)
    assert len(commands) >= 20
    for name, rest in commands:
        shown = CliRunner().invoke(app, [*name.split(), "--help"])
        assert shown.exit_code == 0, name
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in shown.output, f"fathom {name} {option}"


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^|`)make (\w+)", TEXT, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link
    for path in re.findall(r"`((?:synth|recon|pipelines|tests|benchmarks|data_manifests)/[\w./-]*)`", page.read_text()):
        assert (ROOT / path).exists(), path


def test_every_page_is_linked():
    linked = {
        (page.parent / link).resolve() for page in PAGES for link in re.findall(r"\]\(([^)#]+)\)", page.read_text())
    }
    assert {page for page in PAGES if page.name != "README.md"} <= linked
