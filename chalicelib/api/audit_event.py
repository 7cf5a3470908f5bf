"""Audit records as FHIR R4 AuditEvent, in the patterns of IHE BALP (Basic Audit Log Patterns 1.1).

The event is coded as DICOM codes it (PS3.15 A.5), since what happens here is DICOM's and not FHIR's own REST; agents and
entities are those of BALP: the person (information recipient), the client (its role), this server, the custodian (the
institution whose data it is); the patient, the study, the query, the request's id. What shows a patient's studies to
another institution claims BALP's profile *Privacy Disclosure at Source*.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from urllib.parse import quote

from chalicelib.domain.audit import EVENTS, Kind, Purpose, Record, patients_of
from chalicelib.domain.identifiers import PatientIdentifier, is_oid
from chalicelib.domain.json_object import JsonObject

CONTENT_TYPE = "application/fhir+json"
CHAIN = "urn:contenitore:audit:chain"
"""Extension: shard, number and hash of the record, by which the event is found in the chain again."""
REPEATED = "urn:contenitore:audit:repeated"
"""Extension: of how many records of the chain an event is made, and the last of them."""

_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_HL7 = "http://terminology.hl7.org/CodeSystem"
_DISCLOSURE = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PrivacyDisclosure.Source"
_REQUEST_ID = {"system": "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType", "code": "XrequestId"}
_ARCHIVE = {"display": "Contenitore"}
_PERSON = {"system": f"{_HL7}/audit-entity-type", "code": "1", "display": "Person"}
_OBJECT = {"system": f"{_HL7}/audit-entity-type", "code": "2", "display": "System Object"}
_INTERACTIONS = {"C": "create", "R": "read", "U": "update", "D": "delete", "E": "operation"}
_PURPOSES = {
    Purpose.TREATMENT: "treatment",
    Purpose.EMERGENCY: "Emergency Treatment",
    Purpose.OPERATIONS: "healthcare operations",
    Purpose.ADMINISTRATION: "health system administration",
    Purpose.PATIENT_REQUEST: "patient requested",
}


def audit_event(record: Record, names: Mapping[str, str]) -> JsonObject:
    """A record as an AuditEvent. `names` are those of the institutions by id."""
    kind = Kind(str(record["kind"]))
    refused = record["outcome"] == "refused"
    event: JsonObject = {"resourceType": "AuditEvent", "id": event_id(record)}
    if kind is Kind.DISCLOSURE:
        event["meta"] = {"profile": [_DISCLOSURE]}
    event["extension"] = [{"url": CHAIN, "valueString": f"{record['shard']}/{record['seq']} {record['hash']}"}]
    if "last" in record:  # the same again within minutes, recorded in short: `domain.audit_repeats`
        event["extension"].append({"url": REPEATED, "valueString": f"{record['events']} to {record['shard']}/{record['last']}"})
    event["type"] = {"system": _DCM, "code": EVENTS[kind].code, "display": EVENTS[kind].meaning}
    event["subtype"] = list(_subtypes(kind, record))
    event["action"] = EVENTS[kind].action
    if "until" in record:
        event["period"] = {"start": record["at"], "end": record["until"]}
    event["recorded"] = record["at"]
    event["outcome"] = "8" if refused else "0"
    if refused:
        event["outcomeDesc"] = "refused"
    purpose = Purpose(str(record["purpose"]))
    event["purposeOfEvent"] = [_concept(f"{_HL7}/v3-ActReason", purpose.value, _PURPOSES[purpose])]
    event["agent"] = list(_agents(record, EVENTS[kind].action == "R", names))
    event["source"] = {
        "site": "contenitore",
        "observer": _ARCHIVE,
        "type": [{"system": f"{_HL7}/security-source-type", "code": "4", "display": "Application Server"}],
    }
    event["entity"] = list(_entities(kind, record))
    return event


def event_id(record: Record) -> str:
    """The id of a record's AuditEvent: its shard and number, within FHIR's alphabet and 64 characters."""
    return f"{str(record['shard']).replace('#', '-')}-{record['seq']}"


def bundle(events: Iterable[JsonObject], base_url: str, here: str, following: str | None) -> JsonObject:
    """A searchset of AuditEvents (FHIR R4 3.1.1.1): `here` and `following` are the addresses of this page and the next."""
    links = [{"relation": "self", "url": here}]
    if following is not None:
        links.append({"relation": "next", "url": following})
    entries = [{"fullUrl": f"{base_url}/audit/{event['id']}", "resource": event, "search": {"mode": "match"}} for event in events]
    return {"resourceType": "Bundle", "type": "searchset", "link": links, **({"entry": entries} if entries else {})}


def _subtypes(kind: Kind, record: Record) -> Iterable[dict[str, str]]:
    if EVENTS[kind].subtype is not None:
        code, meaning = EVENTS[kind].subtype or ("", "")
        yield {"system": _DCM, "code": code, "display": meaning}
    if kind in {Kind.DISCLOSURE, Kind.ACCESS, Kind.SENT, Kind.AHEAD} and record.get("owner") != record["institution"]:
        yield {"system": f"{_HL7}/iso-21089-lifecycle", "code": "disclose", "display": "Disclose Record Lifecycle Event"}
    interaction = "search" if kind is Kind.QUERY else _INTERACTIONS[EVENTS[kind].action]
    yield {"system": "http://hl7.org/fhir/restful-interaction", "code": interaction, "display": interaction}
    yield {"system": "urn:contenitore:audit:kind", "code": kind.value}


def _agents(record: Record, reads: bool, names: Mapping[str, str]) -> Iterable[JsonObject]:
    """The person, the client, the server, the custodian. Data flow from the source to the destination (PS3.15 A.5.2)."""
    institution, actor = str(record["institution"]), str(record.get("actor", ""))
    source, destination = ("110153", "Source Role ID"), ("110152", "Destination Role ID")
    client, server = (destination, source) if reads else (source, destination)
    if actor:
        yield {
            "type": _concept(f"{_HL7}/v3-ParticipationType", "IRCP", "information recipient"),
            "who": {"identifier": {"system": f"urn:contenitore:institution:{institution}", "value": actor}},
            "altId": str(record.get("session", actor)),
            "name": actor,
            "requestor": True,
        }
    network = {"address": record["address"], "type": "2"} if record.get("address") else {"address": institution, "type": "1"}
    yield {
        "type": _concept(_DCM, *client),
        "who": {"identifier": {"value": str(record.get("role", institution))}, "display": names.get(institution, institution)},
        "requestor": not actor,
        "network": network,
    }
    yield {
        "type": _concept(_DCM, *server),
        "who": _ARCHIVE,
        "requestor": False,
        "network": {"address": "contenitore", "type": "1"},
    }
    if record.get("owner"):
        owner = str(record["owner"])
        yield {
            "type": _concept("http://snomed.info/sct", "159541003", "Record keeping/library clerk"),
            "who": {"identifier": {"system": "urn:contenitore:institution", "value": owner}, "display": names.get(owner, owner)},
            "requestor": False,
        }


def _entities(kind: Kind, record: Record) -> Iterable[JsonObject]:
    """The patient (one, its further numbers as details), the study, what else was acted upon, the query, the request."""
    if patients := patients_of(record):
        first, *others = patients
        entity = {"what": {"type": "Patient", "identifier": _identifier(first)}, "type": _PERSON, "role": _role("1", "Patient")}
        if others:
            entity["detail"] = [
                {"type": "patient-identifier", "valueString": f"{number.issuer}|{number.value}"} for number in others
            ]
        yield entity
    details = [{"type": "instances", "valueString": str(record["count"])}] if "count" in record else []
    if record.get("study"):
        uid = {"system": "urn:dicom:uid", "value": f"urn:oid:{record['study']}"}
        study = {"what": {"type": "ImagingStudy", "identifier": uid}, "type": _OBJECT, "role": _role("3", "Report")}
        yield study | ({"detail": details} if details else {})
    elif details and kind is not Kind.QUERY:
        yield {"type": _OBJECT, "role": _role("4", "Domain Resource"), "name": "instances", "detail": details}
    basis = record.get("basis")
    for named in [record.get("subject"), *(basis if isinstance(basis, list) else [])]:
        if named:
            yield {"what": {"identifier": {"value": str(named)}}, "type": _OBJECT, "role": _role("4", "Domain Resource")}
    if kind is Kind.QUERY:
        query = base64.b64encode(str(record.get("text", "")).encode()).decode() or "IA=="
        yield {"type": _OBJECT, "role": _role("24", "Query"), "query": query}
    elif record.get("text"):
        yield {"type": _OBJECT, "role": _role("4", "Domain Resource"), "name": "reason", "description": record["text"]}
    if record.get("request"):
        yield {"what": {"identifier": {"value": record["request"]}}, "type": _REQUEST_ID, "name": str(record["route"])}


def _identifier(patient: PatientIdentifier) -> dict[str, str]:
    if not patient.issuer:
        return {"value": patient.value}
    system = f"urn:oid:{patient.issuer}" if is_oid(patient.issuer) else f"urn:contenitore:issuer:{quote(patient.issuer)}"
    return {"system": system, "value": patient.value}


def _role(code: str, display: str) -> dict[str, str]:
    return {"system": f"{_HL7}/object-role", "code": code, "display": display}


def _concept(system: str, code: str, display: str) -> JsonObject:
    return {"coding": [{"system": system, "code": code, "display": display}]}
