import numpy as np
import pytest
from properties import complex_normal
from scipy.ndimage import gaussian_filter
from skimage import data, transform

from recon.evaluation.aliasing import SIDE, _explained, _in_blocks, _moved, aliases_of, aliasing
from synth.physics import centre_block, coil_combine, fft2c, ifft2c
from synth.stages.coils import LoopsSpec
from synth.stages.mask_lines import FastmriSpec, RegularSpec, UniformSpec, VariableDensitySpec
from synth.stages.mask_points import PoissonSpec, Regular2DSpec

SIZE = (128, 128)
MASKS = [
    RegularSpec(acceleration=2, reference_lines=24),
    RegularSpec(acceleration=4, reference_lines=24, offset=1),
    RegularSpec(acceleration=6, reference_lines=24),
    RegularSpec(acceleration=4, reference_lines=0),
    Regular2DSpec(acceleration=(2, 2), reference_lines=24),
    Regular2DSpec(acceleration=(2, 2), reference_lines=24, shift=1),
]
NAMES = ["R=2", "R=4", "R=6", "R=4, no reference", "2x2", "2x2 CAIPI"]
masks = pytest.mark.parametrize("sampling", MASKS, ids=NAMES)
objects = pytest.mark.parametrize("name", ["head", "camera", "coffee"])


def reference_of(name, phase=1.0):
    """A head-like phantom in air, or a photograph that fills the image; with a smooth phase."""
    if name == "head":
        part = np.pad(transform.resize(data.shepp_logan_phantom(), (112, 96)), ((8, 8), (16, 16)))
    else:
        part = transform.resize(getattr(data, name)(), SIZE, anti_aliasing=True)
        part = part.mean(axis=2) if part.ndim == 3 else part
    y, x = np.meshgrid(*(np.arange(n) / n for n in SIZE), indexing="ij")
    return part * np.exp(1j * phase * (np.sin(2 * np.pi * y) + np.cos(2 * np.pi * x)))


def lattice(sampling):
    """The mask [y x] without reference lines, the centre that always stays out, and R."""
    bare = np.broadcast_to(sampling.model_copy(update={"reference_lines": 0}).draw(None, SIZE).sampled, SIZE)
    rate = sampling.acceleration
    outside = np.ones(SIZE, bool)
    width = max(sampling.reference_lines, 8)
    rows = slice(None) if np.isscalar(rate) else centre_block(SIZE[0], width)
    outside[rows, centre_block(SIZE[1], width)] = False
    return bare, outside, int(np.prod(rate))


def only_aliases(reference, sampling, maps=None):
    """The copies that the mask makes, seen by coils: C^H F^H (R P - 1) H F C r. H leaves the fully sampled centre."""
    bare, outside, rate = lattice(sampling)
    if maps is None:
        return ifft2c(fft2c(reference) * (rate * bare - 1.0) * outside)
    return coil_combine(ifft2c(fft2c(reference * maps) * (rate * bare - 1.0) * outside), maps)


def share(error, reference, sampling):
    return aliasing(reference + error, reference, aliases_of(sampling, SIZE))["aliasing_energy"]


@pytest.mark.parametrize("size", [(96, 128), (90, 126)])
@masks
def test_the_copies_are_the_mask(sampling, size):
    """The mean of the factors of all shifts, (0, 0) too, is the mask itself, up to its offset; also where R splits."""
    found = np.mean([np.ones(size), *(_moved(size, s) for s in aliases_of(sampling, size).shifts)], axis=0)
    plain = sampling.model_copy(update={"reference_lines": 0, **({"offset": 0} if "offset" in dict(sampling) else {})})
    assert np.abs(found - np.broadcast_to(plain.draw(None, size).sampled, size)).max() < 1e-9


def test_a_copy_by_hand():
    """A point at column 10 of 128 appears at 42, 74 and 106 with R = 4."""
    point = np.zeros(SIZE)
    point[5, 10] = 1
    for shift, column in zip(aliases_of(MASKS[1], SIZE).shifts, (106, 74, 42), strict=True):
        copy = ifft2c(fft2c(point) * _moved(SIZE, shift))
        assert np.unravel_index(np.abs(copy).argmax(), SIZE) == (5, column)
        assert np.abs(copy).max() == pytest.approx(1)


@masks
@objects
def test_only_aliases_are_only_aliases(name, sampling):
    reference = reference_of(name)
    found = share(0.3j * only_aliases(reference, sampling), reference, sampling)
    assert 0.9 < found < 1.01


@pytest.mark.parametrize(
    ("name", "sampling"),
    [*(("head", mask) for mask in MASKS), ("camera", MASKS[1]), ("coffee", MASKS[4])],
    ids=[*NAMES, "camera, R=4", "coffee, 2x2"],
)
def test_white_noise_is_no_alias(name, sampling):
    """0 within chance over 20 seeds."""
    reference = reference_of(name)
    draws = [complex_normal(np.random.default_rng(seed), *SIZE) for seed in range(20)]
    found = np.array([share(0.05 * noise, reference, sampling) for noise in draws])
    assert found.std() < 0.0025
    assert abs(found.mean()) < 3.5 * found.std() / 20**0.5


@objects
def test_noise_where_an_alias_would_be_is_no_alias(name):
    """Its level is the object's alias itself; the copies' bright edges explain 5 % of it by chance in the head."""
    reference, sampling = reference_of(name), MASKS[1]
    level = np.abs(np.roll(reference, SIZE[1] // 4, 1))
    draws = [complex_normal(np.random.default_rng(seed), *SIZE) for seed in range(20)]
    assert abs(np.mean([share(level * noise, reference, sampling) for noise in draws])) < 0.015


@objects
def test_smooth_noise_is_no_alias(name):
    """Noise with a spectrum like the object's, which the copies would explain to 3 % by chance."""
    reference, sampling = reference_of(name), MASKS[1]
    draws = [complex_normal(np.random.default_rng(seed), *SIZE) for seed in range(20)]
    smooth = [gaussian_filter(draw.real, 1.5) + 1j * gaussian_filter(draw.imag, 1.5) for draw in draws]
    assert abs(np.mean([share(noise, reference, sampling) for noise in smooth])) < 0.012


@masks
@objects
def test_scale_and_blur_are_no_alias(name, sampling):
    reference = reference_of(name)
    assert share(0.1 * reference, reference, sampling) == 0
    assert share((2j - 1) * reference, reference, sampling) == 0
    assert share(-reference, reference, sampling) == 0  # a black image
    y, x = np.ogrid[-64:64, -64:64]
    blurred = ifft2c(fft2c(reference) * np.exp(-(y**2 + x**2) / 30**2))
    assert abs(share(blurred - reference, reference, sampling)) < 0.06


def test_a_local_scale_is_no_alias_of_an_object_like_its_copies():
    """Columns repeat after N / R, so that every copy is the object itself."""
    texture = np.random.default_rng(4).random((SIZE[0], SIZE[1] // 4))
    reference = np.tile(texture, (1, 4)) * (1 + 0j)
    gain = 0.2 * np.cos(2 * np.pi * np.arange(SIZE[0]) / SIZE[0])[:, None]
    assert abs(share(gain * reference, reference, MASKS[1])) < 0.01


@pytest.mark.parametrize("built_in", [0.5, 0.1])
@masks
@objects
def test_the_share_that_was_built_in(name, sampling, built_in, rng):
    reference = reference_of(name)
    aliases, noise = only_aliases(reference, sampling), complex_normal(rng, *SIZE)
    a, b = (np.linalg.norm(fft2c(part) * lattice(sampling)[1]) for part in (aliases, noise))
    error = aliases * built_in**0.5 / a + noise * (1 - built_in) ** 0.5 / b
    image = reference + 3.0 * error
    found = aliasing(image, reference, aliases_of(sampling, SIZE))
    assert found["aliasing_energy"] == pytest.approx(built_in, rel=0.1, abs=0.02)
    assert found["aliasing_nmse"] == pytest.approx(9.0 * built_in / np.linalg.norm(reference) ** 2, rel=0.2)
    again = aliasing((1.1 + 0.4j) * image, reference, aliases_of(sampling, SIZE))
    assert again["aliasing_energy"] == pytest.approx(found["aliasing_energy"], rel=1e-6)  # blind to a scale


def test_amplitude_and_phase_of_copies_may_change_over_the_image():
    """By coils, and by a phase that turns once."""
    maps = LoopsSpec(count=8).draw(np.random.default_rng(1), 0).maps(SIZE)
    turn = np.exp(2j * np.pi * np.arange(SIZE[0]) / SIZE[0])[:, None]
    for name, least in (("head", 0.94), ("camera", 0.8)):
        reference = reference_of(name)
        assert least < share(only_aliases(reference, MASKS[1], maps), reference, MASKS[1]) < 1.01
        assert 0.8 < share(turn * only_aliases(reference, MASKS[1]), reference, MASKS[1]) < 1.01


def test_zero_filling_leaves_the_most():
    """Zero-filling, and an image in which nine tenths of the aliases were unfolded and there is noise instead."""
    reference, maps = reference_of("head"), LoopsSpec(count=8).draw(np.random.default_rng(1), 0).maps(SIZE)
    sampled = MASKS[1].draw(None, SIZE).sampled
    zero_filled = coil_combine(ifft2c(fft2c(reference * maps) * sampled), maps)
    noise = 0.02 * complex_normal(np.random.default_rng(2), *SIZE)
    better = reference + 0.1 * (zero_filled - reference) + noise
    first, second = (aliasing(image, reference, aliases_of(MASKS[1], SIZE)) for image in (zero_filled, better))
    assert first["aliasing_energy"] > 0.85
    assert second["aliasing_energy"] < 0.5 * first["aliasing_energy"]
    assert second["aliasing_nmse"] == pytest.approx(0.01 * first["aliasing_nmse"], rel=0.3)


@pytest.mark.parametrize(
    "sampling",
    [
        UniformSpec(),
        VariableDensitySpec(),
        PoissonSpec(),
        FastmriSpec(kind="fastmri-random"),
        RegularSpec(acceleration=1),
        Regular2DSpec(acceleration=(1, 1)),
    ],
)
def test_masks_without_a_finite_set_of_copies(sampling):
    assert aliases_of(sampling, SIZE) is None


def test_small_and_perfect_images(rng):
    small = complex_normal(rng, 8, 8)
    aliases = aliases_of(RegularSpec(acceleration=2, reference_lines=2), small.shape)
    none = {"aliasing_energy": 0.0, "aliasing_nmse": 0.0}
    assert aliasing(1.3 * small + small.T, small, aliases) == none  # its 8 lines are all centre
    reference = reference_of("camera")
    assert aliasing(reference, reference, aliases_of(MASKS[0], SIZE)) == none


def test_blocks_fill_an_image():
    for shape in ((128, 100), (5, 61)):
        image = 1.0 + np.arange(np.prod(shape)).reshape(1, *shape)
        blocks = _in_blocks(image)[:, 0]
        assert np.array_equal(np.sort(blocks[blocks > 0]), image.ravel())
        assert blocks.shape[1] <= (1.5 * SIDE) ** 2
        assert np.array_equal(_in_blocks(image, (6, -6)), _in_blocks(np.roll(image, (6, -6), (1, 2))))


def test_energy_beyond_chance_of_one_block():
    draw = np.random.default_rng(0).standard_normal
    error, known, elsewhere = (draw((1, n, 40)) + 1j * draw((1, n, 40)) for n in (1, 4, 9))
    q = np.linalg.qr(known[0].T)[0]
    others = elsewhere[0] - elsewhere[0] @ q.conj() @ q.T
    chance = np.abs(others.conj() @ error[0, 0]) ** 2 / np.linalg.norm(others, axis=1) ** 2
    by_hand = np.sum(np.abs(q[:, 1:].conj().T @ error[0, 0]) ** 2) - 3 * chance.mean()
    assert _explained(error, known, [elsewhere[:, :5], elsewhere[:, 5:]]) == pytest.approx([by_hand], rel=1e-12)
    twice = np.concatenate([known, known[:, 1:2]], axis=1)  # what adds nothing counts for nothing
    assert _explained(error, twice, [elsewhere, known]) == pytest.approx([by_hand], rel=1e-12)
    assert _explained(error, known, [known]) == 0  # nothing to measure chance with
