"""Patients are linked, never merged: proposing, confirming and undoing links between identifiers.

A link is made without a person only where both records carry the same valid codice fiscale, and the birth date and sex that
it encodes agree with both. Every other link is confirmed by somebody and can be undone; an undone one never comes back by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from itertools import combinations
from typing import Any

from chalicelib.dicomweb.person_names import name_key
from chalicelib.domain import identifiers, italian, patients
from chalicelib.domain.audit import Act, Entry, Kind, Recorder
from chalicelib.domain.errors import BadRequest, Conflict, NotFound, TryAgain
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.patients import Link, Record, link_id
from chalicelib.domain.ports import Item, PutNew, Table, Write
from chalicelib.domain.studies import Attributes, first_value
from chalicelib.domain.transfers import iso, patient_partition
from chalicelib.services import access, codice_fiscale
from chalicelib.services.registry import Caller

_MAX_CANDIDATES = 20
_MAX_ROWS = 200


def carrying(patient: PatientIdentifier, summary: Mapping[str, Any]) -> Iterator[Item]:
    """The facts that a patient's images carry a codice fiscale, with the birth date and sex that they state.

    It may stand in Patient ID or in Other Patient IDs (0010,1000 and 0010,1002), under its issuer or under none.
    """
    named = [(patient.value, patient.issuer)]
    named += [(one["id"] or "", one["issuer_universal_id"] or one["issuer"] or "") for one in summary["patient"]["other_ids"]]
    for value, issuer in named:
        if identifiers.is_oid(issuer) and issuer != italian.CODICE_FISCALE and (value, issuer) != named[0]:
            continue
        fiscal = codice_fiscale.read(value)
        if fiscal is None:
            continue
        birth = first_value(summary["attributes"], "00100030")
        sex = first_value(summary["attributes"], "00100040")
        data: dict[str, object] = {
            "issuer": patient.issuer,
            "id": patient.value,
            "code": fiscal.code,
            "birth_date": birth,
            "sex": sex,
        }
        digest = sha256(f"{birth}\n{sex}".encode()).hexdigest()[:8]
        code = PatientIdentifier(italian.CODICE_FISCALE, fiscal.code)
        yield Item(patient_partition(code.hash), f"CARRIES#{patient.hash}#{digest}", data)


def link_carriers(table: Table, code: str, now: datetime) -> None:
    """Link those that carry the codice fiscale with this hash and agree with it; end automatic links that no longer do."""
    record = access.load_record(table, code)
    fiscal = codice_fiscale.read(record.carriers[0].code) if record.carriers else None
    if fiscal is None:
        return
    agreeing = patients.agreeing(record.carriers, fiscal.birth, fiscal.sex)
    itself = PatientIdentifier(italian.CODICE_FISCALE, fiscal.code)
    for one, other in combinations(sorted({*agreeing, itself}), 2):
        link = Link(link_id(one, other), 1, one, other, "codice-fiscale", "archive", iso(now), ("same-codice-fiscale",))
        table.transact([PutNew(item) for item in patients.linking(link)])
    refused = {carrier.identifier for carrier in record.carriers} - set(agreeing)
    for identifier in sorted(refused):
        for link in access.load_record(table, identifier.hash).links:
            if link.basis == "codice-fiscale" and not link.ended:
                table.transact([PutNew(item) for item in patients.unlinking(link, "archive", now)])


def linking_writes(
    table: Table, one: PatientIdentifier, other: PatientIdentifier, basis: str, by: str, evidence: tuple[str, ...], now: datetime
) -> list[Write]:
    """The writes that link two identifiers; none when they are linked already, or are the same."""
    if one == other:
        return []
    known = _links_between(access.load_record(table, one.hash), other)
    if any(not link.ended for link in known):
        return []
    number = max((link.number for link in known), default=0) + 1
    link = Link(link_id(one, other), number, one, other, basis, by, iso(now), evidence)
    return [PutNew(item) for item in patients.linking(link)]


def unlinking_writes(table: Table, one: PatientIdentifier, other: PatientIdentifier, by: str, now: datetime) -> list[Write]:
    """The writes that undo the link of two identifiers; none when there is none."""
    known = _links_between(access.load_record(table, one.hash), other)
    return [PutNew(item) for link in known if not link.ended for item in patients.unlinking(link, by, now)]


def list_links(table: Table, caller: Caller, patient_id: str, now: datetime, tell: Recorder) -> dict[str, Any]:
    """Links of one of the caller's own numbers, and proposals with evidence for and against.

    Proposed are only numbers of studies that the caller may already see. Raises NotFound for a number with nothing known.
    """
    own = _own(caller, patient_id)
    record = access.load_record(table, own.hash)
    known = [link for link in record.links if _may_know(caller, link.beyond(own.hash), record)]
    confirmed = [_shown(link, own) for link in known if not link.ended]
    proposed = _proposals(table, caller, own, record, now)
    if not record.links and not record.studies and not record.transfers and not proposed:
        raise NotFound
    tell(Entry(Kind.READ, caller.member.id, (own,)))
    return {"links": confirmed + proposed}


def confirm_link(
    table: Table, caller: Caller, patient_id: str, body: object, now: datetime, act: Act, tell: Recorder
) -> dict[str, Any]:
    """Confirm that one of the caller's own numbers and another one are the same patient's.

    The other is the caller's own too, or one that is proposed. Raises BadRequest, NotFound, Conflict when evidence forbids it.
    """
    own = _own(caller, patient_id)
    if not isinstance(body, dict) or not set(body) <= {"id", "issuer", "link"}:
        raise BadRequest('The body must be {"id", "issuer"} of the other number, or {"link"} of a proposal.')
    record = access.load_record(table, own.hash)
    proposals = _proposals(table, caller, own, record, now)
    chosen = [p for p in proposals if p["link"] == body.get("link")]
    if body.get("link") is not None and not chosen:
        raise NotFound
    wanted = chosen[0]["identifier"] if chosen else body
    other = identifiers.patient_identifier(wanted.get("id"), wanted.get("issuer"), caller.member.patient_id_issuer)
    proposal = next((p for p in proposals if p["identifier"] == {"issuer": other.issuer, "id": other.value}), None)
    if caller.registry.by_issuer(other.issuer) != caller.institution and proposal is None:
        raise NotFound
    if other == own:
        raise BadRequest("A number cannot be linked to itself.", "id")
    if proposal is not None and "different-codice-fiscale" in proposal["against"]:
        raise Conflict("The two records carry different codici fiscali: they are not the same patient's.")
    evidence = tuple(proposal["evidence"]) if proposal else ()
    writes = linking_writes(table, own, other, "confirmed", f"{caller.member.id}/{caller.actor}", evidence, now)
    entry = Entry(Kind.LINK_CONFIRMED, caller.member.id, (own, other), subject=link_id(own, other))
    if not writes:
        tell(replace(entry, kind=Kind.READ))
    elif act(writes, entry):
        raise TryAgain("The links were changed at the same moment. Please look, and send it again.")
    found = _links_between(access.load_record(table, own.hash), other)
    return _shown(next(link for link in found if not link.ended), own)


def undo_link(
    table: Table, caller: Caller, patient_id: str, link: str, now: datetime, act: Act, tell: Recorder
) -> dict[str, Any]:
    """Undo a link of one of the caller's own numbers, from the next request on. Again: the same answer. Raises NotFound."""
    own = _own(caller, patient_id)
    record = access.load_record(table, own.hash)
    known = sorted((one for one in record.links if one.id == link), key=lambda one: one.number)
    if not known:
        raise NotFound
    writes: list[Write] = []
    for one in known:
        if not one.ended:
            writes += [PutNew(item) for item in patients.unlinking(one, f"{caller.member.id}/{caller.actor}", now)]
    entry = Entry(Kind.LINK_UNDONE, caller.member.id, (own, known[-1].beyond(own.hash)), subject=link)
    if not writes or act(writes, entry):
        tell(replace(entry, kind=Kind.READ))  # somebody else was first: it is undone
    return _shown(replace(known[-1], ended=True), own)


def _own(caller: Caller, patient_id: str) -> PatientIdentifier:
    return identifiers.patient_identifier(patient_id, None, caller.member.patient_id_issuer)


def _links_between(record: Record, other: PatientIdentifier) -> list[Link]:
    return [link for link in record.links if link.beyond(record.patient) == other]


def _may_know(caller: Caller, other: PatientIdentifier, record: Record) -> bool:
    """Whether the caller may be told that the other number exists: its own, a national one, or one a transfer told it of."""
    if italian.kind(other) != "hospital" or caller.registry.by_issuer(other.issuer) == caller.institution:
        return True
    if any(other in (transfer.patient, transfer.receiving) for transfer in record.transfers):
        return True
    return any(
        link.beyond(record.patient) == other and (link.basis == "transfer" or link.by.startswith(f"{caller.member.id}/"))
        for link in record.links
    )


def _proposals(table: Table, caller: Caller, own: PatientIdentifier, record: Record, now: datetime) -> list[dict[str, Any]]:
    """Other numbers in studies that the caller may see whose patient has the same name."""
    viewer = caller.member.id
    person = _person(table, viewer, own)
    if person is None:
        return []
    name = name_key((person.get("00100010", {}).get("Value") or [""])[0])
    if not name:
        return []
    rows: list[dict[str, Any]] = []
    for item in table.query_all(f"N#{viewer}", f"{name}#", index="gsi4", page=_MAX_ROWS):
        rows.append(item.data)
        if len(rows) >= _MAX_ROWS:
            break
    seen: dict[PatientIdentifier, Attributes] = {}
    for row, decided in zip(rows, access.decide(table, viewer, rows, now), strict=True):
        for number in row["patients"]:
            other = PatientIdentifier(number["issuer"], number["id"])
            if decided.decision.allowed and other != own:
                seen.setdefault(other, row["attributes"])
    linked = set(record.linked)
    undone = {link.beyond(own.hash) for link in record.links if link.ended}
    proposals = []
    for other, attributes in sorted(seen.items())[:_MAX_CANDIDATES]:
        if other not in linked:
            proposals.append(_proposal(table, own, other, person, attributes, undone=other in undone))
    return proposals


def _proposal(
    table: Table, own: PatientIdentifier, other: PatientIdentifier, person: Attributes, attributes: Attributes, *, undone: bool
) -> dict[str, Any]:
    evidence: list[str] = ["same-name"]
    against: list[str] = []
    for tag, what in (("00100030", "birth-date"), ("00100040", "sex")):
        mine, theirs = first_value(person, tag), first_value(attributes, tag)
        if mine and theirs:
            (evidence if mine == theirs else against).append(f"{'same' if mine == theirs else 'different'}-{what}")
    mine_codes, their_codes = _codes(table, own), _codes(table, other)
    if mine_codes and their_codes:
        same = bool(mine_codes & their_codes)
        (evidence if same else against).append("same-codice-fiscale" if same else "different-codice-fiscale")
    if undone:
        against.append("undone-before")
    return {
        "link": link_id(own, other),
        "status": "proposed",
        "identifier": {"issuer": other.issuer, "id": other.value},
        "evidence": evidence,
        "against": against,
    }


def _codes(table: Table, number: PatientIdentifier) -> set[str]:
    """The codici fiscali of a number: those linked to it."""
    record = access.load_record(table, number.hash)
    return {one.value for one in record.linked if italian.kind(one) == "codice-fiscale"}


def _person(table: Table, viewer: str, own: PatientIdentifier) -> Attributes | None:
    for item in table.query(f"P#{viewer}#{own.value}", index="gsi1", limit=20).items:
        if {"issuer": own.issuer, "id": own.value} in item.data["patients"]:  # type: ignore[operator]
            attributes: Attributes = item.data["attributes"]  # type: ignore[assignment]
            return attributes
    return None


def _shown(link: Link, own: PatientIdentifier) -> dict[str, Any]:
    other = link.beyond(own.hash)
    return {
        "link": link.id,
        "status": "undone" if link.ended else "confirmed",
        "identifier": {"issuer": other.issuer, "id": other.value},
        "kind": italian.kind(other),
        "basis": link.basis,
        "by": link.by.split("/")[0],
        "at": link.at,
        "evidence": list(link.evidence),
        "against": [],
    }
