"""Settings as frozen data: TOML validated with a model, with errors that name file, line, key, value and remedy."""

from __future__ import annotations

import json
import os
import re
import tomllib
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ..errors import SettingsError
from ..given import refuse_other_type
from .nearest import nearest
from .wording import in_plain_words

Model = TypeVar("Model", bound=BaseModel)
KINDS = {  # keys that tell them apart, and the command that takes them
    "recipe": ({"source", "coils"}, "build"),
    "training": ({"model", "data"}, "train"),
    "study": ({"corpora", "tests"}, "study"),
}
MEANT = {  # other names of the field, and what they are called here
    "acs": "reference_lines",
    "acs_lines": "reference_lines",
    "calibration_lines": "reference_lines",
    "num_coils": "count",
    "R": "acceleration",
    "lr": "rate",
    "learning_rate": "rate",
}
TWICE = {  # what tomllib says of a key or a section that is there twice, and what is said here
    r"Cannot overwrite a value": "a key is given twice in one section",
    r"Cannot declare \((?P<section>.*?),?\) twice": "the section {section} begins twice",
}
NAMED = re.compile(
    r"Value error, (?P<key>[a-z_]+(?:\[\d+\])?(?:\.[\w-]+)*): "
)  # what a check of a whole file begins with
LONG = 300  # characters; a message leaves out a longer value


@contextmanager
def within(where: str) -> Iterator[None]:
    """Begin the message of a SettingsError with `where`, the place where the settings are used."""
    try:
        yield
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from None


def load_settings(
    model: type[Model],
    path: str | Path,
    overrides: Iterable[str] = (),
    *,
    what: str = "recipe",
    instead: Mapping[str, str] | None = None,
) -> Model:
    """Read a TOML file, apply ``section.key=value`` overrides, validate; raises SettingsError.

    An override of a key of `instead` also removes the key that it names from the file: only one of them may be given.
    """
    if isinstance(overrides, str | Mapping):
        raise TypeError(f"changes are a list of texts, such as ['pairs=10', 'seed=2']; got {overrides!r}")
    overrides = tuple(overrides)
    data, text = read_toml(path, what)
    for override in overrides:
        section, _, key = (instead or {}).get(override.partition("=")[0].strip(), "").partition(".")
        if isinstance(data.get(section), dict):
            data[section].pop(key, None)
    for override in overrides:
        _begin_section(model, data, override)
        _override(data, override)
    return parse_settings(model, data, str(path), text, [o.partition("=")[0].strip() for o in overrides])


def read_toml(path: str | Path, what: str) -> tuple[dict[str, Any], str]:
    """The data of a TOML file, and its text; raises SettingsError."""
    refuse_other_type(path, (str, os.PathLike), f"a {what} is read from the path of a TOML file")
    path = Path(path)
    if path.exists() and not path.is_file():
        raise SettingsError(f"{path}: is not a file; give a TOML {what}")
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors of Windows put a mark before the first letter
        data = tomllib.loads(text)
    except RecursionError:
        raise SettingsError(f"{path}: is nested too deeply; give a TOML {what}") from None
    except FileNotFoundError:
        raise SettingsError(f"{path}: does not exist; give a TOML {what}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: is not a text file; give a TOML {what}") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); give a TOML {what}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: is not valid TOML: {_told_plainly(error, text)}") from None
    return data, text


def _told_plainly(error: tomllib.TOMLDecodeError, text: str) -> str:
    """What is wrong with a file, with its line; a text without quotes is the usual invalid value."""
    told = str(error)
    if (place := re.match(r"Invalid value \(at line (\d+)", told)) and (number := int(place[1])):
        line = text.splitlines()[number - 1 : number]
        return told + f": {line[0].strip()}; a text needs quotes" * bool(line)
    if told.startswith(("Invalid hex value", "Unescaped '\\' in a string")):  # a path of Windows
        return f"{told}; a text with backslashes needs single quotes"
    for words, plain in TWICE.items():
        if found := re.match(words, told):
            section = ".".join(re.findall(r"'([^']*)'", found.groupdict().get("section", "")))
            told = plain.format(section=f"[{section}]") + "; remove one" + told[found.end() :]
    return told


def parse_settings(
    model: type[Model], data: dict[str, Any], where: str, text: str = "", overridden: Sequence[str] = ()
) -> Model:
    """Validate data; raises SettingsError that names each wrong key of `where`, by its line in `text`.

    Keys in `overridden` came from the command line; for them, the message names ``--set`` instead of a line.
    """
    try:
        return model.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        for kind, (keys, command) in KINDS.items():
            if keys <= data.keys() and not keys <= model.model_fields.keys():
                raise SettingsError(f"{where}: is a {kind}; use it with `fathom {command}`") from None
        lines = [_explain(model, problem, data, where, text, overridden) for problem in error.errors(include_url=False)]
        raise SettingsError("\n".join(dict.fromkeys(lines))) from None


def _begin_section(model: type[BaseModel], data: dict[str, Any], override: str) -> None:
    """Give a section that the file leaves out, and of which a key is set, the kind that it has by default."""
    section, dot, _ = override.partition("=")[0].strip().partition(".")
    field = model.model_fields.get(section)
    kind = getattr(field.default, "kind", None) if field is not None else None
    if dot and kind is not None and section not in data:
        data[section] = {"kind": kind}


def _override(data: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise SettingsError(f"--set {override}: write section.key=value, for example --set noise.snr=40")
    *sections, last = key.strip().split(".")
    if not all([*sections, last]) or "\n" in value:
        raise SettingsError(f"--set {override!r}: write one section.key=value, for example --set noise.snr=40")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise SettingsError(f"--set {override}: {section} is a value, not a section")
    try:
        data[last] = tomllib.loads(f"v = {value}")["v"]
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        if value.lstrip().startswith(("{", "[")):
            example = f'--set \'{key}=["one", "two"]\'' if "[" in value else 'kind = "regular"'
            raise SettingsError(
                f"--set {override}: is not valid TOML ({error}); put texts in quotes, and all of it in others, since "
                f"the shell takes the outer ones: {example}"
            ) from None
        data[last] = value  # a bare word is a string: --set source.path=photos


def _explain(
    whole: type[BaseModel], problem: Any, data: dict[str, Any], where: str, text: str, overridden: Sequence[str]
) -> str:
    keys, value, model = _locate(whole, problem["loc"], data)
    if problem["type"].startswith("union_tag"):
        keys = [*keys, "kind"]
    if not keys and (named := NAMED.match(problem["msg"])):
        keys, value, problem = named["key"].split("."), None, {**problem, "msg": problem["msg"][named.end() :]}
    line, key = _line_of(keys, text), ".".join(keys) or "the file"
    place = f"{where}{f', line {line}' if line else ''}: {key}"
    below = [o for o in overridden if o.startswith(f"{key}.")]
    if any(key == o or key.startswith(f"{o}.") for o in overridden) or (below and not line):
        place = f"--set {key}"
    elif below:  # a section of the file that no longer fits together
        place = f"--set {' and '.join(below)}: {key}"
    if problem["type"] == "extra_forbidden":
        meant = _meant(whole, keys, model)
        if meant == key and len(keys) == 2:  # a key of another kind, which --set has replaced
            kind = f"{keys[0]}.kind = {data[keys[0]].get('kind')!r}"
            section = f"--set '{keys[0]}={{kind=...}}' replaces the whole section"
            return f"{place}: {kind} has no such key; it has {', '.join(sorted(model))}; {section}"
        guess = f"did you mean '{meant}'? " if meant else ""
        others = "" if meant and "." not in meant else f"known here: {', '.join(sorted(model))}"
        return f"{place}: unknown key; {guess}{others}".rstrip()
    if problem["type"] == "missing":
        section = f", as a section [{key}]" if len(keys) == 1 and _fields(whole, key, None) else ""
        return f"{place}: is missing; add it{section}"
    if problem["type"] == "union_tag_not_found":
        return f"{place}: is missing; add it, to say which kind of {keys[0]} is wanted"
    if problem["type"] == "union_tag_invalid":
        tag, tags = problem["ctx"]["tag"], problem["ctx"]["expected_tags"]
        near = nearest(str(tag), re.findall(r"'([^']*)'", tags))
        return f"{place} = {tag!r}: must be one of {tags}" + (f"; did you mean '{near}'?" if near else "")
    if problem["type"] == "tuple_type":
        example = json.dumps([value]) if isinstance(value, str) else "[2, 2]"
        return f"{place} = {json.dumps(value, default=str)}: must be a list, such as {example}"
    told = json.dumps(value, default=str)
    # a long value, such as a whole study, would hide the message
    told = f" = {told}" if value is not None and len(told) <= LONG else ""
    return f"{place}{told}: {in_plain_words(problem)}"


def _meant(whole: type[BaseModel], keys: Sequence[str], known: set[str]) -> str | None:
    """The key that an unknown one may mean: one of its section, or of the same name in another section."""
    name = MEANT.get(keys[-1], keys[-1])
    if name in known:
        return name
    return nearest(name, known) or key_named(whole, name)


def key_named(whole: type[BaseModel], name: str) -> str | None:
    """The key of this name, such as ``noise.snr`` for "snr"; None where no section has it, or several have it."""
    name = MEANT.get(name, name)
    if name in whole.model_fields:
        return name
    found = [f"{section}.{name}" for section in whole.model_fields if name in _fields(whole, section, None)]
    return found[0] if len(found) == 1 else None


def _locate(whole: type[BaseModel], loc: tuple[Any, ...], data: Any) -> tuple[list[str], Any, set[str]]:
    """The user's keys at a pydantic location (which also names union members), the value there, and the known keys."""
    keys: list[str] = []
    model: set[str] = set(whole.model_fields)
    for depth, part in enumerate(loc):
        last = depth == len(loc) - 1
        if isinstance(data, dict) and (part in data or (last and isinstance(part, str) and part in model)):
            model = model if last else _fields(whole, part, data.get(part))
            keys.append(str(part))
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
    return keys, data, model


def _fields(whole: type[BaseModel], section: str, value: Any) -> set[str]:
    """Known keys of a section; where it has kinds, those of the kind that it names."""
    models = _models(whole.model_fields[section].annotation) if section in whole.model_fields else []
    kind = value.get("kind") if isinstance(value, dict) else None
    chosen = (
        [m for m in models if "kind" in m.model_fields and kind in typing.get_args(m.model_fields["kind"].annotation)]
        if kind
        else []
    )
    return {name for model in chosen or models for name in model.model_fields}


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in typing.get_args(annotation) for m in _models(part)]


def _line_of(keys: list[str], text: str) -> int | None:
    """Line of `section.key` in TOML text, found by its section header and the key; None where it is not found."""
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
