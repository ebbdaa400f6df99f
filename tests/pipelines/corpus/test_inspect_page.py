import base64
import io
import re

import numpy as np
import pytest
from browser import look_at_both_widths
from conftest import recipe_data, write_photos
from PIL import Image

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.corpus.inspect import inspect
from pipelines.corpus.inspect_page import corpus_page
from pipelines.corpus.pair_numbers import SAID
from synth.corpus.reader import open_corpus
from synth.plan import Plan
from synth.recipe import parse_recipe
from synth.stages.augmentation import Moved
from synth.stages.target import TargetSpec


def page_of(out):
    return corpus_page(open_corpus(out)).decode()


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"sampling": {"kind": "poisson", "acceleration": 3, "reference_lines": 8}},
        {"noise": {"kind": "none"}},
        {"target": {"matrix": [[48, 56], [40, 64]], "readout_oversampling": 2}},
    ],
    ids=str,
)
def test_pages_of_every_kind_of_corpus(photos, tmp_path, sections):
    out = tmp_path / "c.zarr"
    build(parse_recipe(recipe_data(photos, pairs=6, **sections), "test"), out, ClusterSpec("sync"))
    html = page_of(out)
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!data:)", html)
    measured = "noise" not in sections
    assert ("Measured from the arrays of 6 pairs" in html) == measured
    assert ("The noise was not measured from the arrays" in html) == (not measured)
    widths = [Image.open(io.BytesIO(base64.b64decode(data))).width for data in re.findall(r"base64,([^\"]+)", html)]
    assert len(widths) == 4 * 5 + 3 + 5 + 3 * measured  # pairs, masks, pairs that stand out, noise
    assert 200 < min(widths) <= max(widths) <= 358  # of a phone's 390 pixels: nothing is cut off, and it can be read


def test_pairs_that_stand_out_are_from_different_sources(tmp_path):
    folder = write_photos(tmp_path / "photos")
    with Image.open(folder / "photo2.png") as bright:
        dim = bright.point(lambda value: value // 10)
    dim.save(folder / "photo2.png")  # all of its four pairs stand out by their scale
    out = tmp_path / "c.zarr"
    build(parse_recipe(recipe_data(folder, pairs=24), "test"), out, ClusterSpec("sync"))
    (told,) = re.findall(r"<figcaption>The pairs that stand out most.*median: (.*)</figcaption>", page_of(out))
    shown = re.findall(r"pair (\d+) \((photo\d\.png)\)", told)
    files = open_corpus(out).plan.files
    assert [files[int(pair) % 6] for pair, _ in shown] == [name for _, name in shown]
    assert shown[0][1] == "photo2.png"
    assert len(shown) == len({name for _, name in shown}) == 5


def test_the_page_in_a_browser(photos, tmp_path):
    out = tmp_path / "c.zarr"
    build(parse_recipe(recipe_data(photos, pairs=6), "test"), out, ClusterSpec("sync"))
    (tmp_path / "report.html").write_text(page_of(out))
    look_at_both_widths(tmp_path / "report.html", tmp_path)


def test_names_from_data_never_become_html(tmp_path):
    folder = write_photos(tmp_path / "photos", count=5, size=(60, 72))
    Image.new("L", (20, 20), 0).save(folder / "<b>black.png")  # rejected: there is nothing in it
    out = tmp_path / "c.zarr"
    data = recipe_data(folder, pairs=6, source={"kind": "images", "path": str(folder), "max_rejected": 0.5})
    build(parse_recipe(data, "test"), out, ClusterSpec("sync"))
    html = page_of(out)
    assert "&lt;b&gt;black.png" in html
    assert "<b>black" not in html


def test_a_claim_that_does_not_hold_is_an_alert(photos, tmp_path, monkeypatch):
    out = tmp_path / "c.zarr"
    build(parse_recipe(recipe_data(photos, pairs=4), "test"), out, ClusterSpec("sync"))
    monkeypatch.setattr("recon.evaluation.measured_noise.DEVIATIONS", 0.0)
    monkeypatch.setattr("recon.evaluation.measured_noise.ROUNDING", 0.0)  # no error is allowed: no pair agrees
    assert re.search(r'class="alert">pair \d: its stored sigma is', page_of(out))


def test_a_folder_of_other_files_is_refused(corpus, tmp_path):
    """A page must not land among photographs."""
    (tmp_path / "photo.jpg").write_bytes(b"a photograph")
    with pytest.raises(FileExistsError, match="holds other files; choose another --out"):
        inspect(corpus, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["photo.jpg"]


EVERY = [  # sections that give every number of photographs' pairs
    {"target": {"outline": "rimmed", "lesions": {"diameter": 4, "contrast": 0.3}}, "coils": {"distance": (1.5, 1.6)}},
    {
        "target": {"wrap": 1.2, "zero_filled": 0.9},
        "coils": {"estimated": {}},
        "echo_train": {"decay": 1},
        "phase": {"kind": "smooth-random", "echo_shift": 1.0},
        "sampling": {"partial_fourier": 0.8, "partial_fourier_y": 0.8},
    },
]


@pytest.mark.parametrize("sections", EVERY, ids=("plain", "scanner-like"))
def test_every_number_is_explained(photos, sections):
    made = Plan.of(parse_recipe(recipe_data(photos, **sections), "test")).pair(0).numbers
    assert {name for name, value in made.items() if np.ndim(value) == 0} - SAID.keys() == set()


def test_every_number_of_a_moved_scan_is_explained():
    drawn = Moved.draw(np.random.default_rng(1), TargetSpec(rotate=True, flip=True, shift=0.1, degrees=5), (8, 8))
    assert {*drawn.numbers(), "moved_degrees", "sigma_added", "scale"} - SAID.keys() == set()
