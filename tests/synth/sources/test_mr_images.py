import numpy as np
import pytest
from conftest import recipe_data, shared

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.corpus.leakage import shared_sources
from synth.corpus.reader import open_corpus
from synth.errors import SourceRejectedError
from synth.recipe import parse_recipe
from synth.sources.photos import ImagesSpec, read_photo


@pytest.fixture
def volume(tmp_path, rng):
    nibabel = pytest.importorskip("nibabel")
    values = (200 * rng.random((60, 70, 5))).astype(np.int16)
    values[..., 0] = 0
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "head.nii.gz")
    return values


def write_dicom(path, values, **changes):
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3"
    data.Rows, data.Columns = values.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    for name, value in changes.items():
        setattr(data, name, value)
    data.PixelData = values.astype("<u2").tobytes()
    data.save_as(path, enforce_file_format=True)


def test_slices_of_a_volume_are_pictures(tmp_path, volume):
    spec = ImagesSpec(kind="images", path=str(tmp_path))
    assert spec.list_files() == [f"head.nii.gz#{k}" for k in (1, 2, 3, 4)]  # slice 0 is air
    photo = read_photo(tmp_path / "head.nii.gz#2")
    np.testing.assert_allclose(photo.image * volume[..., 2].max(), np.rot90(volume[..., 2]), atol=1e-3)
    assert photo.findings[0] == "mr-picture"
    with pytest.raises(SourceRejectedError, match="there is no slice 9"):
        read_photo(tmp_path / "head.nii.gz#9")


def test_dicom(tmp_path, rng):
    values = rng.integers(0, 4000, (40, 50))
    write_dicom(tmp_path / "a.dcm", values)
    np.testing.assert_allclose(read_photo(tmp_path / "a.dcm").image, values / values.max(), atol=1e-6)
    write_dicom(tmp_path / "b.dcm", values, NumberOfFrames=3)
    with pytest.raises(SourceRejectedError, match="several frames"):
        read_photo(tmp_path / "b.dcm")


def test_an_inverted_dicom_is_refused(tmp_path, rng):
    write_dicom(tmp_path / "i.dcm", rng.integers(0, 4000, (40, 50)), PhotometricInterpretation="MONOCHROME1")
    with pytest.raises(SourceRejectedError, match="inverted"):
        read_photo(tmp_path / "i.dcm")


def test_a_dicom_of_palette_indices_is_refused(tmp_path, rng):
    write_dicom(tmp_path / "p.dcm", rng.integers(0, 255, (40, 50)), PhotometricInterpretation="PALETTE COLOR")
    with pytest.raises(SourceRejectedError, match="colour palette"):
        read_photo(tmp_path / "p.dcm")


@pytest.mark.parametrize("name", ["text.nii", "text.nii.gz", "text.dcm"])
def test_what_is_no_picture(tmp_path, name):
    pytest.importorskip("nibabel")
    pytest.importorskip("pydicom")
    (tmp_path / name).write_bytes(b"this is text " * 100)
    with pytest.raises(SourceRejectedError, match=rf"{name}.*cannot be|{name}.*is no"):
        read_photo(tmp_path / (name if name.endswith("dcm") else f"{name}#0"))


def test_a_corpus_of_pictures(tmp_path, volume):
    data = recipe_data(tmp_path, pairs=None, source={"path": str(tmp_path)})
    made = build(parse_recipe(data, "t"), tmp_path / "c.zarr", ClusterSpec("sync"))
    assert made.pairs == 4
    for name, part in (("first", [0.0, 0.5]), ("last", [0.5, 1.0])):
        parted = {**data, "source": {**data["source"], "part": part}}
        build(parse_recipe(parted, "t"), tmp_path / f"{name}.zarr", ClusterSpec("sync"))
    assert shared_sources(tmp_path / "first.zarr", tmp_path / "last.zarr") == []
    assert len(shared_sources(tmp_path / "first.zarr", tmp_path / "c.zarr")) == 2
    assert open_corpus(tmp_path / "c.zarr").attributes["summary"]["findings"]["mr-picture"] == 4
    assert "not a scan" in (tmp_path / "c.zarr" / "README.md").read_text()


def write_nifti(path, values, declared=None, keep=None):
    """A volume; with `declared`, its header declares these axes; with `keep`, the file is cut after so many bytes."""
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    data = bytearray(path.read_bytes())
    if declared is not None:
        data[40:56] = np.array([len(declared), *declared, *[1] * (7 - len(declared))], "<i2").tobytes()
    path.write_bytes(data[:keep])


def test_volumes_that_cannot_be_used_are_rejected_by_name_and_the_others_are_used(tmp_path, volume, rng):
    plain = rng.random((60, 70, 5)).astype(np.float32)
    write_nifti(tmp_path / "four.nii", rng.random((60, 70, 5, 2)).astype(np.float32))
    write_nifti(tmp_path / "holes.nii", np.where(plain > 0.99, np.nan, plain))
    write_nifti(tmp_path / "cut.nii", plain, keep=40_000)
    write_nifti(tmp_path / "huge.nii", plain, declared=(1000, 1000, 1000), keep=352)
    write_nifti(tmp_path / "axis.nii", plain[..., None])
    (tmp_path / "bad.nii").write_bytes(b"no")
    for name, reason in {
        "four.nii": r"shape \(60, 70, 5, 2\); need three axes",
        "holes.nii": "NaN or infinite",
        "cut.nii": "has 40,000 bytes, but its header declares 84,000 bytes",
        "huge.nii": "has 352 bytes, but its header declares 4,000,000,000 bytes",
        "bad.nii": "not a NIfTI volume",
    }.items():
        with pytest.raises(SourceRejectedError, match=rf"{name}: .*{reason}"):
            read_photo(tmp_path / name)
    recipe = recipe_data(tmp_path, pairs=None, source={"path": str(tmp_path), "max_rejected": 0.5})
    made = build(parse_recipe(recipe, "t"), tmp_path / "c.zarr", ClusterSpec("sync"))
    rejected = open_corpus(tmp_path / "c.zarr").attributes["summary"]["rejected"]
    assert made.pairs == 9  # of the 4 slices of head.nii.gz that are not air, and the 5 of axis.nii
    assert [r["file"] for r in rejected] == ["bad.nii", "cut.nii", "four.nii", "holes.nii", "huge.nii"]


def test_the_real_head():
    pytest.importorskip("nibabel")
    spec = ImagesSpec(kind="images", path=str(shared("mr")))
    assert 100 < len(spec.list_files()) <= 181
    image = read_photo(spec.folder / "colin27.nii.gz#90").image
    assert image.shape == (217, 181)
    assert image[90:130, 70:110].mean() > 5 * image[:8].mean()
