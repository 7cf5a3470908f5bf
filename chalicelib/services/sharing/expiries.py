"""Transfers that ran out: both parties are told, as they are when one of them ends it.

What a transfer opens ends at its expiry by itself, since deciding compares moments. Only the change feed needs someone to look at
the clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from chalicelib.domain import keys, transfers
from chalicelib.domain.ports import Item, Put, Table
from chalicelib.domain.rfc3339 import iso, kept_moment
from chalicelib.services import changes

_LAST = (keys.EXPIRIES, keys.LAST)
"""(pk, sk) of the moment up to which everybody was told: only so that not everything is looked at each time."""
_OVERLAP = timedelta(minutes=5)
"""How long an index may take to show what was written."""


def notify_expired(table: Table, now: datetime) -> int:
    """Tell the parties of each transfer that expired since the last run; how many. Safe to repeat, by several at once."""
    last = table.get(*_LAST)
    since = kept_moment(last.data["at"]) - _OVERLAP if last else datetime.min.replace(tzinfo=UTC)
    told = 0
    for item in table.query_all(keys.EXPIRING, index="gsi3", between=(iso(since), f"{iso(now)}~")):
        transfer = transfers.from_facts(table.query_all(item.pk))
        if transfer is None or transfer.status(now) != "expired":
            continue  # ended, or extended since: then it is found again at its later expiry
        ended = changes.transfer_ended(transfer, "expired")
        if all(changes.was_told(table, change) for change in ended):
            continue
        changes.tell(table, ended, now)
        told += 1
    table.put(Put(Item(*_LAST, {"at": iso(now)})))
    return told
