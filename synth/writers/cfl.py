"""BART's cfl: k-space, sampling pattern, maps and target of each pair in BART's order read, phase, 1, coil."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..storage.whole import write_whole
from .content import Content

SUFFIX = ".cfl"
EXACT = ""


def write(content: Content, folder: Path) -> None:
    """Write NAME.kspace, NAME.pattern, NAME.maps and NAME.target.

    An oversampled readout is kept, and the maps are padded with zeros to its rows. For even sizes y and x,
    ``bart pics NAME.kspace NAME.maps out`` then gives the image in the middle of these rows, times
    (-1)^(y / 2 + x / 2): a sign that `pics` leaves in (`bart fft -u` does not). Several map sets lie along BART's
    dimension 4, [y x 1 coil set]: NAME.target and the output of `pics` are then [y x 1 1 set].
    """
    name = folder / content.name
    pattern = np.broadcast_to(content.sampled, content.kspace.shape[1:])
    write_array(Path(f"{name}.kspace"), content.kspace)
    write_array(Path(f"{name}.pattern"), pattern[None].astype(np.complex64))
    write_array(Path(f"{name}.maps"), content.readout.pad(content.maps))
    write_array(Path(f"{name}.target"), content.target[..., None, :, :])


def write_array(name: Path, values: NDArray[np.complex64]) -> None:
    """Write [coil y x] as [y x 1 coil], or [set coil y x] as [y x 1 coil set], in Fortran order."""
    ordered = values.transpose(-2, -1, *reversed(range(values.ndim - 2)))[:, :, None]
    Path(f"{name}.hdr").write_text("# Dimensions\n" + " ".join(map(str, ordered.shape)) + "\n")
    with Path(f"{name}.cfl").open("xb") as file:
        ordered.astype(np.complex64).ravel(order="F").tofile(file)


def write_images(name: Path, images: NDArray[np.complex64]) -> None:
    """Write images [slice y x], or [slice set y x], as [y x 1 1 set ... slice], slices along BART's dimension 13."""
    stack = images if images.ndim == 4 else images[:, None]
    ordered = stack.transpose(2, 3, 1, 0)
    sizes = [*ordered.shape[:2], 1, 1, ordered.shape[2], *[1] * 8, ordered.shape[3]]
    write_whole(Path(f"{name}.hdr"), ("# Dimensions\n" + " ".join(map(str, sizes)) + "\n").encode())
    write_whole(Path(f"{name}.cfl"), ordered.astype(np.complex64).tobytes(order="F"))


def read(folder: Path, name: str) -> tuple[NDArray[np.complex64], NDArray[np.bool_], NDArray[np.complex64]]:
    """K-space [coil y x], mask [y x] and target that `write` wrote."""
    kspace, pattern, target = (read_array(folder / f"{name}.{part}") for part in ("kspace", "pattern", "target"))
    return kspace, pattern[0] != 0, target[..., 0, :, :]


def read_array(name: Path) -> NDArray[np.complex64]:
    """[coil y x] of a file [y x 1 coil], or [set coil y x] of one [y x 1 coil set]; raises ValueError.

    Header and body must agree.
    """
    y, x, _, *others = (int(n) for n in Path(f"{name}.hdr").read_text().splitlines()[1].split()[:5])
    if Path(f"{name}.cfl").stat().st_size != 8 * y * x * math.prod(others):
        raise ValueError(f"{name}.cfl does not have the size that {name.name}.hdr states")
    return np.fromfile(f"{name}.cfl", np.complex64).reshape((*reversed(others), x, y)).swapaxes(-1, -2).copy()
