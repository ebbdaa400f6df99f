"""Rows of numbers as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synth.storage.whole import write_whole

# A spreadsheet runs a cell that begins so as a formula (OWASP, "CSV Injection"); the last four are full-width forms
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def write_table(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write rows with the columns that occur in any of them, in the order of their first occurrence.

    Text that a spreadsheet would run as a formula gets an apostrophe in front, which makes it text. Numbers stay as
    they are. Characters of file names that are no valid UTF-8 are written as escapes.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    writer.writerows({key: _harmless(value) for key, value in row.items()} for row in rows)
    write_whole(path, text.getvalue().encode(errors="backslashreplace"))


def _harmless(value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith(FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
