"""The change feed: what changed for an institution, in order, nothing twice or skipped.

An entry's place is taken by a condition on the feed's head, in the transaction that makes it true, so two arrivals at once
cannot take the same place or leave a hole that fills later. Places are moments, made unique: a gap says nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from chalicelib.domain import cursors, keys
from chalicelib.domain.errors import TryAgain
from chalicelib.domain.feed import News, TransferNews
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.ports import Item, PutNew, PutVersion, Table, Write
from chalicelib.domain.rfc3339 import iso, kept_moment
from chalicelib.domain.study_views import StudyView
from chalicelib.domain.transfers import Transfer
from chalicelib.services import access
from chalicelib.services.registry import Caller

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
MAX_WAIT = 20
"""Seconds, of waiting and of looking past what is not shown."""
_ATTEMPTS = 20
_PAUSE = 0.25
_PLACE = 20
_ENTRIES = keys.begins(keys.feed_entry)
_BEFORE = "before"
"""The place of the entry before it, which is never shown: that might be an entry that is not."""
_CLOCKS_DIFFER = timedelta(minutes=1)
"""What the clock of a function that writes may be behind that of one that reads, and more."""
_AHEAD = timedelta(days=1)
"""What a cursor may be ahead of the clock: one that is further is damaged, and nothing would ever come after it."""


@dataclass(frozen=True)
class Change:
    """Something to tell an institution. `event` makes it unique: the same event is told once."""

    viewer: str
    event: str
    kind: str
    content: News


def transfer_opened(transfer: Transfer) -> list[Change]:
    """What both parties are told when a transfer is opened."""
    return _of_transfer(transfer, "OPEN", "transfer-opened", expires_at=iso(transfer.expires_at))


def transfer_ended(transfer: Transfer, status: str) -> list[Change]:
    """What both parties are told once when it is over: `revoked` or `expired`."""
    return _of_transfer(transfer, "END", "transfer-ended", status=status)


def transfer_changed(before: Transfer, after: Transfer) -> list[Change]:
    """What both parties are told of a later version: accepted, not accepted any more, or lasting longer."""
    told: list[Change] = []
    version = f"{after.version:06d}"
    if after.accepted_at is not None and (before.accepted_at is None or before.receiving != after.receiving):
        told += _of_transfer(after, f"ACCEPTED#{version}", "transfer-accepted", accepted_at=iso(after.accepted_at))
    if before.accepted_at is not None and after.accepted_at is None:
        told += _of_transfer(after, f"WAITS#{version}", "transfer-waiting")
    if before.expires_at != after.expires_at:
        told += _of_transfer(after, f"EXTENDED#{version}", "transfer-extended", expires_at=iso(after.expires_at))
    return told


def transfer_waiting(transfer: Transfer) -> list[Change]:
    """What both parties are told once of a transfer of before acceptance was known, which the receiver has not accepted."""
    return _of_transfer(transfer, "WAITS", "transfer-waiting")


def _of_transfer(transfer: Transfer, event: str, kind: str, **more: str) -> list[Change]:
    content = TransferNews(transfer.id, transfer.sender, transfer.receiver, **more)
    return [Change(party, f"{event}#{transfer.id}", kind, content) for party in (transfer.sender, transfer.receiver)]


def entry_writes(table: Table, changes: Iterable[Change], now: datetime) -> list[Write]:
    """The writes that append changes to the feeds, on the condition that nobody else appended since."""
    by_viewer: dict[str, list[Change]] = {}
    for change in changes:
        by_viewer.setdefault(change.viewer, []).append(change)
    writes: list[Write] = []
    for viewer, ones in sorted(by_viewer.items()):
        head = table.get(keys.feed(viewer), keys.HEAD)
        version = (head.version or 0) if head else 0
        before = int(str(head.data["place"])) if head else 0
        place = max(before, _place(now))
        for change in ones:
            place += 1
            data = {"kind": change.kind, "at": iso(now), _BEFORE: before, **change.content.to_item()}
            before = place
            writes.append(PutNew(Item(keys.feed(viewer), keys.feed_entry(place), data)))
        writes.append(PutVersion(Item(keys.feed(viewer), keys.HEAD, {"place": place}, version=version + 1), version))
    return writes


def _place(moment: datetime) -> int:
    """The place of a moment in a feed: microseconds since 1970."""
    return int(moment.timestamp() * 1_000_000)


def was_told(table: Table, change: Change) -> bool:
    """Whether `tell` has told this event."""
    return table.get(keys.feed(change.viewer), keys.event_told(change.event)) is not None


def tell(table: Table, changes: Sequence[Change], now: datetime) -> None:
    """Append changes that no view's version guards: each once, by a marker of its event. Raises TryAgain."""
    for change in changes:
        marker = Item(keys.feed(change.viewer), keys.event_told(change.event), {"at": iso(now)})
        for _ in range(_ATTEMPTS):
            if was_told(table, change) or not table.transact([PutNew(marker), *entry_writes(table, [change], now)]):
                break
        else:
            raise TryAgain


def tell_seldom(table: Table, change: Change, at: datetime, pause: timedelta, now: datetime) -> None:
    """Append a change of the moment `at`, but for those of its event within `pause` of one that was told. Raises TryAgain."""
    key = keys.feed(change.viewer), keys.event_told(change.event)
    for _ in range(_ATTEMPTS):
        last = table.get(*key)
        if last is not None and at < kept_moment(last.data["at"]) + pause:
            return
        version = (last.version or 0) if last else 0
        marker = PutVersion(Item(*key, {"at": iso(at)}, version=version + 1), version)
        if not table.transact([marker, *entry_writes(table, [change], now)]):
            return
    raise TryAgain


def read_changes(
    table: Table,
    caller: Caller,
    since: str | None,
    limit: int,
    wait: float,
    clock: Callable[[], datetime],
    sleep: Callable[[float], None] = time.sleep,
) -> JsonObject:
    """The answer of `GET /changes`: entries after `since`, waiting up to `wait` seconds for the first. Raises BadRequest.

    The feed begins where `since` is absent, empty or 0; `now` answers at once with a cursor after which all that comes from now
    on stands. It is a time and no place in the feed, which would tell when what is hidden came.
    """
    viewer = caller.member.id
    if since == "now":
        return {"changes": [], "next": f"{_place(clock() - _CLOCKS_DIFFER):0{_PLACE}d}"}
    after = "0" * _PLACE if since in (None, "", "0") else since
    if len(after) != _PLACE or not after.isascii() or not after.isdigit() or int(after) > _place(clock() + _AHEAD):
        raise cursors.refusal("since")
    longest = time.monotonic() + MAX_WAIT
    deadline = min(time.monotonic() + wait, longest)
    position = after
    while True:
        found, position = _page(table, viewer, position, limit, clock(), longest)
        if found or time.monotonic() >= deadline:
            break
        sleep(min(_PAUSE, max(0.0, deadline - time.monotonic())))
    return {"changes": found, "next": found[-1]["cursor"] if found else after}


def _page(table: Table, viewer: str, after: str, limit: int, now: datetime, until: float) -> tuple[list[JsonObject], str]:
    """The next `limit` entries after a place, but for those about a study that the caller may not see any more; and the place
    up to which there are no others. Looks no longer than `until` (monotonic), past however many of those.

    Entries that are not shown leave no trace: neither a page that is shorter, nor a place that is skipped.
    """
    found: list[JsonObject] = []
    asked = min(MAX_LIMIT, limit)
    while len(found) < limit:
        page = table.query(keys.feed(viewer), between=(f"{_ENTRIES}{after}~", f"{_ENTRIES}~"), limit=asked)
        items = _without_hole(table, viewer, int(after), page.items)
        found += _shown(table, viewer, items, now)
        after = items[-1].sk.removeprefix(_ENTRIES) if items else after
        ends = page.next is None and len(items) == len(page.items)
        if ends or time.monotonic() >= until:
            break
        asked = MAX_LIMIT
    return found[:limit], after


def _without_hole(table: Table, viewer: str, last: int, items: Sequence[Item]) -> Sequence[Item]:
    """The entries of a page up to one before which another is missing that is there.

    A Query is no snapshot (Developer Guide, "Isolation levels": read-committed): of entries that are written while it reads it
    may answer a later one without an earlier one, which would be skipped for good.
    """
    for count, item in enumerate(items):
        before = int(str(item.data.get(_BEFORE, 0)))
        if before > last and table.get(keys.feed(viewer), keys.feed_entry(before)) is not None:
            return items[:count]
        last = int(item.sk.removeprefix(_ENTRIES))
    return items


def _shown(table: Table, viewer: str, items: Sequence[Item], now: datetime) -> list[JsonObject]:
    about = {(str(item.data["owner"]), str(item.data["study_instance_uid"])) for item in items if _names_study(item)}
    found = table.batch_get(keys.study_view(study, owner) for owner, study in sorted(about))
    views = [StudyView.from_item(item.data) for item in found.values()]
    decided = access.decide(table, viewer, views, now)
    known = {(view.owner, view.study_instance_uid): decision for view, decision in zip(views, decided, strict=True)}
    shown: list[JsonObject] = []
    for item in items:
        if _names_study(item):
            decided_on = known.get((str(item.data["owner"]), str(item.data["study_instance_uid"])))
            withdrawn = item.data["kind"] in ("study-withdrawn", "read-study-withdrawn")
            if decided_on is None or (decided_on.hidden if withdrawn else not decided_on.decision.allowed):
                continue
        said = {name: value for name, value in item.data.items() if name != _BEFORE}
        shown.append({"cursor": item.sk.removeprefix(_ENTRIES), **said})
    return shown


def _names_study(item: Item) -> bool:
    return "study_instance_uid" in item.data
