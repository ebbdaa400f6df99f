"""An array with named axes, brought to [slice coil y x] or [coil sample]."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ScanError
from ..scan import LEAST_SIDE, Scan

NAMES = ("slice", "coil", "y", "x")
ORDERS = {3: ("coil y x", "y x coil"), 4: ("slice coil y x", "y x slice coil", "y x coil slice", "coil y x slice")}
MOST_CHANNELS = 128  # of the receive arrays that exist
LARGEST_INFLATION = 100  # k-space hardly deflates; only long runs of zeros do


def named_axes(
    path: Path, given: str | None, shape: tuple[int, ...], guesses: dict[int, str]
) -> tuple[list[str], tuple[str, ...]]:
    """Names of the axes, and a note where they are guessed; raises ScanError where no guess or name fits.

    The format's own guess is taken if it gives a plausible number of coils and sides; else the only usual order that
    does; else the only order whose y and x are the longest axes.
    """
    ndim = len(shape)
    if ndim < 2:
        raise ScanError(f"{path}: its array has shape {list(shape)}; a scan has y and x at least")
    if given is None and ndim not in guesses:
        raise ScanError(f"{path}: its array has {ndim} axes; name them, such as axes = 'slice coil y x'")
    chosen, notes = (given, ()) if given else _guessed(path, shape, guesses[ndim])
    names = chosen.split()
    noise = sorted(names) in (["coil", "sample"], ["sample"])
    if len(names) != ndim or len(set(names)) != ndim or not (noise or {"y", "x"} <= set(names) <= set(NAMES)):
        unknown = next((f"; '{name}' is no axis" for name in names if name not in (*NAMES, "sample")), "")
        raise ScanError(
            f"{path}: axes '{' '.join(names)}' do not fit an array of {ndim} axes{unknown}; name each axis once, from "
            "slice coil y x, or from coil sample for a noise scan"
        )
    if given and not noise and sizes(shape, names)[1] > MOST_CHANNELS:
        raise ScanError(
            f"{path}: axes '{chosen}' give {_told(shape, chosen)}, and no receive array has more than {MOST_CHANNELS} "
            "coils; name them in another order"
        )
    return names, notes


def _guessed(path: Path, shape: tuple[int, ...], guess: str) -> tuple[str, tuple[str, ...]]:
    usual, likely = (
        [order for order in dict.fromkeys(orders) if _is_plausible(shape, order)]
        for orders in ((guess, *ORDERS.get(len(shape), ())), _longest(shape))
    )
    fitting = usual or likely
    if guess not in fitting and len(fitting) > 1:
        told = " or ".join(f"--axes '{order}' ({_told(shape, order)})" for order in fitting)
        raise ScanError(f"{path}: the axes of its array {list(shape)} cannot be guessed; give {told}")
    chosen = guess if guess in fitting or not fitting else fitting[0]
    others = [order for order in dict.fromkeys((*usual, *likely)) if order != chosen]
    more = "".join(f"; --axes '{order}' would give {_told(shape, order)}" for order in others)
    return chosen, (f"axes were guessed as '{chosen}', which gives {_told(shape, chosen)}{more}",)


def _longest(shape: tuple[int, ...]) -> list[str]:
    """Orders whose y and x are the two longest axes, in this order; the others are coils and slices."""
    sides = sorted(sorted(range(len(shape)), key=lambda k: -shape[k])[:2])
    rest = [k for k in range(len(shape)) if k not in sides]
    both: dict[int, list[tuple[str, ...]]] = {1: [("coil",)], 2: [("slice", "coil"), ("coil", "slice")]}
    named = [dict(zip((*sides, *rest), ("y", "x", *names), strict=True)) for names in both.get(len(rest), [])]
    return [" ".join(one[k] for k in range(len(shape))) for one in named]


def _is_plausible(shape: tuple[int, ...], order: str) -> bool:
    _, coils, y, x = sizes(shape, order.split())
    return coils <= MOST_CHANNELS and min(y, x) >= LEAST_SIDE


def _told(shape: tuple[int, ...], order: str) -> str:
    slices, coils, y, x = sizes(shape, order.split())
    return f"slices: {slices}, coils: {coils}, image: {y}x{x}"


def scan_of(
    path: Path, kind: str, array: Any, names: list[str], notes: tuple[str, ...], maps: NDArray[Any] | None = None
) -> Scan:
    """A scan of an array, in memory or mapped, whose axes have these names."""
    if "sample" in names:
        order = [names.index(n) for n in ("coil", "sample") if n in names]
        noise = np.ascontiguousarray(np.asarray(array, np.complex64).transpose(order)).reshape(
            -1, array.shape[names.index("sample")]
        )
        if not np.isfinite(noise.view(np.float32)).all():
            raise ScanError(f"{path}: its noise has samples that are NaN or infinite; export it anew")
        return Scan(path, kind, (0, len(noise), 0, 0), _nothing, noise=noise, notes=notes)
    load_maps = None if maps is None else partial(_slice_of, maps, names)
    return Scan(path, kind, sizes(array.shape, names), partial(_slice_of, array, names), maps=load_maps, notes=notes)


def sizes(shape: tuple[int, ...], names: list[str]) -> tuple[int, int, int, int]:
    """slice, coil, y, x of an array of this shape."""
    slices, coils, y, x = (shape[names.index(n)] if n in names else 1 for n in NAMES)
    return slices, coils, y, x


def _slice_of(array: Any, names: list[str], number: int) -> NDArray[Any]:
    return slice_of(array.__getitem__, names, number)


def slice_of(take: Callable[[tuple[Any, ...]], Any], names: list[str], number: int) -> NDArray[Any]:
    """A slice [coil y x] through an array's indexing function."""
    values = np.asarray(take(tuple(number if n == "slice" else slice(None) for n in names)))
    rest = [n for n in names if n != "slice"]
    moved = values.transpose([rest.index(n) for n in NAMES if n in rest])
    return moved if "coil" in rest else moved[None]


def _nothing(number: int) -> NDArray[Any]:
    raise IndexError(number)


def refuse_empty_promises(path: Path, name: str, shape: tuple[int, ...], itemsize: int, stored: int) -> None:
    """Raise ScanError where an array's declared size is more than its stored bytes can hold."""
    declared = itemsize * int(np.prod(shape, dtype=object)) if shape else itemsize
    if declared > LARGEST_INFLATION * max(stored, 1) or stored == 0:
        raise ScanError(
            f"{path}: '{name}' is declared as {shape}, {declared:,} bytes, but {stored:,} are stored; it is cut off "
            "or damaged"
        )


def refuse_real(path: Path, name: str, dtype: np.dtype[Any]) -> None:
    """Raise ScanError for an array that is not complex, such as an image."""
    if dtype.kind != "c":
        held = "its array" if name == path.name else f"'{name}'"
        raise ScanError(
            f"{path}: {held} holds {dtype}, and k-space is complex; an image is no scan, and real and imaginary parts "
            "belong in one complex array"
        )


def which_array(found: list[str]) -> str:
    """What is said of a file of several arrays none of which is named: these of them are complex."""
    if not found:
        return "it has no complex array that could be k-space; save k-space as a complex array"
    return f"which array is the k-space? Complex arrays in it: {found}; name one as variable"


def refuse_matrices(path: Path, name: str, array: NDArray[Any]) -> None:
    """Raise ScanError for a covariance or decorrelation matrix [coil coil], which is not k-space."""
    if array.ndim == 2 and array.shape[0] == array.shape[1] and array.shape[0] <= 256:
        values = np.asarray(array)
        triangular = not np.triu(values, 1).any() or not np.tril(values, -1).any()
        if triangular or np.allclose(values, values.conj().T, rtol=1e-5, atol=1e-8 * float(np.abs(values).max())):
            raise ScanError(
                f"{path}: '{name}' is a covariance or decorrelation matrix [coil coil], not k-space; read it with "
                "synth.calibration.coil_matrices.read_matrix"
            )
