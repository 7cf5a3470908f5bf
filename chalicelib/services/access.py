"""Deciding on facts: loads what `domain.sharing.decide` needs, consistently, at the moment of the request.

Two consistent reads besides the data itself: the patient's partition, and the ends of the transfers found there.
A study that does not exist costs the same two reads, so that absent and hidden take the same time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from chalicelib.domain import sharing, transfers
from chalicelib.domain.errors import NotFound
from chalicelib.domain.ports import Item, Table
from chalicelib.domain.sharing import Decision, Grant
from chalicelib.domain.studies import for_deciding
from chalicelib.domain.transfers import Transfer

Decided = tuple[Decision, list[Transfer]]
"""A decision, and the transfers that touch the study's patients, whoever they are between."""

_PARALLEL = 8
_NOBODY = "0" * 32


def patient_facts(table: Table, patients: Sequence[str]) -> dict[str, list[tuple[Transfer, Grant]]]:
    """For each patient hash, the transfers that touch it, with their ends looked up."""
    wanted = list(dict.fromkeys(patients))
    if len(wanted) > 1:
        with ThreadPoolExecutor(min(_PARALLEL, len(wanted))) as pool:
            partitions = list(pool.map(lambda patient: _transfers(table, patient), wanted))
    else:
        partitions = [_transfers(table, patient) for patient in wanted]
    found = {transfer.id for partition in partitions for transfer in partition} or {_NOBODY}
    ends = table.batch_get((transfers.partition(transfer), "END") for transfer in sorted(found))
    return {
        patient: [
            (transfer, transfers.grant(transfer, (transfers.partition(transfer.id), "END") in ends)) for transfer in partition
        ]
        for patient, partition in zip(wanted, partitions, strict=True)
    }


def decide(table: Table, viewer: str, summaries: Sequence[Mapping[str, Any]], now: datetime) -> list[Decided]:
    """For each study summary, whether `viewer` may see it now. Its own studies cost no read."""
    refs = [for_deciding(summary) for summary in summaries]
    hashes = [patient for ref in refs if ref.owner != viewer for patient in ref.patients]
    facts = patient_facts(table, hashes) if hashes else {}
    decided: list[Decided] = []
    for ref in refs:
        grants = {patient: [grant for _, grant in facts.get(patient, [])] for patient in ref.patients}
        touching = {transfer.id: transfer for patient in ref.patients for transfer, _ in facts.get(patient, [])}
        decided.append((sharing.decide(viewer, ref, grants, now), list(touching.values())))
    return decided


def find_study(table: Table, viewer: str, study_instance_uid: str, owner: str | None, now: datetime) -> tuple[Item, Decided]:
    """The study that `viewer` means by this UID: its own first, else another's that it may see. Raises NotFound.

    `owner` picks one of several owners of the same UID.
    """
    owners = list(table.query_all(f"V#STUDY#{study_instance_uid}"))
    candidates = [item for item in owners if owner in (None, item.sk)]
    candidates.sort(key=lambda item: (item.sk != viewer, item.sk))
    own = [item for item in candidates if item.sk == viewer]
    if own:
        return own[0], (Decision(True), [])
    decided = decide(table, viewer, [item.data for item in candidates], now)
    if not any(for_deciding(item.data).patients for item in candidates):
        patient_facts(table, [_NOBODY])
    for item, found in zip(candidates, decided, strict=True):
        if found[0].allowed:
            return item, found
    raise NotFound


def _transfers(table: Table, patient: str) -> list[Transfer]:
    return transfers.in_patient(table.query_all(transfers.patient_partition(patient), "TRANSFER#"))
