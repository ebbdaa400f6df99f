"""Sources, map libraries and noise profiles in an object store: the same hashes as from a folder."""

import json
import shutil
import tempfile

import numpy as np
import pytest
from commands import refused, run
from conftest import recipe_data
from object_store import upload

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.corpus.verify import verify
from pipelines.errors import BuildError
from pipelines.scans.harvest_maps import harvest
from synth.corpus.sources import sources_of
from synth.errors import RecipeError, SourceRejectedError
from synth.plan import Plan
from synth.recipe import parse_recipe
from synth.sources.scan_slices import ScansSpec
from synth.storage.copies import PREFIX
from synth.storage.place import place_of

SYNC = ClusterSpec("sync")


@pytest.fixture
def there(in_store):
    """An address in the store, to which the tests copy what they need."""
    return str(in_store)


def same_corpus(near, far, out):
    """Both recipes give the same hash, list and corpus; returns the corpus made from the store."""
    near, far = (parse_recipe(data, "test") for data in (near, far))
    assert near.hash() == far.hash()
    assert Plan.of(near).files == Plan.of(far).files
    first, second = (build(recipe, out / f"{k}.zarr", SYNC) for k, recipe in enumerate((near, far)))
    assert first.content_hash == second.content_hash
    one, other = (sources_of(out / f"{k}.zarr") for k in (0, 1))
    assert {k: (s.name, s.sha256) for k, s in one.items()} == {k: (s.name, s.sha256) for k, s in other.items()}
    assert verify(out / "1.zarr", replay=2).identical == 2
    return out / "1.zarr"


def test_photographs(photos, there, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "photos")
    (folder / "in" / "side").mkdir(parents=True)
    (folder / "photo3.png").rename(folder / "in" / "side" / "a b.png")
    (folder / "notes.md").write_text("no photograph")
    (folder / ".hidden.png").write_bytes(b"")
    upload(folder, place_of(f"{there}/photos"))
    far = recipe_data(f"{there}/photos")
    made = same_corpus(recipe_data(folder), far, tmp_path)
    assert json.loads((made / "recipe.json").read_text())["recipe"]["source"]["path"] == f"{there}/photos"
    assert there not in (made / "README.md").read_text()
    assert build(parse_recipe(recipe_data(folder), "test"), made, SYNC).status == "already there"  # sources may move
    (folder / "list.txt").write_text("# mine\nphoto5.png\nphoto1.png\n")
    (place_of(f"{there}/photos") / "list.txt").put((folder / "list.txt").read_bytes())
    (tmp_path / "list").mkdir()
    same_corpus(recipe_data(folder / "list.txt"), recipe_data(f"{there}/photos/list.txt"), tmp_path / "list")


def test_what_is_not_there_is_told(photos, there, tmp_path):
    folder = "does not exist; give a folder"
    for name, why in (("photos", folder), ("list.txt", "no such object"), ("scans", "does not exist")):
        kind = "scans" if name == "scans" else "images"
        with pytest.raises(RecipeError, match=why):
            Plan.of(parse_recipe(recipe_data(f"{there}/{name}"), "t").model_copy(
                update={"source": ScansSpec(kind="scans", path=f"{there}/{name}")} if kind == "scans" else {}
            ))  # fmt: skip
    place = place_of(f"{there}/few")
    upload(photos, place)
    recipe = parse_recipe(recipe_data(str(place)), "test")
    (place / "photo2.png").put(b"no photograph")
    with pytest.raises(SourceRejectedError, match=rf"{place}/photo2.png: not an image"):
        Plan.of(recipe).pair(2)
    plan = Plan.of(recipe)
    (place / "photo2.png").delete()
    with pytest.raises(OSError, match=rf"{place}/photo2.png: the file is gone"):
        plan.pair(2)
    build(recipe, tmp_path / "five.zarr", SYNC)
    (place / "photo4.png").put((place / "photo5.png").read())
    assert not verify(tmp_path / "five.zarr", replay=10).intact
    shutil.rmtree(next((tmp_path / "five.zarr").glob("*/kspace")))
    with pytest.raises(BuildError, match="photo4"):
        build(recipe, tmp_path / "five.zarr", SYNC)


def test_pictures_of_scanners(there, tmp_path, rng):
    nibabel, pydicom = pytest.importorskip("nibabel"), pytest.importorskip("pydicom")
    folder = tmp_path / "pictures"
    folder.mkdir()
    smooth = np.cumsum(np.cumsum(rng.standard_normal((60, 72, 4)), 0), 1)
    volume = (1000 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / "sub-01.nii.gz")
    path = pydicom.data.get_testdata_file("MR_small.dcm", download=False)
    shutil.copy(path, folder / "small.dcm")
    upload(folder, place_of(there))
    made = same_corpus(recipe_data(folder), recipe_data(there), tmp_path)
    subjects = {source.subject for source in sources_of(made).values()}
    assert len(subjects) == 2
    assert subjects == {source.subject for source in sources_of(tmp_path / "0.zarr").values()}


def test_scans(scans, there, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "copies"))
    (tmp_path / "copies").mkdir()
    upload(scans, place_of(there))
    (place_of(there) / "c.npy").put(b"no scan")
    near, far = (
        {
            **recipe_data(path),
            "pairs": 8,
            "source": {"kind": "scans", "path": str(path)},
            "coils": {"kind": "espirit"},
            "target": {"fit": "native"},
        }
        for path in (scans, there)
    )
    left_out = parse_recipe(far, "t").source.left_out()
    assert len(left_out) == 1
    assert left_out[0].startswith(f"{there}/c.npy: ")
    assert len(set((tmp_path / "copies").glob(f"{PREFIX}*/*.npy"))) == 2
    made = same_corpus(near, far, tmp_path)
    assert PREFIX not in (made / "ledger.jsonl").read_text()
    near["source"]["path"], far["source"]["path"] = str(scans / "a.npy"), f"{there}/a.npy"
    assert Plan.of(parse_recipe(near, "t")).files == Plan.of(parse_recipe(far, "t")).files


LIBRARIES = {
    "harvested": ("lib.zarr", {"resample": True, "count": 4}),
    "corpus": ("corpus.zarr", {}),
    "arrays": ("maps.npy", {}),
}


@pytest.mark.parametrize("kind", LIBRARIES)
def test_libraries_masks_and_profiles(kind, scans, photos, corpus, there, tmp_path, rng):
    name, more = LIBRARIES[kind]
    if kind == "harvested":
        harvest(ScansSpec(kind="scans", path=str(scans / "b.npy")), tmp_path / name, SYNC)
    elif kind == "corpus":
        shutil.copytree(corpus, tmp_path / name)
    else:
        maps = rng.standard_normal((2, 4, 48, 56)) + 1j * rng.standard_normal((2, 4, 48, 56))
        np.save(tmp_path / name, maps.astype(np.complex64))
        np.save(tmp_path / "psi.npy", np.diag([1.0, 2, 3, 4]) + 0.1)
        np.save(tmp_path / "mask.npy", np.arange(56) % 2 == 0)
    upload(tmp_path, place_of(there))
    recipes = []
    for where in (str(tmp_path), there):
        data = recipe_data(photos)
        data["coils"] = {"kind": "library", "path": f"{where}/{name}", **more}
        if kind == "arrays":
            data["noise"] = {**data.get("noise", {}), "covariance": f"{where}/psi.npy"}
            data["sampling"] = {"kind": "file", "path": f"{where}/mask.npy"}
        recipes.append(data)
    same_corpus(*recipes, tmp_path)


def test_a_library_that_is_not_there(photos, there):
    with pytest.raises(RecipeError, match=rf"coils.path {there}/none.npy does not exist"):
        parse_recipe({**recipe_data(photos), "coils": {"kind": "library", "path": f"{there}/none.npy"}}, "t")


def test_a_command_from_store_to_store(photos, there, tmp_path):
    upload(photos, place_of(f"{there}/photos"))
    lines = [f"{k} = {json.dumps(v)}" for k, v in recipe_data("x").items() if not isinstance(v, dict)]
    for name, part in recipe_data(f"{there}/photos").items():
        if isinstance(part, dict):
            lines += [f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in part.items())]
    (tmp_path / "r.toml").write_text("\n".join(lines))
    made = run("build", tmp_path / "r.toml", "--out", f"{there}/far.zarr", "--scheduler", "sync", "--json")
    assert made.exit_code == 0, made.output
    near = build(parse_recipe(recipe_data(photos), "t"), tmp_path / "near.zarr", SYNC)
    assert json.loads(made.stdout)["content_hash"] == near.content_hash
    other = ("--out", tmp_path / "o.zarr", "--set", "source.path=https://h/a")
    refused(run("build", tmp_path / "r.toml", *other), "not https://")
