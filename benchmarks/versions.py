"""Wheel and sdist in clean environments without the checkout: several Pythons, lowest and newest dependencies.

    .venv/bin/python benchmarks/versions.py OUT [PYTHON ...]   (`make versions` gives the Pythons on the path)

Both are made from a clone of the last commit with a tag, whose version the command must say. Every environment builds
the demo, makes pairs of the first one's demo again, and runs the study demo at its smoke scale. The table tells the
content hash of the demo, which must be the same with the newest dependencies; other libraries round the last digits of
single precision differently. Torch is the one of constraints.txt everywhere. An environment may take 6 GB, and is
removed when its case ends.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((HERE / "pyproject.toml").read_text())
TAG = "9.8.7"
TOLD = ("numpy", "scipy", "torch", "zarr", "dask", "pydantic")


def run(*words, **options):
    return subprocess.run([str(w) for w in words], check=True, capture_output=True, text=True, **options).stdout


def distributions(out):
    """The wheel and the sdist, made by hatchling in an environment of its own; the version is that of a tag."""
    builder = environment(sys.executable, out / "builder")
    run(builder / "pip", "install", "--quiet", *PROJECT["build-system"]["requires"])
    tagged = out / "tagged"
    shutil.rmtree(tagged, ignore_errors=True)
    run("git", "clone", "--quiet", HERE, tagged)
    run("git", "-C", tagged, "tag", f"v{TAG}")
    run(builder / "python", "-m", "hatchling", "build", "-d", out / "dist", cwd=tagged)
    return next((out / "dist").glob(f"*-{TAG}-*.whl")), next((out / "dist").glob(f"*-{TAG}.tar.gz"))


def environment(python, folder):
    if not (folder / "bin" / "pip").exists():
        run(python, "-m", "venv", folder)
    return folder / "bin"


def lowest():
    """Constraints to the lowest version that pyproject.toml allows of each dependency, but torch's."""
    wanted = [re.match(r"([\w-]+)(?:\[\w+\])?>=([\w.]+)", line) for line in PROJECT["project"]["dependencies"]]
    pinned = [line.groups() for line in wanted]
    return [f"{name}=={version}" for name, version in pinned if name != "torch"]


def checked(python, distribution, extra, folder, first):
    """Install and run the demo; what came out. Pairs of the corpus `first`, of the first case, are made again, too."""
    commands = environment(python, folder)
    torch = next(line for line in (HERE / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join([torch, *extra]) + "\n")
    run(commands / "pip", "install", "--quiet", "--upgrade", "pip>=25.1")
    run(commands / "pip", "install", "--quiet", "--no-cache-dir", "--constraint", constraints, distribution)
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    alone = {"cwd": work, "env": {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}}
    made = json.loads(run(commands / "fathom", "build", "demo", "--out", "demo.zarr", "--json", **alone))
    if not first.exists():
        shutil.copytree(work / "demo.zarr", first)
    replayed = run(commands / "fathom", "verify", first, "--replay", "8", **alone).splitlines()[1]
    run(commands / "fathom", "study", "demo", "--scale", "smoke", "--device", "cpu", "--out", "study", **alone)
    told = run(commands / "fathom", "--version", **alone).strip()
    if told != f"fathom {TAG}":
        raise SystemExit(f"the tag is v{TAG}, and the command says {told}")
    there = {p["name"].lower(): p["version"] for p in json.loads(run(commands / "pip", "list", "--format", "json"))}
    return {
        "content_hash": made["content_hash"],
        "the first case's pairs": replayed,
        **{name: there[name] for name in TOLD},
    }


def main():
    out, pythons = Path(sys.argv[1]).absolute(), sys.argv[2:]
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / "first.zarr", ignore_errors=True)
    wheel, sdist = distributions(out)
    cases = [(python, wheel, [], "newest") for python in pythons]
    cases += [(pythons[0], sdist, [], "newest, sdist"), (pythons[0], wheel, lowest(), "lowest")]
    found = {}
    for python, distribution, extra, label in cases:
        name = f"{run(python, '--version').split()[1]}, {label}"
        folder = re.sub(r"[^\w.]+", "-", name)
        try:
            found[name] = checked(python, distribution, extra, out / folder, out / "first.zarr")
        except subprocess.CalledProcessError as error:
            found[name] = {"failed": " ".join(error.cmd[:4]), "why": (error.stderr or error.stdout)[-800:]}
        shutil.rmtree(out / folder)
        print(name, json.dumps(found[name]), flush=True)
    (out / "versions.json").write_text(json.dumps(found, indent=1) + "\n")
    hashes = {row.get("content_hash") for name, row in found.items() if "lowest" not in name}
    if len(hashes) > 1 or any("failed" in row for row in found.values()):
        raise SystemExit(f"content hashes differ, or a case failed: {hashes}")


if __name__ == "__main__":
    main()
