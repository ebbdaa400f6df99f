"""Pictures of reconstructions: lines of panels, each with the scale that it is shown in.

White is a quantile of the reference over its object, not its maximum: a few bright pixels, such as vessels and scalp,
would leave the rest dark. All panels of a pair have the same white. Errors and noise are in colours, with a bar.
"""

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

from synth.stages.object_mask import object_of
from synth.storage.whole import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Image = NDArray[np.complexfloating]
Window = tuple[int, int, int, int]  # y, x, height, width
WHITE = 0.97  # quantile of the reference over its object that is shown white
AMPLIFIED = 5  # errors are shown this many times larger than the reference
ZOOM = 3 / 8  # the part of each side that is enlarged
INSIDE = 0.9  # of the most object that a window can hold: the least that the enlarged part holds
COLUMNS = 3  # panels in a line
SIDE, HEADING, TITLE, BAR, GAP = 320, 26, 20, 18, 2  # pixels: width of a panel; heights of texts; space between panels
ANCHORS = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))  # matplotlib's inferno, quarters
MAP = np.stack([np.interp(np.arange(256), np.linspace(0, 255, 5), part) for part in zip(*ANCHORS, strict=True)], -1)
WINDOW_SAID = (
    f"White is the {100 * WHITE:.0f}th percentile of the reference over its object, the same in all panels of a pair"
)


@dataclass(frozen=True)
class Panel:
    """An image [y x], shown from 0 to `top`, with a frame around the part that another panel enlarges.

    A panel with a `bar` is in colours; the text stands at the end of its colour bar. Others are grey.
    """

    title: str
    image: NDArray[np.floating]
    top: float
    frame: Window | None = None
    bar: str = ""


Line = str | Sequence[Panel]  # a heading, or panels


def panels_of(
    reference: Image, images: dict[str, Image], given: Image | None = None, mask: NDArray[np.bool_] | None = None
) -> list[Line]:
    """Lines of panels: the reference, its enlarged part, and the input image `given` or the mask [y x] of its samples;
    then a line for each image by its title: the image, its enlarged part, and its error.
    """
    truth, white = np.abs(reference), white_of(reference)
    squares = [(np.abs(image) - truth) ** 2 for image in images.values()]
    window = worst_window(np.sum(squares, axis=0), object_of(truth))
    first = [Panel("reference", truth, white, window), _part(truth, white, window)]
    first += [] if given is None else [Panel("input: zero-filled", np.abs(given), white)]
    first += [] if mask is None else [Panel("samples of k-space", mask.astype(float), 1.0)]
    lines: list[Line] = [first]
    for title, image in images.items():
        shown = np.abs(image)
        lines.append([Panel(title, shown, white, window), _part(shown, white, window), error_of(shown, truth, white)])
    return lines


def white_of(reference: Image) -> float:
    """The magnitude that is shown white: the quantile `WHITE` of the reference [y x] over its object."""
    magnitude = np.abs(reference)
    inside = object_of(magnitude)
    return float(np.quantile(magnitude[inside], WHITE)) if inside.any() else 1.0


def error_of(image: NDArray[np.floating], truth: NDArray[np.floating], white: float) -> Panel:
    """The difference of magnitudes, amplified, with its colour bar."""
    what = f"error, {AMPLIFIED} times amplified"
    return Panel(what, np.abs(image - truth), white / AMPLIFIED, bar=f"{100 / AMPLIFIED:.0f} % of white")


def _part(image: NDArray[np.floating], white: float, window: Window) -> Panel:
    y, x, height, width = window
    return Panel("enlarged", image[y : y + height, x : x + width], white)


def worst_window(squares: NDArray[np.floating], inside: NDArray[np.bool_]) -> Window:
    """The window inside the object, `ZOOM` of each side, with the largest sum of squared errors [y x].

    Windows that hold less of the object than `INSIDE` of the most that a window can hold are left out.
    """
    height, width = (max(1, int(ZOOM * n)) for n in squares.shape)

    def sums_of(values: NDArray[np.generic]) -> NDArray[np.float64]:
        sums = np.pad(values.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
        return np.asarray(
            sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
        )

    held = sums_of(inside)
    errors = np.where(held >= INSIDE * held.max(), sums_of(np.where(inside, squares, 0)), -1)
    y, x = np.unravel_index(int(errors.argmax()), errors.shape)
    return int(y), int(x), height, width


def draw_rows(lines: Sequence[Line], path: Path, side: int = SIDE, columns: int = COLUMNS) -> None:
    """Write a PNG of headings and lines of panels; lines of more than `columns` panels go on in the next one.

    The panels are drawn with Pillow: for a hundred of them, matplotlib's layout takes a minute.
    """
    lines = [part for line in lines for part in ([line] if isinstance(line, str) else _broken(line, columns))]
    heights = [_height(line, side) for line in lines]
    width = max(len(line) for line in lines if not isinstance(line, str)) * (side + GAP) + GAP
    sheet = Pictures.new("RGB", (width, sum(heights) + len(lines) * GAP + GAP), (255, 255, 255))
    pen, top = ImageDraw.Draw(sheet), GAP
    for line, height in zip(lines, heights, strict=True):
        if isinstance(line, str):
            pen.text((GAP, top + height - 5), line, fill=0, font=ImageFont.load_default(15), anchor="ls")
        else:
            for column, panel in enumerate(line):
                _draw(sheet, panel, (GAP + column * (side + GAP), top), side)
        top += height + GAP
    held = io.BytesIO()
    sheet.save(held, format="png")
    write_whole(path, held.getvalue())


def _broken(line: Sequence[Panel], columns: int) -> list[Sequence[Panel]]:
    length = math.ceil(len(line) / math.ceil(len(line) / columns))
    return [line[k : k + length] for k in range(0, len(line), length)]


def _height(line: Line, side: int) -> int:
    if isinstance(line, str):
        return HEADING
    tallest = max(_rows(panel, side) for panel in line)
    return TITLE + tallest + BAR * any(panel.bar for panel in line)


def _rows(panel: Panel, side: int) -> int:
    return round(side * panel.image.shape[0] / panel.image.shape[1])


def _draw(sheet: Pictures.Image, panel: Panel, corner: tuple[int, int], side: int) -> None:
    left, top = corner[0], corner[1] + TITLE
    rows, scale = _rows(panel, side), side / panel.image.shape[1]
    sheet.paste(_enlarged(_shades(panel), side, rows), (left, top))
    pen = ImageDraw.Draw(sheet)
    pen.text((left + side / 2, top - 4), panel.title, fill=0, font=ImageFont.load_default(12), anchor="ms")
    if panel.frame is not None:
        y, x, height, width = (round(scale * n) for n in panel.frame)
        pen.rectangle((left + x, top + y, left + x + width - 1, top + y + height - 1), outline=(255, 210, 0))
    if panel.bar:
        low, font = top + rows + 3, ImageFont.load_default(12)
        bar = Pictures.fromarray(np.broadcast_to(MAP.round().astype(np.uint8)[None], (11, 256, 3)).copy())
        sheet.paste(bar.resize((side // 2, 11)), (left + 16, low))
        pen.text((left + 4, low + 10), "0", fill=0, font=font, anchor="ls")
        pen.text((left + side // 2 + 22, low + 10), panel.bar, fill=0, font=font, anchor="ls")


def _shades(panel: Panel) -> Pictures.Image:
    """The image in its colours; NaN is 0."""
    share = np.clip(np.nan_to_num(np.asarray(panel.image, np.float64) / (panel.top or 1.0)), 0, 1)
    index = (255 * share).round().astype(np.uint8)
    return Pictures.fromarray(MAP.round().astype(np.uint8)[index] if panel.bar else np.stack([index] * 3, -1))


def _enlarged(image: Pictures.Image, width: int, height: int) -> Pictures.Image:
    """The image at a size: its pixels become squares, whose edges alone are mixed; larger images become smaller."""
    times = max(1, math.ceil(width / image.width))
    whole = image.resize((times * image.width, times * image.height), Pictures.Resampling.NEAREST)
    return whole.resize((width, height), Pictures.Resampling.BOX)


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
