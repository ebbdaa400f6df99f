"""The HTML page of a corpus: its noise first, then its pictures, then its sources."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recon.errors import UnmeasurableError
from recon.evaluation.measured_noise import DEVIATIONS, Measured
from recon.evaluation.metrics import over_sets
from synth.corpus.reader import Corpus
from synth.physics import fft2c, ifftc
from synth.sources.crimes import MEANING

from ..display.html_page import Picture, page
from ..display.image_panels import png
from .pair_numbers import SAID
from .pair_pictures import PairPanel, index_of, pair_pictures, source_of
from .remeasure import measure
from .same_recipe import sources_told
from .summary import lacking

MEASURED, AVERAGED, OUTLIERS = 24, 16, 5  # pairs
WATCHED = ("snr_image", "scale", "acceleration_net")  # numbers in which a pair may stand out


def corpus_page(corpus: Corpus) -> bytes:
    """The page in HTML. Its pictures are as narrow as a phone, and stand side by side where there is room."""
    summary = corpus.attributes["summary"]
    try:
        found, alerts = measure(corpus.path, MEASURED), []
    except UnmeasurableError as error:
        found, alerts = [], [f"The noise was not measured from the arrays: {error}."]
    alerts += [problem for m in found if (problem := m.problem)] + lacking(summary)
    pictures: list[Picture] = [
        *pair_pictures(corpus),
        ("How often each line or point is sampled; the first mask's point spread function; spectra", _masks(corpus)),
    ]
    if found:
        caption = f"SNR asked for and SNR drawn; sigma and law of the noise in the arrays of {len(found)} pairs"
        pictures.insert(0, (caption, _noise(corpus, found)))
    if outliers := _outliers(corpus):
        caption = (
            "The pairs that stand out most, one from each source, and the number in which they do, in robust standard "
            f"deviations from the median: {', '.join(outliers)}"
        )
        pictures.append((caption, list(outliers.values())))
    return page(
        "corpus.html",
        pictures,
        name=corpus.recipe.name,
        summary=summary,
        sources=sources_told(corpus.plan),
        content_hash=corpus.content_hash,
        recipe_hash=corpus.attributes["recipe_hash"],
        recipe=json.dumps(corpus.attributes["recipe"], indent=1),
        noise=_sentences(corpus, found),
        alerts=alerts,
        said=SAID,
        findings=[
            f"{n} of {min(len(corpus.plan), summary['sources'])} sources: {MEANING[name]}"
            for name, n in summary["findings"].items()
        ],
    )


def _sentences(corpus: Corpus, found: list[Measured]) -> list[str]:
    noise, numbers = corpus.recipe.noise, corpus.attributes["summary"]["numbers"]
    if noise.kind == "none":
        return ["No noise was added."]
    low, high = noise.snr[0], noise.snr[-1]
    asked = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    lines = [f"SNR ({noise.definition}) of {asked} was requested" + (f", drawn {noise.law}." if low < high else ".")]
    if "snr_image" in numbers:
        v = numbers["snr_image"]
        lines.append(f"The images' SNR is {v['min']:.3g} to {v['max']:.3g}, {v['mean']:.3g} on average.")
    if found:
        worst = max(abs(m.sigma_found / m.sigma - 1) for m in found)
        allowed = DEVIATIONS * max(m.error for m in found)
        lines.append(
            f"Measured from the arrays of {len(found)} pairs, sigma agrees with its stored value within "
            f"{100 * worst:.2g} % (chance allows {100 * allowed:.2g} %)."
        )
    return lines


def _columns(corpus: Corpus, name: str) -> NDArray[np.float64]:
    """A number of all valid pairs, in the order of `Corpus.valid_pairs`."""
    parts = [b.numbers(name)[b.valid_rows] for b in corpus.buckets if name in b.arrays]
    return np.concatenate(parts).astype(np.float64) if len(parts) == len(corpus.buckets) else np.empty(0)


def _noise(corpus: Corpus, found: list[Measured]) -> list[bytes]:
    figures, (asked, shown, law) = _three()
    name = f"snr_{corpus.recipe.noise.definition.replace('-', '_')}"
    wanted, got = _columns(corpus, "snr_wanted"), _columns(corpus, name)
    asked.plot([wanted.min(), wanted.max()], [wanted.min(), wanted.max()], color="0.7")
    asked.plot(wanted, got, ".", markersize=3)
    asked.set_xlabel("requested SNR")
    asked.set_ylabel("SNR of the noise that was drawn")
    sigmas = np.array([[m.sigma, m.sigma_found] for m in found])
    shown.plot(sigmas[:, 0], 100 * (sigmas[:, 1] / sigmas[:, 0] - 1), ".")
    shown.axhline(0, color="0.7")
    shown.set_xlabel("sigma")
    shown.locator_params(axis="x", nbins=4)  # numbers such as 0.00012 would overlap
    shown.set_ylabel("difference of the arrays' sigma, %")
    drawn, x = np.concatenate([m.normal for m in found]), np.linspace(-4, 4, 161)
    law.hist(drawn, bins=81, range=(-4, 4), density=True, color="#9db8d9")
    law.plot(x, np.exp(-(x**2) / 2) / (2 * np.pi) ** 0.5, color="#1f5fa8")
    law.set_xlabel("noise / sigma")
    return [png(figure, 90) for figure in figures]


def _three() -> tuple[list[Any], list[Any]]:
    """Three figures that a phone shows whole, and the axes of each."""
    from matplotlib.figure import Figure

    figures = [Figure(figsize=(3.7, 3.2), layout="constrained") for _ in range(3)]
    return figures, [figure.subplots() for figure in figures]


def _masks(corpus: Corpus) -> list[bytes]:
    bucket = max(corpus.buckets, key=lambda b: len(b.valid_rows))
    rows = bucket.valid_rows[:AVERAGED]
    masks = np.stack([bucket.row("mask", row) for row in rows]).astype(np.float64)
    figures, (density, spread, spectrum) = _three()
    transformed = np.abs(ifftc(masks[0], tuple(range(masks[0].ndim))))
    decibel = 20 * np.log10(np.maximum(transformed / transformed.max(), 1e-4))
    if masks.ndim == 2:
        density.plot(masks.mean(axis=0), drawstyle="steps-mid", linewidth=0.8)
        spread.plot(np.arange(len(decibel)) - len(decibel) // 2, decibel, linewidth=0.8)
        spread.set_ylabel("dB")
    else:
        density.imshow(masks.mean(axis=0), cmap="gray", vmin=0, vmax=1)
        spread.imshow(decibel, cmap="gray", vmin=-60, vmax=0)
    density.set_title(f"sampling, mean of {len(rows)} pairs", fontsize=9)
    spread.set_title("point spread function", fontsize=9)
    powers = np.mean([np.abs(fft2c(bucket.row("target", row))) ** 2 for row in rows], axis=0)
    powers = powers.reshape(-1, *powers.shape[-2:]).sum(axis=0)  # over map sets, where there are several
    for axis, name in ((0, "x"), (1, "y")):
        line = powers.mean(axis=axis)
        spectrum.semilogy(np.linspace(-0.5, 0.5, len(line)), line, label=f"along {name}", linewidth=0.8)
    spectrum.set_title(f"mean spectra of targets, {bucket.name}", fontsize=9)
    spectrum.set_xlabel("cycles per pixel")
    spectrum.legend(fontsize=7)
    return [png(figure, 90) for figure in figures]


def _outliers(corpus: Corpus) -> dict[str, bytes]:
    """Targets of the pairs whose numbers lie farthest from the median, in units of 1.48 median absolute deviations.

    A unit is at least a third of the standard deviation: where most numbers are equal, the rest would all stand out.
    Each source is shown once: pairs of one photograph often stand out together, by the same number.
    """
    valid, scores = corpus.valid_pairs, {}
    for name in WATCHED:
        values = _columns(corpus, name)
        if len(values) == len(valid) and np.isfinite(values).all():
            away = values - np.median(values)
            spread = max(1.4826 * float(np.median(np.abs(away))), float(values.std()) / 3)
            if spread > 0:
                scores[name] = away / spread
    if not scores:
        return {}
    names, table = list(scores), np.stack(list(scores.values()))  # [number pair]
    shown: dict[str, bytes] = {}
    seen: set[str] = set()
    for k in np.argsort(-np.abs(table).max(axis=0), kind="stable").tolist():
        bucket, row = valid[k]
        source, pair = source_of(corpus, bucket, row), index_of(bucket, row)
        if source not in seen and len(seen) < OUTLIERS:
            seen.add(source)
            which = int(np.abs(table[:, k]).argmax())
            title = f"pair {pair}: {names[which]} {table[which, k]:+.1f}"
            image = np.abs(over_sets(bucket.row("target", row)))
            shown[f"pair {pair} ({source})"] = PairPanel(image, title, {"cmap": "gray", "vmin": 0}).picture()
    return shown
