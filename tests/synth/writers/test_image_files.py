import numpy as np
import pytest

from synth.writers.image_files import write_dicom, write_nifti

VOLUME = np.random.default_rng(0).random((3, 20, 16)).astype(np.float32)


def test_nifti_has_the_pixels_where_viewers_look(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    write_nifti(VOLUME, tmp_path / "i.nii", (200.0, 80.0))
    image = nibabel.load(tmp_path / "i.nii")
    assert image.shape == (16, 20, 3)
    assert image.header.get_zooms() == (5.0, 10.0, 1.0)  # x, y, slice
    assert np.array_equal(image.get_fdata(dtype=np.float32)[4, 7, 2], VOLUME[2, 7, 4])
    assert int(image.header["qform_code"]) == int(image.header["sform_code"]) == 0
    assert b"not for diagnosis" in image.header["descrip"].tobytes()


def test_dicom_is_a_secondary_capture_of_research(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    write_dicom(VOLUME, tmp_path / "d", "photos-1", (200.0, 80.0))
    files = sorted((tmp_path / "d").iterdir())
    assert [f.name for f in files] == ["slice-000.dcm", "slice-001.dcm", "slice-002.dcm"]
    for image, file in zip(VOLUME, files, strict=True):
        one = pydicom.dcmread(file)
        assert one.SOPClassUID.name == "Secondary Capture Image Storage"
        grey = one.pixel_array * float(one.RescaleSlope)
        assert grey == pytest.approx(image, abs=0.51 * float(one.RescaleSlope))
        assert list(one.PixelSpacing) == [10.0, 5.0]  # of rows, of columns
        assert "not for diagnosis" in one.SeriesDescription
        assert one.PatientID == "none"
    again = [f.read_bytes() for f in files]
    write_dicom(VOLUME, tmp_path / "d", "photos-1", (200.0, 80.0))
    assert [f.read_bytes() for f in files] == again


def test_black_images_are_written_too(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    write_dicom(np.zeros((1, 8, 8), np.float32), tmp_path, "x")
    assert not pydicom.dcmread(tmp_path / "slice-000.dcm").pixel_array.any()
