"""Coil maps that are estimated from a pair's own noisy reference lines: those of scans, and on request of photographs.

A reconstruction does not know the coils. It has the maps that ESPIRiT (`synth.calibration.espirit`) finds in noisy
reference lines, and so do these pairs.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ..calibration.espirit import espirit
from ..errors import SourceRejectedError
from ..settings.spec import Spec
from .coil_library import Count
from .mask import Mask

Complex = NDArray[np.complex64]


class EstimateSpec(Spec):
    """How ESPIRiT estimates maps: ``[coils.estimated]`` of photographs, and the base of ``[coils]`` of scans."""

    reference: int = Field(default=24, ge=8, le=256, description="samples along each side of the reference block")
    kernel: int = Field(default=6, ge=2, le=12, description="side of ESPIRiT's patches, in samples of k-space")
    threshold: float = Field(
        default=0.02,
        gt=0,
        lt=1,
        description="singular vectors of the patches are kept above this fraction of the largest singular value",
    )
    crop: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="maps are zero where their eigenvalue is below this; 0 keeps them everywhere",
    )
    soft: bool = Field(default=False, description="fade maps out below the eigenvalue crop instead of cutting them")
    extend: bool = Field(default=False, description="continue the maps beyond the object")
    espirit_sets: int = Field(  # left out where it is 1, so that earlier recipes keep their hashes
        default=1,
        ge=1,
        le=2,
        exclude_if=lambda sets: sets == 1,
        description="map sets of a pair; 2 for objects that are wider than the field of view",
    )

    @model_validator(mode="after")
    def _no_two_extended_sets(self) -> EstimateSpec:
        if self.espirit_sets > 1 and self.extend:
            raise ValueError("extend = true continues one map set; leave it out, or write espirit_sets = 1")
        return self

    def estimate(self, kspace: Complex, mask: Mask, sigma: float, version: int) -> tuple[Complex, tuple[str, ...]]:
        """Maps from the reference lines of k-space that a mask samples, and what limits them.

        Parameters
        ----------
        kspace
            Noisy k-space [coil y x], without the readout's oversampling; what the mask leaves out is not used.
        mask
            The mask of the pair.
        sigma
            Of the noise in k-space, which is white; 0 where it is not known.
        version
            Of the stage "maps" (`synth.version.SCAN_STAGES`).

        Returns
        -------
        The maps, [coil y x], or [set coil y x] where there are several sets; and notes.

        Raises
        ------
        SourceRejectedError
            There are too few reference lines, or they hold nothing above the noise.
        """
        rows, columns = mask.reference(kspace.shape[1])
        reference = (min(self.reference, rows), min(self.reference, columns))
        try:
            maps = espirit(
                kspace,
                reference=reference,
                kernel=self.kernel,
                threshold=self.threshold,
                sets=self.espirit_sets,
                extend=self.extend,
                sigma=sigma,
                version=version,
            )
        except ValueError as error:
            raise SourceRejectedError(str(error)) from None
        if not maps.maps.any():
            raise SourceRejectedError(f"{maps.notes[0]}; leave it out, raise noise.snr, or sample more reference lines")
        found = maps.sets(self.crop, soft=self.soft)
        return (found if self.espirit_sets > 1 else found[0]), maps.notes


class EspiritSpec(EstimateSpec):
    """``[coils] kind = "espirit"``, for scans: maps of each slice from its own reference lines, as in Knoll 2019.

    With `espirit_sets = 2`, pairs have two map sets, for objects that are wider than the field of view: the second set
    describes the signal that wraps around. Maps are then [set coil y x], and references [set y x].
    """

    kind: Literal["espirit"] = Field(
        default="espirit", description="scans only: ESPIRiT maps of each slice, from its own reference lines"
    )
    count: Count | None = Field(
        default=None, description="virtual coils to which a scan's coils are compressed; default: all coils are kept"
    )
    compression: Literal["svd", "geometric"] = Field(
        default="svd",
        description="svd: the strongest directions between coils; geometric: those of each readout position, aligned",
    )

    @model_validator(mode="after")
    def _no_more_sets_than_coils(self) -> EspiritSpec:
        if self.count is not None and self.count < self.espirit_sets:
            raise ValueError(f"espirit_sets = {self.espirit_sets} needs as many coils or more; raise count")
        return self

    @property
    def sets(self) -> int:
        """The number of map sets that pairs share: 0."""
        return 0


def share_missed(found: Complex, coil_images: Complex) -> float:
    """Root of the share of coil images' energy that found maps [coil y x], or [set coil y x], do not explain.

    At a pixel with the coils' values v, orthogonal maps d_s explain sum_s d_s d_s^H v, which leaves
    |v|^2 - sum_s (2 - |d_s|^2) |d_s^H v|^2. This is 0 where v is a map of norm 1, times any number.
    """
    left = power = np.sum(np.abs(coil_images).astype(np.float64) ** 2, axis=0)
    for maps in found if found.ndim == 4 else found[None]:
        seen = np.abs(np.vecdot(maps, coil_images, axis=0)).astype(np.float64) ** 2  # type: ignore[call-overload]
        left = left - (2 - np.sum(np.abs(maps) ** 2, axis=0)) * seen
    return float(np.sqrt(np.sum(np.clip(left, 0, None)) / np.sum(power)))
