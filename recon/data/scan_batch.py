"""A slice of a scan as a batch of one: its noise, its coil maps, and its retrospective undersampling."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch

from synth.calibration.espirit import espirit
from synth.calibration.espirit_maps import EspiritMaps
from synth.calibration.noise_profile import NoiseProfile, whiten
from synth.calibration.scan_noise import calibrate
from synth.errors import CalibrationError, ScanError
from synth.physics import coil_combine, ifft2c
from synth.rng import rng
from synth.scans.scan import Kspace, Scan
from synth.stages.mask import Mask
from synth.stages.mask_lines import RegularSpec

from .device_espirit import device_espirit

HOST = torch.device("cpu")
FEWEST = 8  # reference lines for coil maps


@dataclass(frozen=True)
class Undersampling:
    """Retrospective undersampling: every `acceleration`-th line and `reference_lines` are kept; 1 keeps all lines."""

    acceleration: int = 1
    reference_lines: int = 24

    def __post_init__(self) -> None:
        """Raise ValueError for numbers out of range."""
        for name, least in (("acceleration", 1), ("reference_lines", 0)):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < least:
                raise ValueError(f"{name} = {value!r}: give a whole number of {least} or more")

    def mask(self, kspace: Kspace) -> np.ndarray:
        """Sampled lines [x], or sampled points [y x] if the scan was undersampled along both axes.

        Raises ScanError if the scan is undersampled already and `acceleration` is above 1.
        """
        points = np.abs(kspace).max(axis=0) > 0
        lines = points.any(axis=0)
        measured = lines if points[:, lines].all() else points
        if self.acceleration == 1:
            return measured
        if not is_full(measured):
            raise ScanError("the scan is undersampled already; leave acceleration out")
        wanted = RegularSpec(acceleration=self.acceleration, reference_lines=self.reference_lines)
        return measured & wanted.draw(rng(0, "sampling"), kspace.shape[-2:]).sampled


def is_full(mask: np.ndarray) -> bool:
    """Whether a mask of lines has no gap between its first line and its last."""
    places = np.flatnonzero(mask)
    return mask.ndim == 1 and len(places) == places[-1] - places[0] + 1


def noise_of(scan: Scan) -> tuple[NoiseProfile | None, list[str]]:
    """The scan's noise profile and its notes; or None and a note that says why the noise cannot be learnt."""
    try:
        profile = calibrate(scan)
    except CalibrationError as error:
        return None, [f"not whitened: {error}"]
    learnt = ["noise is learnt from the samples, by dependences between coils"] if profile.place == "samples" else []
    return profile, [*learnt, *profile.notes]


def batch_of(
    kspace: Kspace,
    profile: NoiseProfile | None,
    how: Undersampling,
    calibration: Kspace | None = None,
    sets: int = 1,
    device: torch.device = HOST,
) -> tuple[dict[str, torch.Tensor], np.ndarray | None, tuple[str, ...]]:
    """A batch of one, as the loader gives it; the image from all measured lines if `how` undersamples; notes of maps.

    The batch lies on `device`, where its maps are computed if that is a GPU. The noise is learnt on the host: once for
    a scan, in 20 to 130 ms (in some seconds from samples), while maps take 150 to 300 ms for every slice.

    Coil maps are from the reference lines in k-space, or where these are too few from a separate calibration scan. With
    several `sets` of maps, maps are [batch set coil y x], and the image is [set y x]. Maps are 0 where the lines hold
    nothing above the noise. Raises ScanError where there are too few lines or coils.
    """
    mask = how.mask(kspace)
    full = kspace if profile is None else whiten(kspace, profile)
    source, (height, width) = full * mask, Mask(mask, 1.0).reference(full.shape[1])
    sigma = 0.0 if profile is None else 1.0  # of whitened k-space; a separate scan may have another bandwidth
    if min(height, width) < FEWEST and calibration is not None:
        source = calibration if profile is None else whiten(calibration, profile)
        height, width = Mask(Undersampling().mask(calibration), 1.0).reference(full.shape[1])
        sigma = 0.0
    if min(height, width) < FEWEST:
        few = f"{min(height, width)} reference lines at k-space's centre"
        raise ScanError(f"{few} are too few for coil maps; {FEWEST} are needed, there or in a calibration scan")
    try:
        found = _espirit(source, (min(24, height), min(24, width)), sets, sigma, device)
    except ValueError as error:
        raise ScanError(str(error)) from None
    maps = found.sets(0) if sets > 1 else found.maps[0]
    reference = coil_combine(ifft2c(full), maps, sets=sets > 1) if how.acceleration > 1 else None
    arrays = {
        "mask": mask[None, None] if mask.ndim == 1 else mask[None],
        "masked_kspace": full * mask,
        "sens_maps": maps,
        "sigma": np.float32(np.nan if profile is None else 1.0),
        "acceleration": np.float32(how.acceleration if how.acceleration > 1 else np.nan),  # no file states it
        "acceleration_net": np.float32(mask.size / mask.sum()),
    }
    return {name: torch.from_numpy(np.array(a))[None].to(device) for name, a in arrays.items()}, reference, found.notes


def _espirit(kspace: Kspace, reference: tuple[int, int], sets: int, sigma: float, device: torch.device) -> EspiritMaps:
    if device.type == "cpu":
        return espirit(kspace, reference=reference, sets=sets, sigma=sigma)
    lines = torch.from_numpy(np.ascontiguousarray(kspace, np.complex64))[None].to(device)
    return device_espirit(lines, reference=reference, sets=sets, sigma=sigma).of_slice(0)
