"""What each institution used in a month, from what there is: the bucket's listing, and the numbers of its audit records.

Nothing is counted for it while serving. An institution's requests are its records in the month: of each chain, the places where
the month begins and ends are found by halves, since records stand in the order of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from chalicelib.domain import audit_chain, keys
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.ports import Objects, Table

OBJECTS_AT_ONCE = 1000


@dataclass(frozen=True)
class Month:
    """From its beginning to that of the next one (aware)."""

    begins: datetime
    ends: datetime


@dataclass(frozen=True)
class Usage:
    """Of one institution: what came in the month, what was stored at its end, and how many recorded requests it made."""

    institution: str
    instances: int = 0
    bytes: int = 0
    stored_instances: int = 0
    stored_bytes: int = 0
    requests: int = 0

    def to_item(self) -> JsonObject:
        """As a job answers it."""
        return asdict(self)


def page(table: Table, objects: Objects, institution: str, month: Month, after: str) -> tuple[Usage, str | None]:
    """(What a page of an institution's objects adds up to, with its requests on the first one; the key to go on after.)"""
    listed = objects.keys_after(keys.instance_object(institution, ""), after, OBJECTS_AT_ONCE)
    came = [listing for listing in listed if month.begins <= listing.modified < month.ends]
    stored = [listing for listing in listed if listing.modified < month.ends]
    usage = Usage(
        institution,
        len(came),
        sum(listing.size for listing in came),
        len(stored),
        sum(listing.size for listing in stored),
        0 if after else _requests(table, audit_chain.shards(institution), month),
    )
    return usage, listed[-1].key if len(listed) == OBJECTS_AT_ONCE else None


def _requests(table: Table, shards: Sequence[str], month: Month) -> int:
    heads = table.batch_get((keys.audit_records(shard), keys.HEAD) for shard in shards)
    count = 0
    for shard in shards:
        head = audit_chain.head_of(heads.get((keys.audit_records(shard), keys.HEAD)))
        if head.seq:
            count += _first_since(table, shard, head.seq, month.ends) - _first_since(table, shard, head.seq, month.begins)
    return count


def _first_since(table: Table, shard: str, last: int, moment: datetime) -> int:
    """The number of the first record of a chain that is not before this moment; one that has expired was before it."""
    low, high = 1, last + 1
    while low < high:
        middle = (low + high) // 2
        record = table.get(keys.audit_records(shard), keys.audit_record(middle))
        if record is None or datetime.fromisoformat(str(record.data["at"])) < moment:
            low = middle + 1
        else:
            high = middle
    return low
