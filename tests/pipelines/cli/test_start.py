"""Commands start fast: they load what they need when they run."""

import os
import resource
import subprocess
import sys

import pytest
from conftest import recipe_text
from processes import FATHOM, fathom

from pipelines.cli.app import COMMANDS
from pipelines.cli.main import main

HEAVY = {"torch", "dask", "distributed", "matplotlib", "zarr", "scipy"}
NAMES = [name for commands in COMMANDS.values() for name in commands]


def modules_after(*words, wanted):
    """Of these modules those that a command has loaded when it ends."""
    code = f"import sys; sys.argv = ['fathom', *{list(map(str, words))!r}]\n"
    code += f"import atexit; atexit.register(lambda: print('loaded', sorted(sys.modules.keys() & {wanted!r})))\n"
    code += "from pipelines.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("loaded ")[2].strip()


def test_help_loads_nothing_heavy():
    """One process shows the help of all commands, one after another; what loads a module first is told."""
    code = (
        "import sys; from pipelines.cli.main import main\n"
        f"for words in {[['--version'], ['-h'], *([name, '-h'] for name in NAMES)]!r}:\n"
        "    sys.argv = ['fathom', *words]\n"
        "    try: main()\n"
        "    except SystemExit as end: assert not end.code, words\n"
        f"    assert not sys.modules.keys() & {HEAVY | {'numpy'}!r}, words\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage: fathom") == 1 + len(NAMES)


@pytest.mark.parametrize("words", [["--version"], ["build", "--help"]], ids=" ".join)
def test_help_takes_less_than_half_a_second_of_cpu(words):
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([FATHOM, *words], check=True, capture_output=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.5


def test_a_build_of_photographs_never_loads_torch(photos, tmp_path):
    (tmp_path / "c.toml").write_text(recipe_text(photos))
    words = ["build", tmp_path / "c.toml", "--out", tmp_path / "c.zarr", "--scheduler", "sync"]
    assert modules_after(*words, wanted={"torch", "matplotlib", "distributed"}) == "[]"


def test_the_help_groups_whole_sentences():
    shown = " ".join(fathom("-h")[1].split())
    for title, commands in COMMANDS.items():
        assert f"{title}:" in shown
        for name in commands:
            assert f" {name} " in shown
    assert "..." not in shown.partition("Corpora:")[2]  # nothing is cut
    assert "--install-completion" in shown


@pytest.mark.parametrize("set_by_user", [None, "ACTIVE"])
def test_waiting_threads_leave_the_cores_to_others(set_by_user, monkeypatch):
    """libgomp reads this when torch is loaded."""
    monkeypatch.setenv("OMP_WAIT_POLICY", set_by_user or "")
    if set_by_user is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr(sys, "argv", ["fathom", "--version"])
    with pytest.raises(SystemExit):
        main()
    assert os.environ["OMP_WAIT_POLICY"] == (set_by_user or "PASSIVE")
