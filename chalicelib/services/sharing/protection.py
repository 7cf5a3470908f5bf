"""What an owner does for a patient or against a mistake: objection, strengthened protection, consent, withdrawal."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256

from chalicelib.domain import identifiers, italian, keys, studies
from chalicelib.domain.audit import Act, Entry, Kind, Recorder
from chalicelib.domain.errors import BadRequest, NotFound, TryAgain
from chalicelib.domain.fields import fields
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.patients import END, Record, owner_and_study
from chalicelib.domain.ports import Item, PutNew, Table, Write
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.study_views import StudyView
from chalicelib.domain.transfers import MAX_REASON
from chalicelib.services import access, membership
from chalicelib.services.ingest import withdrawals
from chalicelib.services.registry import Caller

MAX_WITHDRAWN = 90
_ID = re.compile(r"[0-9a-f]{24}")
_ATTEMPTS = 5
_PARALLEL = 8
_SAID = ("owner", "study", "to")
"""What makes two objections, or two consents, of a number the same."""


@dataclass(frozen=True)
class Had:
    """An owner's studies of a patient, under which other hashes of the number some of them lie, and the numbers that are this
    patient's now, the one that was asked for first, each with what is said of it."""

    studies: frozenset[str]
    former: tuple[str, ...] = ()
    records: tuple[tuple[PatientIdentifier, Record], ...] = ()


def object_to_sharing(table: Table, caller: Caller, patient_id: str, body: object, now: datetime, act: Act) -> JsonObject:
    """Hide one study, or all the caller's studies of the patient, from every other institution; at once. The same again, while it
    stands, is that one. Raises NotFound."""
    own, had = own_patient(table, caller, patient_id)
    study = _study_in(had, body, required=False)
    patients = _where_it_counts(table, caller, own, study) + (list(had.former) if study is None else [])
    data: dict[str, object] = {"owner": caller.member.id, "study": study, "at": iso(now), "by": caller.actor, "in": patients}
    objection, said = _say(
        table, had, data, patients, keys.objection, act, Entry(Kind.OBJECTION, caller.member.id, (own,), study)
    )
    return {"id": objection, "study_instance_uid": study, "status": "active", "at": said["at"]}


def withdraw_objection(table: Table, caller: Caller, patient_id: str, objection: str, now: datetime, act: Act) -> JsonObject:
    """End an objection of the patient, under whichever of its numbers it was recorded: the studies are shared again as before.
    Again: the same answer. Raises NotFound."""
    own, had = own_patient(table, caller, patient_id)
    number, fact = _said_as(table, caller, had, objection, keys.objection)
    numbers = tuple(dict.fromkeys((own, number)))
    _end(fact, caller, now, act, Entry(Kind.OBJECTION_WITHDRAWN, caller.member.id, numbers, subject=objection))
    return {"id": objection, "study_instance_uid": fact.data["study"], "status": "withdrawn", "at": fact.data["at"]}


def list_objections(table: Table, caller: Caller, patient_id: str, tell: Recorder) -> JsonObject:
    """The objections that the caller records for its own patient, each with the number of the patient's under which it stands.
    Raises NotFound."""
    own, had = own_patient(table, caller, patient_id)
    tell(Entry(Kind.READ, caller.member.id, (own,)))
    found = {
        key: {"id": key, "study_instance_uid": objection.study, "status": "active", "patient": number.to_item()}
        for number, record in reversed(had.records)
        for key, objection in record.objections.items()
        if objection.owner == caller.member.id
    }
    return {"objections": [found[key] for key in sorted(found)]}


def protect(table: Table, caller: Caller, patient_id: str, body: object, now: datetime, act: Act) -> JsonObject:
    """Put a study under strengthened protection: shared only with whom the patient consents to by name. Raises NotFound."""
    own, had = own_patient(table, caller, patient_id)
    study = _study_in(had, body, required=True)
    data: dict[str, object] = {"owner": caller.member.id, "study": study, "at": iso(now), "by": caller.actor}
    patients = _where_it_counts(table, caller, own, study)
    facts = [Item(keys.patient_facts(patient), keys.protection(str(study)), data) for patient in patients]
    _once(facts, act, Entry(Kind.OBJECTION, caller.member.id, (own,), study, text="strengthened protection"))
    return {"study_instance_uid": study, "status": "protected"}


def consent(table: Table, caller: Caller, patient_id: str, body: object, now: datetime, act: Act) -> JsonObject:
    """Record the patient's explicit consent that an institution sees a protected study. The same again, while it stands, is that
    one. Raises NotFound, BadRequest."""
    own, had = own_patient(table, caller, patient_id)
    said = dict(fields(body, ("study_instance_uid", "to")))
    to = said.pop("to", None)
    if not isinstance(to, str) or to not in caller.registry.members:
        raise BadRequest("No institution with this id is registered.", "to")
    study = _study_in(had, said, required=True)
    patients = _where_it_counts(table, caller, own, study)
    data: dict[str, object] = {"owner": caller.member.id, "study": study, "to": to, "at": iso(now), "by": caller.actor}
    entry = Entry(Kind.CONSENT, caller.member.id, (own,), study, text=f"to {to}")
    consented, _ = _say(table, had, data | {"in": patients}, patients, keys.consent, act, entry)
    return {"id": consented, "study_instance_uid": study, "to": to, "status": "given"}


def revoke_consent(table: Table, caller: Caller, patient_id: str, consented: str, now: datetime, act: Act) -> JsonObject:
    """End a consent. Again: the same answer. Raises NotFound."""
    own, had = own_patient(table, caller, patient_id)
    number, fact = _said_as(table, caller, had, consented, keys.consent)
    numbers = tuple(dict.fromkeys((own, number)))
    _end(fact, caller, now, act, Entry(Kind.CONSENT, caller.member.id, numbers, subject=consented, text="revoked"))
    return {"id": consented, "study_instance_uid": fact.data["study"], "to": fact.data["to"], "status": "revoked"}


def withdraw(table: Table, caller: Caller, study: str, body: object, now: datetime, act: Act) -> JsonObject:
    """The owner takes back a study sent in error, or some of its instances: gone for everybody at once; bytes and audit stay.

    Raises NotFound for a study that is not the caller's own, BadRequest.
    """
    said = fields(body, ("reason", "sop_instance_uids"))
    reason = said.get("reason")
    if not isinstance(reason, str) or not 1 <= len(reason.strip()) <= MAX_REASON:
        raise BadRequest(f"reason must be 1 to {MAX_REASON} characters.", "reason")
    named = said.get("sop_instance_uids")
    if "sop_instance_uids" in said and (not isinstance(named, list) or not 1 <= len(named) <= MAX_WITHDRAWN):
        raise BadRequest(f"sop_instance_uids must list 1 to {MAX_WITHDRAWN} UIDs.", "sop_instance_uids")
    owner = caller.member.id
    partition = keys.study_facts(owner, study)
    if not table.query(partition, keys.INSTANCES, limit=1).items:
        raise NotFound
    data: dict[str, object] = {"at": iso(now), "by": caller.actor, "reason": reason.strip()}
    entry = Entry(Kind.WITHDRAWAL, owner, _patients_of(table, caller, study), study, text=reason.strip())
    if named is None:
        done = _take_back(table, partition, [withdrawals.WHOLE], None, data, act, entry)
        return {"id": done, "study_instance_uid": study, "status": "withdrawn"}
    sops = list(dict.fromkeys(identifiers.uid(uid, "sop_instance_uids") for uid in named))
    here = {item.pk for item in table.batch_get(keys.sop(owner, sop) for sop in sops).values() if item.data["study"] == study}
    if any(keys.sop(owner, sop)[0] not in here for sop in sops):
        raise NotFound
    done = _take_back(table, partition, [keys.withdrawn(sop) for sop in sops], sops, data, act, replace(entry, count=len(sops)))
    return {"id": done, "study_instance_uid": study, "sop_instance_uids": sops, "status": "withdrawn"}


def _take_back(
    table: Table, partition: str, sks: list[str], sops: list[str] | None, data: dict[str, object], act: Act, entry: Entry
) -> str:
    """Withdraw what `sks` name; the id of the withdrawal, which is that of the first where all is withdrawn already."""
    while True:
        known = {item.sk: item for item in table.batch_get((partition, sk) for sk in sks).values()}
        done = secrets.token_hex(12)
        writes = withdrawals.marking(partition, done, data, sks, known)
        if not writes:
            act([], entry)
            return withdrawals.id_of(known[sks[0]])
        if not act([*writes, PutNew(withdrawals.history(partition, done, data, sops))], entry):
            return done


def _once(facts: list[Item], act: Act, entry: Entry) -> None:
    """Write facts of which the first stands: those that are there already stay, and the attempt is recorded."""
    writes: list[Write] = [PutNew(fact) for fact in facts]
    while held := act(writes, entry):
        writes = [write for write, ok in zip(writes, held, strict=True) if ok]


def _end(fact: Item, caller: Caller, now: datetime, act: Act, entry: Entry) -> None:
    """End a fact wherever it stands; what has ended already stays as it ended, and the attempt is recorded."""
    patients = fact.data.get("in")
    partitions = [keys.patient_facts(str(patient)) for patient in patients] if isinstance(patients, list) else [fact.pk]
    _once([Item(pk, fact.sk + END, {"at": iso(now), "by": caller.actor}) for pk in partitions], act, entry)


def _where_it_counts(table: Table, caller: Caller, own: PatientIdentifier, study: str | None) -> list[str]:
    """The hashes of the patient identifiers under which something said of a study is written down.

    Its view, by which it is decided whose facts are read, may not know yet that the study has images of this patient. Then one
    that it knows is enough: it never loses one but to those that count for ever (`sharing.hidden`).
    """
    view = table.get(*keys.study_view(study, caller.member.id)) if study is not None else None
    if view is None:
        return [own.hash]
    ref = studies.for_deciding(StudyView.from_item(view.data))
    known = (*ref.patients, *ref.former)
    return [own.hash] if own.hash in known else [own.hash, *known[:1]]


def _say(
    table: Table, had: Had, data: dict[str, object], patients: Sequence[str], key: Callable[[str], str], act: Act, entry: Entry
) -> tuple[str, Mapping[str, object]]:
    """Write what was said under these hashes, unless the same stands under one of them that is the patient's, and record it
    either way; the name under which it stands, and what it says.

    The name follows of what is said, and of how often that was said before: two who say the same at once write one fact.
    Raises TryAgain.
    """
    own, places = had.records[0][0], [number.hash for number, _ in had.records if number.hash in patients]
    for attempt in range(_ATTEMPTS):
        same = [fact for place in places for fact in _same(table, place, key, data)]
        standing = next((fact for fact, ended in same if not ended), None)
        if standing is not None:
            name = standing.sk.split("#")[1]
            act([], replace(entry, subject=name))
            return name, standing.data
        said = "\n".join((own.hash, *(str(data.get(part)) for part in _SAID), str(len(same) + attempt)))
        name = sha256(said.encode()).hexdigest()[:24]
        if not act(
            [PutNew(Item(keys.patient_facts(place), key(name), data)) for place in patients], replace(entry, subject=name)
        ):
            return name, data
    raise TryAgain


def _same(table: Table, patient: str, key: Callable[[str], str], data: Mapping[str, object]) -> list[tuple[Item, bool]]:
    """What was said already under this hash that is the same, each with whether it has ended."""
    items = list(table.query_all(keys.patient_facts(patient), keys.begins(key)))
    ended = {item.sk.removesuffix(END) for item in items if item.sk.endswith(END)}
    facts = (item for item in items if not item.sk.endswith(END))
    return [(item, item.sk in ended) for item in facts if all(item.data.get(part) == data.get(part) for part in _SAID)]


def _said_as(table: Table, caller: Caller, had: Had, name: str, key: Callable[[str], str]) -> tuple[PatientIdentifier, Item]:
    """What the caller said of a patient under this name, and under which of the patient's numbers. Raises NotFound."""
    if _ID.fullmatch(name):
        places = {number: (keys.patient_facts(number.hash), key(name)) for number, _ in had.records}
        there = table.batch_get(places.values())
        for number, place in places.items():
            if place in there and there[place].data["owner"] == caller.member.id:
                return number, there[place]
    raise NotFound


def _had(table: Table, caller: Caller, own: PatientIdentifier, record: Record) -> Had:
    """What the caller has of a patient of its own, under this number and those that are the same patient's.

    An issuer does not change once it is named (`services.membership`); in a city of before that rule it may have, and what was
    sent before lies under the same number of the issuer of then.
    """
    mine = caller.member.id
    records = [(own, record), *_joined(table, caller, record)]
    former = [
        PatientIdentifier(issuer, own.value).hash for issuer in membership.issuers_ever(table, mine) if issuer != own.issuer
    ]
    found = {patient: _studies_of(table, patient, mine) for patient in former}
    studies_now = {study for owner, study in record.studies if owner == mine}
    beside = _studies_beside(table, [number for number, _ in records[1:]], mine)
    return Had(
        frozenset(studies_now.union(beside, *found.values())),
        tuple(patient for patient, several in found.items() if several),
        tuple(records),
    )


def _joined(table: Table, caller: Caller, record: Record) -> list[tuple[PatientIdentifier, Record]]:
    """The other numbers of the caller's house, and the national codes, that are linked to a number now: the same patient's."""
    if not record.linked:
        return []
    loaded = access.load_facts(table, [record.patient]).known[record.patient]
    records = {other.patient: other for other in loaded.linked}
    return [
        (number, records[number.hash])
        for number in loaded.numbers
        if italian.kind(number) != "hospital" or caller.registry.by_issuer(number.issuer) == caller.institution
    ]


def _studies_beside(table: Table, numbers: Sequence[PatientIdentifier], owner: str) -> set[str]:
    """An owner's studies under several numbers; under one that stood for unknown persons hundreds may have been merged."""
    if not numbers:
        return set()
    with ThreadPoolExecutor(min(_PARALLEL, len(numbers))) as pool:
        return set().union(*pool.map(lambda number: _studies_of(table, number.hash, owner), numbers))


def _studies_of(table: Table, patient: str, owner: str) -> set[str]:
    items = table.query_all(keys.patient_facts(patient), keys.filed(owner, ""))
    return {owner_and_study(item.sk)[1] for item in items}


def _patients_of(table: Table, caller: Caller, study: str) -> tuple[PatientIdentifier, ...]:
    view = table.get(*keys.study_view(study, caller.member.id))
    return StudyView.from_item(view.data).patients if view else ()


def own_patient(table: Table, caller: Caller, patient_id: str) -> tuple[PatientIdentifier, Had]:
    """One of the caller's own patients, and what it has of it. Raises NotFound for a number of which nothing is known.

    A number of none of its patients is a national code, where it files studies under that.
    """
    own = identifiers.patient_identifier(patient_id, None, caller.member.patient_id_issuer)
    record = access.load_record(table, own.hash)
    had = _had(table, caller, own, record)
    if record.transfers or record.links or record.stated or had.studies:
        return own, had
    for issuer in italian.NATIONAL:
        code = PatientIdentifier(issuer, own.value)
        if table.query(keys.patient_facts(code.hash), keys.filed(caller.member.id, ""), limit=1).items:
            record = access.load_record(table, code.hash)
            return code, _had(table, caller, code, record)
    raise NotFound


def _study_in(had: Had, body: object, *, required: bool) -> str | None:
    """The study that a body names, which must be the caller's own, of this patient. Raises BadRequest, NotFound."""
    said = fields(body, ("study_instance_uid",), ("study_instance_uid",) if required else ())
    if not said:
        return None
    study = said["study_instance_uid"]
    if not isinstance(study, str):
        raise BadRequest("study_instance_uid must be a UID.", "study_instance_uid")
    if identifiers.uid(study, "study_instance_uid") not in had.studies:
        raise NotFound
    return study
