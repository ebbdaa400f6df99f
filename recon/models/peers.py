"""Networks of other projects as models: each is wrapped in a module that is called as ``model(batch) -> image``.

All projects use the centred, orthonormal FFT, so that only names, axes, scales and what is estimated differ:

========== ======================================================= ============ ===========================
project    what the network is given                               coil maps    image
========== ======================================================= ============ ===========================
fastMRI    VarNet: k-space, mask of lines; U-net: one image         its own      magnitude
MONAI      k-space, mask of lines, one pair at a time               its own      magnitude
deepinv    k-space and physics, divided by max |A^H y|              the batch's  complex
========== ======================================================= ============ ===========================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from synth.physics import ifft2c, sense_adjoint

from ..data.packed_batch import Batch, image_shape
from ..errors import ModelError

CLIPPED = 6.0  # standard deviations; as in fastmri.data.transforms.UnetDataTransform


class _Peer(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


class _FastmriVarNet(_Peer):
    def forward(self, batch: Batch) -> Tensor:
        kspace, mask = torch.view_as_real(_kspace_of(batch)), _lines_of(batch, "fastMRI's VarNet")
        widths = _centre_widths(batch["mask"]).tolist()
        if len(set(widths)) == 1:  # it takes one width for all
            image: Tensor = self.network(kspace, mask, widths[0])
            return image
        return torch.cat([self.network(kspace[k : k + 1], mask[k : k + 1], width) for k, width in enumerate(widths)])


class _FastmriUnet(_Peer):
    """As `UnetDataTransform` prepares its input: root sum of squares, mean 0, standard deviation 1, clipped at 6."""

    def forward(self, batch: Batch) -> Tensor:
        image = ifft2c(_kspace_of(batch)).abs().square().sum(1).sqrt()
        mean, deviation = image.mean((-2, -1), keepdim=True), image.std((-2, -1), keepdim=True) + 1e-11
        made: Tensor = self.network(((image - mean) / deviation).clamp(-CLIPPED, CLIPPED)[:, None])[:, 0]
        return made * deviation + mean


class _MonaiVarNet(_Peer):
    def forward(self, batch: Batch) -> Tensor:
        kspace, mask = torch.view_as_real(_kspace_of(batch)), _lines_of(batch, "MONAI's VarNet")
        made = [self.network(kspace[k : k + 1], mask[k : k + 1]) for k in range(len(kspace))]  # it takes one mask
        return torch.cat(made)


class _Deepinv(_Peer):
    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self._physics: list[Any] = []  # in a list, so that a batch's mask and maps are no part of the weights

    def forward(self, batch: Batch) -> Tensor:
        if "sens_maps" not in batch:
            raise ModelError("deepinv's networks need coil maps; make the pairs with with_maps=True")
        kspace, maps = _kspace_of(batch), batch["sens_maps"]
        scale = sense_adjoint(kspace, maps, batch["mask"]).abs().amax((-2, -1))[:, None, None, None].clamp_min(1e-30)
        size = kspace.shape[-2:]
        physics = self._physics_for(2, *size).to(kspace.device)
        mask = batch["mask"].expand(len(kspace), 1, *size).float().contiguous()
        physics.update(mask=mask, coil_maps=maps)
        parts = self.network(torch.view_as_real(kspace / scale).movedim(-1, 1).contiguous(), physics) * scale
        return torch.complex(parts[:, 0], parts[:, 1])

    def _physics_for(self, *size: int) -> Any:
        from deepinv.physics import MultiCoilMRI

        if not self._physics or tuple(self._physics[0].img_size) != size:
            self._physics = [MultiCoilMRI(img_size=size)]
        return self._physics[0]


def from_fastmri(network: nn.Module) -> nn.Module:
    """Wrap a ``fastmri.models.VarNet`` or ``fastmri.models.Unet``; the images are magnitudes.

    Parameters
    ----------
    network
        The network, with or without trained weights. A VarNet takes masks of lines alone; a U-net sees the magnitude
        of the zero-filled image (root sum of squares), normalised as `UnetDataTransform` does.

    Returns
    -------
    A module that is called as ``model(batch) -> image`` [batch y x], for `train` and `evaluate`.

    Raises
    ------
    ModelError
        It is neither.
    """
    return _wrapped(network, {"VarNet": _FastmriVarNet, "Unet": _FastmriUnet}, "fastmri.models.VarNet or Unet")


def from_monai(network: nn.Module) -> nn.Module:
    """Wrap MONAI's ``VariationalNetworkModel``; the images are magnitudes.

    Parameters
    ----------
    network
        The network, with or without trained weights. It takes masks of lines alone.

    Returns
    -------
    A module that is called as ``model(batch) -> image`` [batch y x], for `train` and `evaluate`.

    Raises
    ------
    ModelError
        It is another network.
    """
    return _wrapped(network, {"VariationalNetworkModel": _MonaiVarNet}, "MONAI's VariationalNetworkModel")


def from_deepinv(network: nn.Module) -> nn.Module:
    """Wrap any network of deepinv's that is called as ``network(y, physics)``, such as MoDL; images are complex.

    Parameters
    ----------
    network
        The network, with or without trained weights. It is given the batch's maps as ``MultiCoilMRI``, and k-space in
        units of the largest magnitude of the zero-filled image, since most of its networks are not free of scale.

    Returns
    -------
    A module that is called as ``model(batch) -> image`` [batch y x], for `train` and `evaluate`. It imports deepinv.
    """
    return _Deepinv(network)


def _wrapped(network: nn.Module, kinds: dict[str, Callable[[nn.Module], nn.Module]], wanted: str) -> nn.Module:
    kind = next((kinds[base.__name__] for base in type(network).__mro__ if base.__name__ in kinds), None)
    if kind is None:
        raise ModelError(f"{type(network).__name__} is not {wanted}; write a module with forward(batch) for it")
    return kind(network)


def _lines_of(batch: Batch, whose: str) -> Tensor:
    """The mask [batch 1 1 x 1] of a batch of lines; raises ModelError for masks of points."""
    mask = batch["mask"]
    if mask.shape[-2] != 1:
        raise ModelError(
            f"{whose} takes masks of lines, and this corpus has masks of points; test it on another corpus"
        )
    return mask[..., None]


def _centre_widths(mask: Tensor) -> Tensor:
    """Columns [batch] of the largest fully sampled centre of masks [batch 1 1 x], from (x - width + 1) // 2 on.

    As `recon.data.adapters.centre_block_of` places it; what fastMRI computes itself is less by 1 to 3 for an odd width.
    """
    sampled, size = mask[:, 0, 0].long(), mask.shape[-1]
    before = torch.nn.functional.pad(sampled.cumsum(-1), (1, 0))  # sampled columns left of each column
    widths = torch.arange(1, size + 1, device=mask.device)
    first = (size - widths + 1) // 2
    whole = before[:, first + widths] - before[:, first] == widths
    return (whole * widths).amax(-1)


def _kspace_of(batch: Batch) -> Tensor:
    """K-space [batch coil y x]; raises ModelError for several map sets, and if it keeps the readout's oversampling."""
    kspace = batch["masked_kspace"]
    if len(image_shape(batch)) == 4:
        raise ModelError("other projects' networks take pairs with one map set; set coils.espirit_sets = 1")
    if kspace.shape[-2:] != image_shape(batch)[-2:]:
        raise ModelError(
            "other projects' networks take pairs without the readout's oversampling; set oversampled=False"
        )
    return kspace
