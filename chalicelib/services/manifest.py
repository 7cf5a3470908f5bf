"""The manifest of a study: every instance with a presigned URL, page by page."""

from __future__ import annotations

import base64
import binascii
import json
import re
from datetime import datetime, timedelta
from typing import Any

from chalicelib.domain import audit, studies
from chalicelib.domain.audit import Kind, Recorder
from chalicelib.domain.errors import BadRequest, NotFound
from chalicelib.domain.ports import Item, Objects, Table
from chalicelib.domain.transfers import iso
from chalicelib.services import access
from chalicelib.services.index_instances import Stored, object_key

GET_SECONDS = 300
DEFAULT_LIMIT = 500
MAX_LIMIT = 1000
_SORT_KEY = re.compile(r"I#[0-9.]{1,64}#[0-9.]{1,64}")


def manifest(
    table: Table,
    objects: Objects,
    viewer: str,
    study: str,
    now: datetime,
    owner: str | None = None,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
    *,
    record: Recorder,
) -> dict[str, Any]:
    """One page of a study's instances in UID order, with URLs that live 300 s. Raises NotFound, BadRequest."""
    partition_start = _decode(cursor) if cursor else None
    item, decided = access.find_study(table, viewer, study, owner, now)
    partition = studies.study_partition(item.sk, study)
    gone = studies.withdrawn(table.query_all(partition, "W#"))
    start = {"pk": partition, "sk": partition_start} if partition_start else None
    page = table.query(partition, "I#", start=start, limit=limit)
    within = studies.bounds(viewer, item.data)
    found = list(studies.instances(page.items, gone, within))
    while page.next is not None and len(found) < limit:
        page = table.query(partition, "I#", start=page.next, limit=limit - len(found))
        found += studies.instances(page.items, gone, within)
    if not found and cursor is None:
        raise NotFound
    record(audit.of_study(Kind.ACCESS, audit.seen(item.data, decided.decision), len(found)))
    answer: dict[str, Any] = {
        "study_instance_uid": study,
        "owner": item.sk,
        "complete": is_complete(table, item),
        "instances": [_entry(objects, item.sk, one) for one in found],
        "expires_at": iso(now + timedelta(seconds=GET_SECONDS)),
    }
    if page.next is not None:
        answer["next"] = _encode(page.next["sk"])
    return answer


def is_complete(table: Table, study: Item) -> bool:
    """Whether everything that the sender announced for the study has come, or was refused with a verdict."""
    return still_to_come(table, study) == 0


def still_to_come(table: Table, study: Item) -> int:
    """How many of the instances that the sender announced for the study have no verdict yet; of more than 1,000, some."""
    missing = [str(sha) for sha in study.data["missing"]] if isinstance(study.data["missing"], list) else []
    if not missing:
        return 0
    return len(missing) - len(table.batch_get(object_key(study.sk, sha) for sha in missing))


def _entry(objects: Objects, owner: str, one: studies.Instance) -> dict[str, Any]:
    sha = str(one.data["sha256"])
    entry = {
        "series_instance_uid": one.series_instance_uid,
        "sop_instance_uid": one.sop_instance_uid,
        "sop_class_uid": one.data["class"],
        "transfer_syntax_uid": one.data["syntax"],
        "number_of_frames": one.data.get("number_of_frames", 1),
        "size": one.data["size"],
        "sha256": sha,
        "url": objects.presign_get(Stored(owner, sha, 0).key, GET_SECONDS),
    }
    if "original_sha256" in one.data:
        entry["original_sha256"] = one.data["original_sha256"]
    return entry


def _encode(sk: str) -> str:
    return base64.urlsafe_b64encode(json.dumps(sk).encode()).decode().rstrip("=")


def _decode(cursor: str) -> str:
    """The sort key that a cursor stands for. It only says where to go on inside a study that is decided on anew."""
    try:
        sk = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError) as error:
        raise BadRequest("This cursor is not one that the archive gave.", "cursor") from error
    if not isinstance(sk, str) or not _SORT_KEY.fullmatch(sk):
        raise BadRequest("This cursor is not one that the archive gave.", "cursor")
    return sk
