"""The base of all sections of a recipe: frozen, strict, without unknown keys; and numbers that may be ranges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer, PlainValidator, WithJsonSchema


class Spec(BaseModel):
    """Base of every recipe section: frozen data, unknown keys refused, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


LARGEST = 1e12  # of any number in a recipe; whole numbers in TOML have no limit of their own


def _as_range(value: Any) -> tuple[float, float]:
    numbers = list(value) if isinstance(value, list | tuple) else [value, value]
    if len(numbers) != 2 or any(isinstance(v, bool) or not isinstance(v, int | float) for v in numbers):
        raise ValueError("must be a number, or two: [low, high]")
    if not all(-LARGEST <= v <= LARGEST for v in numbers):
        raise ValueError(f"must be finite, and at most {LARGEST:g}")
    if numbers[0] > numbers[1]:
        raise ValueError(f"a range goes from low to high: write [{numbers[1]}, {numbers[0]}]")
    return (float(numbers[0]), float(numbers[1]))


def _positive(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] <= 0:
        raise ValueError("must be greater than 0")
    return value


_NUMBER = {"type": "number"}
_SCHEMA = {"anyOf": [_NUMBER, {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2}]}

Range = Annotated[tuple[float, float], PlainValidator(_as_range), PlainSerializer(list), WithJsonSchema(_SCHEMA)]
"""One number, or [low, high] to draw from."""

PositiveRange = Annotated[Range, AfterValidator(_positive)]


def draw_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    """Draw uniformly between the bounds; where both are the same number, that number."""
    return float(bounds[0] + (bounds[1] - bounds[0]) * rng.random())


def differing_keys(old: Any, new: Any, at: str = "") -> Iterator[str]:
    """The keys, as ``section.key``, in which two documents differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old.keys() | new.keys():
            yield from differing_keys(old.get(key), new.get(key), f"{at}.{key}" if at else key)
    elif old != new:
        yield at
