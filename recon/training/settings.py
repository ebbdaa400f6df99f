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
from synth.storage.arrays import sha256_of_file

from ..models.catalogue import ModelSpec
from ..models.unrolled_sense import UnrolledSpec
from ..models.variational import VariationalSpec
from .losses import Loss
from .model_files import weights_file

LENGTHS = {"training.steps": "training.epochs", "training.epochs": "training.steps"}  # each takes the other's place
WITHOUT_EFFECT = ("checkpoint_seconds", "checkpointing", "tensorboard")  # keys of [training] that change no weight


class DataSpec(Spec):
    """``[data]``: corpora for joint training, and corpora for validation, which decides when to stop."""

    corpora: tuple[str, ...] = Field(
        min_length=1, description="the network is trained on the pairs of all these corpora"
    )
    validation: tuple[str, ...] = Field(
        default=(), description="the loss on these corpora decides which weights are kept, and when `patience` is over"
    )
    redraw: tuple[Literal["mask", "noise"], ...] = Field(
        default=(), description="what each epoch draws anew, from corpora with kspace = 'full': 'mask', 'noise'"
    )
    window: int = Field(
        default=0,
        ge=0,
        le=10**9,
        exclude_if=lambda pairs: pairs == 0,
        description="whole shards are shuffled, and then the pairs within stretches of so many; 0: all pairs",
    )

    @property
    def paths(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The paths of the corpora, and of those for validation."""
        return self.corpora, self.validation


class AdamSpec(Spec):
    """``[optimiser] kind = "adam"``, with the network's projections after each step."""

    kind: Literal["adam"] = Field(default="adam", description="Adam, with the network's projections after each step")
    rate: float = Field(default=1e-3, gt=0, le=1e30, description="learning rate")
    rate_lam: float = Field(
        default=1e-2, gt=0, le=1e30, description="learning rate of every lam, threshold and multiplier"
    )
    schedule: Literal["constant", "cosine"] = Field(
        default="cosine", description="cosine: the rates fall to 0 at the last step; constant: they do not"
    )
    warmup: int = Field(default=0, ge=0, description="steps in which the rates rise linearly from 0")
    clip: float = Field(default=0.0, ge=0, description="gradients are scaled down to this norm; 0: never")

    def factor(self, step: int, steps: int) -> float:
        """The factor of the rates in step 0 ... steps - 1."""
        rise = min(1.0, (step + 1) / (self.warmup + 1))
        return rise if self.schedule == "constant" else rise * 0.5 * (1 + math.cos(math.pi * step / steps))


class IpalmSpec(Spec):
    """``[optimiser] kind = "ipalm"``, as Knoll 2019 trained; see `recon.training.ipalm`."""

    kind: Literal["ipalm"] = Field(
        default="ipalm", description="iPALM, as Knoll 2019 trained; variational networks only"
    )
    momentum: float = Field(
        default=0.7, ge=0, lt=1, description="part of its last step by which each block of parameters is first moved on"
    )
    lipschitz: float = Field(
        default=1000.0,
        gt=0,
        description="first estimate of the gradient's Lipschitz constant L; a step has the size 1 / L",
    )


class LengthSpec(Spec):
    """``[training]``: length, batch size, loss, validation and checkpoints.

    With validation corpora the weights of the lowest loss on them are kept. `supervise_steps` lets each net of an
    unrolled network learn to correct. `noisier` is Noisier2Full (`recon.training.noisier`).
    """

    steps: int | None = Field(
        default=None, ge=1, le=10**9, description="length in steps (batches); give either this or `epochs`"
    )
    epochs: int | None = Field(
        default=None, ge=1, le=10**6, description="length in passes through all pairs; give either this or `steps`"
    )
    batch_size: int = Field(default=4, ge=1, le=10**5, description="pairs per step")
    loss: Loss = Field(
        default="nrmse",
        description="decibel: nrmse in dB; nrmse; complex, magnitude: squared errors of images, of magnitudes; knoll: "
        "magnitude, in the unit of the authors' code",
    )
    validate_every: int = Field(default=0, ge=0, description="steps between validations; 0: after each epoch")
    patience: int = Field(
        default=0, ge=0, description="validations without improvement after which the training ends; 0: never"
    )
    supervise_steps: float = Field(
        default=0.0,
        ge=0,
        description="weight of the mean loss of an unrolled network's inner images; a network of your own has none",
    )
    noisier: float = Field(
        default=0.0,
        ge=0,
        le=100,
        exclude_if=lambda alpha: alpha == 0,
        description="alpha: noise of alpha times sigma is added, and the noisy reference corrected for it; 0: neither",
    )
    checkpoint_seconds: float = Field(default=60.0, ge=0, description="seconds between checkpoints")
    checkpointing: bool = Field(
        default=False, description="compute stages again in the backward pass: less memory, and a third more time"
    )
    tensorboard: bool = Field(default=False, description="write losses for TensorBoard, too")

    @model_validator(mode="after")
    def _one_length(self) -> LengthSpec:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        return self


class Training(Spec):
    """The settings of a whole training; `load_training` reads them from TOML."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="the network's name, in its card")
    seed: int = Field(default=0, ge=0, lt=2**63, description="of the first weights, and of the order of batches")
    start: str | None = Field(
        default=None,
        description="folder of a training, weights file, or on the command line a network's name, whose weights this "
        "training begins with (fine-tuning)",
    )
    data: DataSpec = Field(description="corpora to train on, and corpora for validation")
    model: ModelSpec | None = Field(
        default=None, description="the network; left out where the command or the caller brings one"
    )
    optimiser: Annotated[AdamSpec | IpalmSpec, Field(discriminator="kind")] = Field(
        default=AdamSpec(), description="Adam or iPALM"
    )
    training: LengthSpec = Field(description="length, batch size, loss, validation and checkpoints")

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
        start = "" if self.start is None else sha256_of_file(weights_file(self.start))
        facts = [self.model_dump_json(exclude=how), list(corpora), list(validation), start, *self.revisions]
        facts += [own] if own else []
        facts += [f"window {self.data.window}"] if self.data.window else []  # trainings without one stay the same
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
    return load_settings(Training, path, changes, what="training", instead=LENGTHS)
