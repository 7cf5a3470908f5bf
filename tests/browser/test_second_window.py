"""The second window, on a second monitor, shows what the first one reads, whoever that is by now, and nothing without it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser import hospital
from tests.browser.conftest import Open
from tests.browser.hospital import Patient
from tests.browser.test_reports import no_violations
from tests.harness import RunningCity, wait_until

pytestmark = pytest.mark.usefixtures("browser", "ohif")
NextPatient = Callable[[str], str]


@pytest.fixture
def link_of(city: RunningCity) -> NextPatient:
    """`link_of(name)`: a link to another patient, who has one film."""

    def made(name: str) -> str:
        patient = Patient(name)
        hospital.send(city.client("maugeri"), hospital.chest_film(patient, "maugeri", "20260301"))
        hospital.wait_for_studies(city, patient, 1)
        return str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"])

    return made


def second_of(page: Page) -> Page:
    with page.expect_popup() as opened:
        page.locator("#second").click()
    return opened.value


def shows(window: Page, name: str) -> None:
    """The patient and nobody else, in the viewer, seen."""
    expect(window.locator(".patient h1")).to_have_text(name)
    expect(window.locator(".viewer.open iframe")).to_have_count(1)
    expect(window.locator(".cover")).to_be_hidden()
    assert not window.evaluate("document.getElementById('app').inert")


def covered(window: Page, words: str) -> None:
    """Nothing is seen but words."""
    expect(window.locator(".cover")).to_contain_text(words)
    assert window.evaluate("document.elementFromPoint(innerWidth / 2, innerHeight / 2).closest('.cover') !== null")
    assert window.evaluate("document.elementFromPoint(20, 20).closest('.cover') !== null")
    assert window.evaluate("document.getElementById('app').inert")


def test_another_patient_in_the_first_tab_is_the_second_windows_too(open_page: Open, link_of: NextPatient) -> None:
    page, _ = open_page(link_of("FERRARI^LUCIA"))
    other = second_of(page)
    shows(other, "FERRARI Lucia")
    page.goto(link_of("GALLI^ANNA"))  # the page stays, and only the link changes
    shows(other, "GALLI Anna")
    assert "FERRARI" not in other.content()
    page.goto("about:blank")
    covered(other, "Questo schermo segue il primo")
    page.goto(link_of("RIVA^CARLA"))
    shows(other, "RIVA Carla")
    assert "GALLI" not in other.content()
    page.reload()
    shows(other, "RIVA Carla")
    other.reload()
    shows(other, "RIVA Carla")


@pytest.mark.parametrize("how", ["closed", "ended", "refused"])
def test_without_the_first_window_s_reading_the_second_shows_nothing(open_page: Open, link_of: NextPatient, how: str) -> None:
    page, watch = open_page(link_of("FERRARI^LUCIA"))
    other = second_of(page)
    shows(other, "FERRARI Lucia")
    if how == "closed":
        page.close()
    elif how == "ended":
        page.locator("#end").click()
        page.locator("#end-now").click()
    else:
        watch.expect("404", "status of 404")
        page.goto(page.url + "#" + "A" * 43)  # a link that leads to nobody
        expect(page.locator("main.notice")).to_be_visible()
    covered(other, "Questo schermo segue il primo")
    no_violations(other)
    other.keyboard.press("v")
    covered(other, "Questo schermo segue il primo")
    other.emulate_media(media="print")
    expect(other.locator("#app")).to_be_hidden()


def test_while_another_tabs_reading_is_in_front_the_second_window_shows_none(open_page: Open, link_of: NextPatient) -> None:
    page, _ = open_page(link_of("FERRARI^LUCIA"))
    other = second_of(page)
    shows(other, "FERRARI Lucia")
    next_tab, _ = open_page(link_of("GALLI^ANNA"))
    covered(other, "un'altra lettura")
    theirs = second_of(next_tab)  # a window of its own: the other one is of another tab
    shows(theirs, "GALLI Anna")
    covered(other, "un'altra lettura")
    page.bring_to_front()
    page.mouse.click(5, 5)
    shows(other, "FERRARI Lucia")
    wait_until(lambda: theirs.locator(".cover").is_visible())
