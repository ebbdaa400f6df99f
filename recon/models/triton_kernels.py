"""Kernels for NVIDIA GPUs in Triton: `recon.models.operators` says what each one computes.

Complex arrays are read as pairs of real numbers. Sums over an image are made in two steps: every program writes the sum
of its own block, and the next kernel adds these up. No two programs write to one place, so that results do not depend
on the order in which programs run.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor, empty, view_as_real

from . import solvers

BLOCK = 1024  # numbers that one program reads of each array
COIL_PIXELS = 256  # pixels whose coils one program adds up: few, so that one image keeps all of a GPU at work
PIXELS, CHUNK = 4096, 128  # pixels per program of the activation's backward pass, and per turn of its loop
NULL = tl.constexpr(solvers.NULL)


@triton.jit
def _load_complex(pointer, first, pixels, BLOCK: tl.constexpr):
    at = 2 * first + tl.arange(0, 2 * BLOCK)
    values = tl.load(pointer + at, mask=at < 2 * pixels, other=0.0)
    return tl.split(tl.reshape(values, [BLOCK, 2]))


@triton.jit
def _combine(images, maps, out, pixels, coils: tl.constexpr, shared: tl.constexpr, BLOCK: tl.constexpr):
    sample = tl.program_id(1).to(tl.int64)
    first = tl.program_id(0) * BLOCK
    of_maps = sample * (1 - shared)
    real = tl.zeros([BLOCK], dtype=out.dtype.element_ty)
    imaginary = tl.zeros([BLOCK], dtype=out.dtype.element_ty)
    for coil in range(coils):
        a, b = _load_complex(images + 2 * (sample * coils + coil) * pixels, first, pixels, BLOCK)
        c, d = _load_complex(maps + 2 * (of_maps * coils + coil) * pixels, first, pixels, BLOCK)
        real += a * c + b * d
        imaginary += b * c - a * d
    at = 2 * first + tl.arange(0, 2 * BLOCK)
    both = tl.reshape(tl.join(real, imaginary), [2 * BLOCK])
    tl.store(out + 2 * sample * pixels + at, both, mask=at < 2 * pixels)


def combine(images: Tensor, maps: Tensor) -> Tensor:
    """See `operators.coil_combine`."""
    batch, coils, rows, columns = images.shape
    out = empty((batch, rows, columns), dtype=images.dtype, device=images.device)
    grid = (triton.cdiv(rows * columns, COIL_PIXELS), batch)
    parts = (view_as_real(t) for t in (images, maps, out))
    _combine[grid](*parts, rows * columns, coils, int(len(maps) == 1), COIL_PIXELS)
    return out


@triton.jit
def _products(p, q, shift, sums, size, batch, groups, BLOCK: tl.constexpr):
    group, sample = tl.program_id(0), tl.program_id(1)
    place = group * BLOCK + tl.arange(0, BLOCK)
    inside, at = place < size, sample.to(tl.int64) * size + place
    direction = tl.load(p + at, mask=inside, other=0.0)
    applied = tl.load(q + at, mask=inside, other=0.0) + tl.load(shift + sample) * direction
    tl.store(q + at, applied, mask=inside)
    tl.store(sums + sample * groups + group, tl.sum(direction * applied))
    tl.store(sums + (batch + sample) * groups + group, tl.sum(direction * direction))


@triton.jit
def _advance(x, r, p, q, sums, state, following, limit, size, batch, groups, BLOCK: tl.constexpr, GROUPS: tl.constexpr):
    group, sample = tl.program_id(0), tl.program_id(1)
    each = tl.arange(0, GROUPS)
    curvature = tl.sum(tl.load(sums + sample * groups + each, mask=each < groups, other=0.0))
    square = tl.sum(tl.load(sums + (batch + sample) * groups + each, mask=each < groups, other=0.0))
    rz = tl.load(state + sample)
    largest = tl.load(state + batch + sample)
    live = tl.load(state + 2 * batch + sample)
    left = tl.load(state + 3 * batch + sample)
    active = (live > 0) & (left > 0) & (tl.sqrt(rz) > tl.load(limit + sample))
    value = tl.where(active & (square > 0), curvature / tl.where(square > 0, square, 1.0), 0.0)
    largest = tl.maximum(largest, value)
    live = tl.where(curvature > NULL * largest * square, live, 0.0)
    active = active & (live > 0)
    step = tl.where(active & (curvature > 0), rz / tl.where(curvature > 0, curvature, 1.0), 0.0)
    place = group * BLOCK + tl.arange(0, BLOCK)
    inside, at = place < size, sample.to(tl.int64) * size + place
    tl.store(x + at, tl.load(x + at, mask=inside) + step * tl.load(p + at, mask=inside), mask=inside)
    rest = tl.load(r + at, mask=inside, other=0.0) - step * tl.load(q + at, mask=inside, other=0.0)
    tl.store(r + at, rest, mask=inside)
    tl.store(sums + (2 * batch + sample) * groups + group, tl.sum(rest * rest))
    if group == 0:
        tl.store(following + batch + sample, largest)
        tl.store(following + 2 * batch + sample, live)
        tl.store(following + 3 * batch + sample, left - 1)
        tl.store(following + 4 * batch + sample, tl.where(active, 1.0, 0.0))


@triton.jit
def _turn(p, r, sums, state, following, limit, size, batch, groups, BLOCK: tl.constexpr, GROUPS: tl.constexpr):
    group, sample = tl.program_id(0), tl.program_id(1)
    each = tl.arange(0, GROUPS)
    rz = tl.sum(tl.load(sums + (2 * batch + sample) * groups + each, mask=each < groups, other=0.0))
    old = tl.load(state + sample)
    active = (tl.load(following + 4 * batch + sample) > 0) & (old > 0)
    ratio = tl.where(active, rz / tl.where(old > 0, old, 1.0), 0.0)
    place = group * BLOCK + tl.arange(0, BLOCK)
    inside, at = place < size, sample.to(tl.int64) * size + place
    rest = tl.load(r + at, mask=inside, other=0.0)
    tl.store(p + at, rest + ratio * tl.load(p + at, mask=inside, other=0.0), mask=inside)
    if group == 0:
        tl.store(following + sample, rz)
        live, left = tl.load(following + 2 * batch + sample), tl.load(following + 3 * batch + sample)
        going = (live > 0) & (left > 0) & (tl.sqrt(rz) > tl.load(limit + sample))
        tl.store(following + 5 * batch + sample, tl.where(going, 1.0, 0.0))


def groups_of(size: int) -> int:
    """The number of blocks that an array of `size` real numbers is summed in."""
    return triton.cdiv(size, BLOCK)


def products(p: Tensor, q: Tensor, shift: Tensor, sums: Tensor) -> None:
    """See `operators.cg_products`."""
    batch, size = p.shape
    groups = sums.shape[-1]
    _products[(groups, batch)](p, q, shift, sums, size, batch, groups, BLOCK)


def advance(
    x: Tensor, r: Tensor, p: Tensor, q: Tensor, sums: Tensor, state: Tensor, following: Tensor, limit: Tensor
) -> None:
    """See `operators.cg_advance`."""
    batch, size = p.shape
    groups = sums.shape[-1]
    how = size, batch, groups, BLOCK, triton.next_power_of_2(groups)
    _advance[(groups, batch)](x, r, p, q, sums, state, following, limit, *how)


def turn(p: Tensor, r: Tensor, sums: Tensor, state: Tensor, following: Tensor, limit: Tensor) -> None:
    """See `operators.cg_turn`."""
    batch, size = p.shape
    groups = sums.shape[-1]
    how = size, batch, groups, BLOCK, triton.next_power_of_2(groups)
    _turn[(groups, batch)](p, r, sums, state, following, limit, *how)


@triton.jit
def _interval(values, low, inverse_step, intervals: tl.constexpr):
    position = tl.minimum(tl.maximum((values - low) * inverse_step, 0.0), intervals - 1e-3)
    interval = position.to(tl.int32)
    return interval, position - interval.to(tl.float32)


@triton.jit
def _activate(x, table, out, low, inverse_step, intervals: tl.constexpr, pixels, filters, BLOCK: tl.constexpr):
    plane = tl.program_id(1)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside, at = place < pixels, plane.to(tl.int64) * pixels + place
    values = tl.load(x + at, mask=inside, other=0.0)
    interval, t = _interval(values, low, inverse_step, intervals)
    row = table + ((plane % filters) * intervals + interval) * 4
    made = tl.load(row + 3)
    for power in tl.static_range(2, -1, -1):
        made = made * t + tl.load(row + power)
    tl.store(out + at, tl.where(values == values, made, values), mask=inside)


def activate(x: Tensor, coefficients: Tensor, low: float, step: float) -> Tensor:
    """See `operators.rbf_values`."""
    batch, filters, rows, columns = x.shape
    out = empty(x.shape, dtype=x.dtype, device=x.device)
    grid = (triton.cdiv(rows * columns, BLOCK), batch * filters)
    _activate[grid](x, coefficients, out, low, 1 / step, coefficients.shape[1], rows * columns, filters, BLOCK)
    return out


@triton.jit
def _differentiate(
    x, g, table, dx, sums, low, inverse_step, intervals: tl.constexpr, first, spacing, exponent,
    pixels, filters, NODES: tl.constexpr, PIXELS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    plane, block = tl.program_id(1), tl.program_id(0)
    node = first + spacing * tl.arange(0, NODES).to(tl.float32)
    total = tl.zeros([CHUNK, NODES], dtype=tl.float32)
    for start in range(0, PIXELS, CHUNK):
        place = block * PIXELS + start + tl.arange(0, CHUNK)
        inside, at = place < pixels, plane.to(tl.int64) * pixels + place
        values = tl.load(x + at, mask=inside, other=0.0)
        gradient = tl.load(g + at, mask=inside, other=0.0)
        away = values[:, None] - node[None, :]
        total += gradient[:, None] * tl.exp2(exponent * away * away)
        interval, t = _interval(values, low, inverse_step, intervals)
        row = table + ((plane % filters) * intervals + interval) * 4
        slope = tl.load(row + 1) + t * (2 * tl.load(row + 2) + 3 * t * tl.load(row + 3))
        slope = tl.where(values == values, slope, values)
        tl.store(dx + at, gradient * slope * inverse_step, mask=inside)
    into = sums + (plane.to(tl.int64) * tl.num_programs(0) + block) * NODES + tl.arange(0, NODES)
    tl.store(into, tl.sum(total, axis=0))


def differentiate(
    x: Tensor, g: Tensor, coefficients: Tensor, nodes: int, low: float, step: float, sigma: float, factor: float
) -> tuple[Tensor, Tensor]:
    """See `operators.rbf_gradients`."""
    batch, filters, rows, columns = x.shape
    pixels, padded = rows * columns, triton.next_power_of_2(nodes)
    blocks = triton.cdiv(pixels, PIXELS)
    dx = empty(x.shape, dtype=x.dtype, device=x.device)
    sums = empty((batch, filters, blocks, padded), dtype=x.dtype, device=x.device)
    exponent = -1 / (2 * sigma**2 * 0.6931471805599453)  # exp(-a^2 / (2 sigma^2)) as a power of 2
    _differentiate[(blocks, batch * filters)](
        x, g, coefficients, dx, sums, low, 1 / step, coefficients.shape[1], -1.0, 2 / (nodes - 1), exponent,
        pixels, filters, padded, PIXELS, CHUNK,
    )  # fmt: skip
    return dx, factor * sums.sum(dim=(0, 2))[:, :nodes]
