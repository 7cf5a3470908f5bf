"""`GET /audit` and `GET /patients/{id}/accesses`: what an institution learns of its own patients, and nothing of others'."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from pypdf import PdfReader

from tests.harness import Client, RunningCity
from tests.integration.audit.conftest import Shared

DISCLOSURE, ACCESSED = "110106", "110103"


def _events(client: Client, query: str = "") -> list[dict[str, Any]]:
    """All pages."""
    found: list[dict[str, Any]] = []
    address: str | None = f"/audit?{query}"
    while address is not None:
        answer = client.get(address)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += [entry["resource"] for entry in page.get("entry", [])]
        address = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
    return found


def _codes(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"]["code"] for event in events]


def _kinds(events: list[dict[str, Any]]) -> set[str]:
    return {coding["code"] for event in events for coding in event["subtype"] if coding["system"] == "urn:contenitore:audit:kind"}


def _person(event: dict[str, Any]) -> str:
    return str(next(agent["who"]["identifier"]["value"] for agent in event["agent"] if agent["requestor"]))


def test_the_owner_sees_who_opened_its_patients_study_from_where_and_why(shared: Shared) -> None:
    opened = shared.viewer.as_person("dr.rossi").get(f"/studies/{shared.study}/manifest")
    assert opened.status_code == 200
    (event,) = [event for event in _events(shared.owner, f"patient={shared.number}") if event["type"]["code"] == ACCESSED]
    assert _person(event) == "dr.rossi"
    assert "Maugeri" in json.dumps(event["agent"])
    assert shared.study in json.dumps(event["entity"])
    assert shared.transfer in json.dumps(event["entity"])
    assert shared.number in json.dumps(event["entity"])
    assert event["purposeOfEvent"][0]["coding"][0]["code"] == "TREAT"
    assert event["outcome"] == "0"


def test_without_a_named_person_the_session_of_the_role_is_the_actor(shared: Shared) -> None:
    named = shared.city.client("maugeri", shared.city.session_credentials("maugeri", "pacs-prefetch"))
    named.get(f"/studies/{shared.study}/manifest")
    (event,) = [event for event in _events(shared.owner, f"patient={shared.number}") if event["type"]["code"] == ACCESSED]
    assert _person(event) == "pacs-prefetch"


def test_a_search_that_shows_anothers_patient_is_a_disclosure_and_a_query(shared: Shared) -> None:
    found = shared.viewer.get(f"/dicomweb/studies?PatientID={shared.number_there}").json()
    assert len(found) == 1
    assert DISCLOSURE in _codes(_events(shared.owner, f"patient={shared.number}"))
    queries = [event for event in _events(shared.viewer, f"patient={shared.number_there}") if event["type"]["code"] == "110112"]
    assert len(queries) == 1


def test_acts_are_in_the_trail_of_the_patient(shared: Shared) -> None:
    shared.owner.post(f"/patients/{shared.number}/objections", json={"study_instance_uid": shared.study})
    shared.viewer.delete(f"/transfers/{shared.transfer}")
    assert {"transfer-opened", "transfer-ended", "objection"} <= _kinds(_events(shared.owner, f"patient={shared.number}"))


def test_the_answer_is_a_valid_bundle(shared: Shared) -> None:
    answer = shared.owner.get(f"/audit?patient={shared.number}")
    assert answer.headers["Content-Type"] == "application/fhir+json"
    assert answer.headers["Cache-Control"] == "no-store"
    Bundle.model_validate(answer.json())


def test_an_institution_sees_nothing_of_anothers_patients(shared: Shared) -> None:
    institutions = shared.city.client("operator").get("/institutions").json()["institutions"]
    issuer = next(institution["patient_id_issuer"] for institution in institutions if institution["id"] == "san-matteo")
    for stranger in ("mondino", "maugeri"):
        client = shared.city.client(stranger)
        for query in (f"patient={shared.number}&issuer={issuer}", f"patient={shared.number}", ""):
            assert shared.study not in json.dumps(_events(client, query))
        report = client.get(f"/patients/{shared.number}/accesses?issuer={issuer}").json()
        assert shared.study not in json.dumps(report)


def test_the_operator_who_is_no_hospital_is_refused(shared: Shared) -> None:
    operator = shared.city.client("operator")
    for path in ("/audit", f"/patients/{shared.number}/accesses"):
        assert operator.get(path).status_code == 403


def test_a_patient_is_found_under_every_number_that_is_linked(shared: Shared) -> None:
    shared.viewer.get(f"/studies/{shared.study}/manifest")
    other = f"B-{shared.number}"
    linked = shared.owner.post(f"/patients/{shared.number}/links", json={"id": other})
    assert linked.status_code == 201, linked.text
    assert ACCESSED in _codes(_events(shared.owner, f"patient={other}"))


def test_pages_follow_one_another_without_a_gap_or_a_repetition(shared: Shared) -> None:
    for number in range(7):  # by different persons: the same again within minutes is one event
        shared.viewer.as_person(f"dr.{number}").get(f"/studies/{shared.study}/manifest")
    whole = _events(shared.owner, f"patient={shared.number}&limit=1000&to=2999-01-01")
    paged = _events(shared.owner, f"patient={shared.number}&limit=2")
    same = [event["id"] for event in paged if event["type"]["code"] != "110101"]
    assert same == [event["id"] for event in whole if event["type"]["code"] != "110101"]
    assert len(set(same)) == len(same) >= 9
    times = [event["recorded"] for event in paged]
    assert times == sorted(times, reverse=True)


def test_a_period_bounds_what_is_shown(shared: Shared) -> None:
    shared.viewer.get(f"/studies/{shared.study}/manifest")
    events = [event for event in _events(shared.owner, f"patient={shared.number}") if event["type"]["code"] == ACCESSED]
    moment = events[0]["recorded"]
    query = f"patient={shared.number}"
    assert moment in [event["recorded"] for event in _events(shared.owner, f"{query}&from={moment}")]
    assert moment not in [event["recorded"] for event in _events(shared.owner, f"{query}&to={moment}")]
    today, tomorrow = datetime.now(UTC).date(), datetime.now(UTC).date() + timedelta(days=2)
    assert moment in [
        event["recorded"] for event in _events(shared.owner, f"{query}&from={today - timedelta(days=1)}&to={tomorrow}")
    ]
    assert _events(shared.owner, f"{query}&from={tomorrow}") == []


def test_reading_the_trail_is_in_the_trail(shared: Shared) -> None:
    shared.owner.as_person("dpo").get(f"/audit?patient={shared.number}")
    used = [event for event in _events(shared.owner, f"patient={shared.number}") if event["type"]["code"] == "110101"]
    assert "dpo" in {_person(event) for event in used}


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("cursor=xxx", "cursor"), ("cursor=MjAyNi0wMy0wMQ", "cursor"), ("from=yesterday", "from"), ("to=2026-13-01", "to"),
        ("limit=0", "limit"), ("limit=1001", "limit"), ("from=2026-01-01&from=2026-01-02", "from"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(city: RunningCity, query: str, parameter: str) -> None:
    answer = city.client("maugeri").get(f"/audit?{query}")
    assert (answer.status_code, answer.json().get("parameter")) == (400, parameter)


def test_a_forged_cursor_reaches_no_other_institutions_records(shared: Shared) -> None:
    shared.viewer.get(f"/studies/{shared.study}/manifest")
    page = shared.owner.get("/audit?limit=1").json()
    cursor = re.search(r"cursor=([^&]+)", page["link"][1]["url"])
    assert cursor is not None
    stolen = shared.city.client("mondino").get(f"/audit?cursor={cursor[1]}")
    assert stolen.status_code == 200
    assert "san-matteo" not in json.dumps([entry["resource"]["agent"] for entry in stolen.json().get("entry", [])])


# The patient's report ----------------------------------------------------------------------------------------------------


def test_the_report_says_in_plain_words_who_where_when_what_and_why(shared: Shared) -> None:
    shared.viewer.as_person("dr.rossi").get(f"/studies/{shared.study}/manifest")
    report = shared.owner.get(f"/patients/{shared.number}/accesses?lang=en").json()
    assert report["patient"]["id"] == shared.number
    (opened,) = [access for access in report["accesses"] if access["kind"] == "access"]
    assert opened["person"] == "dr.rossi"
    assert opened["who"].startswith("dr.rossi, ") and "Maugeri" in opened["who"]
    assert opened["what"] == "Opened images or a report: TC TORACE of 2026-03-01"
    assert opened["why"].startswith("Treatment; your care passed from ") and "Maugeri" in opened["why"]
    assert opened["study_instance_uid"] == shared.study
    assert opened["institution"]["id"] == "maugeri"
    machine = next(access for access in report["accesses"] if access["kind"] == "transfer-opened")
    assert machine["person"] is None
    assert "automatic system" in machine["who"]


def test_the_report_speaks_italian_unless_another_language_is_preferred(shared: Shared) -> None:
    path = f"/patients/{shared.number}/accesses"
    assert shared.owner.get(path).json()["accesses"][0]["why"].startswith("Cura")
    english = shared.owner.get(path, headers={"Accept-Language": "en-GB,it;q=0.5"}).json()
    assert english["language"] == "en"
    assert shared.owner.get(f"{path}?lang=it", headers={"Accept-Language": "en"}).json()["language"] == "it"
    assert shared.owner.get(f"{path}?lang=fr").status_code == 400


@pytest.mark.parametrize(
    ("language", "title"), [("it", "Chi ha consultato i Suoi esami"), ("en", "Who has looked at your examinations")]
)
def test_the_report_on_paper_has_every_access(shared: Shared, language: str, title: str) -> None:
    shared.viewer.as_person("dr.rossi").get(f"/studies/{shared.study}/manifest")
    path = f"/patients/{shared.number}/accesses"
    answer = shared.owner.get(f"{path}?lang={language}", headers={"Accept": "application/pdf"})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/pdf")
    assert answer.headers["Content-Language"] == language
    assert answer.headers["Cache-Control"] == "no-store"
    text = " ".join(page.extract_text() for page in PdfReader(io.BytesIO(answer.content), strict=True).pages).replace("\n", " ")
    assert title in text
    assert shared.number in text
    assert "dr.rossi" in text and "TC TORACE" in text
    listed = shared.owner.get(f"{path}?lang={language}").json()["accesses"]
    for access in listed[1:]:
        assert access["what"].split(":")[0][:20] in text


def test_a_link_may_name_the_format(shared: Shared) -> None:
    path = f"/patients/{shared.number}/accesses"
    assert shared.owner.get(f"{path}?format=pdf").content.startswith(b"%PDF-")
    assert shared.owner.get(f"{path}?format=json", headers={"Accept": "application/pdf"}).json()["accesses"]
    assert shared.owner.get(f"{path}?format=xml").status_code == 400
    assert shared.owner.get(path, headers={"Accept": "text/html"}).status_code == 406


def test_a_patient_whom_nobody_looked_at_gets_an_empty_report(city: RunningCity) -> None:
    answer = city.client("mondino").get("/patients/never-here/accesses")
    assert (answer.status_code, answer.json()["accesses"]) == (200, [])
    paper = city.client("mondino").get("/patients/never-here-too/accesses?format=pdf&lang=en")
    (page,) = PdfReader(io.BytesIO(paper.content)).pages
    assert "nobody looked at your examinations" in page.extract_text().replace("\n", " ")
