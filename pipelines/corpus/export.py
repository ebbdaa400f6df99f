"""Export of a corpus to files of other toolboxes, and import of an export: the same pairs, bit for bit."""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth.corpus.check import CorpusCheck
from synth.corpus.layout import map_shard_sets
from synth.corpus.ledger import Entries, content_hash
from synth.corpus.reader import Corpus, open_corpus, stored_plan
from synth.corpus.tasks import bucket_of, finished, hole, padded, shard_files, tasks_of
from synth.corpus.unfinished import UnfinishedCorpus
from synth.errors import CorpusError
from synth.plan import BucketPlan, Plan
from synth.stages.mask import Mask
from synth.stages.readout import Readout
from synth.storage.corpus_files import Bucket, building_path
from synth.storage.place import Place
from synth.storage.remote_shard import shard_writer
from synth.storage.whole import named, open_stored, read_document, refuse_strange
from synth.writers import WRITERS
from synth.writers.content import Content

from ..display.progress import Meter
from .data_card import card_documents
from .summary import summarise, versions_of

DOCUMENTS = ("recipe.json", "sources.json", "ledger.jsonl", "summary.json")


def export(corpus_path: Place, kind: str, out: Path) -> int:
    """Write every pair of a corpus into ``out/pairs``, and what `import_corpus` needs beside it; return their number.

    Raises CorpusError, FileExistsError, or ValueError where the format cannot hold these pairs.
    """
    corpus = open_corpus(corpus_path)
    corpus.entries()  # raises CorpusError where some are missing, without which no import is possible
    if out.exists():
        raise FileExistsError(f"{out} is there already; choose another --out")
    partial = out.with_name(f"{out.name}.{uuid.uuid4().hex}.partial")  # a name that nobody else has
    for folder in ("fathom", "pairs"):
        (partial / folder).mkdir(parents=True)
    try:
        with named(partial):
            count = _write_all(corpus, kind, partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)  # an export can be made again from the corpus
        raise
    partial.rename(out)
    return count


def _write_all(corpus: Corpus, kind: str, folder: Path) -> int:
    for document in DOCUMENTS:
        with open_stored(corpus.path / document) as stored, (folder / "fathom" / document).open("xb") as copy:
            shutil.copyfileobj(stored, copy)  # unlike `copy`, its errors are not said to be those of the corpus
    (folder / "fathom" / "export.json").write_text(json.dumps({"format": kind, "content_hash": corpus.content_hash}))
    count = 0
    (folder / "README.md").write_text(_told(corpus, kind))
    with Meter(f"export {corpus.path.name}", len(corpus.valid_pairs)) as meter:
        for bucket in corpus.buckets:
            for k in range(bucket.arrays["maps"].shape[0]):
                np.save(folder / "fathom" / f"{bucket.name}-maps-{k:06d}.npy", bucket.row("maps", k))
            for content in _contents(corpus, bucket):
                WRITERS[kind].write(content, folder / "pairs")
                count += 1
                meter.advance(1)
    return count


def _told(corpus: Corpus, kind: str) -> str:
    """The text of the export's README: what a reader of the files must know."""
    lines = [f"# {corpus.recipe.name}, exported to {kind}", "", f"Corpus `{corpus.content_hash}`.", ""]
    lines += [(WRITERS[kind].write.__doc__ or "").strip(), ""]
    for bucket in corpus.plan.buckets:
        readout = Readout(bucket.matrix[0], bucket.readout)
        first = readout.image_rows.start - (readout.offset if kind == "mrd" else 0)  # mrd's lines are centred
        rows = slice(first, first + readout.rows)
        lines.append(f"- `{bucket.name}`: the image is rows {rows.start} to {rows.stop - 1} of {bucket.readout}")
    if any(bucket.sets > 1 for bucket in corpus.plan.buckets):
        lines.append(
            "- pairs have two map sets: maps are [set coil y x] and targets [set y x]; the object's magnitude is the "
            "root of the sum of squares over the sets"
        )
    if corpus.recipe.of_scans or corpus.recipe.noise.whiten:
        lines.append("- k-space and maps are of whitened coils: sigma is the same in all, without correlation")
    return "\n".join(lines) + "\n"


def _name(index: int) -> str:
    return f"pair-{index:06d}"


def _contents(corpus: Corpus, bucket: Bucket) -> Iterator[Content]:
    plan = next(b for b in corpus.plan.buckets if b.name == bucket.name)
    full = corpus.recipe.kspace == "full"
    skip = {"kspace", "mask", "target", "maps", "index", "valid"}
    names = [n for n in bucket.arrays if n not in skip and not n.startswith("maps_") and not n.endswith("_crc32c")]
    scalars, indices = {name: bucket.numbers(name) for name in names}, bucket.numbers("index")
    for row in bucket.valid_rows.tolist():
        kspace, sampled, target = (bucket.row(name, row) for name in ("kspace", "mask", "target"))
        maps = bucket.row("maps", bucket.map_rows[row])
        index = int(indices[row])
        spread = _spread(kspace, sampled, plan, full=full)
        numbers = {name: values[row] for name, values in scalars.items()}
        yield Content(_name(index), index, spread, sampled, maps, target, numbers, full)


def _spread(kspace: NDArray[Any], sampled: NDArray[np.bool_], plan: BucketPlan, *, full: bool) -> NDArray[Any]:
    """Stored k-space as [coil y x]."""
    size = (plan.readout, plan.matrix[1])
    if full:
        return kspace.reshape(len(kspace), *size)
    return Mask(sampled, 1.0).unpack(kspace[..., : int(sampled.sum())], size)


def import_corpus(folder: Path, out: Path) -> str:
    """Make the corpus again from an export; return its content hash. Raises CorpusError if the export has changed."""
    is_there = f"{out} is there already; choose another --out"
    if out.exists() or building_path(out).exists():
        raise FileExistsError(is_there)
    try:
        told = json.loads(read_document(folder / "fathom" / "export.json"))
        writer = WRITERS[told["format"]]
        plan = stored_plan(folder / "fathom")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        state = "does not exist" if not folder.exists() else "is not an export of Fathom's"
        raise CorpusError(
            f"{folder} {state}{'' if missing else f' ({error})'}; give a folder that `fathom export` made"
        ) from None
    if writer.EXACT and plan.recipe.target.readout_oversampling > 1:
        raise CorpusError(
            f"{folder}: {told['format']} files are {writer.EXACT}, so they give another corpus; export to mrd or cfl"
        )
    for file in folder.rglob("*"):
        if not file.is_dir():
            refuse_strange(file, file.stat())  # a reader would wait for ever at a pipe
    entries = finished(folder / "fathom", plan)
    corpus = UnfinishedCorpus(out, plan)
    try:
        building_path(out).mkdir(parents=True)  # of two imports, only one makes it, and may remove it again
    except FileExistsError:
        raise FileExistsError(is_there) from None
    try:
        corpus.prepare()
        _read_all(folder, corpus, writer, entries)
        entries, columns = corpus.write_numbers()
        summary = summarise(plan, entries, corpus.root, columns)
        papers = card_documents(plan, summary, content_hash(entries))
        return corpus.finish({**summary, "versions": versions_of(entries)}, papers, (entries, columns))
    except BaseException:
        shutil.rmtree(building_path(out), ignore_errors=True)  # it can be imported again
        raise


def _read_all(folder: Path, corpus: UnfinishedCorpus, writer: Any, entries: Entries) -> None:
    plan, check = corpus.plan, CorpusCheck(corpus.root, corpus.plan, entries)
    with Meter(f"import {folder.name}", len(plan)) as meter:
        for task in tasks_of(plan):
            bucket = bucket_of(plan, task)
            if task.name not in entries:
                raise CorpusError(f"{folder}/fathom/ledger.jsonl lacks {task.name}; export the corpus again")
            size = map_shard_sets(bucket) if task.kind == "maps" else plan.shard_pairs
            with contextlib.ExitStack() as stack:
                files = shard_files(corpus.root, bucket, task)
                writers = [stack.enter_context(shard_writer(file, size)) for file in files]
                for row, stored in zip(range(*task.rows), entries[task.name]["rows"], strict=True):
                    arrays = _arrays_of(folder, writer, plan, bucket, task.kind, row, stored)
                    for shard, array in zip(writers, arrays, strict=True):
                        shard.append(array)
            problem = check.shard(task)
            if problem:
                raise CorpusError(f"{folder}: its files have changed since the export: {problem}")
            corpus.ledger.append(entries[task.name])
            meter.advance(task.pairs)


def _arrays_of(
    folder: Path, writer: Any, plan: Plan, bucket: BucketPlan, kind: str, row: int, stored: dict[str, Any]
) -> tuple[NDArray[Any], ...]:
    maps_file = folder / "fathom" / f"{bucket.name}-maps-{row:06d}.npy"
    if kind == "maps":
        return (np.load(maps_file, allow_pickle=False),)
    if not stored["numbers"]:
        return hole(bucket)
    try:
        kspace, sampled, target = writer.read(folder / "pairs", _name(stored["index"]))
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise CorpusError(f"{folder}: {_name(stored['index'])} cannot be read ({error}); export it again") from None
    sampled = sampled if not bucket.lines or sampled.ndim == 1 else sampled[0]
    if plan.recipe.kspace == "full":
        kept = kspace if bucket.lines else kspace.reshape(len(kspace), -1)
    else:
        kept = padded(np.ascontiguousarray(kspace[..., sampled]), bucket.capacity)
    own = (np.load(maps_file, allow_pickle=False),) if bucket.own_maps else ()
    return (kept, sampled, target, *own)
