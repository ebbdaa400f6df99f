"""The reference as Markdown, made from the code: commands, keys of settings, public names."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

import typer
from pydantic import BaseModel
from settings_keys import sections_of

import pipelines.errors
import recon.errors
import synth.errors
from pipelines.cli.app import COMMANDS, app
from pipelines.study.settings import Study
from recon.training.settings import Training
from synth.recipe import Recipe


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; a cell's line breaks and bars would end it."""
    cells = [list(head), ["---"] * len(list(head)), *map(list, rows)]
    return "\n".join("| " + " | ".join(re.sub(r"\s+", " ", c).replace("|", "\\|") for c in row) + " |" for row in cells)


def code(text: str) -> str:
    """Text as code; empty text stays empty."""
    return f"`{text}`" if text else ""


def commands() -> str:
    """Every command with its arguments and options, by the groups of its help."""
    root: Any = typer.main.get_command(app)
    parts = []
    for title, group in COMMANDS.items():
        parts.append(f"## {title}")
        for name in group:
            command = root.commands[name]
            parts += command_of(name, command)
            for inner, found in getattr(command, "commands", {}).items():
                parts += command_of(f"{name} {inner}", found)
    return "\n\n".join([*parts, "## Options of `fathom` itself", options_of("fathom", root)])


def command_of(name: str, command: Any) -> list[str]:
    """A command: its help, how it is called, and what it takes."""
    called = [f"fathom {name}", "[OPTIONS]", *(metavar_of(param) for param in arguments_of(command))]
    return [
        f"### fathom {name}",
        markdown(command.help or ""),
        f"```text\n{' '.join(called)}\n```",
        options_of(f"fathom {name}", command),
    ]


def arguments_of(command: Any) -> list[Any]:
    """What a command takes without a name."""
    return [param for param in command.params if param.param_type_name == "argument"]


def metavar_of(param: Any) -> str:
    """How an argument is called."""
    return param.metavar or param.name.upper()


def options_of(name: str, command: Any) -> str:
    """A table of arguments and options as --help shows them, but for --help itself."""
    context = typer.Context(command, info_name=name)
    rows = []
    for param in command.params:
        record = param.get_help_record(context)
        if record is None or param.name == "help":
            continue
        names = metavar_of(param) if param in arguments_of(command) else record[0]
        rows.append([code(names), markdown(record[1])])
    return table(["argument or option", "what it is"], rows) if rows else ""


def markdown(docstring: str) -> str:
    """A docstring without its numpy sections; < is no tag."""
    text = re.split(r"^\w+\n-{3,}$", inspect.cleandoc(docstring), maxsplit=1, flags=re.MULTILINE)[0]
    parts = re.split(r"(``?[^`]+``?)", text.strip())
    return "".join(p if k % 2 else re.sub(r"([<*_])", r"\\\1", p) for k, p in enumerate(parts))


def keys(root: type[BaseModel]) -> str:
    """Every section of a settings file with its keys, each section once for each of its kinds."""
    definitions = root.model_json_schema()
    parts = []
    for name, model in sections_of(root):
        shown = definitions if model is root else definitions["$defs"][model.__name__]
        kinds = " or ".join(code(kind) for kind in kinds_of(model))
        title = f"{code(name) or 'The whole file'}{' of kind ' if kinds else ''}{kinds}"
        rows = [
            [code(key), takes(part, definitions), default(key, shown), markdown(part.get("description", ""))]
            for key, part in shown["properties"].items()
        ]
        parts += [f"## {title}", markdown(model.__doc__ or ""), table(["key", "takes", "default", "what it is"], rows)]
    return "\n\n".join(parts)


def kinds_of(model: type[BaseModel]) -> list[str]:
    """The values of a section's key `kind`, which tells kinds of the section apart."""
    field = model.model_fields.get("kind")
    values = getattr(field.annotation, "__args__", ()) if field is not None else ()
    return list(values) if model.__name__ not in ("NoiseSpec", "FigureSpec") else []


def default(key: str, shown: dict[str, Any]) -> str:
    """A key's default in TOML; a section's is that of its keys."""
    if key in shown.get("required", ()):
        return "required"
    value = shown["properties"][key].get("default")
    if value is None or isinstance(value, dict) or value == []:
        return ""
    return code(toml(value))


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml(v) for v in value)}]"
    return f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def takes(shown: dict[str, Any], root: dict[str, Any]) -> str:
    """What values a key takes, in words, from its JSON schema."""
    if "const" in shown:
        return code(toml(shown["const"]))
    if "enum" in shown:
        return ", ".join(code(toml(v)) for v in shown["enum"])
    for union in ("anyOf", "oneOf"):
        if union in shown:
            said = [takes(part, root) for part in shown[union] if part.get("type") != "null"]
            return " or ".join(dict.fromkeys(said))
    if "$ref" in shown:
        return "section"
    kind = shown.get("type")
    if kind == "array":
        return array(shown, root)
    if kind == "object":
        return "sections, each with a name of yours"
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true`, `false`"}[kind]
    return words + bounds(shown)


def array(shown: dict[str, Any], root: dict[str, Any]) -> str:
    """A list: of fixed length with brackets, else "list of"."""
    if "prefixItems" in shown:
        return f"[{', '.join(takes(part, root) for part in shown['prefixItems'])}]"
    inner = takes(shown["items"], root)
    if shown.get("minItems") == shown.get("maxItems") is not None:
        return f"[{', '.join([inner] * shown['minItems'])}]"
    return "sections" if inner == "section" else f"list of {inner}"


def bounds(shown: dict[str, Any]) -> str:
    """The range of a number."""
    low, high = shown.get("minimum"), shown.get("maximum")
    above, below = shown.get("exclusiveMinimum"), shown.get("exclusiveMaximum")
    first = f"from {toml(low)}" if low is not None else f"above {toml(above)}" if above is not None else ""
    last = f"to {toml(high)}" if high is not None else f"below {toml(below)}" if below is not None else ""
    return "".join(f" {part}" for part in (first, last) if part)


def names() -> str:
    """The public names of the three packages, with their docstrings."""
    parts = []
    for door in (synth, recon, pipelines):
        parts += [f"## {door.__name__}", markdown(door.__doc__ or "").split("\n\n")[0]]
        found = {name: getattr(door, name) for name in door.__all__ if name != "__version__"}
        for title, members in grouped(found).items():
            if members:
                parts += [f"### {title} of {door.__name__}"]
                parts += [entry(door.__name__, name, thing) for name, thing in members.items()]
    parts += ["## Further errors", "All errors of Fathom are a `FathomError`; import these from the modules shown."]
    for module in (synth.errors, recon.errors, pipelines.errors):
        found = {k: v for k, v in vars(module).items() if inspect.isclass(v) and v.__module__ == module.__name__}
        parts += [entry(module.__name__, k, v) for k, v in found.items() if not is_public(k)]
    return "\n\n".join(parts)


def is_public(name: str) -> bool:
    """Whether a package gives a name itself."""
    return any(name in door.__all__ for door in (synth, recon, pipelines))


def grouped(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Names by what they are."""
    groups: dict[str, dict[str, Any]] = {"Functions": {}, "Classes": {}, "Settings": {}, "Errors": {}}
    for name, thing in found.items():
        if not inspect.isclass(thing):
            groups["Functions"][name] = thing
        elif issubclass(thing, BaseException):
            groups["Errors"][name] = thing
        else:
            groups["Settings" if issubclass(thing, BaseModel) else "Classes"][name] = thing
    return groups


def entry(door: str, name: str, thing: Any) -> str:
    """One name for autodoc; of a class, its own public methods and properties."""
    if not inspect.isclass(thing):
        return f"```{{eval-rst}}\n.. autofunction:: {door}.{name}\n```"
    if issubclass(thing, BaseException):
        return f"```{{eval-rst}}\n.. autoexception:: {door}.{name}\n   :show-inheritance:\n```"
    methods = [k for k, v in vars(thing).items() if not k.startswith("_") and k in shown_of(thing, v, k)]
    members = f"\n   :members: {', '.join(methods)}" if methods else ""
    return f"```{{eval-rst}}\n.. autoclass:: {door}.{name}{members}\n```"


def shown_of(owner: Any, thing: Any, name: str) -> set[str]:
    """The name, if it is a documented method or property."""
    inner = getattr(thing, "fget", None) or getattr(thing, "__func__", None) or thing
    return {name} if inspect.isfunction(inner) and inner.__doc__ and name not in ("forward",) else set()


MADE = {
    "commands": commands,
    "recipe": lambda: keys(Recipe),
    "training": lambda: keys(Training),
    "study": lambda: keys(Study),
    "names": names,
}
