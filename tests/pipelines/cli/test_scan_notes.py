"""Every command that reads scans says the same of them."""

import numpy as np
import pytest
from properties import complex_normal
from typer.testing import CliRunner

from pipelines.cli.app import app
from synth.physics import fft2c

RECIPE = """
name = "scans"
seed = 4
[source]
kind = "scans"
path = "{path}"
axes = "slice coil y x"
[target]
fit = "native"
[coils]
kind = "espirit"
[noise]
kind = "none"
[sampling]
kind = "regular"
acceleration = 2
reference_lines = 24
"""


def notes_of(*arguments):
    made = CliRunner().invoke(app, [str(a) for a in arguments])
    assert made.exit_code == 0, made.output
    return [line.removeprefix("note: ") for line in made.stdout.splitlines() if line.startswith("note: ")]


def commands(path, out):
    recipe, axes = out / "r.toml", ("--axes", "slice coil y x")
    recipe.write_text(RECIPE.format(path=path))
    yield notes_of("calibrate", path, "--out", out / "n.json", *axes)
    yield notes_of("coils", path, "--out", out / "coils.zarr", "--scheduler", "sync", *axes)
    yield notes_of("build", recipe, "--out", out / "c.zarr", "--scheduler", "sync")
    if path.is_file():
        yield notes_of("reconstruct", "cg-sense:2", path, "--out", out / "images", "--acceleration", 2, *axes)


@pytest.mark.parametrize("alone", [True, False])
def test_calibrate_coils_build_and_reconstruct_tell_the_same_of_a_scan(scans, tmp_path, alone):
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("a.npy",) if alone else ("a.npy", "b.npy"):
        np.save(folder / name, np.roll(np.load(scans / "a.npy"), 11, 3))
    told = "k-space's peak lies at y, x = 48, 51, not in its middle 48, 40"
    for notes in commands(folder / "a.npy" if alone else folder, tmp_path):
        (found,) = [note for note in notes if told in note]
        assert found.startswith(told if alone else f"a.npy and 1 more: {told}")


def test_an_interval_stands_beside_a_doubt(scans, tmp_path):
    """The interval is that of a number of samples; a note may say that sigma is not what it seems."""
    for name, shift in (("clear", 0), ("doubtful", 11)):
        np.save(tmp_path / f"{name}.npy", np.roll(np.load(scans / "a.npy"), shift, 3))
        words = ["calibrate", str(tmp_path / f"{name}.npy"), "--out", str(tmp_path / f"{name}.json")]
        told = CliRunner().invoke(app, [*words, "--axes", "slice coil y x"]).output
        assert " ± " in told
        assert "not checked" not in told  # three slices show a filter along them
        assert ("the notes say what may add to it" in told) is ("note: " in told) is (shift > 0)


def test_one_slice_is_said_not_to_show_a_filter_along_slices(scans, tmp_path):
    path = tmp_path / "one.npy"
    np.save(path, np.load(scans / "a.npy")[:1])
    words = ["calibrate", str(path), "--out", str(tmp_path / "n.json"), "--axes", "slice coil y x"]
    assert "not checked: a filter or zeros along the slices" in CliRunner().invoke(app, words).output


@pytest.mark.parametrize("command", ["calibrate", "coils", "build", "build all"])
def test_a_refusal_tells_it_too(rng, tmp_path, command):
    path, recipe = tmp_path / "a.npy", tmp_path / "r.toml"
    y, x = np.meshgrid(np.linspace(-1, 1, 96), np.linspace(-1, 1, 80), indexing="ij")
    smooth = 90 * np.exp(-8 * (y**2 + x**2)) * complex_normal(rng, 1, 4, 1, 1)
    kspace = np.fft.ifftshift(fft2c(smooth.astype(np.complex64)) + complex_normal(rng, 1, 4, 96, 80), axes=(2, 3))
    if command == "calibrate":
        kspace[..., 30:60] = 0
    np.save(path, kspace)
    recipe.write_text(RECIPE.format(path=path))
    arguments = {
        "calibrate": [path, "--out", tmp_path / "n.json", "--axes", "slice coil y x"],
        "coils": [path, "--out", tmp_path / "coils.zarr", "--scheduler", "sync", "--axes", "slice coil y x"],
        "build": [recipe, "--out", tmp_path / "c.zarr", "--scheduler", "sync"],
        "build all": [recipe, "--out", tmp_path / "c.zarr", "--scheduler", "sync", "--set", "source.max_rejected=1"],
    }[command]
    made = CliRunner().invoke(app, [command.split()[0], *map(str, arguments)])
    assert made.exit_code == 1
    assert "peak lies at y, x = 0, 0" in made.output
