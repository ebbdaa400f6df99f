"""Errors of the build engine, of studies and of public data sets; their tree is drawn in `synth.errors`."""

from __future__ import annotations

from synth.errors import FathomError


class BuildError(FathomError, RuntimeError):
    """A build cannot go on; the message says what to do, and finished shards are kept."""


class CorpusExistsError(FathomError, FileExistsError):
    """Something else is already there under this name."""


class ClusterError(FathomError, RuntimeError):
    """A cluster cannot be reached, or was lost; the message says what to do."""


class ManifestError(FathomError, ValueError):
    """A manifest does not exist or is damaged; the message names it."""


class StageError(FathomError, RuntimeError):
    """A stage of a study could not be made; the message is that of the error in the stage."""
