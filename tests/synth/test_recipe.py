import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import recipe_data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.ready.names import RECIPES, named_recipe
from synth.errors import RecipeError
from synth.recipe import Recipe, load_recipe, parse_recipe
from synth.stages.phase import NoPhaseSpec, SinusoidalSpec

TEXT = """name = "mine"
seed = 1

[source]
kind = "skimage"

[target]
matrix = [256, 256]
fit = "resize"

[coils]
kind = "loops"
count = 4

[noise]
snr = [10, 40]

[sampling]
kind = "regular"
acceleration = 4
reference_lines = 24
"""


def refused(tmp_path, old, new, *expected):
    file = tmp_path / "mine.toml"
    file.write_text(TEXT.replace(old, new))
    with pytest.raises(RecipeError) as error:
        load_recipe(file)
    for part in expected:
        assert part in str(error.value), str(error.value)
    assert "\n" not in str(error.value)


def test_the_example_is_good(tmp_path):
    (tmp_path / "mine.toml").write_text(TEXT)
    recipe = load_recipe(tmp_path / "mine.toml")
    assert recipe.noise.snr == (10, 40)
    assert recipe.phase.kind == "sinusoidal"


def test_what_would_take_forever_or_hang_is_refused(tmp_path):
    refused(tmp_path, "seed = 1", "seed = 1\npairs = 1000000000", "pairs")
    refused(tmp_path, "count = 4", "count = 4\nsets = 100000000", "coils.sets")
    (tmp_path / "deep.toml").write_text("a = " + "[" * 5000)
    os.mkfifo(tmp_path / "pipe.toml")
    for name, message in (("deep.toml", "nested too deeply|not valid TOML"), ("pipe.toml", "not a file")):
        with pytest.raises(RecipeError, match=message):
            load_recipe(tmp_path / name)


@pytest.mark.parametrize("change", [".=1", "a..b=1", "seed=1\n[coils]\ncount = 3"])
def test_a_change_is_one_key(tmp_path, change):
    (tmp_path / "mine.toml").write_text(TEXT)
    with pytest.raises(RecipeError, match=r"write one section\.key=value"):
        load_recipe(tmp_path / "mine.toml", [change])


def test_errors_name_line_key_value_and_remedy(tmp_path):
    refused(
        tmp_path,
        "acceleration = 4",
        "acceleratoin = 4",
        "line 20",
        "sampling.acceleratoin",
        "did you mean 'acceleration'",
    )
    refused(tmp_path, "seed = 1", "sede = 1", "line 2", "sede", "did you mean 'seed'")
    refused(tmp_path, "[noise]", "[nosie]", "line 15", "nosie", "did you mean 'noise'")
    refused(tmp_path, "count = 4", 'count = "four"', "line 13", "coils.count", '"four"', "whole number")
    refused(tmp_path, "count = 4", 'count = "4"', "coils.count", "whole number")
    refused(tmp_path, "snr = [10, 40]", "snr = -3", "line 16", "noise.snr = -3", "greater than 0")
    refused(tmp_path, "snr = [10, 40]", "snr = [40, 10]", "noise.snr", "write [10, 40]")
    refused(tmp_path, "snr = [10, 40]", 'snr = "loud"', "noise.snr", "must be a number")
    refused(tmp_path, "snr = [10, 40]", "snr = inf", "noise.snr", "finite")
    refused(tmp_path, "reference_lines = 24", "reference_lines = 300", "sampling.reference_lines = 300", "256")
    refused(tmp_path, 'kind = "regular"', 'kind = "reglar"', "line 19", "sampling.kind", "'reglar'", "'regular'")
    refused(tmp_path, 'kind = "regular"\n', "", "sampling.kind", "missing")
    refused(tmp_path, 'kind = "skimage"', 'kind = "images"', "source", "needs source.path")
    refused(tmp_path, "matrix = [256, 256]", "matrix = [256]", "line 8", "target.matrix")
    refused(tmp_path, "matrix = [256, 256]", "matrix = [2, 256]", "target.matrix", "8 ... 4096")
    refused(tmp_path, 'name = "mine"', 'name = "../mine"', "name", "pattern")
    refused(tmp_path, "[coils]", "[coils", "not valid TOML", "line 11")
    refused(
        tmp_path,
        'kind = "loops"\ncount = 4',
        'kind = "library"\npath = "gone.npy"',
        "coils.path",
        "gone.npy does not exist",
    )


def test_points_refuse_an_oversampled_readout(tmp_path):
    new = 'kind = "poisson"\nacceleration = 4'
    (tmp_path / "m.toml").write_text(
        TEXT.replace('kind = "regular"\nacceleration = 4', new).replace('fit = "resize"', "readout_oversampling = 2")
    )
    with pytest.raises(RecipeError, match="second phase encoding"):
        load_recipe(tmp_path / "m.toml")


def test_an_override_in_a_section_that_the_file_leaves_out_keeps_its_default_kind(tmp_path):
    sections = (
        '[source]\nkind = "skimage"\n[target]\nmatrix = [48, 48]\n[coils]\nkind = "loops"\n[noise]\nsnr = 20\n'
        '[sampling]\nkind = "regular"\nacceleration = 2\nreference_lines = 8\n'
    )
    (tmp_path / "r.toml").write_text(f'name = "r"\npairs = 2\n{sections}')
    assert load_recipe(tmp_path / "r.toml", ["phase.amplitude=[0, 1]"]).phase == SinusoidalSpec(amplitude=(0, 1))
    assert load_recipe(tmp_path / "r.toml", ["phase.kind=none"]).phase == NoPhaseSpec()


def test_overrides(tmp_path):
    (tmp_path / "mine.toml").write_text(TEXT)
    recipe = load_recipe(
        tmp_path / "mine.toml", ["pairs=7", "noise.snr=[5, 6]", "coils.count=3", "shard_pairs=2", "target.fit=crop"]
    )
    assert (recipe.pairs, recipe.noise.snr, recipe.coils.count, recipe.shard_pairs) == (7, (5, 6), 3, 2)
    assert recipe.target.fit == "crop"
    with pytest.raises(RecipeError, match=r"^--set noise\.snr = -3: must be greater than 0"):
        load_recipe(str(tmp_path / "mine.toml"), ["noise.snr=-3"])
    for bad, message in (
        ("noise", "write section.key=value"),
        ("name.x=1", "is a value"),
        ("noise.snr=oops", "noise.snr"),
    ):
        with pytest.raises(RecipeError, match=message):
            load_recipe(tmp_path / "mine.toml", [bad])


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(RecipeError, match="does not exist"):
        load_recipe(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(bytes(range(256)))
    with pytest.raises(RecipeError, match="binary"):
        load_recipe(tmp_path / "binary.toml")
    with pytest.raises(RecipeError, match="The ready ones are demo, first, knoll2019-17"):
        named_recipe("kn2019")


def test_hash_is_of_what_pairs_depend_on(recipe, photos, tmp_path):
    same = recipe().hash()
    assert recipe(shard_pairs=5).hash() == same
    assert recipe(source={"max_rejected": 0.5}).hash() == same
    for other in ({"seed": 4}, {"pairs": 11}, {"noise": {"snr": 30}}, {"coils": {"count": 5}}):
        assert recipe(**other).hash() != same
    mask = tmp_path / "mask.npy"
    np.save(mask, np.ones(56))
    first = recipe(sampling={"kind": "file", "path": str(mask)}).hash()
    np.save(mask, np.arange(56) % 2)
    assert recipe(sampling={"kind": "file", "path": str(mask)}).hash() != first


def test_a_stored_recipe_is_the_recipe(recipe):
    for kind in ("none", "sinusoidal", "polynomial", "smooth-random", "knoll2020"):
        made = recipe(phase={"kind": kind})
        again = Recipe.model_validate_json(json.dumps(made.model_dump(mode="json")))
        assert again == made
        assert again.hash() == made.hash()


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.toml")), ids=lambda f: f.stem)
def test_ready_recipes_are_good(file):
    assert load_recipe(file).name == file.stem


def test_the_schema_file_is_current():
    stored = json.loads((Path(RECIPES) / "recipe.schema.json").read_text())
    assert stored == Recipe.model_json_schema(), "run: fathom schema > pipelines/ready/recipes/recipe.schema.json"


def test_several_matrices_make_several_buckets(photos):
    from synth.plan import Plan

    plan = Plan.of(parse_recipe(recipe_data(photos, target={"matrix": [[48, 56], [40, 40]]}, pairs=30), "t"))
    assert {b.name for b in plan.buckets} == {"c4-y48-x56", "c4-y40-x40"}
    assert sorted(i for b in plan.buckets for i in b.indices) == list(range(30))


KEYS = [
    (section, key)
    for section, keys in {
        None: ["name", "seed", "pairs", "kspace", "shard_pairs", "source", "noise"],
        "source": ["kind", "path", "max_rejected"],
        "target": ["matrix", "fit", "position", "turn", "reference", "readout_oversampling"],
        "phase": ["kind", "cycles", "amplitude"],
        "coils": ["kind", "count", "sets", "distance", "height", "jitter", "overlap"],
        "noise": ["kind", "snr", "law", "definition", "covariance"],
        "sampling": ["kind", "acceleration", "reference_lines", "offset"],
    }.items()
    for key in keys
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(KEYS), value=VALUES)
def test_any_value_anywhere_is_a_recipe_or_an_error_that_names_the_key(photos, place, value):
    section, key = place
    data = recipe_data(photos)
    (data if section is None else data[section])[key] = value
    error = ""
    try:
        parse_recipe(data, "fuzz")
    except RecipeError as refusal:
        error = str(refusal)
    assert not error or (section or key) in error


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60))
def test_any_text_is_a_recipe_or_an_error(tmp_path, text):
    (tmp_path / "any.toml").write_text(text, encoding="utf-8", errors="replace")
    with pytest.raises(RecipeError):
        load_recipe(tmp_path / "any.toml")
