import csv
import hashlib
import json
import re
import shutil

import numpy as np
import pytest
import torch
from conftest import recipe_data, shared, write_photos
from PIL import Image
from typer.testing import CliRunner

from pipelines.cli.app import app
from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from recon.data.datasets import PairDataset, VirtualPairs
from recon.evaluation.aliasing import aliases_of, aliasing
from recon.evaluation.intervals import differences, summary_of
from recon.evaluation.metrics import slice_metrics
from recon.evaluation.rows import evaluate, reconstructions, rows_of
from recon.models.baselines import CgSense, RegularisedSense, ZeroFilled
from recon.models.catalogue import named_baseline
from recon.training.loop import train
from recon.training.model_files import history, load_model, seen_in_training
from recon.training.settings import Training
from synth.recipe import parse_recipe
from synth.settings.toml import parse_settings

run = CliRunner().invoke


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "vn"
    data = {
        "name": "little",
        "data": {"corpora": [str(corpus)]},
        "model": {"kind": "variational", "stages": 2, "filters": 3, "kernel": 5},
        "training": {"steps": 5},
    }
    train(parse_settings(Training, data, "test"), out, device="cpu")
    return out


def rows(model, corpus):
    pairs = PairDataset(corpus)
    return [row for batch, images in reconstructions(model, pairs, 3, "cpu") for row in rows_of(batch, images, pairs)]


def test_rows_are_the_metrics_of_each_pair(corpus):
    found = rows(ZeroFilled(), corpus)
    assert sorted(row["pair"] for row in found) == list(range(10))
    item = PairDataset(corpus)[found[4]["pair"]]
    batch = {name: value[None] for name, value in item.items()}
    image, target = ZeroFilled()(batch)[0].numpy(), item["target"].numpy()
    aliases = aliases_of(PairDataset(corpus).recipe.sampling, target.shape)
    expected = slice_metrics(image, target) | aliasing(image, target, aliases)
    for name, value in expected.items():
        assert found[4][name] == pytest.approx(value, rel=1e-4, abs=1e-6)
    assert found[4]["sigma"] == pytest.approx(item["sigma"].item())


def test_zero_filled_photographs_alias_most():
    """A large part of the error is aliases where nothing was unfolded, and a small part of a smaller one by SENSE."""
    recipe = {
        "name": "t",
        "pairs": 2,
        "source": {"kind": "skimage"},
        "target": {"matrix": [96, 112], "reference": "clean", "fit": "resize"},
        "phase": {"kind": "smooth-random"},
        "coils": {"kind": "loops", "count": 6},
        "noise": {"snr": 30},
        "sampling": {"kind": "regular", "acceleration": 3, "reference_lines": 12},
    }
    pairs = VirtualPairs(parse_recipe(recipe, "t"))
    folded, unfolded = (evaluate(model, pairs, device="cpu") for model in (ZeroFilled(), RegularisedSense(4.0)))
    for row, better in zip(folded, unfolded, strict=True):
        assert 0.2 < row["aliasing_energy"] < 1
        assert better["aliasing_energy"] < 0.7 * row["aliasing_energy"]
        assert -1e-4 < better["aliasing_nmse"] < 0.5 * row["aliasing_nmse"] < row["nrmse_complex"] ** 2


def test_differences_are_paired(corpus):
    one, other = rows(CgSense(10), corpus), rows(ZeroFilled(), corpus)
    found = differences(one, other)["psnr_magnitude_slice_max"]
    means = [summary_of(part)["psnr_magnitude_slice_max"]["mean"] for part in (one, other)]
    assert found["mean"] == pytest.approx(means[0] - means[1])
    assert 0 < found["low"] < found["mean"] < found["high"]
    with pytest.raises(ValueError, match="different pairs"):
        differences(one, other[1:])


def test_baselines_by_name():
    assert named_baseline("cg-sense:7") == CgSense(7)
    assert named_baseline("no-such") is None
    for wrong in ("cg-sense:many", "cg-sense:0.5"):
        with pytest.raises(ValueError, match="above 0 after the colon"):
            named_baseline(wrong)


def test_an_image_that_is_not_finite_has_no_row(corpus):
    pairs = PairDataset(corpus)
    batch, images = next(reconstructions(ZeroFilled(), pairs))
    images[0, 3, 4] = np.nan
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        rows_of(batch, images, pairs)


def test_the_command_compares_models(trained, corpus, photos, tmp_path):
    out = tmp_path / "report"
    made = run(app, ["test", str(trained), "cg-sense:8", str(corpus), "--out", str(out)])
    assert made.exit_code == 0, made.output
    assert "psnr_magnitude_slice_max" in made.output
    for metric in ("PSNR:", "PSNR in the object:"):
        told = rf"^{metric}\n  {re.escape(str(trained))} - cg-sense:8: [+-][\d.]+ dB "
        assert re.search(told, made.output, re.MULTILINE)
    assert re.search(r"^  Share of aliases +[\d.]+ .* aliasing_energy$", made.output, re.MULTILINE)
    with (out / "rows.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 20
    summary = json.loads((out / "summary.json").read_text())
    mean = np.mean([float(row["nrmse_complex"]) for row in table if row["model"] == "cg-sense:8"])
    assert summary["models"]["cg-sense:8"]["metrics"]["nrmse_complex"]["mean"] == pytest.approx(mean)
    with Image.open(out / "images.png") as picture:
        assert picture.size[0] > 300
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert "intervals of 95 %, over 6 sources" in made.output
    assert summary["intervals"] == "6 sources"
    assert table[7]["source"] == "photo1.png"  # pair 7 of six photographs
    assert table[7]["source_sha256"] == hashlib.sha256((photos / "photo1.png").read_bytes()).hexdigest()
    refused = run(app, ["test", "zero-filled", str(corpus), "--out", str(tmp_path / "mine")])
    assert refused.exit_code == 1
    assert "holds other files" in refused.output
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "rows.csv").write_text("hard,work\n")
    refused = run(app, ["test", "zero-filled", str(corpus), "--out", str(tmp_path / "theirs")])
    assert "holds other files" in refused.output
    assert (tmp_path / "theirs" / "rows.csv").read_text() == "hard,work\n"
    before = (out / "rows.csv").read_bytes()
    refused = run(app, ["test", "zero-filled", str(corpus), "--out", str(out)])
    assert refused.exit_code == 1
    assert "holds the results of another command, in which models is" in refused.output
    assert (out / "rows.csv").read_bytes() == before


def test_a_test_on_what_was_trained_on_is_told(trained, corpus, photos, tmp_path):
    """The same corpus, another corpus of two of its photographs under other names, and one of others."""
    card = load_model(trained)[1]

    def told(path):
        return seen_in_training(card, PairDataset(path))

    (same,) = told(corpus)
    assert "was trained on this corpus" in same
    write_photos(tmp_path / "some", count=3, first=100)
    for name in ("photo2.png", "photo4.png"):
        shutil.copy(photos / name, tmp_path / "some" / f"other-{name}")
    some, none = tmp_path / "some.zarr", tmp_path / "none.zarr"
    build(parse_recipe(recipe_data(tmp_path / "some", pairs=5), "some"), some, ClusterSpec("sync"))
    write_photos(tmp_path / "others", count=3, first=100)
    build(parse_recipe(recipe_data(tmp_path / "others", pairs=3), "none"), none, ClusterSpec("sync"))
    (shared_,) = told(some)
    assert "2 of the 5 sources of this corpus, such as other-photo" in shared_
    assert told(none) == []
    made = run(app, ["test", str(trained), str(some), "--out", str(tmp_path / "out")])
    assert f"note: {shared_}" in made.output
    # what a network started from counts, and a card of an earlier version cannot tell
    tuned = {"data": [{"content_hash": "0", "sources": []}], "started_from": history(card)}
    assert seen_in_training(tuned, PairDataset(some)) == [shared_]
    older = {"data": [{"content_hash": "0"}]}
    assert "does not name the sources" in seen_in_training(older, PairDataset(some))[0]


def test_a_corpus_of_two_sizes_and_a_folder_that_is_a_corpus(photos, tmp_path):
    changes = {"target": {"matrix": [[48, 56], [40, 44]]}, "pairs": 7}
    mixed = tmp_path / "mixed.zarr"
    build(parse_recipe(recipe_data(photos, **changes), "mixed"), mixed, ClusterSpec("sync"))
    made = run(app, ["test", "cg-sense:8", "zero-filled", str(mixed), "--out", str(tmp_path / "out")])
    assert made.exit_code == 0, made.output
    before = (mixed / "summary.json").read_bytes()
    refused = run(app, ["test", "zero-filled", str(mixed), "--out", str(mixed)])
    assert refused.exit_code == 1
    assert (mixed / "summary.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "CORPUS"], "no network or baseline of that name; those are"),
        (["grappa:3", "CORPUS"], "grappa takes no number"),
        (["CORPUS"], "give at least one model"),
        (["zero-filled", "zero-filled", "CORPUS"], "is there twice"),
        (["zero-filled", "nowhere.zarr"], "nowhere.zarr does not exist"),
    ],
)
def test_wrong_arguments_get_one_message(arguments, message, corpus, tmp_path):
    words = [str(corpus) if a == "CORPUS" else a for a in arguments]
    made = run(app, ["test", *words, "--out", str(tmp_path / "out")])
    assert made.exit_code == 1
    assert message in made.output
    assert "Traceback" not in made.output


def write_scan(path, rows=64, columns=56, coils=3, sigma=0.002, mask=None):
    """A smooth head with noise, as .npy [coil y x]."""
    from synth.physics import fft2c
    from synth.stages.coils import LoopsSpec, draw_coils

    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    head = ((y / 0.8) ** 2 + (x / 0.7) ** 2 < 1) * (1 + 0.3 * np.cos(9 * x) * np.cos(7 * y))
    maps = draw_coils(LoopsSpec(count=coils, sets=1), 0, 0).maps((rows, columns))
    draw = np.random.default_rng(3)
    noise = draw.normal(size=(coils, rows, columns, 2)) @ [1, 1j]
    kspace = fft2c((maps * head).astype(np.complex64)) + sigma * noise
    np.save(path, (kspace if mask is None else kspace * mask).astype(np.complex64))
    return path


def test_a_scan_is_reconstructed(trained, tmp_path):
    scan = write_scan(tmp_path / "head.npy")
    found = {}
    for model in (str(trained), "zero-filled", "regularised-sense:8"):
        out = tmp_path / model.replace("/", "_").replace(":", "_")
        made = run(app, ["reconstruct", model, str(scan), "--out", str(out), "--acceleration", "2", "--json"])
        assert made.exit_code == 0, made.output
        found[model] = json.loads(made.output.strip().splitlines()[-1])["rows"][0]["psnr_magnitude_slice_max"]
        images = np.load(out / "images.npy")
        assert images.shape == (1, 64, 56)
        assert images.dtype == np.complex64
        assert (out / "images.png").exists()
    again = ["reconstruct", "regularised-sense:8", str(scan), "--out", str(out), "--acceleration"]
    refused = run(app, [*again, "3"])
    assert "holds the results of another command, in which acceleration is 2, and not 3" in refused.output
    assert refused.exit_code == 1
    assert "there already" in run(app, [*again, "2"]).output
    write_scan(scan, sigma=0.003)
    assert "in which sha256 is" in run(app, [*again, "2"]).output
    (out / "command.json").unlink()
    assert "holds other files" in run(app, [*again, "2"]).output
    assert found["regularised-sense:8"] > found["zero-filled"] + 1


def test_a_scan_gets_a_noise_map(tmp_path):
    """Zero-filled images of all lines have the scan's own noise, which is 1 after whitening, where coils see."""
    scan, out = write_scan(tmp_path / "head.npy"), tmp_path / "out"
    words = ["reconstruct", "zero-filled", str(scan), "--out", str(out)]
    made = run(app, [*words, "--noise-map", "--probes", "9", "--json"])
    assert made.exit_code == 0, made.output
    said = json.loads(made.output.strip().splitlines()[-1])["noise_map"]
    assert said[0]["derivative"] == "double backward"
    maps = np.load(out / "noise_map.npy")
    assert maps.shape == (2, 1, 64, 56)
    assert np.median(maps[0]) == pytest.approx(1, rel=0.02)
    assert (out / "noise_map.png").exists()
    assert f"<td>{100 * said[0]['error']:.0f} %</td>" in (out / "report.html").read_text()
    g = np.load(out / "g_map.npy")
    assert g.shape == (1, 64, 56)
    assert np.median(g[g > 0]) == pytest.approx(1, rel=0.02)  # all lines are there
    assert "in which noise_map_probes is 9, and not 0" in run(app, words).output


def test_a_scan_that_is_undersampled_already(tmp_path):
    from synth.rng import rng
    from synth.stages.mask_lines import RegularSpec

    mask = RegularSpec(acceleration=2, reference_lines=16).draw(rng(0, "m"), (64, 56)).sampled
    full, half = write_scan(tmp_path / "full.npy"), write_scan(tmp_path / "half.npy", mask=mask)
    images = []
    for scan in (full, half):
        out = tmp_path / scan.stem
        made = run(app, ["reconstruct", "regularised-sense:8", str(scan), "--out", str(out)])
        assert made.exit_code == 0, made.output
        images.append(np.abs(np.load(out / "images.npy"))[0])
    scale = np.vdot(images[0], images[1]) / np.vdot(images[0], images[0])
    assert np.linalg.norm(images[1] - scale * images[0]) < 0.1 * np.linalg.norm(images[1])
    again = run(app, ["reconstruct", "cg-sense", str(half), "--out", str(tmp_path / "again"), "--acceleration", "4"])
    assert "the scan is undersampled already; leave --acceleration out" in again.output
    few = write_scan(tmp_path / "few.npy", mask=np.arange(56) % 2 == 0)
    made = run(app, ["reconstruct", "cg-sense", str(few), "--out", str(tmp_path / "no")])
    assert made.exit_code == 1
    assert "too few for coil maps" in made.output


def test_a_scan_undersampled_along_both_axes(tmp_path):
    y, x = np.mgrid[:64, :56]
    mask = ((y % 2 == 0) & (x % 2 == 0)) | ((abs(y - 32) < 10) & (abs(x - 28) < 10))
    full, quarter = write_scan(tmp_path / "full.npy"), write_scan(tmp_path / "quarter.npy", mask=mask)
    errors = {}
    for model in ("regularised-sense:8", "zero-filled"):
        images = []
        for scan in (full, quarter):
            out = tmp_path / f"{scan.stem}-{model[:4]}"
            made = run(app, ["reconstruct", model, str(scan), "--out", str(out)])
            assert made.exit_code == 0, made.output
            images.append(np.abs(np.load(out / "images.npy"))[0])
        scale = np.vdot(images[0], images[1]) / np.vdot(images[0], images[0])
        errors[model] = np.linalg.norm(images[1] - scale * images[0]) / np.linalg.norm(images[1])
    assert errors["regularised-sense:8"] < 0.6 * errors["zero-filled"]


@pytest.fixture(scope="module")
def aware(corpus, tmp_path_factory):
    """A network that must know the noise level, trained for one step."""
    data = {
        "name": "aware",
        "data": {"corpora": [str(corpus)]},
        "model": {"kind": "unrolled-sense", "iterations": 1, "channels": 2, "levels": 1, "noise_aware": True},
        "training": {"steps": 1},
    }
    out = tmp_path_factory.mktemp("aware") / "aware"
    train(parse_settings(Training, data, "test"), out, device="cpu")
    return out


def test_a_network_that_must_know_the_noise_says_so(aware, tmp_path):
    from synth.rng import rng
    from synth.stages.mask_lines import RegularSpec

    mask = RegularSpec(acceleration=2, reference_lines=16).draw(rng(0, "m"), (64, 56)).sampled
    scan = write_scan(tmp_path / "half.npy", coils=1, mask=mask)  # one coil does not tell noise from signal
    choice = ["--out", str(tmp_path / "out"), "--axes", "coil y x"]
    made = run(app, ["reconstruct", str(aware), str(scan), *choice])
    assert made.exit_code == 1
    assert "needs the noise level, which cannot be learnt from this scan" in made.output


def test_a_network_that_must_know_the_noise_learns_it_from_an_undersampled_scan(aware, tmp_path):
    scan = shared("scans/brain_8ch_bart/und2x2.cfl")
    made = run(app, ["reconstruct", str(aware), str(scan), "--out", str(tmp_path / "out")])
    assert made.exit_code == 0, made.output
    notes = json.loads((tmp_path / "out" / "summary.json").read_text())["notes"]
    assert any("noise is learnt from the samples" in note for note in notes)


def test_a_real_scan_is_reconstructed(tmp_path):
    scan = shared("scans/brain_8ch_bart/full.cfl")
    made = run(app, ["reconstruct", "cg-sense:8", str(scan), "--out", str(tmp_path / "out"), "--acceleration", "4"])
    assert made.exit_code == 0, made.output
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert 29 < summary["rows"][0]["psnr_magnitude_object_max"] < 32
    assert any("samples along y correlate by 0.14" in note for note in summary["notes"])  # what `calibrate` says, too


@pytest.mark.gpu
def test_a_model_is_tested_on_a_gpu_as_on_a_cpu(trained, corpus, tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    means = []
    for device in ("cpu", "cuda"):
        out = tmp_path / device
        made = run(app, ["test", str(trained), str(corpus), "--out", str(out), "--device", device])
        assert made.exit_code == 0, made.output
        summary = json.loads((out / "summary.json").read_text())
        means.append(summary["models"][str(trained)]["metrics"]["nrmse_complex"]["mean"])
    assert means[0] == pytest.approx(means[1], rel=1e-4)


def test_a_test_has_a_page_that_answers_in_words(corpus, tmp_path):
    """The best model is named with its difference to the first, and with an interval; the page needs no other file."""
    out = tmp_path / "out"
    words = ["test", "zero-filled", "cg-sense:8", "regularised-sense:0.01", str(corpus), "--out", str(out)]
    made = run(app, [*words, "--noise-map", "--probes", "4"])
    assert made.exit_code == 0, made.output
    assert made.output.strip().splitlines()[-1] == str(out / "report.html")
    html = (out / "report.html").read_text()
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!data:)", html)
    assert html.count("data:image/png;base64,") == 2  # images and noise maps
    assert html.count('<table class="sortable metrics">') == 1
    summary = json.loads((out / "summary.json").read_text())
    psnr = {name: found["metrics"]["psnr_magnitude_object_max"]["mean"] for name, found in summary["models"].items()}
    best = max(psnr, key=psnr.get)
    assert f"<dd>{best}: PSNR in the object {psnr[best]:.2f} [" in html
    gap = summary["differences"][best]["psnr_magnitude_object_max"]  # of the first model less the best one
    assert f"{-gap['mean']:.2f} [{-gap['high']:.2f} … {-gap['low']:.2f}] dB better than zero-filled" in html
    rows = (out / "rows.csv").read_bytes()
    (out / "report.html").unlink()  # as after a stop: the same command goes on
    assert run(app, [*words, "--noise-map", "--probes", "4"]).exit_code == 0
    assert (out / "report.html").exists()
    assert (out / "rows.csv").read_bytes() == rows
