"""The readout's oversampling: which of the acquired rows the image fills."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Readout:
    """An oversampled readout: `samples` rows acquired, of which the image fills `rows`.

    Half of the surplus rows plus one lie before the image, as in the code that the authors of Knoll 2019 published
    (mri-variationalnetwork: 320 rows in 640, 161 before and 159 after; the extra row matches the scanner's DICOMs).
    """

    rows: int
    samples: int

    @property
    def image_rows(self) -> slice:
        """Where the image lies among the acquired rows."""
        first = 0 if self.samples == self.rows else (self.samples - self.rows) // 2 + 1
        return slice(first, first + self.rows)

    @property
    def offset(self) -> int:
        """How many rows the image's centre lies after that of the acquired rows, 1 or 0."""
        return self.image_rows.start + self.rows // 2 - self.samples // 2

    def pad(self, image: NDArray[Any]) -> NDArray[Any]:
        """Add zero rows: [... rows x] to [... samples x]."""
        if self.samples == self.rows:
            return image
        padded = np.zeros((*image.shape[:-2], self.samples, image.shape[-1]), image.dtype)
        padded[..., self.image_rows, :] = image
        return padded

    def crop(self, image: NDArray[Any]) -> NDArray[Any]:
        """Keep the image's rows, the adjoint of `pad`: [... samples x] to [... rows x]."""
        return image[..., self.image_rows, :]
