"""Taking images back by a rejection note (IHE IOCM): the instances that it names, and the note itself, are shown to nobody.

All four titles of CID 7011 do the same here. IOCM lets an archive go on showing what was rejected for quality (113001); this
one is a copy for continuity of care, and a film that its own hospital would not read is no prior. The bytes stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime

from chalicelib.domain import keys
from chalicelib.domain.audit import Act, Entry, Kind, Purpose
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.instance_summary import InstanceSummary
from chalicelib.domain.ports import Table, Write
from chalicelib.domain.rejections import RejectionNote
from chalicelib.domain.rfc3339 import iso
from chalicelib.services.ingest import withdrawals

ActFor = Callable[[str], Act]
"""The act and its record in one transaction, on behalf of an institution."""
_AT_ONCE = 90


def apply(
    table: Table,
    act: Act,
    owner: str,
    note: InstanceSummary,
    rejects: RejectionNote,
    patient: PatientIdentifier | None,
    now: datetime,
) -> None:
    """Record that `owner` withdrew what its note rejects, and the note, each instance once. Raises TryAgain.

    Only its own instances: another owner's of the same UIDs are not touched. The images may come later.
    """
    sop = note.sop_instance_uid
    named: dict[str, list[str]] = {uid: list(sops) for uid, sops in rejects.studies.items()}
    named.setdefault(note.study_instance_uid, []).append(sop)
    data: dict[str, object] = {"at": iso(now), "by": "rejection-note", "reason": rejects.code, "note": sop}
    withdrawal = hashlib.sha256(f"rejection-note\n{sop}".encode()).hexdigest()[:24]
    for study, sops in named.items():
        partition = keys.study_facts(owner, study)
        every = [keys.withdrawn(uid) for uid in dict.fromkeys(sops)]
        for start in range(0, len(every), _AT_ONCE):
            part = every[start : start + _AT_ONCE]
            entry = Entry(
                Kind.WITHDRAWAL,
                owner,
                (patient,) if patient is not None else (),
                study,
                Purpose.OPERATIONS,
                count=len(part),
                text=f"rejection note {rejects.code}",
            )
            while writes := _still_to_write(table, partition, withdrawal, data, part):
                if not act(writes, entry):
                    break


def _still_to_write(table: Table, partition: str, withdrawal: str, data: dict[str, object], sks: list[str]) -> list[Write]:
    """What a note still has to withdraw: not what it withdrew before, even where that has ended since."""
    known = {item.sk: item for item in table.batch_get((partition, sk) for sk in sks).values()}
    new = [sk for sk in sks if sk not in known or withdrawals.id_of(known[sk]) != withdrawal]
    return withdrawals.marking(partition, withdrawal, data, new, known)
