"""Intervals over sources and seeds: by hand, against scipy, and how often they cover the true mean."""

import math

import numpy as np
import pytest
from scipy import stats

from recon.evaluation.definitions import BOUNDS, DEFINITIONS
from recon.evaluation.intervals import differences, draws_of, interval, summary_of
from recon.evaluation.optimum import optimum_of
from recon.evaluation.units import Units, units_of


def units(*sizes):
    return Units(np.repeat(np.arange(len(sizes)), sizes), "sources")


def test_by_hand():
    """Two pairs of each of two sources: V is the variance of the sources' means over 2, with 1 degree of freedom."""
    found = interval([1.0, 3.0, 4.0, 8.0], units(2, 2))
    half = 12.7062 * math.sqrt((2.0 - 6.0) ** 2 / 2 / 2)
    assert (found.mean, found.low, found.high) == pytest.approx((4, 4 - half, 4 + half), rel=1e-5)
    # Sources of 1 and of 3 pairs: V = 3^2 / (1 - 1/4) / 16 + 3^2 / (1 - 3/4) / 16 = 3. The terms of V have the
    # covariances 1, 3, and -3 / 4 / sqrt(3/16) = -sqrt(3): 4^2 / (1 + 9 + 2 * 3) = 1 degree of freedom.
    found = interval([1.0, 4.0, 5.0, 6.0], units(1, 3))
    assert found.high - 4 == pytest.approx(12.7062 * math.sqrt(3), rel=1e-5)


def test_scipy_agrees(rng):
    values = rng.normal(3, 2, (8, 5))
    found = interval(values.ravel(), units(*[5] * 8))
    assert (found.low, found.high) == pytest.approx(
        stats.t.interval(0.95, 7, values.mean(), stats.sem(values.mean(axis=1)))
    )
    alone = interval(values[0], units(*[1] * 5), values[1])
    expected = stats.ttest_rel(values[0], values[1]).confidence_interval(0.95)
    assert (alone.low, alone.high) == pytest.approx((expected.low, expected.high))


def test_seeds_are_a_level_of_their_own(rng):
    """Two models without differences between pairs and sources: their seeds alone count, as in Welch's test."""
    mine, theirs = rng.normal(5, 1, 4), rng.normal(4, 2, 3)
    both = [np.repeat(part[:, None], 12, axis=1) for part in (mine, theirs)]
    found = interval(both[0], units(*[2] * 6), both[1])
    expected = stats.ttest_ind(mine, theirs, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.over == "sources and 4 seeds"
    one_seed = interval(both[0][:1], units(*[2] * 6))
    assert one_seed.low == pytest.approx(one_seed.high) == pytest.approx(mine[0])


COVERED = {"5 sources": (1, [4] * 5), "10": (1, [4] * 10), "20": (1, [4] * 20), "unequal": (1, [1, 2, 3, 4, 6, 8])}
COVERED |= {"2 seeds": (2, [2] * 8), "3 seeds": (3, [2] * 5)}


@pytest.mark.parametrize(("seeds", "sizes"), COVERED.values(), ids=COVERED)
def test_intervals_cover_the_true_mean(seeds, sizes, rng):
    """Random effects of seeds, sources, both together, and pairs; of 1000 intervals at least 90 % hold the mean.

    Intervals over pairs, as if those of one source were independent, hold it far less often.
    """
    of, covered, by_pairs = units(*sizes), 0, 0
    pairs = Units(np.arange(len(of.of)), "pairs")
    for _ in range(1000):
        values = 0.7 * rng.normal(size=(seeds, 1)) * (seeds > 1) + rng.normal(size=len(sizes))[of.of]
        values = values + 0.5 * rng.normal(size=(seeds, len(sizes)))[:, of.of] + rng.normal(size=(seeds, len(of.of)))
        found, naive = interval(values, of), interval(values.mean(axis=0), pairs)
        covered += found.low <= 0 <= found.high
        by_pairs += naive.low <= 0 <= naive.high
    assert 900 <= covered <= 990
    assert by_pairs < 850


def rows(names):
    return [{"pair": k, "source": name, "source_sha256": name.partition("#")[0]} for k, name in enumerate(names)]


def test_units_are_sources_files_or_subjects():
    photos = [f"p{k % 6}.png" for k in range(18)]
    assert units_of(rows(photos)).over == "6 sources"
    np.testing.assert_array_equal(units_of(rows(photos)).of, np.arange(18) % 6)
    few = units_of(rows([f"p{k % 4}.png" for k in range(16)]))
    assert (few.over, few.within, few.count) == ("16 pairs within 4 sources", "within 4 sources", 16)
    subjects = [row | {"subject": f"sub-{row['pair'] % 5}"} for row in rows([f"p{k}.png" for k in range(20)])]
    assert units_of(subjects).over == "5 subjects"
    old = units_of([{"pair": k} for k in range(7)])
    assert (old.over, old.count) == ("7 pairs of unknown sources", 7)


def test_units_of_one_head_are_runs_of_slices():
    names = [f"head.nii#{k}" for k in (9, 3, 3, 4, 5, 6, 7, 8, 10, 11)]
    found = units_of(rows(names))
    assert found.over == "8 runs of slices within 1 source"
    by_slice = dict(zip(names, found.of, strict=True))
    order = [by_slice[f"head.nii#{k}"] for k in range(3, 12)]
    assert len(set(order)) == 8
    assert order[0] == order[1]  # nine slices: the first two are one run
    mixed = units_of(rows([*names, "photo.png", "photo.png"]))
    assert mixed.over == "8 runs of slices and 2 pairs within 2 sources"


def test_a_single_unit_has_no_interval():
    found = summary_of([{**rows(["p.png"])[0], "nrmse_complex": 0.5}])["nrmse_complex"]
    assert found == {"mean": 0.5, "low": None, "high": None, "over": "1 pair within 1 source"}


def test_no_interval_crosses_what_a_metric_can_be():
    """SSIM of .9 and 1 in two sources: .95 +- 12.7 * .05 = .31 ... 1.59, of which 1 is the most."""
    rows = [
        {"pair": k, "source": str(k), "ssim_windowed_slice_range": x, "psnr_magnitude_slice_max": x}
        for k, x in enumerate((0.9, 1.0))
    ]
    found = summary_of(rows)
    assert found["ssim_windowed_slice_range"]["low"] == pytest.approx(0.95 - 12.7062 * 0.05, rel=1e-4)
    assert found["ssim_windowed_slice_range"]["high"] == 1
    assert found["psnr_magnitude_slice_max"]["high"] == pytest.approx(0.95 + 12.7062 * 0.05, rel=1e-4)


def test_every_bound_is_of_a_metric():
    assert set(BOUNDS) <= set(DEFINITIONS)


def test_equal_models_differ_by_nothing():
    made = [{**row, "nrmse_complex": 0.1 * row["pair"]} for row in rows([f"p{k}.png" for k in range(8)])]
    found = differences(made, made)["nrmse_complex"]
    assert (found["mean"], found["low"], found["high"]) == (0, 0, 0)


def test_an_optimum_has_an_interval_over_sources(rng):
    """Six pairs of each photograph are as good as one: the interval of a best number does not shrink by copies."""
    numbers = [1.0, 2.0, 4.0, 8.0]
    best = np.log(3) + 0.3 * rng.normal(size=8)
    values = -((np.log(numbers) - best[:, None]) ** 2)
    once, often = (
        optimum_of(("cg-sense", "c", "m"), numbers, np.repeat(values, n, axis=0), units(*[n] * 8), None) for n in (1, 6)
    )
    assert (once.low, once.high) == pytest.approx((often.low, often.high))
    assert once.low < 3 < once.high
    # for a mean, an expanded percentile interval is about as wide as that of Student's t
    weights, levels = draws_of(units(*[1] * 8), 4000)
    low, high = np.quantile(weights @ best, levels)
    half = stats.t.interval(0.95, 7, best.mean(), stats.sem(best))[1] - best.mean()
    assert high - low == pytest.approx(2 * half, rel=0.05)
