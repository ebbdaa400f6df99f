import json
import os
import pickle
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import zarr
from conftest import recipe_data
from zarr.codecs import Crc32cCodec

from synth.corpus.check import CorpusCheck
from synth.corpus.ledger import Ledger, content_hash
from synth.corpus.reader import open_corpus, stored_plan
from synth.corpus.tasks import finished, shard_files, tasks_of, write_shard
from synth.corpus.unfinished import UnfinishedCorpus
from synth.errors import CorpusError, ShardError, UnfinishedCorpusError
from synth.plan import Plan
from synth.recipe import parse_recipe
from synth.storage.corpus_files import building_path
from synth.storage.shard import ShardedArray, ShardWriter


def zarr_array(path, shape, step):
    return zarr.create_array(
        path,
        shape=shape,
        dtype="complex64",
        chunks=(1, *shape[1:]),
        shards=(step, *shape[1:]),
        compressors=Crc32cCodec(),
        filters=None,
        fill_value=complex(np.nan, np.nan),
        config={"write_empty_chunks": True},
    )


def test_zarr_reads_what_the_shard_writer_writes(tmp_path, rng):
    data = (rng.standard_normal((7, 3, 5)) + 1j).astype(np.complex64)
    array = zarr_array(tmp_path / "a", (7, 3, 5), 4)
    for shard in range(2):
        with ShardWriter(tmp_path / "a" / "c" / str(shard) / "0" / "0", 4) as out:
            for row in data[4 * shard : 4 * shard + 4]:
                out.append(row)
    np.testing.assert_array_equal(array[:], data)


def test_the_shard_reader_reads_what_zarr_writes(tmp_path, rng):
    data = (rng.standard_normal((7, 3, 5)) + 1j).astype(np.complex64)
    zarr_array(tmp_path / "a", (7, 3, 5), 4)[:] = data
    reader = ShardedArray(tmp_path / "a")
    assert (len(reader), reader.shape, reader.dtype) == (7, (7, 3, 5), np.complex64)
    for row in range(7):
        np.testing.assert_array_equal(reader[row], data[row])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader))[3], data[3])


def test_a_failed_shard_leaves_nothing(tmp_path):
    file = tmp_path / "c" / "0"

    def fail():
        with ShardWriter(file, 2) as out:
            out.append(np.zeros(3))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not list(tmp_path.rglob("*.partial"))
    assert not file.exists()


def test_every_flipped_byte_is_found(tmp_path, rng):
    data = (rng.standard_normal((2, 2, 3)) + 1j).astype(np.complex64)
    zarr_array(tmp_path / "a", (2, 2, 3), 2)[:] = data
    file = tmp_path / "a" / "c" / "0" / "0" / "0"
    good = file.read_bytes()
    for place in range(len(good)):
        file.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        reader = ShardedArray(tmp_path / "a")
        with pytest.raises(ShardError, match=str(file)):
            [reader[row] for row in range(2)]
    file.write_bytes(good[:-1])
    with pytest.raises(ShardError, match="damaged"):
        ShardedArray(tmp_path / "a")[0]
    file.unlink()
    with pytest.raises(ShardError, match="gone"):
        ShardedArray(tmp_path / "a")[0]


def test_a_hole_reads_as_nan_for_zarr_and_as_an_error_here(tmp_path):
    array = zarr_array(tmp_path / "a", (4, 2), 2)
    array[:2] = 1
    assert np.isnan(array[2:]).all()
    with pytest.raises(ShardError, match="gone"):
        ShardedArray(tmp_path / "a")[3]


def test_compressed_arrays_are_refused_by_the_fast_reader(tmp_path):
    zarr.create_array(tmp_path / "a", shape=(4,), dtype="f4", chunks=(2,))
    with pytest.raises(ShardError, match="plain bytes"):
        ShardedArray(tmp_path / "a")


def test_a_forked_reader_reads(tmp_path, rng):
    data = (rng.standard_normal((2, 3)) + 1j).astype(np.complex64)
    zarr_array(tmp_path / "a", (2, 3), 2)[:] = data
    reader = ShardedArray(tmp_path / "a")
    _ = reader[0]
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(reader[1], data[1]) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_any_number_of_shards_takes_no_file_descriptors(tmp_path, rng):
    data = (rng.standard_normal((40, 3)) + 1j).astype(np.complex64)
    zarr_array(tmp_path / "a", (40, 3), 1)[:] = data
    reader = ShardedArray(tmp_path / "a")
    before = len(list(Path("/proc/self/fd").iterdir()))
    rows = [reader[k] for k in range(40)]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    np.testing.assert_array_equal(rows, data)


def test_map_cache_and_blas_limit_are_free_in_a_forked_process():
    from synth import process as threads
    from synth.stages.coil_cache import map_cache
    from synth.stages.coils import LoopsSpec

    with map_cache._lock, threads._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            map_cache.get(LoopsSpec(count=2), 0, 0, (16, 16))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0


def test_ledger_survives_a_torn_line_and_takes_back(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.append({"task": "b/pairs/0", "rows": [], "rejected": []})
    ledger.append({"task": "b/pairs/1", "rows": [], "rejected": []})
    with ledger.path.open("ab") as file:
        file.write(b'{"task": "b/pairs/2", "ro')
    assert set(ledger.read()) == {"b/pairs/0", "b/pairs/1"}
    ledger.append({"task": "b/pairs/3", "rows": [], "rejected": []})
    ledger.append({"void": "b/pairs/0"})
    assert set(ledger.read()) == {"b/pairs/1", "b/pairs/3"}


def built_by_hand(photos, out, **sections):
    plan = Plan.of(parse_recipe(recipe_data(photos, **sections), "t"))
    made = UnfinishedCorpus(out, plan)
    made.prepare()
    for task in made.missing():
        made.ledger.append(write_shard(made.root, plan, task))
    assert made.missing() == []
    return plan, made.ledger


def test_zarr_alone_can_read_a_corpus(corpus):
    bucket = open_corpus(corpus).buckets[0]
    plan = open_corpus(corpus).plan
    pair = plan.pair(5)
    np.testing.assert_array_equal(bucket.arrays["kspace"][5], pair.kspace)
    np.testing.assert_array_equal(bucket.arrays["mask"][5], pair.mask.sampled)
    np.testing.assert_array_equal(bucket.arrays["target"][5], pair.target)
    for name, value in pair.numbers.items():
        assert bucket.numbers(name)[5] == value
    assert bucket.arrays["kspace"].metadata.dimension_names == ("pair", "coil", "readout", "line")


def test_an_unfinished_corpus_is_refused(photos, tmp_path):
    out = tmp_path / "c.zarr"
    plan, _ = built_by_hand(photos, out)
    for path in (out, building_path(out)):
        with pytest.raises(UnfinishedCorpusError, match="run the same `fathom build` again"):
            open_corpus(path)
    UnfinishedCorpus(out, plan).finish({"buckets": {"c4-y48-x56": 10}})
    assert open_corpus(out).content_hash
    assert not building_path(out).exists()


def test_finalize_refuses_a_missing_shard(photos, tmp_path):
    out = tmp_path / "c.zarr"
    plan, _ = built_by_hand(photos, out)
    bucket = plan.buckets[0]
    shard_files(building_path(out), bucket, tasks_of(plan)[-1])[0].unlink()
    with pytest.raises(CorpusError, match="1 shards are missing"):
        UnfinishedCorpus(out, plan).finish({})
    assert not out.exists()


def test_other_folders_are_no_corpora(tmp_path):
    with pytest.raises(CorpusError, match="not a corpus of Fathom's"):
        open_corpus(tmp_path)
    zarr.create_group(tmp_path / "g")
    with pytest.raises(CorpusError, match="not a corpus of Fathom's"):
        open_corpus(tmp_path / "g")


def test_another_schema_and_other_codecs_are_refused(corpus, tmp_path):
    copy = shutil.copytree(corpus, tmp_path / "c.zarr")
    document = json.loads((copy / "zarr.json").read_text())
    document["attributes"]["fathom"]["schema"] = 99  # as a later Fathom would write it
    (copy / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(CorpusError, match="schema 99"):
        open_corpus(copy)
    shutil.copytree(corpus, copy, dirs_exist_ok=True)
    file = copy / "c4-y48-x56" / "sigma" / "zarr.json"
    array = json.loads(file.read_text())
    good = file.read_text()
    for codec, configuration in (("transpose", {"order": [0]}), ("numcodecs.pickle", {})):  # zarr knows the first
        array = json.loads(good)
        array["codecs"].insert(0, {"name": codec, "configuration": configuration})
        file.write_text(json.dumps(array))
        with pytest.raises(CorpusError, match=codec):
            open_corpus(copy)


def test_a_recipe_of_before_an_option_was_there_is_no_damage(corpus, tmp_path):
    copy = shutil.copytree(corpus, tmp_path / "c.zarr")
    document = json.loads((copy / "zarr.json").read_text())
    recipe = document["attributes"]["fathom"]["recipe"]
    del recipe["target"]["zoom"], recipe["target"]["lesions"]  # None since they came
    (copy / "zarr.json").write_text(json.dumps(document))
    assert CorpusCheck.of(copy, stored_plan(copy)).documents() == []
    plan = stored_plan(copy)
    recipe["target"]["zoom"] = [1.0, 2.0]
    recipe["target"]["fit"] = "resize"
    (copy / "zarr.json").write_text(json.dumps(document))
    assert CorpusCheck.of(copy, plan).documents() == ["zarr.json"]


def test_check_shard_names_what_is_wrong(photos, tmp_path):
    out = tmp_path / "c.zarr"
    plan, ledger = built_by_hand(photos, out)
    root, entries = building_path(out), ledger.read()
    task = tasks_of(plan)[-1]
    check = CorpusCheck(root, plan, entries)
    assert check.shard(task) is None
    assert "not in the ledger" in CorpusCheck(root, plan, {}).shard(task)
    cut = {**entries[task.name], "rows": []}
    assert "0 rows" in CorpusCheck(root, plan, {task.name: cut}).shard(task)
    for number in range(3):
        file = shard_files(root, plan.buckets[0], task)[number]
        good = file.read_bytes()
        file.write_bytes(bytes([good[0] ^ 1]) + good[1:])
        assert task.name in check.shard(task)
        file.write_bytes(good)


def test_content_hash_is_of_pairs_not_of_their_layout(photos, tmp_path):
    hashes = set()
    for step in (1, 3, 10):
        _, ledger = built_by_hand(photos, tmp_path / f"{step}.zarr", shard_pairs=step)
        hashes.add(content_hash(ledger.read()))
    assert len(hashes) == 1
    _, ledger = built_by_hand(photos, tmp_path / "other.zarr", seed=4)
    assert content_hash(ledger.read()) not in hashes
    entries = dict(ledger.read())
    before = content_hash(entries)
    next(e for e in entries.values() if "/maps/" in e["task"])["rows"][0]["digest"] = "0"
    assert content_hash(entries) != before  # maps count


def test_another_file_of_the_same_name_is_not_served_from_a_cache(photos, tmp_path, rng):
    def digests(k):
        a = np.random.default_rng(k).standard_normal((4, 4))
        np.save(tmp_path / "psi.npy", (a @ a.T + np.eye(4)).astype(complex))
        maps = np.random.default_rng(k).standard_normal((2, 4, 48, 56)) + 1j
        np.save(tmp_path / "maps.npy", maps.astype(np.complex64))
        sections = [{"noise": {"covariance": str(tmp_path / "psi.npy")}}]
        sections += [{"coils": {"kind": "library", "path": str(tmp_path / "maps.npy")}}]
        return [Plan.of(parse_recipe(recipe_data(photos, **s), "t")).pair(0).digest() for s in sections]

    assert all(a != b for a, b in zip(digests(1), digests(2), strict=True))


def test_lines_that_are_no_entries_do_not_count(tmp_path):
    lines = [b"5", b"[1]", b'{"task": "a"}', b'{"task": 3, "rows": []}', b"[" * 100_000]
    (tmp_path / "ledger.jsonl").write_bytes(b"\n".join(lines))
    assert Ledger(tmp_path).read() == {}
    assert Ledger(tmp_path).sources() == {}


def test_strangers_in_the_ledger_do_not_count(photos, tmp_path):
    plan, ledger = built_by_hand(photos, tmp_path / "c.zarr")
    root = building_path(tmp_path / "c.zarr")
    before = content_hash(finished(root, plan))
    entry = ledger.read()["c4-y48-x56/pairs/1"]
    ledger.append({**entry, "task": "c4-y48-x56/pairs/77"})
    assert content_hash(finished(root, plan)) == before
    swapped = {**entry, "task": "c4-y48-x56/pairs/2"}
    assert "other pairs" in CorpusCheck(root, plan, {swapped["task"]: swapped}).shard(tasks_of(plan)[-2])


def test_bytes_of_shards_are_those_on_disk(photos, tmp_path):
    plan, _ = built_by_hand(photos, tmp_path / "c.zarr")
    made = UnfinishedCorpus(tmp_path / "c.zarr", plan)
    bucket = plan.buckets[0]
    for task in tasks_of(plan):
        stored = sum(file.stat().st_size for file in shard_files(made.root, bucket, task))
        assert made.bytes_of([task]) == pytest.approx(stored, rel=0.1)  # masks, checksums and indices are left out
