"""Deciding on facts: loads what `domain.sharing.decide` needs, consistently, at the moment of the request.

Two consistent reads, one after the other, besides the data itself: the partitions of the patient and of its linked
identifiers, side by side; and, in one BatchGet, the ends of the transfers found there and the withdrawal of the study.

A refusal reads as much whether nothing is there or something is hidden (`equalise_reads`), so that the two take the same time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime

from chalicelib.domain import keys, patients, sharing, shown_patients, transfers
from chalicelib.domain.errors import NotFound
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.patients import Record
from chalicelib.domain.ports import Key, Table
from chalicelib.domain.sharing import DENIED, Decision, PatientFacts
from chalicelib.domain.studies import for_deciding, is_withdrawal
from chalicelib.domain.study_views import FiledStudy, SearchFace, SearchRow, StudyView
from chalicelib.domain.transfers import Transfer

WIDTH = 6
"""Partitions that a refusal reads at least: the patient's, and those of as many linked numbers as nearly all patients have."""
_PARALLEL = 8
_NOBODY = "0" * 32


@dataclass(frozen=True)
class LoadedPatient:
    """All that is known of one patient identifier: its own record, those of its linked identifiers, and what decides."""

    record: Record
    linked: tuple[Record, ...]
    facts: PatientFacts
    transfers: tuple[Transfer, ...]
    """Those that touch it or a linked identifier, with `ended` looked up."""

    @property
    def numbers(self) -> tuple[PatientIdentifier, ...]:
        """The identifiers that are linked to it now."""
        joined = {record.patient for record in self.linked}
        return tuple(number for number in self.record.linked if number.hash in joined)


@dataclass(frozen=True)
class LoadedFacts:
    """What was read: what is known of each patient hash that was asked for, and which of the further keys are there.

    A withdrawal that has ended counts as not there. `partitions` of patients were read, in so many `rounds`, one after the other.
    """

    known: Mapping[str, LoadedPatient]
    there: frozenset[Key] = frozenset()
    partitions: int = 0
    rounds: int = 0


@dataclass(frozen=True)
class StudyDecision:
    """A decision, and the records it was made from, by patient hash."""

    decision: Decision
    known: Mapping[str, LoadedPatient]
    granted: Decision = DENIED
    """The same as if the owner had not withdrawn the study."""
    hidden: bool = False
    """Whether an objection or a protection keeps the study from the viewer."""

    def numbers(self) -> tuple[PatientIdentifier, ...]:
        """The numbers that are linked to the study's patients."""
        found: set[PatientIdentifier] = set()
        for loaded in self.known.values():
            found |= {*loaded.numbers}
        return tuple(sorted(found))

    def used(self) -> tuple[Transfer, ...]:
        """The transfers by which the study is open."""
        found = {t.id: t for loaded in self.known.values() for t in loaded.transfers if t.id in self.decision.transfers}
        return tuple(found[key] for key in sorted(found))


def load_record(table: Table, patient: str) -> Record:
    """The whole record of one patient identifier, read consistently."""
    return patients.fold(patient, table.query_all(keys.patient_facts(patient)))


def load_deciding(table: Table, patient: str) -> Record:
    """What decides in the record of one patient identifier, read consistently; not which studies it has."""
    return patients.fold(patient, table.query_all(keys.patient_facts(patient), between=patients.DECIDING))


def is_known(table: Table, number: PatientIdentifier, institution: str) -> bool:
    """Whether an institution has a patient of this number: a study, or what its registration said. Two reads at the most."""
    partition = keys.patient_facts(number.hash)
    kinds = (f"{keys.begins(keys.filed)}{institution}#", keys.begins(keys.registration))
    return any(table.query(partition, kind, limit=1).items for kind in kinds)


def owners_of(table: Table, patient: str) -> list[str]:
    """The institutions that have studies of a patient identifier or of those linked to it.

    It reads as many partitions whether or not anything is known of the patient.
    """
    record = load_deciding(table, patient)
    around = [patient, *(number.hash for number in record.linked)]
    around += [f"{number:032d}" for number in range(1, WIDTH - len(around) + 1)]

    def owners(identifier_hash: str) -> list[str]:
        return [
            patients.owner_and_study(item.sk)[0]
            for item in table.query_all(keys.patient_facts(identifier_hash), keys.begins(keys.filed))
        ]

    with ThreadPoolExecutor(_PARALLEL) as pool:
        return sorted({owner for found in pool.map(owners, around) for owner in found})


def load_facts(table: Table, wanted: Iterable[str], hints: Iterable[str] = (), also: Iterable[Key] = ()) -> LoadedFacts:
    """What is known of each patient hash; and which of the keys in `also` exist, read in the same BatchGet.

    `hints`: hashes that are probably linked, read at once with the others; a link that no hint foretold costs one more read.
    """
    asked = list(dict.fromkeys(wanted))
    records = _load(table, [*asked, *hints])
    missing = sorted({number.hash for patient in asked for number in records[patient].linked} - records.keys())
    rounds = bool(records) + bool(missing)
    records |= _load(table, missing)
    touching = {
        patient: [
            records[patient],
            *(records[number.hash] for number in records[patient].linked if records[patient].joins(records[number.hash])),
        ]
        for patient in asked
    }
    found = {transfer.id for each in touching.values() for record in each for transfer in record.transfers}
    ends = {(keys.transfer_facts(transfer), keys.END) for transfer in found or ([_NOBODY] if asked else [])}
    found_items = table.batch_get([*sorted(ends), *also]) if ends or also else {}
    there = frozenset(key for key, item in found_items.items() if is_withdrawal(item))
    known = {patient: _known(each, there) for patient, each in touching.items()}
    return LoadedFacts(known, there, len(records), rounds)


def equalise_reads(table: Table, read: LoadedFacts) -> None:
    """Before refusing: read as many partitions of nobody as make the refusal look like any other."""
    if read.rounds == 0:
        more = load_facts(table, [_NOBODY])
        read = replace(read, partitions=more.partitions, rounds=1)
    if read.rounds == 1:
        load_deciding(table, _NOBODY)
        read = replace(read, partitions=read.partitions + 1, rounds=2)
    _load(table, [f"{number:032d}" for number in range(1, WIDTH - read.partitions + 1)])


def decide(table: Table, viewer: str, filed: Sequence[FiledStudy], now: datetime) -> list[StudyDecision]:
    """Whether `viewer` may see each study (its view, or a search row) now. A withdrawn one nobody sees, not even its owner."""
    return _decide(table, viewer, filed, now)[0]


def visible(table: Table, viewer: str, rows: Sequence[SearchRow], now: datetime) -> list[tuple[SearchRow, StudyDecision]]:
    """Those of the search rows whose study `viewer` may see now.

    A row that says a number which is not linked any more is answered as if it never had been: under the number in the images.
    """
    decided = decide(table, viewer, rows, now)
    return [
        (as_linked_now(row, decision), decision) for row, decision in zip(rows, decided, strict=True) if decision.decision.allowed
    ]


def find_study(
    table: Table, viewer: str, study_instance_uid: str, owner: str | None, now: datetime
) -> tuple[StudyView, StudyDecision]:
    """The study that `viewer` means by this UID: its own first, else another's that it may see. Raises NotFound.

    `owner` picks one of several owners of the same UID.
    """
    views = [StudyView.from_item(item.data) for item in table.query_all(keys.study_views(study_instance_uid))]
    candidates = [view for view in views if owner in (None, view.owner)]
    own = [view for view in candidates if view.owner == viewer and not view.gone]
    if own and not is_withdrawal(table.get(*keys.withdrawn_study(viewer, study_instance_uid))):
        return own[0], StudyDecision(Decision(True), {})
    others = sorted((view for view in candidates if view.owner != viewer), key=lambda view: view.owner)
    decided, read = _decide(table, viewer, others, now)
    for view, found in zip(others, decided, strict=True):
        if found.decision.allowed:
            return view, found
    equalise_reads(table, read)
    raise NotFound


def numbers_of(study: FiledStudy) -> tuple[str, ...]:
    """The hashes of the numbers whose facts open a study: its patients', and their other spellings."""
    ref = for_deciding(study)
    return (*ref.patients, *(alias for patient in ref.patients for alias in study.aliases.get(patient, ())))


def deciding_numbers(study: FiledStudy) -> tuple[str, ...]:
    """The hashes of all numbers on whose facts it depends who sees a study."""
    return (*numbers_of(study), *study.former, *study.reported)


def facts_of(study: FiledStudy, known: Mapping[str, LoadedPatient]) -> dict[str, PatientFacts]:
    """What decides on a study, by its patients' numbers: that of another spelling counts as if it stood under the number
    itself; of a number that only reports say, what hides."""
    facts = {patient: loaded.facts for patient, loaded in known.items()}
    hiding = [replace(sharing.NOTHING_KNOWN, objections=reported.objections, protections=reported.protections)
              for number in study.reported if (reported := facts.get(number))]  # fmt: skip
    for patient in for_deciding(study).patients if study.aliases or hiding else ():
        spelled = [facts.get(spelling, sharing.NOTHING_KNOWN) for spelling in (patient, *study.aliases.get(patient, ()))]
        facts[patient] = sharing.together([*spelled, *hiding])
    return facts


def _decide(table: Table, viewer: str, filed: Sequence[FiledStudy], now: datetime) -> tuple[list[StudyDecision], LoadedFacts]:
    refs = [for_deciding(study) for study in filed]
    needing = [study for study in filed if viewer != study.owner or _relies_on_links(study)]
    wanted = [patient for study in needing for patient in deciding_numbers(study)]
    hints = [linked for study in needing for linked in study.linked]
    withdrawals = [keys.withdrawn_study(ref.owner, ref.study_instance_uid) for ref in refs]
    read = load_facts(table, wanted, hints, withdrawals)
    decided: list[StudyDecision] = []
    for ref, key, study in zip(refs, withdrawals, filed, strict=True):
        facts = facts_of(study, read.known)
        granted = sharing.decide(viewer, ref, facts, now)
        decision = DENIED if key in read.there or study.gone else granted
        records = {patient: read.known[patient] for patient in numbers_of(study) if patient in read.known}
        decided.append(StudyDecision(decision, records, granted, sharing.hidden(viewer, ref, facts)))
    return decided, read


def _relies_on_links(study: FiledStudy) -> bool:
    """Whether it is a search row that is found or shown under a number that is not one of those in the images."""
    if not isinstance(study, SearchRow):
        return False
    return any(
        face.found_as is not None and (face.found_as not in study.patients or shown_patients.is_coerced(face.attributes))
        for face in (study.face, *study.faces)
    )


def as_linked_now(row: SearchRow, decided: StudyDecision) -> SearchRow:
    """A search row without what a link said that is there no more."""
    if not _relies_on_links(row):
        return row
    linked = decided.numbers()
    faces = tuple(_face_as_linked_now(face, row, linked) for face in row.faces)
    return replace(row, face=_face_as_linked_now(row.face, row, linked), faces=faces)


def _face_as_linked_now(face: SearchFace, row: SearchRow, linked: Sequence[PatientIdentifier]) -> SearchFace:
    first = face.patient or row.patients[0]
    if face.found_as not in [*linked, *row.patients]:
        face = replace(face, found_as=first)
    if shown_patients.is_coerced(face.attributes) and shown_patients.shown_number(face.attributes) not in linked:
        face = replace(face, attributes=shown_patients.uncoerced(face.attributes, first.issuer))
    return face


def _load(table: Table, hashes: Sequence[str]) -> dict[str, Record]:
    wanted = list(dict.fromkeys(hashes))
    if len(wanted) <= 1:
        return {patient: load_deciding(table, patient) for patient in wanted}
    with ThreadPoolExecutor(min(_PARALLEL, len(wanted))) as pool:
        return dict(zip(wanted, pool.map(lambda patient: load_deciding(table, patient), wanted), strict=True))


def _known(records: list[Record], there: frozenset[Key]) -> LoadedPatient:
    touching = {transfer.id: transfer for record in records for transfer in record.transfers}
    current = [
        replace(transfer, ended=(keys.transfer_facts(transfer.id), keys.END) in there) for _, transfer in sorted(touching.items())
    ]
    facts = PatientFacts(
        tuple(
            transfers.grant(
                transfer, transfer.ended, _is_accepted(transfer, records), is_sent(records, transfer.patient, transfer.sender)
            )
            for transfer in current
        ),
        tuple(objection for record in records for objection in record.objections.values()),
        tuple(protection for record in records for protection in record.protections),
        tuple(consent for record in records for consent in record.consents),
        tuple(emergency for record in records for emergency in record.emergencies),
    )
    return LoadedPatient(records[0], tuple(records[1:]), facts, tuple(current))


def is_sent(records: Sequence[Record], patient: PatientIdentifier, sender: str) -> bool:
    """Whether the patient of the first record is the one that is transferred under this number, as far as the archive and the
    sender say so: what the receiver, or anybody else, takes for the same patient opens nothing that the sender has."""
    first, *linked = records
    return first.patient == patient.hash or any(other.patient == patient.hash and first.joins(other, sender) for other in linked)


def _is_accepted(transfer: Transfer, records: Sequence[Record]) -> bool:
    """Whether the receiver accepted the patient of the first record: under this very number, or one of those linked to it."""
    return transfer.receiving is not None and transfer.receiving.hash in {record.patient for record in records}
