"""A study as data: corpora, trainings, tests, and what is expected; resolved into stages, cached by what they are.

A stage's key is a hash of its settings and of the keys of what it needs, and its folder carries it: a study that was
stopped goes on, one that was changed makes anew only what the change touches.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from recon.evaluation.rows import METRICS, same_but_for_lesions
from recon.models.catalogue import named_baseline
from recon.training.settings import Training
from synth.errors import SettingsError
from synth.recipe import Recipe, load_recipe
from synth.settings.spec import Spec
from synth.settings.toml import load_settings, parse_settings, read_toml, within

from .names import named_recipe, named_study, named_training

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,59}$")]


def _known_metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"unknown metric '{name}'; there are {', '.join(METRICS)}")
    return name


METRICS_VERSION = "2"  # raise it where rows hold other numbers: tests are made again, networks are not
NOISE_VERSION = "2"  # the same, of what replicas of noise tell
Metric = Annotated[str, AfterValidator(_known_metric)]
Changes = tuple[str, ...]  # section.key=value, as after --set


class CorpusSpec(Spec):
    """A recipe, ready or by its path, with changes."""

    recipe: str
    set: Changes = ()
    without: Name | None = Field(default=None, description="a corpus that is the same but for target.lesions")
    replicas: int = Field(default=0, ge=0, le=10_000, description="of noise, when models are tested on it; 0 or from 2")

    @field_validator("replicas")
    @classmethod
    def _enough(cls, replicas: int) -> int:
        if replicas == 1:
            raise ValueError("one replica has no spread; write 0, or 2 and more")
        return replicas


class TrainingSpec(Spec):
    """A training, ready or by its path, on corpora of the study; `start` is another training of it, seed by seed."""

    training: str
    corpora: tuple[str, ...] = Field(min_length=1)
    start: str | None = None
    seeds: tuple[int, ...] = Field(default=(1,), min_length=1)
    set: Changes = ()


class TestsSpec(Spec):
    """Every model (a training of the study, or a baseline such as ``cg-sense:8``) on every corpus."""

    models: tuple[str, ...] = Field(min_length=1)
    corpora: tuple[str, ...] = Field(min_length=1)


class ExpectedSpec(Spec):
    """`model` minus `other` on a corpus: its mean in `metric` should lie between `least` and `most`."""

    finding: str
    model: str
    other: str
    corpus: str
    other_corpus: str | None = Field(default=None, description="of `other`, where it is another with the same pairs")
    metric: Metric = "ssim_windowed_slice_range"
    least: float | None = None
    most: float | None = None

    @model_validator(mode="after")
    def _bounded(self) -> ExpectedSpec:
        if self.least is None and self.most is None:
            raise ValueError("give least, most, or both")
        return self


class CellSpec(Spec):
    """A number of a paper's table, and where ours is."""

    experiment: str
    model: str
    on: str
    paper: float | None = Field(default=None, description="where it states one")


class TableSpec(Spec):
    """A table of a paper, whose numbers stand beside ours."""

    title: str
    metric: Metric = "ssim_windowed_slice_range"
    cells: tuple[CellSpec, ...] = Field(min_length=1)


class FigureSpec(Spec):
    """Models side by side on each corpus's pair that is the first one's median; or errors against the g-factor."""

    title: str
    kind: Literal["images", "conditioning"] = "images"
    models: tuple[str, ...] = Field(min_length=1)
    corpora: tuple[str, ...] = Field(min_length=1)


class ScaleSpec(Spec):
    """Changes to every recipe and every training at one scale."""

    recipes: Changes = ()
    trainings: Changes = ()
    seeds: int | None = Field(default=None, ge=1, description="at most so many seeds of each training")
    tested_on: tuple[str, ...] = Field(default=(), description="these of the tests' corpora alone")


class Study(Spec):
    """A whole study."""

    name: Name
    question: str
    scales: dict[Literal["smoke", "laptop", "gpu", "paper"], ScaleSpec]
    corpora: dict[Name, CorpusSpec]
    trainings: dict[Name, TrainingSpec] = Field(default_factory=dict)
    tests: TestsSpec
    expected: tuple[ExpectedSpec, ...] = ()
    tables: tuple[TableSpec, ...] = ()
    figures: tuple[FigureSpec, ...] = ()

    @model_validator(mode="after")
    def _names_exist(self) -> Study:
        for name, corpus in self.corpora.items():
            if corpus.without is not None:
                self._known(f"corpora.{name}.without", [corpus.without], self.corpora)
        for name, training in self.trainings.items():
            self._known(f"trainings.{name}.corpora", training.corpora, self.corpora)
            if training.start is not None:
                self._known(f"trainings.{name}.start", [training.start], self.trainings)
                self._no_cycle(name)
        self._known("tests.corpora", self.tests.corpora, self.corpora)
        trained = [name for name in self.tests.models if named_baseline(name) is None]
        self._known("tests.models", trained, self.trainings)
        for scale, how in self.scales.items():
            self._known(f"scales.{scale}.tested_on", how.tested_on, self.tests.corpora)
        for k, expected in enumerate(self.expected):
            self._known(f"expected[{k}]", [expected.model, expected.other], self.tests.models)
            corpora = [expected.corpus, expected.other_corpus or expected.corpus]
            self._known(f"expected[{k}].corpus", corpora, self.tests.corpora)
        for k, table in enumerate(self.tables):
            self._known(f"tables[{k}].cells", [cell.model for cell in table.cells], self.tests.models)
            self._known(f"tables[{k}].cells", [cell.on for cell in table.cells], self.tests.corpora)
        for k, figure in enumerate(self.figures):
            self._known(f"figures[{k}].models", figure.models, self.tests.models)
            self._known(f"figures[{k}].corpora", figure.corpora, self.tests.corpora)
        return self

    @staticmethod
    def _known(where: str, names: Sequence[str], there: Any) -> None:
        for name in names:
            if name not in there:
                raise ValueError(f"{where}: there is no '{name}'; this study has {', '.join(there) or 'none'}")

    def _no_cycle(self, name: str) -> None:
        seen, at = [name], self.trainings[name].start
        while at is not None:
            if at in seen:
                raise ValueError(f"trainings.{name}.start: {' <- '.join([*seen, at])} is a circle")
            seen.append(at)
            at = self.trainings[at].start if at in self.trainings else None


@dataclass(frozen=True)
class Stage:
    """One thing to make: a corpus, a trained model, or the rows of a model on a corpus."""

    kind: Literal["build", "train", "test"]
    name: str
    key: str
    needs: tuple[str, ...]  # names of stages
    settings: Recipe | Training | str  # of a test: the baseline's or the training stage's name
    model: str = ""  # of a training and a test, as the study names it
    seed: str = ""  # of a training, and of a test of one
    corpus: str = ""  # of a test
    without: str = ""  # of a test: the stage of the same corpus without lesions
    replicas: int = 0  # of a test

    @property
    def folder(self) -> str:
        """Where it lies in the study's folder."""
        place = {"build": "corpora", "train": "trainings", "test": "tests"}[self.kind]
        ending = ".zarr" if self.kind == "build" else ""
        return f"{place}/{self.name.partition('/')[2].replace('/', '_').replace(':', '_')}-{self.key[:10]}{ending}"

    def done(self, out: Path) -> bool:
        """Whether it has been made."""
        mark = {"build": "zarr.json", "train": "model.safetensors", "test": "summary.json"}[self.kind]
        return (out / self.folder / mark).exists()


def load_study(path: Path) -> Study:
    """Read a study; raises SettingsError.

    One that names a `base`, ready or by its path, has all of that study but what it gives itself: corpora and trainings
    by their names, anything else as a whole.
    """
    data, text = read_toml(path, "study")
    if "base" in data:
        base = read_toml(named_study(str(data.pop("base"))), "study")[0]
        if "base" in base:
            raise SettingsError(f"{path}: base names a study that has a base itself; name that one")
        for name in ("corpora", "trainings"):
            if isinstance(data.get(name, {}), dict) and isinstance(base.get(name, {}), dict):
                data[name] = {**base.get(name, {}), **data.get(name, {})}
        data = {**base, **data}
    return parse_settings(Study, data, str(path), text)


def stages_of(study: Study, scale: str) -> dict[str, Stage]:
    """All stages by name, each after what it needs; raises SettingsError for a scale, recipe or training not there."""
    if scale not in study.scales:
        raise SettingsError(f"{study.name} has no scale '{scale}'; it has {', '.join(study.scales)}")
    how = study.scales[scale]
    stages: dict[str, Stage] = {}
    for name, corpus in study.corpora.items():
        with within(f"corpora.{name}"):
            recipe = load_recipe(named_recipe(corpus.recipe), [*corpus.set, *how.recipes])
        key = _hash(recipe.hash(), str(recipe.source.path))
        stages[f"build/{name}"] = Stage("build", f"build/{name}", key, (), recipe)
    waiting = dict(study.trainings)
    while waiting:
        name = next(n for n, t in waiting.items() if t.start not in waiting)  # no circle: there is one
        _add_training(stages, name, waiting.pop(name), how)
    for tested_on in how.tested_on or study.tests.corpora:
        _same_pairs(stages, tested_on, study.corpora[tested_on])
        for model in study.tests.models:
            trained = [n for n, s in stages.items() if s.kind == "train" and s.model == model]
            for source in trained or [model]:
                _add_test(stages, model, source, tested_on, study.corpora[tested_on])
    return stages


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
    key = _hash(METRICS_VERSION, source, replicas, *(stages[n].key for n in needs))
    stages[name] = Stage("test", name, key, needs, source, model, seed, corpus, without, spec.replicas)


def _add_training(stages: dict[str, Stage], name: str, spec: TrainingSpec, how: ScaleSpec) -> None:
    for seed in spec.seeds[: how.seeds]:
        needs = [f"build/{corpus}" for corpus in spec.corpora]
        if spec.start is not None:
            started = f"train/{spec.start}/{seed}"
            if started not in stages:
                raise SettingsError(f"trainings.{name}: {spec.start}, which it starts from, has no seed {seed}; add it")
            needs.append(started)
        with within(f"trainings.{name}"):
            changes = [*spec.set, *how.trainings, f"seed={seed}"]
            settings = load_settings(Training, named_training(spec.training), changes, what="training")
            if settings.start or settings.data.validation or any(change.startswith("data.") for change in changes):
                raise SettingsError("data and start are the study's to say, and it validates nothing; take them out")
        fixed = settings.model_dump_json(exclude={"data": True, "start": True, "training": {"checkpoint_seconds"}})
        key = _hash(fixed, *settings.revisions, *(stages[n].key for n in needs))
        stage = f"train/{name}/{seed}"
        stages[stage] = Stage("train", stage, key, tuple(needs), settings, name, str(seed))


def _hash(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
