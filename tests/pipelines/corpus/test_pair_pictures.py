import io

import numpy as np
from PIL import Image

from pipelines.corpus.pair_pictures import LINES, PairPanel


def test_a_mask_of_more_lines_than_pixels_has_no_gaps_in_its_picture():
    """Every fourth of 320 lines in about 200 pixels: each strip of the picture is as bright as the mask's mean, 1/4."""
    mask = np.broadcast_to(np.arange(320) % 4 == 0, (320, 320)).astype(float)
    picture = np.asarray(Image.open(io.BytesIO(PairPanel(mask, "", LINES).picture())).convert("L"), float) / 255
    rows, columns = picture.shape
    inside = picture[rows // 2, columns // 10 : -columns // 10]
    strips = inside[: len(inside) // 10 * 10].reshape(-1, 10).mean(axis=1)
    assert abs(inside.mean() - 0.25) < 0.03
    assert np.all(np.abs(strips - 0.25) < 0.12)
