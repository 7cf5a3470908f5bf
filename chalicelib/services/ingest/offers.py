"""What hospitals asked to upload, remembered until there is a verdict on it: so that no lost event leaves an object unread.

S3 tells the indexer of each object once, and may fail to. Objects cannot be listed by their time, but each was asked for by
`POST /uploads`; so each such call leaves one item, in the partition of the hour in which it is to be looked at. Whoever looks
announces anew what is stored and has no verdict, and puts what is left back for later: after 10 minutes, 30, 90, and so on.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from chalicelib.domain import keys
from chalicelib.domain.ports import Item, Objects, Put, Table
from chalicelib.domain.rfc3339 import iso, kept_moment
from chalicelib.domain.verdicts import Verdict
from chalicelib.services.ingest.due import DueList
from chalicelib.services.ingest.instance_items import StoredObject, verdicts_of

Announce = Callable[[Mapping[str, int]], None]
"""`domain.ports.Announcer.announce`."""

FIRST_LOOK = timedelta(minutes=10)
_LATER = 3
"""How many times as old an offer is at the next look as at this one."""
_ARRIVES_WITHIN = timedelta(hours=2)
"""An upload that was begun while its address was honoured is over by then."""
_GIVEN_UP = timedelta(days=3)
_LIST = DueList(keys.offered_at, keys.OFFERED_PROGRESS, hourly=True, furthest=_GIVEN_UP, most=2000)
"""By instances: a run ends after so many, and the next one goes on from there."""


@dataclass(frozen=True)
class _Offered:
    """Instances of one institution that were offered together, and those of them on which nothing was known yet."""

    institution: str
    hashes: tuple[str, ...]
    since: datetime
    due: datetime

    def item(self) -> Item:
        """As it is kept: 43 bytes for each instance, for as long as anybody looks."""
        raw = b"".join(map(bytes.fromhex, self.hashes))
        name = hashlib.sha256(raw).hexdigest()[:16]
        data: dict[str, object] = {
            "institution": self.institution,
            "since": iso(self.since),
            "due": iso(self.due),
            "sha256": base64.b64encode(raw).decode(),
        }
        return _LIST.item(self.due, f"{self.institution}#{name}", data, self.since + 2 * _GIVEN_UP)


def remember(table: Table, institution: str, hashes: Sequence[str], now: datetime) -> None:
    """Keep in mind that these are about to be uploaded. One write."""
    if hashes:
        wanted = tuple(dict.fromkeys(hashes))
        table.put(Put(_Offered(institution, wanted, now, now + FIRST_LOOK).item()))


def announce_lost(table: Table, objects: Objects, announce: Announce, now: datetime) -> int:
    """Announce again what was offered, is stored, and has no verdict though it is time; how many. Safe to repeat.

    Reads what is due since the last run and nothing else: without uploads, one item and a partition or two.
    """
    announced = 0

    def handle(item: Item) -> int:
        nonlocal announced
        offered = _read(item)
        announced += _look(table, objects, announce, offered, now)
        return len(offered.hashes)

    _LIST.go_through(table, now, handle)
    return announced


def _look(table: Table, objects: Objects, announce: Announce, offered: _Offered, now: datetime) -> int:
    """Announce what waits of one offer, and keep in mind what is still to come; how many were announced."""
    verdicts = verdicts_of(table, [keys.verdict(offered.institution, sha) for sha in offered.hashes])
    unread = {
        StoredObject(offered.institution, sha, 0).key: sha
        for sha in offered.hashes
        if (verdict := verdicts.get(keys.verdict(offered.institution, sha))) is None or Verdict.from_item(verdict.data).is_removed
    }
    stored = objects.sizes(list(unread))
    if stored:
        announce(stored)
    age = now - offered.since
    left = tuple(sha for key, sha in unread.items() if key in stored or age < _ARRIVES_WITHIN)
    if left and age < _GIVEN_UP:
        due = max(now + FIRST_LOOK, offered.since + _LATER * (offered.due - offered.since))
        table.put(Put(_Offered(offered.institution, left, offered.since, due).item()))
    return len(stored)


def _read(item: Item) -> _Offered:
    raw = base64.b64decode(str(item.data["sha256"]))
    hashes = tuple(raw[start : start + 32].hex() for start in range(0, len(raw), 32))
    since, due = (kept_moment(item.data[name]) for name in ("since", "due"))
    return _Offered(str(item.data["institution"]), hashes, since, due)
