"""Opens a file in a real, headless Chromium, through its DevTools protocol, and reports what a reader would see."""

import asyncio
import base64
import io
import itertools
import json
import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image
from tornado.websocket import websocket_connect

SECONDS = 60
NARROW, WIDE = 390, 1280  # a phone's width and a desk's
UNSEEN_IMAGES = "[...document.images].filter(i => !i.complete || i.naturalWidth === 0).length"
SORTED = """(() => {
  const table = document.querySelector("#matrix table.sortable");
  if (!table) return [[], []];
  const button = table.querySelector("th button");
  const rows = () => [...table.tBodies[0].rows].filter(row => row.className !== "group");
  const shown = () => rows().map(row => row.cells[0].textContent.trim());
  button.click(); const up = shown(); button.click(); return [up, shown()];
})()"""


@dataclass
class Seen:
    """What a page does at one width."""

    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    images: int = 0
    unseen_images: int = 0
    overflow: int = 0  # pixels by which it is wider than the window
    sorted_rows: tuple = ()  # the first column of the matrix, after one click on its head and after two
    screenshot: bytes = b""


def look_at_both_widths(path, folder):
    """What a page shows on a phone and on a desk; asserts that it is complete and loads no other file."""
    found = [look_at(path, width, folder / f"browser-{width}") for width in (NARROW, WIDE)]
    for width, seen in zip((NARROW, WIDE), found, strict=True):
        assert seen.requests[0].startswith("file://")
        assert all(url.startswith("data:") for url in seen.requests[1:])
        assert seen.errors == []
        assert seen.images >= 3
        assert seen.unseen_images == 0
        assert seen.overflow <= 0
        with Image.open(io.BytesIO(seen.screenshot)) as shot:
            shades = np.asarray(shot.convert("L"))
        assert width - 20 <= shades.shape[1] <= width  # a scroll bar
        assert (shades[:, width // 2 :] < 128).mean() > 0.01  # text and pictures reach into the right half
    return found


def look_at(path, width, folder):
    """Open a file at a width; skips the test where there is no Chromium."""
    with browsing(folder) as address:
        return asyncio.run(asyncio.wait_for(_look(address, f"file://{path}", width), SECONDS))


@contextmanager
def browsing(folder):
    """The address of a Chromium that keeps its profile in a folder; skips the test where there is none."""
    command = shutil.which("chromium") or shutil.which("chromium-browser")
    if command is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={folder}"]
    said = folder.with_suffix(".txt")
    with said.open("w") as file:
        browser = subprocess.Popen([command, *options, "about:blank"], stderr=file)
    try:
        yield _address(browser, said)
    finally:
        browser.kill()
        browser.wait()


def _address(browser, said):
    """The address on which Chromium listens, which it prints when it starts."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until and browser.poll() is None:
        found = re.search(r"DevTools listening on (ws://127\.0\.0\.1:\S+)", said.read_text())
        if found:
            return found.group(1)
        time.sleep(0.05)
    raise AssertionError(f"Chromium did not start: {said.read_text()}")


async def _look(address, url, width):
    tab = Tab(await websocket_connect(address, max_message_size=2**27))
    listening = asyncio.ensure_future(tab.listen())
    await tab.open(url, width)
    seen = tab.seen
    seen.images, seen.unseen_images = await tab.evaluate("document.images.length"), await tab.evaluate(UNSEEN_IMAGES)
    seen.overflow = await tab.evaluate("document.documentElement.scrollWidth") - width
    seen.screenshot = base64.b64decode((await tab.call("Page.captureScreenshot", captureBeyondViewport=True))["data"])
    seen.sorted_rows = tuple(await tab.evaluate(SORTED))
    tab.socket.close()
    await listening
    return seen


class Tab:
    """A tab of the browser at the other end of a socket, which answers calls and reports events."""

    def __init__(self, socket):
        self.socket, self.session, self.seen = socket, None, Seen()
        self.numbers, self.answers, self.loaded = itertools.count(1), {}, asyncio.Event()

    async def open(self, url, width):
        target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        self.session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        await self.call("Page.navigate", url=url)
        await self.loaded.wait()
        while await self.evaluate("location.href + document.readyState") != f"{url}complete":
            await asyncio.sleep(0.05)  # the first load was the blank page's

    async def evaluate(self, expression):
        return (await self.call("Runtime.evaluate", expression=expression, returnByValue=True))["result"]["value"]

    async def call(self, method, **params):
        number = next(self.numbers)
        self.answers[number] = asyncio.get_running_loop().create_future()
        where = {"sessionId": self.session} if self.session else {}
        await self.socket.write_message(json.dumps({"id": number, "method": method, "params": params, **where}))
        answer = await self.answers[number]
        assert "error" not in answer, answer
        return answer["result"]

    async def listen(self):
        while (text := await self.socket.read_message()) is not None:
            message = json.loads(text)
            if "id" in message:
                self.answers[message["id"]].set_result(message)
            else:
                self.hear(message["method"], message.get("params", {}))

    def hear(self, method, params):
        if method == "Network.requestWillBeSent":
            self.seen.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.seen.errors.append(params["exceptionDetails"]["text"])
        elif (method == "Log.entryAdded" and params["entry"]["level"] == "error") or (
            method == "Runtime.consoleAPICalled" and params["type"] == "error"
        ):
            self.seen.errors.append(json.dumps(params))
        elif method == "Page.loadEventFired":
            self.loaded.set()
