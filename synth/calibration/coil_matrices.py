"""Matrices [coil coil] that other programs stored: read from a file, and made a noise profile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ScanError
from .noise_profile import NoiseProfile


def profile_of_decorrelation(matrix: NDArray[np.complexfloating], source: str = "") -> NoiseProfile:
    """The profile behind a decorrelation matrix D, where D n has unit covariance: Psi = D^-1 D^-H."""
    inverse = np.linalg.inv(np.asarray(matrix, np.complex128))
    covariance = np.asarray(inverse @ inverse.conj().T, np.complex128)
    return NoiseProfile(covariance, "noise scan", 0, 0.0, 0.0, source, ("from a decorrelation matrix",))


def read_matrix(path: str | Path, variable: str | None = None) -> NDArray[np.complex128]:
    """A complex matrix [coil coil] from .npy, .npz or .mat; raises ScanError."""
    path = Path(path)
    try:
        if path.suffix == ".mat":
            import scipy.io

            stored = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
            found = stored[variable or next(iter(stored))]
        else:
            loaded = np.load(path, allow_pickle=False)
            found = loaded if isinstance(loaded, np.ndarray) else loaded[variable]
    except Exception as error:
        raise ScanError(f"{path}: holds no matrix that can be read ({type(error).__name__}: {error})") from None
    if found.ndim != 2 or found.shape[0] != found.shape[1] or found.dtype.kind not in "fc":
        raise ScanError(f"{path}: holds {found.dtype} {found.shape}; need a square numeric matrix [coil coil]")
    return np.asarray(found, np.complex128)
