import io

import numpy as np
import pytest
import scipy.fft
from conftest import recipe_data, shared
from PIL import Image
from properties import complex_normal

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.corpus.inspect import summary_text
from pipelines.errors import BuildError
from synth.corpus.reader import open_corpus
from synth.physics import fft2c, ifft2c
from synth.recipe import parse_recipe
from synth.scans.open import open_scan
from synth.sources.crimes import FINDINGS, MEANING, blockiness, crimes_of_kspace, crimes_of_photo, fingerprint
from synth.sources.jpeg_steps import combs, step_score
from synth.sources.photos import ImagesSpec, read_photo
from synth.stages.coils import LoopsSpec, draw_coils

PHOTOS = ("astronaut.png", "camera.png", "chelsea.png", "coffee.png")


@pytest.fixture(params=PHOTOS)
def photo(request):
    return read_photo(ImagesSpec(kind="skimage").folder / request.param).image


def as_jpeg(image, quality):
    buffer = io.BytesIO()
    Image.fromarray((255 * image).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer), np.float32) / 255


def enlarged(image, factor=2):
    size = (image.shape[1] * factor, image.shape[0] * factor)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def test_photographs_that_are_not_jpegs_pass(photo):
    assert crimes_of_photo(photo, jpeg=False) == ()
    assert crimes_of_photo(photo, jpeg=True) == ("jpeg",)


def test_a_jpeg_saved_as_something_else_is_found(photo):
    made = as_jpeg(photo, 60)
    assert "jpeg-blocks" in crimes_of_photo(made, jpeg=False)
    assert "jpeg-blocks" in crimes_of_photo(made[3:, 5:], jpeg=False)


@pytest.mark.parametrize("quality", [50, 75, 90, 95])
def test_steps_of_a_former_jpeg_are_found_where_its_edges_are_not(photo, quality):
    assert step_score(photo) < 0.05 < 0.1 < step_score(as_jpeg(photo, quality))
    assert "jpeg-steps" in crimes_of_photo(as_jpeg(photo, quality), jpeg=False)
    assert "jpeg-steps" not in crimes_of_photo(as_jpeg(photo, quality)[3:, 5:], jpeg=False)  # no steps on this grid
    assert crimes_of_photo(as_jpeg(photo, quality), jpeg=True) == ("jpeg",)


def test_few_blocks_say_nothing_about_steps(photo):
    assert step_score(as_jpeg(photo, 75)[:159, :160]) == 0 < step_score(as_jpeg(photo, 75)[:160, :160])


@pytest.mark.parametrize("step", [2, 5])
def test_the_comb_of_steps_is_what_the_formula_says(rng, step):
    """Coefficients at multiples of a step, by scipy's transform; rounded pixels add an error of sd 1 / sqrt(12)."""
    coefficients = step * np.rint(rng.laplace(0, 12, (48, 48, 8, 8)) / step)
    coefficients[..., 0, 0] = 1000  # a mean grey value of 125
    blocks = scipy.fft.idctn(coefficients, axes=(2, 3), norm="ortho")
    grey = np.rint(blocks.transpose(0, 2, 1, 3).reshape(384, 384)).astype(np.float32)
    found = combs(grey)
    assert found.shape == (14, 62)
    place = round(128 / step)  # the steps are 128 / j, j from 3
    off = 1 / step - place / 128  # cycles per grey value: 0 for 2; 5 lies between j = 25 and 26
    expected = np.exp(-2 * (np.pi / 12**0.5 / step) ** 2)
    expected *= np.sinc(0.25 / step) / (1 + (2 * np.pi * off * 12) ** 2)  # of bins 1/4 wide; of a Laplace distribution
    assert expected > 0.6
    np.testing.assert_allclose(found[:, place - 3], expected, atol=0.04)
    assert np.abs(combs(grey[3:, 4:])[:, place - 3]).max() < 0.1


def test_bsds_as_png_is_found(bsds):
    files = sorted(bsds.glob("*.jpg"))[::20]
    photos = [read_photo(file).image for file in files]
    assert all("jpeg-steps" in crimes_of_photo(image, jpeg=False) for image in photos)
    assert not any("jpeg-steps" in crimes_of_photo(image[2:, 1:], jpeg=False) for image in photos)


def test_an_enlarged_photograph_is_found(photo):
    assert crimes_of_photo(np.maximum(enlarged(photo), 0), jpeg=False) == ("interpolated",)


def test_small_images_say_nothing(rng):
    assert crimes_of_photo(rng.random((9, 9)).astype(np.float32), jpeg=False) == ()
    assert blockiness(rng.random((1, 40)).astype(np.float32)) == 1


def test_fingerprints_are_of_pictures_not_files(photo):
    one = fingerprint(photo)
    assert bin(one ^ fingerprint(as_jpeg(photo, 60))).count("1") <= 3
    assert bin(one ^ fingerprint(enlarged(photo))).count("1") <= 3
    assert bin(one ^ fingerprint(photo[::-1])).count("1") > 12


@pytest.fixture
def kspace(rng):
    shape = (96, 80)
    maps = draw_coils(LoopsSpec(count=4), 1, 0).maps(shape)
    y, x = (np.linspace(-1, 1, n) for n in shape)
    image = np.clip(0.5 - y[:, None] ** 2 - x**2, 0, None) * np.exp(2j * x)
    return fft2c((image * maps).astype(np.complex64)) + 0.01 * complex_normal(rng, 4, *shape)


def padded(kspace):
    return np.pad(kspace, [(0, 0), (6, 6), (8, 8)])


def filtered(kspace):
    y, x = (np.hamming(n) for n in kspace.shape[1:])
    return kspace * y[:, None] * x


def real(kspace):
    return fft2c(ifft2c(kspace).real.astype(np.complex64))


def halved(kspace):
    kspace = kspace.copy()
    kspace[:, :, 1::2] = 0
    return kspace


@pytest.mark.parametrize(
    ("change", "findings"),
    [
        (lambda k: k, ()),
        (lambda k: 1e-7 * k, ()),
        (padded, ("zero-filled",)),
        (filtered, ("filtered",)),
        (real, ("real-valued",)),
        (halved, ("undersampled",)),
        (np.zeros_like, ()),
    ],
)
def test_scans(kspace, change, findings):
    assert crimes_of_kspace(change(kspace).astype(np.complex64)) == findings


@pytest.mark.parametrize("name", PHOTOS)
def test_an_object_that_fills_the_field_of_view_is_not_filtered(name, rng):
    image = read_photo(ImagesSpec(kind="skimage").folder / name).image[:256, :256]
    maps = draw_coils(LoopsSpec(count=8), 1, 0).maps(image.shape)
    clean = fft2c((image * maps).astype(np.complex64))
    for snr in (3, 10, 20, 80):
        sigma = np.sqrt(np.mean(np.abs(clean) ** 2) / 2) / snr
        assert crimes_of_kspace(clean + np.float32(sigma) * complex_normal(rng, *clean.shape)) == ()


FLAT = ("brick.png", "cell.png")  # parts of these were taken as noise, and all of them as filtered


@pytest.mark.parametrize("coils", [1, 2, 8])
@pytest.mark.parametrize("name", FLAT)
def test_an_even_part_of_a_photograph_is_not_noise(name, coils, rng):
    image = read_photo(ImagesSpec(kind="skimage").folder / name).image[:256, :256]
    clean = fft2c((image * draw_coils(LoopsSpec(count=coils), 1, 0).maps(image.shape)).astype(np.complex64))
    for snr in (10, 40):
        sigma = np.sqrt(np.mean(np.abs(clean) ** 2) / 2) / snr
        noisy = clean + np.float32(sigma) * complex_normal(rng, *clean.shape)
        assert crimes_of_kspace(noisy) == ()
        assert "filtered" not in crimes_of_kspace(filtered(noisy).astype(np.complex64))  # nor is there noise to judge


@pytest.mark.parametrize("coils", [1, 2, 8])
def test_a_filter_is_found_whatever_the_coils(coils, rng):
    shape = (128, 96)
    y, x = (np.linspace(-1, 1, n) for n in shape)
    image = np.where((y[:, None] / 0.7) ** 2 + (x / 0.55) ** 2 < 1, 1 + 0.3 * np.sin(9 * x), 0)
    clean = fft2c((image * draw_coils(LoopsSpec(count=coils), 1, 0).maps(shape)).astype(np.complex64))
    sigma = np.sqrt(np.mean(np.abs(clean) ** 2) / 2) / 10
    noisy = clean + np.float32(sigma) * complex_normal(rng, *clean.shape)
    assert crimes_of_kspace(noisy) == ()
    assert crimes_of_kspace(filtered(noisy).astype(np.complex64)) == ("filtered",)


def test_the_real_brain():
    kspace = open_scan(shared("scans/brain_8ch_bart/full.cfl")).as_stored(0)
    assert crimes_of_kspace(kspace) == ()
    assert crimes_of_kspace(padded(kspace)) == ("zero-filled",)
    assert crimes_of_kspace(filtered(kspace).astype(np.complex64)) == ("filtered",)


def test_every_bsds_photograph_is_a_jpeg(bsds):
    files = sorted(bsds.glob("*.jpg"))
    assert len(files) == 200
    assert all("jpeg" in read_photo(f).findings for f in files)


def test_findings_are_kept_told_and_refused(tmp_path, photos):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for k, file in enumerate(sorted(photos.glob("*.png"))):
        Image.open(file).save(folder / (f"{k}.jpg" if k < 2 else f"{k}.png"))
    made = parse_recipe(recipe_data(folder), "t")
    build(made, tmp_path / "c.zarr", ClusterSpec("sync"))
    corpus = open_corpus(tmp_path / "c.zarr")
    assert corpus.attributes["summary"]["findings"]["jpeg"] == 2
    assert "2 of 6 sources: the file is a JPEG" in summary_text(corpus)
    assert "2 of 6 sources: the file is a JPEG" in (tmp_path / "c.zarr" / "README.md").read_text()
    strict = parse_recipe(recipe_data(folder, source={"refuse": ["jpeg"]}), "t")
    with pytest.raises(BuildError, match=r"0\.jpg: the file is a JPEG.*source\.refuse has 'jpeg'"):
        build(strict, tmp_path / "d.zarr", ClusterSpec("sync"))
    assert set(MEANING) == set(FINDINGS)
