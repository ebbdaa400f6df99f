"""All errors that Fathom raises for problems that the user can solve, in one tree of classes.

::

    FathomError
    ├── SettingsError (ValueError)             a TOML file, or a key of one
    │   └── RecipeError
    ├── SourceRejectedError (ValueError)       a photograph, or a slice, that cannot become a pair
    ├── SourceUnreadableError (OSError)        a source that is gone; a later try may succeed
    ├── ImageFileError (ValueError)            a NIfTI or DICOM file
    ├── ScanError (ValueError)                 a file of k-space
    ├── CalibrationError (ValueError)          noise that cannot be learnt from a scan
    │   ├── ShapedNoiseError
    │   └── NoQuietPlaceError
    ├── CorpusError (RuntimeError)             a corpus on disk
    │   ├── UnfinishedCorpusError
    │   └── StageVersionError
    ├── ShardError (RuntimeError)              a file of a corpus
    ├── StorageError (ValueError)             a place where Fathom cannot read or write
    ├── StoreError (OSError)                  an object store that cannot be reached, or refuses
    ├── ClaimedError (BlockingIOError)        another build is at work on a corpus
    ├── see `recon.errors`                     TrainingError, CheckpointError, ModelError,
    │                                          UnmeasurableError
    └── see `pipelines.errors`                 BuildError, CorpusExistsError, ClusterError, ManifestError, StageError

A message names the thing, its value, what is needed and the remedy. Each class also derives from the built-in class
in brackets.
"""

from __future__ import annotations


class FathomError(Exception):
    """Base class of all of Fathom's errors; the message says what is wrong and what to do."""


class SettingsError(FathomError, ValueError):
    """Settings that cannot be used; the message says where the fault is and how to correct it."""


class RecipeError(SettingsError):
    """A recipe that cannot be used; the message says where the fault is and how to correct it."""


class SourceRejectedError(FathomError, ValueError):
    """A source that cannot become a pair; the message names the file, what is wrong and the remedy."""


class SourceUnreadableError(FathomError, OSError):
    """A source file that is gone or cannot be read now: it is not rejected, because a later try may succeed."""


class ImageFileError(FathomError, ValueError):
    """A NIfTI or DICOM file that cannot be used; the message says what is wrong and the remedy."""


class ScanError(FathomError, ValueError):
    """A file that Fathom cannot read as a scan; the message names it, what is wrong and the remedy."""


class CalibrationError(FathomError, ValueError):
    """The noise of a scan cannot be learnt; the message says why, and from what else it may be learnt."""


class ShapedNoiseError(CalibrationError):
    """Neighbouring samples along `axis` ("y" or "x") correlate: they are signal, or noise that a filter has shaped."""

    def __init__(self, message: str, axis: str = "", correlation: float = 0.0) -> None:
        super().__init__(message)
        self.axis, self.correlation = axis, correlation


class NoQuietPlaceError(CalibrationError):
    """No part of the image, or of k-space, holds noise alone."""


class CorpusError(FathomError, RuntimeError):
    """A corpus that cannot be used as it is; the message names it and the remedy."""


class UnfinishedCorpusError(CorpusError):
    """A corpus whose build has not ended."""


class StageVersionError(CorpusError):
    """Pairs need a version of a stage that this Fathom does not have."""


class ShardError(FathomError, RuntimeError):
    """A shard that is damaged or missing; the message names the file."""


class StorageError(FathomError, ValueError):
    """A place where Fathom cannot read or write, such as the address of a web server."""


class ClaimedError(FathomError, BlockingIOError):
    """Another build is at work on a corpus; the message says which."""


class StoreError(FathomError, OSError):
    """An object store that cannot be reached, or refuses a request; it says nothing about what lies in it."""
