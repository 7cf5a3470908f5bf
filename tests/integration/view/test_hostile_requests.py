"""Whatever a browser that opened a link sends to `/view/…`: no 5xx, no other study, nothing handed back as it came."""

from __future__ import annotations

import random
from typing import Any

import pytest
import requests

from tests.browser import hospital
from tests.browser.hospital import Patient
from tests.harness import RunningCity

HOSTILE = (
    "%00", "..", "%2e%2e%2f", "1.2.3", "%3Cscript%3E", "1" * 65, "1.2%5C3", "%FF%FE", "%F0%9F%98%80", "*", "-1", "999999999999",
    "http://elsewhere.test/", "//elsewhere.test", "1.2%0d%0aX:y", "[]",
)  # fmt: skip
INSTANCE = "/studies/{study}/series/{series}/instances/{instance}"
PATHS = (
    "/view/studies/{study}/images", "/view/studies/{study}/priors", "/view/studies/{study}/reports/{instance}",
    "/view/{reader}/studies/{study}/reports/{instance}", "/view/{reader}/dicomweb/studies",
    *("/view/{reader}/dicomweb" + path for path in (
        "/studies/{study}/series", "/studies/{study}/thumbnail", "/studies/{study}/series/{series}/metadata", INSTANCE,
        INSTANCE + "/frames/{frame}", INSTANCE + "/bulkdata/{bulk}", INSTANCE + "/rendered",
        INSTANCE + "/frames/{frame}/rendered",
    )),
)  # fmt: skip
QUERIES = (
    "owner",
    "limit",
    "offset",
    "viewport",
    "window",
    "accept",
    "includefield",
    "StudyInstanceUID",
    "PatientID",
    "StudyDate",
)
WADO = ("requestType", "studyUID", "seriesUID", "objectUID", "contentType", "transferSyntax", "frameNumber", "rows", "region")


class Session:
    """An opened link to one image, and what its addresses are made of."""

    def __init__(self, city: RunningCity) -> None:
        patient = Patient()
        image = hospital.image(patient, "maugeri")
        hospital.send(city.client("maugeri"), image)
        hospital.wait_for_studies(city, patient, 1)
        url = hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]
        self.client = city.client(None)
        opened = self.client.post("/view/session", json={"token": url.split("#")[1]}).json()
        self.headers = {"Authorization": f"Bearer {opened['key']}"}
        self.parts = {
            "reader": opened["pass"], "study": str(image.StudyInstanceUID), "series": str(image.SeriesInstanceUID),
            "instance": str(image.SOPInstanceUID), "frame": "1", "bulk": "7FE00010",
        }  # fmt: skip

    def get(self, path: str, **changed: str) -> requests.Response:
        return self.client.get(path.format(**self.parts | changed), headers=self.headers, allow_redirects=False)


@pytest.fixture(scope="module")
def session(city: RunningCity) -> Session:
    return Session(city)


def check(answer: requests.Response) -> None:
    where = f"{answer.request.path_url}: {answer.status_code} {answer.text[:200]}"
    assert answer.status_code in (200, 307, 400, 403, 404, 406), where
    assert "elsewhere.test" not in answer.text, where
    for name, value in answer.headers.items():
        assert "elsewhere.test" not in value, name
    assert "X" not in answer.headers


@pytest.mark.parametrize("path", PATHS)
def test_hostile_parts_of_an_address_and_of_a_query_open_nothing(session: Session, path: str) -> None:
    chosen: Any = random.Random(path)
    for name in session.parts:
        if f"{{{name}}}" in path:
            for text in chosen.sample(HOSTILE, 4):
                answer = session.get(path, **{name: text})
                check(answer)
                assert answer.status_code != 200, answer.request.path_url
    for name in chosen.sample(QUERIES, 4):
        check(session.get(f"{path}?{name}={chosen.choice(HOSTILE)}"))


def test_hostile_parameters_of_wado_uri_open_nothing(session: Session) -> None:
    chosen = random.Random(1)
    whole = {"requestType": "WADO", "studyUID": "{study}", "seriesUID": "{series}", "objectUID": "{instance}"}
    for name in WADO:
        for text in chosen.sample(HOSTILE, 3):
            check(
                session.get("/view/{reader}/wado?" + "&".join(f"{key}={value}" for key, value in (whole | {name: text}).items()))
            )
