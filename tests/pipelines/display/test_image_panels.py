import numpy as np
from PIL import Image

from pipelines.display.image_panels import GAP, SIDE, TITLE, Panel, draw_rows


def drawn(path, rows):
    draw_rows(rows, path)
    return np.asarray(Image.open(path))


def test_grey_values_frames_and_titles(tmp_path):
    """Values from 0 to `top` become 0 ... 255; NaN is black; pixels are enlarged without interpolation."""
    panel = Panel("half $\\alpha$", np.array([[0.0, 1.0], [2.0, np.nan]]), 2.0, frame=(0, 0, 1, 1))
    sheet = drawn(tmp_path / "a.png", [[panel]])
    assert sheet.shape == (GAP + TITLE + SIDE + GAP, GAP + SIDE + GAP)
    image = sheet[GAP + TITLE : GAP + TITLE + SIDE, GAP : GAP + SIDE]
    quarter = SIDE // 4
    assert [image[y, x] for y in (quarter, 3 * quarter) for x in (quarter, 3 * quarter)] == [0, 128, 255, 0]
    assert (image[0, : SIDE // 2] == 255).all()  # the frame
    assert (sheet[GAP : GAP + TITLE] < 128).any()  # the title


def test_long_rows_go_on_in_the_next_line(tmp_path):
    row = [Panel(f"{k}", np.ones((4, 8)), 1.0) for k in range(14)]
    sheet = drawn(tmp_path / "a.png", [row, row[:3]])
    assert sheet.shape == (3 * (TITLE + SIDE // 2 + GAP) + GAP, 7 * (SIDE + GAP) + GAP)


def test_the_same_panels_give_the_same_bytes(tmp_path, rng):
    row = [Panel("noise", rng.random((32, 24)), 1.0)]
    draw_rows([row], tmp_path / "a.png")
    draw_rows([row], tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
