"""What `fathom reconstruct` writes into a scan's folder: images in several formats, maps, a summary and a page."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures

from recon.data.packed_batch import Batch
from recon.evaluation.metrics import Image, over_sets
from recon.evaluation.noise_map import NoiseMap, noise_map
from recon.evaluation.noise_map_rows import counted
from recon.models.baselines import RegularisedSense
from recon.models.catalogue import Reconstruction
from synth.storage.results import COMMAND
from synth.storage.whole import write_whole
from synth.writers.cfl import write_images
from synth.writers.image_files import write_dicom, write_nifti

from ..display.html_page import page
from ..display.image_panels import WINDOW_SAID, Panel, draw_rows

WRITE = {"nifti": "images.nii", "dicom": "dicom", "cfl": "images.cfl"}  # what may be written beside images.npy
PAGE = "report.html"
FILES = {
    "images.npy": "complex images [slice y x], or [slice set y x] with several map sets",
    "images.png": "the picture above",
    "images.nii": "magnitudes as NIfTI [x y slice]",
    "dicom": "magnitudes as DICOM, a secondary capture of each slice",
    "images.cfl": "complex images for BART [y x 1 1 set 1 1 1 1 1 1 1 1 slice]",
    "images.hdr": "their sizes",
    "noise_map.npy": "standard deviation [part slice y x] of the noise: of its parts, and of the magnitude",
    "g_map.npy": "g-factor [slice y x] of SENSE with these coils and samples",
    "noise_map.png": "pictures of both",
    "summary.json": "all of this page, for programs",
    COMMAND: "what decides these results: the same command may write them again, no other",
    PAGE: "this page",
}
CAPTIONS = {
    "images.png": "Slices of the scan. {}.",
    "noise_map.png": "Standard deviation of the noise in the image, in its unit; below, the g-factor of SENSE.",
}
LEAD = "psnr_magnitude_object_max"  # air, of which scans have much, makes every PSNR over all pixels large
THUMBNAIL = 640
G_LAM = 50.0  # lam of the g-map, which bounds g: larger than any g at which an image is of use


@dataclass(frozen=True, eq=False)
class SliceNoise:
    """The noise of a slice's image, and the g-map [y x] of SENSE (`g_map`)."""

    image: NoiseMap
    g: NDArray[np.float64]


def noise_of_slice(network: Reconstruction, batch: Batch, probes: int, told: Callable[[str], None]) -> SliceNoise:
    """Both maps of a batch of one; `told` gets what is under way, for a meter."""
    return SliceNoise(
        noise_map(network, batch, probes, progress=counted(probes, told)),
        g_map(batch, probes, counted(probes, told, "its g-map")),
    )


def g_map(batch: Batch, probes: int, progress: Callable[[], None] | None = None) -> NDArray[np.float64]:
    """G [y x] of SENSE for the coils and samples of a batch of one; 0 where its maps are 0.

    g is the noise of the image over sqrt(R) sigma, with the net acceleration R (Pruessmann et al., Magn Reson Med
    42:952, 1999). SENSE is regularised with `G_LAM`, so that g is finite where coils cannot separate the aliases.
    """
    spread = noise_map(RegularisedSense(G_LAM), batch, probes, progress=progress).spread[0]
    return spread / (float(batch["sigma"][0]) * float(batch["acceleration_net"][0]) ** 0.5)


def write_result(
    images: Image, out: Path, write: Sequence[str], model: str, field_of_view_mm: tuple[float, float] | None
) -> None:
    """Write ``images.npy`` [slice y x] or [slice set y x], and the formats `write` of `WRITE`."""
    _write_array(images, out / "images.npy")
    magnitude = np.stack([np.abs(over_sets(image)) for image in images]).astype(np.float32)
    if "nifti" in write:
        write_nifti(magnitude, out / "images.nii", field_of_view_mm)
    if "dicom" in write:
        write_dicom(magnitude, out / "dicom", model, field_of_view_mm)
    if "cfl" in write:
        write_images(out / "images", images)


def write_noise(maps: list[SliceNoise], shown: list[int], out: Path) -> dict[str, Any]:
    """Write the maps; return what the summary says of them."""
    if not maps:
        return {}
    noise = [m.image for m in maps]
    _write_array(np.stack([[m.spread[0] for m in noise], [m.magnitude[0] for m in noise]]), out / "noise_map.npy")
    _write_array(np.stack([m.g for m in maps]), out / "g_map.npy")
    top, most = float(np.quantile([m.spread for m in noise], 0.99)), float(np.quantile([m.g for m in maps], 0.99))
    panels = [Panel(f"noise SD of slice {k}", noise[k].spread[0], top, bar=f"{top:.2g}") for k in shown]
    draw_rows(
        [panels, [Panel(f"g of slice {k}", maps[k].g, most, bar=f"{most:.2g}") for k in shown]], out / "noise_map.png"
    )
    numbers = [
        {"error": float(m.image.error[0]), "deviation": float(m.image.deviation[0]), "derivative": m.image.how}
        | {"g_median": float(np.median(m.g[m.g > 0])), "g_largest": float(m.g.max())}
        for m in maps
    ]
    return {"noise_map": numbers}


def write_summary(summary: dict[str, Any], out: Path) -> None:
    """Write ``summary.json`` and, last of all, the page."""
    write_whole(out / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())
    window = WINDOW_SAID if summary["rows"] else WINDOW_SAID.replace("the reference", "the image")
    there = {name: text.format(window) for name, text in CAPTIONS.items() if (out / name).exists()}
    pictures = [(text, (out / name).read_bytes()) for name, text in there.items()]
    files = [(name, what) for name, what in FILES.items() if name == PAGE or (out / name).exists()]
    write_whole(out / PAGE, page("reconstruction.html", pictures, files=files, **summary))


def write_folder_page(found: dict[str, dict[str, Any]], model: str, folder: str, out: Path) -> None:
    """Write ``report.html`` of a folder of scans: a line and a picture of each, with a link to its own page."""
    scans = {name: summary for name, summary in found.items() if "slices" in summary}
    pictures = [(name, _thumbnail(out / name / "images.png")) for name in scans]
    failed = [(summary["scan"], summary["failed"]) for summary in found.values() if "failed" in summary]
    left_out = [summary["left_out"] for summary in found.values() if "left_out" in summary]
    means = {name: (_mean(s["rows"]), _mean([r["cg_sense"] for r in s["rows"]])) for name, s in scans.items()}
    told = {"failed": failed, "left_out": left_out, "model": model, "folder": folder}
    html = page("folder.html", pictures, scans=scans, means=means, page=PAGE, **told)
    write_whole(out / PAGE, html)


def _mean(rows: Sequence[dict[str, Any]]) -> float | None:
    return float(np.mean([row[LEAD] for row in rows])) if rows else None


def _thumbnail(path: Path) -> bytes:
    """The beginning of a picture, of at most `THUMBNAIL` pixels a side: a page of a hundred scans stays small."""
    held = io.BytesIO()
    with Pictures.open(path) as picture:
        picture.thumbnail((THUMBNAIL, picture.height))
        picture.crop((0, 0, picture.width, min(picture.height, THUMBNAIL))).save(held, format="png")
    return held.getvalue()


def _write_array(array: np.ndarray, path: Path) -> None:
    data = io.BytesIO()
    np.save(data, array, allow_pickle=False)
    write_whole(path, data.getvalue())
