"""Every metric has a definition, and none calls useless images good without a word."""

import numpy as np
import pytest
from conftest import recipe_data, write_photos

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from recon.data.datasets import PairDataset
from recon.evaluation.definitions import DEFINITIONS, defined
from recon.evaluation.noise_map_rows import noise_map_rows
from recon.evaluation.rows import METRICS, evaluate, noise_rows
from recon.models.baselines import RegularisedSense, ZeroFilled
from synth.recipe import parse_recipe


def test_every_metric_has_a_name_and_a_definition_of_its_own():
    assert DEFINITIONS.keys() == set(METRICS)
    for part in ("name", "whole"):
        assert len({getattr(definition, part) for definition in DEFINITIONS.values()}) == len(METRICS)
    assert {"PSNR", "SSIM", "NRMSE"} <= {definition.name for definition in DEFINITIONS.values()}
    assert all(definition.says.endswith(".") for definition in DEFINITIONS.values())
    assert defined("of a later version").name == "of a later version"
    assert "Less is better." in defined("lesion_error").whole


def test_a_direction_is_not_claimed_where_useless_images_win():
    assert all(not definition.better for definition in DEFINITIONS.values() if definition.gamed)


@pytest.fixture(scope="module")
def means(tmp_path_factory):
    """Metrics of the zero-filled image, and of regularised SENSE, for two photographs at R = 3 and SNR 300."""
    folder = tmp_path_factory.mktemp("definitions")
    write_photos(folder / "photos", count=2, size=(60, 60))
    data = recipe_data(folder / "photos", pairs=2, noise={"snr": 300, "definition": "image"})
    data["target"] |= {"matrix": [48, 48], "reference": "clean"}
    data["sampling"] = {"kind": "regular", "acceleration": 3, "reference_lines": 8}
    build(parse_recipe(data, "t"), folder / "c.zarr", ClusterSpec("sync"))
    pairs = PairDataset(folder / "c.zarr")

    def measured(model):
        rows = evaluate(model, pairs, device="cpu") + noise_rows(model, pairs, 4, device="cpu")[0]
        rows += noise_map_rows(model, pairs, 4, device="cpu")[0]
        return {name: np.mean([r[name] for r in rows if name in r]) for name in METRICS if any(name in r for r in rows)}

    return measured(ZeroFilled()), measured(RegularisedSense(60.0))


def test_zero_filled_images_win_only_where_the_definition_says_so(means):
    zero, sense = means
    compared = [name for name in zero if DEFINITIONS[name].better]
    assert {"psnr_magnitude_slice_max", "ssim_windowed_slice_range", "nrmse_complex", "aliasing_nmse"} <= set(compared)
    for name in compared:
        sign = -1 if DEFINITIONS[name].better == "less" else 1
        assert sign * zero[name] < sign * sense[name], name
    for name in ("noise_gain", "noise_sd", "null_share"):
        assert zero[name] < sense[name]
        assert DEFINITIONS[name].gamed
