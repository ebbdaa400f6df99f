"""Where tasks run: real processes, external schedulers, and whatever is killed."""

import json
import os
import signal
import socket
import threading
import time

import psutil
import pytest
from commands import refused, run
from processes import (
    FATHOM,
    LARGE,
    SECONDS,
    assert_each_shard_once,
    built,
    busy_worker,
    dask_cluster,
    ledger_lines,
    running,
    shards,
    start,
    wait_for,
)

from pipelines.cluster import ClusterSpec, open_cluster
from pipelines.corpus.build import build
from pipelines.errors import ClusterError
from pipelines.running import run_tasks
from synth.storage.corpus_files import building_path as building

SYNC = ClusterSpec("sync")


def killed_midway(file, out, *arguments, victim):
    """Start a build, kill `victim(driver)` when some shards are finished; return the driver, which may live on."""
    driver = start(FATHOM, "build", file, "--out", out, "--json", *arguments)
    wait_for(lambda: len(ledger_lines(out)) >= 6 or driver.poll() is not None)
    assert driver.poll() is None, driver.communicate()
    victim(driver)
    return driver


def test_the_same_corpus_from_any_scheduler_and_layout(recipe, photos, tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(LARGE.format(pairs=12, photos=photos).replace("[320, 368]", "[48, 56]"))
    layouts = {"sync": ("--scheduler", "sync"), "w1": ("--workers", 1), "w2": ("--workers", 2)}
    layouts |= {f"s{n}": ("--set", f"shard_pairs={n}", "--scheduler", "sync") for n in (4, 16)}
    with dask_cluster(tmp_path) as (address, _):
        layouts["external"] = ("--scheduler", address)
        made = [built(file, "--out", tmp_path / f"{name}.zarr", *how) for name, how in layouts.items()]
    assert len({m["content_hash"] for m in made}) == 1
    assert {m["pairs"] for m in made} == {12}


def test_a_killed_worker_costs_nothing(large, tmp_path):
    file, expected = large
    out = tmp_path / "w.zarr"
    driver = killed_midway(file, out, "--workers", 2, victim=lambda d: busy_worker(d.pid).kill())
    stdout, stderr = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 0, stderr
    assert json.loads(stdout)["content_hash"] == expected
    assert_each_shard_once(out)


def test_a_killed_driver_goes_on_where_it_was(large, tmp_path):
    file, expected = large
    out = tmp_path / "d.zarr"
    driver = killed_midway(file, out, "--workers", 2, victim=lambda d: d.send_signal(signal.SIGKILL))
    driver.communicate(timeout=SECONDS)
    finished = {line["task"] for line in ledger_lines(out)}
    times = {p.relative_to(building(out)): p.stat().st_mtime_ns for t in finished for p in shards(building(out), t)}
    resumed = built(file, "--out", out, "--scheduler", "sync")
    assert (resumed["content_hash"], resumed["status"]) == (expected, "resumed")
    assert resumed["built"] <= 60 - 2 * (len(finished) - 1)
    assert {p: (out / p).stat().st_mtime_ns for p in times} == times
    assert_each_shard_once(out)


def test_a_killed_scheduler_is_said_and_mended(large, tmp_path):
    file, expected = large
    out = tmp_path / "s.zarr"
    with dask_cluster(tmp_path, workers=1) as (address, scheduler):
        driver = killed_midway(
            file, out, "--scheduler", address, "--wait", 2, victim=lambda _: os.kill(scheduler.pid, signal.SIGKILL)
        )
        _, stderr = driver.communicate(timeout=SECONDS)
        assert driver.returncode == 1
        assert "the scheduler is gone; start it, and run the same command again" in stderr
        assert "Traceback" not in stderr
    before = {line["task"] for line in ledger_lines(out)}
    with dask_cluster(tmp_path, workers=1) as (address, _):
        resumed = built(file, "--out", out, "--scheduler", address)
    assert resumed["content_hash"] == expected
    assert resumed["built"] <= 60 - 2 * (len(before) - 1)
    assert_each_shard_once(out)


def test_ctrl_c_says_one_line(large, tmp_path):
    """Ctrl-C goes to the whole process group, as a terminal sends it, while shards are built."""
    file, expected = large
    out = tmp_path / "c.zarr"
    driver = start(FATHOM, "build", file, "--out", out, "--workers", 2, start_new_session=True)
    wait_for(lambda: len(ledger_lines(out)) >= 4)
    os.killpg(driver.pid, signal.SIGINT)
    _, stderr = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 130
    lines = [line for line in stderr.splitlines() if " of 60 pairs" not in line]
    assert lines == ["stopped; run the same command again to go on"]
    assert built(file, "--out", out, "--scheduler", "sync")["content_hash"] == expected


@pytest.mark.parametrize("moment", [0.0, pytest.param(0.7, marks=pytest.mark.slow)])
def test_ctrl_c_while_workers_start_says_one_line(large, tmp_path, moment):
    driver = start(FATHOM, "build", large[0], "--out", tmp_path / "c.zarr", "--workers", 2, start_new_session=True)
    wait_for(lambda: psutil.Process(driver.pid).children())  # the first is Python's resource tracker
    time.sleep(moment)
    os.killpg(driver.pid, signal.SIGINT)
    _, stderr = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 130
    lines = [line for line in stderr.splitlines() if " of 60 pairs" not in line]
    assert lines == ["stopped; run the same command again to go on"]


def test_two_drivers_do_not_share_a_corpus(large, tmp_path):
    file, _ = large
    out = tmp_path / "two.zarr"
    with running(FATHOM, "build", file, "--out", out, "--scheduler", "sync"):
        wait_for(lambda: len(ledger_lines(out)) >= 1)
        refused(run("build", file, "--out", out, "--scheduler", "sync"), "another `fathom build` is at work")


def test_plain_tcp_beyond_this_machine_needs_a_flag(recipe, tmp_path):
    for address in ("tcp://192.0.2.1:8786", "tcp://127.evil.example:8786", "tcp://localhost.evil.example:1"):
        with pytest.raises(ClusterError, match="--insecure"):
            build(recipe(), tmp_path / "c.zarr", ClusterSpec(address))
        (tmp_path / "file.json").write_text(json.dumps({"address": address}))
        with pytest.raises(ClusterError, match="--insecure"):
            build(recipe(), tmp_path / "c.zarr", ClusterSpec(scheduler_file=str(tmp_path / "file.json")))
    with pytest.raises(ClusterError, match="does not exist"):
        build(recipe(), tmp_path / "c.zarr", ClusterSpec(scheduler_file=str(tmp_path / "none.json")))
    with pytest.raises(ClusterError, match="write local, sync"):
        build(recipe(), tmp_path / "d.zarr", ClusterSpec("http://127.0.0.1"))


def test_no_scheduler_answers(recipe, tmp_path):
    started = time.monotonic()
    with pytest.raises(ClusterError, match="no scheduler answers"):
        build(recipe(), tmp_path / "c.zarr", ClusterSpec("tcp://127.0.0.1:9"))
    assert time.monotonic() - started < 30


def greet(server):
    with server.accept()[0] as line:
        line.sendall(b"SSH-2.0-x\r\n")


def test_other_servers_are_no_scheduler(recipe, tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        answer = threading.Thread(target=greet, args=(silent,))
        answer.start()
        with pytest.raises(ClusterError, match="another kind of server than a Dask scheduler"):
            build(recipe(), tmp_path / "c.zarr", ClusterSpec(f"tcp://{place}"))
        answer.join()
        with pytest.raises(ClusterError, match="tls needs certificates"):
            build(recipe(), tmp_path / "c.zarr", ClusterSpec(f"tls://{place}"))


def test_a_cluster_without_workers_is_said(tmp_path, capsys):
    with (
        dask_cluster(tmp_path, workers=0) as (address, _),
        open_cluster(ClusterSpec(address, patience=3)) as cluster,
        pytest.raises(ClusterError, match="has had no worker for 3 s"),
    ):
        list(run_tasks(cluster, abs, [1, 2]))
    assert capsys.readouterr().err == "the scheduler has no worker; waiting up to 3 s for one\n"
