"""A scan of an object that is wider than the field of view, made without Fathom's own folding or whitening."""

import numpy as np

from synth.calibration.noise_profile import NoiseProfile
from synth.physics import fft2c
from synth.stages.coils import LoopsSpec, draw_coils

COILS, ROWS, FIELD, WIDTH = 6, 104, 96, 136


def wide_scan(amplitude=40.0, seed=0):
    """K-space [coil y x] with noise of sigma 1, and how many positions of the object each pixel shows [y x].

    Maps and object are on a grid of `WIDTH` columns. The scan has `FIELD`: column x shows the sum of the columns that
    are multiples of `FIELD` apart, each seen by its own maps.
    """
    maps = draw_coils(LoopsSpec(count=COILS), 1, 0).maps((ROWS, WIDTH))
    y, x = np.mgrid[:ROWS, :WIDTH] - np.array([ROWS // 2, WIDTH // 2])[:, None, None]
    inside = (y / 40) ** 2 + (x / 62) ** 2 < 1
    image = inside * amplitude * (1.5 + 0.5 * np.cos(y / 5) * np.cos(x / 7)) * np.exp(1j * x / 30)
    folded, shown = np.zeros((COILS, ROWS, FIELD), complex), np.zeros((ROWS, FIELD), int)
    for column in range(WIDTH):
        at = (column - WIDTH // 2 + FIELD // 2) % FIELD
        folded[:, :, at] += image[:, column] * maps[:, :, column]
        shown[:, at] += inside[:, column]
    noise = np.random.default_rng(seed).standard_normal((2, COILS, ROWS, FIELD))
    return (fft2c(folded) + noise[0] + 1j * noise[1]).astype(np.complex64), shown


def white_profile(coils=COILS):
    """The noise of `wide_scan`: sigma 1 in each coil."""
    return NoiseProfile(2 * np.eye(coils, dtype=complex), "noise scan", 10**6, 0.0, 0.0)


def wide_recipe(folder, slices=2, **sections):
    """A recipe as a dict, and the files that it names in `folder`: slices of wide scans and the profile."""
    np.save(folder / "wide.npy", np.stack([wide_scan(seed=seed)[0] for seed in range(slices)]))
    if not (folder / "noise.json").exists():
        white_profile().save(folder / "noise.json")
    source = {"kind": "scans", "path": str(folder / "wide.npy"), "axes": "slice coil y x"}
    found = {
        "name": "wide",
        "shard_pairs": 2,
        "source": source,
        "target": {"fit": "native"},
        "coils": {"kind": "espirit", "espirit_sets": 2},
        "noise": {"kind": "none", "covariance": str(folder / "noise.json")},
        "sampling": {"kind": "regular", "acceleration": 2, "reference_lines": 24},
    }
    return {**found, **sections}
