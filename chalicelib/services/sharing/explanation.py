"""What an owner is told of its own studies: who sees each by which rule, on which facts, since and until when; and what would be
seen if a transfer were opened. The rules are those that decide (`domain.sharing`); nobody is told of another's studies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from chalicelib.domain import keys, sharing, studies, tags, transfers
from chalicelib.domain.audit import Entry, Kind, Recorder
from chalicelib.domain.dicom_json import first_value
from chalicelib.domain.errors import BadRequest
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.patients import END
from chalicelib.domain.ports import Item, Table
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.sharing import Explanation, Grant, PatientFacts
from chalicelib.domain.study_views import StudyView
from chalicelib.services import access
from chalicelib.services.access import LoadedPatient
from chalicelib.services.registry import Caller
from chalicelib.services.sharing import protection
from chalicelib.services.sharing.protection import Had

MOST_STUDIES = 500
_AS_IF = "as-if-opened"
_KINDS = {
    "objections": keys.begins(keys.objection),
    "protections": keys.begins(keys.protection),
    "consents": keys.begins(keys.consent),
}


def explain(
    table: Table, caller: Caller, patient_id: str, to: str | None, until: str | None, now: datetime, tell: Recorder
) -> JsonObject:
    """The caller's studies of one of its own patients, with what was said to hide or show them; with `to`, what that institution
    sees of each and why; with `until`, also what it would see if a transfer to it were opened now and lasted so long.

    Raises NotFound for a number of which nothing is known, BadRequest for an institution or a moment that is none.
    """
    own, had = protection.own_patient(table, caller, patient_id)
    if to is not None and (to not in caller.registry.members or to == caller.member.id):
        raise BadRequest("to must be the id of another institution.", "to")
    if until is not None and to is None:
        raise BadRequest("until goes together with to.", "until")
    supposed = None
    if to is not None and until is not None:
        supposed = Grant(_AS_IF, caller.member.id, to, now, transfers.expiry(until, now, "until"))
    mine = caller.member.id
    found = table.batch_get(keys.study_view(uid, mine) for uid in sorted(had.studies)[:MOST_STUDIES])
    read = (StudyView.from_item(item.data) for item in found.values())
    views = sorted(read, key=lambda view: (_date(view), view.study_instance_uid), reverse=True)
    shown = [_study(view) for view in views]
    if to is not None:
        for study, why in zip(shown, _explained(table, views, own, to, supposed, now), strict=True):
            study |= why
    tell(Entry(Kind.READ, mine, (own,), text=f"what {to} sees" if to else None))
    return {
        "patient": {"issuer": own.issuer, "id": own.value},
        "studies": shown,
        **_said(table, had, mine),
        **({"to": to} if to else {}),
        **({"more": True} if len(had.studies) > MOST_STUDIES else {}),
    }


def _explained(
    table: Table, views: list[StudyView], own: PatientIdentifier, viewer: str, supposed: Grant | None, now: datetime
) -> list[JsonObject]:
    wanted = [number for view in views for number in access.deciding_numbers(view)]
    withdrawals = [keys.withdrawn_study(view.owner, view.study_instance_uid) for view in views]
    read = access.load_facts(table, wanted, [linked for view in views for linked in view.linked], withdrawals)
    told = []
    for view, withdrawn in zip(views, withdrawals, strict=True):
        facts, ref = access.facts_of(view, read.known), studies.for_deciding(view)
        gone = withdrawn in read.there or view.gone
        explained = _why(sharing.explain(viewer, ref, facts, now), gone)
        if supposed is not None:
            explained["if_opened"] = _why(sharing.explain(viewer, ref, _with(facts, read.known, own, supposed), now), gone)
        told.append(explained)
    return told


def _with(
    facts: Mapping[str, PatientFacts], known: Mapping[str, LoadedPatient], own: PatientIdentifier, grant: Grant
) -> dict[str, PatientFacts]:
    """The facts as they would be with one more transfer of this number: it touches the number, and those linked to it."""
    touched = {patient for patient, loaded in known.items() if access.is_sent([loaded.record, *loaded.linked], own, grant.sender)}
    return {
        patient: replace(fact, grants=(*fact.grants, grant)) if patient in touched else fact for patient, fact in facts.items()
    }


def _why(found: Explanation, gone: bool) -> JsonObject:
    if gone:
        return {"sees": False, "rule": "withdrawn"}
    decision = found.decision
    return {
        "sees": decision.allowed,
        "rule": str(found.rule),
        "transfers": [transfer for transfer in decision.transfers if transfer != _AS_IF],
        "emergencies": list(decision.emergencies),
        **({"since": iso(found.since)} if found.since else {}),
        **({"until": iso(decision.until)} if decision.until else {}),
    }


def _said(table: Table, had: Had, owner: str) -> dict[str, list[JsonObject]]:
    """The owner's objections, protections and consents that hold of a patient, each with when it was said, and of which of the
    patient's numbers."""
    answer: dict[str, list[JsonObject]] = {}
    saying = [number for number, record in had.records if record.objections or record.protections or record.consents]
    for name, prefix in _KINDS.items():
        found: dict[str, JsonObject] = {}
        for number in saying:
            items = list(table.query_all(keys.patient_facts(number.hash), prefix))
            ended = {item.sk.removesuffix(END) for item in items if item.sk.endswith(END)}
            live = [item for item in items if not item.sk.endswith(END) and item.sk not in ended and item.data["owner"] == owner]
            for item in live:
                found.setdefault(item.sk, _told(item, number))
        answer[name] = list(found.values())
    return answer


def _told(item: Item, number: PatientIdentifier) -> JsonObject:
    told = {"id": item.sk.split("#")[1], "study_instance_uid": item.data["study"], "at": item.data["at"]}
    return told | {"patient": number.to_item()} | ({"to": item.data["to"]} if "to" in item.data else {})


def _study(view: StudyView) -> JsonObject:
    return {
        "study_instance_uid": view.study_instance_uid,
        "study_date": _date(view),
        "modalities": list(view.modalities),
        "description": first_value(view.attributes, tags.StudyDescription),
    }


def _date(view: StudyView) -> str:
    return first_value(view.attributes, tags.StudyDate)
