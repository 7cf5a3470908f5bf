"""Reports as documents: a PDF in its frame on the page, PDF and structured reports in stock OHIF; shown, not only there."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import FrameLocator, Locator, Page, Route, expect
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from tests.browser import hospital
from tests.browser.conftest import Open
from tests.browser.documents import pdf, shows_the_document
from tests.browser.hospital import Patient
from tests.harness import RunningCity, wait_until

pytestmark = pytest.mark.usefixtures("browser")
LARGE = 5_000_000
"""Bytes of a PDF that no answer of the API can hold."""


class Story:
    """A CT of Maugeri with a report in text, and, unless it is not to be sent, one in PDF of so many bytes."""

    def __init__(self, city: RunningCity, padding: int, name: str = "FERRARI^LUCIA", *, send: bool = True, **more: Any) -> None:
        self.city, self.patient, self.client = city, Patient(name), city.client("maugeri")
        images = hospital.stack(self.patient, "maugeri", "20260310", 2, **more)
        self.image, self.uid = images[0], str(images[0].StudyInstanceUID)
        hospital.send(self.client, *images)
        hospital.wait_for_studies(city, self.patient, 1)
        self.report(b"Nessun versamento pleurico. <b>x</b>", "text/plain; charset=utf-8", "Referto TC")
        if not send:
            return
        content = pdf("REFERTO", padding)
        if padding < LARGE:
            self.report(content, "application/pdf", "Referto firmato")
        else:
            hospital.send(self.client, self.encapsulated(images[0], content))
        wait_until(lambda: len(self.client.get(f"/studies/{self.uid}/reports").json()["reports"]) == 2)

    @property
    def url(self) -> str:
        """A new link to the patient: one opens once."""
        return str(hospital.link(self.city, patient={"id": self.patient.at["maugeri"]})["url"])

    def report(self, content: bytes, media_type: str, title: str, **more: str) -> None:
        headers = {"Content-Type": media_type}
        answer = self.client.post(f"/studies/{self.uid}/reports", params={"title": title, **more}, data=content, headers=headers)
        assert answer.status_code == 201, answer.text

    def encapsulated(self, of: Dataset, content: bytes) -> Dataset:
        data = Dataset()
        for keyword in ("SpecificCharacterSet", "PatientName", "PatientID", "StudyInstanceUID", "StudyDate"):
            setattr(data, keyword, getattr(of, keyword))
        data.file_meta = of.file_meta.copy()
        data.SOPClassUID, data.Modality, data.InstanceNumber = "1.2.840.10008.5.1.4.1.1.104.1", "DOC", 1
        data.SOPInstanceUID, data.SeriesInstanceUID = generate_uid(), generate_uid()
        data.file_meta.MediaStorageSOPClassUID, data.file_meta.MediaStorageSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
        data.DocumentTitle, data.MIMETypeOfEncapsulatedDocument = "Referto firmato", "application/pdf"
        data.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
        return data


def answers(page: Page) -> list[Any]:
    """Every answer with a PDF, from here on."""
    found: list[Any] = []
    page.on("response", lambda answer: found.append(answer) if answer.headers.get("content-type") == "application/pdf" else None)
    return found


@pytest.mark.parametrize("padding", [0, LARGE], ids=["small", "larger than an answer of the API"])
def test_a_pdf_is_shown_in_its_frame_and_nobody_else_may_frame_it(open_page: Open, city: RunningCity, padding: int) -> None:
    story = Story(city, padding)
    seen: list[Any] = []
    page, _ = open_page(story.url, prepare=lambda page: seen.append(answers(page)))
    frame = page.locator("iframe.pdf")
    expect(frame).to_have_attribute("title", "Referto firmato")
    page.get_by_label("Referti in grande").check()
    frame.scroll_into_view_if_needed()
    wait_until(lambda: shows_the_document(frame, dark=True))
    page.get_by_role("button", name="Come l'originale").press("Enter")
    frame.scroll_into_view_if_needed()
    wait_until(lambda: shows_the_document(frame))
    with page.expect_popup() as opened:
        page.get_by_role("button", name="Apri il PDF").press("Enter")
    assert opened.value.url.startswith("blob:")
    answer = next(response for response in seen[0] if response.status == 200)
    assert answer.headers["cache-control"] == "no-store"
    if padding < LARGE:
        assert answer.headers["content-security-policy"] == f"frame-ancestors {city.endpoints['viewer']}"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_a_pdf_without_a_byte_says_so_in_words(open_page: Open, city: RunningCity) -> None:
    story = Story(city, LARGE, send=False)
    hospital.send(story.client, story.encapsulated(story.image, b""))
    wait_until(lambda: len(story.client.get(f"/studies/{story.uid}/reports").json()["reports"]) == 2)
    page, _ = open_page(story.url)
    expect(page.locator(".report", has_text="Referto firmato")).to_contain_text("Il referto in archivio è vuoto.")
    expect(page.locator("iframe.pdf")).to_have_count(0)


def test_a_pdf_with_bytes_before_it_is_shown_and_what_is_none_says_so_for_good(open_page: Open, city: RunningCity) -> None:
    story = Story(city, LARGE, send=False)
    led = story.encapsulated(story.image, b"\r\n" + pdf("AFTER A LINE"))
    lie = story.encapsulated(story.image, b"\xff\xd8\xff\xe0 a film")
    empty = story.encapsulated(story.image, b"")
    del empty.EncapsulatedDocument, empty.MIMETypeOfEncapsulatedDocument
    empty.SOPClassUID = empty.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    empty.Modality, empty.ValueType, empty.ContentSequence = "SR", "CONTAINER", []
    for report, title in ((led, "Con una riga"), (lie, "Non un PDF"), (empty, "Vuoto")):
        report.SeriesInstanceUID, report.DocumentTitle = generate_uid(), title
    hospital.send(story.client, led, lie, empty)
    wait_until(lambda: len(story.client.get(f"/studies/{story.uid}/reports").json()["reports"]) == 4)
    page, watch = open_page(story.url)
    watch.expect("406")
    for title, said in (("Non un PDF", "non \u00e8 un PDF leggibile."), ("Vuoto", "Il referto in archivio \u00e8 vuoto.")):
        report = page.locator(".report", has_text=title)
        expect(report).to_contain_text(said)
        expect(report.get_by_role("button", name="Riprova")).to_have_count(0)
    page.get_by_label("Referti in grande").check()
    frame = page.locator(".report", has_text="Con una riga").locator("iframe.pdf")
    frame.scroll_into_view_if_needed()
    wait_until(lambda: shows_the_document(frame, dark=True))
    answer = story.client.get(f"/studies/{story.uid}/reports/{lie.SOPInstanceUID}")
    assert answer.status_code == 406
    assert "cannot be read" in answer.json()["detail"]


def test_a_pdf_that_did_not_come_has_a_button_and_no_json_is_shown_in_its_place(open_page: Open, city: RunningCity) -> None:
    failing = ["pdf"]

    def answer(route: Route) -> None:
        route.fulfill(status=500, content_type="application/json", body='{"title": "x"}') if failing else route.continue_()

    story = Story(city, 0)
    address = re.compile(r"/view/[^/]+/studies/[\d.]+/reports/")
    page, watch = open_page(story.url, prepare=lambda page: page.route(address, answer))
    watch.expect("500")
    report = page.locator(".report", has_text="Referto firmato")
    expect(report).to_contain_text("Il referto non si apre")
    expect(report).not_to_contain_text("title")
    expect(page.locator("iframe.pdf")).to_have_count(0)
    failing.clear()
    report.get_by_role("button", name="Riprova").press("Enter")
    page.get_by_label("Referti in grande").check()
    frame = page.locator("iframe.pdf")
    frame.scroll_into_view_if_needed()
    wait_until(lambda: shows_the_document(frame, dark=True))


def test_a_pdf_in_a_window_goes_with_its_exam_its_reading_and_the_page(open_page: Open, city: RunningCity) -> None:
    story = Story(city, 0)
    other = hospital.chest_film(story.patient, "maugeri", "20251201")
    hospital.send(story.client, other)
    hospital.wait_for_studies(city, story.patient, 2)
    page, _ = open_page(story.url)

    def opened() -> Page:
        with page.expect_popup() as popup:
            page.locator(".report", has_text="Referto firmato").get_by_role("button", name="Apri il PDF").press("Enter")
        return popup.value

    def goes(window: Page) -> None:
        wait_until(lambda: page.title() and window.is_closed())  # closing is heard of while the page answers

    def put(what: str, side: str) -> None:
        page.locator(".exam", has_text=what).locator(f"[data-side={side}]").first.press("Enter")
        expect(page.locator(f".pane.{side} h2")).to_have_text(what)

    report = opened()
    put("RX TORACE PA", "right")
    assert not report.is_closed()  # its exam is still there
    put("RX TORACE PA", "left")
    goes(report)
    put("TC TORACE", "left")
    report = opened()
    page.reload()
    goes(report)
    report = opened()
    page.goto(str(hospital.link(city, patient={"id": story.patient.at["maugeri"]})["url"]))
    goes(report)
    report = opened()
    page.get_by_role("button", name="Termina lettura").click()
    page.locator("#end-now").click()
    goes(report)


def test_a_pdf_in_a_window_goes_when_its_report_is_replaced_or_withdrawn_which_is_told(
    open_page: Open, city: RunningCity
) -> None:
    story = Story(city, 0, send=False)

    def newest() -> dict[str, Any]:
        reports = story.client.get(f"/studies/{story.uid}/reports").json()["reports"]
        return next(report for report in reports if report["title"] == "Referto firmato" and report["newest"])

    def send(text: str) -> None:
        story.report(pdf(text, 0), "application/pdf", "Referto firmato", document="signed")

    send("PRIMO")
    page, _ = open_page(story.url)
    report = page.locator(".report", has_text="Referto firmato")

    def opened(of: Locator) -> Page:
        with page.expect_popup() as popup:
            of.get_by_role("button", name="Apri il PDF").first.press("Enter")
        return popup.value

    def goes(window: Page) -> None:
        expect(page.locator(".toast")).to_contain_text(re.compile("hius.*(sostituito o ritirato|sostituiti o ritirati)"))
        wait_until(lambda: page.title() and window.is_closed())

    first = opened(report)
    send("CORRETTO")
    goes(first)
    expect(report.locator("header .when").first).to_contain_text("versione 2")
    report.get_by_text("Versioni precedenti").press("Enter")
    report.locator("details.older > summary").press("Enter")
    old, new = opened(report.locator("details.older")), opened(report)
    page.locator(".toast").evaluate("toast => { toast.hidden = true; toast.textContent = ''; }")
    withdrawn = {"sop_instance_uids": [newest()["sop_instance_uid"]], "reason": "sent in error"}
    assert story.client.post(f"/studies/{story.uid}/withdrawals", json=withdrawn).ok
    goes(new)
    wait_until(lambda: page.title() and old.is_closed())  # what was replaced stands again: its window said otherwise


@pytest.mark.usefixtures("ohif")
def test_ohif_shows_reports_and_pdfs_of_any_size_and_names_and_descriptions_as_text(open_page: Open, city: RunningCity) -> None:
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    story = Story(city, 0, name=f"<u>X</u>{hostile}"[:60], StudyDescription=hostile, SeriesDescription=hostile)
    story.report(pdf("BY ITS ADDRESS", 100_000), "application/pdf", "Referto lungo")
    hospital.send(story.client, story.encapsulated(story.image, pdf("LARGER THAN AN ANSWER", LARGE)))
    letter = story.encapsulated(story.image, pdf("LETTER"))
    letter.StudyInstanceUID, letter.StudyDate, letter.StudyDescription = generate_uid(), "20260301", "LETTERA"
    hospital.send(story.client, letter)
    wait_until(lambda: len(story.client.get(f"/studies/{story.uid}/reports").json()["reports"]) == 4)
    hospital.wait_for_studies(city, story.patient, 2)
    page, _ = open_page(story.url)
    page.locator("#open-viewer").click()
    expect(page.locator(".viewer.open.ready")).to_be_visible(timeout=60000)
    frame = page.frame_locator(".viewer iframe")
    expect(frame.get_by_text("<img src=x").first).to_be_visible()
    put_in_viewport(frame, "Referto TC")
    expect(frame.locator("[data-cy=viewport-pane]").first).to_contain_text("Nessun versamento pleurico. <b>x</b>")
    assert frame.locator("img[src=x], u").count() == 0
    shown: set[str] = set()
    for label in ("Referto firmato", "Referto lungo", "PDF"):
        put_in_viewport(frame, label)
        document = frame.locator("object[type='application/pdf']")
        wait_until(lambda document=document: str(document.get_attribute("data")) not in shown)
        shown.add(str(document.get_attribute("data")))
        expect(document).to_be_visible()
        wait_until(lambda document=document: shows_the_document(document))
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Metti in esame: LETTERA").last.click()  # an exam of nothing but a document
    expect(page.locator(".pane.left h2")).to_have_text("LETTERA")
    page.locator("#open-viewer").click()
    expect(page.locator(".viewer.open.ready")).to_be_visible(timeout=60000)


def put_in_viewport(frame: FrameLocator, label: str) -> None:
    """Have OHIF show one of the study's documents."""
    frame.locator("[data-cy^=study-browser-thumbnail-no-image]", has_text=label).dblclick()
