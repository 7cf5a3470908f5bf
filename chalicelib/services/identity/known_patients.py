"""The patients that an institution has: those of whom it owns a study, and those whom its registration made known.

`PUT /patients/{id}` says what a hospital's ADT knows of one of its own patients, also before there is any image. What it says
of a codice fiscale joins numbers as images do (`services.identity.linking`), and as little where it does not agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from chalicelib.domain import demographics, identifiers, keys
from chalicelib.domain.audit import Act, Entry, Kind, Recorder
from chalicelib.domain.demographics import Demographics
from chalicelib.domain.errors import TryAgain
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.ports import Put, PutNew, Table, Write
from chalicelib.services import access
from chalicelib.services.identity import linking, numbering
from chalicelib.services.registry import Caller

_ATTEMPTS = 3


def make_known(
    table: Table, caller: Caller, patient_id: str, body: object, now: datetime, act: Act, record: Recorder
) -> JsonObject:
    """Say what is known of one of the caller's own patients. The same again writes nothing. Raises BadRequest, TryAgain."""
    own = identifiers.patient_identifier(patient_id, None, caller.member.patient_id_issuer)
    said = demographics.parse(body)
    entry = Entry(Kind.PATIENT_STATED, caller.member.id, (own,), text=said.event or None)
    for _ in range(_ATTEMPTS):
        latest = latest_of(table, own)
        if latest is not None and replace(latest, number=0, at="") == said:
            record(replace(entry, kind=Kind.READ, text=None))
            return _shown(own, latest)
        new = replace(said, number=(latest.number if latest else 0) + 1)
        fact = demographics.stated(own, new, caller.actor, now)
        writes: list[Write] = [PutNew(fact), *(Put(code) for code in linking.stated(own, new))]
        if not act(writes, entry):
            return _shown(own, demographics.from_item(fact))
    raise TryAgain("The patient was changed at the same moment. Please send it again.")


def latest_of(table: Table, number: PatientIdentifier) -> Demographics | None:
    """What was last said of the patient with this number by the hospital whose number it is."""
    found = table.query(keys.patient_facts(number.hash), demographics.PREFIX, limit=1, descending=True).items
    return demographics.from_item(found[0]) if found else None


def latest_of_any(table: Table, numbers: Iterable[PatientIdentifier]) -> Demographics | None:
    """What was last said of the first of these numbers of which anything was."""
    return next((known for number in numbers if (known := latest_of(table, number)) is not None), None)


def has(table: Table, caller: Caller, patient: PatientIdentifier, now: datetime) -> bool:
    """Whether the patient is one of the caller's: it owns a study of it, or made it known, under this number, or under one of its
    own that is linked to this one; or, of a number of its own, a study that only the name of its issuer keeps apart.

    What is read depends on the caller's own numbers only: that others know the patient cannot be told from how long it takes.
    """
    linked = access.load_deciding(table, patient.hash).linked
    own = [
        number
        for number in linked
        if not caller.is_anothers(patient) and caller.registry.by_issuer(number.issuer) == caller.institution
    ]
    if any(_is_own(table, caller, number) for number in (patient, *own)):
        return True
    mine = caller.registry.by_issuer(patient.issuer) == caller.institution
    return mine and bool(numbering.apart_from(table, caller.member.id, patient, now))


def _is_own(table: Table, caller: Caller, number: PatientIdentifier) -> bool:
    partition = keys.patient_facts(number.hash)
    found = (table.query(partition, prefix, limit=1).items for prefix in (keys.filed(caller.member.id, ""), demographics.PREFIX))
    return any(found)


def _shown(own: PatientIdentifier, known: Demographics) -> JsonObject:
    return {
        "patient": {"id": own.value, "issuer": own.issuer},
        "name": known.name,
        "birth_date": known.birth_date,
        "sex": known.sex,
        "identifiers": [{"issuer": number.issuer, "id": number.value} for number in known.identifiers],
        "event": known.event,
        "at": known.at,
    }
