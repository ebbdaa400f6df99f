import numpy as np
import pytest
import torch
from trainings import settings

from recon.models.catalogue import make_model
from recon.models.unrolled_sense import UnrolledSpec
from recon.training.loop import train
from recon.training.losses import loss_of
from recon.training.optimisers import optimiser_of
from synth.errors import SettingsError, UnfinishedCorpusError
from synth.physics import sense_forward

WITHOUT_A_WINDOW = "c21767d494c9f31c29b1e098fab01f07654d7df344d3a808f3fa81fdf8e6dbfe"  # of the version before


def test_the_losses_are_their_formulas(rng):
    image, reference = (rng.normal(size=(2, 5, 6)) + 1j * rng.normal(size=(2, 5, 6)) for _ in range(2))
    batch = {"target": torch.from_numpy(reference), "max_value": torch.tensor([2.0, 4.0])}
    peak = np.array([2.0, 4.0])
    expected = {
        "nrmse": np.linalg.norm(image - reference, axis=(1, 2)) / np.linalg.norm(reference, axis=(1, 2)),
        "decibel": 20
        * np.log10(np.linalg.norm(image - reference, axis=(1, 2)) / np.linalg.norm(reference, axis=(1, 2))),
        "complex": np.sum(np.abs(image - reference) ** 2, axis=(1, 2)) / peak**2,
        "magnitude": np.sum((np.abs(image) - np.abs(reference)) ** 2, axis=(1, 2)) / peak**2,
    }
    expected["decibel"] = 20 * np.log10(expected["nrmse"])
    for kind, value in expected.items():
        np.testing.assert_allclose(loss_of(torch.from_numpy(image), batch, kind).numpy(), value, rtol=1e-6)


def test_knolls_loss_is_in_units_of_the_zero_filled_image():
    # by hand: one coil of 1, a constant image of 2, every second line: A^H f is 1 everywhere. An image of 5 differs by
    # 3 at each of 16 pixels
    ones = torch.ones(1, 4, 4, dtype=torch.complex128)
    mask = (torch.arange(4) % 2 == 0)[None, None, None]
    batch = {"target": 2 * ones, "max_value": torch.tensor([2.0]), "sens_maps": ones[None], "mask": mask}
    batch["masked_kspace"] = sense_forward(2 * ones, ones[None], mask)
    assert batch["masked_kspace"].abs().sum() == pytest.approx(8)  # 2 sqrt(16) at the centre
    spread = np.abs(np.fft.ifft(np.fft.ifftshift([1, 0, 1, 0]) * np.fft.fft(np.full(4, 2.0))))
    assert loss_of(5 * ones, batch, "knoll").item() == pytest.approx(9 * 16 / spread.max() ** 2)
    assert loss_of(5 * ones, batch, "magnitude").item() == pytest.approx(9 * 16 / 2**2)
    half = {**batch, "masked_kspace": batch["masked_kspace"] / 2}
    assert loss_of(5 * ones, half, "knoll").item() == pytest.approx(4 * loss_of(5 * ones, batch, "knoll").item())


def test_what_earlier_settings_meant_otherwise_is_another_training(corpus, monkeypatch):
    how = settings(corpus, "shrinking")
    now = how.identity(["c"], [])
    monkeypatch.setattr(UnrolledSpec, "revision", "")
    assert how.identity(["c"], []) != now


def test_a_window_is_part_of_the_identity_but_for_its_default(corpus):
    without, with_one = settings(corpus), settings(corpus, data={"window": 6})
    assert without.identity(["c"], ["v"]) == WITHOUT_A_WINDOW
    assert "window" not in without.model_dump(mode="json")["data"]
    assert with_one.identity(["c"], ["v"]) != WITHOUT_A_WINDOW
    assert with_one.identity(["c"], ["v"]) != settings(corpus, data={"window": 7}).identity(["c"], ["v"])


def test_lam_thresholds_and_multipliers_learn_at_their_own_rate(corpus):
    how = settings(corpus, "shrinking", optimiser={"rate": 1e-3, "rate_lam": 0.2})
    model = make_model(how.model)
    rates = {id(p): group["lr"] for group in optimiser_of(model, how).param_groups for p in group["params"]}
    fast = {name.rpartition(".")[2] for name, p in model.named_parameters() if rates[id(p)] == 0.2}
    assert fast == {"log_lam", "powers", "memory", "log_thresholds"}
    assert len(rates) == len(list(model.parameters()))


def test_unfinished_corpora_and_wrong_settings(corpus, tmp_path):
    (tmp_path / "x.zarr.building").mkdir()
    with pytest.raises(UnfinishedCorpusError):
        train(settings(tmp_path / "x.zarr"), tmp_path / "out", device="cpu")
    for sections, message in (
        ({"training": {"epochs": 2}}, "either steps or epochs"),
        ({"model": {"kernel": 6}}, "must be odd"),
        ({"model": {"kind": "transformer"}}, "must be one of"),
        ({"training": {"batchsize": 2}}, "did you mean 'batch_size'"),
        ({"data": {"corpora": []}}, "at least 1"),
    ):
        with pytest.raises(SettingsError, match=message):
            settings(corpus, **sections)
    with pytest.raises(SettingsError, match=r"is for model\.kind 'variational'"):
        settings(corpus, "denoiser", optimiser={"kind": "ipalm"})
