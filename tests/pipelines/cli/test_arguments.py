"""Arguments of the wrong kind: the message says what they are, and what the command takes."""

import json
import pickle

import h5py
import numpy as np
import pytest
from commands import refused, run
from conftest import recipe_text

from synth.corpus.reader import open_corpus
from synth.errors import ScanError
from synth.scans.open import open_scan


@pytest.fixture
def file(photos, tmp_path):
    path = tmp_path / "cli.toml"
    path.write_text(recipe_text(photos))
    return path


@pytest.mark.parametrize("command", ["build", "train", "study"])
def test_a_folder_in_the_place_of_settings_is_said_to_be_one(command, corpus, tmp_path):
    taken = {"build": "a recipe: a TOML file", "train": "data.corpora names the corpora", "study": "a study: a TOML"}
    out = tmp_path / "out"
    refused(run(command, corpus, "--out", out), f"{corpus}: is a corpus; `fathom {command}` takes", taken[command])
    refused(run(command, tmp_path, "--out", out), f"{tmp_path}: is a folder; `fathom {command}` takes")
    (tmp_path / "settings.json").write_text("{}")
    refused(run(command, tmp_path, "--out", out), f"{tmp_path}: is the folder of a training;")
    assert not out.exists()


def test_a_build_names_what_it_rejected(file, photos, tmp_path):
    """At most five files, also when the corpus is there already; one pair is "1 pair"."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "good.png").write_bytes((photos / "photo0.png").read_bytes())
    for k in range(7):
        (folder / f"text{k}.png").write_text("hello")
    words = ["build", file, "--out", tmp_path / "c.zarr", "--scheduler", "sync", "--set", f"source.path={folder}"]
    for _ in range(2):
        made = run(*words, "--set", "source.max_rejected=1.0")
        assert made.exit_code == 0, made.output
        assert ", 1 pair, 7 rejected, " in made.stdout
        told = [line for line in made.stderr.splitlines() if line.startswith("rejected: ")]
        assert len(told) == 6
        assert all(f"text{k}.png" in line for k, line in enumerate(told[:5]))
        assert told[-1] == f"rejected: 2 more; summary.json in {tmp_path / 'c.zarr'} lists all"
    assert len(json.loads(run(*words, "--set", "source.max_rejected=1.0", "--json").stdout)["reasons"]) == 7


def test_a_key_that_is_set_twice_is_told(file, tmp_path):
    words = ["build", file, "--out", tmp_path / "c.zarr", "--scheduler", "sync", "--set", "noise.snr=20"]
    made = run(*words, "--set", "noise.snr = 40", "--set", "pairs=2")
    assert made.exit_code == 0, made.stderr
    assert "note: --set noise.snr=20 has no effect: --set noise.snr = 40 comes after it" in made.stderr
    assert open_corpus(tmp_path / "c.zarr").recipe.noise.snr == (40, 40)


def test_swapped_arguments_are_told(corpus, scans, tmp_path):
    """A model in the place of a scan or of a corpus, which stands in its place."""
    out, one = ("--out", tmp_path / "out"), scans / "a.npy"
    told = "{0} is no model, and {1} is one: the arguments may be swapped; write `fathom reconstruct {1} {0}`"
    for scan in (scans, one):
        refused(run("reconstruct", scan, "photos-1", *out), told.format(scan, "photos-1"))
    refused(run("reconstruct", one, "cg-sense:3", *out), told.format(one, "cg-sense:3"))
    refused(
        run("test", "zero-filled", corpus, "cg-sense:3", *out),
        f"{corpus} is a corpus, and cg-sense:3 is a model: the arguments may be swapped",
        f"write `fathom test zero-filled cg-sense:3 {corpus}`",
    )
    assert not (tmp_path / "out").exists()


def test_a_corpus_or_a_folder_of_pictures_in_the_place_of_scans(corpus, photos, tmp_path):
    out = ("--out", tmp_path / "out")
    refused(
        run("reconstruct", "zero-filled", corpus, *out), f"{corpus} is a corpus", f"fathom test zero-filled {corpus}`"
    )
    refused(
        run("reconstruct", "zero-filled", photos, *out), "whose suffix is that of a scan; Fathom reads .cfl .dat .h5"
    )


def test_messages_about_scans_name_the_options_of_the_command_line(tmp_path, rng):
    """There is no key source.path in these commands; Python's messages keep its own words."""
    gone, out = tmp_path / "gone", ("--out", tmp_path / "out")
    for command in ("calibrate", "coils"):
        made = run(command, gone, *out)
        refused(made, f"error: {gone} does not exist; give a scan")
    kspace = (rng.normal(size=(2, 4, 24, 20)) + 1j).astype(np.complex64)
    np.savez(tmp_path / "two.npz", one=kspace, other=kspace)
    np.save(tmp_path / "five.npy", kspace[None])
    (tmp_path / "lone.cfl").write_bytes(b"\0" * 64)
    for command in (("calibrate",), ("coils",), ("reconstruct", "zero-filled")):
        refused(run(*command, tmp_path / "two.npz", *out), "name one with --variable")
        refused(run(*command, tmp_path / "five.npy", *out), "name them, such as --axes 'slice coil y x'")
        refused(
            run(*command, tmp_path / "lone.cfl", *out), "restore it, or in Python give open_scan the shape and axes"
        )
    with pytest.raises(ScanError, match="name one as variable"):
        open_scan(tmp_path / "two.npz")


def test_a_forgotten_corpus_and_one_too_many_are_told(corpus, tmp_path):
    out = tmp_path / "out"
    refused(run("test", "cg-sense:3", "--out", out), "cg-sense:3 is a model", "`fathom test cg-sense:3 CORPUS`")
    refused(
        run("test", "cg-sense:3", corpus, corpus, "--out", out), f"{corpus} is a corpus in the place of a model", "one"
    )
    assert not out.exists()


def test_the_number_of_a_baseline_is_no_label(corpus, tmp_path):
    refused(run("test", "cg-sense=3", corpus, "--out", tmp_path / "out"), "as in cg-sense:3")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("acceleration=4", "did you mean 'sampling.acceleration'?"),
        ("R=4", "did you mean 'sampling.acceleration'?"),  # the field's name, in no section
        ("source.matrix=4", "did you mean 'target.matrix'?"),  # in another section
        ("nois.snr=4", "did you mean 'noise'?"),
        ("sampling.kind=regulra", "did you mean 'regular'?"),
        ("target.matrix=[one]", '--set \'target.matrix=["one", "two"]\''),  # the shell has taken the quotes
    ],
)
def test_the_key_that_is_meant_is_told(file, tmp_path, change, told):
    refused(run("build", file, "--out", tmp_path / "c.zarr", "--set", change), told)


def test_a_list_of_one_is_shown_as_one(tmp_path):
    refused(run("train", "first", "--out", tmp_path, "--set", "data.corpora=mine.zarr"), 'such as ["mine.zarr"]')


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('seed = 1\nname = "a"\nname = "b"\n', "a key is given twice in one section; remove one (at line 3"),
        ("[noise]\nsnr = 1\n[noise]\nsnr = 2\n", "the section [noise] begins twice; remove one (at line 3"),
        ('[source]\nkind = "images"\npath = "C:\\Users"\n', "a text with backslashes needs single quotes"),
        ('\ufeffname = "a"\n', "source: is missing; add it, as a section [source]"),  # after a byte-order mark
    ],
)
def test_what_is_wrong_in_a_file_is_told_in_plain_words(tmp_path, text, told):
    (tmp_path / "two.toml").write_text(text)
    refused(run("build", tmp_path / "two.toml", "--out", tmp_path / "c.zarr"), told)


def test_too_few_values_are_told(tmp_path):
    refused(
        run("train", "first", "--out", tmp_path / "t", "--set", "data.corpora=[]"), "must have at least 1, and has 0"
    )


def test_a_misspelt_name_is_told(tmp_path, monkeypatch):
    refused(run("build", "demmo", "--out", tmp_path / "c.zarr"), "did you mean demo?")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "little.toml").touch()
    refused(run("train", "litle", "--out", tmp_path / "t"), "did you mean little.toml?")


def test_a_note_on_a_recipe_comes_before_its_build_and_once(file, tmp_path):
    made = run("build", file, "--out", tmp_path / "c.zarr", "--scheduler", "sync", "--set", "noise.snr=0.5")
    assert made.exit_code == 0, made.stderr
    assert made.stderr.count("noise.snr goes down to 0.5") == 1
    assert "noise.snr" not in made.stdout


def test_scans_of_different_coils_are_refused_before_the_others_are_read(tmp_path):
    for name, coils in (("a", 2), ("b", 4), ("c", 2)):
        noise = np.random.default_rng(coils).normal(size=(coils, 64, 64, 2)).astype(np.float32)
        np.save(tmp_path / f"{name}.npy", noise[..., 0] + 1j * noise[..., 1])
    (tmp_path / "c.npy").write_bytes(b"not read")
    words = ["calibrate", tmp_path, "--out", tmp_path / "n.json", "--axes", "coil y x"]
    refused(run(*words), "a.npy has 2 coils", "b.npy has 4 coils", f"`fathom calibrate {tmp_path}/a.npy --out a.json`")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("sampling.kindd=regular", "did you mean 'kind'?"),
        ("target.snr=20", "did you mean 'noise.snr'? known here: "),  # of another section: perhaps not what is meant
        ("sampling.kind=file", "sampling.kind = 'file' has no such key; it has kind,"),
        ("sampling_.acceleration=4", "--set sampling_: unknown key; did you mean 'sampling'?"),
    ],
)
def test_an_unknown_key_is_told_where_it_stands(file, tmp_path, change, told):
    refused(run("build", file, "--out", tmp_path / "c.zarr", "--set", change), told)


def test_a_text_without_quotes_is_shown(file, tmp_path):
    (tmp_path / "t.toml").write_text(file.read_text() + "\n[more]\nkind = loops\n")
    refused(run("build", tmp_path / "t.toml", "--out", tmp_path / "c.zarr"), "kind = loops; a text needs quotes")


def test_words_too_many_are_told(file, tmp_path):
    told = run("build", file, "--out", tmp_path / "c.zarr", "--set", "noise.snr", "20")
    assert told.exit_code == 2
    assert "--set KEY=VALUE" in " ".join(told.output.replace("│", " ").split())


def test_what_a_training_cannot_start_from_is_told(corpus, tmp_path):
    words = ["train", "first", "--out", tmp_path / "t", "--set", f'data.corpora=["{corpus}"]', "--start"]
    refused(run(*words, "cg-sense:10"), "cg-sense:10 is a baseline, which has no weights; give photos-1 or the folder")
    refused(run(*words, "net.py:Net,"), "FILE.py:FACTORY,WEIGHTS without spaces")
    refused(run(*words, "photos-1", "--set", "model.iterations=3"), "model.iterations is 12 there and 3 here")


def test_models_that_are_named_twice_are_named(corpus, tmp_path):
    words = ["test", "a=cg-sense:3", "a=cg-sense:4", corpus, "--out", tmp_path / "out"]
    refused(run(*words), "a is there twice")
    refused(run("test", "cg-sense:x", corpus, "--out", tmp_path / "out"), "write a whole number of iterations above 0")
    refused(run("test", "wavelet:x", corpus, "--out", tmp_path / "out"), "wavelet:x: write a number above 0")


def test_a_study_runs_a_network_of_ones_own_before_its_stages(tmp_path):
    (tmp_path / "net.py").write_text("class Net:\n    pass\n")
    words = ["study", "demo", "--scale", "smoke", "--out", tmp_path / "s", "--model", f"mine={tmp_path}/net.py:Nett"]
    refused(run(*words), "there is no function or class of this name; net.py defines Net")
    refused(run(*words, "--plan"), "net.py defines Net")
    assert not (tmp_path / "s").exists()


def test_scans_that_give_no_maps_leave_nothing(tmp_path):
    kspace = np.zeros((4, 64, 64), np.complex64)
    kspace[:, :, ::2] = 1 + np.random.default_rng(1).normal(size=(4, 64, 32))
    np.save(tmp_path / "und.npy", kspace)
    words = ["coils", tmp_path / "und.npy", "--out", tmp_path / "coils.zarr", "--axes", "coil y x"]
    refused(run(*words, "--scheduler", "sync"), "the centre 24x24 of k-space, from which maps are made, is not fully")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["und.npy"]


def test_a_header_leads_to_its_data(tmp_path):
    for name in ("scan.hdr", "scan.cfl"):
        (tmp_path / name).touch()
    with pytest.raises(ScanError, match=r"did you mean scan\.cfl\?"):
        open_scan(tmp_path / "scan.hdr")


@pytest.mark.parametrize("command", ["verify", "publish"])
def test_a_folder_that_is_neither_a_corpus_nor_a_training_is_told(command, tmp_path):
    out = () if command == "verify" else ("--out", tmp_path / "out")
    remedy = "give the folder that `fathom build` or `fathom train` made"
    refused(
        run(command, tmp_path, *out), f"{tmp_path} is neither a corpus of Fathom's nor a finished training; {remedy}"
    )
    refused(run(command, tmp_path / "gone", *out), f"gone does not exist; {remedy}")
    assert not list(tmp_path.iterdir())


def test_what_is_no_export_is_told_without_a_file_of_its_own(tmp_path):
    out = ("--out", tmp_path / "out")
    refused(run("import", tmp_path, *out), f"{tmp_path} is not an export of Fathom's; give a folder")
    refused(run("import", tmp_path / "gone", *out), "gone does not exist; give a folder that `fathom export` made")


def test_arrays_that_are_no_kspace(tmp_path):
    """Images, objects, and an order of axes that makes coils of an image's rows."""
    np.save(tmp_path / "image.npy", np.zeros((24, 20), np.float32))
    refused(
        run("calibrate", tmp_path / "image.npy", "--out", tmp_path / "p"), "its array holds float32, and k-space is"
    )
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    refused(
        run("calibrate", tmp_path / "objects.npy", "--out", tmp_path / "p"), "Python objects, which are never loaded"
    )
    np.save(tmp_path / "scan.npy", np.ones((130, 24, 20), np.complex64))
    with pytest.raises(ScanError, match="give slices: 1, coils: 130, image: 24x20, and no receive array has more than"):
        open_scan(tmp_path / "scan.npy", axes="coil y x")
    assert open_scan(tmp_path / "scan.npy", axes="y x coil").coils == 20


def test_a_text_in_the_place_of_a_numpy_file(file, tmp_path):
    """numpy takes it for a pickle, and advises to run what may be code."""
    for name, data in (("text.npy", b"hello"), ("text.npz", b"hello"), ("pickle.npy", pickle.dumps({}))):
        (tmp_path / name).write_bytes(data)
        refused(
            run("calibrate", tmp_path / name, "--out", tmp_path / "p"),
            f"{name}: is not a numpy file, although its suffix says so",
        )
    change = f"coils={{kind='library', path='{tmp_path}/text.npz'}}"
    made = run("build", file, "--out", tmp_path / "c.zarr", "--set", change)
    refused(made, "text.npz: is not a numpy file", "save it with numpy.save")
    assert "allow_pickle" not in made.output


@pytest.mark.parametrize(
    "options",
    [
        ("--scheduler", "nonsense"),
        ("--scheduler", "tcp://10.0.0.1:8786"),
        ("--scheduler-file", "nowhere.json"),
        ("--scheduler", "tls://127.0.0.1:8786", "--tls-cert", "nowhere.pem"),
    ],
)
def test_a_scheduler_that_cannot_be_one_is_refused_before_a_build_begins(file, tmp_path, options):
    refused(run("build", file, "--out", tmp_path / "c.zarr", *options), options[-2], options[-1])
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_section_that_a_change_breaks_is_not_blamed_on_the_file(tmp_path):
    """A ready recipe from scikit-image's photographs, given others."""
    made = run("build", "first", "--out", tmp_path / "c.zarr", "--set", f"source.path={tmp_path}")
    refused(made, "error: --set source.path: source = ", "kind 'skimage' takes no path", "--set source.kind=images")
    assert "first.toml" not in made.stderr


def test_steps_take_the_place_of_epochs(tmp_path):
    """A user cannot take a key out of a file of the package."""
    made = run("train", "knoll2019", "--out", tmp_path / "t", "--set", "training.steps=2")
    refused(made, ".zarr")  # the next thing that is missing
    both = run("train", "knoll2019", "--out", tmp_path / "t", "--set", "training.steps=2", "--set", "training.epochs=2")
    refused(both, "--set training.steps and training.epochs: training = ", "give either steps or epochs")


def test_options_without_effect_are_told(scans, tmp_path):
    options = ("--reference-lines", 40, "--probes", 8)
    made = run("reconstruct", "zero-filled", scans / "a.npy", "--out", tmp_path / "out", *options)
    assert made.exit_code == 0, made.stderr
    assert "note: --reference-lines has no effect without --acceleration" in made.stderr
    assert "note: --probes has no effect without --noise-map" in made.stderr


def test_the_source_part_of_a_recipe_is_told(file, tmp_path):
    words = ["build", file, "--scheduler", "sync", "--set", "source.part=[0, 0.5]", "--set", "pairs=3"]
    made = run(*words, "--out", tmp_path / "c.zarr")
    assert "note: source.part = [0, 0.5] leaves the other sources out" in made.output


def test_files_without_kspace_have_none_to_name(tmp_path):
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file["image"] = np.zeros((24, 20))
    np.savez(tmp_path / "images.npz", image=np.zeros((24, 20)))
    for name in ("empty.h5", "images.npz"):
        refused(
            run("calibrate", tmp_path / name, "--out", tmp_path / "p"),
            f"{name}: it has no complex array that could be k-space",
        )


def test_a_source_of_many_rejected_pairs_is_named_once(file, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "bad.png").write_text("hello")
    words = ["build", file, "--out", tmp_path / "c.zarr", "--scheduler", "sync", "--set", "pairs=20"]
    made = run(*words, "--set", f"source.path={tmp_path / 'photos'}")
    refused(made, " of 20 pairs were rejected")
    assert made.stderr.count("bad.png") == 1
