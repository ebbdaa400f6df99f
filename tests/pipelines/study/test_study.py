import csv
import json
import re
import shutil
import signal
import time

import pytest
import torch
from browser import look_at_both_widths
from conftest import recipe_text
from processes import forked
from typer.testing import CliRunner

from pipelines.cli.app import app
from pipelines.ready.names import RECIPES, STUDIES, TRAININGS
from pipelines.study.folder import StudyFolder
from pipelines.study.rates import measured_rates
from pipelines.study.run import least_used
from pipelines.study.settings import load_study
from pipelines.study.stages import stages_of
from pipelines.study.timing import Timings
from recon.training.run import Run
from synth.errors import SettingsError

run = CliRunner().invoke
SMOKING = [  # `bottom` has most of what a study can have; the others have more stages of the same kinds
    pytest.param(path, marks=[] if path.stem == "bottom" else pytest.mark.slow)
    for path in sorted(STUDIES.glob("*.toml"))
    if "smoke" in load_study(path).scales
]

TEXT = """
name = "little"
question = "Does <b>training</b> help?"

[scales.smoke]
recipes = ["pairs=4"]
trainings = ["training.steps=3"]
seeds = 1

[corpora.train]
recipe = "RECIPE"

[corpora.test]
recipe = "RECIPE"
set = ["seed=9", "pairs=5"]

[trainings.vn]
training = "laptop-variational"
corpora = ["train"]
seeds = [1, 2]
set = ["model.stages=2", "model.filters=3", "training.batch_size=2"]

[trainings.tuned]
training = "laptop-variational"
corpora = ["train"]
start = "vn"
set = ["model.stages=2", "model.filters=3", "training.batch_size=2"]

[tests]
models = ["vn", "tuned", "cg-sense:6", "zero-filled"]
corpora = ["test"]

[[expected]]
finding = "CG-SENSE beats zero filling"
model = "cg-sense:6"
other = "zero-filled"
corpus = "test"
metric = "psnr_magnitude_slice_max"
least = 0.0

[[tables]]
title = "What <i>they</i> found"
cells = [{experiment = "1", model = "vn", on = "test", paper = 0.94}, {experiment = "2", model = "tuned", on = "test"}]

[[figures]]
title = "Side <u>by</u> side"
models = ["vn", "zero-filled"]
corpora = ["test"]

[[figures]]
title = "Errors where SENSE is badly conditioned"
kind = "conditioning"
models = ["vn", "cg-sense:6"]
corpora = ["test"]
"""


def write_study(folder, photos):
    (folder / "recipe.toml").write_text(recipe_text(photos))
    path = folder / "little.toml"
    path.write_text(TEXT.replace("RECIPE", str(folder / "recipe.toml")))
    return path


@pytest.fixture
def study(tmp_path, photos):
    return write_study(tmp_path, photos)


@pytest.fixture(autouse=True)
def short_measurements(monkeypatch):
    """A plan repeats steps for a second each; once is enough here."""
    monkeypatch.setattr("recon.training.dry_run.ENOUGH", 0.0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, photos):
    """The folder of this study, run to the end; do not change it."""
    folder = tmp_path_factory.mktemp("finished")
    made = done(write_study(folder, photos), folder / "out")
    assert made.exit_code == 0, made.output
    return folder / "out"


def rows_in(out):
    with (out / "rows.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def done(study, out, *more):
    scale = [] if "--scale" in more else ["--scale", "smoke"]
    made = run(app, ["study", str(study), "--out", str(out), *scale, *more])
    assert "Traceback" not in made.output
    return made


def test_a_users_own_study_runs_and_is_not_made_twice(study, tmp_path):
    out = tmp_path / "out"
    plan = done(study, out, "--plan")
    assert "train/vn/1" in plan.output
    assert not out.exists()
    made = done(study, out)
    assert made.exit_code == 0, made.output
    assert re.search(r"^held[^:]*: CG-SENSE beats zero filling \([\d.]+ \[", made.output, re.MULTILINE)
    rows = rows_in(out)
    assert {row["model"] for row in rows} == {"vn", "tuned", "cg-sense:6", "zero-filled"}
    assert len(rows) == 4 * 4  # four models, four pairs at smoke scale
    (finding,) = json.loads((out / "findings.json").read_text())
    assert finding["verdict"].startswith("held")
    before = (out / "rows.csv").read_bytes()
    again = done(study, out, "--json")
    assert again.exit_code == 0
    assert ": made" not in again.output
    assert (out / "rows.csv").read_bytes() == before


def test_ones_own_model_is_tested_beside_the_studys_and_again_when_its_code_changes(study, finished, tmp_path):
    out, net = shutil.copytree(finished, tmp_path / "out"), tmp_path / "net.py"
    net.write_text("from recon import ZeroFilled\n\n\ndef make():\n    return ZeroFilled()\n")
    chosen = ("--model", f"mine={net}:make")
    made = done(study, out, *chosen)
    assert made.exit_code == 0, made.output
    assert re.findall(r"(\S+): made", made.output) == ["test/mine/on/test"]
    by_model = {name: [row for row in rows_in(out) if row["model"] == name] for name in ("mine", "zero-filled")}
    assert len(by_model["mine"]) == 4
    for mine, ours in zip(by_model["mine"], by_model["zero-filled"], strict=True):
        assert {**mine, "model": ""} == {**ours, "model": ""}
    assert "mine" in (out / "report.html").read_text()
    assert ": made" not in done(study, out, *chosen).output
    net.write_text(net.read_text() + "# changed\n")
    assert re.findall(r"(\S+): made", done(study, out, *chosen).output) == ["test/mine/on/test"]
    net.write_text("def make():\n    return lambda batch: batch['nothing']\n")
    failed = done(study, out, *chosen)
    assert failed.exit_code == 1
    assert "KeyError: 'nothing'" in failed.output
    for wrong in (f"{net}:make", f"zero filled={net}:make", "mine=nowhere", f"cg={net}"):
        refused = done(study, out, "--model", wrong)
        assert refused.exit_code == 1
        assert refused.output.count("\n") == 1


def test_what_is_lost_is_made_again_and_nothing_else(study, finished, tmp_path):
    out = shutil.copytree(finished, tmp_path / "out")
    rows = (out / "rows.csv").read_bytes()
    stages = stages_of(load_study(study), "smoke")
    lost = stages["train/vn/1"].folder
    kept = {name: (out / s.folder).stat().st_mtime_ns for name, s in stages.items() if name != "train/vn/1"}
    shutil.rmtree(out / lost)
    again = done(study, out)
    assert re.findall(r"(\S+): made", again.output) == ["train/vn/1"]
    assert {name: (out / stages[name].folder).stat().st_mtime_ns for name in kept} == kept
    assert (out / "rows.csv").read_bytes() == rows


def test_killed_in_each_stage_it_gives_the_same_rows(study, finished, tmp_path):
    """The real command is killed shortly after a stage ends, while it builds, trains, fine-tunes and tests."""
    command = ("study", study, "--out", tmp_path / "killed", "--scale", "smoke")
    told, killed = tmp_path / "told", 0
    for after in ("build/train:", "build/test:", "train/vn/1:", "test/vn/1/on/test:", None):  # there, or made
        told.write_text("")
        process = forked(*command, told=told)
        while process.is_alive():
            if after is not None and after in told.read_text():
                time.sleep(0.2)  # into the next stage
                process.kill()
                break
            time.sleep(0.01)
        process.join(60)
        killed += process.exitcode == -signal.SIGKILL
        assert process.exitcode in (0, -signal.SIGKILL), told.read_text()
    assert process.exitcode == 0
    assert killed >= 2  # a fast machine may have been done before
    assert (tmp_path / "killed" / "rows.csv").read_bytes() == (finished / "rows.csv").read_bytes()


def test_a_part_of_a_study_keeps_what_earlier_parts_have_made(study, tmp_path):
    out = tmp_path / "out"
    done(study, out, "--only", "test/zero-filled/*")
    first = (out / "rows.csv").read_text().splitlines()
    done(study, out, "--only", "test/cg-sense:6/*")
    both = (out / "rows.csv").read_text().splitlines()
    assert set(first) < set(both)
    assert len(both) == 1 + 2 * (len(first) - 1)
    html = (out / "report.html").read_text()
    assert re.search(r"test/zero-filled/on/test</td><td class=\"text\">there<", html)
    assert re.search(r"train/vn/1</td><td class=\"text\">not made<", html)


def test_a_plan_tells_how_long(study, tmp_path):
    out = tmp_path / "out"
    assert re.search(r"about \d+ s to go", done(study, out, "--plan").output)
    done(study, out, "--only", "test/vn/*")
    plan = done(study, out, "--plan").output
    assert re.search(r"train/vn/1 +there +\d+ s ", plan)
    stages = stages_of(load_study(study), "smoke")
    folder = StudyFolder(out, stages)
    timings = Timings(folder)
    assert timings.taken("train/vn/1") > 0
    assert timings.expected("train/tuned/1") == pytest.approx(timings.taken("train/vn/1"))  # as many steps
    per_pair = timings.taken("test/vn/1/on/test")
    assert timings.expected("test/zero-filled/on/test") == pytest.approx(per_pair)  # the only test there is yet
    with (out / "seconds.jsonl").open("a") as file:
        file.write('{"key": "cut')
    again = Timings(folder)
    again.note("train/tuned/1", 7.0)
    assert Timings(folder).taken("train/vn/1") == timings.taken("train/vn/1")
    assert Timings(folder).taken("train/tuned/1") == 7


def test_a_plan_times_this_machine_and_runs_nothing(study, tmp_path):
    out = tmp_path / "out"
    plan = done(study, out, "--plan")
    assert plan.exit_code == 0
    assert "timed on this machine now" in plan.output
    assert not out.exists()
    folder = StudyFolder(out, stages_of(load_study(study), "smoke"))
    rates = {"train/vn/1": 2.0, "test/vn/1/on/test": 0.5, "build/test": 0.25}
    timings = Timings(folder, rates)
    assert timings.expected("train/vn/1") == 3 * 2  # steps
    assert timings.expected("test/vn/1/on/test") == 4 * 0.5  # pairs
    assert timings.expected("build/test") == 4 * 0.25
    folder.path.mkdir()
    timings.note("train/vn/1", 60.0)  # what was made is a better guide
    assert timings.expected("train/tuned/1") == 60
    assert "train/tuned/1" not in timings.without_like
    assert "test/vn/1/on/test" in timings.without_like


def test_rates_are_of_the_actual_steps(study, tmp_path, monkeypatch):
    """A network whose step takes 0.2 s at least is told to take 0.2 s a step at least; its test likewise."""
    monkeypatch.setattr("recon.training.dry_run.ENOUGH", 0.2)
    step = Run.advance

    def slow(self, batch):
        time.sleep(0.2)
        step(self, batch)

    monkeypatch.setattr(Run, "advance", slow)
    folder = StudyFolder(tmp_path / "out", stages_of(load_study(study), "smoke"))
    threads = torch.get_num_threads()
    rates = measured_rates(folder, ["train/vn/1", "build/train", "test/zero-filled/on/test"], "cpu")
    assert 0.2 <= rates["train/vn/1"] < 2
    assert 0 < rates["build/train"] < 1
    assert 0 < rates["test/zero-filled/on/test"] < 1
    assert torch.get_num_threads() == threads
    assert not folder.path.exists()


def test_a_folder_that_is_missing_is_told_before_anything_runs(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.toml").write_text(recipe_text("data/nowhere"))
    text = study.read_text().replace("[corpora.train]\nrecipe = ", '[corpora.train]\nrecipe = "broken.toml"\n# ', 1)
    study.write_text(text)
    plan = done(study, tmp_path / "out", "--plan")
    assert plan.exit_code == 1
    assert "missing: data/nowhere, for build/train; put the data there, or a link to them" in plan.output
    assert "train/vn/1" in plan.output  # the plan is shown all the same
    made = done(study, tmp_path / "out")
    first = next(line for line in made.output.splitlines() if line.startswith(("missing", "[")))
    assert first.startswith("missing: data/nowhere")


def test_without_any_of_its_data_nothing_is_made(study, tmp_path):
    """Rather than a report of stages that all failed."""
    (tmp_path / "recipe.toml").write_text(recipe_text("nowhere"))
    made = done(study, tmp_path / "out")
    assert made.exit_code == 1
    assert made.output.endswith("nothing was made: every corpus of this study needs data that are missing\n")
    assert not (tmp_path / "out").exists()


def test_laptop_is_the_scale_that_is_not_asked_for(study, tmp_path):
    made = run(app, ["study", str(study), "--out", str(tmp_path / "out")])
    assert "has no scale 'laptop'; it has smoke" in made.output
    assert all("laptop" in load_study(path).scales for path in STUDIES.glob("*.toml"))


def test_smoke_is_said_in_red_at_the_top(finished):
    html = (finished / "report.html").read_text()
    red = html.index('<p class="smoke">Smoke scale')
    assert red < html.index("<h1>")


def test_ready_tells_the_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "mr").mkdir(parents=True)
    lines = {line.split()[0]: line for line in run(app, ["ready"]).output.splitlines() if line.startswith("  ")}
    assert lines["demo"].split(maxsplit=1)[1] == "photographs of scikit-image"
    assert lines["bottom"].split(maxsplit=1)[1] == "data/bsds500/train (missing here), data/mr"
    assert "data/div2k (missing here)" in lines["nickel-2x2"]
    assert "laptop.zarr (missing here)" in lines["laptop-unrolled"]
    names = {path.stem for path in (*STUDIES.glob("*.toml"), *RECIPES.glob("*.toml"), *TRAININGS.glob("*.toml"))}
    assert lines.keys() == names
    assert "`fathom ready` tells" in run(app, ["build", "nothing", "--out", "x.zarr"]).output


def test_rows_of_earlier_versions_are_read(study, finished, tmp_path):
    """Rows that name no source get it from the corpus, and the report counts sources."""
    out = shutil.copytree(finished, tmp_path / "out")
    stages = stages_of(load_study(study), "smoke")
    before = StudyFolder(out, stages).rows()
    assert {row["source"] for row in before} == {f"photo{k}.png" for k in range(4)}
    for file in out.glob("tests/*/rows.csv"):
        with file.open(newline="") as text:
            rows = [{k: v for k, v in row.items() if not k.startswith("source")} for row in csv.DictReader(text)]
        with file.open("w", newline="") as text:
            writer = csv.DictWriter(text, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    assert StudyFolder(out, stages).rows() == before
    shutil.rmtree(out / stages["build/test"].folder)
    lost = StudyFolder(out, stages)
    assert len(lost.rows()) == len(before)
    assert lost.alerts[0].startswith("the sources of test cannot be shown")


def test_several_stages_at_a_time_give_the_same_rows(study, finished, tmp_path):
    many = done(study, tmp_path / "many", "--workers", "2")
    assert many.exit_code == 0, many.output
    assert (tmp_path / "many" / "rows.csv").read_bytes() == (finished / "rows.csv").read_bytes()


def test_a_stage_that_fails_leaves_the_rest(study, tmp_path, photos):
    broken = tmp_path / "broken.toml"
    broken.write_text(recipe_text(tmp_path / "nowhere"))
    text = study.read_text().replace("[corpora.train]\nrecipe = ", f'[corpora.train]\nrecipe = "{broken}"\n# ', 1)
    study.write_text(text)
    out = tmp_path / "out"
    made = done(study, out)
    assert made.exit_code == 1
    assert "build/train: failed" in made.output
    assert "train/vn/1: left out" in made.output
    assert "test/cg-sense:6/on/test: made" in made.output
    report = (out / "report.html").read_text()
    assert "build/train: failed" in report
    rows = rows_in(out)
    assert {row["model"] for row in rows} == {"cg-sense:6", "zero-filled"}


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("tests/zero-filled_on_test-*/rows.csv", b"model,pair\nzero-filled,0\n", "rows of 1 pairs, not of 4"),
        ("tests/zero-filled_on_test-*/rows.csv", b"\xff\xfe", "cannot be shown"),
        ("tests/zero-filled_on_test-*/rows.csv", None, "cannot be shown"),
        ("trainings/vn_1-*/model.json", b"[]", ""),
        ("trainings/vn_1-*/model.json", b'{"lam', "cannot be shown"),
        ("trainings/vn_1-*/model.safetensors", b"cut", "cannot be shown"),
        ("trainings/vn_1-*/metrics.jsonl", b"5\n", ""),
        ("seconds.jsonl", b"\xff\xfe", ""),
        ("figures/*.png", b"", ""),
    ],
)
def test_a_damaged_file_costs_its_part_of_the_report(file, text, message, study, finished, tmp_path):
    out = shutil.copytree(finished, tmp_path / "out")
    (out / "report.html").unlink()
    (found,) = out.glob(file)
    if text is None:
        found.unlink()
    else:
        found.write_bytes(text)
    made = done(study, out)
    assert made.exit_code == 0, made.output
    assert message in (out / "report.html").read_text()


def test_a_corpus_that_is_damaged_after_its_tests_costs_no_report(study, finished, tmp_path):
    out = shutil.copytree(finished, tmp_path / "out")
    rows = (out / "rows.csv").read_bytes()
    stages = stages_of(load_study(study), "smoke")
    (out / stages["build/test"].folder / "zarr.json").write_text("not JSON")
    again = done(study, out)
    assert (out / "rows.csv").read_bytes() == rows
    assert "leakage of build/test cannot be shown" in (out / "report.html").read_text(), again.output


def test_the_report_needs_nothing_else_and_escapes(finished, tmp_path):
    html = (finished / "report.html").read_text()
    assert "Does &lt;b&gt;training&lt;/b&gt; help?" in html
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!data:)", html)
    assert html.count("data:image/png;base64,") >= 3
    assert "train/vn/1 to train/tuned/1" in html
    assert "What &lt;i&gt;they&lt;/i&gt; found" in html
    assert "<td>0.94</td>" in html
    assert "Side &lt;u&gt;by&lt;/u&gt; side: test" in html
    told = "Errors where SENSE is badly conditioned&#39; on test cannot be shown (ValueError: errors by g-factor need"
    assert told in html
    assert "leakage: 4 sources of build/test are in build/train, too, such as" in html
    assert "train/tuned/1: the filters that fine-tuning moved most" in html
    assert len(html) < 10 * 2**20
    for seen in look_at_both_widths(finished / "report.html", tmp_path):
        once, twice = seen.sorted_rows
        assert once == sorted(once)
        assert len(once) == 4
        assert twice == once[::-1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'corpora = ["train"]\nseeds',
            'corpora = ["trian"]\nseeds',
            "there is no 'trian'; did you mean 'train'? This study has train, test",
        ),
        ('start = "vn"', 'start = "tuned"', "is a circle"),
        ('"zero-filled"]', '"nearest"]', "there is no 'nearest'"),
        ('"psnr_magnitude_slice_max"', '"psnr"', "unknown metric 'psnr'"),
        ("least = 0.0", "", "give least, most, or both"),
        ('on = "test"}', 'on = "tset"}', "there is no 'tset'"),
        ('models = ["vn", "cg-sense:6"]\n', 'models = ["nv"]\n', "figures[1].models: there is no 'nv'"),
        ("[corpora.test]", '[corpora.test]\nwithout = "plain"', "there is no 'plain'"),
        ("[corpora.test]", "[corpora.test]\nreplicas = 1", "one replica has no spread"),
        ("[corpora.test]", '[corpora.test]\nwithout = "train"', "has no target.lesions"),
        ('\ncorpora = ["train"]\nseeds', '\nextra = 1\ncorpora = ["train"]\nseeds', "unknown key"),
        ('\nstart = "vn"\nset = [', '\nstart = "vn"\nset = ["start=x", ', "a study gives data and start itself"),
    ],
)
def test_what_a_study_names_must_be_there(study, old, new, message, tmp_path):
    text = study.read_text()
    assert old in text
    study.write_text(text.replace(old, new, 1))
    with pytest.raises(SettingsError, match=re.escape(message)) as error:
        stages_of(load_study(study), "smoke")
    assert "the file" not in str(error.value)


def test_a_scale_or_a_folder_that_is_not(study, tmp_path):
    assert "has no scale 'gpu'; it has smoke" in done(study, tmp_path / "out", "--scale", "gpu").output
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    assert "is not the folder of a study" in done(study, tmp_path / "mine").output
    (tmp_path / "lost").mkdir()
    (tmp_path / "lost" / "study.json").write_text("[]")
    assert "does not say whose folder this is" in done(study, tmp_path / "lost").output
    assert "no stage has such a name" in done(study, tmp_path / "out", "--only", "test/none").output


def test_a_change_touches_only_what_depends_on_it(study):
    before = stages_of(load_study(study), "smoke")
    study.write_text(study.read_text().replace("seed=9", "seed=10"))
    after = stages_of(load_study(study), "smoke")
    changed = {name for name in before if before[name].key != after[name].key}
    assert changed == {name for name in before if name == "build/test" or name.startswith("test/")}


def test_a_study_on_top_of_another(study, tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text(f'base = "{study}"\nname = "mine"\n[corpora.test]\nrecipe = "{tmp_path / "recipe.toml"}"\n')
    theirs, made = (stages_of(load_study(path), "smoke") for path in (study, mine))
    changed = {name for name in theirs if theirs[name].key != made[name].key}
    assert changed == {name for name in theirs if name == "build/test" or name.startswith("test/")}
    again = tmp_path / "again.toml"
    again.write_text(f'base = "{mine}"\n')
    with pytest.raises(SettingsError, match="has a base itself"):
        load_study(again)


@pytest.mark.parametrize("file", SMOKING, ids=lambda f: f.stem)
def test_the_smoke_scale_of_every_study_runs(file, tmp_path):
    made = done(file, tmp_path / "out")
    assert made.exit_code == 0, made.output
    report = tmp_path / "out" / "report.html"
    assert report.stat().st_size < 10 * 2**20
    assert "cannot be shown" not in report.read_text()


@pytest.mark.parametrize("file", sorted(STUDIES.glob("*.toml")), ids=lambda f: f.stem)
def test_ready_studies_have_a_plan_at_every_scale(file):
    study = load_study(file)
    for scale in study.scales:
        assert len(stages_of(study, scale)) > 3


def test_stages_go_to_the_gpu_with_the_fewest(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert least_used(None, ["cuda:0", "cuda:2", "cuda:0"]) == "cuda:1"
    assert least_used("cuda", []) == "cuda:0"
    assert least_used("cuda:2", ["cuda:2"]) == "cuda:2"
    assert least_used("cpu", []) == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert least_used(None, ["cuda:0"]) is None
