"""Facts that help when something does not work: versions, clashes of packages, cores, disk, GPU."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from synth.version import __version__

from ..cluster import cores

ROOMS = ("synth", "recon", "pipelines")
HOME = Path(__file__).resolve().parents[2]
PACKAGES = ("numpy", "scipy", "torch", "h5py", "pillow", "sigpy", "dask", "distributed", "zarr", "pydantic", "typer")


def doctor(folder: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """Facts as (name, value), and problems, each with its remedy."""
    facts = [("fathom", __version__), ("python", f"{platform.python_version()} ({sys.executable})")]
    problems = [*shadowed_rooms(), *other_rooms()]
    for name in PACKAGES:
        try:
            facts.append((name, version(name)))
        except PackageNotFoundError:
            problems.append(f"{name} is not installed; pip install {name}")
    free = shutil.disk_usage(folder).free
    facts += [("cores", str(cores())), ("disk", f"{free / 2**30:.1f} GB free at {folder}"), ("gpu", _gpu())]
    if free < 2**30:
        problems.append(f"{folder} has {free / 2**20:.0f} MB free; a corpus of 200 pairs at 320x368 takes about 1.5 GB")
    return facts, problems


def shadowed_rooms() -> list[str]:
    """Problems with packages of Fathom's (its "rooms") that Python would import from somewhere else."""
    problems = []
    for room in ROOMS:
        spec = importlib.util.find_spec(room)
        found = Path(spec.origin).resolve().parent if spec and spec.origin else None
        if found != HOME / room:
            remedy = "remove or rename the other package"
            problems.append(f"'{room}' is imported from {found}, but Fathom's is {HOME / room}; {remedy}")
    return problems


def other_rooms() -> list[str]:
    """Problems with packages further down Python's path that have the name of one of Fathom's rooms."""
    problems = []
    for room in ROOMS:
        for entry in dict.fromkeys(map(Path, sys.path)):
            other = (entry / room).resolve()
            if other != HOME / room and ((other / "__init__.py").exists() or other.with_suffix(".py").exists()):
                problems.append(
                    f"another '{room}' is on the path at {other}; remove it, or give Fathom an environment of its own"
                )
    return problems


def _gpu() -> str:
    try:
        import torch
    except ImportError:
        return "torch is not installed"
    if not torch.cuda.is_available():
        return "torch finds no GPU that it can use"
    return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
