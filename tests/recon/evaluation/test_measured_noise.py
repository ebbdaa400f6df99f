import json

import numpy as np
import pytest
from conftest import recipe_data
from properties import complex_normal
from typer.testing import CliRunner

from pipelines.cli.app import app
from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.corpus.remeasure import measure
from recon.errors import UnmeasurableError
from recon.evaluation.measured_noise import Measured, measured
from synth.physics import ifft2c, sense_forward
from synth.recipe import parse_recipe
from synth.stages.coils import LoopsSpec, draw_coils
from synth.stages.noise import sigma_of_residual


@pytest.mark.parametrize("noisy", [True, False])
def test_sigma_of_noise_that_was_added_by_hand(rng, noisy):
    maps = draw_coils(LoopsSpec(count=5), 1, 0).maps((40, 48))
    mask = (np.arange(48) % 3 == 0)[None, None]
    image = complex_normal(rng, 40, 48)
    found = []
    for _ in range(40):
        noise = 0.02 * complex_normal(rng, 5, 40, 48)
        target = image + noisy * np.sum(maps.conj() * ifft2c(noise), axis=0)
        kspace = sense_forward(image, maps, mask) + mask * noise
        sigma, error, drawn = sigma_of_residual(
            *(a.astype(np.complex64) for a in (kspace, target, maps)), mask, noisy=noisy
        )
        found.append(sigma / 0.02 - 1)
    assert abs(np.mean(found)) < 4 * error / 40**0.5
    assert np.std(found) == pytest.approx(error, rel=0.5)
    assert drawn.real.std() == pytest.approx(0.02, rel=0.02)
    assert drawn.size == 5 * 40 * 16


SMALL = {"coils": {"kind": "loops", "count": 4, "sets": 2}}


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"target": {"reference": "clean"}},
        {"target": {"lesions": {"contrast": 3.0}}},
        {"target": {"readout_oversampling": 2}},
        {"sampling": {"kind": "poisson", "acceleration": 3, "reference_lines": 8}},
        {"noise": {"snr": 0.5, "definition": "image"}},
        {"kspace": "full"},
    ],
    ids=str,
)
def test_claims_of_every_kind_of_corpus_hold(photos, tmp_path, sections):
    out = tmp_path / "c.zarr"
    build(parse_recipe(recipe_data(photos, **{**SMALL, "pairs": 4, **sections}), "test"), out, ClusterSpec("sync"))
    found = measure(out, 10)
    assert len(found) == 4
    assert [m.problem for m in found] == [None] * 4


def test_claims_of_whitened_photographs_hold(photos, tmp_path):
    np.save(tmp_path / "psi.npy", np.diag([1.0, 2.0, 4.0, 9.0]).astype(complex))
    noise = {"snr": 20, "covariance": str(tmp_path / "psi.npy"), "whiten": True}
    out = tmp_path / "c.zarr"
    build(parse_recipe(recipe_data(photos, **SMALL, pairs=4, noise=noise), "test"), out, ClusterSpec("sync"))
    assert [m.problem for m in measure(out, 10)] == [None] * 4


def test_a_wrong_claim_is_named():
    def told(sigma, snr):
        return Measured(3, 0.02, sigma, 30.0, snr, 0.001, 128**2, np.zeros(2)).problem

    assert told(0.02001, 30.1) is None
    assert told(0.02 * 2**0.5, 30.0) == "pair 3: its stored sigma is 0.02, but its arrays give 0.028284"
    assert told(0.02, 60.0) == "pair 3: its stored snr_image is 30, but its arrays give 60"
    assert told(float("nan"), 30.0) is not None


def by_hand(rng, unit):
    """An item of 5 coils whose sigma is 0.02 in a unit."""
    maps = draw_coils(LoopsSpec(count=5), 1, 0).maps((40, 48))
    image, mask = complex_normal(rng, 40, 48), (np.arange(48) % 3 == 0)[None, None]
    kspace = sense_forward(image, maps, mask) + mask * 0.02 * complex_normal(rng, 5, 40, 48)
    scaled = {"masked_kspace": (unit * kspace).astype(np.complex64), "target": (unit * image).astype(np.complex64)}
    numbers = {"sigma": np.float32(0.02 * unit), "pair_id": np.array(7)}
    return scaled | numbers | {"sens_maps": maps.astype(np.complex64), "mask": mask}


@pytest.mark.parametrize("unit", [1.0, 1e-22, 1e15])
def test_the_unit_of_kspace_does_not_matter(rng, unit):
    found = measured(by_hand(rng, unit), 50.0, noisy=False)
    assert found.sigma_found == pytest.approx(0.02 * unit, rel=0.02)
    assert found.problem is None


def test_a_dead_coil_is_named(rng):
    item = by_hand(rng, 1.0)
    item["masked_kspace"][2] = 0
    assert measured(item, 50.0, noisy=False).problem == "pair 7: the k-space of coil 2 holds zeros alone"


def test_the_command_measures(corpus, photos, tmp_path):
    shown = CliRunner().invoke(app, ["verify", str(corpus), "--measure", "3"])
    assert shown.exit_code == 0, shown.output
    assert "3 pairs measured: sigma differs by at most " in shown.output
    told = json.loads(CliRunner().invoke(app, ["verify", str(corpus), "--measure", "3", "--json"]).stdout)
    assert 0 < told["largest_error"] < 0.05
    silent = tmp_path / "silent.zarr"
    build(parse_recipe(recipe_data(photos, pairs=2, noise={"kind": "none"}), "test"), silent, ClusterSpec("sync"))
    with pytest.raises(UnmeasurableError, match="only white noise"):
        measure(silent, 1)
    one = tmp_path / "one.zarr"
    build(parse_recipe(recipe_data(photos, pairs=2, coils={"count": 1}), "test"), one, ClusterSpec("sync"))
    with pytest.raises(UnmeasurableError, match="single coil holds all of the noise"):
        measure(one, 1)
    told = CliRunner().invoke(app, ["verify", str(one), "--measure", "1", "--replay", "2"])
    assert told.exit_code == 0, told.output
    assert "2 pairs made again: 2 identical" in told.output
    assert "note: the noise was not measured: a noisy reference of a single coil" in told.output
