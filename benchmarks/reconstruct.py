"""CG-SENSE, 30 iterations, 15 coils, 320x368, R = 4 with 24 reference lines, on one core: Fathom, sigpy and BART.

.venv/bin/python benchmarks/reconstruct.py     (BART's figure needs `bart` on the path)
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import maps
import numpy as np
import torch

from recon.sense import cg_sense
from synth.lines import RegularSpec
from synth.rng import rng

ITERATIONS = 30


def ours(kspace, coil_maps, mask):
    batch = (torch.from_numpy(np.ascontiguousarray(a))[None] for a in (kspace, coil_maps, mask[None, None]))
    return cg_sense(*batch, iterations=ITERATIONS)[0].numpy()


def sigpys(kspace, coil_maps, mask):
    from sigpy.mri.app import SenseRecon

    return SenseRecon(kspace, coil_maps, lamda=0, max_iter=ITERATIONS, show_pbar=False).run()


def barts(kspace, coil_maps, mask):
    with tempfile.TemporaryDirectory() as folder:
        for part, values in (("k", kspace), ("m", coil_maps)):
            ordered = values.transpose(1, 2, 0)[:, :, None]
            Path(folder, f"{part}.hdr").write_text("# Dimensions\n" + " ".join(map(str, ordered.shape)) + "\n")
            ordered.ravel(order="F").tofile(Path(folder, f"{part}.cfl"))
        command = ["bart", "pics", "-l2", "-r0", f"-i{ITERATIONS}", "-w1", "k", "m", "x"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return np.fromfile(Path(folder, "x.cfl"), np.complex64).reshape(maps.SHAPE, order="F")


def main():
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    full, coil_maps, _ = maps.scan()
    mask = RegularSpec(acceleration=4, reference_lines=24).draw(rng(0, "bench"), maps.SHAPE).sampled
    kspace = np.ascontiguousarray(full * mask, np.complex64)
    ways = {"fathom": ours, "sigpy": sigpys, **({"bart": barts} if shutil.which("bart") else {})}
    seconds, images = {name: [] for name in ways}, {}
    for turn in range(4):
        for name, way in ways.items():
            start = time.perf_counter()
            images[name] = way(kspace, coil_maps, mask)
            if turn:  # the first warms up
                seconds[name].append(time.perf_counter() - start)
    found = {name: {"seconds": round(statistics.median(times), 3)} for name, times in seconds.items()}
    for name in ways.keys() - {"fathom"}:
        found[name]["times as long as ours"] = round(found[name]["seconds"] / found["fathom"]["seconds"], 2)
    difference = np.linalg.norm(images["fathom"] - images["sigpy"]) / np.linalg.norm(images["sigpy"])
    found["sigpy"]["relative difference to ours"] = float(difference)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
