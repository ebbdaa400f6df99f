"""The five answers of a report, by hand, and the pictures at its top."""

import io
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from browser import look_at_both_widths
from conftest import recipe_text
from PIL import Image
from typer.testing import CliRunner

from pipelines.cli.app import app
from pipelines.display.image_panels import Panel
from pipelines.study.first_pictures import _shown, lesion_pictures, snr_pictures
from pipelines.study.folder import StudyFolder
from pipelines.study.lesion_parts import lesion_lines
from pipelines.study.questions import by_snr, five_questions, main_metric
from pipelines.study.settings import load_study
from pipelines.study.stages import stages_of
from synth.errors import SettingsError
from synth.recipe import parse_recipe

run = CliRunner().invoke
RECIPE = {
    "name": "t",
    "source": {"kind": "skimage"},
    "pairs": 6,
    "target": {"matrix": [32, 32], "lesions": {"diameter": 4}},
    "coils": {"kind": "loops", "count": 4},
    "sampling": {"kind": "regular", "acceleration": 2, "reference_lines": 8},
    "noise": {"snr": 20},
}


def recipe(snr, diameter=4):
    target = {"matrix": [32, 32], "lesions": {"diameter": diameter}}
    return parse_recipe({**RECIPE, "noise": {"snr": snr}, "target": target}, "t")


def rows_of(values):
    """Rows by model and corpus: six pairs of six sources, of a lesion error that varies by 0.01 between them."""
    spread = 0.01 * np.array([-1, 1, -1, 1, -1, 1])
    return [
        {
            "model": model,
            "seed": "",
            "corpus": corpus,
            "pair": k,
            "source_sha256": f"{k}",
            "lesion_error": mean + (spread[k] if model == "net" else 0),
            "false_lesions": mean / 10,
            "false_bright": mean / 20,
            "false_dark": mean / 20,
            "psnr_magnitude_slice_max": 30 - mean,
        }
        for (model, corpus), mean in values.items()
        for k in range(6)
    ]


STUDY = SimpleNamespace(
    tests=SimpleNamespace(models=["zero-filled", "sense", "net"], corpora=["high", "low", "large"]), expected=()
)
MEANS = {
    **{("net", corpus): value for corpus, value in (("high", 0.2), ("low", 0.4), ("large", 0.1))},
    **{("sense", corpus): value for corpus, value in (("high", 0.3), ("low", 0.3), ("large", 0.3))},
    **{("zero-filled", corpus): value for corpus, value in (("high", 0.6), ("low", 0.6), ("large", 0.6))},
}
RECIPES = {"high": recipe(20), "low": recipe(8), "large": recipe(20, diameter=8)}


def test_five_answers_by_hand():
    rows = rows_of(MEANS)
    told = dict(five_questions(STUDY, rows, RECIPES))
    assert list(told) == [
        "Which is best?",
        "By how much?",
        "Is it sure?",
        "What does it invent?",
        "What happens at another SNR?",
    ]
    best = told["Which is best?"]
    assert best.startswith("net: Lesion error 0.233 [")  # the mean of 0.2, 0.4 and 0.1
    assert best.endswith("the lowest of 3 models on high, low, large.")
    # 18 pairs of 6 sources, each with 3 pairs: spread 0.01, so the half width is 2.571 x 0.01 sqrt(6 / 5) / sqrt(6)
    half = 2.571 * 0.01 * np.sqrt(6 / 5) / np.sqrt(6)
    ends = f"{0.3 - 0.7 / 3 - half:.3f} … {0.3 - 0.7 / 3 + half:.3f}"
    assert told["By how much?"].startswith(f"0.067 [{ends}] better than sense; 0.367 [")
    assert told["Is it sure?"] == "Yes: net is better than sense; over 6 sources."
    invented = told["What does it invent?"]
    assert invented.startswith("net: false lesions 0.023 [")
    assert "the least of 3 models" in invented
    snr = told["What happens at another SNR?"]
    assert snr.startswith("Lesion error of net at SNR 20: 0.200, 8: 0.400. From SNR 20 to 8 it changes by +0.200 [")
    assert snr.endswith("the best there is sense, 0.300.")


def test_answers_say_what_is_not_known():
    rows = rows_of({**MEANS, ("sense", "high"): 0.2, ("sense", "low"): 0.4, ("sense", "large"): 0.1})
    told = dict(five_questions(STUDY, rows, {}))
    assert told["Is it sure?"].startswith("No: ")
    assert "cannot be told apart, since the 95 % interval of their difference contains 0" in told["Is it sure?"]
    assert told["What happens at another SNR?"] == "Not tested: no two tests differ in their SNR alone."
    bare = [{k: v for k, v in row.items() if "lesion" not in k and "false" not in k} for row in rows]
    bare = [row | {"ssim_windowed_slice_range": 0.9} for row in bare]
    assert dict(five_questions(STUDY, bare, {}))["What does it invent?"].startswith("Not measured")
    assert five_questions(STUDY, rows_of({("net", "high"): 0.2}), {}) == []


def test_the_metric_of_a_study_is_what_its_expectations_are_about():
    rows = [{"ssim_windowed_slice_range": 1.0, "psnr_magnitude_slice_max": 1.0, "noise_gain": 1.0}]
    asked = [SimpleNamespace(metric=m) for m in ("psnr_magnitude_slice_max", "noise_gain", "noise_gain")]
    assert main_metric(SimpleNamespace(expected=asked), rows) == "psnr_magnitude_slice_max"  # a gain has no best
    assert main_metric(SimpleNamespace(expected=()), rows) == "ssim_windowed_slice_range"
    assert main_metric(SimpleNamespace(expected=asked), [{**rows[0], "lesion_error": 0.1}]) == "lesion_error"


def test_corpora_that_differ_in_their_snr_alone():
    known = {**RECIPES, "middle": recipe(10), "range": recipe([8, 80])}
    assert by_snr(["high", "low", "large", "middle", "range", "lost"], known) == [{"low": 8, "middle": 10, "high": 20}]


def widths(pictures):
    return [[Image.open(io.BytesIO(data)).width for data in panels] for _, panels in pictures]


def test_the_first_picture_is_over_lesions_or_over_the_snr_and_fits_a_phone():
    rows = rows_of(MEANS)
    stages = {f"build/{name}": SimpleNamespace(settings=r, without="", kind="build") for name, r in RECIPES.items()}
    for name in ("high", "large"):
        test = SimpleNamespace(corpus=name, without="build/bare", needs=(f"build/{name}",), kind="test")
        stages[f"test/net/on/{name}"] = test
    (lesions,) = pictures = lesion_pictures(STUDY.tests.models, rows, stages)
    assert lesions[0].startswith("Bright lesions in bare by their size, with 95 % intervals")
    (snr,) = snr_pictures(STUDY, rows, RECIPES)
    assert "Lesion error and PSNR by the SNR of the test" in snr[0]
    for panels in widths([*pictures, snr]):
        assert max(panels) <= 358  # 390 pixels less the margins
        assert sum(panels) + 5 * len(panels) <= 1280 - 32  # side by side on a desk
    assert lesion_pictures(STUDY.tests.models, [], stages) == []


def test_of_many_models_the_best_ten_are_curves():
    means = {(f"net-{k}", corpus): k / 10 for k in range(14) for corpus in ("high", "low")}
    models = [f"net-{k}" for k in reversed(range(14))]
    many = SimpleNamespace(tests=SimpleNamespace(models=models, corpora=["high", "low"]), expected=())
    rows = rows_of(means)
    assert _shown(models, rows, "lesion_error", ["high", "low"]) == models[4:]
    (snr,) = snr_pictures(many, rows, RECIPES)
    assert "The best 10 of 14 models." in snr[0]


def test_a_lesion_is_shown_with_what_it_alone_changed():
    bare = np.full((60, 80), 0.5)
    dark = bare.copy()
    dark[38:43, 68:73] -= 0.2  # near the right edge: the part is moved into the image
    half = bare + 0.5 * (dark - bare)
    images, alone = lesion_lines({"reference": (dark, bare), "net": (half, bare)}, 5)
    assert [panel.title for panel in images] == ["reference", "net"]
    assert all(isinstance(panel, Panel) and panel.image.shape == (25, 25) for panel in (*images, *alone))
    assert images[0].image.min() == pytest.approx(0.3)
    for panel, height in zip(alone, (1.0, 0.5), strict=True):  # a dark lesion is shown bright
        assert panel.image.max() / panel.top == pytest.approx(height)
        assert (panel.image > 0).sum() == 25
    many = {f"{k}": (dark, bare) for k in range(9)}
    assert [len(line) for line in lesion_lines(many, 5)] == [7, 7, 2, 2]


TEXT = """
name = "seen"
question = "What is seen?"
[scales.smoke]
recipes = ["pairs=4", "target.matrix=[40, 40]", "target.reference=clean"]
noise_map = 4
[corpora.plain]
recipe = "RECIPE"
noise_map = 72
[corpora.small]
recipe = "RECIPE"
set = ["target.lesions={diameter=3}"]
without = "plain"
[corpora.large]
recipe = "RECIPE"
set = ["target.lesions={diameter=5}"]
without = "plain"
[tests]
models = ["cg-sense:6", "zero-filled"]
corpora = ["small", "large", "plain"]
[[figures]]
title = "Lesions as they came back"
kind = "lesions"
models = ["cg-sense:6", "zero-filled"]
corpora = ["small", "large"]
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory, photos):
    folder = tmp_path_factory.mktemp("seen")
    (folder / "recipe.toml").write_text(recipe_text(photos))
    (folder / "seen.toml").write_text(TEXT.replace("RECIPE", str(folder / "recipe.toml")))
    made = run(app, ["study", str(folder / "seen.toml"), "--scale", "smoke", "--out", str(folder / "out")])
    assert made.exit_code == 0, made.output
    return folder


def test_a_report_begins_with_its_answer_and_shows_noise_where_it_was_asked_for(seen):
    html = (seen / "out" / "report.html").read_text()
    order = [
        html.index(part)
        for part in (
            "Which is best?",
            "What happens at another SNR?",
            "<figcaption>Bright lesions in plain by their size",
            "<figcaption>Lesions as they came back.",
            "<h2>Results</h2>",
            'id="matrix"',
            "On plain: noise of the first pair for the noise at hand",
            'id="definitions"',
        )
    ]
    assert order == sorted(order)
    assert html.count('<table class="sortable metrics">') == 1
    assert '<abbr title="Wang&#39;s SSIM of magnitudes' in html
    assert html.count("<dt>SSIM</dt>") == 1
    stages = stages_of(load_study(seen / "seen.toml"), "smoke")
    assert {stage.noise_map for stage in stages.values() if stage.corpus == "plain"} == {4}  # at most, at this scale
    rows = StudyFolder(seen / "out", stages).rows()
    assert all(("noise_sd" in row) == (row["corpus"] == "plain") for row in rows)


def test_a_noise_map_that_is_asked_for_later_makes_its_test_again_and_no_other(seen, tmp_path):
    shutil.copy(seen / "recipe.toml", tmp_path)
    text = (seen / "seen.toml").read_text()
    before = stages_of(load_study(seen / "seen.toml"), "smoke")
    (tmp_path / "seen.toml").write_text(text.replace("noise_map = 72", "noise_map = 0"))
    after = stages_of(load_study(tmp_path / "seen.toml"), "smoke")
    assert {name for name in before if before[name].key != after[name].key} == {
        "test/cg-sense:6/on/plain",
        "test/zero-filled/on/plain",
    }


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("noise_map = 72", "noise_map = 2", "noise maps need at least 4 probes, got 2; write 0, or 72"),
        ('corpora = ["small", "large"]', 'corpora = ["plain"]', "plain has no lesions; a figure of lesions needs"),
    ],
)
def test_what_cannot_be_shown_is_refused(old, new, message, seen, tmp_path):
    (tmp_path / "seen.toml").write_text((seen / "seen.toml").read_text().replace(old, new))
    with pytest.raises(SettingsError, match=message):
        load_study(tmp_path / "seen.toml")


def test_the_page_is_whole_at_both_widths(seen, tmp_path):
    for found in look_at_both_widths(seen / "out" / "report.html", tmp_path):
        once, twice = found.sorted_rows
        assert twice == once[::-1] == ["zero-filled", "cg-sense:6"]
