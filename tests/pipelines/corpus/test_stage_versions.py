"""A corpus keeps the versions of the stages that it was begun with; SCAN_STAGES = {} stands for earlier Fathoms."""

import json
import shutil

import numpy as np
import pytest

import synth.plan
from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.corpus.export import export, import_corpus
from pipelines.corpus.iterate import iterate
from pipelines.corpus.verify import verify
from pipelines.errors import BuildError
from synth.corpus.reader import open_corpus, stored_plan
from synth.errors import RecipeError, StageVersionError
from synth.recipe import parse_recipe

SYNC = ClusterSpec("sync")


@pytest.fixture(scope="module")
def recipe(scans):
    data = {
        "name": "scans",
        "shard_pairs": 1,
        "source": {"kind": "scans", "path": str(scans)},
        "target": {"fit": "native"},
        "coils": {"kind": "espirit"},
        "noise": {"kind": "none"},
        "sampling": {"kind": "regular", "acceleration": 2, "reference_lines": 24},
    }
    return parse_recipe(data, "test")


@pytest.fixture(scope="module")
def new(recipe, tmp_path_factory):
    """A corpus with today's versions; do not change it."""
    out = tmp_path_factory.mktemp("new") / "c.zarr"
    build(recipe, out, SYNC)
    return out


@pytest.fixture(scope="module")
def old(recipe, tmp_path_factory):
    """A corpus without stored versions, as earlier versions of Fathom made them; do not change it."""
    out = tmp_path_factory.mktemp("old") / "c.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synth.plan, "SCAN_STAGES", {})
        build(recipe, out, SYNC)
    return out


def copied(corpus, folder):
    return shutil.copytree(corpus, folder / "c.zarr")


def stages(corpus):
    return [
        json.loads((corpus / "recipe.json").read_text()).get("stages"),
        open_corpus(corpus).attributes.get("stages"),
    ]


def restage(corpus, versions):
    """Write other versions of the stages into a corpus."""
    for name in ("recipe.json", "zarr.json"):
        document = json.loads((corpus / name).read_text())
        (document["attributes"]["fathom"] if name == "zarr.json" else document)["stages"] = versions
        (corpus / name).write_text(json.dumps(document))


def damage(corpus):
    """Remove the shard of maps of the first pair."""
    shutil.rmtree(corpus / "c6-y96-x80" / "maps" / "c" / "0")


def test_versions_are_stored_where_they_are_above_1(new, old, corpus):
    assert stages(new) == [{"maps": 4, "noise": 2, "sources": 2}] * 2
    assert stages(old) == stages(corpus) == [None, None]
    assert open_corpus(old).attributes["recipe_hash"] == open_corpus(new).attributes["recipe_hash"]
    assert open_corpus(old).content_hash != open_corpus(new).content_hash


def test_an_old_corpus_verifies_replays_and_is_read(new, old, recipe):
    for made in (old, new):
        found = verify(made, replay=4)
        assert (found.intact, found.identical) == (True, 4)
        assert iterate(made, 1)["pairs"] == 4
    again = build(recipe, old, SYNC)
    assert again.status == "already there"
    assert "'maps' has version 1" in again.notes[0]
    assert build(recipe, new, SYNC).notes == ()


def test_a_mended_corpus_keeps_its_versions(old, recipe, tmp_path):
    corpus = copied(old, tmp_path)
    damage(corpus)
    made = build(recipe, corpus, SYNC)
    assert (made.status, made.content_hash) == ("mended", open_corpus(old).content_hash)
    assert stages(corpus) == [None, None]


def test_a_resumed_corpus_keeps_its_versions(old, recipe, tmp_path):
    building = copied(old, tmp_path).rename(tmp_path / "c.zarr.building")
    root = json.loads((building / "zarr.json").read_text())
    root["attributes"]["fathom"]["complete"] = False
    (building / "zarr.json").write_text(json.dumps(root))
    damage(building)
    made = build(recipe, tmp_path / "c.zarr", SYNC)
    assert (made.status, made.built, made.content_hash) == ("resumed", 1, open_corpus(old).content_hash)


def test_an_export_keeps_the_versions(new, old, tmp_path):
    for name, corpus in (("new", new), ("old", old)):
        export(corpus, "cfl", tmp_path / f"{name}-cfl")
        import_corpus(tmp_path / f"{name}-cfl", tmp_path / f"{name}.zarr")
        assert stages(tmp_path / f"{name}.zarr") == stages(corpus)
        assert verify(tmp_path / f"{name}.zarr", replay=1).identical == 1


def test_later_versions_are_named(new, recipe, tmp_path):
    corpus = copied(new, tmp_path)
    restage(corpus, {"maps": 5})
    assert verify(corpus).intact
    assert iterate(corpus, 1)["pairs"] == 4
    assert build(recipe, corpus, SYNC).status == "already there"
    wanted = r"c\.zarr: its pairs need version 5 of the stage 'maps', and this Fathom .* makes versions up to 4"
    with pytest.raises(StageVersionError, match=wanted):
        verify(corpus, replay=1)
    damage(corpus)
    with pytest.raises(StageVersionError, match=wanted):
        build(recipe, corpus, SYNC)
    assert corpus.exists()
    restage(corpus, {"another": 2})
    with pytest.raises(StageVersionError, match="version 2 of the stage 'another'"):
        stored_plan(corpus).pair(0)


def test_documents_that_disagree_are_damaged(new, tmp_path):
    corpus = copied(new, tmp_path)
    document = json.loads((corpus / "recipe.json").read_text())
    del document["stages"]
    (corpus / "recipe.json").write_text(json.dumps(document))
    assert "zarr.json is damaged or missing" in verify(corpus).problems


def undersampled(folder, recipe, **source):
    """The recipe for one of its scans, of which every second line beyond the centre was not measured."""
    folder.mkdir(exist_ok=True)
    kspace = np.load(f"{recipe.source.path}/b.npy")
    kspace[..., :24:2] = 0
    kspace[..., 48::2] = 0
    np.save(folder / "half.npy", kspace)
    data = recipe.model_dump(mode="json", exclude_none=True)
    data["source"] = {"kind": "scans", "path": str(folder), **source}
    return parse_recipe(data, "test")


def test_undersampled_scans_are_no_references_unless_asked_for(recipe, tmp_path):
    told = r"half\.npy#0@5x80x72: samples inside its k-space are missing: .*source\.accept = \['undersampled'\]"
    with pytest.raises(BuildError, match=told):
        build(undersampled(tmp_path / "half", recipe), tmp_path / "c.zarr", SYNC)
    asked = undersampled(tmp_path / "half", recipe, accept=["undersampled"])
    assert build(asked, tmp_path / "asked.zarr", SYNC).status == "built"
    with pytest.raises(RecipeError, match="'undersampled' is both in refuse and in accept"):
        undersampled(tmp_path / "half", recipe, accept=["undersampled"], refuse=["undersampled"])


def test_a_corpus_of_undersampled_scans_from_earlier_goes_on(recipe, tmp_path, monkeypatch):
    half = undersampled(tmp_path / "half", recipe)
    with monkeypatch.context() as patch:
        patch.setattr(synth.plan, "SCAN_STAGES", {"maps": 4, "noise": 2})
        build(half, tmp_path / "c.zarr", SYNC)
    before = open_corpus(tmp_path / "c.zarr").content_hash
    assert (found := verify(tmp_path / "c.zarr", replay=1)).intact
    assert found.identical == 1
    shutil.rmtree(tmp_path / "c.zarr" / "c5-y80-x72" / "maps" / "c" / "0")
    assert build(half, tmp_path / "c.zarr", SYNC).content_hash == before
