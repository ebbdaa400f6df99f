import json
from itertools import islice

import numpy as np
import pytest
import torch
from conftest import recipe_data, write_photos

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from recon.data.datasets import PairDataset
from recon.data.loader import make_loader
from recon.training.loop import train
from recon.training.settings import Training
from synth.physics import sense_forward
from synth.recipe import parse_recipe

LINES = {"kind": "uniform", "acceleration": 4, "reference_lines": 8}
POINTS = {"kind": "poisson", "acceleration": 4, "reference_lines": 8}
BOTH = ("mask", "noise")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Corpora by the kind of their masks, with k-space in full; the readout of lines is oversampled."""
    folder = tmp_path_factory.mktemp("full")
    photos, made = folder / "photos", {}
    write_photos(photos, 3, (60, 72))
    for name, sampling, target in (
        ("lines", LINES, {"readout_oversampling": 2, "reference": "clean"}),
        ("points", POINTS, {"reference": "clean"}),
        ("noisy", LINES, {"reference": "noisy"}),
    ):
        data = recipe_data(photos, pairs=6, kspace="full", sampling=sampling, target=target)
        made[name] = folder / f"{name}.zarr"
        build(parse_recipe(data, name), made[name], ClusterSpec("sync"))
    build(parse_recipe(recipe_data(photos), "packed"), folder / "packed.zarr", ClusterSpec("sync"))
    return {**made, "packed": folder / "packed.zarr"}


def noise_of(item, maps_image):
    """The noise on sampled positions over sigma."""
    clean = sense_forward(maps_image[None], item["sens_maps"][None], item["mask"][None])[0]
    there = item["mask"].expand_as(clean)
    return ((item["masked_kspace"] - clean) / item["sigma"])[there]


@pytest.mark.parametrize("kind", ["lines", "points"])
def test_new_noise_has_the_same_sigma_and_is_independent(corpus, kind):
    stored, again = PairDataset(corpus[kind]), PairDataset(corpus[kind], redraw=["noise"])
    for epoch in (0, 1):
        for old, new in zip(stored, again.of_epoch(epoch), strict=False):
            assert torch.equal(old["mask"], new["mask"])
            assert torch.equal(old["target"], new["target"])
            a, b = noise_of(old, old["target"]), noise_of(new, old["target"])
            parts = torch.view_as_real(b).flatten()
            n = len(parts)
            assert abs(float(parts.std()) - 1) < 5 / (2 * n) ** 0.5
            assert abs(float(parts.mean())) < 5 / n**0.5
            assert abs(float((torch.view_as_real(a).flatten() * parts).mean())) < 5 / n**0.5


def test_the_reference_keeps_its_own_noise(corpus):
    stored, again = PairDataset(corpus["noisy"])[0], PairDataset(corpus["noisy"], redraw=["noise"])[0]
    assert torch.equal(stored["target"], again["target"])
    assert not torch.equal(stored["masked_kspace"], again["masked_kspace"])


@pytest.mark.parametrize("kind", ["lines", "points"])
def test_new_masks_take_other_samples_of_the_same_k_space(corpus, kind):
    full = PairDataset(corpus[kind], redraw=["mask"])
    everything = full._arrays[0]["kspace"][0]
    seen = []
    for epoch in range(4):
        item = full.of_epoch(epoch)[0]
        mask = item["mask"].numpy()
        assert float(item["acceleration_net"]) == pytest.approx(mask.size / mask.sum())
        assert np.abs(item["masked_kspace"].numpy()[:, ~np.broadcast_to(mask[0], item["target"].shape)]).max() == 0
        if kind == "points":
            kept = everything.reshape(len(everything), *item["target"].shape) * mask
            assert np.array_equal(item["masked_kspace"].numpy(), kept)
        seen.append(mask)
    assert all(not np.array_equal(seen[0], other) for other in seen[1:])
    assert np.array_equal(seen[2], full.of_epoch(2)[0]["mask"].numpy())


@pytest.mark.parametrize("options", [{"threads": 2}, {"workers": 2}], ids=str)
def test_each_epoch_is_another_and_can_be_resumed(corpus, options):
    def batches(loader, count):
        return [(b["pair_id"].tolist(), b["masked_kspace"].clone()) for b in islice(loader.endless(), count)]

    def same(a, b):
        return all(i == j and torch.equal(x, y) for (i, x), (j, y) in zip(a, b, strict=True))

    pairs = PairDataset(corpus["lines"], redraw=BOTH)
    expected = batches(make_loader(pairs, 2, seed=1), 7)
    loader = make_loader(pairs, 2, seed=1, **options)
    assert same(batches(loader, 7), expected)
    by_pair = [{i: k[n] for ids, k in expected[e : e + 3] for n, i in enumerate(ids)} for e in (0, 3)]
    assert all(not torch.equal(by_pair[0][i], by_pair[1][i]) for i in range(6))
    for i in range(6):
        assert torch.equal(by_pair[1][i], pairs.of_epoch(1)[i]["masked_kspace"])  # whatever the batch
    loader = make_loader(pairs, 2, seed=1, **options)
    begun = batches(loader, 4)
    resumed = make_loader(pairs, 2, seed=1, **options)
    resumed.load_state_dict(loader.state_dict())
    assert same(begun + batches(resumed, 3), expected)


def test_a_training_on_new_draws_is_another_training(corpus, tmp_path):
    cards, losses = [], []
    for redraw in ((), BOTH):
        settings = Training.model_validate({
            "name": "small",
            "data": {"corpora": (str(corpus["lines"]),), "redraw": redraw},
            "model": {"kind": "variational", "stages": 1, "filters": 2, "kernel": 3, "nodes": 5},
            "training": {"steps": 5, "batch_size": 2},
        })  # fmt: skip
        out = tmp_path / str(len(redraw))
        card = train(settings, out, device="cpu")
        cards.append(card)
        losses.append([json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()])
    assert cards[0]["identity"] != cards[1]["identity"]
    assert all(a != b for a, b in zip(*losses, strict=True))


def test_refusals(corpus):
    with pytest.raises(ValueError, match="build a corpus with kspace = 'full'"):
        PairDataset(corpus["packed"], redraw=["mask"])
    with pytest.raises(ValueError, match="redraw takes 'mask' and 'noise', got 'maps'"):
        PairDataset(corpus["lines"], redraw=["maps"])
