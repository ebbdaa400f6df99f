import numpy as np
import pytest
import sigpy
from properties import complex_normal

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.corpus.verify import verify
from recon.data.datasets import PairDataset, VirtualPairs
from synth.errors import RecipeError
from synth.physics import coil_combine, fftc, ifft2c, rss, sense_forward
from synth.plan import Plan
from synth.stages.wrapping import folded

LINES = {"kind": "regular", "acceleration": 2, "reference_lines": 24}
WIDE = {
    "target": {"matrix": [64, 64], "fit": "resize", "outline": "head", "wrap": 1.4},
    "coils": {"count": 6, "estimated": {"espirit_sets": 2}},
    "sampling": LINES,
}


def pair_of(recipe, index=0, **sections):
    plan = Plan.of(recipe(**{**WIDE, **sections}))
    return plan.recipe, plan.pair(index)


def test_six_columns_in_a_field_of_view_of_four():
    """Column 3, the centre, comes to 2, the centre; column 0 lies before the field of view, column 5 behind it."""
    image = np.array([[1, 2, 4, 8, 16, 32]], np.complex64)
    assert folded(image, 4).real.tolist() == [[2 + 32, 4, 8, 16 + 1]]
    assert folded(image, 6) is image
    assert folded(image, 5).real.tolist() == [[2, 4, 8, 16, 32 + 1]]  # centre 3 comes to 2
    assert folded(image, 3).real.tolist() == [[4 + 32, 8 + 1, 16 + 2]]


@pytest.mark.parametrize(("width", "n"), [(64, 64), (70, 64), (89, 64), (128, 64), (101, 55), (110, 55)])
def test_a_folded_image_has_the_samples_of_the_wide_one(rng, width, n):
    """By the sum over all of its columns, at frequencies 1 / n apart."""
    image = complex_normal(rng, 3, width)
    k, x = np.arange(n) - n // 2, np.arange(width) - width // 2
    expected = image @ np.exp(-2j * np.pi * np.outer(x, k) / n) / np.sqrt(n)
    np.testing.assert_allclose(fftc(folded(image, n)), expected, atol=2e-4)


def test_a_folded_image_has_every_second_sample_of_sigpys_transform(rng):
    image = complex_normal(rng, 3, 128)
    np.testing.assert_allclose(fftc(folded(image, 64)), sigpy.fft(image, axes=[-1])[:, ::2] * np.sqrt(2), atol=1e-4)


@pytest.mark.parametrize("reference", ["noisy", "clean"])
def test_the_reference_has_an_image_for_each_set(recipe, reference):
    target = {**WIDE["target"], "reference": reference}
    noise = {"snr": 50} if reference == "noisy" else {"kind": "none"}
    _, pair = pair_of(recipe, kspace="full", target=target, noise=noise)
    assert pair.target.shape == (2, 64, 64)
    assert pair.maps.shape == (2, 6, 64, 64)
    np.testing.assert_allclose(pair.target, coil_combine(ifft2c(pair.kspace), pair.maps, sets=True), atol=2e-5)
    assert pair.numbers["max_value"] == pytest.approx(rss(pair.target).max())
    assert pair.numbers["wrap"] == 90 / 64  # round(1.4 * 64) = 90


def test_two_sets_explain_what_wraps_and_one_does_not(recipe):
    """What SENSE with the found maps leaves of noiseless k-space is the number that the pair has."""
    missed = {}
    for sets in (1, 2):
        _, pair = pair_of(recipe, 2, kspace="full", coils={"count": 6, "estimated": {"espirit_sets": sets}},
                          noise={"kind": "none"})  # fmt: skip
        modelled = sense_forward(pair.target, pair.maps, np.ones(64), sets=sets > 1)
        missed[sets] = np.linalg.norm(pair.kspace - modelled) / np.linalg.norm(pair.kspace)
        assert pair.numbers["missed_by_maps"] == pytest.approx(missed[sets], rel=1e-3)
    assert missed[2] < 0.03
    assert missed[1] > 4 * missed[2]


def test_noise_is_white(recipe):
    _, noisy = pair_of(recipe, kspace="full", noise={"snr": 5})
    _, clean = pair_of(recipe, kspace="full", noise={"kind": "none"})
    unit = (noisy.kspace - clean.kspace) / noisy.numbers["sigma"]
    for part in (unit.real, unit.imag):
        assert part.std() == pytest.approx(1, abs=4 / np.sqrt(2 * part.size))
    assert noisy.numbers["snr_rms"] == pytest.approx(5, rel=0.03)
    images = ifft2c(clean.kspace)
    power = np.mean(np.sum(np.abs(images) ** 2, axis=0))  # over the field of view, as for scans
    assert noisy.numbers["snr_image"] == pytest.approx(np.sqrt(power / 2) / noisy.numbers["sigma_measured"], rel=1e-3)


def test_corpora_replay(recipe, tmp_path):
    made = recipe(**{**WIDE, "target": {**WIDE["target"], "wrap": [1.1, 1.5]}}, pairs=3)
    build(made, tmp_path / "w.zarr", ClusterSpec("sync"))
    assert verify(tmp_path / "w.zarr", replay=3).identical == 3
    pairs = PairDataset(tmp_path / "w.zarr")
    assert pairs[1]["sens_maps"].shape == (2, 6, 64, 64)
    assert all(np.array_equal(pairs[1][name], value) for name, value in VirtualPairs(made)[1].items())
    widths = [round(64 * Plan.of(made).pair(k).numbers["wrap"]) for k in range(3)]
    assert len(set(widths)) == 3
    assert all(70 <= width <= 96 for width in widths)


def test_off_is_the_default_and_changes_no_byte(recipe):
    plain = recipe(**{**WIDE, "target": {**WIDE["target"], "wrap": None}})
    none = recipe(**{**WIDE, "target": {**WIDE["target"], "wrap": 1}})
    assert "wrap" not in plain.model_dump(exclude_none=True)["target"]
    assert plain.hash() != none.hash()
    one, other = Plan.of(plain).pair(0), Plan.of(none).pair(0)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(one.arrays, other.arrays, strict=True))
    assert "espirit_sets" not in recipe(coils={"estimated": {}}).model_dump()["coils"]["estimated"]


def test_what_cannot_wrap_is_refused(recipe):
    with pytest.raises(RecipeError, match=r"target\.wrap is for photographs with coils\.estimated"):
        recipe(target={"wrap": 1.2})
    with pytest.raises(RecipeError, match=r"without target\.lesions"):
        recipe(**{**WIDE, "target": {**WIDE["target"], "lesions": {}}})
    with pytest.raises(RecipeError, match=r"1 \.\.\. 2 fields of view"):
        recipe(**{**WIDE, "target": {"wrap": 2.5}})
    with pytest.raises(RecipeError, match="needs as many coils or more"):
        recipe(**{**WIDE, "coils": {"count": 1, "estimated": {"espirit_sets": 2}}})
    with pytest.raises(RecipeError, match="extend = true continues one map set"):
        recipe(coils={"estimated": {"espirit_sets": 2, "extend": True}})
