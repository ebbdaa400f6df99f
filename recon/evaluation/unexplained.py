"""What an image and its coil maps leave unexplained of the samples: signal that the model has no place for."""

from __future__ import annotations

import numpy as np

from synth.physics import centre_block, sense_forward

from ..data.packed_batch import Batch
from ..models.misfit import CENTRE
from .metrics import Image

TOLD = 0.05  # computed slices left 0 to 4 % where images were good, and 5 to 32 % where they had errors


def unexplained(image: Image, batch: Batch) -> float:
    """Root of the share of the samples' energy at k-space's centre that an image does not explain, beyond the noise.

    With the samples y, the maps C and the image x of a batch of one, it is
    sqrt(max(0, sum |y - P F C x|^2 - 2 sigma^2 n) / sum |y|^2) over the n sampled values y of all coils within `CENTRE`
    lines. All noise is subtracted, although an image that follows its samples explains a part of it: the share is
    rather too small. NaN where sigma is not known, where nothing was sampled there, where the maps are 0 everywhere
    (noise alone), and for images of magnitudes or that are not finite.

    Maps that are wrong, an object that moved or that is wider than the field of view, and too strong a regularisation
    leave signal. Such signal is inconsistent with every image, and may spread along the undersampled axes.

    Parameters
    ----------
    image
        The image [y x], or [set y x].
    batch
        Its batch of one, with ``masked_kspace``, ``sens_maps``, ``mask`` and ``sigma``.
    """
    kspace, maps, mask = (batch[name][0].cpu().numpy() for name in ("masked_kspace", "sens_maps", "mask"))
    centre = np.zeros(mask.shape, bool)
    rows, columns = (centre_block(size, min(size, CENTRE)) for size in mask.shape[-2:])
    centre[..., rows, columns] = True
    sampled = np.broadcast_to(mask & centre, kspace.shape)
    samples = kspace[sampled].astype(np.complex128)
    left = samples - sense_forward(image, maps, mask, sets=maps.ndim == 4)[sampled]
    noise = 2 * float(batch["sigma"][0]) ** 2 * samples.size
    power = float(np.sum(np.abs(samples) ** 2))
    if not (noise > 0 and power > 0 and maps.any() and np.iscomplexobj(image) and np.isfinite(image).all()):
        return float("nan")
    return float(np.sqrt(max(0.0, float(np.sum(np.abs(left) ** 2)) - noise) / power))
