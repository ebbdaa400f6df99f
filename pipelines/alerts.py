"""What a report cannot show: said in a line, and the rest of it is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def alerting(what: str, alerts: list[str]) -> Iterator[None]:
    """Add to `alerts` why something cannot be shown: files of a study may be damaged in any way."""
    try:
        yield
    except (ValueError, OSError, RuntimeError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        alerts.append(f"{what} cannot be shown ({type(error).__name__}: {error}); what is removed is made again")
