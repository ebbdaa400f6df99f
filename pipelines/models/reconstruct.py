"""The files of a reconstructed scan: images, numbers, noise maps, and a page with pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recon.data.scan_batch import Undersampling
from recon.evaluation.metrics import over_sets
from recon.training.process_group import local_device
from synth.calibration.noise_profile import NoiseProfile
from synth.errors import CalibrationError, ScanError
from synth.scans.open import open_scan
from synth.storage.arrays import sha256_of_file
from synth.storage.results import claim, refuse_other_results
from synth.storage.whole import read_document

from ..display.image_panels import Line, Panel, draw_rows, panels_of, white_of
from .named_models import identity_of, model_named
from .reconstruction_files import (
    LEAD,
    PAGE,
    WRITE,
    SliceNoise,
    noise_of_slice,
    write_noise,
    write_result,
    write_summary,
)
from .scan_images import Slice, images_of, known_noise, with_images

SHOWN = 4  # slices in the picture
UNITS = ("of the file", "noise: sigma is 1 in k-space's real and imaginary parts")
USE = "research; not for diagnosis"


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
    noise: Path | None = None,
    write: Sequence[str] = (),
    told: Sequence[str] = (),
) -> dict[str, Any]:
    """Write ``images.npy`` [slice y x], ``images.png``, ``summary.json`` and ``report.html``; return the summary.

    `write` names further formats of the images, of `WRITE`; `told` are notes of the caller's, which come first.
    Results of the same command that are there already are returned as they are, and the summary says ``there``; raises
    ValueError where `out` holds others.

    With several `sets` of maps, ``images.npy`` is [slice set y x]; picture and metrics are of the root of the sum of
    squares over the sets.

    `images_of` says how they are made, and `known_noise` what `noise` may be; without it, it is learnt from the scan.

    With `probes` above 0, it also writes ``noise_map.npy`` [part slice y x], the local standard deviation of the
    images' real and imaginary part, and of their magnitude (`recon.evaluation.noise_map`), ``g_map.npy`` [slice y x],
    and ``noise_map.png``. Raises ScanError for these where the scan's noise cannot be learnt, or where a slice has no
    signal.
    """
    refuse_unknown_formats(write)
    network, card = model_named(model, device)
    scan = with_images(open_scan(path, variable=variable, axes=axes))
    decided = command_of(model, how, probes=probes, sets=sets, noise=noise, variable=variable, axes=axes)
    command = {**decided, "scan": path.name, "sha256": scan.sha256}
    refuse_other_results(out, command)
    if _is_there(out, write):
        return {**json.loads(read_document(out / "summary.json")), "there": True}
    profile, notes = known_noise(scan, model, card, probes, noise)
    drawn: list[Line] = []
    maps: list[SliceNoise] = []
    shown = _shown(len(scan))

    def keep(one: Slice) -> None:
        if probes:
            _refuse_empty(one, path)
            maps.append(noise_of_slice(network, one.batch, probes, one.tell))
        if one.number in shown:
            drawn.extend((f"slice {one.number}", *_panels(card.get("name", model), one)))

    found = images_of(network, card, scan, profile, how, sets, local_device(device), keep)
    summary = {"scan": path.name, "model": model, "slices": len(scan), "rows": found.rows}
    summary |= {**_sampled(how, found.sampled), "notes": [*told, *scan.notes, *notes, *found.notes]}
    summary |= {**_unit(profile), "use": USE, **({"map_sets": sets} if sets > 1 else {})}
    claim(out, command)
    summary |= write_noise(maps, sorted(shown), out)
    draw_rows(drawn, out / "images.png")
    write_result(found.images, out, write, model, scan.field_of_view_mm)
    write_summary(summary, out)
    return summary


def _unit(noise: NoiseProfile | None) -> dict[str, Any]:
    """The unit of the images, and sigma in that of the file, rms over coils, where it is known."""
    return {"unit": UNITS[noise is not None], **({} if noise is None else {"sigma": noise.rms_sigma})}


def _is_there(out: Path, write: Sequence[str]) -> bool:
    return all((out / name).exists() for name in (PAGE, *(WRITE[form] for form in write)))


def _shown(slices: int) -> set[int]:
    """The slices in the picture, spread over the scan but for its ends, which show little."""
    parts = min(SHOWN, slices)
    return {int((k + 0.5) * slices / parts) for k in range(parts)}


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
    noise: Path | None = None,
    variable: str | None = None,
    axes: str | None = None,
) -> dict[str, Any]:
    """What decides the images of a scan, besides the scan."""
    lines = {"acceleration": how.acceleration}
    lines |= {"reference_lines": how.reference_lines} if how.acceleration > 1 else {}
    named = {"model": model, "model_identity": identity_of(model), **lines, "noise_map_probes": probes}
    if noise is not None and not noise.is_file():
        raise CalibrationError(f"{noise}: is not a file; give a noise scan, or a profile of `fathom calibrate`")
    given = {"noise": sha256_of_file(noise)} if noise is not None else {}
    return {**named, "map_sets": sets, "variable": variable, "axes": axes, **given}


def _refuse_empty(one: Slice, path: Path) -> None:
    if not bool(one.batch["sens_maps"].any()):
        raise ScanError(f"{path}, slice {one.number}: {one.limits[0]}; leave out --noise-map")


def _sampled(how: Undersampling, numbers: list[dict[str, float]]) -> dict[str, Any]:
    """How the slices were sampled: as they were measured, or retrospectively."""
    net = sorted({round(one["acceleration_net"], 3) for one in numbers})
    told = {"coils": sorted({int(one["coils"]) for one in numbers}), "acceleration_net": net}
    lines = {"acceleration": how.acceleration, "reference_lines": how.reference_lines}
    return told | (lines if how.acceleration > 1 else {})


def _panels(name: str, one: Slice) -> list[Line]:
    image, reference = over_sets(one.image), None if one.reference is None else over_sets(one.reference)
    if reference is None:
        magnitude = np.abs(image)
        return [[Panel(name, magnitude, white_of(magnitude))]]
    if one.plain is None:
        return panels_of(reference, {name: image})
    (row,) = one.rows
    ours, other = f"{name}: PSNR in the object {row[LEAD]:.1f} dB", f"CG-SENSE: {row['cg_sense'][LEAD]:.1f} dB"
    return panels_of(reference, {ours: image, other: over_sets(one.plain)})
