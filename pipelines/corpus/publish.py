"""Publish a corpus: a folder of kilobytes from which anyone with the same sources rebuilds it.

The folder is also the repository of a data set at Hugging Face: ``README.md`` is a dataset card (its YAML follows
huggingface/hub-docs, datasetcard.md) and ``croissant.json`` its Croissant description (docs.mlcommons.org/croissant,
version 1.0). Nothing in it tells of the machine: paths are left out, names of sources are those below their folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from synth.corpus.ledger import Entries, content_hash
from synth.corpus.reader import Corpus, open_corpus
from synth.corpus.sources import file_of
from synth.errors import CorpusError
from synth.plan import Plan
from synth.recipe import PATHS, file_hash
from synth.storage.arrays import sha256_of_file
from synth.storage.place import Place, place_of
from synth.storage.whole import named, write_whole

from ..errors import CorpusExistsError
from ..public_data.manifests import CROISSANT
from .data_card import card_of, terms_of, without_paths
from .record import FORMAT, RECORD, SOURCES, NamedSource, Record, blocks_of
from .summary import versions_of

FILES = ("croissant.json", "README.md", SOURCES, RECORD)  # the last says that all are there
IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9.+-]*")
SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M")  # as the card's template has them


def publish(corpus_path: Place, out: Place, licence: str | None = None) -> list[str]:
    """Write what rebuilds a corpus into a new folder, here or in an object store; return the names of the files.

    `licence` is an identifier that Hugging Face knows, such as ``cc-by-4.0``.

    Raises CorpusExistsError where `out` is there, CorpusError for a corpus that is damaged or whose rejected sources
    are not in their place, ValueError for a licence that is no identifier.
    """
    corpus = open_corpus(corpus_path)
    licence = licence_of(licence or ("apache-2.0" if corpus.recipe.source.kind == "heads" else "unknown"))
    entries = corpus.entries()
    if content_hash(entries) != corpus.content_hash:
        raise CorpusError(f"{corpus.path}: its ledger is damaged; run `fathom verify`, then the same `fathom build`")
    refuse_existing(out, FILES)
    sources = json.dumps([source.model_dump() for source in _sources(corpus, entries)], indent=0).encode()
    record = _record(corpus, entries, licence, hashlib.sha256(sources).hexdigest())
    documents = {RECORD: json.dumps(record.model_dump(mode="json")).encode(), SOURCES: sources}
    documents["croissant.json"] = json.dumps(_croissant(record, documents), indent=2).encode()
    documents["README.md"] = _readme(corpus, record).encode()
    with new_folder(out, FILES) as folder:
        for name, document in documents.items():
            write_whole(folder / name, document)
    return sorted(documents)


def licence_of(identifier: str) -> str:
    """A licence's identifier in lower case; raises ValueError for other text."""
    if not IDENTIFIER.fullmatch(identifier.lower()):
        raise ValueError(f"--licence {identifier!r}: give an identifier, such as cc-by-4.0, mit or other")
    return identifier.lower()


def refuse_existing(out: Place, files: Sequence[str]) -> None:
    """Raise CorpusExistsError where something is there already.

    In an object store, some of `files` without the last one do not count: a `fathom publish` that was killed may have
    left them.
    """
    if isinstance(out, Path):
        there = out.exists() or out.is_symlink()
    else:
        there = out.is_file() or not out.names() <= {*files[:-1]}
    if there:
        raise CorpusExistsError(f"{out} is there already; nothing was changed: choose another --out")


@contextlib.contextmanager
def new_folder(out: Place, files: Sequence[str]) -> Iterator[Path]:
    """A folder for `files`, which gets its name `out` when all are written, and is removed after an error.

    For an object store it is a temporary one, from which each file is copied there whole, the last one last. Raises
    CorpusExistsError where something is there already.
    """
    if isinstance(out, Path):
        with _renamed(out, files) as folder:
            yield folder
        return
    with tempfile.TemporaryDirectory(prefix="fathom-publish-") as name:
        yield Path(name)
        refuse_existing(out, files)
        for file in files:
            if not (out / file).put_new((Path(name) / file).read_bytes()):
                raise CorpusExistsError(
                    f"{out / file} is there already, with another content, and was not changed; choose another --out"
                )


@contextlib.contextmanager
def _renamed(out: Path, files: Sequence[str]) -> Iterator[Path]:
    partial = out.with_name(f"{out.name}.{uuid.uuid4().hex}.partial")  # a name that nobody else has
    try:
        with named(partial):
            partial.mkdir(parents=True)
            yield partial
            refuse_existing(out, files)
            partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _sources(corpus: Corpus, entries: Entries) -> list[NamedSource]:
    """The sources that pairs were made from, in the order of the pairs; raises CorpusError where one is not known."""
    plan, recipe = corpus.plan, corpus.recipe
    rows = (row for name, entry in entries.items() if "/pairs/" in name for row in entry["rows"])
    known = {file_of(row["file"]): row["source_sha256"] for row in rows if row["source_sha256"]}
    found = []
    for name in plan.files[: len(plan)]:
        file = file_of(name)
        if file not in known:  # its pairs were rejected: the ledger has no sum of it
            try:
                known[file] = sha256_of_file(recipe.source.folder / file)
            except (OSError, ValueError):
                raise CorpusError(
                    f"{corpus.path}: {file} was rejected, so that its sha256 is not known, and it is not in "
                    f"{recipe.source.folder} any more; put it back"
                ) from None
        found.append(NamedSource(name=name, sha256=known[file]))
    return found


def _record(corpus: Corpus, entries: Entries, licence: str, sources_sha256: str) -> Record:
    summary, recipe = corpus.attributes["summary"], corpus.recipe
    source, licence_of_source, citation = terms_of(corpus.plan)
    return Record(
        format=FORMAT,
        name=recipe.name,
        pairs=summary["pairs"],
        rejected=len(summary["rejected"]),
        content_hash=corpus.content_hash,
        recipe_hash=recipe.hash(),
        recipe=without_paths(recipe.model_dump(mode="json", exclude_none=True)),
        stages=corpus.plan.stages,
        versions=versions_of(entries),
        files=named_files(corpus.plan),
        source=source,
        licence_of_source=licence_of_source,
        citation=citation,
        licence=licence,
        sources_sha256=sources_sha256,
        blocks=blocks_of(corpus, entries),
    )


def named_files(plan: Plan) -> dict[str, str]:
    """sha256, or content hash, of the files that a recipe names beside its sources, by the recipe's key."""
    found = {}
    for section, key in PATHS:
        path = getattr(getattr(plan.recipe, section), key, None)
        if section != "source" and path not in (None, "white"):
            found[f"{section}.{key}"] = file_hash(place_of(path))
    return found


def _readme(corpus: Corpus, record: Record) -> str:
    size = next(size for k, size in enumerate(SIZES) if record.pairs < 1000 * 10**k)
    tags = ["mri", "image-reconstruction", "k-space", "fathom"]
    lines = front_matter(
        pretty_name=record.name, license=record.licence, task_categories=["image-to-image"], size_categories=[size],
        tags=tags, viewer=False,
    )  # fmt: skip
    made = [f"| made with | {', '.join(f'{name} {version}' for name, version in record.versions.items())} |"]
    made += [f"| `{key}` | `{sha256}` |" for key, sha256 in record.files.items()]
    told = [
        "",
        "## How to make the pairs",
        "",
        "This folder does not hold the pairs. Fathom makes them from the sources:",
        "",
        "```sh",
        "fathom rebuild THIS_FOLDER --sources FOLDER_OF_THE_SOURCES --out corpus.zarr",
        "```",
        "",
        f"`{SOURCES}` lists the sources with their sha256; your files may have other names. `{RECORD}` has the recipe, "
        "and what the rebuilt corpus is compared with. The licence in the head of this card is that of this folder; "
        "the sources have their own.",
    ]
    card = card_of(corpus.plan, corpus.attributes["summary"], corpus.content_hash, made)
    return "\n".join(lines) + "\n" + card + "\n".join(told) + "\n"


def front_matter(**values: Any) -> list[str]:
    """The YAML at the beginning of a card, as lines; JSON's texts and lists are YAML, too."""
    return ["---", *(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()), "---", ""]


def _croissant(record: Record, documents: dict[str, bytes]) -> dict[str, Any]:
    """The description for machines; whoever puts it online adds url, creator and datePublished."""
    terms = {term: f"cr:{term}" for term in ("fileObject", "jsonPath")}
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"sources/{name}",
            "name": name,
            "description": told,
            "dataType": "sc:Text",
            "source": {"fileObject": {"@id": SOURCES}, "extract": {"jsonPath": f"$[*].{name}"}},
        }
        for name, told in {"name": "path below the folder of sources", "sha256": "of the file"}.items()
    ]
    return {
        **CROISSANT,
        "@context": {**CROISSANT["@context"], **terms},
        "name": record.name,
        "description": f"What rebuilds {record.pairs} training pairs for learned MR image reconstruction from "
        f"{record.source} with `fathom rebuild`",
        "license": record.licence,
        "citeAs": record.citation,
        "version": record.content_hash,
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": name,
                "name": name,
                "contentUrl": name,
                "contentSize": f"{len(document)} B",
                "encodingFormat": "application/json",
                "sha256": hashlib.sha256(document).hexdigest(),
            }
            for name, document in documents.items()
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "sources",
                "name": "sources",
                "description": "the files that the pairs are made from, in the order of the pairs",
                "field": fields,
            }
        ],
    }
