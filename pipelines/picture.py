"""Pictures of reconstructions: rows of panels, each with the scale that it is shown in."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synth.store import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Panel:
    """A magnitude image [y x], shown from 0 to `top`."""

    title: str
    image: NDArray[np.floating]
    top: float


def panels_of(
    reference: NDArray[np.complexfloating], images: dict[str, NDArray[np.complexfloating]], amplified: int = 5
) -> list[Panel]:
    """The reference, then each image by its title and its magnitude's error, `amplified`."""
    peak = float(np.abs(reference).max())
    panels = [Panel("reference", np.abs(reference), peak)]
    for title, image in images.items():
        error = np.abs(np.abs(image) - np.abs(reference))
        panels += [Panel(title, np.abs(image), peak), Panel(f"error, {amplified} times", error, peak / amplified)]
    return panels


def draw_rows(rows: Sequence[Sequence[Panel]], path: Path) -> None:
    """Write a PNG with a row of panels per entry."""
    from matplotlib.figure import Figure

    columns = max(len(row) for row in rows)
    figure = Figure(figsize=(2.5 * columns, 2.75 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for axis in axes.ravel():
        axis.set_axis_off()
    for line, row in zip(axes, rows, strict=True):
        for axis, panel in zip(line, row, strict=False):
            axis.imshow(panel.image, cmap="gray", vmin=0, vmax=panel.top or 1.0, interpolation="nearest")
            axis.set_title(panel.title, fontsize=8)
    with Image.open(io.BytesIO(png(figure, 80))) as picture:  # everything is grey: half of the size
        grey = io.BytesIO()
        picture.convert("L").save(grey, format="png", optimize=True)
    write_whole(path, grey.getvalue())


def png(figure: Figure, dpi: int) -> bytes:
    """A figure as the bytes of a PNG file, the same bytes each time."""
    sheet = io.BytesIO()
    figure.savefig(sheet, format="png", dpi=dpi, metadata={"Software": "fathom"})
    return sheet.getvalue()
