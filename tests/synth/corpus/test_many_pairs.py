"""Opening a corpus takes no step per pair, and gives what the plan says."""

import shutil

import numpy as np
import pytest

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from recon.data.datasets import PairDataset
from synth.corpus.ledger import numbers_of
from synth.corpus.reader import open_corpus
from synth.errors import CorpusError
from synth.plan import Plan

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


def test_a_missing_group_is_said(mixed, tmp_path):
    copy = shutil.copytree(mixed, tmp_path / "c.zarr")
    shutil.rmtree(copy / open_corpus(mixed).buckets[1].name)
    with pytest.raises(CorpusError, match="pairs are missing"):
        open_corpus(copy)


def test_numbers_of_rejected_pairs_are_nan():
    rows = [
        {"index": 0, "digest": "", "numbers": {"a": 2, "b": [[1, 2], [3, 4]]}},
        {"index": 1, "digest": "", "numbers": {}},
        {"index": 2, "digest": "", "numbers": {"a": 0.5, "b": [[5, 6], [7, 8]]}},
    ]
    found = numbers_of("c", {"c/pairs/0": {"task": "c/pairs/0", "rows": rows}}, "pairs")
    np.testing.assert_array_equal(found["a"], [2, np.nan, 0.5])
    np.testing.assert_array_equal(found["b"], [[[1, 2], [3, 4]], np.full((2, 2), np.nan), [[5, 6], [7, 8]]])
    assert found["valid"].tolist() == [1, 0, 1]
