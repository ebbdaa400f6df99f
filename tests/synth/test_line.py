"""From a folder of photographs to a batch, and back from what is stored: the whole line in some seconds."""

import numpy as np
import pytest
import torch
from conftest import SHARED, recipe_data
from processes import built, fathom

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from recon.data.datasets import PairDataset
from recon.data.loader import make_loader
from synth.corpus.reader import open_corpus
from synth.recipe import parse_recipe
from synth.stages.noise import sigma_of_empty_rows
from synth.stages.readout import Readout


def test_the_line(photos, tmp_path):
    recipe = parse_recipe(recipe_data(photos, pairs=24, target={"readout_oversampling": 2}), "t")
    out = tmp_path / "line.zarr"
    made = build(recipe, out, ClusterSpec(workers=2))
    assert (made.pairs, made.rejected) == (24, 0)
    pairs = PairDataset(out)
    mean = torch.zeros(())
    for batch in make_loader(pairs, 4):
        mean = mean + batch["target"].abs().mean() / 6
    assert 0.1 < mean < 1
    assert_calibrated(out, 0.03, 0.06)


def assert_calibrated(path, snr_tolerance, sigma_tolerance):
    """What a corpus claims, measured back from its stored samples."""
    for bucket in open_corpus(path).buckets:
        number = {n: bucket.numbers(n) for n in ("snr_wanted", "snr_rms", "sigma", "acceleration_net")}
        np.testing.assert_allclose(number["snr_rms"], number["snr_wanted"], rtol=snr_tolerance)
        rows = bucket.arrays["target"].shape[1]
        for row in range(bucket.arrays["kspace"].shape[0]):
            kspace = np.asarray(bucket.arrays["kspace"][row])
            sigma = sigma_of_empty_rows(kspace, Readout(rows, kspace.shape[1]))
            assert sigma == pytest.approx(number["sigma"][row], rel=sigma_tolerance)


@pytest.mark.slow
def test_knolls_experiment_17_on_real_photographs(bsds, tmp_path):
    """A tenth of the 200 pairs here; all of them are in `benchmarks/knoll.py`."""
    out = tmp_path / "knoll.zarr"
    made = built("knoll2019-17", "--out", out, "--set", f"source.path={bsds}", "--set", "pairs=20", "--workers", 2)
    assert (made["pairs"], made["rejected"]) == (20, 0)
    assert made["acceleration_net"] == pytest.approx(368 / 110)
    assert_calibrated(out, 0.01, 0.02)
    assert fathom("verify", out, "--replay", "2")[0] == 0
    assert SHARED.exists()
