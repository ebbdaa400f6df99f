"""iPALM, the optimiser of Knoll 2019: inertial proximal steps, block by block, with a step size found by trial.

Pock and Sabach, SIAM J Imaging Sci 9:1756, 2016, in the stochastic form of the authors' code (mri-variationalnetwork):
one mini-batch per step; for each block of parameters t in turn

    t~ = t + beta (t - t_old);  E0, g = loss and gradient at t~, other blocks at their newest values
    repeat: t = prox(t~ - g / L), E = loss(t), Q = E0 + Re <t - t~, g> + L / 2 ||t - t~||^2
            until E <= Q (1 + 1e-3 sign Q); each failure doubles L; success ends the block with L = 0.75 L

Each block thus costs one gradient and at least one more loss. The momentum 0.7 lies outside the range of the theory,
[0, 0.5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

TRIALS = 40
SLACK = 1e-3
LEAST, MOST = 1e-3, 1e12  # bounds of L


class Ipalm(Optimizer):
    """Updates `blocks` of parameters in turn; `prox` projects the parameters onto their constraints, in place.

    `lipschitz` is the initial L of every block. It scales with the loss: the authors' 1000 is for the sum over pixels.
    """

    def __init__(
        self,
        blocks: Sequence[Sequence[Tensor]],
        prox: Callable[[], None],
        momentum: float = 0.7,
        lipschitz: float = 1000.0,
    ) -> None:
        groups = [{"params": list(block)} for block in blocks]
        super().__init__(groups, {"momentum": momentum, "lipschitz": lipschitz})
        self.prox = prox

    @torch.no_grad()
    def step(self, closure: Callable[..., Tensor]) -> Tensor:  # type: ignore[override]
        """One step of every block; `closure(backward=...)` gives the loss [], with gradients unless told otherwise.

        The device is waited for once in every trial.
        """
        losses = [self._step_block(group, closure) for group in self.param_groups]
        return losses[0]

    def _step_block(self, group: dict[str, Any], closure: Callable[..., Tensor]) -> Tensor:
        params: list[Tensor] = group["params"]
        for p in params:
            old, here = self.state[p].get("previous", p), p.clone()
            p.add_(group["momentum"] * (p - old))
            self.state[p]["previous"] = here
        with torch.enable_grad():
            before = closure(backward=True)
        start = [p.clone() for p in params]
        slopes = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in params]
        where = before.double()
        curvature = float(group["lipschitz"])
        for _ in range(TRIALS):
            torch._foreach_copy_(params, torch._foreach_sub(start, torch._foreach_div(slopes, curvature)))
            self.prox()
            after = closure(backward=False)
            moved = torch._foreach_sub(params, start)
            linear, square = (_total(torch._foreach_mul(moved, by)) for by in (slopes, moved))
            bound = where + linear + curvature / 2 * square
            if bool(after <= bound + SLACK * bound.abs()):
                curvature = max(0.75 * curvature, LEAST)
                break
            curvature = min(2 * curvature, MOST)
        group["lipschitz"] = curvature
        return before


def _total(parts: Sequence[Tensor]) -> Tensor:
    """The sum [] of all numbers of all tensors, added up in double precision."""
    return torch.stack([part.sum() for part in parts]).double().sum()
