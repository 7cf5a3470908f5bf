"""The change feed: what changed for an institution, in order, nothing twice or skipped.

An entry's place is taken by a condition on the feed's head, in the transaction that makes it true, so two arrivals at once
cannot take the same place or leave a hole that fills later. Places are moments, made unique: a gap says nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalicelib.domain.errors import BadRequest
from chalicelib.domain.ports import Item, PutNew, PutVersion, Table, Write
from chalicelib.domain.transfers import iso
from chalicelib.services import access
from chalicelib.services.registry import Caller

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
MAX_WAIT = 20
_ATTEMPTS = 20
_PAUSE = 0.25
_PLACE = 20


@dataclass(frozen=True)
class Change:
    """Something to tell an institution. `event` makes it unique: the same event is told once."""

    viewer: str
    event: str
    kind: str
    content: dict[str, Any]


def partition(viewer: str) -> str:
    """The partition of an institution's feed."""
    return f"F#FEED#{viewer}"


def entry_writes(table: Table, changes: Iterable[Change], now: datetime) -> list[Write]:
    """The writes that append changes to the feeds, on the condition that nobody else appended since."""
    by_viewer: dict[str, list[Change]] = {}
    for change in changes:
        by_viewer.setdefault(change.viewer, []).append(change)
    writes: list[Write] = []
    for viewer, ones in sorted(by_viewer.items()):
        head = table.get(partition(viewer), "HEAD")
        version = (head.version or 0) if head else 0
        place = max(int(str(head.data["place"])) if head else 0, int(now.timestamp() * 1_000_000))
        for change in ones:
            place += 1
            data = {"kind": change.kind, "at": iso(now), **change.content}
            writes.append(PutNew(Item(partition(viewer), f"E#{place:0{_PLACE}d}", data)))
        writes.append(PutVersion(Item(partition(viewer), "HEAD", {"place": place}, version=version + 1), version))
    return writes


def tell(table: Table, changes: Sequence[Change], now: datetime) -> None:
    """Append changes that no view's version guards: each once, by a marker of its event."""
    for change in changes:
        marker = Item(partition(change.viewer), f"D#{change.event}", {"at": iso(now)})
        for _ in range(_ATTEMPTS):
            if table.get(*marker.key) is not None:
                break
            if not table.transact([PutNew(marker), *entry_writes(table, [change], now)]):
                break


def read_changes(
    table: Table,
    caller: Caller,
    since: str | None,
    limit: int,
    wait: float,
    clock: Callable[[], datetime],
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """The answer of `GET /changes`: entries after `since`, waiting up to `wait` seconds for the first. Raises BadRequest."""
    viewer = caller.member.id
    after = since or "0" * _PLACE
    if len(after) != _PLACE or not after.isascii() or not after.isdigit():
        raise BadRequest("This cursor is not one that the archive gave.", "since")
    deadline = time.monotonic() + min(wait, MAX_WAIT)
    while True:
        found, last = _page(table, viewer, after, limit, clock())
        after = last
        if found or time.monotonic() >= deadline:
            return {"changes": found, "next": after}
        sleep(min(_PAUSE, max(0.0, deadline - time.monotonic())))


def _page(table: Table, viewer: str, after: str, limit: int, now: datetime) -> tuple[list[dict[str, Any]], str]:
    """Entries after a place, but for those about a study that the caller may not see any more."""
    between = (f"E#{after}~", "E#~")
    items = table.query(partition(viewer), between=between, limit=limit).items
    about = {(str(i.data["owner"]), str(i.data["study_instance_uid"])) for i in items if _names_study(i)}
    views = table.batch_get((f"V#STUDY#{study}", owner) for owner, study in sorted(about))
    decided = access.decide(table, viewer, [view.data for view in views.values()], now)
    visible = {(view.sk, view.data["study"]) for view, one in zip(views.values(), decided, strict=True) if one.decision.allowed}
    entries = [
        {"cursor": item.sk.removeprefix("E#"), **item.data}
        for item in items
        if not _names_study(item) or (item.data["owner"], item.data["study_instance_uid"]) in visible
    ]
    return entries, items[-1].sk.removeprefix("E#") if items else after


def _names_study(item: Item) -> bool:
    return item.data["kind"] in {"study-arrived", "study-changed", "report-arrived"}
