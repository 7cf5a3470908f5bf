"""How long a radiologist waits: `python -m bench.browser [--runs N]`, on this machine, in Debian's Chromium.

Starts a local city of its own with two chest films of two hospitals, opens a link, and measures, cold (an empty browser) and
warm (its cache is filled): from opening the link to the timeline; to both pictures on the page; to both images in the
viewer, clicked at once. And the bytes and requests of each.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, CDPSession, expect

from tests.browser import hospital
from tests.browser.chromium import EXECUTABLE, OHIF, chromium
from tests.browser.hospital import Patient
from tests.harness import RunningCity, running_city

GOAL_TIMELINE, GOAL_COMPARISON = 1.0, 4.5


@dataclass
class Wait:
    """Seconds from opening the link, and what went over the line meanwhile."""

    timeline: float = 0.0
    pictures: float = 0.0
    viewer: float = 0.0
    bytes: int = 0
    requests: int = 0
    sizes: dict[str, int] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="of each, cold and warm (default 3)")
    runs = parser.parse_args().runs
    if EXECUTABLE is None:
        raise SystemExit("Chromium is not installed (Debian: apt-get install chromium)")
    if not OHIF.is_file():
        raise SystemExit("OHIF is not prepared: make viewer")
    with tempfile.TemporaryDirectory() as state, running_city(Path(state)) as city, chromium() as browser:
        patient = two_films(city)
        measured: dict[str, list[Wait]] = {"cold": [], "warm": []}
        for _ in range(runs):
            context = browser.new_context(viewport={"width": 1440, "height": 900})
            measured["cold"].append(measure(context, city, patient))
            measured["warm"].append(measure(context, city, patient))
            context.close()
        show(browser, measured)


def two_films(city: RunningCity) -> Patient:
    """The one real chest film, at two hospitals, transferred."""
    patient = Patient()
    hospital.send(city.client("san-matteo"), hospital.chest_film(patient, "san-matteo", "20260301"))
    hospital.send(city.client("maugeri"), hospital.chest_film(patient, "maugeri", "20260310"))
    hospital.transfer(city, patient)
    hospital.wait_for_studies(city, patient, 2)
    return patient


def measure(context: BrowserContext, city: RunningCity, patient: Patient) -> Wait:
    """One opening, in a new tab of `context`."""
    url = hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]
    page = context.new_page()
    wait = Wait()
    _count(context.new_cdp_session(page), wait)
    started = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.locator(".exam").first.wait_for()
    wait.timeline = time.perf_counter() - started
    expect(page.locator(".pane.right h2")).to_be_visible()
    page.locator("#open-viewer").click()
    page.locator(".viewer.open.ready").wait_for(timeout=60000)
    wait.viewer = time.perf_counter() - started
    page.locator("#close-viewer").click()
    page.close()
    other = context.new_page()
    started = time.perf_counter()
    other.goto(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"], wait_until="commit")
    for side in ("left", "right"):
        other.locator(f".pane.{side} .picture img").wait_for()
    wait.pictures = time.perf_counter() - started
    other.close()
    return wait


def _count(session: CDPSession, wait: Wait) -> None:
    def finished(event: dict[str, Any]) -> None:
        wait.bytes += int(event["encodedDataLength"])
        wait.requests += 1

    session.on("Network.loadingFinished", finished)
    session.send("Network.enable")


def show(browser: Browser, measured: dict[str, list[Wait]]) -> None:
    """The medians, beside the goals."""
    print(f"Chromium {browser.version}, software WebGL, local city on the same machine; medians")
    print(f"{'':6}{'timeline':>12}{'pictures':>12}{'viewer':>12}{'MB':>8}{'requests':>10}")
    for name, waits in measured.items():
        middle = {
            key: statistics.median(getattr(one, key) for one in waits)
            for key in ("timeline", "pictures", "viewer", "bytes", "requests")
        }
        print(
            f"{name:6}{middle['timeline']:10.2f} s{middle['pictures']:10.2f} s{middle['viewer']:10.2f} s"
            f"{middle['bytes'] / 1e6:8.1f}{middle['requests']:10.0f}"
        )
    print(f"{'goal':6}{GOAL_TIMELINE:10.2f} s{'':12}{GOAL_COMPARISON:10.2f} s")


if __name__ == "__main__":
    main()
