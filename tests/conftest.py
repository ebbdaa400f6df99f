import os

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: each process of the suite takes one core
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import threadpoolctl

    # Plugins, such as zarr's, import numpy before this file: its BLAS has begun with a thread for each core, which wait
    # for each other by spinning. With three such processes on two cores, most of the suite's time went there.
    threadpoolctl.threadpool_limits(1)

from pathlib import Path

import numpy as np
import pytest
from object_store import BUCKET, environment, store_server
from PIL import Image
from properties import complex_normal

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from synth.physics import fft2c
from synth.recipe import parse_recipe
from synth.stages.coils import LoopsSpec, draw_coils
from synth.storage.place import place_of

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT / ".." / "shared" / "data"


def shared(name):
    """Path of real data that are not part of the project; the test is skipped where they are absent."""
    if not (SHARED / name).exists():
        pytest.skip(f"../shared/data/{name} is not here")
    return (SHARED / name).resolve()


# They take longest, and begin first: clusters, real commands, studies, trainings.
FIRST = ("test_study", "test_growing_cluster", "test_cluster", "test_loop", "test_scan_noise", "test_sampled_noise")


def pytest_collection_modifyitems(items):
    """The files that take longest come first, so that no process is left with one of them at the end."""
    items.sort(key=lambda item: FIRST.index(item.path.stem) if item.path.stem in FIRST else len(FIRST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `--dist loadfile`, a file's tests share a process (pytest-xdist), and files begin in the order of the tests.

    `--dist loadgroup` is the same here: pytest-xdist 3.8 sets a private name for it that pytest 9.2 no longer reads.
    """
    if config.getvalue("dist") not in ("loadfile", "loadgroup"):
        return None
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # by numbers of tests
    return LoadFileScheduling(config, log)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def bsds():
    """The BSDS training photographs, where they are."""
    return shared("bsds500/train")


def write_photos(folder, count=6, size=(60, 72), first=0):
    """Photographs of smooth random shapes; each differs from the others."""
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[: size[0], : size[1]] / size[0]
    for k in range(count):
        draw = np.random.default_rng(first + k)
        image = sum(np.cos(2 * np.pi * (a * y + b * x + c)) for a, b, c in draw.uniform(0, 4, (8, 3)))
        grey = (255 * (image - image.min()) / np.ptp(image)).astype(np.uint8)
        Image.fromarray(np.stack([grey, grey[::-1], grey], axis=-1)).save(folder / f"photo{k}.png")
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"))


def recipe_data(photos, **sections):
    """A small recipe as a dict; sections are merged, other keys replaced."""
    data = {
        "name": "small",
        "seed": 3,
        "pairs": 10,
        "shard_pairs": 3,
        "source": {"kind": "images", "path": str(photos)},
        "target": {"matrix": [48, 56]},
        "phase": {"kind": "sinusoidal"},
        "coils": {"kind": "loops", "count": 4, "sets": 2},
        "noise": {"snr": [20, 80]},
        "sampling": {"kind": "regular", "acceleration": 4, "reference_lines": 8},
    }
    for key, value in sections.items():
        kind_changes = isinstance(value, dict) and "kind" in value and value["kind"] != data[key].get("kind")
        data[key] = {**({} if kind_changes else data.get(key, {})), **value} if isinstance(value, dict) else value
    return data


TOML = """
name = "cli"
seed = 5
shard_pairs = 2
[source]
kind = "images"
path = "{photos}"
[target]
matrix = [48, 56]
[coils]
kind = "loops"
count = 3
sets = 2
[sampling]
kind = "regular"
reference_lines = 8
"""


def recipe_text(photos):
    """A small recipe as TOML."""
    return TOML.format(photos=photos)


@pytest.fixture
def recipe(photos):
    """Make a small recipe; keyword arguments change its sections."""
    return lambda **sections: parse_recipe(recipe_data(photos, **sections), "test")


@pytest.fixture(scope="session")
def corpus(photos, tmp_path_factory):
    """A finished small corpus; do not change it."""
    out = tmp_path_factory.mktemp("corpus") / "small.zarr"
    build(parse_recipe(recipe_data(photos), "test"), out, ClusterSpec("sync"))
    return out


@pytest.fixture(scope="session")
def other_corpus(photos, tmp_path_factory):
    """A finished corpus of another size, number of coils and sampling than `corpus`."""
    out = tmp_path_factory.mktemp("other") / "other.zarr"
    changes = {"target": {"matrix": [40, 44]}, "coils": {"count": 3}, "seed": 8, "pairs": 6}
    build(parse_recipe(recipe_data(photos, **changes), "other"), out, ClusterSpec("sync"))
    return out


@pytest.fixture(scope="session")
def scans(tmp_path_factory):
    """Two scans of a disc with texture: three slices of 6 coils, and one of 5 coils in another size."""
    folder, draw = tmp_path_factory.mktemp("scans"), np.random.default_rng(5)
    for name, slices, coils, shape in (("a.npy", 3, 6, (96, 80)), ("b.npy", 1, 5, (80, 72))):
        maps = draw_coils(LoopsSpec(count=coils), 1, 0).maps(shape)
        y, x = (np.linspace(-1, 1, n) for n in shape)
        image = ((y[:, None] / 0.7) ** 2 + (x / 0.6) ** 2 < 1) * (1.5 + np.cos(9 * y)[:, None] * np.cos(7 * x))
        made = [
            fft2c((image * (k + 1) * maps).astype(np.complex64)) + 0.02 * complex_normal(draw, coils, *shape)
            for k in range(slices)
        ]
        np.save(folder / name, np.stack(made))
    return folder


@pytest.fixture(scope="module")
def store():
    """The environment of an object store's server, which runs while the tests of a file do."""
    with store_server() as values, environment(values):
        yield values


@pytest.fixture
def in_store(store, request):
    """A place in that server for one test; what lies below it is removed afterwards."""
    place = place_of(f"{BUCKET}/{request.node.name}")
    yield place
    for name, _ in list(place.below()):
        (place / name).delete()


@pytest.fixture
def kspace(rng):
    """A scan of noise [slice coil y x]."""
    return complex_normal(rng, 3, 4, 24, 20)
