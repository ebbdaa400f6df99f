"""Libraries of coil maps, harvested from scans, and what is drawn from them."""

import json

import numpy as np
import pytest
from conftest import recipe_data
from properties import complex_normal

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.corpus.verify import verify
from pipelines.scans.harvest_maps import harvest
from synth.calibration.scan_noise import calibrate
from synth.errors import RecipeError
from synth.physics import fft2c, rss
from synth.recipe import parse_recipe
from synth.scans.open import open_scan
from synth.sources.scan_slices import ScansSpec
from synth.stages.coil_library import open_library
from synth.stages.coils import LoopsSpec, draw_coils

SYNC = ClusterSpec("sync")


def test_a_library_is_harvested_and_drawn_from(scans, photos, tmp_path):
    spec = ScansSpec(kind="scans", path=str(scans))
    made = harvest(spec, tmp_path / "lib.zarr", SYNC)
    assert [s["shape"] for s in made["sets"]] == [[6, 96, 80]] * 3 + [[5, 80, 72]]
    assert harvest(spec, tmp_path / "lib.zarr", SYNC)["status"] == "already there"
    library = open_library(str(tmp_path / "lib.zarr"))
    assert (len(library), library.coils) == (4, 5)
    np.testing.assert_allclose(rss(library[3]), 1, atol=1e-3)
    coils = {"kind": "library", "path": str(tmp_path / "lib.zarr"), "resample": True}
    with pytest.raises(RecipeError, match=r"sets of 5, 6 coils; give coils\.count"):
        parse_recipe(recipe_data(photos, coils=coils), "t")
    six = parse_recipe(recipe_data(photos, coils={**coils, "count": 6}), "t")
    assert six.coils.sets == 3
    coils["count"] = 5
    plain = parse_recipe(recipe_data(photos, coils=coils), "t")
    assert (plain.coils.count, plain.coils.sets) == (5, 4)
    varied = parse_recipe(
        recipe_data(photos, coils={**coils, "sets": 9, "flip": True, "rotate": True, "mix": True}), "t"
    )
    assert build(varied, tmp_path / "v.zarr", SYNC).pairs == 10
    assert verify(tmp_path / "v.zarr", replay=2).identical == 2
    with pytest.raises(RecipeError, match=r"coils\.resample = true"):
        parse_recipe(recipe_data(photos, coils={**coils, "resample": False}), "t")
    with pytest.raises(RecipeError, match=r"has 4 sets; lower coils\.sets, or write coils\.flip"):
        parse_recipe(recipe_data(photos, coils={**coils, "sets": 9}), "t")
    with pytest.raises(RecipeError, match="have at most 6 coils; lower coils"):
        parse_recipe(recipe_data(photos, coils={**coils, "count": 7}), "t")


def test_harvested_maps_are_those_of_the_coils_not_of_whitened_ones(tmp_path, rng):
    """One coil six times noisier, and correlated: the library holds the maps as they are."""
    shape = (96, 80)
    maps = draw_coils(LoopsSpec(count=4), 1, 0).maps(shape)
    y, x = (np.linspace(-1, 1, n) for n in shape)
    image = np.clip(0.5 - y[:, None] ** 2 - x**2, 0, None)
    mixing = np.diag([1, 1, 1, 6]) @ (np.eye(4) + 0.4)
    noise = 0.002 * np.tensordot(mixing, complex_normal(rng, 4, *shape), axes=1)
    (tmp_path / "scans").mkdir()
    np.save(tmp_path / "scans" / "a.npy", (fft2c(image * maps) + noise).astype(np.complex64))
    harvest(ScansSpec(kind="scans", path=str(tmp_path / "scans")), tmp_path / "lib.zarr", SYNC)
    found = open_library(str(tmp_path / "lib.zarr"))[0]
    cosine = np.abs(np.sum(found.conj() * maps, 0))[image > 0.1]
    assert np.percentile(cosine, 5) > 0.995


def test_a_harvest_does_not_learn_noise_from_samples(tmp_path, rng):
    """Libraries hold the same maps as before `calibrate` had this place."""
    maps = draw_coils(LoopsSpec(count=4), 1, 0).maps((96, 80))
    y, x = (np.linspace(-1, 1, n) for n in (96, 80))
    image = np.clip(0.5 - y[:, None] ** 2 - x**2, 0, None)
    kspace = fft2c((image * maps).astype(np.complex64)) + 0.002 * complex_normal(rng, 4, 96, 80)
    columns = np.arange(80) - 40
    half = (kspace * ((columns % 2 == 0) | (np.abs(columns) < 12))).astype(np.complex64)
    np.save(tmp_path / "half.npy", half)
    assert calibrate(open_scan(tmp_path / "half.npy")).place == "samples"
    made = harvest(ScansSpec(kind="scans", path=str(tmp_path / "half.npy")), tmp_path / "lib.zarr", SYNC)
    assert [one["whitened"] for one in made["sets"]] == [False]


def test_a_library_is_checked_and_others_are_left_alone(scans, photos, tmp_path):
    (tmp_path / "h.zarr.building").mkdir()
    (tmp_path / "h.zarr.building" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="not a library"):
        harvest(ScansSpec(kind="scans", path=str(scans / "b.npy")), tmp_path / "h.zarr", SYNC)
    assert (tmp_path / "h.zarr.building" / "thesis.txt").exists()
    harvest(ScansSpec(kind="scans", path=str(scans / "b.npy")), tmp_path / "l.zarr", SYNC)
    coils = {"kind": "library", "path": str(tmp_path / "l.zarr"), "resample": True}
    (chunk,) = (p for p in (tmp_path / "l.zarr" / "set-00000" / "c").rglob("*") if p.is_file())
    before = chunk.read_bytes()
    for damage in (before[:-9], before[:500] + b"x" + before[501:]):
        chunk.write_bytes(damage)
        with pytest.raises(RecipeError, match="set-00000"):
            parse_recipe(recipe_data(photos, coils=coils), "t")
    chunk.write_bytes(before)
    document = json.loads((tmp_path / "l.zarr" / "zarr.json").read_text())
    for broken in ([1], {}, {"version": 1, "sets": []}):
        document["attributes"]["fathom_library"] = broken
        (tmp_path / "l.zarr" / "zarr.json").write_text(json.dumps(document))
        with pytest.raises(RecipeError, match="harvest it again"):
            parse_recipe(recipe_data(photos, coils=coils), "t")


def test_covariance_and_mixed_coils_do_not_go_together(scans, photos, tmp_path):
    harvest(ScansSpec(kind="scans", path=str(scans / "b.npy")), tmp_path / "l.zarr", SYNC)
    np.save(tmp_path / "psi.npy", np.eye(5))
    coils = {"kind": "library", "path": str(tmp_path / "l.zarr"), "resample": True, "mix": True, "sets": 3}
    with pytest.raises(RecipeError, match=r"leave out coils\.mix"):
        parse_recipe(recipe_data(photos, coils=coils, noise={"covariance": str(tmp_path / "psi.npy")}), "t")
