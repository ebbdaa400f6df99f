"""The version of Fathom, and of the packages that a result depends on."""

from __future__ import annotations

import platform
from functools import lru_cache
from importlib.metadata import version

__version__ = "0.1.0"


@lru_cache
def versions(*packages: str) -> dict[str, str]:
    """Versions of Python, Fathom and `packages`; Fathom's is its own, so that a checkout need not be installed."""
    found = {name: version(name) for name in packages}
    return {"python": platform.python_version(), "fathom-mri": __version__, **found}
