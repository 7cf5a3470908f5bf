"""What a page that is open does when exams come and go, and when it cannot ask."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser import hospital
from tests.browser.conftest import Open
from tests.browser.hospital import Patient
from tests.harness import RunningCity

pytestmark = pytest.mark.usefixtures("browser")


class Films:
    """Chest films of a patient at Maugeri, which a page shows, and at San Matteo, which are seen once a transfer is accepted."""

    def __init__(self, city: RunningCity, own: dict[str, str], others: dict[str, str]) -> None:
        self.city, self.patient = city, Patient()
        self.sent: dict[str, Any] = {}
        for who, films in (("maugeri", own), ("san-matteo", others)):
            for name, date in films.items():
                self.send(who, name, date)
        hospital.wait_for_studies(city, self.patient, len(own))

    def send(self, who: str, name: str, date: str) -> None:
        self.sent[name] = hospital.chest_film(self.patient, who, date, description=name)
        hospital.send(self.city.client(who), self.sent[name])

    def link(self) -> str:
        return str(hospital.link(self.city, patient={"id": self.patient.at["maugeri"]})["url"])


def beside(page: Page, name: str) -> None:
    expect(page.locator(".pane.right h2")).to_have_text(name)


def current(page: Page, name: str) -> None:
    expect(page.locator(".pane.left h2")).to_have_text(name)


def put_beside(page: Page, name: str) -> None:
    page.locator(".exam").filter(has_text=name).get_by_role("button", name="Metti accanto").click()


def test_a_prior_that_comes_while_the_page_is_open_is_put_beside_and_none_takes_the_place_of_what_stands_there(
    open_page: Open, city: RunningCity
) -> None:
    films = Films(city, {"RX TORACE OGGI": "20260310"}, {"RX TORACE FEBBRAIO": "20260201", "RX TORACE GENNAIO": "20260101"})
    page, _ = open_page(films.link())
    expect(page.locator(".pane.right .nothing")).to_contain_text("Nessun precedente da affiancare")
    hospital.transfer(city, films.patient)
    expect(page.locator(".exam")).to_have_count(3)
    beside(page, "RX TORACE FEBBRAIO")
    current(page, "RX TORACE OGGI")
    put_beside(page, "RX TORACE GENNAIO")
    beside(page, "RX TORACE GENNAIO")
    films.send("maugeri", "RX TORACE MARZO", "20260301")
    expect(page.locator(".exam")).to_have_count(4)
    expect(page.locator(".toast")).to_contain_text("RX TORACE MARZO")
    beside(page, "RX TORACE GENNAIO")
    page.locator(".toast").get_by_role("button", name="Mostra").click()
    beside(page, "RX TORACE MARZO")
    current(page, "RX TORACE OGGI")


def test_when_the_comparison_is_withdrawn_the_best_of_the_others_stands_there(open_page: Open, city: RunningCity) -> None:
    own = {"RX TORACE OGGI": "20260310", "RX TORACE GENNAIO": "20260101"}
    films = Films(city, own, {"RX TORACE FEBBRAIO": "20260201"})
    transfer = hospital.transfer(city, films.patient)
    hospital.wait_for_studies(city, films.patient, 3)
    page, watch = open_page(films.link())
    beside(page, "RX TORACE FEBBRAIO")
    put_beside(page, "RX TORACE GENNAIO")
    beside(page, "RX TORACE GENNAIO")
    put_beside(page, "RX TORACE FEBBRAIO")  # by hand, which is no reason to have nothing there afterwards
    beside(page, "RX TORACE FEBBRAIO")
    watch.expect("404")
    city.client("maugeri").delete(f"/transfers/{transfer}")
    expect(page.locator(".exam")).to_have_count(2)
    beside(page, "RX TORACE GENNAIO")


def test_an_exam_that_goes_from_the_screen_is_named_until_note_is_taken_and_what_comes_with_it_is_told_too(
    open_page: Open, city: RunningCity
) -> None:
    films = Films(city, {"RX TORACE GENNAIO": "20260101"}, {"RX TORACE OGGI": "20260310", "TC ENCEFALO": "20260102"})
    transfer = hospital.transfer(city, films.patient)
    hospital.wait_for_studies(city, films.patient, 3)
    page, watch = open_page(films.link())
    current(page, "RX TORACE OGGI")
    beside(page, "RX TORACE GENNAIO")
    watch.expect("404")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/view/events", hold)
    city.client("maugeri").delete(f"/transfers/{transfer}")
    films.send("maugeri", "RX TORACE FEBBRAIO", "20260201")
    hospital.wait_for_studies(city, films.patient, 2)
    page.unroute("**/view/events")
    for route in held:
        route.continue_()
    gone = page.locator(".corrections li")
    expect(gone).to_have_count(1)
    expect(gone).to_contain_text("L'esame di Fondazione IRCCS Policlinico San Matteo del 10 mar 2026, 09:00, che era in esame")
    expect(gone).to_contain_text("Ora è in esame: RX TORACE FEBBRAIO, 1 feb 2026")
    expect(page.locator(".toast")).to_contain_text("Novità: RX TORACE FEBBRAIO")
    expect(page.locator(".toast")).to_contain_text("Esami non più visibili: 2")
    assert "RX TORACE OGGI" not in page.content()
    page.get_by_role("button", name="EN", exact=True).click()
    expect(gone).to_contain_text("which was the current one, is not visible any more")
    gone.get_by_role("button", name="I have taken note").click()
    expect(gone).to_have_count(0)


def test_priors_that_could_not_be_asked_for_are_not_said_to_be_none_and_are_asked_for_again(
    open_page: Open, city: RunningCity
) -> None:
    own = {"RX TORACE OGGI": "20260310", "RX TORACE GENNAIO": "20260101", "TC ENCEFALO": "20251201"}
    films = Films(city, own, {})
    page, watch = open_page(films.link())
    beside(page, "RX TORACE GENNAIO")
    watch.expect("ERR_FAILED", "500")
    refuse = {"status": 500, "body": "{}", "headers": {"Access-Control-Allow-Origin": "*"}}
    page.route("**/priors?*", lambda route: route.fulfill(**refuse))
    page.locator(".exam").filter(has_text="TC ENCEFALO").get_by_role("button", name="Metti in esame").click()
    nothing = page.locator(".pane.right .nothing")
    expect(nothing).to_contain_text("Non è stato possibile chiedere i precedenti")
    page.route("**/view/events", lambda route: route.abort())
    page.locator(".exam").filter(has_text="RX TORACE OGGI").get_by_role("button", name="Metti in esame").click()
    current(page, "RX TORACE OGGI")
    expect(nothing).to_contain_text("Non è stato possibile chiedere i precedenti")
    expect(page.locator(".lost-text")).to_be_visible()
    page.unroute("**/priors?*")
    page.unroute("**/view/events")
    beside(page, "RX TORACE GENNAIO")  # by itself
    current(page, "RX TORACE OGGI")
