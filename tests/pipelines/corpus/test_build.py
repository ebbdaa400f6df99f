"""The build engine: resumes, mends, refuses; never loses a pair."""

import json
import shutil

import numpy as np
import pytest
from conftest import recipe_data, write_photos
from processes import shards

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.corpus.damage import find_damage
from pipelines.corpus.verify import verify
from pipelines.errors import BuildError, CorpusExistsError
from synth.corpus.ledger import Ledger
from synth.corpus.reader import open_corpus
from synth.errors import RecipeError
from synth.recipe import parse_recipe
from synth.storage.corpus_files import building_path as building

SYNC = ClusterSpec("sync")


def test_already_there_and_another_recipe(recipe, corpus):
    before = sorted((p, p.stat().st_mtime_ns) for p in corpus.rglob("*"))
    assert build(recipe(), corpus, SYNC).status == "already there"
    assert build(recipe(shard_pairs=7), corpus, SYNC).status == "already there"
    with pytest.raises(CorpusExistsError, match=r"differs in noise\.snr"):
        build(recipe(noise={"snr": 33}), corpus, SYNC)
    assert sorted((p, p.stat().st_mtime_ns) for p in corpus.rglob("*")) == before


def test_an_unfinished_build_refuses_another_recipe(recipe, tmp_path, corpus):
    out = tmp_path / "c.zarr"
    shutil.copytree(corpus, f"{out}.building")
    with pytest.raises(CorpusExistsError, match="differs in seed"):
        build(recipe(seed=99), out, SYNC)
    assert build(recipe(), out, SYNC).content_hash == open_corpus(corpus).content_hash


def test_a_first_try_without_a_pair_does_not_stand_in_the_way(recipe, tmp_path):
    out = tmp_path / "c.zarr"
    with pytest.raises(BuildError, match="'pad' or 'resize'"):
        build(recipe(target={"matrix": [80, 90]}), out, SYNC)
    assert build(recipe(target={"matrix": [80, 90], "fit": "resize"}), out, SYNC).pairs == 10


def test_something_else_under_the_name_is_left_alone(recipe, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text").write_text("years of work")
    with pytest.raises(CorpusExistsError, match="nothing was changed"):
        build(recipe(), tmp_path / "thesis", SYNC)
    assert (tmp_path / "thesis" / "text").read_text() == "years of work"


@pytest.mark.parametrize("array", ["kspace", "mask", "target", "maps"])
@pytest.mark.parametrize("damage", ["flip", "delete"])
def test_damage_is_named_and_mended(recipe, corpus, tmp_path, array, damage):
    copy = shutil.copytree(corpus, tmp_path / "c.zarr")
    file = max(p for p in (copy / "c4-y48-x56" / array / "c").rglob("*") if p.is_file())
    if damage == "flip":
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 4
        file.write_bytes(data)
    else:
        file.unlink()
    found = verify(copy)
    assert not found.intact
    assert len(found.problems) == 1
    number = file.relative_to(copy / "c4-y48-x56" / array / "c").parts[0]
    assert f"c4-y48-x56/{'maps' if array == 'maps' else 'pairs'}/{number}" in found.problems[0]
    assert build(recipe(), copy, SYNC).status == "mended"
    assert verify(copy, replay=3).intact
    assert open_corpus(copy).content_hash == open_corpus(corpus).content_hash


def test_changed_numbers_and_ledger_are_found(corpus, tmp_path):
    copy = shutil.copytree(corpus, tmp_path / "c.zarr")
    sigma = next(p for p in (copy / "c4-y48-x56" / "sigma" / "c").rglob("*") if p.is_file())
    data = bytearray(sigma.read_bytes())
    data[3] ^= 1
    sigma.write_bytes(data)
    assert "sigma" in verify(copy).problems[0]
    copy = shutil.copytree(corpus, tmp_path / "d.zarr")
    text = (copy / "ledger.jsonl").read_text().splitlines()
    (copy / "ledger.jsonl").write_text("\n".join(text[:-1]) + "\n")
    assert any("not in the ledger" in p for p in verify(copy).problems)


def test_replay_notices_a_changed_source(photos, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "photos")
    made = parse_recipe(recipe_data(folder), "t")
    build(made, tmp_path / "c.zarr", SYNC)
    assert verify(tmp_path / "c.zarr", replay=10).identical == 10
    shutil.copy(folder / "photo1.png", folder / "photo0.png")
    found = verify(tmp_path / "c.zarr", replay=10)
    assert not found.intact
    assert any("photo0.png has changed" in p for p in found.problems)


def test_sources_that_make_several_pairs_are_told(photos, tmp_path):
    made = parse_recipe(recipe_data(photos, pairs=15), "t")
    few = parse_recipe(recipe_data(photos, pairs=2), "t")
    told = "pairs are from the first 2 of 6 sources, in the order of their paths"
    assert told in build(few, tmp_path / "f.zarr", SYNC).notes
    told = "each of the 6 sources makes 2.5 pairs, which show the same picture; --set pairs=6 makes one of each"
    for _ in range(2):
        assert told in build(made, tmp_path / "c.zarr", SYNC).notes
    one_each = parse_recipe(recipe_data(photos, pairs=6), "t")
    assert not [note for note in build(one_each, tmp_path / "d.zarr", SYNC).notes if "show the same picture" in note]


def test_a_single_picture_is_a_source(photos, tmp_path):
    """A volume is such a source, too; its folder's other pictures are not used."""
    made = parse_recipe(
        recipe_data(photos, pairs=2, source={"kind": "images", "path": str(photos / "photo1.png")}), "t"
    )
    build(made, tmp_path / "c.zarr", SYNC)
    assert open_corpus(tmp_path / "c.zarr").plan.files == ("photo1.png",)
    (tmp_path / "notes.md").write_text("a text")
    with pytest.raises(RecipeError, match="is no picture and no folder"):
        build(parse_recipe(recipe_data(photos, source={"path": str(tmp_path / "notes.md")}), "t"), tmp_path / "d", SYNC)


def test_scans_that_were_added_are_told(scans, tmp_path):
    """A scan that holds nothing new to use, since it is unreadable, is not told as one."""
    folder = shutil.copytree(scans, tmp_path / "s")
    source = {"kind": "scans", "path": str(folder)}
    sampling = {"kind": "regular", "acceleration": 2, "reference_lines": 24}
    data = {"name": "s", "source": source, "target": {"fit": "native"}, "coils": {"kind": "espirit"}}
    made = parse_recipe({**data, "noise": {"kind": "none"}, "sampling": sampling}, "s")
    build(made, tmp_path / "c.zarr", SYNC)
    (folder / "broken.npy").write_bytes(b"no array")
    assert build(made, tmp_path / "c.zarr", SYNC).notes == ()
    shutil.copy(folder / "b.npy", folder / "c.npy")
    (told,) = build(made, tmp_path / "c.zarr", SYNC).notes
    assert "1 of the sources that are there now, such as c.npy#0" in told


def test_rejections_are_recorded_and_leave_holes(photos, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "photos")
    (folder / "aaa.png").write_bytes(b"no image")
    made = parse_recipe(recipe_data(folder, pairs=7, source={"max_rejected": 0.2}), "t")
    result = build(made, tmp_path / "c.zarr", SYNC)
    assert (result.pairs, result.rejected, result.built) == (6, 1, 6)
    assert verify(tmp_path / "c.zarr", replay=6).identical == 6
    reasons = json.loads((tmp_path / "c.zarr" / "summary.json").read_text())["rejected"]
    assert "aaa.png" in reasons[0]["reason"]
    assert build(made, tmp_path / "c.zarr", SYNC).status == "already there"


def test_too_many_rejections_stop_the_build_and_may_be_mended(photos, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "photos")
    (folder / "photo2.png").write_bytes(b"no image")
    made = parse_recipe(recipe_data(folder, pairs=6), "t")
    with pytest.raises(BuildError, match=r"(?s)1 of 6 .*photo2\.png.*max_rejected"):
        build(made, tmp_path / "c.zarr", SYNC)
    assert not (tmp_path / "c.zarr").exists()
    shutil.copy(photos / "photo2.png", folder / "photo2.png")
    result = build(made, tmp_path / "c.zarr", SYNC)
    assert (result.pairs, result.rejected, result.status) == (6, 0, "resumed")
    more = parse_recipe(recipe_data(folder, pairs=6, source={"max_rejected": 0.5}), "t")
    assert build(more, tmp_path / "c.zarr", SYNC).status == "already there"


def test_a_folder_that_vanishes_loses_nothing(photos, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "photos")
    made = parse_recipe(recipe_data(folder, pairs=6, shard_pairs=1), "t")
    (folder / "photo3.png").rename(tmp_path / "away.png")
    plan_files = [f"photo{k}.png" for k in range(6)]
    from synth.corpus.unfinished import UnfinishedCorpus
    from synth.plan import Plan

    UnfinishedCorpus(tmp_path / "c.zarr", Plan.of(made, tuple(plan_files))).prepare()
    with pytest.raises(BuildError, match=r"photo3\.png: the file is gone; put it back"):
        build(made, tmp_path / "c.zarr", SYNC)
    assert len(Ledger(building(tmp_path / "c.zarr")).read()) >= 3
    (tmp_path / "away.png").rename(folder / "photo3.png")
    assert build(made, tmp_path / "c.zarr", SYNC).pairs == 6


def test_a_new_file_in_the_folder_shifts_nothing(photos, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "photos")
    made = parse_recipe(recipe_data(folder, pairs=None), "t")
    build(made, tmp_path / "c.zarr", SYNC)
    shutil.copy(photos / "photo1.png", folder / "aaa.png")
    again = build(made, tmp_path / "c.zarr", SYNC)
    assert again.status == "already there"
    assert again.notes[0].startswith("1 of the sources that are there now, such as aaa.png, are not in this corpus")


def test_a_source_that_changed_is_not_mended_in(photos, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    made = parse_recipe(recipe_data(folder), "t")
    build(made, tmp_path / "c.zarr", SYNC)
    (shard,) = (tmp_path / "c.zarr").glob("*/target/c/0/0/0")
    shard.unlink()
    old = (folder / "photo0.png").read_bytes()
    shutil.copy(folder / "photo1.png", folder / "photo0.png")
    with pytest.raises(BuildError, match=r"photo0.png has changed since pair 0"):
        build(made, tmp_path / "c.zarr", SYNC)
    (folder / "photo0.png").write_bytes(old)
    assert build(made, tmp_path / "c.zarr", SYNC).status == "resumed"


@pytest.mark.parametrize("name", ["summary.json", "zarr.json"])
def test_an_edited_summary_is_found_and_mended(recipe, corpus, tmp_path, name):
    shutil.copytree(corpus, tmp_path / "c.zarr")
    file = tmp_path / "c.zarr" / name
    assert '"pairs": 10' in file.read_text()
    file.write_text(file.read_text().replace('"pairs": 10,', '"pairs": 9,', 1))
    assert any(name in problem for problem in verify(tmp_path / "c.zarr").problems)
    assert build(recipe(), tmp_path / "c.zarr", SYNC).status == "mended"
    assert verify(tmp_path / "c.zarr").intact


def test_values_beyond_single_precision_are_said(recipe, tmp_path):
    with pytest.raises(ValueError, match=r"pair 0: its values exceed the range of single precision"):
        build(recipe(noise={"snr": 1e-45}), tmp_path / "c.zarr", SYNC)


def test_too_little_space_is_said_before_anything_is_written(recipe, tmp_path, monkeypatch):
    import pipelines.corpus.build as engine

    monkeypatch.setattr(engine.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(BuildError, match="the corpus needs"):
        build(recipe(), tmp_path / "c.zarr", SYNC)
    assert not list(tmp_path.iterdir())


def test_finding_no_damage(corpus):
    assert find_damage(corpus, open_corpus(corpus).plan) == {}


@pytest.mark.parametrize("damage", ["flip", "delete", "truncate"])
def test_every_damaged_file_is_named_and_mended_or_refused(recipe, corpus, tmp_path, damage):
    expected = open_corpus(corpus).content_hash
    alike = {"kspace", "sigma"} if damage != "flip" else {"kspace", "mask", "target", "maps", "sigma", "valid", "index"}
    files = [p.relative_to(corpus) for p in corpus.rglob("*") if p.is_file()]
    for relative in sorted(f for f in files if len(f.parts) < 3 or f.parts[1] in alike):
        copy = shutil.copytree(corpus, tmp_path / "c.zarr")
        file = copy / relative
        data = file.read_bytes()
        if damage == "delete":
            file.unlink()
        else:
            half = len(data) // 2
            file.write_bytes(data[:half] + (bytes([data[half] ^ 1]) + data[half + 1 :] if damage == "flip" else b""))
        if relative.name in ("recipe.json", "sources.json"):
            with pytest.raises(CorpusExistsError, match="nothing was changed"):
                build(recipe(), copy, SYNC)
        else:
            assert build(recipe(), copy, SYNC).content_hash == expected, relative
            assert verify(copy).intact, relative
        shutil.rmtree(copy)


def test_damage_in_an_unfinished_build_is_mended_when_it_goes_on(recipe, corpus, tmp_path):
    out = tmp_path / "c.zarr"
    for damage in (lambda f: f.unlink(), lambda f: f.write_bytes(f.read_bytes()[:-9])):
        shutil.copytree(corpus, building(out))
        damage(shards(building(out), "c4-y48-x56/pairs/1")[0])
        result = build(recipe(), out, SYNC)
        assert (result.status, result.built) == ("resumed", 3)
        assert verify(out).intact
        assert result.content_hash == open_corpus(corpus).content_hash
        shutil.rmtree(out)


def test_rejections_of_an_earlier_run_count(photos, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "photos")
    for k in (0, 2, 4):
        (folder / f"photo{k}.png").write_bytes(b"no image")
    made = parse_recipe(recipe_data(folder, pairs=6, shard_pairs=2, source={"max_rejected": 0.4}), "t")
    whole = tmp_path / "whole.zarr"
    with pytest.raises(BuildError, match="3 of 6"):
        build(made, whole, SYNC)
    kept = parse_recipe(recipe_data(folder, pairs=6, shard_pairs=2, source={"max_rejected": 0.9}), "t")
    build(kept, whole, SYNC)
    shutil.copytree(whole, building(tmp_path / "c.zarr"))
    Ledger(building(tmp_path / "c.zarr")).append({"void": "c4-y48-x56/pairs/2"})
    with pytest.raises(BuildError, match=r"[23] of 6"):
        build(made, tmp_path / "c.zarr", SYNC)


def test_no_pair_at_all_is_an_error_before_anything_gets_its_name(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"no image")
    made = parse_recipe(recipe_data(tmp_path / "photos", pairs=2, source={"max_rejected": 1.0}), "t")
    with pytest.raises(BuildError, match="no pair to keep"):
        build(made, tmp_path / "c.zarr", SYNC)
    assert not (tmp_path / "c.zarr").exists()


def test_a_moved_folder_is_the_same_source_and_another_is_not(photos, tmp_path, corpus):
    moved = shutil.copytree(photos, tmp_path / "moved")
    assert build(parse_recipe(recipe_data(moved), "t"), corpus, SYNC).status == "already there"
    other = write_photos(tmp_path / "other", 4)
    with pytest.raises(CorpusExistsError, match=r"source\.path"):
        build(parse_recipe(recipe_data(other), "t"), corpus, SYNC)


def test_paths_in_a_recipe_are_from_where_it_was_loaded(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos.parent)
    made = parse_recipe(recipe_data(photos.name), "t")
    monkeypatch.chdir(tmp_path)
    build(made, tmp_path / "c.zarr", SYNC)
    assert verify(tmp_path / "c.zarr", replay=2).identical == 2


def test_replay_tells_close_from_different(corpus, monkeypatch):
    from dataclasses import replace

    from synth.pair import Pair
    from synth.plan import Plan

    original = Plan.pair
    with monkeypatch.context() as patch:
        patch.setattr(Pair, "digest", lambda _: "another processor's")
        found = verify(corpus, replay=4)
        assert (found.intact, found.identical, found.close) == (True, 0, 4)

    def changed(plan, index):
        pair = original(plan, index)
        return replace(pair, kspace=pair.kspace * np.float32(1.001))

    monkeypatch.setattr(Plan, "pair", changed)
    found = verify(corpus, replay=4)
    assert (found.intact, found.identical, found.close) == (False, 0, 0)
    assert all("differs from the stored pair" in p for p in found.problems)
