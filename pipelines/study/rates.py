"""The time that a study's stages will take on this machine, from a second or two of what they do.

Of every kind of stage that is to be made, the actual step runs on a corpus of a few pairs in a temporary folder: pairs
are synthesised, a network is trained for some steps, images are reconstructed and measured. Kinds are told apart by
what sets the time: size, coils, network, batch. What a stage does once (finishing a corpus, drawing) is left out.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch

from recon.data.datasets import PairDataset
from recon.evaluation.rows import reconstructions, rows_of
from recon.models.catalogue import Reconstruction, named_baseline
from recon.training.dry_run import seconds_of
from recon.training.process_group import ProcessGroup, local_device
from recon.training.run import Run
from recon.training.settings import Training
from synth.errors import FathomError
from synth.plan import Plan
from synth.recipe import Recipe
from synth.sources.photos import ImagesSpec

from ..cluster import ClusterSpec
from ..corpus.build import build
from ..display.progress import Meter
from .folder import StudyFolder
from .stages import Stage

TESTED = 4  # pairs of a test
UNTOLD = (FathomError, OSError, ValueError, RuntimeError, ArithmeticError, LookupError, MemoryError)


def measured_rates(folder: StudyFolder, names: Collection[str], device: str | None = None) -> dict[str, float]:
    """Seconds per pair, step and tested pair, by the name of the stage.

    A stage that cannot be measured, such as one on scans that are not there, is left out.
    """
    waiting = {name: stage for name, stage in folder.stages.items() if name in names}
    found: dict[str, float] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as stages run
    try:
        with tempfile.TemporaryDirectory() as place, Meter("measure", len(waiting), unit="stages") as meter:
            rates = _Rates(folder, Path(place), device)
            for name, stage in waiting.items():
                rate = rates.of(stage)
                if rate is not None:
                    found[name] = rate
                meter.advance(1)
    finally:
        torch.set_num_threads(threads)
    return found


class _Rates:
    """Measures each kind of stage once."""

    def __init__(self, folder: StudyFolder, place: Path, device: str | None) -> None:
        self._folder, self._place, self._device = folder, place, local_device(device)
        self._known: dict[str, Any] = {}

    def of(self, stage: Stage) -> float | None:
        """Seconds per unit of a stage; None where it cannot be measured."""
        try:
            if isinstance(stage.settings, Recipe):
                return self._build(stage.settings)
            corpus = self._recipe(stage.needs[0])
            if isinstance(stage.settings, Training):
                return self._training(stage.settings, corpus)[1]
            return self._test(stage, corpus)
        except UNTOLD:
            return None

    def _once(self, key: str, measure: Callable[[], Any]) -> Any:
        """What `measure` gives, or the error that it raises, computed once for each key."""
        if key not in self._known:
            try:
                self._known[key] = measure()
            except UNTOLD as error:
                self._known[key] = error
        if isinstance(self._known[key], Exception):
            raise self._known[key]
        return self._known[key]

    def _recipe(self, build_stage: str) -> Recipe:
        recipe = self._folder.stages[build_stage].settings
        assert isinstance(recipe, Recipe)
        return recipe

    def _build(self, recipe: Recipe) -> float:
        """Seconds per pair; map sets, which pairs share, are computed once each."""
        plan, cold, warm = self._once(f"pair {_kind(recipe)}", lambda: _pair(recipe))
        pairs = recipe.pairs or len(plan)
        sets = pairs if recipe.own_maps else min(pairs, getattr(recipe.coils, "sets", None) or pairs)
        return float(warm + max(cold - warm, 0.0) * sets / pairs)

    def _corpus(self, recipe: Recipe, pairs: int) -> PairDataset:
        def made() -> PairDataset:
            out = self._place / f"{len(self._known)}.zarr"
            target = recipe.target.model_copy(update={"matrix": recipe.target.matrix[:1]})
            few = recipe.model_copy(update={"pairs": pairs, "target": target, "shard_pairs": None})
            build(_readable(few).recipe, out, ClusterSpec("sync"))
            return PairDataset(out)

        found: PairDataset = self._once(f"corpus {pairs} {_shape(recipe)}", made)
        return found

    def _training(self, settings: Training, recipe: Recipe) -> tuple[Run, float]:
        """The training after a few steps, and the seconds of a step."""

        def made() -> tuple[Run, float]:
            pairs = self._corpus(recipe, settings.training.batch_size)
            alone = settings.model_copy(update={"start": None})
            run = Run(alone, [pairs], [], self._place, "", ProcessGroup(), self._device)
            run.model.train()

            def step() -> None:
                for batch in run.loader:  # one batch
                    run.advance(batch)
                list(run.told(every=True))

            return run, seconds_of(step)

        dumped = settings.model_dump(mode="json", exclude={"name", "seed", "start", "data"})
        dumped["training"] |= {"steps": None, "epochs": None}
        found: tuple[Run, float] = self._once(f"train {json.dumps(dumped)} {_shape(recipe)}", made)
        return found

    def _test(self, stage: Stage, recipe: Recipe) -> float | None:
        source = self._folder.stages.get(str(stage.settings))
        model: Reconstruction | None
        if source is not None and isinstance(source.settings, Training):
            model = self._training(source.settings, self._recipe(source.needs[0]))[0].model.eval()
            kind = source.settings.model_dump_json(include={"model"})
        else:
            kind = str(stage.settings)
            model = named_baseline(kind)
            kind = kind if kind.startswith("cg-sense") else kind.partition(":")[0]  # others take no longer for it
        if model is None:
            return None  # a plan does not run a user's file
        tested = model

        def made() -> float:
            pairs = self._corpus(recipe, TESTED)

            def step() -> None:
                for batch, images in reconstructions(tested, pairs, TESTED, self._device):
                    rows_of(batch, images, pairs)

            return seconds_of(step) / len(pairs)

        return float(self._once(f"test {kind} {_shape(recipe)}", made))


def _kind(recipe: Recipe) -> str:
    """What sets the time of a recipe's pairs."""
    target, sampling = {"matrix", "readout_oversampling", "lesions"}, {"kind", "acceleration"}
    return recipe.model_dump_json(
        include={"source": {"kind"}, "target": target, "coils": True, "sampling": sampling, "kspace": True}
    )


def _shape(recipe: Recipe) -> str:
    """What sets the time of a step, and of a test: no more, since a paper's study has dozens of recipes."""
    target, coils = {"matrix", "readout_oversampling"}, {"count", "espirit_sets", "estimated"}
    return recipe.model_dump_json(
        include={"source": {"kind"}, "target": target, "coils": coils, "sampling": {"kind"}, "kspace": True}
    )


def _readable(recipe: Recipe) -> Plan:
    """A recipe's plan; where its pictures are not there, with the photographs of scikit-image in their place."""
    try:
        plan = Plan.of(recipe)
        if plan.recipe.of_scans:
            return plan
        plan.photo(0)
    except (FathomError, OSError):
        if not isinstance(recipe.source, ImagesSpec):
            raise
        return Plan.of(recipe.model_copy(update={"source": ImagesSpec(kind="skimage")}))
    return plan


def _pair(recipe: Recipe) -> tuple[Plan, float, float]:
    """The plan, and the seconds of a pair with its maps and of one whose maps are there."""
    plan = _readable(recipe)
    times = []
    for _ in range(2):
        started = time.perf_counter()
        plan.pair(0)
        times.append(time.perf_counter() - started)
    return plan, times[0], times[1]
