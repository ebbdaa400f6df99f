"""Baselines, with which learned reconstructions are compared; all are called ``model(batch) -> image`` [batch y x].

A batch is what the loader gives: ``masked_kspace``, ``mask``, ``sens_maps``. With two map sets, ``sens_maps`` is
[batch set coil y x] and the image [batch set y x].
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from synth.physics import coil_combine, ifft2c

from ..data.adapters import centre_block_of
from ..data.packed_batch import Batch
from .sense import Convention, Sense, cg_sense, regularised_sense


@dataclass(frozen=True)
class ZeroFilled:
    """E^H y over R: the coil-combined image of k-space with zeros where nothing was sampled.

    Called as ``model(batch) -> image`` [batch y x], as all models are.
    """

    def __call__(self, batch: Batch) -> Tensor:
        """Reconstruct a batch."""
        model = Sense(batch["sens_maps"], batch["mask"])
        return model.adjoint(batch["masked_kspace"]) / model.acceleration


@dataclass(frozen=True)
class CgSense:
    """Unregularised SENSE by conjugate gradients, stopped after some iterations.

    Parameters
    ----------
    iterations
        The number of iterations, at least 1; many more than 30 amplify noise. Raises ValueError for fewer.
    """

    iterations: int = 30

    def __post_init__(self) -> None:
        """Refuse none."""
        if not isinstance(self.iterations, int) or self.iterations < 1:
            raise ValueError(f"CG-SENSE takes a whole number of iterations, at least 1, got {self.iterations!r}")

    def __call__(self, batch: Batch) -> Tensor:
        """Reconstruct a batch."""
        return cg_sense(batch["masked_kspace"], batch["sens_maps"], batch["mask"], iterations=self.iterations)


@dataclass(frozen=True)
class RegularisedSense:
    """Regularised SENSE with prior 0.

    Parameters
    ----------
    lam
        The bound on the noise amplification at every voxel (`recon.models.sense`).
    convention
        Whether lam follows Nickel's definition, or another definition that `recon.models.sense` converts.
    iterations, tolerance
        Conjugate gradients end after this many iterations, or at this residual relative to the right-hand side.
    """

    lam: float = 4.0
    convention: Convention = "A"
    iterations: int = 100
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        """Raise ValueError for a lam out of range, or an unknown convention."""
        _refuse_weight("regularised SENSE", self.lam)
        if self.convention not in get_args(Convention):
            raise ValueError(f"convention must be one of {', '.join(get_args(Convention))}, got {self.convention!r}")

    def __call__(self, batch: Batch) -> Tensor:
        """Reconstruct a batch."""
        return regularised_sense(
            batch["masked_kspace"],
            batch["sens_maps"],
            batch["mask"],
            lam=self.lam,
            convention=self.convention,
            iterations=self.iterations,
            tolerance=self.tolerance,
        )


@dataclass(frozen=True)
class Wavelet:
    """l1-wavelet SENSE (Lustig et al., Magn Reson Med 58:1182, 2007) by sigpy, on the CPU.

    Parameters
    ----------
    lam
        Weight of the wavelet coefficients, relative to the zero-filled image's largest magnitude.
    iterations
        The number of iterations of sigpy's solver.
    """

    lam: float = 1e-3
    iterations: int = 100

    def __post_init__(self) -> None:
        """Raise ValueError for a lam out of range."""
        _refuse_weight("wavelet", self.lam)

    def __call__(self, batch: Batch) -> Tensor:
        """Reconstruct a batch."""
        from sigpy.mri.app import L1WaveletRecon  # slow to import (numba)

        if batch["sens_maps"].ndim == 5:
            raise ValueError("wavelet: sigpy's solver takes one map set, and these pairs have two; use cg-sense")

        count, images = len(batch["masked_kspace"]), []
        masks = batch["mask"].expand(count, *batch["mask"].shape[1:]).cpu().numpy().astype(np.float32)
        starts = ZeroFilled()(batch).abs().amax(dim=(-2, -1)).tolist()
        maps = batch["sens_maps"].expand(count, -1, -1, -1).cpu().numpy()
        for kspace, coil_maps, mask, largest in zip(batch["masked_kspace"], maps, masks, starts, strict=True):
            scale = largest or 1.0
            samples = kspace.cpu().numpy() / scale
            weights = np.broadcast_to(mask, samples.shape)
            with _same_draws():
                app = L1WaveletRecon(
                    samples, coil_maps, self.lam, weights=weights, max_iter=self.iterations, show_pbar=False
                )
                images.append(torch.from_numpy(np.asarray(app.run()) * scale))
        return torch.stack(images).to(batch["masked_kspace"])


def _refuse_weight(what: str, lam: object) -> None:
    if not isinstance(lam, Real) or not 0 < float(lam) < math.inf:
        raise ValueError(f"{what} takes a lam above 0, got {lam!r}")


@contextmanager
def _same_draws() -> Iterator[None]:
    """Numpy's global generator at one place: sigpy estimates the step size from a random start."""
    state = np.random.get_state()  # noqa: NPY002 (sigpy draws from it)
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


@dataclass(frozen=True)
class Grappa:
    """GRAPPA (Griswold et al., Magn Reson Med 47:1202, 2002) by pygrappa, calibrated on the sampled centre of k-space.

    Coils are combined with the maps. A call raises ValueError if pygrappa is not installed, or if the fully sampled
    centre of k-space has fewer samples than `kernel`.

    Parameters
    ----------
    kernel
        The size of the kernels along y and x, in samples.
    """

    kernel: tuple[int, int] = (5, 5)

    def __post_init__(self) -> None:
        """Raise ValueError for kernels without two positive sizes."""
        if not isinstance(self.kernel, tuple | list) or len(self.kernel) != 2 or min(self.kernel) < 1:
            raise ValueError(f"GRAPPA's kernels have two sizes of 1 or more, got {self.kernel!r}")

    def __call__(self, batch: Batch) -> Tensor:
        """Reconstruct a batch."""
        try:
            from pygrappa import grappa  # type: ignore[import-not-found]
        except ImportError:
            raise ValueError("GRAPPA needs pygrappa, which is not installed here: pip install pygrappa") from None

        count, shape = len(batch["masked_kspace"]), batch["masked_kspace"].shape[-2:]
        centre = centre_block_of(batch["mask"][0]).expand(1, *shape)[0]
        rows, columns = (slice(int(i.min()), int(i.max()) + 1) for i in centre.nonzero(as_tuple=True))
        if min(rows.stop - rows.start, columns.stop - columns.start) < max(self.kernel):
            raise ValueError(
                f"GRAPPA with kernels of {self.kernel} needs at least {max(self.kernel)} fully sampled lines at "
                "k-space's centre"
            )
        filled = [
            np.ascontiguousarray(grappa(kspace, kspace[:, rows, columns].copy(), self.kernel, coil_axis=0))
            for kspace in batch["masked_kspace"].cpu().numpy()
        ]
        images = torch.from_numpy(ifft2c(np.stack(filled).astype(np.complex64))).to(batch["sens_maps"])
        maps = batch["sens_maps"]
        return coil_combine(images, maps.expand(count, *maps.shape[1:]), sets=maps.ndim == 5)
