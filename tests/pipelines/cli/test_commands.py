"""What a person meets at the command line: each mistake gives one clear message, no traceback, a non-zero exit."""

import json
import os
import re
import subprocess

import numpy as np
import pytest
from commands import refused, run, small_disk
from conftest import recipe_data, recipe_text, write_photos
from object_store import environment
from PIL import Image
from processes import fathom, ledger_lines
from typer.main import get_command

from pipelines.cli.app import app
from pipelines.cli.parsing import Command
from synth.storage.corpus_files import building_path


@pytest.fixture
def file(photos, tmp_path):
    path = tmp_path / "cli.toml"
    path.write_text(recipe_text(photos))
    return path


def build(file, out, *arguments):
    return run("build", file, "--out", out, "--scheduler", "sync", *arguments)


def test_build_verify_inspect_iterate(file, tmp_path):
    out = tmp_path / "c.zarr"
    made = build(file, out, "--json")
    assert made.exit_code == 0
    line = json.loads(made.stdout.splitlines()[-1])
    assert {"content_hash", "pairs", "rejected", "seconds", "pairs_per_s"} <= line.keys()
    assert (line["pairs"], line["rejected"]) == (6, 0)
    text = build(file, out).stdout
    assert "already there" in text
    assert re.search(r"net acceleration [\d.]+ with \d+ reference lines\n", text)
    found = run("verify", out, "--replay", 2, "--json")
    assert found.exit_code == 0
    assert json.loads(found.stdout)["identical"] == 2
    assert "intact" in run("verify", out).stdout
    assert run("inspect", out, "--out", tmp_path / "report").exit_code == 0
    summary = (tmp_path / "report" / "summary.md").read_text()
    assert line["content_hash"] in summary
    assert "net 2." in summary
    with Image.open(tmp_path / "report" / "contact_sheet.png") as sheet:
        assert sheet.width > 1000
        assert np.asarray(sheet.convert("L")).std() > 20
    assert run("inspect", out, "--out", tmp_path / "report").exit_code == 0  # the same again
    (tmp_path / "report" / "summary.md").write_text("my notes")
    refused(run("inspect", out, "--out", tmp_path / "report"), "summary.md", "choose another --out")
    assert (tmp_path / "report" / "summary.md").read_text() == "my notes"
    read = json.loads(run("iterate", out, "--json").stdout)
    assert (read["pairs"], read["batches"]) == (6, 2)
    assert read["batch"]["masked_kspace"] == "[4, 3, 48, 56] complex64"


def test_the_contact_sheet_shows_what_is_stored(corpus):
    from pipelines.corpus.pair_pictures import zero_filled_image
    from synth.corpus.reader import open_corpus
    from synth.physics import ifft2c, rss
    from synth.stages.mask import Mask

    opened = open_corpus(corpus)
    (bucket,) = opened.buckets
    pair = opened.plan.pair(4)
    maps = np.asarray(bucket.arrays["maps"][pair.maps_index])
    kspace = Mask(pair.mask.sampled, 1.0).unpack(pair.kspace, (48, 56))
    np.testing.assert_allclose(zero_filled_image(opened, bucket, 4, maps), rss(ifft2c(kspace)), rtol=1e-6)


def test_verify_says_what_is_damaged(file, tmp_path):
    out = tmp_path / "c.zarr"
    build(file, out)
    shard = next(p for p in (out / "c3-y48-x56" / "kspace" / "c" / "1").rglob("*") if p.is_file())
    shard.write_bytes(shard.read_bytes()[:-7])
    found = run("verify", out)
    assert found.exit_code == 1
    assert "pairs/1" in found.stderr
    assert json.loads(run("verify", out, "--json").stdout)["intact"] is False
    assert "mended" in build(file, out).stdout
    assert run("verify", out).exit_code == 0


def test_wrong_recipes(file, tmp_path):
    out = tmp_path / "c.zarr"
    refused(build("nothing-like-it", out), "no ready recipe", "knoll2019-17")
    refused(build(tmp_path / "gone.toml", out), "gone.toml", "does not exist")
    for change, parts in {
        "sampling.acceleratoin=4": ("sampling.acceleratoin", "did you mean 'acceleration'"),
        "sampling.acs=24": ("sampling.acs", "did you mean 'reference_lines'"),
        'coils.count="many"': ("coils.count", "many", "whole number"),
        "sampling.reference_lines=57": ("reference_lines = 57", "56"),
        "sampling.acceleration=60": ("acceleration 60", "cannot be met"),
        "noise.snr=-1": ("noise.snr = -1", "greater than 0"),
        "source.path=/nowhere": ("/nowhere", "does not exist; give a folder"),
    }.items():
        refused(build(file, out, "--set", change), *parts)
    assert not list(tmp_path.glob("c.zarr*"))  # not even an empty folder


def test_files_of_the_wrong_kind(file, tmp_path):
    (tmp_path / "t.toml").write_text('name = "t"\n[data]\ncorpora = ["c.zarr"]\n[model]\nkind = "unrolled"\n')
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("kept")
    (tmp_path / "p.png").write_bytes(bytes(range(200, 256)))
    out = tmp_path / "out"
    refused(build(tmp_path / "t.toml", out), "t.toml: is a training; use it with `fathom train`")
    for command in ("train", "study"):
        refused(run(command, file, "--out", out), "cli.toml: is a recipe; use it with `fathom build`")
    refused(build(tmp_path / "p.png", out), "p.png: is not a text file; give a TOML recipe")
    refused(build(file, tmp_path / "mine"), "mine is there already and is no corpus", "choose another --out")
    refused(run("verify", tmp_path / "no.zarr"), "no.zarr does not exist")
    refused(build(file, out, "--set", "phase={kind=sinusoidal}"), "is not valid TOML", "put texts in quotes")
    build(file, tmp_path / "c.zarr")
    refused(run("test", file, tmp_path / "c.zarr", "--out", out), "cli.toml is not a model", "`fathom train` made")


def test_a_recipe_of_scans_is_told_from_the_corpus_of_photographs_that_is_there(file, tmp_path, rng):
    out = tmp_path / "c.zarr"
    build(file, out)
    np.save(tmp_path / "scan.npy", rng.normal(size=(4, 48, 56)) + 1j * rng.normal(size=(4, 48, 56)))
    scans = f'name = "s"\n[source]\nkind = "scans"\npath = "{tmp_path / "scan.npy"}"\n[coils]\nkind = "espirit"\n'
    (tmp_path / "s.toml").write_text(scans + '[noise]\nkind = "none"\n[target]\nfit = "native"\n')
    refused(build(tmp_path / "s.toml", out), "was made from another recipe (differs in", "source.kind")


@pytest.fixture
def bad_photos(tmp_path):
    """One photograph of each kind that cannot be used."""
    folder = write_photos(tmp_path / "bad", 1)
    good = (folder / "photo0.png").read_bytes()
    (folder / "photo0.png").unlink()
    image = Image.open(__import__("io").BytesIO(good))
    (folder / "corrupt.png").write_bytes(good[:50] + b"?" * 20 + good[70:])
    (folder / "truncated.png").write_bytes(good[: len(good) // 3])
    (folder / "text.jpg").write_text("hello")
    image.save(folder / "moving.gif", save_all=True, append_images=[image.rotate(90)])
    Image.new("L", (1, 1), 9).save(folder / "one.png")
    image.resize((30, 30)).save(folder / "small.png")
    return folder


def test_each_bad_photo_is_named(file, bad_photos, tmp_path):
    names = sorted(p.name for p in bad_photos.iterdir())
    for name in names:
        alone = tmp_path / f"only-{name}"
        alone.mkdir()
        (bad_photos / name).rename(alone / name)
        refused(
            build(file, tmp_path / f"{name}.zarr", "--set", f"source.path={alone}"), name, "rejected", "max_rejected"
        )
        assert not (tmp_path / f"{name}.zarr").exists()
    assert len(names) == 6


def test_an_empty_folder(file, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(build(file, tmp_path / "c.zarr", "--set", f"source.path={tmp_path / 'empty'}"), "no image file")


def test_output_that_cannot_be_written(file, tmp_path):
    (tmp_path / "a-file").write_text("")
    refused(build(file, tmp_path / "a-file" / "c.zarr"), "a-file")
    refused(build(file, "/proc/nothing/c.zarr"), "/proc/nothing")
    refused(build(file, tmp_path / "a-file"), "nothing was changed")


def commands_of(group):
    for command in group.commands.values():
        yield from commands_of(command) if hasattr(command, "commands") else [command]


def test_addresses_of_object_stores_are_refused(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = list(commands_of(get_command(app)))
    assert len(found) > 16
    assert all(isinstance(command, Command) for command in found)  # it makes paths local, whatever the option's name
    photos = 'source={kind="images",path="s3://b/photos"}'
    build(file, "c.zarr")
    for command in (
        ("build", "s3://b/r.toml", "--out", "o.zarr"),
        ("export", "c.zarr", "--to", "mrd", "--out", "s3://b/e"),
        ("calibrate", "scan.npy", "--out", "n.json", "--noise", "s3://b/n.npy"),
        ("reconstruct", "cg-sense:5", "s3://b/scan.npy", "--out", "o"),
        ("manifest", "split", "s3://b/photos"),
        ("study", "demo", "--out", "s3://b/s", "--plan"),
    ):
        refused(run(*command), "s3://b", "Fathom reads and writes local files, not s3://; give the path of a local")
    with environment({"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}):  # without keys
        for command in (
            ("build", file, "--out", "s3://b/c.zarr"),
            ("verify", "s3://b/c.zarr"),
            ("leakage", "c.zarr", "s3://b/c.zarr"),
            ("test", "cg-sense:5", "s3://b/c.zarr", "--out", "o"),
            ("test", "s3://b/model", "c.zarr", "--out", "o"),
            ("build", file, "--out", "o.zarr", "--set", photos),
        ):
            result = run(*command)
            told = ("s3://b: no credentials were found", 'pip install "fathom-mri[s3]"')
            assert (any(t in result.stderr for t in told), result.exit_code) == (True, 1), result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.zarr", "cli.toml"]
    assert build(file, f"file://{tmp_path}/d.zarr").exit_code == 0
    assert "intact" in run("verify", f"file://{tmp_path}/d.zarr").stdout


def test_things_that_are_no_corpus(tmp_path):
    for command in (("verify",), ("iterate",), ("inspect", "--out", tmp_path / "o")):
        refused(run(command[0], tmp_path / "none", *command[1:]), "none", "does not exist")
        refused(run(command[0], tmp_path, *command[1:]), tmp_path.name, "a corpus of Fathom's")


def test_an_unfinished_corpus_is_said(file, tmp_path):
    out = tmp_path / "c.zarr"
    build(file, out)
    out.rename(building_path(out))
    refused(run("verify", out), "unfinished", "run the same `fathom build` again")


def test_a_full_disk_loses_nothing(photos, tmp_path, monkeypatch):
    """The disk fills while shards are written: the check beforehand is passed by a file that takes the space."""
    import pipelines.corpus.build as engine

    file = tmp_path / "cli.toml"
    file.write_text(recipe_text(photos))
    monkeypatch.setattr(engine, "_check_space", lambda *_: None)
    with small_disk(tmp_path / "disk", 2) as disk:
        (disk / "ballast").write_bytes(bytes(1_700_000))
        refused(build(file, disk / "c.zarr"), "the disk is full", "run the same command again")
        finished = {line["task"] for line in ledger_lines(disk / "c.zarr")}
        assert finished
        assert not (disk / "c.zarr").exists()
        (disk / "ballast").unlink()
        again = build(file, disk / "c.zarr", "--json")
        assert again.exit_code == 0, again.output
        assert run("verify", disk / "c.zarr", "--replay", 6).exit_code == 0


def test_too_small_a_disk_is_said_beforehand(file, tmp_path):
    with small_disk(tmp_path / "disk", 1) as disk:
        result = build(file, disk / "c.zarr", "--set", "pairs=2000")
        refused(result, "the corpus needs", "free some space")
        assert "0.00 GB free" in result.stderr


def test_a_read_only_disk(file, tmp_path):
    with small_disk(tmp_path / "disk", 2) as disk:
        build(file, disk / "there.zarr")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        refused(build(file, disk / "c.zarr"), str(disk), "read-only")
        assert build(file, disk / "there.zarr").exit_code == 0  # already there: nothing need be written


def test_debug_shows_the_traceback(file, tmp_path):
    result = run("--debug", "build", file, "--out", tmp_path / "c.zarr", "--set", "noise.snr=-1")
    assert result.exit_code == 1
    assert "Traceback" in result.output


def test_doctor_finds_clashes(tmp_path):
    assert fathom("doctor")[0] == 0
    (tmp_path / "recon").mkdir()
    (tmp_path / "recon" / "__init__.py").write_text("")
    code, _, err = fathom("doctor", check=False, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert code == 1
    assert f"'recon' is imported from {tmp_path / 'recon'}" in err
    assert "Traceback" not in err


def test_doctor_finds_copies_further_down_the_path(tmp_path, monkeypatch):
    from pipelines.cli.doctor import other_rooms, shadowed_rooms

    (tmp_path / "synth.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path[1:], str(tmp_path)])
    assert not shadowed_rooms()
    assert any(str(tmp_path / "synth") in problem for problem in other_rooms())


def test_version_help_and_schema():
    assert run("--version").stdout.startswith("fathom ")
    assert "build" in run("--help").stdout
    assert "sampling" in json.loads(run("schema").stdout)["properties"]
    assert "optimiser" in json.loads(run("schema", "training").stdout)["properties"]
    assert "trainings" in json.loads(run("schema", "study").stdout)["properties"]
    assert "'settings': 'recipee' is not one of 'recipe', 'training', 'study'" in run("schema", "recipee").stderr


def test_recipe_data_is_what_the_toml_says(photos):
    assert recipe_data(photos)["source"]["path"] == str(photos)
