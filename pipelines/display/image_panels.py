"""Pictures of reconstructions: rows of panels, each with the scale that it is shown in."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont

from synth.storage.whole import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Image = NDArray[np.complexfloating]
Window = tuple[int, int, int, int]  # y, x, height, width
AMPLIFIED = 5  # errors are shown this many times larger than the reference
ZOOM = 3 / 8  # the part of each side that is enlarged
MOST_COLUMNS = 8
SIDE, TITLE, GAP = 208, 18, 6  # pixels: width of a panel, height of its title, space between panels


@dataclass(frozen=True)
class Panel:
    """A magnitude image [y x], shown from 0 to `top`, with a frame around the part that another panel enlarges."""

    title: str
    image: NDArray[np.floating]
    top: float
    frame: Window | None = None


def panels_of(reference: Image, images: dict[str, Image], given: Image | None = None) -> list[Panel]:
    """Panels of the reference, the input image `given`, each image with its error, and an enlarged part of each."""
    panels = _Panels(reference, list(images.values()))
    line = [panels.reference(), *([] if given is None else [panels.image("input", given)])]
    for title, image in images.items():
        line += [panels.image(title, image), panels.error(image)]
    parts = {"reference": reference, **images}
    return line + [panels.part(f"{title}, part", image) for title, image in parts.items()]


def compared(reference: Image, images: dict[str, Image], mask: NDArray[np.bool_]) -> list[list[Panel]]:
    """Three rows: the reference and images by their titles; the mask [y x] and errors; parts of images enlarged."""
    panels = _Panels(reference, list(images.values()))
    return [
        [panels.reference(), *(panels.image(title, image) for title, image in images.items())],
        [Panel("samples of k-space", mask.astype(float), 1.0), *(panels.error(image) for image in images.values())],
        [panels.part("part", reference), *(panels.part("part", image) for image in images.values())],
    ]


class _Panels:
    """Panels that share their range and their enlarged part, where the summed error of all images is largest."""

    def __init__(self, reference: Image, images: Sequence[Image]) -> None:
        self.truth = np.abs(reference)
        self.peak = float(self.truth.max())
        squares = [(np.abs(image) - self.truth) ** 2 for image in images]
        self.window = worst_window(np.sum(squares, axis=0))

    def reference(self) -> Panel:
        return Panel("reference", self.truth, self.peak, self.window)

    def image(self, title: str, image: Image) -> Panel:
        return Panel(title, np.abs(image), self.peak)

    def error(self, image: Image) -> Panel:
        return Panel(f"error x {AMPLIFIED}", np.abs(np.abs(image) - self.truth), self.peak / AMPLIFIED)

    def part(self, title: str, image: Image) -> Panel:
        y, x, height, width = self.window
        return Panel(title, np.abs(image)[y : y + height, x : x + width], self.peak)


def worst_window(squares: NDArray[np.floating]) -> Window:
    """The window, `ZOOM` of each side, with the largest sum of squared errors [y x]."""
    height, width = (max(1, int(ZOOM * n)) for n in squares.shape)
    sums = np.pad(squares.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    within = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    y, x = np.unravel_index(int(within.argmax()), within.shape)
    return int(y), int(x), height, width


def draw_rows(rows: Sequence[Sequence[Panel]], path: Path) -> None:
    """Write a PNG with a row of panels per entry; rows of more than `MOST_COLUMNS` panels go on in the next line.

    The panels are drawn with Pillow: for a hundred of them, matplotlib's layout takes a minute.
    """
    lines = [line for row in rows for line in _lines(row)]
    heights = [max(round(SIDE * p.image.shape[0] / p.image.shape[1]) for p in line) for line in lines]
    width = max(len(line) for line in lines) * (SIDE + GAP) + GAP
    sheet = Pictures.new("L", (width, sum(heights) + len(lines) * (TITLE + GAP) + GAP), 255)
    top = GAP
    for line, height in zip(lines, heights, strict=True):
        for column, panel in enumerate(line):
            _draw(sheet, panel, (GAP + column * (SIDE + GAP), top))
        top += TITLE + height + GAP
    grey = io.BytesIO()
    sheet.save(grey, format="png", optimize=True)
    write_whole(path, grey.getvalue())


def _lines(row: Sequence[Panel]) -> list[Sequence[Panel]]:
    length = math.ceil(len(row) / math.ceil(len(row) / MOST_COLUMNS))
    return [row[k : k + length] for k in range(0, len(row), length)]


def _draw(sheet: Pictures.Image, panel: Panel, corner: tuple[int, int]) -> None:
    left, top = corner[0], corner[1] + TITLE
    grey = np.clip(np.asarray(panel.image, np.float64) / (panel.top or 1.0), 0, 1)
    image = Pictures.fromarray((255 * np.nan_to_num(grey)).round().astype(np.uint8))
    scale = SIDE / image.width
    sheet.paste(image.resize((SIDE, round(image.height * scale)), Pictures.Resampling.NEAREST), (left, top))
    pen = ImageDraw.Draw(sheet)
    pen.text((left + SIDE / 2, top - 3), panel.title, fill=0, font=ImageFont.load_default(11), anchor="md")
    if panel.frame is not None:
        y, x, height, width = (round(scale * n) for n in panel.frame)
        pen.rectangle((left + x, top + y, left + x + width, top + y + height), outline=255)


def png(figure: Figure, dpi: int) -> bytes:
    """A figure as the bytes of a PNG file, the same bytes each time."""
    sheet = io.BytesIO()
    figure.savefig(sheet, format="png", dpi=dpi, metadata={"Software": "fathom"})
    return sheet.getvalue()


def plain_numbers(*all_axes: Axes) -> None:
    """Write the numbers on axes as plain decimals: 0.001 and not 10^-3, without an offset or a common factor.

    Between the powers of ten of a logarithmic axis, 2 and 5 have numbers.
    """
    for axes in all_axes:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: plain(value))
            if axis.get_scale() == "log":
                axis.set_minor_formatter(lambda value, _: plain(value) if f"{value:.0e}"[0] in "25" else "")
                axis.set_tick_params(which="both", labelsize=7)


def plain(value: float) -> str:
    """A number as a decimal without an exponent, to ten places."""
    return f"{value:.10f}".rstrip("0").rstrip(".")
