"""The known word that a misspelt one resembles."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, whatever its case; None where none is like it."""
    found = difflib.get_close_matches(word.lower(), list(known), 1)
    return found[0] if found else None
