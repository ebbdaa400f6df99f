"""Refusal of arguments of another type, with what is taken and what was given."""

from __future__ import annotations

from typing import Any


def shown(value: object) -> str:
    """A value as it was given, if that is short; else its type."""
    told = repr(value)
    return told if len(told) <= 60 else f"a {type(value).__name__}"


def refuse_other_type(value: object, kinds: Any, told: str) -> None:
    """Raise TypeError where a value is of none of the kinds; `told` says what takes what, such as "build takes ..."."""
    if not isinstance(value, kinds):
        raise TypeError(f"{told}; got {shown(value)}")
