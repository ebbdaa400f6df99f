"""The image that a reconstruction of any origin gives for a batch: checked in one place, wherever a model is called."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..data.packed_batch import Batch, image_shape
from ..errors import ModelError
from .catalogue import Reconstruction

TOO_FAR = 100.0  # of ||x|| / ||r||: such an image is in other units than the batch
SAME = 1e-6  # relative spread of two calls: rounding of single precision


def image_by(model: Reconstruction, batch: Batch) -> Tensor:
    """The image [batch y x] that a model gives for a batch: complex, or real where it gives magnitudes.

    The model is called with a batch of its own, to which it may add. Numpy arrays and other precisions are converted to
    single precision. Raises ModelError if the result is no image of the batch's shape, lies on another device, or if
    the model changed the batch's tensors in place.
    """
    before = {name: _version(tensor) for name, tensor in batch.items()}
    given = model(dict(batch))
    for name, version in before.items():
        if _version(batch[name]) != version:
            raise ModelError(
                f"the model changes batch['{name}'] in place, which others read too; change a clone() of it"
            )
    if isinstance(given, np.ndarray):
        given = torch.from_numpy(given)
    if not isinstance(given, Tensor):
        raise ModelError(f"the model gives {type(given).__name__}; give a torch tensor of images [batch y x]")
    wanted, device = image_shape(batch), batch["masked_kspace"].device
    if given.shape != wanted:
        raise ModelError(
            f"the model gives shape {tuple(given.shape)}, but the batch's images [batch y x] have {tuple(wanted)}"
            f"{_remedy(given, wanted)}"
        )
    if not (given.is_complex() or given.is_floating_point()):
        raise ModelError(f"the model gives {given.dtype}; give complex images, or magnitudes as floating-point numbers")
    if given.device not in (device, torch.device("cpu")):
        raise ModelError(
            f"the model gives an image on {given.device}, but the batch is on {device}; move the model there"
        )
    return given.to(torch.complex64 if given.is_complex() else torch.float32)


@torch.no_grad()
def remarks_on(model: Reconstruction, batch: Batch) -> list[str]:
    """What a user should know of a model before reading its metrics, one sentence each, from two calls on one batch."""
    found = []
    first, second = (image_by(model, batch) for _ in range(2))
    if not first.is_complex():
        found.append("gives magnitudes, so metrics of complex images and data consistency are left out")
    size, target = (float(torch.linalg.vector_norm(part)) for part in (first, batch["target"]))
    if size == 0:
        found.append("gives images that are zero everywhere")
    elif not 1 / TOO_FAR < size / target < TOO_FAR:
        found.append(
            f"its images are {size / target:.2g} times as large as the references, and metrics judge them as they are; "
            "give them the units of batch['masked_kspace']"
        )
    spread = float(torch.linalg.vector_norm(first - second)) / (size or 1.0)
    if spread > SAME:
        found.append(f"is not deterministic: two images of the same batch differ by {spread:.2g} of their norm")
    return found


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version  # of inference tensors, torch counts no changes


def _remedy(given: Tensor, wanted: torch.Size) -> str:
    """How to bring an image of a common other shape into the right one."""
    if given.shape == (*wanted, 2):
        return "; real and imaginary parts become complex by torch.view_as_complex(image.contiguous())"
    if given.shape == (wanted[0], 2, *wanted[1:]):
        return "; real and imaginary parts become complex by torch.complex(image[:, 0], image[:, 1])"
    if sorted(size for size in given.shape if size != 1) == sorted(size for size in wanted if size != 1):
        return "; take away its axes of length 1, as image[:, 0] does"
    if given.shape[-2:] == wanted[-2:] and given.ndim == len(wanted) + 1:
        return "; combine its coils"
    return ""
