import numpy as np
import pytest
from sigpy.mri.app import EspiritCalib

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.corpus.data_card import card_of
from pipelines.corpus.verify import verify
from recon.data.datasets import PairDataset, VirtualPairs
from recon.data.device_pairs import DevicePairs
from recon.data.redrawn import Redraw
from synth.corpus.reader import open_corpus
from synth.errors import RecipeError, SourceRejectedError
from synth.physics import coil_combine, ifft2c, rss
from synth.plan import Plan
from synth.stages.coil_estimate import share_missed
from synth.stages.coils import draw_coils
from synth.stages.object_mask import object_of

SAMPLING = {"kind": "regular", "acceleration": 2, "reference_lines": 16}
HEAD = {"outline": "head"}  # ESPIRiT's maps repeat with the field of view, at whose edges an object must end
ESTIMATED = {"coils": {"estimated": {}}, "sampling": SAMPLING, "target": HEAD}


def pair_of(recipe, index=0, **sections):
    plan = Plan.of(recipe(**sections))
    return plan.recipe, plan.pair(index)


def with_snr(snr, **sections):
    return {**ESTIMATED, "noise": {"snr": snr}, **sections}


def test_two_coils_miss_a_sine_of_the_angle_between_them():
    """Maps at 30 degrees from the true ones miss sin 30 = 1/2 at each pixel; half a map misses 1 - 1/4."""
    true = np.array([1, 0], np.complex64)[:, None, None] * np.ones((2, 3), np.complex64)
    turned = np.array([np.cos(np.pi / 6), 1j * np.sin(np.pi / 6)], np.complex64)[:, None, None] * np.ones_like(true)
    image = np.full((2, 3), 3 + 4j, np.complex64)
    assert share_missed(turned, true * image) == pytest.approx(0.5, rel=1e-6)
    assert share_missed(np.complex64(0.6 + 0.8j) * true, true * image) == pytest.approx(0, abs=1e-3)
    assert share_missed(true / 2, true * image) == pytest.approx(0.75)
    half = image * (np.arange(3) > 0)  # where the image is 0, maps do not count
    assert share_missed(np.where(np.arange(3) > 0, true, 0), true * half) == pytest.approx(0, abs=1e-3)
    across = np.array([1j * np.sin(np.pi / 6), np.cos(np.pi / 6)], np.complex64)[:, None, None] * np.ones_like(true)
    assert share_missed(np.stack([turned, across]), true * image) == pytest.approx(0, abs=1e-3)  # two of two coils


@pytest.mark.parametrize("kspace", ["packed", "full"])
def test_maps_are_those_of_sigpy_for_the_noisy_reference_lines(recipe, kspace):
    made, pair = pair_of(recipe, **with_snr(100, kspace=kspace))
    size = made.target.matrix[0]
    whole = pair.kspace if kspace == "full" else pair.mask.unpack(pair.kspace, size)
    theirs = EspiritCalib(whole, calib_width=16, kernel_width=6, thresh=0.02, crop=0, show_pbar=False).run()
    agreement = np.abs(np.vecdot(theirs, pair.maps, axis=0))  # ours takes 24 rows of the readout, sigpy 16
    assert agreement[object_of(np.abs(pair.target))].mean() > 0.9995
    np.testing.assert_allclose(rss(pair.maps), 1, rtol=1e-4)


@pytest.mark.parametrize("reference", ["noisy", "clean"])
def test_the_reference_is_that_of_a_scan(recipe, reference):
    """All of k-space is combined with the maps that were found, as pairs from scans are."""
    full = with_snr(20, kspace="full", target={**HEAD, "reference": reference})
    if reference == "noisy":
        _, pair = pair_of(recipe, **full)
        expected = coil_combine(ifft2c(pair.kspace), pair.maps)
    else:
        _, pair = pair_of(recipe, **full)
        _, without = pair_of(recipe, kspace="full", sampling=SAMPLING, target=HEAD, noise={"kind": "none"})
        expected = coil_combine(ifft2c(without.kspace), pair.maps)
    np.testing.assert_allclose(pair.target, expected, atol=2e-5)
    assert pair.numbers["max_value"] == np.abs(pair.target).max()


def test_kspace_and_its_noise_are_as_without_the_estimate(recipe):
    _, plain = pair_of(recipe, sampling=SAMPLING, target=HEAD, noise={"snr": 10})
    _, noisy = pair_of(recipe, **with_snr(10))
    _, clean = pair_of(recipe, **with_snr(10, target={**HEAD, "reference": "clean"}))
    assert noisy.kspace.tobytes() == plain.kspace.tobytes()
    assert np.array_equal(noisy.maps, clean.maps)
    sigma = noisy.numbers["sigma"]
    unit = (noisy.target - clean.target) / sigma  # combined with maps of norm 1, noise keeps its sigma
    assert unit.real.std() == pytest.approx(1, abs=4 / np.sqrt(2 * unit.size))
    assert unit.imag.std() == pytest.approx(1, abs=4 / np.sqrt(2 * unit.size))


def test_more_noise_gives_maps_with_larger_errors(recipe):
    missed = [np.mean([pair_of(recipe, k, **with_snr(snr))[1].numbers["missed_by_maps"] for k in range(4)])
              for snr in (2, 10, 1000)]  # fmt: skip
    assert missed[0] > 2 * missed[1] > 4 * missed[2] > 0
    assert missed[2] < 0.01


def test_the_true_maps_are_those_of_a_set_of_the_recipe(recipe):
    made, pair = pair_of(recipe, 3, **with_snr(1e4))
    assert pair.maps_index == pair.numbers["maps_index"] == 3
    true = draw_coils(made.coils, made.seed, pair.numbers["true_maps_index"]).maps((48, 56))
    missed = pair.numbers["missed_by_maps"]
    assert share_missed(pair.maps, true * pair.target) == pytest.approx(missed, rel=0.05)
    assert missed < 0.01
    other = draw_coils(made.coils, made.seed, 1 - pair.numbers["true_maps_index"]).maps((48, 56))
    assert share_missed(pair.maps, other * pair.target) > 0.1


def test_an_oversampled_readout_is_cropped_before(recipe):
    """As a scan's is: the estimate gets what a dataset gives."""
    sections = with_snr(200, target={**HEAD, "readout_oversampling": 2})
    _, pair = pair_of(recipe, **sections)
    item = VirtualPairs(recipe(**sections))[0]
    from_item = recipe(**ESTIMATED).coils.estimated.estimate(
        item["masked_kspace"].numpy(), pair.mask, pair.numbers["sigma"], 4
    )[0]
    np.testing.assert_allclose(np.abs(np.vecdot(from_item, pair.maps, axis=0)), 1, atol=1e-3)
    assert pair.numbers["missed_by_maps"] < 0.01


def test_corpora_hold_the_maps_and_replay(recipe, tmp_path):
    made = recipe(pairs=4, **with_snr([5, 50]))
    build(made, tmp_path / "e.zarr", ClusterSpec("sync"))
    assert verify(tmp_path / "e.zarr", replay=4).identical == 4
    corpus = open_corpus(tmp_path / "e.zarr")
    assert corpus.attributes["stages"] == {"maps": 4}
    assert "sources" not in corpus.plan.stages
    pairs, virtual = PairDataset(tmp_path / "e.zarr"), VirtualPairs(made)
    for index in range(4):
        np.testing.assert_array_equal(pairs[index]["sens_maps"], corpus.plan.pair(index).maps)
        for name, value in virtual[index].items():
            np.testing.assert_array_equal(pairs[index][name], value)
    card = card_of(corpus.plan, corpus.attributes["summary"], corpus.content_hash)
    assert "maps are estimated from the same noisy reference lines" in card
    assert "phase and coils are synthetic" in card


def test_later_versions_of_the_maps_are_refused(recipe):
    plan = Plan.of(recipe(**ESTIMATED))
    other = Plan(plan.recipe, plan.files, {"maps": 3})
    assert other.pair(0).maps.shape == plan.pair(0).maps.shape
    assert "version 3" in other.older_stages[0]
    assert Plan.of(recipe()).stages == {}


def test_references_without_signal_are_rejected(recipe):
    with pytest.raises(SourceRejectedError, match="nothing above the noise"):
        pair_of(recipe, **with_snr(1e-3))
    with pytest.raises(SourceRejectedError, match="sample more reference lines"):
        pair_of(recipe, **{**ESTIMATED, "sampling": {"kind": "regular", "reference_lines": 4}})


def test_off_is_the_default_and_has_no_key(recipe):
    plain = recipe()
    assert "estimated" not in plain.model_dump(exclude_none=True)["coils"]
    assert plain.hash() == recipe(coils={"estimated": None}).hash() != recipe(coils={"estimated": {}}).hash()
    assert not plain.own_maps
    assert Plan.of(plain).pair(0).maps is None


def test_what_cannot_be_estimated_is_refused(recipe, tmp_path):
    np.save(tmp_path / "psi.npy", np.eye(4) + 0.3)
    noise = {"covariance": str(tmp_path / "psi.npy")}
    with pytest.raises(RecipeError, match="needs white noise"):
        recipe(**ESTIMATED, noise=noise)
    assert Plan.of(recipe(**ESTIMATED, noise={**noise, "whiten": True})).pair(0).maps.shape == (4, 48, 56)
    with pytest.raises(ValueError, match=r"maps are estimated from it \(coils\.estimated\)"):
        Redraw(recipe(**ESTIMATED, kspace="full"), ("noise",))
    with pytest.raises(RecipeError, match=r"coils\.estimated is done on the host"):
        DevicePairs(recipe(**ESTIMATED), device="cuda")
