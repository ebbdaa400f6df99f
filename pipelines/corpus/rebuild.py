"""Build a published corpus again from its sources, and compare it with what was published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from synth.corpus.reader import open_corpus
from synth.corpus.sources import file_of
from synth.errors import RecipeError
from synth.plan import Plan
from synth.recipe import parse_recipe
from synth.sources.photos import skimage_folder
from synth.storage.place import Place, below_one_folder

from ..cluster import LOCAL, ClusterSpec
from ..errors import BuildError
from .build import build_plan
from .makers import maker
from .record import RECORD, Block, NamedSource, Record, blocks_of, read_record
from .source_search import find_files
from .verify import CLOSE

Verdict = Literal["the same", "equal in single precision", "differs"]


@dataclass(frozen=True)
class Rebuilt:
    """A rebuilt corpus, compared with the published one.

    `compared` pairs had their arrays compared, which happens where the content hashes differ; `largest_difference` is
    the largest relative difference of one of their arrays. `problems` says where the corpora differ.
    """

    corpus: str
    content_hash: str
    published_hash: str
    pairs: int
    verdict: Verdict
    compared: int = 0
    largest_difference: float = 0.0
    problems: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)


def rebuild(folder: Place, folders: Sequence[Place], out: Place, cluster: ClusterSpec = LOCAL) -> Rebuilt:
    """Build the corpus that was published in `folder` from the sources in `folders`; all may lie in object stores.

    Raises CorpusError where `folder` is no published corpus, BuildError where a source is missing or differs, or no
    folder holds all of them (nothing is built then), and what `build` raises. A corpus that differs from the published
    one raises nothing.
    """
    record, sources = read_record(folder)
    plan = _plan(folder, record, sources, folders)
    made = build_plan(plan, out, cluster)
    if made.content_hash == record.content_hash:
        return Rebuilt(made.corpus, made.content_hash, record.content_hash, made.pairs, "the same")
    corpus = open_corpus(made.corpus)
    verdict, compared, largest, problems = compare(record.blocks, blocks_of(corpus, corpus.entries()))
    problems += _other_versions(record.versions)
    return Rebuilt(
        made.corpus, made.content_hash, record.content_hash, made.pairs, verdict, compared, largest, tuple(problems)
    )


def _plan(folder: Place, record: Record, sources: Sequence[NamedSource], folders: Sequence[Place]) -> Plan:
    """The published recipe with the places of this machine."""
    data = {name: dict(part) if isinstance(part, dict) else part for name, part in record.recipe.items()}
    kind = data.get("source", {}).get("kind")
    if kind == "skimage":  # its folder is that of the installed package
        folders = [*folders, skimage_folder()]
    found = find_files(record, sources, folders)
    names = [source.name for source in sources]
    if kind != "heads":
        places = [found[source.sha256] for source in sources]
        below = below_one_folder(places)
        if below is None:
            raise BuildError(
                f"{record.name}: its sources were found in {places[0].parent} and elsewhere, but not below one folder; "
                "copy them below one, on a disk or in a bucket"
            )
        base, paths = below
        names = [path + name.removeprefix(file_of(name)) for path, name in zip(paths, names, strict=True)]
        if kind != "skimage":
            data["source"]["path"] = str(base)
    for key, sha256 in record.files.items():
        section, _, name = key.partition(".")
        data[section][name] = str(found[sha256])
    recipe = parse_recipe(data, f"{folder / RECORD}")
    if recipe.hash() != record.recipe_hash:
        raise RecipeError(f"{folder / RECORD}: its recipe is not the one that was published; fetch the folder again")
    plan = Plan(recipe, tuple(names), record.stages)
    plan.refuse_unknown_stages(str(folder))
    return plan


def compare(published: Sequence[Block], made: Sequence[Block]) -> tuple[Verdict, int, float, list[str]]:
    """The verdict on blocks that differ, the number of pairs compared, the largest difference, and where they differ.

    Equal in single precision means: of one pair of every block that differs, the mask is the same and no array differs
    by more than `CLOSE`, relative to its norm.
    """
    if [(b.first, b.last) for b in published] != [(b.first, b.last) for b in made]:
        return "differs", 0, 0.0, ["the published corpus has another number of pairs"]
    compared, largest, close, problems = 0, 0.0, True, []
    for theirs, mine in zip(published, made, strict=True):
        if theirs.sha256 == mine.sha256:
            continue
        where = f"pairs {theirs.first} to {theirs.last}"
        if theirs.pair is None or theirs.pair != mine.pair:
            close = False
            problems.append(f"{where}: other sources were rejected")
            continue
        compared += 1
        differences = {name: mine.arrays[name].difference(theirs.arrays[name]) for name in theirs.arrays}
        largest = max(largest, *differences.values())
        told = [f"{name} by {value:.2g}" for name, value in differences.items() if value > CLOSE]
        told += ["the mask"] if theirs.mask_sha256 != mine.mask_sha256 else []
        close = close and not told
        if told:
            problems.append(f"{where}: in pair {mine.pair} {', '.join(told)} differs from what was published")
    if not compared and close:
        return "differs", 0, 0.0, ["the pairs are the same, but the coil maps differ"]
    return ("equal in single precision" if close else "differs"), compared, largest, problems


def _other_versions(published: dict[str, str]) -> list[str]:
    mine = maker()
    return [
        f"{name} was {version} when it was published and is {mine.get(name, 'not known')} here"
        for name, version in published.items()
        if version != mine.get(name)
    ]
