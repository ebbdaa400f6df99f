"""The layout of a corpus on disk: its groups, arrays and shards. Format: zarr v3.

A corpus is built under ``NAME.building`` and renamed to ``NAME`` when it is complete. One group per shape of pairs
holds the arrays ``kspace``, ``mask``, ``target`` (first axis: pair) and ``maps`` (first axis: map set). One chunk is
one pair or map set; one shard is one file, which one task writes. Every drawn or measured number has an array with the
same first axis, and with further axes where it has several values per pair. In a group, an axis of one name has one
size. Chunks are uncompressed (noise does not compress) and carry a crc32c; a missing chunk of complex numbers reads as
NaN. Pairs with several map sets (`coils.espirit_sets`) have targets [pair map_set y x] and maps [pair map_set coil y
x].
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec
from zarr.storage import MemoryStore

from ..plan import BucketPlan, Plan
from ..storage.corpus_files import SCHEMA

MAP_SHARD_BYTES = 64 * 2**20
ARRAYS = ("kspace", "mask", "target")
NAN = complex(np.nan, np.nan)
NUMBER_AXES = {"phase_coefficients_rad": ("order_y", "order_x")}  # after the axis of pairs


class Shaped(Protocol):
    """An array, or what is known of it without its values."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its size along each axis."""

    @property
    def ndim(self) -> int:
        """Number of its axes."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its values."""


def map_shard_sets(bucket: BucketPlan) -> int:
    """Map sets per shard."""
    return max(1, MAP_SHARD_BYTES // bucket.maps_bytes)


def metadata_documents(plan: Plan) -> dict[str, bytes]:
    """Every zarr.json of an unfinished corpus by its path: groups, and arrays without their data."""
    store = MemoryStore()
    root = zarr.create_group(store=store, zarr_format=3, attributes={"fathom": corpus_attributes(plan)})
    for bucket in plan.buckets:
        group = root.create_group(bucket.name)
        pairs, step = len(bucket.indices), plan.shard_pairs
        kspace = ("pair", "coil", "readout", "line") if bucket.lines else ("pair", "coil", "point")
        several = ("map_set",) * (len(bucket.maps_shape) - 3)
        mask = ("pair", "x") if bucket.lines else ("pair", "y", "x")  # there, y is a phase encoding, too
        _create(group, "kspace", (pairs, *bucket.kspace_shape), step, "complex64", NAN, kspace)
        _create(group, "mask", (pairs, *bucket.mask_shape), step, "bool", False, mask)
        _create(group, "target", (pairs, *bucket.target_shape), step, "complex64", NAN, ("pair", *several, "y", "x"))
        own = plan.recipe.own_maps
        sets, step = (pairs, step) if own else (plan.recipe.coils.sets, map_shard_sets(bucket))
        maps = ("pair" if own else "set", *several, "coil", "y", "x")
        _create(group, "maps", (sets, *bucket.maps_shape), step, "complex64", NAN, maps)
    return {key: value.to_bytes() for key, value in store._store_dict.items()}


def number_documents(numbers: Mapping[str, Shaped]) -> dict[str, bytes]:
    """The zarr.json of every array of numbers of a bucket, by its name; each has one chunk."""
    store = MemoryStore()
    group, axes = zarr.create_group(store=store, zarr_format=3), number_axes(numbers)
    for name, values in numbers.items():
        group.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            chunks=values.shape,
            compressors=Crc32cCodec(),
            dimension_names=axes[name],
            fill_value=np.nan if values.dtype.kind == "f" else -1,  # a lost chunk must not read as zeros
            config={"write_empty_chunks": True},
        )
    return {name: store._store_dict[f"{name}/zarr.json"].to_bytes() for name in numbers}


def number_file(path: str, values: Shaped) -> str:
    """The file of the one chunk of an array of numbers: its bytes, little endian, and their crc32c."""
    return f"{path}/c/" + "/".join("0" * values.ndim)


def source_document(plan: Plan) -> bytes:
    """``sources.json``: the names of the source files."""
    return json.dumps(list(plan.files)).encode()


def corpus_attributes(plan: Plan) -> dict[str, Any]:
    """The attributes of a corpus's root group."""
    return {
        "schema": SCHEMA,
        "complete": False,
        "name": plan.recipe.name,
        "recipe": plan.recipe.model_dump(mode="json"),
        "recipe_hash": plan.recipe.hash(),
        **({"stages": plan.stages} if plan.stages else {}),  # absent: version 1 of every stage
    }


def number_axes(numbers: Mapping[str, Shaped]) -> dict[str, list[str]]:
    """Names of the axes of a bucket's arrays of numbers: [pair ...], or [set coil] of what was drawn for coil maps.

    xarray needs a name for every axis, and one size for every name.
    """
    sets = {name for name in numbers if name.startswith("maps_coils_")}
    sets |= {"maps_crc32c"} if sets else set()  # otherwise each pair has its own maps
    return {name: _axes_of(name, values.ndim, "set" if name in sets else "pair") for name, values in numbers.items()}


def _axes_of(name: str, ndim: int, rows: str) -> list[str]:
    named = [rows, *(("coil",) if rows == "set" else NUMBER_AXES.get(name, ()))]
    return [*named, *(f"{name}_{k}" for k in range(len(named), ndim))][:ndim]


def _create(
    group: zarr.Group, name: str, shape: tuple[int, ...], step: int, dtype: str, fill: Any, axes: tuple[str, ...]
) -> None:
    group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(1, *shape[1:]),
        shards=(step, *shape[1:]),
        compressors=Crc32cCodec(),
        filters=None,
        fill_value=fill,
        dimension_names=axes,
        config={"write_empty_chunks": True},
    )
