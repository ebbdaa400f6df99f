import numpy as np
import pytest
import torch

from pipelines.drawings import sweeps
from pipelines.findings import judge, matrix, moved
from pipelines.report import SHOWN
from pipelines.study import ExpectedSpec
from recon.checkpoint import save_tensors
from recon.evaluate import METRICS


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
    found = moved(tmp_path / "before.safetensors", tmp_path / "after.safetensors")
    assert found == {"kernels": pytest.approx(2**0.5 / 5), "lam": 0.0}


def test_what_is_shown_are_metrics():
    assert set(SHOWN) <= set(METRICS)


def test_sweeps_are_found():
    rows = [{"model": f"regularised-sense:{n}"} for n in (4, 0.5, 16)] + [{"model": "cg-sense:8"}, {"model": "vn"}]
    assert sweeps(rows) == {
        "regularised-sense": ["regularised-sense:0.5", "regularised-sense:4", "regularised-sense:16"]
    }


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
