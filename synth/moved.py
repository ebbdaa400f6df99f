"""Forwarding addresses: imports that an earlier README showed work for one more release, with a DeprecationWarning."""

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
    """Leave a forwarding address in place of a module that is gone."""
    module = types.ModuleType(old, "A forwarding address.")
    module.__getattr__ = forwarding(old, homes)  # type: ignore[method-assign]
    sys.modules[old] = module
