"""Making and ending links between patient identifiers: what the archive does by itself, and the writes of what people do.

A link is made without a person only where both records carry the same valid codice fiscale, the birth date and sex that it
encodes agree with both, and neither has the given name of another than it was given to; where the two codes are equal only
without omocodia, only where both name the same person in full.
It ends by itself as soon as a record says otherwise, and then never comes back by itself. What joins two numbers by a code rests
on the link of each to that code: when either ends, it ends with it.
Whatever its basis, a link of two numbers that carry different codici fiscali is ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from hashlib import sha256
from itertools import combinations, islice

from chalicelib.dicomweb.person_names import name_key
from chalicelib.domain import identifiers, italian, keys, patients, tags, transfers
from chalicelib.domain.demographics import Demographics
from chalicelib.domain.dicom_json import first_value
from chalicelib.domain.errors import TryAgain
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.instance_summary import InstanceSummary
from chalicelib.domain.institutions import Registry
from chalicelib.domain.patients import ABOUT, AUTOMATIC, CodeCarrier, IdentityLink, Record, Statement, link_id
from chalicelib.domain.ports import Item, Key, PutNew, Table, Write
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.studies import for_deciding
from chalicelib.domain.study_views import StudyView
from chalicelib.services import access
from chalicelib.services.identity import codice_fiscale
from chalicelib.services.identity.codice_fiscale import CodiceFiscale
from chalicelib.services.registry import load_registry

MAX_CARRIERS = 16
"""Numbers that one codice fiscale joins by itself. Nobody is known to so many; a code with more joins nothing."""
MAX_RENAMED = 40
MAX_WRITES = 90
_MOST_READ = 2000
_ATTEMPTS = 5
ARCHIVE = "archive"
CONFIRMED = "confirmed"
"""What a link rests on that a person, or a hospital's registration, made."""
BEYOND = "linked-to-own-number"
"""What speaks for a number that another number of the same house is linked to."""


def carrying(owner: str, registry: Registry, patient: PatientIdentifier, summary: InstanceSummary) -> Iterator[Item]:
    """The facts of what a patient's images state, and that they carry a codice fiscale.

    It may stand in Patient ID or in Other Patient IDs (0010,1000 and 0010,1002), under its issuer or under none. What
    `owner` says of another member's numbers is not believed.
    """
    member = registry.by_issuer(patient.issuer)
    if member is not None and member.id != owner:
        return
    named = [(patient.value, patient.issuer)]
    named += [(other.id, other.issuer_universal_id or other.issuer) for other in summary.other_ids]
    birth = first_value(summary.attributes, tags.PatientBirthDate)
    sex = first_value(summary.attributes, tags.PatientSex)
    name = name_key((summary.attributes.get(tags.PatientName, {}).get("Value") or [""])[0])
    codes: list[CodiceFiscale] = []
    for value, issuer in dict.fromkeys(named):
        if identifiers.is_oid(issuer) and issuer != italian.CODICE_FISCALE and (value, issuer) != named[0]:
            continue
        if (fiscal := codice_fiscale.read(value)) is not None:
            codes.append(fiscal)
    yield from _saying(patient, Statement(birth, sex), name, codes)


def stated(own: PatientIdentifier, known: Demographics) -> list[Item]:
    """The same of what a hospital's registration says of its own number: only what stands under the codice fiscale's issuer."""
    codes = [code for code in map(codice_fiscale.read, known.codes) if code is not None]
    return list(_saying(own, Statement(known.birth_date, known.sex), name_key(known.name), codes))


def _saying(patient: PatientIdentifier, said: Statement, name: str, codes: Sequence[CodiceFiscale]) -> Iterator[Item]:
    """The facts that a record states this birth date, sex and name, and carries these codici fiscali, each once.

    All that carry one stand in the partition of what it is without omocodia.
    """
    for fiscal in dict.fromkeys(codes):
        data: dict[str, object] = {
            "issuer": patient.issuer,
            "id": patient.value,
            "code": fiscal.code,
            "birth_date": said.birth_date,
            "sex": said.sex,
            "name": name,
            "written": fiscal.written,
        }
        digest = sha256("\n".join((said.birth_date, said.sex, name, fiscal.written)).encode()).hexdigest()[:8]
        yield Item(_carriers_of(fiscal), keys.carries(patient.hash, digest), data)
    if said.birth_date or said.sex or codes:
        for code in dict.fromkeys([fiscal.code for fiscal in codes] or [""]):
            yield patients.stating(patient, replace(said, code=code))


def _carriers_of(fiscal: CodiceFiscale) -> str:
    return keys.patient_facts(PatientIdentifier(italian.CODICE_FISCALE, fiscal.code).hash)


def link_carriers(table: Table, code: str, now: datetime) -> None:
    """Link those that carry the codice fiscale with this hash (without omocodia) and agree with it; end automatic links that no
    longer do."""
    carriers = _under_own_numbers(table, _carriers(table, code))
    fiscal = codice_fiscale.read(carriers[0].code) if carriers else None
    if fiscal is None:
        return
    verdict = patients.judge(carriers, fiscal.birth, fiscal.sex)
    denying = _denying(table, verdict.agreeing, fiscal)
    agreeing = verdict.agreeing - verdict.contradicting - denying
    few = (
        agreeing if len(agreeing) <= MAX_CARRIERS else frozenset[PatientIdentifier]()
    )  # more are joined to nobody, whatever their names
    apart = patients.named_apart(carriers, few, partial(codice_fiscale.encodes, fiscal))
    agreeing -= apart
    joined = patients.by_written_code(carriers, agreeing)
    for written, numbers in joined.items():
        _join(table, PatientIdentifier(italian.CODICE_FISCALE, written), numbers, now)
    for identifier in sorted(verdict.contradicting | denying | apart):
        _end_automatic(table, access.load_deciding(table, identifier.hash), now)
    if len(joined) > 1:
        for identifier in sorted(agreeing):
            _end_other_codes(table, identifier, {code for code, numbers in joined.items() if identifier in numbers}, fiscal, now)


def _carriers(table: Table, code: str) -> Sequence[CodeCarrier]:
    return patients.fold(code, islice(table.query_all(keys.patient_facts(code), keys.begins(keys.carries)), _MOST_READ)).carriers


def _join(table: Table, itself: PatientIdentifier, agreeing: frozenset[PatientIdentifier], now: datetime) -> None:
    """Link numbers to a codice fiscale, and to each other."""
    if not agreeing or len(agreeing | {itself}) > MAX_CARRIERS + 1:
        return
    for number in sorted(agreeing - {itself}):  # first to the code: what rests on that comes after it
        _link(table, min(number, itself), max(number, itself), now)
    joined = agreeing & set(access.load_deciding(table, itself.hash).linked)
    for number, other in combinations(sorted(joined), 2):
        _link(table, number, other, now)


def _end_other_codes(table: Table, number: PatientIdentifier, joining: set[str], fiscal: CodiceFiscale, now: datetime) -> None:
    """End the automatic links of a number to codes that differ from this one in omocodia and do not join it, and what rested
    on them alone."""
    record = access.load_deciding(table, number.hash)
    for link in record.links:
        code = codice_fiscale.read(link.beyond(number.hash).value) if _is_to_code(link, number) else None
        if code is not None and code.code == fiscal.code and code.written not in joining:
            _end(table, link, now)
    record = access.load_deciding(table, number.hash)
    for link in resting_on_codes(record):
        if not record.joins(access.load_deciding(table, link.beyond(number.hash).hash)):
            _end(table, link, now)


def _is_to_code(link: IdentityLink, number: PatientIdentifier) -> bool:
    return link.basis == AUTOMATIC and not link.ended and italian.kind(link.beyond(number.hash)) == "codice-fiscale"


def _link(table: Table, one: PatientIdentifier, other: PatientIdentifier, now: datetime) -> None:
    """Link two numbers automatically, once: a link that was ended does not come back by itself."""
    link = IdentityLink(link_id(one, other), 1, one, other, AUTOMATIC, ARCHIVE, iso(now), ("same-codice-fiscale",))
    table.transact([PutNew(item) for item in patients.linking(link)])


def _denying(table: Table, agreeing: Iterable[PatientIdentifier], fiscal: CodiceFiscale) -> set[PatientIdentifier]:
    """Those of the numbers of which some image, though it does not carry the code, says that it is another person's: another
    code, birth date or sex."""
    return {number for number in agreeing if any(_denies(said, fiscal) for said in _statements(table, number))}


def _statements(table: Table, number: PatientIdentifier) -> list[Statement]:
    return [patients.statement(item) for item in islice(table.query_all(keys.patient_facts(number.hash), ABOUT), _MOST_READ)]


def _denies(said: Statement, fiscal: CodiceFiscale) -> bool:
    return bool(said.code and said.code != fiscal.code) or patients.contradicts(said, fiscal.birth, fiscal.sex)


def check_again(table: Table, record: Record, now: datetime) -> None:
    """After an image said something of a number: whether what its codici fiscali join still holds."""
    for code in sorted(record.codes):
        check_code(table, code, now)


def check_code(table: Table, code: PatientIdentifier, now: datetime) -> None:
    """Whether what a codice fiscale joins, however it is written, still holds."""
    fiscal = codice_fiscale.read(code.value)
    if fiscal is not None:
        link_carriers(table, PatientIdentifier(italian.CODICE_FISCALE, fiscal.code).hash, now)


def _under_own_numbers(table: Table, said: Sequence[CodeCarrier]) -> list[CodeCarrier]:
    """What carries a code, and the same under the number of its hospital's own where it is filed under a name of that."""
    if not any("/" in carrier.identifier.issuer for carrier in said):
        return list(said)
    registry = load_registry(table)
    found = dict.fromkeys(said)
    for carrier in said:
        member = registry.by_issuer(carrier.identifier.issuer)
        if member is not None:
            found.setdefault(replace(carrier, identifier=member.own(carrier.identifier)))
    return list(found)


def review(table: Table, record: Record, now: datetime) -> None:
    """End the links of an identifier that cannot be: those between different codici fiscali.

    A number that carries two codes is nobody's for certain: all its automatic links end. A number whose code is another than
    that of a number it is linked to is another patient's: that link ends, whoever made it.
    """
    mine = codes(record)
    if len(mine) > 1:
        _end_automatic(table, record, now)
        return
    if not mine:
        _end_resting_on_code(table, record, now)
    for link in record.links:
        other = link.beyond(record.patient)
        if not link.ended and mine and italian.kind(other) != "codice-fiscale":
            theirs = codes(access.load_deciding(table, other.hash))
            if theirs and not theirs & mine:
                _end(table, link, now)


def codes(record: Record) -> set[str]:
    """The codici fiscali, without omocodia, of a number: itself, or those linked to it."""
    itself = {side for link in record.links for side in (link.one, link.other) if side.hash == record.patient}
    fiscal = [number.value for number in {*record.linked, *itself} if italian.kind(number) == "codice-fiscale"]
    return {known.code for value in fiscal if (known := codice_fiscale.read(value)) is not None}


def compare_codes(one: Record, other: Record) -> str:
    """How the codici fiscali of two numbers compare: `same`, `omocodia` (equal only without it: perhaps another person's),
    `different`, or `unknown` where one of them carries none."""
    if one.codes & other.codes:
        return "same"
    mine, theirs = codes(one), codes(other)
    if not mine or not theirs:
        return "unknown"
    return "omocodia" if mine & theirs else "different"


def carrying_the_like(table: Table, record: Record) -> list[PatientIdentifier]:
    """Numbers that carry a codice fiscale which is the same as that of a number but for omocodia, and are not linked to it."""
    own = {code.value for code in record.codes}
    found: set[PatientIdentifier] = set()
    for code in codes(record):
        said = _carriers(table, PatientIdentifier(italian.CODICE_FISCALE, code).hash)
        found |= {carrier.identifier for carrier in said if (carrier.written or carrier.code) not in own}
    return sorted(other for other in found - set(record.linked) if other.hash != record.patient)[:MAX_CARRIERS]


def linking_writes(
    record: Record,
    one: PatientIdentifier,
    other: PatientIdentifier,
    basis: str,
    by: str,
    evidence: tuple[str, ...],
    now: datetime,
) -> list[Write]:
    """The writes that link `one`, whose record is given, to `other`; none when they are linked already, or are the same. What a
    person, or a registration, says of two that only a codice fiscale joined is kept beside that, and does not end with it."""
    if one == other:
        return []
    known = between(record, other)
    if any(not link.ended and not (basis == CONFIRMED and link.rests_on_code) for link in known):
        return []
    number = max((link.number for link in known), default=0) + 1
    link = IdentityLink(link_id(one, other), number, one, other, basis, by, iso(now), evidence)
    return [PutNew(item) for item in patients.linking(link)]


def ending_writes(table: Table, link: IdentityLink, by: str, now: datetime) -> list[PutNew]:
    """The writes that end a link, and with it the acceptances that named the number: no trace of it is shown."""
    facts = patients.unlinking(link, by, now)
    renamed = 0
    for side in (link.one, link.other):
        for transfer in access.load_deciding(table, side.hash).transfers:
            if (transfer.patient, transfer.receiving) == (side, link.beyond(side.hash)) and renamed < MAX_RENAMED:
                waiting = transfers.changing(transfer.unaccepted())
                facts += [replace(fact, data=fact.data | {"by": by, "at": iso(now)}) for fact in waiting]
                renamed += 1
    return [PutNew(fact) for fact in facts]


def between(record: Record, other: PatientIdentifier) -> list[IdentityLink]:
    """The links of an identifier with another one, those that ended included."""
    return [link for link in record.links if link.beyond(record.patient) == other]


def resting_on_codes(record: Record) -> list[IdentityLink]:
    """The links of a number that hold only because it is linked to a codice fiscale."""
    return [link for link in record.links if not link.ended and link.rests_on_code]


def undoing_writes(table: Table, record: Record, link: IdentityLink, by: str, now: datetime) -> list[Write]:
    """The writes that undo what links the number whose record is given to another one, and what rested on it: where the other
    is a codice fiscale, all that this code joined to the number; where both are numbers of one house (a merge that was none),
    what was confirmed of either only because the other one was linked to it. What does not fit the transaction of a code, the
    projector ends (`review`)."""
    other = link.beyond(record.patient)
    undone = [made for made in between(record, other) if not made.ended]
    if italian.kind(other) == "codice-fiscale":
        undone += resting_on_codes(record)
    elif link.one.issuer == link.other.issuer:
        theirs = access.load_deciding(table, other.hash)
        undone += [*_resting_on_merge(record, theirs), *_resting_on_merge(theirs, record)]
    writes: dict[Key, Write] = {}
    for each in undone:  # two links of one pair end the same acceptances, which a transaction may name once
        more = {write.item.key: write for write in ending_writes(table, each, by, now)}
        writes |= more if len(writes | more) <= MAX_WRITES else {}
    return list(writes.values())


def _resting_on_merge(record: Record, merged: Record) -> list[IdentityLink]:
    """The links of a number that were confirmed since one that it was merged with had them, and for no reason of their own."""
    there = set(merged.linked)
    return [
        link
        for link in record.links
        if not link.ended and _rests_on_other_number(link.evidence) and link.beyond(record.patient) in there
    ]


def _rests_on_other_number(evidence: Sequence[str]) -> bool:
    """Whether what spoke for a link was that another number of the house has it, and nothing that says who it is."""
    own = {"same-codice-fiscale"} & set(evidence) or {"same-name", "same-birth-date"} <= set(evidence)
    return BEYOND in evidence and not own


def _end_resting_on_code(table: Table, record: Record, now: datetime) -> None:
    for link in resting_on_codes(record):
        _end(table, link, now)


def _end_automatic(table: Table, record: Record, now: datetime) -> None:
    for link in record.links:
        if link.basis == AUTOMATIC and not link.ended:
            _end(table, link, now)


def _end(table: Table, link: IdentityLink, now: datetime) -> None:
    """End a link. Raises TryAgain when its transfers keep changing meanwhile."""
    ended = patients.unlinking(link, ARCHIVE, now)[0].key
    for _ in range(_ATTEMPTS):
        if not table.transact(ending_writes(table, link, ARCHIVE, now)) or table.get(*ended) is not None:
            return
    raise TryAgain


def leave(table: Table, patient: str, study: tuple[str, str], now: datetime) -> None:
    """End the automatic links of a number that nothing is left of: corrections took it from its only study.

    What that study's images said of the codice fiscale was somebody else's; what its hospital's registration said of it stays.
    """
    record = access.load_record(table, patient)
    if any(said.codes for said in record.stated):
        return
    others = [keys.study_view(uid, owner) for owner, uid in record.studies if (owner, uid) != study]
    if any(patient in for_deciding(StudyView.from_item(view.data)).patients for view in table.batch_get(others).values()):
        return
    for link in record.links:
        other = link.beyond(patient)
        if link.ended or link.basis != AUTOMATIC or italian.kind(other) != "codice-fiscale":
            continue
        fiscal = codice_fiscale.read(other.value)
        partition = _carriers_of(fiscal) if fiscal else keys.patient_facts(other.hash)
        for item in list(table.query_all(partition, keys.carries(patient, ""))):
            if not item.sk.endswith(patients.END):
                table.put(PutNew(Item(item.pk, item.sk + patients.END, {"at": iso(now), "by": ARCHIVE})))
        _end(table, link, now)
