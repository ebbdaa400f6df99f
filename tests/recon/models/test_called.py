"""What any reconstruction may give, and the sentences for what it may not."""

import numpy as np
import pytest
import torch

from recon.data.datasets import PairDataset
from recon.data.loader import make_loader
from recon.errors import ModelError
from recon.evaluation.rows import evaluate
from recon.models.baselines import CgSense, ZeroFilled
from recon.models.called import image_by, remarks_on


@pytest.fixture(scope="module")
def batch(corpus):
    return next(iter(make_loader(PairDataset(corpus), 2, shuffle=False, device="cpu")))


def sheared(batch):
    batch["masked_kspace"] *= 2
    return batch["target"]


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (lambda batch: None, "gives NoneType; give a torch tensor"),
        (lambda batch: batch["target"][:, None], "take away its axes of length 1"),
        (lambda batch: torch.view_as_real(batch["target"]), "torch.view_as_complex"),
        (lambda batch: torch.view_as_real(batch["target"]).movedim(-1, 1), "torch.complex"),
        (lambda batch: batch["masked_kspace"], "combine its coils"),
        (lambda batch: batch["target"][..., 1:], "but the batch's images"),
        (lambda batch: batch["target"].abs() > 0, "torch.bool; give complex images"),
        (lambda batch: batch["target"].to("meta"), "on meta, but the batch is on cpu"),
        (sheared, r"changes batch\['masked_kspace'\] in place"),
    ],
)
def test_what_is_no_image_is_told_in_one_sentence(model, told, batch):
    with pytest.raises(ModelError, match=told) as error:
        image_by(model, {name: tensor.clone() for name, tensor in batch.items()})
    assert "\n" not in str(error.value)


def test_images_of_other_precisions_and_arrays_are_converted(batch):
    target = batch["target"]
    for model, kind in (
        (lambda batch: batch["target"].to(torch.complex128), torch.complex64),
        (lambda batch: batch["target"].abs().double(), torch.float32),
        (lambda batch: batch["target"].abs().half(), torch.float32),
        (lambda batch: batch["target"].numpy().astype(np.complex128), torch.complex64),
    ):
        image = image_by(model, batch)
        assert image.dtype == kind
        torch.testing.assert_close(image.abs(), target.abs(), rtol=1e-3, atol=1e-3 * float(target.abs().max()))


def test_a_model_may_add_to_its_batch(batch):
    def adds(batch):
        batch["mine"] = batch.pop("target")
        return batch["mine"]

    names = set(batch)
    assert image_by(adds, batch) is batch["target"]
    assert set(batch) == names


def test_remarks_on_magnitudes_scale_black_images_and_randomness(batch):
    def noisy(batch):
        return batch["target"] + 1e-3 * torch.randn_like(batch["target"])

    assert remarks_on(CgSense(5), batch) == []
    assert "gives magnitudes" in remarks_on(lambda batch: batch["target"].abs(), batch)[0]
    assert "1e+03 times as large" in remarks_on(lambda batch: 1000 * batch["target"], batch)[0]
    assert "0.001 times as large" in remarks_on(lambda batch: batch["target"] / 1000, batch)[0]
    assert "zero everywhere" in remarks_on(lambda batch: torch.zeros_like(batch["target"]), batch)[0]
    assert "not deterministic" in remarks_on(noisy, batch)[0]


def test_rows_of_magnitudes_equal_those_of_the_complex_image_and_lack_what_needs_phases(corpus):
    pairs = PairDataset(corpus)
    whole = evaluate(ZeroFilled(), pairs, device="cpu")
    magnitudes = evaluate(lambda batch: ZeroFilled()(batch).abs(), pairs, device="cpu")
    for row, part in zip(whole, magnitudes, strict=True):
        lacking = {"nrmse_complex", "data_consistency", "aliasing_energy", "aliasing_nmse"} & set(row)
        assert set(row) - set(part) == lacking >= {"nrmse_complex", "data_consistency"}
        for name, value in part.items():
            same = row[name] if isinstance(value, str) else pytest.approx(row[name], rel=1e-5)  # text: the source
            assert value == same, name
