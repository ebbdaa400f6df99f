"""Corpora in an object store are read as local ones are: the same pairs, batches and weights, and the same checks."""

import json
import shutil
from collections import Counter

import pytest
import torch
from commands import run
from corpus_forms import flip
from object_store import BUCKET, upload
from safetensors.torch import load_file
from trainings import written

from pipelines.corpus.export import export
from pipelines.corpus.inspect import summary_text
from pipelines.corpus.verify import verify
from recon.data.datasets import PairDataset
from recon.data.joined_pairs import JoinedPairs
from recon.data.loader import make_loader
from synth.corpus.reader import open_corpus
from synth.errors import CorpusError, ShardError, StorageError
from synth.storage.place import place_of


@pytest.fixture(scope="module")
def store(store, corpus):
    """The address of the corpus in a store."""
    address = f"{BUCKET}/folder/small.zarr"
    upload(corpus, place_of(address))
    return address


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_the_same_pairs_and_batches(store, corpus):
    far, near = PairDataset(store), PairDataset(corpus)
    assert far.content_hash == near.content_hash
    assert far.sources == near.sources
    assert all(same(far[k], near[k]) for k in range(len(near)))
    for a, b in zip(make_loader(far, 4, seed=1), make_loader(near, 4, seed=1), strict=True):
        assert same(a, b)
    joined = JoinedPairs([near, far])
    assert joined.is_remote
    assert not near.is_remote
    assert same(joined[len(near)], near[0])


def counted(monkeypatch, change):
    """The requests that reading made, by the method of the library; `change` is called meanwhile."""
    import obstore

    seen = Counter()
    for name in ("get", "get_ranges", "head", "list", "put"):
        real = getattr(obstore, name)
        monkeypatch.setattr(obstore, name, lambda *a, _n=name, _r=real, **k: (seen.update([_n]), _r(*a, **k))[1])
    change()
    return dict(seen)


def test_one_request_per_run_of_neighbours(store, monkeypatch):
    monkeypatch.setattr("synth.storage.remote_shard.WHOLE_SHARD", 0)
    pairs = PairDataset(store, with_maps=False)
    pairs.packed(range(10))  # reads the indices of the shards: rows 0-2, 3-5, 6-8, 9
    assert counted(monkeypatch, lambda: pairs.packed([3])) == {"get_ranges": 3}  # k-space, mask, target
    assert counted(monkeypatch, lambda: pairs.packed([0, 1, 2])) == {"get_ranges": 3}
    assert counted(monkeypatch, lambda: pairs.packed([2, 3])) == {"get_ranges": 6}


def test_small_shards_are_read_whole_and_kept(store, monkeypatch):
    pairs = PairDataset(store, with_maps=False)
    assert counted(monkeypatch, lambda: pairs.packed([3])) == {"get": 3}
    assert counted(monkeypatch, lambda: pairs.packed([4, 5])) == {}


def test_workers_are_spawned_and_forked_ones_refused(store):
    pairs = PairDataset(store)
    there = [b["pair_id"].tolist() for b in make_loader(pairs, 5, shuffle=False, workers=1)]
    assert there == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    with pytest.raises(StorageError, match=r'context="spawn"'):
        next(iter(make_loader(pairs, 5, workers=1, context="fork")))


@pytest.mark.parametrize("array", ["kspace", "mask", "target", "maps"])
def test_a_flipped_byte_is_found(store, corpus, tmp_path, array):
    copy = shutil.copytree(corpus, tmp_path / "small.zarr")
    file = max(p for p in (copy / "c4-y48-x56" / array / "c").rglob("*") if p.is_file())
    flip(file, 77)
    place = place_of(store) / file.relative_to(copy).as_posix()
    place.put(file.read_bytes())
    try:
        found = verify(store)
        assert not found.intact
        assert len(found.problems) == 1
        assert found.problems == [p.replace(str(copy), store) for p in verify(copy).problems]
        with pytest.raises(ShardError, match="is damaged"):
            list(make_loader(PairDataset(store), 2, device="cpu"))
    finally:
        place.put((corpus / file.relative_to(copy)).read_bytes())


def test_whole_and_intact(store, corpus, tmp_path):
    found = verify(store, replay=2, measured=2)
    near = verify(corpus, replay=2, measured=2)
    assert found.as_dict() == {**near.as_dict(), "corpus": store}
    assert found.intact
    stranger = place_of(store) / "notes/mine.txt"
    stranger.put(b"x")
    assert verify(store).not_covered == {"notes/": "is not part of the corpus"}
    stranger.delete()
    number = place_of(store) / "c4-y48-x56/sigma/c/0"
    kept = number.read()
    number.put(kept[:-1])
    assert "sigma" in " ".join(verify(store).problems)
    with pytest.raises(CorpusError, match=r"sigma|damaged"):
        PairDataset(store)
    number.put(kept)


def test_commands(store, corpus, tmp_path):
    assert json.loads(run("verify", store, "--json").stdout)["corpus"] == store
    assert run("inspect", store, "--out", tmp_path / "far").exit_code == 0
    assert (tmp_path / "far" / "summary.md").read_text() == summary_text(open_corpus(corpus))
    assert json.loads(run("iterate", store, "--json").stdout)["pairs"] == 10
    assert export(place_of(store), "cfl", tmp_path / "export") == 10
    assert f"{corpus} shares 6 sources with {store}" in run("leakage", store, corpus).output


def test_a_training_is_the_same_bit_for_bit(store, corpus, tmp_path):
    for name, where in (("far", store), ("near", corpus)):
        (tmp_path / f"{name}-s").mkdir()
        file = written(tmp_path / f"{name}-s", where, "steps = 4\nbatch_size = 3\n")
        result = run("train", file, "--out", tmp_path / name, "--device", "cpu")
        assert result.exit_code == 0, result.output
    far, near = (load_file(tmp_path / name / "model.safetensors") for name in ("far", "near"))  # the card has paths
    assert far.keys() == near.keys()
    assert all(torch.equal(far[name], near[name]) for name in far)
    for name, where in (("far", store), ("near", corpus)):
        result = run("test", tmp_path / name, "zero-filled", where, "--out", tmp_path / f"{name}-t", "--device", "cpu")
        assert result.exit_code == 0, result.output
    assert (tmp_path / "far-t" / "rows.csv").read_text().replace(str(tmp_path / "far"), "") == (
        tmp_path / "near-t" / "rows.csv"
    ).read_text().replace(str(tmp_path / "near"), "")
