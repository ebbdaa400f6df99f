"""Shards of other code or packages are not mixed into a corpus, unless they are the same to the last bit."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corpus_forms import rewrite

import synth
from pipelines.cluster import IN_PROCESS
from pipelines.corpus import build as engine
from pipelines.corpus.build import build
from pipelines.corpus.makers import maker
from pipelines.corpus.verify import verify
from pipelines.errors import BuildError
from synth.corpus.ledger import Ledger
from synth.corpus.reader import open_corpus
from synth.plan import Plan
from synth.storage.corpus_files import building_path
from synth.version import code_sha256

PAIRS = "c4-y48-x56/pairs/1"


@pytest.fixture
def begun(corpus, tmp_path):
    """A build that was stopped before its last shard, whose other shards numpy 1.0 made."""
    root = shutil.copytree(corpus, building_path(tmp_path / "c.zarr"))
    rewrite(root, lambda entry: entry["versions"].update(numpy="1.0"))
    Ledger(root).void(PAIRS)
    return tmp_path / "c.zarr"


def test_the_same_bits_go_on_and_both_versions_are_recorded(recipe, corpus, begun):
    assert build(recipe(), begun, IN_PROCESS).content_hash == open_corpus(corpus).content_hash
    summary = json.loads((begun / "summary.json").read_text())
    assert summary["versions"]["numpy"] == f"1.0, {np.__version__}"
    assert summary["versions"]["synth_sha256"] == code_sha256()
    makers = {json.loads(text)["numpy"]: shards for text, shards in verify(begun).makers.items()}
    assert makers == {"1.0": 4, np.__version__: 1}


def test_other_bits_are_refused_in_a_sentence(recipe, begun, monkeypatch):
    original, before = Plan.pair, Ledger(building_path(begun)).read()

    def changed(plan, index):
        pair = original(plan, index)
        return replace(pair, kspace=pair.kspace * np.float32(1.000001))

    monkeypatch.setattr(Plan, "pair", changed)
    with pytest.raises(
        BuildError, match=rf"begun with numpy 1\.0 in place of {np.__version__}, which makes other bits"
    ):
        build(recipe(), begun, IN_PROCESS)
    assert Ledger(building_path(begun)).read() == before


def test_a_finished_corpus_stays_under_its_name_where_mending_is_refused(recipe, corpus, tmp_path, monkeypatch):
    copy = shutil.copytree(corpus, tmp_path / "c.zarr")
    rewrite(copy, lambda entry: entry["versions"].update(synth_sha256="other"))
    (copy / "c4-y48-x56" / "target" / "c" / "1" / "0" / "0").unlink()
    original = Plan.pair
    monkeypatch.setattr(Plan, "pair", lambda plan, index: replace(original(plan, index), index=index + 1))
    with pytest.raises(BuildError, match="begun with other code of `synth`, which makes other bits: pair 0 differs"):
        build(recipe(), copy, IN_PROCESS)
    assert copy.is_dir()


def test_maps_without_a_pair_to_compare_are_made_again(recipe, corpus, begun):
    for number in range(4):
        Ledger(building_path(begun)).void(f"c4-y48-x56/pairs/{number}")
    assert build(recipe(), begun, IN_PROCESS).content_hash == open_corpus(corpus).content_hash
    assert set(verify(begun).makers) == {json.dumps(maker(), sort_keys=True)}


@pytest.mark.parametrize("lack", ["synth_sha256", "numpy"])
def test_a_worker_of_other_code_or_packages_is_refused(lack, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "maker", lambda: {k: v for k, v in maker().items() if k != lack})  # a worker's own
    with pytest.raises(BuildError, match=r"a worker has .*(code of `synth`|numpy unknown in place of)"):
        build(recipe(), tmp_path / "c.zarr", IN_PROCESS)
    assert Ledger(building_path(tmp_path / "c.zarr")).read() == {}


def test_the_sum_of_the_code_changes_with_a_byte_of_it(tmp_path, monkeypatch):
    copy = shutil.copytree(
        Path(synth.__file__).parent, tmp_path / "synth", ignore=shutil.ignore_patterns("__pycache__")
    )
    monkeypatch.setattr("synth.version.__file__", str(copy / "version.py"))
    assert code_sha256.__wrapped__() == code_sha256()
    with (copy / "physics.py").open("a") as file:
        file.write("#")
    assert code_sha256.__wrapped__() != code_sha256()
