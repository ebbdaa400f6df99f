"""The documentation builds without a warning, its links lead somewhere, and it works without a network."""

import asyncio
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
from browser import NARROW, WIDE, Seen, Tab, browsing
from conftest import ROOT
from examples import pages
from settings_keys import keys_of
from tornado.websocket import websocket_connect
from typer.main import get_command

from pipelines.cli.app import app
from pipelines.study.settings import Study
from recon.training.settings import Training
from synth.recipe import Recipe

LOADS = {
    "script": "src",
    "img": "src",
    "link": "href",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
}
WIDEST = ("physics", "results", "papers", "reference/recipe", "reference/python")
RESULTS = "document.querySelectorAll('#search-results li a').length"


def made_already():
    """The documentation that `make docs` made, if it is younger than all that it is made from."""
    parts = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "pyproject.toml"]
    for name in ("docs", "synth", "recon", "pipelines"):
        parts += (path for path in (ROOT / name).rglob("*") if path.is_file() and path.suffix != ".pyc")
    made = ROOT / "build" / "docs"
    last = made / "objects.inv"  # which Sphinx writes at the end
    young = last.exists() and last.stat().st_mtime > max(path.stat().st_mtime for path in parts)
    return made if young else None


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The documentation, as `make docs` makes it."""
    if made := made_already():
        return made
    for module in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(module, reason="the documentation's tools are not here; make docs installs them")
    out = tmp_path_factory.mktemp("site")
    words = ["-b", "html", "--fail-on-warning", "--keep-going", "--quiet", str(ROOT / "docs"), str(out)]
    made = subprocess.run([sys.executable, "-m", "sphinx", *words], capture_output=True, text=True, timeout=200)
    assert made.returncode == 0, made.stderr
    assert made.stderr == ""
    return out


class Page(HTMLParser):
    """What a page links to, what it loads, and the places that can be linked to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.ids, self.text = [], [], set(), []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids.add(found.get("id"))
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in LOADS and LOADS[tag] in found:
            self.loads.append(found[LOADS[tag]])

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def read(site):
    return {path: Page(path) for path in site.rglob("*.html") if "_static" not in path.parts}


def test_every_document_is_a_page(site, read):
    wanted = {page.relative_to(ROOT / "docs").with_suffix(".html") for page in pages()[1:]}
    assert {path.relative_to(site) for path in read} - wanted == {
        (site / name).relative_to(site) for name in ("genindex.html", "search.html")
    }


def test_links_and_anchors_lead_somewhere(read):
    broken, checked = [], 0
    for path, page in read.items():
        for link in (*page.links, *page.loads):
            where = urlsplit(link)
            if where.scheme or where.netloc:
                continue
            checked += 1
            target = (path.parent / unquote(where.path)).resolve() if where.path else path
            lost = where.fragment and target in read and unquote(where.fragment) not in read[target].ids
            if not target.exists() or lost:
                broken.append((path.name, link))
    assert broken == []
    assert checked > 1000


def test_nothing_is_loaded_from_another_host(site, read):
    loads = [load for page in read.values() for load in page.loads]
    assert len(loads) > 100
    assert [load for load in loads if urlsplit(load).netloc] == []
    for style in site.rglob("*.css"):
        assert "url(http" not in style.read_text()
        assert "@import" not in style.read_text()


def test_every_command_and_every_key_is_told(site, read):
    text = "".join(read[site / "reference" / "commands.html"].text)
    root = get_command(app)
    for name, command in root.commands.items():
        assert f"fathom {name}" in text
        for param in command.params:
            assert all(option in text for option in param.opts if option.startswith("--")), (name, param.name)
    for name, root in (("recipe", Recipe), ("training", Training), ("study", Study)):
        text = " ".join("".join(read[site / "reference" / f"{name}.html"].text).split())
        for _, key, field in keys_of(root):
            assert key in text
            assert field.description.replace("`", "") in text, key


def test_pages_on_a_phone_and_a_desk_and_the_search(site, tmp_path):
    async def visit(address):
        tab = Tab(await websocket_connect(address, max_message_size=2**27))
        listening = asyncio.ensure_future(tab.listen())

        async def opened(url, width):
            tab.session, tab.seen, tab.loaded = None, Seen(), asyncio.Event()
            await tab.open(url, width)
            assert tab.seen.errors == []
            assert all(request.startswith(("file://", "data:")) for request in tab.seen.requests)
            assert await tab.evaluate("document.documentElement.scrollWidth") <= width, (url, width)

        for name in WIDEST:
            for width in (NARROW, WIDE):
                await opened(f"file://{site}/{name}.html", width)
        await opened(f"file://{site}/search.html?q=whiten", NARROW)
        for _ in range(200):
            if (found := await tab.evaluate(RESULTS)) >= 3:  # they appear one by one
                break
            await asyncio.sleep(0.05)
        tab.socket.close()
        await listening
        return found

    with browsing(tmp_path / "browser") as address:
        assert asyncio.run(asyncio.wait_for(visit(address), 120)) >= 3
