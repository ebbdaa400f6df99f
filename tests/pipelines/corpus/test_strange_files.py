"""Pipes, devices and huge empty files in place of a corpus's files: nobody waits for them, and nobody reads them."""

import os
import shutil

import pytest

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.corpus.export import export, import_corpus
from pipelines.corpus.verify import verify
from recon.data.datasets import PairDataset
from synth.errors import CorpusError, ShardError
from synth.storage.whole import read_document

BUCKET = "c4-y48-x56"
SHARD = f"{BUCKET}/kspace/c/1/0/0/0"
MADE_AGAIN = (SHARD, f"{BUCKET}/sigma/c/0", f"{BUCKET}/sigma/zarr.json", f"{BUCKET}/kspace/zarr.json", "summary.json")
KINDS = ("pipe", "device", "sparse")

pytestmark = pytest.mark.timeout(60)


def put(kind, file):
    if kind == "sparse":
        os.truncate(file, 10 * 2**30)
        return
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")


@pytest.fixture
def copy(corpus, tmp_path):
    return shutil.copytree(corpus, tmp_path / "c.zarr")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MADE_AGAIN)
def test_damage_is_found_and_mended(name, kind, copy, recipe):
    put(kind, copy / name)
    found = verify(copy)
    assert not found.intact
    part = f"{BUCKET}/pairs/1" if name == SHARD else name.removesuffix("/c/0").removesuffix("sigma/zarr.json")
    assert any(part in problem for problem in found.problems), found.problems
    if name != "summary.json":
        with pytest.raises((CorpusError, ShardError)):  # noqa: PT012 (either may notice)
            pairs = PairDataset(copy)
            for position in range(len(pairs)):
                pairs[position]
    if name == SHARD or kind == "pipe":
        assert build(recipe(), copy, ClusterSpec("sync")).status == "mended"
        assert verify(copy).intact


@pytest.mark.parametrize("kind", KINDS)
def test_a_strange_root_is_damage(kind, copy):
    put(kind, copy / "zarr.json")
    assert verify(copy).problems == ["zarr.json is damaged or missing"]
    with pytest.raises(CorpusError, match=r"zarr\.json"):
        PairDataset(copy)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["sources.json", "recipe.json"])
def test_what_says_what_was_built_is_refused(name, kind, copy):
    put(kind, copy / name)
    for read in (verify, PairDataset):
        with pytest.raises(CorpusError, match=name):
            read(copy)


@pytest.mark.parametrize("kind", KINDS)
def test_a_strange_ledger(kind, copy):
    put(kind, copy / "ledger.jsonl")
    told = "has a line of more than" if kind == "sparse" else "is a pipe, a device or a folder"
    with pytest.raises(ValueError, match=rf"ledger\.jsonl: {told}"):
        verify(copy)


@pytest.mark.parametrize("kind", KINDS)
def test_a_document_is_judged_before_it_is_read(kind, tmp_path):
    (tmp_path / "a").write_bytes(b"12")
    assert read_document(tmp_path / "a", 2) == b"12"
    with pytest.raises(ValueError, match="has 2 bytes, more than the 1"):
        read_document(tmp_path / "a", 1)
    put(kind, tmp_path / "a")
    with pytest.raises(ValueError, match="more than the" if kind == "sparse" else "is a pipe, a device or a folder"):
        read_document(tmp_path / "a")
    with pytest.raises(OSError, match="gone"):
        read_document(tmp_path / "gone")


@pytest.mark.parametrize("kind", ["mrd", "cfl", "fastmri"])
def test_no_import_waits_for_a_pipe(kind, corpus, tmp_path):
    export(corpus, kind, tmp_path / "out")
    file = sorted((tmp_path / "out" / "pairs").iterdir())[0]
    put("pipe", file)
    with pytest.raises(ValueError, match="is a pipe, a device or a folder"):
        import_corpus(tmp_path / "out", tmp_path / "again.zarr")
    assert not (tmp_path / "again.zarr.building").exists()
    if kind == "cfl":
        file.unlink()
        header = file.with_suffix(".hdr").read_text()
        file.with_suffix(".cfl").write_bytes(b"")
        file.with_suffix(".hdr").write_text(header)
        os.truncate(file.with_suffix(".cfl"), 10 * 2**30)
        with pytest.raises(CorpusError, match="does not have the size"):
            import_corpus(tmp_path / "out", tmp_path / "again.zarr")
