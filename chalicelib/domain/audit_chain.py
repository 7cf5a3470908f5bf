"""The chains of the audit trail: each record carries the SHA-256 of the one before it and of itself.

A chain ("shard") is a partition `F#AUDIT#<institution>#<n>`: records under consecutive numbers from 1, and the head, which
names the last one. Appending is one transaction on the condition that the head is still the one that was read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chalicelib.domain import keys
from chalicelib.domain.audit import Record, patients_of
from chalicelib.domain.ports import Item, Key, PutNew, PutVersion, Write

GENESIS = "0" * 64
"""What stands for the hash of the record before the first."""
SHARDS = 64
"""Chains of each institution. So many can be appended to at once; see docs/audit.md for what was measured."""


@dataclass(frozen=True)
class ChainHead:
    """The last record of a shard: its number (0: none yet) and its hash."""

    seq: int = 0
    hash: str = GENESIS


def shards(institution: str) -> list[str]:
    """The names of an institution's shards."""
    return [f"{institution}#{number:02d}" for number in range(SHARDS)]


def digest(record: Record) -> str:
    """SHA-256 (hex) of a record's canonical JSON: keys sorted, no blanks, UTF-8, without the hash itself."""
    content = {name: value for name, value in record.items() if name != "hash"}
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()).hexdigest()


def chain(head: ChainHead, shard: str, new: Iterable[Record], expires: int) -> list[Record]:
    """`new` as the next records of `shard` after `head`; `expires` in seconds since the epoch."""
    chained: list[Record] = []
    for record in new:
        linked = record | {"shard": shard, "seq": head.seq + 1, "prev": head.hash, "expires": expires}
        linked["hash"] = digest(linked)
        head = ChainHead(head.seq + 1, str(linked["hash"]))
        chained.append(linked)
    return chained


def item(record: Record) -> Item:
    """A chained record as an item: its key, the indexes by which its owner finds it, and its expiry follow from it."""
    expires = record["expires"]
    return Item(
        keys.audit_records(str(record["shard"])),
        keys.audit_record(int(str(record["seq"]))),
        record,
        _indexes(record),
        expires=expires if isinstance(expires, int) else None,
    )


def position(record: Record) -> str:
    """Where a record stands among its owner's, by time: the sort key of the indexes."""
    return f"{record['at']}#{record['shard']}#{int(str(record['seq'])):012d}"


def _indexes(record: Record) -> dict[str, Key]:
    owner = record.get("owner")
    if not isinstance(owner, str):
        return {}
    where = position(record)
    found: dict[str, Key] = {"gsi3": (keys.audit_of_owner(owner), where)}
    for index, patient in zip(("gsi1", "gsi2"), patients_of(record), strict=False):
        found[index] = (keys.audit_of_patient(owner, patient.hash), where)
    return found


def head_item(shard: str, last: Record) -> Item:
    """The head that says that `last` is the shard's last record."""
    seq = int(str(last["seq"]))
    return Item(keys.audit_records(shard), keys.HEAD, {"seq": seq, "hash": last["hash"], "at": last["at"]}, version=seq)


def appending(shard: str, head: ChainHead, chained: Sequence[Record]) -> list[Write]:
    """The writes that append `chained` to `shard` if its head is still `head`: the head's first."""
    return [PutVersion(head_item(shard, chained[-1]), head.seq), *(PutNew(item(record)) for record in chained)]


def head_of(found: Item | None) -> ChainHead:
    """The head that an item says, or that of a shard nothing was ever written to."""
    return ChainHead(int(str(found.data["seq"])), str(found.data["hash"])) if found else ChainHead()
