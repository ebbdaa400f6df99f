"""Right scans give no finding; each kind of wrong one gives one, whose remedy mends it."""

import numpy as np
import pytest
from conftest import shared
from properties import complex_normal

from synth.physics import fft2c, ifft2c, ifftc
from synth.scans.centring import centring_notes
from synth.scans.open import open_scan

REAL = {
    "brain_8ch_bart/full.cfl": 1,
    "brain_8ch_bart/und2x2.cfl": 1,
    "brain_mprage_4ch/MPRAGE_multi_channel.mat": 1,
    "brain_t2_1ch/T2_single_channel.mat": 1,
    "brain_prescan_16ch/preScanRefData.npy": 1,
    "head_tse_2ch_32sl/kdata_body.mat": 32,
    "phantom_gre_siemens/gre.dat": 1,
}


def scan_of(rng, coils=4, shape=(96, 80), snr=100.0):
    """Noisy k-space [coil y x] of an uneven ellipse that fills 0.8 of y and 0.7 of x, with coils beside it."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n, endpoint=False) for n in shape), indexing="ij")
    image = ((y / 0.8) ** 2 + (x / 0.7) ** 2 < 1) * (1 + 0.3 * x + 0.5 * ((y - 0.2) ** 2 + x**2 < 0.06))
    angles = 2 * np.pi * np.arange(coils) / coils
    maps = [np.exp(-((y - np.sin(a)) ** 2 + (x - np.cos(a)) ** 2) / 2 + 1j * a) for a in angles]
    return fft2c((snr * image * np.array(maps)).astype(np.complex64)) + complex_normal(rng, coils, *shape)


def alternated(kspace, axis):
    """K-space times (-1)^index along an axis: the image is shifted by half of it."""
    return kspace * np.expand_dims((-1.0) ** np.arange(kspace.shape[axis]), tuple({0, 1, 2} - {axis})).astype(
        np.float32
    )


def findings(kspace):
    """Notes about what is wrong, without those about what cannot be known."""
    return [note for note in centring_notes(kspace) if "cannot be seen" not in note]


@pytest.mark.parametrize("coils", [1, 4, 32])
@pytest.mark.parametrize("shape", [(96, 80), (33, 47), (16, 12)])
def test_right_scans_give_no_finding(rng, coils, shape):
    kspace = scan_of(rng, coils, shape)
    partial, regular = kspace.copy(), kspace.copy()
    partial[..., : shape[1] // 4] = 0
    regular[..., np.arange(shape[1]) % 3 > 0] = 0
    for case in (kspace, 1e-25 * kspace, 1e25 * kspace, partial, partial.swapaxes(1, 2), np.roll(kspace, 2, 2)):
        assert findings(case) == []
    assert findings(regular) == findings(kspace[:, 4:-4]) == []
    assert min(shape) < 32 or centring_notes(kspace) == []


def test_an_object_that_fills_the_field_of_view_hides_a_shift(rng):
    (note,) = centring_notes(fft2c(ifft2c(scan_of(rng))[:, :, 24:-24]))
    assert note.startswith(
        "its image along x is as bright at both ends as in the middle: whether it is shifted by half"
    )


@pytest.mark.parametrize("name", REAL)
def test_real_scans_give_no_finding(name):
    scan = open_scan(shared(f"scans/{name}"))
    assert len(scan) == REAL[name]
    assert not any("centre" in note or "shifted" in note or "peak" in note for note in scan.notes)
    for number in range(len(scan)):
        kspace = scan.without_padding(number)
        for part in (kspace, kspace[:1], kspace[-1:]):
            assert findings(part) == []


@pytest.mark.parametrize("name", REAL)
def test_real_scans_stored_wrongly_are_found(name):
    scan = open_scan(shared(f"scans/{name}"))
    kspace = scan.without_padding(len(scan) // 2)
    wrong = {
        "peak lies": (np.fft.ifftshift(kspace, axes=(1, 2)), np.roll(kspace, kspace.shape[2] // 7, 2)),
        "along y and x it looks like an image": (ifft2c(kspace), np.fft.ifft2(kspace)),
        "along y it looks like an image": (ifftc(kspace, (1,)),),
        "bright at both ends along x": (alternated(kspace, 2),),
        "bright at both ends along y and x": (alternated(alternated(kspace, 1), 2),),
    }
    for told, cases in wrong.items():
        for case in cases:
            assert any(told in note for note in centring_notes(case.astype(np.complex64))), told


def test_a_peak_14_of_96_columns_off_is_told_with_the_shift_that_mends_it(rng):
    kspace = scan_of(rng, shape=(80, 96))
    (note,) = centring_notes(np.roll(kspace, 14, 2))
    assert "peak lies at y, x = 40, 62, not in its middle 40, 48" in note
    assert "np.roll(kspace, (0, -14), axes of y and x)" in note
    (note,) = centring_notes(np.fft.ifftshift(kspace, axes=(1, 2)))
    assert "peak lies at y, x = 0, 0, not in its middle 40, 48" in note
    assert "np.roll(kspace, (40, 48), axes of y and x)" in note
    np.testing.assert_array_equal(np.roll(np.fft.ifftshift(kspace, axes=(1, 2)), (40, 48), (1, 2)), kspace)
    (note,) = centring_notes(np.roll(np.fft.ifftshift(kspace, axes=(1, 2)), (1, -1), (1, 2)))  # an echo is never exact
    assert "np.roll(kspace, (40, 48), axes of y and x)" in note


def test_an_image_and_half_a_field_of_view_are_told_with_what_mends_them(rng):
    kspace = scan_of(rng)
    (note,) = centring_notes(ifft2c(kspace))
    call = "np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(a, axes), axes=axes, norm='ortho'), axes), axes of y and x"
    assert call in note
    assert "--axes" in note
    a, axes = ifft2c(kspace), (1, 2)
    mended = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(a, axes), axes=axes, norm="ortho"), axes)
    np.testing.assert_allclose(mended, kspace, atol=1e-4 * np.abs(kspace).max())
    (note,) = centring_notes(alternated(kspace, 1))
    assert note.endswith("multiply k-space by (-1)^index along y")
    # what np.fft.fft2 gives of a centred image: both faults
    assert len(centring_notes(np.fft.fft2(a).astype(np.complex64))) == 2


@pytest.mark.parametrize("coils", [1, 32])
@pytest.mark.parametrize("shape", [(8, 8), (64, 64)])
def test_where_it_cannot_be_known_a_note_says_so(rng, coils, shape):
    (note,) = centring_notes(complex_normal(rng, coils, *shape))
    assert note == "its k-space has no peak above the noise: whether its centre is in the middle cannot be seen"


def test_the_middle_slice_is_looked_at_when_a_scan_is_opened(rng, tmp_path):
    slices = np.stack([complex_normal(rng, 4, 96, 80), scan_of(rng), complex_normal(rng, 4, 96, 80)])
    np.save(tmp_path / "right.npy", slices)
    np.save(tmp_path / "wrong.npy", np.fft.ifftshift(slices, axes=(2, 3)))
    axes = "slice coil y x"
    assert open_scan(tmp_path / "right.npy", axes=axes).notes == ()
    (note,) = open_scan(tmp_path / "wrong.npy", axes=axes).notes
    assert "peak lies at y, x = 0, 0" in note
