"""The course above the two exams, and the tools for their pictures: each by what is seen."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

from tests.browser import drawn, hospital
from tests.browser.chromium import pixels
from tests.browser.conftest import Open
from tests.browser.drawn import AURORA, BOREALIS
from tests.browser.hospital import Patient
from tests.harness import RunningCity, wait_until

pytestmark = pytest.mark.usefixtures("browser")
SIDES = ("left", "right")
DATES = ("20261002", "20261012", "20261026", "20261115", "20261129")


class Course:
    """Five chest films of two hospitals and vendors, and a head CT of one; transferred, accepted, reported."""

    def __init__(self, city: RunningCity) -> None:
        self.city, self.patient = city, Patient()
        self.films = [
            drawn.film(self.patient, "san-matteo" if number < 3 else "maugeri", date, BOREALIS if number < 3 else AURORA)
            for number, date in enumerate(DATES)
        ]
        self.films[0].ImagerPixelSpacing = [0.2, 0.2]  # half as large as it looks
        self.head = drawn.ct(
            self.patient, "san-matteo", "20261020", 0, 6, StudyDescription="TC ENCEFALO", BodyPartExamined="HEAD"
        )
        hospital.send(city.client("san-matteo"), *self.films[:3], *self.head)
        hospital.send(city.client("maugeri"), *self.films[3:])
        hospital.transfer(city, self.patient)
        hospital.wait_for_studies(city, self.patient, 6)
        self.report("san-matteo", 0, "REPERTO: opacità bilaterali.\n\nCONCLUSIONI: polmonite bilaterale, prevalente a destra.")
        self.report("maugeri", 4, "Reperto: residua stria.\n\nConclusioni: risoluzione quasi completa.")

    def report(self, who: str, film: int, text: str, **query: str) -> None:
        study = self.films[film].StudyInstanceUID
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        answer = self.city.client(who).post(
            f"/studies/{study}/reports", params={"title": "Referto RX torace", **query}, data=text.encode(), headers=headers
        )
        assert answer.status_code == 201, answer.text

    @property
    def url(self) -> str:
        return str(hospital.link(self.city, patient={"id": self.patient.at["maugeri"]})["url"])


@pytest.fixture(scope="module")
def course(city: RunningCity) -> Course:
    return Course(city)


@pytest.fixture(scope="module")
def kept_page(open_kept_page: Open, course: Course) -> Page:
    page, _ = open_kept_page(course.url)
    return page


@pytest.fixture
def page(kept_page: Page) -> Page:
    """The page as one finds it: the newest film beside the one before, as they were sent, both in view."""
    page = kept_page
    page.keyboard.press("Escape")
    for toggle, key in (("#pin", "p"), ("#tool-windowing", "w")):
        if page.locator(toggle).get_attribute("aria-pressed") == "true":
            page.keyboard.press(key)
    page.keyboard.press("r")
    films = page.locator(".courses").get_by_role("button", name="RX torace")
    if films.get_attribute("aria-pressed") == "false":
        films.click()
    page.locator(".card .step").last.click()
    page.evaluate("document.activeElement.blur()")
    expect(whens(page, "left")).to_contain_text("29 nov 2026")
    expect(whens(page, "right")).to_contain_text("15 nov 2026")
    for side in SIDES:
        expect(page.locator(f".pane.{side} .film img").first).to_be_visible()
        expect(page.locator(f".pane.{side} .picture")).not_to_have_attribute("aria-busy", "true")
    return page


def whens(page: Page, side: str) -> Any:
    return page.locator(f".pane.{side} > header .when")


def film(page: Page, side: str) -> dict[str, float]:
    """Where a film lies; one that is put in place of another while it is asked has no place for a moment."""
    box: dict[str, float] = wait_until(page.locator(f".pane.{side} .film").bounding_box)
    return box


def place(page: Page, side: str, at: tuple[float, float]) -> tuple[float, float]:
    """What of a film lies at a point of the screen, in parts of its width and height."""
    box = film(page, side)
    return (at[0] - box["x"]) / box["width"], (at[1] - box["y"]) / box["height"]


def middle(page: Page, side: str) -> np.ndarray:
    grey = pixels(page.locator(f".pane.{side} .picture"))
    rows, columns = grey.shape
    return grey[rows // 4 : -rows // 4, columns // 4 : -columns // 4]


def no_violations(page: Page) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_the_course_shows_every_film_of_both_hospitals_oldest_first_with_what_was_concluded(page: Page) -> None:
    strip = page.get_by_role("list", name="Decorso")
    cards = strip.locator(".card")
    expect(cards.locator(".day")).to_have_text(["2 ott", "12 ott", "26 ott", "15 nov", "29 nov"])
    expect(cards.locator(".hospital")).to_have_text(["San Matteo"] * 3 + ["Maugeri"] * 2)
    expect(cards.locator(".views")).to_have_text(["PA"] * 5)
    expect(cards.locator(".line")).to_have_text(
        ["polmonite bilaterale, prevalente a destra.", *["nessun referto"] * 3, "risoluzione quasi completa."]
    )
    expect(strip.locator(".mark")).to_have_count(2)
    expect(strip.locator(".mark").last).to_contain_text("accettato da Maugeri")
    heights = {round(pixels(card.locator(".thumb")).shape[0]) for card in cards.all()}
    assert len(heights) == 1
    no_violations(page)


def test_arrows_step_along_the_course_and_a_pin_holds_the_baseline(page: Page) -> None:
    expect(whens(page, "left")).to_contain_text("29 nov 2026")
    expect(whens(page, "right")).to_contain_text("15 nov 2026")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    expect(whens(page, "right")).to_contain_text("2 ott 2026")
    page.keyboard.press("p")
    expect(page.locator("#pin")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(whens(page, "left")).to_contain_text("26 ott 2026")
    expect(whens(page, "right")).to_contain_text("2 ott 2026")
    page.keyboard.press("ArrowRight")
    expect(whens(page, "left")).to_contain_text("15 nov 2026")
    expect(page.locator(".card.left .day")).to_have_text("15 nov")
    page.keyboard.press("p")
    page.keyboard.press("ArrowRight")
    expect(whens(page, "right")).to_contain_text("15 nov 2026")  # the prior of the newest again


def test_one_click_leads_to_another_region_and_one_puts_a_film_beside(page: Page) -> None:
    page.locator(".course").get_by_role("button", name="Metti accanto: RX TORACE, 2 ott").click()
    expect(whens(page, "right")).to_contain_text("2 ott 2026")
    page.locator(".courses").get_by_role("button", name="TC capo").click()
    expect(page.locator(".pane.left h2")).to_have_text("TC ENCEFALO")
    expect(page.locator(".card")).to_have_count(1)
    page.get_by_role("button", name="Torna a RX TORACE, 29 nov").click()
    expect(whens(page, "left")).to_contain_text("29 nov 2026")
    expect(page.locator("#back")).to_be_hidden()


def test_the_film_of_2_october_beside_todays_at_the_same_scale_and_blinking(page: Page) -> None:
    page.locator(".course").get_by_role("button", name="Metti accanto: RX TORACE, 2 ott").click()
    expect(whens(page, "right")).to_contain_text("2 ott 2026")
    wait_until(lambda: abs(film(page, "left")["width"] - film(page, "right")["width"]) < 2)
    page.get_by_role("button", name="Stessa scala").click()
    wait_until(lambda: abs(film(page, "left")["width"] / film(page, "right")["width"] - 2) < 0.02)
    expect(page.locator(".paper")).to_be_hidden()
    page.emulate_media(media="print")
    expect(page.locator(".paper")).to_contain_text("alla stessa scala")
    widths = [
        page.locator(f".pane.{side} .film img").first.evaluate("image => image.getBoundingClientRect().width") for side in SIDES
    ]
    assert widths[0] / widths[1] == pytest.approx(2, abs=0.02)
    page.emulate_media(media="screen")
    place = page.locator(".pane.left .picture").bounding_box()
    page.keyboard.press("Escape")
    page.locator(".pane.left .picture").press(" ")
    expect(page.locator(".pane.right .picture")).to_be_visible()
    expect(page.locator(".pane.left .picture")).to_be_hidden()
    first = page.locator(".pane.right .picture").bounding_box()
    page.keyboard.press(" ")
    expect(page.locator(".pane.left .picture")).to_be_visible()
    expect(page.locator(".pane.right .picture")).to_be_hidden()
    second = page.locator(".pane.left .picture").bounding_box()
    assert first == second != place
    expect(page.locator("#said")).to_have_text("In vista: In esame")
    no_violations(page)
    for side in SIDES:
        expect(page.locator(f".pane.lower.{side} .reports")).to_be_visible()
    page.keyboard.press("Escape")
    for side in SIDES:
        expect(page.locator(f".pane.{side} .picture")).to_be_visible()
    blink = page.get_by_role("button", name="Alterna", exact=True)
    blink.click()
    expect(page.locator(".pane.left .picture")).to_be_hidden()
    blink.press(" ")  # the other, wherever the focus is
    expect(page.locator(".pane.right .picture")).to_be_hidden()
    page.get_by_role("button", name="Mostra l'altra").click()
    expect(page.locator(".pane.left .picture")).to_be_hidden()
    blink.click()
    for side in SIDES:
        expect(page.locator(f".pane.{side} .picture")).to_be_visible()


def test_help_says_how_one_compares_and_every_key_in_both_languages(page: Page) -> None:
    for language, words in (("EN", "Put an exam beside today's"), ("IT", "Mettere un esame accanto a quello di oggi")):
        page.get_by_role("button", name=language, exact=True).click()
        expect(page.locator(f"html[lang={language.lower()}] .pane.left .film img").first).to_be_visible()
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_contain_text(words)
        expect(page.get_by_role("dialog").locator("dt")).to_have_count(18)
        no_violations(page)
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_scale_that_nobody_knows_is_said_to_be_unknown(open_page: Open, city: RunningCity) -> None:
    patient, client = Patient(), city.client("maugeri")
    oldest, older, newer = (drawn.film(patient, "maugeri", date, AURORA) for date in DATES[:3])
    oldest.ImagerPixelSpacing = [0.2, 0.2]
    del newer.ImagerPixelSpacing
    hospital.send(client, oldest, older, newer)
    hospital.wait_for_studies(city, patient, 3)
    page, _ = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]))
    expect(page.locator(".pane.left .caption")).to_contain_text("mm/px non noti")
    expect(page.locator(".pane.right .caption")).to_contain_text("0,3 mm/px al rivelatore")
    page.keyboard.press("m")
    expect(page.locator(".toast")).to_contain_text("non è nota")
    pressed = page.locator("#tool-millimetres")
    expect(pressed).to_have_attribute("aria-pressed", "false")
    page.emulate_media(media="print")
    expect(page.locator(".paper")).to_contain_text("non si confrontano")
    page.emulate_media(media="screen")

    coming: list[Route] = []
    held = {"images": True}

    def hold(route: Route) -> None:
        if held["images"]:
            coming.append(route)
        else:
            route.continue_()

    def let_go() -> None:
        held["images"] = False
        while coming:
            coming.pop().continue_()

    page.route(re.compile(r"/rendered\?.*viewport=1400"), hold)
    page.reload()  # as while images are still on their way
    expect(page.locator(".pane .picture[aria-busy]")).to_have_count(2)
    page.keyboard.press("m")
    expect(pressed).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".toast")).to_be_hidden()
    wait_until(lambda: page.title() and len(coming) >= 2)
    let_go()
    expect(page.locator(".toast")).to_contain_text("non è nota")
    expect(pressed).to_have_attribute("aria-pressed", "false")
    held["images"] = True
    page.reload()
    expect(page.locator(".pane .picture[aria-busy]")).to_have_count(2)
    page.locator(".card .step").nth(1).click()
    expect(whens(page, "right")).to_contain_text("2 ott 2026")
    page.keyboard.press("m")
    let_go()
    wait_until(lambda: page.locator(".pane .film img").count() == 2)
    wait_until(lambda: abs(film(page, "left")["width"] / film(page, "right")["width"] - 1.5) < 0.02)
    expect(page.locator(".toast")).to_be_hidden()


@pytest.mark.parametrize("said", [{"ImagerPixelSpacing": [0.6, 0.3]}, {"PixelAspectRatio": ["2", "1"]}], ids=str)
def test_pixels_that_are_not_square_are_drawn_as_they_are(open_page: Open, city: RunningCity, said: dict[str, Any]) -> None:
    patient = Patient()
    film = drawn.radiograph(drawn.thorax(200), patient, "maugeri", DATES[0], drawn.Vendor("Flat", 12, "MONOCHROME2", 200, 0.3))
    del film.ImagerPixelSpacing
    for keyword, value in said.items():
        setattr(film, keyword, value)
    hospital.send(city.client("maugeri"), film)
    hospital.wait_for_studies(city, patient, 1)
    page, _ = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]))
    expect(page.locator(".pane.left .film img")).to_be_visible()
    for shown in (".film", ".film img"):
        box = wait_until(page.locator(f".pane.left {shown}").bounding_box)
        assert box["height"] / box["width"] == pytest.approx(2, abs=0.02)


def test_zoom_and_place_go_together_by_keys_wheel_and_drag(page: Page) -> None:
    page.locator(".pane.left .picture").focus()
    before = film(page, "left")
    page.keyboard.press("z")
    for side in SIDES:
        wait_until(lambda side=side: abs(film(page, side)["width"] / before["width"] - 1.5) < 0.02)
    start = film(page, "right")
    page.mouse.move(start["x"] + start["width"] / 2, start["y"] + start["height"] / 2)
    page.mouse.down()
    page.mouse.move(start["x"] + start["width"] / 2 + 60, start["y"] + start["height"] / 2 + 30, steps=4)
    page.mouse.up()
    for side in SIDES:
        wait_until(lambda side=side: film(page, side)["height"] > 0)
    moved = film(page, "right")
    assert 50 < moved["x"] - start["x"] < 62
    left = film(page, "left")
    assert abs((left["y"] - before["y"] + (left["height"] - before["height"]) / 2) - (moved["y"] - start["y"])) < 3
    pointer = start["x"] + start["width"] / 2 + 60, start["y"] + start["height"] / 2 + 30
    under = [place(page, side="right", at=pointer)]
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    wait_until(lambda: film(page, "left")["width"] > 1.7 * before["width"])
    under.append(place(page, side="right", at=pointer))
    page.keyboard.press("Control+ArrowRight")
    wait_until(lambda: film(page, "left")["x"] < left["x"])
    page.mouse.dblclick(*pointer)
    wait_until(lambda: film(page, "left") == before)  # the whole image
    under.append(place(page, side="right", at=pointer))
    page.mouse.dblclick(*pointer)
    for side in SIDES:
        wait_until(lambda side=side: abs(film(page, side)["width"] / before["width"] - 2) < 0.02)
    under.append(place(page, side="right", at=pointer))
    assert under[1] == pytest.approx(under[0], abs=0.01)
    assert under[3] == pytest.approx(under[2], abs=0.01)
    page.keyboard.press("r")
    wait_until(lambda: film(page, "left") == before)


def test_windows_are_changed_by_drag_and_by_keys_each_from_its_own_and_inverted(page: Page) -> None:
    grey = {side: middle(page, side).mean() for side in SIDES}
    page.locator(".pane.left .picture").focus()
    page.keyboard.press(".")
    page.keyboard.press(".")
    page.keyboard.press(".")
    for side in SIDES:  # brighter, of both vendors, of which one writes bright as little
        wait_until(lambda side=side: middle(page, side).mean() > grey[side] + 15)
        expect(page.locator(f".pane.{side} .caption")).not_to_contain_text("finestra propria")
    page.keyboard.press("0")
    for side in SIDES:
        wait_until(lambda side=side: abs(middle(page, side).mean() - grey[side]) < 2)
    box = film(page, "left")
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down(button="right")
    page.mouse.move(box["x"] + 200, box["y"] + 330, steps=5)
    page.mouse.up(button="right")
    for side in SIDES:
        wait_until(lambda side=side: middle(page, side).mean() < grey[side] - 15)
    page.keyboard.press("r")
    for side in SIDES:
        wait_until(lambda side=side: abs(middle(page, side).mean() - grey[side]) < 2)
    page.keyboard.press("i")
    for side in SIDES:
        wait_until(lambda side=side: abs(middle(page, side).mean() - (255 - grey[side])) < 4)
    expect(page.locator("#tool-invert")).to_have_attribute("aria-pressed", "true")


def test_presets_are_hounsfield_windows_of_a_ct(page: Page) -> None:
    page.locator(".courses").get_by_role("button", name="TC capo").click()
    expect(page.locator(".pane.left .caption")).to_contain_text("finestra propria W 400 L 40")
    page.keyboard.press("3")
    expect(page.locator(".pane.left .caption")).to_contain_text("W 1800 L 400")
    expect(page.locator(".pane.left .caption")).not_to_contain_text("finestra propria")
    for key, window in (("4", "W 80 L 40"), ("1", "W 400 L 40"), ("2", "W 1500 L -600"), ("5", "W 360 L 60")):
        page.keyboard.press(key)
        expect(page.locator(".pane.left .caption")).to_contain_text(window)


def test_the_other_keys_of_window_and_zoom_do_what_they_say(page: Page) -> None:
    grey, width = middle(page, "left"), film(page, "left")["width"]
    page.locator(".pane.left .picture").focus()
    for _ in range(3):
        page.keyboard.press(",")
    for side in SIDES:
        wait_until(lambda side=side: middle(page, side).mean() < grey.mean() - 10)
    page.keyboard.press("0")
    expect(page.locator(".pane.left .caption")).to_contain_text("finestra propria")
    wait_until(lambda: abs(middle(page, "left").mean() - grey.mean()) < 2)
    for key, harder in (("<", True), (">", False)):
        for _ in range(4):
            page.keyboard.press(key)
        wait_until(
            lambda harder=harder: (
                middle(page, "left").std() > grey.std() + 5 if harder else middle(page, "left").std() < grey.std() + 2
            )
        )
    page.keyboard.press("r")
    page.keyboard.press("+")
    page.keyboard.press("+")
    wait_until(lambda: film(page, "right")["width"] > 1.2 * width)
    page.keyboard.press("-")
    page.keyboard.press("-")
    wait_until(lambda: abs(film(page, "right")["width"] - width) < 2)
    page.keyboard.press("w")
    expect(page.locator("#tool-windowing")).to_have_attribute("aria-pressed", "true")
    box = film(page, "left")
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 330, steps=5)
    page.mouse.up()
    wait_until(lambda: middle(page, "right").mean() < grey.mean() - 10)
    assert film(page, "left") == box  # the window, not the place


@pytest.mark.parametrize("answered", [False, True])
def test_a_window_whose_picture_does_not_come_does_not_hold_up_the_one_that_is_wished_after_it(
    open_page: Open, course: Course, answered: bool
) -> None:
    page, problems = open_page(course.url)
    problems.expect("503")
    for side in SIDES:
        expect(page.locator(f".pane.{side} .film img").first).to_be_visible()
    grey = middle(page, "left")
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(route.request.url)
        if answered:
            route.fulfill(status=503, body="")

    page.route(re.compile(r"/rendered\?.*window=\d"), answer)
    page.keyboard.press(">")
    wait_until(lambda: page.title() and len(asked) >= 2)
    if answered:  # said, with a button, instead of another picture than the one that was asked for
        for side in SIDES:
            expect(page.locator(f".pane.{side} .picture")).to_contain_text("Anteprima non disponibile")
    page.keyboard.press("0")
    wait_until(lambda: page.locator(".pane .picture[aria-busy]").count() == 0)
    for side in SIDES:
        expect(page.locator(f".pane.{side} .film img").first).to_be_visible()
    wait_until(lambda: abs(middle(page, "left").mean() - grey.mean()) < 2)


def test_with_shift_a_drag_moves_the_comparison_alone_so_that_it_lies_on_the_other(page: Page) -> None:
    page.keyboard.press("z")
    wait_until(lambda: film(page, "left")["width"] > 500)
    before = {side: film(page, side) for side in SIDES}
    box = before["right"]
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.keyboard.down("Shift")
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 40, box["y"] + box["height"] / 2 + 20, steps=4)
    page.mouse.up()
    page.keyboard.up("Shift")
    wait_until(lambda: 30 < film(page, "right")["x"] - box["x"] < 42)
    assert film(page, "left") == before["left"]


def test_full_resolution_comes_when_one_zooms(open_page: Open, city: RunningCity) -> None:
    patient, client = Patient(), city.client("maugeri")
    fine = drawn.Vendor("Fine", 12, "MONOCHROME2", 2800, 0.1)
    hospital.send(client, drawn.film(patient, "maugeri", DATES[0], fine))
    hospital.wait_for_studies(city, patient, 1)
    page, watch = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]))
    expect(page.locator(".pane.left .caption")).to_contain_text("anteprima")
    page.locator(".pane.left .picture").focus()
    for _ in range(4):
        page.keyboard.press("z")
    expect(page.locator(".pane.left .film .detail")).to_be_visible()
    expect(page.locator(".pane.left .caption")).to_contain_text("piena risoluzione")
    regions = [address for address in watch.requests if re.search(r"viewport=\d+%2C\d+%2C\d+%2C\d+", address)]
    assert regions
    detail = page.locator(".pane.left .film .detail")
    assert detail.evaluate("image => image.naturalWidth / image.getBoundingClientRect().width") > 0.9


def test_the_two_exams_change_sides_and_the_current_one_stays_current(page: Page) -> None:
    page.locator(".pane.left .picture").press("x")
    wait_until(lambda: film(page, "right")["x"] < film(page, "left")["x"])
    reports = [page.locator(f".pane.lower.{side}").bounding_box() for side in ("right", "left")]
    assert reports[0]["x"] < reports[1]["x"]
    expect(page.locator(".pane.left > header")).to_contain_text("In esame")
    expect(whens(page, "left")).to_contain_text("29 nov 2026")
    expect(whens(page, "right")).to_contain_text("14 giorni prima")
    expect(page.locator("#tool-swap")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("x")
    wait_until(lambda: film(page, "left")["x"] < film(page, "right")["x"])


def test_letters_stand_at_the_sides_where_the_image_has_them(page: Page) -> None:
    expect(page.locator(".pane.left .at-right")).to_have_text("L")
    expect(page.locator(".pane.left .at-left")).to_have_text("R")
    expect(page.locator(".pane.left .at-bottom")).to_have_text("F")
    page.locator(".courses").get_by_role("button", name="TC capo").click()
    expect(page.locator(".pane.left .at-top")).to_have_text("A")
    expect(page.locator(".pane.left .at-left")).to_have_text("R")


def test_forty_exams_need_no_scrolling_and_are_found_by_words_and_chips(open_page: Open, city: RunningCity) -> None:
    patient, client = Patient(), city.client("maugeri")
    small = drawn.Vendor("Small", 12, "MONOCHROME2", 32, 1.0)
    names = [("RX TORACE", "CHEST"), ("RX GINOCCHIO DX", "KNEE"), ("RX MANO SX", "HAND"), ("RX ADDOME", "ABDOMEN")]
    films = [
        drawn.radiograph(
            np.full((32, 32), 0.5), patient, "maugeri", f"{2023 + number // 10}0{1 + number % 9}1{number % 10}", small,
            StudyDescription=names[number % 4][0], BodyPartExamined=names[number % 4][1],
        )
        for number in range(40)
    ]  # fmt: skip
    hospital.send(client, *films)
    hospital.wait_for_studies(city, patient, 40)
    page, _ = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]))
    rows = page.locator(".exam")
    expect(rows).to_have_count(40)
    expect(page.locator(".year")).to_have_text(["2026", "2025", "2024", "2023"])
    assert page.locator(".timeline").evaluate("list => list.scrollHeight <= list.clientHeight")
    box = rows.last.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 900
    no_violations(page)
    page.keyboard.press("/")
    page.keyboard.type("ginocchio 2024")
    expect(rows.locator("h3")).to_have_text(["RX GINOCCHIO DX"] * 2)
    page.keyboard.press("Escape")
    expect(rows).to_have_count(40)
    page.locator(".chips").get_by_role("button", name="mano").click()
    expect(rows).to_have_count(10)
    expect(page.locator(".count").first).to_have_text("10 di 40 esami")


def test_a_cine_says_its_frames_and_plays_at_its_frame_time_and_a_dose_report_is_no_image(
    open_page: Open, city: RunningCity
) -> None:
    patient, client = Patient(), city.client("maugeri")
    cine = drawn.ultrasound(patient, "maugeri", DATES[0], colour=False)
    cine.NumberOfFrames, cine.FrameTime = 6, 50
    cine.SOPClassUID = cine.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.3.1"
    cine.PixelData = cine.PixelData * 6
    hospital.send(client, cine)
    hospital.wait_for_studies(city, patient, 1)
    page, _ = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]))
    expect(page.locator(".exam .facts")).to_contain_text("1 immagine, 6 fotogrammi")
    expect(page.locator(".pane.left .position")).to_have_text("1 / 6")
    page.get_by_role("button", name="Riproduci").click()
    expect(page.locator(".pane.left .position")).not_to_have_text("1 / 6")
    page.get_by_role("button", name="Ferma").click()
    expect(page.get_by_role("button", name="Riproduci")).to_be_visible()
