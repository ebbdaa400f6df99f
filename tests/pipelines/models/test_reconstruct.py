import json
import shutil
import subprocess

import numpy as np
import pytest
from typer.testing import CliRunner

from pipelines.cli.app import app
from pipelines.models.reconstruct import FILES


def reconstruct(*words):
    return CliRunner().invoke(app, ["reconstruct", "cg-sense:3", *map(str, words)])


@pytest.fixture(scope="module")
def folder(scans, tmp_path_factory):
    """Two scans in a folder, one that cannot be read, and a file that is no scan."""
    made = tmp_path_factory.mktemp("folder")
    for path in sorted(scans.iterdir()):
        shutil.copy(path, made)
    (made / "broken.npy").write_bytes(b"no array")
    (made / "notes.txt").write_text("a text")
    return made


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """The folder, reconstructed from every second line, with all formats."""
    out = tmp_path_factory.mktemp("out")
    formats = [word for name in ("nifti", "dicom", "cfl") for word in ("--write", name)]
    return reconstruct(folder, "--out", out / "r", "--acceleration", 2, *formats), out / "r"


def test_every_scan_of_a_folder_is_reconstructed_and_the_rest_is_told(folder, whole):
    shown, out = whole
    scans = sorted(
        path.stem for path in folder.iterdir() if path.suffix not in (".txt", ".hdr") and "broken" not in path.name
    )
    assert sorted(path.name for path in out.iterdir()) == scans
    assert len(scans) >= 2
    assert shown.exit_code == 1
    assert "broken.npy" in shown.output
    assert shown.output.count("not for diagnosis") == len(scans)


def test_images_are_the_same_in_every_format(whole):
    nibabel, pydicom = (pytest.importorskip(name) for name in ("nibabel", "pydicom"))
    for out in whole[1].iterdir():
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
    shown, out = whole
    found = {path.name: json.loads((path / "summary.json").read_text()) for path in out.iterdir()}
    assert [found[name]["acceleration_net"] for name in ("a", "b")] == [[1.538], [1.5]]
    assert [found[name]["coils"] for name in ("a", "b")] == [[6], [5]]
    assert found["a"]["acceleration"] == 2
    assert found["a"]["reference_lines"] == 24
    assert "net acceleration 1.538" in shown.output


def test_the_page_shows_pictures_files_and_numbers(whole):
    for out in whole[1].iterdir():
        page = (out / "report.html").read_text()
        assert page.count("data:image/png") == 1
        assert "not for diagnosis" in page
        assert "SSIM" in page
        there = {path.name for path in out.iterdir()}
        assert {name for name in FILES if f"<code>{name}</code>" in page} == there


def test_a_format_that_is_not_known_is_refused_before_any_work(folder, tmp_path):
    shown = reconstruct(next(iter(sorted(folder.glob("*.npy")))), "--out", tmp_path / "r", "--write", "png")
    assert shown.exit_code == 1
    assert "--write png: write nifti, dicom, cfl" in shown.output
    assert not (tmp_path / "r").exists()


def test_a_folder_without_scans_is_refused(tmp_path):
    shown = reconstruct(tmp_path, "--out", tmp_path / "r")
    assert shown.exit_code == 1
    assert "holds no file whose suffix is that of a scan" in shown.output
