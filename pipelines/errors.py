"""Errors of the build engine, of studies and of public data sets; their tree is drawn in `synth.errors`."""

from __future__ import annotations

from synth.errors import FathomError


class BuildError(FathomError, RuntimeError):
    """A build that cannot go on; the message says what to do, and what is finished stays."""


class CorpusExistsError(FathomError, FileExistsError):
    """Something else is already there under this name."""


class ClusterError(FathomError, RuntimeError):
    """A cluster that cannot be reached, or was lost; the message says what to do."""


class ManifestError(FathomError, ValueError):
    """No such manifest, or a damaged one; the message names it."""


class StageError(FathomError, RuntimeError):
    """A stage of a study that could not be made; the message is its own."""
