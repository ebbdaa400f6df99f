"""Commands of `fathom` in this process, and what they are refused with."""

import contextlib
import os
import subprocess

import pytest
from typer.testing import CliRunner

from pipelines.cli.app import app


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def refused(result, *parts):
    assert result.exit_code == 1, result.output
    assert result.stderr.count("error:") == 1
    assert "Traceback" not in result.output
    for part in parts:
        assert part in result.stderr, result.stderr


@contextlib.contextmanager
def small_disk(folder, megabytes):
    """A file system of its own in memory; skips where that needs rights that are not there."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
