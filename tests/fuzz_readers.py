"""Opens mutated files of every format with `open_scan`, which may raise nothing but ScanError, within time and memory.

python tests/fuzz_readers.py [INPUTS] [SEED]: INPUTS files in a process of its own, 4 GB and 20 s an input at most.
"""

from __future__ import annotations

import faulthandler
import json
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path

import h5py
import numpy as np
import scipy.io

from synth.errors import ScanError, SourceRejectedError, SourceUnreadableError
from synth.scans.open import open_scan
from synth.sources.photos import read_photo

SECONDS = 20


def seeds(folder):
    """Small good files of every format, as bytes by name."""
    draw = np.random.default_rng(0)
    kspace = (draw.standard_normal((2, 3, 16, 12)) + 1j * draw.standard_normal((2, 3, 16, 12))).astype(np.complex64)
    np.save(folder / "a.npy", kspace)
    np.savez_compressed(folder / "b.npz", kspace=kspace)
    scipy.io.savemat(
        folder / "c.mat", {"kData": kspace[0].transpose(1, 2, 0), "n": 3, "s": {"a": "text"}}, do_compression=True
    )
    scipy.io.savemat(folder / "d.mat", {"kData": kspace[0].transpose(1, 2, 0).astype(np.complex128)})
    with h5py.File(folder / "e.h5", "w") as file:
        file.create_dataset("kspace", data=kspace, chunks=(1, 3, 16, 12), compression="gzip")
        file["ismrmrd_header"] = header(16, 12)
    with h5py.File(folder / "f.mat", "w", userblock_size=512) as file:
        values = np.empty(kspace.shape, [("real", "f4"), ("imag", "f4")])
        values["real"], values["imag"] = kspace.real, kspace.imag
        file["kspace"] = values
    from synth.writers import mrd
    from synth.writers.content import Content

    sampled = np.ones(12, bool)
    content = Content("g", 0, kspace[0], sampled, kspace[0], kspace[0, 0], {"sigma": 1.0})
    mrd.write(content, folder)
    (folder / "h.hdr").write_text("# Dimensions\n16 12 1 3\n")
    kspace[0].transpose(1, 2, 0).ravel(order="F").tofile(folder / "h.cfl")
    twix = Path(__file__).parents[2] / "shared/data/scans/phantom_gre_siemens/gre.dat"
    if twix.exists():
        (folder / "i.dat").write_bytes(twix.read_bytes()[:200_000])
    else:
        (folder / "i.dat").write_bytes(np.array([0, 1, 9, 9], "<u4").tobytes() + bytes(12_000))
    try:
        import nibabel

        nibabel.save(nibabel.Nifti1Image(np.abs(kspace[0]).astype(np.float32), np.eye(4)), folder / "j.nii")
    except ImportError:
        pass
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def header(rows, columns):
    sizes = f"<matrixSize><x>{rows}</x><y>{columns}</y><z>1</z></matrixSize>"
    fov = "<fieldOfView_mm><x>200</x><y>200</y><z>5</z></fieldOfView_mm>"
    return (
        '<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>'
        f"<encodedSpace>{sizes}{fov}</encodedSpace><reconSpace>{sizes}{fov}</reconSpace>"
        "<trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"
    )


def mutated(data, others, draw):
    """One to eight mutations: bits, bytes, runs, numbers at extremes, cuts, pieces of itself and of other files."""
    data = bytearray(data)
    for _ in range(int(draw.integers(1, 9))):
        at = int(draw.integers(len(data))) if data else 0
        near = min(int(draw.integers(0, 2048)), max(len(data) - 9, 0))  # headers are at the beginning
        at = near if draw.random() < 0.6 else at
        kind = int(draw.integers(8))
        if kind == 0 and data:
            data[at] ^= 1 << int(draw.integers(8))
        elif kind == 1 and data:
            data[at] = [0, 1, 127, 128, 255][int(draw.integers(5))]
        elif kind == 2:
            data[at : at + 4] = [0, 1, 2**31 - 1, 2**31, 2**32 - 1][int(draw.integers(5))].to_bytes(4, "little")
        elif kind == 3:
            data[at : at + 8] = [0, 2**40, 2**63 - 1, 2**64 - 1][int(draw.integers(4))].to_bytes(8, "little")
        elif kind == 4 and draw.random() < 0.3:
            del data[at:]
        elif kind == 5:
            del data[at : at + int(draw.integers(1, 64))]
        elif kind == 6:
            data[at:at] = draw.bytes(int(draw.integers(1, 64)))
        else:
            other = others[int(draw.integers(len(others)))]
            start = int(draw.integers(max(len(other) - 64, 1)))
            data[at : at + 64] = other[start : start + 64]
    return bytes(data)


def look(path):
    """Open a file and read all of it; return what happened."""
    try:
        if path.suffix == ".nii":
            read_photo(path.with_name(path.name + "#1"))
            return "read"
        scan = open_scan(path)
        for k in range(min(len(scan), 3)):
            scan[k]
    except (ScanError, SourceRejectedError, SourceUnreadableError) as error:
        if path.name not in str(error) and path.stem not in str(error):
            raise AssertionError(f"the message does not name the file: {error}") from None
        return "refused"
    return "read"


def run(inputs, seed):
    """Count outcomes; an error, a crash or a hang ends the process."""
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
    warnings.simplefilter("ignore")
    draw, counts, slowest = np.random.default_rng(seed), {"read": 0, "refused": 0}, 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        good = seeds(folder)
        for k in range(inputs):
            seedname = sorted(good)[k % len(good)]
            path = folder / f"m{k}{Path(seedname).suffix}"
            if seedname.endswith((".cfl", ".hdr")):  # these two belong together
                path = folder / f"m{k}.cfl"
                changed = mutated(good[seedname], list(good.values()), draw)
                path.write_bytes(changed if seedname.endswith(".cfl") else good["h.cfl"])
                path.with_suffix(".hdr").write_bytes(changed if seedname.endswith(".hdr") else good["h.hdr"])
            else:
                path.write_bytes(mutated(good[seedname], list(good.values()), draw))
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            started = time.perf_counter()
            try:
                counts[look(path)] += 1
            except BaseException:
                kept = Path(tempfile.gettempdir()) / f"fathom-fuzz-{seed}-{k}{path.suffix}"
                kept.write_bytes(path.read_bytes())
                print(f"input {k} of {seedname}, kept as {kept}", file=sys.stderr)
                raise
            faulthandler.cancel_dump_traceback_later()
            slowest = max(slowest, time.perf_counter() - started)
            path.unlink()
            path.with_suffix(".hdr").unlink(missing_ok=True)
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
    return {"inputs": inputs, **counts, "slowest_s": round(slowest, 3), "peak_MB": peak}


if __name__ == "__main__":
    numbers = [int(a) for a in sys.argv[1:]]
    print(json.dumps(run(*(numbers + [300, 0][len(numbers) :]))))
