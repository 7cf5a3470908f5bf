"""A link opens exactly its studies, for one reading session, on every `/view/…` route, and nothing else."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pydicom
import pytest
import requests

from chalicelib.domain.viewer_sessions import new_secret
from tests.browser import hospital
from tests.browser.hospital import Patient
from tests.harness import Client, RunningCity, wait_until


class Browser:
    """A browser that opened a link: its key, its pass, and what it was shown."""

    def __init__(self, city: RunningCity, url: str, secret: str | None = None) -> None:
        self.city, self.token = city, url.split("#")[1]
        said = {"token": self.token} | ({"browser": secret} if secret else {})
        self.opened = city.client(None).post("/view/session", data=json.dumps(said))
        body = self.opened.json()
        self.key, self.pass_ = body.get("key", ""), body.get("pass", "")
        self.timeline: dict[str, Any] = body.get("timeline", {})

    def get(self, path: str, key: str | None = None) -> requests.Response:
        return self.city.client(None).get(path, headers={"Authorization": f"Bearer {key or self.key}"})

    def fetch(self, path: str, pass_: str | None = None) -> requests.Response:
        return self.city.client(None).get(f"/view/{pass_ or self.pass_}{path}", allow_redirects=False)

    @property
    def descriptions(self) -> list[str]:
        return [study["description"] for study in self.timeline["studies"]]


class Story:
    """Two studies of San Matteo, one of Maugeri, of one patient, transferred."""

    def __init__(self, city: RunningCity) -> None:
        self.patient = Patient()
        self.chest = hospital.image(self.patient, "san-matteo", date="20260301", description="TC TORACE")
        self.head = hospital.image(self.patient, "san-matteo", date="20260305", description="TC ENCEFALO")
        self.own = hospital.image(self.patient, "maugeri", date="20260310", description="RX TORACE")
        hospital.send(city.client("san-matteo"), self.chest, self.head)
        hospital.send(city.client("maugeri"), self.own)
        self.transfer = hospital.transfer(city, self.patient)
        hospital.wait_for_studies(city, self.patient, 3)


@pytest.fixture(scope="module")
def story(city: RunningCity) -> Story:
    return Story(city)


def of_patient(city: RunningCity, story: Story, **more: Any) -> Browser:
    return Browser(city, hospital.link(city, patient={"id": story.patient.at["maugeri"]}, **more)["url"])


ROUTES: list[Callable[[Browser, Any], requests.Response]] = [
    lambda b, i: b.get(f"/view/studies/{i.StudyInstanceUID}/images"),
    lambda b, i: b.get(f"/view/studies/{i.StudyInstanceUID}/images?owner=san-matteo"),
    lambda b, i: b.get(f"/view/studies/{i.StudyInstanceUID}/priors"),
    lambda b, i: b.fetch(f"/dicomweb/studies/{i.StudyInstanceUID}/series"),
    lambda b, i: b.fetch(f"/dicomweb/studies/{i.StudyInstanceUID}/instances"),
    lambda b, i: b.fetch(f"/dicomweb/studies/{i.StudyInstanceUID}/metadata"),
    lambda b, i: b.fetch(f"/dicomweb/studies/{i.StudyInstanceUID}/series/{i.SeriesInstanceUID}/instances"),
    lambda b, i: b.fetch(f"/dicomweb/studies/{i.StudyInstanceUID}/series/{i.SeriesInstanceUID}/metadata"),
    lambda b, i: b.fetch(f"{_instance(i)}/metadata"),
    lambda b, i: b.fetch(f"{_instance(i)}"),
    lambda b, i: b.fetch(f"{_instance(i)}/frames/1"),
    lambda b, i: b.fetch(f"{_instance(i)}/bulkdata/7FE00010"),
    lambda b, i: b.fetch(_wado(i)),
]


def _instance(i: Any) -> str:
    return f"/dicomweb/studies/{i.StudyInstanceUID}/series/{i.SeriesInstanceUID}/instances/{i.SOPInstanceUID}"


def _wado(i: Any) -> str:
    uids = f"studyUID={i.StudyInstanceUID}&seriesUID={i.SeriesInstanceUID}&objectUID={i.SOPInstanceUID}"
    return f"/wado?requestType=WADO&{uids}&contentType=application/dicom"


def test_a_link_to_a_patient_opens_both_hospitals_exams_under_the_own_number(city: RunningCity, story: Story) -> None:
    browser = of_patient(city, story)
    assert browser.opened.status_code == 201
    assert browser.descriptions == ["RX TORACE", "TC ENCEFALO", "TC TORACE"]
    assert browser.timeline["patient"]["own_id"] == story.patient.at["maugeri"]
    assert set(browser.timeline["institutions"]) == {"san-matteo", "maugeri"}
    metadata = browser.fetch(f"/dicomweb/studies/{story.chest.StudyInstanceUID}/metadata")
    assert {result["00100020"]["Value"][0] for result in metadata.json()} == {story.patient.at["maugeri"]}


def test_of_two_numbers_of_the_house_the_page_names_the_one_that_was_opened(city: RunningCity) -> None:
    """After a merge: the number given up had headed the page where it sorts first."""
    patient, maugeri = hospital.Patient(), city.client("maugeri")
    kept = patient.at["maugeri"]
    given_up = f"0{kept}"
    before = hospital.image(patient, "maugeri")
    before.PatientID = given_up
    hospital.send(maugeri, hospital.image(patient, "maugeri"), before)
    assert maugeri.post(f"/patients/{kept}/links", json={"id": given_up}).status_code == 201
    hospital.wait_for_studies(city, patient, 2)
    for number in (kept, given_up):
        opened = Browser(city, hospital.link(city, patient={"id": number})["url"])
        assert opened.timeline["patient"]["own_id"] == number
        assert {known["id"] for known in opened.timeline["patient"]["identifiers"]} == {kept, given_up}


def test_every_route_answers_for_what_the_link_opens(city: RunningCity, story: Story) -> None:
    browser = of_patient(city, story)
    for route in ROUTES:
        answer = route(browser, story.chest)
        assert answer.status_code in (200, 307), f"{answer.request.path_url}: {answer.text}"


def test_the_bytes_are_those_that_were_sent(city: RunningCity, story: Story) -> None:
    browser = of_patient(city, story)
    redirect = browser.fetch(_wado(story.chest))
    assert redirect.status_code == 307
    found = requests.get(redirect.headers["Location"], timeout=60).content
    assert pydicom.dcmread(io.BytesIO(found)) == story.chest


def test_an_image_of_which_every_picture_would_be_wrong_says_why_to_the_viewer(city: RunningCity) -> None:
    patient = Patient()
    faulty = hospital.image(patient, "maugeri")
    faulty.BitsStored = faulty.BitsAllocated + 1
    hospital.send(city.client("maugeri"), faulty)
    browser = Browser(city, hospital.link(city, patient={"id": patient.at["maugeri"]})["url"])
    for path in (_wado(faulty), _instance(faulty), f"{_instance(faulty)}/frames/1", f"{_instance(faulty)}/frames/1/rendered"):
        answer = browser.fetch(path)
        assert (answer.status_code, answer.headers["Content-Type"]) == (406, "application/problem+json"), path
        assert "cannot be stored" in answer.json()["detail"]
        assert answer.headers["Access-Control-Allow-Origin"] in ("*", city.endpoints["viewer"])
    stored = city.client("maugeri").get(_instance(faulty), headers={"Accept": "application/dicom; transfer-syntax=*"})
    assert stored.status_code in (200, 307)  # who wants the object itself has it


def test_a_link_to_one_study_opens_it_and_no_other_on_any_route(city: RunningCity, story: Story) -> None:
    uid = str(story.chest.StudyInstanceUID)
    browser = Browser(city, hospital.link(city, study_instance_uids=[uid])["url"])
    assert browser.descriptions == ["TC TORACE"]
    for route in ROUTES:
        assert route(browser, story.chest).status_code in (200, 307)
        for other in (story.head, story.own):
            assert route(browser, other).status_code == 404
    for query in ("", f"?PatientID={story.patient.at['maugeri']}", f"?StudyInstanceUID={uid},{story.head.StudyInstanceUID}"):
        studies = browser.fetch(f"/dicomweb/studies{query}").json()
        assert [result["0020000D"]["Value"][0] for result in studies] == [uid]
    assert browser.fetch(f"/dicomweb/studies?StudyInstanceUID={story.head.StudyInstanceUID}").json() == []
    assert browser.get(f"/view/studies/{uid}/priors").json()["priors"] == []


def test_a_link_to_a_patient_opens_no_other_patient(city: RunningCity, story: Story) -> None:
    other = Patient()
    image = hospital.image(other, "maugeri")
    hospital.send(city.client("maugeri"), image)
    hospital.wait_for_studies(city, other, 1)
    browser = of_patient(city, story)
    for route in ROUTES:
        assert route(browser, image).status_code == 404
    assert browser.fetch(f"/dicomweb/studies?PatientID={other.at['maugeri']}").json() == []


def test_an_instance_of_another_study_is_not_found_below_one_that_the_link_opens(city: RunningCity, story: Story) -> None:
    browser = Browser(city, hospital.link(city, study_instance_uids=[str(story.chest.StudyInstanceUID)])["url"])
    below = f"/dicomweb/studies/{story.chest.StudyInstanceUID}/series"
    assert browser.fetch(f"{below}/{story.head.SeriesInstanceUID}/instances/{story.head.SOPInstanceUID}").status_code == 404
    assert browser.fetch(f"{below}/{story.head.SeriesInstanceUID}/metadata").status_code == 404


def test_nothing_but_the_right_kind_of_credential_opens_a_route(city: RunningCity, story: Story) -> None:
    browser = of_patient(city, story)
    uid = story.chest.StudyInstanceUID
    for wrong in ("x", browser.pass_, browser.token, browser.key[:-1], browser.key.split(".")[0] + "." + browser.token):
        assert browser.get("/view/timeline", key=wrong).status_code == 404
        assert browser.get("/view/events", key=wrong).status_code == 404
    for wrong in ("x", browser.key, browser.token, "session"):
        assert browser.fetch(f"/dicomweb/studies/{uid}/series", pass_=wrong).status_code == 404
    assert city.client(None).get("/view/timeline").status_code == 404
    assert city.client(None).post("/view/session", data=json.dumps({"token": "A" * 43})).status_code == 404
    assert city.client(None).post("/view/session", data="[]").status_code == 400
    assert city.client(None).post("/view/session", data="{").status_code == 400


def test_a_revoked_transfer_closes_its_studies_from_the_next_request_on(city: RunningCity) -> None:
    story = Story(city)
    browser = of_patient(city, story)
    before = browser.get("/view/events").json()["etag"]
    assert city.client("san-matteo").delete(f"/transfers/{story.transfer}").status_code == 200
    for route in ROUTES:
        assert route(browser, story.chest).status_code == 404
    assert browser.get("/view/events").json()["etag"] != before
    timeline = browser.get("/view/timeline").json()
    assert [study["owner"] for study in timeline["studies"]] == ["maugeri"]
    limited = Browser(city, hospital.link(city, study_instance_uids=[str(story.own.StudyInstanceUID)])["url"])
    assert limited.descriptions == ["RX TORACE"]


def test_an_ended_session_opens_nothing_with_any_key_pass_or_token(city: RunningCity, story: Story) -> None:
    url = hospital.link(city, patient={"id": story.patient.at["maugeri"]})["url"]
    secret = new_secret()
    first, second = Browser(city, url, secret), Browser(city, url, secret)
    assert second.opened.status_code == 201
    ended = city.client(None).delete("/view/session", headers={"Authorization": f"Bearer {first.key}"})
    assert ended.json() == {"status": "ended"}
    for browser in (first, second):
        assert browser.get("/view/timeline").status_code == 410
        assert all(route(browser, story.chest).status_code == 410 for route in ROUTES)
    assert Browser(city, url, secret).opened.status_code == 410


def test_a_link_opens_once_and_again_only_from_the_browser_that_opened_it(city: RunningCity, story: Story) -> None:
    secret, of_another = new_secret(), new_secret()

    def link() -> str:
        return str(hospital.link(city, patient={"id": story.patient.at["maugeri"]})["url"])

    url = link()
    first = Browser(city, url, secret)
    assert [Browser(city, url, other).opened.status_code for other in (None, of_another)] == [410, 410]
    refused = Browser(city, url, of_another).opened
    assert refused.json()["type"] == "urn:contenitore:problem:opened-elsewhere"
    again = Browser(city, url, secret)
    assert again.opened.status_code == 201, "a reload, a second tab, an answer that was lost"
    assert {browser.get("/view/timeline").status_code for browser in (first, again)} == {200}
    assert again.timeline["session"]["ends_at"] == first.timeline["session"]["ends_at"]
    secretless = link()
    assert [Browser(city, secretless).opened.status_code for _ in range(2)] == [201, 410]
    assert Browser(city, secretless, secret).opened.status_code == 410
    for wrong in ("x", "A" * 42, "A" * 42 + "/", 7, ["A" * 43]):
        asked = city.client(None).post("/view/session", data=json.dumps({"token": link().split("#")[1], "browser": wrong}))
        assert (asked.status_code, asked.json()["parameter"]) == (400, "browser")


def test_of_two_browsers_that_open_a_link_at_once_one_reads(city: RunningCity, story: Story) -> None:
    for _ in range(5):
        url = str(hospital.link(city, patient={"id": story.patient.at["maugeri"]})["url"])
        with ThreadPoolExecutor(4) as pool:
            opened = list(
                pool.map(lambda secret, url=url: Browser(city, url, secret).opened.status_code, [new_secret() for _ in range(4)])
            )
        assert sorted(opened) == [201, 410, 410, 410]


def test_the_institution_that_made_a_link_may_end_it_and_no_other_may(city: RunningCity, story: Story) -> None:
    made = hospital.link(city, patient={"id": story.patient.at["maugeri"]})
    browser = Browser(city, made["url"])
    assert city.client("san-matteo").delete(f"/links/{made['id']}").status_code == 404
    assert browser.get("/view/timeline").status_code == 200
    for _ in range(2):
        assert city.client("maugeri").delete(f"/links/{made['id']}").json() == {"id": made["id"], "status": "ended"}
    assert browser.get("/view/timeline").status_code == 410


def test_no_link_can_be_made_to_what_one_may_not_see(city: RunningCity, story: Story) -> None:
    stranger = city.client("mondino")
    rest = {"practitioner": {"id": "x", "name": "X"}, "purpose": "curiosity"}
    for body in ({"study_instance_uids": [str(story.chest.StudyInstanceUID)]}, {"study_instance_uids": ["1.2.3.4"]},
                 {"patient": {"id": story.patient.at["maugeri"]}}):  # fmt: skip
        answer = stranger.post("/links", json={**body, **rest})
        assert answer.status_code == 404
    assert city.client(None).post("/links", json=rest).status_code == 403


def test_a_link_to_a_patient_begins_with_the_exam_that_it_names(city: RunningCity, story: Story) -> None:
    chest = {"study_instance_uid": str(story.chest.StudyInstanceUID), "owner": "san-matteo"}
    browser = of_patient(city, story, current_study=chest["study_instance_uid"])
    assert browser.opened.json()["current"] == chest
    assert len(browser.timeline["studies"]) == 3
    assert browser.get("/view/timeline").json()["session"]["current"] == chest
    newest = of_patient(city, story)
    assert newest.opened.json()["current"]["study_instance_uid"] == str(story.own.StudyInstanceUID)
    assert "current" not in newest.timeline["session"]


def test_the_exam_that_a_link_begins_with_is_the_patients_and_may_be_seen(city: RunningCity, story: Story) -> None:
    other = Patient()
    others = hospital.image(other, "maugeri")
    hidden = hospital.image(Patient(), "san-matteo")
    hospital.send(city.client("maugeri"), others)
    hospital.send(city.client("san-matteo"), hidden)
    hospital.wait_for_studies(city, other, 1)
    rest = {"practitioner": {"id": "x", "name": "X"}, "purpose": "report", "patient": {"id": story.patient.at["maugeri"]}}
    answers = [
        city.client("maugeri").post("/links", json={**rest, "current_study": uid})
        for uid in (str(others.StudyInstanceUID), str(hidden.StudyInstanceUID), "1.2.3.4")
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({json.dumps(answer.json() | {"request_id": ""}) for answer in answers}) == 1


def test_only_the_viewers_page_may_read_the_answers_and_no_address_is_passed_on(city: RunningCity, story: Story) -> None:
    browser = of_patient(city, story)
    viewer = city.endpoints["viewer"]
    for answer in (browser.opened, browser.get("/view/timeline"), *(route(browser, story.chest) for route in ROUTES)):
        assert answer.headers["Access-Control-Allow-Origin"] == viewer
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "Set-Cookie" not in answer.headers


def test_what_an_address_alone_opens_is_inert_and_is_kept_nowhere(city: RunningCity, story: Story) -> None:
    browser = of_patient(city, story)
    viewer = city.endpoints["viewer"]
    pictures = [f"{_instance(story.chest)}/rendered", f"{_instance(story.chest)}/thumbnail"]
    for answer in (*(browser.fetch(path) for path in pictures), *(route(browser, story.chest) for route in ROUTES)):
        policy = answer.headers["Content-Security-Policy"]
        assert policy == f"sandbox; default-src 'none'; style-src 'unsafe-inline'; frame-ancestors {viewer}"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        if answer.status_code == 307:
            assert requests.get(answer.headers["Location"], timeout=60).headers["Cache-Control"] == "no-store"
    refused = browser.fetch(f"/dicomweb/studies/{story.chest.StudyInstanceUID}/series", pass_="x")
    assert (refused.status_code, refused.headers["Referrer-Policy"]) == (404, "no-referrer")


def test_neither_token_nor_key_nor_pass_is_written_to_any_log(city: RunningCity, story: Story) -> None:
    browser = of_patient(city, story)
    for route in ROUTES:
        route(browser, story.chest)
    logs = [path for path in (Path(city.state) / "logs").iterdir() if path.is_file()]
    wait_until(lambda: any("/view/timeline" in path.read_text(errors="replace") or path.stat().st_size for path in logs))
    secrets = [browser.token, *browser.key.split(".")[1:], *browser.pass_.split(".")[1:]]
    for path in logs:
        text = path.read_text(errors="replace")
        assert not [secret for secret in secrets if secret in text], path.name


def test_the_priors_of_a_study_come_with_reasons_for_institutions_too(city: RunningCity, story: Story) -> None:
    answer: Client = city.client("maugeri")
    found = answer.get(f"/studies/{story.own.StudyInstanceUID}/priors").json()["priors"]
    assert [prior["description"] for prior in found] == ["TC TORACE", "TC ENCEFALO"]
    assert {"same-region", "other-hospital"} <= {reason["reason"] for reason in found[0]["reasons"]}
    assert answer.get("/studies/1.2.3.4/priors").status_code == 404
    assert city.client("mondino").get(f"/studies/{story.own.StudyInstanceUID}/priors").status_code == 404
