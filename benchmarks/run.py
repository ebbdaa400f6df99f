"""All benchmarks in one run: `make bench`. Ratios, not absolute times; the numbers as JSON go to benchmarks/results."""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import building
import loading
import synthesis

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("fathom-mri", "numpy", "scipy", "torch", "zarr", "mrpro", "fastmri", "monai", "sigpy", "deepinv")


def versions():
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def on_one_core(function, *arguments):
    """Run with this process held to one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        return function(*arguments)
    finally:
        os.sched_setaffinity(0, cores)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / "bench.json")
    arguments = parser.parse_args()
    found = {"versions": versions(), "synthesis, pairs/s of one core": on_one_core(synthesis.measure)}
    with tempfile.TemporaryDirectory(prefix="fathom-bench-") as name:
        folder = Path(name)
        found["build, pairs/s"] = building.measure(folder)
        found["loader, pairs/s"] = loading.measure(folder, folder / "photos")
    found["ratios"] = ratios(found)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


def ratios(found):
    made, built = found["synthesis, pairs/s of one core"], found["build, pairs/s"]
    result = {}
    for reference in ("clean", "noisy"):
        rates = dict(made[reference])
        ours, floor = rates.pop("fathom"), rates.pop("floor")
        result[f"synthesis over the floor, {reference} reference"] = ours / floor
        if rates:
            fastest = max(rates, key=rates.get)
            result[f"synthesis over the fastest peer ({fastest}), {reference} reference"] = ours / rates[fastest]
    result["whole build over synthesis, noisy reference"] = built["one worker"] / made["noisy"]["fathom"]
    result["two workers over one"] = built["two over one"]
    return {name: round(value, 3) for name, value in result.items()}


if __name__ == "__main__":
    main()
