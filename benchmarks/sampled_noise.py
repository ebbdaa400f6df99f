"""Sigma from samples (`calibrate`, place "samples"): its errors and intervals. `sampled_noise.py [TABLE...]`.

.venv/bin/python benchmarks/sampled_noise.py real coverage fresh simulated clean

Tables, all with fixed seeds, from ../shared/data:
- real: every multi-coil scan, full and every 4th line alone, and und2x2.cfl, relative to the full scan's own sigma;
- coverage: 200 scans of known sigma; whether the 95 % interval holds it, and the median half width, by sampling;
- fresh: the same for 120 other draws: a limit (`WIDE`) was chosen after the first 200 had been looked at;
- simulated: filters, GRAPPA, masks and others, with `calibrate`'s own choice of a place where the scan is full;
- clean: 30 scans, listed in CLEAN before any was looked at, with `calibrate`'s own choice.
Sigma is given relative to the truth. A line that ends in SILENT is beyond 5 % without a note.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import nibabel
import numpy as np
from PIL import Image

from synth.calibration.scan_noise import calibrate
from synth.errors import CalibrationError
from synth.physics import fft2c, ifft2c
from synth.scans.open import open_scan
from synth.scans.scan import Scan
from synth.stages.coils import LoopsSpec, draw_coils

DATA = Path("../shared/data")
SCANS = {
    "brain_8ch": ("brain_8ch_bart/full.cfl", {}),
    "mprage_4ch": ("brain_mprage_4ch/MPRAGE_multi_channel.mat", {"variable": "kData"}),
    "prescan_16ch": ("brain_prescan_16ch/preScanRefData.npy", {}),
    "tse_2ch": ("head_tse_2ch_32sl/kdata_body.mat", {}),
    "gre_2ch": ("phantom_gre_siemens/gre.dat", {}),
}
SAMPLINGS = ("full", "R2", "R2+24", "R4", "R4+24", "2x2", "2x2+24")
CLEAN = [  # object, coils, SNR, sampling: 22 with a background, 8 that fill the image or are undersampled
    *[("head", coils, snr, "full") for coils in (1, 2, 4, 8, 16) for snr in (10, 30, 100)],
    *[("oval", coils, snr, "full") for coils in (2, 4, 8, 12, 16, 6, 3) for snr in (30,)],
    *[("wide", coils, snr, "full") for coils, snr in ((8, 30), (16, 30), (8, 100))],
    *[("head", coils, 30, sampling) for coils, sampling in ((8, "R2"), (8, "R4+24"), (16, "R4"), (8, "2x2+24"))],
    ("photo", 8, 30, "full"),
]


def read(name):
    file, how = SCANS[name]
    return open_scan(DATA / "scans" / file, **how)


def image_of(kind, size, number=0):
    """Images [y x] of maximum 1."""
    if kind == "photo":
        file = sorted((DATA / "bsds500/train").glob("*.jpg"))[number]
        return np.asarray(Image.open(file).convert("L").resize((size, size), Image.LANCZOS), np.float32) / 255
    if kind == "oval":
        y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
        return (((y / 0.75) ** 2 + (x / 0.6) ** 2) < 1) * (0.6 + 0.4 * np.cos(9 * x) * np.cos(7 * y)).astype(np.float32)
    volume = np.asarray(nibabel.load(DATA / "mr/colin27.nii.gz").dataobj, np.float32)
    head = volume[:, :, 70 + 3 * (number % 12)].T[::-1]
    head = np.where(head > 0.02 * head.max(), head / head.max(), 0)
    fill = 1.35 if kind == "wide" else 0.85
    small = np.asarray(Image.fromarray(head).resize((int(fill * size * 181 / 217), int(fill * size)), Image.LANCZOS))
    return fitted(np.maximum(small, 0), size)


def fitted(image, size):
    """The image's middle [size size], with zeros around it where it is smaller."""
    wide = np.pad(image, size)
    y, x = (n // 2 - size // 2 for n in wide.shape)
    return wide[y : y + size, x : x + size]


def signal_of(kind, coils, snr, size=192, number=0):
    maps = np.ones((1, size, size)) if coils == 1 else draw_coils(LoopsSpec(count=coils), 1, number).maps((size, size))
    return fft2c((image_of(kind, size, number) * maps * snr).astype(np.complex64))


def white(generator, shape):
    return (generator.normal(size=shape) + 1j * generator.normal(size=shape)).astype(np.complex64)


def covariance(generator, coils):
    """Psi / 2 [coil coil] with correlations, of mean variance 1."""
    mixing = generator.normal(size=(coils, coils)) + 1j * generator.normal(size=(coils, coils))
    psi = np.diag(generator.uniform(0.5, 1.5, coils)) + 0.2 * mixing @ mixing.conj().T / coils
    return psi * coils / np.trace(psi).real


def sampled(kspace, sampling):
    """K-space [coil y x], zero where a sampling of SAMPLINGS leaves it out."""
    if sampling == "full":
        return kspace
    step, _, reference = sampling.partition("+")
    y, x = (np.arange(n) - n // 2 for n in kspace.shape[1:])
    both = step == "2x2"
    kept = (x % (2 if both else int(step[1:])) == 0)[None] & ((y % 2 == 0) | (not both))[:, None]
    inside = [np.abs(a + 0.5) < int(reference or 0) / 2 for a in (y, x)]
    return np.where(kept | (inside[1][None] & (inside[0][:, None] | (not both))), kspace, 0)


def scan_of(kspace):
    return Scan(Path("simulated"), "npy", (1, *kspace.shape), lambda _: kspace)


def told(name, scan, truth, place=None):
    """Prints one line; the ratio, the half width and the notes, or None where it was refused."""
    try:
        found = calibrate(scan, place=place)
    except CalibrationError as error:
        print(f"{name:44s} refused: {str(error).split('cannot be learnt. ')[-1][-150:]}", flush=True)
        return None
    ratio, notes = found.rms_sigma / truth, found.notes
    silent = " SILENT" if abs(ratio - 1) > 0.05 and not notes else ""
    print(
        f"{name:44s} {found.place:12s} {ratio:.3f} ± {found.uncertainty:.3f} {'; '.join(notes)[:150]}{silent}",
        flush=True,
    )
    return ratio, found.uncertainty, notes, found.place


def real():
    for name in SCANS:
        scan = read(name)
        own = calibrate(scan).rms_sigma
        for sampling in ("full", "R4", "R4+24"):
            load = lambda k, scan=scan, sampling=sampling: sampled(scan.load(k), sampling)  # noqa: E731
            told(f"{name} {sampling}", replace(scan, load=load), own, "samples")
    own = calibrate(read("brain_8ch")).rms_sigma
    told("und2x2", open_scan(DATA / "scans/brain_8ch_bart/und2x2.cfl"), own)


def draw(k):
    """Draw k of the table coverage: a name, k-space, the true sigma, the sampling and the place."""
    generator, sampling = np.random.default_rng([15, k]), SAMPLINGS[k % len(SAMPLINGS)]
    kinds = ("head", "photo", "wide", *list(SCANS)[:3])
    kind = kinds[(k // len(SAMPLINGS)) % len(kinds)]
    if kind in SCANS:
        scan = read(kind)
        own, kspace = calibrate(scan).rms_sigma, scan[len(scan) // 2]
        added = 4 * own  # the scan's own noise, known to 10 %, is then 6 % of the variance
        return (
            f"{kind} {sampling}",
            sampled(kspace + added * white(generator, kspace.shape), sampling),
            own * 17**0.5,
            sampling,
        )
    coils = (4, 8, 16)[k % 3]
    mixed = np.tensordot(np.linalg.cholesky(covariance(generator, coils)), white(generator, (coils, 192, 192)), axes=1)
    kspace = signal_of(kind, coils, (10, 30, 100)[(k // 5) % 3], number=k % 60) + mixed
    return f"{kind} {coils} coils {sampling}", sampled(kspace.astype(np.complex64), sampling), 1.0, sampling


def fresh():
    """120 draws after those of the table coverage, on which no limit was chosen."""
    coverage(range(200, 320))


def coverage(draws=range(200)):
    """For full and for undersampled scans."""
    rows = []
    for k in draws:
        name, kspace, truth, sampling = draw(k)
        found = told(f"{k} {name}", scan_of(kspace), truth, "samples")
        rows.append((sampling == "full", found))
    for full in (True, False):
        kept = [found for whole, found in rows if whole == full and found]
        inside = np.mean([abs(ratio - 1) <= half * ratio for ratio, half, *_ in kept])
        wide = np.median([half for _, half, *_ in kept])
        worst = max(abs(ratio - 1) for ratio, *_ in kept)
        refused = sum(found is None for whole, found in rows if whole == full)
        print(
            f"{'full' if full else 'undersampled'}: {len(kept)} draws, {refused} refused, {100 * inside:.1f} % covered"
            f", median half width {100 * wide:.1f} %, largest error {100 * worst:.1f} %"
        )


def grappa(kspace, step, reference=24):
    """Lines between every `step`-th from a 4x5 kernel that is fitted to the reference lines."""
    rows, columns = kspace.shape[1:]
    x, first = np.arange(columns) - columns // 2, columns // 2 - reference // 2
    inside, made = np.abs(x + 0.5) < reference / 2, kspace.copy()
    for offset in range(1, step):
        near = [step * k - offset for k in (-1, 0, 1, 2)]

        def around(place, near=near):
            lines = [np.roll(kspace[:, :, (place + d) % columns], -s, axis=1) for d in near for s in range(-2, 3)]
            return np.stack(lines).reshape(-1, rows)

        places = range(first - min(near), first + reference - max(near))
        source = np.concatenate([around(p) for p in places], axis=1)
        wanted = np.concatenate([kspace[:, :, p] for p in places], axis=1)
        gram = source @ source.conj().T
        weights = (
            wanted @ source.conj().T @ np.linalg.inv(gram + 1e-5 * np.trace(gram).real / len(gram) * np.eye(len(gram)))
        )
        for place in np.flatnonzero((x % step == offset) & ~inside):
            made[:, :, place] = weights @ around(place)
    return made


def filters(size):
    """Name, and weights [size] along an axis."""
    u = np.abs(np.arange(size) - size // 2) / (size / 2)
    return {
        "Hamming": 0.54 + 0.46 * np.cos(np.pi * u),
        "Fermi .9": 1 / (1 + np.exp((u - 0.9) / 0.05)),
        "Gaussian .8": 0.5 ** ((u / 0.8) ** 2),
        "Gaussian 1.5": 0.5 ** ((u / 1.5) ** 2),
        "Tukey .2": np.where(u < 0.8, 1, 0.5 + 0.5 * np.cos(np.pi * (u - 0.8) / 0.2)),
    }


def cases():
    """Name, k-space, place of simulated scans with one fault, or none."""
    generator, size = np.random.default_rng(16), 192
    u = np.abs(np.arange(size) - size // 2) / (size / 2)
    r = np.hypot(u[:, None], u)
    for kind, snr in (("head", 30), ("wide", 100)):
        signal, noise = signal_of(kind, 8, snr), white(generator, (8, size, size))
        kspace = signal + noise
        for sampling in SAMPLINGS:
            yield f"{kind} {sampling}", sampled(kspace, sampling), None
        for sampling, place in (("full", None), ("R2", "samples"), ("2x2", "samples")):
            for name, weight in filters(size).items():
                for axis in ("y", "x"):
                    shaped = kspace * (weight[:, None] if axis == "y" else weight)
                    yield f"{kind} {sampling} {name} along {axis}", sampled(shaped, sampling), place
            yield f"{kind} {sampling} radial Fermi", sampled(kspace / (1 + np.exp((r - 1) / 0.05)), sampling), place
            yield f"{kind} {sampling} elliptical shutter", sampled(kspace * (r < 1), sampling), place
            for part in (0.05, 0.2):
                moved = signal + (noise + part * np.roll(noise, 1, axis=1)) / (1 + part**2) ** 0.5
                yield (
                    f"{kind} {sampling} correlated {part / (1 + part**2):.2f} along y",
                    sampled(moved, sampling),
                    place,
                )
        yield f"{kind} masked", fft2c(ifft2c(kspace) * (image_of(kind, size) > 0)), None
        yield f"{kind} interpolated by 1.5", fft2c(np.pad(ifft2c(kspace), ((0, 0), (48, 48), (48, 48)))), "samples"
        for step in (2, 3):
            yield f"{kind} GRAPPA {step}", grappa(kspace, step), "samples"
        yield f"{kind} one coil R4", sampled(kspace[:1], "R4"), None


def simulated():
    rows = [told(name, scan_of(kspace.astype(np.complex64)), 1.0, place) for name, kspace, place in cases()]
    beyond = sum(row is not None and abs(row[0] - 1) > 0.05 and not row[2] for row in rows)
    print(f"{len(rows)} scans, {sum(row is None for row in rows)} refused, {beyond} beyond 5 % without a note")


def clean():
    good, widths = 0, []
    for k, (kind, coils, snr, sampling) in enumerate(CLEAN):
        kspace = signal_of(kind, coils, snr, number=k) + white(np.random.default_rng([17, k]), (coils, 192, 192))
        found = told(f"{kind} {coils} coils SNR {snr} {sampling}", scan_of(sampled(kspace, sampling)), 1.0)
        good += found is not None and abs(found[0] - 1) <= 0.03 and not found[2]
        widths += [] if found is None else [found[1]]
    print(f"{good} of {len(CLEAN)} within 3 % without a note; median half width {100 * np.median(widths):.1f} %")


if __name__ == "__main__":
    for table in sys.argv[1:] or ("real", "coverage", "fresh", "simulated", "clean"):
        print(f"\n{table}")
        {"real": real, "coverage": coverage, "fresh": fresh, "simulated": simulated, "clean": clean}[table]()
