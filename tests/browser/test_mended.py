"""What stock OHIF would draw otherwise than the image says: it is drawn as the page draws it, or words say why it is not."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, Route, expect
from pydicom.dataset import Dataset

from tests.browser import drawn, hospital
from tests.browser.conftest import Open
from tests.browser.drawn import AURORA, BOREALIS
from tests.browser.hospital import Patient
from tests.harness import RunningCity, wait_until

pytestmark = pytest.mark.usefixtures("browser", "ohif")
VIEWPORTS = ("contenitore-current", "contenitore-prior")
_PLACE = """name => {
  const viewport = cornerstone.getRenderingEngines().map(engine => engine.getViewport(name)).find(Boolean);
  const { origin, direction, dimensions, spacing } = viewport.getImageData() ?? {};
  if (!origin) return null;
  const along = (axis, index, pixels) => direction[3 * axis + index] * pixels * spacing[axis];
  const corner = pixels => origin.map((value, index) => value + along(0, index, pixels(0)) + along(1, index, pixels(1)));
  return [...viewport.worldToCanvas(corner(() => -0.5)), ...viewport.worldToCanvas(corner(axis => dimensions[axis] - 0.5))];
}"""


def table(*entries: int, first: int = 0, bits: int = 12) -> Dataset:
    """An item of a VOI LUT or Modality LUT Sequence."""
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item.add_new(0x00283006, "OW", np.array(entries, "<u2").tobytes())
    item.ModalityLUTType = "US"
    return item


def cubic(**more: Any) -> Callable[[Patient, str], Dataset]:
    """A film whose sender shows its values by their third power."""
    return lambda patient, date: drawn.film(
        patient, "maugeri", date, AURORA, VOILUTSequence=[table(*(4095 * (np.arange(4096) / 4095) ** 3).astype(int))], **more
    )


def film(vendor: drawn.Vendor = AURORA, **more: Any) -> Callable[[Patient, str], Dataset]:
    return lambda patient, date: drawn.film(patient, "maugeri", date, vendor, **more)


def real(source: str, description: str = "RX TORACE", **more: Any) -> Callable[[Patient, str], Dataset]:
    return lambda patient, date: hospital.image(patient, "maugeri", source, date, description, **more)


def not_square(patient: Patient, date: str) -> Dataset:
    data = drawn.film(patient, "maugeri", date, AURORA, PixelAspectRatio=[1, 2])
    del data.ImagerPixelSpacing
    return data


def falling(patient: Patient, date: str) -> Dataset:
    """A film whose values grow where it is dark, until a Modality LUT turns them round."""
    data = drawn.film(patient, "maugeri", date, AURORA, ModalityLUTSequence=[table(*range(4095, -1, -1))])
    data.PixelData = (4095 - np.frombuffer(data.PixelData, "<u2")).astype("<u2").tobytes()
    return data


def colour(bits: int, planar: int) -> Callable[[Patient, str], Dataset]:
    """A colour image of more than eight bits a sample."""

    def make(patient: Patient, date: str) -> Dataset:
        data = hospital.image(patient, "maugeri", f"SC_rgb_{bits}bit.dcm", date, "RX TORACE")
        if planar:
            pixels = np.frombuffer(data.PixelData, f"<u{bits // 8}").reshape(data.Rows, data.Columns, 3)
            data.PixelData, data.PlanarConfiguration = np.moveaxis(pixels, 2, 0).tobytes(), 1
        return data

    return make


def opened(open_page: Open, city: RunningCity, *makers: Callable[[Patient, str], Dataset], **options: Any) -> Page:
    """The page with the first exam left and the second one right."""
    patient = Patient()
    exams = [make(patient, date) for make, date in zip(makers, ("20261129", "20261002"), strict=False)]
    hospital.send(city.client("maugeri"), *exams)
    hospital.wait_for_studies(city, patient, len(exams))
    body = {"patient": {"id": patient.at["maugeri"]}, "current_study": str(exams[0].StudyInstanceUID)}
    page, watch = open_page(str(hospital.link(city, **body)["url"]), **options)
    watch.expect("Invalid vr type")  # OHIF of a file that it cannot read
    expect(page.locator(".pane.left .film img")).to_be_visible()
    if len(exams) > 1:
        page.locator(f'.exam[data-uid="{exams[1].StudyInstanceUID}"] [data-side=right]').click()
        expect(page.locator(".pane.right .film img")).to_be_visible()
    return page


def in_ohif(page: Page) -> Any:
    page.locator("#open-viewer").click()
    expect(page.locator(".viewer.open.ready")).to_be_visible()
    return page.frame_locator(".viewer iframe")


def picture(element: Locator) -> Image.Image:
    return Image.open(io.BytesIO(element.screenshot())).convert("RGB")


def inner(image: Image.Image) -> np.ndarray:
    """The middle of an image, without what is written at its edges, at a size of its own: rows × columns × RGB."""
    width, height = image.size
    part = image.crop((int(0.2 * width), int(0.2 * height), int(0.8 * width), int(0.8 * height)))
    return np.asarray(part.resize((48, 48), Image.Resampling.BOX), dtype=float)


def on_the_page(page: Page, side: str) -> np.ndarray:
    return inner(picture(page.locator(f".pane.{side} .film")))


def in_the_viewer(page: Page, name: str) -> np.ndarray:
    """The same part of the image that a viewport shows, wherever it lies in it."""
    place = page.frames[-1].evaluate(_PLACE, name)
    if place is None:
        return np.zeros((48, 48, 3))
    canvas = page.frame_locator(".viewer iframe").locator(f'[data-viewportid="{name}"] canvas').first
    return inner(picture(canvas).crop(tuple(map(round, place))))


def shape_in_the_viewer(page: Page, name: str) -> float:
    """How many times as high as wide an image is drawn."""
    left, top, right, bottom = page.frames[-1].evaluate(_PLACE, name)
    return float((bottom - top) / (right - left))


def alike(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two show the same, in the same greys and colours."""
    return bool(first.std() > 20 and np.abs(first - second).mean() < 5)


PAIRS = {
    "functions": (film(VOILUTFunction="LINEAR"), film(BOREALIS, VOILUTFunction="SIGMOID")),
    "tables": (cubic(), cubic(PresentationLUTShape="INVERSE")),
    "exact, and a Modality LUT": (film(VOILUTFunction="LINEAR_EXACT"), falling),
    "a sign that the stream does not say, and colour of 16 bits": (real("J2K_pixelrep_mismatch.dcm"), colour(16, 0)),
    "colour of 32 bits, and pixels that are not square": (colour(32, 0), not_square),
    "colour of 16 bits by planes": (colour(16, 1), film()),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_the_viewer_draws_what_the_page_draws(open_page: Open, city: RunningCity, pair: str) -> None:
    page = opened(open_page, city, *PAIRS[pair])
    wanted = [on_the_page(page, side) for side in ("left", "right")]
    in_ohif(page)
    for name, seen in zip(VIEWPORTS, wanted, strict=True):
        wait_until(lambda name=name, seen=seen: alike(seen, in_the_viewer(page, name)))
    if "square" in pair:
        assert abs(shape_in_the_viewer(page, VIEWPORTS[1]) - 0.5) < 0.02
    if pair in ("functions", "tables"):  # a window by hand, and back
        for name, seen in zip(VIEWPORTS, wanted, strict=True):
            page.frames[-1].evaluate(
                """name => {
                     const viewport = cornerstone.getRenderingEngines().map(engine => engine.getViewport(name)).find(Boolean);
                     viewport.setProperties({voiRange: {lower: 100, upper: 900}});
                     viewport.render();
                   }""",
                name,
            )
            wait_until(lambda name=name, seen=seen: not alike(seen, in_the_viewer(page, name)))
            page.frame_locator(".viewer iframe").locator(f'[data-viewportid="{name}"] canvas').first.click()
            page.frames[-1].evaluate("commandsManager.runCommand('resetViewport', {}, 'CORNERSTONE')")
            wait_until(lambda name=name, seen=seen: alike(seen, in_the_viewer(page, name)))


def test_each_image_of_a_series_is_drawn_by_its_own_function(open_page: Open, city: RunningCity) -> None:
    patient = Patient()
    slices = drawn.ct(patient, "maugeri", "20261129", 0, 4, scout=False, WindowCenter=40, WindowWidth=60)
    slices[1].VOILUTFunction, slices[1].WindowWidth, slices[2].VOILUTFunction = "SIGMOID", 20, "LINEAR"
    shown = 4095 * np.clip((np.arange(-1024, 3072) - 10) / 60, 0, 1) ** 3
    slices[3].VOILUTSequence = [table(*shown.astype(int), first=0x10000 - 1024)]
    hospital.send(city.client("maugeri"), *slices)
    hospital.wait_for_studies(city, patient, 1)
    page, _ = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]))
    wanted = []
    page.locator(".pane.left .picture").press("Home")
    for number in range(1, 5):
        expect(page.locator(".pane.left .position")).to_have_text(f"{number} / 4")
        expect(page.locator(".pane.left .picture[aria-busy]")).to_have_count(0)
        wanted.append(on_the_page(page, "left"))
        page.locator(".pane.left .picture").press("ArrowDown")
    assert not alike(wanted[0], wanted[1])
    assert not alike(wanted[0], wanted[3])
    in_ohif(page)
    for index in (0, 1, 2, 3, 1, 0, 3, 2):
        page.frames[-1].evaluate(
            "([name, index]) => cornerstone.getRenderingEngines().map(engine => engine.getViewport(name)).find(Boolean)"
            ".setImageIdIndex(index)",
            [VIEWPORTS[0], index],
        )
        wait_until(lambda index=index: alike(wanted[index], in_the_viewer(page, VIEWPORTS[0])))


def test_a_volume_of_images_with_a_curve_of_their_own_is_not_drawn_by_a_straight_line(open_page: Open, city: RunningCity) -> None:
    patient = Patient()
    slices = drawn.ct(patient, "maugeri", "20261129", 0, 6, scout=False, VOILUTFunction="SIGMOID")
    hospital.send(city.client("maugeri"), *slices)
    hospital.wait_for_studies(city, patient, 1)
    page, _ = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]))
    frame = in_ohif(page)
    expect(frame.locator(".contenitore-words")).to_have_count(0)
    page.frames[-1].evaluate("() => void commandsManager.runCommand('setHangingProtocol', {protocolId: 'mpr'})")
    for plane in ("axial", "sagittal", "coronal"):
        expect(frame.locator(f'[data-viewportid="mpr-{plane}"] .contenitore-words')).to_contain_text("curva propria")


WORDS = {
    "palette": (real("gdcm-US-ALOKA-16.dcm", "ECO ADDOME"), "it-IT", "non si può mostrare", "tavolozza a segmenti", True),
    "deflated": (real("image_dfl.dcm"), "en-GB", "cannot be shown as it is", "in a way that this viewer does not read", True),
}
"""What is sent, the reader's language, what is said and why, and whether OHIF stumbles over it."""


_HEARD = """() => new Promise(done => {
  addEventListener('unhandledrejection', event => { event.preventDefault(); done(true); });
  Promise.reject(new Error('of an image, or of something else'));
  setTimeout(() => done(false), 500);
})"""
"""Whether an error that nobody catches is heard by who listens last, as OHIF does."""


@pytest.mark.parametrize("what", WORDS)
def test_what_the_viewer_cannot_draw_is_said_with_why_and_the_other_exam_is_shown(
    open_page: Open, city: RunningCity, what: str
) -> None:
    make, locale, said, why, stumbles = WORDS[what]
    page = opened(open_page, city, make, film(), locale=locale)
    wanted = on_the_page(page, "right")
    frame = in_ohif(page)
    words = frame.locator(f'[data-viewportid="{VIEWPORTS[0]}"] .contenitore-words')
    expect(words).to_contain_text(said)
    expect(words).to_contain_text(why)
    wait_until(lambda: alike(wanted, in_the_viewer(page, VIEWPORTS[1])))
    assert page.frames[-1].evaluate(_HEARD) is not stumbles
    if stumbles:
        expect(frame.get_by_text("Something went wrong")).to_have_count(0)
    expect(frame.locator(f'[data-viewportid="{VIEWPORTS[1]}"] .contenitore-words')).to_have_count(0)


_IMPATIENT = """{
  const { setTimeout } = window;
  window.setTimeout = (what, after, ...more) => setTimeout(what, after === 15000 ? 2000 : after, ...more);
}"""
"""How long an image may take to come is over sooner."""


def test_an_image_that_does_not_come_is_said_the_other_exam_is_shown_and_nothing_is_out_of_view_meanwhile(
    open_page: Open, city: RunningCity
) -> None:
    held = list[Route]()

    def hold(route: Route) -> None:
        held.append(route)

    page = opened(open_page, city, film(), film(BOREALIS), prepare=lambda page: page.add_init_script(_IMPATIENT))
    wanted = [on_the_page(page, side) for side in ("left", "right")]
    sop = page.evaluate("() => document.querySelector('.pane.left .film img').src.match(/instances\\/([\\d.]+)/)[1]")
    page.route(lambda url: "/wado" in url and sop in url, hold)
    page.locator("#open-viewer").click()
    waiting = page.locator(".viewer .opening")
    expect(waiting).to_be_visible()
    dock, button = page.locator(".dock").bounding_box(), page.locator("#open-viewer").bounding_box()
    assert dock and button
    assert button["x"] + button["width"] <= dock["x"]
    expect(page.locator(".viewer.open.ready")).to_be_visible()
    assert held
    words = page.frame_locator(".viewer iframe").locator(f'[data-viewportid="{VIEWPORTS[0]}"] .contenitore-words')
    expect(words).to_contain_text("non mostra questa immagine")
    wait_until(lambda: alike(wanted[1], in_the_viewer(page, VIEWPORTS[1])))
    for route in held:
        route.continue_()
    wait_until(lambda: alike(wanted[0], in_the_viewer(page, VIEWPORTS[0])))
    expect(words).to_have_count(0)


def letters(page: Page, name: str) -> dict[str, str]:
    """The side letters that are seen in a viewport, by edge."""
    found: dict[str, str] = page.frames[-1].evaluate(
        """name => Object.fromEntries([...document.querySelectorAll(`[data-viewportid="${name}"] .contenitore-letters span`)]
             .map(span => [span.dataset.edge, span.textContent]))""",
        name,
    )
    return found


def test_a_film_without_a_plane_has_its_side_letters_which_turn_with_it(open_page: Open, city: RunningCity) -> None:
    page = opened(open_page, city, film(), film(BOREALIS, PatientOrientation=["R", "F"]))
    frame = in_ohif(page)
    as_sent = {"left": "R", "right": "L", "top": "H", "bottom": "F"}
    wait_until(lambda: letters(page, VIEWPORTS[0]) == as_sent)
    wait_until(lambda: letters(page, VIEWPORTS[1]) == {"left": "L", "right": "R", "top": "H", "bottom": "F"})
    frame.locator(f'[data-viewportid="{VIEWPORTS[0]}"] canvas').first.click()
    page.frames[-1].evaluate("commandsManager.runCommand('rotateViewportCW', {}, 'CORNERSTONE')")
    wait_until(lambda: letters(page, VIEWPORTS[0]) == {"top": "R", "bottom": "L", "right": "H", "left": "F"})
    page.frames[-1].evaluate("commandsManager.runCommand('resetViewport', {}, 'CORNERSTONE')")
    wait_until(lambda: letters(page, VIEWPORTS[0]) == as_sent)
    page.frames[-1].evaluate("commandsManager.runCommand('flipViewportHorizontal', {}, 'CORNERSTONE')")
    wait_until(lambda: letters(page, VIEWPORTS[0]) == {**as_sent, "left": "L", "right": "R"})
