"""Losses by name."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from synth.physics import sense_adjoint

Loss = Literal["nrmse", "decibel", "complex", "magnitude", "knoll"]


def loss_of(image: Tensor, batch: dict[str, Tensor], kind: Loss) -> Tensor:
    """Loss [batch] of images [batch y x], or [batch set y x] with several map sets, against the batch's ``target``.

    ``magnitude``: sum over pixels of (|x| - |r|)^2 with |x| = sqrt(|x|^2 + 1e-12), in units of max |r|; ``knoll``: the
    same in units of max |A^H f|, the largest magnitude of the zero-filled image, by which the code of the authors of
    Knoll 2019 (mri-variationalnetwork) divides all data: ``magnitude`` times (max |r| / max |A^H f|)^2 but for the
    1e-12; ``complex``: that of complex images in units of max |r|; ``nrmse``: ||x - r|| / ||r||; ``decibel``: 20 log10
    of nrmse, which gives every SNR the same weight, as a mean PSNR does. Real images are magnitudes, and are compared
    with the magnitudes of the targets. Sums are over the sets, too; |x|^2 in ``magnitude`` and ``knoll`` is summed over
    the sets.
    """
    reference = batch["target"] if image.is_complex() else batch["target"].abs()
    axes = tuple(range(1, image.ndim))
    if kind in ("nrmse", "decibel"):
        error = (image - reference).abs().square().sum(dim=axes)
        ratio = (error + 1e-20) / reference.abs().square().sum(dim=axes)
        return ratio.sqrt() if kind == "nrmse" else 10 * ratio.log10()
    peak = batch["max_value"].to(reference.abs().dtype).view(-1, *[1] * len(axes))
    if kind == "complex":
        return ((image - reference) / peak).abs().square().sum(dim=axes)
    if kind == "knoll":
        maps = batch["sens_maps"]
        zero_filled = sense_adjoint(batch["masked_kspace"], maps, batch["mask"], sets=maps.ndim == 5)
        peak = zero_filled.abs().amax(dim=axes, keepdim=True).clamp_min(1e-30)
    squares = ((part / peak).abs().square() for part in (image, reference))
    x, r = (torch.sqrt((s.sum(1) if s.ndim == 4 else s) + 1e-12) for s in squares)
    return (x - r).square().sum(dim=(-2, -1))
