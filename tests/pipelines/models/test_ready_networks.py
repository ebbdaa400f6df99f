"""The trained networks that come with the package: whole, small, told of, and better than what needs no training."""

import json

import numpy as np
import pytest
import torch

from pipelines.models.named_models import model_named
from pipelines.ready.names import ready_networks
from recon.data.scan_batch import Undersampling, batch_of
from recon.evaluation.metrics import psnr_magnitude_object_max
from recon.models.baselines import CgSense, RegularisedSense
from synth.physics import fft2c
from synth.sources.heads import computed_head, names
from synth.stages.coils import LoopsSpec, draw_coils
from synth.stages.noise import complex_noise
from synth.storage.arrays import sha256_of_file

NETWORKS = ready_networks()
LARGEST = 8 * 2**20  # bytes


def test_there_is_one():
    assert "photos-1" in NETWORKS


@pytest.mark.parametrize("name", NETWORKS)
def test_its_files_are_whole_and_small(name):
    folder = NETWORKS[name]
    record = json.loads((folder / "training.json").read_text())
    assert sha256_of_file(folder / record["weights"]["file"]) == record["weights"]["sha256"]
    assert sum(file.stat().st_size for file in folder.iterdir()) < LARGEST


@pytest.mark.parametrize("name", NETWORKS)
def test_its_card_tells_what_one_must_know(name):
    card = (NETWORKS[name] / "README.md").read_text()
    for word in ("not for diagnosis", "photographs", "licence", "sha256", "95 %", f"fathom reconstruct {name}"):
        assert word in card


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("coils", [4, 8])
def test_it_is_better_than_sense_on_a_head_that_it_never_saw(name, coils, rng):
    """On a computed head at R = 4, by at least 1 dB over the best lam and the best iteration, chosen on that image."""
    image = computed_head(names()[0])[0].reshape(128, 4, 128, 4).mean(axis=(1, 3))
    maps = draw_coils(LoopsSpec(count=coils, distance=(1.0, 1.1), tilt=(-0.05, 0.05)), 0, 0).maps(image.shape)
    kspace = fft2c((image * maps).astype(np.complex64))
    sigma = float(image.max()) / 50
    batch, reference, _ = batch_of(
        (kspace + complex_noise(kspace.shape, sigma, rng)) / sigma, None, Undersampling(4, 24)
    )
    batch["sigma"][:] = 1.0

    def psnr(model):
        with torch.no_grad():
            return float(psnr_magnitude_object_max(model(batch)[0].numpy(), reference))

    others = [RegularisedSense(lam) for lam in (1, 2, 3, 4, 6, 8, 12)] + [CgSense(n) for n in (3, 5, 8, 12)]
    assert psnr(model_named(name, "cpu")[0]) > max(map(psnr, others)) + 1
