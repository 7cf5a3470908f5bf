"""Two vendors' images side by side, as one sees them: each with its own window, at the same level, in the same view.

The films of the two vendors have other bits, another photometric interpretation and other spacing; so whoever shows one with the
values of the other shows it black, white or negative.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import FrameLocator, Locator, Page, Route, expect
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from tests.browser import drawn, hospital
from tests.browser.chromium import Watch, pixels
from tests.browser.conftest import Open
from tests.browser.drawn import AURORA, BOREALIS
from tests.browser.hospital import Patient
from tests.browser.test_texts import CATALOGS
from tests.harness import RunningCity, wait_until

pytestmark = pytest.mark.usefixtures("browser")
SIDES = ("left", "right")
VIEWPORTS = ("contenitore-current", "contenitore-prior")
Images = list[Any]
OTHER = {"it": "en", "en": "it"}


def opened(
    open_page: Open, city: RunningCity, make: Callable[[Patient], tuple[Images, Images]], **options: Any
) -> tuple[Page, Watch, str]:
    """The page of a patient with a prior of San Matteo and a current exam of Maugeri, its watch, and their transfer's id.

    `make(patient)` answers both exams.
    """
    patient = Patient()
    prior, current = make(patient)
    hospital.send(city.client("san-matteo"), *prior)
    hospital.send(city.client("maugeri"), *current)
    transfer = hospital.transfer(city, patient)
    hospital.wait_for_studies(city, patient, len({dataset.StudyInstanceUID for dataset in [*prior, *current]}))
    page, watch = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]), **options)
    for side in SIDES:
        expect(page.locator(f".pane.{side} .picture").locator("img, .refused").first).to_be_visible()
    return page, watch, transfer


def films(patient: Patient) -> tuple[Images, Images]:
    return (
        [drawn.film(patient, "san-matteo", "20261002", BOREALIS)],
        [drawn.film(patient, "maugeri", "20261129", AURORA)],
    )


def mammographies(patient: Patient) -> tuple[Images, Images]:
    def exam(who: str, date: str, vendor: drawn.Vendor, views: str) -> Images:
        study = generate_uid()
        return [drawn.mammogram(patient, who, date, vendor, view, StudyInstanceUID=study) for view in views.split()]

    return (
        exam("san-matteo", "20261002", BOREALIS, "LMLO RMLO LCC RCC"),
        exam("maugeri", "20261129", AURORA, "RCC LCC RMLO LMLO"),
    )


def ultrasounds(patient: Patient) -> tuple[Images, Images]:
    return (
        [drawn.ultrasound(patient, "san-matteo", "20261002", colour=False)],
        [drawn.ultrasound(patient, "maugeri", "20261129", colour=True)],
    )


def in_ohif(page: Page) -> Any:
    """Open OHIF, and wait until both viewports show an image; OHIF's frame."""
    page.locator("#open-viewer").click()
    expect(page.locator(".viewer.open.ready")).to_be_visible(timeout=60000)
    return page.frame_locator(".viewer iframe")


def canvas(frame: Any, name: str) -> Locator:
    found: Locator = frame.locator(f'[data-viewportid="{name}"] canvas').first
    return found


def middle(element: Locator) -> np.ndarray:
    """The middle of what an element shows: nothing of overlays and of what is beside the image."""
    grey = pixels(element)
    rows, columns = grey.shape
    side = int(min(rows, columns) * 0.6)
    top, left = (rows - side) // 2, (columns - side) // 2
    return grey[top : top + side, left : left + side]


def wall(grey: np.ndarray) -> str:
    """On which side of a mammogram the chest wall is."""
    half = grey.shape[1] // 2
    return "left" if grey[:, :half].mean() > grey[:, half:].mean() else "right"


def is_right(element: Locator) -> bool:
    """Whether an element shows the drawn chest as it is: lungs dark, spine bright, neither black nor white."""
    grey = middle(element)
    rows, columns = grey.shape
    lung = grey[int(0.35 * rows) : int(0.45 * rows), int(0.12 * columns) : int(0.2 * columns)].mean()
    spine = grey[int(0.3 * rows) : int(0.5 * rows), int(0.48 * columns) : int(0.52 * columns)].mean()
    return bool(40 < grey.mean() < 200 and spine - lung > 80)


def indexes(page: Page) -> list[int]:
    """Which image each viewport shows."""
    found: list[int] = page.frames[-1].evaluate(
        "names => names.map(name => cornerstone.getRenderingEngines().map(engine => engine.getViewport(name)).find(Boolean)"
        "?.getCurrentImageIdIndex() ?? -1)",
        list(VIEWPORTS),
    )
    return found


def heights(page: Page) -> list[float]:
    """The patient z of what each viewport shows."""
    found: list[float] = page.frames[-1].evaluate(
        "names => names.map(name => cornerstone.metaData.get('imagePlaneModule', cornerstone.getRenderingEngines()"
        ".map(engine => engine.getViewport(name)).find(Boolean).getCurrentImageId()).imagePositionPatient[2])",
        list(VIEWPORTS),
    )
    return found


def scroll(page: Page, name: str, index: int) -> None:
    """Touch a viewport, and go to one of its images."""
    canvas(page.frame_locator(".viewer iframe"), name).click()
    page.frames[-1].evaluate(
        "([name, index]) => cornerstone.getRenderingEngines().map(engine => engine.getViewport(name)).find(Boolean)"
        ".setImageIdIndex(index)",
        [name, index],
    )


def set_window(page: Page, name: str, lower: float, upper: float) -> None:
    page.frames[-1].evaluate(
        """([name, lower, upper]) => {
             const viewport = cornerstone.getRenderingEngines().map(engine => engine.getViewport(name)).find(Boolean);
             viewport.setProperties({voiRange: {lower, upper}});
             viewport.render();
           }""",
        [name, lower, upper],
    )


def windows(page: Page) -> list[dict[str, float]]:
    found: list[dict[str, float]] = page.frames[-1].evaluate(
        "names => names.map(name => cornerstone.getRenderingEngines().map(engine => engine.getViewport(name)).find(Boolean)"
        ".getProperties().voiRange)",
        list(VIEWPORTS),
    )
    return found


def zoom_to(page: Page, name: str, zoom: float) -> None:
    page.frames[-1].evaluate(
        """([name, zoom]) => {
             const viewport = cornerstone.getRenderingEngines().map(engine => engine.getViewport(name)).find(Boolean);
             viewport.setZoom(zoom);
             viewport.render();
           }""",
        [name, zoom],
    )


def zooms(page: Page) -> list[float]:
    found: list[float] = page.frames[-1].evaluate(
        "names => names.map(name => cornerstone.getRenderingEngines().map(engine => engine.getViewport(name)).find(Boolean)"
        ".getZoom())",
        list(VIEWPORTS),
    )
    return found


def reset(page: Page, name: str) -> None:
    """OHIF's own button resets the viewport that was clicked last."""
    frame = page.frame_locator(".viewer iframe")
    canvas(frame, name).click()
    page.frames[-1].evaluate("commandsManager.runCommand('resetViewport', {}, 'CORNERSTONE')")


@pytest.mark.usefixtures("ohif")
def test_ultrasounds_have_each_their_own_window(open_page: Open, city: RunningCity) -> None:
    page, _, _ = opened(open_page, city, ultrasounds)
    frame = in_ohif(page)
    for name in VIEWPORTS:
        wait_until(lambda name=name: 40 < middle(canvas(frame, name)).mean() < 200)
        assert middle(canvas(frame, name)).std() > 10


def views_in_ohif(page: Page) -> dict[str, tuple[str, str]]:
    """Of each viewport: side and view of the image that it holds, and on which side of what it shows the chest wall is seen."""
    frame = page.frame_locator(".viewer iframe")
    shown: dict[str, str] = page.frames[-1].evaluate(
        """() => Object.fromEntries(cornerstone.getRenderingEngines().flatMap(engine => engine.getViewports())
             .filter(viewport => viewport.getCurrentImageId?.()).map(viewport => {
               const image = cornerstone.metaData.get('instance', viewport.getCurrentImageId());
               return [viewport.id, image.ImageLaterality + image.ViewPosition];
             }))"""
    )
    return {name: (view, wall(middle(canvas(frame, name)))) for name, view in shown.items()}


def as_hung(*exams: str) -> dict[str, tuple[str, str]]:
    return {
        f"contenitore-{exam}-{view}": (view, "right" if view[0] == "R" else "left")
        for exam in exams
        for view in ("RCC", "LCC", "RMLO", "LMLO")
    }


@pytest.mark.usefixtures("ohif")
def test_a_mammography_is_hung_two_by_two_here_and_in_ohif_and_then_view_by_view(open_page: Open, city: RunningCity) -> None:
    page, _, _ = opened(open_page, city, mammographies)
    for side in SIDES:
        expect(page.locator(f".pane.{side} .hung img")).to_have_count(4)
        wait_until(lambda side=side: 40 < middle(page.locator(f".pane.{side} .picture")).mean() < 200)
        cells = [pixels(page.locator(f".pane.{side} .hung .film").nth(cell)) for cell in range(4)]
        assert [wall(grey) for grey in cells] == ["right", "left", "right", "left"]  # whatever order they came in
    page.locator(".pane.left .picture").press("ArrowDown")
    for side in SIDES:
        expect(page.locator(f".pane.{side} .position")).to_have_text("2 / 5")
        expect(page.locator(f".pane.{side} .picture .cell")).to_have_count(1)
        assert wall(pixels(page.locator(f".pane.{side} .film"))) == "right"  # RCC beside RCC
    page.locator(".pane.left .picture").press("Home")
    expect(page.locator(".pane .hung img")).to_have_count(8)
    frame = in_ohif(page)
    wait_until(lambda: views_in_ohif(page) == as_hung("current", "prior"))
    for name in as_hung("current", "prior"):
        grey = middle(canvas(frame, name))
        assert 30 < grey.mean() < 200  # two vendors, each with its own window
        assert grey.std() > 10
    places = ("current-RCC", "current-LCC", "prior-RCC", "current-RMLO")
    boxes: dict[str, Any] = {name: canvas(frame, f"contenitore-{name}").bounding_box() for name in places}
    assert boxes["current-RCC"]["x"] < boxes["current-LCC"]["x"] < boxes["prior-RCC"]["x"]
    assert boxes["current-RCC"]["y"] < boxes["current-RMLO"]["y"]
    canvas(frame, "contenitore-current-RCC").click()
    page.keyboard.press(".")  # OHIF's own key for the next stage
    one_view = {name: seen for name, seen in as_hung("current", "prior").items() if name.endswith("RCC")}
    wait_until(lambda: views_in_ohif(page) == one_view)


@pytest.mark.usefixtures("ohif")
def test_a_mammography_alone_is_hung_too_and_a_view_that_was_not_taken_stays_empty(open_page: Open, city: RunningCity) -> None:
    patient = Patient()
    study = generate_uid()
    more = {"StudyInstanceUID": study}
    views = [drawn.mammogram(patient, "maugeri", "20261129", AURORA, view, **more) for view in ("LCC", "RCC", "RMLO")]
    del views[1].ViewPosition  # which the code says too
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "R-10242", "SRT", "cranio-caudal"
    views[1].ViewCodeSequence = [code]
    hospital.send(city.client("maugeri"), *views)
    hospital.wait_for_studies(city, patient, 1)
    page, _ = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]))
    expect(page.locator(".pane.left .hung img")).to_have_count(3)
    in_ohif(page)
    wanted = as_hung("current")
    del wanted["contenitore-current-LMLO"]

    def hung() -> dict[str, tuple[str, str]]:
        return {name: (name[-3:] if name.endswith("RCC") else view, side) for name, (view, side) in views_in_ohif(page).items()}

    wait_until(lambda: hung() == wanted)


def with_sides(patient: Patient) -> tuple[Images, Images]:
    """Films in two projections, which the two hospitals take in another order."""

    def exam(who: str, date: str, vendor: drawn.Vendor, views: str) -> Images:
        study = generate_uid()
        return [
            drawn.radiograph(
                drawn.thorax(vendor.size) if view == "PA" else np.full((vendor.size, vendor.size), 0.9),
                patient, who, date, vendor,
                StudyInstanceUID=study, ViewPosition=view, SeriesDescription=view, SeriesNumber=number + 1,
            )
            for number, view in enumerate(views.split())
        ]  # fmt: skip

    return exam("san-matteo", "20261002", BOREALIS, "LL PA"), exam("maugeri", "20261129", AURORA, "PA LL")


@pytest.mark.usefixtures("ohif")
def test_films_of_two_vendors_are_right_here_and_in_ohif_view_beside_view_until_they_may_not_be_seen(
    open_page: Open, city: RunningCity
) -> None:
    page, watch, transfer = opened(open_page, city, with_sides)
    for side in SIDES:
        wait_until(lambda side=side: is_right(page.locator(f".pane.{side} .picture")))
    page.locator(".pane.left select").select_option(index=1)
    expect(page.locator(".pane.right select")).to_have_value("1. LL (1)")
    page.locator(".pane.right select").select_option(index=1)
    expect(page.locator(".pane.left select")).to_have_value("2. LL (1)")
    page.locator(".pane.left select").select_option(index=0)
    expect(page.locator(".pane.right select")).to_have_value("2. PA (1)")
    frame = in_ohif(page)
    for name in VIEWPORTS:
        wait_until(lambda name=name: is_right(canvas(frame, name)))
    left, right = (canvas(frame, name).bounding_box() for name in VIEWPORTS)
    assert left and right
    assert left["x"] + left["width"] <= right["x"] + 2
    assert left["height"] > 300
    expect(page.locator(".pair > span")).to_contain_text(["29 nov 2026 Istituti Clinici", "2 ott 2026 Fondazione IRCCS"])

    before = windows(page)
    set_window(page, VIEWPORTS[0], 3000, 4000)
    wait_until(lambda: not is_right(canvas(frame, VIEWPORTS[0])))
    assert windows(page)[1] == before[1]
    assert is_right(canvas(frame, VIEWPORTS[1]))
    set_window(page, VIEWPORTS[1], 100, 200)
    for name in VIEWPORTS:
        reset(page, name)
        wait_until(lambda name=name: is_right(canvas(frame, name)))
    assert windows(page) == before

    canvas(frame, VIEWPORTS[0]).click()
    page.keyboard.press("Escape")  # wherever the focus is
    expect(page.locator(".viewer")).to_be_hidden()
    expect(page.locator("#open-viewer")).to_be_focused()
    for medium in ("print", "screen"):  # a preview of the print
        page.emulate_media(media=medium)
        expect(page.locator(".printed")).to_be_visible(visible=medium == "print")
    in_ohif(page)
    wait_until(lambda: canvas(frame, VIEWPORTS[0]).bounding_box() == left)
    watch.expect("404", "NotFound", "Not Found")
    city.client("san-matteo").delete(f"/transfers/{transfer}")
    expect(page.locator(".viewer iframe")).to_have_count(0)
    expect(page.locator(".viewer")).to_be_hidden()


def measure(page: Page, frame: FrameLocator) -> None:
    """A length in the viewer's left image."""
    frame.locator('[data-cy="MeasurementTools-split-button-primary"]').click()
    box = canvas(frame, VIEWPORTS[0]).bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 100, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 260, steps=4)
    page.mouse.up()


def unlike(patient: Patient) -> tuple[Images, Images]:
    """A thorax beside thorax and abdomen, on the same table positions."""
    return (
        drawn.ct(patient, "san-matteo", "20261002", 0, 11, 30),
        drawn.ct(patient, "maugeri", "20261129", 0, 21, 30, StudyDescription="TC TORACE ADDOME"),
    )


def elsewhere(patient: Patient) -> tuple[Images, Images]:
    """The same, on a table that counts from somewhere else."""
    return (
        drawn.ct(patient, "san-matteo", "20261002", 0, 11, 30),
        drawn.ct(patient, "maugeri", "20261129", 1500, 21, 30, StudyDescription="TC TORACE ADDOME"),
    )


@pytest.mark.usefixtures("ohif")
def test_a_ct_opens_on_its_slices_at_the_same_level_and_goes_on_so_and_nothing_offers_to_store_what_cannot_be(
    open_page: Open, city: RunningCity
) -> None:
    page, _, _ = opened(open_page, city, unlike)
    expect(page.locator(".pane.left select")).to_have_value("2. Assiale (21)")
    expect(page.locator(".pane.right select")).to_have_value("2. Assiale (11)")
    expect(page.locator(".pane.left .position")).to_have_text("11 / 21")
    expect(page.locator(".pane.right .position")).to_have_text("11 / 11")  # z = -300 both
    frame = in_ohif(page)
    wait_until(lambda: heights(page) == [-300, -300])
    expect(page.locator(".levels")).to_contain_text("Livelli per posizione")
    scroll(page, VIEWPORTS[1], 4)
    wait_until(lambda: heights(page) == [-120, -120])
    scroll(page, VIEWPORTS[0], 10)
    wait_until(lambda: heights(page) == [-300, -300])
    set_window(page, VIEWPORTS[0], -150, 250)  # Hounsfield units mean the same
    wait_until(lambda: windows(page)[1] == {"lower": -150, "upper": 250})
    for name in VIEWPORTS:
        assert 40 < middle(canvas(frame, name)).mean() < 220
    measure(page, frame)
    wait_until(lambda: page.frames[-1].evaluate("services.measurementService.getMeasurements().length") == 1)
    frame.locator('[data-cy="side-panel-header-right"]').click()
    listed = frame.get_by_role("list", name="Misure")
    expect(listed.get_by_role("listitem")).to_have_count(1)
    expect(listed).to_contain_text("mm")
    expect(frame.locator(".contenitore-measurements")).to_contain_text("non si archiviano")
    for words in ("Create SR", "Create report", "Track measurements", "Segmentation", "Export", "CSV"):
        expect(frame.get_by_text(words)).to_have_count(0)
    page.frames[-1].evaluate(
        "name => cornerstone.getRenderingEngines().map(engine => engine.getViewport(name)).find(Boolean).setImageIdIndex(4)",
        VIEWPORTS[0],
    )
    wait_until(lambda: indexes(page)[0] == 4)
    listed.get_by_role("button", name="mm").first.click()
    wait_until(lambda: indexes(page)[0] == 10)  # where it was measured
    listed.get_by_role("button", name="Elimina").click()
    expect(listed.get_by_role("listitem")).to_have_count(0)
    assert page.frames[-1].evaluate("services.measurementService.getMeasurements().length") == 0


@pytest.mark.usefixtures("ohif")
def test_another_language_changes_the_words_and_nothing_that_was_chosen_or_measured(open_page: Open, city: RunningCity) -> None:
    page, watch, _ = opened(open_page, city, unlike)
    expect(page.locator(".pane.left .position")).to_have_text("11 / 21")
    page.locator(".pane.left .picture").focus()
    for _ in range(3):
        page.keyboard.press("ArrowUp")
    expect(page.locator(".pane.left .position")).to_have_text("8 / 21")
    page.keyboard.press("2")
    page.keyboard.press("i")
    expect(page.locator(".pane.left .caption")).to_contain_text("anteprima · W 1500 L -600")
    page.locator("#largeReports").check()
    page.locator("#search").fill("tc")
    frame = in_ohif(page)
    measure(page, frame)
    frame.locator('[data-cy="side-panel-header-right"]').click()
    expect(frame.get_by_role("list", name="Misure").get_by_role("listitem")).to_have_count(1)
    before, asked = indexes(page), len(watch.requests)
    page.get_by_role("button", name="EN", exact=True).click()
    expect(page.get_by_role("button", name="Back to the exams")).to_be_visible()
    expect(page.locator(".levels")).to_contain_text("Levels by position")
    expect(frame.get_by_role("list", name="Measurements").get_by_role("listitem")).to_have_count(1)
    expect(frame.locator(".contenitore-measurements")).to_contain_text("not stored")
    assert indexes(page) == before
    page.get_by_role("button", name="Back to the exams").click()
    expect(page.locator(".pane.left .position")).to_have_text("8 / 21")
    expect(page.locator(".pane.left .caption")).to_contain_text("preview · W 1500 L -600")
    expect(page.locator(".pane.left .cell")).to_have_class("cell inverted")
    expect(page.locator(".pane.left .picture img")).to_have_attribute("alt", re.compile("image 8 of 21"))
    expect(page.locator("#largeReports")).to_be_checked()
    expect(page.locator("#search")).to_have_value("tc")
    assert not [address for address in watch.requests[asked:] if "/text/" not in address and "/view/events" not in address]
    assert left_in("it", page) == []
    page.get_by_role("button", name="IT", exact=True).click()
    expect(page.locator(".pane.left .caption")).to_contain_text("anteprima")
    assert left_in("en", page) == []


def left_in(language: str, page: Page) -> list[str]:
    """What the page says, to eyes and ears, in this language though it speaks the other one."""
    spoken, other = ({name: _forms(text) for name, text in CATALOGS[name_of].items()} for name_of in (language, OTHER[language]))
    forms = {form for name, texts in spoken.items() for form in texts if form not in other[name] and re.search(r"[a-z]{4}", form)}
    patterns = [re.compile(re.sub(r"\\{\w+\\}", ".+", re.escape(form))) for form in forms]
    said = page.evaluate(
        """[...document.querySelectorAll('#app *')].filter(element => !element.lang).flatMap(element => [
             ...[...element.childNodes].filter(node => node.nodeType === Node.TEXT_NODE).map(node => node.data.trim()),
             ...['title', 'aria-label', 'alt', 'placeholder'].map(name => element.getAttribute(name) ?? '')])"""
    )
    assert len(said) > 100
    return [text for text in said if any(pattern.fullmatch(text) for pattern in patterns)]


def _forms(text: Any) -> list[str]:
    return list(text.values()) if isinstance(text, dict) else [text]


@pytest.mark.usefixtures("ohif")
def test_levels_are_paired_anew_realigned_by_hand_and_let_go_and_zoom_goes_along(open_page: Open, city: RunningCity) -> None:
    page, _, _ = opened(open_page, city, elsewhere)
    in_ohif(page)
    expect(page.locator(".levels")).to_contain_text("dal margine superiore")
    scroll(page, VIEWPORTS[0], 5)
    wait_until(lambda: indexes(page) == [5, 5])
    toggle = "commandsManager.runCommand('contenitoreToggleLevels', {}, 'CORNERSTONE')"
    page.frames[-1].evaluate(toggle)
    scroll(page, VIEWPORTS[0], 8)
    wait_until(lambda: indexes(page)[0] == 8)
    assert indexes(page) == [8, 5]
    page.locator("#realign").click()
    expect(page.locator(".levels")).to_contain_text("riallineati a mano")
    page.frames[-1].evaluate(toggle)
    page.evaluate(
        "document.querySelector('.viewer iframe').contentWindow.postMessage("
        "{kind: 'contenitore:about', about: {faults: {}, places: [[], []]}}, location.origin)"
    )  # as when something of the patient arrives meanwhile
    scroll(page, VIEWPORTS[0], 12)
    wait_until(lambda: indexes(page) == [12, 9])
    expect(page.locator(".levels")).to_contain_text("riallineati a mano")
    scroll(page, VIEWPORTS[1], 3)
    wait_until(lambda: indexes(page) == [6, 3])
    zoom_to(page, VIEWPORTS[0], 2.5)
    wait_until(lambda: all(abs(zoom - 2.5) < 0.01 for zoom in zooms(page)))


@pytest.mark.usefixtures("ohif")
def test_a_viewer_that_does_not_come_and_what_is_not_drawn_say_so_in_words_and_the_pages_pictures_stay(
    open_page: Open, city: RunningCity
) -> None:
    def make(patient: Patient) -> tuple[Images, Images]:
        prior, current = films(patient)
        prior[0].BitsStored = 17
        return prior, current

    page, watch, _ = opened(open_page, city, make, prepare=lambda page: page.clock.install())
    watch.expect("406")
    expect(page.locator(".pane.right .refused")).to_be_visible()
    held = list[Route]()

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/app.bundle*", hold)
    page.locator("#open-viewer").click()
    waiting = page.locator(".viewer .opening")
    expect(waiting).to_have_text("Il visualizzatore si sta aprendo…")
    page.clock.fast_forward(21000)
    expect(waiting).to_contain_text("non mostra ancora le immagini")
    assert is_right(page.locator(".pane.left .picture"))  # and no black
    for route in held:
        route.continue_()
    assert is_right(page.locator(".pane.left .picture")) or page.locator(".viewer.ready").count()
    expect(page.locator(".viewer.open.ready")).to_be_visible(timeout=60000)
    expect(waiting).to_be_hidden()
    frame = page.frame_locator(".viewer iframe")
    told = frame.locator(f'[data-viewportid="{VIEWPORTS[1]}"] .contenitore-words')
    expect(told).to_contain_text("non si può mostrare")
    expect(told).to_contain_text("cannot be stored")
    wait_until(lambda: is_right(canvas(frame, VIEWPORTS[0])))


@pytest.mark.usefixtures("ohif")
def test_a_slice_that_the_line_did_not_bring_is_said_to_be_on_its_way_and_comes_by_itself(
    open_page: Open, city: RunningCity
) -> None:
    brought = itertools.count()
    cut = [True]

    def unless_cut(route: Route) -> None:
        route.abort("internetdisconnected") if next(brought) > 20 and cut[0] else route.continue_()

    def scans(patient: Patient) -> tuple[Images, Images]:
        return (
            drawn.ct(patient, "san-matteo", "20261002", 0, 150, spacing=2.0),
            drawn.ct(patient, "maugeri", "20261129", 0, 150, spacing=2.0),
        )

    page, watch, _ = opened(open_page, city, scans, prepare=lambda page: page.route("**/wado?**", unless_cut))
    watch.expect("ERR_INTERNET_DISCONNECTED")
    frame = in_ohif(page)
    canvas(frame, VIEWPORTS[0]).hover()
    for _ in range(40):
        page.mouse.wheel(0, 100)
    words = frame.locator(".contenitore-words")
    expect(words.last).to_have_text(CATALOGS["it"]["viewerLine"])
    cut[0] = False
    expect(words).to_have_count(0)
    for name in VIEWPORTS:
        assert middle(canvas(frame, name)).mean() > 60  # a disk
