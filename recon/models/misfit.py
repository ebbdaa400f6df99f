"""How far the samples of a batch lie from what its coil maps can explain, over the noise."""

from __future__ import annotations

import torch
from torch import Tensor

from synth.physics import centre_block, ifftc

from .sense import Sense, mu_of

CENTRE = 24  # lines at k-space's centre along each undersampled axis, from which maps are made
LAM, ITERATIONS, TOLERANCE = 16.0, 30, 1e-3  # of the SENSE image: regularised by less than the noise


@torch.no_grad()
def misfit(model: Sense, kspace: Tensor, sigma: Tensor) -> Tensor:
    """What SENSE leaves of the samples at k-space's centre, over what it leaves of noise: chi [batch], at least 1.

    With x = (A + mu)^-1 E^H y at a large lam, the residual y - E x of noise alone has the power 2 sigma^2 (n - s) per
    sample of n coils, with s = sum |map|^2 (1 for one map set), since an image explains s of n. A mask of lines couples
    the pixels of a row alone: there r, the ratio of both powers, but at least 1, is that of each row, and
    chi = exp(sum w log(r) / 2), with the rows' shares w of the samples' power. So chi is large where most of the signal
    lies in rows that the maps do not explain. With points, all pixels are one row.

    Two deviations stay, since networks were trained with them. The centre is taken to be sampled fully: with 8
    reference lines of 4 coils at R = 4, noise alone leaves .7 of 2 sigma^2 (n - s), and a small misfit is not seen. At
    a peak SNR above 1,000, lam and the tolerance leave signal: with exact maps of 8 coils at R = 4, chi is 1.1 at 1,000
    and 4.5 at 10,000.

    Parameters
    ----------
    model
        The maps [batch coil y x], or [batch set coil y x], and the mask.
    kspace
        Samples [batch coil y x].
    sigma
        The noise of each part of k-space [batch].
    """
    data = model.adjoint(kspace)
    weight = mu_of(torch.full((len(data), *[1] * (data.ndim - 1)), LAM, dtype=data.real.dtype, device=data.device))
    image = model.solve(data, weight, None, ITERATIONS, TOLERANCE)
    mask = _centre(model.mask)
    left, all_of = (_rows(part * mask, lines=model.lines) for part in (kspace - model.forward(image), kspace))
    explained = model.maps.abs().square().sum(dim=(1, 2) if model.sets else 1)  # [batch y x]
    free = (kspace.shape[1] - explained).mean(dim=-1).clamp_min(0.1)  # coils that are left for the residual [batch y]
    samples = mask.to(free.dtype).sum(dim=(-3, -2, -1)).clamp_min(1)  # without any, the residual is 0
    if not model.lines:
        free = free.mean(dim=-1, keepdim=True)
    ratio = left / (2 * sigma.square() * samples)[:, None] / free
    share = all_of / all_of.sum(dim=-1, keepdim=True).clamp_min(1e-30)
    return (share * ratio.clamp_min(1).log() / 2).sum(dim=-1).exp()


def _centre(mask: Tensor) -> Tensor:
    """A mask [batch 1 y|1 x], at k-space's centre alone."""
    centre = torch.zeros_like(mask)
    rows, columns = (centre_block(size, min(size, CENTRE)) for size in mask.shape[-2:])
    centre[..., rows, columns] = mask[..., rows, columns]
    return centre


def _rows(kspace: Tensor, *, lines: bool) -> Tensor:
    """The power of samples [batch coil y x] in each row of the image [batch y], or in all of it [batch 1]."""
    if not lines:
        return kspace.abs().square().sum(dim=(1, 2, 3))[:, None]
    return ifftc(kspace, (-2,)).abs().square().sum(dim=(1, 3))
