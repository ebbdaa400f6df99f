"""What makes a corpus, or a training, is published to an object store, and a corpus is rebuilt from and to there."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from commands import refused, run
from conftest import recipe_data
from object_store import upload
from trainings import settings

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.corpus.publish import publish
from pipelines.corpus.rebuild import rebuild
from pipelines.corpus.verify import verify
from pipelines.errors import BuildError
from recon.training.loop import train
from recon.training.model_files import load_model
from synth.corpus.reader import open_corpus
from synth.errors import StoreError
from synth.recipe import parse_recipe
from synth.storage.objects import ObjectPlace

SYNC = ClusterSpec("sync")


@pytest.fixture(scope="module")
def published(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("published") / "small"
    publish(corpus, out)
    return out


def contents(place):
    return {name: (place / name).read() for name, _ in place.below()}


def test_from_store_to_store(corpus, photos, published, in_store, tmp_path):
    upload(corpus, in_store / "small.zarr")
    card, again = in_store / "card", in_store / "again.zarr"
    made = run("publish", in_store / "small.zarr", "--out", card)
    assert made.exit_code == 0, made.output
    assert f"{card}/corpus.json: {(published / 'corpus.json').stat().st_size / 1000:.1f} kB" in made.stdout
    assert contents(card) == {file.name: file.read_bytes() for file in published.iterdir()}
    for k in range(6):
        place = in_store / "mine" / f"part{k % 2}" / f"{5 - k}.bild"
        place.put((photos / f"photo{k}.png").read_bytes())
    command = ("rebuild", card, "--sources", in_store / "mine", "--scheduler", "sync", "--out", again, "--json")
    for _ in range(2):  # the second time, it is there already
        found = run(*command)
        assert found.exit_code == 0, found.output
        told = json.loads(found.stdout)
        assert (told["verdict"], told["content_hash"]) == ("the same", open_corpus(corpus).content_hash)
    assert verify(again, replay=2).identical == 2
    assert rebuild(card, [photos], tmp_path / "near.zarr", SYNC).verdict == "the same"
    assert rebuild(published, [in_store / "mine"], tmp_path / "far.zarr", SYNC).verdict == "the same"


def test_further_files_are_found_in_a_store(corpus, photos, in_store, tmp_path):
    np.save(tmp_path / "mask.npy", (np.arange(56) % 2 == 0) | (abs(np.arange(56) - 28) < 8))
    changes = {
        "pairs": 3,
        "coils": {"kind": "library", "path": str(corpus)},
        "sampling": {"kind": "file", "path": str(tmp_path / "mask.npy")},
    }
    out = tmp_path / "c.zarr"
    made = build(parse_recipe(recipe_data(photos, **changes), "test"), out, SYNC)
    publish(out, tmp_path / "published")
    upload(corpus, in_store / "mine" / "maps.zarr")
    (in_store / "mine" / "lines.npy").put((tmp_path / "mask.npy").read_bytes())
    (tmp_path / "mask.npy").unlink()
    found = rebuild(tmp_path / "published", [photos, in_store / "mine"], tmp_path / "again.zarr", SYNC)
    assert (found.verdict, found.content_hash) == ("the same", made.content_hash)


def test_nothing_in_a_store_is_overwritten(corpus, published, in_store):
    card = in_store / "card"
    (card / "croissant.json").put((published / "croissant.json").read_bytes())  # a command was killed after it
    publish(corpus, card)
    there = contents(card)
    refused(run("publish", corpus, "--out", card), f"{card} is there already", "choose another --out")
    refused(run("publish", corpus, "--out", card / "corpus.json"), "corpus.json is there already")
    assert contents(card) == there
    (in_store / "mine" / "README.md").put(b"my notes")
    refused(run("publish", corpus, "--out", in_store / "mine"), f"{in_store}/mine/README.md is there already")
    assert (in_store / "mine" / "README.md").read() == b"my notes"
    refused(run("rebuild", in_store / "mine", "--out", "x.zarr"), f"{in_store}/mine is no published corpus")
    (in_store / "other" / "thesis.txt").put(b"years of work")
    refused(run("publish", corpus, "--out", in_store / "other"), f"{in_store}/other is there already")
    assert contents(in_store / "other") == {"thesis.txt": b"years of work"}


def test_what_is_wrong_with_sources_is_told(photos, published, in_store, tmp_path, monkeypatch):
    out, place, near = in_store / "c.zarr", in_store / "photos", tmp_path / "near"
    upload(photos, place)
    refused(run("rebuild", published, "--sources", in_store / "no", "--out", out), f"{in_store}/no does not exist")
    near.mkdir()
    shutil.copy(photos / "photo1.png", near)
    (place / "photo1.png").delete()
    with pytest.raises(BuildError, match=r"sources were found in .* not below one folder; copy them below one"):
        rebuild(published, [place, near], out, SYNC)
    (place / "photo3.png").put(b"another")
    refused(
        run("rebuild", published, "--sources", place, "--out", out),
        "2 of 6 files",
        "photo1.png: no file has the sha256",
        f"photo3.png: {place}/photo3.png has the sha256 {hashlib.sha256(b'another').hexdigest()}",
    )

    def unreachable(self):
        raise StoreError("there was no answer")
        yield

    monkeypatch.setattr(ObjectPlace, "stream", unreachable)
    with pytest.raises(StoreError, match="no answer"):  # and not that the sources are missing
        rebuild(published, [place], out, SYNC)
    assert not out.exists()


def test_a_training(corpus, in_store, tmp_path):
    train(settings(corpus, "denoiser", training={"steps": 1}), tmp_path / "t")
    made = run("publish", tmp_path / "t", "--out", in_store / "far")
    assert made.exit_code == 0, made.output
    far = contents(in_store / "far")
    assert sorted(far) == ["README.md", "model.json", "model.safetensors", "training.json"]
    record = json.loads(far["training.json"])
    assert record["weights"]["sha256"] == hashlib.sha256(far["model.safetensors"]).hexdigest()
    assert record["corpora"][0]["content_hash"] == open_corpus(corpus).content_hash
    (mine, _), (theirs, _) = load_model(tmp_path / "t"), load_model(in_store / "far")
    assert all((a == b).all() for a, b in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True))
    refused(run("rebuild", in_store / "far", "--out", tmp_path / "c.zarr"), "is a published training")
