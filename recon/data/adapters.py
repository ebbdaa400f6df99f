"""Adapters, which give the items of pairs in the form that the training code of other projects takes.

Each adapter is a map-style dataset for a plain ``torch.utils.data.DataLoader``. All projects use the centred,
orthonormal FFT, so the items differ only in names, in axes, and in real pairs in place of complex numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from synth.given import refuse_other_type

from .pairs import Pairs


class FastmriSample(NamedTuple):
    """The fields of ``fastmri.data.transforms.VarNetSample``, which ``VarNetModule`` and ``VarNet`` take."""

    masked_kspace: Tensor  # [coil y x 2]
    mask: Tensor  # [1 1 x 1] bool, or [1 y x 1]
    num_low_frequencies: int
    target: Tensor  # [y x], magnitude
    fname: str
    slice_num: int
    max_value: float
    crop_size: tuple[int, int]


class _Adapted(Dataset[Any]):
    def __init__(self, pairs: Pairs, *, needs_maps: bool = True) -> None:
        refuse_other_type(pairs, Pairs, "adapters take pairs, such as PairDataset('corpus.zarr')")
        if pairs.oversampled:
            raise ValueError("adapters take pairs without the readout's oversampling; make them with oversampled=False")
        if needs_maps and not pairs.with_maps:
            raise ValueError("this adapter needs coil maps; make the pairs with with_maps=True")
        pairs.refuse_map_sets("this adapter")
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)


class _Fastmri(_Adapted):
    def __getitem__(self, position: int) -> FastmriSample:
        item = self.pairs[position]
        rows, columns = item["target"].shape
        return FastmriSample(
            masked_kspace=torch.view_as_real(item["masked_kspace"]),
            mask=item["mask"][..., None],
            num_low_frequencies=int(centre_block_of(item["mask"]).any(-2).sum()),
            target=item["target"].abs(),
            fname=f"{self.pairs.recipe.name}-{int(item['pair_id']):06d}",
            slice_num=0,
            max_value=float(item["max_value"]),
            crop_size=(rows, columns),
        )


class _Deepinv(_Adapted):
    def __getitem__(self, position: int) -> dict[str, Any]:
        item = self.pairs[position]
        real = {name: torch.view_as_real(item[name]).movedim(-1, 0) for name in ("target", "masked_kspace")}
        mask = item["mask"].expand(1, *item["target"].shape).float()
        return {
            "x": real["target"].contiguous(),
            "y": real["masked_kspace"].contiguous(),
            "params": {"mask": mask.contiguous(), "coil_maps": item["sens_maps"]},
        }


class _Direct(_Adapted):
    def __getitem__(self, position: int) -> dict[str, Any]:
        item = self.pairs[position]
        size = item["target"].shape
        return {
            "masked_kspace": torch.view_as_real(item["masked_kspace"]),
            "sampling_mask": item["mask"].expand(1, *size)[..., None].contiguous(),
            "acs_mask": centre_block_of(item["mask"]).expand(1, *size)[..., None].contiguous(),
            "sensitivity_map": torch.view_as_real(item["sens_maps"]),
            "target": item["target"].abs(),
            "scaling_factor": torch.tensor(1.0),  # what the data were divided by
            "filename": f"{self.pairs.recipe.name}-{int(item['pair_id']):06d}",
            "slice_no": 0,
        }


def centre_block_of(mask: Tensor) -> Tensor:
    """The largest centred block of a mask [1 y|1 x] that is sampled fully, as a mask of the same shape.

    For lines, the block holds the columns of fastMRI's centre, ``pad = (n - width + 1) // 2``. For points, it is a
    square that is placed by the same rule along both axes.
    """
    block = torch.zeros_like(mask)
    rows, columns = mask.shape[-2:]
    for width in range(min(rows, columns) if rows > 1 else columns, 0, -1):
        x = (columns - width + 1) // 2
        y, height = ((rows - width + 1) // 2, width) if rows > 1 else (0, 1)
        if mask[..., y : y + height, x : x + width].all():
            block[..., y : y + height, x : x + width] = True
            break
    return block


def as_fastmri(pairs: Pairs) -> Dataset[FastmriSample]:
    """Adapt pairs to ``fastmri``'s VarNet training, which takes tuples like ``VarNetSample``.

    Parameters
    ----------
    pairs
        Pairs that were made without the readout's oversampling.

    Returns
    -------
    A map-style dataset for ``torch.utils.data.DataLoader``; k-space is [coil y x 2].

    Raises
    ------
    ValueError
        The pairs keep the readout's oversampling.
    """
    return _Fastmri(pairs, needs_maps=False)


def as_deepinv(pairs: Pairs) -> Dataset[dict[str, Any]]:
    """Adapt pairs to ``deepinv``'s Trainer with ``MultiCoilMRI``.

    Parameters
    ----------
    pairs
        Pairs that were made with maps and without the readout's oversampling.

    Returns
    -------
    A map-style dataset of dicts: x [2 y x], y [2 coil y x], and params with `mask` [1 y x] and complex `coil_maps`
    [coil y x], as ``MultiCoilMRI.update`` needs them.

    Raises
    ------
    ValueError
        The pairs have no maps, or keep the readout's oversampling.
    """
    return _Deepinv(pairs)


def as_direct(pairs: Pairs) -> Dataset[dict[str, Any]]:
    """Adapt pairs to the engines of ``direct``.

    Parameters
    ----------
    pairs
        Pairs that were made with maps and without the readout's oversampling.

    Returns
    -------
    A map-style dataset of dicts. Complex numbers are real pairs along the last axis, as in masked_kspace
    [coil y x 2].

    Raises
    ------
    ValueError
        The pairs have no maps, or keep the readout's oversampling.
    """
    return _Direct(pairs)
