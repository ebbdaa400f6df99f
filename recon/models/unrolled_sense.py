"""Nickel's network: regularised SENSE and U-nets in turn, each SENSE step with its own bound on noise amplification.

z_0 = 0; for n = 1 ... N: x_n = argmin ||E x - y||^2 + ||x - z_(n-1)||^2 / (4 lam_n^2), z_n = U_n(x_n); z_N is the
result. Networks do not share weights; lam_n are trained as exp(theta_n), and bound how much noise each step can let in
(`recon.models.sense`). The data are divided by max |E^H y| / R at first, and the result is multiplied by it at the end.

With `shrinkage` (ours, not the paper's) an untrained network is an l1-wavelet reconstruction by ADMM (Boyd et al. 2011,
scaled form), in which thresholds fall from step to step and shrinkage at every shift replaces the proximal map.
Training then corrects it. From u_0 = 0,

    x_n = argmin ||E x - y||^2 + ||x - (z_(n-1) - u_(n-1))||^2 / (4 lam_n^2),   v_n = x_n + u_(n-1),
    z_n = U_n(S_n(v_n), v_n),   u_n = m_n (v_n - z_n),

where S_n applies soft thresholds to Haar coefficients at every shift (`recon.models.shrinkage`). The thresholds are
trained, and so is m_n, which starts at 1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from synth.given import refuse_other_type
from synth.settings.spec import Spec

from ..data.packed_batch import Batch, known_sigma
from .cuda_graphs import Graphed
from .misfit import misfit
from .sense import Gradients, Sense, cg_sense, mu_of, residual_of, towards
from .shrinkage import FIRST, LAST, ShrinkageUNet
from .unet import UNet

MOST, EARLIER = 200, 12  # conjugate gradients of a SENSE step, where the settings give no number
USUAL = 20.0  # a common value of SNR / (2 sqrt(R)), with the image's maximum as the signal


class UnrolledSpec(Spec):
    """``[model] kind = "unrolled-sense"``; six iterations are the paper's.

    `UnrolledSense.residuals` shows whether the conjugate gradients were enough; in earlier versions their default was
    `EARLIER` iterations.
    """

    kind: Literal["unrolled-sense"] = Field(
        default="unrolled-sense", description="the unrolled SENSE of Nickel: SENSE steps and U-nets in turn"
    )
    iterations: int = Field(default=6, ge=1, le=50, description="SENSE steps, each followed by a net")
    channels: int = Field(default=32, ge=1, le=1024, description="channels of a U-net at its first level")
    levels: int = Field(default=3, ge=1, le=7, description="how often a U-net halves the image")
    lam: float | None = Field(
        default=None, gt=0, le=1e6, description="initial lam of every step; default 4, or 0.5 if noise-aware"
    )
    cg_iterations: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description=f"per step; too few regularise in place of lam; default: until cg_tolerance, at most {MOST}",
    )
    cg_tolerance: float = Field(
        default=1e-4, ge=0, lt=1, description="conjugate gradients end when the residual has fallen to this fraction"
    )
    gradients: Gradients = Field(  # with "iterations", which are exact, trainings were slower in trials
        default="implicit",
        description="of a SENSE step: implicit, by the implicit function theorem; iterations, through every iteration",
    )
    noise_aware: bool = Field(
        default=False, description="whether each pair's sigma is an input of the network, so that lam follows the SNR"
    )
    bf16: bool = Field(default=False, description="convolutions in bfloat16")
    shrinkage: bool = Field(  # left out where it is off, so that earlier trainings keep their identity
        default=False, exclude_if=lambda on: not on, description="whether nets correct shrunk Haar coefficients"
    )
    misfit_aware: bool = Field(  # left out where it is off, as above
        default=False,
        exclude_if=lambda on: not on,
        description="whether lam falls where coil maps do not explain the samples at k-space's centre; it needs "
        "noise_aware",
    )

    @model_validator(mode="after")
    def _misfit_over_noise(self) -> UnrolledSpec:
        if self.misfit_aware and not self.noise_aware:
            raise ValueError("misfit_aware needs noise_aware = true: the misfit is over the noise")
        return self

    @property
    def revision(self) -> str:
        """A note on settings whose meaning has changed since earlier versions; part of a training's identity."""
        return "lam follows a power of the SNR" if self.noise_aware else ""

    @property
    def first_lam(self) -> float:
        """`lam`, or its default; if noise-aware, sqrt(1/2) would be best for an image whose rms equals its maximum."""
        return self.lam or (0.5 if self.noise_aware else 4.0)


class DenoiserSpec(Spec):
    """``[model] kind = "denoiser"``: one U-net after CG-SENSE."""

    kind: Literal["denoiser"] = Field(default="denoiser", description="one U-net after CG-SENSE")
    channels: int = Field(default=32, ge=1, le=1024, description="channels of the U-net at its first level")
    levels: int = Field(default=3, ge=1, le=7, description="how often the U-net halves the image")
    cg_iterations: int = Field(default=30, ge=1, le=10_000, description="iterations of CG-SENSE")
    noise_aware: bool = Field(default=False, description="whether each pair's sigma is an input of the network")
    bf16: bool = Field(default=False, description="convolutions in bfloat16")


def largest_of(image: Tensor) -> Tensor:
    """Largest magnitude of each sample of images [batch y x] or [batch set y x], as [batch 1 1] or [batch 1 1 1]."""
    return image.abs().amax(dim=tuple(range(1, image.ndim)), keepdim=True).clamp_min(1e-30)


def each_set(net: Callable[..., Tensor], image: Tensor, conditions: Tensor | None = None) -> Tensor:
    """A net's images of images [batch y x] or [batch set y x]; the net sees each set's image alone.

    It is called with images [batch y x] and, unless they are None, `conditions` [batch condition].
    """
    if image.ndim == 4 and conditions is not None:
        conditions = conditions.repeat_interleave(image.shape[1], dim=0)
    given = image.flatten(0, -3)
    return (net(given) if conditions is None else net(given, conditions)).view_as(image)


class UnrolledSense(nn.Module):
    """Nickel's network; called as ``model(batch) -> image`` [batch y x], or [batch set y x] with map sets.

    A noise-aware network is one model for every SNR. Sigma is an input of each U-net, and the lam of step n is
    lam_n u (s / u)^(p_n). Here s = SNR / (2 sqrt(R)), with SNR = 1 / sigma in units of the normalised image and of each
    part, is sqrt(2) times the optimum for a white prior; u = `USUAL` is a common value of s; p_n is trained, and starts
    from 1, its value for a white prior. The better the prior is, the less lam needs to follow the SNR. A noise-aware
    network needs the batch's ``sigma``, and raises ValueError where that is not known.

    What coil maps do not explain of the samples acts as noise, but sigma does not tell it. A misfit-aware network
    divides lam by chi^(q_n), where chi >= 1 is the pair's misfit (`recon.models.misfit`), and q_n is trained, starting
    from 0.

    Parameters
    ----------
    spec
        The network's settings; by default the paper's.
    seed
        The seed of the initial weights.
    """

    def __init__(self, spec: UnrolledSpec | None = None, seed: int = 0) -> None:
        super().__init__()
        self.spec = UnrolledSpec() if spec is None else spec
        refuse_other_type(self.spec, UnrolledSpec, "this network is made from an UnrolledSpec")
        self.checkpointing = False
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            size = self.spec.channels, self.spec.levels, int(self.spec.noise_aware)
            self.nets = nn.ModuleList(self._net(number, *size) for number in range(self.spec.iterations))
        self.memory = nn.Parameter(torch.ones(self.spec.iterations - 1)) if self.spec.shrinkage else None
        self.log_lam = nn.Parameter(torch.full((self.spec.iterations,), self.spec.first_lam).log())
        self.powers = nn.Parameter(torch.ones(self.spec.iterations)) if self.spec.noise_aware else None
        self.misfit_powers = nn.Parameter(torch.zeros(self.spec.iterations)) if self.spec.misfit_aware else None

    def _net(self, number: int, channels: int, levels: int, conditions: int) -> nn.Module:
        """The net after SENSE step `number`; initial thresholds fall geometrically from step to step, as lam may."""
        if not self.spec.shrinkage:
            return UNet(channels, levels, conditions, bf16=self.spec.bf16)
        threshold = FIRST * (LAST / FIRST) ** (number / max(1, self.spec.iterations - 1))
        return ShrinkageUNet(threshold, channels, levels, conditions, bf16=self.spec.bf16)

    @property
    def lam(self) -> Tensor:
        """lam_n [iteration]; in a noise-aware network, relative to SNR / (2 sqrt(R)) where that equals `USUAL`."""
        return self.log_lam.exp()

    def begin_as(self, narrower: UnrolledSense) -> None:
        """Take the weights of a network with fewer channels, or that is not misfit-aware; the images are the same."""
        others = {name: t for name, t in narrower.state_dict().items() if t.shape == self.state_dict()[name].shape}
        self.load_state_dict(others, strict=False)
        for mine, theirs in zip(self.nets.modules(), narrower.nets.modules(), strict=True):
            if isinstance(mine, UNet) and isinstance(theirs, UNet):
                mine.begin_as(theirs)

    def forward(self, batch: Batch) -> Tensor:
        """Reconstruct a batch."""
        return self.steps(batch)[-1]

    def steps(self, batch: Batch) -> list[Tensor]:
        """z_1 ... z_N [batch y x], the last of which is the result."""
        return self._steps(batch, None)

    @torch.no_grad()
    def residuals(self, batch: Batch) -> list[float]:
        """||b - (A + mu) x|| / ||b|| of each SENSE step (A + mu) x = b, the largest of the batch.

        Where it is above `cg_tolerance`, the conjugate gradients had too few iterations.
        """
        found: list[float] = []
        self._steps(batch, found)
        return found

    def _steps(self, batch: Batch, residuals: list[float] | None) -> list[Tensor]:
        model = Sense(batch["sens_maps"], batch["mask"])
        start = model.adjoint(batch["masked_kspace"]) / model.acceleration
        scale = largest_of(start)
        data = start * (model.acceleration / scale)
        lams, conditions = self._noise(batch, scale.flatten(), model.acceleration.flatten())
        if self.misfit_powers is not None:
            chi = misfit(model, batch["masked_kspace"], known_sigma(batch))
            lams = lams * chi ** -self.misfit_powers[:, None]
        made: list[Tensor] = []
        prior: Tensor | None = None
        multiplier = torch.zeros_like(start)
        for number, lam in enumerate(lams):
            x = towards(
                prior,
                model,
                data,
                mu_of(lam),
                iterations=self.spec.cg_iterations or MOST,
                tolerance=self.spec.cg_tolerance,
                gradients="iterations" if batch["masked_kspace"].requires_grad else self.spec.gradients,
            )
            if residuals is not None:
                residuals.append(residual_of(x, prior, model, data, mu_of(lam)))
            x = x + multiplier
            z = self._corrected(number, x, conditions)
            if self.memory is not None and number < len(self.memory):
                multiplier = self.memory[number] * (x - z)
            prior = z - multiplier
            made.append(z)
        return [z * scale for z in made]

    def _corrected(self, number: int, image: Tensor, conditions: Tensor | None) -> Tensor:
        """The image after the net of step `number`."""
        if self.checkpointing and torch.is_grad_enabled():  # the nets draw nothing
            net = partial(checkpoint, self.nets[number], use_reentrant=False, preserve_rng_state=False)
            return each_set(net, image, conditions)
        return each_set(self._graphed[number], image, conditions)

    @cached_property
    def _graphed(self) -> list[Graphed]:
        return [Graphed(net) for net in self.nets]

    def _noise(self, batch: Batch, scale: Tensor, acceleration: Tensor) -> tuple[Tensor, Tensor | None]:
        """The lam of each step [iteration batch], and the conditions of the nets [batch 1] or None."""
        if self.powers is None:
            return self.lam[:, None].expand(-1, len(scale)), None
        sigma = known_sigma(batch) / scale
        usual = 1 / (2 * sigma * acceleration.sqrt()) / USUAL
        return self.lam[:, None] * USUAL * usual ** self.powers[:, None], sigma[:, None]


class Denoiser(nn.Module):
    """CG-SENSE, then a U-net: the post-processing that Nickel argues against.

    Called as ``model(batch) -> image`` [batch y x].

    Parameters
    ----------
    spec
        The network's settings.
    seed
        The seed of the initial weights.
    """

    def __init__(self, spec: DenoiserSpec | None = None, seed: int = 0) -> None:
        super().__init__()
        self.spec = spec or DenoiserSpec()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            size = self.spec.channels, self.spec.levels, int(self.spec.noise_aware)
            self.net = UNet(*size, bf16=self.spec.bf16)

    def forward(self, batch: Batch) -> Tensor:
        """Reconstruct a batch."""
        image = cg_sense(batch["masked_kspace"], batch["sens_maps"], batch["mask"], iterations=self.spec.cg_iterations)
        scale = largest_of(image)
        noise = (known_sigma(batch) / scale.flatten())[:, None] if self.spec.noise_aware else None
        return each_set(self._graphed, image / scale, noise) * scale

    @cached_property
    def _graphed(self) -> Graphed:
        return Graphed(self.net)
