"""Nickel's network: regularised SENSE and U-nets in turn, each SENSE step with its own bound on noise amplification.

z_0 = 0; for n = 1 ... N: x_n = argmin ||E x - y||^2 + ||x - z_(n-1)||^2 / (4 lam_n^2), z_n = U_n(x_n); z_N is the
result. Networks do not share weights; lam_n are trained as exp(theta_n), and bound how much noise each step can let in
(`recon.sense`). Everything is divided by max |E^H y| / R before, and multiplied after.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .sense import Sense, regularised_sense
from .unet import UNet

Batch = dict[str, Tensor]


class UnrolledSpec(NamedTuple):
    """Sizes of the network; six iterations are the paper's."""

    iterations: int = 6
    channels: int = 32
    levels: int = 3
    lam: float = 4.0  # at first, in every step
    cg_iterations: int = 12
    cg_tolerance: float = 1e-4
    noise_aware: bool = False


class UnrolledSense(nn.Module):
    """``model(batch) -> image`` [batch y x] of batches as `recon.loader` gives them; `seed` draws the weights.

    Noise-aware, lam_n is in units of the optimum for a white prior, SNR / (2 sqrt(R)) with SNR = 1 / sigma in the
    normalised image's units, and each U-net is told log10 of sigma: one model for every SNR. It needs the batch's
    ``sigma``, and raises ValueError where that is not known.
    """

    def __init__(self, spec: UnrolledSpec | None = None, seed: int = 0) -> None:
        super().__init__()
        self.spec = spec or UnrolledSpec()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            conditions = int(self.spec.noise_aware)
            self.nets = nn.ModuleList(
                UNet(self.spec.channels, self.spec.levels, conditions) for _ in range(self.spec.iterations)
            )
        start = 1.0 if self.spec.noise_aware else self.spec.lam
        self.log_lam = nn.Parameter(torch.full((self.spec.iterations,), start).log())

    @property
    def lam(self) -> Tensor:
        """lam_n [iteration]; noise-aware, over SNR / (2 sqrt(R))."""
        return self.log_lam.exp()

    def forward(self, batch: Batch) -> Tensor:
        """Reconstruct a batch."""
        model = Sense(batch["sens_maps"], batch["mask"])
        start = model.adjoint(batch["masked_kspace"]) / model.acceleration
        scale = start.abs().amax(dim=(-2, -1), keepdim=True).clamp_min(1e-30)
        kspace = batch["masked_kspace"] / scale[:, None]
        unit, conditions = self._noise(batch, scale[:, 0, 0], model.acceleration[:, 0, 0])
        z: Tensor | None = None
        for net, lam in zip(self.nets, self.lam, strict=True):
            x = regularised_sense(
                kspace,
                batch["sens_maps"],
                batch["mask"],
                z,
                lam * unit,
                iterations=self.spec.cg_iterations,
                tolerance=self.spec.cg_tolerance,
            )
            z = net(x, conditions)
        return x * scale if z is None else z * scale

    def _noise(self, batch: Batch, scale: Tensor, acceleration: Tensor) -> tuple[Tensor, Tensor | None]:
        """What lam is a multiple of [batch], and what the nets are told [batch 1]."""
        if not self.spec.noise_aware:
            return torch.ones_like(scale), None
        sigma = batch["sigma"] / scale
        if not bool((sigma > 0).all()):
            raise ValueError("a noise-aware network needs the noise level of every pair; some sigma is 0 or not known")
        return 1 / (2 * sigma * acceleration.sqrt()), sigma.log10()[:, None]


class Denoiser(nn.Module):
    """CG-SENSE, then a U-net: the post-processing that Nickel argues against, of as many parameters as one asks for."""

    def __init__(self, channels: int = 32, levels: int = 3, iterations: int = 30, seed: int = 0) -> None:
        super().__init__()
        self.iterations = iterations
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.net = UNet(channels, levels)

    def forward(self, batch: Batch) -> Tensor:
        """Reconstruct a batch."""
        from .sense import cg_sense

        image = cg_sense(batch["masked_kspace"], batch["sens_maps"], batch["mask"], iterations=self.iterations)
        scale = image.abs().amax(dim=(-2, -1), keepdim=True).clamp_min(1e-30)
        result: Tensor = self.net(image / scale) * scale
        return result
