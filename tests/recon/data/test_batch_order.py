"""The order with a window: every pair once, few shards at a time, decided by the seed, resumed in the middle."""

from types import SimpleNamespace

import numpy as np
import pytest

from recon.data.batch_order import BatchOrder
from recon.data.datasets import PairDataset
from recon.data.joined_pairs import JoinedPairs
from recon.data.loader import make_loader


class Shards(SimpleNamespace):
    """Pairs of two buckets, whose positions alternate, in shards of 5 pairs."""

    geometries, identity = (0, 1), "x"

    def __len__(self):
        return len(self.bucket_of)


def pairs(count=200):
    return Shards(bucket_of=np.arange(count) % 2, shard_of=np.arange(count) // 2 // 5)


def test_every_pair_comes_once_from_few_shards_at_a_time():
    there = pairs()
    batches = BatchOrder(there, 4, shuffle=True, seed=3, window=20).epoch(0)
    assert sorted(k for batch in batches for k in batch) == list(range(200))
    assert all(len({k % 2 for k in batch}) == 1 for batch in batches)
    kinds = [batch[0] % 2 for batch in batches]
    assert kinds != sorted(kinds)  # the buckets alternate
    for bucket in (0, 1):
        order = [k for batch in batches if batch[0] % 2 == bucket for k in batch]
        windows = [order[k : k + 20] for k in range(0, 100, 20)]
        assert all(len({there.shard_of[k] for k in window}) == 4 for window in windows)  # 20 pairs of 5 in a shard
        assert all(window != sorted(window) for window in windows)
        first = [there.shard_of[window].min() for window in windows]
        assert first != sorted(first)  # shards are shuffled, too


def test_the_seed_and_the_epoch_decide():
    orders = [BatchOrder(pairs(), 4, shuffle=True, seed=seed, window=20) for seed in (3, 3, 4)]
    assert orders[0].epoch(1) == orders[1].epoch(1)
    assert orders[0].epoch(1) != orders[0].epoch(2)
    assert orders[0].epoch(1) != orders[2].epoch(1)
    ranks = [BatchOrder(pairs(), 4, True, 3, rank=r, world_size=2, window=20).epoch(1) for r in (0, 1)]
    assert [batch for both in zip(*ranks, strict=True) for batch in both] == orders[0].epoch(1)


def test_without_a_window_the_order_and_the_state_are_those_of_before():
    order = BatchOrder(pairs(10), 2, shuffle=True, seed=5)
    assert "window" not in order.state()
    assert order.epoch(0) == [[3, 7], [2, 0], [8], [5, 1], [6, 4], [9]]
    with pytest.raises(ValueError, match="shuffle is off"):
        BatchOrder(pairs(10), 2, shuffle=False, seed=5, window=3)


def test_a_loader_resumes_in_the_middle_of_a_window(corpus):
    def loader(**how):
        return make_loader(PairDataset(corpus), 2, device="cpu", seed=1, **how)

    whole = [batch["pair_id"].tolist() for batch in loader(window=4)]
    assert sorted(k for batch in whole for k in batch) == list(range(10))
    begun = loader(window=4)
    given = [batch["pair_id"].tolist() for _, batch in zip(range(2), begun, strict=False)]
    other = loader(window=4)
    other.load_state_dict(begun.state_dict())
    assert given + [batch["pair_id"].tolist() for batch in other] == whole
    for state, into, said in ((begun, loader(), "window 4.*has 0"), (loader(), loader(window=4), "window 0.*has 4")):
        with pytest.raises(ValueError, match=said):
            into.load_state_dict(state.state_dict())
    joined = JoinedPairs([PairDataset(corpus), PairDataset(corpus)])
    both = [int(k) for b in make_loader(joined, 2, device="cpu", window=4) for k in b["pair_id"]]
    assert sorted(both) == sorted([*range(10)] * 2)
