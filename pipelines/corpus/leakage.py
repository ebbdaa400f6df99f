"""Leakage: sources that two corpora share, so that a network would be tested on what it was trained on."""

from __future__ import annotations

from collections.abc import Iterable

from synth.corpus.reader import open_corpus
from synth.corpus.sources import slice_of
from synth.storage.place import Place, place_of

Sources = dict[tuple[str, int | None], str]


def shared_sources(first: Place, second: Place) -> list[str]:
    """Names, in the first corpus, of the pictures and slices from which both were made; raises CorpusError.

    Two sources are the same if their files are equal byte for byte, whatever the files' folders and names, and if they
    are the same slice of that file.
    """
    return shared(sources_of(first), sources_of(second))


def shared(first: Sources, second: Sources) -> list[str]:
    """Names, in `first`, of the sources that are in both."""
    return sorted(name for key, name in first.items() if key in second)


def validation_leaks(training: Iterable[str], validation: Iterable[str]) -> list[str]:
    """A sentence for each validation corpus that shares sources with the training corpora; raises CorpusError."""
    checked = [(path, sources_of(place_of(path))) for path in validation]
    if not checked:
        return []
    seen: Sources = {}
    for path in training:
        seen |= sources_of(place_of(path))
    return [
        f"leakage: {len(names)} of the {len(here)} sources of {path} in data.validation are in data.corpora, too, such "
        f"as {names[0]}: the validation loss is low even where the network has only learnt these by heart; validate on "
        "other sources"
        for path, here in checked
        if (names := shared(here, seen))
    ]


def sources_of(path: Place) -> Sources:
    """Names of a corpus's sources by the file's sha256 and the slice; raises CorpusError."""
    corpus = open_corpus(path)
    plan, found = corpus.plan, {}
    for index, sha256 in corpus.source_hashes().items():
        name = plan.file_of(index)
        found[sha256, slice_of(name)] = name
    return found
