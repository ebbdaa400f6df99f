"""Conjugate gradients for regularised SENSE on a GPU, which never wait for the GPU while it has nothing to do.

The iterations are those of `recon.models.solvers.conjugate_gradient`, in blocks. Whether a block was the last is read
by a copy that runs beside the next block; so one block is made too many, which leaves every sample as it is, bit for
bit. A block is recorded once as a CUDA graph and then repeated (`recon.models.cuda_graphs`).
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from synth.physics import coil_expand

from .cuda_graphs import REPEATS, graphs_wanted, record
from .operators import GOING, LEFT, LIVE, RZ, cg_advance, cg_products, cg_turn, coil_combine, groups_of

LARGE = 2**25  # bytes of coil images from which an iteration takes longer than its launch: blocks are of one iteration
SHAPES = 4  # workspaces that are kept, one per kind of system


@dataclass(frozen=True)
class System:
    """What systems that share a workspace have in common."""

    device: torch.device
    dtype: torch.dtype
    maps: torch.Size
    weight: torch.Size
    image: torch.Size
    axes: tuple[int, ...]
    iterations: int
    tolerance: float

    @property
    def block(self) -> int:
        """Iterations per block."""
        coils = self.image.numel() * self.maps[-3] * self.dtype.itemsize
        return 1 if coils > LARGE else 2


def normal(x: Tensor, maps: Tensor, weight: Tensor, axes: tuple[int, ...]) -> Tensor:
    """A x [batch y x]; `weight` holds R / N on sampled positions, in the order of the uncentred transform.

    With maps [batch set coil y x], x is [batch set y x].
    """
    sets = maps.ndim == 5
    spectrum = torch.fft.fftn(coil_expand(x, maps, sets=True) if sets else maps * x[:, None], dim=axes)
    spectrum *= weight
    seen = torch.fft.ifftn(spectrum, dim=axes, norm="forward")
    return (seen[:, None] * maps.conj()).sum(2) if sets else coil_combine(seen, maps)


@dataclass(eq=False)
class Workspace:
    """The tensors of one kind of system, in places that do not change, so that graphs can use them again."""

    system: System
    maps: Tensor
    weight: Tensor
    x: Tensor
    r: Tensor
    p: Tensor
    shift: Tensor  # [batch], as is limit
    limit: Tensor
    states: tuple[Tensor, Tensor]
    sums: Tensor
    going: Tensor  # in the host's memory
    copied: Any
    graphs: dict[Callable[[], None], Any] = field(default_factory=dict)
    used: int = 0
    owner: weakref.ref[object] = field(default_factory=lambda: weakref.ref(Workspace))

    @classmethod
    def of(cls, system: System) -> Workspace:
        """Its tensors, all 0."""
        batch, real = system.image[0], system.dtype.to_real()
        groups = groups_of(2 * system.image[1:].numel(), system.device)

        def made(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=system.device)

        x, r, p = (made(system.image, system.dtype) for _ in range(3))
        return cls(
            system,
            maps=made(system.maps, system.dtype),
            weight=made(system.weight, real),
            x=x,
            r=r,
            p=p,
            shift=made([batch], real),
            limit=made([batch], real),
            states=(made([6, batch], real), made([6, batch], real)),
            sums=made([3, batch, groups], real),
            going=torch.empty(batch, dtype=real, pin_memory=True),
            copied=torch.cuda.Event(),
        )

    def begin(self) -> None:
        """Set r, p and the state for right-hand sides in r, with x = 0."""
        self.x.zero_()
        self._set_limit()
        self._set_state()

    def begin_from_start(self) -> None:
        """Set r, p and the state for right-hand sides in r, with images in x."""
        self._set_limit()
        shift = self.shift.view(-1, *[1] * (self.x.ndim - 1))
        self.r -= normal(self.x, self.maps, self.weight, self.system.axes) + shift * self.x
        self._set_state()

    def _set_limit(self) -> None:
        norm = _square(self.r).sqrt().clamp_min_(torch.finfo(self.limit.dtype).tiny)
        torch.mul(norm, self.system.tolerance, out=self.limit)

    def _set_state(self) -> None:
        self.p.copy_(self.r)
        state = self.states[0]
        state.zero_()
        state[RZ] = _square(self.r)
        state[LIVE].fill_(1)
        state[LEFT].fill_(self.system.iterations)

    def iterate(self) -> None:
        """One block of iterations."""
        state, following = self.states
        x, r, p = (torch.view_as_real(t).flatten(1) for t in (self.x, self.r, self.p))
        for _ in range(self.system.block):
            q = torch.view_as_real(normal(self.p, self.maps, self.weight, self.system.axes)).flatten(1)
            cg_products(p, q, self.shift, self.sums)
            cg_advance(x, r, p, q, self.sums, state, following, self.limit)
            cg_turn(p, r, self.sums, state, following, self.limit)
            state, following = following, state
        if state is not self.states[0]:
            self.states[0].copy_(state)

    def do(self, work: Callable[[], None]) -> None:
        """`begin`, `begin_from_start` or `iterate`: by its graph, once this kind of system has come back."""
        if work not in self.graphs and self.used > REPEATS and graphs_wanted(self.x):
            kept = [t.clone() for t in (self.x, self.r, self.p, *self.states)]
            self.graphs[work] = record(work)
            for place, value in zip((self.x, self.r, self.p, *self.states), kept, strict=True):
                place.copy_(value)  # recording has made an iteration first
        if work in self.graphs:
            self.graphs[work].replay()
        else:
            work()


def _square(images: Tensor) -> Tensor:
    """||image||^2 [batch]."""
    return torch.view_as_real(images).flatten(1).square().sum(1)


_WORKSPACES: OrderedDict[System, Workspace] = OrderedDict()


def solve(
    owner: object,
    maps: Tensor,
    weight: Tensor,
    axes: tuple[int, ...],
    right: Tensor,
    start: Tensor | None,
    shift: Tensor,
    iterations: int,
    tolerance: float,
) -> Tensor:
    """X [batch y x] (or [batch set y x]) of (A + shift) x = right, with shift [batch]; all samples end as on a CPU.

    `owner` is the model whose maps and weight these are: they are copied once per owner and shape.
    """
    w = _workspace(
        System(right.device, right.dtype, maps.shape, weight.shape, right.shape, axes, iterations, tolerance)
    )
    if w.owner() is not owner:
        w.maps.copy_(maps)
        w.weight.copy_(weight)
        w.owner = weakref.ref(owner)
    w.shift.copy_(shift)
    w.r.copy_(right)
    if start is not None:
        w.x.copy_(start)
    w.do(w.begin if start is None else w.begin_from_start)
    for block in range(-(-iterations // w.system.block)):
        w.do(w.iterate)
        if block > 0:
            w.copied.synchronize()  # of the block before this one, so that the GPU is at work meanwhile
            if not bool(w.going.any()):
                break
        w.going.copy_(w.states[0][GOING], non_blocking=True)
        w.copied.record()
    return w.x.clone()


def _workspace(system: System) -> Workspace:
    w = _WORKSPACES.pop(system, None) or Workspace.of(system)
    _WORKSPACES[system] = w
    while len(_WORKSPACES) > SHAPES:
        _WORKSPACES.popitem(last=False)
    w.used += 1
    return w
