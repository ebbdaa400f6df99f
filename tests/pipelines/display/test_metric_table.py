import math

from pipelines.display.metric_table import DARK, LIGHT, metric_table
from recon.evaluation.intervals import Interval

PSNR, ERROR, GAIN = "psnr_magnitude_slice_max", "lesion_error", "noise_gain"


def of(mean, half=0.5):
    return Interval(mean, mean - half, mean + half, "9 sources")


def test_one_table_has_every_model_and_metric_and_the_best_is_bold():
    values = {
        "easy": {
            "net": {PSNR: of(30), ERROR: of(0.1), GAIN: of(2)},
            "sense": {PSNR: of(20), ERROR: of(0.3), GAIN: of(1)},
            "other": {PSNR: of(25), ERROR: None, GAIN: None},
        },
        "hard": {"net": {PSNR: of(10)}, "sense": {}, "other": {PSNR: of(12)}},
        "empty": {"net": {}},
    }
    table = metric_table(values, [ERROR, PSNR, "false_dark", GAIN])
    assert table.metrics == [ERROR, PSNR, GAIN]  # no model has the third
    assert [column.title for column in table.columns] == ["Lesion error", "PSNR, dB", "Noise gain"]
    assert [(group.corpus, [model for model, _ in group.rows]) for group in table.groups] == [
        ("easy", ["net", "sense", "other"]),
        ("hard", ["net", "other"]),
    ]
    (_, net), (_, sense), (_, other) = table.groups[0].rows
    assert [(cell.text, cell.half, cell.best) for cell in net] == [
        ("0.100", "±0.500", True),
        ("30.00", "±0.50", True),
        ("2.000", "±0.500", False),
    ]
    assert net[1].ends == "29.50 … 30.50"
    assert [cell.best for cell in sense] == [False] * 3
    assert [float(row[1].shade) for row in (net, sense, other)] == [DARK, LIGHT, round((DARK + LIGHT) / 2 + 1e-9, 2)]
    assert [float(row[0].shade) for row in (net, sense)] == [DARK, LIGHT]  # less is better
    assert {cell.shade for cell in (net[2], sense[2])} == {f"{LIGHT:.2f}"}  # neither is
    assert other[0] is None


def test_exact_images_and_single_pairs_have_no_number_that_is_not_known():
    values = {"c": {"truth": {PSNR: of(math.inf, math.nan)}, "net": {PSNR: Interval(30, math.nan, math.nan)}}}
    ((_, (exact,)), (_, (single,))) = metric_table(values, [PSNR]).groups[0].rows
    assert (exact.text, exact.half, exact.best) == ("exact", "no interval", True)
    assert (single.text, single.half, single.best) == ("30.00", "no interval", False)
