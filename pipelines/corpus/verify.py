"""Check whether a corpus is complete and unchanged, and whether its recipe makes its pairs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from recon.errors import UnmeasurableError
from recon.evaluation.measured_noise import Measured
from synth.corpus.check import CorpusCheck
from synth.corpus.layout import ARRAYS
from synth.corpus.ledger import content_hash
from synth.corpus.reader import Corpus, open_corpus, stored_plan
from synth.errors import SourceRejectedError
from synth.rng import rng
from synth.storage.corpus_files import Bucket, refuse_unfinished
from synth.storage.place import Place, place_of
from synth.version import versions

from ..display.progress import Meter
from .damage import damage_in
from .makers import DECISIVE
from .remeasure import measure
from .summary import makers

CLOSE = 1e-5  # relative: other processors and libraries round the last digits of single precision differently


@dataclass(frozen=True)
class Verified:
    """The result of verifying a corpus.

    Attributes
    ----------
    corpus, content_hash, pairs
        Its path, the hash of its pairs, and their number.
    intact, problems
        Whether no problem was found, and one sentence for each problem.
    replayed, identical, close
        How many pairs were made again; how many of these are equal to the last bit; and how many others are equal in
        single precision, as on another kind of processor.
    measured, largest_error
        How many pairs had their noise measured from their arrays, and the largest relative error of sigma among them.
    unmeasured
        Why no noise was measured although that was asked for; empty otherwise.
    not_covered
        Files that no check covers, by their paths in the corpus (a folder's ends with /), and why.
    makers
        The versions that made the shards, as JSON text, with the number of shards of each.
    """

    corpus: str
    content_hash: str
    pairs: int
    intact: bool
    problems: list[str]
    replayed: int
    identical: int
    close: int
    measured: int = 0
    largest_error: float = 0.0
    unmeasured: str = ""
    not_covered: dict[str, str] = field(default_factory=dict)
    makers: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)


def verify(path: str | Place, replay: int = 0, measured: int = 0) -> Verified:
    """Check that a corpus is complete and unchanged, and that its recipe makes its pairs.

    Parameters
    ----------
    path
        The corpus.
    replay
        The number of pairs that are made again and compared.
    measured
        The number of pairs whose noise is measured from their arrays.

    Returns
    -------
    The result, which lists any damage; damage raises no error.

    Raises
    ------
    CorpusError
        The path is not a finished corpus.
    StageVersionError
        Pairs are to be made again that only a later version of Fathom can make.
    """
    path = place_of(path)
    if min(replay, measured) < 0:
        raise ValueError(f"replay = {replay} and measured = {measured} are numbers of pairs; give 0 or more")
    refuse_unfinished(path)
    plan = stored_plan(path)
    check = CorpusCheck.of(path, plan)
    problems = list(damage_in(check).values())
    if problems:
        return Verified(str(path), content_hash(check.entries), len(plan), False, problems, 0, 0, 0)
    if replay:
        plan.refuse_unknown_stages(str(path))
    corpus = open_corpus(path)
    outcomes = _replay(corpus, replay)
    claims, unmeasured = _measure(path, measured)
    problems = [text for kind, text in outcomes if kind == "differs"] + [c.problem for c in claims if c.problem]
    return Verified(
        corpus=str(path),
        content_hash=corpus.content_hash,
        pairs=corpus.attributes["summary"]["pairs"],
        intact=not problems,
        problems=problems,
        replayed=len(outcomes),
        identical=sum(kind == "identical" for kind, _ in outcomes),
        close=sum(kind == "close" for kind, _ in outcomes),
        measured=len(claims),
        largest_error=max((abs(c.sigma_found / c.sigma - 1) for c in claims), default=0.0),
        unmeasured=unmeasured,
        not_covered=check.not_covered(),
        makers=makers(check.entries),
    )


def _measure(path: Place, count: int) -> tuple[list[Measured], str]:
    try:
        return (measure(path, count) if count else []), ""
    except UnmeasurableError as error:  # it is no damage: all else is checked
        return [], str(error)


def _replay(corpus: Corpus, count: int) -> list[tuple[str, str]]:
    """Make `count` pairs again, spread over the corpus, and say of each: identical, close or differs."""
    if not count:
        return []
    where, entries, step = corpus.valid_pairs, corpus.entries(), corpus.plan.shard_pairs
    chosen = rng(corpus.recipe.seed, "replay").permutation(len(where))[:count]
    outcomes = []
    with Meter(f"replay {corpus.path.name}", len(chosen)) as meter:
        for bucket, row in (where[k] for k in sorted(chosen)):
            stored = entries[f"{bucket.name}/pairs/{row // step}"]["rows"][row % step]
            outcomes.append(_compare(corpus, bucket, row, stored))
            meter.advance(1)
    return outcomes


def _compare(corpus: Corpus, bucket: Bucket, row: int, stored: dict[str, Any]) -> tuple[str, str]:
    index = stored["index"]
    try:
        pair = corpus.plan.pair(index)
    except (SourceRejectedError, OSError) as error:
        return "differs", f"pair {index}: cannot be made again: {error}"
    if pair.source_sha256 != stored["source_sha256"]:
        return "differs", f"pair {index}: its source {corpus.plan.file_of(index)} has changed since the build"
    if pair.digest() == stored["digest"]:
        return "identical", ""
    width = pair.kspace.shape[-1]
    made = pair.arrays
    kept = [bucket.row(name, row) for name in (*ARRAYS, "maps")[: len(made)]]
    kept[0] = kept[0][..., :width]
    if all(
        np.linalg.norm(np.subtract(a, b, dtype=np.complex128)) <= CLOSE * np.linalg.norm(b)
        for a, b in zip(made, kept, strict=True)
    ):
        return "close", f"pair {index}: the same within {CLOSE:g}, made with {versions(*DECISIVE)}"
    return "differs", f"pair {index}: made again, it differs from the stored pair"
