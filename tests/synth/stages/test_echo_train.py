import shutil
import subprocess

import numpy as np
import pytest

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.corpus.data_card import card_of
from pipelines.corpus.verify import verify
from recon.data.datasets import PairDataset, VirtualPairs
from recon.data.device_pairs import DevicePairs
from synth.corpus.reader import open_corpus
from synth.errors import RecipeError
from synth.physics import coil_combine, fftc, ifft2c
from synth.plan import Plan
from synth.rng import rng as address
from synth.stages.coil_cache import map_cache
from synth.stages.echo_train import EchoTrain, EchoTrainSpec

LINES = {"kind": "regular", "acceleration": 2, "reference_lines": 8}
POINTS = {"kind": "poisson", "acceleration": 2, "reference_lines": 8}
TRAIN = {"decay": [0.5, 2]}


def pair_of(recipe, index=0, **sections):
    plan = Plan.of(recipe(**sections))
    return plan.recipe, plan.pair(index)


def test_eight_lines_of_four_echoes_by_hand():
    """A train of 4 ln 2 times T2 halves the signal from echo to echo; line 4 is k-space's centre."""
    train = EchoTrain(4 * np.log(2), "linear", 4, reverse=False)
    np.testing.assert_allclose(train.weights(8), [4, 4, 2, 2, 1, 1, 1 / 2, 1 / 2], rtol=1e-6)
    train = EchoTrain(4 * np.log(2), "linear", 4, reverse=True)
    np.testing.assert_allclose(train.weights(8), [1 / 4, 1 / 4, 1 / 2, 1 / 2, 1, 1, 2, 2], rtol=1e-6)
    train = EchoTrain(4 * np.log(2), "centre-out", 4, reverse=False)
    np.testing.assert_allclose(train.weights(8), [1 / 8, 1 / 4, 1 / 2, 1, 1, 1 / 2, 1 / 4, 1 / 8], rtol=1e-6)
    single = EchoTrain(1.6, "linear", None, reverse=False)
    np.testing.assert_allclose(single.weights(8), np.exp(-0.2 * (np.arange(8) - 4)), rtol=1e-6)


@pytest.mark.parametrize("n", [8, 55, 96])
@pytest.mark.parametrize("echoes", [None, 2, 5, 16])
@pytest.mark.parametrize("order", ["linear", "centre-out"])
def test_every_echo_has_its_share_of_lines(n, echoes, order):
    train = EchoTrain(1.0, order, echoes, reverse=False)
    weights = train.weights(n)
    assert weights[n // 2] == 1
    lengths = -np.log(weights / weights.max())
    assert lengths.max() <= 1  # the train is as long as T2
    if echoes is not None and n > 2 * echoes:
        counts = np.unique(np.round(weights, 5), return_counts=True)[1]
        assert len(counts) == echoes
        assert counts.max() - counts.min() <= 2
    distance = np.arange(n) if order == "linear" else np.abs(2 * np.arange(n) - (n - 1))
    assert (np.diff(weights[np.argsort(distance, kind="stable")]) <= 0).all()


def test_echoes_are_those_of_barts_phase_graphs(tmp_path):
    """CPMG with refocusing by 180 degrees, echo spacing 10 ms, T2 80 ms: 12 echoes take 1.5 T2."""
    if not shutil.which("bart"):
        pytest.skip("BART is not installed")
    command = ["bart", "epg", "-C", "-1", "1e9", "-2", "0.08", "-e", "0.01", "-f", "180", "-n", "12", "signal"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    theirs = np.abs(np.fromfile(tmp_path / "signal.cfl", np.complex64))
    ours = EchoTrain(1.5, "linear", 12, reverse=False).weights(12)
    np.testing.assert_allclose(ours, theirs / theirs[6], rtol=1e-5)


def test_a_decay_blurs_a_point_as_its_integral_says():
    """|integral of e^(-d u) e^(2 pi i u p) over -1/2 ... 1/2| falls from pixel 0 to p by d / sqrt(d^2 + (2 pi p)^2)."""
    spread = np.abs(fftc(EchoTrain(2 * np.pi, "linear", None, reverse=False).weights(2048).astype(np.complex128)))
    assert spread[1025] / spread[1024] == pytest.approx(1 / np.sqrt(2), rel=1e-3)
    assert spread[1022] / spread[1024] == pytest.approx(1 / np.sqrt(5), rel=1e-3)


@pytest.mark.parametrize("sampling", [LINES, POINTS], ids=lambda s: s["kind"])
@pytest.mark.parametrize("order", ["linear", "centre-out"])
def test_the_signal_of_each_line_decays(recipe, sampling, order):
    sections = {"sampling": sampling, "noise": {"kind": "none"}, "target": {"readout_oversampling": 1}}
    if sampling is LINES:
        sections["target"] = {"readout_oversampling": 2}
    made, pair = pair_of(recipe, 2, **sections, echo_train={**TRAIN, "order": order, "echoes": 7})
    _, plain = pair_of(recipe, 2, **sections)
    train = made.echo_train.draw(address(made.seed, "echo train", 2))
    assert pair.numbers["echo_train_decay"] == train.decay
    assert pair.numbers["echo_train_reverse"] == train.reverse
    weights = np.broadcast_to(train.weights(56), (48, 56)) if sampling is POINTS else train.weights(56)
    np.testing.assert_allclose(pair.kspace, plain.kspace * weights[plain.mask.sampled], atol=1e-5)
    assert np.abs(pair.kspace - plain.kspace).max() > 0.01


@pytest.mark.parametrize("sampling", [LINES, POINTS], ids=lambda s: s["kind"])
@pytest.mark.parametrize("reference", ["noisy", "clean"])
def test_the_reference_is_that_of_all_decayed_kspace(recipe, sampling, reference):
    sections = {"kspace": "full", "sampling": sampling, "target": {"reference": reference}, "echo_train": TRAIN}
    made, pair = pair_of(recipe, **sections, noise={"snr": 20} if reference == "noisy" else {"kind": "none"})
    maps = map_cache.get(made.coils, made.seed, pair.maps_index, (48, 56))
    kspace = pair.kspace.reshape(4, 48, 56)
    np.testing.assert_allclose(pair.target, coil_combine(ifft2c(kspace), maps), atol=2e-5)


def test_noise_stays_white(recipe):
    """Measured against the pair without noise: the same for lines of weak signal and of strong signal."""
    sections = {"kspace": "full", "echo_train": {"decay": 4}}
    _, noisy = pair_of(recipe, **sections, noise={"snr": 5})
    _, clean = pair_of(recipe, **sections, noise={"kind": "none"})
    unit = (noisy.kspace - clean.kspace).astype(np.complex128) / noisy.numbers["sigma"]
    weights = np.log(np.mean(np.abs(clean.kspace) ** 2, axis=(0, 1)))
    strong = weights > np.median(weights)
    for part in (unit, unit[..., strong], unit[..., ~strong], unit[..., :14], unit[..., -14:]):
        assert part.real.std() == pytest.approx(1, abs=4 / np.sqrt(2 * part.size))
        assert part.imag.std() == pytest.approx(1, abs=4 / np.sqrt(2 * part.size))
    assert noisy.numbers["sigma_measured"] == pytest.approx(noisy.numbers["sigma"], rel=0.03)
    assert noisy.numbers["snr_rms"] == pytest.approx(5, rel=0.03)  # of the signal as it decays


def test_estimated_maps_combine_decayed_kspace(recipe):
    sections = {"coils": {"estimated": {}}, "target": {"outline": "head"}, "sampling": {**LINES, "reference_lines": 16}}
    _, pair = pair_of(recipe, **sections, echo_train=TRAIN, kspace="full", noise={"snr": 50})
    np.testing.assert_allclose(pair.target, coil_combine(ifft2c(pair.kspace), pair.maps), atol=2e-5)


def test_corpora_replay(recipe, tmp_path):
    made = recipe(pairs=4, echo_train={"decay": [0.2, 2], "echoes": 8})
    build(made, tmp_path / "e.zarr", ClusterSpec("sync"))
    found = verify(tmp_path / "e.zarr", replay=4, measured=2)
    assert (found.intact, found.identical, found.measured) == (True, 4, 0)
    assert "echo_train" in found.unmeasured
    corpus = open_corpus(tmp_path / "e.zarr")
    drawn = corpus.buckets[0].numbers("echo_train_decay")
    assert len(set(drawn)) == 4
    assert ((drawn >= 0.2) & (drawn <= 2)).all()
    item = VirtualPairs(made)[1]
    assert all(np.array_equal(PairDataset(tmp_path / "e.zarr")[1][name], value) for name, value in item.items())
    card = card_of(corpus.plan, corpus.attributes["summary"], corpus.content_hash)
    assert "the signal decays along x as in an echo train" in card


def test_off_is_the_default_and_changes_no_byte(recipe):
    plain, none = recipe(), recipe(echo_train={"decay": 0})
    assert "echo_train" not in plain.model_dump(exclude_none=True)
    assert plain.hash() != none.hash()
    for index in range(3):
        one, other = Plan.of(plain).pair(index), Plan.of(none).pair(index)
        assert all(a.tobytes() == b.tobytes() for a, b in zip(one.arrays, other.arrays, strict=True))
    assert {EchoTrainSpec(decay=1).draw(address(0, "e", k)).reverse for k in range(20)} == {True, False}
    assert not EchoTrainSpec(decay=1, order="centre-out").draw(address(0, "e", 0)).reverse


def test_what_cannot_decay_is_refused(recipe, tmp_path):
    np.save(tmp_path / "s.npy", np.ones((1, 4, 48, 56), np.complex64))
    source = {"kind": "scans", "path": str(tmp_path / "s.npy")}
    with pytest.raises(RecipeError, match=r"target\.zero_filled and target\.truncated are for photographs"):
        recipe(echo_train=TRAIN, source=source, coils={"kind": "espirit"}, target={"fit": "native"})
    with pytest.raises(RecipeError, match="echo_train is done on the host"):
        DevicePairs(recipe(echo_train=TRAIN), device="cuda")
    with pytest.raises(RecipeError, match=r"0 \.\.\. 10 times T2"):
        recipe(echo_train={"decay": [-1, 1]})
