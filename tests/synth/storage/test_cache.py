"""A cache of shards: whole files or none, the least recently used go first, damage in it is not read."""

import fcntl
import os
import subprocess
import sys
import threading

import pytest
from corpus_forms import flip
from object_store import BUCKET, environment, store_server, upload

from recon.data.datasets import PairDataset
from recon.data.loader import make_loader
from synth.errors import StorageError
from synth.storage import objects
from synth.storage.cache import ShardCache, shard_cache
from synth.storage.place import place_of

NAMES = [f"{k:064x}" for k in range(9)]


def take(cache, name, data):
    """What the cache gives for a file, and whether it was fetched."""
    fetched = []
    descriptor = cache.opened(name, len(data), lambda: (fetched.append(name), [data[:2], data[2:]])[1])
    if descriptor is None:
        return None, bool(fetched)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(), bool(fetched)


def held(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != "lock")


def test_the_least_recently_used_goes_first(tmp_path):
    cache = ShardCache(tmp_path, 30)
    for k in (0, 1, 2):
        assert take(cache, NAMES[k], b"0123456789") == (b"0123456789", True)
        os.utime(tmp_path / NAMES[k], (k, k))
    assert take(cache, NAMES[0], b"0123456789") == (b"0123456789", False)  # used again: 1 is now the oldest
    (tmp_path / "notes.txt").write_bytes(b"x" * 99)  # no file of ours
    assert take(cache, NAMES[3], b"abcde") == (b"abcde", True)
    assert held(tmp_path) == sorted([NAMES[0], NAMES[2], NAMES[3], "notes.txt"])
    assert take(cache, NAMES[4], b"x" * 31) == (None, False)  # never fits


def test_whole_or_not_at_all(tmp_path):
    cache = ShardCache(tmp_path, 100)
    assert cache.opened(NAMES[0], 10, lambda: [b"012"]) is None  # another number of bytes
    assert cache.opened(NAMES[0], 2, lambda: [b"012"]) is None

    def broken():
        yield b"012"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        cache.opened(NAMES[0], 10, broken)
    assert held(tmp_path) == []
    (tmp_path / NAMES[1]).write_bytes(b"short")
    assert take(cache, NAMES[1], b"0123456789") == (b"0123456789", True)
    os.mkfifo(tmp_path / NAMES[2])
    assert take(cache, NAMES[2], b"0123456789") == (b"0123456789", True)


def test_what_a_killed_process_left_is_removed_and_what_is_written_counts(tmp_path):
    cache = ShardCache(tmp_path, 20)
    left, written = (tmp_path / f"{NAMES[k]}.{'a' * 32}.partial" for k in (0, 1))
    left.write_bytes(b"x" * 15)
    written.write_bytes(b"x" * 15)
    with written.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert take(cache, NAMES[2], b"01234") == (b"01234", True)
        assert held(tmp_path) == sorted([NAMES[2], written.name])
        assert take(cache, NAMES[3], b"0123456789") == (None, False)  # 15 are being written
    assert take(cache, NAMES[3], b"0123456789") == (b"0123456789", True)


def test_a_file_that_is_renamed_while_the_folder_is_counted_counts(tmp_path, monkeypatch):
    cache = ShardCache(tmp_path, 20)
    partial = tmp_path / f"{NAMES[0]}.{'a' * 32}.partial"
    partial.write_bytes(b"x" * 15)
    lock = fcntl.flock

    def renamed_before(file, how):
        if how & fcntl.LOCK_NB and partial.exists():
            partial.rename(tmp_path / NAMES[0])  # another process is done, and lets go of the lock
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", renamed_before)
    assert take(cache, NAMES[1], b"0123456789") == (None, False)  # 15 of 20 are there
    assert held(tmp_path) == [NAMES[0]]


def test_threads_fetch_once_and_processes_keep_to_the_size(tmp_path):
    cache, fetched, found = ShardCache(tmp_path, 100), [], []

    def use():
        found.append(os.pread(cache.opened(NAMES[0], 5, lambda: (fetched.append(1), [b"01234"])[1]), 5, 0))

    threads = [threading.Thread(target=use) for _ in range(8)]
    _ = [t.start() for t in threads], [t.join() for t in threads]
    assert (found, len(fetched)) == ([b"01234"] * 8, 1)
    code = (
        "import os, sys; from pathlib import Path; from synth.storage.cache import ShardCache\n"
        "cache = ShardCache(Path(sys.argv[1]), 100)\n"
        "def size(path):\n"
        "    try: return path.stat().st_size\n"
        "    except FileNotFoundError: return 0\n"  # the other process has removed it
        "for k in range(60):\n"
        "    n = (k * int(sys.argv[2])) % 13; data = bytes([n]) * 30\n"
        "    fd = cache.opened(f'{n:064x}', 30, lambda: [data])\n"
        "    assert fd is None or os.read(fd, 99) == data\n"
        "    assert sum(size(p) for p in Path(sys.argv[1]).iterdir()) <= 100\n"
    )
    others = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(k)]) for k in (5, 7)]
    assert [other.wait(60) for other in others] == [0, 0]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 100


def test_the_environment_names_it(tmp_path, monkeypatch):
    assert shard_cache() is None
    monkeypatch.setenv("FATHOM_CACHE", str(tmp_path))
    for size in ("", "x", "-1", "nan"):
        monkeypatch.setenv("FATHOM_CACHE_GB", size)
        with pytest.raises(StorageError, match="FATHOM_CACHE_GB, the most gigabytes"):
            shard_cache()
    monkeypatch.setenv("FATHOM_CACHE_GB", "0.5")
    assert shard_cache()._most == 500_000_000


def test_pairs_are_read_from_the_cache(corpus, tmp_path, monkeypatch):
    with store_server() as values, environment(values):
        address, near = f"{BUCKET}/cached.zarr", PairDataset(corpus)
        upload(corpus, place_of(address))
        monkeypatch.setenv("FATHOM_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("FATHOM_CACHE_GB", "1")

        def all_pairs():
            far = PairDataset(address)
            for a, b in zip(make_loader(far, 3, device="cpu"), make_loader(near, 3, device="cpu"), strict=True):
                assert all((a[name] == b[name]).all() for name in b)
            return far

        all_pairs()
        shards = [p for p in corpus.glob("*/*/c/*/**/*") if p.is_file() and p.stat().st_size > 300]
        kept = {path.name: path.stat().st_size for path in (tmp_path / "cache").iterdir()}
        assert len(kept) > 12  # 4 shards of k-space, mask and target, and maps
        assert sum(kept.values()) <= sum(p.stat().st_size for p in corpus.rglob("*") if p.is_file())
        assert shards
        asked = []
        monkeypatch.setattr(objects.ObjectPlace, "stream", lambda self: asked.append(self))
        monkeypatch.setattr(objects.ObjectPlace, "read_ranges", lambda self, *a: asked.append(self))
        far = all_pairs()
        assert asked == []  # nothing but metadata and numbers came from the store
        monkeypatch.undo()
        monkeypatch.setenv("FATHOM_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("FATHOM_CACHE_GB", "1")
        for file in (tmp_path / "cache").iterdir():
            if file.name != "lock":
                flip(file, 5)
        far = all_pairs()  # damage in the cache is mended from the store
        assert far.is_remote
