"""Corpora are built in an object store as in a folder: the same files and hash, resumed, mended, by one build."""

import contextlib
import itertools
import os
import random
import tempfile

import pytest
from conftest import recipe_text
from corpus_forms import flip
from processes import built, dask_cluster

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.corpus.verify import verify
from pipelines.errors import BuildError, CorpusExistsError
from recon.data.datasets import PairDataset
from synth.corpus.reader import open_corpus
from synth.corpus.remote_ledger import RemoteLedger
from synth.errors import CorpusError, UnfinishedCorpusError
from synth.storage import lease

SYNC = ClusterSpec("sync")
TIMES = ("ledger.jsonl", "summary.json", "zarr.json")  # they hold the shards' times, or the sha256 of these


@pytest.fixture
def out(in_store):
    return in_store / "small.zarr"


def names(place):
    return sorted(name for name, _ in place.below())


def test_the_same_files_as_in_a_folder(recipe, corpus, out):
    made = build(recipe(), out, SYNC)
    assert (made.status, made.pairs, made.corpus) == ("built", 10, str(out))
    assert made.content_hash == open_corpus(corpus).content_hash
    near = {p.relative_to(corpus).as_posix(): p.read_bytes() for p in corpus.rglob("*") if p.is_file()}
    assert names(out) == sorted(near)
    assert [n for n, data in near.items() if (out / n).read() != data] == [n for n in near if n in TIMES]
    found = verify(out, replay=3)
    assert (found.problems, found.identical, found.not_covered) == ([], 3, {})
    assert build(recipe(), out, SYNC).status == "already there"
    assert names(out) == sorted(near)
    with pytest.raises(CorpusExistsError, match=r"differs in noise\.snr"):
        build(recipe(noise={"snr": 33}), out, SYNC)


def test_something_else_under_the_name_is_left_alone(recipe, out):
    (out / "thesis.txt").put(b"years of work")
    with pytest.raises(CorpusExistsError, match="is no corpus; nothing was changed"):
        build(recipe(), out, SYNC)
    assert names(out) == ["thesis.txt"]


@pytest.mark.parametrize("damage", ["flip", "delete", "root"])
def test_damage_is_mended(recipe, corpus, out, tmp_path, damage):
    build(recipe(), out, SYNC)
    victim = out / ("zarr.json" if damage == "root" else "c4-y48-x56/kspace/c/1/0/0/0")
    if damage == "delete":
        victim.delete()
    else:
        (tmp_path / "file").write_bytes(victim.read())
        flip(tmp_path / "file", 20 if damage == "root" else 5000)
        victim.put((tmp_path / "file").read_bytes())
    if damage != "root":
        assert len(verify(out).problems) == 1
    made = build(recipe(), out, SYNC)
    assert (made.status, made.built) == ("mended", 0 if damage == "root" else 3)
    assert made.content_hash == open_corpus(corpus).content_hash
    assert verify(out).intact


class Killed(BaseException):
    """What stops a build where a process would be killed: no clean-up of the claim follows."""


@pytest.mark.parametrize("seed", range(int(os.environ.get("FATHOM_TEST_KILLS", "2"))))
def test_killed_anywhere(recipe, corpus, out, monkeypatch, seed):
    """Stopped before a random request that writes or deletes, then again, until one build comes through."""
    draw, stops = random.Random(seed), 0
    monkeypatch.setattr(lease.Lease, "release", lambda self: self._stop.set())
    ticks = itertools.count()
    monkeypatch.setattr(lease, "start_of", lambda process: next(ticks))  # no owner is alive any more

    def asked(self, library_call):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return request(self, library_call)

    request = type(out)._ask
    while True:
        left = [draw.randrange(20, 400)]
        with monkeypatch.context() as patch:
            patch.setattr(type(out), "_ask", asked)
            try:
                made = build(recipe(), out, SYNC)
                break
            except Killed:
                stops += 1
        with contextlib.suppress(UnfinishedCorpusError, CorpusError):  # either whole, or refused
            assert PairDataset(out).content_hash == open_corpus(corpus).content_hash
    assert made.content_hash == open_corpus(corpus).content_hash
    monkeypatch.undo()
    assert build(recipe(), out, SYNC).status == "already there"
    assert verify(out).problems == []
    assert set(verify(out).not_covered) <= {"claim/"}


def test_one_build_at_a_time(recipe, out, monkeypatch):
    monkeypatch.setattr(lease, "PERIOD", 0.2)
    with lease.claimed(out) as first:
        with pytest.raises(
            BuildError, match=rf"{out}: another `fathom build` is at work on it \(process {os.getpid()}"
        ):
            build(recipe(), out, SYNC)
        monkeypatch.setattr(lease, "namespace", lambda: -1)  # as from another machine, which watches for signs of life
        with pytest.raises(BuildError, match="another `fathom build` is at work"):
            build(recipe(), out, SYNC)
        first._stop.set()  # gives no more signs
        made = build(recipe(), out, SYNC)
        assert made.status == "built"
        with pytest.raises(lease.ClaimedError, match="has taken over"):
            first.check()
    assert not any(name.startswith("claim/") for name in names(out))


def test_a_build_that_was_taken_over_stops(recipe, out, monkeypatch):
    ledger = RemoteLedger(out)
    ledger.append({"void": "a"})
    RemoteLedger(out).append({"void": "b"})
    with pytest.raises(lease.ClaimedError, match="another `fathom build` goes on with it"):
        ledger.append({"void": "c"})


def test_a_ledger_that_cannot_be_read_leaves_no_file_open(out, monkeypatch):
    opened = []
    real = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **how: opened.append(real(**how)) or opened[-1])
    monkeypatch.setattr(RemoteLedger, "_parts", lambda self: iter([b"{}\n", None]))  # the second part does not come
    with pytest.raises(TypeError):
        RemoteLedger(out).read()
    assert [file.closed for file in opened] == [True]


def test_workers_and_an_external_cluster(photos, out, tmp_path, store):
    file = tmp_path / "cli.toml"
    file.write_text(recipe_text(photos))
    near = built(file, "--out", tmp_path / "near.zarr", "--workers", 1)["content_hash"]
    for workers in (1, 2):
        made = built(file, "--out", f"{out}-{workers}", "--workers", workers)
        assert (made["content_hash"], made["status"]) == (near, "built")
    with dask_cluster(tmp_path) as (address, _):
        made = built(file, "--out", f"{out}-dask", "--scheduler", address)
        assert (made["content_hash"], made["status"]) == (near, "built")
