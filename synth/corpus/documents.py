"""JSON documents of a corpus, and whether they are what they must be; those of earlier versions count as right, too.

A document counts as changed where its text is not as `json.dumps` writes it: no byte may differ unseen.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from ..storage.place import Place
from ..storage.whole import read_document as bytes_of_document
from ..storage.whole import refuse_shortage

EARLIER_AXES: dict[str, tuple[tuple[str, ...] | None, ...]] = {
    "kspace": (("pair", "coil", "y", "line"), ("pair", "coil", "point")),
    "mask": (("pair", "y", "x"), ("pair", "x")),
    "target": (("pair", "y", "x"),),
    "maps": (("set", "coil", "y", "x"),),
    "": (None,),  # arrays of numbers
}
"""The dimension names that earlier versions gave to the arrays; None where they gave none."""


def read_document(file: Place) -> Any:
    """What a JSON document says, or None where it is missing, is no JSON, or has another layout of its text."""
    try:
        data = bytes_of_document(file)
        said = json.loads(data)
        return said if data in [json.dumps(said, indent=indent).encode() for indent in (2, None)] else None
    except (OSError, ValueError, RecursionError) as error:
        refuse_shortage(error)
        return None


def forms_of(array: str, expected: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The zarr.json of an array as this version writes it, and as earlier versions wrote it."""
    yield expected
    unnamed = {key: value for key, value in expected.items() if key != "dimension_names"}
    for names in EARLIER_AXES.get(array, EARLIER_AXES[""]):
        yield unnamed if names is None else {**unnamed, "dimension_names": list(names)}


def is_right(path: str, stored: Any, expected: bytes) -> bool:
    """Whether the stored zarr.json of a group or an array is the expected one, or its form of an earlier version."""
    parts = path.removesuffix("/zarr.json").split("/")
    return any(stored == form for form in forms_of(parts[-1], json.loads(expected)))


def consolidated_is_right(stored: Any, root: Place, expected: Collection[str]) -> bool:
    """Whether the consolidated metadata of the root hold the documents that lie below it, those of `expected` at least.

    The paths in `expected` are of groups and arrays.
    """
    match stored:
        case {"kind": "inline", "must_understand": False, "metadata": dict(inside), **rest} if not rest:
            said = {path: _without_nested(document) for path, document in inside.items()}
            return said.keys() >= {*expected} and all(
                ".." not in path.split("/") and document == read_document(root / path / "zarr.json")
                for path, document in said.items()
            )
    return False


def _without_nested(document: Any) -> Any:
    """A group's document without the empty consolidated metadata that zarr writes into groups below the root."""
    match document:
        case {"consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": {**inside}}} if (
            not inside
        ):
            return {key: value for key, value in document.items() if key != "consolidated_metadata"}
    return document
