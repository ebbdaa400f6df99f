"""The command about scans and networks: reconstruct."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ..display.terminal import counted, say
from .options import (
    Axes,
    Device,
    Json,
    NoiseMap,
    ProbeCount,
    Variable,
    end_with,
    in_options,
    kindly,
    print_json,
    say_notes,
)

REFERENCE_LINES, PROBES = 24, 72
ReferenceLines = Annotated[int, typer.Option(min=8, help="Fully sampled lines at the centre of k-space.")]
NoiseFile = Annotated[
    Path | None, typer.Option(help="A noise scan, or a profile of `fathom calibrate`; default: the scan's own samples.")
]
MapSets = Annotated[
    int, typer.Option("--map-sets", min=1, max=2, help="2 for an object that is wider than the field of view.")
]
Formats = Annotated[list[str] | None, typer.Option("--write", help="Images as nifti, dicom or cfl, too. Repeatable.")]
ROWS = 8  # slices of a scan whose numbers are printed; the page has all


def reconstruct_command(
    model: Annotated[
        str,
        typer.Argument(help="A network of `fathom models`, the folder of a training, cg-sense:10, or FILE.py:FACTORY."),
    ],
    scan: Annotated[Path, typer.Argument(help="A scan in any format that Fathom reads, or a folder of scans.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for images.npy, report.html and summary.json.")],
    acceleration: Annotated[
        int, typer.Option(min=1, help="Undersample a full scan by this factor; 1 leaves it as it is.")
    ] = 1,
    reference_lines: ReferenceLines = REFERENCE_LINES,
    noise: NoiseFile = None,
    noise_map: NoiseMap = False,
    probes: ProbeCount = PROBES,
    sets: MapSets = 1,
    write: Formats = None,
    variable: Variable = None,
    axes: Axes = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Reconstruct a scan, or every scan of a folder, as it was measured, or undersampled retrospectively."""
    from recon.data.scan_batch import Undersampling

    from ..models.named_models import runs_code
    from ..models.reconstruct import reconstruct
    from ..models.reconstruct_folder import reconstruct_folder
    from ..models.swapped import refuse_swapped_scan

    with kindly(in_options):
        refuse_swapped_scan(model, scan)
        say_notes((*runs_code([model]), *_without_effect(acceleration, reference_lines, probes, noise_map=noise_map)))
        wanted: dict[str, Any] = {"probes": probes if noise_map else 0, "sets": sets, "noise": noise}
        one: Any = partial(reconstruct_folder, worded=in_options) if scan.is_dir() else reconstruct
        how = Undersampling(acceleration, reference_lines)
        read = {"variable": variable, "axes": axes}
        found = one(model, scan, out, how, device, write=write or (), **read, **wanted)
    all_found: dict[str, dict[str, Any]] = found if scan.is_dir() else {"": found}
    if as_json:
        print_json(found)
    else:
        _print_reconstructions(all_found, out, is_folder=scan.is_dir())
    end_with({one["scan"]: one["failed"] for one in all_found.values() if "failed" in one})


def _without_effect(acceleration: int, reference_lines: int, probes: int, *, noise_map: bool) -> Iterator[str]:
    """A sentence for each option that has no effect without another one."""
    if reference_lines != REFERENCE_LINES and acceleration == 1:
        yield "--reference-lines has no effect without --acceleration"
    if probes != PROBES and not noise_map:
        yield "--probes has no effect without --noise-map"


def _print_reconstructions(found: dict[str, dict[str, Any]], out: Path, *, is_folder: bool) -> None:
    made = {name: summary for name, summary in found.items() if "slices" in summary}
    left_out = [summary["left_out"] for summary in found.values() if "left_out" in summary]
    for name, summary in made.items():
        _print_reconstruction(summary, out / name, name)
    for reason in left_out:
        say(f"left out: {reason}", err=True)
    if is_folder:
        scans = counted(len(found) - len(left_out), "scan")
        say(f"{out}: {len(made)} of {scans} reconstructed; see {out / 'report.html'}")


def _print_reconstruction(summary: dict[str, Any], out: Path, name: str) -> None:
    """What became of a scan, under its name where there are several."""
    if name:
        say(f"{name}:")
    rows = summary["rows"]
    for row in rows[:ROWS]:
        _print_means(f"slice {row['slice']}", [row])
    if len(rows) > 1:
        more = f", of which {len(rows) - ROWS} are not shown" if len(rows) > ROWS else ""
        _print_means(f"mean of {len(rows)} slices{more}", rows)
    for note in summary["notes"]:
        say(f"note: {note}")
    net = ", ".join(f"{value:g}" for value in summary["acceleration_net"])
    there = "there already, " if summary.get("there") else ""
    slices = counted(summary["slices"], "slice")
    if "acceleration" in summary:
        net += f" of {summary['acceleration']} with {summary['reference_lines']} reference lines"
    say(f"{out}: {there}{slices}, net acceleration {net}, for {summary['use']}; see {out / 'report.html'}")


def _print_means(of: str, rows: list[dict[str, Any]]) -> None:
    psnr, ssim = (
        sum(row[m] for row in rows) / len(rows) for m in ("psnr_magnitude_object_max", "ssim_windowed_slice_range")
    )
    plain = [
        row["cg_sense"]["psnr_magnitude_object_max"] for row in rows if "cg_sense" in row
    ]  # not in earlier versions
    beside = f" (CG-SENSE {sum(plain) / len(plain):.2f} dB)" if plain else ""
    say(f"{of}: PSNR in the object {psnr:.2f} dB{beside}, SSIM {ssim:.3f}")
