"""An empty stand-in for torchvision, disclosed: for benchmarks and the peers' tests alone.

deepinv and mrpro import torchvision, which has no build for every torch. Nothing that is measured or tested here uses
it: names can be imported, and whoever calls one gets an error. Where the real torchvision is installed, that is used.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types


class _Absent:
    def __init__(self, *_, **__):
        raise RuntimeError("torchvision is not installed; benchmarks/torchvision_standin.py stands in its place")

    def __class_getitem__(cls, _):
        return cls


class _Module(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (_Absent,), {})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return _Module(spec.name)

    def exec_module(self, module):
        pass


def install():
    """Stand in for torchvision where it is not installed; return whether that was needed."""
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return True
    if importlib.util.find_spec("torchvision") is not None:
        return False
    sys.meta_path.append(_Finder())
    return True
