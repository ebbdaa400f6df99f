"""Harvest coil maps from scans into a library: one set per slice, with its source; a stopped harvest can go on."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr
from zarr.storage import LocalStore

from synth.calibration.espirit import maps_of_coils
from synth.calibration.scan_noise import calibrate
from synth.errors import CalibrationError, ScanError
from synth.process import one_blas_thread
from synth.sources.scan_slices import ScanItem, ScansSpec
from synth.stages.coil_library import KEY, VERSION, attributes_of, write_set
from synth.storage.arrays import sha256_of
from synth.storage.corpus_files import unlinked_building_path
from synth.version import SCAN_STAGES

from ..cluster import ClusterSpec, open_cluster
from ..display.progress import Meter
from ..errors import CorpusExistsError
from ..running import run_tasks


@dataclass(frozen=True)
class Harvest:
    """One slice to take maps from: a task."""

    number: int
    item: str

    @property
    def array(self) -> str:
        """Name of its array in the library."""
        return f"set-{self.number:05d}"


def harvest(spec: ScansSpec, out: Path, cluster: ClusterSpec) -> dict[str, Any]:
    """Make the library `out`, or go on with it if it was stopped; another library is never overwritten.

    A slice without a usable reference is left out, with its reason in the library's attributes.
    """
    items = spec.list_files()
    digests = [spec.open(name).sha256 for name in dict.fromkeys(ScanItem.parse(item).file for item in items)]
    identity = hashlib.sha256(json.dumps([spec.variable, spec.axes, items, digests]).encode()).hexdigest()
    if out.exists():
        return _already_there(out, identity)
    root = unlinked_building_path(out)
    if root.exists() and any(root.iterdir()) and "harvest" not in attributes_of(root):
        raise CorpusExistsError(f"{root} is there already, not a library; move it away, or choose another --out")
    group = zarr.open_group(LocalStore(root), mode="a", zarr_format=3)
    if group.attrs.get("harvest", identity) != identity:
        raise CorpusExistsError(f"{root} was begun from other scans; remove it, or choose another --out")
    if "harvest" not in group.attrs:  # one that was begun goes on with the version of maps that it was begun with
        group.attrs["maps_version"] = SCAN_STAGES["maps"]
    group.attrs["harvest"] = identity
    tasks = [Harvest(k, item) for k, item in enumerate(items)]
    origins = {task.array: found for task in tasks if (found := _finished(root, task)) is not None}
    missing = [task for task in tasks if task.array not in origins]
    rejected: list[str] = list(spec.left_out())
    with Meter(f"harvest {out.name}", len(tasks), done=len(origins)) as meter, open_cluster(cluster) as opened:
        for task, origin in run_tasks(opened, harvest_one, missing, spec.model_dump(), str(root)):
            if "rejected" in origin:
                rejected.append(origin["rejected"])
            else:
                origins[task.array] = origin
            meter.advance(1)
    if not origins:
        shutil.rmtree(root)
        raise ScanError(f"{spec.path}: no slice gave coil maps:\n  " + "\n  ".join([*rejected[:5], *spec.notes()[:5]]))
    limits = [
        f"{o['file']} slice {o['slice']}: {limit}" for _, o in sorted(origins.items()) for limit in o.get("notes", ())
    ]
    return {**_finish(root, out, identity, origins, rejected), "notes": [*spec.notes(), *limits]}


def harvest_one(task: Harvest, spec: dict[str, Any], root: str) -> dict[str, Any]:
    """Write the maps of one slice, continued beyond the object, and return their origin, or why it was rejected.

    The slice is whitened if its noise can be learnt.
    """
    source, item = ScansSpec(**spec), ScanItem.parse(task.item)
    try:
        kspace, scan, number = source.read(task.item)
        try:
            profile = calibrate(scan, number, samples=False)  # maps of an older library stay the same
        except CalibrationError:
            profile = None
        with one_blas_thread():
            made, limits = maps_of_coils(kspace, profile, _maps_version(Path(root)))
    except ValueError as error:
        return {"rejected": f"{item.file} slice {item.slice}: {error}"}
    origin = {
        "file": item.file,
        "slice": item.slice,
        "file_sha256": scan.sha256,
        "whitened": profile is not None,
        "shape": list(made.shape),
        "sha256": sha256_of(made),
        **({"notes": list(limits)} if limits else {}),
    }
    write_set(Path(root), task.array, made, origin)
    return origin


def _maps_version(root: Path) -> int:
    """Version of the stage "maps" that a library was begun with."""
    return int(attributes_of(root).get("maps_version", 1))


def _finished(root: Path, task: Harvest) -> dict[str, Any] | None:
    attributes = attributes_of(root / task.array)
    return attributes if attributes.pop("complete", False) else None


def _finish(
    root: Path, out: Path, identity: str, origins: dict[str, dict[str, Any]], rejected: list[str]
) -> dict[str, Any]:
    sets = [{"array": name, **origins[name]} for name in sorted(origins)]
    content = hashlib.sha256(json.dumps([s["sha256"] for s in sets]).encode()).hexdigest()
    library = {"version": VERSION, "harvest": identity, "content_hash": content, "sets": sets, "rejected": rejected}
    library |= {"maps_version": _maps_version(root)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.open_group(LocalStore(root), mode="r+", zarr_format=3).attrs.put({KEY: library})  # type: ignore[dict-item]
    root.rename(out)
    return {"library": str(out), "status": "built", **library}


def _already_there(out: Path, identity: str) -> dict[str, Any]:
    library = attributes_of(out).get(KEY)
    if not isinstance(library, dict) or library.get("harvest") != identity:
        raise CorpusExistsError(f"{out} is not a library, or is one of other scans; choose another --out")
    return {"library": str(out), "status": "already there", "sets": [], "rejected": [], "notes": [], **library}
