"""The content of a pair as a writer gets it, and an MRD header for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..physics import rss
from ..stages.mask import Mask
from ..stages.readout import Readout


@dataclass(frozen=True, eq=False)
class Content:
    """A pair in full: k-space [coil y x] as acquired, zero where not sampled; mask [x] or [y x]; maps; target [y x].

    Pairs with several map sets have maps [set coil y x] and a target [set y x].
    """

    name: str
    index: int
    kspace: NDArray[np.complex64]
    sampled: NDArray[np.bool_]
    maps: NDArray[np.complex64]  # [coil y x] of the target's matrix
    target: NDArray[np.complex64]
    numbers: dict[str, Any]
    full: bool = False  # all of k-space is stored, and the mask says which part is to be used

    @property
    def magnitude(self) -> NDArray[np.float32]:
        """The target's magnitude [y x]: the root of the sum of squares over its sets, where it has several."""
        return np.asarray(np.abs(self.target) if self.target.ndim == 2 else rss(self.target))

    @property
    def readout(self) -> Readout:
        """Rows of the image among those acquired."""
        return Readout(self.target.shape[-2], self.kspace.shape[1])

    @property
    def mask(self) -> Mask:
        """The mask, with the net acceleration in place of the nominal one."""
        return Mask(self.sampled, float(self.sampled.size / self.sampled.sum()))


def header_xml(content: Content, rows: int, oversampled: int) -> str:
    """An MRD header for k-space of `oversampled` readout samples and an image of `rows`; a pixel is taken as 1 mm."""
    columns, coils = content.target.shape[-1], len(content.kspace)

    def space(name: str, samples: int) -> str:
        sizes = f"<x>{samples}</x><y>{columns}</y><z>1</z>"
        return f"<{name}><matrixSize>{sizes}</matrixSize><fieldOfView_mm>{sizes}</fieldOfView_mm></{name}>"

    step = f"<minimum>0</minimum><maximum>{columns - 1}</maximum><center>{columns // 2}</center>"
    return (
        '<?xml version="1.0" encoding="utf-8"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">'
        f"<acquisitionSystemInformation><receiverChannels>{coils}</receiverChannels></acquisitionSystemInformation>"
        "<experimentalConditions><H1resonanceFrequency_Hz>0</H1resonanceFrequency_Hz></experimentalConditions>"
        f"<encoding>{space('encodedSpace', oversampled)}{space('reconSpace', rows)}"
        f"<encodingLimits><kspace_encoding_step_1>{step}</kspace_encoding_step_1></encodingLimits>"
        "<trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"
    )
