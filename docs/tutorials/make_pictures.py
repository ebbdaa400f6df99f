"""Run the blocks of the tutorials in order, and keep the pictures that they draw: `make_pictures.py FOLDER [PAGE...]`.

FOLDER is where the blocks work; a page takes what the pages before it have left there. All four take about ten minutes
on two cores. The tests run the same blocks at a small size (`run_page`).
"""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from PIL import Image
from typer.testing import CliRunner

from pipelines.cli.app import app

HERE = Path(__file__).parent
PAGES = [HERE / f"{name}.md" for name in ("photographs_to_pairs", "scan_noise", "train_and_compare", "what_it_invents")]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHOWN = re.compile(r"!\[[^]]*\]\(pictures/([\w.]+)\)")
COLOURS = 256  # of a kept picture: its file is then half as large


def run_page(page: Path, smaller: Mapping[str, Sequence[str]] = {}) -> None:
    """Run a page's blocks in the current folder; raises AssertionError where one does not do what the page says.

    Blocks of ``toml file=NAME`` are written to that file, commands are run, and ``python`` is executed. Commands in a
    block ``sh refused`` must fail. `smaller` has arguments that are added to the commands of a name.
    """
    for language, more, text in BLOCK.findall(page.read_text()):
        if file := re.search(r"file=(\S+)", more):
            Path(file[1]).write_text(text)
        elif language == "sh":
            for line in filter(None, text.splitlines()):
                _command(line, smaller, refused="refused" in more)
        elif language == "python":
            exec(compile(text, f"{page.name}", "exec"), {})


def _command(line: str, smaller: Mapping[str, Sequence[str]], *, refused: bool) -> None:
    program, name, *arguments = shlex.split(line, comments=True)
    assert program == "fathom", line
    made = CliRunner().invoke(app, [name, *arguments, *smaller.get(name, ())])
    sys.stdout.write(f"$ {line}\n{made.output}")
    assert made.exit_code == int(refused), f"{line}\n{made.output}"


def keep(page: Path) -> None:
    """Copy the pictures that the page shows from the current folder to the repository, with fewer colours."""
    (HERE / "pictures").mkdir(exist_ok=True)
    for name in SHOWN.findall(page.read_text()):
        with Image.open(name) as picture:
            small = picture.convert("RGB").quantize(COLOURS)
        small.save(HERE / "pictures" / name, optimize=True)


if __name__ == "__main__":
    mpl.use("agg")
    folder, *names = sys.argv[1:]
    Path(folder).mkdir(exist_ok=True)
    with contextlib.chdir(folder):
        for page in PAGES:
            if not names or page.stem in names:
                run_page(page)
                keep(page)
