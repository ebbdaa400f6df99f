"""Training on noisy references, corrected so that a network learns the clean image: Noisier2Full.

A reference from a scan holds the noise of its samples, and the network's input holds the same noise. A network that is
trained on such pairs learns to keep it. Noisier2Full (Millard and Chiew, "Clean self-supervised MRI reconstruction from
noisy, sub-sampled training data with Robust SSDU", Bioengineering 11:1305, 2024) adds noise to the samples, and
corrects for it.

With samples y = y0 + n of noise sigma, more noise m of alpha sigma, the mask M, and the network's input M (y + m), the
mean of n, given the input, is the mean of m divided by alpha^2. So the reference's samples y - M m / alpha^2 have the
mean of y0: their noise n - m / alpha^2 does not correlate with the input's n + m, because sigma^2 - alpha^2 sigma^2 /
alpha^2 = 0. For the squared error this is the same as the paper's: its network f estimates y, its correction is
g = ((1 + alpha^2) f - M (y + m)) / alpha^2 on the samples, and its loss there is ((1 + alpha^2) / alpha^2 (f - y))^2 =
(g - (y - m / alpha^2))^2. Here the network's output is g, so that nothing is to be corrected after training, and
a reference that is combined by A^H changes by -A^H m / alpha^2.

The mean is that of complex images. Losses of magnitudes keep a bias, because the magnitude of noise has one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from synth.physics import sense_adjoint

from ..data.packed_batch import Batch
from ..data.philox import complex_noise, key_of
from ..errors import TrainingError


def noisier(batch: Batch, alpha: float, seed: int, step: int) -> Batch:
    """The batch with more noise, alpha times sigma, in its samples, and with a reference that is corrected for it.

    ``masked_kspace``, ``target`` and ``sigma`` change; the latter becomes sqrt(1 + alpha^2) sigma. The noise is a
    function of the seed, the step and the pair.
    """
    kspace, maps, mask = batch["masked_kspace"], batch["sens_maps"], batch["mask"]
    _, coils, rows, columns = kspace.shape
    unit = complex_noise(batch["pair_id"], key_of(seed, f"noisier {step}"), coils, rows, slice(0, rows), columns)
    more = unit * mask * (alpha * batch["sigma"])[:, None, None, None]
    correction = sense_adjoint(more, maps, mask, sets=maps.ndim == 5) / alpha**2
    sigma: Tensor = batch["sigma"] * (1 + alpha**2) ** 0.5
    return {**batch, "masked_kspace": kspace + more, "target": batch["target"] - correction, "sigma": sigma}


def refuse_magnitudes(image: Tensor) -> Tensor:
    """The image; raises TrainingError where it is a magnitude."""
    if not torch.is_complex(image):
        raise TrainingError(
            "training.noisier needs complex images, and the network gives magnitudes, whose noise has a mean that no "
            "correction removes; leave training.noisier out"
        )
    return image
