"""The record of a published corpus: what makes its pairs, and by what a rebuilt corpus is compared with it.

A record holds the recipe without paths, the sha256 of every source, the versions of the packages, the content hash, and
for each block of pairs the hash of their digests and the *fingerprint* of one pair.

A fingerprint of an array a is its norm ||a|| and the sums p_k = sum_j s_kj a_j, where the signs s_kj = +1 or -1 are
random and always the same. For two arrays a and b the mean of |p_k(a) - p_k(b)|^2 over the signs is ||a - b||^2 (D.
Achlioptas, J. Computer and System Sciences 66:671, 2003, with one sign per entry: the terms with different j cancel).
So a few sums tell by how much two arrays differ, although only one of them is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from synth.corpus.ledger import Entries, pair_rows
from synth.corpus.reader import Corpus
from synth.errors import CorpusError
from synth.rng import rng
from synth.storage.corpus_files import Bucket
from synth.storage.place import Place
from synth.storage.whole import read_document, refuse_shortage

RECORD, SOURCES, TRAINING = "corpus.json", "sources.json", "training.json"
FORMAT: Literal[1] = 1  # raise it with every change of what is written
BLOCKS = 32  # most blocks of pairs
SUMS = 8  # of a fingerprint: the estimated square of a difference has a relative spread of sqrt(2 / 16) = 35 %
DIGITS = 8  # of the numbers of a fingerprint
SHA256 = r"^[0-9a-f]{64}$"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Fingerprint(_Part):
    """Of one array: number of its values that are not NaN, their norm, and the sums with random signs."""

    size: int = Field(ge=0)
    norm: float = Field(ge=0)
    sums: list[tuple[float, float]] = Field(min_length=SUMS, max_length=SUMS, description="real and imaginary part")

    @classmethod
    def of(cls, array: NDArray[Any]) -> Fingerprint:
        """The fingerprint of an array; NaN, with which packed k-space is filled, does not count."""
        values = array[np.isfinite(array)].astype(np.complex128)
        sums = [complex(signs @ values) for signs in _signs(values.size)]
        norm = _rounded(float(np.linalg.norm(values)))
        return cls(size=values.size, norm=norm, sums=[(_rounded(p.real), _rounded(p.imag)) for p in sums])

    def difference(self, other: Fingerprint) -> float:
        """Estimate of ||a - b|| / ||b||, b being the array of `other`; infinite where their sizes differ."""
        if self.size != other.size:
            return float("inf")
        squares = np.square(np.subtract(self.sums, other.sums)).sum(axis=-1)
        return float(np.sqrt(squares.mean()) / max(other.norm, 1e-300))


@lru_cache(maxsize=8)
def _signs(size: int) -> tuple[NDArray[np.int8], ...]:
    drawn = (np.frombuffer(rng(0, "fingerprint", k).bytes(-(-size // 8)), np.uint8) for k in range(SUMS))
    return tuple(2 * np.unpackbits(bits, count=size).astype(np.int8) - 1 for bits in drawn)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


class Block(_Part):
    """Pairs `first` to `last`: hash of their digests; a pair of them, its mask's hash and fingerprints by array."""

    first: int = Field(ge=0)
    last: int = Field(ge=0)
    sha256: str = Field(pattern=SHA256)
    pair: int | None = None  # None where all sources of the block were rejected
    mask_sha256: str = ""
    arrays: dict[str, Fingerprint] = Field(default_factory=dict)


class Record(_Part):
    """``corpus.json`` of a published corpus."""

    format: Literal[1]
    name: str
    pairs: int = Field(ge=1)
    rejected: int = Field(ge=0)
    content_hash: str = Field(pattern=SHA256)
    recipe_hash: str = Field(pattern=SHA256)
    recipe: dict[str, Any]
    stages: dict[str, int]
    versions: dict[str, str]
    files: dict[str, str] = Field(description="sha256, or content hash, of further files by the recipe's key")
    source: str
    licence_of_source: str
    citation: str
    licence: str
    sources_sha256: str = Field(pattern=SHA256)
    blocks: list[Block]


class NamedSource(_Part):
    """An entry of ``sources.json``: a file, perhaps with a slice, and the sha256 of the file."""

    name: str = Field(min_length=1)
    sha256: str = Field(pattern=SHA256)


def read_record(folder: Place) -> tuple[Record, list[NamedSource]]:
    """The record and the sources of a published corpus; raises CorpusError where the folder holds none."""
    if (folder / TRAINING).exists():
        raise CorpusError(
            f"{folder} is a published training, which is not rebuilt: use its weights, such as `fathom test {folder}`"
        )
    if not (folder / RECORD).exists():
        kind = "is no published corpus" if folder.exists() else "does not exist"
        raise CorpusError(f"{folder} {kind}; give the folder that `fathom publish` made")
    try:
        data = read_document(folder / SOURCES)
        said = json.loads(read_document(folder / RECORD))
        if isinstance(said, dict) and said.get("format") != FORMAT:
            raise CorpusError(
                f"{folder}/{RECORD} has format {said.get('format')}, this Fathom reads {FORMAT}; install the Fathom "
                "that published it"
            )
        record = Record.model_validate_json(json.dumps(said))
        if hashlib.sha256(data).hexdigest() != record.sources_sha256:
            raise ValueError(f"{SOURCES} is not the file that was published")
        sources = [NamedSource.model_validate(entry) for entry in json.loads(data)]
        if not sources:
            raise ValueError(f"{SOURCES} names no source")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise CorpusError(f"{folder}: {where} is damaged ({first['msg']}); fetch the folder again") from None
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        refuse_shortage(error)
        raise CorpusError(f"{folder} cannot be read ({error}); fetch the folder again") from None
    return record, sources


def blocks_of(corpus: Corpus, entries: Entries) -> list[Block]:
    """The blocks of a finished corpus, at most `BLOCKS`; of one pair of each, the arrays are read."""
    count, rows = len(corpus.plan), pair_rows(entries)
    found = []
    for part in np.array_split(np.arange(count), min(BLOCKS, count)):
        digest, pair = hashlib.sha256(), None
        for index, row in zip(part.tolist(), rows, strict=False):  # the rows go on in the next block
            digest.update(f"{index} {row['digest']}\n".encode())
            pair = index if pair is None and row["numbers"] else pair
        told = {} if pair is None else _pair_of(corpus.buckets, pair)
        found.append(Block(first=int(part[0]), last=int(part[-1]), sha256=digest.hexdigest(), pair=pair, **told))
    return found


def _pair_of(buckets: Iterable[Bucket], index: int) -> dict[str, Any]:
    for bucket in buckets:
        for row in np.flatnonzero(bucket.numbers("index") == index):
            places = {"kspace": int(row), "target": int(row), "maps": int(bucket.map_rows[row])}
            arrays = {name: Fingerprint.of(bucket.row(name, place)) for name, place in places.items()}
            mask = np.packbits(bucket.row("mask", row)).tobytes()
            return {"mask_sha256": hashlib.sha256(mask).hexdigest(), "arrays": arrays}
    raise CorpusError(f"pair {index} is missing: the corpus is damaged; the same `fathom build` mends it")
