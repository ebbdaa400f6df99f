"""Reconstruct a scan with a trained network or a baseline: noise and maps from the scan itself, slice by slice."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recon.metrics import slice_metrics
from recon.world import local_device
from synth.calibration.espirit import espirit
from synth.calibration.noise_profile import NoiseProfile, whiten
from synth.calibration.scan_noise import calibrate
from synth.errors import CalibrationError, ScanError
from synth.physics import ifft2c
from synth.rng import rng
from synth.scans.open import open_scan
from synth.scans.scan import Kspace, Scan
from synth.stages.mask import Mask
from synth.stages.mask_lines import RegularSpec
from synth.storage.whole import write_whole

from .evaluation import model_named, refuse_strangers
from .picture import Panel, draw_rows, panels_of
from .progress import Meter

SHOWN = 4  # slices in the picture
FEWEST = 8  # reference lines for coil maps
FILES = ("images.npy", "images.png", "summary.json")


@dataclass(frozen=True)
class Undersampling:
    """What is left of a full scan: every `acceleration`-th line and `reference_lines`; 1 keeps what was measured."""

    acceleration: int = 1
    reference_lines: int = 24

    def mask(self, kspace: Kspace) -> np.ndarray:
        """Sampled lines [x], or points [y x] of a scan that was undersampled along both.

        Raises ScanError where a scan that is undersampled already is to be undersampled again.
        """
        points = np.abs(kspace).max(axis=0) > 0
        lines = points.any(axis=0)
        measured = lines if points[:, lines].all() else points
        if self.acceleration == 1:
            return measured
        if not is_full(measured):
            raise ScanError("it is undersampled already; leave --acceleration out")
        wanted = RegularSpec(acceleration=self.acceleration, reference_lines=self.reference_lines)
        return measured & wanted.draw(rng(0, "sampling"), kspace.shape[-2:]).sampled


def is_full(mask: np.ndarray) -> bool:
    """Whether a mask of lines has no gap between its first line and its last."""
    places = np.flatnonzero(mask)
    return mask.ndim == 1 and len(places) == places[-1] - places[0] + 1


def reconstruct(
    model: str,
    path: Path,
    out: Path,
    how: Undersampling,
    device: str | None = None,
    *,
    variable: str | None = None,
    axes: str | None = None,
) -> dict[str, Any]:
    """Write ``images.npy`` [slice y x], ``images.png`` and ``summary.json``; return the summary.

    K-space is whitened where the scan's noise can be learnt; maps are ESPIRiT's, of the reference lines that are left.
    Undersampled retrospectively, images are compared with those of all lines, coil-combined with the same maps.
    """
    refuse_strangers(out, FILES, "summary.json", b'{\n  "scan"')
    place = local_device(device)
    network, card = model_named(model, device)
    scan = open_scan(path, variable=variable, axes=axes)
    if len(scan) == 0:
        raise ScanError(f"{path} holds noise alone; give a scan with images")
    profile, notes = noise_of(scan)
    if profile is None and card.get("model", {}).get("noise_aware"):
        raise ScanError(f"{path}: {model} must be told the noise, which cannot be learnt from this scan ({notes[0]})")
    images, rows, drawn = [], [], []
    shown = {int(k) for k in np.linspace(0, len(scan) - 1, min(SHOWN, len(scan)))}
    with Meter(f"reconstruct {path.name}", len(scan), unit="slices") as meter:
        for number in range(len(scan)):
            batch, reference = batch_of(scan[number], profile, how)
            with torch.no_grad():
                on_place = {name: tensor.to(place) for name, tensor in batch.items()}
                image = network(on_place)[0].cpu().numpy()
            images.append(image)
            title = model if card == {} else str(card["name"])
            if reference is not None:
                rows.append({"slice": number, **slice_metrics(image, reference)})
                title = f"{title}, {rows[-1]['psnr_magnitude_slice_max']:.1f} dB"
            if number in shown and reference is not None:
                drawn.append(panels_of(reference, {title: image}))
            elif number in shown:
                drawn.append([Panel(title, np.abs(image), float(np.abs(image).max()))])
            meter.advance(1)
    summary = {"scan": path.name, "model": model, "slices": len(scan), "notes": [*scan.notes, *notes], "rows": rows}
    summary["unit"] = "of the file" if profile is None else "noise: sigma is 1 in k-space's real and imaginary parts"
    data = io.BytesIO()
    np.save(data, np.stack(images), allow_pickle=False)
    write_whole(out / "images.npy", data.getvalue())
    draw_rows(drawn, out / "images.png")
    write_whole(out / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())
    return summary


def noise_of(scan: Scan) -> tuple[NoiseProfile | None, list[str]]:
    """The scan's noise, or a note that says why it cannot be learnt."""
    try:
        return calibrate(scan), []
    except CalibrationError as error:
        return None, [f"not whitened: {error}"]


def batch_of(
    kspace: Kspace, profile: NoiseProfile | None, how: Undersampling
) -> tuple[dict[str, torch.Tensor], np.ndarray | None]:
    """A batch of one as the loader gives it, and the image of all lines where more were measured than are used."""
    mask = how.mask(kspace)
    full = kspace if profile is None else whiten(kspace, profile)
    height, width = Mask(mask, 1.0).reference(full.shape[1])
    if min(height, width) < FEWEST:
        few = f"{min(height, width)} reference lines at k-space's centre"
        raise ScanError(f"{few} are too few for coil maps; {FEWEST} are needed")
    maps = espirit(full * mask, reference=(min(24, height), min(24, width))).maps[0]
    reference = np.sum(maps.conj() * ifft2c(full), axis=0) if how.acceleration > 1 else None
    arrays = {
        "mask": mask[None, None] if mask.ndim == 1 else mask[None],
        "masked_kspace": full * mask,
        "sens_maps": maps,
        "sigma": np.float32(np.nan if profile is None else 1.0),
        "acceleration": np.float32(mask.size / mask.sum()),
    }
    return {name: torch.from_numpy(np.array(a))[None] for name, a in arrays.items()}, reference
