"""Masks of whole readout lines [x]: regular, uniform, Gaussian, variable density, fastMRI's."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, Literal

import numpy as np
import scipy.special
from numpy.typing import NDArray
from pydantic import Field

from ..physics import centre_block
from .mask import Mask, Sampled, Size, check_reference, exactly
from .mask_extent import MaskSpec


def regular_lines(n: int, acceleration: int, reference_lines: int, offset: int = 0) -> Sampled:
    """Every R-th of n lines through the centre, moved by `offset`, and the reference lines; raises ValueError."""
    check_reference(reference_lines, n)
    if acceleration > n:
        raise ValueError(f"sampling.acceleration {acceleration} on {n} lines cannot be met; lower it")
    sampled = (np.arange(n) - n // 2 - offset) % acceleration == 0
    sampled[centre_block(n, reference_lines)] = True
    return sampled


class LinesSpec(MaskSpec):
    """Base of masks of whole lines: exactly N / acceleration lines in all, or as many as `lines` says."""

    acceleration: float = Field(
        default=4.0, ge=1, description="R, nominal: x / R lines are sampled, reference lines among them"
    )
    reference_lines: int = Field(
        default=24, ge=0, description="lines around the centre of k-space that are always sampled"
    )
    lines: Annotated[int, Field(ge=1)] | Literal["regular"] | None = Field(
        default=None, description="lines in all, instead of x / acceleration; 'regular': as many as a regular mask has"
    )

    def line_count(self, n: int) -> int:
        """Sampled lines of n; raises ValueError where the request is impossible."""
        if self.lines == "regular":
            return int(regular_lines(n, self._whole_acceleration(), self.reference_lines).sum())
        count = self.lines if self.lines is not None else int(n / self.acceleration)
        check_reference(self.reference_lines, n)
        if not max(self.reference_lines, 1) <= count <= n:
            raise ValueError(
                f"sampling.acceleration {self.acceleration:g} on {n} lines leaves {count} lines, but must leave "
                f"{max(self.reference_lines, 1)} (sampling.reference_lines) to {n}; lower the acceleration or the "
                "reference"
            )
        return count

    def _whole_acceleration(self) -> int:
        if self.acceleration % 1:
            raise ValueError(f"sampling.acceleration {self.acceleration:g} has no regular mask; give a whole number")
        return int(self.acceleration)

    def _capacity(self, size: Size) -> int:
        """Lines that a pair needs room for."""
        return self.line_count(size[1])

    def _with_reference(self, n: int, chosen: Any) -> Mask:
        sampled = np.zeros(n, bool)
        sampled[centre_block(n, self.reference_lines)] = True
        sampled[chosen] = True
        return Mask(sampled, self.acceleration)

    def _others(self, n: int) -> NDArray[np.intp]:
        return np.setdiff1d(np.arange(n), np.arange(n)[centre_block(n, self.reference_lines)])


class RegularSpec(MaskSpec):
    """``kind = "regular"``: every R-th line through k-space's centre, and the reference lines (Knoll 2019)."""

    kind: Literal["regular"] = Field(default="regular", description="every R-th line, and the reference lines")
    acceleration: int = Field(
        default=4, ge=1, description="R: every R-th line is sampled, and the reference lines besides"
    )
    reference_lines: int = Field(
        default=24, ge=0, description="lines around the centre of k-space that are always sampled"
    )
    offset: int = Field(default=0, ge=0, le=10**6, description="shift of the regular lines; 0 samples the centre line")

    def _capacity(self, size: Size) -> int:
        """Lines that a pair needs room for."""
        return int(self._mask(size).sampled.sum())

    def _draw(self, rng: np.random.Generator, size: Size) -> Mask:
        """The mask; nothing is drawn."""
        return self._mask(size)

    def _mask(self, size: Size) -> Mask:
        sampled = regular_lines(size[1], self.acceleration, self.reference_lines, self.offset)
        return Mask(sampled, float(self.acceleration))


class UniformSpec(LinesSpec):
    """``kind = "uniform"``: the reference lines, and others drawn uniformly without replacement."""

    kind: Literal["uniform"] = Field(
        default="uniform", description="the reference lines, and others at random with equal probability"
    )

    def _draw(self, rng: np.random.Generator, size: Size) -> Mask:
        """Draw the lines outside the reference."""
        n = size[1]
        return self._with_reference(
            n, rng.choice(self._others(n), self.line_count(n) - self.reference_lines, replace=False)
        )


class GaussianSpec(LinesSpec):
    """``kind = "gaussian"``: like uniform, with Gaussian density around the centre of standard deviation `width` N."""

    kind: Literal["gaussian"] = Field(
        default="gaussian", description="the reference lines, and others with a Gaussian density around the centre"
    )
    width: float = Field(
        default=0.2, gt=0, description="standard deviation of the density, as a fraction of the number of lines"
    )

    def _draw(self, rng: np.random.Generator, size: Size) -> Mask:
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
            f"sampling.power {power:g} puts {density(0.0).sum():.0f} of {n} lines near the centre, more than the "
            f"{lines} that the acceleration allows; raise the power, or lower acceleration or reference_lines"
        )
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if density(middle).sum() < lines else (low, middle)
    return density(high)


class VariableDensitySpec(LinesSpec):
    """``kind = "variable-density"``: Lustig 2007, genPDF and genSampling: the best of `tries` draws is kept."""

    kind: Literal["variable-density"] = Field(
        default="variable-density", description="random lines with the density of Lustig 2007"
    )
    power: float | None = Field(default=None, gt=0, description="default: the least of 4, 5, 6 ... that fits")
    tries: int = Field(
        default=10, ge=1, le=1000, description="masks that are drawn; the one whose aliases are weakest is kept"
    )

    def _capacity(self, size: Size) -> int:
        """Lines that a pair needs room for; raises ValueError where no density fits."""
        self._density(size[1])
        return self.line_count(size[1])

    def _density(self, n: int) -> NDArray[np.float64]:
        wanted = self.line_count(n)
        powers = [float(p) for p in range(4, 65)] if self.power is None else [self.power]
        for power in powers[:-1]:
            with contextlib.suppress(ValueError):
                return lustig_density(n, wanted, self.reference_lines, power)
        return lustig_density(n, wanted, self.reference_lines, powers[-1])

    def _draw(self, rng: np.random.Generator, size: Size) -> Mask:
        """Draw `tries` masks with exactly the wanted lines; keep the one of least peak interference.

        Interference is max |F^-1 (mask / density)| off the main lobe. Lustig draws again until the count is within a
        tolerance of the wanted one; here surplus lines are dropped, or missing ones added, at random; this always ends.
        """
        n = size[1]
        wanted = self.line_count(n)
        density = self._density(n)
        density[centre_block(n, self.reference_lines)] = 1.0
        best, least = np.ones(n, bool), np.inf
        for _ in range(self.tries):
            sampled = exactly(wanted, rng.random(n) < density, density < 1, rng)
            peak = np.abs(np.fft.ifft(sampled / density))[1:].max()
            best, least = (sampled, peak) if peak < least else (best, least)
        return Mask(best, self.acceleration)


class FastmriSpec(MaskSpec):
    """``kind = "fastmri-random" | "fastmri-equispaced" | "fastmri-equispaced-fraction"``: fastMRI's masks, bit for bit.

    RandomMaskFunc, EquiSpacedMaskFunc and EquispacedMaskFractionFunc of fastmri.data.subsample, with numpy's legacy
    RandomState seeded per pair. "Equispaced-fraction", fastMRI's default equispaced mask, rounds a fractional spacing:
    it is not equispaced.
    """

    kind: Literal["fastmri-random", "fastmri-equispaced", "fastmri-equispaced-fraction"] = Field(
        description="the masks of fastMRI's functions, bit for bit"
    )
    acceleration: int = Field(
        default=4,
        ge=1,
        description="R, in which fastMRI counts the lines of the centre, but for 'fastmri-equispaced'",
    )
    center_fraction: float = Field(
        default=0.08, gt=0, lt=1, description="share of the lines, around the centre, that is always sampled"
    )

    def _capacity(self, size: Size) -> int:
        """Lines that a pair needs room for; a random mask has more with a probability below 1e-12."""
        n, low = size[1], self._low(size[1])
        if low == 0 and self.kind != "fastmri-equispaced":
            raise ValueError(
                f"sampling.center_fraction {self.center_fraction:g} of {n} lines keeps 0 lines, so a mask may be "
                "empty; raise it"
            )
        self._check_acceleration(n)
        if self.kind == "fastmri-equispaced":
            return min(n, low + -(-n // self.acceleration))
        p = (n / self.acceleration - low) / (n - low)
        if self.kind == "fastmri-equispaced-fraction":
            return min(n, int(np.ceil(n / self.acceleration + 2)))
        exceeded = scipy.special.bdtrc(np.arange(n - low + 1), n - low, p)  # P(more lines than k outside the centre)
        return low + int(np.argmax(exceeded < 1e-12))

    def _draw(self, rng: np.random.Generator, size: Size) -> Mask:
        """Draw a seed, and the mask that fastMRI makes of it."""
        seed = int(rng.integers(2**32))
        return Mask(self.mask(size[1], seed), float(self.acceleration), {"mask_seed": float(seed)})

    def mask(self, n: int, seed: int) -> Sampled:
        """The mask [x] of fastMRI's function of this kind for `n` columns and this seed; raises ValueError.

        fastMRI itself divides by zero, or draws no line, where the centre alone has more lines than were asked for.
        """
        self._check_acceleration(n)
        state = np.random.RandomState(seed)
        state.randint(1)  # fastMRI first draws one of its accelerations; here it has only one
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

    def _check_acceleration(self, n: int) -> None:
        low = self._low(n)
        if self.acceleration > n:
            raise ValueError(f"sampling.acceleration {self.acceleration} on {n} lines cannot be met; lower it")
        if self.kind != "fastmri-equispaced" and low * self.acceleration >= n:
            raise ValueError(
                f"sampling.center_fraction {self.center_fraction:g} keeps {low} of {n} lines, so acceleration "
                f"{self.acceleration} cannot be met; lower one of them"
            )
