"""What `fathom train` tells before and instead of a training."""

import json

import pytest
from commands import refused, run
from conftest import recipe_data, write_photos
from trainings import written

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from synth.recipe import parse_recipe


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    """A corpus of other photographs."""
    folder = tmp_path_factory.mktemp("unseen")
    data = recipe_data(write_photos(folder / "photos", 3, first=50), pairs=3)
    build(parse_recipe(data, "t"), folder / "unseen.zarr", ClusterSpec("sync"))
    return folder / "unseen.zarr"


def train(file, out, *more):
    return run("train", file, "--out", out, "--device", "cpu", *more)


def test_a_validation_that_shares_sources_is_told(corpus, other_corpus, unseen, tmp_path):
    """Of the same corpus, and of another of the same photographs; none of others."""
    file = written(tmp_path, corpus, "steps = 1")
    for number, validation in enumerate((corpus, other_corpus, unseen)):
        made = train(file, tmp_path / str(number), "--set", f'data.validation=["{validation}"]')
        assert made.exit_code == 0, made.output
        told = f"note: leakage: 6 of the 6 sources of {validation} in data.validation are in data.corpora, too, such as"
        assert (told in made.stderr) == (validation != unseen)
        assert ("leakage" in made.stderr) == (validation != unseen)


def test_another_training_is_told_with_its_corpora(corpus, other_corpus, unseen, tmp_path):
    """They are named only where they are others: not where settings alone differ, nor where a corpus was moved."""
    file, out = written(tmp_path, corpus, "steps = 2"), tmp_path / "t"
    longer = ("--set", "training.steps=4", "--set", "data.validation=[]")
    assert train(file, out, "--set", "data.validation=[]").exit_code == 0
    told = "differs in training.steps, data.corpora; choose another --out"
    refused(train(file, out, *longer, "--set", f'data.corpora=["{unseen}"]'), told)
    refused(train(file, out, *longer[2:], "--set", f'data.corpora=["{unseen}"]'), "differs in data.corpora; choose")
    (tmp_path / "moved.zarr").symlink_to(corpus)
    moved = (*longer[2:], "--set", f'data.corpora=["{tmp_path / "moved.zarr"}"]')
    refused(train(file, out, *moved, "--set", "seed=6"), "differs in seed; choose")
    settings = json.loads((out / "settings.json").read_text())
    (out / "settings.json").write_text(json.dumps({**settings, "settings": {**settings["settings"], "old": 1}}))
    refused(train(file, out, *moved, "--set", "seed=6"), "differs in old, seed; choose")


def test_the_settings_that_differ_from_those_of_the_starting_network_are_named(corpus, tmp_path):
    file, out = written(tmp_path, corpus, "steps = 1"), tmp_path / "t"
    assert train(file, out).exit_code == 0
    begin = (tmp_path / "u", "--start", out)
    told = "holds a network of other settings: model.filters is 3 there and 4 here, model.stages is 2 there and 1 here;"
    refused(train(file, *begin, "--set", "model.filters=4", "--set", "model.stages=1"), told)
    other = ("--set", 'model={kind="denoiser", channels=8, levels=2}')
    refused(train(file, *begin, *other), 'model.kind is "variational" there and "denoiser" here; give [model]')
