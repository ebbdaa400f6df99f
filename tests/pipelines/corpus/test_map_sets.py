"""A corpus whose pairs have two map sets, from the recipe to metrics, exports and `fathom reconstruct`."""

import json
import shutil
import subprocess

import h5py
import numpy as np
import pytest
import torch
from conftest import shared
from properties import complex_normal
from trainings import settings
from typer.testing import CliRunner
from wide_scans import COILS, FIELD, ROWS, white_profile, wide_recipe, wide_scan

import pipelines.models.scan_images as command
import synth.calibration.espirit as module
import synth.plan
from pipelines.cli.app import app
from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.corpus.export import export, import_corpus
from pipelines.corpus.inspect import inspect
from pipelines.corpus.verify import verify
from pipelines.models.reconstruct import reconstruct
from pipelines.scans.harvest_maps import harvest
from recon.data.adapters import as_deepinv, as_direct, as_fastmri
from recon.data.datasets import PairDataset, VirtualPairs
from recon.data.loader import make_loader
from recon.data.scan_batch import Undersampling
from recon.evaluation.conditioning import by_conditioning
from recon.evaluation.metrics import nrmse_complex, over_sets, psnr_magnitude_slice_max, slice_metrics
from recon.evaluation.rows import evaluate, noise_rows
from recon.models.baselines import CgSense, ZeroFilled
from recon.models.sense import opposite_lambda, regularised_sense
from recon.training.loop import train
from synth.corpus.reader import open_corpus
from synth.errors import RecipeError
from synth.physics import ifft2c
from synth.plan import Plan
from synth.recipe import parse_recipe
from synth.sources.scan_slices import ScansSpec
from synth.writers.cfl import read_array

SYNC = ClusterSpec("sync")
TWO = (2, ROWS, FIELD)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("wide")


@pytest.fixture(scope="module")
def wide(folder):
    """A corpus of two pairs with two map sets; do not change it."""
    build(parse_recipe(wide_recipe(folder), "t"), folder / "wide.zarr", SYNC)
    return folder / "wide.zarr"


def test_one_set_is_left_out_of_the_recipe_and_its_hash(folder):
    keys = {}, {"espirit_sets": 1}, {"espirit_sets": 2}
    one, explicit, two = (parse_recipe(wide_recipe(folder, coils={"kind": "espirit", **key}), "t") for key in keys)
    assert one.hash() == explicit.hash() != two.hash()
    assert "espirit_sets" not in one.model_dump()["coils"]
    assert two.model_dump()["coils"]["espirit_sets"] == 2


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"espirit_sets": 3}, "coils.espirit_sets = 3"),
        ({"espirit_sets": 2, "extend": True}, "extend = true continues one map set"),
        ({"espirit_sets": 2, "count": 1}, "needs"),
    ],
)
def test_what_two_sets_cannot_have_is_refused(folder, keys, message):
    with pytest.raises(RecipeError, match=message) as error:
        parse_recipe(wide_recipe(folder, coils={"kind": "espirit", **keys}), "t")
    assert "\n" not in str(error.value)


def test_a_pair_has_two_images_and_their_maps(folder):
    """Full k-space: the reference of each set is the scan's own, combined with its maps; sigma is that of the scan."""
    full = {"kind": "regular", "acceleration": 1}
    pair = Plan.of(parse_recipe(wide_recipe(folder, sampling=full), "t")).pair(1)
    assert pair.target.shape == TWO
    assert pair.maps.shape == (2, COILS, ROWS, FIELD)
    images = ifft2c(wide_scan(seed=1)[0]) / pair.numbers["scale"]
    for target, maps in zip(pair.target, pair.maps, strict=True):
        np.testing.assert_allclose(target, np.sum(maps.conj() * images, axis=0), atol=2e-3 * np.abs(images).max())
    assert over_sets(pair.target).max() == pytest.approx(1, abs=1e-5)
    assert pair.numbers["sigma"] * pair.numbers["scale"] == pytest.approx(1, abs=1e-6)
    seen = np.einsum("syx,scyx->cyx", pair.target, pair.maps)
    where = wide_scan()[1] == 2
    left = np.abs(images - seen)[:, where] * pair.numbers["scale"]
    assert np.sqrt(np.mean(left**2) / 2) == pytest.approx((4 / 6) ** 0.5, rel=0.05)  # 4 of 6 numbers are left


def test_the_corpus_is_verified_read_and_batched(wide, folder):
    found = verify(wide, replay=2)
    assert (found.intact, found.identical) == (True, 2)
    stored, virtual = PairDataset(wide), VirtualPairs(parse_recipe(wide_recipe(folder), "t"))
    assert stored.geometries == virtual.geometries
    assert stored.geometries[0].sets == 2
    assert stored.pair_bytes <= virtual.pair_bytes
    for position in range(2):
        for name, tensor in stored[position].items():
            np.testing.assert_array_equal(tensor, virtual[position][name], err_msg=name)
    (batch,) = make_loader(stored, 2, shuffle=False, device="cpu")
    assert batch["sens_maps"].shape == (2, 2, COILS, ROWS, FIELD)
    assert batch["target"].shape == (2, *TWO)
    arrays = open_corpus(wide).buckets[0].arrays
    assert arrays["maps"].metadata.dimension_names == ("pair", "map_set", "coil", "y", "x")
    assert arrays["target"].metadata.dimension_names == ("pair", "map_set", "y", "x")


def test_two_sets_reconstruct_what_one_cannot(wide, folder, tmp_path):
    one = parse_recipe(wide_recipe(folder, coils={"kind": "espirit"}), "t")
    build(one, tmp_path / "one.zarr", SYNC)
    rows = {path: evaluate(CgSense(20), PairDataset(path), device="cpu") for path in (wide, tmp_path / "one.zarr")}
    two, single = ([row["psnr_magnitude_slice_max"] for row in rows[path]] for path in rows)
    assert min(two) > max(single) + 2
    assert "aliasing_energy" not in rows[wide][0]  # it is defined for one image
    assert "aliasing_energy" in rows[tmp_path / "one.zarr"][0]
    assert 0.7 < rows[wide][0]["data_consistency"] < 1.1


def test_metrics_are_of_the_root_of_the_sum_of_squares(rng):
    image, reference = (rng.standard_normal((2, 12, 12)) + 1j * rng.standard_normal((2, 12, 12)) for _ in range(2))
    found = slice_metrics(image, reference)
    shown = [np.sqrt(np.abs(part[0]) ** 2 + np.abs(part[1]) ** 2) for part in (image, reference)]
    assert found["psnr_magnitude_slice_max"] == pytest.approx(psnr_magnitude_slice_max(*shown))
    assert found["nrmse_magnitude"] == pytest.approx(np.linalg.norm(shown[0] - shown[1]) / np.linalg.norm(shown[1]))
    assert found["nrmse_complex"] == nrmse_complex(image, reference)
    assert slice_metrics(image[0], reference[0])["nrmse_magnitude"] != found["nrmse_magnitude"]


def test_what_takes_one_set_refuses_in_one_sentence(wide):
    pairs = PairDataset(wide)
    message = "takes? pairs with one map set; build them with coils.espirit_sets = 1"
    for adapt in (as_deepinv, as_direct, as_fastmri):
        with pytest.raises(ValueError, match=message):
            adapt(pairs)
    with pytest.raises(ValueError, match=message):
        noise_rows(ZeroFilled(), pairs, 2)
    with pytest.raises(ValueError, match=message):
        by_conditioning({"zf": ZeroFilled()}, pairs, torch.device("cpu"))
    with pytest.raises(RecipeError, match=r"need complex \[set coil y x\]"):
        parse_recipe(
            {
                "name": "t",
                "source": {"kind": "skimage"},
                "target": {"matrix": [ROWS, FIELD]},
                "coils": {"kind": "library", "path": str(wide)},
            },
            "t",
        )


def test_a_network_is_trained_and_tested_on_it(wide, tmp_path):
    how = settings(wide, "unrolled-sense", training={"steps": 2, "batch_size": 2})
    card = train(how, tmp_path / "model", device="cpu")
    assert card["steps"] == 2
    made = CliRunner().invoke(app, ["test", str(tmp_path / "model"), str(wide), "--out", str(tmp_path / "t")])
    assert made.exit_code == 0, made.output
    assert (tmp_path / "t" / "images.png").exists()


@pytest.mark.parametrize("kind", ["cfl", "mrd", "fastmri"])
def test_exports_say_so_and_come_back(wide, tmp_path, kind):
    export(wide, kind, tmp_path / "out")
    assert "pairs have two map sets" in (tmp_path / "out" / "README.md").read_text()
    assert import_corpus(tmp_path / "out", tmp_path / "back.zarr") == open_corpus(wide).content_hash
    item = PairDataset(wide)[1]
    if kind == "fastmri":
        with h5py.File(tmp_path / "out" / "pairs" / "pair-000001.h5") as file:
            np.testing.assert_allclose(file["reconstruction_rss"][0], over_sets(item["target"].numpy()))
    if kind == "cfl":
        name = tmp_path / "out" / "pairs" / "pair-000001"
        assert name.with_suffix(".maps.hdr").read_text().split()[2:] == [str(ROWS), str(FIELD), "1", str(COILS), "2"]


def test_bart_reconstructs_an_export_as_ours(wide, tmp_path):
    if not shutil.which("bart"):
        pytest.skip("bart is not installed")
    export(wide, "cfl", tmp_path / "out")
    item = {name: tensor[None] for name, tensor in PairDataset(wide)[0].items()}
    given = [item[name] for name in ("masked_kspace", "sens_maps", "mask")]
    ours = regularised_sense(*given, lam=6.0, iterations=300, tolerance=1e-7)[0].numpy()
    weight = opposite_lambda(6.0, float(item["acceleration_net"]))
    command = ["bart", "pics", "-l2", f"-r{weight:.9g}", "-i100", "-w1", "pair-000000.kspace", "pair-000000.maps", "x"]
    subprocess.run(command, cwd=tmp_path / "out" / "pairs", check=True, capture_output=True)
    bart = read_array(tmp_path / "out" / "pairs" / "x")[:, 0] * (-1) ** ((ROWS + FIELD) // 2)
    assert bart.shape == TWO
    assert np.linalg.norm(ours - bart) < 1e-3 * np.linalg.norm(bart)


def test_inspect_shows_the_root_of_the_sum_of_squares(wide, tmp_path):
    inspect(wide, tmp_path / "report")
    assert "two map sets" in (tmp_path / "report" / "summary.md").read_text()


def test_inspect_shows_a_corpus_without_known_noise(folder, tmp_path):
    unknown = parse_recipe(wide_recipe(folder, noise={"kind": "none"}), "t")
    build(unknown, tmp_path / "c.zarr", SYNC)
    assert torch.isnan(PairDataset(tmp_path / "c.zarr")[0]["sigma"])
    assert all(file.exists() for file in inspect(tmp_path / "c.zarr", tmp_path / "report"))


def test_reconstruct_takes_two_sets_from_the_command_line(wide, folder, tmp_path):
    options = ["--axes", "slice coil y x", "--acceleration", "2"]
    levels = {}
    for sets in (1, 2):
        given = "reconstruct", "cg-sense:20", str(folder / "wide.npy"), "--out", str(tmp_path / str(sets))
        made = CliRunner().invoke(app, [*given, *options, "--map-sets", str(sets)])
        assert made.exit_code == 0, made.output
        summary = json.loads((tmp_path / str(sets) / "summary.json").read_text())
        assert summary.get("map_sets", 1) == sets
        levels[sets] = [row["psnr_magnitude_slice_max"] for row in summary["rows"]]
        images = np.load(tmp_path / str(sets) / "images.npy")
        assert images.shape == ((2, *TWO) if sets == 2 else (2, ROWS, FIELD))
    assert min(levels[2]) > max(levels[1]) + 2


@pytest.mark.parametrize("sets", [1, 2])
def test_a_slice_of_noise_is_0_and_told(tmp_path, rng, monkeypatch, sets):
    signal = wide_scan()[0]
    np.save(tmp_path / "k.npy", np.stack([signal, complex_normal(rng, *signal.shape)]))
    monkeypatch.setattr(command, "noise_of", lambda scan: (white_profile(), []))
    how = Undersampling(2), "cpu"
    found = reconstruct("cg-sense:2", tmp_path / "k.npy", tmp_path / "r", *how, axes="slice coil y x", sets=sets)
    images = np.load(tmp_path / "r" / "images.npy")
    assert images[0].any()
    assert not images[1].any()
    assert [row["slice"] for row in found["rows"]] == [0]
    assert f"slice 1: {module.NOISE_ALONE}; its image is 0 everywhere" in found["notes"]


def test_notes_of_maps_are_told_where_maps_are_made(folder, tmp_path, monkeypatch):
    """Vortices that no reference avoids; here all are said to have three."""
    plain = module.referenced
    monkeypatch.setattr(module, "referenced", lambda *given: (plain(*given)[0], 3))
    told = "the phase of map set 0 has 3 vortices in the object: maps are wrong there"
    one = wide_recipe(folder, coils={"kind": "espirit"})
    made = build(parse_recipe(one, "t"), tmp_path / "c.zarr", SYNC)
    assert f"2 pairs: {told}" in made.notes
    assert told in (tmp_path / "c.zarr" / "README.md").read_text()
    assert verify(tmp_path / "c.zarr").intact
    spec = ScansSpec(kind="scans", path=str(folder / "wide.npy"), axes="slice coil y x")
    assert f"wide.npy slice 1: {told}" in harvest(spec, tmp_path / "lib.zarr", SYNC)["notes"]
    arguments = ["reconstruct", "zero-filled", str(folder / "wide.npy"), "--axes", "slice coil y x"]
    shown = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "r")]).output
    assert f"note: slice 1: {told}" in shown


def test_virtual_pairs_of_other_versions_are_other_pairs(folder, recipe, monkeypatch):
    scans, photographs = parse_recipe(wide_recipe(folder), "t"), recipe()
    identities = set()
    for stages in ({"maps": 2}, {"maps": 3}, {}):
        monkeypatch.setattr(synth.plan, "SCAN_STAGES", stages)
        identities.add(VirtualPairs(scans).identity)
        assert VirtualPairs(photographs).identity == VirtualPairs(photographs).recipe.hash()
    assert len(identities) == 3


def test_a_head_that_wraps_in_a_shared_scan_keeps_one_set():
    """The shared head lies within its field of view: its second set is empty nearly everywhere."""
    path = shared("scans/brain_8ch_bart/full.cfl")
    recipe = {
        "name": "head",
        "source": {"kind": "scans", "path": str(path)},
        "target": {"fit": "native"},
        "coils": {"kind": "espirit", "espirit_sets": 2},
        "noise": {"kind": "none"},
    }
    pair = Plan.of(parse_recipe(recipe, "t")).pair(0)
    inside = np.abs(pair.target[0]) > 0.1
    assert (np.abs(pair.maps[1]).sum(axis=0) > 0)[inside].mean() < 0.05
