"""The screenshots of the README and of docs/viewer.md, of the real page: `python -m bench.browser_screenshots` writes
docs/images/*.png.

Starts a local city of its own with an invented patient of two hospitals: four chest films of two vendors, a head CT, reports.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from local.demo.images import at_detector, collimate
from tests.browser import hospital
from tests.browser.chromium import OHIF, chromium
from tests.browser.hospital import Patient
from tests.harness import ROOT, RunningCity, running_city

IMAGES = ROOT / "docs" / "images"
FILMS = {
    (
        "san-matteo",
        "20261002",
    ): "Quesito: febbre e tosse.\n\nReperto: addensamento parenchimale in sede basale destra, con sfumatura "
    "del seno costofrenico omolaterale. Ombra cardiaca nei limiti.\n\nConclusioni: focolaio broncopneumonico basale destro.",
    (
        "san-matteo",
        "20261026",
    ): "Confronto: RX del 2/10/2026.\n\nReperto: addensamento basale destro meno esteso; persiste sfumatura "
    "del seno costofrenico.\n\nConclusioni: lieve riduzione del focolaio. Utile controllo dopo terapia.",
    ("san-matteo", "20261115"): "Quesito: polmonite in trattamento.\n\nConfronto: radiogrammi del 2/10 e del 26/10.\n\n"
    "Reperto: ulteriore riduzione dell'addensamento.\n\nConclusioni: evoluzione favorevole.",
    (
        "maugeri",
        "20261129",
    ): "Quesito: controllo.\n\nConfronto: RX del San Matteo del 15/11/2026 e del 26/10/2026.\n\nReperto: residua "
    "stria disventilatoria basale destra; seno costofrenico libero. Ombra cardiaca invariata.\n\n"
    "Conclusioni: risoluzione quasi completa.",
}


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as state, running_city(Path(state)) as city:
        patient = course(city)
        with chromium() as browser:
            page = read(browser, city, patient, "en-GB")
            page.screenshot(path=IMAGES / "page-en.png")
            page.close()
            page = read(browser, city, patient, "it-IT")
            page.locator(".course").get_by_role("button", name="Metti accanto: RX TORACE PA, 2 ott").focus()
            page.keyboard.press("Enter")
            expect(page.locator(".pane.right .when").first).to_contain_text("2 ott 2026")
            page.locator(".pane.right .film img[alt*='2 ott 2026']").wait_for()
            page.keyboard.press("l")
            expect(page.locator("#tool-align")).to_have_attribute("aria-pressed", "true", timeout=20000)
            page.locator(".pane.right .part[data-kind=impression]").wait_for()
            page.screenshot(path=IMAGES / "page-it.png")
            if OHIF.is_file():
                page.locator("#open-viewer").click()
                page.locator(".viewer.open.ready").wait_for(timeout=60000)
                page.wait_for_load_state("networkidle")
                page.screenshot(path=IMAGES / "viewer.png")


def course(city: RunningCity) -> Patient:
    """The patient, with everything sent, transferred and reported."""
    patient = Patient()
    patient.at = {"san-matteo": "SM-0451837", "maugeri": "MG-77120"}
    films: dict[tuple[str, str], tuple[str, str]] = {}
    for (owner, date), text in FILMS.items():
        film = hospital.chest_film(patient, owner, date)
        if owner == "maugeri":
            collimate(film, 60)
        else:
            at_detector(film, 0.2)
        hospital.send(city.client(owner), film)
        films[owner, str(film.StudyInstanceUID)] = f"{date}1130", text
    head = hospital.stack(patient, "san-matteo", "20261004", 12, description="TC ENCEFALO SENZA MDC", BodyPartExamined="HEAD")
    hospital.send(city.client("san-matteo"), *head)
    hospital.transfer(city, patient)
    hospital.wait_for_studies(city, patient, 5)
    for (owner, study), (date, text) in films.items():
        report(city, owner, study, date, text)
    return patient


def read(browser: Browser, city: RunningCity, patient: Patient, locale: str) -> Page:
    """The page, with both films, both reports and all small pictures."""
    page = browser.new_page(viewport={"width": 1440, "height": 900}, locale=locale)
    page.goto(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"])
    for side in ("left", "right"):
        page.locator(f".pane.{side} .film img").first.wait_for()
        page.locator(f".pane.{side} .part[data-kind=impression]").wait_for()
    expect(page.locator(".thumb.shown")).to_have_count(4)
    return page


def report(city: RunningCity, owner: str, study: str, date: str, text: str) -> None:
    """The owner's RIS sends a report."""
    answer = city.client(owner).post(
        f"/studies/{study}/reports?title=Referto%20RX%20torace&date={date}",
        data=text.encode(),
        headers={"Content-Type": "text/plain; charset=utf-8"},
    )
    assert answer.status_code == 201, answer.text


if __name__ == "__main__":
    main()
