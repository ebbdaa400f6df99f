"""Content hashes of three corpora: of photographs, of scans and of points. `content_hashes.py SCAN...`.

A change that moves code must not change a pair. Run it before and after, on one machine: processors of different kinds
round the last digits of single precision differently. The photographs are those that scikit-image carries.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

PHOTOGRAPHS = """
name = "photographs"
seed = 11
pairs = 8
[source]
kind = "skimage"
[target]
matrix = [96, 112]
readout_oversampling = 2
outline = "rimmed"
lesions = { diameter = 3 }
[coils]
kind = "loops"
count = 6
sets = 3
[noise]
snr = [20, 80]
[sampling]
kind = "variable-density"
reference_lines = 16
"""

POINTS = """
name = "points"
seed = 12
pairs = 6
[source]
kind = "skimage"
[target]
matrix = [80, 72]
reference = "clean"
[phase]
kind = "smooth-random"
[coils]
kind = "birdcage"
count = 5
[sampling]
kind = "poisson"
acceleration = 4
"""

SCANS = """
name = "scans"
seed = 13
pairs = 6
[source]
kind = "scans"
path = "{list}"
[target]
fit = "native"
flip = true
shift = 0.05
degrees = 10
[coils]
kind = "espirit"
[noise]
kind = "none"
[sampling]
kind = "regular"
acceleration = 4
reference_lines = 24
"""


def content_hash(recipe, folder):
    """Build in a process of its own with the installed command, whatever modules that has."""
    path = folder / "recipe.toml"
    path.write_text(recipe)
    run = "import sys; from importlib.metadata import entry_points as e; sys.argv[0] = 'fathom'; "
    run += "(main,) = [p for p in e(group='console_scripts') if p.name == 'fathom']; main.load()()"
    command = [sys.executable, "-c", run, "build", str(path), "--out", str(folder / "out.zarr"), "--json"]
    done = subprocess.run([*command, "--scheduler", "sync"], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])["content_hash"]


def main(scans):
    recipes = {"photographs": PHOTOGRAPHS, "points": POINTS}
    with tempfile.TemporaryDirectory() as place:
        if scans:
            listed = Path(place) / "linked"
            listed.mkdir()
            for number, scan in enumerate(scans):
                for part in Path(scan).resolve().parent.glob(f"{Path(scan).stem}.*"):  # a .cfl has a .hdr beside it
                    (listed / f"{number}{part.suffix}").symlink_to(part)
            recipes["scans"] = SCANS.format(list=listed)
        for name, recipe in recipes.items():
            folder = Path(place) / name
            folder.mkdir(exist_ok=True)
            print(f"{name:12} {content_hash(recipe, folder)}")


if __name__ == "__main__":
    main(sys.argv[1:])
