"""What everybody can read and reach, on every screen: axe in both languages, nothing beyond the edge, a picture in view."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from tests.browser import drawn, hospital
from tests.browser.chromium import OHIF
from tests.browser.conftest import Open
from tests.browser.drawn import AURORA
from tests.browser.hospital import Patient
from tests.browser.test_course import Course
from tests.harness import RunningCity

pytestmark = pytest.mark.usefixtures("browser")
SCREENS = {
    "1280": (1280, 800), "1440": (1440, 900), "1920": (1920, 1080), "portrait": (1080, 1920), "phone": (390, 844),
    "200 %": (720, 450),
}  # fmt: skip


@pytest.fixture(scope="module")
def reading(city: RunningCity) -> dict[str, Callable[[], str]]:
    """Links to a course of films with reports and an addendum, and to two mammographies with a key image and marks."""
    course = Course(city)
    course.report("san-matteo", 3 - 1, "Confronto con RX del 2/10/2026.\n\nCONCLUSIONI: invariato.", status="addendum")
    patient, client = Patient(), city.client("maugeri")
    for date in ("20261002", "20261129"):
        study = generate_uid()
        views = [
            drawn.mammogram(patient, "maugeri", date, AURORA, view, StudyInstanceUID=study)
            for view in ("RCC", "LCC", "RMLO", "LMLO")
        ]
        annotation = Dataset()
        annotation.GraphicLayer, annotation.GraphicObjectSequence = "SEGNI", [drawn.drawing("CIRCLE", 300, 300, 340, 300)]
        annotation.TextObjectSequence = [drawn.note("opacità", 300, 300)]
        marks = drawn.presentation_state(views[0], views[0], label="OPACITA", GraphicAnnotationSequence=[annotation])
        hospital.send(client, *views, drawn.key_object(views[0], views[0], why="opacità"), marks)
    hospital.wait_for_studies(city, patient, 2)
    return {
        "a course": lambda: course.url,
        "mammographies": lambda: str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]),
    }


@pytest.mark.parametrize("locale", ["it-IT", "en-GB"])
@pytest.mark.parametrize(("what", "there"), [("a course", ".part[data-kind=impression]"), ("mammographies", ".marks span")])
def test_no_rule_of_accessibility_is_broken_on_any_screen_and_a_picture_is_in_view(
    open_page: Open, reading: dict[str, Callable[[], str]], what: str, there: str, locale: str
) -> None:
    page, _ = open_page(reading[what](), locale=locale)
    for side in ("left", "right"):
        expect(page.locator(f".pane.{side} .film img").first).to_be_visible()
    expect(page.locator(f".pane.left {there}, .lower.left {there}").first).to_be_attached()
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


@pytest.mark.parametrize("screen", [(1366, 768), (1093, 614), (911, 512), (683, 384)], ids=["100 %", "125 %", "150 %", "200 %"])
def test_on_a_small_screen_at_any_zoom_each_exam_says_what_it_is_and_its_buttons_and_the_viewers_are_within_reach(
    open_page: Open, reading: dict[str, Callable[[], str]], screen: tuple[int, int]
) -> None:
    page, _ = open_page(reading["a course"](), width=screen[0], height=screen[1])
    expect(page.locator(".pane.left .film img").first).to_be_visible()
    expect(page.locator(".exam")).to_have_count(6)
    expect(page.locator(".timeline .addendum")).to_have_count(1)
    for heading in page.locator(".exam h3").all():
        box = heading.bounding_box()
        assert box is not None
        assert box["width"] >= 60, heading.inner_text()
    within = page.locator(".timeline").evaluate(
        "list => [...list.querySelectorAll('.choice')].every("
        "button => button.getBoundingClientRect().right <= list.getBoundingClientRect().right)"
    )
    assert within
    if not OHIF.is_file():  # then the page has no such button
        return
    box = page.locator("#open-viewer").bounding_box()
    assert box is not None
    assert 0 <= box["x"] <= screen[0] - box["width"]
    assert 0 <= box["y"] <= screen[1] - box["height"]
