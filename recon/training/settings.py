"""The settings of a training as frozen data: corpora, network, loss, optimiser and length."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from synth.settings.spec import Spec
from synth.settings.toml import load_settings

from ..models.catalogue import ModelSpec
from ..models.unrolled_sense import UnrolledSpec
from ..models.variational import VariationalSpec
from .losses import Loss
from .model_files import weights_file

WITHOUT_EFFECT = ("checkpoint_seconds", "checkpointing", "tensorboard")  # keys of [training] that change no weight


class DataSpec(Spec):
    """``[data]``: corpora for joint training, and corpora for validation, which decides when to stop.

    `redraw` names what is drawn anew in every epoch of the training: "mask", "noise" (`recon.data.redrawn`).
    """

    corpora: tuple[str, ...] = Field(min_length=1)
    validation: tuple[str, ...] = ()
    redraw: tuple[Literal["mask", "noise"], ...] = ()

    @property
    def paths(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The paths of the corpora, and of those for validation."""
        return self.corpora, self.validation


class AdamSpec(Spec):
    """``[optimiser] kind = "adam"``, with the network's projections after each step.

    `rate_lam` is the rate of every lam, threshold and multiplier; `schedule` "cosine" lets rates fall to 0 at the last
    step, after `warmup` steps of linear rise; gradients are scaled down to the norm `clip` (0: never).
    """

    kind: Literal["adam"] = "adam"
    rate: float = Field(default=1e-3, gt=0, le=1e30)
    rate_lam: float = Field(default=1e-2, gt=0, le=1e30)
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup: int = Field(default=0, ge=0)
    clip: float = Field(default=0.0, ge=0)

    def factor(self, step: int, steps: int) -> float:
        """The factor of the rates in step 0 ... steps - 1."""
        rise = min(1.0, (step + 1) / (self.warmup + 1))
        return rise if self.schedule == "constant" else rise * 0.5 * (1 + math.cos(math.pi * step / steps))


class IpalmSpec(Spec):
    """``[optimiser] kind = "ipalm"``, as Knoll 2019 trained; see `recon.training.ipalm`."""

    kind: Literal["ipalm"] = "ipalm"
    momentum: float = Field(default=0.7, ge=0, lt=1)
    lipschitz: float = Field(default=1000.0, gt=0)


class LengthSpec(Spec):
    """``[training]``: length, batch size, loss, validation and checkpoints.

    Give either `steps` or `epochs`. Every `validate_every` steps (0: after each epoch), the loss on the validation
    corpora is computed. After `patience` validations without improvement (0: never), training ends. The best weights
    are kept. `supervise_steps` is the weight of the loss of the images between an unrolled network's steps, so that
    each of its nets learns to correct. `noisier` is alpha of Noisier2Full, which corrects noisy references
    (`recon.training.noisier`). `checkpointing` computes stages again in the backward pass, which takes less
    memory and a third more time.
    """

    steps: int | None = Field(default=None, ge=1, le=10**9)
    epochs: int | None = Field(default=None, ge=1, le=10**6)
    batch_size: int = Field(default=4, ge=1, le=10**5)
    loss: Loss = "nrmse"
    validate_every: int = Field(default=0, ge=0)
    patience: int = Field(default=0, ge=0)
    supervise_steps: float = Field(default=0.0, ge=0, description="weight of the mean loss of a network's inner images")
    noisier: float = Field(
        default=0.0,
        ge=0,
        le=100,
        exclude_if=lambda alpha: alpha == 0,
        description="alpha: noise of alpha times sigma is added, and the noisy reference corrected for it; 0: neither",
    )
    checkpoint_seconds: float = Field(default=60.0, ge=0)
    checkpointing: bool = False
    tensorboard: bool = False

    @model_validator(mode="after")
    def _one_length(self) -> LengthSpec:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        return self


class Training(Spec):
    """The settings of a whole training; `load_training` reads them from TOML.

    Attributes
    ----------
    name, seed
        The network's name; the seed of its weights and of the order of batches.
    start
        A trained model whose weights the training starts from (fine-tuning).
    data
        Corpora for joint training, and corpora for validation, which decides when to stop.
    model
        The network: UnrolledSpec, VariationalSpec or DenoiserSpec; None if the caller of `train` brings one.
    optimiser
        Adam or iPALM.
    training
        Length, batch size, loss, validation and checkpoints.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    seed: int = Field(default=0, ge=0, lt=2**63)
    start: str | None = None
    data: DataSpec
    model: ModelSpec | None = None  # None: the network that the caller of `train` brings
    optimiser: Annotated[AdamSpec | IpalmSpec, Field(discriminator="kind")] = AdamSpec()
    training: LengthSpec

    @model_validator(mode="after")
    def _ipalm_needs_projections(self) -> Training:
        if isinstance(self.optimiser, IpalmSpec) and not isinstance(self.model, VariationalSpec):
            raise ValueError("optimiser.kind 'ipalm' is for model.kind 'variational'; write optimiser.kind = 'adam'")
        if isinstance(self.optimiser, IpalmSpec) and getattr(self.model, "noise_aware", False):
            raise ValueError("optimiser.kind 'ipalm' cannot train model.noise_aware; write optimiser.kind = 'adam'")
        return self

    @model_validator(mode="after")
    def _steps_need_an_unrolled_network(self) -> Training:
        if self.training.supervise_steps and not isinstance(self.model, UnrolledSpec):
            raise ValueError("training.supervise_steps is for model.kind 'unrolled-sense'; leave it out")
        return self

    @model_validator(mode="after")
    def _noisier_needs_noise_of_the_reference(self) -> Training:
        if self.training.noisier and self.training.loss in ("magnitude", "knoll"):
            raise ValueError(
                f"training.noisier needs a loss of complex images, and training.loss '{self.training.loss}' is of "
                "magnitudes; write 'decibel', 'nrmse' or 'complex'"
            )
        if self.training.noisier and "noise" in self.data.redraw:
            raise ValueError(
                "with data.redraw of noise the reference does not hold the noise of the samples, so that "
                "training.noisier has nothing to correct; take one of the two out"
            )
        return self

    @model_validator(mode="after")
    def _patience_needs_validation(self) -> Training:
        if self.training.patience and not self.data.validation:
            raise ValueError("training.patience needs data.validation, whose loss it watches; name corpora there")
        return self

    @property
    def revisions(self) -> list[str]:
        """Notes on settings that had another meaning in earlier versions."""
        revision = self.model.revision if isinstance(self.model, UnrolledSpec) else ""
        return [revision] if revision else []

    def identity(self, corpora: Sequence[str], validation: Sequence[str], *, own: str = "") -> str:
        """sha256 of what decides the weights: these settings without paths, the corpora's hashes, starting weights.

        `own` is the identity of a network that the settings do not describe.
        """
        how: Any = {"data": True, "start": True, "training": {*WITHOUT_EFFECT}}
        start = "" if self.start is None else hashlib.sha256(weights_file(self.start).read_bytes()).hexdigest()
        facts = [self.model_dump_json(exclude=how), list(corpora), list(validation), start, *self.revisions]
        facts += [own] if own else []
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def load_training(path: str | Path, changes: Iterable[str] = ()) -> Training:
    """Read the settings of a training.

    Parameters
    ----------
    path
        A TOML file.
    changes
        Overrides such as ``training.steps=50``, applied in order.

    Raises
    ------
    SettingsError
        The file cannot be read, or a key or value is wrong; the message names line, key, value and remedy.
    """
    return load_settings(Training, path, changes, what="training")
