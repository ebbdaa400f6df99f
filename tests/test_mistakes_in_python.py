"""What functions say of arguments that cannot be: what is taken, and what was given."""

import re

import numpy as np
import pytest
import torch
from conftest import recipe_data
from examples import write_scan
from properties import complex_normal

from pipelines import ClusterSpec, build, model_named, verify
from pipelines.errors import ClusterError
from recon import (
    DevicePairs,
    Grappa,
    PairDataset,
    RegularisedSense,
    UnrolledSense,
    Wavelet,
    as_fastmri,
    evaluate,
    make_loader,
    make_model,
)
from recon.data.scan_batch import Undersampling
from synth import Plan, espirit, fft2c, load_profile, load_recipe, open_scan, sense_adjoint, sense_forward
from synth.errors import CalibrationError
from synth.recipe import parse_recipe

K = complex_normal(np.random.default_rng(0), 4, 32, 32)
MASK = np.ones(32)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "scan.npy"
    write_scan(path)
    return open_scan(path)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: build("a.toml", "a.zarr"), TypeError, "build takes a Recipe, which load_recipe reads; got 'a.toml'"),
        (lambda: Plan.of("a.toml"), TypeError, "takes a Recipe, which load_recipe reads; got 'a.toml'"),
        (lambda: DevicePairs("a.toml"), TypeError, "takes a Recipe, which load_recipe reads; got 'a.toml'"),
        (lambda: load_recipe("a.toml", "seed=2"), TypeError, "a list of texts, such as ['pairs=10', 'seed=2']"),
        (lambda: load_recipe("a.toml", {"seed": 2}), TypeError, "a list of texts"),
        (lambda: load_recipe(None), TypeError, "a recipe is read from the path of a TOML file; got None"),
        (lambda: verify(None), TypeError, "a place is a path, or an address such as 's3://bucket/name.zarr'; got None"),
        (lambda: UnrolledSense(3), TypeError, "this network is made from an UnrolledSpec; got 3"),
        (lambda: fft2c([1, 2]), TypeError, "take numpy arrays and torch tensors; got [1, 2]"),
        (lambda: fft2c(np.ones(4)), ValueError, "along the last 2 axes needs as many; the array is [4]"),
        (lambda: sense_forward(K[0], K, None), ValueError, "here [4, 32, 32]; got None"),
        (lambda: sense_forward(K[0], K, MASK[:9]), ValueError, "here [4, 32, 32]; got ndarray [9]"),
        (lambda: sense_adjoint(K, K, torch.ones(32)), ValueError, "a mask is an ndarray, as the maps are"),
        (lambda: ClusterSpec(workers=0), ClusterError, "workers = 0: give a whole number of 1 or more"),
        (lambda: model_named(None), TypeError, "takes a name, such as 'photos-1'; got None"),
        (lambda: make_model("unrolled-sense"), TypeError, "settings such as UnrolledSpec(); got 'unrolled-sense'"),
        (lambda: as_fastmri("a.zarr"), TypeError, "such as PairDataset('corpus.zarr'); got 'a.zarr'"),
        (lambda: RegularisedSense(lam=-1), ValueError, "regularised SENSE takes a lam above 0, got -1"),
        (lambda: RegularisedSense(lam="4"), ValueError, "got '4'"),
        (lambda: RegularisedSense(convention="C"), ValueError, "convention must be one of A, A2, B, got 'C'"),
        (lambda: Wavelet(lam=float("nan")), ValueError, "wavelet takes a lam above 0, got nan"),
        (lambda: Grappa(5), ValueError, "two sizes of 1 or more, got 5"),
        (lambda: Grappa((0, 0)), ValueError, "two sizes of 1 or more, got (0, 0)"),
        (lambda: espirit(torch.from_numpy(K)), ValueError, "got a Tensor"),
        (lambda: espirit(K, kernel=0), ValueError, "kernel = 0: give the side of the patches"),
        (lambda: espirit(K, threshold=5), ValueError, "threshold = 5: give a fraction"),
        (lambda: espirit(K, sigma=-1), ValueError, "sigma = -1: give the standard deviation"),
        (lambda: espirit(K, reference=24), ValueError, "reference = 24: give y, x of the block, such as (24, 24)"),
        (lambda: sense_forward(K, K[0], MASK), ValueError, "the maps [... coil y x] are [32, 32]"),
        (lambda: load_profile("none.json"), CalibrationError, "none.json: does not exist; make one with"),
    ],
)
def test_what_is_taken_is_said(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_numbers_of_numpy_are_numbers():
    assert RegularisedSense(lam=np.float32(2)).lam == 2
    assert Undersampling(np.int64(4)).acceleration == 4
    assert ClusterSpec(workers=np.int64(2)).workers == 2


def test_of_pairs(photos, corpus):
    pairs, recipe = PairDataset(corpus), parse_recipe(recipe_data(photos), "t")
    for call, error, message in (
        (lambda: build(recipe, "a.zarr", "sync"), TypeError, "such as ClusterSpec('sync'); got 'sync'"),
        (lambda: build(recipe, None), TypeError, "the place of the corpus, such as 'corpus.zarr'; got None"),
        (lambda: pairs["a"], TypeError, "pairs are indexed by one whole number"),
        (lambda: pairs[0:2], TypeError, "__getitems__ takes a list; got slice(0, 2, None)"),
        (lambda: make_loader(pairs, seed=-1), ValueError, "seed must be a whole number of at least 0, got -1"),
        (lambda: make_loader(pairs, context="thread"), ValueError, "fork, forkserver or spawn, got 'thread'"),
        (
            lambda: evaluate("photos-1", pairs),
            TypeError,
            "pipelines.model_named gives the one of a name; got 'photos-1'",
        ),
        (lambda: verify(corpus, replay=-1), ValueError, "replay = -1 and measured = 0 are numbers of pairs"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            call()


def test_of_scans(scan, tmp_path):
    for wrong in ("a", slice(0, 2)):
        with pytest.raises(TypeError, match="slices are indexed by one whole number; got "):
            scan[wrong]


def test_a_script_without_its_guard_is_told_so(tmp_path, photos):
    """Worker processes begin by running the script again, which would start workers of its own."""
    import subprocess
    import sys

    script = tmp_path / "script.py"
    script.write_text(
        "from pipelines.cluster import local_cluster, ClusterSpec, open_cluster\n"
        "with open_cluster(ClusterSpec(workers=1)):\n    pass\n"
    )
    made = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    assert made.returncode == 1
    assert 'below `if __name__ == "__main__":`, or give ClusterSpec("sync")' in made.stderr
