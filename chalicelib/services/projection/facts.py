"""Projecting: facts into views. Driven by the table's stream; safe to repeat, in any order, by several at once.

A batch is taken as a whole: studies whose own facts changed are projected from these (`project_studies.project`); those whose
patients' facts changed keep their summary, and only who sees them is computed anew, many in one transaction (`refresh`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from chalicelib.domain import keys, patients, transfers
from chalicelib.domain.errors import ContenitoreError, TryAgain
from chalicelib.domain.patients import Record
from chalicelib.domain.ports import Alerts, Table
from chalicelib.services import access, changes, membership
from chalicelib.services.identity import linking, numbering
from chalicelib.services.ingest import batches
from chalicelib.services.projection import studies
from chalicelib.services.projection.studies import StudyRef
from chalicelib.services.sharing import emergencies, proposals

Fact = tuple[str, str, str]
"""(sequence number, pk, sk) of a fact that was written."""
Failure = tuple[str, ContenitoreError]
"""From which sequence number on everything must be delivered again, and why."""

PATIENCE_SECONDS = 70.0
"""For how long a delivery tries a fact again that waits for others (the table, SNS). Lambda does not say how long it pauses
between two tries: so it is known how long an outage may last at the least before a fact is set aside, 21 times this but a pause.
"""
_JITTER = random.Random()  # noqa: S311  # no secret
_FIRST_PAUSE = 0.4
_LONGEST_PAUSE = 8.0


def project_patiently(
    attempt: Callable[[], Failure | None], remaining: Callable[[], float], sleep: Callable[[float], None] = time.sleep
) -> Failure | None:
    """`attempt`, a projection, again and again while it answers TryAgain and there is patience; what it answered last.

    `remaining` answers how many seconds the function has left. The pauses double, with jitter.
    """
    began, pause = remaining(), _FIRST_PAUSE
    while True:
        failed = attempt()
        drawn = _JITTER.uniform(pause / 2, pause)
        if failed is None or not isinstance(failed[1], TryAgain) or began - remaining() + drawn > PATIENCE_SECONDS:
            return failed
        sleep(drawn)
        pause = min(2 * pause, _LONGEST_PAUSE)


def project(table: Table, alerts: Alerts, facts: Sequence[Fact], clock: Callable[[], datetime]) -> Failure | None:
    """Bring the views of all that a batch of facts touches up to date, each study once.

    None when done; else from which sequence number on everything must be delivered again, and why. What comes before that
    one is done: it will not be delivered again.
    """
    own: dict[StudyRef, tuple[int, list[str]]] = {}
    seen: dict[StudyRef, int] = {}
    failed: list[tuple[int, ContenitoreError]] = []
    by_kind = {"TRANSFER": _of_transfer, "PATIENT": _of_patient, "REGISTRY": _of_registry}
    for pk, (position, sks) in _by_partition(facts).items():
        kind, _, rest = pk.removeprefix("F#").partition("#")
        if kind == "STUDY":
            owner, _, study = rest.partition("#")
            own[owner, study] = position, sks
            continue
        try:
            refs = by_kind[kind](table, alerts, rest, sks, clock())
        except ContenitoreError as error:
            failed.append((position, error))
            break
        for ref in refs:
            seen.setdefault(ref, position)
    for ref, (position, sks) in own.items():
        try:
            studies.project(table, alerts, *ref, clock(), sks)
        except ContenitoreError as error:
            failed.append((position, error))
            break
    only_seen = sorted(seen.keys() - own.keys())
    try:
        studies.refresh(table, alerts, only_seen, clock())
    except ContenitoreError as error:
        failed.append((min(seen[ref] for ref in only_seen), error))
    if not failed:
        return None
    first, reason = min(failed, key=lambda failure: failure[0])
    return facts[first][0], reason


def _by_partition(facts: Sequence[Fact]) -> dict[str, tuple[int, list[str]]]:
    """The sort keys that changed in each partition, and where in the batch the first of them is; in the batch's order."""
    found: dict[str, tuple[int, list[str]]] = {}
    for position, (_, pk, sk) in enumerate(facts):
        _, sks = found.setdefault(pk, (position, []))
        if sk not in sks:
            sks.append(sk)
    return found


def _of_patient(table: Table, alerts: Alerts, patient: str, sks: list[str], now: datetime) -> set[StudyRef]:
    """What facts of a patient identifier touch; on the way, what they link or end by themselves, and whom they alert."""
    if any(sk.startswith(keys.begins(keys.carries)) for sk in sks):
        linking.link_carriers(table, patient, now)  # each link is a fact of its own
    if any(sk.startswith(patients.ABOUT) for sk in sks):
        linking.check_again(table, access.load_deciding(table, patient), now)
    filed = {patients.owner_and_study(sk) for sk in sks if sk.startswith(keys.begins(keys.filed))}
    if not any(_decides(sk) for sk in sks):
        return filed
    record = access.load_record(table, patient)
    if any(sk.startswith(keys.begins(keys.link)) for sk in sks):
        linking.review(table, record, now)
    for sk in sks:
        declared = keys.read(keys.emergency, sk)
        if declared is not None and not sk.endswith(keys.ENDED):
            _alert_those_known(table, alerts, declared[0], now)
    return filed | _studies_around(table, record, {link.beyond(patient).hash for link in record.links})


def _of_transfer(table: Table, alerts: Alerts, transfer_id: str, sks: list[str], now: datetime) -> set[StudyRef]:
    """What facts of a transfer touch; on the way, both parties are told when it opens, changes and ends."""
    del alerts
    versions = transfers.history(table.query_all(keys.transfer_facts(transfer_id)))
    if not versions:
        return set()
    transfer = versions[-1]
    if keys.OPEN in sks:
        changes.tell(table, changes.transfer_opened(versions[0]), now)
        proposals.tell(table, versions[0], now)
    for before, after in pairwise(versions):
        if keys.transfer_version(after.version) in sks:
            changes.tell(table, changes.transfer_changed(before, after), now)
    if keys.END in sks:
        changes.tell(table, changes.transfer_ended(transfer, "revoked"), now)
    record = access.load_record(table, transfer.patient.hash)
    return _studies_around(table, record, {other.hash for other in record.linked})


def _of_registry(table: Table, alerts: Alerts, rest: str, sks: list[str], now: datetime) -> set[StudyRef]:
    """Nothing by itself: whom it concerns is told, and each study that another name for its numbers touches has its own fact."""
    del rest
    membership.tell(table, alerts, sks, now)
    for sk in sks:
        if sk.startswith(keys.begins(keys.institution)):
            numbering.names_changed(table, sk, now)
    return set()


def _decides(sk: str) -> bool:
    first, last = patients.DECIDING
    return first <= sk <= last


def _studies_around(table: Table, record: Record, others: Iterable[str]) -> set[StudyRef]:
    around = [record, *(access.load_record(table, other) for other in sorted(others))]
    return {ref for record in around for ref in record.studies}


def _alert_those_known(table: Table, alerts: Alerts, emergency: str, now: datetime) -> None:
    """Tell the owners that the declaration knew of, whether or not it opens anything of theirs."""
    fact = table.get(keys.emergency_facts(emergency), keys.OPEN)
    owners = fact.data["owners"] if fact is not None else []
    for owner in owners if isinstance(owners, list) else []:
        emergencies.alert_owner(table, alerts, emergency, str(owner), now)


def stream_keys(records: Iterable[Mapping[str, Any]]) -> list[Fact]:
    """(sequence number, pk, sk) of each stream record, but for those that only repeat what another one of them says."""
    return [
        (
            str(record["dynamodb"]["SequenceNumber"]),
            str(record["dynamodb"]["Keys"]["pk"]["S"]),
            str(record["dynamodb"]["Keys"]["sk"]["S"]),
        )
        for record in records
        if batches.is_left(record)
    ]
