"""The page in a real browser: the demo's story, and everything that may go wrong while someone reads."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Frame, Page, Route, expect
from playwright.sync_api import Error as PlaywrightError

from tests.browser import hospital
from tests.browser.chromium import new_context, shows_a_picture
from tests.browser.conftest import Open
from tests.browser.hospital import Patient
from tests.harness import RunningCity, hospital_day, wait_until

pytestmark = pytest.mark.usefixtures("browser")
PREPARING = ("request failed", "Error validating study")
"""What the viewer says that is being made ready behind the page, when it is refused what it asks for."""


class Story:
    """Two chest films of two hospitals, with their reports, and a head CT."""

    def __init__(self, city: RunningCity, name: str = "FERRARI^LUCIA", description: str = "RX TORACE PA") -> None:
        self.city, self.patient = city, Patient(name)
        self.prior = hospital.chest_film(self.patient, "san-matteo", "20260301", description=description)
        self.head = hospital.image(self.patient, "san-matteo", date="20260302", description="TC ENCEFALO")
        self.current = hospital.chest_film(self.patient, "maugeri", "20260310", description=description)
        hospital.send(city.client("san-matteo"), self.prior, self.head)
        hospital.send(city.client("maugeri"), self.current)
        self.transfer = hospital.transfer(city, self.patient)
        hospital.wait_for_studies(city, self.patient, 3)

    def report(self, who: str, study: str, text: str) -> None:
        answer = self.city.client(who).post(
            f"/studies/{study}/reports?title=Referto", data=text.encode(), headers={"Content-Type": "text/plain; charset=utf-8"}
        )
        assert answer.status_code == 201, answer.text

    def link(self, **body: Any) -> str:
        return str(hospital.link(self.city, **(body or {"patient": {"id": self.patient.at["maugeri"]}}))["url"])


@pytest.fixture(scope="module")
def story(city: RunningCity) -> Story:
    made = Story(city)
    made.report("san-matteo", str(made.prior.StudyInstanceUID), "Addensamento basale destro.\n\nUtile controllo.")
    made.report("maugeri", str(made.current.StudyInstanceUID), "Risoluzione dell'addensamento.")
    return made


def exams(page: Page) -> Any:
    return page.locator(".exam")


@pytest.fixture(scope="module")
def kept_page(open_kept_page: Open, story: Story) -> Page:
    page, _ = open_kept_page(story.link())
    expect(page.locator(".pane.right h2")).to_have_text("RX TORACE PA")
    return page


@pytest.fixture
def page(kept_page: Page) -> Page:
    """The story's page as it is when one opens it."""
    kept_page.set_viewport_size({"width": 1440, "height": 900})
    kept_page.reload()
    expect(kept_page.locator(".pane.right h2")).to_have_text("RX TORACE PA")
    return kept_page


def answering(path: str, change: Callable[[Any], Any]) -> Callable[[Page], None]:
    """Prepare a page whose JSON answers of a path are changed on their way."""

    def prepare(page: Page) -> None:
        def handle(route: Route) -> None:
            answer = route.fetch()
            route.fulfill(response=answer, json=change(answer.json()))

        page.route(path, handle)

    return prepare


def _text(frame: Frame) -> str:
    """What a frame holds, or nothing while it is on its way."""
    try:
        return frame.content().lower()
    except PlaywrightError:
        return "contenitore"


def no_violations(page: Page) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_a_link_shows_the_patient_both_hospitals_exams_and_two_films_side_by_side(open_page: Open, story: Story) -> None:
    page, _ = open_page(story.link())
    expect(page.get_by_role("heading", level=1)).to_have_text("FERRARI Lucia")
    expect(page.locator(".patient")).to_contain_text(story.patient.at["maugeri"])
    expect(page.locator(".patient")).to_contain_text("14 mar 1951")
    expect(exams(page)).to_have_count(3)
    assert exams(page).locator("h3").all_inner_texts() == ["RX TORACE PA", "TC ENCEFALO", "RX TORACE PA"]
    expect(page.locator(".pane.left h2")).to_have_text("RX TORACE PA")
    expect(page.locator(".pane.left .hospital")).to_contain_text("Maugeri")
    expect(page.locator(".pane.right .hospital")).to_contain_text("San Matteo")
    expect(page.locator(".exam.right .reasons")).to_contain_text("stessa regione, stessa metodica")
    for side in ("left", "right"):
        expect(page.locator(f".pane.{side} .picture img")).to_be_visible()
        wait_until(lambda side=side: shows_a_picture(page.locator(f".pane.{side} .picture")))
    wait_until(lambda: shows_a_picture(page.locator(".card .thumb").first))


def test_the_reports_of_both_stand_beside_each_other_in_full(page: Page) -> None:
    expect(page.locator(".pane.left .report")).to_contain_text("Risoluzione dell'addensamento.")
    expect(page.locator(".pane.right .report")).to_contain_text("Utile controllo.")


def test_one_click_puts_another_exam_beside_the_current_one(page: Page) -> None:
    expect(page.locator(".pane.right h2")).to_have_text("RX TORACE PA")
    exams(page).nth(1).get_by_role("button", name="Metti accanto").click()
    expect(page.locator(".pane.right h2")).to_have_text("TC ENCEFALO")
    expect(page.locator(".pane.left h2")).to_have_text("RX TORACE PA")
    wait_until(lambda: shows_a_picture(page.locator(".pane.right .picture")))


def test_small_images_are_fetched_once_however_often_the_list_is_drawn(open_page: Open, story: Story) -> None:
    page, watch = open_page(story.link())
    expect(page.locator(".card .thumb.shown")).to_have_count(2)
    for _ in range(2):
        exams(page).nth(1).get_by_role("button", name="Metti accanto").click()
        expect(page.locator(".pane.right h2")).to_have_text("TC ENCEFALO")
        exams(page).nth(2).get_by_role("button", name="Metti accanto").click()
        expect(page.locator(".pane.right h2")).to_have_text("RX TORACE PA")
    expect(page.locator(".card .thumb.shown")).to_have_count(2)
    assert sum("/thumbnail?" in address and "viewport=144" in address for address in watch.requests) == 2


def test_a_reload_and_a_second_tab_go_on_and_another_browser_does_not(open_page: Open, story: Story) -> None:
    url = story.link()
    page, _ = open_page(url)
    expect(exams(page)).to_have_count(3)
    page.reload()
    expect(exams(page)).to_have_count(3)
    second = page.context.new_page()
    second.goto(url)
    expect(exams(second)).to_have_count(3)
    other, watch = open_page(url, elsewhere=True)
    watch.expect("410")
    expect(other.locator("[data-kind=elsewhere] h1")).to_have_text("Questo collegamento è già stato aperto")
    expect(exams(other)).to_have_count(0)
    no_violations(other)
    expect(exams(page)).to_have_count(3)


def test_the_token_is_in_no_address_referrer_or_storage(open_page: Open, story: Story) -> None:
    url = story.link()
    token = url.split("#")[1]
    page, watch = open_page(url)
    expect(exams(page)).to_have_count(3)
    assert "#" not in page.url
    assert page.evaluate("history.length") <= 2
    kept = page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}, document.cookie])")
    assert token not in kept
    assert "FERRARI" not in page.title().upper()  # which a browser's history keeps
    page.go_back()
    assert token not in page.url
    assert not [address for address in watch.requests if token in address]


def test_a_page_without_a_link_says_what_to_do(open_page: Open, city: RunningCity) -> None:
    other, _ = open_page(city.endpoints["viewer"])
    expect(other.locator("[data-kind=noLink] h1")).to_have_text("Questa pagina si apre da un collegamento")
    no_violations(other)


VERSIONS = {
    "it-IT": ["annullato", "corretto", "integrazione", "parziale o integrazione", "provvisorio"],
    "en-GB": ["cancelled", "corrected", "addendum", "partial or addendum", "preliminary"],
}


def test_each_version_says_when_it_was_written_and_what_it_is(open_page: Open, city: RunningCity) -> None:
    patient, client = Patient(), city.client("maugeri")
    film = hospital.chest_film(patient, "maugeri", "20260310")
    hospital.send(client, film)
    for day, status in enumerate(("preliminary", "partial", "addendum", "final", "corrected", "cancelled"), 1):
        query = {"document": status, "date": f"2026031{day}0930", "status": status}
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        path = f"/studies/{film.StudyInstanceUID}/reports"
        assert client.post(path, params=query, data=status.encode(), headers=headers).status_code == 201
    wait_until(lambda: len(client.get(path).json()["reports"]) == 6)
    hospital.wait_for_studies(city, patient, 1)
    for locale, words in VERSIONS.items():
        url = str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"])
        page, _ = open_page(url, locale=locale)
        found = page.locator(".pane.left .report .when")
        expect(found).to_have_count(6)
        expect(page.locator(".pane.left .report .status")).to_have_text(words)
        expect(found.first).to_contain_text("09:30")
        expect(found.first).to_contain_text("16")


def test_a_new_exam_and_a_new_report_appear_by_themselves(open_page: Open, city: RunningCity) -> None:
    story = Story(city)
    page, _ = open_page(story.link())
    expect(exams(page)).to_have_count(3)
    follow_up = hospital.chest_film(story.patient, "maugeri", "20260312", description="RX TORACE DI CONTROLLO")
    hospital.send(city.client("maugeri"), follow_up)
    expect(exams(page)).to_have_count(4)
    expect(page.locator("#said")).to_have_text("Novità: RX TORACE DI CONTROLLO")
    expect(page.locator(".pane.left .when")).to_contain_text("10 mar 2026")
    page.locator(".toast").get_by_role("button", name="Mostra").click()
    expect(page.locator(".pane.left h2")).to_have_text("RX TORACE DI CONTROLLO")
    story.report("maugeri", str(follow_up.StudyInstanceUID), "Quadro nei limiti.")
    expect(page.locator(".pane.left .report")).to_contain_text("Quadro nei limiti.")


def test_images_that_are_long_on_their_way_come_though_the_timeline_changes_meanwhile(open_page: Open, city: RunningCity) -> None:
    story = Story(city)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page, _ = open_page(story.link(), prepare=lambda page: page.route(f"**/{story.current.StudyInstanceUID}/images?*", hold))
    expect(page.locator(".pane.right .picture img")).to_be_visible()
    story.report("san-matteo", str(story.prior.StudyInstanceUID), "Quadro nei limiti.")
    expect(page.locator(".pane.right .report")).to_contain_text("Quadro nei limiti.")
    for route in held:
        route.continue_()
    expect(page.locator(".pane.left .picture img")).to_be_visible()


def test_revocation_takes_the_other_hospitals_exams_off_the_screen_or_all_where_nothing_may_be_seen(
    open_page: Open, city: RunningCity
) -> None:
    story = Story(city)
    page, watch = open_page(story.link())
    limited, watch_of_limited = open_page(story.link(study_instance_uids=[str(story.prior.StudyInstanceUID)]))
    expect(page.locator(".pane.right .hospital")).to_contain_text("San Matteo")
    expect(exams(limited)).to_have_count(1)
    for watched in (watch, watch_of_limited):
        watched.expect("404", *PREPARING)
    city.client("maugeri").delete(f"/transfers/{story.transfer}")
    expect(limited.locator("[data-kind=revoked] h1")).to_be_visible(timeout=15000)
    expect(limited.locator("img, iframe")).to_have_count(0)
    assert "FERRARI" not in limited.content()
    no_violations(limited)
    expect(exams(page)).to_have_count(1)
    expect(page.locator("#said")).to_contain_text("non più visibili: 2")
    assert "TC ENCEFALO" not in page.content()  # the message names nothing either
    expect(page.locator(".pane.right .picture")).to_have_count(0)
    expect(page.locator(".pane.right .nothing")).to_be_visible()


def test_ending_the_reading_closes_it_on_every_screen_with_what_was_announced_and_the_link_opens_nothing_more(
    open_page: Open, city: RunningCity
) -> None:
    story = Story(city)
    url = story.link()
    page, own_watch = open_page(url)
    expect(exams(page)).to_have_count(3)
    hospital.send(city.client("maugeri"), hospital.image(story.patient, "maugeri", date="20260311", description="TC ADDOME"))
    expect(page.locator("#said")).to_contain_text("TC ADDOME")
    other = page.context.new_page()
    other.goto(url)
    expect(exams(other)).to_have_count(4)
    own_watch.expect("410", *PREPARING)
    page.get_by_role("button", name="Termina lettura").click()
    page.get_by_role("button", name="Termina", exact=True).click()
    expect(page.locator("[data-kind=ended] h1")).to_have_text("Lettura terminata")
    assert "TC ADDOME" not in page.content()
    expect(other.locator("[data-kind=gone] h1")).to_be_visible(timeout=15000)
    assert page.evaluate("sessionStorage.length") == 0
    again, watch = open_page(url, elsewhere=True)
    watch.expect("410")
    expect(again.locator("[data-kind=gone] h1")).to_have_text("La sessione di lettura è terminata")
    no_violations(again)


def test_a_link_that_is_opened_again_and_again_in_one_tab_asks_for_news_once(open_page: Open, story: Story) -> None:
    url = story.link()
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    def prepare(page: Page) -> None:
        page.clock.install()
        page.route("**/view/session", hold)

    page, _ = open_page(url, prepare=prepare)
    wait_until(lambda: page.title() and len(held) == 1)
    page.evaluate("hash => { location.hash = hash }", url.split("#")[1])
    wait_until(lambda: page.title() and len(held) == 2)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/view/events") else None)
    for route in held:
        route.continue_()
    expect(exams(page)).to_have_count(3)
    with page.expect_response("**/view/events"):
        page.clock.run_for(2500)
    assert len(asked) == 1


def test_an_answer_that_comes_when_the_reading_has_ended_troubles_nobody(open_page: Open, story: Story) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page, watch = open_page(story.link(), prepare=lambda page: page.route("**/priors?*", hold))
    expect(page.locator(".pane.right h2")).to_have_text("RX TORACE PA")
    exams(page).nth(1).get_by_role("button", name="Metti in esame").click()
    wait_until(lambda: page.title() and held)
    watch.expect("410", *PREPARING)
    page.get_by_role("button", name="Termina lettura").click()
    page.get_by_role("button", name="Termina", exact=True).click()
    expect(page.locator("[data-kind=ended]")).to_be_visible()
    held.pop().fulfill(json={"priors": []}, headers={"Access-Control-Allow-Origin": "*"})
    page.evaluate("new Promise(done => setTimeout(done))")


def test_a_link_that_never_was_opens_nothing(open_page: Open, city: RunningCity) -> None:
    page, watch = open_page(f"{city.endpoints['viewer']}/#{'A' * 43}", locale="en-GB")
    watch.expect("404")
    expect(page.locator("[data-kind=unknown] h1")).to_have_text("This link opens nothing")
    no_violations(page)


@pytest.mark.parametrize(("locale", "language", "end"), [("it-IT", "it", "Termina lettura"), ("en-GB", "en", "End reading")])
def test_the_page_speaks_the_readers_language_and_the_other_at_a_click(
    open_page: Open, story: Story, locale: str, language: str, end: str
) -> None:
    page, _ = open_page(story.link(), locale=locale)
    expect(page.get_by_role("button", name=end)).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == language
    assert page.evaluate("document.documentElement.translate") is False
    expect(page.locator(".pane.right .report")).to_be_visible()
    no_violations(page)
    other = {"it": "en", "en": "it"}[language]
    page.get_by_role("button", name=other.upper(), exact=True).click()
    expect(page.get_by_role("button", name=end)).to_have_count(0)
    assert page.evaluate("document.documentElement.lang") == other
    expect(page.locator(".pane.left h2")).to_have_text("RX TORACE PA")
    page.reload()
    expect(exams(page)).to_have_count(3)
    assert page.evaluate("document.documentElement.lang") == other


def test_a_language_that_does_not_come_is_said_and_all_stays_as_it_is(open_page: Open, story: Story) -> None:
    page, watch = open_page(story.link(), prepare=lambda page: page.route("**/text/en.json", lambda route: route.abort()))
    expect(page.locator(".pane.right .report")).to_contain_text("Utile controllo.")
    watch.expect("ERR_FAILED")
    page.get_by_role("button", name="EN", exact=True).click()
    expect(page.locator(".toast")).to_contain_text("I testi in EN non sono arrivati")
    page.keyboard.press("x")  # whatever is drawn anew stays in Italian
    expect(page.get_by_role("button", name="IT", exact=True)).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("document.documentElement.lang") == "it"


def test_everything_can_be_done_from_the_keyboard(page: Page, story: Story) -> None:
    expect(page.locator(".pane.right h2")).to_have_text("RX TORACE PA")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("a")
    expect(page.locator(".pane.right h2")).to_have_text("TC ENCEFALO")
    page.keyboard.press("Enter")
    expect(page.locator(".pane.left h2")).to_have_text("TC ENCEFALO")
    focused = page.evaluate("document.activeElement.closest('.exam').dataset.uid")
    assert focused == str(story.head.StudyInstanceUID)


def test_one_step_leads_past_the_list_to_the_two_exams(page: Page) -> None:
    expect(page.locator(".pane.left .picture img")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Vai agli esami affiancati")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".pane.left .picture")).to_be_focused()


def test_what_could_not_be_fetched_is_fetched_again(open_page: Open, story: Story) -> None:
    def fail(page: Page) -> None:
        for what in ("**/rendered?*", "**/view/studies/*/reports/*", "**/view/events"):
            page.route(what, lambda route: route.abort())

    page, watch = open_page(story.link(), prepare=fail)
    watch.expect("ERR_FAILED", *PREPARING)
    expect(page.locator(".pane.left .picture")).to_have_text("Anteprima non disponibile Riprova")
    expect(page.locator(".lost-text")).to_be_visible()
    for what in ("**/rendered?*", "**/view/studies/*/reports/*", "**/view/events"):
        page.unroute(what)
    page.evaluate("dispatchEvent(new Event('online'))")  # as a browser says when its line is back
    expect(page.locator(".lost-text")).to_be_hidden()
    expect(page.locator(".pane.left .report")).to_contain_text("Risoluzione dell'addensamento.")
    expect(page.locator(".pane.left .picture img")).to_be_visible()


def test_a_part_of_the_page_that_does_not_come_is_asked_for_again_and_then_told(open_page: Open, story: Story) -> None:
    failing, tries = [True], list[str]()

    def fail(route: Route) -> None:
        tries.append(route.request.url)
        route.abort() if failing[0] or len(tries) == 1 else route.continue_()

    def reloaded() -> bool:
        with contextlib.suppress(PlaywrightError):  # between two documents
            return bool(page.evaluate("performance.getEntriesByType('navigation')[0].type") == "reload")
        return False

    page, watch = open_page(story.link(), prepare=lambda page: page.route("**/list.js", fail))
    watch.expect("ERR_FAILED", *PREPARING)
    wait_until(reloaded)  # by itself
    expect(page.locator("#app")).to_contain_text("La pagina non è arrivata per intero.")
    failing[0] = False
    page.get_by_role("button", name="Riprova").click()
    expect(exams(page).first).to_be_visible()
    tries.clear()
    other, watch = open_page(story.link(), prepare=lambda page: page.route("**/early.js", fail))
    watch.expect("ERR_FAILED", *PREPARING)
    expect(exams(other).first).to_be_visible()  # by itself, and with the link of before


def test_what_failed_is_tried_again_by_itself_and_then_by_a_button(open_page: Open, story: Story) -> None:
    failing, tries = ["reports"], list[str]()

    def once(route: Route) -> None:
        tries.append(route.request.url)
        route.fulfill(status=500, body='{"title": "x"}') if len(tries) == 1 else route.continue_()

    def while_failing(route: Route) -> None:
        route.fulfill(status=500, body='{"title": "x"}') if failing else route.continue_()

    def prepare(page: Page) -> None:
        page.route(f"**/studies/{story.current.StudyInstanceUID}/**/rendered?*", once)
        page.route(f"**/view/studies/{story.current.StudyInstanceUID}/reports/*", while_failing)

    page, watch = open_page(story.link(), prepare=prepare)
    watch.expect("500")
    expect(page.locator(".pane.left .picture img")).to_be_visible()
    expect(page.locator(".pane.left .report")).to_contain_text("Il referto non si apre")
    failing.clear()
    page.locator(".pane.left .report").get_by_role("button", name="Riprova").click()
    expect(page.locator(".pane.left .report")).to_contain_text("Risoluzione dell'addensamento.")


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (720, 450), (640, 360), (360, 640)])
def test_small_screens_and_large_letters_lose_nothing(page: Page, width: int, height: int) -> None:
    """720 × 450 is a laptop of 1440 × 900 at 200 %."""
    page.set_viewport_size({"width": width, "height": height})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for element in (
        page.get_by_role("button", name="Termina lettura"),
        page.locator(".pane.left h2"),
        page.locator(".pane.right h2"),
    ):
        element.scroll_into_view_if_needed()
        box = element.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width + 1


HOSTILE = '<img src=x onerror="document.title=1">'


def test_names_and_descriptions_are_text_whatever_they_look_like_and_turn_nothing(open_page: Open, city: RunningCity) -> None:
    patient, client = Patient("\u202e<u>FERRARI</u>^\u2066<script>"), city.client("maugeri")
    film = hospital.chest_film(patient, "maugeri", "20260310", "<u>RX</u>\u202e<script>document.title=2</script>")
    hospital.send(client, film)
    text = f"Nessun\u202e nodulo. {HOSTILE}<script>document.title=3</script>"
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    assert client.post(f"/studies/{film.StudyInstanceUID}/reports", data=text.encode(), headers=headers).status_code == 201
    hospital.wait_for_studies(city, patient, 1)
    page, _ = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]))
    expect(page.locator(".pane.left .report")).to_contain_text(f"Nessun nodulo. {HOSTILE}")
    expect(page.get_by_role("heading", level=1)).to_have_text("<u>FERRARI</u> <script>")
    expect(exams(page).first.locator("h3")).to_contain_text("<script>document.title=2</script>")
    assert page.locator("img[src='x'], #app script, #app u").count() == 0
    assert page.title() not in {"1", "2", "3"}
    assert not any(mark in page.content() for mark in "\u202e\u2066")


def test_an_image_that_would_be_shown_wrongly_is_not_shown_and_the_page_says_why(open_page: Open, city: RunningCity) -> None:
    patient = Patient()
    hospital.send(city.client("maugeri"), hospital.image(patient, "maugeri", BitsStored=17))
    hospital.wait_for_studies(city, patient, 1)
    page, watch = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]))
    watch.expect("406")
    expect(page.locator(".pane.left .picture .refused")).to_contain_text("non si può mostrare")
    expect(page.locator(".pane.left .picture .refused")).to_contain_text("of 16 bits allocated 17 cannot be stored")
    expect(page.locator(".pane.left .picture .refused")).to_contain_text("Dettaglio per l'assistenza, in inglese: No picture")
    expect(page.locator(".card .thumb .refused")).to_have_text("Non mostrabile")


def test_an_exam_is_partial_while_announced_images_are_on_their_way_and_no_longer(open_page: Open, city: RunningCity) -> None:
    patient, client = Patient(), city.client("maugeri")
    images = hospital.stack(patient, "maugeri", "20260310", 4)
    hospital.announce(client, *images)
    hospital.send(client, *images[:2])
    hospital.wait_for_studies(city, patient, 1)
    italian, english = (
        open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]), locale=locale)[0]
        for locale in ("it-IT", "en-GB")
    )
    for page, text, images_text in (
        (italian, "parziale: ne mancano 2", "2 immagini"),
        (english, "partial: 2 to come", "2 images"),
    ):
        for place in (page.locator(".exam .partial"), page.locator(".pane.left .partial")):
            expect(place).to_have_text(text)
        expect(page.locator(".exam .facts")).to_contain_text(images_text)
        page.evaluate("window.untouched = true")
    no_violations(italian)
    italian.locator(".pane.left .picture").press("End")
    expect(italian.locator(".position")).to_have_text("2 / 2")
    hospital.send(client, images[2])
    expect(italian.locator(".exam .partial")).to_have_text("parziale: ne manca 1")
    expect(italian.locator(".position")).to_have_text("2 / 3")
    hospital.send(client, images[3])
    for page, here in ((italian, "4 immagini"), (english, "4 images")):
        expect(page.locator(".partial")).to_have_count(0)
        expect(page.locator(".exam .facts")).to_contain_text(here)
        assert page.evaluate("window.untouched")
    expect(italian.locator("#said")).to_have_text("Esame completo: TC TORACE")
    expect(italian.locator(".position")).to_have_text("2 / 4")
    expect(italian.locator(".pane.left .picture")).to_be_focused()


def test_the_distance_in_time_is_to_the_exam_that_is_current_now(page: Page) -> None:
    expect(page.locator(".pane.right .distance")).to_have_text("9 giorni prima")
    exams(page).nth(1).get_by_role("button", name="Metti in esame").click()
    expect(page.locator(".pane.left h2")).to_have_text("TC ENCEFALO")
    exams(page).nth(2).get_by_role("button", name="Metti accanto").click()
    expect(page.locator(".pane.right .distance")).to_have_text("1 giorno prima")


def test_nothing_unrelated_is_put_beside_an_exam_by_itself_and_the_nearest_is_named(page: Page) -> None:
    exams(page).nth(1).get_by_role("button", name="Metti in esame").click()
    expect(page.locator(".pane.right .nothing")).to_contain_text("Nessun precedente pertinente.")
    expect(page.locator(".pane.right .nothing")).to_contain_text("Il più vicino: RX TORACE PA, 1 mar 2026")
    no_violations(page)
    page.locator(".pane.right .nothing").get_by_role("button", name="Metti accanto").click()
    expect(page.locator(".pane.right h2")).to_have_text("RX TORACE PA")


@pytest.mark.parametrize(("width", "height"), [(1366, 768), (1280, 800), (640, 900)])
def test_both_films_have_the_same_size_and_their_reports_begin_side_by_side(page: Page, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    boxes = {}
    for side in ("left", "right"):
        expect(page.locator(f".pane.{side} .picture img")).to_be_visible()
        expect(page.locator(f".pane.{side} .report .text p").last).to_be_visible()
    page.wait_for_function(
        """() => ['.picture', '.reports'].every((part) => {
            const [left, right] = ['left', 'right'].map((side) =>
                document.querySelector(`.pane.${side} ${part}`).getBoundingClientRect());
            return left.y === right.y && left.height === right.height && Math.abs(left.width - right.width) <= 1;
        })"""
    )  # all at one moment: what is above them may still be growing
    for side in ("left", "right"):
        for part in (".picture", ".reports"):
            boxes[side, part] = page.locator(f".pane.{side} {part}").bounding_box()
    if width > 1000:
        assert boxes["left", ".picture"]["height"] > 0.4 * height
        assert boxes["left", ".reports"]["y"] + boxes["left", ".reports"]["height"] <= height


def test_a_patient_without_exams_and_a_page_without_ohif_say_so(open_page: Open, story: Story) -> None:
    def empty(body: Any) -> Any:
        body["timeline"]["studies"] = []
        return body

    def prepare(page: Page) -> None:
        answering("**/view/session", empty)(page)
        answering("**/config.json", lambda config: {**config, "ohif": False})(page)
        page.route("**/view/events", lambda route: route.fulfill(status=503, body="{}"))

    page, watch = open_page(story.link(), prepare=prepare)
    watch.expect("503")
    expect(page.locator(".empty h2")).to_have_text("Ancora nessun esame")
    expect(page.locator(".missing")).to_contain_text("make viewer")
    no_violations(page)


def test_a_slow_archive_and_one_that_does_not_answer_are_told_and_tried_again(open_page: Open, story: Story) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    def prepare(page: Page) -> None:
        page.route("**/view/session", hold)

    page, watch = open_page(story.link(), prepare=prepare)
    watch.expect("ERR_FAILED")
    expect(page.get_by_role("status")).to_contain_text(["L'archivio sta impiegando più del solito"])
    held.pop().abort()
    expect(page.locator("[data-kind=offline] h1")).to_have_text("L'archivio non risponde")
    no_violations(page)
    page.unroute("**/view/session")
    page.get_by_role("button", name="Riprova").click()
    expect(exams(page)).to_have_count(3)


def test_a_connection_that_is_lost_while_reading_is_told_and_found_again(open_page: Open, story: Story) -> None:
    page, watch = open_page(story.link())
    expect(exams(page)).to_have_count(3)
    watch.expect("ERR_FAILED")
    page.route("**/view/events", lambda route: route.abort())
    expect(page.locator(".dot.lost")).to_have_attribute("aria-label", "connessione interrotta, riprovo…")
    expect(page.locator(".lost-text")).to_be_visible()
    expect(exams(page)).to_have_count(3)
    page.unroute("**/view/events")
    expect(page.locator(".dot.lost")).to_have_count(0)


def test_what_nobody_can_vouch_for_any_more_is_taken_down_until_the_archive_answers(open_page: Open, story: Story) -> None:
    page, watch = open_page(story.link(), prepare=lambda page: page.clock.install())
    expect(exams(page)).to_have_count(3)
    watch.expect("ERR_FAILED", *PREPARING)
    page.route("**/view/**", lambda route: route.abort())
    page.clock.run_for(60_000)
    expect(page.locator(".dot.lost")).to_be_visible()
    expect(exams(page)).to_have_count(3)
    page.clock.run_for(10 * 60_000)
    expect(page.locator("[data-kind=offline] h1")).to_be_visible()
    expect(page.locator("img, iframe")).to_have_count(0)
    assert "FERRARI" not in page.content()
    page.unroute("**/view/**")
    page.get_by_role("button", name="Riprova").click()
    expect(exams(page)).to_have_count(3)


def test_a_page_that_a_browser_kept_and_shows_again_asks_first_whether_it_still_may(page: Page) -> None:
    expect(exams(page)).to_have_count(3)
    with page.expect_request("**/view/timeline"):
        page.evaluate("window.dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    expect(exams(page)).to_have_count(3)


def test_no_other_site_can_read_through_a_link_or_frame_the_page(browser: Browser, story: Story, city: RunningCity) -> None:
    context = new_context(browser)
    page = context.new_page()
    page.route("http://elsewhere.test/", lambda route: route.fulfill(content_type="text/html", body="<!doctype html>"))
    page.goto("http://elsewhere.test/")
    token = story.link().split("#")[1]
    tried = page.evaluate(
        "([url, body]) => fetch(url, {method: 'POST', body}).then(answer => answer.text()).catch(error => error.name)",
        [f"{city.api}/view/session", json.dumps({"token": token})],
    )
    assert tried == "TypeError"
    frame = "url => document.body.append(Object.assign(document.createElement('iframe'), {src: url}))"
    page.evaluate(frame, city.endpoints["viewer"])
    wait_until(lambda: len(page.frames) == 2 and "contenitore" not in _text(page.frames[1]))
    assert page.frames[1].locator("#app").count() == 0
    context.close()


def test_an_exam_with_images_of_two_patients_says_so(open_page: Open, city: RunningCity) -> None:
    patient, client = Patient(), city.client("maugeri")
    images = hospital.stack(patient, "maugeri", "20260310", 2)
    images[1].PatientID, images[1].PatientName = f"{patient.at['maugeri']}-B", "ROSSI^ANNA"
    hospital.send(client, *images)
    hospital.wait_for_studies(city, patient, 1)
    for locale, text in (("it-IT", "immagini di 2 pazienti"), ("en-GB", "images of 2 patients")):
        page, _ = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]), locale=locale)
        for place in (page.locator(".exam .several"), page.locator(".pane.left .several")):
            expect(place).to_have_text(text)
        no_violations(page)


def test_the_page_says_who_accepted_the_patient_and_when_or_that_it_waits(open_page: Open, city: RunningCity) -> None:
    story = Story(city)
    today = hospital_day()
    hospital.send(city.client("maugeri"), hospital.image(story.patient, "maugeri", date=today))
    hospital.wait_for_studies(city, story.patient, 3, "san-matteo")
    sender = hospital.link(city, "san-matteo", patient={"id": story.patient.at["san-matteo"]})["url"]
    page, watch = open_page(str(sender))
    expect(exams(page)).to_have_count(3)
    expect(page.locator(".transfer.accepted")).to_contain_text(re.compile("^Trasferimento da .*San Matteo a .*Maugeri"))
    expect(page.locator(".transfer.accepted strong")).to_contain_text(re.compile(r"^accettato da .*Maugeri.* \d{4}, \d\d:\d\d$"))
    no_violations(page)
    watch.expect("404", *PREPARING)
    city.client("maugeri").delete(f"/transfers/{story.transfer}/receiving-patient")
    expect(page.locator(".transfer.waits strong")).to_contain_text(re.compile("in attesa che .*Maugeri.* accetti"))
    expect(exams(page)).to_have_count(2)
    page.get_by_role("button", name="EN", exact=True).click()
    expect(page.locator(".transfer.waits strong")).to_contain_text(re.compile("waits for .*Maugeri.* to accept"))
    hospital.accept(city, story.transfer, story.patient)
    expect(page.locator(".transfer.accepted strong")).to_contain_text(re.compile("accepted by .*Maugeri"))


def test_where_two_exams_name_two_people_the_page_says_so_between_them(open_page: Open, city: RunningCity) -> None:
    patient = Patient()
    hospital.send(city.client("san-matteo"), hospital.chest_film(patient, "san-matteo", "20260301"))
    other = hospital.chest_film(patient, "maugeri", "20260310", PatientName="FERRARI^LUCIO", PatientBirthDate="19510413")
    hospital.send(city.client("maugeri"), other)
    hospital.transfer(city, patient)
    hospital.wait_for_studies(city, patient, 2)
    page, _ = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]))
    expect(page.locator(".differs")).to_contain_text("Nome: FERRARI Lucio in esame, FERRARI Lucia a confronto.")
    expect(page.locator(".differs")).to_contain_text("Nascita: 13 apr 1951 in esame, 14 mar 1951 a confronto.")
    no_violations(page)


def test_the_newest_exam_with_images_is_current_and_an_undated_one_is_of_no_age(open_page: Open, city: RunningCity) -> None:
    patient, client = Patient(), city.client("maugeri")
    older = hospital.chest_film(patient, "maugeri", "20260301")
    undated = hospital.chest_film(patient, "maugeri", "", description="RX TORACE A LETTO")
    hospital.send(client, older, undated)
    hospital.wait_for_studies(city, patient, 2)
    page, _ = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]))
    expect(page.locator(".pane.left h2")).to_have_text("RX TORACE PA")
    expect(page.locator(".pane.right h2")).to_have_text("RX TORACE A LETTO")
    expect(page.locator(".pane.right .when")).to_have_text("senza data")


def test_the_number_of_an_image_changes_with_its_picture_and_the_newest_wish_wins(open_page: Open, city: RunningCity) -> None:
    patient, client = Patient(), city.client("maugeri")
    images = hospital.stack(patient, "maugeri", "20260310", 9)
    hospital.send(client, *images)
    hospital.wait_for_studies(city, patient, 1)
    held: dict[str, Route] = {}

    def hold(route: Route) -> None:
        held[route.request.url.split("/instances/")[1].split("/")[0]] = route

    page, watch = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]))
    watch.expect("ERR_ABORTED", "net::ERR_FAILED")
    picture, position = page.locator(".pane.left .picture"), page.locator(".pane.left .position")
    expect(position).to_have_text("5 / 9")
    page.route("**/rendered?*", hold)
    picture.press("Home")
    picture.press("End")
    expect(picture).to_have_attribute("aria-busy", "true")
    wait_until(lambda: str(images[8].SOPInstanceUID) in held)
    expect(position).to_have_text("5 / 9")
    held[str(images[8].SOPInstanceUID)].continue_()
    expect(position).to_have_text("9 / 9")
    expect(picture.locator("img")).to_have_attribute("alt", re.compile("immagine 9 di 9$"))
    expect(picture).not_to_have_attribute("aria-busy", "true")
    page.unroute("**/rendered?*")


def test_nothing_of_the_viewer_is_fetched_before_somebody_is_about_to_open_it(open_page: Open, story: Story) -> None:
    page, watch = open_page(story.link())
    for side in ("left", "right"):
        expect(page.locator(f".pane.{side} .film img")).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert page.locator(".viewer iframe").count() == 0
    assert not [address for address in watch.requests if "/viewer" in address or "bundle" in address or "/wado" in address]
