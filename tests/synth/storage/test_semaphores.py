import multiprocessing
import os
import re
import signal
import subprocess
import sys
from multiprocessing import process

import pytest

from synth.storage import semaphores
from synth.storage.semaphores import OURS, name_semaphores, namespace, start_of

PROGRAM = """
import multiprocessing, time
from synth.storage.semaphores import name_semaphores
name_semaphores()
locks = [multiprocessing.get_context("spawn").Lock() for _ in range(3)]
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def on_linux():
    if not semaphores.MEMORY.is_dir() or start_of(os.getpid()) is None:
        pytest.skip("this system has no /proc or no /dev/shm")
    before = process.current_process()._config.get("semprefix")
    yield
    process.current_process()._config["semprefix"] = before


def left_by(pid):
    return sorted(f for f in semaphores.MEMORY.glob("sem.fathom-*") if OURS.fullmatch(f.name)[2] == str(pid))


def test_what_a_killed_group_leaves_is_swept_at_the_next_start():
    options = {"stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    killed, alive = (subprocess.Popen([sys.executable, "-c", PROGRAM], **options) for _ in range(2))
    try:
        for started in (killed, alive):
            assert started.stdout.readline() == "ready\n"
        os.killpg(killed.pid, signal.SIGKILL)  # Python's helper, which would clean up, is in the group, too
        killed.communicate()
        assert len(left_by(killed.pid)) == 3
        name_semaphores()
        assert left_by(killed.pid) == []
        assert len(left_by(alive.pid)) == 3
    finally:
        os.killpg(alive.pid, signal.SIGKILL)
        alive.communicate()
    name_semaphores()
    assert left_by(alive.pid) == []


def test_only_entries_of_dead_fathoms_go(tmp_path, monkeypatch):
    space, mine = namespace(), os.getpid()
    dead = max(int(p.name) for p in semaphores.PROCESSES.iterdir() if p.name.isdigit()) + 100_000
    kept = [
        f"sem.fathom-{space}-{mine}-{start_of(mine)}-abc",  # alive
        f"sem.fathom-{space + 1}-{dead}-5-abc",  # in another container
        f"sem.fathom-{space}-{dead}-5",
        f"xsem.fathom-{space}-{dead}-5-abc",
        "sem.mp-abc",
        "torch_5_6_0",
    ]
    gone = [f"sem.fathom-{space}-{dead}-5-abc", f"sem.fathom-{space}-{mine}-{start_of(mine) + 1}-abc"]
    for name in (*kept, *gone):
        (tmp_path / name).write_text("")
    monkeypatch.setattr(semaphores, "MEMORY", tmp_path)
    name_semaphores()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(kept)


def test_semaphores_are_named_after_their_owner():
    name_semaphores()
    lock = multiprocessing.get_context("spawn").Lock()
    assert re.match(rf"/fathom-\d+-{os.getpid()}-{start_of(os.getpid())}-", lock._semlock.name)
