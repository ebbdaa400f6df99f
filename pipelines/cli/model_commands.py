"""The commands about networks: train and test."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..display.terminal import counted, say
from .options import (
    Changes,
    Device,
    Json,
    NoiseMap,
    ProbeCount,
    end_with,
    kindly,
    print_json,
    say_notes,
)

if TYPE_CHECKING:
    from recon.training.dry_run import DryRun

SHOWN = ("name", "parameters", "steps", "seconds", "validation_loss", "lam", "powers")


def train_command(
    training: Annotated[str, typer.Argument(help="A TOML file, or the name of a ready training.")],
    out: Annotated[Path, typer.Option("--out", help="Folder, or s3://bucket/name, for checkpoints and the model.")],
    changes: Changes = None,
    model: Annotated[
        str | None, typer.Option(help="Train your own network in place of [model]: FILE.py:FACTORY. Runs that file.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="Begin with the weights of a network of `fathom models`, or of a training's folder."),
    ] = None,
    device: Device = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Train for a second, tell how long all would take, and write nothing."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a network on corpora, or go on with a stopped training. `torchrun` shares it among processes."""
    from recon.training.dry_run import dry_run as make_dry_run
    from recon.training.loop import train
    from recon.training.own_model import load_own
    from recon.training.settings import load_training

    from ..corpus.leakage import validation_leaks
    from ..display.progress import steps_shown
    from ..models.named_models import runs_code, trained
    from ..ready.names import named_training

    with kindly():
        settings = load_training(named_training(training), changes or ())
        if begun := start or settings.start:
            settings = settings.model_copy(update={"start": str(trained(begun))})
        say_notes(runs_code([model] if model else []))
        own = load_own(model, seed=settings.seed) if model else None
        say_notes(validation_leaks(*settings.data.paths) if _is_first() else [])
        if dry_run:
            _print_dry_run(make_dry_run(settings, own, device=device), as_json=as_json)
            return
        with steps_shown(settings.name) as tell:
            card = train(settings, out, own, device=device, tell=tell)
    if _is_first():
        _print_card(card, out, as_json=as_json)


def _is_first() -> bool:
    """Whether this is the first process of a training, which alone prints."""
    return os.environ.get("RANK", "0") == "0"


def _print_dry_run(found: DryRun, *, as_json: bool) -> None:
    if as_json:
        print_json({**asdict(found), "seconds": found.seconds})
        return
    pairs, steps = counted(found.pairs, "pair"), counted(found.steps, "step")
    say(f"{pairs}, {found.parameters} parameters, {steps} on {found.device}")
    say(f"{found.seconds_of_a_step:.2g} s a step, about {_long(found.seconds)} in all; nothing was written")


def _long(seconds: float) -> str:
    """A time in the unit in which it is read."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _print_card(card: dict[str, Any], out: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({key: card.get(key) for key in SHOWN})
        return
    own = f" with {card['model']['factory']}" if card["model"].get("kind") == "own" else ""
    say(
        f"{out}: {card['name']}{own}, {card['parameters']} parameters, {card['steps']} steps in {card['seconds']:.0f} s"
    )
    if card["validation_loss"] is not None:
        say(f"lowest validation loss {card['validation_loss']:.4g}, at step {card['step_kept']}")
    if card["lam"] is not None:
        say("lam of each SENSE step after training: " + ", ".join(f"{value:.3g}" for value in card["lam"]))
    residuals, tolerance = card.get("cg_residuals") or [0.0], card["model"].get("cg_tolerance", 0.0)
    if max(residuals) > max(2 * tolerance, 1e-5):  # twice: the recursion's residual drifts from the true one
        step = residuals.index(max(residuals)) + 1
        say(
            f"note: conjugate gradients ended early: SENSE step {step} reached model.cg_iterations at a residual of "
            f"{max(residuals):.2g}; model.cg_tolerance is {tolerance:g}. Few iterations are fast and regularise in "
            "place of lam, at a cost where the SNR is high; raise model.cg_iterations, or leave it out, for such scans"
        )
    if card.get("powers") is not None:  # cards of earlier versions lack this key
        say("lam grows with this power of the SNR: " + ", ".join(f"{value:.2g}" for value in card["powers"]))


def evaluate_command(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL... CORPUS",
            help="Folders of trained models; baselines with a number: zero-filled, cg-sense:ITERATIONS, "
            "regularised-sense:LAM, wavelet:WEIGHT, grappa; or your own, FILE.py:FACTORY or FILE.py:FACTORY,WEIGHTS, "
            "which runs that file. LABEL=MODEL names a model in the results. The corpus comes last.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for report.html, rows.csv, summary.json and images.png.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Pairs per batch.")] = 4,
    without: Annotated[
        Path | None, typer.Option(help="The same corpus without lesions, to measure how much of them is recovered.")
    ] = None,
    replicas: Annotated[int, typer.Option(min=0, help="Replicas of noise for noise maps, such as 16; 0: no maps.")] = 0,
    noise_map: NoiseMap = False,
    probes: ProbeCount = 72,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Test models on a corpus. The first model is compared with the others, with 95 % intervals."""
    from ..models.evaluate import Probes, evaluate
    from ..models.evaluate_page import write_test_page
    from ..models.named_models import runs_code
    from ..models.swapped import refuse_swapped_corpus

    with kindly():
        *names, corpus = models
        refuse_swapped_corpus(names, corpus)
        named = _named(names)
        say_notes(runs_code(list(named.values())))
        if replicas == 1:
            raise ValueError("--replicas 1: one replica has no spread; give 0, or at least 2")
        measured = Probes(without, replicas, noise_map=probes if noise_map else 0)
        summary = evaluate(named, corpus, out, device, batch_size, measured)
        report = write_test_page(summary, out)
    if as_json:
        print_json(summary)
    else:
        _print_tests(summary)
        say(str(report))
    end_with(summary.get("failed", {}))


def _named(names: list[str]) -> dict[str, str]:
    """Models by their labels; raises ValueError where there is none, or one is named twice."""
    from ..models.named_models import labelled

    if not names:
        raise ValueError("give at least one model and a corpus: fathom test MODEL CORPUS --out DIR")
    pairs = [labelled(name) for name in names]
    named = dict(pairs)
    for label in named:
        if [one for one, _ in pairs].count(label) > 1:
            raise ValueError(
                f"{label} is there twice; name each model once, or give each a label of its own: LABEL=MODEL"
            )
    return named


COMPARED = ("psnr_magnitude_slice_max", "psnr_magnitude_object_max")


def _print_tests(summary: dict[str, Any]) -> None:
    """The name, mean, interval and column of each metric; then the PSNR of the first model minus that of each other."""
    from recon.evaluation.definitions import defined

    for name, found in summary["models"].items():
        say(name)
        for note in found["notes"]:
            say(f"  note: {note}")
        for metric, v in found["metrics"].items():
            say(f"  {defined(metric).title:22} {v['mean']:9.4f}  {_ends(v, '.4f'):22}  {metric}")
    first = next(iter(summary["models"]))
    for metric in COMPARED if summary["differences"] else ():
        say(f"{defined(metric).name}:")
        for name, found in summary["differences"].items():
            v = found[metric]
            say(f"  {first} - {name}: {v['mean']:+.2f} dB  {_ends(v, '+.2f')}")
    say(f"intervals of 95 %, over {summary['intervals']}")


def _ends(interval: dict[str, Any], how: str) -> str:
    """The ends of an interval, as text."""
    if interval["low"] is None:
        return "[no interval]"
    return f"[{interval['low']:{how}}, {interval['high']:{how}}]"
