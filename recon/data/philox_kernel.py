"""A kernel for NVIDIA GPUs in Triton: `recon.data.philox.noise_parts` in one pass over its memory."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor, empty, float32

BLOCK = 512  # counters of one program
EVEN, ODD = tl.constexpr(0xD2511F53), tl.constexpr(0xCD9E8D57)
WEYL0, WEYL1 = tl.constexpr(0x9E3779B9), tl.constexpr(0xBB67AE85)
BELOW_ONE = tl.constexpr(1 - 2.0**-24)
UNIT, HALF = tl.constexpr(2.0**-32), tl.constexpr(2.0**-33)
TURN = tl.constexpr(3.141592653589793 * 2.0**-31)


@triton.jit
def _normals(word, other):
    u = tl.minimum(word.to(tl.float32) * UNIT + HALF, BELOW_ONE)
    radius = tl.sqrt(-2 * tl.log(u))
    angle = (other ^ 0x80000000).to(tl.int32, bitcast=True).to(tl.float32) * TURN
    return tl.cos(angle) * radius, tl.sin(angle) * radius


@triton.jit
def _noise(out, index, key0, key1, rows, first, count, n, half, counters, BLOCK: tl.constexpr):
    pair = tl.program_id(1)
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)  # of the counter in [coil count half]
    column, line = number % half, number // half
    c0 = (((line // count) * rows + first + line % count) * half + column).to(tl.uint32)
    which = tl.load(index + pair)
    c1 = tl.zeros([BLOCK], tl.uint32) + (which & 0xFFFFFFFF).to(tl.uint32)
    c2 = tl.zeros([BLOCK], tl.uint32) + (which >> 32).to(tl.uint32)
    c3 = tl.zeros([BLOCK], tl.uint32)
    k0 = (tl.zeros([BLOCK], tl.int64) + key0).to(tl.uint32)
    k1 = (tl.zeros([BLOCK], tl.int64) + key1).to(tl.uint32)
    even, odd = tl.full([BLOCK], EVEN, tl.uint32), tl.full([BLOCK], ODD, tl.uint32)
    for _ in tl.static_range(10):
        high0, low0 = tl.umulhi(even, c0), even * c0
        high1, low1 = tl.umulhi(odd, c2), odd * c2
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 = k0 + tl.full([BLOCK], WEYL0, tl.uint32)
        k1 = k1 + tl.full([BLOCK], WEYL1, tl.uint32)
    a, b = _normals(c0, c1)
    c, d = _normals(c2, c3)
    at = out + 2 * ((pair.to(tl.int64) * (counters // half) + line) * n + 2 * column)
    inside = number < counters
    both = inside & (2 * column + 1 < n)
    tl.store(at, a, mask=inside)
    tl.store(at + 1, b, mask=inside)
    tl.store(at + 2, c, mask=both)
    tl.store(at + 3, d, mask=both)


def noise_parts(index: Tensor, key0: int, key1: int, coils: int, rows: int, first: int, count: int, n: int) -> Tensor:
    """See `philox.noise_parts`."""
    out = empty((len(index), coils, count, n, 2), dtype=float32, device=index.device)
    half = (n + 1) // 2
    counters = coils * count * half
    _noise[(triton.cdiv(counters, BLOCK), len(index))](
        out, index, key0, key1, rows, first, count, n, half, counters, BLOCK
    )
    return out
