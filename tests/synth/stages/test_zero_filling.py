import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
import sigpy

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.corpus.data_card import card_of
from pipelines.corpus.verify import verify
from recon.data.datasets import PairDataset, VirtualPairs
from recon.data.device_pairs import DevicePairs
from recon.data.redrawn import Redraw
from recon.errors import TrainingError
from recon.evaluation.noise_map_rows import noise_map_rows
from recon.evaluation.rows import noise_rows
from recon.models.baselines import ZeroFilled
from recon.training.usable_pairs import refuse_unusable
from synth.corpus.reader import open_corpus
from synth.errors import RecipeError
from synth.physics import coil_combine, ifft2c
from synth.plan import Plan
from synth.sources.crimes import crimes_of_kspace
from synth.stages.coil_cache import map_cache
from synth.stages.zero_filling import ZeroFilling
from synth.writers.cfl import read_array, write_array

LINES = {"kind": "regular", "acceleration": 2, "reference_lines": 8}
POINTS = {"kind": "poisson", "acceleration": 2, "reference_lines": 8}
SAMPLINGS = pytest.mark.parametrize("sampling", [LINES, POINTS], ids=lambda s: s["kind"])


def pair_of(recipe, index=0, **sections):
    plan = Plan.of(recipe(**sections))
    return plan.recipe, plan.pair(index)


def filled(fraction, **target):
    return {"zero_filled": fraction, **target}


def test_a_half_of_eight_are_four_about_the_centre():
    assert np.flatnonzero(ZeroFilling(0.5).measured(8)).tolist() == [2, 3, 4, 5]
    assert np.flatnonzero(ZeroFilling(0.5).measured(9)).tolist() == [2, 3, 4, 5]  # 4.5 rounds to 4 about index 4
    assert np.flatnonzero(ZeroFilling(0.75).measured(48)).tolist() == list(range(6, 42))
    assert ZeroFilling(1).measured(7).all()


@SAMPLINGS
def test_kspace_is_padded_as_by_sigpy(recipe, sampling):
    """Without noise: all of k-space, cropped to the inner 36 x 42 of 48 x 56, and padded with zeros."""
    sections = {"sampling": sampling, "kspace": "full", "noise": {"kind": "none"}}
    _, plain = pair_of(recipe, **sections)
    _, pair = pair_of(recipe, **sections, target=filled(0.75))
    whole = plain.kspace.reshape(4, 48, 56)
    expected = sigpy.resize(sigpy.resize(whole, (4, 36, 42)), (4, 48, 56))
    np.testing.assert_allclose(pair.kspace.reshape(4, 48, 56), expected, atol=1e-5)
    _, packed = pair_of(recipe, **{**sections, "kspace": "packed"}, target=filled(0.75))
    np.testing.assert_allclose(packed.kspace, packed.mask.pack(expected), atol=1e-5)


def test_the_reference_is_the_image_that_bart_interpolates(recipe, tmp_path):
    if not shutil.which("bart"):
        pytest.skip("BART is not installed")
    _, plain = pair_of(recipe, kspace="full", noise={"kind": "none"})
    made, pair = pair_of(recipe, kspace="full", noise={"kind": "none"}, target=filled(0.75))
    maps = map_cache.get(made.coils, made.seed, pair.maps_index, (48, 56))
    write_array(tmp_path / "k", plain.kspace)
    for command in ("resize -c 0 36 1 42 k inner", "resize -c 0 48 1 56 inner padded", "fft -iu 3 padded coils"):
        subprocess.run(["bart", *command.split()], cwd=tmp_path, check=True, capture_output=True)
    interpolated = read_array(tmp_path / "coils")[0]
    np.testing.assert_allclose(pair.target, coil_combine(interpolated, maps), atol=2e-5)
    assert np.abs(plain.target - pair.target).max() > 0.01


@pytest.mark.parametrize("reference", ["noisy", "clean"])
def test_the_reference_is_that_of_all_kspace(recipe, reference):
    noise = {"snr": 20} if reference == "noisy" else {"kind": "none"}
    made, pair = pair_of(recipe, kspace="full", noise=noise, target=filled(0.75, reference=reference))
    maps = map_cache.get(made.coils, made.seed, pair.maps_index, (48, 56))
    np.testing.assert_allclose(pair.target, coil_combine(ifft2c(pair.kspace), maps), atol=2e-5)


@SAMPLINGS
def test_noise_is_white_inside_and_zero_outside(recipe, sampling):
    sections = {"sampling": sampling, "kspace": "full", "target": filled(0.75)}
    _, noisy = pair_of(recipe, **sections, noise={"snr": 5})
    _, clean = pair_of(recipe, **sections, noise={"kind": "none"})
    unit = (noisy.kspace - clean.kspace).astype(np.complex128).reshape(4, 48, 56) / noisy.numbers["sigma"]
    inner = unit[:, 6:42, 7:49]
    assert inner.real.std() == pytest.approx(1, abs=4 / np.sqrt(2 * inner.size))
    assert inner.imag.std() == pytest.approx(1, abs=4 / np.sqrt(2 * inner.size))
    outside = np.ones((48, 56), bool)
    outside[6:42, 7:49] = False
    assert not unit[:, outside].any()


@pytest.mark.parametrize("kspace", ["packed", "full"])
@SAMPLINGS
def test_snrs_are_those_of_the_measured_part(recipe, sampling, kspace):
    for definition in ("rms", "knoll-rms", "image"):
        noise = {"snr": 30, "definition": definition}
        sections = {"sampling": sampling, "kspace": kspace, "target": filled(0.75)}
        _, noisy = pair_of(recipe, **sections, noise=noise)
        _, clean = pair_of(recipe, **sections, noise={"kind": "none"})
        assert noisy.numbers["sigma_measured"] == pytest.approx(noisy.numbers["sigma"], rel=0.05)
        assert noisy.numbers[f"snr_{definition.replace('-', '_')}"] == pytest.approx(30, rel=0.1)
        if definition == "rms" and kspace == "packed":
            size = (48, 56)
            measured = np.zeros(size, bool)
            measured[6:42, 7:49] = True
            signal = clean.mask.unpack(clean.kspace, size)[:, measured & clean.mask.sampled]
            rms = np.sqrt(np.mean(np.abs(signal.astype(np.complex128)) ** 2))
            assert rms / (np.sqrt(2) * noisy.numbers["sigma"]) == pytest.approx(30, rel=1e-3)


def test_the_crime_is_found_as_one(recipe):
    for fraction, found in ((0.75, True), (1, False)):
        _, pair = pair_of(recipe, kspace="full", target=filled(fraction), noise={"snr": 20})
        assert ("zero-filled" in crimes_of_kspace(pair.kspace)) == found


def test_zeros_and_decay_go_together(recipe):
    train = {"decay": 2, "order": "centre-out"}
    made, pair = pair_of(recipe, kspace="full", echo_train=train, target=filled(0.5), noise={"kind": "none"})
    maps = map_cache.get(made.coils, made.seed, pair.maps_index, (48, 56))
    np.testing.assert_allclose(pair.target, coil_combine(ifft2c(pair.kspace), maps), atol=2e-5)
    _, alone = pair_of(recipe, kspace="full", echo_train=train, noise={"kind": "none"})
    np.testing.assert_allclose(pair.kspace[:, 12:36, 14:42], alone.kspace[:, 12:36, 14:42], atol=1e-5)


def test_corpora_replay_and_say_that_it_is_a_crime(recipe, tmp_path):
    made = recipe(pairs=4, target=filled([0.5, 0.9]))
    build(made, tmp_path / "z.zarr", ClusterSpec("sync"))
    found = verify(tmp_path / "z.zarr", replay=4, measured=2)
    assert (found.intact, found.identical, found.measured) == (True, 4, 0)
    assert "target.zero_filled" in found.unmeasured
    corpus = open_corpus(tmp_path / "z.zarr")
    drawn = corpus.buckets[0].numbers("zero_filled")
    assert len(set(drawn)) == 4
    assert ((drawn >= 0.5) & (drawn <= 0.9)).all()
    pairs = PairDataset(tmp_path / "z.zarr")
    assert all(np.array_equal(pairs[1][name], value) for name, value in VirtualPairs(made)[1].items())
    card = card_of(corpus.plan, corpus.attributes["summary"], corpus.content_hash)
    assert "a crime that was made on purpose" in card
    assert "zero outside of 50 to 90 % of the matrix" in card
    for rows, message in ((noise_rows, "replicas of noise are white"), (noise_map_rows, "noise maps are for white")):
        with pytest.raises(ValueError, match=message):
            rows(ZeroFilled(), pairs, 8)
    with pytest.raises(TrainingError, match=r"no noise where target\.zero_filled leaves zeros"):
        refuse_unusable([pairs], SimpleNamespace(model=None, training=SimpleNamespace(noisier=0.5)))


def test_off_is_the_default_and_changes_no_byte(recipe):
    plain, none = recipe(), recipe(target=filled(1))
    assert "zero_filled" not in plain.model_dump(exclude_none=True)["target"]
    assert plain.hash() != none.hash()
    for index in range(3):
        one, other = Plan.of(plain).pair(index), Plan.of(none).pair(index)
        assert all(a.tobytes() == b.tobytes() for a, b in zip(one.arrays, other.arrays, strict=True))
        assert one.numbers["sigma"] == other.numbers["sigma"]


def test_what_cannot_be_filled_is_refused(recipe, tmp_path):
    np.save(tmp_path / "s.npy", np.ones((1, 4, 48, 56), np.complex64))
    source = {"kind": "scans", "path": str(tmp_path / "s.npy")}
    with pytest.raises(RecipeError, match="are for photographs"):
        recipe(target=filled(0.5, fit="native"), source=source, coils={"kind": "espirit"})
    with pytest.raises(RecipeError, match=r"target\.zero_filled is done on the host"):
        DevicePairs(recipe(target=filled(0.5)), device="cuda")
    with pytest.raises(RecipeError, match="above 0, and at most 1"):
        recipe(target=filled([0, 1]))
    with pytest.raises(RecipeError, match="readout_oversampling = 1"):
        recipe(target=filled(0.5, readout_oversampling=2))
    with pytest.raises(RecipeError, match="leaves 6 of 56 positions, and the reference has 8"):
        recipe(target=filled(0.1))
    with pytest.raises(RecipeError, match="leaves 19 of 48 positions, and the reference has 24"):
        recipe(target=filled(0.4), coils={"estimated": {}})
    with pytest.raises(ValueError, match=r"around target\.zero_filled"):
        Redraw(recipe(target=filled(0.5), kspace="full"), ("noise",))
    with pytest.raises(RecipeError, match="leaves 10 of 48 positions, and the reference has 12"):
        recipe(target=filled(0.2), sampling={**POINTS, "reference_lines": 12})
