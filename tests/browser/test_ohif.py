"""Stock OHIF by its address: it takes no other host or configuration, and shows nothing outside the page's frame."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser import hospital
from tests.browser.conftest import Open
from tests.browser.hospital import Patient
from tests.harness import RunningCity, wait_until

pytestmark = pytest.mark.usefixtures("browser", "ohif")


def reading(city: RunningCity) -> str:
    """A link to a patient with an exam."""
    patient = Patient()
    hospital.send(city.client("maugeri"), hospital.chest_film(patient, "maugeri", "20260310"))
    hospital.wait_for_studies(city, patient, 1)
    return str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"])


def test_parameters_that_name_other_hosts_or_configurations_are_refused(open_page: Open, city: RunningCity) -> None:
    page, watch = open_page(reading(city))
    expect(page.locator(".exam")).to_have_count(1)
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
    page, watch = open_page(reading(city))
    expect(page.locator(".exam")).to_have_count(1)
    watch.expect("dangerouslyUseDynamicConfig", "undefined", "request failed", "Error validating study")
    page.goto(f"{city.endpoints['viewer']}/viewer?StudyInstanceUIDs=1.2.3")
    expect(page.locator(".exam")).to_have_count(1)
    assert page.url == f"{city.endpoints['viewer']}/"


def test_the_viewer_without_a_session_leads_back_to_the_page(open_page: Open, city: RunningCity) -> None:
    page, watch = open_page(f"{city.endpoints['viewer']}/viewer?StudyInstanceUIDs=1.2.3")
    watch.expect("dangerouslyUseDynamicConfig", "undefined")
    expect(page.locator("[data-kind=noLink]")).to_be_visible()


def test_a_browser_of_a_third_language_reads_italian_and_the_viewers_english_and_no_third_one(
    open_page: Open, city: RunningCity
) -> None:
    page, _ = open_page(reading(city), locale="fr-FR", elsewhere=True)
    expect(page.locator("html")).to_have_attribute("lang", "it")
    page.locator("#open-viewer").click()
    frame = page.frame_locator(".viewer iframe")
    expect(frame.get_by_text("Studies", exact=True)).to_be_visible()
    expect(frame.get_by_text("Études")).to_have_count(0)
