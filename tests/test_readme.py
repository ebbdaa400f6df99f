"""The blocks of the README and the documents run in order, say what they need, and what they name is there."""

import re
import shlex

import pytest
from conftest import ROOT
from examples import NEEDS, TOLD, WORKED, all_blocks, blocks, commands, pages, prepare, smoke
from packaging.version import Version
from typer.testing import CliRunner

from pipelines.cli.app import app
from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from recon.models.catalogue import make_model
from recon.training.settings import Training
from synth.recipe import load_recipe
from synth.settings.toml import load_settings
from synth.version import __version__

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES if page != WORKED)
BLOCKS = all_blocks()


def test_every_page_is_in_the_contents():
    assert set(pages()) == {page for page in PAGES if page.name != "CONTRIBUTING.md"}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_a_block_says_what_it_is(block):
    assert block.words.keys() <= {"file", "needs", "takes"}
    assert block.words.get("needs", "make") in NEEDS
    if block.language == "toml":
        assert block.words["file"].endswith(".toml")
    if "file" in block.words:
        before = "\n".join(block.page.read_text().splitlines()[max(0, block.line - 8) : block.line - 1])
        assert f"`{block.words['file']}`" in before, "name the file in the sentence above the block"
    else:
        assert TOLD.fullmatch(block.told), "write *Needs ...; takes ...; makes (or prints) ....* below the block"


def test_all_blocks_run_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path, (96, 112))
    ran = {"sh": 0, "python": 0, "toml": 0}
    for block in BLOCKS:
        if name := block.words.get("file"):
            (tmp_path / name).write_text(block.code)
        if "needs" in block.words:
            continue
        ran[block.language] += 1
        if block.language == "python":
            exec(compile(block.code, block.place, "exec"), {"__name__": "block"})
        for words in commands(block) if block.language == "sh" else ():
            assert words[0] == "fathom", f"{block.place}: {shlex.join(words)}: write needs=KIND"
            may_fail = words[-2:] == ["||", "true"]
            made = CliRunner().invoke(app, smoke(words[:-2] if may_fail else words))
            assert may_fail or made.exit_code == 0, f"{block.place}: {shlex.join(words)}\n{made.output}"
    assert min(ran.values()) >= 5
    assert ran["sh"] >= 12


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
    code = [b.code for b in BLOCKS if b.words.get("needs") == "peers" and "file" not in b.words]
    assert len(code) == 2
    for block in code:
        exec(compile(block, "own-network.md", "exec"), {})


def test_toml_blocks_are_recipes_trainings_and_a_study_that_runs(tmp_path):
    for k, block in enumerate(b.code for b in BLOCKS if b.language == "toml"):
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
    lines = [
        words for block in BLOCKS if block.language == "sh" and "file" not in block.words for words in commands(block)
    ]
    found = [words[1:] for words in lines if words[0] == "fathom" and words[1] != "--help"]
    assert len(found) >= 30
    for words in found:
        name = words[: 2 if words[0] == "manifest" else 1]
        shown = CliRunner().invoke(app, [*name, "--help"])
        assert shown.exit_code == 0, name
        for option in (word for word in words if word.startswith("--")):
            assert option in shown.output, f"fathom {shlex.join(words)}: {option}"


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^|`)make (\w+)", TEXT, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def slugs(page):
    """The anchors of a page's headings, as GitHub and the documentation make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for link, anchor in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]+))?\)", page.read_text()):
        target = page.parent / link if link else page
        assert target.exists(), link
        assert not anchor or anchor in slugs(target), f"{link}#{anchor}"
    for path in re.findall(r"`((?:synth|recon|pipelines|tests|benchmarks|data_manifests)/[\w./-]*)`", page.read_text()):
        assert (ROOT / path).exists(), path


def test_every_page_is_linked():
    links = {(page, link) for page in PAGES for link in re.findall(r"\]\(([^)#]+)\)", page.read_text())}
    linked = {(page.parent / link).resolve() for page, link in links}
    assert {page for page in PAGES if page.name != "README.md"} - linked <= {ROOT / "CONTRIBUTING.md"}
    assert (ROOT / "CONTRIBUTING.md") in linked or "CONTRIBUTING.md" in (ROOT / "README.md").read_text()


def test_blocks_of_the_worked_examples_have_a_test_of_their_own():
    assert {b.language for b in blocks(WORKED)} == {"toml", "diff", "python"}


def test_this_version_has_release_notes():
    """A tag is not set without telling users what it brings: after v0.1.0, the notes begin with the next version."""
    newest = re.search(r"\n## ([\d.]+)\n", (ROOT / "docs" / "release-notes.md").read_text()).group(1)
    assert Version(newest) >= Version(Version(__version__).base_version)
