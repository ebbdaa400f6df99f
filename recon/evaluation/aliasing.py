"""Residual aliasing of regular masks: how much of an error is copies of the object, to which Knoll's red arrows point.

**Copies.** With every R-th line sampled, the mask's point spread function has R peaks of equal height, j N / R pixels
apart (j = 0 ... R - 1); points have the dual lattice of their grid. The fully sampled centre adds a term that removes
the aliases at its own frequencies. So the aliases of an object r are, for every shift j but 0,

    c_j = F^-1 [exp(2 pi i j k / R) H F r],

where H is 0 at the frequencies k of the centre and 1 elsewhere: shifted copies of the *detail* of r. A shift need not
be a whole number of pixels. Coil maps and what a reconstruction does to the copies change their amplitudes and phases
slowly over the image; both are free in each block of about 24 x 24 pixels. An offset of the mask is a phase only. A
readout (y of masks of lines) is fully sampled, so its oversampling changes nothing.

**Energy.** All images are taken without the centre, x -> F^-1 H F x, and the error is d = x - a r with the complex
scale a that makes it smallest: a scale is not an alias. In each block, the energy of d that the copies explain beyond
what H r itself explains (blur and local scale are not aliases) is E = |Q^H d|^2, where Q [pixel m] is an orthonormal
basis of the copies after projection on the complement of H r.

**Chance.** Any m directions explain some of the energy of noise. How much, is measured with copies that are moved by a
further 6 pixels in each of 8 directions, at which there are no aliases: w, orthogonal to H r and to all c_j, and of
norm 1. They have nearly the spectrum and the place of the copies, so that white, smooth and uneven noise alike give
E[|Q^H d|^2] = m mean |w^H d|^2. The aliases' energy is the sum over blocks of

    A = |Q^H d|^2 - m mean_w |w^H d|^2,

which is 0 on average for noise, so that it can be slightly negative, and |d|^2 where the error is nothing but copies.

**Limits.** At least 8 lines of the centre are left out, since an error that varies slowly cannot be told from the copy
of a plain area. With fewer reference lines the aliases' energy is therefore that of their detail. Copies of an object
that fills the image change abruptly where it is wrapped around and coils see it otherwise; blocks do not follow that.
For eight coils, an error of nothing but aliases gives at least 0.9 for an object in air, and 0.2 to 0.8 for photographs
that fill the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from synth.physics import centre_block, fft2c, ifft2c
from synth.stages.mask_lines import RegularSpec
from synth.stages.mask_points import Regular2DSpec
from synth.stages.sampling import SamplingSpec

Image = NDArray[np.complexfloating]
LEAST = 8  # lines of the centre that are always left out: errors of up to 4 cycles per field of view
SIDE = 24  # pixels of a block: small against the coils, large against the number of copies
AWAY = 6  # pixels from an alias to where there is none; edges of the object are narrower
SAME = 0.1  # a vector of which less than this is left after projection says nothing of its own
ROUNDING = 1e-5  # of the image: smaller errors are zero


@dataclass(frozen=True)
class Aliases:
    """Where a regular mask puts copies of the object."""

    shifts: tuple[tuple[float, float], ...]  # (y, x), in fields of view; without (0, 0)
    centre: tuple[int, int]  # rows and columns of k-space that are left out: they do not alias


def aliases_of(sampling: SamplingSpec, shape: tuple[int, ...]) -> Aliases | None:
    """The aliases of regular lines and points, CAIPI too, in images [y x]; None for other masks.

    Random masks have no finite set of copies: their aliases are spread over the image like noise.

    Points y = ry m, x = rx n + s m (s the CAIPI shift) have the dual lattice (a - s b / rx) / ry, b / rx, with whole
    numbers a and b.
    """
    width = max(getattr(sampling, "reference_lines", 0), LEAST)
    if isinstance(sampling, RegularSpec):
        shifts = [(0.0, j / sampling.acceleration) for j in range(sampling.acceleration)]
        centre = (shape[0], width)
    elif isinstance(sampling, Regular2DSpec):
        ry, rx = sampling.acceleration
        shifts = [((a - sampling.shift * b / rx) / ry, b / rx) for a in range(ry) for b in range(rx)]
        centre = (width, width)
    else:
        return None
    return Aliases(tuple(shifts[1:]), centre) if shifts[1:] else None


def aliasing(image: Image, reference: Image, aliases: Aliases) -> dict[str, float]:
    """How much of an image's error [y x] is aliases of the object; the module has the formula.

    ``aliasing_energy``: the share of the error's energy beyond the centre of k-space; 1 where the error is nothing but
    aliases. It does not change with a complex scale of the image. ``aliasing_nmse``: the aliases' energy over that of
    the reference, |r|^2: the part of the NMSE that is due to aliases. Both are 0 on average for noise, and 0 for an
    image without error.
    """
    outside = np.ones(reference.shape, bool)
    outside[tuple(centre_block(n, min(width, n)) for n, width in zip(reference.shape, aliases.centre, strict=True))] = 0
    detail, found = (fft2c(np.asarray(part, np.complex128)) * outside for part in (reference, image))
    power = np.vdot(detail, detail).real
    left = found - np.vdot(detail, found) / power * detail if power > 0 else found
    total = float(np.linalg.norm(left))
    if total <= ROUNDING * np.linalg.norm(found):
        return {"aliasing_energy": 0.0, "aliasing_nmse": 0.0}
    copies = np.stack([ifft2c(detail * _moved(detail.shape, shift)) for shift in aliases.shifts])
    away = [(y, x) for y in (-AWAY, 0, AWAY) for x in (-AWAY, 0, AWAY) if (y, x) != (0, 0)]
    known, error = _in_blocks(np.concatenate([ifft2c(detail)[None], copies])), _in_blocks(ifft2c(left)[None])
    energy = float(_explained(error, known, [_in_blocks(copies, by) for by in away]).sum())
    return {"aliasing_energy": energy / total**2, "aliasing_nmse": energy / float(np.linalg.norm(reference) ** 2)}


def _moved(shape: tuple[int, ...], shift: tuple[float, float]) -> Image:
    """The factor of k-space [y x] that moves an image by a share of the field of view."""
    y, x = (np.exp(2j * np.pi * f * (np.arange(n) - n // 2)) for f, n in zip(shift, shape, strict=True))
    return np.asarray(y[:, None] * x)


def _in_blocks(images: Image, by: tuple[int, int] = (0, 0)) -> Image:
    """Images [image y x], moved by some pixels, in blocks of nearly equal sides [block image pixel].

    Smaller blocks end with zeros, which change no inner product.
    """
    nothing = np.zeros((len(images), 1), images.dtype)
    flat = np.concatenate([images.reshape(len(images), -1), nothing], axis=1)
    return np.take(flat, _places(images.shape[1:], by), axis=1).swapaxes(0, 1)


@lru_cache(maxsize=32)
def _places(shape: tuple[int, ...], by: tuple[int, int]) -> NDArray[np.intp]:
    """Where the pixels of each block [block pixel] lie in a moved image; the index past its end where there is none."""
    rows, columns = (_cut(length, move) for length, move in zip(shape, by, strict=True))
    y, x = rows[:, None, :, None], columns[None, :, None, :]
    found = np.where((y < 0) | (x < 0), math.prod(shape), y * shape[1] + x)
    return found.reshape(len(rows) * len(columns), -1)


def _cut(length: int, move: int) -> NDArray[np.intp]:
    """An axis, rolled by `move`, in parts [part pixel]; -1 after the end of shorter parts."""
    edges = np.linspace(0, length, max(1, round(length / SIDE)) + 1).round().astype(int)
    pixel = np.arange(np.diff(edges).max())
    return np.where(pixel < np.diff(edges)[:, None], (edges[:-1, None] + pixel - move) % length, -1)


def _explained(error: Image, known: Image, elsewhere: Sequence[Image]) -> NDArray[np.float64]:
    """Energy [block] of each block's error that the copies explain beyond the object's detail and beyond chance.

    `error` is [block 1 pixel]; `known` [block vector pixel] is the detail, followed by the copies. Gram and Schmidt's
    orthogonal vectors are not made: their inner products follow from those of the vectors, one known vector k after the
    other, by <v, w> - <v, k> <k, w> / <k, k>.
    """
    ours = np.concatenate([known, error], axis=1).conj()
    every = (known, *elsewhere)
    products = np.concatenate([ours @ vectors.swapaxes(1, 2) for vectors in every], axis=2)
    with_known, with_error = products[:, :-1], products[:, -1].conj()  # <k, v> [block known vector], <v, e>
    square = np.concatenate([np.linalg.norm(vectors, axis=2) for vectors in every], axis=1) ** 2
    least = np.maximum(SAME**2 * square, np.finfo(np.float64).tiny)
    found, count = np.zeros(len(error)), np.zeros(len(error))
    for k in range(known.shape[1]):
        inverse = _inverse(square[:, k], least[:, k])
        if k > 0:
            found += np.abs(with_error[:, k]) ** 2 * inverse
            count += inverse > 0
        row = with_known[:, k].copy()
        share = row.conj() * inverse[:, None]
        with_error -= share * with_error[:, k, None]
        square -= np.abs(row) ** 2 * inverse[:, None]
        with_known -= share[:, : known.shape[1], None] * row[:, None]
    rest = slice(known.shape[1], None)
    inverse = _inverse(square[:, rest], least[:, rest])
    others = (inverse > 0).sum(1)
    chance = (np.abs(with_error[:, rest]) ** 2 * inverse).sum(1) / np.maximum(others, 1)
    return np.where(others > 0, found - count * chance, 0.0)


def _inverse(square: NDArray[np.float64], least: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / square; 0 where too little of a vector is left after projection."""
    return np.where(square > least, 1 / np.where(square > least, square, 1), 0.0)
