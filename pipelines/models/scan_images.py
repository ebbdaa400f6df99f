"""The images of a scan by a trained network or a baseline: noise and maps from the scan itself, slice by slice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recon.data.packed_batch import Batch, image_shape
from recon.data.scan_batch import Undersampling, batch_of, noise_of
from recon.errors import ModelError
from recon.evaluation.metrics import Image, slice_metrics
from recon.evaluation.unexplained import TOLD, unexplained
from recon.models.baselines import CgSense
from recon.models.called import image_by
from recon.models.catalogue import Reconstruction
from recon.training.process_group import local_device
from recon.training.scope import beyond, numbers_of
from synth.calibration.noise_profile import NoiseProfile, load_profile
from synth.calibration.scan_noise import calibrate
from synth.errors import CalibrationError, FathomError, ScanError
from synth.scans.open import open_scan
from synth.scans.scan import Scan

from ..corpus.recipe_notes import beyond_coils
from ..display.progress import Meter
from ..display.terminal import counted
from ..scans.calibrate import doubts_on
from .named_models import model_named

PLAIN = CgSense(10)  # what images are compared with: it needs nothing but maps, and 10 iterations suit most scans


@dataclass(frozen=True)
class Reconstructed:
    """The images of a scan's slices, and what is known of them.

    Attributes
    ----------
    images
        Complex [slice y x]; with several map sets [slice set y x]. They are in units of the noise (sigma is 1 in
        k-space's real and imaginary parts) where it is known, and else in those of the file.
    rows
        The metrics of each slice, and those of CG-SENSE, after retrospective undersampling; else empty.
    notes
        What is in doubt, one sentence each: the scan, its noise and maps, and what the network was not trained for.
    sampled
        Of each slice, its coils, its net acceleration, and its SNR and the share of its samples that the image does not
        explain (`recon.evaluation.unexplained`), which are NaN where the noise is not known.
    noise
        The noise with which k-space was whitened, which is the unit of the images; None where it is not known.
    """

    images: NDArray[np.complex64]
    rows: list[dict[str, Any]]
    notes: list[str]
    sampled: list[dict[str, float]]
    noise: NoiseProfile | None = None


@dataclass(frozen=True)
class Slice:
    """A reconstructed slice [y x] with its batch of one, CG-SENSE's image, and the image from all lines."""

    number: int
    batch: Batch
    image: Image
    plain: Image | None
    reference: Image | None
    limits: tuple[str, ...]  # notes on its maps
    tell: Callable[[str], None]  # adds a note to the progress

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """One row, if there is an image to compare with: the metrics of the image, and those of CG-SENSE."""
        if self.plain is None or self.reference is None:
            return []
        ours, plain = (slice_metrics(image, self.reference) for image in (self.image, self.plain))
        return [{"slice": self.number, **ours, "cg_sense": plain}]


def reconstruct_scan(
    model: str,
    scan: Scan | str | Path,
    *,
    acceleration: int = 1,
    reference_lines: int = 24,
    sets: int = 1,
    noise: NoiseProfile | str | Path | None = None,
    device: str | None = None,
) -> Reconstructed:
    """Reconstruct every slice of a scan; ``fathom reconstruct`` does it, and writes files.

    Parameters
    ----------
    model
        A name of `fathom models`, such as "photos-1" or "cg-sense:10"; the folder of a training; or FILE.py:FACTORY,
        which runs the code of this file.
    scan
        A scan, as `open_scan` gives it, or its path.
    acceleration
        Undersample a full scan: keep every `acceleration`-th line; 1 takes the scan as it was measured.
    reference_lines
        Lines at k-space's centre that are kept in any case.
    sets
        Map sets: 2 for an object that is wider than the field of view.
    noise
        The noise of these coils: a profile, the path of one (.json), or that of a noise scan. By default it is learnt
        from the scan.
    device
        "cpu", "cuda" or "cuda:1"; by default the GPU where there is one.

    Returns
    -------
    Images, metrics where the scan was undersampled here, and notes on what is in doubt. They are for research, and not
    for diagnosis.

    Raises
    ------
    CheckpointError
        There is no model of this name, or its files are damaged.
    ModelError
        The file of code makes no model, or the model no image.
    ScanError
        The scan cannot be read or has no images, too few lines or coils for maps, or no noise level where the network
        needs one.
    CalibrationError
        `noise` is no noise scan and no profile, or one of another number of coils.
    ValueError
        `acceleration`, `reference_lines` or `sets` is out of range, or there is no such device.
    """
    how = Undersampling(acceleration, reference_lines)
    if sets not in (1, 2):
        raise ValueError(f"sets = {sets!r}: give 1, or 2 for an object that is wider than the field of view")
    network, card = model_named(model, device)
    scan = with_images(scan if isinstance(scan, Scan) else open_scan(scan))
    profile, notes = known_noise(scan, model, card, noise=noise)
    found = images_of(network, card, scan, profile, how, sets, local_device(device))
    return replace(found, notes=[*scan.notes, *notes, *found.notes])


def with_images(scan: Scan) -> Scan:
    """The scan; raises ScanError where it holds noise alone."""
    if len(scan) == 0:
        raise ScanError(f"{scan.path} holds only noise; give a scan with images")
    return scan


def known_noise(
    scan: Scan, model: str, card: dict[str, Any], probes: int = 0, noise: NoiseProfile | str | Path | None = None
) -> tuple[NoiseProfile | None, list[str]]:
    """As `noise_of`, or the noise that is given; raises ScanError where it must be known, and cannot be learnt."""
    if noise is not None:
        return _given_noise(scan, noise)
    profile, notes = noise_of(scan)
    needs = "noise maps need" if probes else f"{model} needs" if card.get("model", {}).get("noise_aware") else ""
    if needs and profile is None:
        raise ScanError(f"{scan.path}: {needs} the noise level, which cannot be learnt from this scan ({notes[0]})")
    return profile, notes


def _given_noise(scan: Scan, noise: NoiseProfile | str | Path) -> tuple[NoiseProfile, list[str]]:
    """The profile of a noise scan or of a file of `fathom calibrate`; raises CalibrationError for other coils."""
    name, notes = "the profile that was given", list[str]()
    if not isinstance(noise, NoiseProfile):
        name = str(noise)
        if Path(noise).suffix.lower() == ".json":
            noise = load_profile(noise)
        else:
            noise, notes = _of_noise_scan(name, scan.coils)
    if noise.coils != scan.coils:
        told = f"{scan.path} has {counted(scan.coils, 'coil')}, but {name} is the noise of {noise.coils}"
        raise CalibrationError(f"{told}; give that of the same coils")
    return noise, [*notes, f"the noise is that of {name}", *noise.notes, *doubts_on(scan, noise)]


def _of_noise_scan(file: str, coils: int) -> tuple[NoiseProfile, list[str]]:
    """The profile of a noise scan, and its notes; where a file names no axes, the order with so many coils."""
    found: list[tuple[NoiseProfile, list[str]]] = []
    refused: list[FathomError] = []
    for axes in (None, "coil sample", "sample coil"):
        try:
            scan = open_scan(file, axes=axes)
            found.append((calibrate(scan, place="noise scan"), [f"{file}: {note}" for note in scan.notes]))
        except (ScanError, CalibrationError) as error:
            refused.append(error)
    if not found:
        raise CalibrationError(
            f"{refused[0]}. If it is a noise scan, make a profile of it, and give that: `fathom calibrate {file} "
            "--axes 'coil sample' --out noise.json`, with --variable NAME if the file has several arrays"
        )
    return next((one for one in found if one[0].coils == coils), found[0])


def images_of(
    network: Reconstruction,
    card: dict[str, Any],
    scan: Scan,
    profile: NoiseProfile | None,
    how: Undersampling,
    sets: int,
    device: torch.device,
    each: Callable[[Slice], None] = lambda _: None,
) -> Reconstructed:
    """Reconstruct every slice; `each` is called with each, and may keep of it what it needs.

    K-space is whitened if there is a noise profile. ESPIRiT estimates the maps from the reference lines that are left;
    the image of a slice without a signal in them is 0. After retrospective undersampling, images and those of CG-SENSE
    (`PLAIN`) are compared with images from all lines, whose coils are combined with the same maps. Raises ModelError
    where the network cannot take a slice.
    """
    images, rows, numbers, notes = [], [], [], []
    with Meter(f"reconstruct {scan.path.name}", len(scan), unit="slices") as meter:
        for k in range(len(scan)):
            batch, reference, limits = batch_of(scan[k], profile, how, scan.calibration_of(k), sets, device)
            name = f"{scan.path}, slice {k}"
            plain = None if reference is None or not reference.any() else _image(PLAIN, batch, name)
            one = Slice(k, batch, _image(network, batch, name), plain, reference, limits, partial(meter.advance, 0))
            images.append(one.image)
            rows += one.rows
            numbers.append(numbers_of(batch, one.image) | {"unexplained": unexplained(one.image, batch)})
            empty = "" if bool(batch["sens_maps"].any()) else "; its image is 0 everywhere"
            notes += [f"slice {k}: {limit}{empty}" for limit in limits]
            notes += [] if np.isfinite(one.image).all() else [f"slice {k}: its image holds NaN or infinity"]
            each(one)
            meter.advance(1)
    notes += [*_beyond_coils(how, numbers), *beyond(card, numbers), *_unexplained(numbers)]
    return Reconstructed(np.stack(images), rows, notes, numbers, profile)


def _image(network: Reconstruction, batch: Batch, name: str) -> Image:
    """The image [y x] or [set y x] of a batch of one; 0 where its maps are, which says that it holds noise alone."""
    if not bool(batch["sens_maps"].any()):
        return np.zeros(image_shape(batch)[1:], np.complex64)
    try:
        with torch.no_grad():
            return np.asarray(image_by(network, batch)[0].cpu().numpy())
    except ValueError as error:  # too small for the network, for instance, or what a user's model raises
        raise ModelError(f"{name}: {error}") from None


def _unexplained(numbers: list[dict[str, float]]) -> list[str]:
    """A note, if images of slices leave much of the samples unexplained."""
    shares = [one["unexplained"] for one in numbers if one["unexplained"] > TOLD]  # NaN is not
    if not shares:
        return []
    where = f"in {len(shares)} of {counted(len(numbers), 'slice')}, the image and the coil maps leave "
    return [
        f"{where}up to {max(shares):.0%} of the signal at k-space's centre unexplained, and aliases may remain: maps "
        "may be wrong, or the object may have moved or be wider than the field of view"
    ]


def _beyond_coils(how: Undersampling, numbers: list[dict[str, float]]) -> list[str]:
    """What `beyond_coils` says of the slice with the fewest coils."""
    aliases = how.acceleration if how.acceleration > 1 else max(one["acceleration_net"] for one in numbers)
    return beyond_coils(min(one["coils"] for one in numbers), aliases)
