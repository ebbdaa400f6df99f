"""Noisier2Full: the corrected reference's noise does not correlate with the noise of the network's input."""

import numpy as np
import pytest
import torch
from conftest import recipe_data
from safetensors.torch import load_file
from trainings import Stopped, settings, stop_at

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from recon.data.datasets import VirtualPairs
from recon.errors import TrainingError
from recon.training.loop import train
from recon.training.noisier import noisier
from synth.errors import SettingsError
from synth.physics import sense_adjoint
from synth.recipe import parse_recipe

HOW = {"batch_size": 2, "steps": 6, "loss": "decibel", "noisier": 1.0}


@pytest.fixture(scope="module")
def three(photos):
    """The same pairs with noisy references, with clean ones, and with clean references and samples."""

    def batch_of(reference, **noise):
        data = recipe_data(photos, noise={"snr": 5, **noise}, target={"reference": reference})
        pairs = VirtualPairs(parse_recipe(data, "test"))
        items = pairs.__getitems__(list(range(len(pairs))))
        return {key: torch.stack([item[key] for item in items]) for key in items[0]}

    return batch_of("noisy"), batch_of("clean"), batch_of("clean", kind="none")


def covariance(batch, clean, noiseless):
    """Of the noise of reference and zero-filled image per pair, in units of sigma^2 times the share of samples."""
    gain = (noiseless["scale"] / clean["scale"])[:, None, None, None]  # values are in units of each pair's maximum
    noise = batch["masked_kspace"] - noiseless["masked_kspace"] * gain
    image = sense_adjoint(noise, batch["sens_maps"], batch["mask"])
    products = ((batch["target"] - clean["target"]).conj() * image).real.mean((1, 2)) / 2
    return (products / clean["sigma"].square() * clean["acceleration_net"]).numpy()


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_the_corrected_references_noise_does_not_correlate_with_that_of_the_input(three, alpha):
    noisy, clean, noiseless = three
    torch.testing.assert_close(noisy["masked_kspace"], clean["masked_kspace"])
    assert covariance(noisy, clean, noiseless).mean() == pytest.approx(1, abs=0.03)
    found = np.mean([covariance(noisier(noisy, alpha, 1, k), clean, noiseless) for k in range(6)], 0)
    assert abs(found.mean()) < 0.03


def test_noise_is_added_to_the_samples_alone_and_sigma_tells_it(three):
    noisy = three[0]
    more = noisier(noisy, 2.0, 1, 7)
    added = more["masked_kspace"] - noisy["masked_kspace"]
    sampled = noisy["mask"].expand_as(added)
    assert added[~sampled].abs().max() == 0
    parts = torch.view_as_real(added[sampled] / (2 * noisy["sigma"][:, None, None, None].expand_as(added)[sampled]))
    assert parts.std().item() == pytest.approx(1, abs=0.01)
    torch.testing.assert_close(more["sigma"], noisy["sigma"] * 5**0.5)
    assert torch.equal(noisier(noisy, 2.0, 1, 7)["target"], more["target"])
    assert not torch.equal(noisier(noisy, 2.0, 1, 8)["target"], more["target"])
    some = {key: value[[3, 1]] for key, value in noisy.items()}  # of a pair, whatever the batch
    torch.testing.assert_close(noisier(some, 2.0, 1, 7)["target"], more["target"][[3, 1]])


def test_it_is_the_papers_loss_on_one_coil(rng):
    """By the paper's formulas: f estimates y, (1 + alpha^2) / alpha^2 weighs its error, and g is the estimate of y0."""
    alpha, size = 0.7, (1, 1, 6, 8)
    y, g = (torch.from_numpy(rng.normal(size=size) + 1j * rng.normal(size=size)).to(torch.complex64) for _ in range(2))
    ones, mask = torch.ones(1, 1, 6, 8, dtype=torch.complex64), torch.ones(1, 1, 1, 8, dtype=torch.bool)
    batch = {"masked_kspace": y, "sens_maps": ones, "mask": mask, "target": sense_adjoint(y, ones, mask)}
    batch |= {"sigma": torch.tensor([0.3]), "pair_id": torch.tensor([4])}
    more = noisier(batch, alpha, 1, 2)
    f = (alpha**2 * g + more["masked_kspace"]) / (1 + alpha**2)
    theirs = ((1 + alpha**2) / alpha**2 * (f - y)).abs().square().sum()
    ours = (sense_adjoint(g, ones, mask) - more["target"]).abs().square().sum()
    torch.testing.assert_close(ours, theirs)


def test_a_corrected_training_goes_on_to_the_same_bits(corpus, tmp_path):
    how = settings(corpus, training=HOW)
    train(how, tmp_path / "whole", device="cpu")
    with pytest.raises(Stopped):
        train(how, tmp_path / "stopped", device="cpu", tell=stop_at(3))
    train(how, tmp_path / "stopped", device="cpu")
    train(settings(corpus, training={**HOW, "noisier": 0.0}), tmp_path / "other", device="cpu")
    whole, stopped, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped", "other"))
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    assert not all(torch.equal(whole[name], other[name]) for name in whole)


def test_it_is_another_training_and_off_it_is_none(corpus):
    plain, off, on = (
        settings(corpus, training=more) for more in ({}, {"noisier": 0.0}, {"noisier": 1.0, "loss": "nrmse"})
    )
    assert plain.identity(["c"], []) == off.identity(["c"], []) != on.identity(["c"], [])
    assert "noisier" not in plain.model_dump_json()


@pytest.mark.parametrize("loss", ["magnitude", "knoll"])
def test_losses_of_magnitudes_are_refused(corpus, loss):
    with pytest.raises(SettingsError, match="is of magnitudes; write 'decibel'"):
        settings(corpus, training={**HOW, "loss": loss})


def test_noise_that_is_drawn_anew_needs_no_correction(corpus):
    with pytest.raises(SettingsError, match="take one of the two out"):
        settings(corpus, training=HOW, data={"redraw": ["noise"]})


class Magnitude(torch.nn.Module):
    """A network of a user's own that gives magnitudes."""

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))

    def forward(self, batch):
        return self.gain * batch["target"].abs()


def test_networks_that_give_magnitudes_are_refused(corpus, tmp_path):
    with pytest.raises(TrainingError, match="the network gives magnitudes"):
        train(settings(corpus, training=HOW), tmp_path / "t", Magnitude(), device="cpu")


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        ({"target": {"reference": "clean"}}, "small has clean references"),
        ({"noise": {"kind": "none"}}, "sigma is 0 or not known"),
    ],
)
def test_corpora_without_noise_in_the_reference_are_refused(recipe, tmp_path, sections, why):
    build(recipe(**sections), tmp_path / "c.zarr", ClusterSpec("sync"))
    with pytest.raises(TrainingError, match=why):
        train(settings(tmp_path / "c.zarr", training=HOW), tmp_path / "t", device="cpu")
