"""The scheduler's share of a build's time: CPU seconds of every process of a cluster, and Dask's own record of tasks.

A scheduler and two workers run as processes of their own, as on a cluster. Their CPU seconds are those that the system
counts for each process during the build; the seconds in tasks are those that Dask's task stream has. The share is the
scheduler's CPU seconds over the seconds in tasks: with one thread per worker, this is what a scheduler on a core of its
own takes of a cluster's time.

    python benchmarks/scheduler.py 1 128 60        # one pair of 128x128 per shard: as much scheduling as can be
    python benchmarks/scheduler.py 16 256 160      # 16 pairs of 256x256 per shard
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from distributed import Client
from PIL import Image

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from synth.recipe import parse_recipe

os.environ.setdefault("OMP_NUM_THREADS", "1")
WORKERS, IDLE = 2, 10.0


def write_photos(folder):
    folder.mkdir()
    y, x = np.mgrid[:320, :360] / 320
    for k in range(8):
        a, b = np.random.default_rng(k).uniform(2, 20, 2)
        Image.fromarray((127 + 100 * np.cos(a * y + b * x)).astype(np.uint8)).save(folder / f"{k}.png")


def recipe(folder, shard_pairs, side, pairs):
    data = {
        "name": "scheduled",
        "pairs": pairs,
        "source": {"kind": "images", "path": str(folder / "photos")},
        "target": {"matrix": [side, side]},
        "coils": {"kind": "loops", "count": 8, "sets": 4},
        "sampling": {"kind": "regular", "acceleration": 4, "reference_lines": 16},
        "shard_pairs": shard_pairs,
    }
    return parse_recipe(data, "scheduled")


def seconds_of(process):
    return sum(process.cpu_times()[:2])


@contextlib.contextmanager
def cluster(folder):
    """The file of a scheduler, and its processes by name."""
    file, begun = folder / "scheduler.json", {}

    def start(name, *arguments):
        command = [sys.executable, "-m", "dask", *arguments, "--scheduler-file", str(file)]
        begun[name] = subprocess.Popen([*command, "--no-dashboard"], stderr=subprocess.DEVNULL)

    try:
        start("scheduler", "scheduler", "--port", "0", "--host", "127.0.0.1")
        while not file.exists() or not file.read_text():
            time.sleep(0.1)
        for k in range(WORKERS):
            start(f"worker {k}", "worker", "--nthreads", "1", "--no-nanny", "--local-directory", str(folder))
        yield file, {name: psutil.Process(process.pid) for name, process in begun.items()}
    finally:
        for process in begun.values():  # a worker whose scheduler is gone waits for it, so that none is asked to end
            process.kill()
            process.wait()


def measure(shard_pairs, side, pairs):
    with tempfile.TemporaryDirectory(prefix="fathom-scheduler-") as name, cluster(Path(name)) as (file, processes):
        folder = Path(name)
        write_photos(folder / "photos")
        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(WORKERS)
            where = ClusterSpec(scheduler_file=str(file), workers=None)
            wanted = recipe(folder, shard_pairs, side, pairs)
            build(wanted, folder / "first.zarr", where)  # workers import what they need
            client.get_task_stream(start=0)
            processes["driver"] = psutil.Process()
            idle = seconds_of(processes["scheduler"])
            time.sleep(IDLE)
            idle = (seconds_of(processes["scheduler"]) - idle) / IDLE
            before = {name: seconds_of(process) for name, process in processes.items()}
            begun, start = time.time(), time.perf_counter()
            build(wanted, folder / "second.zarr", where)
            wall = time.perf_counter() - start
            used = {name: seconds_of(process) - before[name] for name, process in processes.items()}
            tasks = client.get_task_stream(start=begun)
    spans = [s for task in tasks for s in task["startstops"] if s["action"] == "compute"]
    inside = sum(s["stop"] - s["start"] for s in spans)
    return {
        "pairs": pairs,
        "matrix": side,
        "shards": len(spans),
        "seconds": round(wall, 2),
        "seconds_in_tasks": round(inside, 2),
        "cpu_seconds": {name: round(value, 3) for name, value in used.items()},
        "scheduler_of_tasks": round(used["scheduler"] / inside, 4),
        "idle_scheduler_cpu_per_second": round(idle, 4),
        "scheduler_of_tasks_without_idling": round((used["scheduler"] - idle * wall) / inside, 4),
        "scheduler_of_all_cpu": round(used["scheduler"] / sum(used.values()), 4),
        "scheduler_ms_per_shard": round(1000 * used["scheduler"] / len(spans), 2),
    }


if __name__ == "__main__":
    print(json.dumps(measure(*map(int, sys.argv[1:])), indent=2))
