"""Libraries of coil maps: harvested from scans by `fathom coils`, stored in a corpus, or an array in a file.

A harvested library is a zarr group with one array [coil y x] per set; its attributes say where each set came from. Sets
may differ in coils and size: `LibraryCoils` brings them to what a recipe asks for.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import scipy.ndimage
import zarr
from numpy.typing import NDArray
from pydantic import Field
from zarr.codecs import Crc32cCodec
from zarr.storage import LocalStore

from ..storage.arrays import load_array
from ..storage.corpus_files import RegularFiles, maps_of_corpus, values_of
from ..storage.objects import ObjectPlace
from ..storage.place import Place, place_of
from ..storage.remote_files import RemoteFiles
from ..storage.whole import read_document, refuse_shortage

Maps = NDArray[np.complex64]
KEY = "fathom_library"
VERSION = 1
NAME = re.compile(r"^set-\d{1,9}$")
MAX_COILS = 1024
Count = Annotated[int, Field(ge=1, le=MAX_COILS)]


@dataclass(frozen=True)
class Library:
    """Map sets, opened for reading."""

    path: str
    shapes: list[tuple[int, int, int]]  # coil y x of every set
    read: Callable[[int], Any]
    content_hash: str | None = None  # of a harvested library

    def __len__(self) -> int:
        """Number of sets."""
        return len(self.shapes)

    def __getitem__(self, index: int) -> Maps:
        """Set [coil y x], as it is stored."""
        return np.asarray(self.read(index), np.complex64)

    def with_coils(self, count: int | None) -> Library:
        """The sets with at least `count` coils; without `count`, all sets. Raises ValueError.

        Without `count`, all sets must have the same number of coils.
        """
        coils = sorted({shape[0] for shape in self.shapes})
        if count is None and len(coils) > 1:
            raise ValueError(
                f"coils.path {self.path} has sets of {', '.join(map(str, coils))} coils; give coils.count: sets of "
                "more coils are compressed to that many virtual coils, sets of fewer coils are left out"
            )
        kept = [k for k, shape in enumerate(self.shapes) if shape[0] >= (count or coils[0])]
        if not kept:
            raise ValueError(
                f"coils.count = {count}, but the sets of the library {self.path} have at most {coils[-1]} coils; lower "
                "coils.count"
            )
        return Library(self.path, [self.shapes[k] for k in kept], lambda k: self.read(kept[k]), self.content_hash)

    @property
    def coils(self) -> int:
        """The smallest number of coils of a set."""
        return min(shape[0] for shape in self.shapes)

    def refuse_other_sizes(self, matrix: tuple[int, int]) -> None:
        """Raise ValueError where a set is not of this size."""
        for shape in self.shapes:
            if shape[1:] != tuple(matrix):
                raise ValueError(
                    f"coils.path {self.path}: its maps are {shape[1]}x{shape[2]}, target.matrix is "
                    f"{matrix[0]}x{matrix[1]}; write coils.resample = true, or set target.matrix to the library's size"
                )


def open_library(path: str) -> Library:
    """Open a library: harvested (.zarr), a corpus (.zarr), .npy, or .npz (array ``maps``) [set coil y x]; no pickles.

    Raises FileNotFoundError or ValueError, which names the recipe's key.
    """
    if path.endswith((".npy", ".npz")):
        return _of_array(path, load_array(path, "coils.path", "maps"))
    place = place_of(path)
    attributes = attributes_of(place)
    if KEY in attributes:
        return _harvested(place, attributes)
    arrays = maps_of_corpus(place)
    if len(arrays) != 1:
        raise ValueError(f"coils.path {path} has maps of {len(arrays)} shapes; give a corpus with maps of one shape")
    return _of_array(path, arrays[0])


def _of_array(path: str, maps: Any) -> Library:
    if len(maps.shape) != 4 or not np.issubdtype(maps.dtype, np.complexfloating):
        raise ValueError(f"coils.path {path} holds {maps.dtype} {maps.shape}; need complex [set coil y x]")
    if not (maps.shape[0] >= 1 and 1 <= maps.shape[1] <= MAX_COILS):
        raise ValueError(
            f"coils.path {path} holds {maps.shape[0]} sets of {maps.shape[1]} coils; need at least 1 set of "
            f"1 ... {MAX_COILS} coils"
        )
    return Library(path, [tuple(maps.shape[1:])] * maps.shape[0], maps.__getitem__)


def attributes_of(path: Place) -> dict[str, Any]:
    """Attributes of a zarr group or array on disk; empty where it has none or cannot be read."""
    try:
        return dict(json.loads(read_document(path / "zarr.json"))["attributes"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        refuse_shortage(error)
        return {}


def _harvested(path: Place, attributes: dict[str, Any]) -> Library:
    try:
        stored = attributes[KEY]
        if stored["version"] != VERSION:
            raise ValueError(f"version {stored['version']}")
        sets = [(str(s["array"]), tuple(int(n) for n in s["shape"]), str(s["sha256"])) for s in stored["sets"]]
        content = hashlib.sha256(json.dumps([digest for _, _, digest in sets]).encode()).hexdigest()
        if not sets or content != stored["content_hash"] or any(not NAME.match(name) for name, _, _ in sets):
            raise ValueError("its list of sets is damaged")
        if any(
            len(s) != 3 or not 1 <= s[0] <= MAX_COILS or not 8 <= min(s[1:]) <= max(s[1:]) <= 4096 for _, s, _ in sets
        ):
            raise ValueError(f"its sets need shapes [coil y x] of 1 ... {MAX_COILS} coils and sides of 8 ... 4096")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"coils.path {path}: the library cannot be read ({error}); harvest it again with `fathom coils`"
        ) from None

    def read(index: int) -> Any:
        name, shape, digest = sets[index]
        try:
            files = RemoteFiles(path) if isinstance(path, ObjectPlace) else RegularFiles(path)
            array = zarr.open_array(files, path=name, mode="r", zarr_format=3)
            described: Any = array.metadata.to_dict()["codecs"]
            codecs = {codec["name"] for codec in described}
            if array.shape != shape or array.dtype != np.complex64 or not codecs <= {"bytes", "crc32c"}:
                raise ValueError(f"it is {array.dtype} {array.shape}, need uncompressed complex64 {shape}")
            values = values_of(array)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            refuse_shortage(error)
            raise ValueError(f"coils.path {path}: {name} cannot be read ({error}); harvest it again") from None
        if hashlib.sha256(np.ascontiguousarray(values).view(np.uint8).data).hexdigest() != digest:
            raise ValueError(f"coils.path {path}: {name} differs from what was harvested; harvest it again")
        return values

    return Library(str(path), [shape for _, shape, _ in sets], read, content)  # type: ignore[misc]


def write_set(root: Path, name: str, maps: Maps, origin: dict[str, Any]) -> None:
    """Write one set of a library that is being made; `origin` says where the set came from."""
    group = zarr.open_group(LocalStore(root), mode="a", zarr_format=3)
    array = group.create_array(
        name,
        shape=maps.shape,
        dtype=maps.dtype,
        chunks=maps.shape,
        compressors=Crc32cCodec(),
        dimension_names=["coil", "y", "x"],
        overwrite=True,
    )
    array[...] = maps
    array.attrs.update({**origin, "complete": True})


def resampled(maps: Maps, matrix: tuple[int, int]) -> Maps:
    """Maps [coil y x] stretched to another size by cubic splines: maps are smooth, so little is lost."""
    if maps.shape[1:] == tuple(matrix):
        return maps
    zoom = (1, *(m / n for m, n in zip(matrix, maps.shape[1:], strict=True)))
    options: dict[str, Any] = {"order": 3, "mode": "nearest", "grid_mode": True}
    real, imag = (scipy.ndimage.zoom(part, zoom, **options) for part in (maps.real, maps.imag))
    return np.asarray(real + 1j * imag, np.complex64)


def random_unitary(n: int, draw: np.random.Generator) -> NDArray[np.complex64]:
    """A unitary matrix [n n], uniform by Haar's measure: QR of complex normals with the phases of R's diagonal removed.

    Mezzadri, Notices of the AMS 54:592, 2007.
    """
    q, r = np.linalg.qr(draw.standard_normal((n, n)) + 1j * draw.standard_normal((n, n)))
    diagonal = np.diag(r)
    return np.asarray(q * (diagonal / np.abs(diagonal)), np.complex64)
