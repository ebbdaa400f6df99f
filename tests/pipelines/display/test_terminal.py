import ast
import os
from pathlib import Path

import pytest
from commands import run

from pipelines.display import progress
from pipelines.display.progress import Meter
from pipelines.display.terminal import shown

ROOT = Path(__file__).resolve().parents[3]
NAME = "a\x1b]0;title\x07\x1b[31m\x9b2J\u202eb"
SHOWN = "a\\x1b]0;title\\x07\\x1b[31m\\x9b2J\\u202eb"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("plain µ ± … 图", "plain µ ± … 图"),
        ("line\n\tline\r", "line\n\tline\\r"),
        (NAME, SHOWN),
        (os.fsdecode(b"\xff.npy"), "\\udcff.npy"),
        ("a\u2028b\x00", "a\\u2028b\\x00"),
    ],
)
def test_control_characters_are_written_out(text, written):
    assert shown(text) == written
    assert shown(written) == written


def test_messages_usage_and_progress_hold_no_control_character(tmp_path, monkeypatch, capsys):
    folder = tmp_path / NAME
    folder.mkdir()
    (folder / "a.npy").write_bytes(b"no array")
    for command in (
        ["verify", folder],
        ["reconstruct", "zero-filled", folder / "a.npy", "--out", tmp_path / "o"],
        ["calibrate", folder, "--out", tmp_path / "n.json"],
        ["verify", tmp_path, NAME],  # an argument too many
        [NAME],  # no command
        ["--debug", "verify", folder],
    ):
        result = run(*command)
        assert result.exit_code != 0
        assert SHOWN in result.output, result.output
        assert "\x1b" not in result.output
        assert "\x9b" not in result.output
    monkeypatch.setattr("pipelines.display.progress.SECONDS_BETWEEN_LINES", 0.0)
    with Meter(f"check {NAME}", 2) as meter:
        meter.advance(1)
    assert SHOWN in capsys.readouterr().err


def test_nothing_else_writes_to_the_terminal():
    """`synth` and `recon` write nothing; `interrupt.py` writes a fixed text at the very end."""
    kept = {"pipelines/display/terminal.py", "pipelines/cli/interrupt.py", "synth/scans/readers/isolated_process.py"}
    found = []
    for room in ("synth", "recon", "pipelines"):
        for path in (ROOT / room).rglob("*.py"):
            if path.relative_to(ROOT).as_posix() not in kept:
                for node in ast.walk(ast.parse(path.read_text())):
                    called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
                    if called in ("print", "typer.echo", "click.echo", "traceback.print_exc") or called.startswith(
                        ("sys.stdout.", "sys.stderr.")
                    ):
                        found.append(f"{path}:{node.lineno}: {called}")
    assert found == []


def test_the_loss_that_is_shown_is_the_mean_of_the_last_steps(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1.0)
    with progress.steps_shown("net") as tell:
        for step in range(60):
            tell(step + 1, 60, float(step))
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith("loss 34.5 (mean of 50 steps)")  # of 10 ... 59
