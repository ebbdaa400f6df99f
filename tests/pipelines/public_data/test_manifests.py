import hashlib
import json
import shutil

import pytest
from conftest import recipe_data, write_photos
from PIL import Image
from typer.testing import CliRunner

from pipelines.cli.app import app
from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.errors import ManifestError
from pipelines.public_data import manifests
from pipelines.public_data.manifests import Manifest, check, croissant, load, names
from synth.recipe import parse_recipe


@pytest.mark.parametrize("name", names())
def test_every_manifest_is_whole(name):
    manifest = load(name)
    assert manifest.name == name
    assert manifest.source_of_facts
    document = croissant(manifest)
    assert document["conformsTo"].endswith("croissant/1.0")
    assert json.loads(json.dumps(document))["citeAs"] == manifest.citation


def test_the_data_sets_that_were_promised():
    promised = {"bsds500", "div2k", "fastmri-knee", "fastmri-brain", "vn-knee", "stanford-knees", "calgary-campinas"}
    assert promised | {"skm-tea", "m4raw", "cmrxrecon"} <= set(names())


@pytest.fixture
def small(tmp_path):
    """A data set of two splits and an archive, and its manifest."""
    write_photos(tmp_path / "train", 4)
    write_photos(tmp_path / "more", 6)
    (tmp_path / "val").mkdir()
    for k in (4, 5):
        shutil.move(tmp_path / "more" / f"photo{k}.png", tmp_path / "val" / f"photo{k}.png")
    shutil.rmtree(tmp_path / "more")
    (tmp_path / "all.zip").write_bytes(b"zip")
    return Manifest.model_validate(
        {
            "name": "small",
            "title": "Small",
            "kind": "images",
            "home": "https://example.org",
            "licence": "CC0",
            "citation": "nobody",
            "get": "make it",
            "content": {"what": "w", "format": "f", "limits": "l"},
            "splits": {"train": {"items": 4, "unit": "images"}, "val": {"items": 2, "unit": "images"}},
            "files": ({"name": "all.zip", "bytes": 3, "sha256": hashlib.sha256(b"zip").hexdigest()},),
        }
    )


def test_a_folder_as_it_should_be(small, tmp_path):
    found = check(small, tmp_path)
    assert found.problems == []
    assert any("sha256 as published" in fact for fact in found.facts)


def test_what_differs_is_said(small, tmp_path):
    (tmp_path / "all.zip").write_bytes(b"zap")
    (tmp_path / "val" / "photo5.png").unlink()
    problems = "\n".join(check(small, tmp_path).problems)
    assert "its sha256 is" in problems
    assert "1 files in" in problems
    (tmp_path / "all.zip").write_bytes(b"longer")
    assert "has 6 bytes, but the owner states 3" in "\n".join(check(small, tmp_path).problems)
    (tmp_path / "empty").mkdir()
    assert "neither the archives nor the splits" in check(small, tmp_path / "empty").problems[0]
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        check(small, tmp_path / "nowhere")


@pytest.mark.parametrize("disguise", ["copy", "jpeg", "resized"])
def test_leakage_between_splits_is_found(small, tmp_path, disguise):
    with Image.open(tmp_path / "train" / "photo1.png") as file:
        image = file.convert("RGB")
    (tmp_path / "val" / "photo5.png").unlink()
    if disguise == "copy":
        shutil.copy(tmp_path / "train" / "photo1.png", tmp_path / "val" / "other.png")
    elif disguise == "jpeg":
        image.save(tmp_path / "val" / "other.jpg", quality=92)
    else:
        image.resize((144, 120), Image.Resampling.LANCZOS).save(tmp_path / "val" / "other.png")
    (problem,) = check(small, tmp_path).problems
    assert "leakage" in problem
    assert "photo1.png" in problem


def test_bad_manifests_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "FOLDER", tmp_path)
    (tmp_path / "bad.toml").write_text("name = 'bad'\nfile = 3")
    with pytest.raises(ManifestError, match=r"bad\.toml"):
        load("bad")
    with pytest.raises(ManifestError, match="there is no manifest 'nope'"):
        load("nope")
    with pytest.raises(ValueError, match="unpinned"):
        manifests.File(name="x")


def test_the_commands():
    run = CliRunner()
    assert "bsds500" in run.invoke(app, ["manifest", "list"]).output
    assert "TPAMI" in run.invoke(app, ["manifest", "show", "bsds500"]).output
    assert json.loads(run.invoke(app, ["manifest", "croissant", "div2k"]).output)["name"] == "div2k"
    wrong = run.invoke(app, ["manifest", "show", "nope"])
    assert wrong.exit_code == 1
    assert "there is no manifest" in wrong.output


def test_a_corpus_carries_its_card(photos, tmp_path):
    made = parse_recipe(recipe_data(photos, source={"manifest": "bsds500"}), "t")
    built = build(made, tmp_path / "c.zarr", ClusterSpec("sync"))
    card = (tmp_path / "c.zarr" / "README.md").read_text()
    for part in ("Berkeley", "not stated by the owner", built.content_hash, "SNR (rms)", "noisy", "0 rejected"):
        assert part in card
    assert str(photos) not in card
    document = json.loads((tmp_path / "c.zarr" / "croissant.json").read_text())
    assert document["version"] == built.content_hash
    described = {part["@id"]: part for part in document["distribution"]}
    listed = described["c4-y48-x56/kspace/zarr.json"]["sha256"]
    assert listed == hashlib.sha256((tmp_path / "c.zarr/c4-y48-x56/kspace/zarr.json").read_bytes()).hexdigest()
    described = {part["name"]: part["description"] for part in document["recordSet"]}
    assert "[10, 4, 48, 20]" in described["c4-y48-x56/kspace"]  # 20 lines: every fourth of 56 and 8 reference lines
