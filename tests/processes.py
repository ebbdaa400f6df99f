"""Real processes for tests: `fathom`, a Dask scheduler, workers; each ends with its context."""

import contextlib
import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
from commands import run

FATHOM = Path(sys.executable).with_name("fathom")
SECONDS = 120
LARGE = """
name = "large"
seed = 5
pairs = {pairs}
shard_pairs = 2
[source]
kind = "images"
path = "{photos}"
[target]
matrix = [320, 368]
[phase]
kind = "sinusoidal"
[coils]
kind = "loops"
count = 6
sets = 2
"""


def start(*arguments, **options):
    return subprocess.Popen(
        [str(a) for a in arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def fathom(*arguments, check=True, **options):
    """Run `fathom` to its end: (exit code, stdout, stderr)."""
    process = start(FATHOM, *arguments, **options)
    out, err = process.communicate(timeout=SECONDS)
    if check:
        assert process.returncode == 0, err
    return process.returncode, out, err


def forked(*arguments, told=os.devnull):
    """The command `fathom` as a process of its own, forked from one that has imported it; it writes to a file.

    What it is killed in is the same as in a process of `start`, without the seconds of each start.
    """
    return _forked("pipelines.cli.main", arguments, told)


PRELOADED = ["pipelines.study.run_study", "recon.training.loop", "distributed.cli.dask_scheduler"]
PRELOADED += ["distributed.cli.dask_worker", "pipelines.cli.app", "synth.pair"]


def _forked(module, arguments, told=os.devnull):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_main_of, args=(module, [str(a) for a in arguments], str(told)))
    process.start()
    return process


def _main_of(module, arguments, told):
    file = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.argv = [module, *arguments]
    importlib.import_module(module).main()


def built(*arguments):
    """Run `fathom build --json` in this process; return what it says."""
    made = run("build", *arguments, "--json")
    assert made.exit_code == 0, made.output
    return json.loads(made.stdout.splitlines()[-1])


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def ledger_lines(out):
    """Finished shards of an unfinished corpus, in the order of the ledger."""
    file = Path(f"{out}.building") / "ledger.jsonl"
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]


@contextlib.contextmanager
def running(*arguments, **options):
    process = start(*arguments, **options)
    try:
        yield process
    finally:
        end_tree(process.pid)
        process.communicate()


def end_tree(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in [*parent.children(recursive=True), parent]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


@contextlib.contextmanager
def _serving(module, *arguments):
    """A server as a process of its own, without the seconds of its start; killed with its context."""
    process = _forked(module, arguments)
    try:
        yield process
    finally:
        process.kill()
        process.join()


@contextlib.contextmanager
def dask_scheduler(file, *options, port=0):
    """A scheduler on the loopback, which writes `file`: (address, process)."""
    place = ("--host", "127.0.0.1", "--port", port, "--no-dashboard", "--scheduler-file", file)
    file.unlink(missing_ok=True)
    with _serving("distributed.cli.dask_scheduler", *place, *options) as scheduler:
        wait_for(lambda: file.exists() and file.stat().st_size > 0)
        yield json.loads(file.read_text())["address"], scheduler


def dask_worker(address, folder, *options):
    """A worker of one thread, as a context that ends it."""
    how = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", folder)
    return _serving("distributed.cli.dask_worker", address, "--host", "127.0.0.1", *how, *options)


@contextlib.contextmanager
def dask_cluster(folder, workers=2):
    """A scheduler and workers of one thread over tcp on the loopback: (address, scheduler process)."""
    file = Path(folder) / f"scheduler-{time.monotonic_ns()}.json"
    with contextlib.ExitStack() as stack:
        address, scheduler = stack.enter_context(dask_scheduler(file))
        for _ in range(workers):
            stack.enter_context(dask_worker(address, folder))
        wait_for(lambda: count_workers(address) == workers)
        yield address, scheduler


def count_workers(address, **security):
    from distributed import Client, Security

    with Client(address, timeout=10, security=Security(**security)) as client:
        return len(client.scheduler_info(n_workers=-1)["workers"])


def busy_worker(driver_pid):
    """A worker process of a local cluster: a child of the driver that is Python's spawned main."""
    children = psutil.Process(driver_pid).children(recursive=True)
    return next(p for p in children if any("spawn_main" in a for a in p.cmdline()))


def shards(root, task):
    """Files of a shard, by its name in the ledger."""
    bucket, kind, number = task.split("/")
    names = ("maps",) if kind == "maps" else ("kspace", "mask", "target")
    return [p for name in names for p in (root / bucket / name / "c" / number).rglob("*") if p.is_file()]


def assert_each_shard_once(out):
    tasks = [json.loads(line)["task"] for line in (out / "ledger.jsonl").read_text().splitlines()]
    assert len(tasks) == len(set(tasks))
