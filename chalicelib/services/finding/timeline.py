"""The timeline of a patient: every study of every hospital that the caller may see, newest first."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from chalicelib.domain import audit, identifiers, keys, tags
from chalicelib.domain.audit import Entry, Kind, Recorder
from chalicelib.domain.demographics import Demographics
from chalicelib.domain.errors import NotFound
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Item, Table
from chalicelib.domain.sharing import Objection
from chalicelib.domain.studies import Attributes, first_value
from chalicelib.domain.transfers import Transfer
from chalicelib.services import access
from chalicelib.services.access import Known
from chalicelib.services.identity import known_patients, numbering
from chalicelib.services.registry import Caller
from chalicelib.services.retrieval.manifest import still_to_come
from chalicelib.services.sharing import transfers as transfer_service

_MAX_STUDIES = 1000


def timeline(
    table: Table, caller: Caller, patient_id: str, issuer: str | None, now: datetime, record: Recorder
) -> dict[str, Any]:
    """The answer of `GET /patients/{id}/timeline`. Raises NotFound when the caller may see nothing of the patient."""
    viewer = caller.member
    asked = identifiers.patient_identifier(patient_id, issuer, viewer.patient_id_issuer)
    rows: dict[tuple[str, str], Item] = {}
    others: dict[tuple[str, str], Item] = {}
    for item in table.query_all(keys.rows_by_patient(viewer.id, asked.value), index="gsi1", descending=True):
        number = item.data["found_as"]
        study = (str(item.data["owner"]), str(item.data["study"]))
        if number == {"issuer": asked.issuer, "id": asked.value}:
            rows.setdefault(study, item)
        elif study[0] == viewer.id:
            others.setdefault(study, item)
        if len(rows) >= _MAX_STUDIES or len(others) >= _MAX_STUDIES:
            break
    found = [*rows.values(), *(item for study, item in others.items() if study not in rows)]
    visible = access.visible(table, viewer.id, [item.data for item in found], now)
    apart = numbering.kept_apart(viewer.id, asked, [row for row, _ in visible])
    allowed = [(row, one) for row, one in visible if row["found_as"] == {"issuer": asked.issuer, "id": asked.value}]
    seen = [row for row, _ in allowed]
    read = access.know(table, [asked.hash])
    known = read.known[asked.hash]
    mine = _between(caller, asked, known.transfers)
    stated = None if seen else _stated(table, caller, asked, known, now)
    if not seen and not mine and not apart and stated is None:
        access.even_out(table, read)
        raise NotFound
    mine_to_show = viewer.id if caller.registry.by_issuer(asked.issuer) == viewer else None
    record(Entry(Kind.READ, mine_to_show, (asked,)))
    for entry in audit.disclosures(viewer.id, [audit.seen(row, one.decision) for row, one in allowed]):
        record(entry)
    views = table.batch_get(keys.study_view(row["study"], str(row["owner"])) for row in seen)
    numbers = {(asked.issuer, asked.value)}
    entries: list[tuple[str, dict[str, Any]]] = []
    person: Attributes = {}
    for row, opened in allowed:
        view = views.get(keys.study_view(row["study"], str(row["owner"])))
        if view is None:
            continue
        attributes: Attributes = row["attributes"]
        person = person or attributes
        numbers |= {(p["issuer"], p["id"]) for p in view.data["patients"]}  # type: ignore[attr-defined]
        entries.append(
            (
                first_value(attributes, tags.StudyDate) + first_value(attributes, tags.StudyTime),
                _entry(table, view, attributes) | {"opened_by": list(opened.decision.transfers)},
            )
        )
    linked = {asked, *known.numbers}
    for transfer in mine:
        if transfer.status(now) == "active":
            numbers |= {(n.issuer, n.value) for n in (transfer.patient, transfer.receiving) if n is not None and n in linked}
    return {
        "patient": {
            "identifiers": [
                {
                    "issuer": oid,
                    "id": number,
                    "institution": member.id if (member := caller.registry.by_issuer(oid)) else None,
                }
                for oid, number in sorted(numbers)
            ],
            "name": stated.name if stated else _name(person),
            "birth_date": stated.birth_date if stated else first_value(person, tags.PatientBirthDate),
            "sex": stated.sex if stated else first_value(person, tags.PatientSex),
        },
        "studies": [entry for _, entry in sorted(entries, key=lambda pair: pair[0], reverse=True)],
        "transfers": [transfer_service.shown(transfer, now) for transfer in mine],
        **({"apart": apart} if apart else {}),
    }


def _between(caller: Caller, asked: PatientIdentifier, known: Iterable[Transfer]) -> list[Transfer]:
    """The caller's transfers of a patient. Under another hospital's number only those that were told with it: a codice fiscale
    that the caller merely says its own patient has joins the two, and must not tell it the other's number.
    """
    mine = [one for one in known if caller.member.id in (one.sender, one.receiver)]
    if not caller.is_anothers(asked):
        return mine
    return [one for one in mine if asked == one.patient or (one.accepted_at is not None and asked == one.receiving)]


def _stated(table: Table, caller: Caller, asked: PatientIdentifier, known: Known, now: datetime) -> Demographics | None:
    """What registrations say of a patient of whom the caller sees no study: its own, of its number that is asked for or linked;
    else, to the receiver of a transfer that runs, the sender's, unless the patient objected there.

    For a number of which the caller may know nothing, nothing is read.
    """
    numbers = () if caller.is_anothers(asked) else (asked, *known.record.linked)
    own = [one for one in numbers if caller.registry.by_issuer(one.issuer) == caller.institution]
    received = [
        transfer.patient
        for transfer in _between(caller, asked, known.transfers)
        if transfer.receiver == caller.member.id
        and transfer.status(now) == "active"
        and Objection(transfer.sender) not in known.facts.objections
    ]
    return known_patients.latest_of_any(table, dict.fromkeys([*own, *received]))


def _entry(table: Table, view: Item, attributes: Attributes) -> dict[str, Any]:
    body_parts, missing = view.data["body_parts"], still_to_come(table, view)
    return {
        "study_instance_uid": view.data["study"],
        "owner": view.sk,
        "study_date": first_value(attributes, tags.StudyDate),
        "study_time": first_value(attributes, tags.StudyTime),
        "modalities": view.data["modalities"],
        "description": first_value(attributes, tags.StudyDescription),
        "body_part": body_parts[0] if isinstance(body_parts, list) and body_parts else "",
        "laterality": view.data.get("laterality", ""),
        "views": view.data.get("views", []),
        "body_parts": body_parts,
        "series_names": view.data.get("series_names", []),
        "codes": view.data.get("codes", []),
        "patient": {
            "name": _name(attributes),
            "birth_date": first_value(attributes, tags.PatientBirthDate),
            "sex": first_value(attributes, tags.PatientSex),
        },
        "instances": view.data["instances"],
        **{name: view.data[name] for name in ("images", "frames") if name in view.data},
        "complete": missing == 0,
        "number_of_patients": len(_list(view.data["patients"])),
        "missing": missing,
        "reports": view.data["reports"],
        "unread": view.data.get("unread", []),
    }


def _name(attributes: Attributes) -> str:
    value = (attributes.get(tags.PatientName, {}).get("Value") or [{}])[0]
    return str(value.get("Alphabetic", "")) if isinstance(value, dict) else ""


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
