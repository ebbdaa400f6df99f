import json
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from examples import write_scan
from properties import complex_normal
from scan_files import flag, header, write_mrd
from scipy.io import savemat
from typer.testing import CliRunner

from pipelines import reconstruct_scan
from pipelines.cli.app import app
from pipelines.models.reconstruct import _shown
from pipelines.models.reconstruction_files import FILES, G_LAM, g_map
from recon.data.scan_batch import Undersampling, batch_of, noise_of
from recon.errors import ModelError
from recon.models.baselines import RegularisedSense
from recon.models.gfactor import replica_g
from synth.calibration.noise_profile import NoiseProfile
from synth.errors import CalibrationError, ScanError
from synth.physics import fft2c
from synth.scans.open import open_scan


def reconstruct(*words):
    return CliRunner().invoke(app, ["reconstruct", "cg-sense:3", *map(str, words)])


@pytest.fixture(scope="module")
def folder(scans, tmp_path_factory):
    """A scan in a folder and one in a subfolder, one that cannot be read, and a file that is no scan."""
    made = tmp_path_factory.mktemp("folder")
    (made / "more").mkdir()
    for path in sorted(scans.iterdir()):
        shutil.copy(path, made / "more" if path.stem == "b" else made)
    (made / "broken.npy").write_bytes(b"no array")
    (made / "notes.txt").write_text("a text")
    return made


FORMATS = [word for name in ("nifti", "dicom", "cfl") for word in ("--write", name)]


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """The folder, reconstructed from every second line, with all formats; what was shown, and the folders."""
    out = tmp_path_factory.mktemp("out") / "r"
    shown = reconstruct(folder, "--out", out, "--acceleration", 2, *FORMATS)
    return shown, [out / "a", out / "more" / "b"]


def test_python_gives_what_the_command_writes(folder, whole):
    made = reconstruct_scan("cg-sense:3", str(folder / "a.npy"), acceleration=2)
    np.testing.assert_array_equal(made.images, np.load(whole[1][0] / "images.npy"))
    summary = json.loads((whole[1][0] / "summary.json").read_text())
    assert json.loads(json.dumps(made.rows)) == summary["rows"]
    assert made.notes == summary["notes"]
    plain = reconstruct_scan("cg-sense:3", open_scan(folder / "a.npy"))
    assert (plain.rows, plain.sampled[0]["acceleration_net"]) == ([], 1.0)


def test_signal_that_one_map_set_cannot_explain_is_told(tmp_path, rng):
    """Where an object wraps around, two of its parts lie at one pixel, with maps of their own."""
    y, x = np.mgrid[-1:1:48j, -1:1:40j]
    maps = np.stack([np.cos(x + 1), np.sin(x + 1)])
    disc = 20 * (x**2 + y**2 < 0.4)
    alone, wrapped = fft2c(disc * maps), fft2c(np.roll(disc, 14, axis=1) * maps[::-1])
    noise = complex_normal(rng, 2, 48, 40)
    for name, kspace in (("alone", alone), ("both", alone + wrapped)):
        np.save(tmp_path / f"{name}.npy", (kspace + noise).astype(np.complex64))
    one, both = (reconstruct_scan("cg-sense:10", tmp_path / f"{name}.npy") for name in ("alone", "both"))
    assert one.sampled[0]["unexplained"] < 0.02
    assert "unexplained" not in str(one.notes)
    two = reconstruct_scan("cg-sense:10", tmp_path / "both.npy", sets=2)
    assert two.sampled[0]["unexplained"] < 0.02
    share = both.sampled[0]["unexplained"]
    told = f"in 1 of 1 slice, the image and the coil maps leave up to {share:.0%} of the signal"
    assert any(note.startswith(told) for note in both.notes)


def test_noise_may_be_given(folder, tmp_path, rng):
    """Of a profile twice as strong, images are half as large; a noise scan gives what its profile gives."""
    scan = open_scan(folder / "a.npy")
    own = reconstruct_scan("cg-sense:3", scan)
    double = replace(own.noise, covariance=4 * own.noise.covariance)
    double.save(tmp_path / "noise.json")
    made = reconstruct(folder / "a.npy", "--out", tmp_path / "out", "--noise", tmp_path / "noise.json")
    assert made.exit_code == 0, made.output
    assert f"note: the noise is that of {tmp_path / 'noise.json'}" in made.output
    np.testing.assert_allclose(np.load(tmp_path / "out" / "images.npy"), own.images / 2, rtol=1e-4, atol=1e-4)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["sigma"] == pytest.approx(
        2 * own.noise.rms_sigma
    )
    sigma = own.noise.rms_sigma
    assert f"its own background has sigma {sigma:.4g}, the noise that was given {2 * sigma:.4g}" in made.output
    savemat(tmp_path / "noise.mat", {"noise": 3 * complex_normal(rng, 2000, scan.coils)})
    found = reconstruct_scan("cg-sense:3", scan, noise=tmp_path / "noise.mat")
    assert found.noise.rms_sigma == pytest.approx(3, rel=0.03)
    savemat(tmp_path / "other.mat", {"noise": complex_normal(rng, 2000, scan.coils + 1)})
    with pytest.raises(CalibrationError, match=r"other\.mat is the noise of .*; give that of the same coils"):
        reconstruct_scan("cg-sense:3", scan, noise=str(tmp_path / "other.mat"))
    with pytest.raises(CalibrationError, match=r"b\.npy: its noise cannot be learnt. noise scan: it holds none"):
        reconstruct_scan("cg-sense:3", scan, noise=folder / "more" / "b.npy")
    assert (
        "fathom calibrate"
        in reconstruct(folder / "a.npy", "--out", tmp_path / "o", "--noise", folder / "broken.npy").stderr
    )
    gone = reconstruct(folder / "a.npy", "--out", tmp_path / "o", "--noise", tmp_path / "gone.json")
    assert "gone.json: is not a file; give a noise scan, or a profile of `fathom calibrate`" in gone.stderr
    again = reconstruct(folder / "a.npy", "--out", tmp_path / "out")
    assert "holds the results of another command" in again.output


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"acceleration": 0}, "acceleration = 0: give a whole number of 1 or more"),
        ({"acceleration": 2.5}, "acceleration = 2.5: give a whole number"),
        ({"reference_lines": -1}, "reference_lines = -1: give a whole number of 0 or more"),
        ({"sets": 3}, "sets = 3: give 1, or 2 for"),
    ],
)
def test_python_refuses_numbers_that_cannot_be(folder, wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        reconstruct_scan("cg-sense:3", folder / "a.npy", **wrong)


def test_noise_alone_is_refused_in_python(mixed):
    with pytest.raises(ScanError, match="holds only noise; give a scan with images"):
        reconstruct_scan("cg-sense:3", open_scan(mixed / "noise.h5"))


def test_the_page_of_a_folder_has_the_words_of_the_command_line(folder, tmp_path):
    failed = reconstruct(folder, "--out", tmp_path / "out", "--acceleration", 400)
    assert failed.exit_code == 1
    page = (tmp_path / "out" / "report.html").read_text()
    for told in (page, failed.stderr):
        assert told.count("--acceleration 400 on ") == 2  # one scan does not end the others
        assert "sampling.acceleration" not in told


def test_every_scan_of_a_folder_is_reconstructed_and_the_rest_is_told(whole):
    """What failed stands at the end, with its file, and after the number of scans that did not."""
    shown, folders = whole
    assert shown.exit_code == 1
    assert all((out / "report.html").exists() for out in folders)
    assert shown.stdout.count("not for diagnosis") == 2
    lines = shown.output.strip().splitlines()
    assert f"{folders[0].parent}: 2 of 3 scans reconstructed; see" in lines[-2]
    assert lines[-1].startswith("error: ")
    assert "broken.npy" in lines[-1]


def test_a_scan_of_many_slices_is_told_in_few_lines(tmp_path):
    """Of 12 slices, 8 are printed, and their mean is that of the rows in the summary."""
    scan = tmp_path / "many.npy"
    write_scan(scan, slices=12)
    shown = reconstruct(scan, "--out", tmp_path / "r", "--acceleration", 2)
    assert sum(line.startswith("slice ") for line in shown.stdout.splitlines()) == 8
    rows = json.loads((tmp_path / "r" / "summary.json").read_text())["rows"]
    mean = np.mean([row["psnr_magnitude_object_max"] for row in rows])
    assert f"mean of 12 slices, of which 4 are not shown: PSNR in the object {mean:.2f} dB (CG-SENSE " in shown.stdout


def test_the_page_of_a_folder_leads_to_each_scan_and_says_what_failed(whole):
    """Its numbers are those of the scans' own summaries; its pictures are small."""
    out = whole[1][0].parent
    html = (out / "report.html").read_text()
    for folder in whole[1]:
        name = folder.relative_to(out).as_posix()
        assert f'<a href="{name}/report.html">{name}</a>' in html
        rows = json.loads((folder / "summary.json").read_text())["rows"]
        assert f"<td>{np.mean([row['psnr_magnitude_object_max'] for row in rows]):.2f}</td>" in html
    assert html.count("<img") == 2
    assert "2 of 3 scans" in html
    assert "broken.npy" in html


def test_a_folder_that_was_begun_goes_on(folder, whole):
    """What is there stays, even the time at which it was written; what is missing is made."""
    first, second = whole[1]
    before = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    (second / "report.html").unlink()
    shown = reconstruct(folder, "--out", first.parent, "--acceleration", 2, *FORMATS)
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == before
    assert (second / "report.html").exists()
    assert shown.output.count("there already") == 1
    assert "2 of 3 scans" in shown.output


def test_a_folder_does_not_take_what_is_of_another_command(folder, whole, tmp_path):
    out = whole[1][0].parent
    shown = reconstruct(folder, "--out", out, "--acceleration", 3)
    assert shown.exit_code == 1
    assert f"{out} holds the results of another command, in which acceleration is 2, and not 3" in shown.output
    (tmp_path / "mine.txt").write_text("mine")
    assert f"{tmp_path} holds other files" in reconstruct(folder, "--out", tmp_path).output


def test_results_below_the_folder_are_not_taken_as_scans(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "s")
    (tmp_path / "s" / "broken.npy").unlink()
    for _ in range(2):
        shown = reconstruct(tmp_path / "s", "--out", tmp_path / "s" / "r")
        assert shown.exit_code == 0
        assert "2 of 2 scans" in shown.output


def test_more_aliases_than_coils_are_told(scans, tmp_path):
    """Five coils: acceleration 6 has six aliases, and 5 as many as coils."""
    scan = next(path for path in scans.iterdir() if path.stem == "b")
    for factor, said in ((6, "5 coils cannot separate"), (5, "5 coils can hardly separate"), (4, None)):
        shown = reconstruct(scan, "--out", tmp_path / str(factor), "--acceleration", factor).output
        assert (said in shown) if said else ("separate" not in shown)


def test_images_are_the_same_in_every_format(whole):
    nibabel, pydicom = (pytest.importorskip(name) for name in ("nibabel", "pydicom"))
    for out in whole[1]:
        images = np.load(out / "images.npy")
        magnitude = np.abs(images)
        assert nibabel.load(out / "images.nii").get_fdata() == pytest.approx(magnitude.transpose(2, 1, 0), rel=1e-5)
        for number, image in enumerate(magnitude):
            one = pydicom.dcmread(out / "dicom" / f"slice-{number:03d}.dcm")
            assert one.pixel_array * float(one.RescaleSlope) == pytest.approx(image, abs=1e-5 * float(magnitude.max()))
        slices, y, x = images.shape
        sizes = [int(n) for n in (out / "images.hdr").read_text().splitlines()[1].split()]
        assert sizes == [y, x, *[1] * 11, slices]
        assert np.array_equal(
            np.fromfile(out / "images.cfl", np.complex64).reshape(slices, x, y), images.swapaxes(1, 2)
        )
        if shutil.which("bart"):
            found = subprocess.run(["bart", "show", "-d", "13", "images"], cwd=out, capture_output=True, check=True)
            assert int(found.stdout) == slices


def test_the_summary_tells_how_the_scan_was_sampled(whole):
    """Half of 80 lines, and of 72, with the 24 in the middle: 52 and 48 lines are kept."""
    shown, folders = whole
    found = {path.name: json.loads((path / "summary.json").read_text()) for path in folders}
    assert [found[name]["acceleration_net"] for name in ("a", "b")] == [[1.538], [1.5]]
    assert [found[name]["coils"] for name in ("a", "b")] == [[6], [5]]
    assert found["a"]["acceleration"] == 2
    assert found["a"]["reference_lines"] == 24
    assert "net acceleration 1.538" in shown.output


def test_the_page_shows_pictures_files_and_numbers(whole):
    for out in whole[1]:
        page = (out / "report.html").read_text()
        assert page.count("data:image/png") == 1
        assert "not for diagnosis" in page
        assert "SSIM" in page
        there = {path.name for path in out.iterdir()}
        assert {name for name in FILES if f"<code>{name}</code>" in page} == there


def test_a_format_that_is_not_known_is_refused_before_any_work(folder, tmp_path):
    shown = reconstruct(next(iter(sorted(folder.glob("*.npy")))), "--out", tmp_path / "r", "--write", "png")
    assert shown.exit_code == 1
    assert "--write png: there is no such format; give nifti, dicom, cfl" in shown.output
    assert not (tmp_path / "r").exists()


def test_a_folder_without_scans_is_refused(tmp_path):
    shown = reconstruct(tmp_path, "--out", tmp_path / "r")
    assert shown.exit_code == 1
    assert "holds no file whose suffix is that of a scan" in shown.output


def test_the_g_map_is_that_of_replicas(scans):
    """Of five coils at R = 3 with reference lines: by probes as by 40 replicas of noise, whose error is 8 %."""
    scan = open_scan(next(path for path in scans.iterdir() if path.stem == "b"))
    batch, *_ = batch_of(scan[0], noise_of(scan)[0], Undersampling(3, 24))
    g, sense = g_map(batch, 72), RegularisedSense(G_LAM)

    def images(kspace):
        many = {"masked_kspace": kspace, "sigma": batch["sigma"].expand(len(kspace))}
        return sense({**batch, **many, "sens_maps": batch["sens_maps"].expand(len(kspace), -1, -1, -1)})

    expected = replica_g(images, batch["sens_maps"], batch["mask"], replicas=40).numpy()
    inside = expected > 0
    assert np.mean(g[inside] / expected[inside]) == pytest.approx(1, abs=0.02)
    assert np.median(np.abs(g - expected)[inside] / expected[inside]) < 0.08
    assert 1 < np.median(g[inside]) < np.quantile(g[inside], 0.99) < G_LAM


@pytest.fixture(scope="module")
def mixed(scans, tmp_path_factory):
    """A full scan, one of every second line with 24 reference lines, a noise scan, and a covariance matrix."""
    made = tmp_path_factory.mktemp("mixed")
    full = np.load(scans / "b.npy")
    np.save(made / "full.npy", full)
    lines = np.arange(full.shape[-1])
    np.save(made / "half.npy", full * ((lines % 2 == 0) | (abs(lines - 36) < 12)))
    np.save(made / "covariance.npy", np.eye(5, dtype=np.complex64))
    noise = [(complex_normal(np.random.default_rng(4), 5, 200), 0, 0, flag(19), {})]
    write_mrd(made / "noise.h5", noise, header())
    return made


def test_what_is_undersampled_already_is_reconstructed_as_it_was_measured_in_a_folder(mixed, tmp_path):
    """Twice, so that what is there already is found again; alone, the same scan is refused."""
    for _ in range(2):
        shown = reconstruct(mixed, "--out", tmp_path / "r", "--acceleration", 3)
        assert shown.exit_code == 0, shown.output
        assert "note: the scan is undersampled already: it was reconstructed as it was measured" in shown.stdout
    found = {name: json.loads((tmp_path / "r" / name / "summary.json").read_text()) for name in ("full", "half")}
    assert "acceleration" not in found["half"]
    assert found["full"]["acceleration"] == 3
    assert not any("undersampled already" in note for note in found["full"]["notes"])
    alone = reconstruct(mixed / "half.npy", "--out", tmp_path / "half", "--acceleration", 3)
    assert alone.exit_code == 1
    assert "the scan is undersampled already; leave --acceleration out" in alone.output


def test_files_without_images_are_left_out_of_a_folder(mixed, tmp_path):
    """They are no failures; a folder that holds nothing else is refused."""
    shown = reconstruct(mixed, "--out", tmp_path / "r")
    assert shown.exit_code == 0, shown.output
    assert "2 of 2 scans reconstructed" in shown.stdout
    html = (tmp_path / "r" / "report.html").read_text()
    for reason in (f"{mixed / 'noise.h5'} holds only noise", "is a covariance or decorrelation matrix"):
        assert shown.stderr.count(reason) == 1
        assert reason in html.split("Left out")[1]
    assert shown.stderr.count("left out: ") == 2
    (tmp_path / "matrices").mkdir()
    shutil.copy(mixed / "covariance.npy", tmp_path / "matrices")
    refused = reconstruct(tmp_path / "matrices", "--out", tmp_path / "s")
    assert refused.exit_code == 1
    assert "holds no scan with images" in refused.output


def test_results_of_a_folder_and_of_a_scan_are_told_apart(folder, whole):
    shown = reconstruct(folder / "a.npy", "--out", whole[1][0].parent)
    assert f"which was of a folder of scans ({folder.name}), and not of a scan (a.npy)" in shown.output
    shown = reconstruct(folder, "--out", whole[1][0])
    assert f"which was of a scan (a.npy), and not of a folder of scans ({folder.name})" in shown.output


def test_the_slices_of_the_picture_leave_out_the_ends_of_a_scan():
    assert _shown(32) == {4, 12, 20, 28}
    assert _shown(3) == {0, 1, 2}


def disc_and_noise(rng, rows, *, slices=1):
    """K-space [slice coil y x] of a disc that two coils see; slices after the first hold noise alone."""
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1:1:40j]
    maps = np.stack([np.cos(x + 1), np.sin(x + 1)])
    kspace = complex_normal(rng, slices, 2, rows, 40)
    kspace[0] += fft2c(20 * (x**2 + y**2 < 0.4) * maps)
    return kspace.astype(np.complex64)


NET = """
def net():
    return image

def image(batch):
    if batch["masked_kspace"].shape[-2] < 16:
        raise ValueError("too few rows")
    return batch["sens_maps"][:, 0]
"""


def test_a_scan_that_a_network_cannot_take_does_not_end_the_others(tmp_path, rng):
    (tmp_path / "scans").mkdir()
    for name, rows in (("a", 48), ("b", 12), ("c", 48)):
        np.save(tmp_path / "scans" / f"{name}.npy", disc_and_noise(rng, rows))
    (tmp_path / "net.py").write_text(NET)
    found = CliRunner().invoke(
        app, ["reconstruct", f"{tmp_path / 'net.py'}:net", str(tmp_path / "scans"), "--out", str(tmp_path / "out")]
    )
    assert found.exit_code == 1
    assert "Traceback" not in found.output
    assert "b.npy" in found.stderr
    assert "too few rows" in found.stderr
    assert [(tmp_path / "out" / name / "images.npy").exists() for name in "abc"] == [True, False, True]
    assert (tmp_path / "out" / "report.html").exists()


def test_images_too_small_for_a_network_are_told_with_the_scan(tmp_path, rng):
    np.save(tmp_path / "small.npy", disc_and_noise(rng, 8))
    noise = NoiseProfile(2 * np.eye(2), "noise scan", 10**6, 0.0, 0.0)
    with pytest.raises(ModelError, match=r"small.npy, slice 0: images of 8x40 are too small"):
        reconstruct_scan("photos-1", tmp_path / "small.npy", noise=noise)


def test_of_slices_of_noise_alone_only_that_is_told(tmp_path, rng):
    np.save(tmp_path / "scan.npy", disc_and_noise(rng, 48, slices=3))
    noise = NoiseProfile(1.98 * np.eye(2), "noise scan", 10**6, 0.0, 0.0)
    found = reconstruct_scan("cg-sense:10", tmp_path / "scan.npy", noise=noise)
    assert [np.isnan(one["unexplained"]) for one in found.sampled] == [False, True, True]
    assert [np.isnan(one["peak_snr"]) for one in found.sampled] == [False, True, True]
    assert "unexplained" not in str(found.notes)
    assert str(found.notes).count("its image is 0 everywhere") == 2
