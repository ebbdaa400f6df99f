import re
import shutil
import subprocess
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
from conftest import recipe_data, shared

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.corpus.export import export, import_corpus
from pipelines.corpus.verify import verify
from recon.data.datasets import PairDataset
from synth.corpus.reader import open_corpus
from synth.corpus.tasks import finished
from synth.errors import CorpusError
from synth.physics import fft2c, ifft2c
from synth.recipe import parse_recipe
from synth.scans.open import open_scan
from synth.stages.readout import Readout
from synth.storage.corpus_files import building_path

SYNC = ClusterSpec("sync")


@pytest.fixture(scope="module")
def oversampled(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "c.zarr"
    build(parse_recipe(recipe_data(photos, target={"readout_oversampling": 2}), "t"), out, SYNC)
    return out


@pytest.fixture(scope="module")
def brain(tmp_path_factory):
    """A pair of the real brain, four times undersampled."""
    path = shared("scans/brain_8ch_bart/full.cfl")
    out = tmp_path_factory.mktemp("brain") / "brain.zarr"
    data = {
        "name": "brain",
        "source": {"kind": "scans", "path": str(path)},
        "target": {"fit": "native"},
        "coils": {"kind": "espirit"},
        "noise": {"kind": "none"},
        "sampling": {"kind": "regular", "acceleration": 2, "reference_lines": 24},
    }
    build(parse_recipe(data, "t"), out, SYNC)
    return out


@pytest.mark.parametrize("kind", ["mrd", "cfl"])
def test_there_and_back_bit_for_bit(oversampled, tmp_path, kind):
    assert export(oversampled, kind, tmp_path / "out") == 10
    content = import_corpus(tmp_path / "out", tmp_path / "back.zarr")
    assert content == open_corpus(oversampled).content_hash
    assert verify(tmp_path / "back.zarr", replay=2).intact
    for name in ("kspace", "mask", "target", "maps"):
        old, new = (open_corpus(c).buckets[0].arrays[name][...] for c in (oversampled, tmp_path / "back.zarr"))
        np.testing.assert_array_equal(old, new)


def test_fastmri_there_and_back_without_oversampling(corpus, oversampled, tmp_path):
    export(corpus, "fastmri", tmp_path / "out")
    assert import_corpus(tmp_path / "out", tmp_path / "back.zarr") == open_corpus(corpus).content_hash
    export(oversampled, "fastmri", tmp_path / "over")
    assert "rows 25 to 72 of 96" in (tmp_path / "over" / "README.md").read_text()
    with pytest.raises(CorpusError, match="without oversampling"):
        import_corpus(tmp_path / "over", tmp_path / "no.zarr")


@pytest.mark.parametrize(
    "sections", [{"kspace": "full"}, {"coils": {"count": 1}}, {"sampling": {"kind": "poisson", "reference_lines": 8}}]
)
def test_full_and_point_masks_come_back(photos, tmp_path, sections):
    build(parse_recipe(recipe_data(photos, pairs=3, **sections), "t"), tmp_path / "c.zarr", SYNC)
    export(tmp_path / "c.zarr", "cfl", tmp_path / "out")
    if "kspace" in sections:
        export(tmp_path / "c.zarr", "mrd", tmp_path / "mrd")
        assert import_corpus(tmp_path / "mrd", tmp_path / "m.zarr") == open_corpus(tmp_path / "c.zarr").content_hash
    assert import_corpus(tmp_path / "out", tmp_path / "b.zarr") == open_corpus(tmp_path / "c.zarr").content_hash
    if "sampling" in sections:
        with pytest.raises(ValueError, match="masks are of points"):
            export(tmp_path / "c.zarr", "mrd", tmp_path / "no")
        assert not list(tmp_path.glob("no*"))


def test_the_exports_are_scans_that_open(oversampled, tmp_path):
    pairs = PairDataset(oversampled, oversampled=True)
    for kind, name in (("mrd", "pair-000004.h5"), ("cfl", "pair-000004.kspace.cfl")):
        export(oversampled, kind, tmp_path / kind)
        scan = open_scan(tmp_path / kind / "pairs" / name)
        stored = pairs[4]["masked_kspace"].numpy()
        if kind == "mrd":  # an MRD's image is in its middle: one row further up
            stored = fft2c(np.roll(ifft2c(stored), -1, axis=1))
            np.testing.assert_allclose(scan.as_stored(0), stored, atol=1e-6 * np.abs(stored).max())
        else:
            np.testing.assert_array_equal(scan.as_stored(0), stored)
    assert open_scan(tmp_path / "mrd/pairs/pair-000004.h5").oversampling == 2


def read_by_the_standard(path):
    """Coil images [coil y x] of an MRD file, by its header alone: centred DFT of all samples, then the middle rows.

    As ISMRMRD's own recon_ismrmrd_dataset.py does it: the DFT's centre is `center_sample`, and the image is the middle
    of the encoded space.
    """
    with h5py.File(path) as file:
        records = file["dataset/data"][()]
        xml = re.sub(' xmlns="[^"]*"', "", file["dataset/xml"][0].decode().split("?>")[1])
    encoding = ElementTree.fromstring(xml).find("encoding")
    rows, samples = (int(encoding.find(f"{space}/matrixSize/x").text) for space in ("reconSpace", "encodedSpace"))
    columns = int(encoding.find("encodedSpace/matrixSize/y").text)
    head = records["head"][0]
    kspace = np.zeros((head["active_channels"], samples, columns), complex)
    for record in records:
        line = record["data"].view(np.complex64).reshape(len(kspace), samples)
        kspace[:, :, record["head"]["idx"]["kspace_encode_step_1"]] = line
    frequency = np.arange(samples) - int(head["center_sample"])
    place = np.arange(rows) - rows // 2
    readout = np.exp(2j * np.pi * np.outer(place, frequency) / samples) / np.sqrt(samples)
    step = np.arange(columns) - columns // 2
    phase = np.exp(2j * np.pi * np.outer(step, step) / columns) / np.sqrt(columns)
    return np.einsum("rk,ckl,lx->crx", readout, kspace, phase)


@pytest.mark.parametrize("matrix", [[48, 56], [47, 55]], ids=str)
@pytest.mark.parametrize("oversampling", [1, 2, 3])
def test_an_independent_reader_finds_the_image_of_an_mrd_where_the_header_says(photos, tmp_path, matrix, oversampling):
    target = {"matrix": matrix, "readout_oversampling": oversampling, "reference": "clean"}
    made = recipe_data(photos, target=target, pairs=1, kspace="full", noise={"kind": "none"})
    build(parse_recipe(made, "t"), tmp_path / "c.zarr", SYNC)
    export(tmp_path / "c.zarr", "mrd", tmp_path / "mrd")
    path = tmp_path / "mrd/pairs/pair-000000.h5"
    with h5py.File(path) as file:
        target, maps = file["fathom/target"][()], file["fathom/sens_maps"][()]
    for images in (read_by_the_standard(path), ifft2c(open_scan(path)[0])):
        image = np.sum(maps.conj() * images, axis=0)
        assert np.linalg.norm(image - target) < 1e-5 * np.linalg.norm(target)
    assert import_corpus(tmp_path / "mrd", tmp_path / "b.zarr") == open_corpus(tmp_path / "c.zarr").content_hash


def test_exports_of_earlier_versions_come_back(oversampled, tmp_path, monkeypatch):
    monkeypatch.setattr(Readout, "offset", 0)  # their lines were not shifted
    export(oversampled, "mrd", tmp_path / "mrd")
    monkeypatch.undo()
    with h5py.File(tmp_path / "mrd/pairs/pair-000000.h5") as file:
        assert "fathom/kspace" not in file
    assert import_corpus(tmp_path / "mrd", tmp_path / "b.zarr") == open_corpus(oversampled).content_hash


def test_ismrmrd_reads_every_acquisition(oversampled, tmp_path):
    ismrmrd = pytest.importorskip("ismrmrd")
    export(oversampled, "mrd", tmp_path / "out")
    pair = PairDataset(oversampled, oversampled=True)[0]
    dataset = ismrmrd.Dataset(str(tmp_path / "out/pairs" / "pair-000000.h5"), create_if_needed=False)
    header = ismrmrd.xsd.CreateFromDocument(dataset.read_xml_header())
    assert header.encoding[0].encodedSpace.matrixSize.x == 96
    assert dataset.number_of_acquisitions() == int(pair["mask"].sum())
    expected = fft2c(np.roll(ifft2c(pair["masked_kspace"].numpy()), -1, axis=1))
    for k in range(dataset.number_of_acquisitions()):
        line = dataset.read_acquisition(k)
        np.testing.assert_allclose(line.data, expected[:, :, line.idx.kspace_encode_step_1], atol=1e-6)
    assert line.is_flag_set(ismrmrd.ACQ_LAST_IN_SLICE)
    dataset.close()


@pytest.mark.peers
def test_fastmris_own_dataset_and_transform_read_it(corpus, tmp_path):
    mri_data = pytest.importorskip("fastmri.data.mri_data")
    transforms = pytest.importorskip("fastmri.data.transforms")
    export(corpus, "fastmri", tmp_path / "out")
    dataset = mri_data.SliceDataset(tmp_path / "out" / "pairs", "multicoil", transforms.VarNetDataTransform())
    assert len(dataset) == 10
    pairs = PairDataset(corpus)
    for k in range(10):
        sample, item = dataset[k], pairs[k]
        np.testing.assert_allclose(
            np.ascontiguousarray(sample.masked_kspace).view(np.complex64)[..., 0], item["masked_kspace"], atol=1e-6
        )
        np.testing.assert_array_equal(sample.mask.flatten().bool(), item["mask"].flatten())
        np.testing.assert_allclose(sample.target, item["target"].abs(), atol=1e-6)
        assert sample.max_value == pytest.approx(float(item["max_value"]), rel=1e-5)


def test_bart_reconstructs_the_brain_as_sigpy_does(brain, tmp_path):
    if not shutil.which("bart"):
        pytest.skip("bart is not installed")
    mri = pytest.importorskip("sigpy.mri")
    export(brain, "cfl", tmp_path / "out")
    name = tmp_path / "out/pairs" / "pair-000000"
    subprocess.run(
        ["bart", "pics", "-l2", "-r0.001", "-i200", "-w1", f"{name}.kspace", f"{name}.maps", str(tmp_path / "image")],
        check=True,
        capture_output=True,
    )
    sign = (-1) ** (230 // 2 + 180 // 2)  # pics leaves it in
    bart = sign * np.fromfile(tmp_path / "image.cfl", np.complex64).reshape((230, 180), order="F")
    item = PairDataset(brain)[0]
    kspace, maps = item["masked_kspace"].numpy(), item["sens_maps"].numpy()
    sigpy = mri.app.SenseRecon(kspace, maps, lamda=0.001, max_iter=200, show_pbar=False).run()
    assert np.linalg.norm(bart - sigpy) < 1e-3 * np.linalg.norm(sigpy)
    inside = np.abs(item["target"].numpy()) > 0.1
    error = np.linalg.norm((sigpy - item["target"].numpy())[inside]) / np.linalg.norm(item["target"].numpy()[inside])
    assert error < 0.15  # undersampled twice: noise alone is in the way


def test_nothing_of_others_is_touched(corpus, tmp_path):
    (tmp_path / "out.building").mkdir()
    (tmp_path / "out.building" / "thesis.txt").write_text("years of work")
    export(corpus, "cfl", tmp_path / "out")
    assert (tmp_path / "out.building" / "thesis.txt").exists()
    assert not list(tmp_path.glob("*.partial"))


def test_refusals(corpus, tmp_path):
    export(corpus, "cfl", tmp_path / "out")
    with pytest.raises(FileExistsError, match="choose another --out"):
        export(corpus, "cfl", tmp_path / "out")
    with pytest.raises(CorpusError, match="is not an export"):
        import_corpus(tmp_path, tmp_path / "b.zarr")
    file = tmp_path / "out/pairs" / "pair-000003.kspace.cfl"
    changed = bytearray(file.read_bytes())
    values = np.frombuffer(changed, np.complex64)
    values[np.flatnonzero(values)[50]] *= 2
    file.write_bytes(changed)
    with pytest.raises(CorpusError, match="have changed since the export"):
        import_corpus(tmp_path / "out", tmp_path / "b.zarr")
    assert not list(tmp_path.glob("b.zarr*"))


def test_the_loser_of_two_imports_leaves_the_others_folder(corpus, tmp_path, monkeypatch):
    """Between the look at the folder and its making, another process makes it."""
    export(corpus, "cfl", tmp_path / "out")
    other = building_path(tmp_path / "back.zarr")

    def made_by_another_meanwhile(*arguments):
        other.mkdir()
        (other / "recipe.json").write_text("another's")
        return finished(*arguments)

    monkeypatch.setattr("pipelines.corpus.export.finished", made_by_another_meanwhile)
    with pytest.raises(FileExistsError, match="is there already"):
        import_corpus(tmp_path / "out", tmp_path / "back.zarr")
    assert (other / "recipe.json").read_text() == "another's"
