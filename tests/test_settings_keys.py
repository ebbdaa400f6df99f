"""Every key of a recipe, a training and a study says what it is; the reference and the JSON schema are made of that."""

from typing import Literal

import pytest
from pydantic import BaseModel, Field
from settings_keys import keys_of, sections_of

from pipelines.study.settings import Study
from recon.training.settings import Training
from synth.recipe import Recipe

KEYS = [(root, *key) for root in (Recipe, Training, Study) for key in keys_of(root)]


def test_the_walk_finds_every_kind_of_section():
    names = {name for root in (Recipe, Training, Study) for name, _ in sections_of(root)}
    assert {"[source]", "[target]", "[target.lesions]", "[model]", "[training]", "[corpora.NAME]"} <= names
    assert {"[[expected]]", "[[tables.cells]]", "[corpora.NAME.disturbance]"} <= names
    kinds = [model.__name__ for name, model in sections_of(Recipe) if name == "[sampling]"]
    assert len(kinds) == 8
    assert len(KEYS) >= 230


@pytest.mark.parametrize("root", [Recipe, Training, Study], ids=lambda root: root.__name__)
def test_every_key_is_described(root):
    bare = [f"{model.__name__}.{key}" for model, key, field in keys_of(root) if not (field.description or "").strip()]
    assert bare == []


def test_a_key_without_a_description_is_found():
    class Part(BaseModel):
        kind: Literal["part"] = Field(default="part", description="a part")
        silent: int = 0

    class Whole(BaseModel):
        parts: dict[str, Part] = Field(description="parts")

    assert [key for _, key, field in keys_of(Whole) if not field.description] == ["silent"]


def test_descriptions_are_short_and_one_style():
    for _, model, key, field in KEYS:
        said = field.description
        assert len(said) <= 230, (model, key)
        assert not said.endswith("."), (model, key)
        assert said not in (key, key.replace("_", " ")), (model, key)


def test_the_recipe_hides_no_key_from_the_schema():
    shown = Recipe.model_json_schema()
    for model, key, field in keys_of(Recipe):
        properties = shown["properties"] if model is Recipe else shown["$defs"][model.__name__]["properties"]
        assert properties[key]["description"] == field.description
