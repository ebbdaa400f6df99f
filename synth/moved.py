"""Old import paths: those in an earlier README still work for one more release, with a DeprecationWarning."""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def forwarding(old: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's ``__getattr__`` for names that have moved; `homes` says in which module each is now."""

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        room = homes[name].partition(".")[0]
        warnings.warn(f"{old}.{name} has moved: write `from {room} import {name}`", DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(homes[name]), name)

    return find


def forward(old: str, homes: Mapping[str, str]) -> None:
    """Register a module under an old name that no longer exists; it forwards each name to its new module."""
    module = types.ModuleType(old, "Forwards names to their new modules.")
    module.__getattr__ = forwarding(old, homes)  # type: ignore[method-assign]
    sys.modules[old] = module
