"""Probes of what image metrics do not show: lost lesions, false lesions, structure in noise, deviation from the data.

A network may score well and yet remove small structures, or add structures that are not there.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, label, uniform_filter
from torch import Tensor

from synth.physics import sense_forward
from synth.rng import rng
from synth.stages.lesions import LesionsSpec, disc
from synth.stages.object_mask import mean_of_object, object_of

from ..data.packed_batch import Batch
from ..models.called import image_by
from ..models.catalogue import Reconstruction
from .beside_gpu import each

Image = NDArray[np.complexfloating]
SHOWN = 0.25  # correlation with the reference: an image with less does not show the object
SMOOTH = 9  # pixels: a noise map of few replicas is itself noisy


def data_consistency(images: Tensor, batch: Batch) -> list[float]:
    """Rms of P F C x - y over the samples of each image, relative to the noise's rms, sqrt(2) sigma.

    Images are [batch y x], or [batch set y x] if the batch has maps [batch set coil y x].

    The true image gives 1. A smaller value means that noise was fitted; a larger value means that the image contradicts
    the measured data. Sigma must be above 0.
    """
    kspace, mask = batch["masked_kspace"], batch["mask"]
    maps = batch["sens_maps"]
    left = sense_forward(images, maps, mask, sets=maps.ndim == 5) - kspace
    samples = mask.expand(len(left), 1, *left.shape[-2:]).sum(dim=(-3, -2, -1)) * left.shape[1]
    rms = (left.abs().square().sum(dim=(-3, -2, -1)) / samples).sqrt()
    found: list[float] = (rms / (2**0.5 * batch["sigma"])).tolist()
    return found


def contrast_recovery(image: Image, without: Image, target: Image, target_without: Image) -> list[float]:
    """The share of each lesion that was recovered: Re <x_with - x_without, l> / <l, l>; 1 is the whole lesion.

    l is what the lesion adds to the target. Both reconstructions have the same noise, so that their difference is due
    to the lesion alone. For a linear reconstruction, the share is the response of the resolution matrix M to the
    lesion, l^H M l / l^H l. Values above 1 are lesions that are too strong: a larger share is not always better, and
    what surrounds the lesion does not count. `lesion_error` judges both.
    """
    added, found = target - target_without, image - without
    recovered = []
    for inside in _lesions(added):
        lesion = added[inside]
        recovered.append(float(np.real(np.vdot(lesion, found[inside])) / np.vdot(lesion, lesion).real))
    return recovered


def lesion_error(image: Image, without: Image, target: Image, target_without: Image) -> list[float]:
    """How wrong each lesion's contrast against its surroundings is: 0 is right, 1 is lost, inverted or doubled.

    A viewer sees magnitudes, and a lesion against what surrounds it. The surroundings are the ring around the lesion,
    as wide as its radius. With d = |x_with| - |x_without| less its mean over the ring, and l the same of the targets,
    both in the lesion, and b the mean of |x_without| over the ring, relative to that of the target,

        error = min(1, |1 - <d, l> / (b <l, l>)|).

    Lesions that are too weak or too strong count alike, halos count against a lesion, bright and dark ones are judged
    alike, and a scale of both images changes nothing. The error is 1 for all lesions of an image that does not show the
    object (`shows`).
    """
    x, bare, truth, bare_truth = (np.abs(part).astype(np.float64) for part in (image, without, target, target_without))
    lesions = _lesions(target - target_without)
    if not (shows(image, target) and shows(without, target_without)):
        return [1.0] * len(lesions)
    errors = []
    for inside in lesions:
        radius = max(2.0, float(np.sqrt(inside.sum() / np.pi)))
        ring = (distance_transform_edt(~inside) <= radius) & ~np.any(lesions, axis=0)
        d, lesion = ((a - b)[inside] - (a - b)[ring].mean() for a, b in ((x, bare), (truth, bare_truth)))
        background, expected = bare[ring].mean() * np.vdot(lesion, lesion), bare_truth[ring].mean() * np.vdot(d, lesion)
        errors.append(min(1.0, abs(1 - float(expected / background))) if background > 0 else 1.0)
    return errors


def _lesions(added: Image) -> list[NDArray[np.bool_]]:
    """Where each lesion is, from what lesions add to a target; regions that touch at corners are one lesion."""
    regions, count = label(object_of(np.abs(added)), np.ones((3, 3)))
    return [regions == region for region in range(1, count + 1)]


def shows(image: Image, reference: Image) -> bool:
    """Whether an image [y x] shows the object at all: its magnitude's correlation with the reference's is over 0.25.

    NaN, black, constant and inverted images, and noise alone, do not.
    """
    x, r = (np.abs(part).astype(np.float64) for part in (image, reference))
    x, r = x - x.mean(), r - r.mean()
    return bool(np.vdot(x, r) > SHOWN * np.linalg.norm(x) * np.linalg.norm(r))  # False where one is NaN


def false_lesions(image: Image, reference: Image, lesions: LesionsSpec) -> dict[str, float]:
    """The share of the object's pixels at which an image without lesions shows something that passes for a lesion.

    The error is |x| / a - |r|, with the scale a = <|x|, |r|> / <|r|, |r|>. A place passes if the error's mean over a
    lesion's disc, less its mean over the ring around it (out to twice the diameter), is at least half of a lesion's
    height, |contrast| times the object's mean: ``false_bright`` is too bright, ``false_dark`` too dark (as where
    structures of the object were lost), and ``false_lesions`` is either. Every pixel is tried as a place: a grid of
    places has the same share on average, but misses single lesions that lie between its places. All are 1 for an image
    that does not show the object (`shows`).
    """
    from scipy.signal import fftconvolve  # half a second of each command's start, were it above

    if not shows(image, reference):
        return dict.fromkeys(("false_lesions", "false_bright", "false_dark"), 1.0)
    x, truth = np.abs(image).astype(np.float64), np.abs(reference).astype(np.float64)
    error = x * (np.vdot(truth, truth) / np.vdot(x, truth)) - truth
    size = 2 * int(np.ceil(1.5 * lesions.diameter)) + 3
    centre = (size // 2, size // 2)
    inner, outer = disc((size, size), centre, lesions.diameter), disc((size, size), centre, 2 * lesions.diameter)
    ring = outer - inner
    contrast = fftconvolve(error, inner / inner.sum() - ring / ring.sum(), mode="same")
    height = abs(lesions.contrast) * mean_of_object(truth)
    there = contrast[object_of(truth)] / height
    bright, dark = float(np.mean(there >= 0.5)), float(np.mean(there <= -0.5))
    return {"false_lesions": bright + dark, "false_bright": bright, "false_dark": dark}


def pure_noise(model: Reconstruction, batch: Batch, seed: int = 0) -> list[dict[str, float]]:
    """Reconstruct noise without a signal; return gain and kurtosis of each image, over the pixels that coils see.

    ``noise_gain``: rms over that of a fully sampled image's noise, sqrt(2) sigma (zero-filling gives 1 / sqrt(R),
    unregularised SENSE sqrt(R) g). ``noise_kurtosis``: mean |x|^4 / (mean |x|^2)^2, which is 2 for complex normal noise
    of the same level everywhere, and larger where the level varies or noise was turned into structures.
    """
    images = image_by(model, {**batch, "masked_kspace": drawn_noise(batch, seed)}).cpu().numpy().astype(np.complex128)
    found = []
    seen = (batch["sens_maps"].abs().square().sum(1) > 0).expand(images.shape).cpu().numpy()
    for image, inside, sigma in zip(images, seen, batch["sigma"].tolist(), strict=True):
        power = np.abs(image[inside]) ** 2
        mean = float(power.mean())
        kurtosis = float((power**2).mean()) / mean**2 if mean > 0 else float("nan")
        found.append({"noise_gain": (mean / 2) ** 0.5 / sigma, "noise_kurtosis": kurtosis})
    return found


def noise_maps(model: Reconstruction, batch: Batch, replicas: int, seed: int = 0) -> NDArray[np.float64]:
    """Local noise [batch y x] over sqrt(2) sigma, from replicas of the noise added to the data (Robson 2008).

    The noise that the data already hold moves the point at which a nonlinear reconstruction is tested, but does not add
    to the spread that is measured. Where a model gives magnitudes, the noise is over sigma: a magnitude's noise is that
    of one channel.
    """
    first = image_by(model, batch)
    total, square = torch.zeros_like(first), torch.zeros_like(first.real)
    for k in range(replicas):
        more = {**batch, "masked_kspace": batch["masked_kspace"] + drawn_noise(batch, seed, k)}
        change = image_by(model, more) - first
        total, square = total + change, square + change.abs().square()
    variance = (square - total.abs().square() / replicas) / (replicas - 1)
    levels = variance.clamp_min(0).sqrt() / ((2 if first.is_complex() else 1) ** 0.5 * batch["sigma"][:, None, None])
    return np.asarray(levels.cpu().numpy(), np.float64)


def noise_spread(noise: NDArray[np.float64], reference: Image) -> float:
    """How uneven a noise map [y x] is in the object: 95th over 5th percentile, after smoothing over 9 x 9 pixels."""
    inside = object_of(np.abs(reference))
    low, high = np.quantile(uniform_filter(noise, SMOOTH)[inside], [0.05, 0.95])
    return float(high / low) if low > 0 else float("inf")


def noise_centre(noise: NDArray[np.float64], reference: Image) -> float:
    """Rms of a noise map [y x] in the middle half of each side over that in the rest of the object; 1 is even.

    Sensitivities are alike far from the coils, so that parallel imaging amplifies noise most in the middle. Nickel's
    networks are said to remove this excess. Unlike `noise_spread`, the number does not count noise that a network
    leaves at edges and removes from plain areas. It is NaN for an object that lies only in the middle or only outside.
    """
    inside, middle = object_of(np.abs(reference)), np.zeros(noise.shape, bool)
    middle[tuple(slice(n // 4, n - n // 4) for n in noise.shape)] = True
    parts = [noise[inside & part] for part in (middle, ~middle)]
    if not all(part.any() for part in parts):
        return float("nan")
    centre, rest = (float((part**2).mean() ** 0.5) for part in parts)
    return centre / rest


def pairs_of(batch: Batch) -> list[int]:
    """The pairs' numbers, or 0 for slices of scans, which have none."""
    found: list[int] = batch["pair_id"].tolist() if "pair_id" in batch else [0] * len(batch["masked_kspace"])
    return found


def drawn_noise(batch: Batch, seed: int, replica: int = -1, stage: str = "probe") -> Tensor:
    """Noise of each pair's level at the sampled positions; a pair gets the same noise in every batch."""
    kspace = batch["masked_kspace"]
    shape = (*kspace.shape[1:], 2)

    def drawn(pair: int) -> NDArray[np.float32]:
        return rng(seed, stage, pair, replica + 1).standard_normal(shape, dtype=np.float32)

    stacked = np.stack(each(drawn, pairs_of(batch), kspace.device))
    unit = torch.view_as_complex(torch.from_numpy(stacked)).to(kspace.device)
    return unit * batch["sigma"][:, None, None, None] * batch["mask"]
