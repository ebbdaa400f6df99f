"""The commands about scans: their noise, and their coil maps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..display.terminal import counted, say
from .options import Axes, Json, Scheduler, Variable, Workers, in_options, kindly, print_json

if TYPE_CHECKING:
    from ..scans.calibrate import Calibrated

ScansPath = Annotated[Path, typer.Argument(metavar="SCANS", help="A scan, or a folder of scans.")]


SNR_MEANING = {  # as `synth.snr` defines them
    "rms": "signal over noise of all samples",
    "knoll": "as Knoll 2019 prints it; it falls with the number of samples, and only its ratios can be compared",
    "knoll-rms": "the same without that number: rms / sqrt(2)",
    "image": "signal over noise of the coil-combined image",
}


def calibrate_command(
    scans: ScansPath,
    out: Annotated[Path, typer.Option("--out", help="The noise profile to write (JSON).")],
    report: Annotated[Path | None, typer.Option(help="Folder for snr.csv (SNR of each slice) and noise.png.")] = None,
    noise: Annotated[Path | None, typer.Option(help="A separate noise scan.")] = None,
    place: Annotated[str | None, typer.Option(help="noise scan, background, k-space edge or samples.")] = None,
    variable: Variable = None,
    axes: Axes = None,
    as_json: Json = False,
) -> None:
    """Estimate the noise of scans: sigma, covariance between coils, and the SNR of every slice."""
    from synth.calibration.noise_profile import PLACES
    from synth.sources.scan_slices import ScansSpec

    from ..scans.calibrate import calibrate_scans, report_files, write_report

    with kindly(in_options):
        if place not in (None, *PLACES):
            raise ValueError(f"--place {place}: write one of {', '.join(PLACES)}")
        if out.exists():
            raise FileExistsError(f"{out} is there already; choose another --out")
        if report:
            report_files(report)
        spec = ScansSpec(kind="scans", path=str(scans), variable=variable, axes=axes)
        found = calibrate_scans(spec, noise, place)
        found.profile.save(out)
        written = write_report(found, report) if report else []
    for reason in found.refused:
        say(f"left out: {in_options(reason)}", err=True)
    if as_json:
        print_json(found.as_dict())
        return
    _print_calibrated(found, out)
    for file in written:
        say(str(file))


def _print_calibrated(found: Calibrated, out: Path) -> None:
    """The noise with its interval, then the notes on it, and the range of each SNR."""
    profile, doubts = found.profile, [*found.notes, *found.profile.notes]
    interval = _interval(profile.uncertainty, bool(doubts))
    say(
        f"{out}: {counted(profile.coils, 'coil')}, sigma {profile.rms_sigma:.4g}{interval} "
        f"({profile.sigma.min():.4g} ... {profile.sigma.max():.4g} over coils) "
        f"from {found.origin}, {profile.samples} samples"
    )
    for line in (*(f"note: {note}" for note in doubts), *(f"not checked: {what}" for what in found.unchecked)):
        say(line)
    for name, meaning in SNR_MEANING.items():
        values = [row[name] for row in found.rows if row["slice"] != "all"]
        if values:
            low, high = f"{min(values):.4g}", f"{max(values):.4g}"
            told = low if low == high else f"{low} ... {high}"
            say(f"SNR ({name}) {told} over {counted(len(values), 'slice')}: {meaning}")


def _interval(uncertainty: float, is_doubtful: bool) -> str:
    """A relative interval of 95 % as text; none where it is not known."""
    if math.isnan(uncertainty):
        return ""
    return f" ± {100 * uncertainty:.2g} %" + " by chance; the notes say what may add to it" * is_doubtful


def coils_command(
    scans: ScansPath,
    out: Annotated[Path, typer.Option("--out", help="Folder of the library, such as coils.zarr.")],
    workers: Workers = None,
    scheduler: Scheduler = "local",
    variable: Variable = None,
    axes: Axes = None,
    as_json: Json = False,
) -> None:
    """Harvest coil maps from scans into a library for `[coils] kind = "library"`."""
    from synth.sources.scan_slices import ScansSpec

    from ..cluster import ClusterSpec
    from ..scans.harvest_maps import harvest

    with kindly(in_options):
        spec = ScansSpec(kind="scans", path=str(scans), variable=variable, axes=axes)
        made = harvest(spec, out, ClusterSpec(scheduler, None, workers))
    if as_json:
        print_json(made)
        return
    for reason in made["rejected"]:
        say(f"left out: {in_options(reason)}", err=True)
    for note in made["notes"]:
        say(f"note: {note}")
    shapes = sorted({tuple(s["shape"]) for s in made["sets"]})
    say(f"{out}: {made['status']}, {len(made['sets'])} sets of coil y x {', '.join(map(str, shapes))}")
