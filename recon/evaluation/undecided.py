"""Where the data do not decide an image: detail that the coils did not measure, and detail that the noise changes.

Detail is an image less its low-pass image, a Gaussian of `LOW` pixels. Maps are ratios of local sums over `WINDOW` x
`WINDOW` pixels; one number for an image is the same ratio over the object.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter
from torch import Tensor

from synth.stages.object_mask import object_of

from ..data.packed_batch import Batch
from ..models.called import image_by
from ..models.catalogue import Reconstruction
from ..models.sense import Sense
from .probes import drawn_noise

LOW = 2.0  # pixels, the standard deviation of the Gaussian: structures of up to about five pixels are detail
WINDOW = 9  # pixels
NULL = 1e-3  # of A, whose diagonal is 1: weaker directions, along which SENSE amplifies noise over 30 times, are null
MOST, TOLERANCE = 300, 1e-4  # of conjugate gradients
Image = NDArray[np.inexact]
Found = tuple[float, NDArray[np.float64]]  # a number for the object, and a map [y x]


def null_component(images: Tensor, batch: Batch) -> Tensor:
    """The part of images [batch y x] that the measured data do not contain: (I - A^+ A) x, with A = E^H E.

    E is the batch's SENSE model. Pixels that no coil sees are such a part, too. The pseudo-inverse is regularised: the
    result is nu (A + nu)^-1 x with nu = `NULL`, which keeps directions with eigenvalues well below nu and removes those
    well above.
    """
    model = Sense(batch["sens_maps"], batch["mask"])
    right = images.to(batch["sens_maps"].dtype)
    weight = torch.full((len(right), 1, 1), NULL, dtype=right.real.dtype, device=right.device)
    row_space = model.solve(model.normal(right), weight, None, MOST, TOLERANCE)
    return right - row_space


def null_share(image: Image, null: Image, reference: Image) -> Found:
    """The share of an image's detail that is in its null component [y x], in energy, 0 to 1; and the map of shares.

    The number is the share over the object of the `reference`. What stands there comes from the prior alone: other data
    of the same scan would not change it.
    """
    part, whole = (np.abs(detail(a)) ** 2 for a in (null, image))
    return _ratio(part, whole, reference)


def halves_agreement(model: Reconstruction, batch: Batch, seed: int = 0) -> list[Found]:
    """How alike two reconstructions from two halves of the data are: the correlation of their detail, and its map.

    With noise n drawn anew at the level of the noise in y, y + n and y - n hold the same signal, and noise of twice the
    variance that is independent between them (data thinning; for normal noise: Rasines and Young, Biometrika 110:597,
    2023). The model is told the level sqrt(2) sigma. Re <d_1, d_2> / (|d_1| |d_2|) of the details d is 1 where noise
    changes nothing. Detail that the prior alone adds to both halves agrees as well: `null_share` shows it. Raises
    ValueError where a pair's noise level is 0 or not known.
    """
    noise = drawn_noise(batch, seed, 0, "halves")
    kspace, sigma = batch["masked_kspace"], 2**0.5 * batch["sigma"]
    if not bool((batch["sigma"] > 0).all()):
        raise ValueError("halves of the noise need every pair's noise level, and some sigma is 0 or not known")
    with torch.no_grad():
        first, second = (
            image_by(model, {**batch, "masked_kspace": kspace + sign * noise, "sigma": sigma}).cpu().numpy()
            for sign in (1, -1)
        )
    found = []
    for a, b, reference in zip(first, second, batch["target"].cpu().numpy(), strict=True):
        found.append(agreement(a, b, reference))
    return found


def agreement(first: Image, second: Image, reference: Image) -> Found:
    """The correlation of two images' detail over the object of the `reference`, and its map [y x]."""
    a, b = detail(first), detail(second)
    parts = (a.conj() * b).real, np.abs(a) ** 2, np.abs(b) ** 2
    inside = object_of(np.abs(reference))
    both, one, other = (float(part[inside].sum()) for part in parts)
    local = [uniform_filter(part, WINDOW) for part in parts]
    scale = np.sqrt(np.maximum(local[1], 0) * np.maximum(local[2], 0))
    there = scale > 1e-12 * max(float(scale.max()), 1e-300)
    mapped = np.divide(local[0], scale, out=np.zeros_like(scale), where=there)
    return both / max((one * other) ** 0.5, 1e-300), mapped


def detail(image: Image) -> NDArray[np.inexact]:
    """An image [y x] less its low-pass image, in double precision."""
    whole = image.astype(np.complex128 if np.iscomplexobj(image) else np.float64)
    if np.iscomplexobj(whole):
        return whole - gaussian_filter(whole.real, LOW) - 1j * gaussian_filter(whole.imag, LOW)
    return whole - gaussian_filter(whole, LOW)


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64], reference: Image) -> Found:
    inside = object_of(np.abs(reference))
    local, total = uniform_filter(part, WINDOW), uniform_filter(whole, WINDOW)
    there = total > 1e-12 * max(float(total.max()), 1e-300)
    mapped = np.divide(local, total, out=np.zeros_like(total), where=there)
    return float(part[inside].sum() / max(whole[inside].sum(), 1e-300)), mapped
