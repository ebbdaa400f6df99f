import multiprocessing
import pickle
import shutil
from itertools import islice

import numpy as np
import pytest
import torch
from conftest import recipe_data
from torch.utils.data import DataLoader

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from recon.data.datasets import PairDataset, VirtualPairs
from recon.data.loader import make_loader
from synth.errors import CorpusError, ShardError, UnfinishedCorpusError
from synth.physics import sense_adjoint, sense_forward
from synth.recipe import parse_recipe
from synth.storage.corpus_files import building_path

SYNC = ClusterSpec("sync")
KINDS = {
    "lines": {},
    "oversampled": {"target": {"readout_oversampling": 2}},
    "full": {"kspace": "full", "target": {"readout_oversampling": 2}},
    "random counts": {"sampling": {"kind": "fastmri-random", "center_fraction": 0.1}},
    "points": {"sampling": {"kind": "poisson", "acceleration": 3, "reference_lines": 8}},
    "full points": {"kspace": "full", "sampling": {"kind": "regular-2d", "reference_lines": 8}},
    "odd": {"target": {"matrix": [47, 55]}, "kspace": "full"},
    "two buckets": {"target": {"matrix": [[48, 56], [40, 40]]}},
}


@pytest.fixture(scope="module", params=KINDS)
def made(request, photos, tmp_path_factory):
    """A corpus of each kind, and its recipe."""
    recipe = parse_recipe(recipe_data(photos, **KINDS[request.param]), "t")
    out = tmp_path_factory.mktemp("kinds") / "c.zarr"
    build(recipe, out, SYNC)
    return out, recipe


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_items_read_and_items_made_are_the_same(made):
    out, recipe = made
    stored, virtual = PairDataset(out), VirtualPairs(recipe)
    assert len(stored) == len(virtual) == 10
    for k in range(10):
        assert int(stored[k]["pair_id"]) == k
        assert equal(stored[k], virtual[k])


def test_items_have_the_shapes_that_the_docstring_says(made):
    out, _ = made
    for item in PairDataset(out):
        y, x = item["target"].shape
        assert item["masked_kspace"].shape == item["sens_maps"].shape == (4, y, x)
        assert item["mask"].shape in ((1, 1, x), (1, y, x))
        assert item["mask"].dtype == torch.bool
        assert item["masked_kspace"].dtype == item["target"].dtype == torch.complex64
        assert torch.equal(item["masked_kspace"] * item["mask"], item["masked_kspace"])
        assert not item["masked_kspace"].isnan().any()
        for name in ("max_value", "scale", "sigma", "acceleration", "acceleration_net", "pair_id"):
            assert item[name].shape == ()
        torch.testing.assert_close(item["max_value"], item["target"].abs().max())


def test_acceleration_is_nominal_and_its_net_value_is_the_masks(made):
    out, recipe = made
    for item in PairDataset(out):
        wanted = recipe.sampling.acceleration  # of points along both axes
        assert item["acceleration"] == (np.prod(wanted) if isinstance(wanted, tuple) else wanted)
        assert item["acceleration_net"] == pytest.approx(item["mask"].numel() / item["mask"].sum().item())


def test_the_input_is_the_model_of_the_target_and_noise(made):
    out, _ = made
    for item in PairDataset(out):
        model = sense_forward(item["target"], item["sens_maps"], item["mask"])
        sampled = item["mask"].expand_as(model)
        residual = (item["masked_kspace"] - model)[sampled]
        # a noisy reference holds part of the input's noise, so the residual is below sigma, but of its order
        assert 0.5 * item["sigma"] < residual.real.std() < 1.1 * item["sigma"]


def test_oversampled_items_are_consistent(photos, tmp_path):
    recipe = parse_recipe(recipe_data(photos, target={"readout_oversampling": 2}, noise={"kind": "none"}), "t")
    item = VirtualPairs(recipe, oversampled=True)[2]
    assert item["masked_kspace"].shape == item["sens_maps"].shape == (4, 96, 56)
    assert item["target"].shape == (48, 56)
    rows = recipe.target.readout((48, 56)).image_rows
    padded = torch.zeros(96, 56, dtype=torch.complex64)
    padded[rows] = item["target"]
    model = sense_forward(padded, item["sens_maps"], item["mask"])
    torch.testing.assert_close(item["masked_kspace"], model, atol=3e-5, rtol=1e-4)
    plain = VirtualPairs(recipe)[2]
    torch.testing.assert_close(
        plain["masked_kspace"], sense_forward(plain["target"], plain["sens_maps"], plain["mask"]), atol=3e-5, rtol=1e-4
    )


def test_without_maps(corpus):
    assert "sens_maps" not in PairDataset(corpus, with_maps=False)[0]


def test_getitems_keeps_the_order(made):
    stored = PairDataset(made[0])
    items = stored.__getitems__([7, 2, 2, 9])
    assert all(equal(item, stored[k]) for item, k in zip(items, [7, 2, 2, 9], strict=True))


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 3}, {"workers": 2, "context": "fork"}], ids=str)
def test_every_pair_once_per_epoch_and_one_shape_per_batch(made, options):
    stored = PairDataset(made[0])
    loader = make_loader(stored, 3, seed=4, device="cpu", **options)
    reference = {int(item["pair_id"]): item for item in stored}
    for _ in range(2):
        seen = []
        for batch in loader:
            for k, pair_id in enumerate(batch["pair_id"].tolist()):
                assert equal({name: value[k] for name, value in batch.items()}, reference[pair_id])
                seen.append(pair_id)
        assert sorted(seen) == list(range(10))


def ids(loader):
    return [batch["pair_id"].tolist() for batch in loader]


def test_order_depends_on_seed_and_epoch_alone(corpus):
    stored = PairDataset(corpus)
    first = make_loader(stored, 3, seed=4, threads=1)
    epochs = [ids(first), ids(first)]
    assert epochs[0] != epochs[1]
    for options in ({"threads": 4}, {"workers": 1}, {"workers": 2}):
        again = make_loader(stored, 3, seed=4, **options)
        assert [ids(again), ids(again)] == epochs
    assert ids(make_loader(stored, 3, seed=5)) != epochs[0]
    assert ids(make_loader(stored, 3, shuffle=False)) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert [len(b) for b in ids(make_loader(stored, 3, drop_last=True))] == [3, 3, 3]


@pytest.mark.parametrize("options", [{"threads": 2}, {"workers": 2}], ids=str)
def test_resuming_in_mid_epoch(corpus, options):
    stored = PairDataset(corpus)
    whole = make_loader(stored, 2, seed=1, **options)
    expected = ids(whole) + ids(whole)
    loader = make_loader(stored, 2, seed=1, **options)
    iterator = iter(loader)
    given = [next(iterator)["pair_id"].tolist() for _ in range(3)]
    state = pickle.loads(pickle.dumps(loader.state_dict()))
    del iterator
    resumed = make_loader(stored, 2, seed=1, **options)
    resumed.load_state_dict(state)
    assert given + ids(resumed) + ids(resumed) == expected
    for options in ({"seed": 2}, {"batch_size": 3}, {"shuffle": False}, {"rank": 1, "world_size": 2}):
        other = make_loader(stored, **{"batch_size": 2, "seed": 1, **options})
        with pytest.raises(ValueError, match="the state has"):
            other.load_state_dict(state)


@pytest.mark.parametrize("options", [{"threads": 2}, {"workers": 2}], ids=str)
def test_endless_batches_are_those_of_the_epochs_and_resume_at_every_place(corpus, options):
    stored = PairDataset(corpus)
    size = len(make_loader(stored, 4))
    reference = make_loader(stored, 4, seed=1)
    expected = [batch for _ in range(4) for batch in ids(reference)]
    loader = make_loader(stored, 4, seed=1, **options)
    given, states = [], []
    for batch in islice(loader.endless(), 2 * size + 1):
        given.append(batch["pair_id"].tolist())
        states.append(loader.state_dict())
    assert given == expected[: 2 * size + 1]
    assert [(s["epoch"], s["given"]) for s in states] == [(k // size, k % size + 1) for k in range(2 * size + 1)]
    for k in (0, size - 1, 2 * size):
        resumed = make_loader(stored, 4, seed=1, **options)
        resumed.load_state_dict(states[k])
        rest = [batch["pair_id"].tolist() for batch in islice(resumed.endless(), size)]
        assert rest == expected[k + 1 : k + 1 + size]


def test_an_epoch_left_early_is_not_taken_up_again(corpus):
    stored = PairDataset(corpus)
    loader = make_loader(stored, 2, seed=1)
    next(iter(loader))
    reference = make_loader(stored, 2, seed=1)
    ids(reference)
    assert ids(loader) == ids(reference)


def test_ranks_share_an_epoch(corpus):
    stored = PairDataset(corpus)
    parts = [ids(make_loader(stored, 2, seed=1, rank=r, world_size=2)) for r in range(2)]
    assert [len(p) for p in parts] == [2, 2]
    flat = [i for p in parts for b in p for i in b]
    assert len(set(flat)) == 8


@pytest.mark.parametrize(("context", "workers"), [("fork", 2), ("forkserver", 1), ("spawn", 1)])
def test_workers_read_although_the_parent_has_read(corpus, context, workers):
    stored = PairDataset(corpus)
    reference = {int(item["pair_id"]): item for item in stored}  # the parent has read
    plain = DataLoader(stored, batch_size=2, num_workers=workers, multiprocessing_context=context)
    loaders = [plain, make_loader(stored, 2, workers=workers, context=context)]
    for loader in loaders:
        seen = 0
        for batch in loader:
            for k, pair_id in enumerate(batch["pair_id"].tolist()):
                assert torch.equal(batch["masked_kspace"][k], reference[pair_id]["masked_kspace"])
                seen += 1
        assert seen == 10
    assert not multiprocessing.active_children()


def test_an_abandoned_epoch_ends_its_threads(corpus):
    import threading

    iterator = iter(make_loader(PairDataset(corpus), 1, threads=2))
    next(iterator)
    iterator.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("fathom-read")]


def test_a_damaged_shard_stops_training_with_its_name(corpus, tmp_path):
    copy = shutil.copytree(corpus, tmp_path / "c.zarr")
    file = next(p for p in (copy / "c4-y48-x56" / "kspace" / "c").rglob("*") if p.is_file())
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    with pytest.raises(ShardError, match="kspace"):
        list(make_loader(PairDataset(copy), 2))


def test_an_unfinished_corpus_is_refused(corpus, tmp_path):
    copy = shutil.copytree(corpus, building_path(tmp_path / "c.zarr"))
    assert copy.exists()
    with pytest.raises(UnfinishedCorpusError):
        PairDataset(tmp_path / "c.zarr")


def test_virtual_pairs_through_processes(recipe):
    virtual = VirtualPairs(recipe())
    expected = [virtual[k] for k in range(10)]
    for batch in make_loader(virtual, 5, shuffle=False, workers=2):
        for k, pair_id in enumerate(batch["pair_id"].tolist()):
            assert equal({n: v[k] for n, v in batch.items()}, expected[pair_id])


def test_bad_arguments(corpus):
    for options in ({"batch_size": 0}, {"rank": 5, "world_size": 2}, {"rank": -1}):
        with pytest.raises(ValueError, match="must be"):
            make_loader(PairDataset(corpus), **options)
    with pytest.raises(IndexError):
        PairDataset(corpus)[10]


def test_negative_positions_count_from_the_end(corpus, recipe):
    for pairs in (PairDataset(corpus), VirtualPairs(recipe())):
        assert int(pairs[-1]["pair_id"]) == 9


def test_stored_and_virtual_pairs_come_in_the_same_order(made):
    out, recipe = made
    orders = [ids(make_loader(pairs, 3, seed=7)) for pairs in (PairDataset(out), VirtualPairs(recipe))]
    assert orders[0] == orders[1]
    buckets = [[g.matrix for g in pairs.geometries] for pairs in (PairDataset(out), VirtualPairs(recipe))]
    assert buckets[0] == buckets[1]


def test_damaged_numbers_are_refused(corpus, tmp_path):
    for name in ("sigma", "valid", "index"):
        copy = shutil.copytree(corpus, tmp_path / f"{name}.zarr")
        shutil.rmtree(copy / "c4-y48-x56" / name / "c")
        with pytest.raises(CorpusError, match="the same `fathom build`"):
            PairDataset(copy)


def test_the_adjoint_of_a_batch_is_an_image(corpus):
    batch = next(iter(make_loader(PairDataset(corpus), 4)))
    image = sense_adjoint(batch["masked_kspace"], batch["sens_maps"], batch["mask"])
    assert image.shape == batch["target"].shape
    error = (image - batch["target"]).norm() / batch["target"].norm()
    assert 0 < error < 0.6
    assert np.isfinite(float(error))


@pytest.mark.gpu
def test_unpacking_on_the_gpu_equals_the_cpu(made):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    stored = PairDataset(made[0])
    on_cpu = {int(b["pair_id"]): b for b in make_loader(stored, 1, device="cpu")}
    for batch in make_loader(stored, 1, device="cuda"):
        for name, value in batch.items():
            assert value.is_cuda
            torch.testing.assert_close(value.cpu(), on_cpu[int(batch["pair_id"])][name], atol=1e-5, rtol=1e-5)


def test_what_is_no_pair_is_told(corpus):
    pairs = PairDataset(corpus)
    with pytest.raises(IndexError, match=f"there are {len(pairs)} pairs, and no pair {len(pairs)}"):
        pairs[len(pairs)]
    assert torch.equal(pairs[-1]["target"], pairs[len(pairs) - 1]["target"])
    with pytest.raises(TypeError, match=r"give PairDataset\('c\.zarr'\)"):
        make_loader("c.zarr")
    with pytest.raises(TypeError, match=r"takes a Recipe, which load_recipe reads; got 'my\.toml'"):
        VirtualPairs("my.toml")
    with pytest.raises(ValueError, match=r"redraw takes 'mask' and 'noise', got 'masks'"):
        PairDataset(corpus, redraw="masks")


def test_what_is_no_corpus_or_no_device_is_told(corpus):
    with pytest.raises(TypeError, match=r"got a list; give PairDataset\('corpus.zarr'\)"):
        make_loader([corpus], 2)
    with pytest.raises(ValueError, match="device gpu: no such device; write cpu, cuda or cuda:1"):
        make_loader(PairDataset(corpus), 2, device="gpu")
