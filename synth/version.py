"""The version of Fathom, and of the packages that a result depends on."""

from __future__ import annotations

import hashlib
import platform
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def _installed() -> str:
    """The version that the installation took from git's tag; a checkout that was never installed has none."""
    try:
        return version("fathom-mri")
    except PackageNotFoundError:
        return "0+unknown"


__version__ = _installed()

SCAN_STAGES = {"maps": 4, "noise": 2, "sources": 2}
"""Versions of the stages of pairs from scans; a stage that is not listed has version 1.

A corpus stores them, and one that stores none has version 1 of all. A version is raised where the bytes of pairs
change. "maps": 2 has no vortices of the phase in the object; 3 leaves out what noise alone explains; 4 has no
vortices where maps change so much that no virtual coil avoids them, either. "sources": 2 refuses slices with missing
samples unless the recipe accepts them.
"""


@lru_cache
def versions(*packages: str) -> dict[str, str]:
    """Versions of Python, Fathom and `packages`."""
    found = {name: version(name) for name in packages}
    return {"python": platform.python_version(), "fathom-mri": __version__, **found}


@lru_cache
def code_sha256() -> str:
    """sha256 of the source files of `synth`, which make the pairs: the version of a checkout does not tell its code."""
    found, root = hashlib.sha256(), Path(__file__).parent
    for file in sorted(root.rglob("*.py")):
        data = file.read_bytes()
        found.update(f"{file.relative_to(root).as_posix()} {len(data)}\n".encode() + data)
    return found.hexdigest()
