"""Build a corpus: plan, run one task per shard, keep the ledger, finish. A build can go on after it was stopped."""

from __future__ import annotations

import contextlib
import errno
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from synth.corpus.ledger import content_hash
from synth.corpus.reader import open_corpus, stored_plan
from synth.corpus.tasks import Task, finished, tasks_of, write_shard
from synth.corpus.unfinished import UnfinishedCorpus
from synth.errors import CorpusError, SourceUnreadableError
from synth.given import refuse_other_type
from synth.plan import Plan
from synth.process import keep_memory
from synth.recipe import Recipe
from synth.sources.crimes import MEANING
from synth.sources.scan_slices import ScansSpec
from synth.storage.arrays import sha256_of_file
from synth.storage.corpus_files import stored_attributes
from synth.storage.objects import ObjectPlace
from synth.storage.place import Place, place_of

from ..cluster import LOCAL, ClusterSpec, open_cluster
from ..display.progress import Meter
from ..display.terminal import counted
from ..errors import BuildError, CorpusExistsError
from ..running import run_tasks
from .claim import claimed, is_finished, is_new, place_to_build, remove_traces
from .damage import find_damage
from .data_card import card_documents
from .makers import maker, refuse_a_changed_source, refuse_another_worker, refuse_other_makers
from .recipe_notes import recipe_notes
from .rejections import Rejections, reasons_of, reasons_told
from .same_recipe import is_same, refuse_another, told_of_sources
from .summary import lacking, summarise, versions_of


@dataclass(frozen=True)
class Built:
    """What a build made.

    Attributes
    ----------
    corpus, content_hash
        The corpus's path, and the hash of its pairs.
    pairs, rejected
        Pairs that it holds, and sources that were rejected.
    built, seconds, pairs_per_s
        Pairs made in this run, how long that took, and how fast it went.
    acceleration_net
        Positions over sampled positions, mean over the pairs.
    status
        "built", "resumed", "already there" or "mended".
    notes
        What was guessed of scans or found amiss, what earlier processing has done to the sources, what pairs lack.
    hash_before
        The content hash before mending; it is another one if another kind of processor mended the corpus.
    reasons
        Why sources were rejected, each with its file, once.
    """

    corpus: str
    content_hash: str
    pairs: int
    rejected: int
    built: int
    seconds: float
    pairs_per_s: float
    acceleration_net: float
    status: str
    notes: tuple[str, ...] = ()
    hash_before: str | None = None
    reasons: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)


def build(recipe: Recipe, out: str | Place, cluster: ClusterSpec = LOCAL) -> Built:
    """Build a corpus; go on with an unfinished one, mend a damaged one, refuse any other.

    Parameters
    ----------
    recipe
        The resolved recipe; `load_recipe` gives it.
    out
        The corpus to make: a folder, or ``s3://bucket/name.zarr`` (also ``gs://``, ``az://``).
    cluster
        Where shards are made; by default a process per core of this machine.

    Raises
    ------
    CorpusExistsError
        `out` is something else, or a corpus of another recipe; nothing was changed.
    BuildError
        Too many sources are rejected, a source has changed, the disk is full, or another build is at work on `out`.
    RecipeError
        A file that the recipe names cannot be used.
    StageVersionError
        The corpus was begun with a later version of Fathom, whose pairs this one cannot make.
    StoreError, StorageError
        The object store cannot be reached, or refuses; what to install or to set.
    ClusterError
        The cluster cannot be reached, or was lost.
    """
    refuse_other_type(recipe, Recipe, "build takes a Recipe, which load_recipe reads")
    refuse_other_type(out, (str, Path, ObjectPlace), "build takes the place of the corpus, such as 'corpus.zarr'")
    refuse_other_type(cluster, ClusterSpec, "build takes a cluster such as ClusterSpec('sync')")
    return _build(recipe, None, out, cluster)


def build_plan(plan: Plan, out: str | Place, cluster: ClusterSpec = LOCAL) -> Built:
    """The same for a plan, which says itself which file each pair is made from."""
    return _build(plan.recipe, plan, out, cluster)


def _build(recipe: Recipe, plan: Plan | None, out: str | Place, cluster: ClusterSpec) -> Built:
    place = place_to_build(out)
    try:
        with claimed(place) as (folder, check):
            before = _hash_of(folder)
            status, corpus = _begin(recipe, plan, place, folder)
            told = told_of_sources(recipe, corpus.plan, listed=status == "built") if plan is None else []
            told += recipe_notes(recipe)
            if status == "already there":
                remove_traces(folder)
                return _already_there(place, told)
            made = _finish(corpus, cluster, check)
            notes = [*told, *(recipe.source.notes() if isinstance(recipe.source, ScansSpec) and plan is None else [])]
            return replace(made, status=status, hash_before=before, notes=(*notes, *made.notes))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"{place}: the disk is full; free some space and run the same command again: finished shards stay"
            raise BuildError(message) from None
        raise


def _begin(recipe: Recipe, plan: Plan | None, out: Place, folder: Place) -> tuple[str, UnfinishedCorpus]:
    """The status of the corpus, and the corpus; one that was begun keeps its list of sources and its shard size."""
    complete = is_finished(out, folder)
    if not complete and is_new(folder):
        corpus = UnfinishedCorpus(out, plan or Plan.of(recipe))
        _check_space(corpus, tasks_of(corpus.plan))
        corpus.prepare()
        return "built", corpus
    if not (folder / "recipe.json").exists():
        raise CorpusExistsError(
            f"{folder} is there already and is no corpus; nothing was changed: choose another --out"
        )
    try:
        stored = stored_plan(folder)
    except CorpusError as error:
        raise CorpusExistsError(f"{error}; nothing was changed") from None
    begun = UnfinishedCorpus(out, stored)
    if not complete and not any("/pairs/" in name for name in begun.entries()) and not is_same(recipe, stored, plan):
        begun.empty()  # no pair is lost: a build that made no pair must not block a corrected recipe
        return _begin(recipe, plan, out, folder)
    refuse_another(recipe, stored, folder, plan)
    damaged = find_damage(folder, stored, complete=complete)
    if complete and not damaged:
        return "already there", begun
    stored.refuse_unknown_stages(str(folder))
    moved = stored.recipe.model_copy(update={"source": recipe.source})
    corpus = UnfinishedCorpus(out, replace(stored, recipe=moved))  # its stages stay: no corpus mixes versions
    entries = finished(folder, stored)
    if any(task.name not in entries or task.name in damaged for task in tasks_of(stored)):
        damaged |= dict.fromkeys(refuse_other_makers(corpus.plan, entries, damaged, str(folder)), "")
    if complete and isinstance(out, Path) and isinstance(begun.root, Path):
        out.rename(begun.root)
    for name in (name for name in damaged if name in entries):
        begun.ledger.void(name)
    corpus.prepare()
    return ("mended" if complete else "resumed"), corpus


def _hash_of(folder: Place) -> str | None:
    with contextlib.suppress(CorpusError):
        return stored_attributes(folder).get("content_hash")
    return None


def _finish(corpus: UnfinishedCorpus, cluster: ClusterSpec, check: Callable[[], None]) -> Built:
    plan, out, missing, made = corpus.plan, corpus.path, corpus.missing(), 0
    _check_space(corpus, missing)
    with Meter(f"build {plan.recipe.name}", len(plan), done=len(plan) - sum(t.pairs for t in missing)) as meter:
        if missing:
            made = _run(corpus, missing, cluster, meter)
        seconds, rate = meter.seconds, meter.rate
    check()
    entries, columns = corpus.write_numbers()
    summary = summarise(plan, entries, corpus.root, columns)
    if summary["pairs"] == 0:
        reasons = reasons_told([r["reason"] for r in summary["rejected"]], plan)
        raise BuildError(f"{out}: every source was rejected, so that there is no pair to keep:\n{reasons}")
    papers = card_documents(plan, summary, content_hash(entries))
    check()
    content = corpus.finish({**summary, "versions": versions_of(entries)}, papers, (entries, columns))
    return Built(
        corpus=str(out),
        content_hash=content,
        pairs=summary["pairs"],
        rejected=len(summary["rejected"]),
        built=made,
        seconds=round(seconds, 3),
        pairs_per_s=round(rate, 2) if missing else 0.0,
        acceleration_net=summary["numbers"]["acceleration_net"]["mean"],
        status="built",
        notes=(
            *(f"{counted(n, 'source')}: {MEANING[f]} ({f})" for f, n in summary["findings"].items()),
            *lacking(summary),
            *plan.older_stages,
        ),
        reasons=reasons_of(summary),
    )


def _check_space(corpus: UnfinishedCorpus, tasks: list[Task]) -> None:
    if not isinstance(corpus.root, Path):
        return  # a store has no end
    needed, free = corpus.bytes_of(tasks), shutil.disk_usage(corpus.root).free
    if needed > free:
        raise BuildError(
            f"{corpus.root}: the corpus needs {needed / 2**30:.2f} GB more and the disk has {free / 2**30:.2f} GB "
            "free; free some space, or build on another disk"
        )


def _run(corpus: UnfinishedCorpus, missing: list[Task], spec: ClusterSpec, meter: Meter) -> int:
    """Make the shards that are missing; return how many pairs they hold."""
    ledger, plan, made = corpus.ledger, corpus.plan, 0
    entries = corpus.entries()
    sources, rejections = ledger.sources(but=entries), Rejections(ledger, plan)
    for entry in entries.values():
        rejections.add(entry)
    rejections.stop_at_too_many()
    try:
        with (
            open_cluster(spec) as cluster,
            contextlib.closing(
                run_tasks(cluster, run_task, missing, str(corpus.root), plan_key(corpus.root))
            ) as outcomes,
        ):
            meter.restart()
            for task, entry in outcomes:
                refuse_another_worker(entry)
                for row in entry["rows"]:
                    refuse_a_changed_source(
                        {**row, "source_sha256": sources.get(row.get("index"), "")}, row.get("source_sha256", "")
                    )
                ledger.append(entry)
                made += sum(bool(row["numbers"]) for row in entry["rows"]) if task.pairs else 0
                meter.advance(task.pairs)
                rejections.add(entry)
                rejections.stop_at_too_many()
    except SourceUnreadableError as error:
        raise BuildError(f"source.path: {error}") from None
    return made


def _already_there(out: Place, told: list[str]) -> Built:
    corpus = open_corpus(out)
    summary = corpus.attributes["summary"]
    net = summary["numbers"]["acceleration_net"]["mean"]
    notes = (*told, *corpus.plan.older_stages)
    counts = summary["pairs"], len(summary["rejected"]), 0, 0.0, 0.0
    return Built(str(out), corpus.content_hash, *counts, net, "already there", notes, reasons=reasons_of(summary))


def plan_key(root: Place) -> str:
    """sha256 of the documents that say what is built; workers keep the plan that has it."""
    return " ".join(sha256_of_file(root / name) for name in ("sources.json", "recipe.json"))


@lru_cache(maxsize=2)
def _plan_of(root: str, key: str) -> Plan:  # the key is that of its documents: a plan may be replaced
    return stored_plan(place_of(root))


def run_task(task: Task, root: str, key: str) -> dict[str, Any]:
    """Make and write one shard on any worker; on it, the paths must lead to the same files."""
    keep_memory()
    started = time.perf_counter()
    entry = write_shard(place_of(root), _plan_of(root, key), task)
    return {**entry, "seconds": round(time.perf_counter() - started, 4), "versions": maker()}
