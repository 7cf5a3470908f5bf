"""Stock OHIF through a link: two hospitals' images side by side, together in slice, window and zoom; nothing calls out."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser import hospital
from tests.browser.chromium import pixels, shows_a_picture
from tests.browser.conftest import Open
from tests.browser.hospital import Patient
from tests.harness import RunningCity, wait_until

pytestmark = pytest.mark.usefixtures("browser", "ohif")
VIEWPORTS = ("contenitore-current", "contenitore-prior")


class Story:
    """A patient with two exams of a kind at two hospitals."""

    def __init__(self, city: RunningCity, prior: list[Any], current: list[Any], patient: Patient) -> None:
        self.city, self.patient = city, patient
        hospital.send(city.client("san-matteo"), *prior)
        hospital.send(city.client("maugeri"), *current)
        self.transfer = hospital.transfer(city, patient)
        hospital.wait_for_studies(city, patient, 2)

    @property
    def url(self) -> str:
        """A new link to the patient: one opens once."""
        return str(hospital.link(self.city, patient={"id": self.patient.at["maugeri"]})["url"])


def films(city: RunningCity) -> Story:
    patient = Patient()
    prior, current = (
        hospital.chest_film(patient, who, day) for who, day in (("san-matteo", "20260301"), ("maugeri", "20260310"))
    )
    return Story(city, [prior], [current], patient)


def stacks(city: RunningCity) -> Story:
    patient = Patient()
    prior = hospital.stack(patient, "san-matteo", "20260301", 9)
    current = hospital.stack(patient, "maugeri", "20260310", 9)
    for one in current:  # another scanner: another origin
        one.ImagePositionPatient = [-100.0, -90.0, float(one.ImagePositionPatient[2]) + 777]
    return Story(city, prior, current, patient)


def compare(page: Page) -> Any:
    """Click once, and wait until both viewports show an image; the viewer's frame."""
    expect(page.locator(".pane.right h2")).to_be_visible()
    page.locator("#open-viewer").click()
    expect(page.locator(".viewer.open.ready")).to_be_visible(timeout=60000)
    return page.frame_locator(".viewer iframe")


def viewport(frame: Any, name: str) -> Any:
    return frame.locator(f'[data-viewportid="{name}"], [data-viewport-uid="{name}"]').first


def state(page: Page) -> list[dict[str, Any]]:
    """Of both viewports: image index, window, zoom."""
    frame = page.frames[-1]
    found: list[dict[str, Any]] = frame.evaluate(
        """names => names.map(name => {
             const viewport = cornerstone.getRenderingEngines().map(engine => engine.getViewport(name)).find(Boolean);
             const window = viewport.getProperties().voiRange;
             return {index: viewport.getCurrentImageIdIndex(), window, zoom: viewport.getZoom()};
           })""",
        list(VIEWPORTS),
    )
    return found


def act(page: Page, script: str) -> None:
    """Do something with the current exam's viewport, as `viewport`."""
    page.frames[-1].evaluate(
        f"""name => {{
             const viewport = cornerstone.getRenderingEngines().map(engine => engine.getViewport(name)).find(Boolean);
             {script}
           }}""",
        VIEWPORTS[0],
    )


def test_two_chest_films_of_two_hospitals_are_visible_side_by_side(open_page: Open, city: RunningCity) -> None:
    page, _ = open_page(films(city).url)
    frame = compare(page)
    boxes = []
    for name in VIEWPORTS:
        canvas = viewport(frame, name).locator("canvas").first
        wait_until(lambda canvas=canvas: shows_a_picture(canvas), 30)
        boxes.append(canvas.bounding_box())
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"] + 2
    assert pixels(viewport(frame, VIEWPORTS[0])).shape[0] > 300
    expect(page.locator(".pair > span")).to_contain_text(["10 mar 2026 Istituti Clinici", "1 mar 2026 Fondazione IRCCS"])
    viewport(frame, VIEWPORTS[0]).click()
    page.keyboard.press("Escape")  # wherever the focus is
    expect(page.locator(".viewer")).to_be_hidden()
    expect(page.locator("#open-viewer")).to_be_focused()


def test_slices_window_and_zoom_go_together_across_frames_of_reference(open_page: Open, city: RunningCity) -> None:
    page, _ = open_page(stacks(city).url)
    compare(page)
    wait_until(lambda: [one["index"] for one in state(page)] == [4, 4], 30)
    act(page, "cornerstone.utilities.jumpToSlice(viewport.element, {imageIndex: 7});")
    wait_until(lambda: [one["index"] for one in state(page)] == [7, 7], 30)
    act(page, "viewport.setProperties({voiRange: {lower: -150, upper: 250}}); viewport.render();")
    wait_until(lambda: all(one["window"] == {"lower": -150, "upper": 250} for one in state(page)), 30)
    act(page, "viewport.setZoom(2.5); viewport.render();")
    wait_until(lambda: all(abs(one["zoom"] - 2.5) < 0.01 for one in state(page)), 30)


def test_revocation_takes_the_viewer_away_too(open_page: Open, city: RunningCity) -> None:
    story = films(city)
    page, watch = open_page(story.url)
    compare(page)
    watch.expect("404", "NotFound", "Not Found")
    city.client("san-matteo").delete(f"/transfers/{story.transfer}")
    expect(page.locator(".viewer iframe")).to_have_count(0, timeout=15000)
    expect(page.locator(".viewer")).to_be_hidden()


def test_parameters_that_name_other_hosts_or_configurations_are_refused(open_page: Open, city: RunningCity) -> None:
    story = films(city)
    page, watch = open_page(story.url)
    expect(page.locator(".exam")).to_have_count(2)
    watch.expect("Content Security Policy", "customization", "Customization", "request failed", "Error validating study")
    page.locator("#open-viewer").hover()
    page.locator(".viewer iframe").wait_for(state="attached")
    for query in (
        "configUrl=http://elsewhere.test/c.json",
        "url=http://elsewhere.test/d.json",
        "customization=http://elsewhere.test/e",
    ):
        with page.expect_response(lambda answer, query=query: answer.url.endswith(query)):
            page.evaluate("url => { document.querySelector('.viewer iframe').src = url }", f"/viewer?{query}")
        started = page.frame_locator(".viewer iframe").locator("#root *")
        host = query.split("=")[1]
        wait_until(lambda started=started, host=host: started.count() or any(host in problem for problem in watch.problems))
    assert not [address for address in watch.requests if address.startswith("http://elsewhere.test")]


def test_the_viewer_by_itself_which_would_hear_of_no_revocation_leads_back_to_the_page(
    open_page: Open, city: RunningCity
) -> None:
    story = films(city)
    page, watch = open_page(story.url)
    expect(page.locator(".exam")).to_have_count(2)
    watch.expect("dangerouslyUseDynamicConfig", "undefined", "request failed", "Error validating study")
    page.goto(f"{city.endpoints['viewer']}/viewer?StudyInstanceUIDs=1.2.3")
    expect(page.locator(".exam")).to_have_count(2)
    assert page.url == f"{city.endpoints['viewer']}/"


def test_the_viewer_without_a_session_leads_back_to_the_page(open_page: Open, city: RunningCity) -> None:
    page, watch = open_page(f"{city.endpoints['viewer']}/viewer?StudyInstanceUIDs=1.2.3")
    watch.expect("dangerouslyUseDynamicConfig", "undefined")
    expect(page.locator("[data-kind=noLink]")).to_be_visible()
