"""Published corpora: kilobytes from which the same corpus is built again, from files of other names."""

import dataclasses
import getpass
import hashlib
import json
import shutil
import socket

import numpy as np
import pytest
import torch
import yaml
from commands import refused, run
from conftest import recipe_data, write_photos
from trainings import settings

import synth.plan
from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.corpus.publish import publish
from pipelines.corpus.rebuild import rebuild
from pipelines.corpus.record import SUMS, Fingerprint
from pipelines.corpus.verify import verify
from pipelines.errors import BuildError, CorpusExistsError
from pipelines.models.publish_training import publish_training
from recon.data.datasets import PairDataset
from recon.data.loader import make_loader
from recon.training.loop import train
from recon.training.model_files import load_model
from synth.corpus.reader import open_corpus
from synth.errors import CorpusError
from synth.recipe import load_recipe, parse_recipe

SYNC = ClusterSpec("sync")


def renamed(folder, out, suffix):
    """A copy of a folder of files in two folders, under other names, in another order."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    for k, file in enumerate(files):
        place = out / f"part{k % 2}" / f"{(7 * k) % 100:02d}-other{suffix or file.suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    return out


@pytest.fixture(scope="module")
def published(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("published") / "small"
    publish(corpus, out, "CC-BY-4.0")
    return out


def test_the_same_corpus_from_photographs_of_other_names(corpus, photos, published, tmp_path):
    sources = renamed(photos, tmp_path / "mine", ".bild")  # Pillow knows a photograph without its ending
    found = rebuild(published, [sources], tmp_path / "again.zarr", SYNC)
    assert (found.verdict, found.content_hash) == ("the same", open_corpus(corpus).content_hash)
    assert verify(tmp_path / "again.zarr", replay=2).identical == 2
    assert sum(file.stat().st_size for file in published.iterdir()) < 60_000
    again = rebuild(published, [sources], tmp_path / "again.zarr", SYNC)
    assert again == found
    with pytest.raises(CorpusExistsError, match=r"another recipe \(differs in source.path\)"):
        rebuild(published, [photos], tmp_path / "again.zarr", SYNC)


def test_photographs_of_bsds_under_other_names(bsds, tmp_path):
    """The ready recipe of Knoll 2019, small, in two folders and by two worker processes."""
    first = tmp_path / "first"
    first.mkdir()
    for file in sorted(bsds.iterdir())[:3]:
        shutil.copy(file, first)
    out = tmp_path / "knoll.zarr"
    changes = (f"source.path={first}", "pairs=3", "coils.count=3", "coils.sets=1", "target.matrix=[[160, 128]]")
    made = build(load_recipe("pipelines/ready/recipes/knoll2019-17.toml", changes), out, SYNC)
    publish(out, tmp_path / "published")
    sources = renamed(first, tmp_path / "second", ".jpeg")
    found = rebuild(tmp_path / "published", [sources], tmp_path / "again.zarr", SYNC)
    assert (found.verdict, found.content_hash) == ("the same", made.content_hash)


def test_pairs_from_scans_keep_their_stages(scans, tmp_path):
    data = recipe_data(scans, source={"kind": "scans", "path": str(scans)}, coils={"kind": "espirit"}, pairs=4)
    data |= {"target": {"fit": "native"}, "noise": {"kind": "none"}}
    del data["phase"]
    out = tmp_path / "scans.zarr"
    made = build(parse_recipe(data, "test"), out, SYNC)
    publish(out, tmp_path / "published")
    sources = renamed(scans, tmp_path / "mine", "")
    np.save(sources / "further.npy", np.zeros(3))  # not needed, and no scan
    found = rebuild(tmp_path / "published", [sources], tmp_path / "again.zarr", SYNC)
    assert (found.verdict, found.content_hash) == ("the same", made.content_hash)
    assert open_corpus(tmp_path / "again.zarr").plan.stages == open_corpus(out).plan.stages != {}


def test_further_files_are_found_by_their_content(corpus, photos, tmp_path):
    mask = np.zeros(56, bool)
    mask[::2] = mask[20:36] = True
    np.save(tmp_path / "mask.npy", mask)
    changes = {
        "coils": {"kind": "library", "path": str(corpus)},
        "sampling": {"kind": "file", "path": str(tmp_path / "mask.npy")},
    }
    out = tmp_path / "c.zarr"
    made = build(parse_recipe(recipe_data(photos, **changes), "test"), out, SYNC)
    publish(out, tmp_path / "published")
    with pytest.raises(BuildError, match=r"coils.path: no file, corpus or library has the hash") as error:
        rebuild(tmp_path / "published", [photos], tmp_path / "again.zarr", SYNC)
    assert "sampling.path: no file" in str(error.value)
    mine = tmp_path / "mine"
    shutil.copytree(corpus, mine / "maps.zarr")
    (tmp_path / "mask.npy").rename(mine / "lines.npy")
    found = rebuild(tmp_path / "published", [photos, mine], tmp_path / "again.zarr", SYNC)
    assert (found.verdict, found.content_hash) == ("the same", made.content_hash)


@pytest.mark.parametrize("kind", ["heads", "skimage"])
def test_sources_that_need_no_folder(kind, photos, tmp_path):
    data = recipe_data(photos, source={"kind": kind}, pairs=2, target={"matrix": [48, 56], "fit": "resize"})
    out = tmp_path / "c.zarr"
    made = build(parse_recipe(data, "test"), out, SYNC)
    publish(out, tmp_path / "published")
    found = rebuild(tmp_path / "published", [], tmp_path / "again.zarr", SYNC)
    assert (found.verdict, found.content_hash) == ("the same", made.content_hash)


def test_every_source_that_is_missing_or_differs_is_named_before_the_build(photos, published, tmp_path):
    mine = shutil.copytree(photos, tmp_path / "mine")
    (mine / "photo1.png").unlink()
    (mine / "photo3.png").write_bytes((mine / "photo4.png").read_bytes())
    refused(
        run("rebuild", published, "--sources", mine, "--out", tmp_path / "c.zarr"),
        "2 of 6 files",
        "photo1.png: no file has the sha256",
        "photo3.png has the sha256 " + hashlib.sha256((photos / "photo4.png").read_bytes()).hexdigest(),
        "nothing was built",
    )
    assert not list(tmp_path.glob("c.zarr*"))


def test_a_rejected_source_keeps_its_place(photos, tmp_path):
    mine = shutil.copytree(photos, tmp_path / "mine")
    (mine / "photo2.png").write_bytes(b"no picture")
    changes = {"source": {"path": str(mine), "max_rejected": 0.5}, "pairs": 6}
    out = tmp_path / "c.zarr"
    made = build(parse_recipe(recipe_data(photos, **changes), "test"), out, SYNC)
    publish(out, tmp_path / "published")
    found = rebuild(tmp_path / "published", [renamed(mine, tmp_path / "o", "")], tmp_path / "again.zarr", SYNC)
    assert (found.verdict, found.pairs, found.content_hash) == ("the same", 5, made.content_hash)
    (mine / "photo2.png").unlink()
    with pytest.raises(CorpusError, match=r"photo2.png was rejected.*put it back"):
        publish(out, tmp_path / "other")


def test_equal_in_single_precision_and_what_differs(photos, published, tmp_path, monkeypatch):
    made = synth.plan.pair_from_image

    def scaled(factors):
        def of(recipe, photo, index, stages):
            pair = made(recipe, photo, index, stages)
            return dataclasses.replace(pair, kspace=pair.kspace * np.float32(1 + factors.get(index, 1e-6)))

        return of

    monkeypatch.setattr(synth.plan, "pair_from_image", scaled({}))
    found = rebuild(published, [photos], tmp_path / "close.zarr", SYNC)
    assert (found.verdict, found.compared, found.problems) == ("equal in single precision", 10, ())
    assert 3e-7 < found.largest_difference < 3e-6
    monkeypatch.setattr(synth.plan, "pair_from_image", scaled({4: 0.01}))
    result = run("rebuild", published, "--sources", photos, "--scheduler", "sync", "--out", tmp_path / "far.zarr")
    assert result.exit_code == 1
    assert "10 pairs, differs" in result.stdout
    assert "note: pairs 4 to 4: in pair 4 kspace by 0.0" in result.stderr


def test_a_fingerprint_estimates_the_difference(rng):
    known = Fingerprint.of(np.array([[3 + 4j, np.nan]]))
    assert (known.size, known.norm) == (1, 5)
    assert {abs(re) for re, _ in known.sums} == {3}
    assert all(re * 4 == im * 3 for re, im in known.sums)
    for relative in (1e-6, 1e-3, 1.0):
        a, noise = rng.normal(size=(2, 3, 1000)) + 1j * rng.normal(size=(2, 3, 1000))
        b = a + relative * noise
        true = np.linalg.norm(a - b) / np.linalg.norm(b)
        assert Fingerprint.of(a).difference(Fingerprint.of(b)) == pytest.approx(true, rel=4 / np.sqrt(SUMS))
    assert Fingerprint.of(a).difference(Fingerprint.of(a[:2])) == np.inf


def test_the_folder_tells_nothing_of_the_machine_and_is_a_data_card(corpus, photos, published):
    text = "".join(file.read_text() for file in published.iterdir())
    for private in (str(photos), str(corpus), str(published), "/tmp", socket.gethostname()):
        assert private not in text
    assert f'/{getpass.getuser()}"' not in text
    assert '"path"' not in text
    _, head, card = (published / "README.md").read_text().split("---\n", 2)
    said = yaml.safe_load(head)
    assert (said["license"], said["size_categories"], said["pretty_name"]) == ("cc-by-4.0", ["n<1K"], "small")
    assert open_corpus(corpus).content_hash in card
    described = json.loads((published / "croissant.json").read_text())
    assert described["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    for file in described["distribution"]:
        assert hashlib.sha256((published / file["contentUrl"]).read_bytes()).hexdigest() == file["sha256"]
    names = [entry["name"] for entry in json.loads((published / "sources.json").read_text())]
    assert names == [f"photo{k}.png" for k in range(6)]


def _changed(folder, **values):
    record = json.loads((folder / "corpus.json").read_text())
    (folder / "corpus.json").write_text(json.dumps({**record, **values}))


def _cut(folder):
    (folder / "corpus.json").write_text((folder / "corpus.json").read_text()[:500])


def _without_a_source(folder):
    (folder / "sources.json").write_text(json.dumps(json.loads((folder / "sources.json").read_text())[1:]))


DAMAGE = {
    "cut": (_cut, "cannot be read", "fetch the folder again"),
    "another format": (lambda f: _changed(f, format=2), "has format 2, this Fathom reads 1"),
    "no hash": (lambda f: _changed(f, content_hash="x"), "content_hash is damaged", "fetch the folder again"),
    "a list": (lambda f: (f / "corpus.json").write_text("[]"), "is damaged", "fetch the folder again"),
    "fewer sources": (_without_a_source, "sources.json is not the file that was published"),
    "no sources": (lambda f: (f / "sources.json").unlink(), "sources.json"),
    "another recipe": (lambda f: _changed(f, recipe_hash="0" * 64), "its recipe is not the one that was published"),
    "no recipe": (lambda f: _changed(f, recipe={"source": {"kind": "images"}}), "corpus.json: name: is missing"),
    "a training": (lambda f: (f / "training.json").write_text("{}"), "is a published training"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_folders_are_said(kind, photos, published, tmp_path):
    damage, *parts = DAMAGE[kind]
    folder = shutil.copytree(published, tmp_path / "published")
    damage(folder)
    refused(run("rebuild", folder, "--sources", photos, "--out", tmp_path / "c.zarr"), *parts)
    assert not list(tmp_path.glob("c.zarr*"))


def test_wrong_arguments(corpus, photos, published, tmp_path):
    out = tmp_path / "c.zarr"
    refused(run("rebuild", tmp_path / "no", "--out", out), "no does not exist", "`fathom publish` made")
    refused(run("rebuild", corpus, "--out", out), "is no published corpus")
    refused(run("rebuild", published, "--sources", tmp_path / "no", "--out", out), "--sources", "does not exist")
    refused(run("publish", tmp_path / "no.zarr", "--out", out), "no.zarr does not exist")
    refused(run("publish", photos, "--out", out), "is neither a corpus of Fathom's nor a finished training")
    refused(run("publish", corpus, "--out", out, "--licence", "as you like"), "--licence 'as you like'", "cc-by-4.0")
    (tmp_path / "there").mkdir()
    refused(run("publish", corpus, "--out", tmp_path / "there"), "is there already", "choose another --out")
    damaged = shutil.copytree(corpus, tmp_path / "damaged.zarr")
    lines = (damaged / "ledger.jsonl").read_text().splitlines()
    (damaged / "ledger.jsonl").write_text("\n".join(lines[1:]))
    refused(run("publish", damaged, "--out", out), "its ledger is damaged", "`fathom verify`")
    assert {path.name for path in tmp_path.iterdir()} == {"there", "damaged.zarr"}


def test_a_published_training_is_its_weights_without_paths(corpus, tmp_path):
    out, published = tmp_path / "t", tmp_path / "published"
    train(settings(corpus, "denoiser", training={"steps": 1}), out)
    publish_training(out, published, "MIT")
    for file in published.iterdir():
        assert str(tmp_path).encode() not in file.read_bytes()
        assert str(corpus).encode() not in file.read_bytes()
    record = json.loads((published / "training.json").read_text())
    assert record["corpora"][0]["content_hash"] == open_corpus(corpus).content_hash
    assert hashlib.sha256((published / "model.safetensors").read_bytes()).hexdigest() == record["weights"]["sha256"]
    assert record["weights"]["sha256"] in (published / "README.md").read_text()
    assert yaml.safe_load((published / "README.md").read_text().split("---\n")[1])["license"] == "mit"
    (mine, _), (theirs, card) = load_model(out), load_model(published)
    assert all((a == b).all() for a, b in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True))
    assert card["settings"]["data"]["corpora"] == [corpus.name]
    refused(run("publish", out, "--out", published), "is there already")
    train(settings(corpus, "denoiser", model={"bf16": True}, training={"steps": 1}), tmp_path / "b")
    publish_training(tmp_path / "b", tmp_path / "half")
    mine, theirs = (load_model(tmp_path / name)[0] for name in ("b", "half"))
    batch = next(iter(make_loader(PairDataset(corpus), batch_size=2, device="cpu", shuffle=False)))
    assert torch.equal(mine(batch), theirs(batch))
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "b")]
    parameters = sum(p.numel() for p in mine.parameters())
    assert sizes[1] - sizes[0] == pytest.approx(2 * parameters, rel=0.01)
    data = bytearray((out / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (out / "model.safetensors").write_bytes(data)
    refused(run("publish", out, "--out", tmp_path / "other"), "is damaged; run `fathom verify")
    assert not (tmp_path / "other").exists()


def test_photographs_that_only_look_alike_are_others(published, tmp_path):
    """Other photographs of the same names and sizes are refused."""
    others = write_photos(tmp_path / "others", first=50)
    with pytest.raises(BuildError, match="6 of 6 files"):
        rebuild(published, [others], tmp_path / "c.zarr", SYNC)
