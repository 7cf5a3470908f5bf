"""The manifest of a study: every instance with a presigned URL, page by page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from chalicelib.domain import audit, cursors, instance_versions, keys, studies
from chalicelib.domain.audit import Kind, Recorder
from chalicelib.domain.errors import NotFound
from chalicelib.domain.identifiers import UID
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.ports import Objects, Table
from chalicelib.domain.reading_order import in_reading_order
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.studies import Instance
from chalicelib.domain.study_totals import Tally, beginning
from chalicelib.domain.study_views import StudyView
from chalicelib.services import access
from chalicelib.services.ingest.instance_items import StoredObject

GET_SECONDS = 300
DEFAULT_LIMIT = 500
MAX_LIMIT = 1000
MOST_ORDERED = 2000
"""Instances of a study that is read whole for each page, so that it comes in reading order."""
_SORT_KEY = re.compile(rf"[IR]#{UID}#{UID}")


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
) -> JsonObject:
    """One page of a study's instances, with URLs that live 300 s: in the order in which they are read, or, of more than
    `MOST_ORDERED`, in UID order. Raises NotFound, BadRequest."""
    after = cursors.decode(cursor, _SORT_KEY) if cursor else None
    view, decided = access.find_study(table, viewer, study, owner, now)
    partition = keys.study_facts(view.owner, study)
    gone = studies.withdrawn(table.query_all(partition, keys.MARKS))
    within = studies.bounds(viewer, view)
    ordered = view.instances <= MOST_ORDERED and not (after or "").startswith(keys.INSTANCES)
    page = _ordered_page(table, partition, after, limit) if ordered else _uid_page(table, partition, after, limit)
    found = [instance for instance in page.instances if instance.sop_instance_uid not in gone and within.hold(instance)]
    if not found and cursor is None and page.next is None:
        raise NotFound
    record(audit.of_study(Kind.ACCESS, audit.disclosed(view, decided.decision), len(found)))
    answer: JsonObject = {
        "study_instance_uid": study,
        "owner": view.owner,
        "complete": is_complete(table, view),
        "instances": [_entry(objects, view.owner, instance) for instance in found],
        "expires_at": iso(now + timedelta(seconds=GET_SECONDS)),
    }
    if page.next is not None:
        answer["next"] = cursors.encode(page.next)
    return answer


@dataclass(frozen=True)
class _Page:
    """Instances, withdrawn ones among them, and where the next page begins; None where there is none."""

    instances: Sequence[Instance]
    next: str | None


def _ordered_page(table: Table, partition: str, after: str | None, limit: int) -> _Page:
    """A page in reading order, of a study that is read whole for each. `after`: `R#<series>#<sop>`, which it begins behind."""
    every = in_reading_order(studies.instances(table.query_all(partition, keys.INSTANCES)))
    names = ["#".join(("R", instance.series_instance_uid, instance.sop_instance_uid)) for instance in every]
    start = names.index(after) + 1 if after in names else 0
    end = start + limit
    return _Page(every[start:end], names[end - 1] if end < len(every) else None)


def _uid_page(table: Table, partition: str, after: str | None, limit: int) -> _Page:
    """A page in UID order, which reads no more of a study than it shows. `after`: the sort key of an instance's first fact."""
    start = {"pk": partition, "sk": f"{after}#~"} if after and after.startswith(keys.INSTANCES) else None
    page = table.query(partition, keys.INSTANCES, start=start, limit=limit)
    if not page.items or page.next is None:
        return _Page(list(studies.instances(page.items)), None)
    last = instance_versions.place(page.items[-1].sk)
    assert last is not None
    first = last._replace(number=0)
    rest = table.query_all(partition, between=instance_versions.span(*last.instance))  # a page may end inside its versions
    items = [item for item in page.items if instance_versions.place(item.sk).instance != last.instance]  # type: ignore[union-attr]
    return _Page(list(studies.instances([*items, *rest])), first.sk)


def is_complete(table: Table, study: StudyView) -> bool:
    """Whether everything that the sender announced for the study has come, or was refused with a verdict."""
    return still_to_come(table, study) == 0


def still_to_come(table: Table, study: StudyView) -> int:
    """How many of the instances that the sender announced for the study have no verdict yet; of more than 1,000, some."""
    if study.missing is not None:  # a view of an earlier release
        return _without_verdict(table, study.owner, study.missing)
    if not study.incomplete:
        return 0
    uid = study.study_instance_uid
    item = table.get(*keys.study_tally(study.owner, uid))
    tally = Tally.from_item(item.data) if item is not None else Tally()
    partition = keys.study_facts(study.owner, uid)
    announced = table.batch_get((partition, sk) for sk in tally.missing)
    open_ones = {sha for every in tally.missing.values() for sha in every}
    missing = _without_verdict(
        table, study.owner, sorted(sha for sha in studies.announced(announced.values()) if beginning(sha) in open_ones)
    )
    for sk in tally.waiting if not missing else ():
        announcement = table.get(partition, sk)
        missing = _without_verdict(
            table, study.owner, sorted(studies.announced([announcement] if announcement is not None else []))
        )
        if missing:
            break
    return missing


def _without_verdict(table: Table, owner: str, hashes: Iterable[str]) -> int:
    asked = [keys.verdict(owner, sha) for sha in hashes]
    return len(asked) - len(table.batch_get(asked)) if asked else 0


def _entry(objects: Objects, owner: str, instance: studies.Instance) -> JsonObject:
    sha = instance.fact.sha256
    entry = {
        "series_instance_uid": instance.series_instance_uid,
        "sop_instance_uid": instance.sop_instance_uid,
        "sop_class_uid": instance.fact.sop_class_uid,
        "transfer_syntax_uid": instance.fact.transfer_syntax_uid,
        "number_of_frames": instance.fact.number_of_frames,
        "size": instance.fact.size,
        "sha256": sha,
        "url": objects.presign_get(StoredObject(owner, sha, 0).key, GET_SECONDS),
    }
    if instance.fact.original_sha256:
        entry["original_sha256"] = instance.fact.original_sha256
    return entry
