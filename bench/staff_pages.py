"""How long the people of a hospital wait for their pages: `python -m bench.staff_pages [--runs N]`, in Debian's Chromium.

Starts a local city of its own whose hospitals have forwarders, and a patient of two hospitals who is transferred, then
measures each page from its address to the end of loading, cold (an empty browser) and warm. Medians, beside the goal.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import Browser

from tests.browser.chromium import EXECUTABLE, chromium
from tests.harness import running_city
from tests.integration.door.doors import MAUGERI, SAN_MATTEO, Doors, Patient

GOAL = 0.3
_LOADED = """() => new Promise(done => {
  const look = () => {
    const [page] = performance.getEntriesByType('navigation');
    if (page.loadEventEnd > 0) done(page.loadEventEnd / 1000);
    else requestAnimationFrame(look);
  };
  look();
})"""
EVERY_ROLE = {"X-Remote-User": "anna", "X-Remote-Roles": "registry,radiology,privacy,admin"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15, help="of each, cold and warm (default 15)")
    runs = parser.parse_args().runs
    if EXECUTABLE is None:
        raise SystemExit("Chromium is not installed (Debian: apt-get install chromium)")
    load = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory() as state,
        running_city(Path(state), forwarders=True) as city,
        chromium() as browser,
    ):
        doors = Doors(city)
        patient = Patient(doors)
        patient.arrives()
        patient.transferred()
        sending, receiving = (doors.endpoints(institution)["page"] for institution in (SAN_MATTEO, MAUGERI))
        pages = {
            "what waits (/waiting)": f"{receiving}/waiting",
            "transfers, the sender's": f"{sending}/transfers",
            "transfers, the receiver's": f"{receiving}/transfers",
            "patients (/patients)": f"{sending}/patients",
            "a patient": page_of(browser, sending, patient.number),
            "put aside (/queue)": f"{sending}/queue",
            "the state of the forwarder (/)": f"{sending}/",
        }
        print(
            f"Chromium {browser.version}, {os.cpu_count()} cores, load {load:.1f} at the beginning; medians of {runs} (least to most)"
        )
        for title, address in pages.items():
            show(title, *loading(browser, address, runs))


def page_of(browser: Browser, door: str, number: str) -> str:
    """The address of a patient's page, which names nobody."""
    context = browser.new_context(locale="it-IT", extra_http_headers=EVERY_ROLE)
    page = context.new_page()
    page.goto(f"{door}/patients")
    page.get_by_label("Numero paziente", exact=True).fill(number)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{door}/patients/*")
    address = page.url
    context.close()
    return address


def loading(browser: Browser, address: str, runs: int) -> tuple[list[float], list[float]]:
    """Seconds until the page has loaded, in an empty browser and again in the same one, `runs` times each."""
    cold: list[float] = []
    warm: list[float] = []
    for number in range(runs + 1):  # the first fills the functions' caches, and counts for nothing
        context = browser.new_context(locale="it-IT", extra_http_headers=EVERY_ROLE, viewport={"width": 1280, "height": 720})
        page = context.new_page()
        for found in (cold, warm):
            answer = page.goto(address, wait_until="load")
            if answer is None or not answer.ok:
                raise SystemExit(f"{address} answers {answer and answer.status}")
            if number:
                found.append(page.evaluate(_LOADED))
        context.close()
    return cold, warm


def show(title: str, cold: list[float], warm: list[float]) -> None:
    figures = [f"{statistics.median(found):.3f} s ({min(found):.3f} to {max(found):.3f})" for found in (cold, warm)]
    met = "met" if statistics.median(cold) <= GOAL else "NOT met"
    print(f"{title:<32}cold {figures[0]:<28}warm {figures[1]:<28}goal {GOAL} s: {met}")


if __name__ == "__main__":
    main()
