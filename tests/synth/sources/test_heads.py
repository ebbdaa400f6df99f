"""Computed heads: pictures of their own, with air around a bright rim, always the same."""

import hashlib

import numpy as np
import pytest

from synth import Plan
from synth.recipe import parse_recipe
from synth.sources.heads import COUNT, computed_head, names
from synth.sources.photos import ImagesSpec, read_photo


def test_heads_have_air_a_bright_rim_and_few_grey_values():
    for name in names()[:4]:
        image, sha256 = computed_head(name)
        assert image.shape == (512, 512)
        assert image.dtype == np.float32
        assert image.min() == 0
        assert image.max() == 1
        assert 0.3 < (image == 0).mean() < 0.6  # air
        assert not image[[0, -1]].any()
        assert not image[:, [0, -1]].any()
        inside = image[image > 0.05]
        assert 0.4 < np.median(inside) < 0.9
        assert sha256 == hashlib.sha256(np.round(image * 65535).astype("<u2").tobytes()).hexdigest()


def test_each_name_is_one_head_of_its_own():
    assert len({computed_head(name)[1] for name in names()}) == COUNT == len(names())
    first, again = (computed_head(names()[5]) for _ in range(2))
    assert np.array_equal(first[0], again[0])


def test_recipes_take_heads_without_a_path():
    spec = ImagesSpec(kind="heads", part=(0.5, 1.0))
    assert spec.list_files() == names()[COUNT // 2 :]
    assert read_photo(spec.folder / names()[3]).sha256 == computed_head(names()[3])[1]
    with pytest.raises(ValueError, match="takes no path"):
        ImagesSpec(kind="heads", path="somewhere")
    data = {"name": "h", "pairs": 2, "source": {"kind": "heads"}, "target": {"matrix": [64, 64], "fit": "resize"}}
    recipe = parse_recipe({**data, "coils": {"kind": "loops", "count": 4, "sets": 1}}, "test")
    pair = Plan.of(recipe).pair(1)
    assert pair.source_sha256 == computed_head(names()[1])[1]
