"""Rows of numbers as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synth.storage.whole import write_whole


def write_table(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write rows with the columns that occur in any of them, in the order of their first occurrence."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())
