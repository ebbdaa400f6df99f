"""What a network was trained on, in numbers, and whether a scan lies within it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..data.datasets import PairDataset
from ..data.packed_batch import Batch
from ..evaluation.metrics import Image, over_sets

MEANING = {"coils": "coils", "acceleration_net": "net acceleration", "peak_snr": "the image's maximum over sigma"}


def scope_of(corpus: PairDataset) -> dict[str, list[float]]:
    """Least and largest number of coils, net acceleration and peak SNR of a corpus's pairs (`numbers_of_pairs`).

    Corpora of which no pair's SNR is known have none.
    """
    known = {name: values[~np.isnan(values)] for name, values in numbers_of_pairs(corpus).items()}
    return {name: [float(values.min()), float(values.max())] for name, values in known.items() if values.size}


def numbers_of_pairs(corpus: PairDataset) -> dict[str, np.ndarray]:
    """Number of coils, net acceleration and peak SNR of every pair [pair].

    The peak SNR is the largest magnitude of the reference over sigma, the noise of each part of k-space, and so of each
    part of a fully sampled image. It is NaN where sigma is not known, or 0.
    """
    peak, sigma = corpus.of_all("max_value"), corpus.of_all("sigma")
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = np.where(sigma > 0, peak / sigma, np.nan)
    return {
        "coils": corpus.coils_of_pairs.astype(float),
        "acceleration_net": corpus.of_all("acceleration_net"),
        "peak_snr": snr,
    }


def numbers_of(batch: Batch, image: Image) -> dict[str, float]:
    """The same numbers of a batch of one, and its image [y x] or [set y x]; the SNR is NaN without sigma or image."""
    sigma, peak = float(batch["sigma"][0]), float(np.abs(over_sets(image)).max())
    return {
        "coils": float(batch["sens_maps"].shape[-3]),
        "acceleration_net": float(batch["acceleration_net"][0]),
        "peak_snr": peak / sigma if sigma > 0 and peak > 0 else np.nan,
    }


def beyond(card: dict[str, Any], slices: Sequence[Mapping[str, float]], unit: str = "slices") -> list[str]:
    """One sentence for each number of slices, or of another `unit`, that lies outside of what a network was trained on.

    Cards of earlier versions do not tell these numbers; then there is no sentence.
    """
    told = []
    for name, meaning in MEANING.items():
        ranges = ranges_of(card, name)
        if not ranges:
            continue
        low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
        values = np.array([one[name] for one in slices])
        out = values[(values < 0.98 * low) | (values > 1.02 * high)]  # NaN is neither
        if out.size:
            where = f"{meaning} of {out.size} of {values.size} {unit}: {_range(out.min(), out.max())}"
            told.append(f"{where}; the network was trained on {_range(low, high)}, and may do worse here")
    return told


def ranges_of(card: dict[str, Any], name: str) -> list[list[float]]:
    """Least and largest value of a number in each training corpus whose card tells it."""
    return [part["scope"][name] for part in card.get("data") or () if name in part.get("scope", ())]


def _range(low: float, high: float) -> str:
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
