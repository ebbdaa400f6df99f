import numpy as np
import pytest
import torch
from conftest import recipe_data, write_photos

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
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


def test_verdicts_by_hand():
    def rows(model, values):
        return [
            {"model": model, "seed": "1", "corpus": "c", "pair": k, "nrmse_complex": v} for k, v in enumerate(values)
        ]

    values = np.random.default_rng(0).normal(0, 0.001, 40)
    made = rows("a", 0.5 + values) + rows("b", 0.4 - values)
    how = {"finding": "f", "model": "a", "other": "b", "corpus": "c", "metric": "nrmse_complex"}
    assert judge(ExpectedSpec(**how, least=0.05), made).verdict == "held"
    assert judge(ExpectedSpec(**how, most=0.05), made).verdict == "not held"
    assert judge(ExpectedSpec(**how, least=0.1 + 2 * values.mean() - 1e-6), made).verdict == "held on average"
    assert judge(ExpectedSpec(**how, least=0.05), made[:40]).verdict == "missing"
    found = judge(ExpectedSpec(**how, least=0.05), made)
    assert found.mean == pytest.approx(0.1 + 2 * values.mean())
    seeds = made + [{**row, "seed": "2", "nrmse_complex": row["nrmse_complex"] + 0.2} for row in made[:40]]
    ((cell,),) = matrix(seeds, ["a"], ["c"], "nrmse_complex")
    assert cell["mean"] == pytest.approx(0.6 + values.mean())
