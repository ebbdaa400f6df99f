"""The variational network of Hammernik 2018 and Knoll 2019: gradient steps with learned filters and activations.

Stage t:  u <- u - (1 / N_k) sum_i K_i^H phi_i(K_i u) - lam A^H (A u - f), u_0 = A^H f, where K_i correlates the real
part and the imaginary part with one kernel each and adds the two results, phi_i is a sum of Gaussians, and A is not
scaled: A^H A has the diagonal 1 / R. As in the authors' code (mri-variationalnetwork), the regulariser is divided by
the number of filters, images are padded symmetrically and cropped after (there by 11 pixels; 10 give the same result),
and all data are divided by max |A^H f|.

The papers' network is not noise-aware. In a noise-aware network, each stage multiplies its two terms by powers of the
noise level, so that one model serves every SNR. The powers are learned, and start at 0, which is the papers' network.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from synth.given import refuse_other_type
from synth.settings.spec import Spec

from ..data.packed_batch import Batch, known_sigma
from .cuda_graphs import Graphed
from .filters import correlate, transposed
from .rbf import RbfKind, RbfTable, rbf
from .sense import Sense

USUAL_NOISE = 0.02  # a common noise level over the largest magnitude; with it, powers near 0 change little at first


class VariationalSpec(Spec):
    """``[model] kind = "variational"``; the defaults are Knoll 2019's, 65,530 parameters."""

    kind: Literal["variational"] = Field(default="variational", description="the variational network of Knoll 2019")
    stages: int = Field(default=10, ge=1, le=100, description="gradient steps, each with its own parameters")
    filters: int = Field(default=24, ge=1, le=1024, description="complex filters of a stage")
    kernel: int = Field(default=11, ge=3, le=31, description="side of the filters in pixels, an odd number")
    nodes: int = Field(default=31, ge=3, le=255, description="radial basis functions of an activation")
    rbf: RbfKind = Field(
        default="icg", description="width of these functions: icg, as in the papers; optox or bart, as in later code"
    )
    lam: float = Field(default=1.0, ge=0, description="first weight of the data term")
    noise_aware: bool = Field(default=False, description="whether each pair's sigma is an input of the network")

    @field_validator("kernel")
    @classmethod
    def _odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError(f"must be odd, so that filters have a centre; write {kernel + 1}")
        return kernel


class VariationalStage(nn.Module):
    """One gradient step."""

    def __init__(self, spec: VariationalSpec, table: RbfTable, generator: torch.Generator) -> None:
        super().__init__()
        shape = (spec.filters, 2, spec.kernel, spec.kernel)
        self.kernels = nn.Parameter(torch.randn(shape, generator=generator) / spec.kernel)
        self.weights = nn.Parameter(0.04 * table.centres.expand(spec.filters, -1).clone())
        self.lam = nn.Parameter(torch.tensor(float(spec.lam)))
        self.powers = nn.Parameter(torch.zeros(2)) if spec.noise_aware else None  # of the noise: for regulariser, data
        self.table = table
        self.project()

    def regulariser(self, u: Tensor) -> Tensor:
        """(1 / N_k) sum_i K_i^H phi_i(K_i u) of images [batch y x], or of each set of [batch set y x]."""
        if u.ndim == 4:
            return self.regulariser(u.flatten(0, 1)).view_as(u)
        filters, _, size, _ = self.kernels.shape
        parts = symmetric_pad(torch.stack([u.real, u.imag], dim=1), size - 1)
        activated = rbf(correlate(parts, self.kernels), self.weights, self.table)
        back = transposed(activated, self.kernels) / filters
        return torch.complex(back[:, 0], back[:, 1])

    def forward(self, u: Tensor, gradient: Callable[[Tensor], Tensor], noise: Tensor | None = None) -> Tensor:
        """The next image; `gradient` is u -> A^H (A u - f), `noise` [batch] the noise level over `USUAL_NOISE`."""
        if self.powers is None or noise is None:
            return u - self.regulariser(u) - self.lam * gradient(u)
        level = noise.view(-1, *[1] * (u.ndim - 1))
        regulariser, data = (level**power for power in self.powers)
        return u - regulariser * self.regulariser(u) - self.lam * data * gradient(u)

    @torch.no_grad()
    def project(self) -> None:
        """Project onto the constraints: kernels with zero mean in each part and norm at most 1, lam at least 0."""
        self.kernels.copy_(_constrained(self.kernels))
        self.lam.clamp_min_(0.0)


class VariationalNetwork(nn.Module):
    """Knoll's variational network; called as ``model(batch) -> image`` [batch y x], or [batch set y x] with map sets.

    Parameters
    ----------
    spec
        The network's settings; by default the paper's.
    seed
        The seed of the initial kernels.
    """

    def __init__(self, spec: VariationalSpec | None = None, seed: int = 0) -> None:
        super().__init__()
        self.spec = VariationalSpec() if spec is None else spec
        refuse_other_type(self.spec, VariationalSpec, "this network is made from a VariationalSpec")
        self.checkpointing = False
        self.table = RbfTable(self.spec.nodes, self.spec.rbf)
        generator = torch.Generator().manual_seed(seed)
        self.stages = nn.ModuleList(VariationalStage(self.spec, self.table, generator) for _ in range(self.spec.stages))

    def forward(self, batch: Batch) -> Tensor:
        """Reconstruct a batch."""
        given = [batch[name] for name in ("masked_kspace", "sens_maps", "mask")]
        if self.spec.noise_aware:
            given.append(known_sigma(batch))
        return self._reconstruct(*given) if self.checkpointing else self._graphed(*given)

    @cached_property
    def _graphed(self) -> Graphed:
        return Graphed(self, self._reconstruct)

    def _reconstruct(self, kspace: Tensor, maps: Tensor, mask: Tensor, sigma: Tensor | None = None) -> Tensor:
        model = Sense(maps, mask)
        start = model.adjoint(kspace) / model.acceleration
        scale = start.abs().amax(dim=tuple(range(1, start.ndim)), keepdim=True).clamp_min(1e-30)
        data = start / scale

        def gradient(u: Tensor) -> Tensor:
            return model.normal(u) / model.acceleration - data

        noise = None if sigma is None else sigma / scale.flatten() / USUAL_NOISE
        u = data
        for stage in self.stages:
            given = u, gradient, noise
            if self.checkpointing:  # stages draw nothing
                u = checkpoint(stage, *given, use_reentrant=False, preserve_rng_state=False)
            else:
                u = stage(*given)
        return u * scale

    @torch.no_grad()
    def project(self) -> None:
        """Project every stage's parameters, all at once; training calls this after each step."""
        kernels, _, lam = ([p.detach() for p in block] for block in self.blocks())
        torch._foreach_copy_(kernels, _constrained(torch.stack(kernels)).unbind())
        torch._foreach_clamp_min_(lam, 0.0)

    @property
    def lam(self) -> Tensor:
        """The weight of the data in every stage [stage]."""
        return torch.stack([stage.lam for stage in self.stages])  # type: ignore[misc]

    def blocks(self) -> list[list[nn.Parameter]]:
        """The blocks that iPALM updates in turn: kernels, weights and lam of all stages."""
        return [[getattr(stage, name) for stage in self.stages] for name in ("kernels", "weights", "lam")]


def _constrained(kernels: Tensor) -> Tensor:
    """Kernels [... filter part y x] with zero mean in each part, and norm at most 1."""
    centred = kernels - kernels.mean(dim=(-2, -1), keepdim=True)
    norm = centred.flatten(-3).norm(dim=-1).clamp_min(1.0)
    return centred / norm[..., None, None, None]


def symmetric_pad(image: Tensor, width: int) -> Tensor:
    """Pad [... y x] on all sides by reflection that repeats the edge: numpy's mode "symmetric"."""
    for axis in (-2, -1):
        image = image.index_select(axis, _reflected(image.shape[axis], width, image.device))
    return image


@lru_cache(maxsize=16)
def _reflected(count: int, width: int, device: torch.device) -> Tensor:
    """Where each pixel of the padded axis comes from; kept, so that a GPU does not wait for it again."""
    index: Any = np.pad(np.arange(count), width, mode="symmetric")
    return torch.from_numpy(index).to(device)
