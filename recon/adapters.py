"""The same items as other projects' own training code takes them.

Each adapter is a map-style dataset for a plain ``torch.utils.data.DataLoader``. Conventions agree (centred,
orthonormal FFT), so only names, axes and real pairs in place of complex numbers differ.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .loader import Pairs


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
    def __init__(self, pairs: Pairs) -> None:
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
            num_low_frequencies=centre_run(item["mask"]),
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
        mask = item["mask"].expand(1, *size)[..., None]
        reference = torch.zeros_like(mask)
        start, stop = centre_bounds(item["mask"])
        reference[:, :, start:stop] = mask[:, :, start:stop]
        return {
            "masked_kspace": torch.view_as_real(item["masked_kspace"]),
            "sampling_mask": mask.contiguous(),
            "acs_mask": reference,
            "sensitivity_map": torch.view_as_real(item["sens_maps"]),
            "target": item["target"].abs(),
            "scaling_factor": item["max_value"],
            "filename": f"{self.pairs.recipe.name}-{int(item['pair_id']):06d}",
            "slice_no": 0,
        }


def centre_bounds(mask: Tensor) -> tuple[int, int]:
    """First column and last + 1 of the fully sampled block around the centre of a mask [1 y|1 x]; may be empty."""
    columns = mask.reshape(-1, mask.shape[-1])
    sampled = columns[columns.shape[0] // 2].tolist()
    centre = len(sampled) // 2
    start = stop = centre
    while start > 0 and sampled[start - 1]:
        start -= 1
    while stop < len(sampled) and sampled[stop]:
        stop += 1
    return start, stop


def centre_run(mask: Tensor) -> int:
    """Number of columns in the fully sampled centre of a mask: fastMRI's ``num_low_frequencies``."""
    start, stop = centre_bounds(mask)
    return stop - start


def as_fastmri(pairs: Pairs) -> Dataset[FastmriSample]:
    """Pairs as ``fastmri``'s VarNet training takes them: tuples like ``VarNetSample``."""
    return _Fastmri(pairs)


def as_deepinv(pairs: Pairs) -> Dataset[dict[str, Any]]:
    """Pairs as ``deepinv``'s Trainer with ``MultiCoilMRI`` takes them: dicts of x [2 y x], y [2 coil y x] and params.

    In `params`, `mask` is [1 y x] and `coil_maps` [coil y x] complex, as ``MultiCoilMRI.update`` wants them.
    """
    return _Deepinv(pairs)


def as_direct(pairs: Pairs) -> Dataset[dict[str, Any]]:
    """Pairs as the engines of ``direct`` take them: dicts with real pairs in the last axis."""
    return _Direct(pairs)
