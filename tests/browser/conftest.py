"""Fixtures of the browser tests: a fresh context for each, watched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.chromium import OHIF, Watch

expect.set_options(timeout=20000)
Open = Callable[..., tuple[Page, Watch]]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """`open_page(url, locale="it-IT", width=1440, height=900, prepare=…)`: (page, watch). Problems fail the test at its end."""
    watches: list[Watch] = []
    contexts = []

    def open_(url: str, locale: str = "it-IT", width: int = 1440, height: int = 900, prepare: Any = None) -> tuple[Page, Watch]:
        context = browser.new_context(locale=locale, viewport={"width": width, "height": height})
        context.set_default_timeout(20000)
        contexts.append(context)
        page = context.new_page()
        watches.append(Watch(page))
        if prepare is not None:
            prepare(page)
        page.goto(url)
        return page, watches[-1]

    yield open_
    for context in contexts:
        context.close()
    for watch in watches:
        watch.check()


@pytest.fixture(scope="session")
def ohif() -> None:
    """Skips where stock OHIF was not prepared."""
    if not OHIF.is_file():
        pytest.skip("OHIF is not prepared (make viewer, which needs Node.js)")
