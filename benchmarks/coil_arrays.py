"""How well coils tell places apart: ready recipes beside real scans. `coil_arrays.py SCAN...`.

.venv/bin/python benchmarks/coil_arrays.py ../shared/data/scans/brain_8ch_bart/full.cfl

Printed as JSON, for every scan (its middle slice, whitened, with ESPIRiT maps) and for eight map sets of the recipes
`demo` and `laptop`, with their loops and with the wide ring that is the default: the mean and the 99th percentile of g
inside the object at R = 4 along x and along y (`laptop`, whose matrices are short along y: along x), and the largest
eigenvalues of sum_r s(r) s(r)^H over the object's pixels r, as shares of their sum.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from pipelines.ready.names import RECIPES
from recon.models.gfactor import block_g
from synth.calibration.espirit import espirit
from synth.calibration.map_phase import object_where_defined
from synth.calibration.noise_profile import whiten
from synth.calibration.scan_noise import calibrate
from synth.physics import ifft2c, rss
from synth.recipe import load_recipe
from synth.rng import rng
from synth.scans.open import open_scan
from synth.stages.coils import draw_coils

R, SETS = 4, 8
WIDE = ["coils.distance=[1.2, 1.5]", "coils.tilt=[-0.15, 0.15]"]


def g_inside(maps, inside):
    """G of unregularised SENSE at the object's pixels. The width is cropped to a multiple of R."""
    width = maps.shape[2] // R * R
    first = (maps.shape[2] - width) // 2
    maps, inside = ((a[..., first : first + width]) for a in (maps * inside, inside))
    return block_g(maps, (np.arange(width) - width // 2) % R == 0)[inside]


def told(cases, axes="xy"):
    """Means over cases (maps [coil y x], inside [y x])."""
    found = {}
    for name in axes:
        g = [g_inside(m, i) if name == "x" else g_inside(m.swapaxes(1, 2), i.T) for m, i in cases]
        values = np.mean([one.mean() for one in g]), np.mean([np.percentile(one, 99) for one in g])
        found[f"g at R = {R} along {name}: mean, 99th percentile"] = [round(float(v), 2) for v in values]
    shares = []
    for maps, inside in cases:
        powers = np.linalg.eigvalsh(maps[:, inside] @ maps[:, inside].conj().T)[::-1]
        shares.append(powers[:4] / powers.sum())
    return found | {"shares of eigenvalues": [round(float(s), 2) for s in np.mean(shares, 0)]}


def scan(path):
    opened = open_scan(path)
    number = len(opened) // 2
    kspace = whiten(opened[number], calibrate(opened, number, checked=False))
    found = espirit(kspace, reference=tuple(min(24, n) for n in kspace.shape[1:]))
    return [(found.maps[0], object_where_defined(rss(ifft2c(kspace)), found.eigenvalues[0]))]


def recipe(name, matrix, changes=()):
    made = load_recipe(RECIPES / f"{name}.toml", changes)
    photo, cases = np.ones(matrix, np.float32), []
    for k in range(SETS):
        inside = made.target.apply(photo, matrix, rng(0, "benchmark", k))[0] > 0.5
        cases.append((draw_coils(made.coils, made.seed, k).maps(matrix), inside))
    return cases


def main(paths):
    found = {path: told(scan(path)) for path in map(Path, paths)}
    for name, matrix, axes in (("demo", (256, 256), "xy"), ("laptop", (64, 256), "x"), ("laptop", (96, 160), "x")):
        for changes in (WIDE, []):
            key = f"{name}, {matrix[0]}x{matrix[1]}, {'wide ring' if changes else 'as in the recipe'}"
            found[key] = told(recipe(name, matrix, changes), axes)
    print(json.dumps({str(key): value for key, value in found.items()}, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
