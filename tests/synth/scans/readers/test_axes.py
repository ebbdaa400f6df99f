import numpy as np
import pytest
import scipy.io
from properties import complex_normal

from synth.errors import ScanError
from synth.scans.open import open_scan


def note_of(path, stored, suffix):
    if suffix == "npy":
        np.save(path.with_suffix(".npy"), stored)
    else:
        scipy.io.savemat(path.with_suffix(".mat"), {"k": stored})
    scan = open_scan(path.with_suffix(f".{suffix}"))
    (note,) = (n for n in scan.notes if "guessed" in n)
    return scan.shape, note


def test_the_guess_is_told_with_the_sizes_and_the_alternatives(tmp_path, rng):
    shape, note = note_of(tmp_path / "a", complex_normal(rng, 8, 96, 80), "npy")
    assert shape == (1, 8, 96, 80)
    assert note == (
        "axes were guessed as 'coil y x', which gives slices: 1, coils: 8, image: 96x80; --axes 'y x coil' would give "
        "slices: 1, coils: 80, image: 8x96"
    )


@pytest.mark.parametrize(
    ("suffix", "stored", "order", "shape"),
    [
        ("npy", (200, 160, 4), "y x coil", (1, 4, 200, 160)),
        ("mat", (4, 200, 160), "coil y x", (1, 4, 200, 160)),
        ("mat", (5, 4, 200, 160), "slice coil y x", (5, 4, 200, 160)),
        ("mat", (200, 4, 160), "y coil x", (1, 4, 200, 160)),
        ("npy", (200, 4, 160), "y coil x", (1, 4, 200, 160)),
    ],
)
def test_the_only_order_that_fits_is_taken_and_told(tmp_path, rng, suffix, stored, order, shape):
    """The format's own guess would give 160 or 200 coils, or an image of 4 rows."""
    found, note = note_of(tmp_path / "a", complex_normal(rng, *stored).astype(np.complex64), suffix)
    assert found == shape
    assert note.startswith(f"axes were guessed as '{order}'")


def test_several_orders_that_fit_are_listed(tmp_path, rng):
    """npy's guess, slice coil y x, gives an image of 9x4."""
    np.save(tmp_path / "a.npy", complex_normal(rng, 96, 80, 9, 4).astype(np.complex64))
    with pytest.raises(ScanError, match=r"cannot be guessed; give --axes 'y x slice coil' \(slices: 9, coils: 4, .*or"):
        open_scan(tmp_path / "a.npy")


def test_coils_and_slices_that_may_be_exchanged_are_told(tmp_path, rng):
    """MATLAB's guess takes the first of four axes as coils; it may be the slices."""
    shape, note = note_of(tmp_path / "a", complex_normal(rng, 3, 96, 80, 4).astype(np.complex64), "mat")
    assert shape == (4, 3, 96, 80)
    assert note.endswith("; --axes 'slice y x coil' would give slices: 3, coils: 4, image: 96x80")
    np.save(tmp_path / "b.npy", complex_normal(rng, 96, 2, 80, 3).astype(np.complex64))
    with pytest.raises(ScanError, match=r"give --axes 'y slice x coil' \(slices: 2, coils: 3, .*'y coil x slice'"):
        open_scan(tmp_path / "b.npy")
