"""Test models on a corpus: rows to CSV, means with intervals to JSON, and pictures with their errors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recon.data.datasets import PairDataset
from recon.data.loader import make_loader
from recon.errors import ModelError
from recon.evaluation.disturbed import UNDISTURBED, Disturbance
from recon.evaluation.intervals import differences, summary_of
from recon.evaluation.metrics import over_sets
from recon.evaluation.noise_map_rows import Shown, noise_map_rows
from recon.evaluation.rows import Row, image_of, lesion_rows, noise_rows, reconstructions, refuse_other_pairs, rows_of
from recon.evaluation.units import units_of
from recon.models.baselines import ZeroFilled
from recon.models.called import remarks_on
from recon.models.catalogue import Reconstruction
from recon.training.memory import is_out_of_memory
from recon.training.model_files import seen_in_training, strangeness
from recon.training.own_model import OwnModel
from recon.training.process_group import local_device
from synth.corpus.sources import file_of, slice_of
from synth.errors import FathomError
from synth.process import keep_memory
from synth.storage.place import Place
from synth.storage.results import claim, refuse_other_results
from synth.storage.whole import write_whole

from ..display.csv_table import write_table
from ..display.image_panels import Line, Panel, draw_rows, panels_of
from ..display.progress import Meter
from .named_models import identity_of, model_named


@dataclass(frozen=True)
class Probes:
    """What a test measures beyond image metrics (`recon.evaluation.probes`)."""

    without: Place | None = None  # a corpus with the same pairs, but without their lesions
    replicas: int = 0  # of noise, for noise maps
    disturbance: Disturbance = UNDISTURBED  # of what models are given
    noise_map: int = 0  # products with the derivative, for noise maps without replicas (`recon.evaluation.noise_map`)


@dataclass(frozen=True)
class Tested:
    """A model by its name, its rows, a noise map, and how its training differs from the corpus."""

    name: str
    model: Reconstruction
    device: torch.device
    rows: list[Row]
    noise: NDArray[np.float64] | None
    maps: Shown | None
    notes: list[str]


def evaluate(
    models: dict[str, str],
    corpus: str | Place,
    out: Path,
    device: str | None = None,
    batch_size: int = 4,
    probes: Probes = Probes(),
) -> dict[str, Any]:
    """Test models on the pairs of a corpus; write ``rows.csv``, ``summary.json`` and ``images.png`` into `out`.

    With replicas of noise, it also writes ``noise.png``; with `Probes.noise_map`, ``noise_map.png``. Intervals are over
    sources, or within few of them; see `recon.evaluation.units`. A note tells if a network was trained on some of them.

    `models` gives the folder, the baseline or the file of code of each name in the results. The first model is compared
    with every other: the mean difference over the same pairs, with its interval. If a model cannot be tested, the
    summary's ``failed`` says why, and the others go on. A name that stands for no model is refused before any is
    tested, as `identity_of` does. If none can be tested, raises the error of the only model, or a ModelError that says
    what is wrong with each.
    """
    keep_memory()
    pairs = PairDataset(corpus)
    without = None if probes.without is None else PairDataset(probes.without)
    command = _command_of(models, pairs, without, probes)
    refuse_other_results(out, command)
    if without is not None:
        refuse_other_pairs(pairs, without)
    tested: list[Tested] = []
    failed: dict[str, str] = {}
    for label, name in models.items():
        try:
            tested.append(_test(label, name, pairs, device, batch_size, without, probes))
        except (FathomError, ValueError, RuntimeError) as error:
            if len(models) == 1 or is_out_of_memory(error):
                raise
            failed[label] = str(error)
    if not tested:
        raise ModelError("\n".join(why if label in why else f"{label}: {why}" for label, why in failed.items()))
    first, *others = tested
    summary = {
        "corpus": {"path": pairs.path.name, "content_hash": pairs.content_hash, "pairs": len(pairs)},
        "intervals": units_of(first.rows).over,
        "models": {t.name: {"metrics": summary_of(t.rows), "notes": t.notes, **_card(t.model)} for t in tested},
        "differences": {t.name: differences(first.rows, t.rows) for t in others},
        **({"failed": failed} if failed else {}),
    }
    claim(out, command)
    write_table([{"model": t.name, **row} for t in tested for row in t.rows], out / "rows.csv")
    _draw(tested, pairs, out / "images.png")
    if probes.replicas:
        _draw_noise(tested, out / "noise.png")
    _draw_maps(tested, out / "noise_map.png")
    write_whole(out / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())
    return summary


def _command_of(
    models: dict[str, str], pairs: PairDataset, without: PairDataset | None, probes: Probes
) -> dict[str, Any]:
    """What decides the results of a test."""
    return {
        "models": list(models),
        "model_identities": [identity_of(name) for name in models.values()],
        "corpus": pairs.content_hash,
        "without": None if without is None else without.content_hash,
        "disturbance": probes.disturbance.model_dump(mode="json"),
        "replicas": probes.replicas,
        "noise_map_probes": probes.noise_map,
    }


def _test(
    label: str,
    name: str,
    pairs: PairDataset,
    device: str | None,
    batch_size: int,
    without: PairDataset | None,
    probes: Probes,
) -> Tested:
    model, card = model_named(name, device)
    chosen = local_device(device)
    rows: list[Row] = []
    more: list[Row] = []
    noise, maps = None, None
    wrong = probes.disturbance
    bare = reconstructions(model, without, batch_size, chosen, wrong) if without is not None else None
    with Meter(f"test {label}", len(pairs)) as meter:
        for batch, made in reconstructions(model, pairs, batch_size, chosen, wrong):
            rows += rows_of(batch, made, pairs)
            if bare is not None and pairs.recipe.target.lesions is not None:
                more += lesion_rows(batch, made, *next(bare), pairs.recipe.target.lesions)
            meter.advance(len(made))
    if probes.replicas:
        with Meter(f"noise of {label}", len(pairs)) as meter:
            found, noise = noise_rows(model, pairs, probes.replicas, batch_size, chosen, meter.advance)
        more += found
    if probes.noise_map:
        with Meter(f"noise maps of {label}", len(pairs)) as meter:
            found, maps = noise_map_rows(model, pairs, probes.noise_map, batch_size, chosen, meter.advance)
        more += found
    by_pair = {row["pair"]: row for row in rows}
    for row in more:
        by_pair[row["pair"]] |= row
    notes = [*strangeness(card, [pairs]), *seen_in_training(card, pairs)] if "data" in card else []
    if isinstance(model, OwnModel):
        if model.card.get("weights") is None and model.card["parameters"]:
            notes.append("no weights were given (FILE.py:FACTORY,WEIGHTS): the network is as its factory makes it")
        notes += remarks_on(model, next(iter(make_loader(pairs, 1, shuffle=False, device=chosen))))
    return Tested(label, model, chosen, [by_pair[pair] for pair in sorted(by_pair)], noise, maps, notes)


def _card(model: Reconstruction) -> dict[str, Any]:
    """What a user's own model is: its card and its identity."""
    return {"model": model.card, "identity": model.identity} if isinstance(model, OwnModel) else {}


def _draw_noise(tested: Sequence[Tested], path: Path) -> None:
    maps = {t.name: t.noise for t in tested if t.noise is not None}
    top = float(np.quantile(np.concatenate([noise.ravel() for noise in maps.values()]), 0.99))
    draw_rows([[Panel(name, noise, top, bar=f"{top:.2g}") for name, noise in maps.items()]], path)


def _draw_maps(tested: Sequence[Tested], path: Path) -> None:
    """A line per model: its noise, and where the data do not decide; no file where no model was asked for them."""
    shown = {t.name: t.maps for t in tested if t.maps is not None}
    if not shown:
        return
    top = float(np.quantile(np.concatenate([maps["noise"].ravel() for maps in shown.values()]), 0.99))
    said = {"null share": "share of unmeasured detail", "agreement": "agreement of halves"}
    lines: list[Line] = []
    for name, maps in shown.items():
        line = [Panel(f"{name}: noise SD", maps["noise"], top, bar=f"{top:.2g}")]
        lines.append(line + [Panel(told, maps[what], 1.0, bar="1") for what, told in said.items() if what in maps])
    draw_rows(lines, path)


def _draw(tested: Sequence[Tested], pairs: PairDataset, path: Path) -> None:
    """Draw the pairs on which the first model is worst, median and best, so that not only the best is shown."""
    order = np.argsort([row["psnr_magnitude_slice_max"] for row in tested[0].rows])
    which = {int(order[k]): word for k, word in ((0, "worst"), (len(order) // 2, "median"), (-1, "best"))}
    lines: list[Line] = []
    for position, word in which.items():
        item, row = pairs[position], tested[0].rows[position]
        titles = {
            f"{t.name}: PSNR {t.rows[position]['psnr_magnitude_slice_max']:.1f} dB": image_of(t.model, item, t.device)
            for t in tested
        }
        given = image_of(ZeroFilled(), item, tested[0].device)
        lines.append(f"The {word} pair of {tested[0].name}: {told_of(row)}")
        lines += panels_of(over_sets(item["target"].numpy()), titles, given)
    draw_rows(lines, path)


def told_of(row: Row) -> str:
    """A row's pair and the file and the slice that it is from, as far as they are known."""
    source, slice_ = file_of(str(row.get("source", ""))), slice_of(str(row.get("source", "")))
    return f"pair {row['pair']}" + f", {source}" * bool(source) + (f", slice {slice_}" if slice_ is not None else "")
