"""Ending what an owner took back: the withdrawals of a study, and their end.

What is withdrawn is said twice. `WITHDRAWAL#<id>` and its `#END` are facts, of what was done. `WITHDRAWN` and `W#<sop>` say what
holds now of the study and of single instances, so that one look tells it; they name the withdrawal, and are rewritten when it
ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime

from chalicelib.domain import keys, studies
from chalicelib.domain.audit import Act, Entry, Kind, Recorder
from chalicelib.domain.errors import NotFound
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.patients import END
from chalicelib.domain.ports import Item, Put, PutNew, Table, Write
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.study_views import StudyView
from chalicelib.services.registry import Caller

WHOLE, ONE, DONE = keys.WITHDRAWN, keys.MARKS, keys.begins(keys.withdrawal)
_AT_ONCE = 90


def id_of(marker: Item) -> str:
    """The id of the withdrawal that a marker is of; one that was written before there were ids has one all the same."""
    known = marker.data.get("id")
    return str(known) if known else hashlib.sha256(f"{marker.pk}\n{marker.sk}\n{marker.data.get('at')}".encode()).hexdigest()[:24]


def marking(partition: str, withdrawal: str, data: dict[str, object], sks: Iterable[str], known: dict[str, Item]) -> list[Write]:
    """The writes that withdraw what `sks` name, where it is not withdrawn yet. `known`: the markers that are there, by `sk`."""
    said = data | {"id": withdrawal}
    missing = [sk for sk in sks if not studies.is_withdrawal(known.get(sk))]
    return [Put(Item(partition, sk, said)) if sk in known else PutNew(Item(partition, sk, said)) for sk in missing]


def history(partition: str, withdrawal: str, data: dict[str, object], sops: list[str] | None) -> Item:
    """The fact that something was withdrawn: the whole study, or these instances."""
    return Item(partition, f"{DONE}{withdrawal}", data | {"sop_instance_uids": sops})


def list_withdrawals(table: Table, caller: Caller, study: str, tell: Recorder) -> JsonObject:
    """The withdrawals of the caller's own study, oldest first. Raises NotFound for a study that it never had."""
    owner = caller.member.id
    facts, patients = _facts(table, owner, study)
    tell(Entry(Kind.READ, owner, patients, study))
    by_id: dict[str, list[Item]] = {}
    for marker in facts:
        if not marker.sk.startswith(DONE):
            by_id.setdefault(id_of(marker), []).append(marker)
    listed = sorted(by_id.items(), key=lambda entry: (str(entry[1][0].data["at"]), entry[0]))
    return {"study_instance_uid": study, "withdrawals": [_listed(withdrawal, markers) for withdrawal, markers in listed]}


def _listed(withdrawal: str, markers: list[Item]) -> JsonObject:
    """A withdrawal as it is answered, from what it marked."""
    sops = [marker.sk.removeprefix(ONE) for marker in markers if marker.sk != WHOLE]
    return {
        "id": withdrawal,
        "at": markers[0].data["at"],
        "reason": markers[0].data["reason"],
        "status": "active" if studies.is_withdrawal(markers[-1]) else "ended",
        **({"sop_instance_uids": sops} if sops else {}),
    }


def end_withdrawal(table: Table, caller: Caller, study: str, withdrawal: str, now: datetime, act: Act) -> JsonObject:
    """Show again what a withdrawal hid, and what came since under its UIDs. Again: the same answer. Raises NotFound."""
    owner = caller.member.id
    facts, patients = _facts(table, owner, study)
    partition = keys.study_facts(owner, study)
    mine = [item for item in facts if not item.sk.startswith(DONE) and id_of(item) == withdrawal]
    if not mine and not any(item.sk == f"{DONE}{withdrawal}" for item in facts):
        raise NotFound
    ended: dict[str, object] = {"ended_at": iso(now), "ended_by": caller.actor}
    live = [item for item in mine if studies.is_withdrawal(item) and item.sk != f"{ONE}{item.data.get('note')}"]
    entry = Entry(Kind.CORRECTION, owner, patients, study, subject=withdrawal, count=len(live), text="withdrawal ended")
    end = Item(partition, f"{DONE}{withdrawal}{END}", {"at": iso(now), "by": caller.actor})
    for start in range(0, max(1, len(live)), _AT_ONCE):
        writes: list[Write] = [Put(Item(item.pk, item.sk, item.data | ended)) for item in live[start : start + _AT_ONCE]]
        if held := act([*writes, PutNew(end)], entry):
            assert not held[-1]  # it has ended before: nothing else has a condition
            act(writes, entry)
    return {"id": withdrawal, "study_instance_uid": study, "status": "ended"}


def _facts(table: Table, owner: str, study: str) -> tuple[list[Item], tuple[PatientIdentifier, ...]]:
    """What was withdrawn of a study, and whose it is."""
    partition = keys.study_facts(owner, study)
    facts = list(table.query_all(partition, "W"))
    if not facts and not table.query(partition, keys.INSTANCES, limit=1).items:
        raise NotFound
    view = table.get(*keys.study_view(study, owner))
    return facts, StudyView.from_item(view.data).patients if view else ()
