import numpy as np
import pytest
from properties import assert_adjoint, complex_normal

from synth.errors import SourceRejectedError
from synth.stages.outline import Outline
from synth.stages.readout import Readout
from synth.stages.target import TargetSpec


@pytest.fixture
def photo(rng):
    return rng.random((30, 50)).astype(np.float32)


def fitted(photo, matrix, rng, **options):
    return TargetSpec(matrix=matrix, **options).apply(photo, matrix, rng)


def test_crop_takes_the_centre_and_scales_to_one(photo, rng):
    image, how = fitted(photo, (20, 40), rng)
    np.testing.assert_allclose(image * how.scale, photo[5:25, 5:45], rtol=1e-6)
    assert image.max() == 1
    assert (how.turned, how.resized, how.top, how.left) == (False, 1.0, 5, 5)


def test_portraits_are_turned_for_a_landscape_matrix(photo, rng):
    image, how = fitted(photo.T.copy(), (20, 40), rng)
    assert how.turned
    np.testing.assert_allclose(image * how.scale, np.rot90(photo.T)[5:25, 5:45], rtol=1e-6)
    with pytest.raises(SourceRejectedError, match=r"with target\.fit = 'crop'"):
        fitted(photo.T, (20, 40), rng, turn=False)


def test_square_matrices_turn_nothing(photo, rng):
    assert not fitted(photo, (24, 24), rng)[1].turned
    assert not fitted(photo.T, (24, 24), rng)[1].turned


def test_bsds_sizes_fit_as_in_the_paper(rng):
    for shape in ((321, 481), (481, 321)):
        image, how = fitted(rng.random(shape).astype(np.float32), (320, 368), rng)
        assert image.shape == (320, 368)
        assert how.resized == 1
        assert how.turned == (shape[0] > shape[1])


def test_random_crops_differ_and_replay(photo):
    def crop(seed):
        return fitted(photo, (20, 40), np.random.default_rng(seed), position="random")

    places = {(crop(k)[1].top, crop(k)[1].left) for k in range(40)}
    assert len(places) > 15
    assert {p[0] for p in places} <= set(range(11))
    assert np.array_equal(crop(3)[0], crop(3)[0])


def test_pad_puts_the_photo_into_zeros(photo, rng):
    image, how = fitted(photo, (34, 61), rng, fit="pad")
    np.testing.assert_allclose(image[2:32, 5:55] * how.scale, photo, rtol=1e-6)
    assert (image[:2] == 0).all()
    assert (image[:, 55:] == 0).all()
    assert (how.top, how.left) == (-2, -5)


def test_resize_covers_the_matrix_and_keeps_the_aspect(rng):
    photo = np.ones((30, 50), np.float32)
    photo[:, :25] = 0.5
    image, how = fitted(photo, (60, 60), rng, fit="resize")
    assert how.resized == 2.0
    assert image.shape == (60, 60)
    np.testing.assert_allclose(image[:, :20] * how.scale, 0.5, atol=0.02)
    np.testing.assert_allclose(image[:, 40:] * how.scale, 1, atol=0.02)


@pytest.mark.parametrize(
    ("options", "matrix", "message"),
    [
        ({}, (40, 40), "'pad' or 'resize'"),
        ({"fit": "pad"}, (20, 60), "'crop' or 'resize'"),
        ({"fit": "resize"}, (200, 200), "enlarged 6.7 times"),
    ],
)
def test_what_does_not_fit_is_rejected(photo, rng, options, matrix, message):
    with pytest.raises(SourceRejectedError, match=message):
        fitted(photo, matrix, rng, **options)


def test_a_black_part_is_rejected(photo, rng):
    photo[5:25, 5:45] = 0
    with pytest.raises(SourceRejectedError, match="black"):
        fitted(photo, (20, 40), rng)


def test_readout_rows_of_the_paper():
    readout = Readout(320, 640)
    assert readout.image_rows == slice(161, 481)  # 161 rows before, 159 after
    assert Readout(320, 320).image_rows == slice(0, 320)


@pytest.mark.parametrize(("rows", "samples"), [(320, 640), (9, 18), (10, 30), (7, 7)])
def test_crop_is_adjoint_of_pad(rows, samples, rng):
    readout = Readout(rows, samples)
    x, y = complex_normal(rng, 3, rows, 5), complex_normal(rng, 3, samples, 5)
    assert_adjoint(readout.pad, readout.crop, x, y)
    np.testing.assert_array_equal(readout.crop(readout.pad(x)), x)


def test_inverted_contrast_keeps_the_air_dark(rng):
    photo = np.zeros((20, 20), np.float32)
    photo[5:15, 5:10], photo[5:15, 10:15] = 0.2, 1.0
    image, how = fitted(photo, (20, 20), rng, contrast="inverted")
    np.testing.assert_allclose(image[7, 7], 1.0)
    np.testing.assert_allclose(image[7, 12], 0.1 / 0.9, rtol=1e-5)
    assert image[:5].max() == 0
    assert how.scale == pytest.approx(0.9)


def test_an_outline_is_an_ellipse_with_air_around(rng):
    photo = np.ones((60, 80), np.float32)
    image, how = fitted(photo, (60, 80), rng, outline="ellipse")
    drawn = how.outline
    area = image.sum() / image.size
    assert area == pytest.approx(np.pi * drawn.half_height * drawn.half_width, rel=0.02)
    y, x = (np.average(np.arange(n) + 0.5, weights=image.sum(1 - a)) / n - 0.5 for a, n in enumerate(image.shape))
    assert (y, x) == (pytest.approx(drawn.y, abs=5e-3), pytest.approx(drawn.x, abs=5e-3))
    assert how.numbers()["outline_half_width"] == drawn.half_width
    assert image.max() == 1
    assert (image[[0, -1]] > 0).mean() < 0.5
    rimmed = Outline(y=0, x=0, half_height=0.4, half_width=0.4, angle_rad=0, rim=3, rim_width=0.2).apply(photo)
    assert rimmed[30, 40] == pytest.approx(1)  # the photo inside
    assert rimmed[30].max() == pytest.approx(3)  # three times its mean in the rim
    assert rimmed[30, 8 : 8 + 5].mean() > 2  # which lies just inside the edge, 8 pixels from the border
    assert rimmed[0].max() == 0
    assert 0.5 <= fitted(photo, (60, 80), rng, outline="rimmed")[1].outline.rim <= 5
    assert "outline_y" not in fitted(photo, (60, 80), rng)[1].numbers()


def test_zoom_enlarges_a_part(photo, rng):
    plain, how = fitted(photo, (20, 40), rng, fit="resize")
    image, zoomed = fitted(photo, (20, 40), rng, fit="resize", zoom=(2.0, 2.0))
    assert zoomed.resized == pytest.approx(2 * how.resized)
    halved = image.reshape(10, 2, 20, 2).mean(axis=(1, 3))
    assert np.corrcoef(halved.ravel(), plain[5:15, 10:30].ravel())[0, 1] > 0.95  # the middle, twice as large
    assert len({fitted(photo, (20, 40), rng, fit="resize", zoom=(1, 3))[1].resized for _ in range(4)}) == 4
    with pytest.raises(ValueError, match="zoom needs fit"):
        TargetSpec(matrix=(20, 40), fit="crop", zoom=(1, 2))
    with pytest.raises(SourceRejectedError, match=r"a smaller target\.zoom"):
        fitted(photo, (20, 40), rng, fit="resize", zoom=(20.0, 20.0))
