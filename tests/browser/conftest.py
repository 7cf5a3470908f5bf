"""Fixtures of the browser tests: pages, watched. Pages of one language share a browser's memory, as the tabs of one reader do, so
that what never changes is fetched and compiled once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page
from playwright.sync_api import Error as PlaywrightError

from tests.browser.chromium import OHIF, Watch, new_context

Open = Callable[..., tuple[Page, Watch]]


class Tabs:
    """Pages that are opened, and closed together; what they must not do fails the test, or the module, whose they are."""

    def __init__(self, browser: Browser, shared: dict[str, BrowserContext]) -> None:
        self.browser, self.shared = browser, shared
        self.pages: list[Page] = []
        self.watches: list[Watch] = []
        self.own: list[BrowserContext] = []

    def open(
        self,
        url: str,
        locale: str = "it-IT",
        width: int = 1440,
        height: int = 900,
        prepare: Any = None,
        *,
        elsewhere: bool = False,
    ) -> tuple[Page, Watch]:
        """A page and its watch. `prepare(page)` is done before it is opened, in a browser of its own then, as `elsewhere`: in one
        that opened nothing before."""
        context = self._context(locale, of_its_own=elsewhere or prepare is not None)
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": height})
        self.pages.append(page)
        self.watches.append(Watch(page))
        if prepare is not None:
            prepare(page)
        page.goto(url)
        return page, self.watches[-1]

    def _context(self, locale: str, *, of_its_own: bool) -> BrowserContext:
        if not of_its_own and locale in self.shared:
            return self.shared[locale]
        context = new_context(self.browser, locale=locale)
        if of_its_own:
            self.own.append(context)
        else:
            self.shared[locale] = context
        return context

    def close(self) -> None:
        """Everything, with what the browser keeps of it. Raises AssertionError with what must not have happened."""
        opened = {page for first in self.pages for page in [first, *self._popups(first)]}
        for page in self.pages:
            with suppress(PlaywrightError):  # one that was closed, or has no storage
                page.evaluate("localStorage.clear()")
        for page in opened:
            page.close()
        for context in self.own:
            context.close()
        for watch in self.watches:
            watch.check()

    def _popups(self, opener: Page) -> list[Page]:
        return [page for page in opener.context.pages if page.opener() == opener]


@pytest.fixture(scope="session")
def shared_contexts(browser: Browser) -> Iterator[dict[str, BrowserContext]]:
    contexts: dict[str, BrowserContext] = {}
    yield contexts
    for context in contexts.values():
        context.close()


@pytest.fixture
def open_page(browser: Browser, shared_contexts: dict[str, BrowserContext]) -> Iterator[Open]:
    """`open_page(url, locale="it-IT", width=1440, height=900, prepare=…, elsewhere=…)`: (page, watch), for one test."""
    tabs = Tabs(browser, shared_contexts)
    yield tabs.open
    tabs.close()


@pytest.fixture(scope="module")
def open_kept_page(browser: Browser, shared_contexts: dict[str, BrowserContext]) -> Iterator[Open]:
    """The same for all tests of a module, which leave it as they found it."""
    tabs = Tabs(browser, shared_contexts)
    yield tabs.open
    tabs.close()


@pytest.fixture(autouse=True)
def in_front(request: pytest.FixtureRequest) -> None:
    """The page that a module keeps is the tab that is looked at: one behind another is drawn once a second."""
    if "kept_page" in request.fixturenames:
        request.getfixturevalue("kept_page").bring_to_front()


@pytest.fixture(scope="session")
def ohif() -> None:
    """Skips where stock OHIF was not prepared."""
    if not OHIF.is_file():
        pytest.skip("OHIF is not prepared (make viewer, which needs Node.js)")
