"""Siemens raw data, written by hand as the format has it."""

import struct

import numpy as np

from synth.scans.open import open_scan

ENDS, PHASE_CORRECTION, REFERENCE, REFERENCE_AND_IMAGE, REFLECTED, NOISE = 0, 21, 22, 23, 24, 25


def acquisition(values, line=0, average=0, *bits, centre_line=8, number=0, cut=(0, 0), centre=None, off_centre=0.0):
    """A VD acquisition of values [coil sample]."""
    head = bytearray(192)
    coils, samples = values.shape
    struct.pack_into("<I", head, 0, 192 + coils * (32 + 8 * samples))
    struct.pack_into("<Q", head, 40, sum(1 << bit for bit in bits))
    struct.pack_into("<HH", head, 48, samples, coils)
    struct.pack_into("<HHH", head, 52, line, average, number)
    struct.pack_into("<HHH", head, 80, *cut, samples // 2 if centre is None else centre)
    struct.pack_into("<f", head, 88, off_centre)
    struct.pack_into("<H", head, 96, centre_line)
    return bytes(head) + b"".join(bytes(32) + v.astype(np.complex64).tobytes() for v in values)


def measurement(*acquisitions, text=""):
    header = (struct.pack("<II", 64 + len(text), 0) + b"\n" + text.encode()).ljust(64 + len(text), b"\0")
    return header + b"".join(acquisitions) + acquisition(np.zeros((1, 16)), 0, 0, ENDS)


def write(path, *measurements):
    start, entries, body = 10240, b"", b""
    for data in measurements:
        entries += struct.pack("<IIQQ", 1, 1, start + len(body), len(data)) + bytes(128)
        body += data
    path.write_bytes((struct.pack("<II", 0, len(measurements)) + entries).ljust(start, b"\0") + body)
    return path


def lines(kspace, *bits, **options):
    return [acquisition(kspace[:, :, x], x, 0, *bits, **options) for x in range(kspace.shape[-1])]


def opened(path, *acquisitions, text=""):
    return open_scan(write(path, measurement(*acquisitions, text=text)))
