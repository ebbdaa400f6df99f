"""Pictures of a corpus's pairs: target, phase, coil maps, mask and zero-filled image, on one sheet or one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth.corpus.reader import Corpus
from synth.corpus.sources import file_of
from synth.physics import ifft2c, rss
from synth.stages.mask import Mask
from synth.stages.readout import Readout
from synth.storage.corpus_files import Bucket

from ..display.image_panels import png

PAIRS_SHOWN = 4
# nearest neighbours would drop lines where there are more of them than pixels: a gap that no mask has
LINES = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "antialiased"}


@dataclass(frozen=True)
class PairPanel:
    """An image [y x] of a pair, its title, and how matplotlib draws it."""

    image: NDArray[Any]
    title: str
    style: dict[str, Any]

    def draw(self, axes: Any, size: int) -> None:
        """Draw into matplotlib's axes, with the title in letters of this size."""
        axes.imshow(self.image, **{"interpolation": "nearest", **self.style})
        axes.set_title(self.title, fontsize=size)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(color="0.6", linewidth=0.6)  # without a frame, a mask's first and last lines have no side

    def picture(self) -> bytes:
        """A PNG of this panel alone, narrow enough for a phone."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(2.55, 2.3 * min(self.image.shape[0] / self.image.shape[1], 2) + 0.3))
        self.draw(figure.add_axes((0.01, 0.01, 0.98, 0.98 - 0.25 / figure.get_figheight())), 9)
        return png(figure, 90)


def contact_sheet(corpus: Corpus, pairs: int = PAIRS_SHOWN) -> bytes:
    """A PNG of some pairs as rows: target magnitude and phase, coil maps, mask, zero-filled image."""
    from matplotlib.figure import Figure

    chosen = _spread(corpus, pairs)
    figure = Figure(figsize=(14, 2.75 * len(chosen) + 0.5), layout="constrained")
    axes = figure.subplots(len(chosen), 5, squeeze=False)
    for row, (bucket, position) in zip(axes, chosen, strict=True):
        for axis, panel in zip(row, _panels(corpus, bucket, position), strict=True):
            panel.draw(axis, 9)
    figure.suptitle(f"{corpus.recipe.name}: {corpus.attributes['summary']['pairs']} pairs", fontsize=13)
    return png(figure, 90)


def pair_pictures(corpus: Corpus, pairs: int = PAIRS_SHOWN) -> list[tuple[str, list[bytes]]]:
    """The panels of the contact sheet as PNGs of their own, under the pair and its source, for pages of any width."""
    return [
        (f"Pair {index_of(bucket, row)}, from {source_of(corpus, bucket, row)}", _pictures(corpus, bucket, row))
        for bucket, row in _spread(corpus, pairs)
    ]


def _pictures(corpus: Corpus, bucket: Bucket, row: int) -> list[bytes]:
    return [panel.picture() for panel in _panels(corpus, bucket, row)]


def index_of(bucket: Bucket, row: int) -> int:
    """The index of the pair in a bucket's row."""
    return int(bucket.numbers("index")[row])


def source_of(corpus: Corpus, bucket: Bucket, row: int) -> str:
    """The file that the pair in a bucket's row is from."""
    return file_of(corpus.plan.file_of(index_of(bucket, row)))


def _spread(corpus: Corpus, pairs: int) -> list[tuple[Bucket, int]]:
    valid = corpus.valid_pairs
    return [valid[int(k)] for k in np.linspace(0, len(valid) - 1, min(pairs, len(valid)))]


def _panels(corpus: Corpus, bucket: Bucket, row: int) -> list[PairPanel]:
    target, sampled = bucket.row("target", row), bucket.row("mask", row)
    maps = bucket.row("maps", bucket.map_rows[row])
    net = float(bucket.numbers("acceleration_net")[row])
    known = "snr_wanted" in bucket.arrays  # absent where the noise of no scan is known
    snr = f"{bucket.numbers('snr_wanted')[row]:.0f}" if known else "unknown"
    size = (np.asarray(bucket.arrays["kspace"].shape)[2] if sampled.ndim == 1 else sampled.shape[0], sampled.shape[-1])
    zero_filled = zero_filled_image(corpus, bucket, row, maps)
    first, shown = (maps, np.abs(target)) if target.ndim == 2 else (maps[0], rss(target))  # first of several sets
    grey = {"cmap": "gray", "vmin": 0}
    circle = {"cmap": "twilight", "vmin": -np.pi, "vmax": np.pi}
    phase = np.angle(target if target.ndim == 2 else target[0])
    maps_told = f"coil maps, {min(4, len(first))} of {len(first)}"
    return [
        PairPanel(shown, f"pair {index_of(bucket, row)}: target", {**grey, "vmax": float(shown.max())}),
        PairPanel(phase, "target phase, -π to π", circle),
        PairPanel(_quartered(np.abs(first)), maps_told, {"cmap": "viridis", "vmin": 0}),
        PairPanel(np.broadcast_to(sampled, size).astype(float), f"mask, net R = {net:.2f}", LINES),
        PairPanel(zero_filled, f"zero-filled; SNR ({corpus.recipe.noise.definition}) {snr}", grey),
    ]


def _quartered(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Four maps [coil y x], spread over the coils, in one image of two by two; fewer leave quarters empty."""
    chosen = maps[np.unique(np.linspace(0, len(maps) - 1, 4).round().astype(int))]
    four = np.concatenate([chosen, np.full((4 - len(chosen), *maps.shape[1:]), np.nan, maps.dtype)])
    return np.block([[four[0], four[1]], [four[2], four[3]]])


def zero_filled_image(corpus: Corpus, bucket: Bucket, row: int, maps: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Root-sum-of-squares image [y x] of the sampled k-space, at the target's rows."""
    mask, stored = Mask(bucket.row("mask", row), 1.0), bucket.row("kspace", row)
    rows = stored.shape[1] if mask.is_lines else mask.sampled.shape[0]
    size = (rows, mask.sampled.shape[-1])
    if corpus.recipe.kspace == "full":
        kspace = stored.reshape(len(stored), *size) * mask.sampled
    else:
        kspace = mask.unpack(stored[..., : int(mask.sampled.sum())], size)
    return np.asarray(rss(Readout(maps.shape[-2], rows).crop(ifft2c(kspace))), np.float32)
