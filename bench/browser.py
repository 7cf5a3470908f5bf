"""How long a radiologist waits: `python -m bench.browser [--runs N]`, on this machine, in Debian's Chromium.

Starts a local city of its own with four chest films of two hospitals and two vendors, opens a link, and measures, cold (an empty
browser) and warm (its cache is filled), from opening the link: to the timeline; to both pictures on the page, with the bytes
until then; to both images in the viewer, clicked at once. And from a key to the next film along the course, and from a zoom to
full resolution; both pictures on a line of 10 Mbit/s; and stock OHIF, opened by itself on the same two studies. Medians, beside
the goals.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.browser import hospital
from tests.browser.chromium import EXECUTABLE, OHIF, chromium
from tests.browser.hospital import Patient
from tests.harness import RunningCity, running_city

SLOW_LINE = {"offline": False, "latency": 20, "downloadThroughput": 10e6 / 8, "uploadThroughput": 10e6 / 8}
"""10 Mbit/s, and 20 ms there and back."""
ROWS: list[tuple[str, str, str, float | None]] = [
    ("timeline, cold", "cold.timeline", "s", 0.5),
    ("timeline, warm", "warm.timeline", "s", 0.5),
    ("both films on the page, cold", "cold.pictures", "s", 0.8),
    ("both films on the page, warm", "warm.pictures", "s", 0.8),
    ("both films on the page, cold, 10 Mbit/s", "slow.pictures", "s", 2.0),
    ("before the viewer is opened, cold", "cold.megabytes", "MB", 1.0),
    ("requests before the viewer is opened, cold", "cold.requests", "", None),
    ("a step along the course", "warm.step", "s", 0.15),
    ("full resolution after a zoom", "warm.detail", "s", 0.5),
    ("both films in OHIF, clicked at once, cold", "cold.viewer", "s", 3.7),
    ("both films in OHIF, clicked at once, warm", "warm.viewer", "s", 2.9),
    ("stock OHIF opened alone on the two, cold", "cold.stock", "s", None),
    ("stock OHIF opened alone on the two, warm", "warm.stock", "s", None),
]
_STEP = """() => new Promise(done => {
  const shown = () => document.querySelector('.pane.right .film img');
  const before = shown().dataset.address;
  const started = performance.now();
  document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowLeft', shiftKey: true, bubbles: true }));
  const look = () => {
    const image = shown();
    if (image && image.dataset.address !== before && image.complete) requestAnimationFrame(() => done(performance.now() - started));
    else requestAnimationFrame(look);
  };
  look();
})"""
_ZOOM = """() => new Promise(done => {
  const started = performance.now();
  for (const key of ['z', 'z', 'z', 'z']) document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
  const look = () => {
    if (document.querySelector('.pane.right .film .detail')) requestAnimationFrame(() => done(performance.now() - started));
    else requestAnimationFrame(look);
  };
  look();
})"""
_STOCK = """window.config = { routerBasename: '/', extensions: [], modes: [], showStudyList: true, defaultDataSourceName: 'stock',
  dataSources: [{ namespace: '@ohif/extension-default.dataSourcesModule.dicomweb', sourceName: 'stock', configuration: {
    friendlyName: 'stock', name: 'stock', qidoRoot: 'ROOT/dicomweb', wadoRoot: 'ROOT/dicomweb', wadoUriRoot: 'ROOT/wado',
    qidoSupportsIncludeField: true, imageRendering: 'wadouri', thumbnailRendering: 'thumbnailDirect', enableStudyLazyLoad: true,
    supportsFuzzyMatching: false, supportsWildcard: false } }] };"""
_WHEN = "() => new Promise(done => { const look = () => (CONDITION ? done() : requestAnimationFrame(look)); look(); })"
"""Asked in the page itself, frame by frame: its policy lets nothing be evaluated later."""
_BOTH_ON_THE_PAGE = "['left', 'right'].every(side => document.querySelector(`.pane.${side} .film img`)?.complete)"
_BOTH_IN_OHIF = (
    "window.cornerstone?.getRenderingEngines()?.flatMap(engine => engine.getViewports())"
    ".filter(viewport => viewport.getImageData?.() && viewport.viewportStatus === 'rendered').length === 2"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="of each, cold and warm (default 5)")
    runs = parser.parse_args().runs
    if EXECUTABLE is None:
        raise SystemExit("Chromium is not installed (Debian: apt-get install chromium)")
    if not OHIF.is_file():
        raise SystemExit("OHIF is not prepared: make viewer")
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as state, running_city(Path(state)) as city, chromium() as browser:
        patient = four_films(city)
        found: dict[str, list[float]] = {}
        for number in range(runs + 1):  # the first fills the functions' caches, and counts for nothing
            once = measure(browser, city, patient)
            for name, value in once.items() if number else ():
                found.setdefault(name, []).append(value)
        show(browser, load, found)


def two_films(city: RunningCity) -> Patient:
    """The one real chest film, at two hospitals, as two vendors write it; transferred."""
    patient = Patient()
    hospital.send(city.client("san-matteo"), hospital.chest_film(patient, "san-matteo", "20260301"))
    hospital.send(city.client("maugeri"), hospital.chest_film(patient, "maugeri", "20260310"))
    hospital.transfer(city, patient)
    hospital.wait_for_studies(city, patient, 2)
    return patient


def four_films(city: RunningCity) -> Patient:
    """Two of these at each hospital: a course to step along."""
    patient = two_films(city)
    hospital.send(city.client("san-matteo"), hospital.chest_film(patient, "san-matteo", "20260215"))
    hospital.send(city.client("maugeri"), hospital.chest_film(patient, "maugeri", "20260305"))
    hospital.wait_for_studies(city, patient, 4)
    return patient


def measure(browser: Browser, city: RunningCity, patient: Patient) -> dict[str, float]:
    """One round of everything: seconds, megabytes and requests by `cold.`, `warm.` or `slow.` and what."""

    def url() -> str:
        return str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"])

    found: dict[str, float] = {}
    whats: list[Callable[[BrowserContext, str], dict[str, float]]] = [
        pictures,
        viewer,
        lambda context, link: stock(context, city, link),
    ]
    for what in whats:
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        for how in ("cold", "warm"):
            found |= {f"{how}.{name}": value for name, value in what(context, url()).items()}
        context.close()
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    found["slow.pictures"] = pictures(context, url(), slow=True)["pictures"]
    context.close()
    return found


def pictures(context: BrowserContext, link: str, *, slow: bool = False) -> dict[str, float]:
    """To the timeline and to both pictures, what went over the line until then, and a step along the course afterwards."""
    page = context.new_page()
    session, count = context.new_cdp_session(page), {"bytes": 0, "requests": 0}

    def finished(event: dict[str, Any]) -> None:
        count["bytes"] += int(event["encodedDataLength"])
        count["requests"] += 1

    session.on("Network.loadingFinished", finished)
    session.send("Network.enable")
    if slow:
        session.send("Network.emulateNetworkConditions", SLOW_LINE)
    started = time.perf_counter()
    page.goto(link, wait_until="commit")
    page.locator(".exam").first.wait_for()
    timeline = time.perf_counter() - started
    both_on_the_page(page)
    found = {
        "timeline": timeline,
        "pictures": time.perf_counter() - started,
        "megabytes": count["bytes"] / 1e6,
        "requests": float(count["requests"]),
    }
    if not slow:
        page.wait_for_load_state("networkidle")
        found["step"] = float(page.evaluate(_STEP)) / 1000
        found["detail"] = float(page.evaluate(_ZOOM)) / 1000
    page.close()
    return found


def both_on_the_page(page: Page) -> None:
    page.evaluate(_WHEN.replace("CONDITION", _BOTH_ON_THE_PAGE))


def viewer(context: BrowserContext, link: str) -> dict[str, float]:
    """To both images in OHIF, clicked as soon as there is something to click."""
    page = context.new_page()
    started = time.perf_counter()
    page.goto(link, wait_until="commit")
    expect(page.locator(".pane.right h2")).to_be_visible()
    page.locator("#open-viewer").click()
    page.locator(".viewer.open.ready").wait_for(timeout=60000)
    found = time.perf_counter() - started
    page.close()
    return {"viewer": found}


def stock(context: BrowserContext, city: RunningCity, link: str) -> dict[str, float]:
    """To both images in OHIF as it is, without our page, configuration and preloads, by its own comparison of two studies."""
    page = context.new_page()
    page.goto(link)
    page.locator(".pane.right .film img").wait_for()
    session: dict[str, str] = page.evaluate("JSON.parse(sessionStorage.getItem('contenitore.session'))")
    uids = [page.locator(f".exam.{side}").get_attribute("data-uid") or "" for side in ("left", "right")]
    page.goto("about:blank")

    def index(route: Route) -> None:
        answer = route.fetch()
        body = re.sub(r'<link rel="(module)?preload"[^>]*>', "", answer.text())
        headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
        route.fulfill(status=200, headers=headers, body=body)

    config = _STOCK.replace("ROOT", f"{session['api']}/view/{session['pass']}")
    page.route("**/viewer?*", index)
    page.route("**/app-config.js", lambda route: route.fulfill(content_type="text/javascript", body=config))
    started = time.perf_counter()
    address = f"{city.endpoints['viewer']}/viewer?StudyInstanceUIDs={','.join(uids)}&hangingProtocolId=@ohif/hpCompare"
    page.goto(address, wait_until="commit")
    page.evaluate(_WHEN.replace("CONDITION", _BOTH_IN_OHIF))
    found = time.perf_counter() - started
    page.close()
    return {"stock": found}


def show(browser: Browser, load: float, found: dict[str, list[float]]) -> None:
    """The medians, beside the goals."""
    runs = len(next(iter(found.values())))
    print(
        f"Chromium {browser.version}, software WebGL, local city on the same machine, {os.cpu_count()} cores, load {load:.1f} at"
    )
    print(f"the beginning; medians of {runs} (least to most)")
    for title, name, unit, goal in ROWS:
        values = found[name]
        digits = 0 if name.endswith("requests") else 2
        figure = f"{statistics.median(values):.{digits}f}"
        spread = f"({min(values):.{digits}f} to {max(values):.{digits}f})"
        told = "" if goal is None else f"goal {goal:g} {unit}: {'met' if statistics.median(values) <= goal else 'NOT met'}"
        print(f"{title:<44}{figure:>7} {unit:<3}{spread:<20}{told}")


if __name__ == "__main__":
    main()
