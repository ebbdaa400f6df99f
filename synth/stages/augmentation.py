"""Moves of a scan's coil images that keep noise white: quarter turns, flips, shifts, rotations."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import scipy.fft

from .target import TargetSpec
from .virtual_coils import Images


@dataclass(frozen=True)
class Moved:
    """Drawn quarter turns, flips, shift and rotation: each is unitary, so noise stays white, and none blurs the image.

    They act on all coil images together, before maps are computed from them: coils and anatomy move together, and
    k-space stays what a scanner would measure (Fabian et al., MRAugment, ICML 2021: augment where the physics is the
    same).
    """

    quarter_turns: int = 0
    flip_y: bool = False
    flip_x: bool = False
    shift_y: int = 0
    shift_x: int = 0
    degrees: float = 0.0

    @classmethod
    def draw(cls, draw: np.random.Generator, target: TargetSpec, matrix: tuple[int, int]) -> Moved:
        """Draw what a recipe's target section asks for; only square images are turned by 90 degrees."""
        turns = int(draw.integers(4)) if target.rotate and matrix[0] == matrix[1] else 0
        flips = (bool(draw.integers(2)), bool(draw.integers(2))) if target.flip else (False, False)
        shift_y, shift_x = (int(draw.integers(-int(target.shift * n), int(target.shift * n) + 1)) for n in matrix)
        degrees = float(draw.uniform(-target.degrees, target.degrees)) if target.degrees else 0.0
        return cls(turns, *flips, shift_y, shift_x, degrees)

    def numbers(self) -> dict[str, float]:
        """What was drawn, by name, without the degrees."""
        return {f"moved_{name}": float(value) for name, value in asdict(self).items() if name != "degrees"}

    def apply(self, images: Images) -> Images:
        """Move images [... y x]; what leaves on one side wraps around to the other, as in a scan."""
        for _ in range(self.quarter_turns):
            images = mirrored(np.swapaxes(images, -1, -2), -2)
        for axis, flip, shift in ((-2, self.flip_y, self.shift_y), (-1, self.flip_x, self.shift_x)):
            if flip:
                images = mirrored(images, axis)
            if shift:
                images = np.roll(images, shift, axis)
        return rotated(images, self.degrees) if self.degrees else images


def rotated(images: Images, degrees: float) -> Images:
    """Complex images [... y x] turned about index N // 2, from the axis x towards y; pixels are taken as square.

    Three shears (Unser, Thevenaz, Yaroslavsky, IEEE Trans Image Process 4:1371, 1995), each a shift of every row or
    column by a phase in Fourier space: unitary, undone by the opposite angle, and what leaves on one side comes back on
    the other. For at most 45 degrees.
    """
    angle = np.deg2rad(degrees)
    for axis, slope in ((-1, -np.tan(angle / 2)), (-2, np.sin(angle)), (-1, -np.tan(angle / 2))):
        images = _sheared(images, axis, slope)
    return images


def _sheared(images: Images, axis: int, slope: float) -> Images:
    """Every line along `axis` moved by `slope` times its distance from the centre of the other axis."""
    n, m = images.shape[axis], images.shape[-3 - axis]
    ramp = np.exp(-2j * np.pi * slope * np.outer(np.arange(m) - m // 2, scipy.fft.fftfreq(n)))  # [line frequency]
    spectrum = scipy.fft.fft(images, axis=axis)
    return np.asarray(scipy.fft.ifft(spectrum * (ramp if axis == -1 else ramp.T), axis=axis), np.complex64)


def mirrored(images: Images, axis: int) -> Images:
    """Images flipped about index N // 2, where the centre is."""
    return np.roll(np.flip(images, axis), 1 - images.shape[axis] % 2, axis)
