"""Wrong maps for a model in a test: of the size that was asked for, normalised, smooth, and the same in every batch."""

import pytest
import torch

from recon.data.datasets import PairDataset
from recon.data.loader import make_loader
from recon.evaluation.disturbed import UNDISTURBED, Disturbance, _smooth_error
from recon.evaluation.rows import reconstructions
from recon.models.baselines import CgSense


@pytest.fixture(scope="module")
def batch(corpus):
    return next(iter(make_loader(PairDataset(corpus), 4, shuffle=False, device="cpu")))


def test_errors_of_maps_have_the_size_asked_for_and_keep_the_norm(batch):
    maps = batch["sens_maps"]
    errors = torch.stack([_smooth_error(pair, torch.Size((8, 48, 56))) for pair in range(40)])
    assert errors.abs().square().mean().sqrt().item() == pytest.approx(1, rel=0.05)
    assert (errors.diff(dim=-1).abs().square().mean() / errors.abs().square().mean()).sqrt().item() < 0.25  # smooth
    wrong = Disturbance(maps_error=0.1).of(batch)["sens_maps"]
    torch.testing.assert_close(wrong.abs().square().sum(1), maps.abs().square().sum(1), rtol=1e-5, atol=1e-6)
    relative = ((wrong - maps).abs().square().sum() / maps.abs().square().sum()).sqrt().item()
    assert 0.05 < relative < 0.15  # the common part of all coils' errors is taken away by the norm


def test_a_shift_moves_the_maps_alone_and_nothing_else_is_changed(batch):
    moved = Disturbance(maps_shift=3).of(batch)
    assert torch.equal(moved["sens_maps"][..., 3:], batch["sens_maps"][..., :-3])
    assert all(moved[name] is batch[name] for name in batch if name != "sens_maps")
    assert UNDISTURBED.of(batch)["sens_maps"] is batch["sens_maps"]


def test_a_pair_has_the_same_error_in_every_batch_and_rows_see_the_true_maps(corpus):
    pairs = PairDataset(corpus)
    wrong = Disturbance(maps_error=0.2)
    found = {size: list(reconstructions(CgSense(5), pairs, size, "cpu", wrong)) for size in (1, 5)}
    images = {
        size: {int(pair): image for batch, made in parts for pair, image in zip(batch["pair_id"], made, strict=True)}
        for size, parts in found.items()
    }
    for pair, image in images[1].items():
        torch.testing.assert_close(torch.from_numpy(image), torch.from_numpy(images[5][pair]), rtol=1e-3, atol=1e-4)
    batch, _ = found[1][0]
    torch.testing.assert_close(
        batch["sens_maps"], next(iter(make_loader(pairs, 1, shuffle=False, device="cpu")))["sens_maps"]
    )
