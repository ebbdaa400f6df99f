"""The table of `peers_trained.py`: held-out photographs with intervals by photograph, and each real brain."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import laptop
import torch

from recon import evaluate
from recon.data.datasets import PairDataset
from recon.data.scan_batch import Undersampling, batch_of, noise_of
from recon.evaluation.intervals import differences, summary_of
from recon.evaluation.metrics import slice_metrics
from recon.models.baselines import RegularisedSense, ZeroFilled
from recon.models.called import image_by
from synth.calibration.noise_profile import whiten
from synth.physics import ifft2c, rss
from synth.scans.open import open_scan

METRICS = {"psnr_magnitude_slice_max": max, "ssim_windowed_slice_range": max, "nrmse_magnitude": min}
OBJECT = "psnr_magnitude_object_max"
NAMED = dict(zip((*METRICS, OBJECT), ("PSNR", "SSIM", "NRMSE", "PSNR in the object"), strict=True))
DIGITS = dict(zip(NAMED, (2, 3, 3, 2), strict=True))
BASELINE = "regularised SENSE, best lam"


def tested(name: str, model, held_out: Path, scans: Path, out: Path):
    """Rows of the held-out pairs, and each brain's metrics; kept in `out`, and read from there another time."""
    kept = out / f"{name.replace(', ', '-').replace(' ', '-')}.json"
    if not kept.exists():
        with torch.no_grad():
            found = {"rows": evaluate(model, PairDataset(held_out), 4, "cpu")}
            for scan in laptop.SCANS:
                batch, reference, _ = slice_of(scans / scan)
                found[scan] = measures(image_by(model, batch)[0].numpy(), reference)
        kept.with_suffix(".partial").write_text(json.dumps(found))
        kept.with_suffix(".partial").replace(kept)
    return json.loads(kept.read_text())


@cache
def slice_of(path: Path):
    """A real scan at R = 4 with 24 reference lines; the image from all its lines; the root of their sum of squares."""
    scan = open_scan(path)
    profile = noise_of(scan)[0]
    full = scan[0] if profile is None else whiten(scan[0], profile)
    return *batch_of(scan[0], profile, Undersampling(4, 24))[:2], rss(ifft2c(full))


def measures(image, reference):
    found = slice_metrics(image, reference)
    return {metric: found[metric] for metric in NAMED}


def with_baselines(found, *where):
    """Zero-filling, and regularised SENSE with the lam that is best for the photographs, or for each brain."""
    sense = {lam: tested(f"regularised SENSE {lam:g}", RegularisedSense(lam), *where) for lam in laptop.LAMS}
    best = {"rows": max(laptop.LAMS, key=lambda lam: summary_of(sense[lam]["rows"])[laptop.PSNR]["mean"])}
    best |= {scan: max(laptop.LAMS, key=lambda lam: sense[lam][scan][OBJECT]) for scan in laptop.SCANS}
    found |= {BASELINE: {part: sense[lam][part] for part, lam in best.items()}}
    return found | {"zero-filled": tested("zero-filled", ZeroFilled(), *where)}, best


def photographs(rows):
    """Each metric with its interval by photograph, and paired differences to the network that is best by it."""
    means = {name: {metric: summary_of(part)[metric] for metric in METRICS} for name, part in rows.items()}
    found = {"pairs": len(next(iter(rows.values()))), "models": means, "minus the best": {}}
    for metric, better in METRICS.items():
        first = better(rows, key=lambda name: means[name][metric]["mean"])
        others = {name: differences(rows[name], rows[first])[metric] for name in rows if name != first}
        found["minus the best"][metric] = {"best": first, **others}
    return found


def table(results):
    """Lines of a table in Markdown: a line per model; photographs with their intervals, and each brain."""
    trainings, photos = results["trainings"], results["photographs"]
    columns = [f"photographs: {NAMED[metric]}" for metric in METRICS] + ["PSNR minus the best"]
    brains = [f"{scan}: {', '.join(NAMED.values())}" for scan in laptop.SCANS]
    lines = [["model", "parameters", "steps", *columns, *brains]]
    lines += [["---"] * len(lines[0])]
    for name, means in photos["models"].items():
        line = [name, *(f"{trainings[name][n]:,}" if name in trainings else "" for n in ("parameters", "steps"))]
        line += [shown(means[metric], metric) for metric in METRICS]
        against = photos["minus the best"][laptop.PSNR].get(name)
        line += [shown(against, laptop.PSNR) if against else "best"]
        for scan in laptop.SCANS:
            line += [", ".join(f"{value:.{DIGITS[m]}f}" for m, value in results[scan]["models"][name].items())]
        lines.append(line)
    return [f"| {' | '.join(line)} |" for line in lines]


def shown(found, metric):
    digits = DIGITS[metric]
    return f"{found['mean']:.{digits}f} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"
