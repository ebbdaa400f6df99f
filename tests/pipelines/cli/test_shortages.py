"""What a user reads where a limit is met or a file is damaged: one line with the path and the remedy."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from commands import refused, run, small_disk
from conftest import recipe_text

from recon.training.checkpoint import load_tensors, save_tensors
from synth.errors import ShardError, StorageError
from synth.storage.corpus_files import building_path
from synth.storage.shard import ShardedArray
from synth.storage.whole import named

TRAINING = """
name = "t"
[data]
corpora = ["{corpus}"]
[model]
kind = "unrolled-sense"
iterations = 1
channels = 2
levels = 1
[training]
steps = 2
checkpoint_seconds = 0
"""


def limited(limit, *arguments):
    """Run `fathom` under a limit of the shell: (exit code, stderr)."""
    program = "from pipelines.cli.main import main; main()"
    command = ["bash", "-c", f'ulimit {limit}; exec "$@"', "-", sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    return done.returncode, done.stderr


@pytest.fixture
def file(photos, tmp_path):
    path = tmp_path / "cli.toml"
    path.write_text(recipe_text(photos))
    return path


@pytest.fixture
def training(corpus, tmp_path):
    path = tmp_path / "t.toml"
    path.write_text(TRAINING.format(corpus=corpus))
    return path


def one_line(told, *parts):
    assert told.count("error:") == 1, told
    assert len([line for line in told.strip().splitlines() if not line.startswith("note: ")]) == 1, told
    for part in parts:
        assert part in told, told


def test_a_file_that_may_not_grow(file, tmp_path):
    code, told = limited("-f 16", "build", file, "--out", tmp_path / "c.zarr", "--scheduler", "sync")
    assert code == 1
    one_line(told, f"{tmp_path}/c.zarr.building/c3-y48-x56/", "file too large; raise the limit", "`ulimit -f`")


@pytest.mark.parametrize("files", [6, 12, 100])
def test_few_descriptors_end_a_command_before_it_begins(files, corpus):
    code, told = limited(f"-n {files}", "verify", corpus)
    assert code == 1
    one_line(told, f"only {files} files open here (`ulimit -n`)", "raise the limit, such as `ulimit -n 4096`")


def test_a_soft_limit_of_descriptors_is_raised(corpus):
    assert limited("-S -n 12", "verify", corpus) == (0, "")


def test_a_root_folder_is_not_written_into(corpus, monkeypatch):
    def written(*_):
        raise AssertionError("something was written")

    monkeypatch.setattr("pipelines.corpus.inspect.write_whole", written)
    for root in ("/", "/tmp/.."):
        refused(run("inspect", corpus, "--out", root), f"{root}: is a root folder; give a folder below it")


def test_a_ledger_that_is_a_pipe(file, corpus, tmp_path):
    out = tmp_path / "c.zarr"
    assert run("build", file, "--out", out, "--scheduler", "sync").exit_code == 0
    (out / "ledger.jsonl").unlink()
    os.mkfifo(out / "ledger.jsonl")
    told = f"{out}/ledger.jsonl: is a pipe, a device or a folder, not a file; restore it, or remove it and run the same"
    commands = (
        ["verify", out],
        ["build", file, "--out", out, "--scheduler", "sync"],
        ["publish", out, "--out", tmp_path / "p"],
    )
    for command in commands:
        refused(run(*command), told)
    (out / "ledger.jsonl").unlink()
    assert run("build", file, "--out", out, "--scheduler", "sync").exit_code == 0
    assert run("verify", out).exit_code == 0


def test_few_descriptors_are_no_damage(corpus, monkeypatch):
    """They say nothing about the files: verify must not call them damaged, and the build must not make them again."""
    real = os.open

    def scarce(path, *rest, **named):
        if "kspace" in str(path):
            raise OSError(24, "Too many open files", str(path))
        return real(path, *rest, **named)

    monkeypatch.setattr(os, "open", scarce)
    for command in (["verify", corpus], ["iterate", corpus]):
        refused(
            run(*command), "/kspace/", "too many open files; raise the limit of open files, such as `ulimit -n 4096`"
        )


def test_a_full_disk_in_training(training, corpus, tmp_path):
    with small_disk(tmp_path / "disk", 1) as disk:
        (disk / "ballast").write_bytes(bytes(2**20 - 20_000))
        for command, file in (
            (["train", training, "--out", disk / "m", "--device", "cpu"], "/m/checkpoint.safetensors"),
            (["export", corpus, "--to", "cfl", "--out", disk / "e"], "/e."),
            (["inspect", corpus, "--out", disk / "i"], "/i/"),
        ):
            refused(run(*command), f"{disk}{file}", "no space left on device; free some space")


def test_a_damaged_checkpoint(training, tmp_path):
    out = tmp_path / "m"
    assert run("train", training, "--out", out, "--device", "cpu").exit_code == 0
    for name in ("model.json", "model.safetensors"):
        (out / name).unlink()
    checkpoint = out / "checkpoint.safetensors"
    tensors, facts = load_tensors(checkpoint)
    for damaged in (
        ({k: v for k, v in tensors.items() if k != "rng"}, facts),
        (tensors, {k: v for k, v in facts.items() if k != "groups"}),
        (tensors, {**facts, "groups": facts["groups"][:-1]}),
        (tensors, {**facts, "groups": 3}),
        (tensors, {**facts, "loader": {}}),
        (tensors, {**facts, "state": {"stp": 1}}),
    ):
        save_tensors(checkpoint, *damaged)
        told = run("train", training, "--out", out, "--device", "cpu")
        refused(told, str(checkpoint), "remove it and train anew")
    checkpoint.write_bytes(checkpoint.read_bytes()[:999])
    refused(run("train", training, "--out", out, "--device", "cpu"), str(checkpoint), "cut short or damaged")


def test_a_damaged_checksum_names_its_file(corpus, tmp_path):
    copy = shutil.copytree(corpus, tmp_path / "c.zarr")
    chunk = copy / "c4-y48-x56/sigma/c/0"
    chunk.write_bytes(b"?" + chunk.read_bytes()[1:])
    refused(run("iterate", copy), "c4-y48-x56/sigma", "checksum", "the same `fathom build` mends the corpus")


def test_certificates_that_are_missing(file, tmp_path):
    import dask
    import distributed  # noqa: F401 (it loads the settings that are changed here)

    address = "tls://127.0.0.1:9"
    for name, told in (("gone.pem", "does not exist"), ("cli.toml", "tls does not work")):
        keys = ("ca-file", "client.cert", "client.key")
        with dask.config.set({f"distributed.comm.tls.{key}": str(tmp_path / name) for key in keys}):
            result = run("build", file, "--out", tmp_path / "c.zarr", "--scheduler", address)
        refused(result, address, str(tmp_path / name), told, "distributed.comm.tls in Dask's settings")


def test_a_root_folder_and_a_link(file, tmp_path):
    refused(run("build", file, "--out", "/", "--scheduler", "sync"), "/: is a root folder", "give a folder to make")
    with pytest.raises(StorageError, match="root folder"):
        building_path(tmp_path.parents[-1])
    (tmp_path / "elsewhere").mkdir()
    building_path(tmp_path / "c.zarr").symlink_to(tmp_path / "elsewhere")
    refused(
        run("build", file, "--out", tmp_path / "c.zarr", "--scheduler", "sync"),
        f"{tmp_path}/c.zarr.building: is a symbolic link to {tmp_path}/elsewhere",
        "remove it, or choose another --out",
    )
    assert not any((tmp_path / "elsewhere").iterdir())


def test_errors_get_their_file_once(tmp_path):
    with pytest.raises(OSError, match=re.escape(f"No space left on device: '{tmp_path}'")), named(tmp_path):
        raise OSError(28, "No space left on device")
    with pytest.raises(FileNotFoundError, match="other"), named(tmp_path):
        (tmp_path / "other").read_bytes()


def test_a_shard_that_cannot_be_read_names_its_file(corpus, monkeypatch):
    array = ShardedArray(corpus / "c4-y48-x56" / "target")

    def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", broken)
    with pytest.raises(ShardError, match=r"target/c/0/0/0: cannot be read \(Input/output error\)"):
        array[0]
