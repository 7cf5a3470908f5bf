"""What everybody can read and reach, on every screen: axe in both languages, nothing beyond the edge, a picture in view."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.test_course import Course
from tests.harness import RunningCity

pytestmark = pytest.mark.usefixtures("browser")
SCREENS = {
    "1280": (1280, 800), "1440": (1440, 900), "1920": (1920, 1080), "portrait": (1080, 1920), "phone": (390, 844),
    "200 %": (720, 450),
}  # fmt: skip


@pytest.fixture(scope="module")
def course(city: RunningCity) -> Course:
    made = Course(city)
    made.report("san-matteo", 3 - 1, "Confronto con RX del 2/10/2026.\n\nCONCLUSIONI: invariato.", status="addendum")
    return made


@pytest.mark.parametrize("locale", ["it-IT", "en-GB"])
def test_no_rule_of_accessibility_is_broken_on_any_screen_and_a_picture_is_in_view(
    open_page: Open, course: Course, locale: str
) -> None:
    page, _ = open_page(course.url, locale=locale)
    for side in ("left", "right"):
        expect(page.locator(f".pane.{side} .film img").first).to_be_visible()
    expect(page.locator(".pane.left .part[data-kind=impression]")).to_be_attached()
    for screen, (width, height) in SCREENS.items():
        page.set_viewport_size({"width": width, "height": height})
        expect(page.locator(".pane.left .film img").first).to_be_visible()
        found = Axe().run(page)
        assert found.violations_count == 0, f"{screen}: {found.generate_report()}"
        assert page.evaluate("document.documentElement.scrollWidth") <= width, screen
        page.evaluate("scrollTo(0, 0)")
        box = page.locator(".pane.left .picture").bounding_box()
        assert box is not None
        assert min(height, box["y"] + box["height"]) - max(0, box["y"]) > 120, screen  # of the picture, without scrolling
