"""Storage Commitment by REST (PS3.18 13): whether instances are kept, told from the facts that `/uploads/status` is told from."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from chalicelib.dicomweb import commitment
from chalicelib.dicomweb.commitment import CommitmentRequest, Reference
from chalicelib.dicomweb.json_model import Model
from chalicelib.domain import keys
from chalicelib.domain.audit import Act, Entry, Kind, Recorder
from chalicelib.domain.errors import Conflict, NotFound
from chalicelib.domain.ports import Item, Key, PutNew, Table
from chalicelib.domain.studies import is_withdrawal
from chalicelib.domain.verdicts import UploadState, Verdict
from chalicelib.services.ingest.instance_items import verdicts_of

KEPT_FOR = timedelta(days=30)


@dataclass(frozen=True)
class _Stands:
    """What a SOP Instance UID stands for: the SHA-256 of its bytes, and its study."""

    sha256: str
    study_instance_uid: str


def commit(
    table: Table,
    institution: str,
    transaction: str,
    request: CommitmentRequest,
    now: datetime,
    act: Act,
    tell: Recorder,
) -> Model:
    """The Storage Commitment Response Module for the institution's own instances; the same again for the same request.

    Raises Conflict when the transaction UID stands for another request.
    """
    asked = _digest(request)
    entry = Entry(Kind.QUERY, institution, subject=transaction, count=len(request.references))
    known = table.get(*_key(institution, transaction))
    if known is None:
        reasons = _reasons(table, institution, request.references)
        model = commitment.commitment_response(request, lambda reference: reasons[reference])
        packed = base64.b64encode(gzip.compress(json.dumps(model).encode(), mtime=0)).decode()
        expires = int((now + KEPT_FOR).timestamp())
        item = Item(*_key(institution, transaction), {"asked": asked, "result": packed, "expires": expires}, expires=expires)
        if not act([PutNew(item)], entry):
            return model
        known = table.get(*_key(institution, transaction))
    if known is None or known.data["asked"] != asked:
        raise Conflict("This transaction UID stands for another request.")
    tell(entry)
    return _result(known)


def result(table: Table, institution: str, transaction: str, now: datetime, tell: Recorder) -> Model:
    """The result of an earlier request. Raises NotFound for one that nobody made, or that was made too long ago."""
    known = table.get(*_key(institution, transaction))
    if known is None or int(str(known.data["expires"])) <= now.timestamp():
        raise NotFound
    tell(Entry(Kind.QUERY, institution, subject=transaction))
    return _result(known)


def _key(institution: str, transaction: str) -> Key:
    return keys.commitment_facts(institution, transaction), keys.ONLY


def _result(item: Item) -> Model:
    found: Model = json.loads(gzip.decompress(base64.b64decode(str(item.data["result"]))))
    return found


def _digest(request: CommitmentRequest) -> str:
    return hashlib.sha256(repr((request.by_study, request.references)).encode()).hexdigest()


def _reasons(table: Table, institution: str, references: Sequence[Reference]) -> dict[Reference, int | None]:
    """For each instance None when it is kept, else the Failure Reason (PS3.3 C.14.1.1). Four reads for a hundred."""
    sops = table.batch_get(keys.sop(institution, reference.sop_instance_uid) for reference in references)
    stands = {
        reference: _Stands(str(item.data["sha256"]), str(item.data["study"]))
        for reference in references
        if (item := sops.get(keys.sop(institution, reference.sop_instance_uid)))
    }
    verdicts = verdicts_of(table, [keys.verdict(institution, known.sha256) for known in stands.values()])
    facts: dict[Reference, Key] = {}
    for reference, known in stands.items():
        given = verdicts.get(keys.verdict(institution, known.sha256))
        verdict = Verdict.from_item(given.data) if given is not None else None
        if verdict is not None and verdict.state is UploadState.INDEXED:
            facts[reference] = (
                keys.study_facts(institution, known.study_instance_uid),
                keys.instance(verdict.series_instance_uid, reference.sop_instance_uid),
            )
    gone = {(pk, keys.withdrawn(reference.sop_instance_uid)) for reference, (pk, _) in facts.items()}
    gone |= {keys.withdrawn_study(institution, stands[reference].study_instance_uid) for reference in facts}
    found = table.batch_get([*facts.values(), *gone])
    there = {key: item for key, item in found.items() if key in facts.values() or is_withdrawal(item)}
    refused = _refused(table, institution, facts)
    reasons = {
        reference: _reason(institution, reference, facts.get(reference), there, stands.get(reference)) for reference in references
    }
    return reasons | dict.fromkeys(refused, commitment.PROCESSING_FAILURE)


def _refused(table: Table, institution: str, kept: Iterable[Reference]) -> set[Reference]:
    """Those under whose SOP Instance UID other bytes came last, which are a conflict: whoever asks may mean these."""
    uids = [reference.sop_instance_uid for reference in kept]
    found = table.batch_get((keys.sop_facts(institution, uid), sk) for uid in uids for sk in (keys.CONFLICT, keys.CURRENT))
    refused: set[Reference] = set()
    for reference in kept:
        partition = keys.sop_facts(institution, reference.sop_instance_uid)
        conflict, current = found.get((partition, keys.CONFLICT)), found.get((partition, keys.CURRENT))
        number = int(str(current.data["number"])) if current is not None else 0
        if conflict is not None and int(str(conflict.data["number"])) >= number:
            refused.add(reference)
    return refused


def _reason(
    institution: str, reference: Reference, key: Key | None, there: dict[Key, Item], stands: _Stands | None
) -> int | None:
    if stands is None or key is None or key not in there or (key[0], keys.withdrawn(reference.sop_instance_uid)) in there:
        return commitment.NO_SUCH_INSTANCE
    if keys.withdrawn_study(institution, stands.study_instance_uid) in there:
        return commitment.NO_SUCH_INSTANCE
    if there[key].data["class"] != reference.sop_class_uid:
        return commitment.CLASS_INSTANCE_CONFLICT
    wrong_study = reference.study_instance_uid not in (None, stands.study_instance_uid)
    wrong_series = reference.series_instance_uid not in (None, key[1].split("#")[1])
    return commitment.NO_SUCH_INSTANCE if wrong_study or wrong_series else None
