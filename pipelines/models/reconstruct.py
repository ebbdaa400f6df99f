"""Reconstruct a scan with a trained network or a baseline: noise and maps from the scan itself, slice by slice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recon.data.packed_batch import Batch, image_shape
from recon.data.scan_batch import Undersampling, batch_of, noise_of
from recon.evaluation.metrics import Image, over_sets, slice_metrics
from recon.models.baselines import CgSense
from recon.models.called import image_by
from recon.models.catalogue import Reconstruction
from recon.training.process_group import local_device
from recon.training.scope import beyond, numbers_of
from synth.calibration.noise_profile import NoiseProfile
from synth.errors import ScanError
from synth.scans.open import open_scan
from synth.scans.scan import Scan
from synth.storage.results import claim, refuse_other_results
from synth.storage.whole import read_document

from ..corpus.recipe_notes import beyond_coils
from ..display.image_panels import Line, Panel, draw_rows, panels_of, white_of
from ..display.progress import Meter
from .named_models import identity_of, model_named
from .reconstruction_files import (
    LEAD,
    PAGE,
    WRITE,
    noise_of_slice,
    write_noise,
    write_result,
    write_summary,
)

SHOWN = 4  # slices in the picture
UNITS = ("of the file", "noise: sigma is 1 in k-space's real and imaginary parts")
USE = "research; not for diagnosis"
PLAIN = CgSense(10)  # what images are compared with: it needs nothing but maps, and 10 iterations suit most scans


def reconstruct(
    model: str,
    path: Path,
    out: Path,
    how: Undersampling,
    device: str | None = None,
    *,
    variable: str | None = None,
    axes: str | None = None,
    probes: int = 0,
    sets: int = 1,
    write: Sequence[str] = (),
    told: Sequence[str] = (),
) -> dict[str, Any]:
    """Write ``images.npy`` [slice y x], ``images.png``, ``summary.json`` and ``report.html``; return the summary.

    `write` names further formats of the images, of `WRITE`; `told` are notes of the caller's, which come first.
    Results of the same command that are there already are returned as they are, and the summary says ``there``; raises
    ValueError where `out` holds others.

    With several `sets` of maps, ``images.npy`` is [slice set y x]; picture and metrics are of the root of the sum of
    squares over the sets.

    K-space is whitened if the scan's noise can be learnt. ESPIRiT estimates the maps from the reference lines that are
    left; the image of a slice without a signal in them is 0. After retrospective undersampling, images and those of
    CG-SENSE (`PLAIN`) are compared with images from all lines, whose coils are combined with the same maps.

    With `probes` above 0, it also writes ``noise_map.npy`` [part slice y x], the local standard deviation of the
    images' real and imaginary part, and of their magnitude (`recon.evaluation.noise_map`), ``g_map.npy`` [slice y x],
    and ``noise_map.png``. Raises ScanError for these where the scan's noise cannot be learnt, or where a slice has no
    signal.
    """
    refuse_unknown_formats(write)
    network, card = model_named(model, device)
    scan = _scan_of_images(path, variable, axes)
    decided = command_of(model, how, probes=probes, sets=sets, variable=variable, axes=axes)
    command = {**decided, "scan": path.name, "sha256": scan.sha256}
    refuse_other_results(out, command)
    if all((out / name).exists() for name in (PAGE, *(WRITE[form] for form in write))):
        return {**json.loads(read_document(out / "summary.json")), "there": True}
    profile, notes = _noise_of(scan, path, model, card, probes)
    images, rows, drawn, maps, numbers = [], [], [], [], []
    shown = _shown(len(scan))
    for number, batch, reference, limits, tell in _batches(scan, profile, how, sets, local_device(device)):
        notes += [f"slice {number}: {limit}" for limit in limits]
        images.append(image := _image(network, batch))
        numbers.append(numbers_of(batch, image))
        if probes:
            _refuse_empty(batch, f"{path}, slice {number}", limits)
            maps.append(noise_of_slice(network, batch, probes, tell))
        plain = None if reference is None or not reference.any() else _image(PLAIN, batch)
        rows += (row := _compared(number, image, plain, reference))
        if number in shown:
            drawn += [f"slice {number}", *_panels(card.get("name", model), image, plain, reference, row)]
    summary = {"scan": path.name, "model": model, "slices": len(scan), "rows": rows, **_sampled(how, numbers)}
    summary["notes"] = [*told, *scan.notes, *notes, *_beyond_coils(how, numbers), *beyond(card, numbers)]
    summary |= {"unit": UNITS[profile is not None], "use": USE, **({"map_sets": sets} if sets > 1 else {})}
    claim(out, command)
    summary |= write_noise(maps, sorted(shown), out)
    draw_rows(drawn, out / "images.png")
    write_result(np.stack(images), out, write, model, scan.field_of_view_mm)
    write_summary(summary, out)
    return summary


def _shown(slices: int) -> set[int]:
    """The slices in the picture, spread over the scan but for its ends, which show little."""
    parts = min(SHOWN, slices)
    return {int((k + 0.5) * slices / parts) for k in range(parts)}


def _batches(
    scan: Scan, profile: NoiseProfile | None, how: Undersampling, sets: int, device: torch.device
) -> Iterator[tuple[int, Batch, Image | None, tuple[str, ...], Callable[[str], None]]]:
    """The number of each slice, what `batch_of` makes of it, and a function that adds a note to its progress."""
    with Meter(f"reconstruct {scan.path.name}", len(scan), unit="slices") as meter:
        for number in range(len(scan)):
            made = batch_of(scan[number], profile, how, scan.calibration_of(number), sets, device)
            yield number, *made, partial(meter.advance, 0)
            meter.advance(1)


def _scan_of_images(path: Path, variable: str | None, axes: str | None) -> Scan:
    scan = open_scan(path, variable=variable, axes=axes)
    if len(scan) == 0:
        raise ScanError(f"{path} holds only noise; give a scan with images")
    return scan


def refuse_unknown_formats(write: Sequence[str]) -> None:
    """Raise ValueError where a name is not of `WRITE`."""
    for name in write:
        if name not in WRITE:
            raise ValueError(f"--write {name}: there is no such format; give {', '.join(WRITE)}")


def command_of(
    model: str,
    how: Undersampling,
    *,
    probes: int = 0,
    sets: int = 1,
    variable: str | None = None,
    axes: str | None = None,
) -> dict[str, Any]:
    """What decides the images of a scan, besides the scan."""
    lines = {"acceleration": how.acceleration}
    lines |= {"reference_lines": how.reference_lines} if how.acceleration > 1 else {}
    named = {"model": model, "model_identity": identity_of(model), **lines, "noise_map_probes": probes}
    return {**named, "map_sets": sets, "variable": variable, "axes": axes}


def _refuse_empty(batch: Batch, where: str, limits: tuple[str, ...]) -> None:
    if not bool(batch["sens_maps"].any()):
        raise ScanError(f"{where}: {limits[0]}; leave out --noise-map")


def _noise_of(
    scan: Scan, path: Path, model: str, card: dict[str, Any], probes: int
) -> tuple[NoiseProfile | None, list[str]]:
    """As `noise_of`; raises ScanError where the noise must be known, and cannot be learnt."""
    profile, notes = noise_of(scan)
    needs = "noise maps need" if probes else f"{model} needs" if card.get("model", {}).get("noise_aware") else ""
    if needs and profile is None:
        raise ScanError(f"{path}: {needs} the noise level, which cannot be learnt from this scan ({notes[0]})")
    return profile, notes


def _image(network: Reconstruction, batch: Batch) -> Image:
    """The image [y x] or [set y x] of a batch of one; 0 where its maps are, which says that it holds noise alone."""
    if not bool(batch["sens_maps"].any()):
        return np.zeros(image_shape(batch)[1:], np.complex64)
    with torch.no_grad():
        return np.asarray(image_by(network, batch)[0].cpu().numpy())


def _sampled(how: Undersampling, numbers: list[dict[str, float]]) -> dict[str, Any]:
    """How the slices were sampled: as they were measured, or retrospectively."""
    net = sorted({round(one["acceleration_net"], 3) for one in numbers})
    told = {"coils": sorted({int(one["coils"]) for one in numbers}), "acceleration_net": net}
    lines = {"acceleration": how.acceleration, "reference_lines": how.reference_lines}
    return told | (lines if how.acceleration > 1 else {})


def _beyond_coils(how: Undersampling, numbers: list[dict[str, float]]) -> list[str]:
    """What `beyond_coils` says of the slice with the fewest coils."""
    aliases = how.acceleration if how.acceleration > 1 else max(one["acceleration_net"] for one in numbers)
    return beyond_coils(min(one["coils"] for one in numbers), aliases)


def _compared(number: int, image: Image, plain: Image | None, reference: Image | None) -> list[dict[str, Any]]:
    """The slice's row, if there is an image to compare with: the metrics of the image, and those of CG-SENSE."""
    if plain is None or reference is None:
        return []
    return [{"slice": number, **slice_metrics(image, reference), "cg_sense": slice_metrics(plain, reference)}]


def _panels(
    name: str, image: Image, plain: Image | None, reference: Image | None, rows: list[dict[str, Any]]
) -> list[Line]:
    if reference is None:
        magnitude = np.abs(over_sets(image))
        return [[Panel(name, magnitude, white_of(magnitude))]]
    if plain is None:
        return panels_of(over_sets(reference), {name: over_sets(image)})
    (row,) = rows
    ours, other = f"{name}: PSNR in the object {row[LEAD]:.1f} dB", f"CG-SENSE: {row['cg_sense'][LEAD]:.1f} dB"
    return panels_of(over_sets(reference), {ours: over_sets(image), other: over_sets(plain)})
