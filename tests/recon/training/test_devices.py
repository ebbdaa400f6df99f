"""Whole trainings on a pretended GPU: the CPU's numbers, nothing that a GPU refuses, and budgets of waits and kernels.

A GPU is waited for where the host needs a number. A step may need none: its loss is read a step late, by a copy that
runs beside other work, which counts as no wait.
"""

import pytest
import torch
from pretended_gpu import Gpu, pretended_gpu
from safetensors.torch import load_file
from trainings import NETWORKS, settings

from recon.data.datasets import PairDataset
from recon.data.loader import make_loader
from recon.evaluation.rows import evaluate
from recon.models.baselines import CgSense, RegularisedSense
from recon.training.loop import train
from recon.training.process_group import ProcessGroup
from recon.training.run import Run

CASES = {
    **{kind: {"kind": kind} for kind in NETWORKS},
    "ipalm": {"kind": "variational", "optimiser": {"kind": "ipalm"}, "training": {"loss": "magnitude"}},
    "iterations": {"kind": "unrolled-sense", "model": {"gradients": "iterations", "bf16": True}},
    "misfit": {"kind": "shrinking", "model": {"misfit_aware": True}},
}
KERNELS = {  # of one step, measured, with a tenth more; with torch's operations alone 337, 1775, 2821, 580, 1318, 1707
    "variational": 200,
    "unrolled-sense": 570,
    "shrinking": 1680,
    "denoiser": 250,
    "ipalm": 920,
    "iterations": 1620,
    "misfit": 1880,
}
TRIALS = 12  # iPALM looks at one number in each trial of a step size; three blocks


@pytest.mark.parametrize("case", CASES)
def test_a_training_gives_the_numbers_of_a_cpu(case, corpus, tmp_path):
    losses = {"cpu": [], "cuda": []}
    how = settings(corpus, **{**CASES[case], "training": {"steps": 3, **CASES[case].get("training", {})}})
    train(how, tmp_path / "cpu", device="cpu", tell=lambda step, steps, loss: losses["cpu"].append(loss))
    with pretended_gpu() as seen:
        train(how, tmp_path / "gpu", device="cuda", tell=lambda step, steps, loss: losses["cuda"].append(loss))
    assert not seen.refused
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-4)
    here, there = (load_file(tmp_path / name / "model.safetensors") for name in ("cpu", "gpu"))
    for name, tensor in here.items():
        torch.testing.assert_close(there[name], tensor, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_a_step_waits_for_nothing_and_keeps_its_budget_of_kernels(case, corpus, tmp_path):
    how, pairs = settings(corpus, **CASES[case]), PairDataset(corpus)
    with pretended_gpu() as seen:
        run = Run(how, [pairs], [], tmp_path, "", ProcessGroup(), torch.device("cuda", 0))
        batches, told = iter(run.loader), []
        for step in range(3):
            run.advance(next(batches))
            told += run.told(every=False)
            if step == 0:  # tables and maps are uploaded once
                seen.clear()
        assert len(told) == 2  # a step late
    assert not seen.refused
    assert sum(seen.uploads.values()) == 0, seen.uploads
    assert sum(seen.syncs.values()) <= (2 * TRIALS if case == "ipalm" else 0), seen.syncs
    assert sum(seen.kernels.values()) / 2 <= KERNELS[case]


def test_batches_come_without_waiting(corpus):
    pairs, count = PairDataset(corpus), 0
    here = [batch for batch in make_loader(pairs, 5, device="cpu", shuffle=False)]  # noqa: C416
    with pretended_gpu() as seen:
        for batch, expected in zip(make_loader(pairs, 5, device="cuda", shuffle=False), here, strict=True):
            count += 1
            for name, tensor in batch.items():
                assert isinstance(tensor, Gpu), name
                assert torch.equal(tensor._inner, expected[name]), name
        assert count > 1
        assert not seen.syncs
        assert not seen.uploads
        assert sum(seen.kernels.values()) / count <= 30


@pytest.mark.parametrize("model", [CgSense(6), RegularisedSense(4.0)], ids=["cg-sense", "regularised-sense"])
def test_baselines_give_the_images_of_a_cpu(model, corpus):
    batch = next(iter(make_loader(PairDataset(corpus), 4, device="cpu", shuffle=False)))
    expected = model(batch)
    with pretended_gpu() as seen:
        found = model({name: tensor.to("cuda") for name, tensor in batch.items()})
    assert not seen.refused
    torch.testing.assert_close(found._inner, expected, rtol=1e-4, atol=1e-5)


def test_what_a_gpu_refuses_is_refused():
    with pretended_gpu() as seen:
        there = torch.ones(3).to("cuda")
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(3)
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        assert float((there + torch.tensor(1.0)).sum()) == 6.0  # a number of the CPU's is let in
        assert seen.syncs
        assert (there * 2).device.type == "cuda"


def test_an_evaluation_copies_back_once_a_batch(corpus):
    pairs, model = PairDataset(corpus), CgSense(6)
    here = evaluate(model, pairs, 5, "cpu")
    with pretended_gpu() as seen:
        there = evaluate(model, pairs, 5, "cuda")
    assert not seen.refused
    assert sum(seen.syncs.values()) <= 6 * -(-len(pairs) // 5), seen.syncs  # images, four columns, consistency
    for one, other in zip(here, there, strict=True):
        assert other.keys() == one.keys()
        assert all(other[k] == v for k, v in one.items() if isinstance(v, str))
        numbers = {k: v for k, v in one.items() if not isinstance(v, str)}
        assert {k: other[k] for k in numbers} == pytest.approx(numbers, rel=1e-4, abs=1e-6)
