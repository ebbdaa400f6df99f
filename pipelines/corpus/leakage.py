"""Leakage: sources from which two corpora were both made, so that a test would ask for what was learnt."""

from __future__ import annotations

import re
from pathlib import Path

from synth.corpus.ledger import Ledger
from synth.corpus.reader import open_corpus

Sources = dict[tuple[str, str], str]
SLICE = re.compile(r"#(\d+)(@[\dx]+)?$")  # of a volume or a scan; photographs have none


def shared_sources(first: Path, second: Path) -> list[str]:
    """Names, as the first has them, of pictures and slices that both were made from; raises CorpusError.

    The same is the same file, byte for byte, wherever it lies and whatever it is called, and of it the same slice.
    """
    return shared(sources_of(first), sources_of(second))


def shared(first: Sources, second: Sources) -> list[str]:
    """The same, of sources that are known."""
    return sorted(name for key, name in first.items() if key in second)


def sources_of(path: Path) -> Sources:
    """Names of a corpus's sources by the file's sha256 and the slice; raises CorpusError."""
    corpus, found = open_corpus(path), {}
    for index, sha256 in Ledger(path).sources().items():
        name = corpus.plan.file_of(index)
        place = SLICE.search(name)
        found[sha256, place.group(1) if place else ""] = name
    return found
