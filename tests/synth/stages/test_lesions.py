import numpy as np
import pytest
from conftest import recipe_data

from synth.errors import RecipeError, SourceRejectedError
from synth.pair import pair_from_image
from synth.physics import sense_forward
from synth.recipe import parse_recipe
from synth.sources.photos import read_photo
from synth.stages.coil_cache import map_cache
from synth.stages.lesions import LesionsSpec, disc
from synth.stages.object_mask import mean_of_object


@pytest.mark.parametrize("diameter", [2, 4.5, 9])
def test_a_disc_has_the_area_of_one(diameter):
    assert disc((31, 33), (15, 16), diameter).sum() == pytest.approx(np.pi * diameter**2 / 4, rel=0.1)


def test_lesions_add_their_contrast_of_the_mean_and_stay_apart(rng):
    image = np.zeros((60, 80), np.float32)
    image[10:50, 10:70] = 0.5
    image[30, 40] = 1.0
    changed, numbers = LesionsSpec(count=3, diameter=5, contrast=0.4).insert(image, rng)
    added = changed - image
    assert numbers["lesion_count"] == 3
    assert added.max() == pytest.approx(0.4 * mean_of_object(image)) == pytest.approx(numbers["lesion_height"])
    assert added.sum() == pytest.approx(3 * disc((60, 80), (30, 40), 5).sum() * added.max(), rel=1e-5)
    assert (added[image == 0] == 0).mean() > 0.99


def test_dark_lesions_do_not_go_below_zero(rng):
    image = np.linspace(0, 1, 1600, dtype=np.float32).reshape(40, 40)
    changed, _ = LesionsSpec(count=2, contrast=-1.0).insert(image, rng)
    assert changed.min() == 0
    assert (changed <= image).all()
    assert (changed < image).any()


def test_as_many_as_have_room(rng):
    image = np.ones((40, 40), np.float32)
    _, numbers = LesionsSpec(count=100, diameter=6).insert(image, rng)
    assert 1 <= numbers["lesion_count"] < 10
    with pytest.raises(SourceRejectedError, match="has room"):
        LesionsSpec(diameter=30).insert(image, rng)


def test_pairs_with_and_without_have_the_same_noise(photos):
    target = {"reference": "clean"}
    plain = parse_recipe(recipe_data(photos, target=target), "plain")
    lesions = parse_recipe(recipe_data(photos, target={**target, "lesions": {"diameter": 4, "contrast": 0.3}}), "with")
    photo = read_photo(photos / "photo2.png")
    one, other = (pair_from_image(recipe, photo, 2) for recipe in (plain, lesions))
    maps = map_cache.get(plain.coils, plain.seed, one.maps_index, (48, 56))
    assert other.numbers["sigma"] == one.numbers["sigma"]
    noise = [pair.kspace - pair.mask.pack(sense_forward(pair.target, maps, pair.mask.sampled)) for pair in (one, other)]
    np.testing.assert_allclose(noise[0], noise[1], atol=2e-5)
    added = np.abs(other.target - one.target)
    assert added.max() == pytest.approx(other.numbers["lesion_height"], rel=1e-4)
    assert (added < 1e-6).mean() > 0.9
    np.testing.assert_array_equal(one.mask.sampled, other.mask.sampled)


def test_lesions_are_for_photographs(photos, tmp_path):
    scans = {"kind": "scans", "path": str(tmp_path)}
    data = recipe_data(photos, source=scans, coils={"kind": "espirit"}, target={"fit": "crop", "lesions": {}})
    with pytest.raises(RecipeError, match="photographs and volumes"):
        parse_recipe(data, "scans")
    with pytest.raises(RecipeError, match="must not be 0"):
        parse_recipe(recipe_data(photos, target={"lesions": {"contrast": 0}}), "none")
