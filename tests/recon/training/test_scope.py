import numpy as np
import pytest
import torch

from recon.data.datasets import PairDataset
from recon.training.scope import beyond, numbers_of, scope_of


def test_the_scope_of_a_corpus_is_that_of_its_pairs(corpus):
    pairs = PairDataset(corpus)
    found = scope_of(pairs)
    each = [numbers_of({k: v[None] for k, v in pair.items()}, pair["target"].numpy()) for pair in pairs]
    for name in ("coils", "acceleration_net", "peak_snr"):
        assert found[name] == pytest.approx([min(e[name] for e in each), max(e[name] for e in each)], rel=1e-5)
    assert beyond({"data": [{"scope": found}]}, each) == []


def test_what_lies_outside_is_told():
    card = {"data": [{"scope": {"coils": [4, 8], "peak_snr": [10, 100]}}, {"scope": {"coils": [2, 2]}}, {}]}
    batch = {"sens_maps": torch.zeros(1, 16, 8, 8), "sigma": torch.tensor([0.5]), "acceleration_net": torch.ones(1)}
    image = np.full((8, 8), 3.0 + 4.0j)
    one = numbers_of(batch, image)
    assert one == {"coils": 16, "acceleration_net": 1, "peak_snr": 10}
    told = beyond(card, [one, one | {"peak_snr": 250.0}, one | {"peak_snr": 1000.0}])
    worse = "and may do worse here"
    assert told == [
        f"coils of 3 of 3 slices: 16; the network was trained on 2 to 8, {worse}",
        f"the image's maximum over sigma of 2 of 3 slices: 250 to 1e+03; the network was trained on 10 to 100, {worse}",
    ]
    assert beyond({}, [one]) == []
    batch["sigma"][0] = np.nan
    assert beyond(card, [numbers_of(batch, image) | {"coils": 8}]) == []
