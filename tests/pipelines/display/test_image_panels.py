import numpy as np
from PIL import Image

from pipelines.display.image_panels import (
    AMPLIFIED,
    BAR,
    COLUMNS,
    GAP,
    HEADING,
    MAP,
    SIDE,
    TITLE,
    WHITE,
    Panel,
    draw_rows,
    panels_of,
    white_of,
    worst_window,
)


def drawn(path, rows):
    draw_rows(rows, path)
    return np.asarray(Image.open(path))


def test_grey_values_frames_and_titles(tmp_path):
    """Values from 0 to `top` become 0 ... 255; NaN is black; pixels are enlarged without interpolation."""
    panel = Panel("half $\\alpha$", np.array([[0.0, 1.0], [2.0, np.nan]]), 2.0, frame=(0, 0, 1, 1))
    sheet = drawn(tmp_path / "a.png", [[panel]])
    assert sheet.shape == (GAP + TITLE + SIDE + GAP, GAP + SIDE + GAP, 3)
    image = sheet[GAP + TITLE : GAP + TITLE + SIDE, GAP : GAP + SIDE]
    quarter = SIDE // 4
    values = [list(image[y, x]) for y in (quarter, 3 * quarter) for x in (quarter, 3 * quarter)]
    assert values == [[0] * 3, [128] * 3, [255] * 3, [0] * 3]
    assert (image[0, : SIDE // 2] == (255, 210, 0)).all()  # the frame
    assert (sheet[GAP : GAP + TITLE] < 128).any()  # the title


def test_pixels_of_any_size_are_squares_of_one_size(tmp_path):
    """3 pixels on 320 have edges near 106.67 and 213.33; a larger image is averaged, so that no pixel is dropped."""
    stripes = np.array([[0.0, 1.0, 0.0]])
    line = drawn(tmp_path / "a.png", [[Panel("", stripes, 1.0)]])[GAP + TITLE + 50, GAP : GAP + SIDE, 0]
    assert set(line[:106]) | set(line[215:]) == {0}
    assert set(line[107:213]) == {255}
    fine = np.tile([0.0, 1.0], (2, SIDE))  # twice as wide as the panel
    grey = drawn(tmp_path / "b.png", [[Panel("", fine, 1.0)]])[GAP + TITLE, GAP : GAP + SIDE, 0]
    assert abs(grey.astype(int) - 127).max() <= 1


def test_long_lines_go_on_in_the_next_one_and_headings_stand_alone(tmp_path):
    row = [Panel(f"{k}", np.ones((4, 8)), 1.0) for k in range(5)]
    sheet = drawn(tmp_path / "a.png", ["slice 3", row, row[:3]])
    assert sheet.shape == (HEADING + GAP + 3 * (TITLE + SIDE // 2 + GAP) + GAP, COLUMNS * (SIDE + GAP) + GAP, 3)
    assert (sheet[GAP : GAP + HEADING] < 128).any()


def test_panels_are_wide_enough_and_three_fit_a_window_of_1000_pixels():
    assert SIDE >= 320
    assert COLUMNS * (SIDE + GAP) + GAP <= 1000 - 2 * 16


def test_colours_have_a_bar_that_ends_in_its_text(tmp_path):
    sheet = drawn(tmp_path / "a.png", [[Panel("noise", np.array([[0.0, 3.0]]), 3.0, bar="3")]])
    assert sheet.shape[0] == GAP + TITLE + SIDE // 2 + BAR + GAP
    image = sheet[GAP + TITLE : GAP + TITLE + SIDE // 2]
    np.testing.assert_array_equal(image[10, GAP + 5], MAP[0].round())
    np.testing.assert_array_equal(image[10, GAP + SIDE - 5], MAP[255].round())
    bar = sheet[GAP + TITLE + SIDE // 2 + 8, GAP + 16 : GAP + 16 + SIDE // 2].astype(int)
    np.testing.assert_allclose(bar[[0, -1]], MAP[[0, 255]], atol=2)
    assert (np.diff(bar.sum(-1)) >= 0).all()  # from dark to light


def test_white_is_a_quantile_of_the_reference_so_that_a_bright_vessel_darkens_nothing():
    """A brain of 1 to 2 with a vessel of 10 in 1 % of its pixels: white is near 2, and the same in every panel."""
    draw = np.random.default_rng(0)
    reference = np.zeros((40, 50))
    reference[:, :25] = draw.uniform(1, 2, (40, 25))
    reference[:10, 0] = 10
    assert white_of(reference) == np.quantile(reference[:, :25], WHITE)
    assert 1.9 < white_of(reference) < 2.0
    images = {"a": 0.5 * reference, "b": 7 * reference}
    (first, part, given), *others = panels_of(reference, images, given=3 * reference)
    whole = white_of(reference)
    assert [panel.top for panel in (first, part, given)] == [whole] * 3
    for line in others:
        assert [panel.top for panel in line] == [whole, whole, whole / AMPLIFIED]
        assert "5 times amplified" in line[2].title
        assert line[2].bar == "20 % of white"
    np.testing.assert_allclose(others[0][2].image, 0.5 * reference)
    assert white_of(np.zeros((4, 4))) == 1.0


def test_the_enlarged_part_is_inside_the_object_however_large_errors_in_air_are():
    inside = np.zeros((64, 64), bool)
    inside[20:60, 24:60] = True
    squares = np.full((64, 64), 0.1)
    squares[:16, :16] = 100.0  # in air
    squares[40:44, 50:54] = 5.0  # the worst place of the object
    y, x, height, width = worst_window(squares, inside)
    assert (height, width) == (24, 24)
    assert inside[y : y + height, x : x + width].mean() >= 0.9
    assert y <= 40 <= y + height - 4
    assert x <= 50 <= x + width - 4
    small = np.zeros((64, 64), bool)
    small[2:8, 2:8] = True  # smaller than the window: it is held whole
    y, x, height, width = worst_window(squares, small)
    assert small[y : y + height, x : x + width].sum() >= 0.9 * 36


def test_the_same_panels_give_the_same_bytes(tmp_path, rng):
    row = [Panel("noise", rng.random((32, 24)), 1.0)]
    draw_rows([row], tmp_path / "a.png")
    draw_rows([row], tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
