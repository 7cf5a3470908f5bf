"""Deciding on facts: loads what `domain.sharing.decide` needs, consistently, at the moment of the request.

Two consistent reads besides the data itself: the partitions of the patient and of its linked identifiers (at once), and,
in one BatchGet, the ends of the transfers found there and the withdrawal of the study. A study that does not exist costs
the same two reads, so that absent and hidden take the same time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalicelib.domain import patients, sharing, transfers
from chalicelib.domain.errors import NotFound
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.patients import Record
from chalicelib.domain.ports import Item, Key, Table
from chalicelib.domain.sharing import DENIED, Decision, PatientFacts
from chalicelib.domain.studies import for_deciding, study_partition
from chalicelib.domain.transfers import Transfer

_PARALLEL = 8
_NOBODY = "0" * 32


@dataclass(frozen=True)
class Known:
    """All that is known of one patient identifier: its own record, those of its linked identifiers, and what decides."""

    record: Record
    linked: tuple[Record, ...]
    facts: PatientFacts
    transfers: tuple[Transfer, ...]
    """Those that touch it or a linked identifier, with `ended` looked up."""


@dataclass(frozen=True)
class Decided:
    """A decision, and the records it was made from, by patient hash."""

    decision: Decision
    known: Mapping[str, Known]

    def numbers(self) -> tuple[PatientIdentifier, ...]:
        """The numbers that the transfers which opened the study name, and those linked to its patients."""
        found: set[PatientIdentifier] = set()
        for one in self.known.values():
            found |= {*one.record.linked}
        return tuple(sorted(found))

    def used(self) -> tuple[Transfer, ...]:
        """The transfers by which the study is open."""
        found = {t.id: t for one in self.known.values() for t in one.transfers if t.id in self.decision.transfers}
        return tuple(found[key] for key in sorted(found))


def withdrawal_key(owner: str, study: str) -> Key:
    """(pk, sk) of the fact that a whole study was withdrawn."""
    return study_partition(owner, study), "WITHDRAWN"


def load_record(table: Table, patient: str) -> Record:
    """The record of one patient identifier, read consistently."""
    return patients.fold(patient, table.query_all(transfers.patient_partition(patient)))


def know(
    table: Table, wanted: Iterable[str], hints: Iterable[str] = (), also: Iterable[Key] = ()
) -> tuple[dict[str, Known], set[Key]]:
    """What is known of each patient hash; and which of the keys in `also` exist, read in the same BatchGet.

    `hints`: hashes that are probably linked, read at once with the others; a link that no hint foretold costs one more read.
    """
    asked = list(dict.fromkeys(wanted))
    records = _load(table, [*asked, *hints])
    missing = {one.hash for patient in asked for one in records[patient].linked} - records.keys()
    records |= _load(table, sorted(missing))
    touching = {
        patient: [records[patient], *(records[one.hash] for one in records[patient].linked if one.hash in records)]
        for patient in asked
    }
    found = {transfer.id for each in touching.values() for record in each for transfer in record.transfers}
    ends = {(transfers.partition(transfer), "END") for transfer in found or ([_NOBODY] if asked else [])}
    there = set(table.batch_get([*sorted(ends), *also])) if ends or also else set()
    return {patient: _known(each, there) for patient, each in touching.items()}, there


def decide(table: Table, viewer: str, summaries: Sequence[Mapping[str, Any]], now: datetime) -> list[Decided]:
    """For each study summary, whether `viewer` may see it now. A withdrawn study nobody sees, not even its owner."""
    refs = [for_deciding(summary) for summary in summaries]
    foreign = [patient for ref in refs if ref.owner != viewer for patient in ref.patients]
    hints = [str(one) for summary in summaries if summary["owner"] != viewer for one in summary.get("linked", ())]
    withdrawals = [withdrawal_key(ref.owner, ref.study_instance_uid) for ref in refs]
    known, there = know(table, foreign, hints, withdrawals)
    facts = {patient: one.facts for patient, one in known.items()}
    decided: list[Decided] = []
    for ref, key in zip(refs, withdrawals, strict=True):
        decision = DENIED if key in there else sharing.decide(viewer, ref, facts, now)
        decided.append(Decided(decision, {patient: known[patient] for patient in ref.patients if patient in known}))
    return decided


def find_study(table: Table, viewer: str, study_instance_uid: str, owner: str | None, now: datetime) -> tuple[Item, Decided]:
    """The study that `viewer` means by this UID: its own first, else another's that it may see. Raises NotFound.

    `owner` picks one of several owners of the same UID.
    """
    owners = list(table.query_all(f"V#STUDY#{study_instance_uid}"))
    candidates = [item for item in owners if owner in (None, item.sk)]
    candidates.sort(key=lambda item: (item.sk != viewer, item.sk))
    decided = decide(table, viewer, [item.data for item in candidates], now)
    if not any(for_deciding(item.data).patients for item in candidates if item.sk != viewer):
        know(table, [_NOBODY])
    for item, found in zip(candidates, decided, strict=True):
        if found.decision.allowed:
            return item, found
    raise NotFound


def _load(table: Table, hashes: Sequence[str]) -> dict[str, Record]:
    wanted = list(dict.fromkeys(hashes))
    if len(wanted) <= 1:
        return {patient: load_record(table, patient) for patient in wanted}
    with ThreadPoolExecutor(min(_PARALLEL, len(wanted))) as pool:
        return dict(zip(wanted, pool.map(lambda patient: load_record(table, patient), wanted), strict=True))


def _known(records: list[Record], there: set[Key]) -> Known:
    touching = {transfer.id: transfer for record in records for transfer in record.transfers}
    current = [
        Transfer(**{**transfer.__dict__, "ended": (transfers.partition(transfer.id), "END") in there})
        for _, transfer in sorted(touching.items())
    ]
    facts = PatientFacts(
        tuple(transfers.grant(transfer, transfer.ended) for transfer in current),
        tuple(one for record in records for one in record.objections.values()),
        tuple(one for record in records for one in record.protections),
        tuple(one for record in records for one in record.consents),
        tuple(one for record in records for one in record.emergencies),
    )
    return Known(records[0], tuple(records[1:]), facts, tuple(current))
