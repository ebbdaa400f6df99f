"""Build a corpus: plan, run one task per shard anywhere, keep the ledger, finish. Stopped at any point, it goes on."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from synth.corpus import check_shard, open_corpus, stored_attributes, stored_plan
from synth.images import SourceGoneError
from synth.ledger import Ledger
from synth.plan import Plan
from synth.recipe import Recipe
from synth.store import Task, building_path, finalize, prepare, tasks_of, write_shard

from .cluster import ClusterError, ClusterSpec, open_cluster, run_tasks
from .progress import Meter
from .summary import summarise


class BuildError(RuntimeError):
    """A build that cannot go on; the message says what to do, and what is finished stays."""


class CorpusExistsError(FileExistsError):
    """Something else is already there under this name."""


@dataclass(frozen=True)
class Built:
    """What a build made."""

    corpus: str
    content_hash: str
    pairs: int
    rejected: int
    built: int  # pairs made in this run
    seconds: float
    pairs_per_s: float
    acceleration_net: float
    status: str  # built | resumed | already there | mended

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)


def build(recipe: Recipe, out: Path, cluster: ClusterSpec) -> Built:
    """Build `recipe` as the corpus `out`; goes on with an unfinished one, mends a damaged one, refuses any other.

    Raises RecipeError, CorpusExistsError, BuildError, ClusterError, or OSError of the file system.
    """
    status = _take_up(recipe, out)
    root = building_path(out)
    if status == "already there":
        return _already_there(out)
    with _lock(root):
        if out.exists():  # another driver has finished it since
            return _already_there(out)
        plan = _begin(recipe, root, out)
        ledger = Ledger(root)
        done = ledger.read()
        missing = [task for task in tasks_of(plan) if task.name not in done]
        _check_space(plan, missing, root)
        finished = sum(_pairs_in(t) for t in tasks_of(plan) if t.name in done)
        started = time.perf_counter()
        with Meter(f"build {recipe.name}", len(plan), done=finished) as meter:
            if missing:
                _run(plan, missing, root, ledger, cluster, meter)
            seconds, rate = meter.seconds, meter.rate
        summary = summarise(plan, ledger.read())
        content = finalize(out, plan, {**summary, "versions": versions()})
    return Built(
        corpus=str(out),
        content_hash=content,
        pairs=summary["pairs"],
        rejected=len(summary["rejected"]),
        built=sum(_pairs_in(t) for t in missing),
        seconds=round(seconds if missing else time.perf_counter() - started, 3),
        pairs_per_s=round(rate, 2),
        acceleration_net=summary["numbers"]["acceleration_net"]["mean"],
        status=status,
    )


def _take_up(recipe: Recipe, out: Path) -> str:
    """Decide what there is to do; a damaged corpus goes back to being unfinished."""
    if not out.exists():
        return "resumed" if building_path(out).exists() else "built"
    try:
        attributes = stored_attributes(out)
    except RuntimeError as error:
        raise CorpusExistsError(f"{error}; nothing was changed: choose another --out") from None
    _same_recipe(recipe, stored_plan(out), attributes, out)
    damaged = find_damage(out)
    if not damaged:
        return "already there"
    ledger = Ledger(out)
    for task in damaged:
        ledger.append({"void": task})
    out.rename(building_path(out))
    return "mended"


def _same_recipe(recipe: Recipe, stored: Plan, attributes: dict[str, Any], where: Path) -> None:
    wanted = Plan.of(recipe, stored.files).recipe
    if wanted.hash() != attributes["recipe_hash"]:
        old, new = stored.recipe.model_dump(mode="json"), wanted.model_dump(mode="json")
        changed = ", ".join(sorted(_differences(old, new))) or "a file that the recipe names"
        raise CorpusExistsError(
            f"{where} was made from another recipe (differs in {changed}); nothing was changed: "
            "choose another --out, or move the old corpus away"
        )


def _differences(old: Any, new: Any, at: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old.keys() | new.keys():
            yield from _differences(old.get(key), new.get(key), f"{at}.{key}" if at else key)
    elif old != new:
        yield at


def _begin(recipe: Recipe, root: Path, out: Path) -> Plan:
    """The plan of this build: the stored list of sources, where there is one, so that a new file shifts nothing."""
    if (root / "zarr.json").exists():
        stored = stored_plan(root)
        _same_recipe(recipe, stored, stored_attributes(root), out)
        settled = {"shard_pairs": stored.recipe.shard_pairs}  # files are laid out already
        plan = Plan.of(recipe.model_copy(update=settled), stored.files)
    else:
        plan = Plan.of(recipe)
    prepare(out, plan)
    return plan


@contextlib.contextmanager
def _lock(root: Path) -> Iterator[None]:
    """Only one driver may build a corpus; the lock ends with its process, however that ends."""
    path = root.with_name(root.name + ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BuildError(f"{root}: another `fathom build` is at work on it; wait for it to end") from None
        try:
            yield
        finally:
            path.unlink()


def _check_space(plan: Plan, missing: list[Task], root: Path) -> None:
    per_pair = {bucket.name: bucket.pair_bytes for bucket in plan.buckets}
    needed = sum(per_pair[t.bucket] * (t.rows[1] - t.rows[0]) for t in missing if t.kind == "pairs")
    free = shutil.disk_usage(root).free
    if needed > free:
        raise BuildError(
            f"{root}: the corpus needs {needed / 2**30:.2f} GB more and the disk has {free / 2**30:.2f} GB free; "
            "free some space, or build on another disk"
        )


def _run(plan: Plan, missing: list[Task], root: Path, ledger: Ledger, spec: ClusterSpec, meter: Meter) -> None:
    allowed = plan.recipe.source.max_rejected * len(plan)
    rejected: list[dict[str, Any]] = []
    holes: list[str] = []
    try:
        with (
            open_cluster(spec) as client,
            contextlib.closing(run_tasks(client, run_task, missing, str(root.resolve()))) as outcomes,
        ):
            meter.restart()
            for task, entry in outcomes:
                ledger.append(entry)
                meter.advance(_pairs_in(task))
                rejected += entry["rejected"]
                holes += [task.name] if entry["rejected"] else []
                if len(rejected) > allowed:
                    _stop_for_rejections(ledger, holes, rejected, plan)
    except SourceGoneError as error:
        raise BuildError(f"source.path: {error}") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"{root}: the disk is full; free some space and run the same command again: finished shards stay"
            raise BuildError(message) from None
        raise


def _stop_for_rejections(ledger: Ledger, holes: list[str], rejected: list[dict[str, Any]], plan: Plan) -> None:
    for task in holes:  # their sources may be mended before the next try
        ledger.append({"void": task})
    reasons = "\n".join(f"  {r['reason']}" for r in rejected[:5])
    share = plan.recipe.source.max_rejected
    raise BuildError(
        f"{len(rejected)} of {len(plan)} sources were rejected, more than source.max_rejected = {share:g} allows:\n"
        f"{reasons}\nmend or remove them, or raise --set source.max_rejected, and run the same command again"
    )


def _pairs_in(task: Task) -> int:
    return task.rows[1] - task.rows[0] if task.kind == "pairs" else 0


def _already_there(out: Path) -> Built:
    corpus = open_corpus(out)
    summary = corpus.attributes["summary"]
    net = summary["numbers"]["acceleration_net"]["mean"]
    return Built(
        str(out), corpus.content_hash, summary["pairs"], len(summary["rejected"]), 0, 0.0, 0.0, net, "already there"
    )


def find_damage(root: Path) -> dict[str, str]:
    """Damaged shards of a corpus, by task name, with what is wrong with each."""
    plan, entries = stored_plan(root), Ledger(root).read()
    tasks = tasks_of(plan)
    found = {}
    with Meter(f"check {root.name}", len(plan)) as meter:
        for task in tasks:
            problem = check_shard(root, plan, task, entries.get(task.name))
            meter.advance(_pairs_in(task))
            if problem:
                found[task.name] = problem
    return found


@lru_cache(maxsize=2)
def _plan_of(root: str, sources: bytes, metadata: bytes) -> Plan:  # the bytes are the key: a plan may be replaced
    return stored_plan(Path(root))


def run_task(task: Task, root: str) -> dict[str, Any]:
    """Make and write one shard, on whatever worker; the paths must mean the same there."""
    _keep_memory()
    started = time.perf_counter()
    documents = [(Path(root) / name).read_bytes() for name in ("sources.json", "zarr.json")]
    plan = _plan_of(root, *documents)
    entry = write_shard(Path(root), plan, task)
    return {**entry, "seconds": round(time.perf_counter() - started, 4), "versions": versions()}


@lru_cache
def _keep_memory() -> None:
    """Let glibc keep freed arrays for the next pair: Dask's workers start with MALLOC_TRIM_THRESHOLD_ = 64 kB.

    Fetching the same pages anew for every array made synthesis take 1.6 times as long (measured).
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_mmap_threshold, 2**30)
        libc.mallopt(m_trim_threshold, 2**30)


@lru_cache
def versions() -> dict[str, str]:
    """Versions of what decides the bits of a pair."""
    names = ("fathom-mri", "numpy", "scipy", "pillow", "zarr")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


__all__ = ["BuildError", "Built", "ClusterError", "CorpusExistsError", "build", "find_damage"]
