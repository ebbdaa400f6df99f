import contextlib
import json
import shutil

import h5py
import numpy as np
import pydicom
import pytest
from conftest import recipe_data, write_photos
from typer.testing import CliRunner

from pipelines.cli.app import app
from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.corpus.leakage import shared_sources
from pipelines.public_data.splits import parse_parts, split, subjects_of
from synth.errors import ImageFileError, ScanError
from synth.recipe import parse_recipe
from synth.sources.patients import patient_of
from synth.sources.photos import ImagesSpec

run = CliRunner().invoke


@pytest.fixture
def patients(tmp_path):
    """Eight patients, three photographs each."""
    for number in range(8):
        write_photos(tmp_path / "data" / f"p{number:02d}", count=3, size=(60, 72), first=3 * number)
    return tmp_path / "data"


def split_of(folder, *more):
    return run(app, ["manifest", "split", str(folder), *more])


def files_in(path):
    return [line for line in path.read_text().splitlines() if not line.startswith("#")]


def test_no_patient_is_in_two_parts_and_a_list_is_a_source(patients, tmp_path):
    made = split_of(patients, "--parts", "train=0.75,test=0.25", "--by", "folder")
    assert made.exit_code == 0, made.output
    assert "8 subjects" in made.output
    train, test = (files_in(patients / f"{name}.txt") for name in ("train", "test"))
    assert (len(train), len(test)) == (18, 6)
    assert not {name.split("/")[0] for name in train} & {name.split("/")[0] for name in test}
    assert split_of(patients, "--parts", "train=0.75,test=0.25", "--by", "folder").exit_code == 0  # the same again
    other = split_of(patients, "--parts", "train=0.75,test=0.25", "--by", "folder", "--seed", "1")
    assert "is there already with another content" in other.output
    listed = ImagesSpec(kind="images", path=str(patients / "test.txt"))
    assert listed.list_files() == test
    data = recipe_data(patients, pairs=None, source={"kind": "images", "path": str(patients / "test.txt")})
    assert build(parse_recipe(data, "t"), tmp_path / "c.zarr", ClusterSpec("sync")).pairs == 6


def test_the_same_picture_under_two_names_is_told(patients):
    shutil.copy(
        patients / "p00" / sorted(p.name for p in (patients / "p00").iterdir())[0], patients / "p05" / "again.png"
    )
    found = [split_of(patients, "--parts", f"a{k}=0.5,b{k}=0.5", "--by", "folder", "--seed", str(k)) for k in range(6)]
    apart = [("problem: leakage" in made.output, made.exit_code) for made in found]
    assert set(apart) == {(True, 1), (False, 0)}  # by chance both in one part, or one in each


def test_corpora_of_the_same_pictures_leak(patients, tmp_path):
    """Sources are compared by content: a copy under another name is found."""
    copied = tmp_path / "copied"
    write_photos(copied, count=2, size=(60, 72), first=100)

    def built(name, folder):
        data = recipe_data(folder, pairs=None, source={"kind": "images", "path": str(folder)})
        build(parse_recipe(data, "t"), tmp_path / name, ClusterSpec("sync"))
        return tmp_path / name

    a, apart = built("a.zarr", patients), built("apart.zarr", copied)
    shutil.copy(patients / "p01" / "photo2.png", copied / "other-name.png")
    b = built("b.zarr", copied)
    assert shared_sources(a, b) == ["p01/photo2.png"]
    assert shared_sources(b, a) == ["other-name.png"]
    made = run(app, ["leakage", str(a), str(b)])
    assert made.exit_code == 1
    assert "shares 1 source with" in made.output
    assert json.loads(run(app, ["leakage", str(a), str(b), "--json"]).stdout) == {str(b): ["p01/photo2.png"]}
    itself = run(app, ["leakage", str(a), str(a)]).stdout
    assert itself.count("\n") == 12
    assert itself.endswith(f"{len(shared_sources(a, a)) - 10} more; --json lists all\n")
    assert run(app, ["leakage", str(a), str(apart)]).exit_code == 0
    assert "is not a corpus" in run(app, ["leakage", str(a), str(copied)]).output


@pytest.mark.parametrize(("by", "subjects"), [("file", 24), ("folder", 8), (r"p(\d)\d/", 1), (r"p\d(\d)", 8)])
def test_subjects(patients, by, subjects):
    assert len(subjects_of(patients, by)) == subjects


def mrd_of(path, patient):
    """An MRD file whose header names a patient, or no patient."""
    subject = f"<subjectInformation><patientID>{patient}</patientID></subjectInformation>" if patient else ""
    with h5py.File(path, "w") as file:
        file["dataset/xml"] = [f'<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">{subject}</ismrmrdHeader>']
        file["dataset/data"] = np.zeros(1, [("head", "<u2"), ("data", "<f4")])


def test_patients_are_found_in_headers(tmp_path):
    """Two files of each of six patients, in three formats, with names that do not show the patient."""
    for number in range(4):
        with h5py.File(tmp_path / f"scan-{number}.h5", "w") as file:
            file["kspace"] = np.ones((1, 2, 8, 8), np.complex64)
            file.attrs["patient_id"] = f"fastmri-{number // 2}"
        mrd_of(tmp_path / f"raw-{number}.mrd", f"mrd-{number // 2}")
        picture = pydicom.Dataset()
        picture.PatientID, picture.SOPClassUID = f"dicom-{number // 2}", pydicom.uid.MRImageStorage
        picture.SOPInstanceUID = pydicom.uid.generate_uid()
        picture.file_meta = pydicom.dataset.FileMetaDataset()
        picture.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        picture.save_as(tmp_path / f"picture-{number}.dcm", enforce_file_format=True)
    found = subjects_of(tmp_path, "patient")
    assert sorted(found) == [f"{kind}-{n}" for kind in ("dicom", "fastmri", "mrd") for n in (0, 1)]
    assert found["mrd-1"] == ["raw-2.mrd", "raw-3.mrd"]
    made = split_of(tmp_path, "--by", "patient", "--parts", "train=0.5,test=0.5")
    assert made.exit_code == 0, made.output
    assert "mrd-1" not in (tmp_path / "train.txt").read_text() + (tmp_path / "test.txt").read_text()


def test_a_header_that_names_nobody_or_is_damaged_is_told(patients, tmp_path):
    assert "the header of p00/photo0.png names no patient" in split_of(patients, "--by", "patient").output
    (tmp_path / "scans").mkdir()
    mrd_of(tmp_path / "scans" / "a.mrd", None)
    assert "the header of a.mrd names no patient" in split_of(tmp_path / "scans", "--by", "patient").output
    with h5py.File(tmp_path / "scans" / "a.mrd", "a") as file:
        file["dataset/xml"][...] = "<ismrmrdHeader"
    assert "is not XML" in split_of(tmp_path / "scans", "--by", "patient").output
    with h5py.File(tmp_path / "scans" / "a.mrd", "w") as file:
        file["dataset/xml"] = h5py.ExternalLink("/etc/passwd", "/x")
    assert "is a link to another file" in split_of(tmp_path / "scans", "--by", "patient").output
    (tmp_path / "scans" / "a.mrd").rename(tmp_path / "scans" / "a.dcm")
    damaged = split_of(tmp_path / "scans", "--by", "patient")
    assert "a.dcm: is not a DICOM file" in damaged.output
    assert "Traceback" not in damaged.output


@pytest.mark.parametrize(
    ("value", "patient"),
    [
        *[("p 7 ", "p 7"), (b"p7", "p7"), (7, "7"), (np.array(["p7"], "S4"), "p7")],
        *[(value, None) for value in ("", h5py.Empty("S4"), 1.5, np.array([1, 2]), np.zeros(0))],
    ],
)
def test_attributes_of_any_kind(value, patient, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["patient_id"] = value
    assert patient_of(tmp_path / "a.h5") == patient


def test_an_empty_attribute_leaves_it_to_the_header_and_two_patients_are_refused(tmp_path):
    mrd_of(tmp_path / "a.mrd", "anna")
    with h5py.File(tmp_path / "a.mrd", "a") as file:
        file["z/xml"] = 5  # no header: nothing beside it has heads
        file.attrs["patient_id"] = ""
    assert patient_of(tmp_path / "a.mrd") == "anna"
    with h5py.File(tmp_path / "a.mrd", "a") as file:
        file["ismrmrd_header"] = file["dataset/xml"][0].replace(b"anna", b"otto")
    with pytest.raises(ScanError, match="name 2 patients"):
        patient_of(tmp_path / "a.mrd")


def test_damaged_headers_raise_one_kind_of_error(tmp_path):
    mrd_of(tmp_path / "whole.mrd", "anna")
    whole, random = (tmp_path / "whole.mrd").read_bytes(), np.random.default_rng(5)
    for number in range(16):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 3):
            damaged[place] ^= int(random.integers(1, 256))
        (tmp_path / "a.mrd").write_bytes(damaged[: len(whole) // 2] if number % 8 == 0 else damaged)
        with contextlib.suppress(ScanError):
            patient_of(tmp_path / "a.mrd")
    picture = pydicom.Dataset()
    picture.add_new(0x00100020, "SQ", [pydicom.Dataset()])
    picture.save_as(tmp_path / "odd.dcm", implicit_vr=False, little_endian=True)
    with contextlib.suppress(ImageFileError):
        assert patient_of(tmp_path / "odd.dcm") is None


def test_a_link_that_leads_nowhere_is_named_before_anything_is_written(patients):
    (patients / "p00" / "lost.png").symlink_to(patients / "nowhere.png")
    made = split_of(patients, "--by", "folder")
    assert made.exit_code == 1
    assert "lost.png is a link that leads nowhere" in made.output
    assert not list(patients.glob("*.txt"))


def test_shares():
    assert parse_parts("train=0.8, test=0.2") == {"train": 0.8, "test": 0.2}
    parts = split({f"s{k}": [f"s{k}/a", f"s{k}/b"] for k in range(10)}, {"a": 0.5, "b": 0.3, "c": 0.2}, 3)
    assert {name: len(files) for name, files in parts.items()} == {"a": 10, "b": 6, "c": 4}
    assert len({file for files in parts.values() for file in files}) == 20


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--parts", "train"], "write shares such as"),
        (["--parts", "train=0.5,test=0.4"], "add up to 1"),
        (["--parts", "train=nan,test=1"], "add up to 1"),
        (["--parts", "../train=0.5,test=0.5"], "letters, digits"),
        (["--by", "("], "is not a regular expression"),
        (["--by", "q[0-9]"], "finds no subject in"),
        (["--by", "folder", "--parts", "a=0.99,b=0.01"], "leave no subject for b"),
    ],
)
def test_what_cannot_be_split(patients, more, message):
    made = split_of(patients, *more)
    assert made.exit_code != 0
    assert message in made.output
    assert "Traceback" not in made.output
    assert not list(patients.glob("*.txt"))
