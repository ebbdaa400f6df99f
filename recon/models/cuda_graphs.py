"""CUDA graphs: kernels that are recorded once and then repeated, without Python in between.

A GPU computes a small batch faster than Python can ask for kernels. A function that asks the host for nothing is
recorded for each shape of its arguments, forward and backward, when that shape comes for the third time. The numbers
are those of the recorded kernels. `FATHOM_CUDA_GRAPHS=0` in the environment switches graphs off.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

FLAG = "FATHOM_CUDA_GRAPHS"
REPEATS = 2  # how often a shape is computed without a graph at first
THREADS: dict[str, Any] = {"capture_error_mode": "thread_local"}  # other threads read and pin batches meanwhile
SHAPES = 4  # most shapes of one function that are recorded, since each keeps its memory
_paused = ContextVar("paused", default=False)


def graphs_wanted(tensor: Tensor) -> bool:
    """Whether work on this tensor is to be recorded."""
    return type(tensor) is Tensor and tensor.is_cuda and graphs_on() and not _paused.get()


@contextmanager
def without_graphs() -> Iterator[None]:
    """Record and repeat nothing: the gradients of a recorded function cannot be differentiated."""
    token = _paused.set(True)
    try:
        yield
    finally:
        _paused.reset(token)


def graphs_on() -> bool:
    """Whether the environment leaves graphs on."""
    return os.environ.get(FLAG, "1") != "0"


def record(work: Callable[[], None]) -> torch.cuda.CUDAGraph:
    """A graph of what `work` asks of the GPU; `work` is done once first."""
    _rehearse(work)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, **THREADS):
        work()
    return graph


def _rehearse(work: Callable[[], None]) -> None:
    """Do the work beside the current stream: kernels are compiled and plans are made before they can be recorded."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        work()
    torch.cuda.current_stream().wait_stream(side)


@dataclass
class _Recorded:
    """A function's graphs, and the tensors that they read and write."""

    given: list[Tensor]
    made: Tensor
    forward: torch.cuda.CUDAGraph
    gradient: Tensor | None = None
    slopes: Sequence[Tensor | None] = ()  # of what is given and of the parameters
    packed: Sequence[Tensor] = ()  # the same, one tensor for each type of number
    backward: torch.cuda.CUDAGraph | None = None
    turn: int = 0  # how often the forward graph was repeated


class Graphed:
    """A function of tensors and of a module's parameters, which gives one tensor; recorded on a GPU.

    Parameters
    ----------
    module
        The module, whose parameters must stay where they are in memory.
    function
        Called with the tensors; it must not ask the host for numbers. By default the module itself.
    """

    def __init__(self, module: nn.Module, function: Callable[..., Tensor] | None = None) -> None:
        self._module, self._function = module, function or module
        self._parameters = list(module.parameters())
        self._seen: dict[tuple[Any, ...], int] = {}
        self._recorded: dict[tuple[Any, ...], _Recorded] = {}

    def __call__(self, *given: Tensor) -> Tensor:
        """The function's value, with gradients in the tensors that require them, and in the parameters."""
        if not graphs_wanted(given[0]) or torch.cuda.is_current_stream_capturing():
            return self._function(*given)
        learning = torch.is_grad_enabled()
        key = (learning, *((t.shape, t.dtype, learning and t.requires_grad) for t in given))
        if key not in self._recorded:
            self._seen[key] = self._seen.get(key, 0) + 1
            if self._seen[key] <= REPEATS or len(self._recorded) >= SHAPES:
                return self._function(*given)
            self._recorded[key] = self._record(given, learning)
        recorded = self._recorded[key]
        if not learning:
            return _run(recorded, given)
        made: Tensor = _Replay.apply(recorded, len(given), *given, *self._parameters)  # type: ignore[no-untyped-call]
        return made

    def _record(self, given: Sequence[Tensor], learning: bool) -> _Recorded:
        with _leaves_of(self._module) as parameters:
            return self._record_with(given, learning, parameters)

    def _record_with(self, given: Sequence[Tensor], learning: bool, parameters: list[Tensor]) -> _Recorded:
        still = [t.detach().clone().requires_grad_(learning and t.requires_grad) for t in given]
        wanted = [t for t in (*still, *parameters) if learning and t.requires_grad]

        def work() -> None:
            made = self._function(*still)
            if wanted:
                torch.autograd.grad(made, wanted, torch.ones_like(made), allow_unused=True)

        _rehearse(work)
        forward = torch.cuda.CUDAGraph()
        with torch.cuda.graph(forward, **THREADS):
            made = self._function(*still)
        if not wanted:
            return _Recorded(still, made.detach(), forward)
        backward, gradient = torch.cuda.CUDAGraph(), torch.zeros_like(made)
        with torch.cuda.graph(backward, pool=forward.pool(), **THREADS):
            found = torch.autograd.grad(made, wanted, gradient, allow_unused=True)
            packed = _pack([slope for slope in found if slope is not None])
        slopes = iter(found)
        every = [next(slopes) if t.requires_grad else None for t in (*still, *parameters)]
        return _Recorded(still, made.detach(), forward, gradient, every, packed, backward)


@contextmanager
def _leaves_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """New leaves over the same memory in place of the parameters: gradients of the old ones belong to other streams."""
    kept = [(m, name, p) for m in module.modules() for name, p in m._parameters.items() if p is not None]
    new = {id(p): p.detach().requires_grad_(p.requires_grad) for _, _, p in kept}
    for owner, name, p in kept:
        owner._parameters[name] = new[id(p)]  # type: ignore[assignment]
    try:
        yield [new[id(p)] for p in {id(p): p for _, _, p in kept}.values()]
    finally:
        for owner, name, p in kept:
            owner._parameters[name] = p


def _pack(tensors: Sequence[Tensor]) -> list[Tensor]:
    """All numbers of dense tensors, as they lie in memory: one tensor for each type of number."""
    kinds = dict.fromkeys(t.dtype for t in tensors)
    return [torch.cat([t.as_strided([t.numel()], [1]) for t in tensors if t.dtype == kind]) for kind in kinds]


def _unpack(packed: Sequence[Tensor], like: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Copies of the packed tensors, with the shapes and strides of `like`."""
    copies = {p.dtype: p.clone() for p in packed}
    used = dict.fromkeys(copies, 0)
    found: list[Tensor | None] = []
    for t in like:
        if t is None:
            found.append(None)
        else:
            found.append(copies[t.dtype].as_strided(t.shape, t.stride(), used[t.dtype]))
            used[t.dtype] += t.numel()
    return found


def _run(recorded: _Recorded, given: Sequence[Tensor]) -> Tensor:
    for place, tensor in zip(recorded.given, given, strict=True):
        place.data.copy_(tensor)
    recorded.forward.replay()
    recorded.turn += 1
    return recorded.made.clone()


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, recorded: _Recorded, count: int, *tensors: Tensor) -> Tensor:
        """Repeat the forward graph; the parameters are among the tensors so that they get gradients."""
        made = _run(recorded, tensors[:count])
        ctx.recorded, ctx.turn = recorded, recorded.turn
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Repeat the backward graph, which knows what the last forward pass has left; raises RuntimeError for others.

        The gradients are copies, in one piece: they stay what they are when the graph is repeated.
        """
        recorded: _Recorded = ctx.recorded
        if recorded.turn != ctx.turn:
            raise RuntimeError(
                "a network ran forward again before this backward pass, and its CUDA graph keeps one pass; set "
                f"{FLAG}=0 in the environment"
            )
        assert recorded.backward is not None
        assert recorded.gradient is not None
        recorded.gradient.copy_(gradients[0])
        recorded.backward.replay()
        return None, None, *_unpack(recorded.packed, recorded.slopes)
