"""CG-SENSE, 30 iterations, 15 coils, 320x368, R = 4 with 24 reference lines: Fathom and its peers, on one core and two.

.venv/bin/python benchmarks/reconstruct.py     (BART wants `bart` on the path; mrpro and deepinv come with `make peers`)
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CORES = int(sys.argv[1]) if len(sys.argv) > 1 else 1
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = str(CORES)

import maps
import numpy as np
import peers_cg
import torch
import torchvision_standin

from recon.models.sense import cg_sense
from synth.process import keep_memory
from synth.rng import rng
from synth.stages.mask_lines import RegularSpec
from synth.writers.cfl import read_array, write_array

ITERATIONS = 30


def ours(kspace, coil_maps, mask):
    batch = (torch.from_numpy(np.ascontiguousarray(a))[None] for a in (kspace, coil_maps, mask[None, None]))
    return cg_sense(*batch, iterations=ITERATIONS)[0].numpy()


def sigpys(kspace, coil_maps, mask):
    from sigpy.mri.app import SenseRecon

    return SenseRecon(kspace, coil_maps, lamda=0, max_iter=ITERATIONS, show_pbar=False).run()


def barts(kspace, coil_maps, mask):
    with tempfile.TemporaryDirectory() as folder:
        write_array(Path(folder, "k"), kspace)
        write_array(Path(folder, "m"), coil_maps)
        command = ["bart", "pics", "-l2", "-r0", f"-i{ITERATIONS}", "-w1", "k", "m", "x"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return read_array(Path(folder, "x"))[0]


def of_peer(way):
    """One of `peers_cg`, from arrays of numpy."""

    def image(kspace, coil_maps, mask):
        sampled = np.ascontiguousarray(np.broadcast_to(mask, maps.SHAPE), np.float32)
        return way(*(torch.from_numpy(a) for a in (kspace, coil_maps, sampled)), ITERATIONS).numpy()

    return image


def ways():
    """Those of the peers that are here."""
    found = {"fathom": ours, "sigpy": sigpys}
    if shutil.which("bart"):
        found["bart"] = barts
    torchvision_standin.install()
    for name, way in peers_cg.WAYS.items():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
            found[name] = of_peer(way)
    return found


def measure():
    cores = sorted(os.sched_getaffinity(0))[-CORES:]
    os.sched_setaffinity(0, set(cores))
    torch.set_num_threads(CORES)
    keep_memory()
    full, coil_maps, _ = maps.scan()
    mask = RegularSpec(acceleration=4, reference_lines=24).draw(rng(0, "bench"), maps.SHAPE).sampled
    kspace = np.ascontiguousarray(full * mask, np.complex64)
    peers = ways()
    seconds, images = {name: [] for name in peers}, {}
    for turn in range(6):
        for name, way in peers.items():
            start = time.perf_counter()
            images[name] = way(kspace, coil_maps, mask)
            if turn:  # the first warms up
                seconds[name].append(time.perf_counter() - start)
    found = {name: {"seconds": round(statistics.median(times), 3)} for name, times in seconds.items()}
    for name in peers.keys() - {"fathom"}:
        found[name]["times as long as ours"] = round(found[name]["seconds"] / found["fathom"]["seconds"], 2)
        if name != "bart":  # which leaves a sign behind
            difference = np.linalg.norm(images["fathom"] - images[name]) / np.linalg.norm(images[name])
            found[name]["relative difference to ours"] = float(difference)
    return found


def main():
    results = {}
    for cores in (1, 2):
        made = subprocess.run([sys.executable, __file__, str(cores)], check=True, capture_output=True, text=True)
        results[f"{cores} cores"] = json.loads(made.stdout.splitlines()[-1])
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure()))
    else:
        main()
