"""Manifests of public data sets: content, terms, how to get them, and whether a folder holds one."""

from __future__ import annotations

import contextlib
import hashlib
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from synth.errors import SourceRejectedError, SourceUnreadableError
from synth.sources.crimes import fingerprint
from synth.sources.mr_images import is_picture
from synth.sources.photos import is_image, read_photo
from synth.sources.scan_slices import is_scan
from synth.storage.listing import files_below

from ..display.progress import Meter
from ..errors import ManifestError

HERE = Path(__file__).resolve().parents[1]  # the package; a checkout has the manifests beside it
FOLDER = next(p for p in (HERE / "data_manifests", HERE.parent / "data_manifests") if p.is_dir() or p.parent != HERE)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Content(_Part):
    """What the data are."""

    what: str
    format: str
    limits: str = Field(description="what reconstruction research must know: padding, compression, what is missing")


class Split(_Part):
    """One split as its owner made it."""

    items: int | None = Field(default=None, ge=0)
    unit: str = "files"
    folder: str | None = None
    split_by: str = "not stated"  # patient, subject, source image


class File(_Part):
    """One archive as its owner offers it; without a published checksum, `checksum` is the word unpinned."""

    name: str
    bytes: int | None = Field(default=None, ge=0)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    md5: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}$")
    checksum: Literal["unpinned"] | None = None
    url: str | None = None

    @model_validator(mode="after")
    def _pinned_or_said(self) -> File:
        if (self.sha256 or self.md5) is None and self.checksum is None:
            raise ValueError("needs sha256, md5, or checksum = 'unpinned'")
        return self


class Manifest(_Part):
    """One public data set."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    kind: Literal["images", "scans"]
    home: str
    licence: str
    licence_url: str | None = None
    citation: str
    doi: str | None = None
    get: str
    source_of_facts: tuple[str, ...] = ()
    content: Content
    splits: dict[str, Split] = Field(default_factory=dict)
    files: tuple[File, ...] = ()


def names() -> list[str]:
    """Names of all manifests."""
    return sorted(p.stem for p in FOLDER.glob("*.toml"))


def load(name: str) -> Manifest:
    """The manifest of a name; raises ManifestError."""
    path = FOLDER / f"{name}.toml"
    if name not in names():
        raise ManifestError(f"there is no manifest '{name}'; the manifests are {', '.join(names())}")
    try:
        return Manifest.model_validate(_tuples(tomllib.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValidationError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ManifestError(f"{path}: {error}") from None


def _tuples(value: Any) -> Any:
    """Lists as tuples, which frozen models hold."""
    if isinstance(value, list):
        return tuple(_tuples(v) for v in value)
    return {k: _tuples(v) for k, v in value.items()} if isinstance(value, dict) else value


@dataclass(frozen=True)
class Checked:
    """The result of comparing a folder with a manifest."""

    facts: list[str]
    problems: list[str]


def check(manifest: Manifest, path: Path) -> Checked:
    """Compare a folder with a manifest: archives by size and checksum, splits by count, and leakage between splits.

    Leakage is the same file in two splits, or the same photograph (perhaps resized or saved again). Raises OSError if
    the folder cannot be read.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is not a folder; give the folder that holds the data set")
    facts, problems = _check_archives(manifest, path)
    members: dict[str, list[Path]] = {}
    for name, split in manifest.splits.items():
        folder = next((path / f for f in (split.folder, name) if f and (path / f).is_dir()), None)
        if folder is None:
            facts.append(f"split {name}: not here")
            continue
        named = [folder / file for file in files_below(folder, lambda file: is_image(file) or is_scan(file))]
        members[name] = [path for path in named if path.is_file()]
        if lost := sorted(set(named) - set(members[name])):
            told = f"{len(lost)} links lead nowhere, such as {lost[0]}; fetch the files that they name"
            problems.append(f"split {name}: {told}")
        count = len(members[name])
        facts.append(f"split {name}: {count} files in {folder}")
        if split.items is not None and split.unit in ("files", "images", "volumes") and count != split.items:
            problems.append(f"split {name}: {count} files in {folder}, but the owner states {split.items} {split.unit}")
    if not members and not any("archive" in fact for fact in facts):
        problems.append(f"{path} holds neither the archives nor the splits of {manifest.name}")
    return Checked(facts, problems + leaks(members))


def _check_archives(manifest: Manifest, path: Path) -> tuple[list[str], list[str]]:
    facts, problems = [], []
    for file in manifest.files:
        local = path / file.name
        if not local.is_file():
            continue
        if file.bytes is not None and local.stat().st_size != file.bytes:
            problems.append(f"{local} has {local.stat().st_size:,} bytes, but the owner states {file.bytes:,}")
            continue
        kind = "sha256" if file.sha256 else "md5" if file.md5 else None
        if kind is None:
            facts.append(f"archive {file.name}: here, unpinned")
            continue
        with local.open("rb") as opened:
            found = hashlib.file_digest(opened, kind).hexdigest()
        if found != getattr(file, kind):
            problems.append(f"{local}: its {kind} is {found}, but the published one is {getattr(file, kind)}")
        else:
            facts.append(f"archive {file.name}: {kind} as published")
    return facts, problems


def leaks(members: dict[str, list[Path]]) -> list[str]:
    """Files that two splits share, and photographs that show the same picture."""
    alike: defaultdict[str, list[_Seen]] = defaultdict(list)
    found = {}
    with Meter("compare splits", sum(len(files) for files in members.values())) as meter:
        for split, files in members.items():
            for file in files:
                seen, keys = _seen(split, file)
                for other in (o for key in keys for o in alike[key]):
                    if other.split != split and other.is_same(seen):
                        found[other.file, file] = f"leakage: {other.file} and {file} are the same in two splits"
                for key in keys:
                    alike[key].append(seen)
                meter.advance(1)
    return list(found.values())


@dataclass(frozen=True)
class _Seen:
    split: str
    file: Path
    sha256: str
    print: int | None  # the fingerprint of a photograph

    def is_same(self, other: _Seen) -> bool:
        if self.sha256 == other.sha256:
            return True
        return None not in (self.print, other.print) and ((self.print or 0) ^ (other.print or 0)).bit_count() <= 3


def _seen(split: str, file: Path) -> tuple[_Seen, list[str]]:
    """A file with its keys; two files that may be the same share at least one key.

    Fingerprints that differ by at most 3 bits agree in at least one of their quarters.
    """
    with file.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    found = None
    if is_image(file.name) and not is_picture(file.name):  # slices of a volume look alike
        with contextlib.suppress(SourceRejectedError, SourceUnreadableError):
            found = fingerprint(read_photo(file).image)
    quarters = [] if found is None else [f"{k} {found >> 16 * k & 0xFFFF}" for k in range(4)]
    return _Seen(split, file, sha256, found), [sha256, *quarters]


def croissant(manifest: Manifest) -> dict[str, Any]:
    """The data set as a Croissant 1.0 document (JSON-LD of mlcommons.org)."""
    files = [
        {
            "@type": "cr:FileObject",
            "@id": file.name,
            "name": file.name,
            **({"contentUrl": file.url} if file.url else {}),
            **({"contentSize": f"{file.bytes} B"} if file.bytes is not None else {}),
            **({"sha256": file.sha256} if file.sha256 else {"md5": file.md5} if file.md5 else {}),
        }
        for file in manifest.files
    ]
    return {
        **CROISSANT,
        "name": manifest.name,
        "description": ". ".join([manifest.title, *(text for _, text in manifest.content)]),
        "license": manifest.licence_url or manifest.licence,
        "citeAs": manifest.citation,
        "url": manifest.home,
        "distribution": files,
    }


CROISSANT: dict[str, Any] = {
    "@context": {
        "@language": "en",
        "@vocab": "https://schema.org/",
        "sc": "https://schema.org/",
        "cr": "http://mlcommons.org/croissant/",
        "dct": "http://purl.org/dc/terms/",
        "citeAs": "cr:citeAs",
        "conformsTo": "dct:conformsTo",
        "md5": "cr:md5",
        "recordSet": "cr:recordSet",
        "field": "cr:field",
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "fileSet": "cr:fileSet",
        "includes": "cr:includes",
        "source": "cr:source",
        "extract": "cr:extract",
        "fileProperty": "cr:fileProperty",
    },
    "@type": "sc:Dataset",
    "conformsTo": "http://mlcommons.org/croissant/1.0",
}
