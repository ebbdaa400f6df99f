"""A corpus at a glance: a summary in words and numbers, and a contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth.corpus.reader import Corpus, open_corpus
from synth.errors import StorageError
from synth.physics import ifft2c, rss
from synth.sources.crimes import MEANING
from synth.stages.mask import Mask
from synth.stages.readout import Readout
from synth.storage.corpus_files import Bucket
from synth.storage.place import Place
from synth.storage.whole import write_whole

from ..display.image_panels import png
from .inspect_page import corpus_page
from .summary import lacking

PAIRS_SHOWN = 4


def inspect(path: Place, out: Path) -> list[Path]:
    """Write ``summary.md``, ``contact_sheet.png`` and ``report.html`` of a corpus.

    Raises CorpusError, OSError, or StorageError where `out` is a root folder.
    """
    corpus = open_corpus(path)
    if out.resolve().parent == out.resolve():
        raise StorageError(f"{out}: is a root folder; give a folder below it, such as --out {out / 'inspected'}")
    out.mkdir(parents=True, exist_ok=True)
    sheet = contact_sheet(corpus)
    documents = {
        "summary.md": summary_text(corpus).encode(),
        "contact_sheet.png": sheet,
        "report.html": corpus_page(corpus, sheet),
    }
    for name, document in documents.items():
        if (out / name).exists() and (out / name).read_bytes() != document:
            raise FileExistsError(f"{out / name} is there already with another content; choose another --out")
    for name, document in documents.items():
        write_whole(out / name, document)
    return [out / name for name in documents]


def summary_text(corpus: Corpus) -> str:
    """The summary as Markdown."""
    summary, recipe = corpus.attributes["summary"], corpus.recipe
    fitted = summary["fitted"]
    numbers = summary["numbers"]
    sets = getattr(recipe.coils, "espirit_sets", 1)
    lines = [
        f"# {recipe.name}",
        "",
        f"- {summary['pairs']} pairs from {summary['sources']} sources, {len(summary['rejected'])} rejected",
        f"- content hash `{corpus.content_hash}`, recipe hash `{corpus.attributes['recipe_hash']}`",
        *(f"- `{name}`: {count} pairs" for name, count in summary["buckets"].items()),
        *(["- two map sets: targets are shown as the root of the sum of squares over the sets"] if sets > 1 else []),
        f"- fit {fitted['fit']}: {fitted['turned']} turned by 90 degrees, {fitted['resized']} resized",
        f"- reference {recipe.target.reference}; {_noise_text(recipe.noise)}",
        f"- mask {recipe.sampling.kind}: nominal acceleration {numbers['acceleration']['mean']:g}, "
        f"net {numbers['acceleration_net']['min']:.2f} to {numbers['acceleration_net']['max']:.2f}",
        "",
        "| number | least | mean | greatest |",
        "|---|---|---|---|",
        *(f"| {name} | {v['min']:.6g} | {v['mean']:.6g} | {v['max']:.6g} |" for name, v in numbers.items()),
    ]
    lines += ["", *(f"- {line}" for line in lacking(summary))] if lacking(summary) else []
    if summary["findings"]:
        told = [f"- {n} of {summary['sources']} sources: {MEANING[f]} (`{f}`)" for f, n in summary["findings"].items()]
        lines += ["", "What earlier processing has done to the sources:", "", *told]
    if summary["rejected"]:
        lines += ["", "Rejected sources:", "", *(f"- {r['reason']}" for r in summary["rejected"])]
    return "\n".join(lines) + "\n"


def _noise_text(noise: Any) -> str:
    if noise.kind == "none":
        return "no noise"
    low, high = noise.snr
    return f"SNR ({noise.definition}) {low:g} to {high:g} wanted, {noise.law}; covariance {noise.covariance}"


def contact_sheet(corpus: Corpus, pairs: int = PAIRS_SHOWN) -> bytes:
    """A PNG of some pairs as rows: target magnitude and phase, coil maps, mask, zero-filled image."""
    from matplotlib.figure import Figure

    chosen = _spread(corpus, pairs)
    figure = Figure(figsize=(14, 2.75 * len(chosen) + 0.5), layout="constrained")
    axes = figure.subplots(len(chosen), 5, squeeze=False)
    for row, (bucket, position) in zip(axes, chosen, strict=True):
        _draw_pair(row, corpus, bucket, position)
    figure.suptitle(f"{corpus.recipe.name}: {corpus.attributes['summary']['pairs']} pairs", fontsize=13)
    return png(figure, 90)


def _spread(corpus: Corpus, pairs: int) -> list[tuple[Bucket, int]]:
    valid = corpus.valid_pairs
    return [valid[int(k)] for k in np.linspace(0, len(valid) - 1, min(pairs, len(valid)))]


def _draw_pair(axes: Any, corpus: Corpus, bucket: Bucket, row: int) -> None:
    target = np.asarray(bucket.arrays["target"][row])
    sampled = np.asarray(bucket.arrays["mask"][row])
    maps = np.asarray(bucket.arrays["maps"][int(bucket.map_rows[row])])
    net = float(bucket.numbers("acceleration_net")[row])
    known = "snr_wanted" in bucket.arrays  # absent where the noise of no scan is known
    snr = f"{bucket.numbers('snr_wanted')[row]:.0f}" if known else "unknown"
    size = (np.asarray(bucket.arrays["kspace"].shape)[2] if sampled.ndim == 1 else sampled.shape[0], sampled.shape[-1])
    zero_filled = zero_filled_image(corpus, bucket, row, maps)
    first, shown = (maps, np.abs(target)) if target.ndim == 2 else (maps[0], rss(target))  # first of several sets
    top = float(shown.max())
    panels: list[tuple[NDArray[Any], str, dict[str, Any]]] = [
        (shown, f"pair {int(bucket.numbers('index')[row])}: target", {"cmap": "gray", "vmin": 0, "vmax": top}),
        (
            np.angle(target if target.ndim == 2 else target[0]),
            "target phase, -π to π",
            {"cmap": "twilight", "vmin": -np.pi, "vmax": np.pi},
        ),
        (
            _quartered(np.abs(first)),
            f"coil maps, {min(4, len(first))} of {len(first)}",
            {"cmap": "viridis", "vmin": 0},
        ),
        (
            np.broadcast_to(sampled, size),
            f"mask, net R = {net:.2f}",
            {"cmap": "gray", "vmin": 0, "vmax": 1},
        ),
        (
            zero_filled,
            f"zero-filled; SNR ({corpus.recipe.noise.definition}) {snr}",
            {"cmap": "gray", "vmin": 0},
        ),
    ]
    for axis, (image, title, style) in zip(axes, panels, strict=True):
        axis.imshow(image, interpolation="nearest", **style)
        axis.set_title(title, fontsize=9)
        axis.set_axis_off()


def _quartered(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Four maps [coil y x], spread over the coils, in one image of two by two; fewer leave quarters empty."""
    chosen = maps[np.unique(np.linspace(0, len(maps) - 1, 4).round().astype(int))]
    four = np.concatenate([chosen, np.full((4 - len(chosen), *maps.shape[1:]), np.nan, maps.dtype)])
    return np.block([[four[0], four[1]], [four[2], four[3]]])


def zero_filled_image(corpus: Corpus, bucket: Bucket, row: int, maps: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Root-sum-of-squares image [y x] of the sampled k-space, at the target's rows."""
    mask = Mask(np.asarray(bucket.arrays["mask"][row]), 1.0)
    stored = np.asarray(bucket.arrays["kspace"][row])
    rows = stored.shape[1] if mask.is_lines else mask.sampled.shape[0]
    size = (rows, mask.sampled.shape[-1])
    if corpus.recipe.kspace == "full":
        kspace = stored.reshape(len(stored), *size) * mask.sampled
    else:
        kspace = mask.unpack(stored[..., : int(mask.sampled.sum())], size)
    return np.asarray(rss(Readout(maps.shape[-2], rows).crop(ifft2c(kspace))), np.float32)
