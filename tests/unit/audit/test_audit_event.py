"""Audit records as FHIR: valid R4 resources, coded as DICOM and BALP want it."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from fhir.resources.R4B.auditevent import AuditEvent
from fhir.resources.R4B.bundle import Bundle

from chalicelib.api.audit_event import audit_event, bundle
from chalicelib.domain import audit, audit_chain
from chalicelib.domain.audit import EVENTS, Entry, Kind, Purpose, Record
from chalicelib.domain.identifiers import PatientIdentifier
from tests.unit.audit.trails import PATIENT, access, context

NAMES = {"maugeri": "ICS Maugeri", "san-matteo": "Policlinico San Matteo"}
DCM = "http://dicom.nema.org/resources/ontology/DCM"


def _record(entry: Entry, **who: Any) -> Record:
    (chained,) = audit_chain.chain(audit_chain.ChainHead(), "maugeri#03", audit.records(context(**who), [entry]), 2**31)
    return chained


def _event(entry: Entry, **who: Any) -> dict[str, Any]:
    return audit_event(_record(entry, **who), NAMES)


def _agents(event: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {agent["type"]["coding"][0]["code"]: agent for agent in event["agent"]}


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("rich", [True, False])
def test_every_kind_of_event_is_a_valid_resource(kind: Kind, rich: bool) -> None:
    entry = Entry(kind)
    if rich:
        others = (PATIENT, PatientIdentifier("2.16.840.1.113883.2.9.99.1/CARDIO LAB", "x y"))
        entry = Entry(
            kind, "san-matteo", others, "1.2.3", Purpose.EMERGENCY, ("ab" * 16, "emergency:12"), "transfer=1", 7, "why?"
        )
    event = _event(entry, actor="rossi" if rich else "")
    AuditEvent.model_validate(event)
    assert (event["type"]["system"], event["type"]["code"]) == (DCM, EVENTS[kind].code)
    for entity in event["entity"]:
        assert not ("name" in entity and "query" in entity)  # invariant sev-1


def test_an_access_names_person_machine_institution_server_and_custodian() -> None:
    agents = _agents(_event(access()))
    assert agents["IRCP"]["who"]["identifier"]["value"] == "rossi"
    assert agents["IRCP"]["requestor"] is True
    assert agents["110152"]["who"] == {"identifier": {"value": "contenitore-institution-maugeri"}, "display": "ICS Maugeri"}
    assert agents["110152"]["network"] == {"address": "203.0.113.7", "type": "2"}
    assert agents["110153"]["who"] == {"display": "Contenitore"}
    assert agents["159541003"]["who"]["display"] == "Policlinico San Matteo"


def test_an_access_names_patient_study_and_request() -> None:
    entities = _event(access())["entity"]
    patient = next(entity for entity in entities if entity.get("role", {}).get("code") == "1")
    assert patient["what"]["identifier"] == {"system": f"urn:oid:{PATIENT.issuer}", "value": PATIENT.value}
    study = next(entity for entity in entities if entity.get("what", {}).get("type") == "ImagingStudy")
    assert study["what"]["identifier"] == {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}
    assert study["detail"] == [{"type": "instances", "valueString": "3"}]
    request = next(entity for entity in entities if entity["type"]["code"] == "XrequestId")
    assert request["what"]["identifier"]["value"] == "r-1"


def test_a_disclosure_keeps_to_the_profile_of_balp() -> None:
    event = _event(Entry(Kind.DISCLOSURE, "san-matteo", (PATIENT,), "1.2.3", basis=("ab" * 16,)))
    assert event["meta"]["profile"] == [
        "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PrivacyDisclosure.Source"
    ]
    assert (event["type"]["code"], event["action"]) == ("110106", "R")
    assert "disclose" in {subtype["code"] for subtype in event["subtype"]}
    agents = _agents(event)
    assert agents["110153"]["who"] == event["source"]["observer"]
    assert all("network" in agents[role] for role in ("110152", "110153"))
    assert len([entity for entity in event["entity"] if entity["type"]["code"] == "1"]) == 1
    assert len(event["entity"]) >= 2


def test_what_an_owner_looks_at_itself_is_no_disclosure() -> None:
    own, foreign = _event(access("maugeri")), _event(access("san-matteo"))
    assert "disclose" not in {subtype["code"] for subtype in own["subtype"]}
    assert "disclose" in {subtype["code"] for subtype in foreign["subtype"]}


def test_a_query_carries_what_was_asked_encoded() -> None:
    event = _event(Entry(Kind.QUERY, "maugeri", (PATIENT,), text="PatientID=A-1&x=è", count=2))
    query = next(entity for entity in event["entity"] if "query" in entity)
    assert base64.b64decode(query["query"]).decode() == "PatientID=A-1&x=è"
    assert (query["role"]["code"], event["action"]) == ("24", "E")


def test_a_refusal_is_an_alert_with_its_outcome() -> None:
    event = _event(Entry(Kind.REFUSAL, study="1.2.3"))
    assert (event["type"]["code"], event["outcome"], event["outcomeDesc"]) == ("110113", "8", "refused")
    assert "110132" in {subtype["code"] for subtype in event["subtype"]}


def test_the_chain_is_named_so_that_an_export_can_be_verified() -> None:
    record = _record(access())
    (extension,) = audit_event(record, NAMES)["extension"]
    assert extension["valueString"] == f"maugeri#03/1 {record['hash']}"


def test_a_bundle_is_a_searchset_with_the_way_to_the_next_page() -> None:
    events = [_event(access()), _event(Entry(Kind.READ, "maugeri", (PATIENT,)))]
    found = bundle(events, "https://api.test", "https://api.test/audit?limit=2", "https://api.test/audit?limit=2&cursor=x")
    Bundle.model_validate(found)
    assert (found["type"], [link["relation"] for link in found["link"]]) == ("searchset", ["self", "next"])
    assert [entry["resource"]["id"] for entry in found["entry"]] == [event["id"] for event in events]


def test_an_empty_bundle_is_valid() -> None:
    found = bundle([], "https://api.test", "https://api.test/audit", None)
    Bundle.model_validate(found)
    assert "entry" not in found
