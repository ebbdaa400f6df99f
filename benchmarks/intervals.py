"""How often intervals of 95 % cover the true mean: percentile bootstraps, and the t-intervals that Fathom gives.

.venv/bin/python benchmarks/intervals.py [REPETITIONS]

Random effects: a value is b (of its source) + c (of source and seed) + e (of the pair) + a (of the seed), with standard
deviations 1, 0.5, 1 and 0.7; there is no a where there is one seed. "skewed": b is lognormal (of 0.75), less its mean,
so that few sources are far above the others. Takes about two minutes.
"""

from __future__ import annotations

import sys

import numpy as np

from recon.evaluation.intervals import interval
from recon.evaluation.units import Units

DRAWS = 1000
PAIRS = 4  # of each source
DESIGNS = [(1, sources, law) for law in ("normal", "skewed") for sources in (5, 10, 20)]
DESIGNS += [(seeds, sources, "normal") for seeds in (2, 3, 5) for sources in (5, 20)]


def drawn(seeds, sources, law, draw):
    """Values [seed source pair] whose true mean is 0."""
    b = draw.normal(size=sources) if law == "normal" else draw.lognormal(0, 0.75, sources) - np.exp(0.75**2 / 2)
    a = 0.7 * draw.normal(size=(seeds, 1, 1)) * (seeds > 1)
    return a + b[:, None] + 0.5 * draw.normal(size=(seeds, sources, 1)) + draw.normal(size=(seeds, sources, PAIRS))


def percentiles(means):
    return np.quantile(means, [0.025, 0.975])


def over_pairs(values, draw):
    """The seeds' mean of every pair, drawn as if pairs were independent."""
    flat = values.mean(axis=0).ravel()
    return percentiles(flat[draw.integers(flat.size, size=(DRAWS, flat.size))].mean(axis=1))


def over_sources(values, draw):
    flat = values.mean(axis=(0, 2))
    return percentiles(flat[draw.integers(flat.size, size=(DRAWS, flat.size))].mean(axis=1))


def hierarchical(values, draw):
    """Seeds are drawn, then sources (the same for all seeds), then pairs of each source."""
    seeds, sources, pairs = values.shape
    s = draw.integers(seeds, size=(DRAWS, seeds, 1, 1))
    g = draw.integers(sources, size=(DRAWS, 1, sources, 1))
    k = draw.integers(pairs, size=(DRAWS, 1, sources, pairs))
    return percentiles(values[s, g, k].mean(axis=(1, 2, 3)))


def fathoms(values, draw):
    seeds, sources, pairs = values.shape
    found = interval(values.reshape(seeds, -1), Units(np.repeat(np.arange(sources), pairs), ""))
    return found.low, found.high


KINDS = {"bootstrap of pairs": over_pairs, "of sources": over_sources, "hierarchical": hierarchical, "Fathom": fathoms}


def main():
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print("| seeds | sources | law | " + " | ".join(KINDS) + " |")
    print("|---" * (3 + len(KINDS)) + "|")
    for seeds, sources, law in DESIGNS:
        draw, held = np.random.default_rng(1), dict.fromkeys(KINDS, 0)
        for _ in range(repetitions):
            values = drawn(seeds, sources, law, draw)
            for name, kind in KINDS.items():
                low, high = kind(values, draw)
                held[name] += low <= 0 <= high
        told = " | ".join(f"{100 * count / repetitions:.1f} %" for count in held.values())
        print(f"| {seeds} | {sources} | {law} | {told} |", flush=True)


if __name__ == "__main__":
    main()
