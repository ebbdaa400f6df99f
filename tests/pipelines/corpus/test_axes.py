"""Names of the axes of a corpus's arrays, and other tools that read it by them."""

import json
import shutil

import numpy as np
import pytest
import zarr

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.corpus.verify import verify
from recon.data.datasets import PairDataset
from synth.corpus.layout import number_axes
from synth.corpus.reader import open_corpus
from synth.recipe import parse_recipe

OVERSAMPLED = {"target": {"readout_oversampling": 2}, "phase": {"kind": "smooth-random", "cycles": 2}}
KSPACE, MAPS = ["pair", "coil", "y", "line"], ["set", "coil", "y", "x"]
POINTS = {"sampling": {"kind": "poisson", "acceleration": 3, "reference_lines": 8}}


@pytest.fixture
def made(recipe, tmp_path):
    def make(**sections):
        build(recipe(pairs=4, **sections), tmp_path / "c.zarr", ClusterSpec("sync"))
        return tmp_path / "c.zarr"

    return make


@pytest.fixture
def of_scans(scans, tmp_path):
    data = {
        "name": "s",
        "source": {"kind": "scans", "path": str(scans / "a.npy")},
        "target": {"fit": "native"},
        "coils": {"kind": "espirit"},
        "noise": {"kind": "none"},
        "sampling": {"kind": "regular", "acceleration": 2, "reference_lines": 24},
    }
    build(parse_recipe(data, "s"), tmp_path / "s.zarr", ClusterSpec("sync"))
    return tmp_path / "s.zarr"


def axes_of(corpus):
    """(name, axes, shape) of every array, as its metadata say."""
    for file in sorted(corpus.glob("*/*/zarr.json")):
        document = json.loads(file.read_bytes())
        yield file.parent.name, document.get("dimension_names"), document["shape"]


def sizes_by_name(corpus):
    sizes = {}
    for array, names, shape in axes_of(corpus):
        assert names is not None, f"{array} has no names of its axes"
        assert len(set(names)) == len(shape), (array, names)
        for name, size in zip(names, shape, strict=True):
            assert sizes.setdefault(name, size) == size, f"{name} is {sizes[name]} and, in {array}, {size}"
    return sizes


def test_a_name_has_one_size(made, of_scans):
    sizes = sizes_by_name(made(**OVERSAMPLED))
    assert sizes.items() >= {"pair": 4, "set": 2, "coil": 4, "readout": 96, "y": 48, "x": 56, "order_y": 5}.items()
    assert sizes_by_name(of_scans).items() >= {"pair": 3, "coil": 6, "readout": 96, "y": 96, "x": 80}.items()
    assert "set" not in sizes_by_name(of_scans)


def test_a_name_has_one_size_for_points(made):
    sizes = sizes_by_name(made(**POINTS))
    assert sizes.items() >= {"pair": 4, "coil": 4, "y": 48, "x": 56}.items()
    assert 64 <= sizes["point"] < 48 * 56


def test_every_array_of_numbers_gets_names():
    shapes = {"sigma": (4,), "maps_index": (4,), "kspace_crc32c": (4,), "maps_crc32c": (2,), "new": (4, 2, 2)}
    shapes |= {"maps_coils_angle_rad": (2, 3), "maps_coils_library_index": (2,), "phase_coefficients_rad": (4, 5, 5)}
    assert number_axes({name: np.zeros(shape) for name, shape in shapes.items()}) == {
        "sigma": ["pair"],
        "maps_index": ["pair"],
        "kspace_crc32c": ["pair"],
        "maps_crc32c": ["set"],
        "new": ["pair", "new_1", "new_2"],
        "maps_coils_angle_rad": ["set", "coil"],
        "maps_coils_library_index": ["set"],
        "phase_coefficients_rad": ["pair", "order_y", "order_x"],
    }
    assert number_axes({"maps_crc32c": np.zeros(4)}) == {"maps_crc32c": ["pair"]}


def as_earlier(corpus):
    """The metadata of a corpus as earlier versions wrote them, also those that the root's document holds once more."""
    root = json.loads((corpus / "zarr.json").read_bytes())
    for file in corpus.glob("*/*/zarr.json"):
        document, array = json.loads(file.read_bytes()), file.parent.name
        del document["dimension_names"]
        if array in ("kspace", "mask", "target", "maps"):
            names = {"kspace": KSPACE, "mask": ["pair", "x"], "target": ["pair", "y", "x"], "maps": MAPS}[array]
            document["dimension_names"] = names
        file.write_text(json.dumps(document, indent=2))
        root["consolidated_metadata"]["metadata"][f"{file.parent.parent.name}/{array}"] = document
    (corpus / "zarr.json").write_text(json.dumps(root, indent=2))


@pytest.mark.parametrize("kind", ["photographs", "scans"])
def test_corpora_of_earlier_versions(kind, made, request):
    corpus = made(**OVERSAMPLED) if kind == "photographs" else request.getfixturevalue("of_scans")
    pairs = PairDataset(corpus)
    content, before = pairs.content_hash, [pairs[k]["masked_kspace"] for k in range(len(pairs))]
    as_earlier(corpus)
    axes = {array: names for array, names, _ in axes_of(corpus)}
    assert axes["kspace"] == ["pair", "coil", "y", "line"]
    assert axes["maps"] == ["set", "coil", "y", "x"]
    assert axes["sigma"] is None
    found = verify(corpus, replay=2)
    assert (found.intact, found.content_hash, found.identical) == (True, content, 2)
    again = PairDataset(corpus)
    assert all((again[k]["masked_kspace"] == values).all() for k, values in enumerate(before))
    shutil.rmtree(next(corpus.glob("*/target/c/0")))
    assert not verify(corpus).intact
    mended = build(open_corpus(corpus).recipe, corpus, ClusterSpec("sync"))
    assert (mended.status, mended.content_hash) == ("mended", content)
    assert verify(corpus).intact
    assert sizes_by_name(corpus)["y"] in (48, 96)


def test_other_names_are_damage(made):
    corpus = made()
    file = next(corpus.glob("*/target/zarr.json"))
    file.write_bytes(file.read_bytes().replace(b'"x"', b'"z"'))
    assert any("target/zarr.json" in problem for problem in verify(corpus).problems)


def values_by(tool, corpus, bucket, name):
    """All values of an array of a corpus, as another program reads them."""
    if tool == "zarr":
        return zarr.open_group(corpus, mode="r")[f"{bucket}/{name}"][...]
    other = pytest.importorskip(tool)
    if tool == "zarrs":
        with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
            return zarr.open_group(corpus / bucket, mode="r")[name][...]
    if tool == "tensorstore":
        store = {"driver": "file", "path": str(corpus / bucket / name)}
        return other.open({"driver": "zarr3", "kvstore": store}).result().read().result()
    return other.open_zarr(corpus, group=bucket, consolidated=False)[name].values


@pytest.mark.parametrize("sections", [OVERSAMPLED, POINTS], ids=["lines", "points"])
@pytest.mark.parametrize("tool", ["zarr", "xarray", "tensorstore", "zarrs"])
def test_other_tools_read_the_same_values(tool, sections, made):
    corpus = made(**sections)
    (bucket,) = open_corpus(corpus).buckets
    pairs = PairDataset(corpus)
    batch = pairs.packed(range(len(pairs)))
    mine = {name: getattr(batch, name).numpy() for name in ("kspace", "mask", "target", "sigma", "scale", "maps_index")}
    mine["maps"] = np.stack([pairs.map_set(0, k) for k in range(len(values_by(tool, corpus, bucket.name, "maps")))])
    mine["index"] = np.asarray(pairs.pair_ids)
    for name, values in mine.items():
        read = values_by(tool, corpus, bucket.name, name)
        np.testing.assert_array_equal(np.asarray(read, values.dtype), values, err_msg=name)
    for name, array in bucket.arrays.items():
        np.testing.assert_array_equal(values_by(tool, corpus, bucket.name, name), np.asarray(array[...]), err_msg=name)


def test_xarray_knows_the_axes(made):
    xarray = pytest.importorskip("xarray")
    corpus = made(**OVERSAMPLED)
    (bucket,) = open_corpus(corpus).buckets
    read = xarray.open_zarr(corpus, group=bucket.name, consolidated=False)
    assert {name: read[name].dims for name in bucket.arrays} == {
        name: array.metadata.dimension_names for name, array in bucket.arrays.items()
    }
