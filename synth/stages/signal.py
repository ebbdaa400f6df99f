"""The k-space that coils acquire of an image, with its noise, coil by coil, and images of combined coils."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..physics import fft2c, ifft2c
from .mask import Mask
from .readout import Readout
from .wrapping import folded
from .zero_filling import ZeroFilling

Complex = NDArray[np.complex64]


@dataclass(frozen=True, eq=False)
class Acquisition:
    """Coil maps [coil y x], the positions of k-space that are kept, the readout, and what changes k-space.

    Attributes
    ----------
    maps
        [coil y x] of the image, which may be wider than the field of view: what reaches beyond wraps around.
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
        return len(self.maps), self.readout.samples, self.mask.sampled.shape[-1]

    @property
    def wraps(self) -> bool:
        """Whether the image is wider than the field of view."""
        return self.maps.shape[2] > self.shape[2]

    def signal(self, image: Complex) -> Complex:
        """The kept part of every coil's spectrum of an image [y x]: [coil y line] or [coil point]."""
        sampled = np.empty(self.mask.sampled_shape(len(self.maps), len(image)), np.complex64)
        for coil_map, out in zip(self.maps, sampled, strict=True):
            self.mask.sample(self._spectrum(folded(image * coil_map, self.shape[2])), out)
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

        With maps [set coil y x] it is [set y x]; without maps for `combining`, it is 0.
        """
        sampled = np.empty(self.mask.sampled_shape(len(self.maps), self.readout.samples), np.complex64)
        lead = () if combining is None else combining.shape[:-3]
        combined = np.zeros((*lead, self.readout.rows, self.shape[2]), np.complex64)
        for coil, (spectrum, out) in enumerate(zip(spectra, sampled, strict=True)):
            spectrum = self._filled(spectrum)
            self.mask.sample(spectrum, out)
            if combining is not None:
                combined += combining[..., coil, :, :].conj() * self.mask.image(self.readout.crop(spectrum))
        return sampled, combined

    def finish(self, sampled: Complex) -> Complex:
        """Packed k-space from the kept parts of spectra, which are overwritten (`Mask.finish`)."""
        kspace = self.mask.finish(sampled)
        if self.filling is not None and self.mask.is_lines:
            kspace[:, ~self.filling.measured(kspace.shape[1])] = 0  # not only up to rounding
        return kspace

    def coil_images(self, image: Complex) -> Iterator[Complex]:
        """The image [y x] of all k-space without noise, coil by coil."""
        for coil_map in self.maps:
            coil_image = folded(image * coil_map, self.shape[2])
            changed = self.decay is not None or self.filling is not None
            yield self.mask.image(self._spectrum(coil_image)) if changed else coil_image

    def reference(self, image: Complex, combining: Complex | None = None) -> Complex:
        """The image [y x] of all k-space without noise, combined with these maps, or with others [coil y x].

        With maps [set coil y x] it is [set y x]. It has the decay of k-space, which blurs it, as the reference of a
        scan has: a network that were trained on undecayed references would have to sharpen by a T2 that it is not told.
        So it has the zeros around k-space. Where the image wraps around, these maps are not those of a pixel; without
        others, the root of the sum of squares is returned.
        """
        if combining is None and self.wraps:
            return np.sqrt(sum(np.abs(coil_image) ** 2 for coil_image in self.coil_images(image))).astype(np.complex64)
        if combining is None and self.decay is None and self.filling is None:
            return image
        maps = self.maps if combining is None else combining
        combined = np.zeros((*maps.shape[:-3], *maps.shape[-2:]), np.complex64)
        for coil, coil_image in enumerate(self.coil_images(image)):
            combined += maps[..., coil, :, :].conj() * coil_image
        return combined

    def unpacked(self, kspace: Complex) -> Complex:
        """K-space [coil y x] without the readout's oversampling, zero where it is not kept, from packed k-space."""
        whole = self.mask.unpack(kspace, self.shape[1:])
        return whole if self.readout.samples == self.readout.rows else fft2c(self.readout.crop(ifft2c(whole)))
