"""What a sender singled out, what came since, and films laid on one another: each by what is seen."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect
from pydicom.dataset import Dataset

from tests.browser import drawn, hospital
from tests.browser.chromium import pixels
from tests.browser.conftest import Open
from tests.browser.drawn import AURORA, BOREALIS
from tests.browser.hospital import Patient
from tests.harness import RunningCity, wait_until

pytestmark = pytest.mark.usefixtures("browser")
SIDES = ("left", "right")


def reading(city: RunningCity, patient: Patient, **body: Any) -> str:
    return str(hospital.link(city, **(body or {"patient": {"id": patient.at["maugeri"]}}))["url"])


def test_images_that_the_sender_singled_out_are_said_and_jumped_to(open_page: Open, city: RunningCity) -> None:
    patient, client = Patient(), city.client("maugeri")
    images = drawn.ct(patient, "maugeri", "20261129", 0, 21, 10)
    slices = images[1:]
    key = drawn.key_object(slices[0], slices[3], slices[17], why="nodulo di 6 mm")
    state = drawn.presentation_state(slices[0], slices[5], label="FRECCIA")
    hospital.send(client, *images, key, state)
    hospital.wait_for_studies(city, patient, 1)
    page, _ = open_page(reading(city, patient))
    position, caption = page.locator(".pane.left .position"), page.locator(".pane.left .caption")
    expect(position).to_have_text("11 / 21")
    expect(page.locator(".pane.left select option")).to_have_count(2)  # documents are no series of images
    expect(caption).not_to_contain_text("★")
    for wanted, why in (("4 / 21", "★ Of Interest: nodulo di 6 mm"), ("6 / 21", "★ FRECCIA"), ("18 / 21", "nodulo di 6 mm")):
        page.keyboard.press("k")
        expect(position).to_have_text(wanted)
        expect(caption).to_contain_text(why)
    page.get_by_role("button", name=re.compile("^3 immagini chiave")).click()
    expect(position).to_have_text("4 / 21")
    page.locator(".pane.left select").select_option(index=0)  # from the scout, to where they are
    page.keyboard.press("k")
    expect(page.locator(".pane.left select")).to_have_value(re.compile("Assiale"))
    expect(position).to_have_text("4 / 21")


def yellow(page: Page) -> tuple[float, float] | None:
    """Where in the film of the left pane, in parts of it, the middle of what is drawn over it lies; None where nothing is."""
    picture = page.locator(".pane.left .picture")
    colours = np.asarray(Image.open(io.BytesIO(picture.screenshot())).convert("RGB")).astype(int)
    place, film = picture.bounding_box(), page.locator(".pane.left .film").bounding_box()
    rows, columns = np.nonzero((colours[..., 0] > 180) & (colours[..., 1] > 140) & (colours[..., 2] < 130))
    if len(rows) < 20 or not place or not film:
        return None
    x, y = place["x"] + columns.mean(), place["y"] + rows.mean()
    return float((x - film["x"]) / film["width"]), float((y - film["y"]) / film["height"])


def test_an_image_is_shown_as_its_sender_presents_it_turned_windowed_and_drawn_over(open_page: Open, city: RunningCity) -> None:
    """A film of 640 pixels is turned by 90° and mirrored, so that (x, y) of it lies at (y, x); a ring around (480, 160)."""
    patient, client = Patient(), city.client("maugeri")
    film = drawn.film(patient, "maugeri", "20261129", AURORA)
    annotation, window = Dataset(), Dataset()
    annotation.GraphicLayer = "SEGNI"
    annotation.GraphicObjectSequence = [
        drawn.drawing("CIRCLE", 480, 160, 520, 160),
        drawn.drawing("ELLIPSE", 440, 160, 520, 160, 480, 140, 480, 180),
        drawn.drawing("POLYLINE", 470, 150, 490, 150, 490, 170, 470, 170, 470, 150),
        drawn.drawing("POINT", 480, 160),
    ]
    annotation.TextObjectSequence = [drawn.note("nodulo", 480, 160)]
    window.WindowCenter, window.WindowWidth = 2000, 5000
    state = drawn.presentation_state(
        film, film, label="NODULO", ImageRotation=90, ImageHorizontalFlip="Y", GraphicAnnotationSequence=[annotation],
        SoftcopyVOILUTSequence=[window], PresentationLUTShape="IDENTITY",
    )  # fmt: skip
    hospital.send(client, film, state)
    hospital.wait_for_studies(city, patient, 1)
    page, _ = open_page(reading(city, patient))
    caption, button = page.locator(".pane.left .caption"), page.locator(".pane.left .marked")
    expect(caption).to_contain_text("presentata da chi l'ha inviata: NODULO")
    expect(caption).to_contain_text("W 5000 L 2000")
    expect(button).to_have_text("Segni (G)")
    expect(page.locator(".pane.left .marks span")).to_have_text("nodulo")
    expect(page.locator(".pane.left .at-bottom")).to_have_text("L")
    expect(page.locator(".pane.left .at-right")).to_have_text("F")
    for key in ("z", "r"):
        wait_until(lambda: (at := yellow(page)) is not None and abs(at[0] - 0.27) < 0.05 and abs(at[1] - 0.75) < 0.03)
        page.keyboard.press(key)
    page.keyboard.press("l")  # nothing beside it
    page.keyboard.press("g")
    expect(caption).to_contain_text("finestra propria")
    expect(caption).not_to_contain_text("presentata")
    expect(page.locator(".pane.left .at-right")).to_have_text("L")
    wait_until(lambda: yellow(page) is None)
    button.click()
    wait_until(lambda: yellow(page) is not None)


def test_what_came_stays_marked_until_somebody_looks_at_it(open_page: Open, city: RunningCity) -> None:
    patient, client = Patient(), city.client("maugeri")
    older, newer = (drawn.film(patient, "maugeri", date, AURORA) for date in ("20261115", "20261129"))
    hospital.send(client, newer)
    hospital.wait_for_studies(city, patient, 1)
    page, _ = open_page(reading(city, patient))
    expect(page.locator(".pane.left .film img")).to_be_visible()
    hospital.send(client, older)
    marks = page.locator(".exam .new, .card .new")
    expect(marks).to_have_count(2)
    page.locator("#tool-invert").click()
    expect(marks).to_have_count(2)
    row = page.locator(".exam", has=page.locator(".new"))
    expect(row).to_have_attribute("data-uid", str(older.StudyInstanceUID))
    row.locator("[data-side=right]").click()
    expect(marks).to_have_count(0)
    last = drawn.film(patient, "maugeri", "20261020", AURORA)  # while nobody reads
    page.close()
    hospital.send(client, last)
    hospital.wait_for_studies(city, patient, 3)
    for _ in range(2):
        again, _ = open_page(reading(city, patient))
        row = again.locator(".exam", has=again.locator(".new"))
        expect(row).to_have_attribute("data-uid", str(last.StudyInstanceUID))
    with again.expect_response("**/view/session/keep"):
        row.locator("[data-side=right]").click()
    other, _ = open_page(reading(city, patient))
    expect(other.locator(".exam")).to_have_count(3)
    expect(other.locator(".new")).to_have_count(0)


def shifted(city: RunningCity) -> Patient:
    """A prior that stands elsewhere on its film than the current one: smaller, turned and moved."""
    patient = Patient()
    moved = drawn.thorax(BOREALIS.size, 0.9, 4, (0.06, -0.05))
    hospital.send(city.client("san-matteo"), drawn.radiograph(moved, patient, "san-matteo", "20261002", BOREALIS))
    hospital.send(city.client("maugeri"), drawn.film(patient, "maugeri", "20261129", AURORA))
    hospital.transfer(city, patient)
    hospital.wait_for_studies(city, patient, 2)
    return patient


def inner(page: Page, side: str) -> np.ndarray:
    """The middle of what a picture shows while both blink in one place."""
    grey = pixels(page.locator(f".pane.{side} .picture"))
    rows, columns = grey.shape
    half = int(0.3 * min(rows, columns))
    return grey[rows // 2 - half : rows // 2 + half, columns // 2 - half : columns // 2 + half]


def unlike(page: Page) -> float:
    """How much the two differ where they blink, as mean difference of grey values."""
    seen = {}
    for _ in SIDES:
        side = page.locator(".panes").get_attribute("data-in-view") or ""
        seen[side] = inner(page, side)
        page.keyboard.press(" ")
    return float(np.abs(seen["left"] - seen["right"]).mean())


def test_a_film_is_laid_on_the_other_by_itself_which_is_said_and_taken_back(open_page: Open, city: RunningCity) -> None:
    page, _ = open_page(reading(city, shifted(city)))
    for side in SIDES:
        expect(page.locator(f".pane.{side} .film img")).to_be_visible()
    page.keyboard.press(" ")
    before = unlike(page)
    page.keyboard.press("l")
    expect(page.locator("#tool-align")).to_have_attribute("aria-pressed", "true")
    caption = page.locator(".pane.right .caption")
    expect(caption).to_contain_text(re.compile(r"allineamento automatico: scala [\d,]+, rotazione −?-?[\d,]+°"))
    expect(page.locator(".pane.left .caption")).not_to_contain_text("allineamento")
    assert before > 12
    wait_until(lambda: unlike(page) < 0.5 * before)
    page.keyboard.press("z")  # together, however one looks at them
    wait_until(lambda: unlike(page) < 0.6 * before)
    page.keyboard.press("r")
    expect(caption).not_to_contain_text("allineamento")
    page.keyboard.press("l")
    expect(caption).to_contain_text("allineamento")
    page.keyboard.press("l")
    expect(caption).not_to_contain_text("allineamento")
    wait_until(lambda: unlike(page) > 0.8 * before)


def test_what_is_not_alike_is_not_aligned_and_that_is_said(open_page: Open, city: RunningCity) -> None:
    patient, client = Patient(), city.client("maugeri")
    y, x = np.mgrid[0:200, 0:200] / 200
    stripes = np.where(np.sin(60 * (x + y)) > 0, 0.8, 0.2)
    current, prior = (
        drawn.film(patient, "maugeri", "20261129", AURORA),
        drawn.radiograph(stripes, patient, "maugeri", "20261002", AURORA),
    )
    hospital.send(client, current, prior)
    hospital.wait_for_studies(city, patient, 2)
    page, _ = open_page(reading(city, patient))
    for side in SIDES:
        expect(page.locator(f".pane.{side} .film img")).to_be_visible()
    page.keyboard.press("l")
    expect(page.locator(".toast")).to_contain_text("non si somigliano abbastanza")
    expect(page.locator("#tool-align")).to_have_attribute("aria-pressed", "false")


@pytest.mark.usefixtures("ohif")
def test_upright_screens_have_the_two_exams_above_each_other_here_and_in_the_viewer(open_page: Open, city: RunningCity) -> None:
    page, _ = open_page(reading(city, shifted(city)), width=1080, height=1920)
    boxes: dict[str, Any] = {}
    for side in SIDES:
        picture = page.locator(f".pane.{side} .picture")
        expect(picture.locator(".film img")).to_be_visible()
        boxes[side] = picture.bounding_box()
    assert boxes["left"]["y"] + boxes["left"]["height"] <= boxes["right"]["y"]
    assert abs(boxes["left"]["height"] - boxes["right"]["height"]) < 2
    assert boxes["left"]["height"] > 500
    page.keyboard.press(" ")
    wait_until(lambda: page.locator(".pane.right .picture").bounding_box()["height"] > 800)  # type: ignore[index]
    page.keyboard.press("Escape")
    page.keyboard.press("v")
    expect(page.locator(".viewer.open.ready")).to_be_visible(timeout=60000)
    frame = page.frame_locator(".viewer iframe")
    current, prior = (
        frame.locator(f'[data-viewportid="contenitore-{name}"] canvas').first.bounding_box() for name in ("current", "prior")
    )
    assert current and prior
    assert current["y"] + current["height"] <= prior["y"] + 2
    assert abs(current["width"] - prior["width"]) < 2


@pytest.mark.usefixtures("ohif")
def test_a_second_window_shows_the_viewer_and_follows_the_first(open_page: Open, city: RunningCity) -> None:
    patient = Patient()
    films = [drawn.film(patient, "maugeri", date, AURORA) for date in ("20261002", "20261115", "20261129")]
    films[0].ImagerPixelSpacing = [0.2, 0.2]
    hospital.send(city.client("maugeri"), *films)
    hospital.wait_for_studies(city, patient, 3)
    page, _ = open_page(reading(city, patient))
    expect(page.locator(".pane.right .film img")).to_be_visible()
    page.keyboard.press("Shift+ArrowLeft")  # not the one that is proposed
    expect(page.locator(".pane.right .when")).to_contain_text("2 ott 2026")
    page.keyboard.press("m")
    page.keyboard.press("x")
    late: list[Route] = []

    def hold(route: Route) -> None:
        late.append(route)

    page.context.route("**/priors?*", hold)
    with page.expect_popup() as opened:
        page.locator("#second").click()
    other = opened.value
    expect(other.locator(".pair")).to_contain_text("2 ott 2026")
    wait_until(lambda: other.title() and late)
    with other.expect_response("**/priors?*") as answer:
        late[0].continue_()
    answer.value.finished()
    page.context.unroute("**/priors?*")
    expect(other.locator(".viewer.open.ready")).to_be_visible(timeout=60000)
    expect(other.locator(".scale")).to_have_text("Stessa scala in millimetri.")
    expect(other.locator(".pair")).to_contain_text("2 ott 2026")
    expect(other.locator(".pane.right .when")).to_contain_text("2 ott 2026")
    expect(other.locator("#second")).to_have_count(0)
    current, prior = (
        other.frames[-1].evaluate(
            "name => { const viewport = cornerstone.getRenderingEngines().map(each => each.getViewport(name)).find(Boolean);"
            " const { element } = viewport;"
            " return [element.getBoundingClientRect().x, viewport.getCamera().parallelScale / element.clientHeight]; }",
            f"contenitore-{name}",
        )
        for name in ("current", "prior")
    )
    assert prior[0] < current[0]  # the sides are swapped, the roles are not
    assert prior[1] == pytest.approx(current[1], rel=0.01)
    page.keyboard.press("Shift+ArrowRight")
    expect(other.locator(".pair")).to_contain_text("15 nov 2026")
    expect(other.locator(".viewer.open.ready")).to_be_visible(timeout=60000)
    page.get_by_role("button", name="Termina lettura").click()
    page.get_by_role("button", name="Termina", exact=True).click()
    expect(other.locator("[data-kind=gone], [data-kind=ended]")).to_be_visible()
    expect(other.locator(".viewer iframe")).to_have_count(0)


def test_a_neighbour_on_the_course_is_there_when_one_steps_to_it_and_is_read_only_then(
    open_page: Open, city: RunningCity
) -> None:
    patient = Patient()
    films = [drawn.film(patient, "san-matteo", date, BOREALIS) for date in ("20261002", "20261115", "20261120", "20261129")]
    hospital.send(city.client("san-matteo"), *films)
    hospital.transfer(city, patient)
    hospital.wait_for_studies(city, patient, 4)
    page, watch = open_page(reading(city, patient))
    expect(page.locator(".pane.right .film img")).to_be_visible()
    second = str(films[1].StudyInstanceUID)

    def readings(study: str) -> list[Any]:
        found: list[Any] = city.client("san-matteo").get(f"/studies/{study}/readings").json()["readings"]
        return found

    wait_until(lambda: page.title() and any(second in address and "viewport=1400" in address for address in watch.requests))
    assert not readings(second)  # handed out, and read by nobody
    assert not any(str(films[0].StudyInstanceUID) in address and "/images" in address for address in watch.requests)
    page.keyboard.press("Shift+ArrowLeft")
    expect(page.locator(".pane.right > header .when")).to_contain_text("15 nov 2026")
    wait_until(lambda: len(readings(second)) == 1)
