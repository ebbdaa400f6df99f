"""The blocks of the tutorials run in their order, at a small size, and draw the pictures that the pages show."""

import sys

import matplotlib as mpl
import pytest
from conftest import ROOT
from PIL import Image

TUTORIALS = ROOT / "docs" / "tutorials"
BUILD = ["--scheduler", "sync", "--set", "pairs=3", "--set", "target.matrix=[96, 96]"]
SMALLER = {
    "build": BUILD,
    "train": ["--device", "cpu", "--set", "training.steps=2", "--set", "model.iterations=2"],
    "test": ["--device", "cpu"],
}


@pytest.fixture(scope="module")
def pages():
    sys.path.insert(0, str(TUTORIALS))
    import make_pictures

    yield make_pictures
    sys.path.remove(str(TUTORIALS))


def test_the_blocks_run_and_draw_what_is_shown(pages, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mpl.use("agg")
    for page in pages.PAGES:
        pages.run_page(page, SMALLER)
        shown = pages.SHOWN.findall(page.read_text())
        assert shown
        for name in shown:
            with Image.open(tmp_path / name) as picture:
                assert picture.width > 400
            assert (TUTORIALS / "pictures" / name).stat().st_size < 150_000


def test_every_page_is_run_and_every_picture_shown(pages):
    assert set(pages.PAGES) == set(TUTORIALS.glob("*.md"))
    shown = [name for page in pages.PAGES for name in pages.SHOWN.findall(page.read_text())]
    assert sorted(shown) == sorted(file.name for file in (TUTORIALS / "pictures").iterdir())


def test_a_block_that_fails_is_told(pages, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    for block in ("```sh\nfathom verify nothing.zarr\n```", "```sh refused\nfathom ready\n```"):
        page.write_text(f"# A page\n\n{block}\n")
        with pytest.raises(AssertionError, match=r"fathom (verify|ready)"):
            pages.run_page(page)
