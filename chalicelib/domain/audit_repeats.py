"""What happens again and again within minutes is recorded in short: who, whose, which study and why stand once, before it.

A reading of forty images hands out forty addresses, each in the trail before it leaves. All but the first say the same but for
the moment, the request and the count; so they are *repeats*: records of the same chain that name the number of the *whole* one
(`same`) and what differs from it. A repeat has a hash like any other record, and no index: it is found behind its whole one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from chalicelib.domain.audit import Kind, Record
from chalicelib.domain.rfc3339 import kept_moment

WINDOW = timedelta(minutes=10)
"""How long after its whole record a repeat may be written."""
REACH = 200
"""How many records after it, so that a reader knows where to look."""
REPEATED = frozenset({Kind.ACCESS, Kind.SENT, Kind.SHOWN, Kind.AHEAD, Kind.DISCLOSURE, Kind.READ})
_OF_EACH = ("request", "route", "count", "text")
_OF_THE_CHAIN = frozenset({"shard", "seq", "prev", "hash", "expires", "same"})


@dataclass(frozen=True)
class Whole:
    """A record that was written whole, and its number in its chain."""

    seq: int
    record: Record


def signature(record: Record) -> str | None:
    """What a repeat has in common with its whole record; None for what is always written whole."""
    if record.get("owner") is None or Kind(str(record["kind"])) not in REPEATED:
        return None
    return json.dumps({name: value for name, value in record.items() if name not in ("at", *_OF_EACH)}, sort_keys=True)


def shorten(new: Sequence[Record], after: int, known: Mapping[str, Whole]) -> tuple[list[Record], dict[str, Whole]]:
    """The records as they are written after number `after` of a chain, and those of them that are whole, by signature.

    `known`: what the same process wrote whole into this chain.
    """
    written: list[Record] = []
    whole: dict[str, Whole] = {}
    for seq, record in enumerate(new, after + 1):
        sign = signature(record)
        before = (whole.get(sign) or known.get(sign)) if sign is not None else None
        if before is not None and seq - before.seq <= REACH and _moment(record) - _moment(before.record) <= WINDOW:
            written.append(_repeat(record, before))
            continue
        written.append(record)
        if sign is not None:
            whole[sign] = Whole(seq, record)
    return written, whole


def _repeat(record: Record, whole: Whole) -> Record:
    differing = {name: record.get(name) for name in _OF_EACH if record.get(name) != whole.record.get(name)}
    return {"at": record["at"], "same": whole.seq, **differing}


def expand(repeat: Record, whole: Record) -> Record:
    """A repeat as it would have been written whole, with its own place in the chain."""
    common = {name: value for name, value in whole.items() if name not in _OF_THE_CHAIN}
    return {name: value for name, value in {**common, **repeat}.items() if name != "same" and value is not None}


def joined(whole: Record, repeats: Iterable[Record]) -> Record:
    """A whole record and its repeats as one: how many (`events`), until when, the number of the last, the counts together."""
    ones = [expand(record, whole) for record in repeats]
    if not ones:
        return whole
    last = max(ones, key=lambda repeat: int(str(repeat["seq"])))
    counts = [int(str(record["count"])) for record in (whole, *ones) if "count" in record]
    together: Record = {"events": 1 + len(ones), "until": max(str(record["at"]) for record in ones), "last": last["seq"]}
    return whole | together | ({"count": sum(counts)} if counts else {})


def _moment(record: Record) -> datetime:
    return kept_moment(record["at"])
