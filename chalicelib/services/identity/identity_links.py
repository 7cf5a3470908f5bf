"""Patients are linked, never merged: proposing, confirming and undoing links between identifiers.

Whatever `services.identity.linking` does not link by itself is confirmed by somebody, and can be undone; an undone one never
comes back by itself. Nobody is told of another hospital's number but through a transfer, or through a study that it may see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice

from chalicelib.dicomweb.person_names import name_key
from chalicelib.domain import identifiers, italian, keys, tags
from chalicelib.domain.audit import Act, Entry, Kind, Recorder
from chalicelib.domain.dicom_json import Attributes, first_value
from chalicelib.domain.errors import BadRequest, Conflict, NotFound, TryAgain
from chalicelib.domain.fields import fields
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.patients import IdentityLink, Record, link_id
from chalicelib.domain.ports import Table
from chalicelib.domain.study_views import SearchRow
from chalicelib.services import access
from chalicelib.services.identity import linking
from chalicelib.services.registry import Caller
from chalicelib.services.search_rows import indexed


@dataclass(frozen=True)
class ShownLink:
    """A link of a number as its hospital is shown it: to `identifier`; `status`: proposed, confirmed or undone."""

    link: str
    status: str
    identifier: PatientIdentifier
    evidence: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    made: IdentityLink | None = None

    def to_json(self) -> JsonObject:
        """As it is answered; of one that was made, also by whom, when, and on what it rests."""
        made = self.made
        return {
            "link": self.link,
            "status": self.status,
            "identifier": self.identifier.to_item(),
            **(
                {"kind": italian.kind(self.identifier), "basis": made.basis, "by": made.by.split("/")[0], "at": made.at}
                if made
                else {}
            ),
            "evidence": list(self.evidence),
            "against": list(self.against),
        }


_MAX_CANDIDATES = 20
_MOST_MERGED = 8  # other numbers of the house, each of which is looked beyond
_MAX_ROWS = 200
_MAX_OWN_ROWS = 20
_ATTEMPTS = 3


def list_links(table: Table, caller: Caller, patient_id: str, now: datetime, tell: Recorder) -> JsonObject:
    """Links of one of the caller's own numbers, and proposals with evidence for and against.

    Proposed are only numbers of studies that the caller may already see. Raises NotFound for a number with nothing known.
    """
    own = _own(caller, patient_id)
    record = access.load_deciding(table, own.hash)
    live = sorted((link for link in record.links if not link.ended), key=lambda link: not link.rests_on_code)
    known = {link.id: link for link in live if _may_know(table, caller, link, record)}  # what a code joins too, as the other
    confirmed = [known[link] for link in sorted(known)]
    proposed = _proposals(table, caller, own, record, now)
    if not record.links and not record.transfers and not proposed and not _is_known(table, own):
        raise NotFound
    tell(Entry(Kind.READ, caller.member.id, (own,)))
    return {"links": [shown.to_json() for shown in (*(_shown(link, own) for link in confirmed), *proposed)]}


def confirm_link(
    table: Table, caller: Caller, patient_id: str, body: object, now: datetime, act: Act, tell: Recorder
) -> JsonObject:
    """Confirm that one of the caller's own numbers and another one are the same patient's.

    The other is the caller's own too, or one that is proposed. Raises BadRequest, NotFound, Conflict when evidence forbids it.
    """
    own = _own(caller, patient_id)
    said = fields(body, ("id", "issuer", "link"))
    for _ in range(_ATTEMPTS):
        record = access.load_deciding(table, own.hash)
        other, evidence = _chosen(table, caller, own, record, said, now)
        if linking.compare_codes(record, access.load_deciding(table, other.hash)) == "different":
            raise Conflict("The two records carry different codici fiscali: they are not the same patient's.")
        by = f"{caller.member.id}/{caller.actor}"
        writes = linking.linking_writes(record, own, other, linking.CONFIRMED, by, evidence, now)
        entry = Entry(Kind.LINK_CONFIRMED, caller.member.id, (own, other), subject=link_id(own, other))
        if not writes:
            tell(replace(entry, kind=Kind.READ))
        if not writes or not act(writes, entry):
            found = linking.between(access.load_deciding(table, own.hash), other)
            return _shown(found[-1], own).to_json()
    raise TryAgain("The links were changed at the same moment. Please look, and send it again.")


def _chosen(
    table: Table, caller: Caller, own: PatientIdentifier, record: Record, body: Mapping[str, object], now: datetime
) -> tuple[PatientIdentifier, tuple[str, ...]]:
    """The number that a confirmation means, and the evidence for it. Raises NotFound, BadRequest."""
    linked = [_shown(link, own) for link in record.links if not link.ended and _may_know(table, caller, link, record)]
    proposals = linked + _proposals(table, caller, own, record, now)
    chosen = [proposal.identifier for proposal in proposals if proposal.link == body.get("link")]
    if body.get("link") is not None and not chosen:
        raise NotFound
    issuer = caller.member.patient_id_issuer
    named = chosen or [identifiers.patient_identifier(body.get("id"), body.get("issuer"), issuer, ("id", "issuer"))]
    other = named[0]
    if other == own:
        raise BadRequest("A number cannot be linked to itself.", "id")
    proposal = next((proposal for proposal in proposals if proposal.identifier == other), None)
    if proposal is None and caller.registry.by_issuer(other.issuer) != caller.institution:
        raise NotFound
    return other, proposal.evidence if proposal else ()


def undo_link(table: Table, caller: Caller, patient_id: str, link: str, now: datetime, act: Act, tell: Recorder) -> JsonObject:
    """Undo a link of one of the caller's own numbers, from the next request on. Again: the same answer. Raises NotFound."""
    own = _own(caller, patient_id)
    for _ in range(_ATTEMPTS):
        record = access.load_deciding(table, own.hash)
        known = sorted((made for made in record.links if made.id == link), key=lambda repeat: (not repeat.ended, repeat.number))
        if not known or not _may_know(table, caller, known[-1], record):
            raise NotFound
        last = known[-1]
        entry = Entry(Kind.LINK_UNDONE, caller.member.id, (own, last.beyond(own.hash)), subject=link)
        if last.ended:
            tell(replace(entry, kind=Kind.READ))
        by = f"{caller.member.id}/{caller.actor}"
        if last.ended or not act(linking.undoing_writes(table, record, last, by, now), entry):
            return _shown(replace(last, ended=True), own).to_json()
    raise TryAgain("The links were changed at the same moment. Please look, and send it again.")


def _own(caller: Caller, patient_id: str) -> PatientIdentifier:
    return identifiers.patient_identifier(patient_id, None, caller.member.patient_id_issuer)


def _is_known(table: Table, number: PatientIdentifier) -> bool:
    """Whether there is a study under this number, or its hospital made it known."""
    partition = keys.patient_facts(number.hash)
    return any(
        table.query(partition, prefix, limit=1).items for prefix in (keys.begins(keys.filed), keys.begins(keys.registration))
    )


def _may_know(table: Table, caller: Caller, link: IdentityLink, record: Record) -> bool:
    """Whether the caller may be told of the number beyond a link: its own, a national one, or one a transfer told it of."""
    other = link.beyond(record.patient)
    if italian.kind(other) != "hospital" or caller.registry.by_issuer(other.issuer) == caller.institution:
        return True
    if link.basis == "transfer" or link.by.startswith(f"{caller.member.id}/"):
        return True
    theirs = access.load_deciding(table, other.hash)
    touching = [transfer for known in (record, theirs) for transfer in known.transfers]
    naming = [transfer for transfer in touching if other in (transfer.patient, transfer.receiving)]
    return any(caller.member.id in (transfer.sender, transfer.receiver) for transfer in naming)


def _proposals(table: Table, caller: Caller, own: PatientIdentifier, record: Record, now: datetime) -> list[ShownLink]:
    """Other numbers in studies that the caller may see, whose patient has the same name, or a codice fiscale that is the same
    without omocodia; and those beyond another number of its own that is linked to this one."""
    person = _person(table, caller.member.id, own)
    seen = _alike(table, caller.member.id, record, person, now) if person else {}
    beyond = _beyond(table, caller, record)
    new = (other for other in {*seen, *beyond} if other != own and other not in record.linked)
    candidates = sorted(new, key=lambda other: (other not in beyond, other))[:_MAX_CANDIDATES]
    return [_proposal(table, own, record, other, person or {}, seen.get(other, {}), other in beyond) for other in candidates]


def _beyond(table: Table, caller: Caller, record: Record) -> set[PatientIdentifier]:
    """What is linked to another number of the caller's own that is linked to this one: links are not followed further, so that
    after a merge (HL7 A40) the number that stays has to be linked to it as well."""
    found: set[PatientIdentifier] = set()
    house = (number for number in record.linked if caller.registry.by_issuer(number.issuer) == caller.institution)
    for mine in islice(house, _MOST_MERGED):
        known = access.load_deciding(table, mine.hash)
        beyond = (link for link in known.links if not link.ended and italian.kind(link.beyond(mine.hash)) == "hospital")
        told = {link.beyond(mine.hash) for link in islice(beyond, _MAX_CANDIDATES) if _may_know(table, caller, link, known)}
        found |= told.intersection(known.linked)
    return found


def _alike(table: Table, viewer: str, record: Record, person: Attributes, now: datetime) -> dict[PatientIdentifier, Attributes]:
    """The numbers in studies that the viewer may see of who is named alike, or carries the same code without omocodia; with what
    is said there."""
    name = _name(person)
    rows = _rows(table, keys.rows_by_name(viewer), f"{indexed(name)}#", "gsi4", _MAX_ROWS) if name else []
    alike = linking.carrying_the_like(table, record)
    rows += [row for other in alike for row in _rows(table, keys.rows_by_patient(viewer, other.value), "", "gsi1", _MAX_OWN_ROWS)]
    seen: dict[PatientIdentifier, Attributes] = {}
    for row, _ in access.visible(table, viewer, rows, now):
        for number in row.patients:
            said = next((face for face in row.faces if face.patient == number), row.face)
            seen.setdefault(number, said.attributes)
    return seen


def _rows(table: Table, index_key: str, begins: str, index: str, most: int) -> list[SearchRow]:
    items = islice(table.query_all(index_key, begins, index=index, page=most), most)
    return [SearchRow.from_item(item.data) for item in items]


def _name(attributes: Attributes) -> str:
    """As names are compared; none where it stands in for one: all newborns and all unknown persons would be proposed."""
    name = name_key((attributes.get(tags.PatientName, {}).get("Value") or [""])[0])
    return "" if italian.is_stand_in(name) else name


def _proposal(
    table: Table,
    own: PatientIdentifier,
    record: Record,
    other: PatientIdentifier,
    person: Attributes,
    attributes: Attributes,
    beyond: bool,
) -> ShownLink:
    evidence: list[str] = [linking.BEYOND] if beyond else []
    against: list[str] = []
    known = [
        (_name(said), first_value(said, tags.PatientBirthDate), first_value(said, tags.PatientSex))
        for said in (person, attributes)
    ]
    for what, mine, theirs in zip(("name", "birth-date", "sex"), *known, strict=True):
        if mine and theirs:
            (evidence if mine == theirs else against).append(f"{'same' if mine == theirs else 'different'}-{what}")
    carried = access.load_deciding(table, other.hash)
    match linking.compare_codes(record, carried):
        case "same":
            evidence.append("same-codice-fiscale")
        case "omocodia":
            against.append("different-omocodia")
        case "different":
            against.append("different-codice-fiscale")
    if linking.between(record, other):
        against.append("undone-before")
    return ShownLink(link_id(own, other), "proposed", other, tuple(evidence), tuple(against))


def _person(table: Table, viewer: str, own: PatientIdentifier) -> Attributes | None:
    for item in table.query(keys.rows_by_patient(viewer, own.value), index="gsi1", limit=20).items:
        row = SearchRow.from_item(item.data)
        if own in row.patients and row.face.patient in (None, own):
            return row.attributes
    return None


def _shown(link: IdentityLink, own: PatientIdentifier) -> ShownLink:
    return ShownLink(link.id, "undone" if link.ended else "confirmed", link.beyond(own.hash), link.evidence, made=link)
