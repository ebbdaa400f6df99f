"""The keys of recipes, trainings and studies, read from their models: what the reference shows and a test checks."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models in an annotation, such as those of a union or of a dictionary's values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in models_in(part)]


def sections_of(root: type[BaseModel]) -> list[tuple[str, type[BaseModel]]]:
    """The sections of a TOML file, as (dotted name, model): the root's own keys first, then those of each section.

    A section that has several kinds comes once for each. ``[corpora.NAME]`` stands for a dictionary of tables, and
    ``[[expected]]`` for a list of them.
    """
    found: list[tuple[str, type[BaseModel]]] = []

    def visit(name: str, model: type[BaseModel]) -> None:
        if (name, model) in found:
            return
        found.append((name, model))
        for key, field in model.model_fields.items():
            inner = f"{name.strip('[]')}.{key}".strip(".")
            for part in models_in(field.annotation):
                visit(header(inner, field), part)

    visit("", root)
    return found


def header(name: str, field: FieldInfo) -> str:
    """How a TOML file begins this section."""
    container = typing.get_origin(field.annotation)
    if container is dict:
        return f"[{name}.NAME]"
    return f"[[{name}]]" if container is tuple else f"[{name}]"


def keys_of(root: type[BaseModel]) -> Iterator[tuple[type[BaseModel], str, FieldInfo]]:
    """Every key of every section, as (model, key, field)."""
    for model in dict.fromkeys(model for _, model in sections_of(root)):
        for key, field in model.model_fields.items():
            yield model, key, field
