"""The recipe: what a corpus is made of, as frozen data; errors name file, line, key, value and remedy."""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from .coils import CoilsSpec, EspiritSpec, LibrarySpec, draw_coils
from .images import ImagesSpec
from .library import open_library
from .lines import RegularSpec
from .noise import NoiseSpec, covariance_factor
from .phase import PhaseSpec, SinusoidalSpec
from .sampling import SamplingSpec, samples_points
from .sources import ScansSpec
from .spec import Spec
from .target import TargetSpec

PATHS = (("source", "path"), ("coils", "path"), ("sampling", "path"), ("noise", "covariance"))


class RecipeError(ValueError):
    """A recipe that cannot be used; the message says where and how to mend it."""


class Recipe(Spec):
    """Everything that determines a corpus, besides the source files themselves."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    seed: int = Field(default=0, ge=0)
    pairs: int | None = Field(default=None, ge=1, le=10**7, description="default: one per source; more go round again")
    kspace: Literal["packed", "full"] = Field(
        default="packed", description="packed keeps the sampled part; full keeps all, so that masks can be redrawn"
    )
    shard_pairs: int | None = Field(
        default=None, ge=1, le=10**5, description="pairs per file; not part of what a pair is"
    )
    source: Annotated[ImagesSpec | ScansSpec, Field(discriminator="kind")]
    target: TargetSpec = TargetSpec()
    phase: PhaseSpec = SinusoidalSpec()
    coils: CoilsSpec
    noise: NoiseSpec = NoiseSpec()
    sampling: SamplingSpec = RegularSpec()

    def resolved(self) -> Recipe:
        """Fill in what the files it names decide, and refuse what cannot work; raises ValueError or OSError."""
        recipe = self._with_absolute_paths()
        coils = recipe.coils
        self._refuse_what_only_photos_or_scans_have()
        if isinstance(coils, LibrarySpec):
            coils = self._with_library(coils)
        if self.noise.covariance != "white" and coils.count is not None and not self.own_maps:
            covariance_factor(recipe.noise.covariance, coils.count)
        if samples_points(self.sampling) and self.target.readout_oversampling > 1:
            raise ValueError(
                f"target.readout_oversampling = {self.target.readout_oversampling} with sampling.kind "
                f"'{self.sampling.kind}', whose y is a second phase encoding: set it to 1"
            )
        for y, x in self.target.matrix if self.target.fit != "native" else ():
            self.sampling.capacity((y * self.target.readout_oversampling, x))
        return recipe.model_copy(update={"coils": coils})

    def _with_library(self, coils: LibrarySpec) -> LibrarySpec:
        library = open_library(coils.path).with_coils(coils.count)
        changed = coils.flip or coils.rotate or coils.mix
        virtual = coils.count is not None and max(shape[0] for shape in library.shapes) > coils.count
        if self.noise.covariance != "white" and (coils.mix or virtual):
            raise ValueError(
                "noise.covariance is of the coils as they are, coils.mix and fewer coils.count make others of them; "
                "leave mix out and keep all coils, or write noise.covariance = 'white'"
            )
        if coils.sets > len(library) and not changed:
            raise ValueError(
                f"coils.sets = {coils.sets}, but the library {coils.path} has {len(library)}; lower it, or let sets be "
                "drawn again with coils.flip, rotate or mix"
            )
        settled = {"count": coils.count or library.coils, "sets": coils.sets or len(library)}
        coils = coils.model_copy(update=settled)
        for matrix in self.target.matrix:
            draw_coils(coils, self.seed, 0).maps(matrix)
        return coils

    @property
    def own_maps(self) -> bool:
        """Whether each pair has maps of its own, as those of scans have."""
        return isinstance(self.coils, EspiritSpec)

    def _refuse_what_only_photos_or_scans_have(self) -> None:
        scans, target = isinstance(self.source, ScansSpec), self.target
        if scans != self.own_maps:
            raise ValueError(
                f"coils.kind '{self.coils.kind}' with source.kind '{self.source.kind}': scans have coils of their own, "
                "write coils.kind = 'espirit' for them, and for photographs 'loops', 'birdcage' or 'library'"
            )
        if not scans and (target.fit == "native" or target.flip or target.shift or target.rotate):
            raise ValueError("target.fit 'native', flip, shift and rotate are for source.kind = 'scans'")
        if scans and (target.readout_oversampling > 1 or len(target.matrix) > 1 or target.fit in ("resize", "pad")):
            raise ValueError(
                "scans are cropped or kept as they are: write target.fit = 'crop' or 'native', one target.matrix, and "
                "no readout_oversampling"
            )

    def _with_absolute_paths(self) -> Recipe:
        """Paths as they are from here, so that a worker or a later command elsewhere finds the same files."""
        update: dict[str, Any] = {}
        for name, key in PATHS:
            section = getattr(self, name)
            path = getattr(section, key, None)
            if path is not None and path != "white":
                update[name] = section.model_copy(update={key: str(Path(path).absolute())})
        return self.model_copy(update=update)

    def hash(self) -> str:
        """sha256 of what determines the pairs: the resolved recipe, and the content of the files it names.

        Where files are does not count; `shard_pairs` and `source.max_rejected` change how a corpus is built, not what a
        pair is. The photographs are not in it: each pair keeps the sha256 of its own.
        """
        how: Any = {"shard_pairs": True, "source": {"max_rejected", "path", "manifest"}}
        how |= {name: {key} for name, key in PATHS if name != "source"}
        identity = self.model_dump(mode="json", exclude=how, exclude_none=True)
        named = [getattr(getattr(self, name), key, None) for name, key in PATHS if name != "source"]
        identity["files"] = [file_hash(Path(path)) if path not in (None, "white") else path for path in named]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """sha256 of a file; of a corpus, its content hash."""
    if path.is_dir():
        library = open_library(str(path))
        if library.content_hash is not None:
            return library.content_hash
        from .corpus import open_corpus

        return open_corpus(path).content_hash
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_recipe(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a TOML recipe, apply ``section.key=value`` overrides, validate; raises RecipeError."""
    path, overrides = Path(path), tuple(overrides)
    if path.exists() and not path.is_file():
        raise RecipeError(f"{path}: is not a file; give a TOML recipe")
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except RecursionError:
        raise RecipeError(f"{path}: is nested too deeply; give a TOML recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read ({error}); give a TOML recipe") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: is not valid TOML: {error}") from None
    for override in overrides:
        _override(data, override)
    return parse_recipe(data, str(path), text, [o.partition("=")[0].strip() for o in overrides])


def parse_recipe(data: dict[str, Any], where: str, text: str = "", overridden: Sequence[str] = ()) -> Recipe:
    """Validate recipe data; raises RecipeError that names each wrong key of `where`, by its line in `text`.

    Keys in `overridden` came from the command line, so no line of the text is to blame.
    """
    try:
        return Recipe.model_validate_json(json.dumps(data, default=str), strict=True).resolved()
    except ValidationError as error:
        lines = [_explain(problem, data, where, text, overridden) for problem in error.errors(include_url=False)]
        raise RecipeError("\n".join(dict.fromkeys(lines))) from None
    except (ValueError, OSError) as error:
        raise RecipeError(f"{where}: {error}") from None


def _override(data: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {override}: write section.key=value, for example --set noise.snr=40")
    *sections, last = key.strip().split(".")
    if not all([*sections, last]) or "\n" in value:
        raise RecipeError(f"--set {override!r}: write one section.key=value, for example --set noise.snr=40")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise RecipeError(f"--set {override}: {section} is a value, not a section")
    try:
        data[last] = tomllib.loads(f"v = {value}")["v"]
    except (tomllib.TOMLDecodeError, RecursionError):
        data[last] = value  # a bare word is a string: --set source.path=photos


def _explain(problem: Any, data: dict[str, Any], where: str, text: str, overridden: Sequence[str]) -> str:
    keys, value, model = _locate(problem["loc"], data)
    if problem["type"].startswith("union_tag"):
        keys = [*keys, "kind"]
    line, key = _line_of(keys, text), ".".join(keys) or "recipe"
    place = f"{where}{f', line {line}' if line else ''}: {key}"
    if any(key == o or key.startswith(f"{o}.") for o in overridden):
        place = f"--set {key}"
    if problem["type"] == "extra_forbidden":
        known = sorted(model)
        near = difflib.get_close_matches(keys[-1], known, 1)
        return f"{place}: unknown key; " + (f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}")
    if problem["type"] == "missing":
        return f"{place}: is missing; add it"
    if problem["type"] == "union_tag_not_found":
        return f"{place}: is missing; it says which kind of {keys[0]} is wanted"
    if problem["type"] == "union_tag_invalid":
        return f"{place} = {problem['ctx']['tag']!r}: must be one of {problem['ctx']['expected_tags']}"
    if problem["type"] == "tuple_type":
        return f"{place} = {json.dumps(value, default=str)}: must be a list of numbers, such as [2, 2]"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{place} = {json.dumps(value, default=str)}: {message[:1].lower()}{message[1:]}"


def _locate(loc: tuple[Any, ...], data: Any) -> tuple[list[str], Any, set[str]]:
    """The keys that a user wrote, of a pydantic location (which also names union members), the value, known keys."""
    keys: list[str] = []
    model: set[str] = set(Recipe.model_fields)
    for depth, part in enumerate(loc):
        last = depth == len(loc) - 1
        if isinstance(data, dict) and (part in data or (last and isinstance(part, str) and part in model)):
            model = model if last else _fields(part, data.get(part))
            keys.append(str(part))
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
    return keys, data, model


def _fields(section: str, value: Any) -> set[str]:
    """Known keys of a section; of the kind that it names, where it has kinds."""
    models = _models(Recipe.model_fields[section].annotation) if section in Recipe.model_fields else []
    kind = value.get("kind") if isinstance(value, dict) else None
    chosen = [m for m in models if kind in typing.get_args(m.model_fields["kind"].annotation)] if kind else []
    return {name for model in chosen or models for name in model.model_fields}


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in typing.get_args(annotation) for m in _models(part)]


def _line_of(keys: list[str], text: str) -> int | None:
    """Line of `section.key` in TOML text, found by its section header and the key; None where it is not written so."""
    section, wanted = "", ".".join(keys[:-1])
    header = None
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.split("#")[0].strip()
        if stripped.startswith("["):
            section = stripped.strip("[] ")
            header = number if section == ".".join(keys) else header
        elif section == wanted and keys and stripped.split("=")[0].strip() == keys[-1]:
            return number
    return header
