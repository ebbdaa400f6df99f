"""Tables as CSV: what a spreadsheet would run is text, numbers are numbers, any file name can be written."""

import csv

import numpy as np

from pipelines.display.csv_table import write_table

NAMES = ["=1+1", "+cmd", "-2+3", "@SUM(1)", "\t=1", "photo.png", "a=b", "-1.5", "'quoted"]


def test_formulas_become_text_and_numbers_stay(tmp_path):
    rows = [{"source": name, "value": value} for name, value in zip(NAMES, np.linspace(-1, 1, 9), strict=True)]
    write_table(rows, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["source"] for row in found[:5]] == [f"'{name}" for name in NAMES[:5]]
    assert [row["source"] for row in found[5:]] == NAMES[5:]
    assert [float(row["value"]) for row in found] == [row["value"] for row in rows]
    assert not any(cell.startswith(("=", "+", "@", "\t")) for row in found for cell in row.values())
    write_table(found, tmp_path / "again.csv")  # a table that is read and written again is the same
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "t.csv").read_bytes()


def test_names_that_are_not_utf_8(tmp_path):
    write_table([{"source": b"\xff.png".decode(errors="surrogateescape")}], tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "source\n\\udcff.png\n"
