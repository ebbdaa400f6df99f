"""Errors of training and testing; their tree is drawn in `synth.errors`."""

from __future__ import annotations

from synth.errors import FathomError


class CheckpointError(FathomError, RuntimeError):
    """A file that is no checkpoint of Fathom's, or not whole; the message names it and the remedy."""


class TrainingError(FathomError, RuntimeError):
    """A training that cannot begin or go on; the message says why and what to do."""


class UnmeasurableError(FathomError, ValueError):
    """A corpus whose noise cannot be told from its signal; the message says why."""
