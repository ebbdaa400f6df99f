"""Every command that reads scans says the same of them."""

import numpy as np
import pytest
from typer.testing import CliRunner

from pipelines.cli.app import app

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


def test_a_refusal_tells_it_too(scans, tmp_path):
    kspace = np.fft.ifftshift(np.load(scans / "a.npy"), axes=(2, 3))
    kspace[..., 30:60] = 0
    np.save(tmp_path / "a.npy", kspace)
    made = CliRunner().invoke(app, ["calibrate", str(tmp_path / "a.npy"), "--out", str(tmp_path / "n.json")])
    assert made.exit_code == 1
    assert "peak lies at y, x = 0, 0" in made.output
