from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import recipe_data, write_photos
from matplotlib.figure import Figure

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.display.image_panels import plain, plain_numbers
from pipelines.study.answers import Results, answers
from pipelines.study.findings import judge, matrix
from pipelines.study.folder import StudyFolder
from pipelines.study.report import SHOWN
from pipelines.study.settings import ExpectedSpec
from pipelines.study.stages import Stage
from pipelines.study.sweeps import optima, sweeps
from recon.data.datasets import PairDataset
from recon.evaluation.conditioning import by_conditioning
from recon.evaluation.optimum import peak, predicted_lam
from recon.evaluation.rows import METRICS
from recon.models.baselines import CgSense, ZeroFilled
from recon.training.checkpoint import save_tensors
from recon.training.model_files import change_of_parameters
from synth.recipe import parse_recipe


def test_what_fine_tuning_moved(tmp_path):
    before = {
        "stages.0.kernels": torch.tensor([3.0, 4.0]),
        "stages.1.kernels": torch.zeros(2),
        "stages.0.lam": torch.ones(()),
    }
    after = {
        "stages.0.kernels": torch.tensor([3.0, 4.0]),
        "stages.1.kernels": torch.ones(2),
        "stages.0.lam": torch.ones(()),
    }
    for name, tensors in (("before", before), ("after", after)):
        save_tensors(tmp_path / f"{name}.safetensors", tensors, {})
    found = change_of_parameters(tmp_path / "before.safetensors", tmp_path / "after.safetensors")
    assert found == {"kernels": pytest.approx(2**0.5 / 5), "lam": 0.0}


def test_what_is_shown_are_metrics():
    assert set(SHOWN) <= set(METRICS)


def test_sweeps_are_found():
    rows = [{"model": f"regularised-sense:{n}"} for n in (4, 0.5, 16)] + [{"model": "cg-sense:8"}, {"model": "vn"}]
    assert sweeps(rows) == {
        "regularised-sense": ["regularised-sense:0.5", "regularised-sense:4", "regularised-sense:16"]
    }


def test_a_peak_is_that_of_the_parabola():
    numbers = [1.0, 2.0, 4.0, 16.0]
    curve = -((np.log(numbers) - np.log(3.0)) ** 2)
    assert peak(numbers, curve) == pytest.approx(3.0)
    assert peak(numbers, np.array([4.0, 3.0, 2.0, 1.0])) == 1.0


@pytest.fixture
def regular(tmp_path):
    """Six pairs at R = 2x2 without reference lines, SNR 10, and a clean reference."""
    data = recipe_data(tmp_path / "photos", pairs=6, noise={"snr": 10, "definition": "image"})
    data["target"] |= {"matrix": [48, 48], "reference": "clean"}
    data["sampling"] = {"kind": "regular-2d", "acceleration": [2, 2], "reference_lines": 0}
    write_photos(tmp_path / "photos", size=(60, 60))
    build(parse_recipe(data, "t"), tmp_path / "c.zarr", ClusterSpec("sync"))
    return tmp_path / "c.zarr"


def test_the_lam_that_is_predicted(regular):
    assert predicted_lam(regular) == pytest.approx(10 / (2 * 2), rel=1e-4)


def test_the_predicted_lam_counts_frequencies_outside_of_the_reference_lines(tmp_path):
    """By numpy's transform along the phase encoding; a smooth picture has little energy there."""
    data = recipe_data(tmp_path / "photos", pairs=1, noise={"snr": 10, "definition": "image"})
    data["target"] |= {"matrix": [48, 48], "reference": "clean"}
    data["sampling"] = {"kind": "regular", "acceleration": 4, "reference_lines": 8}
    write_photos(tmp_path / "photos", count=1, size=(60, 60))
    build(parse_recipe(data, "t"), tmp_path / "c.zarr", ClusterSpec("sync"))
    item = PairDataset(tmp_path / "c.zarr")[0]
    power = np.abs(np.fft.fftshift(np.fft.fft(np.fft.ifftshift(item["target"].numpy(), axes=1), axis=1))) ** 2 / 48
    outside = np.r_[0:20, 28:48]  # of 48 lines, the 8 around the centre, line 24, are reference lines
    noise = 2 * float(item["sigma"]) ** 2 * 48 / int(item["mask"].sum())
    expected = np.sqrt(power[:, outside].mean() / noise) / 2
    assert predicted_lam(tmp_path / "c.zarr") == pytest.approx(expected, rel=1e-4)
    assert expected < 0.7 * np.sqrt(power.mean() / noise) / 2


def test_errors_of_sense_are_sqrt_r_g(regular):
    found = by_conditioning({"sense": CgSense(200), "zero": ZeroFilled()}, PairDataset(regular), torch.device("cpu"))
    assert found.g == sorted(found.g)
    assert found.g[0] >= 1
    np.testing.assert_allclose(found.errors["sense"], found.noise, rtol=0.1)  # 1,700 voxels in each eighth
    assert found.noise[0] >= 2 * found.g[0] * 0.9
    assert min(found.errors["zero"]) > found.errors["sense"][0]


def test_the_best_number_of_a_sweep_with_its_interval(tmp_path):
    draw = np.random.default_rng(0)
    rows = []
    for pair in range(30):
        best = np.exp(np.log(3) + 0.3 * draw.normal())
        for n in (1, 2, 4, 8):
            value = -((np.log(n) - np.log(best)) ** 2)
            scores = {"psnr_magnitude_slice_max": value, "ssim_windowed_slice_range": n}
            rows.append({"model": f"cg-sense:{n}", "seed": "", "corpus": "c", "pair": pair, **scores})
    first, second = optima(rows, StudyFolder(tmp_path, {}))
    assert first.low < first.best < first.high
    assert first.best == pytest.approx(3, rel=0.15)
    assert (first.interior, first.predicted) == (True, None)
    assert (second.best, second.interior) == (8, False)


def test_a_corpus_that_is_lost_costs_the_prediction_alone(tmp_path):
    rows = [
        {
            "model": f"regularised-sense:{n}",
            "seed": "",
            "corpus": "c",
            "pair": pair,
            "psnr_magnitude_slice_max": -abs(n - 2),
        }
        for pair in range(4)
        for n in (1, 2, 4)
    ]
    folder = StudyFolder(tmp_path, {"build/c": Stage("build", "build/c", "0" * 64, (), "")})
    (best,) = optima(rows, folder)
    assert best.predicted is None
    assert best.interior
    (alert,) = folder.alerts
    assert alert.startswith("the predicted lam for c cannot be shown")


def scored(model, values, seed="1", corpus="c", files=40):
    """Rows of a model: pair k is of file k modulo `files`."""
    return [
        {"model": model, "seed": seed, "corpus": corpus, "pair": k, "source_sha256": f"{k % files}", "nrmse_complex": v}
        for k, v in enumerate(values)
    ]


HOW = {"finding": "f", "model": "a", "other": "b", "corpus": "c", "metric": "nrmse_complex"}


def test_verdicts_by_hand():
    values = np.random.default_rng(0).normal(0, 0.001, 40)
    made = scored("a", 0.5 + values) + scored("b", 0.4 - values)
    mean = 0.1 + 2 * values.mean()
    assert judge(ExpectedSpec(**HOW, least=0.05), made).verdict == "held"
    assert judge(ExpectedSpec(**HOW, most=0.05), made).verdict == "not held"
    for bound in ({"least": mean - 1e-6}, {"least": mean + 1e-6}, {"most": mean - 1e-6}, {"least": 0, "most": mean}):
        assert judge(ExpectedSpec(**HOW, **bound), made).verdict == "undecided"  # wherever the mean lies
    assert judge(ExpectedSpec(**HOW, least=0.05), made[:40]).verdict == "missing"
    found = judge(ExpectedSpec(**HOW, least=0.05), made)
    assert found.mean == pytest.approx(mean)
    assert (found.pairs, found.over) == (40, "40 sources")
    seeds = made + scored("a", 0.7 + values, seed="2")
    ((cell,),) = matrix(seeds, ["a"], ["c"], "nrmse_complex")
    assert cell.mean == pytest.approx(0.6 + values.mean())
    assert cell.over == "40 sources and 2 seeds"
    assert cell.low == 0 < 1 < cell.high  # 0.1 sqrt(1) apart, 1 degree of freedom: 0.6 -+ 12.7 x 0.1, of which 0 up


def test_pairs_of_few_photographs_are_few(rng):
    """Sixteen pairs decide what eight photographs do not: a verdict counts photographs, and says so if they are few."""
    values = np.tile(0.02 + 0.05 * rng.normal(size=8), 8) + 0.001 * rng.normal(size=64)
    base = np.zeros(64)
    expected = ExpectedSpec(**HOW, least=0.0)
    each = judge(expected, scored("a", values, files=64) + scored("b", base, files=64))
    eight = judge(expected, scored("a", values, files=8) + scored("b", base, files=8))
    assert (each.verdict, eight.verdict) == ("held", "undecided")
    assert each.mean == eight.mean
    few = judge(expected, scored("a", values, files=4) + scored("b", base, files=4))
    assert (few.verdict, few.over) == ("held (within 4 sources)", "64 pairs within 4 sources")
    one = judge(expected, scored("a", values[:1]) + scored("b", base[:1]))
    assert (one.verdict, one.low) == ("undecided (within 1 source)", None)


def test_one_network_on_two_corpora_is_compared_within_each_seed():
    shifts = {"1": 0.0, "2": 1.0, "3": -1.0}
    made = [
        row
        for seed, shift in shifts.items()
        for corpus, extra in (("c", 0.1), ("d", 0.0))
        for row in scored("a", np.full(10, shift + extra), seed, corpus)
    ]
    found = judge(ExpectedSpec(**HOW | {"other": "a"}, other_corpus="d", least=0.09), made)
    assert found.verdict == "held"
    assert found.low == pytest.approx(0.1)


def test_the_first_sentences_are_about_lesions_where_a_study_tests_them():
    rows = [
        {"model": model, "seed": "", "corpus": corpus, "pair": pair, "source_sha256": f"{pair}", **scores}
        for corpus, factor in (("small", 2.0), ("large", 1.0))
        for model, base in (("net", 0.2), ("sense", 0.3), ("zero-filled", 0.4))
        for pair in range(6)
        for scores in [{"lesion_error": base * factor, "false_lesions": 0.1 / factor, "noise_gain": base + 1}]
    ]
    study = SimpleNamespace(tests=SimpleNamespace(models=["net", "sense", "zero-filled"], corpora=["small", "large"]))
    for row in rows:
        row["false_lesions"] *= {"net": 2, "sense": 1.5, "zero-filled": 1}[row["model"]]
        if row["model"] == "zero-filled":
            row["noise_gain"] = 0.5  # it keeps its aliases: its noise is no merit
        row["ssim_windowed_slice_range"] = 0.9
    error, false, noise, left_out, *others = answers(Results(study, rows, [], []))
    assert error == (
        "Lesions are shown with the least error (0: right, 1: lost, inverted or doubled) by net (0.4 on small, 0.2 on "
        "large), and with the most by zero-filled (0.8 on small, 0.4 on large)."
    )
    assert "fewest with zero-filled (0.05 on small, 0.1 on large), and most with net (0.1 on small" in false
    assert noise.startswith("Noise (1: that of a fully sampled image) is lowest with net (1.2 on small")
    assert left_out.startswith("The zero-filled image is left out there")
    assert any("comes closest" in line for line in others)


@pytest.mark.parametrize(("value", "text"), [(1e-5, "0.00001"), (0.1 + 0.2, "0.3"), (2e6, "2000000"), (0, "0")])
def test_numbers_on_axes_are_plain(value, text):
    assert plain(value) == text
    figure = Figure()
    axes = figure.subplots()
    axes.loglog([1e-4, 1e3], [1e-5, 1e-1])
    plain_numbers(axes)
    figure.canvas.draw()
    told = [label.get_text() for axis in (axes.xaxis, axes.yaxis) for label in axis.get_ticklabels(which="both")]
    assert "0.001" in told
    assert not any("10^" in one or "e-" in one or "$" in one for one in told)
