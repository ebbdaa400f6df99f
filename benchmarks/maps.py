"""ESPIRiT maps of 15 coils, 320x368, 24x24 reference: Fathom, sigpy and BART on one core; seconds, exactness, memory.

.venv/bin/python benchmarks/maps.py [SCAN]     (BART's figure needs `bart` on the path)

With a SCAN, agreement inside its object is told, too.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np
from skimage.data import shepp_logan_phantom
from skimage.transform import resize

from synth.calibration.espirit import espirit
from synth.physics import fft2c, rss
from synth.rng import rng
from synth.scans.open import open_scan
from synth.stages.coils import LoopsSpec, draw_coils
from synth.stages.noise import complex_noise

BART = ("bart", "ecalib", "-m1", "-r24", "-c0")
SHAPE, COILS, SNR = (320, 368), 15, 50


def scan():
    maps = draw_coils(LoopsSpec(count=COILS), 0, 0).maps(SHAPE)
    y, x = (np.linspace(-1, 1, n) for n in SHAPE)
    image = resize(shepp_logan_phantom(), SHAPE) * np.exp(2j * np.sin(3 * x + y[:, None]))
    kspace = fft2c((image * maps).astype(np.complex64))
    sigma = np.sqrt(np.mean(np.abs(kspace) ** 2) / 2) / SNR
    return kspace + complex_noise(kspace.shape, sigma, rng(0, "bench")), maps, np.abs(image) > 0.05


def ours(kspace):
    return espirit(kspace).maps[0]


def sigpys(kspace):
    import sigpy.mri

    return sigpy.mri.app.EspiritCalib(kspace, calib_width=24, crop=0, show_pbar=False).run()


def barts(kspace):
    """Seconds of the process, and its maps."""
    with tempfile.TemporaryDirectory() as folder:
        name = Path(folder) / "k"
        Path(f"{name}.hdr").write_text(f"# Dimensions\n1 {kspace.shape[1]} {kspace.shape[2]} {len(kspace)}\n")
        kspace.transpose(1, 2, 0).ravel(order="F").tofile(f"{name}.cfl")
        subprocess.run([*BART, str(name), f"{name}m"], check=True, capture_output=True)
        return (
            np.fromfile(f"{name}m.cfl", np.complex64)
            .reshape((*kspace.shape[1:], len(kspace)), order="F")
            .transpose(2, 0, 1)
        )


def measured(function, kspace, rounds):
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        maps = function(kspace)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), maps


BART_ALONE = f"""
import resource, subprocess
Path('k.hdr').write_text('# Dimensions\\n1 {SHAPE[0]} {SHAPE[1]} {COILS}\\n')
k.transpose(1, 2, 0).ravel(order='F').tofile('k.cfl')
small = "import resource, subprocess; subprocess.run({[*BART, "k", "m"]}, capture_output=True); "
small += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
import sys
print(subprocess.run([sys.executable, '-c', small], capture_output=True, text=True).stdout)
sys.exit()"""


def memory(kspace, call):
    """Peak memory in MB of a process that reads the scan and runs `call`."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "k.npy", kspace)
        code = "import numpy as np; from pathlib import Path; from synth.calibration.espirit import espirit; "
        code += "k = np.load('k.npy'); "
        code += f"{call}\nprint(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
        run = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return int(run.stdout) / 1024


def agreement_on(path, others):
    """Cosine to ours, median and 1st percentile where the image is above 15 % of its 99th percentile."""
    scan = open_scan(path)
    kspace, image = scan[len(scan) // 2], scan.rss(len(scan) // 2)
    inside, mine, found = image > 0.15 * np.percentile(image, 99), ours(kspace), {}
    for function, _ in others:
        maps = function(kspace)
        cosine = (np.abs(np.sum(maps.conj() * mine, 0)) / np.maximum(rss(maps), 1e-12))[inside]
        found[function.__name__] = [float(np.median(cosine)), float(np.percentile(cosine, 1))]
    return found


def main():
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    kspace, truth, inside = scan()
    espirit(kspace)
    ways = {"fathom": (ours, 7), "sigpy": (sigpys, 1)}
    if shutil.which("bart"):
        ways["bart"] = (barts, 3)
    found = {}
    for name, (function, rounds) in ways.items():
        seconds, maps = measured(function, kspace, rounds)
        cosine = (np.abs(np.sum(maps.conj() * truth, 0)) / np.maximum(rss(maps), 1e-12))[inside]
        found[name] = {
            "seconds": round(seconds, 3),
            "sine to the true maps, rms": float(np.sqrt(np.mean(1 - cosine**2))),
        }
        if name != "fathom":
            other = (np.abs(np.sum(maps.conj() * ours(kspace), 0)) / np.maximum(rss(maps), 1e-12))[inside]
            found[name] |= {"cosine to ours": [float(np.median(other)), float(np.percentile(other, 1))]}
            found[name]["times as long as ours"] = round(seconds / found["fathom"]["seconds"], 1)
    if "bart" in ways:
        found["bart"]["peak MB"] = round(memory(kspace, BART_ALONE), 1)
    found["fathom"]["peak MB beyond the interpreter and the scan"] = round(
        memory(kspace, "espirit(k)") - memory(kspace, "None"), 1
    )
    if len(sys.argv) > 1:
        found["the scan"] = agreement_on(sys.argv[1], [way for name, way in ways.items() if name != "fathom"])
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
