"""Leakage: sources from which two corpora were both made, so that a test would ask for what was learnt."""

from __future__ import annotations

import re
from pathlib import Path

from synth.corpus import Corpus, open_corpus
from synth.ledger import Ledger

SLICE = re.compile(r"#(\d+)(@[\dx]+)?$")  # of a volume or a scan; photographs have none


def shared_sources(first: Path, second: Path) -> list[str]:
    """Names, as the first has them, of pictures and slices that both were made from; raises CorpusError.

    The same is the same file, byte for byte, wherever it lies and whatever it is called, and of it the same slice.
    """
    theirs = _sources(open_corpus(second))
    return sorted(name for key, name in _sources(open_corpus(first)).items() if key in theirs)


def _sources(corpus: Corpus) -> dict[tuple[str, str], str]:
    """Names of sources by the file's sha256 and the slice."""
    found = {}
    for index, sha256 in Ledger(corpus.path).sources().items():
        name = corpus.plan.file_of(index)
        place = SLICE.search(name)
        found[sha256, place.group(1) if place else ""] = name
    return found
