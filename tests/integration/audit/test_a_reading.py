"""One reading of forty images: each address that is handed out in the trail, one entry in the patient's report."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pypdf import PdfReader

from chalicelib.adapters.dynamodb import DynamoTable
from chalicelib.domain import audit_chain, keys
from infra import audit as command
from tests.browser import hospital
from tests.harness import RunningCity

IMAGES = 40


class Reading:
    """Dr. Rossi of Maugeri opened a link, read the metadata of San Matteo's stack, and then its images, six at a time."""

    def __init__(self, city: RunningCity) -> None:
        self.city, self.patient = city, hospital.Patient()
        stack = hospital.stack(self.patient, "san-matteo", "20260301", IMAGES)
        own = hospital.image(self.patient, "maugeri", date="20260310")
        self.study, self.series = str(stack[0].StudyInstanceUID), str(stack[0].SeriesInstanceUID)
        hospital.send(city.client("san-matteo"), *stack)
        hospital.send(city.client("maugeri"), own)
        hospital.transfer(city, self.patient)
        hospital.wait_for_studies(city, self.patient, 2)
        who = {"id": "rossi", "name": "Dr. Rossi"}
        token = hospital.link(city, patient={"id": self.patient.at["maugeri"]}, practitioner=who)["url"].split("#")[1]
        opened = city.client(None).post("/view/session", json={"token": token}).json()
        self.key, root = opened["key"], f"/view/{opened['pass']}"
        metadata = f"{root}/dicomweb/studies/{self.study}/series/{self.series}/metadata"
        assert city.client(None).get(metadata, allow_redirects=False).ok

        def fetch(image: Any) -> int:
            uids = f"studyUID={self.study}&seriesUID={self.series}&objectUID={image.SOPInstanceUID}"
            asked = f"{root}/wado?requestType=WADO&{uids}&contentType=application/dicom"
            return city.client(None).get(asked, allow_redirects=False).status_code

        with ThreadPoolExecutor(6) as pool:
            assert set(pool.map(fetch, stack)) == {307}

    def report(self, **query: str) -> list[dict[str, Any]]:
        """The patient's report at San Matteo: what Maugeri did."""
        path = f"/patients/{self.patient.at['san-matteo']}/accesses"
        found = self.city.client("san-matteo").get(path, params={"lang": "en", **query}).json()["accesses"]
        return [access for access in found if access["institution"]["id"] == "maugeri" and access["person"] == "rossi"]


@pytest.fixture(scope="module")
def reading(own_city: RunningCity) -> Iterator[Reading]:
    yield Reading(own_city)


def test_the_patients_report_has_one_entry_for_the_reading(reading: Reading) -> None:
    (entry,) = reading.report()
    assert (entry["kind"], entry["study_instance_uid"]) == ("access", reading.study)
    (study,) = entry["studies"]
    assert study["study_instance_uid"] == reading.study
    assert study["handed_out"] >= IMAGES
    assert entry["events"] > IMAGES
    assert entry["at"] <= entry["until"]
    assert entry["what"].startswith("Opened images or a report: ")
    path = f"/patients/{reading.patient.at['san-matteo']}/accesses?format=pdf&lang=en"
    paper = PdfReader(io.BytesIO(reading.city.client("san-matteo").get(path).content))
    text = " ".join(page.extract_text() for page in paper.pages).replace("\n", " ")
    assert text.count("rossi,") == 1


def test_every_address_that_was_handed_out_stands_in_the_trail(reading: Reading, capsys: pytest.CaptureFixture[str]) -> None:
    table = DynamoTable(reading.city.aws("dynamodb"), reading.city.outputs()["TableName"])
    shards = [keys.audit_records(shard) for shard in audit_chain.shards("maugeri")]
    chains = [(item.data for item in table.query_all(pk, between=("0", "9" * 12))) for pk in shards]
    whole = [record for chain in chains for record in command._whole(chain)]
    handed_out = [
        record for record in whole if record["route"] == "GET /view/{reader}/wado" and record.get("study") == reading.study
    ]
    assert len({record["request"] for record in handed_out}) == IMAGES
    assert {(record["actor"], record["owner"], record["kind"]) for record in handed_out} == {("rossi", "san-matteo", "access")}
    endpoints = ["--endpoints", str(reading.city.state / "endpoints.json")]
    assert command.main(["verify", *endpoints]) in (0, 3)  # 3: a quarter of an hour has not gone by
    capsys.readouterr()


def test_what_an_officer_reads_says_how_often_and_until_when(reading: Reading) -> None:
    bundle = reading.city.client("san-matteo").get(f"/audit?patient={reading.patient.at['san-matteo']}&limit=1000").json()
    events = [entry["resource"] for entry in bundle["entry"]]
    again = [event for event in events if "period" in event]
    assert 0 < len(events) < IMAGES
    assert all(event["period"]["start"] == event["recorded"] <= event["period"]["end"] for event in again)
    told = [ext["valueString"] for event in again for ext in event["extension"] if ext["url"] == "urn:contenitore:audit:repeated"]
    assert sum(int(text.split()[0]) for text in told) + len(events) - len(again) > IMAGES


def test_what_the_page_says_is_on_the_screen_makes_the_reading_as_long_as_it_was(reading: Reading) -> None:
    client, bearer = reading.city.client(None), {"Authorization": f"Bearer {reading.key}"}
    (before,) = reading.report()
    shown = [{"study_instance_uid": reading.study, "owner": "san-matteo"}, {"study_instance_uid": "1.2.3.4.5"}]
    kept = client.post("/view/session/keep", json={"shown": shown}, headers=bearer)
    assert kept.status_code == 200
    (after,) = reading.report()
    assert after["until"] > before["until"]
    assert after["studies"] == before["studies"], "what is still on the screen was handed out once"
    for wrong in ({"shown": "x"}, {"shown": [1]}, {"shown": [{"study_instance_uid": "x"}]}, {"shown": shown * 3}, [], None):
        refused = client.post("/view/session/keep", json=wrong, headers=bearer)
        assert refused.status_code == 400 or wrong is None, wrong
    assert client.post("/view/session/keep", headers=bearer).status_code == 200


def test_what_the_page_has_ahead_is_in_the_trail_and_in_the_patients_report_once_somebody_looks(own_city: RunningCity) -> None:
    city, patient = own_city, hospital.Patient()
    film = hospital.chest_film(patient, "san-matteo", "20260301")
    hospital.send(city.client("san-matteo"), film)
    hospital.transfer(city, patient)
    hospital.wait_for_studies(city, patient, 1)
    who = {"id": "verdi", "name": "Dr. Verdi"}
    token = hospital.link(city, patient={"id": patient.at["maugeri"]}, practitioner=who)["url"].split("#")[1]
    client = city.client(None)
    opened = client.post("/view/session", json={"token": token}).json()
    looked = city.client("san-matteo").get(f"/studies/{film.StudyInstanceUID}/readings").json()["readings"]
    assert [seen["practitioner"]["id"] for seen in looked] == ["verdi"]  # the page shows the newest exam at once

    def kinds() -> list[str]:
        asked = f"/audit?patient={patient.at['san-matteo']}&limit=1000"
        events = [entry["resource"] for entry in city.client("san-matteo").get(asked).json()["entry"]]
        subtypes = [event["subtype"] for event in events if any(agent.get("name") == "verdi" for agent in event["agent"])]
        return [code["code"] for said in subtypes for code in said if code.get("system") == "urn:contenitore:audit:kind"]

    def handed_out() -> int:
        found = city.client("san-matteo").get(f"/patients/{patient.at['san-matteo']}/accesses").json()["accesses"]
        return sum(study["handed_out"] for access in found if access["person"] == "verdi" for study in access["studies"])

    before = handed_out()
    bearer = {"Authorization": f"Bearer {opened['key']}"}
    below = f"/studies/{film.StudyInstanceUID}/series/{film.SeriesInstanceUID}/instances/{film.SOPInstanceUID}/rendered"
    picture = f"/view/{opened['pass']}/dicomweb{below}?owner=san-matteo&ahead=1"
    images = f"/view/studies/{film.StudyInstanceUID}/images?owner=san-matteo"
    assert client.get(f"{images}&ahead=1", headers=bearer).ok
    assert client.get(f"{picture}&viewport=1400,1400").ok
    assert kinds().count("ahead") == 1  # one record, and a repeat of it
    assert handed_out() == before
    looks = ("&viewport=1401,100", "&viewport=99,99,1,1,9,9", "&viewport=99,99&window=1,2,linear", "")
    for count, look in enumerate(looks, 1):  # whatever is more than a preview is a look, whatever the request says
        assert client.get(picture + look).ok
        assert handed_out() == before + count
    assert client.get(images, headers=bearer).ok
    assert handed_out() == before + len(looks) + 1


def test_a_record_that_cannot_be_written_in_short_either_keeps_the_image_back() -> None:
    """Promise 8 for repeats: `tests/integration/audit/test_refusing.py` breaks the table under every route; here the rule."""
    from chalicelib.domain.errors import TryAgain
    from chalicelib.services.audit.trail import Trail
    from tests.fakes import MemoryTable, Watched
    from tests.unit.audit.trails import access, context

    broken: list[bool] = []

    def breaks(name: str) -> None:
        if broken and name == "transact":
            raise TryAgain

    trail = Trail(Watched(MemoryTable(), breaks), 10)
    trail.append(context(), [access()])
    broken.append(True)
    with pytest.raises(TryAgain):
        trail.append(context(), [access()])
