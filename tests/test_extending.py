"""Each worked example of docs/extending.md applies to the code as it is, touches two files at most, and works."""

import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

PAGE = (ROOT / "docs" / "extending.md").read_text()
RECIPE = re.search(r"```toml[^\n]*\n(.*?)```", PAGE, re.DOTALL)[1]
EXAMPLES = {part.partition("\n")[0]: part for part in PAGE.split("\n## ")[1:]}


def test_all_eight_are_there():
    assert len(EXAMPLES) == 8


@pytest.mark.parametrize("title", EXAMPLES)
def test_worked_example(title, tmp_path):
    change, lines = (re.search(rf"```{kind}\n(.*?)```", EXAMPLES[title], re.DOTALL)[1] for kind in ("diff", "python"))
    assert len(set(re.findall(r"^\+\+\+ (\S+)", change, re.MULTILINE))) <= 2
    for room in ("synth", "recon", "pipelines"):
        shutil.copytree(ROOT / room, tmp_path / "code" / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "data_manifests", tmp_path / "code" / "data_manifests")
    (tmp_path / "change.diff").write_text(change)
    (tmp_path / "small.toml").write_text(RECIPE)
    subprocess.run(["git", "apply", "-p0", "../change.diff"], cwd=tmp_path / "code", check=True, timeout=60)
    lines = f"import sys; sys.path.insert(0, {str(tmp_path / 'code')!r})\n{lines}"
    done = subprocess.run([sys.executable, "-c", lines], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
