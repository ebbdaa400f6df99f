"""The k-space that coils acquire of an image, with its noise, coil by coil, and images of combined coils."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..physics import coil_combine, fft2c, ifft2c
from .mask import Mask
from .readout import Readout
from .zero_filling import ZeroFilling

Complex = NDArray[np.complex64]


@dataclass(frozen=True, eq=False)
class Acquisition:
    """Coil maps [coil y x], the positions of k-space that are kept, the readout, and what changes k-space.

    Attributes
    ----------
    decay
        Factors [x] of the signal (`echo_train`), or None.
    filling
        Within which part of the matrix k-space is not zero (`zero_filling`), or None.
    """

    maps: Complex
    mask: Mask
    readout: Readout
    decay: NDArray[np.float32] | None = None
    filling: ZeroFilling | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Coil, y, x of all of k-space."""
        return len(self.maps), self.readout.samples, self.maps.shape[2]

    def signal(self, image: Complex) -> Complex:
        """The kept part of every coil's spectrum of an image [y x]: [coil y line] or [coil point]."""
        sampled = np.empty(self.mask.sampled_shape(len(self.maps), len(image)), np.complex64)
        for coil_map, out in zip(self.maps, sampled, strict=True):
            self.mask.sample(self._spectrum(image * coil_map), out)
        return self.readout.pad(sampled)

    def _spectrum(self, coil_image: Complex) -> Complex:
        spectrum = self._filled(self.mask.spectrum(coil_image))
        return spectrum if self.decay is None else self.mask.weight(spectrum, self.decay)

    def _filled(self, spectrum: Complex) -> Complex:
        if self.filling is None:
            return spectrum
        y, x = (self.filling.measured(n) for n in spectrum.shape)
        return self.mask.weight(spectrum, x, y)

    def measured_share(self, mask: Mask) -> float:
        """The share of a mask's samples that were measured, and not filled with zeros."""
        if self.filling is None:
            return 1.0
        y, x = (self.filling.measured(n) for n in self.shape[1:])
        return float(y.mean() * x[mask.sampled].mean() if mask.is_lines else (y[:, None] & x)[mask.sampled].mean())

    def noise(self, spectra: Iterable[Complex], combining: Complex | None) -> tuple[Complex, Complex]:
        """The kept part of noise spectra, given coil by coil, and the image [y x] of all noise, combined with maps.

        Without maps for `combining` that image is 0.
        """
        sampled = np.empty(self.mask.sampled_shape(len(self.maps), self.readout.samples), np.complex64)
        combined = np.zeros(self.maps.shape[1:], np.complex64)
        for coil, (spectrum, out) in enumerate(zip(spectra, sampled, strict=True)):
            spectrum = self._filled(spectrum)
            self.mask.sample(spectrum, out)
            if combining is not None:
                combined += combining[coil].conj() * self.mask.image(self.readout.crop(spectrum))
        return sampled, combined

    def finish(self, sampled: Complex) -> Complex:
        """Packed k-space from the kept parts of spectra, which are overwritten (`Mask.finish`)."""
        kspace = self.mask.finish(sampled)
        if self.filling is not None and self.mask.is_lines:
            kspace[:, ~self.filling.measured(kspace.shape[1])] = 0  # not only up to rounding
        return kspace

    def reference(self, image: Complex, combining: Complex | None = None) -> Complex:
        """The image [y x] of all k-space without noise, combined with these maps or with others.

        It has the decay of k-space, which blurs it, as the reference of a scan has: a network that were trained on
        undecayed references would have to sharpen by a T2 that it is not told. So it has the zeros around k-space.
        """
        if self.decay is None and self.filling is None:
            return image if combining is None else coil_combine(image * self.maps, combining)
        combined = np.zeros_like(image)
        for coil_map, other in zip(self.maps, self.maps if combining is None else combining, strict=True):
            combined += other.conj() * self.mask.image(self._spectrum(image * coil_map))
        return combined

    def unpacked(self, kspace: Complex) -> Complex:
        """K-space [coil y x] without the readout's oversampling, zero where it is not kept, from packed k-space."""
        whole = self.mask.unpack(kspace, self.shape[1:])
        return whole if self.readout.samples == self.readout.rows else fft2c(self.readout.crop(ifft2c(whole)))
