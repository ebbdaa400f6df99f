"""Undersampling masks: whole readout lines [x], or points [y x] where y is a second phase encoding.

`acceleration` is nominal. The net acceleration (positions over sampled positions, reference lines included) is
always computed and stored: 24 reference lines turn R = 4 on 368 lines into 3.35.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from pydantic import Field

from .physics import fft2c, ifft2c, lines_along_y
from .spec import Spec

Sampled = NDArray[np.bool_]
Size = tuple[int, int]  # y, x of k-space


@dataclass(frozen=True, eq=False)
class Mask:
    """Sampled positions: lines [x], or points [y x]."""

    sampled: Sampled
    acceleration: float  # nominal

    @property
    def net_acceleration(self) -> float:
        """Positions over sampled positions."""
        return float(self.sampled.size / self.sampled.sum())

    @property
    def is_lines(self) -> bool:
        """Whether whole readout lines are sampled."""
        return self.sampled.ndim == 1

    # A spectrum is k-space as far as the mask needs it: for lines, only x is transformed and unshifted (`finish` does
    # the rest on the sampled lines alone); for points it is k-space. Both are unitary, so powers and white noise in a
    # spectrum are those in k-space.

    def spectrum(self, image: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Spectrum [y x] of one coil's image [y x], which may be overwritten."""
        return scipy.fft.fft(image, norm="ortho", overwrite_x=True) if self.is_lines else fft2c(image)

    def image(self, spectrum: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Image [y x] of a spectrum [y x]: the inverse of `spectrum`; for lines on any rows of it."""
        return scipy.fft.ifft(spectrum, norm="ortho") if self.is_lines else ifft2c(spectrum)

    def sample(self, spectrum: NDArray[np.complex64], out: NDArray[np.complex64]) -> None:
        """Write the sampled part of a spectrum [y x] to `out`: [y line] or [point]."""
        if self.is_lines:
            n = self.sampled.size
            columns = (np.flatnonzero(self.sampled) - n // 2) % n
            np.take(spectrum, columns, axis=-1, out=out, mode="wrap")  # mode "raise" would buffer `out`
        else:
            np.compress(self.sampled.ravel(), spectrum, out=out)

    def sampled_shape(self, coils: int, rows: int) -> tuple[int, ...]:
        """Shape of what `sample` writes for `coils` spectra of `rows` rows: [coil y line] or [coil point]."""
        count = int(self.sampled.sum())
        return (coils, rows, count) if self.is_lines else (coils, count)

    def finish(self, sampled: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Packed k-space [coil y line] or [coil point] from the sampled parts of all coils, which are overwritten."""
        return lines_along_y(sampled, np.flatnonzero(self.sampled), self.sampled.size) if self.is_lines else sampled

    def pack(self, kspace: NDArray[Any]) -> NDArray[Any]:
        """Keep the sampled part of k-space [... y x]: [... y line] or [... point]."""
        return kspace[..., self.sampled]

    def unpack(self, packed: NDArray[Any], size: Size) -> NDArray[Any]:
        """Put packed samples back into zeros: the adjoint of `pack`, [... y line] or [... point] to [... y x]."""
        lead = packed.shape[:-2] if self.is_lines else packed.shape[:-1]
        kspace = np.zeros((*lead, *size), packed.dtype)
        kspace[..., self.sampled] = packed
        return kspace


def centre_block(n: int, width: int) -> slice:
    """The `width` positions around index n // 2; for even widths N//2 - w/2 <= k < N//2 + w/2."""
    return slice(n // 2 - width // 2, n // 2 - width // 2 + width)


class LinesSpec(Spec):
    """Shared by masks of whole lines: exactly N / acceleration lines in all, or `lines` where it is given."""

    acceleration: float = Field(default=4.0, ge=1)
    reference_lines: int = Field(default=24, ge=0)
    lines: int | None = Field(default=None, ge=1, description="sampled lines in all; replaces x / acceleration")

    def line_count(self, n: int) -> int:
        """Sampled lines of n; raises ValueError where the request is impossible."""
        count = self.lines if self.lines is not None else int(n / self.acceleration)
        _check_reference(self.reference_lines, n)
        if not max(self.reference_lines, 1) <= count <= n:
            raise ValueError(
                f"sampling.acceleration {self.acceleration:g} on {n} lines leaves {count} lines, but "
                f"sampling.reference_lines alone are {self.reference_lines}; lower the acceleration or the reference"
            )
        return count

    def capacity(self, size: Size) -> int:
        """Lines that a pair needs room for."""
        return self.line_count(size[1])

    def _with_reference(self, n: int, chosen: Any) -> Mask:
        sampled = np.zeros(n, bool)
        sampled[centre_block(n, self.reference_lines)] = True
        sampled[chosen] = True
        return Mask(sampled, self.acceleration)

    def _others(self, n: int) -> NDArray[np.intp]:
        return np.setdiff1d(np.arange(n), np.arange(n)[centre_block(n, self.reference_lines)])


def _check_reference(lines: int, n: int) -> None:
    if lines > n:
        raise ValueError(f"sampling.reference_lines {lines} are more than the {n} there are; lower them")


class RegularSpec(Spec):
    """``kind = "regular"``: every R-th line through k-space's centre, and the reference lines (Knoll 2019)."""

    kind: Literal["regular"] = "regular"
    acceleration: int = Field(default=4, ge=1)
    reference_lines: int = Field(default=24, ge=0)
    offset: int = Field(default=0, ge=0, description="shift of the regular lines; 0 samples the centre line")

    def capacity(self, size: Size) -> int:
        """Lines that a pair needs room for."""
        return int(self._mask(size).sampled.sum())

    def draw(self, rng: np.random.Generator, size: Size) -> Mask:
        """Nothing is random in it."""
        return self._mask(size)

    def _mask(self, size: Size) -> Mask:
        n = size[1]
        _check_reference(self.reference_lines, n)
        if self.acceleration > n:
            raise ValueError(f"sampling.acceleration {self.acceleration} on {n} lines cannot be met; lower it")
        k = np.arange(n)
        sampled = (k - n // 2 - self.offset) % self.acceleration == 0
        sampled[centre_block(n, self.reference_lines)] = True
        return Mask(sampled, float(self.acceleration))


class UniformSpec(LinesSpec):
    """``kind = "uniform"``: reference lines, and the rest uniformly without replacement."""

    kind: Literal["uniform"] = "uniform"

    def draw(self, rng: np.random.Generator, size: Size) -> Mask:
        """Draw the lines outside the reference."""
        n = size[1]
        return self._with_reference(
            n, rng.choice(self._others(n), self.line_count(n) - self.reference_lines, replace=False)
        )


class GaussianSpec(LinesSpec):
    """``kind = "gaussian"``: like uniform, with Gaussian density around the centre; `width` is its sd over N."""

    kind: Literal["gaussian"] = "gaussian"
    width: float = Field(default=0.2, gt=0)

    def draw(self, rng: np.random.Generator, size: Size) -> Mask:
        """Draw the lines outside the reference, near ones with higher probability."""
        n = size[1]
        others = self._others(n)
        # Gumbel top-k: the k largest of log weight + Gumbel noise are a weighted draw without replacement.
        score = -0.5 * ((others - n // 2) / (self.width * n)) ** 2 + rng.gumbel(size=others.size)
        wanted = self.line_count(n) - self.reference_lines
        return self._with_reference(n, others[np.argsort(-score, kind="stable")[:wanted]])


def lustig_density(n: int, lines: int, reference_lines: int, power: float) -> NDArray[np.float64]:
    """Sampling probability [x] of Lustig 2007 (genPDF): min((1 - r)^p + c, 1), 1 in the centre, summing to `lines`.

    r = |linspace(-1, 1, n)|, the centre is r < reference_lines / n, and c is found by bisection. Raises ValueError
    where even c = 0 has too many lines.
    """
    r = np.abs(np.linspace(-1, 1, n))
    centre = r < reference_lines / n

    def density(c: float) -> NDArray[np.float64]:
        return np.where(centre, 1.0, np.minimum((1 - r) ** power + c, 1.0))

    if np.floor(density(0.0).sum()) > lines:
        raise ValueError(
            f"sampling.power {power:g} puts {density(0.0).sum():.0f} of {n} lines near the centre, more than the {lines} "
            "that the acceleration allows; raise the power, or lower acceleration or reference_lines"
        )
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if density(middle).sum() < lines else (low, middle)
    return density(high)


class VariableDensitySpec(LinesSpec):
    """``kind = "variable-density"``: Lustig 2007, genPDF and genSampling: the best of `tries` draws is kept."""

    kind: Literal["variable-density"] = "variable-density"
    power: float = Field(default=4.0, gt=0)
    tries: int = Field(default=10, ge=1, le=1000)

    def capacity(self, size: Size) -> int:
        """Lines that a pair needs room for; also finds out whether the density exists."""
        lustig_density(size[1], self.line_count(size[1]), self.reference_lines, self.power)
        return self.line_count(size[1])

    def draw(self, rng: np.random.Generator, size: Size) -> Mask:
        """Draw `tries` masks with exactly the wanted lines; keep the one of least peak interference.

        Interference is max |F^-1 (mask / density)| off the main lobe. Lustig redraws until the count is within a
        tolerance of the wanted one; here surplus or missing lines are dropped or added at random, which is bounded.
        """
        n = size[1]
        wanted = self.line_count(n)
        density = lustig_density(n, wanted, self.reference_lines, self.power)
        density[centre_block(n, self.reference_lines)] = 1.0
        best, least = np.ones(n, bool), np.inf
        for _ in range(self.tries):
            sampled = _exactly(wanted, rng.random(n) < density, density < 1, rng)
            peak = np.abs(np.fft.ifft(sampled / density))[1:].max()
            best, least = (sampled, peak) if peak < least else (best, least)
        return Mask(best, self.acceleration)


def _exactly(wanted: int, sampled: Sampled, free: Sampled, rng: np.random.Generator) -> Sampled:
    """Drop or add positions of `free` at random until `wanted` are sampled; the shape may be any."""
    sampled = sampled.copy()
    surplus = int(sampled.sum()) - wanted
    if surplus:
        candidates = np.flatnonzero(free & (sampled if surplus > 0 else ~sampled))
        sampled.flat[rng.choice(candidates, abs(surplus), replace=False)] = surplus < 0
    return sampled


class FastmriSpec(Spec):
    """``kind = "fastmri-random" | "fastmri-equispaced" | "fastmri-equispaced-fraction"``: fastMRI's masks, bit for bit.

    RandomMaskFunc, EquiSpacedMaskFunc and EquispacedMaskFractionFunc of fastmri.data.subsample, with numpy's legacy
    RandomState seeded per pair. "Equispaced-fraction", fastMRI's default equispaced mask, rounds a fractional spacing:
    it is not equispaced.
    """

    kind: Literal["fastmri-random", "fastmri-equispaced", "fastmri-equispaced-fraction"]
    acceleration: int = Field(default=4, ge=1)
    center_fraction: float = Field(default=0.08, gt=0, lt=1)

    def capacity(self, size: Size) -> int:
        """Lines that a pair needs room for; for random lines six standard deviations above the mean."""
        n, low = size[1], self._low(size[1])
        if self.kind == "fastmri-equispaced":
            return min(n, low + -(-n // self.acceleration))
        if low * self.acceleration >= n:
            raise ValueError(
                f"sampling.center_fraction {self.center_fraction:g} keeps {low} of {n} lines, so acceleration "
                f"{self.acceleration} cannot be met; lower one of them"
            )
        p = (n / self.acceleration - low) / (n - low)
        margin = 6 * np.sqrt((n - low) * p * (1 - p)) if self.kind == "fastmri-random" else 2
        return min(n, int(np.ceil(n / self.acceleration + margin)))

    def draw(self, rng: np.random.Generator, size: Size) -> Mask:
        """Draw a seed, and the mask that fastMRI makes of it."""
        return Mask(self.mask(size[1], int(rng.integers(2**32))), float(self.acceleration))

    def mask(self, n: int, seed: int) -> Sampled:
        """The mask [x] of fastMRI's function of this kind for `n` columns and this seed."""
        state = np.random.RandomState(seed)  # noqa: NPY002 (fastMRI's masks are defined by the legacy generator)
        state.randint(1)  # fastMRI chooses among its accelerations first; of one there is one
        low = self._low(n)
        sampled = np.zeros(n, bool)
        if self.kind == "fastmri-random":
            sampled = state.uniform(size=n) < (n / self.acceleration - low) / (n - low)
        elif self.kind == "fastmri-equispaced":
            sampled[state.randint(0, high=self.acceleration) :: self.acceleration] = True
        else:
            spacing = self.acceleration * (low - n) / (low * self.acceleration - n)
            first = state.randint(0, high=round(spacing))
            sampled[np.around(np.arange(first, n - 1, spacing)).astype(np.uint)] = True
        pad = (n - low + 1) // 2
        sampled[pad : pad + low] = True
        return sampled

    def _low(self, n: int) -> int:
        return round(n * self.center_fraction)


class PointsSpec(Spec):
    """Shared by masks over two phase encodings: `reference_lines` is the side of the fully sampled centre."""

    reference_lines: int = Field(default=24, ge=0)

    def _centre(self, size: Size) -> Sampled:
        _check_reference(self.reference_lines, min(size))
        sampled = np.zeros(size, bool)
        sampled[tuple(centre_block(n, self.reference_lines) for n in size)] = True
        return sampled


class Regular2DSpec(PointsSpec):
    """``kind = "regular-2d"``: every Ry-th row and Rx-th column, shifted from row to row (CAIPIRINHA, Breuer 2006)."""

    kind: Literal["regular-2d"] = "regular-2d"
    acceleration: tuple[int, int] = (2, 2)  # y, x
    shift: int = Field(default=0, ge=0, description="columns by which each sampled row moves on")

    def capacity(self, size: Size) -> int:
        """Points that a pair needs room for."""
        return int(self._mask(size).sampled.sum())

    def draw(self, rng: np.random.Generator, size: Size) -> Mask:
        """Nothing is random in it."""
        return self._mask(size)

    def _mask(self, size: Size) -> Mask:
        ry, rx = self.acceleration
        if not (1 <= ry <= size[0] and 1 <= rx <= size[1]):
            raise ValueError(f"sampling.acceleration {list(self.acceleration)} cannot be met on {size[0]}x{size[1]}")
        y, x = (np.arange(n) - n // 2 for n in size)
        row = np.floor_divide(y, ry)
        sampled = (y % ry == 0)[:, None] & ((x[None, :] - self.shift * row[:, None]) % rx == 0)
        return Mask(sampled | self._centre(size), float(ry * rx))


class PoissonSpec(PointsSpec):
    """``kind = "poisson"``: Poisson disc of variable density: the disc grows with the distance from the centre."""

    kind: Literal["poisson"] = "poisson"
    acceleration: float = Field(default=4.0, gt=1)
    growth: float = Field(
        default=3.0, ge=0, description="disc radius at k-space's edge over that at its centre, minus 1"
    )

    def capacity(self, size: Size) -> int:
        """Points that a pair needs room for."""
        count = int(size[0] * size[1] / self.acceleration)
        if count < max(int(self._centre(size).sum()), 1):
            raise ValueError(
                f"sampling.acceleration {self.acceleration:g} on {size[0]}x{size[1]} leaves {count} points, fewer than "
                f"the {self.reference_lines}x{self.reference_lines} of reference_lines; lower one of them"
            )
        return count

    def draw(self, rng: np.random.Generator, size: Size) -> Mask:
        """One pass of dart throwing at the calibrated disc size, then exactly the wanted count."""
        centre, wanted = self._centre(size), self.capacity(size)
        scale = _poisson_scale(size, wanted, self.reference_lines, self.growth)
        sampled = poisson_disc(centre, scale * _disc_growth(size, self.growth), rng)
        return Mask(_exactly(wanted, sampled, ~centre, rng), self.acceleration)


def _disc_growth(size: Size, growth: float) -> NDArray[np.float64]:
    y, x = (np.abs(np.arange(n) - n // 2) / (n / 2) for n in size)
    return np.asarray(1 + growth * np.minimum(np.hypot(y[:, None], x[None, :]), 1.0))


def poisson_disc(centre: Sampled, radius: NDArray[np.float64], rng: np.random.Generator) -> Sampled:
    """Dart throwing on the grid [y x]: every position once, in random order, taken unless an earlier one covers it.

    A taken point covers the positions nearer than its radius [y x]. Radii are spread by +-25 % at random: on a grid
    only few radii differ, and without the spread most accelerations could not be met. One pass over the grid, so it
    ends. The fully sampled `centre` covers nothing.
    """
    ny, nx = radius.shape
    radius = radius * (0.75 + 0.5 * rng.random(radius.shape))
    reach = int(np.ceil(radius.max()))
    dy, dx = np.indices((2 * reach + 1, 2 * reach + 1)) - reach
    distance = np.hypot(dy, dx)
    covered = np.zeros((ny + 2 * reach, nx + 2 * reach), bool)  # a margin, so that discs need no clipping
    covered[reach : reach + ny, reach : reach + nx] = centre
    taken = centre.copy()
    discs: dict[int, tuple[int, Sampled]] = {}
    order = rng.permutation(ny * nx)
    steps = np.ceil(radius.ravel()[order] * 16).astype(int).tolist()  # radii in sixteenths: one disc serves many
    for (y, x), step in zip(zip(*(i.tolist() for i in np.divmod(order, nx)), strict=True), steps, strict=True):
        if covered[y + reach, x + reach]:
            continue
        taken[y, x] = True
        if step not in discs:
            r = step // 16 + 1
            inside = distance[reach - r : reach + r + 1, reach - r : reach + r + 1] if r <= reach else distance
            discs[step] = (min(r, reach), inside < step / 16)
        r, disc = discs[step]
        covered[y + reach - r : y + reach + r + 1, x + reach - r : x + reach + r + 1] |= disc
    return taken


@lru_cache(maxsize=32)
def _poisson_scale(size: Size, wanted: int, reference_lines: int, growth: float) -> float:
    """The disc scale that gives a little more than `wanted` points: 12 bisection steps, the same random numbers in each."""
    centre = np.zeros(size, bool)
    centre[tuple(centre_block(n, reference_lines) for n in size)] = True
    shape = _disc_growth(size, growth)
    low, high = 0.0, 4 * np.sqrt(size[0] * size[1] / wanted)
    for _ in range(12):
        middle = (low + high) / 2
        count = poisson_disc(centre, middle * shape, np.random.Generator(np.random.SFC64(0))).sum()
        low, high = (middle, high) if count > 1.005 * wanted else (low, middle)
    return low


class FileSpec(Spec):
    """``kind = "file"``: a mask from an .npy file, lines [x] or points [y x]; anything but 0 is sampled."""

    kind: Literal["file"] = "file"
    path: str

    def capacity(self, size: Size) -> int:
        """Lines or points that a pair needs room for."""
        return int(self._mask(size).sampled.sum())

    def draw(self, rng: np.random.Generator, size: Size) -> Mask:
        """Nothing is random in it."""
        return self._mask(size)

    def load(self) -> Sampled:
        """The mask as it stands in the file; raises ValueError where it is none."""
        if not Path(self.path).exists():
            raise FileNotFoundError(f"sampling.path {self.path} does not exist; give an .npy file of a mask")
        sampled = np.load(self.path, allow_pickle=False) != 0
        if sampled.ndim not in (1, 2) or not sampled.any():
            raise ValueError(
                f"sampling.path {self.path} is {sampled.shape}; need a mask [x] or [y x] that samples something"
            )
        return np.asarray(sampled)

    def _mask(self, size: Size) -> Mask:
        sampled = self.load()
        if sampled.shape not in ((size[1],), size):
            raise ValueError(
                f"sampling.path {self.path} is {sampled.shape}, k-space is {size}; need {(size[1],)} or {size}"
            )
        return Mask(sampled, float(sampled.size / sampled.sum()))


SamplingSpec = Annotated[
    RegularSpec
    | UniformSpec
    | GaussianSpec
    | VariableDensitySpec
    | FastmriSpec
    | Regular2DSpec
    | PoissonSpec
    | FileSpec,
    Field(discriminator="kind"),
]
