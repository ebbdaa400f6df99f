"""Noise maps of any reconstruction for the noise at hand, from few products with its derivative.

With white noise of sigma per real and imaginary part on the sampled positions, the image's noise has to first order the
covariance C = sigma^2 J P J^T (J is the derivative of the image in k-space, P keeps sampled positions;
`recon.evaluation.linearised`). Replicas of noise estimate its diagonal with a relative standard error of
1 / (2 sqrt(N)) for N replicas. Probes of the image do better: with v of modulus 1 and random phases on a set of pixels
and 0 elsewhere, conj(v_i) (C v)_i is C_ii plus the covariances with the other pixels of the set, whose mean is 0. Few
pixels share noise: neighbours, and aliases of each other. If each set (a colour) holds only pixels that share little,
one probe per colour gives the whole diagonal, nearly without error. For regularly undersampled SENSE, there is none.

Reconstructions that bend over the noise have another variance. As (J n)^2 has the known mean C_ii, the difference of
(f(y + n) - f(y))^2 and (J n)^2, for the same draws n, is added to C_ii: a control variate (Glasserman, Monte Carlo
Methods in Financial Engineering, 2004, ch. 4.1). Most of the draws' error cancels in it: of a network whose J n differs
by a fifth from what noise changes, a draw served as well as 14 replicas in trials.

Random phases: Dalmaz et al., arXiv 2505.02007 and 2605.09590. Probing with colours: Tang and Saad, Numer Linear Algebra
Appl 19:485, 2012. Colours by the mask's point spread function are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synth.rng import rng

from ..data.packed_batch import Batch, image_shape
from ..models.catalogue import Reconstruction
from .linearised import How, Linearised, Product, linearised
from .probes import drawn_noise, pairs_of

NOISE = "noise-map"  # the stage of random numbers
PROBES = 72  # products with C: 64 colours of a complex-linear reconstruction, 32 of others
AGAIN = 8  # one of so many colours is probed a second time, with other phases, which shows the error
BENT = 0.1  # relative difference of f(y + n) - f(y) and J n, above which f's variance is more than J's
FEWEST = 32  # draws for that: fewer added more error to maps of networks, in trials, than they removed
LINEAR = 0.01  # relative difference of J (i n) and i J n, below which one probe serves both parts of an image
STRONGEST = 20_000  # offsets between pixels that share noise, of which colours are chosen


@dataclass(frozen=True, eq=False)
class NoiseMap:
    """Noise maps of a batch, in the images' unit.

    ``spread`` [batch y x] is the standard deviation of the real and of the imaginary part: the root of the mean of both
    variances. ``magnitude`` [batch y x] is that of the magnitude, to first order: that of the part in phase with the
    image. Of an image that is a magnitude, both are its standard deviation.

    ``error`` [batch] is the standard error of ``spread``, relative to it. ``how`` says how J n was computed, and
    ``deviation`` [batch] how far the reconstruction is from linear over the noise (`linearised.Linearised`). ``probes``
    counts the products that were made.
    """

    spread: NDArray[np.float64]
    magnitude: NDArray[np.float64]
    error: NDArray[np.float64]
    deviation: NDArray[np.float64]
    how: How
    probes: int


def noise_map(
    model: Reconstruction,
    batch: Batch,
    probes: int = PROBES,
    seed: int = 0,
    progress: Callable[[], None] | None = None,
) -> NoiseMap:
    """The local noise of a reconstruction's images, for the noise of a batch.

    Parameters
    ----------
    model
        Called as ``model(batch) -> image`` [batch y x], complex or magnitude.
    batch
        The pairs, with their noise level ``sigma``.
    probes
        The most products with C, at least 4; each takes about as long as two or three reconstructions. If the
        reconstruction bends over the noise, a quarter of them are draws of the noise instead, from 128 probes on; with
        fewer, the map is of first order. Of a reconstruction without a derivative, all are draws of noise; each takes
        two reconstructions.
    seed
        The seed of the random phases.
    progress
        Called before each product with J, of which there are about as many as `probes`.

    Returns
    -------
    The maps, with their standard error.

    Raises
    ------
    ValueError
        A pair's noise level is 0 or not known, it has several map sets, or `probes` is below 4.
    """
    if not bool((batch["sigma"] > 0).all()):
        raise ValueError("noise maps need every pair's noise level, and some sigma is 0 or not known")
    if len(image_shape(batch)) == 4:
        raise ValueError("noise maps are for images with one map set; use 1 map set, or leave the noise map out")
    if probes < 4:
        raise ValueError(f"noise maps need at least 4 probes, got {probes}")
    with linearised(model, batch, drawn_noise(batch, seed, 0, NOISE)) as near:
        near = near if progress is None else replace(near, push=_told(near.push, progress))
        way = _by_draws if near.pull is None else _by_colours
        return way(near, batch, probes, seed)


def _told(push: Product, progress: Callable[[], None]) -> Product:
    def product(change: Tensor) -> Tensor:
        progress()
        return push(change)

    return product


def colours(mask: NDArray[np.bool_], shape: tuple[int, int], count: int) -> tuple[NDArray[np.intp], int]:
    """The colour [y x] of each pixel, and the number of colours: at most `count`, and at least count - 3.

    Colours are lattices, (a y + x) modulo the number n of colours, so that a row has each colour only once in n pixels.
    Two pixels are taken to share noise as |PSF|^2 of the masks [... y x] (or [x]) at their offset, blurred over
    neighbours; of all lattices, the one is taken whose pixels of one colour share least. PSF is the point spread
    function of zero-filled images.
    """
    dy, dx, shared = _shared(mask, shape)
    found = []
    for n in range(max(1, count - 3), count + 1):
        by_rest = np.bincount(dy % n * n + dx % n, shared, n * n).reshape(n, n)  # offsets' remainders modulo n
        rest = np.arange(n)
        found += [(float(by_rest[rest, -a * rest % n].sum()), -n, a) for a in range(n)]
    _, less, a = min(found)
    y, x = np.indices(shape)
    return (a * y + x) % -less, -less


def _shared(mask: NDArray[np.bool_], shape: tuple[int, int]) -> tuple[NDArray[Any], ...]:
    """Offsets dy [n] and dx [n] between pixels, and how much noise pixels of this offset share; the strongest alone."""
    masks = np.broadcast_to(mask, (*mask.shape[:-2], *shape)).reshape(-1, *shape)
    spread = (np.abs(np.fft.fft2(masks)) ** 2).mean(0)
    near_y, near_x = (np.minimum(np.arange(n), n - np.arange(n)) for n in shape)
    blob = 1 / (1 + near_y[:, None] ** 2 + near_x**2) ** 2  # as networks' noise decays, in trials
    blurred = np.fft.ifft2(np.fft.fft2(spread) * np.fft.fft2(blob)).real
    dy, dx = (np.arange(1 - n, n) for n in shape)
    pairs = (1 - np.abs(dy) / shape[0])[:, None] * (1 - np.abs(dx) / shape[1])  # the share of pixels with this offset
    shared = blurred[dy[:, None] % shape[0], dx % shape[1]] * pairs
    shared[shape[0] - 1, shape[1] - 1] = 0  # of a pixel with itself
    order = np.argsort(shared, axis=None)[::-1][:STRONGEST]
    rows, columns = np.unravel_index(order, shared.shape)
    return dy[rows], dx[columns], shared[rows, columns]


def _by_colours(near: Linearised, batch: Batch, probes: int, seed: int) -> NoiseMap:
    """One probe for each colour, or a pair v and i v where real and imaginary parts of the image differ."""
    image = near.image
    linear = image.is_complex() and _complex_linear(near, drawn_noise(batch, seed, 0, NOISE))
    each = 2 if image.is_complex() and not linear else 1
    draws = probes // 4 if probes >= 4 * FEWEST and _bent(near, drawn_noise(batch, seed, 0, NOISE)) else 0
    wanted = max(1, (probes - draws) * AGAIN // (each * (AGAIN + 1)))
    shape = (int(image.shape[-2]), int(image.shape[-1]))
    colour, number = colours(batch["mask"].cpu().numpy(), shape, min(wanted, shape[0] * shape[1]))
    colour_of = torch.from_numpy(colour).to(image.device)
    again = max(1, number // AGAIN)
    variances = torch.zeros(2, *image.shape, dtype=torch.float64, device=image.device)
    errors = torch.zeros(2, len(image), dtype=torch.float64, device=image.device)
    for turn in range(number + again):
        here = colour_of == turn % number
        found = _variances(near, batch, _phases(batch, image, seed, turn) * here, linear)
        if turn >= number:  # probed again
            change = (found[0] - variances[0])[:, here]
            errors += torch.stack([change.square().sum(-1) / 2, variances[0][:, here].square().sum(-1)])
            found = (found + variances) / 2
        variances = torch.where(here, found, variances)
    squared = errors[0] / errors[1].clamp_min(1e-300)  # the relative error of a variance is twice that of its root
    if draws:
        more, its_error = _beyond_first_order(near, batch, draws, seed)
        variances = variances + more
        squared = squared + its_error.square().sum((-2, -1)) / variances[0].square().sum((-2, -1)).clamp_min(1e-300)
    return _made(variances, squared.sqrt() / 2, near, each * (number + again) + draws)


def _variances(near: Linearised, batch: Batch, v: Tensor, linear: bool) -> Tensor:
    """Variances [part batch y x] where the probe v [batch y x] is not 0: the mean of both parts, and that in phase.

    In the basis in phase with the image and perpendicular to it, C has parts C_11, C_12, C_22. With v = a + i b there,
    w = C v and w' = C (i v): a w_1 - b w'_1 = C_11 and b w_2 + a w'_2 = C_22 at a single pixel, as a^2 + b^2 = 1. For a
    complex-linear J, w' = i w.
    """
    assert near.pull is not None
    weight = batch["mask"] * batch["sigma"][:, None, None, None] ** 2

    def covariance(probe: Tensor) -> Tensor:
        assert near.pull is not None
        return near.push(near.pull(probe) * weight)

    if not v.is_complex():
        alone = (v * covariance(v)).double()
        return torch.stack([alone, alone])
    phase = _phase(near.image)
    w = covariance(phase * v)
    turned = 1j * w if linear else covariance(1j * phase * v)
    w, turned = phase.conj() * w, phase.conj() * turned
    in_phase = (v.real * w.real - v.imag * turned.real).double()
    across = (v.imag * w.imag + v.real * turned.imag).double()
    return torch.stack([(in_phase + across) / 2, in_phase])


def _beyond_first_order(near: Linearised, batch: Batch, draws: int, seed: int) -> tuple[Tensor, Tensor]:
    """Variances [part batch y x] of f(y + n) less those of J n, and the standard error [batch y x] of the first part.

    Both are sample variances of the same draws n, each without bias. The standard error is that of the squares without
    their mean taken off: it is somewhat too large where noise shifts the image's mean.
    """
    image = near.image
    total = torch.zeros(2, *image.shape, dtype=torch.promote_types(image.dtype, torch.float64), device=image.device)
    more = torch.zeros(2, *image.shape, dtype=torch.float64, device=image.device)
    square = torch.zeros_like(more[0])
    for turn in range(draws):
        noise = drawn_noise(batch, seed, turn + 1, NOISE)
        changes = torch.stack([near.moved(noise) - image, near.push(noise)])
        differing = _powers(near, changes[0]) - _powers(near, changes[1])
        total, more, square = total + changes, more + differing, square + differing[0].square()
    means = _powers(near, total[0] / draws) - _powers(near, total[1] / draws)
    error = ((square / draws - (more[0] / draws).square()).clamp_min(0) / (draws - 1)).sqrt()
    return (more - draws * means) / (draws - 1), error


def _by_draws(near: Linearised, batch: Batch, probes: int, seed: int) -> NoiseMap:
    """Draws of noise, for a reconstruction without a derivative."""
    total = torch.zeros(2, *near.image.shape, dtype=torch.float64, device=near.image.device)
    parts = 2 if near.image.is_complex() else 1
    for turn in range(probes):
        total += _powers(near, near.push(drawn_noise(batch, seed, turn, NOISE)))
    error = torch.full((len(near.image),), (2 * parts * probes) ** -0.5)
    return _made(total / probes, error, near, probes)


def _powers(near: Linearised, change: Tensor) -> Tensor:
    """Squares [part batch y x] of a change of the image: the mean of both parts', and that of the part in phase."""
    if not change.is_complex():
        return change.double().square().expand(2, *change.shape)
    in_phase = (_phase(near.image).conj() * change).real
    return torch.stack([change.abs().double().square() / 2, in_phase.double().square()])


def _made(variances: Tensor, error: Tensor, near: Linearised, probes: int) -> NoiseMap:
    spread, magnitude = variances.clamp_min(0).sqrt().cpu().numpy()
    errors, deviation = (part.double().cpu().numpy() for part in (error, near.deviation))
    return NoiseMap(spread, magnitude, errors, deviation, near.how, probes)


def _phase(image: Tensor) -> Tensor:
    """The phase factor of complex images [batch y x]; 1 where the image is 0."""
    return torch.where(image == 0, torch.ones_like(image), torch.sgn(image))


def _phases(batch: Batch, image: Tensor, seed: int, turn: int) -> Tensor:
    """Random numbers of modulus 1 [batch y x], or signs for images that are magnitudes; the same in every batch."""
    stacked = []
    for pair in pairs_of(batch):
        drawn = rng(seed, "noise-phases", pair, turn).random(image.shape[1:])
        stacked.append(np.exp(2j * np.pi * drawn) if image.is_complex() else np.sign(drawn - 0.5))
    return torch.from_numpy(np.stack(stacked)).to(image)


def _complex_linear(near: Linearised, noise: Tensor) -> bool:
    change = near.push(noise)
    other = near.push(1j * noise) - 1j * change
    return bool((other.flatten(1).norm(dim=1) <= LINEAR * change.flatten(1).norm(dim=1)).all())


def _bent(near: Linearised, noise: Tensor) -> bool:
    change = near.push(noise)
    beyond = near.moved(noise) - near.image - change
    return bool((beyond.flatten(1).norm(dim=1) > BENT * change.flatten(1).norm(dim=1)).any())
