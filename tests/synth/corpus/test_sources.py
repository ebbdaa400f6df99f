"""Sources of pairs, their slices and subjects."""

from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np

from synth.corpus.sources import Source, file_of, named_sources, slice_of, sources_of


def test_slices_and_files_by_name():
    assert [slice_of(name) for name in ("a/head.nii.gz#12", "b.h5#3@15x640x368", "photo#3.png", "p.png")] == [
        *(12, 3),
        *(None, None),
    ]
    assert file_of("b.h5#3@15x640x368") == "b.h5"
    assert Source("head.nii#4").slice == 4


def test_sources_of_a_corpus(corpus):
    found = sources_of(corpus)
    assert [found[k].name for k in range(10)] == [f"photo{k % 6}.png" for k in range(10)]
    assert found[0].sha256 == found[6].sha256 != found[1].sha256
    assert {source.subject for source in found.values()} == {""}


def test_subjects_come_from_headers_and_from_bids(tmp_path):
    """Two files of one patient are one subject, whose identifier is not kept; a file that is gone has none."""
    names = [
        "one.h5#0@1x4x4",
        "two.h5#0@1x4x4",
        "three.h5#1@1x4x4",
        "sub-07/anat/sub-07_T2w.nii.gz#3",
        "gone.h5#0@1x4x4",
    ]
    for name, patient in (("one.h5", "Miller"), ("two.h5", "Miller"), ("three.h5", "Smith")):
        with h5py.File(tmp_path / name, "w") as file:
            file["kspace"] = np.zeros((2, 1, 4, 4), np.complex64)
            file.attrs["patient_id"] = patient
    recipe = SimpleNamespace(source=SimpleNamespace(folder=Path(tmp_path)))
    plan = SimpleNamespace(file_of=lambda k: names[k % 5], recipe=recipe)
    found = named_sources(plan, {k: f"{k % 5}" for k in range(6)})
    subjects = [found[k].subject for k in range(6)]
    assert subjects == ["patient 1", "patient 1", "patient 2", "sub-07", "", "patient 1"]
