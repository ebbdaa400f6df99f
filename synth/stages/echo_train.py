"""Decay of the signal along the lines of k-space: those of an echo train are acquired one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from ..settings.spec import Range, Spec, draw_uniform

Order = Literal["linear", "centre-out"]


def _lengths(value: tuple[float, float]) -> tuple[float, float]:
    if not (value[0] >= 0 and value[1] <= 10):
        raise ValueError("must lie in 0 ... 10 times T2")
    return value


@dataclass(frozen=True)
class EchoTrain:
    """How the signal of each line decays; the noise does not.

    Echo e of a train of L echoes, which begin at 0, decays by exp(-e ESP / T2) with the echo spacing ESP (TSE, for
    refocusing by 180 degrees: Carr and Purcell, Phys Rev 94:630, 1954; for EPI T2* takes the place of T2). The train's
    length is d = L ESP / T2. Of the lines j = 0 ... N - 1, which all shots together acquire,

    - linear: echo e(j) = floor(L j / N), from one end of k-space to the other, or from the other to the one;
    - centre-out: e(j) = floor(L |2 j - (N - 1)| / N), outwards from the middle.

    The line of k-space's centre, N // 2, has the weight 1: w(j) = exp(-d (e(j) - e(N // 2)) / L), and lines that come
    before it have more. A mask leaves lines out, but does not move others to another echo.
    """

    decay: float  # d
    order: Order
    echoes: int | None  # L; None: N
    reverse: bool  # linear: the last line comes first

    def weights(self, n: int) -> NDArray[np.float32]:
        """Factors [x] of the signal of n lines."""
        echoes, lines = self.echoes or n, np.arange(n)
        if self.order == "linear":
            echo = echoes * (lines[::-1] if self.reverse else lines) // n
        else:
            echo = echoes * np.abs(2 * lines - (n - 1)) // n
        return np.exp(-self.decay * (echo - echo[n // 2]) / echoes).astype(np.float32)

    def numbers(self) -> dict[str, Any]:
        """What was drawn, by name."""
        return {"echo_train_decay": self.decay, "echo_train_reverse": float(self.reverse)}


class EchoTrainSpec(Spec):
    """``[echo_train]``: the signal of photographs' pairs decays while their lines are acquired (TSE, EPI)."""

    decay: Annotated[Range, AfterValidator(_lengths)] = Field(
        description="length of the train that acquires all lines x, over T2 (TSE) or T2* (EPI): a number, or [low, "
        "high] to draw it from"
    )
    order: Order = Field(
        default="linear",
        description="linear: from one end of k-space to the other, which end is drawn; centre-out: from its centre",
    )
    echoes: int | None = Field(
        default=None,
        ge=2,
        le=4096,
        description="echoes of a train; neighbouring lines of different shots have the same echo; default: one line "
        "per echo, as in single-shot EPI",
    )

    def draw(self, rng: np.random.Generator) -> EchoTrain:
        """Draw the length and, for a linear order, which end comes first."""
        decay = draw_uniform(rng, self.decay)
        return EchoTrain(decay, self.order, self.echoes, self.order == "linear" and bool(rng.integers(2)))
