"""The stock OHIF viewer, pointed at a hospital's door in Chromium: it lists, reads and draws another hospital's exam."""

from __future__ import annotations

import json
import mimetypes
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Route

from tests.browser.chromium import OHIF, new_context
from tests.forwarder.images import ct_slice
from tests.harness import wait_until
from tests.integration.door.doors import MAUGERI, SAN_MATTEO, Doors, Patient
from tests.integration.door.test_dicomweb import written

ROOT = OHIF.parent


def configuration(door: str) -> str:
    """What a site writes into OHIF's app-config.js (docs/forwarder.md)."""
    roots = {"qidoRoot": f"{door}/dicomweb", "wadoRoot": f"{door}/dicomweb", "wadoUriRoot": f"{door}/dicomweb/wado"}
    source = {
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb", "sourceName": "door",
        "configuration": roots | {
            "friendlyName": "door", "name": "door", "qidoSupportsIncludeField": True, "imageRendering": "wadors",
            "thumbnailRendering": "wadors", "enableStudyLazyLoad": True, "supportsFuzzyMatching": False, "supportsWildcard": True,
        },
    }  # fmt: skip
    config = {
        "routerBasename": "/", "extensions": [], "modes": [], "showStudyList": False,
        "investigationalUseDialog": {"option": "never"},
        "defaultDataSourceName": "door", "dataSources": [source],
    }  # fmt: skip
    return f"window.config = {json.dumps(config)};"


@pytest.mark.skipif(not OHIF.exists(), reason="OHIF is not built (make viewer)")
def test_ohif_draws_another_hospitals_exam_at_the_door(doors: Doors, patient: Patient, browser: Browser) -> None:
    image = ct_slice(1, study=patient.prior, edge=64)
    image.PatientID, image.PatientName = patient.number, "Bianchi^Ada"
    doors.send(SAN_MATTEO, written(image))
    patient.transferred()
    wait_until(lambda: doors.city.client(MAUGERI).get(f"/dicomweb/studies?StudyInstanceUID={patient.prior}").json())
    door = doors.endpoints(MAUGERI)["page"]
    context = new_context(browser, extra_http_headers={"X-Remote-User": "m.rossi", "X-Remote-Roles": "radiology"})
    page, asked = context.new_page(), []

    def answer(route: Route) -> None:
        """OHIF's own files as a server of the hospital's would give them; all else is the door's."""
        path = urlsplit(route.request.url).path
        if path.startswith("/dicomweb"):
            asked.append(path)
            route.continue_()
            return
        file = (ROOT / path.lstrip("/")).resolve()
        if path == "/app-config.js":
            route.fulfill(body=configuration(door), content_type="text/javascript")
        elif file.is_file() and file.is_relative_to(ROOT.resolve()):
            route.fulfill(path=file, content_type=mimetypes.guess_type(file.name)[0] or "application/octet-stream")
        else:
            route.fulfill(path=OHIF, content_type="text/html")

    try:
        page.route("**/*", answer)
        page.goto(f"{door}/viewer?StudyInstanceUIDs={patient.prior}")
        page.wait_for_function(
            """() => window.cornerstone?.getRenderingEngines?.()?.some(engine => engine.getViewports().some(
                 viewport => viewport.getImageData?.()?.dimensions?.[0] === 64))""",
            timeout=90_000,
        )
        drawn = page.evaluate(
            """() => {
                 const viewport = cornerstone.getRenderingEngines().flatMap(engine => engine.getViewports())[0];
                 return Array.from(viewport.getImageData().scalarData.slice(0, 3));
               }"""
        )
        assert drawn == [1, 4, 7]  # the pixels that were sent
        assert any("/frames/" in path for path in asked) and all(path.startswith("/dicomweb/") for path in asked)
    finally:
        context.close()
