"""Which pairs of a test are independent of each other: the units that the intervals of `intervals` count.

Pairs of one photograph, and slices of one head, are alike: a network that does well on one does well on the others.
Their mean is therefore known less well than the number of pairs suggests, and an interval over pairs is too narrow. So
the units are subjects where all are known, and else sources, that is files: photographs, volumes, scans.

With fewer than `FEWEST` of these, an interval for other sources would be of little use: where sources differ as much,
that of two sources is 7 times as wide as that of five (t / sqrt(G)), and one source has none. Then the units are pairs
of photographs and runs of neighbouring slices, and the interval is for other pairs of the same sources: "within 4
sources". A volume is cut into `RUNS` runs. Neighbouring runs are still a little alike; 8 to 16 groups are
what Ibragimov and Müller recommend for t-intervals of means over dependent data (J Bus Econ Stat 2010;28:453).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth.corpus.sources import file_of, slice_of

Row = dict[str, Any]
FEWEST = 5  # independent sources for which an interval is given for other sources
RUNS = 8  # of neighbouring slices of a volume


@dataclass(frozen=True)
class Units:
    """The units of a list of pairs.

    Attributes
    ----------
    of
        Number of the unit of each pair.
    over
        What the units are, such as ``20 sources`` or ``16 pairs within 4 sources``.
    within
        ``within 4 sources`` if the interval is only for other pairs of these sources; else empty.
    """

    of: NDArray[np.intp]
    over: str
    within: str = ""

    @property
    def count(self) -> int:
        """The number of units."""
        return int(self.of.max()) + 1 if len(self.of) else 0


def units_of(rows: Sequence[Row]) -> Units:
    """The units of rows, one for each pair; rows of earlier versions, which name no source, are units of their own."""
    keys = [str(row.get("source_sha256") or file_of(str(row.get("source", "")))) for row in rows]
    if not all(keys):
        return Units(np.arange(len(rows)), f"{_count(len(rows), 'pair')} of unknown sources", "within unknown sources")
    known = all(row.get("subject") for row in rows)
    word = "subject" if known else "source"
    independent = _numbered([str(row.get("subject") or key) for row, key in zip(rows, keys, strict=True)])
    there = _count(len(set(independent)), word)
    if len(set(independent)) >= FEWEST:
        return Units(np.array(independent, np.intp), there)
    runs = _runs(keys, [slice_of(str(row.get("source", ""))) for row in rows])
    parts = _numbered([k if run is None else (keys[k], run) for k, run in enumerate(runs)])
    cut = len({(key, run) for key, run in zip(keys, runs, strict=True) if run is not None})
    told = [_count(cut, "run") + " of slices"] * (cut > 0) + [_count(runs.count(None), "pair")] * (None in runs)
    return Units(np.array(parts, np.intp), f"{' and '.join(told)} within {there}", f"within {there}")


def _runs(keys: Sequence[str], slices: Sequence[int | None]) -> list[int | None]:
    """Number of the run of neighbouring slices in its file, by pair; None for photographs and files of one slice."""
    of: dict[tuple[str, int | None], int] = {}
    for file in dict.fromkeys(keys):
        mine = sorted({s for key, s in zip(keys, slices, strict=True) if key == file and s is not None})
        for run, part in enumerate(np.array_split(mine, min(RUNS, len(mine))) if len(mine) > 1 else []):
            of.update({(file, int(s)): run for s in part})
    return [of.get((key, s)) for key, s in zip(keys, slices, strict=True)]


def _numbered(names: Sequence[Any]) -> list[int]:
    """Numbers of names, counted in the order of their first occurrence."""
    numbers: dict[Any, int] = {}
    return [numbers.setdefault(name, len(numbers)) for name in names]


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("s" if number != 1 else "")
