"""Other projects' networks as models: conventions by networks that do nothing, then the projects' own."""

import sys

import pytest
import torch
from conftest import ROOT, recipe_data
from torch import nn
from trainings import settings

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from recon import as_fastmri, evaluate, from_deepinv, from_fastmri, from_monai, train
from recon.data.adapters import centre_block_of
from recon.data.datasets import PairDataset
from recon.data.loader import make_loader
from recon.errors import ModelError
from recon.models.baselines import ZeroFilled
from recon.models.called import image_by
from recon.models.peers import _centre_widths
from recon.models.variational import VariationalNetwork, VariationalSpec
from synth.physics import ifft2c, sense_adjoint
from synth.recipe import parse_recipe


class Unet(nn.Module):
    """fastMRI's class by its name, with nothing learnt."""

    def forward(self, image):
        return image


@pytest.fixture(scope="module")
def batch(corpus):
    return next(iter(make_loader(PairDataset(corpus), 3, shuffle=False, device="cpu")))


@pytest.fixture(scope="module")
def points(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("points") / "points.zarr"
    how = recipe_data(photos, sampling={"kind": "poisson", "acceleration": 4.0, "reference_lines": 8}, pairs=2)
    build(parse_recipe(how, "points"), out, ClusterSpec("sync"))
    return PairDataset(out)


@pytest.fixture(scope="module")
def benchmarks():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def peers(benchmarks):
    import torchvision_standin

    torchvision_standin.install()


def zero_filled(batch):
    return ifft2c(batch["masked_kspace"]).abs().square().sum(1).sqrt()


def test_a_unet_that_does_nothing_gives_the_root_sum_of_squares(batch):
    expected, found = zero_filled(batch), image_by(from_fastmri(Unet()), batch)
    deviation = expected.std((-2, -1), keepdim=True)
    below = expected <= expected.mean((-2, -1), keepdim=True) + 6 * deviation  # where nothing is clipped
    torch.testing.assert_close(found[below], expected[below], rtol=1e-4, atol=1e-5)
    scaled = {**batch, "masked_kspace": 1000 * batch["masked_kspace"]}
    torch.testing.assert_close(image_by(from_fastmri(Unet()), scaled), 1000 * found, rtol=1e-4, atol=1e-2)


def test_the_width_of_the_centre_is_that_of_the_adapter(batch):
    generator = torch.Generator().manual_seed(3)
    masks = torch.rand(40, 1, 1, 17, generator=generator) < 0.8
    for size in (17, 16):
        expected = [int(centre_block_of(mask[..., :size]).any(-2).sum()) for mask in masks]
        assert _centre_widths(masks[..., :size]).tolist() == expected
        assert len(set(expected)) > 4


def test_other_networks_and_oversampled_pairs_are_refused(batch):
    for wrap in (from_fastmri, from_monai):
        with pytest.raises(ModelError, match="Linear is not"):
            wrap(nn.Linear(2, 2))
    with pytest.raises(ModelError, match="oversampled=False"):
        from_fastmri(Unet())({**batch, "target": batch["target"][:, 1:]})


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_fastmri_varnet_is_given_what_its_own_code_gives_it(corpus, batch, points, peers):
    varnet = pytest.importorskip("fastmri.models.varnet")
    empty = varnet.VarNet(num_cascades=0, sens_chans=2, sens_pools=2)
    torch.testing.assert_close(image_by(from_fastmri(empty), batch), zero_filled(batch))
    network = varnet.VarNet(num_cascades=1, sens_chans=2, sens_pools=2, chans=2, pools=2)
    samples = [as_fastmri(PairDataset(corpus))[k] for k in range(3)]
    with torch.no_grad():
        found = image_by(from_fastmri(network), batch)
        for k, sample in enumerate(samples):
            theirs = network(sample.masked_kspace[None], sample.mask[None], sample.num_low_frequencies)[0]
            torch.testing.assert_close(found[k], theirs, rtol=1e-4, atol=1e-5)
    with pytest.raises(ModelError, match="takes masks of lines"):
        evaluate(from_fastmri(network), points, device="cpu")


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_monai_varnet_without_cascades_is_zero_filling_and_one_is_trained(corpus, batch, peers, tmp_path):
    nets = pytest.importorskip("monai.apps.reconstruction.networks.nets.varnet")
    from monai.apps.reconstruction.networks.nets.coil_sensitivity_model import CoilSensitivityModel
    from monai.apps.reconstruction.networks.nets.complex_unet import ComplexUnet

    features = (4, 4, 8, 8, 8, 4)
    parts = CoilSensitivityModel(2, features=features), ComplexUnet(2, features=features)
    empty = nets.VariationalNetworkModel(*parts, num_cascades=0)
    torch.testing.assert_close(image_by(from_monai(empty), batch), zero_filled(batch))
    trains(from_monai(nets.VariationalNetworkModel(*parts, num_cascades=1)), corpus, tmp_path)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_deepinv_physics_has_our_adjoint_and_modl_is_trained(corpus, batch, points, peers, tmp_path):
    deepinv = pytest.importorskip("deepinv")
    adjoint = from_deepinv(Adjoint())
    torch.testing.assert_close(adjoint(batch), sense_adjoint(batch["masked_kspace"], batch["sens_maps"], batch["mask"]))
    assert not adjoint.state_dict()  # what it keeps of a batch is no part of its weights
    assert evaluate(adjoint, points, device="cpu")[0]["nrmse_complex"] == pytest.approx(
        evaluate(lambda b: ZeroFilled()(b), points, device="cpu")[0]["nrmse_complex"], rel=1e-4
    )
    trains(from_deepinv(deepinv.models.MoDL(num_iter=1)), corpus, tmp_path)


class Adjoint(nn.Module):
    def forward(self, kspace, physics):
        return physics.A_adjoint(kspace)


def trains(model, corpus, folder):
    before = [p.clone() for p in model.parameters()]
    train(settings(corpus, training={"steps": 2}), folder / "t", model, device="cpu")
    assert any(not torch.equal(p, q) for p, q in zip(before, model.parameters(), strict=True))
    assert len(evaluate(model, PairDataset(corpus), device="cpu")) == 10


def test_a_training_of_the_benchmark_goes_on_where_it_stopped_and_its_rate_falls_at_the_end(
    corpus, tmp_path, benchmarks, monkeypatch
):
    import peers_trained

    assert [peers_trained.fall(spent) for spent in (0, 0.75, 0.875, 1)] == pytest.approx([1, 1, 0.5, 0])
    settings = peers_trained.made("Fathom variational")[1]
    small = VariationalSpec(stages=1, filters=2, kernel=3)
    monkeypatch.setattr(peers_trained, "made", lambda name: (VariationalNetwork(small), settings))
    trainings = []
    for steps in (3, 1, 3):  # the third goes on with the second, whose rate does not fall in its one step
        folder = tmp_path / ("whole" if not trainings else "stopped")
        folder.mkdir(exist_ok=True)
        trainings.append(peers_trained.Trained("any", PairDataset(corpus), folder, steps))
        facts = trainings[-1].run()
    assert facts["steps"] == 3
    assert facts["pairs seen"] == 6
    whole, first, stopped = (training.network.state_dict() for training in trainings)
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    assert not torch.equal(first["stages.0.kernels"], stopped["stages.0.kernels"])
