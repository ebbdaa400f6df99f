"""The network photos-1 on scans that it never saw, beside baselines that are tuned on the very image.

.venv/bin/python benchmarks/photos_1.py SCANS OUT [NETWORK] [--unseen | --head]     (BART wants `bart` on the path)

For every scan, both phase-encoding directions and ten samplings: CG-SENSE at its best iteration, regularised SENSE at
its best lam, BART's l1-wavelet at its best weight, and the network, which is tuned on nothing. PSNR inside the object,
SSIM. Rows are kept in OUT/baselines.json as they are made, so the command goes on where it was stopped; without NETWORK
only baselines are made. A row is shown but not counted where the reference's own noise lies within 3 dB of the
wavelet's error, since no method can then be told from another.

Rows of these images led to parts of the training (docs/photos-1.md). With --unseen, they are of other slices of the
head, which were looked at once, when the training had ended. With --head, SCANS is a folder of volumes (NIfTI), such
as Colin27, whose slices are seen by two and by eight simulated coils: a real head that is no scan, so that the training
may be chosen on it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from laptop import LAMS, wavelet_by_bart

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.models.named_models import model_named
from pipelines.ready.names import named_recipe
from recon.data.datasets import PairDataset
from recon.data.scan_batch import batch_of, noise_of
from recon.evaluation.metrics import psnr_magnitude_object_max, ssim_windowed_slice_range
from recon.models.baselines import CgSense, RegularisedSense
from synth.calibration.noise_profile import NoiseProfile
from synth.physics import fft2c
from synth.recipe import load_recipe
from synth.rng import rng
from synth.scans.open import open_scan
from synth.stages.coils import LoopsSpec, draw_coils
from synth.stages.mask_lines import RegularSpec, UniformSpec
from synth.stages.mask_points import Regular2DSpec
from synth.stages.noise import complex_noise

SCANS = {  # file, slices
    "brain_8ch_bart": ("brain_8ch_bart/full.cfl", (0,)),
    "brain_mprage_4ch": ("brain_mprage_4ch/MPRAGE_multi_channel.mat", (0,)),
    "brain_prescan_16ch": ("brain_prescan_16ch/preScanRefData.npy", (0,)),
    "head_tse_2ch_32sl": ("head_tse_2ch_32sl/kdata_body.mat", tuple(range(2, 32, 4))),
    "phantom_gre_siemens": ("phantom_gre_siemens/gre.dat", (0,)),
    "brain_t2_1ch, simulated": ("brain_t2_1ch/T2_single_channel.mat", (0,)),
}
UNSEEN = {"head_tse_2ch_32sl": ("head_tse_2ch_32sl/kdata_body.mat", tuple(range(3, 32, 4)))}
HEAD = [
    'target.outline="none"', "target.truncated=2", 'target.reference="noisy"', "fat={}", "noise.snr=[7, 100]",
    'sampling={kind="regular", acceleration=1}', "pairs=160",
]  # fmt: skip
HEADS = {  # slices, recipe; with two coils, which are nearer, the object reaches beyond the field of view
    "head": (
        range(12, 160, 18), ["target.matrix=[128, 72]", "coils.count=2", "coils.distance=[1.06, 1.15]", "seed=1403"],
    ),
    "head, 8 coils": (
        (30, 66, 102, 138), ["target.matrix=[180, 224]", "coils.count=8", "coils.distance=[1.06, 1.3]", "seed=1407"],
    ),
}  # fmt: skip
WEIGHTS = (2e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 16e-3)


@dataclass(frozen=True)
class Sampling:
    """One of the samplings, as `batch_of` asks for it; lines run along the last axis."""

    spec: object
    acceleration: int = 2  # above 1: a full reference is wanted

    def mask(self, kspace):
        return self.spec.draw(rng(0, "sampling"), kspace.shape[-2:]).sampled


def samplings(n):
    lines = min(24, n // 4)  # reference lines: at most a quarter of the matrix
    for rate in (2, 3, 4, 6):
        regular = RegularSpec(acceleration=rate, reference_lines=lines)
        yield f"R = {rate}", regular
        count = regular.capacity((1, n))
        if rate > 2:
            yield f"{count} random lines", UniformSpec(lines=count, acceleration=1, reference_lines=lines)
    yield "2x2", Regular2DSpec(acceleration=(2, 2), reference_lines=lines)
    yield "R = 2, 6/8", RegularSpec(acceleration=2, reference_lines=lines, partial_fourier=0.75)
    yield "R = 4, 6/8", RegularSpec(acceleration=4, reference_lines=lines, partial_fourier=0.75)


def images_of(folder, scans=SCANS):
    """Name, k-space [coil y x] and noise profile of every image."""
    for name, (file, slices) in scans.items():
        scan = open_scan(folder / file)
        if name.endswith("simulated"):
            yield name, simulated(scan[0]), None
            continue
        profile = noise_of(scan)[0]
        for number in slices:
            yield f"{name}, {number}" if len(slices) > 1 else name, scan[number], profile


def images_of_a_head(folder, out):
    """Name, k-space [coil y x] and noise profile of slices of a volume, as simulated coils see them."""
    for name, (places, own) in HEADS.items():
        recipe = load_recipe(named_recipe("scanner-like"), [f'source.path="{folder.resolve()}"', *HEAD, *own])
        corpus = out / f"{name.replace(', ', '-').replace(' ', '-')}.zarr"
        build(recipe, corpus, ClusterSpec("sync"))
        pairs = PairDataset(corpus)
        for place in places:
            pair = pairs[place]
            kspace = (pair["masked_kspace"] / pair["sigma"]).numpy()
            white = NoiseProfile(2 * np.eye(len(kspace)), "noise scan", 10**6, 0, 0)
            yield f"{name}, {place}", kspace, white


def simulated(kspace):
    """The single coil's magnitude as seen by eight loops, with white noise: a denoised target with new noise."""
    image = np.abs(np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace[0]))))
    maps = draw_coils(LoopsSpec(count=8, distance=(1.0, 1.1), tilt=(-0.05, 0.05)), 0, 0).maps(image.shape)
    clean = fft2c(image / image.max() * maps)
    return clean + complex_noise(clean.shape, 0.01, rng(0, "noise"))


def measured(images, out, network):
    """All rows, made or read; those of the network are made anew."""
    kept = out / "baselines.json"
    rows = json.loads(kept.read_text()) if kept.exists() else {}
    for name, kspace, profile in images:
        for direction, turned in (("x", kspace), ("y", kspace.swapaxes(-1, -2))):
            for label, spec in samplings(turned.shape[-1]):
                row = f"{name} | along {direction} | {label}"
                if row in rows and network is None:
                    continue
                turned_sampling = Sampling(spec)
                batch, reference, _ = batch_of(np.ascontiguousarray(turned), profile, turned_sampling)
                if profile is None:
                    batch["sigma"][:] = 0.01
                if row not in rows:
                    rows[row] = baselines(batch, reference)
                    kept.write_text(json.dumps(rows, indent=1) + "\n")
                if network is not None:
                    with torch.no_grad():
                        rows[row]["network"] = score(network(batch)[0].numpy(), reference)
                print(row, json.dumps(rows[row]), flush=True)
    return rows


def score(image, reference):
    values = psnr_magnitude_object_max(image, reference), ssim_windowed_slice_range(image, reference)
    return [round(float(v), 3) for v in values]


def baselines(batch, reference):
    def best(images):
        return max(score(np.asarray(image), reference) for image in images)

    found = {"net acceleration": round(float(batch["acceleration_net"][0]), 2)}
    found["CG-SENSE"] = best(CgSense(i)(batch)[0].numpy() for i in (3, 5, 8, 12, 20))
    found["best lam"] = best(RegularisedSense(lam)(batch)[0].numpy() for lam in LAMS)
    found["wavelet"] = best(wavelet_by_bart(batch, w) for w in WEIGHTS)
    inside = np.abs(reference) > 0.1 * np.abs(reference).max()  # as the metric's object, to a few pixels
    noise = float(batch["sigma"][0])  # of a part, in k-space and, since transforms are unitary, in the reference
    found["noise of the reference"] = round(float(20 * np.log10(np.abs(reference)[inside].max() / noise)), 2)
    return found


def summary_of(rows):
    counted = [row for row in rows if row["noise of the reference"] > row["wavelet"][0] + 3]
    gains = np.array([row["network"][0] - row["wavelet"][0] for row in counted])
    return {
        "rows": len(rows), "counted": len(counted), "mean gain over the wavelet, dB": round(float(gains.mean()), 2),
        "above the wavelet": round(float((gains > 0).mean()), 3), "worst, dB": round(float(gains.min()), 2),
    }  # fmt: skip


def main():
    given = [word for word in sys.argv[1:] if not word.startswith("--")]
    folder, out = map(Path, given[:2])
    out.mkdir(parents=True, exist_ok=True)
    network, _ = model_named(given[2], "cpu") if len(given) > 2 else (None, {})
    scans = UNSEEN if "--unseen" in sys.argv else SCANS
    images = images_of_a_head(folder, out) if "--head" in sys.argv else images_of(folder, scans)
    rows = measured(images, out, network)
    if network is None:
        return
    summary = summary_of(rows.values())
    if "--head" in sys.argv:
        sets = {name: [rows[row] for row in rows if row.split(" | ")[0].rpartition(", ")[0] == name] for name in HEADS}
        summary = {name: summary_of(those) for name, those in sets.items()}
    print(json.dumps(summary))
    (out / "photos-1.json").write_text(json.dumps({"summary": summary, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
