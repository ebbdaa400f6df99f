"""Opens mutated files of every format, learns their noise, and makes batches of them, within time and memory.

Nothing but ScanError and CalibrationError may be raised. Every fourth input is a good file of strange k-space instead
of a mutated one. Sigma is 1 in all good files: where samples are unchanged, another sigma without a note is an error.

python tests/fuzz_readers.py [INPUTS] [SEED]: INPUTS files in a process of its own, 8 GB and 300 s an input at
most. Of the time, that of the processor is told.
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

from recon.data.scan_batch import Undersampling, batch_of
from synth.calibration.scan_noise import calibrate
from synth.errors import CalibrationError, ScanError, SourceRejectedError, SourceUnreadableError
from synth.physics import fft2c
from synth.scans.open import open_scan
from synth.sources.photos import read_photo
from synth.stages.coils import LoopsSpec, draw_coils

SECONDS = 300
SHAPE = 2, 4, 48, 40  # slice coil y x


def good_kspace():
    """A disc in noise of sigma 1 [slice coil y x]; every second line of the last slice is 0."""
    draw = np.random.default_rng(0)
    y, x = (np.linspace(-1, 1, n) for n in SHAPE[2:])
    image = 40 * ((y[:, None] / 0.7) ** 2 + (x / 0.5) ** 2 < 1)
    clean = fft2c((image * draw_coils(LoopsSpec(count=SHAPE[1]), 1, 0).maps(SHAPE[2:])).astype(np.complex64))
    kspace = clean + draw.standard_normal(SHAPE) + 1j * draw.standard_normal(SHAPE)
    kspace[-1, :, :, ::2] = 0
    return kspace.astype(np.complex64)


def strange(k, draw):
    """K-space [coil y x] that a file may hold, changed in one way from k."""
    y, x = k.shape[1:]
    kinds = (
        lambda: k * (np.arange(x) % draw.integers(2, 6) == 0),
        lambda: k * (draw.random((y, x)) < draw.random()),
        lambda: k * (draw.random(x) < draw.random()),
        lambda: k * (np.arange(x) < draw.integers(1, x + 1)) * (np.arange(y) < draw.integers(1, y + 1))[:, None],
        lambda: k * np.hamming(y)[:, None] * np.hamming(x),
        lambda: k[: draw.integers(1, len(k) + 1)],
        lambda: np.concatenate([k, k]),
        lambda: np.concatenate([k, draw.standard_normal() * k[:1] + 1j * k[-1:]]),
        lambda: k * (np.arange(len(k)) != draw.integers(len(k)))[:, None, None],
        lambda: k * 10.0 ** draw.uniform(-30, 30),
        lambda: k * 10.0 ** draw.uniform(-8, 8, (len(k), 1, 1)),
        lambda: np.where(draw.random(k.shape) < 0.002, 1e6, k),
        lambda: np.round(k / 10.0 ** draw.uniform(-2, 3)),
        lambda: np.full_like(k, draw.standard_normal()),
        lambda: np.tile(k, (1, 1, int(draw.integers(1, 12)))),
        lambda: k[:, : draw.integers(8, y + 1), : draw.integers(8, x + 1)] if min(y, x) >= 8 else k,
        lambda: np.fft.ifft2(k),
        lambda: draw.standard_normal(k.shape) + 1j * draw.standard_normal(k.shape),
        lambda: np.abs(k),
        lambda: np.pad(k, ((0, 0), (0, 0), (draw.integers(0, 9), draw.integers(0, 9)))),
    )
    with np.errstate(over="ignore"):
        return np.asarray(kinds[int(draw.integers(len(kinds)))](), np.complex64)


def seeds(folder):
    """Small good files of every format, as bytes by name."""
    kspace = good_kspace()
    np.save(folder / "a.npy", kspace)
    np.savez_compressed(folder / "b.npz", kspace=kspace)
    scipy.io.savemat(
        folder / "c.mat", {"kData": kspace[0].transpose(1, 2, 0), "n": 3, "s": {"a": "text"}}, do_compression=True
    )
    scipy.io.savemat(folder / "d.mat", {"kData": kspace[0].transpose(1, 2, 0).astype(np.complex128)})
    with h5py.File(folder / "e.h5", "w") as file:
        file.create_dataset("kspace", data=kspace, chunks=(1, *SHAPE[1:]), compression="gzip")
        file["ismrmrd_header"] = header(*SHAPE[2:])
    with h5py.File(folder / "f.mat", "w", userblock_size=512) as file:
        values = np.empty(kspace.shape, [("real", "f4"), ("imag", "f4")])
        values["real"], values["imag"] = kspace.real, kspace.imag
        file["kspace"] = values
    from synth.writers import mrd
    from synth.writers.content import Content

    sampled = np.ones(SHAPE[3], bool)
    content = Content("g", 0, kspace[0], sampled, kspace[0], kspace[0, 0], {"sigma": 1.0})
    mrd.write(content, folder)
    (folder / "h.hdr").write_text(f"# Dimensions\n{SHAPE[2]} {SHAPE[3]} 1 {SHAPE[1]}\n")
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


def look_at_noise(scan, good, place):
    """Learn a scan's noise at a place, and make a batch; return whether the noise could be learnt."""
    try:
        profile = calibrate(scan, place=place)
    except CalibrationError:
        profile = None
    else:
        values = np.array([*profile.covariance.ravel(), profile.rms_sigma, profile.uncertainty])
        assert np.isfinite(values).all(), f"{place}: {values}"
        assert profile.sigma.min() > 0, f"{place}: {profile.sigma}"
        same = any(np.array_equal(scan[len(scan) // 2], one) for one in good)
        wrong = abs(profile.rms_sigma - 1) > max(0.1, 2 * profile.uncertainty)
        assert profile.notes or not (same and wrong), f"{place}: sigma {profile.rms_sigma} without a note"
    batch = batch_of(scan[0], profile, Undersampling())[0]
    assert all(np.isfinite(batch[name]).all() for name in ("masked_kspace", "sens_maps"))
    return profile is not None


def look(path, good, place):
    """Open a file, read all of it, and learn its noise at a place; return what happened."""
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
    try:
        return "calibrated" if len(scan) and look_at_noise(scan, good, place) else "read"
    except ScanError:  # no maps, or a slice that cannot be used
        return "read"


def run(inputs, seed):
    """Count outcomes; an error, a crash or a hang ends the process."""
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
    warnings.simplefilter("ignore")
    draw, counts, slowest = np.random.default_rng(seed), dict.fromkeys(("calibrated", "read", "refused"), 0), 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        good, kspace = seeds(folder), good_kspace()
        for k in range(inputs):
            seedname = sorted(good)[k % len(good)]
            path = folder / f"m{k}{Path(seedname).suffix}"
            if k % 4 == 3:
                path = folder / f"m{k}.npy"
                np.save(path, strange(strange(kspace[0], draw), draw))
            elif seedname.endswith((".cfl", ".hdr")):  # these two belong together
                path = folder / f"m{k}.cfl"
                changed = mutated(good[seedname], list(good.values()), draw)
                path.write_bytes(changed if seedname.endswith(".cfl") else good["h.cfl"])
                path.with_suffix(".hdr").write_bytes(changed if seedname.endswith(".hdr") else good["h.hdr"])
            else:
                path.write_bytes(mutated(good[seedname], list(good.values()), draw))
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            started = time.process_time()
            try:
                counts[look(path, kspace, "samples" if draw.random() < 0.5 else None)] += 1
            except BaseException:
                kept = Path(tempfile.gettempdir()) / f"fathom-fuzz-{seed}-{k}{path.suffix}"
                kept.write_bytes(path.read_bytes())
                print(f"input {k} of {seedname}, kept as {kept}", file=sys.stderr)
                raise
            faulthandler.cancel_dump_traceback_later()
            slowest = max(slowest, time.process_time() - started)
            path.unlink()
            path.with_suffix(".hdr").unlink(missing_ok=True)
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
    return {"inputs": inputs, **counts, "slowest_cpu_s": round(slowest, 3), "peak_MB": peak}


if __name__ == "__main__":
    numbers = [int(a) for a in sys.argv[1:]]
    print(json.dumps(run(*(numbers + [300, 0][len(numbers) :]))))
