"""What a network was trained on, in numbers, and whether a scan lies within it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data.datasets import PairDataset
from ..data.packed_batch import Batch
from ..evaluation.metrics import Image, over_sets

MEANING = {"coils": "coils", "acceleration_net": "net acceleration", "peak_snr": "the image's maximum over sigma"}


def scope_of(corpus: PairDataset) -> dict[str, list[float]]:
    """Least and largest number of coils, net acceleration and peak SNR of a corpus's pairs.

    The peak SNR is the largest magnitude of the reference over sigma, the noise of each part of k-space, and so of each
    part of a fully sampled image. Pairs whose sigma is not known, or 0, have none.
    """
    peak, sigma = corpus.of_all("max_value"), corpus.of_all("sigma")
    known = sigma > 0
    found = {"coils": np.asarray(corpus.coils, float), "acceleration_net": corpus.of_all("acceleration_net")}
    if known.any():
        found["peak_snr"] = peak[known] / sigma[known]
    return {name: [float(values.min()), float(values.max())] for name, values in found.items()}


def numbers_of(batch: Batch, image: Image) -> dict[str, float]:
    """The same numbers of a batch of one, and its image [y x] or [set y x]; the SNR is NaN without sigma."""
    sigma = float(batch["sigma"][0])
    return {
        "coils": float(batch["sens_maps"].shape[-3]),
        "acceleration_net": float(batch["acceleration_net"][0]),
        "peak_snr": float(np.abs(over_sets(image)).max()) / sigma if sigma > 0 else np.nan,
    }


def beyond(card: dict[str, Any], slices: list[dict[str, float]]) -> list[str]:
    """One sentence for each number of a scan's slices that lies outside of what a network was trained on.

    Cards of earlier versions do not tell these numbers; then there is no sentence.
    """
    told = []
    for name, meaning in MEANING.items():
        ranges = [part["scope"][name] for part in card.get("data") or () if name in part.get("scope", ())]
        if not ranges:
            continue
        low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
        out = [one[name] for one in slices if not (np.isnan(one[name]) or 0.98 * low <= one[name] <= 1.02 * high)]
        if out:
            where = f"{meaning} of {len(out)} of {len(slices)} slices: {_range(min(out), max(out))}"
            told.append(f"{where}; the network was trained on {_range(low, high)}, and may do worse here")
    return told


def _range(low: float, high: float) -> str:
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
