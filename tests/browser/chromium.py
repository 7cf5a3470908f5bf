"""Debian's Chromium, driven by Playwright, and a watch on what a page does that it must not do."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Request, Response, expect, sync_playwright

EXECUTABLE = shutil.which("chromium") or shutil.which("chromium-browser")
OHIF = Path(__file__).parents[2] / "viewer" / "dist" / "ohif" / "index.html"
_ARGUMENTS = [
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox", "--disable-quic", "--disable-background-networking",
    # Without a graphics card a browser paints its pages itself; Debian's has them painted by the card that is emulated for WebGL.
    "--disable-gpu-rasterization", "--disable-gpu-compositing",
    # Two pages of its own, for suggestions at the address bar, are loaded by each window: a third of a second of processor.
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup",
]  # fmt: skip

PATIENCE_MS = 60_000
"""How long a page may take for anything on a busy machine; where a time is promised, a test says so itself."""
expect.set_options(timeout=PATIENCE_MS)


def new_context(browser: Browser, **options: Any) -> BrowserContext:
    """A browser of its own, as Playwright's `new_context` makes it, with patience."""
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    return context


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser with software WebGL."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Watch:
    """What must not happen on a page: errors on its console, failed requests, requests to other hosts."""

    def __init__(self, page: Page) -> None:
        self.problems: list[str] = []
        self.expected: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("request", self._request)
        page.on("response", self._response)

    def expect(self, *texts: str) -> None:
        """Problems with any of these texts in them are what the test is about."""
        self.expected += texts

    def check(self) -> None:
        """Raises AssertionError with every problem that was not expected."""
        unexpected = [problem for problem in self.problems if not any(text in problem for text in self.expected)]
        assert not unexpected, "\n".join(unexpected)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.problems.append(f"console: {message.text} ({message.location.get('url', '')})")

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname != "127.0.0.1":
            self.problems.append(f"another host: {request.url}")

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self.problems.append(f"{response.status}: {response.url}")


def pixels(element: Locator) -> np.ndarray:
    """What an element shows on the screen, as grey values 0–255: rows × columns."""
    return np.asarray(Image.open(io.BytesIO(element.screenshot())).convert("L"), dtype=float)


def shows_a_picture(element: Locator) -> bool:
    """Whether an element shows something with the contrast of a film: neither black, nor white, nor a text on a ground."""
    grey = pixels(element)
    levels = len(np.unique(grey.astype(int) // 8))
    return bool(grey.std() > 20 and levels > 16 and np.median(np.abs(np.diff(grey, axis=1))) < 8)
