"""Clusters with certificates, and clusters whose workers and schedulers come and go: real servers on the loopback."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys

import dask
import pytest
from certificates import authority, flags
from commands import refused, run
from conftest import ROOT
from processes import (
    FATHOM,
    SECONDS,
    assert_each_shard_once,
    built,
    count_workers,
    dask_cluster,
    dask_scheduler,
    dask_worker,
    ledger_lines,
    running,
    start,
    wait_for,
)

ADAPTIVE = """
import sys, time
from distributed import LocalCluster
with LocalCluster(n_workers=0, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:
    cluster.adapt(minimum=0, maximum=2, interval="200ms", target_duration="1s", wait_count=2)
    print(cluster.scheduler_address, flush=True)
    most = 0
    while sys.stdin.readable():
        most = max(most, len(cluster.scheduler.workers))
        print(len(cluster.scheduler.workers), most, flush=True)
        time.sleep(0.1)
"""


@contextlib.contextmanager
def secure_cluster(folder, files):
    """A scheduler and two workers over tls: their address."""
    file = folder / "tls.json"
    with contextlib.ExitStack() as stack:
        address, _ = stack.enter_context(dask_scheduler(file, "--protocol", "tls", *flags(files)))
        for _ in range(2):
            stack.enter_context(dask_worker(address, folder, *flags(files)))
        keys = dict(zip(("tls_ca_file", "tls_client_cert", "tls_client_key"), map(str, files), strict=True))
        wait_for(lambda: count_workers(address, **keys) == 2)
        yield address


def test_tls_with_an_authority_of_its_own(large, tmp_path):
    """By flags and by Dask's settings; the corpus is that of this process."""
    file, _ = large
    mine, other = authority(tmp_path / "mine"), authority(tmp_path / "other")
    out = tmp_path / "c.zarr"
    with secure_cluster(tmp_path, mine) as address:
        assert address.startswith("tls://127.0.0.1:")
        build = ("build", file, "--out", out, "--set", "pairs=8", "--scheduler", address)
        refused(run(*build), address, "tls needs certificates; give --tls-ca-file, --tls-cert and --tls-key")
        refused(run(*build, *flags(other)), address, "no scheduler answers", str(other[0]))
        refused(run(*build, *flags([*mine[:2], tmp_path / "no.pem"])), "--tls-key", "no.pem does not exist")
        plain = ("build", file, "--out", out, "--scheduler", address.replace("tls", "tcp"), *flags(mine))
        refused(run(*plain), "is not encrypted", "write tls://")
        assert not list(tmp_path.glob("c.zarr/*"))
        settings = dict(zip(("ca-file", "client.cert", "client.key"), map(str, mine), strict=True))
        made = [run(*build, *flags(mine), "--json")]
        with dask.config.set({f"distributed.comm.tls.{key}": value for key, value in settings.items()}):
            made.append(run(*build[:3], tmp_path / "d.zarr", *build[4:], "--json"))
    made.append(run(*build[:3], tmp_path / "e.zarr", "--set", "pairs=8", "--scheduler", "sync", "--json"))
    assert len({json.loads(result.stdout)["content_hash"] for result in made}) == 1


def test_the_first_worker_may_come_late(large, tmp_path):
    file, expected = large
    out = tmp_path / "late.zarr"
    with dask_cluster(tmp_path, workers=0) as (address, _):
        driver = start(FATHOM, "build", file, "--out", out, "--json", "--scheduler", address, "--wait", 60)
        assert driver.stderr.readline() == "the scheduler has no worker; waiting up to 60 s for one\n"
        with dask_worker(address, tmp_path):
            stdout, stderr = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 0, stderr
    assert json.loads(stdout)["content_hash"] == expected


def test_an_adaptive_cluster_starts_from_no_worker_grows_and_shrinks(large, tmp_path):
    file, expected = large
    with running(sys.executable, "-c", ADAPTIVE) as cluster:
        address = cluster.stdout.readline().strip()
        made = built(file, "--out", tmp_path / "a.zarr", "--scheduler", address, "--wait", 60)
        lines = (
            cluster.stdout.readline() for _ in range(600)
        )  # of a tenth of a second; those since its start come first
        assert any(line == "0 2\n" for line in lines)  # it had grown to two workers, and shrinks to none
    assert made["content_hash"] == expected
    assert_each_shard_once(tmp_path / "a.zarr")


@pytest.mark.slow  # a worker that is killed is in test_cluster.py
def test_workers_that_end_at_a_walltime_and_others_that_come(large, tmp_path):
    """One worker after another ends in the middle, killed as by a batch system; at times there is none."""
    file, expected = large
    out = tmp_path / "w.zarr"
    with dask_cluster(tmp_path, workers=0) as (address, _):
        driver = start(FATHOM, "build", file, "--out", out, "--json", "--scheduler", address, "--wait", 60)
        for shards in (4, 8):
            with dask_worker(address, tmp_path) as worker:
                wait_for(lambda least=shards: len(ledger_lines(out)) >= least or driver.poll() is not None)
                worker.kill()
        with dask_worker(address, tmp_path):
            stdout, stderr = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 0, stderr
    assert json.loads(stdout)["content_hash"] == expected
    assert_each_shard_once(out)


def test_a_scheduler_that_is_started_again_is_used_with_its_workers(large, tmp_path):
    """At another address, which it writes into its file; the shards in the ledger are not made again."""
    file, expected = large
    out, place = tmp_path / "s.zarr", tmp_path / "scheduler.json"
    with contextlib.ExitStack() as first:
        address, _ = first.enter_context(dask_scheduler(place))
        first.enter_context(dask_worker(address, tmp_path))
        driver = start(FATHOM, "build", file, "--out", out, "--json", "--scheduler-file", place, "--wait", 60)
        wait_for(lambda: len(ledger_lines(out)) >= 6 or driver.poll() is not None)
        assert driver.poll() is None, driver.communicate()
    with dask_scheduler(place) as (second, _), dask_worker(second, tmp_path):
        assert second != address
        stdout, stderr = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 0, stderr
    assert "the scheduler is gone; waiting up to 60 s for it to come back\nthe scheduler is back" in stderr
    assert json.loads(stdout)["content_hash"] == expected
    assert_each_shard_once(out)


SRUN = """#!/bin/bash
trap 'kill $(jobs -p); wait' TERM
for k in 1 2; do "$@" & done
wait
"""


def blocks(page):
    return re.findall(r"^```sh[^\n]*\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def test_the_script_for_slurm_and_the_commands_for_certificates(large, tmp_path):
    """Those of docs/cluster.md; srun is a stand-in that starts two workers here."""
    if shutil.which("openssl") is None:
        pytest.skip("the program openssl is not here")
    certificates, script = (
        next(block for block in blocks(ROOT / "docs" / "cluster.md") if mark in block)
        for mark in ("openssl req", "#SBATCH")
    )
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "srun").write_text(SRUN)
    (programs / "dask").write_text(f'#!/bin/bash\nexec {sys.executable} -m distributed.cli.dask_"$@"\n')
    for file in programs.iterdir():
        file.chmod(0o755)
    path = os.pathsep.join([str(programs), str(FATHOM.parent), os.environ["PATH"]])
    surroundings = {**os.environ, "PATH": path, "SLURM_JOB_ID": "7", "TMPDIR": str(tmp_path)}
    subprocess.run(["bash", "-euc", certificates], cwd=tmp_path, check=True, capture_output=True, timeout=30)
    (tmp_path / "fathom.sbatch").write_text(script)
    with running("bash", "fathom.sbatch", large[0], "--out", "c.zarr", "--json", cwd=tmp_path, env=surroundings) as job:
        wait_for(lambda: job.poll() is not None, SECONDS)
        stdout, stderr = job.communicate()
    assert job.returncode == 0, stderr
    assert json.loads(stdout.splitlines()[-1])["content_hash"] == large[1]
    assert not list(tmp_path.glob("scheduler-*"))
