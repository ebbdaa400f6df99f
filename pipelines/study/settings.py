"""A study as data: corpora, trainings, tests, and what is expected."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from recon.evaluation.disturbed import UNDISTURBED, Disturbance
from recon.evaluation.rows import METRICS
from recon.models.catalogue import named_baseline
from synth.errors import SettingsError
from synth.settings.nearest import nearest
from synth.settings.spec import Spec
from synth.settings.toml import parse_settings, read_toml

from ..ready.names import named_study, ready_networks

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,59}$")]


def _known_metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"unknown metric '{name}'; the metrics are {', '.join(METRICS)}")
    return name


Metric = Annotated[str, AfterValidator(_known_metric)]
Changes = tuple[str, ...]  # section.key=value, as after --set


class CorpusSpec(Spec):
    """A recipe, by the name of a ready one or by its path, with changes."""

    recipe: str = Field(description="name of a ready recipe, or path of a recipe")
    set: Changes = Field(default=(), description="changes to the recipe, as after --set")
    without: Name | None = Field(default=None, description="a corpus of the same recipe but for target.lesions")
    replicas: int = Field(default=0, ge=0, le=10_000, description="of noise, in tests on the corpus; 0, or at least 2")
    noise_map: int = Field(
        default=0, ge=0, le=10_000, description="probes of noise maps, in tests on the corpus; 0, or at least 4"
    )
    disturbance: Disturbance = Field(default=UNDISTURBED, description="of the maps that models are given in tests")

    @field_validator("replicas")
    @classmethod
    def _enough(cls, replicas: int) -> int:
        if replicas == 1:
            raise ValueError("one replica has no spread; write 0, or at least 2")
        return replicas

    @field_validator("noise_map")
    @classmethod
    def _probed(cls, probes: int) -> int:
        if 0 < probes < 4:
            raise ValueError(f"noise maps need at least 4 probes, got {probes}; write 0, or 72")
        return probes


class TrainingSpec(Spec):
    """A training, by the name of a ready one or by its path, on corpora of the study.

    `start` names another training of the study, where each seed starts from the weights of the same seed; or a network
    of the package, from which all seeds start.
    """

    training: str = Field(description="name of a ready training, or path of one")
    corpora: tuple[str, ...] = Field(min_length=1, description="corpora of this study to train on")
    start: str | None = Field(
        default=None, description="training of this study to start from, seed by seed, or a network of the package"
    )
    seeds: tuple[int, ...] = Field(default=(1,), min_length=1, description="one network is trained for each")
    set: Changes = Field(default=(), description="changes to the training, as after --set")


class TestsSpec(Spec):
    """Every model (a training of the study, or a baseline such as ``cg-sense:8``) on every corpus."""

    models: tuple[str, ...] = Field(
        min_length=1, description="trainings of this study, networks of the package, and baselines such as 'cg-sense:8'"
    )
    corpora: tuple[str, ...] = Field(min_length=1, description="corpora of this study to test on")


class ExpectedSpec(Spec):
    """`model` minus `other` on a corpus: its mean in `metric` should lie between `least` and `most`."""

    finding: str = Field(description="what is expected, in a sentence, which the report shows")
    model: str = Field(description="the model whose metric is taken")
    other: str = Field(description="the model whose metric is subtracted")
    corpus: str = Field(description="the corpus on which both are tested")
    other_corpus: str | None = Field(default=None, description="of `other`, if it is another corpus of the same pairs")
    metric: Metric = Field(default="ssim_windowed_slice_range", description="name of the metric")
    least: float | None = Field(default=None, description="lower bound of the mean difference")
    most: float | None = Field(default=None, description="upper bound of the mean difference")

    @model_validator(mode="after")
    def _bounded(self) -> ExpectedSpec:
        if self.least is None and self.most is None:
            raise ValueError("give least, most, or both")
        return self


class CellSpec(Spec):
    """A number of a paper's table, and the model and corpus of ours."""

    experiment: str = Field(description="what the paper calls this number")
    model: str = Field(description="our model")
    on: str = Field(description="our corpus")
    paper: float | None = Field(default=None, description="the paper's number, if it states one")


class TableSpec(Spec):
    """A table of a paper, whose numbers stand beside ours."""

    title: str = Field(description="of the table, in the report")
    metric: Metric = Field(default="ssim_windowed_slice_range", description="name of the metric")
    cells: tuple[CellSpec, ...] = Field(min_length=1, description="the numbers of the table")


class FigureSpec(Spec):
    """A figure per corpus: models side by side on the first model's median pair, errors against the g-factor, or a
    lesion as it was and as it came back.
    """

    title: str = Field(description="of the figure, in the report")
    kind: Literal["images", "conditioning", "lesions"] = Field(
        default="images",
        description="images: models side by side; conditioning: errors over the g-factor; lesions: one before and "
        "after reconstruction",
    )
    models: tuple[str, ...] = Field(min_length=1, description="models to show; the first decides which pair is shown")
    corpora: tuple[str, ...] = Field(min_length=1, description="a figure is drawn for each")


class MeasureSpec(Spec):
    """A line of the card of each model: the mean of a metric on a corpus, or its change from another corpus.

    The first measure of a study ranks the models.
    """

    name: Name = Field(description="of the measure, in referee.json")
    says: str = Field(description="what the measure says, in words of the card")
    corpus: str = Field(description="the corpus on which the models are tested")
    metric: Metric = Field(description="name of the metric, whose mean is the measure")
    minus: str | None = Field(default=None, description="of the same pairs, for a change from this corpus")
    part: Literal["keeps", "invents", "snr", "breaks"] = Field(
        description="section of the card: what a model keeps, what it invents, other SNRs, or where it breaks"
    )
    better: Literal["more", "less"] | None = Field(
        default=None, description="which direction is better, where the metric itself does not say it"
    )


class ScaleSpec(Spec):
    """Changes to every recipe and every training at one scale."""

    recipes: Changes = Field(default=(), description="changes to every recipe, as after --set")
    trainings: Changes = Field(default=(), description="changes to every training, as after --set")
    seeds: int | None = Field(default=None, ge=1, description="at most so many seeds of each training")
    noise_map: int | None = Field(default=None, ge=4, description="at most so many probes of noise maps")
    tested_on: tuple[str, ...] = Field(default=(), description="test on these corpora only")


class Study(Spec):
    """A whole study."""

    name: Name = Field(description="the study's name")
    question: str = Field(description="what the study asks; the report begins with it")
    scales: dict[Literal["smoke", "laptop", "gpu", "paper"], ScaleSpec] = Field(
        description="smoke, laptop, gpu, paper: what is changed at each scale"
    )
    corpora: dict[Name, CorpusSpec] = Field(description="the corpora, by their names in this study")
    trainings: dict[Name, TrainingSpec] = Field(
        default_factory=dict, description="the networks, by their names in this study"
    )
    tests: TestsSpec = Field(description="which models are tested on which corpora")
    expected: tuple[ExpectedSpec, ...] = Field(
        default=(), description="what you expect of the results, before you see them"
    )
    tables: tuple[TableSpec, ...] = Field(default=(), description="tables of a paper, whose numbers stand beside ours")
    figures: tuple[FigureSpec, ...] = Field(default=(), description="pictures of the report")
    measures: tuple[MeasureSpec, ...] = Field(default=(), description="of the card of each model; then there is a page")

    @model_validator(mode="after")
    def _names_exist(self) -> Study:
        for name, corpus in self.corpora.items():
            if corpus.without is not None:
                self._known(f"corpora.{name}.without", [corpus.without], self.corpora)
        for name, training in self.trainings.items():
            self._known(f"trainings.{name}.corpora", training.corpora, self.corpora)
            if training.start is not None:
                self._known(f"trainings.{name}.start", [training.start], [*self.trainings, *ready_networks()])
                self._no_cycle(name)
        self._known("tests.corpora", self.tests.corpora, self.corpora)
        trained = [name for name in self.tests.models if named_baseline(name) is None]
        self._known("tests.models", trained, [*self.trainings, *ready_networks()], "baselines such as cg-sense:10")
        for scale, how in self.scales.items():
            self._known(f"scales.{scale}.tested_on", how.tested_on, self.tests.corpora)
        for k, expected in enumerate(self.expected):
            self._known(f"expected[{k}].model", [expected.model], self.tests.models)
            self._known(f"expected[{k}].other", [expected.other], self.tests.models)
            corpora = [expected.corpus, expected.other_corpus or expected.corpus]
            self._known(f"expected[{k}].corpus", corpora, self.tests.corpora)
        for k, table in enumerate(self.tables):
            self._known(f"tables[{k}].cells", [cell.model for cell in table.cells], self.tests.models)
            self._known(f"tables[{k}].cells", [cell.on for cell in table.cells], self.tests.corpora)
        for measure in self.measures:
            self._known(
                f"measures.{measure.name}", [measure.corpus, measure.minus or measure.corpus], self.tests.corpora
            )
        for k, figure in enumerate(self.figures):
            self._known(f"figures[{k}].models", figure.models, self.tests.models)
            self._known(f"figures[{k}].corpora", figure.corpora, self.tests.corpora)
            bare = [c for c in figure.corpora if figure.kind == "lesions" and self.corpora[c].without is None]
            if bare:
                raise ValueError(f"figures[{k}].corpora: {bare[0]} has no lesions; a figure of lesions needs `without`")
        return self

    @staticmethod
    def _known(where: str, names: Sequence[str], there: Any, *others: str) -> None:
        for name in names:
            if name not in there:
                meant = f"; did you mean '{near}'? This" if (near := nearest(name, there)) else "; this"
                has = ", ".join([*there, *others]) or "none"
                raise ValueError(f"{where}: there is no '{name}'{meant} study has {has}")

    def _no_cycle(self, name: str) -> None:
        seen, at = [name], self.trainings[name].start
        while at is not None:
            if at in seen:
                raise ValueError(f"trainings.{name}.start: {' <- '.join([*seen, at])} is a circle")
            seen.append(at)
            at = self.trainings[at].start if at in self.trainings else None  # a network of the package ends it


def load_study(path: Path) -> Study:
    """Read a study; raises SettingsError.

    A study that names a `base`, by the name of a ready study or by a path, takes from that study everything that it
    does not give itself. It replaces single corpora and trainings by their names, and any other key as a whole.
    """
    data, text = read_toml(path, "study")
    if "base" in data:
        base = read_toml(named_study(str(data.pop("base"))), "study")[0]
        if "base" in base:
            raise SettingsError(f"{path}: base names a study that has a base itself; name that base instead")
        for name in ("corpora", "trainings"):
            if isinstance(data.get(name, {}), dict) and isinstance(base.get(name, {}), dict):
                data[name] = {**base.get(name, {}), **data.get(name, {})}
        data = {**base, **data}
    return parse_settings(Study, data, str(path), text)
