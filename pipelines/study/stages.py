"""The stages of a study: what is built, trained and tested, each under a hash of what it depends on."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from recon.evaluation.disturbed import UNDISTURBED, Disturbance
from recon.evaluation.rows import same_but_for_lesions
from recon.training.settings import Training, load_training
from synth.errors import SettingsError
from synth.recipe import Recipe, load_recipe
from synth.settings.toml import within

from ..models.named_models import identity_of
from ..ready.names import named_recipe, named_training, ready_networks
from .settings import CorpusSpec, ScaleSpec, Study, TrainingSpec

METRICS_VERSION = "4"  # raise it when the numbers in rows change: tests are made again, networks are not
NOISE_VERSION = "2"  # the same for the numbers from replicas of noise


@dataclass(frozen=True)
class Stage:
    """One thing to make: a corpus, a trained model, or the rows of a model on a corpus."""

    kind: Literal["build", "train", "test"]
    name: str
    key: str
    needs: tuple[str, ...]  # names of stages
    settings: Recipe | Training | str  # of a test: the name of the baseline, training stage or file of code
    model: str = ""  # of a training and a test, as the study names it
    seed: str = ""  # of a training, and of a test of a trained model
    corpus: str = ""  # of a test
    without: str = ""  # of a test: the stage of the same corpus without lesions
    replicas: int = 0  # of a test
    disturbance: Disturbance = UNDISTURBED  # of a test
    noise_map: int = 0  # of a test

    @property
    def folder(self) -> str:
        """Where it lies in the study's folder."""
        folder = {"build": "corpora", "train": "trainings", "test": "tests"}[self.kind]
        ending = ".zarr" if self.kind == "build" else ""
        return f"{folder}/{self.name.partition('/')[2].replace('/', '_').replace(':', '_')}-{self.key[:10]}{ending}"


def stages_of(study: Study, scale: str, own: Mapping[str, str] | None = None) -> dict[str, Stage]:
    """All stages by name, each after what it needs; raises SettingsError if a scale, recipe or training is missing.

    `own` are models of a user's own by their labels (`recon.training.own_model`), which are tested beside the study's.
    """
    own = own or {}
    if taken := own.keys() & {*study.tests.models}:
        raise SettingsError(f"{study.name} has a model '{min(taken)}' itself; give yours another label")
    if scale not in study.scales:
        raise SettingsError(f"{study.name} has no scale '{scale}'; it has {', '.join(study.scales)}")
    how = study.scales[scale]
    stages: dict[str, Stage] = {}
    for name, spec in study.corpora.items():
        with within(f"corpora.{name}"):
            recipe = load_recipe(named_recipe(spec.recipe), [*spec.set, *how.recipes])
        key = _hash(recipe.hash(), str(recipe.source.path))
        stages[f"build/{name}"] = Stage("build", f"build/{name}", key, (), recipe)
    waiting = dict(study.trainings)
    while waiting:
        name = next(n for n, t in waiting.items() if t.start not in waiting)  # there is one: no circle
        _add_training(stages, name, waiting.pop(name), how)
    for tested_on in how.tested_on or study.tests.corpora:
        corpus = study.corpora[tested_on]
        _same_pairs(stages, tested_on, corpus)
        if how.noise_map is not None and corpus.noise_map > how.noise_map:
            corpus = corpus.model_copy(update={"noise_map": how.noise_map})
        for model in study.tests.models:
            trained = [n for n, s in stages.items() if s.kind == "train" and s.model == model]
            for source in trained or [model]:
                _add_test(stages, model, source, tested_on, corpus)
        for label, name in own.items():
            _add_test(stages, label, name, tested_on, corpus)
    needed = {need for stage in stages.values() for need in stage.needs}
    return {name: stage for name, stage in stages.items() if stage.kind != "build" or name in needed}


def _same_pairs(stages: dict[str, Stage], corpus: str, spec: CorpusSpec) -> None:
    if spec.without is None:
        return
    recipe, bare = (stages[f"build/{name}"].settings for name in (corpus, spec.without))
    assert isinstance(recipe, Recipe)
    assert isinstance(bare, Recipe)
    try:
        same_but_for_lesions(recipe, bare)
    except ValueError as error:
        raise SettingsError(f"corpora.{corpus}.without = '{spec.without}': {error}") from None


def _add_test(stages: dict[str, Stage], model: str, source: str, corpus: str, spec: CorpusSpec) -> None:
    without = "" if spec.without is None else f"build/{spec.without}"
    trained = source in stages
    needs = (f"build/{corpus}", *([source] if trained else []), *([without] if without else []))
    seed = stages[source].seed if trained else ""
    name = f"test/{model}{'/' + seed if seed else ''}/on/{corpus}"
    replicas = f"{spec.replicas}, {NOISE_VERSION}" if spec.replicas else "0"
    what = source if trained else identity_of(source)
    wrong = [] if spec.disturbance == UNDISTURBED else [spec.disturbance.model_dump_json()]
    maps = [f"noise map {spec.noise_map}"] if spec.noise_map else []
    key = _hash(METRICS_VERSION, what, replicas, *(stages[n].key for n in needs), *wrong, *maps)
    how = (seed, corpus, without, spec.replicas, spec.disturbance, spec.noise_map)
    stages[name] = Stage("test", name, key, needs, source, model, *how)


def _add_training(stages: dict[str, Stage], name: str, spec: TrainingSpec, how: ScaleSpec) -> None:
    trained = any(stage.kind == "train" and stage.model == spec.start for stage in stages.values())
    for seed in spec.seeds[: how.seeds]:
        needs = [f"build/{corpus}" for corpus in spec.corpora]
        if trained:
            started = f"train/{spec.start}/{seed}"
            if started not in stages:
                raise SettingsError(f"trainings.{name}: {spec.start}, which it starts from, has no seed {seed}; add it")
            needs.append(started)
        with within(f"trainings.{name}"):
            settings = _settings_of(spec, [*spec.set, *how.trainings, f"seed={seed}"])
        fixed = settings.model_dump_json(exclude={"data": True, "start": True, "training": {"checkpoint_seconds"}})
        begun = [identity_of(spec.start)] if spec.start and not trained else []
        if begun:
            settings = settings.model_copy(update={"start": str(ready_networks()[str(spec.start)])})
        key = _hash(fixed, *settings.revisions, *(stages[n].key for n in needs), *begun)
        stage = f"train/{name}/{seed}"
        stages[stage] = Stage("train", stage, key, tuple(needs), settings, name, str(seed))


def _settings_of(spec: TrainingSpec, changes: list[str]) -> Training:
    """A training's settings, without what a study gives itself; raises SettingsError."""
    settings = load_training(named_training(spec.training), changes)
    if settings.model is None:
        raise SettingsError("a study's training needs [model]; describe the network there")
    more = settings.data.validation or settings.data.redraw
    if settings.start or more or any(change.startswith("data.") for change in changes):
        raise SettingsError(
            "a study gives data and start itself, and uses no validation and no redraw; take data, start, "
            "data.validation and data.redraw out of the training and its changes"
        )
    return settings


def _hash(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def with_needs(stages: dict[str, Stage], pattern: str | None) -> dict[str, Stage]:
    """The stages whose names match a pattern, and all that they need; raises SettingsError if no name matches."""
    if pattern is None:
        return stages
    wanted = {name for name in stages if fnmatch.fnmatchcase(name, pattern)}
    if not wanted:
        raise SettingsError(f"--only {pattern}: no stage has such a name; --plan shows the names")
    waiting = list(wanted)
    while waiting:
        needs = [n for n in stages[waiting.pop()].needs if n not in wanted]
        wanted |= set(needs)
        waiting += needs
    return {name: stage for name, stage in stages.items() if name in wanted}
