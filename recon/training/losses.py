"""Losses by name."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from synth.physics import sense_adjoint

Loss = Literal["nrmse", "decibel", "complex", "magnitude", "knoll"]


def loss_of(image: Tensor, batch: dict[str, Tensor], kind: Loss) -> Tensor:
    """Loss [batch] of images [batch y x] against the batch's ``target``.

    ``magnitude``: sum over pixels of (|x| - |r|)^2 with |x| = sqrt(|x|^2 + 1e-12), in units of max |r|; ``knoll``: the
    same in units of max |A^H f|, the largest magnitude of the zero-filled image, by which the code of the authors of
    Knoll 2019 (mri-variationalnetwork) divides all data: ``magnitude`` times (max |r| / max |A^H f|)^2 but for the
    1e-12; ``complex``: that of complex images in units of max |r|; ``nrmse``: ||x - r|| / ||r||; ``decibel``: 20 log10
    of nrmse, which gives every SNR the same weight, as a mean PSNR does. Real images are magnitudes, and are compared
    with the magnitudes of the targets.
    """
    reference = batch["target"] if image.is_complex() else batch["target"].abs()
    if kind in ("nrmse", "decibel"):
        error = (image - reference).abs().square().sum(dim=(-2, -1))
        ratio = (error + 1e-20) / reference.abs().square().sum(dim=(-2, -1))
        return ratio.sqrt() if kind == "nrmse" else 10 * ratio.log10()
    peak = batch["max_value"].to(reference.abs().dtype)[:, None, None]
    if kind == "complex":
        return ((image - reference) / peak).abs().square().sum(dim=(-2, -1))
    if kind == "knoll":
        zero_filled = sense_adjoint(batch["masked_kspace"], batch["sens_maps"], batch["mask"])
        peak = zero_filled.abs().amax(dim=(-2, -1), keepdim=True).clamp_min(1e-30)
    x, r = (torch.sqrt((part / peak).abs().square() + 1e-12) for part in (image, reference))
    return (x - r).square().sum(dim=(-2, -1))
