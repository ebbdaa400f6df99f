"""The page of a test (``report.html``): which model is best and by how much, pictures, and one table of all metrics."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from recon.evaluation.definitions import DEFINITIONS, defined
from recon.evaluation.intervals import Interval
from synth.storage.whole import write_whole

from ..display.html_page import Picture, page
from ..display.image_panels import WINDOW_SAID
from ..display.metric_table import metric_table

PSNR = "psnr_magnitude_object_max"  # of all pixels, air, of which scans have much, makes every PSNR large
PICTURES = {  # the files of a test by their captions
    "images.png": f"The pairs on which the first model is worst, median and best. {WINDOW_SAID}.",
    "noise_map.png": "The first pair: standard deviation for the noise at hand, in the image's unit; share of its "
    "detail that was not measured; agreement of reconstructions from two halves of the noise.",
    "noise.png": "The first pair: local noise over that of a fully sampled image, from replicas.",
}


def write_test_page(summary: dict[str, Any], out: Path) -> Path:
    """Write ``report.html`` from the summary of a test and the pictures beside it in `out`; returns its path."""
    models, corpus = summary["models"], summary["corpus"]
    values = {
        name: {metric: _interval(value) for metric, value in found["metrics"].items()} for name, found in models.items()
    }
    alerts = [f"{name}: {note}" for name, found in models.items() for note in found["notes"]]
    alerts += [f"{name} could not be tested: {why}" for name, why in summary.get("failed", {}).items()]
    pictures: list[Picture] = [
        (caption, (out / file).read_bytes()) for file, caption in PICTURES.items() if (out / file).exists()
    ]
    html = page(
        "test.html",
        pictures,
        corpus=corpus,
        five=_answers(summary, values),
        alerts=alerts,
        table=metric_table({corpus["path"]: values}, list(DEFINITIONS)),
        intervals=summary["intervals"],
    )
    write_whole(out / "report.html", html)
    return out / "report.html"


def _interval(found: dict[str, Any]) -> Interval:
    low, high = (math.nan if found[end] is None else found[end] for end in ("low", "high"))
    return Interval(found["mean"], low, high, found["over"])


def _answers(summary: dict[str, Any], values: dict[str, dict[str, Interval]]) -> list[tuple[str, str]]:
    """Which model is best by its lesion error or PSNR, by how much, whether that is sure, and what it invents."""
    metric = "lesion_error" if all("lesion_error" in found for found in values.values()) else PSNR
    sign = -1 if defined(metric).better == "less" else 1
    first, *_ = values
    ranked = sorted(values, key=lambda name: -sign * values[name][metric].mean)
    best = ranked[0]
    told = [("Which is best?", f"{best}: {defined(metric).name} {defined(metric).told(values[best][metric])}.")]
    if len(ranked) > 1:
        other = ranked[1] if best == first else first  # the first model is compared with every other
        gap = _interval(summary["differences"][other if best == first else best][metric])
        turn = sign if best == first else -sign
        low, high = sorted((turn * gap.low, turn * gap.high))
        better = Interval(turn * gap.mean, low, high, gap.over)
        told.append(("By how much?", f"{defined(metric).told(better)} better than {other}."))
        sure = "Yes: the 95 % interval does not contain 0" if low > 0 else "No: the 95 % interval contains 0"
        told.append(("Is it sure?", f"{sure if better.known else 'No: there is no interval'}; over {gap.over}."))
    invented = next((m for m in ("false_lesions", "aliasing_nmse") if m in values[best]), None)
    if invented:
        said = f"{best}: {defined(invented).name.lower()} {defined(invented).told(values[best][invented])}."
        told.append(("What does it invent?", f"{said} {defined(invented).says}"))
    told.append(("What happens at another SNR?", "Not tested: this is one corpus. The study referee tests two more."))
    return told
