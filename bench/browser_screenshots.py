"""The screenshots of the README, of the real page: `python -m bench.browser_screenshots` writes docs/images/*.png.

Starts a local city of its own with an invented patient of two hospitals.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from playwright.sync_api import expect

from bench.browser import two_films
from tests.browser import hospital
from tests.browser.chromium import OHIF, chromium
from tests.harness import ROOT, RunningCity, running_city

IMAGES = ROOT / "docs" / "images"
REPORTS = {
    "san-matteo": "Quesito: polmonite in trattamento.\n\nReperto: addensamento parenchimale in sede basale destra, con sfumatura "
    "del seno costofrenico omolaterale. Ombra cardiaca nei limiti.\n\nConclusioni: focolaio basale destro. Utile controllo.",
    "maugeri": "Confronto: esame del Policlinico San Matteo di nove giorni prima, disponibile in visione.\n\nReperto: riduzione "
    "dell'addensamento basale destro; seno costofrenico libero.\n\nConclusioni: evoluzione favorevole.",
}


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as state, running_city(Path(state)) as city:
        patient = two_films(city)
        head = hospital.stack(patient, "san-matteo", "20260304", 12, description="TC ENCEFALO SENZA MDC")
        hospital.send(city.client("san-matteo"), *head)
        for study in hospital.wait_for_studies(city, patient, 3):
            if study["description"] == "RX TORACE PA":
                report(city, study["owner"], study["study_instance_uid"])
        with chromium() as browser:
            for locale, name in (("it-IT", "page-it"), ("en-GB", "page-en")):
                page = browser.new_page(viewport={"width": 1440, "height": 900}, locale=locale)
                page.goto(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"])
                for side in ("left", "right"):
                    page.locator(f".pane.{side} .picture img").wait_for()
                    page.locator(f".pane.{side} .report p").last.wait_for()
                expect(page.locator(".thumb.shown")).to_have_count(2)
                page.screenshot(path=IMAGES / f"{name}.png")
                if OHIF.is_file() and locale == "it-IT":
                    page.locator("#open-viewer").click()
                    page.locator(".viewer.open.ready").wait_for(timeout=60000)
                    page.wait_for_load_state("networkidle")
                    page.screenshot(path=IMAGES / "viewer.png")
                page.close()


def report(city: RunningCity, owner: str, study: str) -> None:
    """The owner's RIS sends a report."""
    answer = city.client(owner).post(
        f"/studies/{study}/reports?title=Referto%20RX%20torace",
        data=REPORTS[owner].encode(),
        headers={"Content-Type": "text/plain; charset=utf-8"},
    )
    assert answer.status_code == 201, answer.text


if __name__ == "__main__":
    main()
