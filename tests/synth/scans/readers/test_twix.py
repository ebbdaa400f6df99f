"""Siemens raw data, written by hand as the format has it."""

import struct

import numpy as np
import pytest
from properties import complex_normal

from synth.calibration.scan_noise import calibrate
from synth.errors import ScanError
from synth.scans.open import open_scan

ENDS, REFLECTED, NOISE = 0, 24, 25


def acquisition(values, line=0, average=0, flags=0, centre_line=8):
    """A VD acquisition of values [coil sample]."""
    head = bytearray(192)
    coils, samples = values.shape
    struct.pack_into("<I", head, 0, 192 + coils * (32 + 8 * samples))
    struct.pack_into("<Q", head, 40, flags)
    struct.pack_into("<HH", head, 48, samples, coils)
    struct.pack_into("<HH", head, 52, line, average)
    struct.pack_into("<H", head, 84, samples // 2)
    struct.pack_into("<H", head, 96, centre_line)
    return bytes(head) + b"".join(bytes(32) + v.astype(np.complex64).tobytes() for v in values)


def measurement(*acquisitions):
    header = struct.pack("<II", 64, 0) + bytes(56)
    return header + b"".join(acquisitions) + acquisition(np.zeros((1, 16)), flags=1 << ENDS)


def write(path, *measurements):
    start, entries, body = 10240, b"", b""
    for data in measurements:
        entries += struct.pack("<IIQQ", 1, 1, start + len(body), len(data)) + bytes(128)
        body += data
    path.write_bytes((struct.pack("<II", 0, len(measurements)) + entries).ljust(start, b"\0") + body)
    return path


@pytest.fixture
def kspace(rng):
    return complex_normal(rng, 3, 32, 16)


def lines(kspace, **options):
    return [acquisition(kspace[:, :, x], x, **options) for x in range(16)]


def test_lines_averages_and_reflections(tmp_path, kspace):
    reflected = [acquisition(kspace[:, ::-1, x], x, 1, 1 << REFLECTED) for x in range(16)]
    scan = open_scan(write(tmp_path / "a.dat", measurement(*lines(kspace), *reflected)))
    np.testing.assert_allclose(scan.as_stored(0), kspace, rtol=1e-6)
    assert (scan.averages, scan.oversampling, scan.matrix) == (2, 2, (16, 16))


def test_noise_of_this_and_of_an_earlier_measurement(tmp_path, kspace, rng):
    noise = 0.5 * complex_normal(rng, 3, 4000)
    own = open_scan(write(tmp_path / "a.dat", measurement(acquisition(noise, flags=1 << NOISE), *lines(kspace))))
    earlier = open_scan(
        write(tmp_path / "b.dat", measurement(acquisition(noise, flags=1 << NOISE)), measurement(*lines(kspace)))
    )
    for scan in (own, earlier):
        np.testing.assert_allclose(scan.noise, noise, rtol=1e-6)
        assert calibrate(scan).mean_sigma == pytest.approx(0.5, rel=0.02)
    assert not own.notes
    assert "earlier measurement" in earlier.notes[0]


def test_damage_is_said(tmp_path, kspace):
    whole = write(tmp_path / "a.dat", measurement(*lines(kspace))).read_bytes()
    for cut in (9, 5000, 10300, len(whole) - 5000):
        (tmp_path / "cut.dat").write_bytes(whole[:cut])
        with pytest.raises(ScanError, match=r"cut\.dat"):
            open_scan(tmp_path / "cut.dat")
    with pytest.raises(ScanError, match="no imaging lines"):
        open_scan(write(tmp_path / "n.dat", measurement(acquisition(kspace[:, :, 0], flags=1 << NOISE))))
