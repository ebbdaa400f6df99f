"""Opening a corpus takes no step per pair, and gives what the plan says."""

import hashlib
import json
import shutil
import tracemalloc
from pathlib import PurePosixPath
from types import SimpleNamespace

import numpy as np
import pytest
import zarr

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from recon.data.datasets import PairDataset
from synth.corpus import reader
from synth.corpus.columns import column_values, columns_of
from synth.corpus.layout import number_file
from synth.corpus.ledger import Ledger, content_hash, line_of
from synth.corpus.reader import open_corpus
from synth.corpus.tasks import ShardPaths, bucket_of, finished, shard_files, tasks_of
from synth.errors import CorpusError
from synth.plan import Plan
from synth.storage import corpus_files
from synth.storage.corpus_files import values_of
from synth.storage.listing import folders_of
from synth.storage.shard import crc32c_of
from synth.storage.whole import read_document

MATRICES = [[48, 56], [40, 56], [48, 40]]


@pytest.fixture(scope="module")
def mixed(photos, tmp_path_factory):
    from conftest import recipe_data

    from synth.recipe import parse_recipe

    out = tmp_path_factory.mktemp("mixed") / "mixed.zarr"
    data = recipe_data(photos, target={"matrix": MATRICES}, pairs=9, seed=12)
    build(parse_recipe(data, "test"), out, ClusterSpec("sync"))
    return out


def test_buckets_are_those_of_the_plan_without_drawing_shapes(mixed, monkeypatch):
    planned = open_corpus(mixed).plan.buckets
    assert len(planned) == 3
    assert [bucket.name for bucket in planned] != sorted(bucket.name for bucket in planned)

    def drawn(*_):
        raise AssertionError("a shape was drawn")

    monkeypatch.setattr(Plan, "_shape_of", drawn)
    opened, pairs = open_corpus(mixed).buckets, PairDataset(mixed)
    assert [bucket.name for bucket in opened] == [bucket.name for bucket in planned]
    assert [bucket.numbers("index").tolist() for bucket in opened] == [[*bucket.indices] for bucket in planned]
    assert pairs.pair_ids == list(range(9))
    assert [pairs.name_of(p)[-6:] for p in (0, 8)] == ["pair 0", "pair 8"]
    kinds = [next(k for k, bucket in enumerate(planned) if index in bucket.indices) for index in range(9)]
    assert pairs.bucket_of.tolist() == kinds


def test_opening_reads_no_list_of_sources(mixed, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(reader, "read_document", lambda path: (read.append(path.name), read_document(path))[1])
    pairs = PairDataset(mixed)
    assert len(pairs) == 9
    assert read == ["recipe.json"]
    assert pairs.sources[0].name == open_corpus(mixed).plan.file_of(0)
    assert "sources.json" in read
    copy = shutil.copytree(mixed, tmp_path / "c.zarr")
    (copy / "sources.json").unlink()
    with pytest.raises(CorpusError, match="is not a corpus"):
        PairDataset(copy)
    (copy / "sources.json").write_text('["../a.png"]')
    assert len(PairDataset(copy)) == 9
    with pytest.raises(CorpusError, match=r"sources\.json is damaged"):
        open_corpus(copy).plan  # noqa: B018


def test_opening_reads_no_numbers_but_the_order_of_shapes(corpus, mixed, monkeypatch):
    read = []
    monkeypatch.setattr(corpus_files, "values_of", lambda array: (read.append(array.basename), values_of(array))[1])
    assert open_corpus(corpus).content_hash
    assert read == []
    open_corpus(mixed)
    assert read == ["index"] * 3
    assert open_corpus(corpus).buckets[0].valid_rows.tolist() == list(range(10))


def test_numbers_are_those_that_zarr_reads_and_damage_in_them_is_found(corpus, tmp_path):
    copy = shutil.copytree(corpus, tmp_path / "c.zarr")
    name = open_corpus(corpus).buckets[0].name
    earlier = corpus_files.open_bucket(copy, name, own_maps=False, sums={})  # its numbers have their own crc32c alone
    plain = [array for array in zarr.open_group(copy, mode="r")[name].arrays() if "_" in array[0] or array[1].ndim == 1]
    assert len(plain) > 20
    for number, array in plain:
        np.testing.assert_array_equal(earlier.numbers(number), array[...])
        file = copy / number_file(f"{name}/{number}", array)
        good = file.read_bytes()
        flipped = [good[:k] + bytes([good[k] ^ 4]) + good[k + 1 :] for k in (0, len(good) // 2, len(good) - 1)]
        for bad in (*flipped, good[:-1], good + b"x", good[8:], b""):
            file.write_bytes(bad)
            with pytest.raises(CorpusError, match=f"{number} is damaged"):
                earlier.numbers(number)


@pytest.mark.parametrize(
    ("number", "value", "told"),
    [
        ("valid", 2, "valid is damaged"),
        ("sigma", np.nan, "numbers are damaged"),
        ("scale", np.inf, "numbers are damaged"),
        ("index", -3, "numbers are damaged"),
    ],
)
def test_numbers_that_cannot_be_are_refused(number, value, told, corpus, tmp_path):
    """In a corpus of an earlier version, whose attributes have no checksum of them."""
    bucket, copy = open_corpus(corpus).buckets[0], shutil.copytree(corpus, tmp_path / "c.zarr")
    root = json.loads((copy / "zarr.json").read_text())
    del root["attributes"]["fathom"]["sealed"]
    (copy / "zarr.json").write_text(json.dumps(root))
    values = bucket.numbers(number).copy()
    values[4] = value
    crc = crc32c_of(values).to_bytes(4, "little")
    (copy / number_file(f"{bucket.name}/{number}", values)).write_bytes(values.tobytes() + crc)
    with pytest.raises(CorpusError, match=told):
        PairDataset(copy)


def test_a_missing_group_is_said(mixed, tmp_path):
    copy = shutil.copytree(mixed, tmp_path / "c.zarr")
    shutil.rmtree(copy / open_corpus(mixed).buckets[1].name)
    with pytest.raises(CorpusError, match="pairs are missing"):
        open_corpus(copy)


def shards_of_numbers(*numbers):
    """A ledger of shards with one row each, that have these numbers."""
    return {
        f"c/pairs/{k}": {"task": f"c/pairs/{k}", "rows": [{"index": k, "digest": str(k), "numbers": n}]}
        for k, n in enumerate(numbers)
    }


def test_numbers_of_rejected_pairs_are_nan(tmp_path):
    entries = shards_of_numbers({}, {"a": 2, "b": [[1, 2], [3, 4]]}, {}, {"a": 0.5, "b": [[5, 6], [7, 8]]})
    columns = columns_of(SimpleNamespace(buckets=[SimpleNamespace(name="c")]), entries, tmp_path)["c"]
    found = {name: column_values(tmp_path, f"c/{name}", column) for name, column in columns.items()}
    nan = np.full((2, 2), np.nan)
    np.testing.assert_array_equal(found["a"], [np.nan, 2, np.nan, 0.5])
    np.testing.assert_array_equal(found["b"], [nan, [[1, 2], [3, 4]], nan, [[5, 6], [7, 8]]])
    assert found["valid"].tolist() == [0, 1, 0, 1]
    for name, column in columns.items():
        file = tmp_path / number_file(f"c/{name}", column)
        assert column.crc32c == crc32c_of(found[name])
        assert column.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
        assert file.stat().st_size == column.file_bytes


def test_sums_that_a_row_lacks_are_left_out(tmp_path):
    entries = shards_of_numbers({"a": 1}, {"a": 2}, {"a": 3})
    for k in (0, 1, 2):
        entries[f"c/pairs/{k}"]["rows"][0]["crc32c"] = {"mask": 2**32 - 1 - k, **({"kspace": 5} if k != 1 else {})}
    columns = columns_of(SimpleNamespace(buckets=[SimpleNamespace(name="c")]), entries, tmp_path)["c"]
    assert sorted(columns) == ["a", "index", "mask_crc32c", "valid"]
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == sorted(columns)
    assert column_values(tmp_path, "c/mask_crc32c", columns["mask_crc32c"]).tolist() == [
        2**32 - 1 - k for k in range(3)
    ]


def test_numbers_of_two_shapes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="one name"):
        columns_of(SimpleNamespace(buckets=[SimpleNamespace(name="c")]), shards_of_numbers({"a": 1}, {"a": [1, 2]}))


def test_the_content_hash_is_that_of_the_text(mixed):
    """Streamed over three buckets, it is the sha256 of the JSON text that earlier versions made in memory."""
    corpus = open_corpus(mixed)
    rows = [row for name, entry in corpus.entries().items() if "/pairs/" in name for row in entry["rows"]]
    pairs = sorted((row["index"], row["digest"]) for row in rows)
    maps = sorted(row["digest"] for name, e in corpus.entries().items() if "/maps/" in name for row in e["rows"])
    assert len(pairs) == 9
    text = json.dumps([pairs, maps])
    assert content_hash(corpus.entries()) == corpus.content_hash == hashlib.sha256(text.encode()).hexdigest()
    nothing = hashlib.sha256(json.dumps([[], []]).encode()).hexdigest()
    assert content_hash({}) == nothing


def test_entries_are_read_when_they_are_asked_for(mixed, tmp_path):
    shutil.copy(mixed / "ledger.jsonl", tmp_path)
    entries = Ledger(tmp_path).read()
    name = next(name for name in entries if "/pairs/" in name)
    kept = entries.of([name, "nobody"])
    entry = entries[name]
    assert line_of(entry) in (tmp_path / "ledger.jsonl").read_bytes()  # as it was appended
    del entries
    assert list(kept) == [name]
    assert "nobody" not in kept
    assert kept[name] == entry
    assert kept[name] is not entry


def test_paths_of_shards(mixed):
    plan = open_corpus(mixed).plan
    shards = ShardPaths(plan)
    listed = {
        file.as_posix() for task in tasks_of(plan) for file in shard_files(PurePosixPath(), bucket_of(plan, task), task)
    }
    assert len(listed) > 12
    assert all(shards.number(path) is not None for path in listed)
    assert all(shards.is_folder(folder) for folder in folders_of(listed) if folder.count("/") > 1)
    path = next(path for path in listed if "/kspace/" in path)
    array, number = path.split("/c/")
    for other in (
        f"{array}/c/99/0/0/0", f"{path}/0", f"{array}/c/00/0/0/0", f"{array}/c/{number[:-2]}", f"{array}/c/²/0/0/0",
        f"{array}/d/{number}", f"x/{path}", f"{array}/zarr.json", "zarr.json", "", f"{array}/c/{'9' * 9999}/0/0/0",
    ):  # fmt: skip
        assert shards.number(other) is None
    assert not shards.is_folder(f"{array}/c/99")
    assert not shards.is_folder(path)


def test_memory_of_finishing_and_checking_does_not_grow_with_the_ledger(photos, tmp_path):
    """Ten times as many shards of the same size take as much memory, within the 300 bytes a shard's name may take."""
    from conftest import recipe_data

    from synth.recipe import parse_recipe

    def peak(shards):
        plan = Plan.of(parse_recipe(recipe_data(photos, pairs=shards * 3), "test"))
        row = {"file": "a", "source_sha256": "b" * 64, "digest": "d" * 64, "numbers": {f"n{k}": 0.5 for k in range(9)}}
        root = tmp_path / str(shards)
        root.mkdir()
        name = plan.buckets[0].name
        with (root / "ledger.jsonl").open("wb") as file:
            for task in range(shards):
                rows = [{**row, "index": 3 * task + k} for k in range(3)]
                file.write(line_of({"task": f"{name}/pairs/{task}", "rows": rows, "rejected": []}))
        tracemalloc.start()
        try:
            entries = finished(root, plan)
            columns_of(plan, entries, root)
            content_hash(entries)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak(10), peak(110)
    assert many - few < 100 * 1000  # a shard of the ledger takes 3 kB as text and 6 kB as objects
