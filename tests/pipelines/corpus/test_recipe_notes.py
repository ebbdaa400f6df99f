"""Values that look like ones of another unit, and coils that cannot separate the aliases, are told."""

import pytest

from pipelines.corpus.recipe_notes import recipe_notes
from pipelines.ready.names import RECIPES
from synth.recipe import load_recipe


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("coils.distance=120", "coils.distance reaches 120 half diagonals"),  # mm
        ("phase={kind='sinusoidal', amplitude=[0, 180]}", "phase.amplitude reaches 180 rad"),  # degrees
        ("noise.snr=0.02", "noise.snr goes down to 0.02: more noise than signal"),
        ("noise={kind='none', snr=[5, 20]}", "noise.snr has no effect with noise.kind = 'none'"),
        ("sampling.acceleration=12", "8 coils cannot separate the aliases of acceleration 12"),
        ("sampling.acceleration=8", "8 coils can hardly separate the aliases of acceleration 8"),
        ("sampling={kind='regular-2d', acceleration=[3, 4]}", "8 coils cannot separate the aliases of acceleration 12"),
    ],
)
def test_what_is_not_meant_is_told(change, told):
    (note,) = recipe_notes(load_recipe(RECIPES / "laptop.toml", ["coils.count=8", change]))
    assert note.startswith(told)


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.toml")), ids=lambda file: file.stem)
def test_ready_recipes_ask_for_what_is_usual(file):
    assert recipe_notes(load_recipe(file)) == []


def test_what_pairs_from_scans_do_not_use_is_told():
    changes = ["target.contrast=inverted", "target.outline=head", "phase.kind=sinusoidal"]
    notes = recipe_notes(load_recipe(RECIPES / "knoll2019-knees.toml", changes))
    assert "target.contrast, target.outline, [phase] have no effect on pairs from scans" in notes
    changes = ["target.fit=native", "target.matrix=[64, 64]"]
    assert "target.matrix has no effect on pairs from scans" in recipe_notes(
        load_recipe(RECIPES / "knoll2019-knees.toml", changes)
    )
