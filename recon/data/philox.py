"""Counter-based random numbers: each number is a function of a key and of its own place, on any device.

Philox4x32 with ten rounds (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011) turns a
counter of four words of 32 bits and a key of two words into four random words. Different counters under one key give
independent words, so that no state is kept, and the order in which numbers are made does not matter.
"""

from __future__ import annotations

import importlib.util

import numpy as np
import torch
from torch import Tensor

from synth.rng import rng

TRITON = importlib.util.find_spec("triton") is not None
if TRITON:
    from . import philox_kernel

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # golden ratio, sqrt(3) - 1: added to the key after each round
MASK = 0xFFFFFFFF
BELOW_ONE = 1 - 2.0**-24  # the largest number below 1 in single precision


def philox4x32(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Four random words of 32 bits for each counter, in int64; counters are int64 tensors, which broadcast.

    A round is (c0, c1, c2, c3) -> (hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0)). Products wrap
    around at 64 bits, and the mask removes the sign that the shift brings in.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        even, odd = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c2 = ((odd >> 32) & MASK) ^ c1 ^ k0, ((even >> 32) & MASK) ^ c3 ^ k1
        c1, c3 = odd & MASK, even & MASK
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1, c2, c3


def key_of(seed: int, stage: str) -> tuple[int, int]:
    """The key of a seed's stage, from the generator that `synth.rng` gives them."""
    first, second = rng(seed, stage).integers(2**32, size=2).tolist()
    return first, second


def complex_normals(words: Tensor, others: Tensor) -> Tensor:
    """Real and imaginary parts [... 2] in float32, each of variance 1, from two tensors of random words.

    Box and Muller, Ann Math Stat 29:610, 1958: sqrt(-2 ln u) (cos t, sin t) with u = (word + 1/2) / 2^32, which
    rounding keeps above 0 and the minimum below 1, and t = 2 pi other / 2^32 - pi. Because u >= 2^-33, no part exceeds
    6.8.
    """
    u = (words.float() * 2.0**-32 + 2.0**-33).clamp_(max=BELOW_ONE)
    radius = u.log_().mul_(-2).sqrt_()
    angle = (others - 2**31).float().mul_(np.pi * 2.0**-31)
    return torch.stack([angle.cos() * radius, angle.sin() * radius], dim=-1)


@torch.library.custom_op("fathom::noise_parts", mutates_args=())
def noise_parts(index: Tensor, key0: int, key1: int, coils: int, rows: int, first: int, count: int, n: int) -> Tensor:
    """Real and imaginary parts [pair coil count n 2] of white noise of sigma 1, for pairs of these indices [pair].

    These are rows `first` ... of the noise [coil rows n] of each pair. One counter gives two neighbouring columns: its
    words are the place of the two in [coil rows ceil(n / 2)], the index's low and high half, and 0.
    """
    half = (n + 1) // 2
    place = torch.arange(coils, device=index.device)[:, None, None] * rows
    place = place + torch.arange(first, first + count, device=index.device)[:, None]
    place = place * half + torch.arange(half, device=index.device)
    out = torch.empty((len(index), coils, count, n, 2), device=index.device)
    zero = torch.zeros((), dtype=torch.int64, device=index.device)
    for k in range(len(index)):  # one by one, because the words of a pair take six times the memory of its noise
        words = philox4x32((place, index[k] & MASK, index[k] >> 32, zero), (key0, key1))
        out[k, :, :, ::2] = complex_normals(words[0], words[1])
        out[k, :, :, 1::2] = complex_normals(words[2], words[3])[:, :, : n // 2]
    return out


def complex_noise(index: Tensor, key: tuple[int, int], coils: int, rows: int, taken: slice, n: int) -> Tensor:
    """White complex noise [pair coil row n], complex64, of sigma 1 in each part: rows `taken` of [coil rows n]."""
    return torch.view_as_complex(noise_parts(index, *key, coils, rows, taken.start, taken.stop - taken.start, n))


if TRITON:
    noise_parts.register_kernel("cuda")(philox_kernel.noise_parts)
