"""Learn the noise and the SNR of scans: one noise profile for all scans, a row for each slice, and a report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from synth.calibration.noise_profile import NoiseProfile, Place, pooled, snr_of, whiten
from synth.calibration.scan_noise import AGREEMENT, calibrate
from synth.errors import CalibrationError, ScanError
from synth.scans.open import open_scan
from synth.scans.scan import Scan
from synth.sources.scan_slices import ScansSpec, told_once

from ..display.csv_table import write_table
from ..display.progress import Meter
from ..display.terminal import counted

KEYS = ("scan", "slice")


@dataclass(frozen=True)
class Calibrated:
    """The result of a calibration."""

    profile: NoiseProfile
    rows: list[dict[str, Any]]  # SNR by scan and slice
    refused: list[str]  # scans that gave no profile, each with the reason
    scans: list[Scan]
    notes: list[str]  # about the scans; those about the noise are in the profile
    origin: str  # where the noise was found, such as "the background and the samples of 2 scans"

    @property
    def unchecked(self) -> list[str]:
        """What could not be looked at, which is no doubt about this profile: one slice does not show all filters."""
        if self.profile.place == "noise scan" or any(len(scan) > 1 for scan in self.scans):
            return []
        return ["a filter or zeros along the slices of a volume, which one slice does not show"]

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        told = {"slices": self.rows, "refused": self.refused, "scan_notes": self.notes, "unchecked": self.unchecked}
        return {**self.profile.as_dict(), **told}


def calibrate_scans(spec: ScansSpec, noise: Path | None = None, place: Place | None = None) -> Calibrated:
    """The noise of scans, pooled with their samples as weights, or that of a noise scan; and every slice's SNR.

    Raises CalibrationError if no scan gives a profile, or if numbers of coils differ.
    """
    names = spec.list_scans()
    scans, profiles, refused = [], [], []
    with Meter("calibrate", len(names), unit="scans") as meter:
        for name in names:
            try:
                scan = spec.open(name)
                scans.append(scan)
                if noise is None:
                    profiles.append(calibrate(scan, place=place))
            except (CalibrationError, ScanError) as error:
                refused.append(str(error))
            _refuse_other_coils(profiles)  # at once: the scans that follow may take minutes
            meter.advance(1)
    scan_notes = told_once([scan.path.name for scan in scans], [(s.path.name, note) for s in scans for note in s.notes])
    if noise is not None:
        noise_scan = open_scan(noise, variable=spec.variable, axes=spec.axes)
        scan_notes += [f"{noise.name}: {note}" for note in noise_scan.notes]
        profiles = [calibrate(noise_scan, place="noise scan")]
    if not profiles:
        raise CalibrationError("no scan gave a noise profile:\n  " + "\n  ".join([*refused[:10], *scan_notes[:10]]))
    profile = pooled(profiles)
    rows: list[dict[str, Any]] = []
    doubts: list[str] = []
    for scan in (s for s in scans if len(s)):
        if scan.coils != profile.coils:
            told = (
                f"has {counted(scan.coils, 'coil')}, but the noise has {profile.coils}; calibrate this scan on its own"
            )
            refused.append(f"{scan.path} {told}")
            continue
        slices = []
        for k in range(len(scan)):
            try:
                slices.append({"scan": scan.path.name, "slice": k, **snr_of(scan[k], profile)})
            except ScanError as error:
                refused.append(str(error))
        rows += [*slices, _whole(slices)] if slices else []
        doubts += doubts_on(scan, profile) if noise is not None else []
    if not rows and any(len(s) for s in scans):
        raise CalibrationError("no scan matches this noise:\n  " + "\n  ".join(refused[:10]))
    origin = " and ".join(f"the {found}" for found in dict.fromkeys(p.place for p in profiles))
    origin += f" of {len(profiles)} scans" if len(profiles) > 1 else ""
    return Calibrated(replace(profile, notes=(*profile.notes, *doubts)), rows, refused, scans, scan_notes, origin)


def _refuse_other_coils(profiles: list[NoiseProfile]) -> None:
    """Raise CalibrationError where the last scan's number of coils is not the first one's."""
    if not profiles or profiles[-1].coils == profiles[0].coils:
        return
    first, last = profiles[0], profiles[-1]
    told = ", ".join(f"{one.source} has {counted(one.coils, 'coil')}" for one in (first, last))
    raise CalibrationError(
        f"scans of different coils have no common noise profile ({told}); calibrate those of each number of coils "
        f"apart, such as `fathom calibrate {first.source} --out {Path(first.source).stem}.json`"
    )


def doubts_on(scan: Scan, profile: NoiseProfile) -> list[str]:
    """A note for noise of another measurement that does not match the scan's own background."""
    try:
        own = calibrate(scan, place="background")
    except CalibrationError:
        return []
    chance = min(4 * float(np.hypot(own.standard_error, profile.standard_error)), 0.2)
    if abs(own.rms_sigma / profile.rms_sigma - 1) <= AGREEMENT + chance:
        return []
    told = f"its own background has sigma {own.rms_sigma:.4g}, the noise that was given {profile.rms_sigma:.4g}"
    return [f"{scan.path.name}: {told}"]


def _whole(slices: list[dict[str, Any]]) -> dict[str, Any]:
    """The SNR of a scan: powers average over its slices, so its SNR is the root mean square of theirs."""
    mean = {name: float(np.mean([row[name] ** 2 for row in slices]) ** 0.5) for name in slices[0] if name not in KEYS}
    return {"scan": slices[0]["scan"], "slice": "all", **mean}


def report_files(folder: Path) -> tuple[Path, Path]:
    """Where the report's files will be; raises FileExistsError where something is there already."""
    files = folder / "snr.csv", folder / "noise.png"
    for file in (folder, *files):
        if file.is_file():
            raise FileExistsError(f"{file} is there already; choose another --report")
    return files


def write_report(found: Calibrated, folder: Path) -> list[Path]:
    """A table of SNRs and a picture: sigma by coil, correlation, and the distribution of whitened noise."""
    import matplotlib.figure

    table, picture = report_files(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if found.rows:
        write_table(found.rows, table)
    figure = matplotlib.figure.Figure(figsize=(12, 3.8), layout="constrained")
    sigma, correlation, image = figure.subplots(1, 3)
    sigma.bar(range(found.profile.coils), found.profile.sigma)
    sigma.set(title="sigma of each part, by coil", xlabel="coil")
    shown = correlation.imshow(np.abs(found.profile.correlation), vmin=0, vmax=1)
    correlation.set_title(f"|correlation| between coils\nfrom the {found.profile.place}")
    figure.colorbar(shown, ax=correlation)
    for scan in [s for s in found.scans if len(s) and s.coils == found.profile.coils][:1]:
        white = whiten(scan[len(scan) // 2], found.profile)
        image.imshow(np.sqrt(np.mean(np.abs(white) ** 2, axis=0)), cmap="gray", vmin=0, vmax=4)
        image.set_title(scan.path.name.replace("$", r"\$") + ": whitened k-space\nnoise alone is √2")
    figure.savefig(picture, dpi=100)
    return [*([table] if found.rows else []), picture]
