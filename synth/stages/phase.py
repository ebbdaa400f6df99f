"""Image phase: smooth fields that make a magnitude image complex.

Coordinates are in fields of view: (i - N // 2) / N along an axis of N samples, so from -0.5 to 0.5, with zero at index
N // 2. A spec draws a field; ``on(shape)`` gives the factor to apply, and ``numbers()`` the drawn numbers to store.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..settings.spec import Range, Spec, draw_uniform

ComplexImage = NDArray[np.complex64]
FloatImage = NDArray[np.float32]
Factor = NDArray[Any]  # of a phase that is a sum of few products of a function of y and a function of x


def coordinates(n: int) -> FloatImage:
    """Pixel positions [n] in fields of view, zero at index n // 2."""
    return ((np.arange(n) - n // 2) / n).astype(np.float32)


def unit_phasor(radians: FloatImage) -> ComplexImage:
    """exp(i radians) as complex64 [y x]."""
    phasor = np.empty(radians.shape, np.complex64)
    phasor.real, phasor.imag = np.cos(radians), np.sin(radians)
    return phasor


@dataclass(frozen=True)
class Phase:
    """A drawn phase field; subclasses give `radians`."""

    def radians(self, shape: tuple[int, int]) -> FloatImage:
        """Phase [y x] in rad."""
        raise NotImplementedError

    def factors(self, shape: tuple[int, int]) -> tuple[Factor, Factor]:
        """Two factors [y rank] and [x rank] of the phase: `radians` is the one times the other's transpose."""
        raise NotImplementedError

    def on(self, shape: tuple[int, int]) -> ComplexImage:
        """The factor exp(i phi) [y x] to multiply an image with."""
        return unit_phasor(self.radians(shape))

    def numbers(self) -> dict[str, Any]:
        """What was drawn, by name."""
        return {f"phase_{key}": value for key, value in asdict(self).items()}


@dataclass(frozen=True)
class NoPhase(Phase):
    """The image stays real."""

    def radians(self, shape: tuple[int, int]) -> FloatImage:
        """Zero everywhere [y x]."""
        return np.zeros(shape, np.float32)

    def factors(self, shape: tuple[int, int]) -> tuple[Factor, Factor]:
        """None: the rank is 0."""
        return np.zeros((shape[0], 0)), np.zeros((shape[1], 0))


@dataclass(frozen=True)
class SinusoidalPhase(Phase):
    """phi = a sin(2 pi (fx x + fy y) + phi0): Knoll 2019, "sinusoidal phase modulations with random frequencies"."""

    cycles: float  # per field of view
    direction_rad: float
    amplitude_rad: float
    offset_rad: float

    def radians(self, shape: tuple[int, int]) -> FloatImage:
        """Phase [y x] in rad; the direction is measured from x towards y."""
        along_y, along_x = self._along(shape)
        return np.float32(self.amplitude_rad) * np.sin(along_y[:, None] + along_x[None, :])

    def factors(self, shape: tuple[int, int]) -> tuple[Factor, Factor]:
        """By sin(a + b) = sin a cos b + cos a sin b, of rank 2."""
        y, x = self._along(shape)
        return self.amplitude_rad * np.stack([np.sin(y), np.cos(y)], 1), np.stack([np.cos(x), np.sin(x)], 1)

    def _along(self, shape: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The sine's argument in rad is the sum of the one [y] and the other [x]."""
        y, x = coordinates(shape[0]), coordinates(shape[1])
        k = 2 * np.pi * self.cycles
        along_y = (k * np.sin(self.direction_rad) * y).astype(np.float32)
        along_x = (k * np.cos(self.direction_rad) * x + self.offset_rad).astype(np.float32)
        return along_y, along_x


@dataclass(frozen=True)
class PolynomialPhase(Phase):
    """phi = sum_(i + j <= order) a_ij (2 y)^i (2 x)^j: shim and eddy-current phase of low order."""

    coefficients_rad: tuple[tuple[float, ...], ...]  # [i j], zero where i + j > order

    def radians(self, shape: tuple[int, int]) -> FloatImage:
        """Phase [y x] in rad."""
        left, x = self.factors(shape)
        return (left @ x.T).astype(np.float32)

    def factors(self, shape: tuple[int, int]) -> tuple[Factor, Factor]:
        """The powers of x, and their coefficients at every y."""
        a = np.asarray(self.coefficients_rad)
        y, x = (np.vander(2.0 * coordinates(n), a.shape[0], increasing=True) for n in shape)
        return y @ a, x


@dataclass(frozen=True)
class SmoothRandomPhase(Phase):
    """A random field of bounded bandwidth: phi = offset + sum_ij a_ij cos(pi i y') cos(pi j x'), y', x' in 0 ... 1."""

    coefficients_rad: tuple[tuple[float, ...], ...]  # [i j]
    offset_rad: float

    def radians(self, shape: tuple[int, int]) -> FloatImage:
        """Phase [y x] in rad."""
        left, x = self._cosines(shape)
        return (left @ x.T + self.offset_rad).astype(np.float32)

    def factors(self, shape: tuple[int, int]) -> tuple[Factor, Factor]:
        """The cosines of x and their coefficients at every y, and the offset times 1."""
        left, x = self._cosines(shape)
        offset = np.full((shape[0], 1), self.offset_rad)
        return np.concatenate([left, offset], 1), np.concatenate([x, np.ones((shape[1], 1))], 1)

    def _cosines(self, shape: tuple[int, int]) -> tuple[Factor, Factor]:
        a = np.asarray(self.coefficients_rad)
        y, x = (np.cos(np.pi * np.outer((np.arange(n) + 0.5) / n, np.arange(a.shape[0]))) for n in shape)
        return y @ a, x


@dataclass(frozen=True)
class Knoll2020Phase(Phase):
    """The phase of Knoll's book-chapter code: the image times exp(-i sin(4 u^2)), u = -pi/2 ... pi/2 along x.

    Source: advanced_neuro_recon_book_chapter, pf_pocs_reconstruction_example.m. Nothing is drawn. The script also adds
    small real-valued noise to the phase; it is left out here, because noise belongs to the noise stage.
    """

    def radians(self, shape: tuple[int, int]) -> FloatImage:
        """Phase [y x] in rad, constant along y."""
        return np.broadcast_to(self.factors(shape)[1].T, shape).astype(np.float32)

    def factors(self, shape: tuple[int, int]) -> tuple[Factor, Factor]:
        """1 along y, and the phase along x."""
        u = np.linspace(-np.pi / 2, np.pi / 2, shape[1])
        return np.ones((shape[0], 1)), -np.sin(4 * u**2)[:, None]


@dataclass(frozen=True)
class ShiftedPhase(Phase):
    """A phase plus 2 pi (shift_y y + shift_x x), which shifts k-space by so many samples along y and x.

    By the Fourier shift theorem, exp(2 pi i s y) m has the k-space M(k - s): the echo's peak lies s samples after the
    centre. Gradient delays and field gradients through the object do this to scans.
    """

    phase: Phase
    shift_y: float  # samples, or cycles per field of view
    shift_x: float

    def radians(self, shape: tuple[int, int]) -> FloatImage:
        """Phase [y x] in rad."""
        along_y, along_x = self._along(shape)
        return (self.phase.radians(shape) + along_y[:, None] + along_x).astype(np.float32)

    def factors(self, shape: tuple[int, int]) -> tuple[Factor, Factor]:
        """Those of the phase, and the ramps along y and x."""
        left, right = self.phase.factors(shape)
        along_y, along_x = self._along(shape)
        ones = [np.ones(n) for n in shape]
        return np.column_stack([left, along_y, ones[0]]), np.column_stack([right, ones[1], along_x])

    def numbers(self) -> dict[str, Any]:
        """What was drawn, by name."""
        return {**self.phase.numbers(), "phase_echo_shift_y": self.shift_y, "phase_echo_shift_x": self.shift_x}

    def _along(self, shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        y, x = (2 * np.pi * coordinates(n).astype(np.float64) for n in shape)
        return self.shift_y * y, self.shift_x * x


class EchoSpec(Spec):
    """Base of phase sections: subclasses draw a phase, to which the shift of the echo is added."""

    echo_shift: Range | None = Field(
        default=None,
        description="samples by which k-space is shifted, in a random direction: a linear phase of so many cycles per "
        "field of view; a number, or [low, high] to draw it from",
    )

    @abstractmethod
    def _draw(self, rng: np.random.Generator) -> Phase:
        """The phase without the shift."""

    def draw(self, rng: np.random.Generator) -> Phase:
        """Draw the phase, then the shift of the echo and its direction."""
        phase = self._draw(rng)
        if self.echo_shift is None:
            return phase
        shift, direction = draw_uniform(rng, self.echo_shift), draw_uniform(rng, (0.0, 2 * np.pi))
        return ShiftedPhase(phase, shift * np.sin(direction), shift * np.cos(direction))


class NoPhaseSpec(EchoSpec):
    """``[phase] kind = "none"``."""

    kind: Literal["none"] = Field(default="none", description="the image stays real")

    def _draw(self, rng: np.random.Generator) -> NoPhase:
        """Draw nothing."""
        return NoPhase()


class SinusoidalSpec(EchoSpec):
    """``[phase] kind = "sinusoidal"``: as in Knoll 2019, which gives no ranges; these are Fathom's choice."""

    kind: Literal["sinusoidal"] = Field(
        default="sinusoidal", description="one sine of random frequency, direction, amplitude and offset"
    )
    # 3 cycles are far below the 12 that 24 reference lines resolve
    cycles: Range = Field(default=(0.5, 3.0), description="cycles per field of view")
    amplitude: Range = Field(default=(0.0, 3.14), description="of the sine, in rad")

    def _draw(self, rng: np.random.Generator) -> SinusoidalPhase:
        """Draw frequency, direction, amplitude and offset."""
        return SinusoidalPhase(
            cycles=draw_uniform(rng, self.cycles),
            direction_rad=draw_uniform(rng, (0.0, 2 * np.pi)),
            amplitude_rad=draw_uniform(rng, self.amplitude),
            offset_rad=draw_uniform(rng, (0.0, 2 * np.pi)),
        )


class PolynomialSpec(EchoSpec):
    """``[phase] kind = "polynomial"``."""

    kind: Literal["polynomial"] = Field(
        default="polynomial", description="a polynomial in y and x, as shim and eddy currents leave"
    )
    order: int = Field(default=2, ge=0, le=6, description="largest degree of a term y^i x^j, i + j")
    amplitude: Range = Field(
        default=(0.0, 3.14),
        description="in rad; each coefficient is drawn uniformly within plus or minus the drawn amplitude",
    )

    def _draw(self, rng: np.random.Generator) -> PolynomialPhase:
        """Draw the coefficients of total degree up to `order`."""
        size = self.order + 1
        a = draw_uniform(rng, self.amplitude) * rng.uniform(-1, 1, (size, size))
        degree = np.add.outer(np.arange(size), np.arange(size))
        return PolynomialPhase(_rows(np.where(degree <= self.order, a, 0.0)))


class SmoothRandomSpec(EchoSpec):
    """``[phase] kind = "smooth-random"``: Gaussian coefficients up to `cycles` per field of view, rms = `amplitude`."""

    kind: Literal["smooth-random"] = Field(default="smooth-random", description="a random field of bounded bandwidth")
    cycles: float = Field(default=2.0, gt=0, le=16, description="highest frequency, in cycles per field of view")
    amplitude: Range = Field(default=(0.5, 1.5), description="rms over the image, in rad")

    def _draw(self, rng: np.random.Generator) -> SmoothRandomPhase:
        """Draw the cosine coefficients and a global offset."""
        size = int(np.floor(2 * self.cycles)) + 1  # cos(pi i y') has i / 2 cycles per field of view
        a = rng.standard_normal((size, size)) / np.hypot(*np.indices((size, size)) + 1.0)
        a[0, 0] = 0.0
        mean_square = (a**2 * np.where(np.indices((size, size)) > 0, 0.5, 1.0).prod(0)).sum()
        a *= draw_uniform(rng, self.amplitude) / np.sqrt(max(mean_square, 1e-30))
        return SmoothRandomPhase(_rows(a), offset_rad=draw_uniform(rng, (0.0, 2 * np.pi)))


class Knoll2020Spec(EchoSpec):
    """``[phase] kind = "knoll2020"``."""

    kind: Literal["knoll2020"] = Field(
        default="knoll2020", description="the fixed phase of the code to Knoll's book chapter; nothing is drawn"
    )

    def _draw(self, rng: np.random.Generator) -> Knoll2020Phase:
        """Draw nothing: the field is fixed."""
        return Knoll2020Phase()


def _rows(a: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(v) for v in row) for row in a)


PhaseSpec = Annotated[
    NoPhaseSpec | SinusoidalSpec | PolynomialSpec | SmoothRandomSpec | Knoll2020Spec, Field(discriminator="kind")
]
