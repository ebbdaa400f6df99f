"""The three public doors: short lists, loaded when they are asked for, each name with its arguments described."""

import dataclasses
import importlib
import inspect
import re
import subprocess
import sys

import pytest
from pydantic import BaseModel

import pipelines
import recon
import synth

DOORS = (synth, recon, pipelines)
NAMES = [(door, name) for door in DOORS for name in door.__all__ if name != "__version__"]
OLD = {  # as the README of before showed them
    "recon.adapters": ("as_deepinv", "as_fastmri", "as_direct"),
    "recon.baselines": ("CgSense", "RegularisedSense", "ZeroFilled"),
    "recon.batches": ("make_loader",),
    "recon.loader": ("PairDataset", "VirtualPairs"),
    "recon.metrics": ("slice_metrics",),
    "recon.models": ("make_model",),
    "recon.trained": ("load_model",),
    "recon.unrolled_sense": ("UnrolledSense",),
    "synth.calibration": ("calibrate",),
    "synth.espirit": ("espirit",),
    "synth.noise_profile": ("snr_of", "whiten"),
    "synth.scans": ("open_scan",),
}


def sections(text):
    """Names listed in each section of a numpy docstring."""
    parts = re.split(r"^(\w+)\n-+\n", inspect.cleandoc(text), flags=re.MULTILINE)
    return {
        title: {name for line in re.findall(r"^(\S.*)$", body, re.MULTILINE) for name in line.split(", ")}
        for title, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def arguments(thing):
    """What a caller can give, or read: parameters of a function, fields of a frozen class.

    A key of settings says itself what it is: `test_settings_keys`.
    """
    if inspect.isclass(thing) and issubclass(thing, BaseModel):
        return {key for key, field in thing.model_fields.items() if not field.description}
    if dataclasses.is_dataclass(thing):
        return {field.name for field in dataclasses.fields(thing)}
    return set(inspect.signature(thing).parameters)


@pytest.mark.parametrize(("door", "name"), NAMES, ids=lambda v: getattr(v, "__name__", v))
def test_every_public_name_says_what_it_takes(door, name):
    thing = getattr(door, name)
    if inspect.isclass(thing) and issubclass(thing, BaseException):
        assert issubclass(thing, synth.FathomError)
        return
    said = sections(thing.__doc__)
    told = said.get("Parameters", set()) | said.get("Attributes", set())
    assert told == arguments(thing), name
    if inspect.isfunction(thing) and "raise " in inspect.getsource(thing):
        assert said.get("Raises"), name


def test_all_errors_are_one_tree():
    from synth import errors as first

    modules = [first, *(importlib.import_module(f"{room}.errors") for room in ("recon", "pipelines"))]
    found = [e for m in modules for e in vars(m).values() if inspect.isclass(e) and e.__module__ == m.__name__]
    found = [e for e in found if not issubclass(e, Warning)]
    assert len(found) >= 18
    assert all(issubclass(error, synth.FathomError) for error in found)
    drawn = first.__doc__
    assert all(error.__name__ in drawn for error in found), [e.__name__ for e in found if e.__name__ not in drawn]


@pytest.mark.parametrize(
    ("code", "without"),
    [
        ("import synth", {"numpy", "torch", "dask"}),
        ("import recon", {"torch", "dask"}),
        ("import pipelines", {"torch", "dask"}),
        ("from synth import load_recipe, open_corpus, open_scan, Plan", {"torch", "dask", "matplotlib"}),
        ("from recon import PairDataset, train, evaluate", {"dask", "matplotlib", "typer"}),
        ("from pipelines import build", {"torch", "matplotlib", "distributed"}),
    ],
)
def test_what_an_import_does_not_load(code, without):
    shown = f"{code}; import sys; print(sorted(sys.modules.keys() & {without!r}))"
    assert subprocess.check_output([sys.executable, "-c", shown], text=True, timeout=60).strip() == "[]"


def test_a_public_function_is_never_hidden_by_a_module():
    code = "import synth.calibration.espirit, synth.espirit, recon.training.loop, synth, recon\n"
    code += "assert callable(synth.espirit) and callable(recon.train) and callable(synth.calibrate)"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(("module", "name"), [(m, n) for m, names in OLD.items() for n in names])
def test_imports_of_the_readme_before_work_with_a_warning(module, name):
    door = importlib.import_module(module.partition(".")[0])
    with pytest.warns(DeprecationWarning, match=f"write `from {door.__name__} import {name}`"):
        found = getattr(importlib.import_module(module), name)
    assert found is getattr(door, name)
    assert not hasattr(importlib.import_module(module), "nothing")
