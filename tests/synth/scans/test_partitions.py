"""K-space of a 3-D scan whose slices are partitions is told; slices of an object are not."""

import numpy as np
import pytest
from conftest import shared
from properties import complex_normal

from synth.physics import fft2c
from synth.scans.open import open_scan

PHRASE = "as k-space of a 3-D scan has"


def volume(slices, length=0.7):
    """An ellipsoid with texture [z y x] that fills `length` of the slices."""
    z, y, x = (np.linspace(-1, 1, n) for n in (slices, 48, 40))
    inside = (z[:, None, None] / length) ** 2 + (y[:, None] / 0.8) ** 2 + (x / 0.7) ** 2 < 1
    return inside * (1 + 0.3 * np.cos(9 * y)[:, None] * np.cos(7 * x) + 0.2 * np.sin(5 * z)[:, None, None])


def opened(tmp_path, kspace):
    np.save(tmp_path / "k.npy", kspace[:, None].repeat(2, axis=1).astype(np.complex64))
    return open_scan(tmp_path / "k.npy", axes="slice coil y x")


@pytest.mark.parametrize("slices", [16, 25, 40])
@pytest.mark.parametrize("length", [0.5, 0.9, 5.0])
def test_partitions_are_told(tmp_path, rng, slices, length):
    kspace = fft2c(volume(slices, length)) + 1e-3 * complex_normal(rng, slices, 48, 40)
    partitions = np.fft.fftshift(np.fft.fft(np.fft.ifftshift(kspace, axes=0), axis=0, norm="ortho"), axes=0)
    assert any(PHRASE in note for note in opened(tmp_path, partitions).notes)


@pytest.mark.parametrize("slices", [4, 16, 25, 40])
@pytest.mark.parametrize("length", [0.5, 0.9, 5.0])
def test_slices_are_not(tmp_path, rng, slices, length):
    kspace = fft2c(volume(slices, length)) + 1e-3 * complex_normal(rng, slices, 48, 40)
    assert not any(PHRASE in note for note in opened(tmp_path, kspace).notes)


def test_slices_of_a_real_scan_are_not():
    assert not any(PHRASE in note for note in open_scan(shared("scans/head_tse_2ch_32sl/kdata_body.mat")).notes)
