import h5py
import numpy as np
import pytest
from scan_files import header, refused

from synth.physics import fft2c, ifft2c
from synth.scans.open import open_scan
from synth.scans.readers.hdf5 import strip_of


def test_fastmri_with_its_padding_and_oversampling(tmp_path, kspace):
    """As fastMRI's files: the encoded width padded with zeros on both sides, the readout twice oversampled."""
    wide = np.zeros((3, 4, 48, 28), np.complex64)
    image = np.zeros((3, 4, 48, 20), np.complex64)
    image[:, :, 12:36] = ifft2c(kspace)  # in the middle
    wide[..., 4:24] = fft2c(image)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["kspace"], file["ismrmrd_header"] = wide, header(encoded=(48, 28))
    scan = open_scan(tmp_path / "f.h5")
    assert (scan.padding, scan.oversampling, scan.shape) == ((4, 4), 2, (3, 4, 24, 20))
    assert not any("zero" in note for note in scan.notes)  # 8 of 28 columns are padding, and are removed
    assert scan.field_of_view_mm == (200, 200)
    np.testing.assert_allclose(scan[2], kspace[2], atol=1e-5)
    assert scan.as_stored(0).shape == (4, 48, 28)


@pytest.mark.parametrize(
    ("left", "right", "columns"), [(4, 4, 28), (5, 4, 28), (4, 5, 28), (4, 4, 29), (3, 9, 40), (0, 7, 30)]
)
def test_stripping_keeps_the_centre(left, right, columns):
    a, b = strip_of(left, right, columns)
    assert a <= left
    assert b <= right
    assert columns // 2 - a == (columns - a - b) // 2
    assert a + b >= 2 * min(left, right) - 1


def test_hdf5_never_leads_out_of_the_file(tmp_path, kspace):
    np.save(tmp_path / "secret.npy", kspace)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["kspace"] = kspace
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["kspace"] = h5py.ExternalLink("other.h5", "/kspace")
    refused(tmp_path / "link.h5", "link to another file")
    with h5py.File(tmp_path / "storage.h5", "w") as file:
        file.create_dataset(
            "kspace", kspace.shape, np.complex64, external=[(tmp_path / "secret.npy", 0, kspace.nbytes)]
        )
    refused(tmp_path / "storage.h5", "stored in another file")
    layout = h5py.VirtualLayout(kspace.shape, np.complex64)
    layout[...] = h5py.VirtualSource(tmp_path / "other.h5", "kspace", kspace.shape)
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("kspace", layout)
    refused(tmp_path / "virtual.h5", "stored in another file")
