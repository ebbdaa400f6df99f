"""HDF5 files that lead out of themselves. The file outside is a pipe: a reader that opens it waits for ever."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
from scan_files import refused

from synth.scans.open import open_scan
from synth.scans.readers import hdf5_tree
from synth.scans.readers.hdf5_tree import dataset_at, datasets_of

PROGRAM = """
import sys
from pathlib import Path
from synth.scans.open import open_scan
from synth.sources.patients import patient_of
from synth.writers import WRITERS
for file in map(Path, sys.argv[1:]):
    read = {"m": lambda: WRITERS["mrd"].read(file.parent, file.stem), "p": lambda: patient_of(file)}
    try:
        read.get(file.stem[0], lambda: open_scan(file))()
        print("read", file.name)
    except ValueError as error:
        print(error)
"""


def test_no_file_outside_is_opened(tmp_path, kspace):
    outside = tmp_path / "outside.h5"
    os.mkfifo(outside)
    said = {}

    def file(name, told):
        said[tmp_path / name] = told
        return h5py.File(tmp_path / name, "w", userblock_size=512 if name.endswith(".mat") else 0)

    with file("behind.h5", "'/z/zz/e' is a link to another file") as f:  # more groups than were looked at once
        group = f.create_group("z")
        for number in range(10_001):
            group.create_group(f"g{number}")
        group.create_group("zz")["e"] = h5py.ExternalLink(outside, "/")
        f["kspace"] = h5py.SoftLink("/z/zz/e/kspace")
    for name in ("soft.h5", "soft.mat", "patient.h5"):
        with file(name, "'/zz/e' is a link to another file") as f:  # the soft link is met before the external one
            f["kspace"] = h5py.SoftLink("/zz/e/kspace")
            f.create_group("zz")["e"] = h5py.ExternalLink(outside, "/")
    with file("mrd.h5", "'/fathom/mask' is a link to another file") as f:
        f["fathom/mask"] = h5py.ExternalLink(outside, "/mask")
    with file("storage.h5", "'/kspace' is stored in another file") as f:
        f.create_dataset("kspace", kspace.shape, np.complex64, external=[(outside, 0, kspace.nbytes)])
    with file("virtual.h5", "'/kspace' is stored in another file") as f:  # of any length: the library asks the sources
        whole = h5py.h5s.UNLIMITED
        layout = h5py.VirtualLayout(kspace.shape, np.complex64, maxshape=(None, *kspace.shape[1:]))
        source = h5py.VirtualSource(outside, "kspace", kspace.shape, maxshape=(None, *kspace.shape[1:]))
        layout[0:whole] = source[0:whole]
        f.create_virtual_dataset("kspace", layout)
    done = subprocess.run([sys.executable, "-c", PROGRAM, *said], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for line, (path, told) in zip(done.stdout.splitlines(), said.items(), strict=True):
        assert line.startswith(f"{path}: {told}"), line


def test_soft_links_within_the_file_are_followed(tmp_path, kspace):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["b/kspace"] = kspace
        file["a"] = h5py.SoftLink("b")
        file["c/d"] = h5py.SoftLink("/a/./kspace")
        file["nowhere"] = h5py.SoftLink("/a/kspace/c")
        file["b/up"] = file["/"]  # a circle of hard links
    with h5py.File(tmp_path / "f.h5") as file:
        assert set(datasets_of(tmp_path, file)) == {"/b/kspace", "/c/d"}
        assert dataset_at(tmp_path, file, "b/up/a/kspace") == file["b/kspace"]
        assert dataset_at(tmp_path, file, "nowhere") is None
        assert dataset_at(tmp_path, file, "b") is None
    for name in ("a/kspace", "/b/kspace", "c/d"):
        scan = open_scan(tmp_path / "f.h5", variable=name, axes="slice coil y x")
        np.testing.assert_array_equal(scan.as_stored(1), kspace[1])


def test_circles_and_crowds_are_refused(tmp_path, kspace, monkeypatch):
    with h5py.File(tmp_path / "circle.h5", "w") as file:
        file["kspace"], file["a"], file["b"] = kspace, h5py.SoftLink("/b"), h5py.SoftLink("/a")
    refused(tmp_path / "circle.h5", "its links lead in a circle")
    with h5py.File(tmp_path / "long.h5", "w") as file:
        file["kspace"], file["self"] = kspace, file["/"]
        file["l"] = h5py.SoftLink("/".join(["self"] * 2000) + "/kspace")
    refused(tmp_path / "long.h5", "through more than 1,000 groups")
    monkeypatch.setattr(hdf5_tree, "MAX_OBJECTS", 8)
    with h5py.File(tmp_path / "crowd.h5", "w") as file:
        file["kspace"] = kspace
        for number in range(7):
            file.create_group(f"g{number}")
    assert len(open_scan(tmp_path / "crowd.h5")) == 3
    for make in (lambda f, n: f.create_group(n), lambda f, n: f.create_dataset(n, data=1)):
        with h5py.File(tmp_path / "crowd.h5", "a") as file:
            make(file, "one more")
        refused(tmp_path / "crowd.h5", "has more than 8 groups and arrays", "copy the k-space")
        with h5py.File(tmp_path / "crowd.h5", "a") as file:
            del file["one more"]


def test_a_file_that_is_replaced_is_judged_again(tmp_path, kspace):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["kspace"] = kspace
    scan = open_scan(tmp_path / "f.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["kspace"] = kspace
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["kspace"] = h5py.ExternalLink("other.h5", "/kspace")
    with pytest.raises(ValueError, match="'/kspace' is a link to another file"):
        scan[0]
