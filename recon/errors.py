"""Errors of training and testing; their tree is drawn in `synth.errors`."""

from __future__ import annotations

from synth.errors import FathomError


class CheckpointError(FathomError, RuntimeError):
    """A file is not a checkpoint of Fathom's, or is incomplete; the message names the file and the remedy."""


class ModelError(FathomError, ValueError):
    """A user's model cannot be made or called, or does not give an image; the message says what to change."""


class TrainingError(FathomError, RuntimeError):
    """A training cannot begin or go on; the message says why and what to do."""


class UnmeasurableError(FathomError, ValueError):
    """The noise of a corpus cannot be distinguished from its signal; the message says why."""
