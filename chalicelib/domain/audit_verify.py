"""Verifying the audit trail: which record was altered, removed, moved or cut off. Pure, over what was stored.

What is compared, and what it would take to escape it:

* each record with its own hash, its key, its indexes: an edit in place;
* each record with the next one's `prev`: an edit with the hash made anew;
* numbers without a gap, up to what the head says: a record removed;
* everything with the heads in the anchors, which nobody can change: a chain, or its end, written anew.

A record may be missing when it was kept long enough: a later record, or an anchor that covers it, proves its age, and the anchor
says for how many years. And one that an anchor saw between the moment to which the table was restored and the one at which that
was recorded, beside the anchors and as locked as they are, may be lost with that restore, which is told with every verification.
When it was recorded S3 says, not the document.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from chalicelib.domain import audit_chain, keys
from chalicelib.domain.audit import Record
from chalicelib.domain.audit_chain import GENESIS, ChainHead
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.ports import Item
from chalicelib.domain.rfc3339 import kept_moment

Problem = Literal["altered", "removed", "moved", "truncated", "rewritten", "anchor"]


@dataclass(frozen=True)
class ChainFault:
    """What is wrong with the records `first` to `last` of a shard; `detail` says how that shows."""

    problem: Problem
    shard: str
    first: int
    last: int
    detail: str

    def __str__(self) -> str:
        which = f"record {self.first}" if self.first == self.last else f"records {self.first} to {self.last}"
        return f"{self.problem}: {which} of {self.shard}: {self.detail}"


@dataclass(frozen=True)
class Anchored:
    """The head of a shard as an anchor says it was at `at`."""

    at: datetime
    head: ChainHead
    source: str
    restored: bool = False
    """Whether a recorded restore explains that the chain does not have it."""
    keep_since: datetime | None = None
    """From when on records of this anchor's retention must still be there; None: as of all others."""


@dataclass
class _Walk:
    """Where a walk along a shard stands: the number that should come next, and the last record as far as it can be trusted."""

    expected: int
    prev: str | None
    blamed: int = 0


def verify_shard(
    shard: str,
    items: Iterable[Item],
    head: Item | None,
    anchors: Sequence[Anchored],
    keep_since: datetime,
    start: ChainHead | None = None,
    to_the_end: bool = True,
) -> Iterator[ChainFault]:
    """What is wrong with a shard: `items` are its records in key order after `start` (an anchored head, or the beginning).

    Records younger than `keep_since`, or than the first anchor that covers them says, must be there. `to_the_end` False: `items`
    stop before the shard's end, so that what comes after is not missed.
    """
    begin = start or ChainHead()
    walk = _Walk(begin.seq + 1, begin.hash)
    anchored = {anchor.head.seq for anchor in anchors}
    hashes: dict[int, str] = {}
    in_order = sorted(anchors, key=lambda anchored: anchored.head.seq)
    for item in items:
        if item.sk == keys.HEAD:
            continue
        if item.sk.isdigit() and int(item.sk) in anchored:
            hashes[int(item.sk)] = str(item.data.get("hash"))
        yield from _step(shard, item, walk, in_order, keep_since)
    last = walk.expected - 1
    if to_the_end:
        yield from _end(shard, head, last, walk)
    yield from _against_anchors(shard, anchors, hashes, begin.seq, last)


def _step(shard: str, item: Item, walk: _Walk, anchors: Sequence[Anchored], keep_since: datetime) -> Iterator[ChainFault]:
    if not item.sk.isdigit():
        yield ChainFault("altered", shard, 0, 0, f"a record has the key {item.sk[:20]!r}, which is no number")
        return
    seq, record = int(item.sk), item.data
    if seq > walk.expected:
        missed = _first_missed(walk.expected, seq - 1, str(record.get("at")), anchors, keep_since)
        if missed is not None:
            yield ChainFault("removed", shard, missed, seq - 1, "the numbers have a gap")
        walk.prev = None
    walk.expected = seq + 1
    stored = str(record.get("hash"))
    if (record.get("shard"), record.get("seq")) != (shard, seq):
        yield ChainFault("moved", shard, seq, seq, f"it is record {record.get('seq')} of {record.get('shard')}")
        walk.prev, walk.blamed = None, seq
        return
    if audit_chain.digest(record) != stored:
        yield ChainFault("altered", shard, seq, seq, "its content does not fit its hash")
        walk.blamed = seq
    elif audit_chain.item(record) != item:
        yield ChainFault("altered", shard, seq, seq, "its indexes or its expiry do not fit its content")
        walk.blamed = seq
    if walk.prev is not None and record.get("prev") != walk.prev and walk.blamed < seq - 1 and seq > 1:
        yield ChainFault("altered", shard, seq - 1, seq - 1, "the next record was chained to another content of it")
    elif seq == 1 and record.get("prev") != GENESIS and walk.blamed < seq:
        yield ChainFault("altered", shard, seq, seq, "it is the first, and says that it follows another")
    walk.prev = stored


def _end(shard: str, head: Item | None, last: int, walk: _Walk) -> Iterator[ChainFault]:
    """The head against the last record that is there."""
    if head is None:
        if last > 0:
            yield ChainFault("truncated", shard, last, last, "the shard's head is missing")
        return
    said = audit_chain.head_of(head)
    if said.seq > last:
        yield ChainFault("truncated", shard, last + 1, said.seq, "the shard's head names a later record than there is")
    elif said.seq < last:
        yield ChainFault("altered", shard, said.seq + 1, last, "the shard's head does not know of them")
    elif walk.prev is not None and said.hash != walk.prev and walk.blamed < last:
        yield ChainFault("altered", shard, last, last, "the shard's head was chained to another content of it")


def _against_anchors(
    shard: str, anchors: Sequence[Anchored], hashes: Mapping[int, str], begin: int, last: int
) -> Iterator[ChainFault]:
    """The anchored heads against the records under the same numbers. Each difference is told once."""
    missing = max(
        (anchor for anchor in anchors if anchor.head.seq > last and not anchor.restored), key=lambda o: o.head.seq, default=None
    )
    if missing is not None:
        yield ChainFault(
            "truncated", shard, last + 1, missing.head.seq, f"{missing.source} saw them on {missing.at:%Y-%m-%d %H:%M}"
        )
    good = begin
    for anchor in sorted(anchors, key=lambda anchored: anchored.head.seq):
        if not begin < anchor.head.seq <= last or anchor.head.seq not in hashes:
            continue
        if hashes[anchor.head.seq] != anchor.head.hash:
            if anchor.restored:
                continue
            yield ChainFault("rewritten", shard, good + 1, anchor.head.seq, f"{anchor.source} anchored another chain")
            return
        good = anchor.head.seq


def _first_missed(first: int, last: int, next_at: str, anchors: Sequence[Anchored], keep_since: datetime) -> int | None:
    """The first of these numbers whose record cannot have expired; None where all may have. `anchors` in the order of numbers.

    A record is of the retention of the first anchor that covers it, and no younger than that, nor than the next record that is
    there (`next_at`).
    """
    for anchor in anchors:
        if anchor.head.seq < first:
            continue
        since = anchor.keep_since or keep_since
        if anchor.at >= since and next_at >= since.isoformat():
            return first
        first = anchor.head.seq + 1
        if first > last:
            return None
    return first if next_at >= keep_since.isoformat() else None


TOLERANCE = timedelta(minutes=5)
"""By how much the clock of who records a restore may differ from that of S3."""
LEAST_YEARS, MOST_YEARS = 2, 100
"""For which audit records are kept: what the law allows at the least, and what a calendar bears."""
MOST_RESTORED = timedelta(days=36)
"""The table can be restored to moments of the last 35 days; a day is given to the restore itself."""

# Anchors -------------------------------------------------------------------------------------------------------------


def anchor(at: str, heads: Mapping[str, Record], previous: tuple[str, str] | None, retention_years: int) -> bytes:
    """An anchor document: the heads of the shards that grew, and key and SHA-256 of the anchor before it."""
    content: JsonObject = {"at": at, "heads": dict(heads), "retention_years": retention_years}
    if previous is not None:
        content["previous"] = {"key": previous[0], "sha256": previous[1]}
    return json.dumps(content, separators=(",", ":"), sort_keys=True).encode()


@dataclass(frozen=True)
class Restore:
    """That the table was brought back to what it was at `to`; recorded at `at`, as S3 says, by whom and why."""

    to: datetime
    at: datetime
    by: str
    reason: str

    def explains(self, anchored: datetime) -> bool:
        """Whether an anchor of this moment may name records that the restore took away."""
        return self.to < anchored <= self.at


def restore(to: str, at: str, by: str, reason: str) -> bytes:
    """The document that records a restore."""
    return json.dumps({"restored_to": to, "at": at, "by": by, "reason": reason}, sort_keys=True, ensure_ascii=False).encode()


def read_restores(documents: Iterable[tuple[str, bytes, datetime]]) -> tuple[list[Restore], list[ChainFault]]:
    """The recorded restores, from documents (key, content, when S3 got the first version, which the lock keeps).

    One that cannot be read is a finding and explains nothing, and so is one that says another moment than S3, or of a restore
    that cannot have been.
    """
    found: list[Restore] = []
    findings: list[ChainFault] = []
    for key, content, written_at in documents:
        try:
            said = json.loads(content)
            to, at = (kept_moment(said[name]) for name in ("restored_to", "at"))
            by, reason = str(said["by"]), str(said["reason"])
            wrong = _impossible(to, at, written_at)
        except (ValueError, KeyError, TypeError):
            wrong = "it cannot be read"
        if wrong:
            findings.append(ChainFault("anchor", key, 0, 0, wrong))
        else:
            found.append(Restore(to, written_at, by, reason))
    return found, findings


def _impossible(to: datetime, at: datetime, written_at: datetime) -> str:
    """What is wrong with the moments of a restore; empty where nothing is. Raises TypeError for one without its offset."""
    if abs(at - written_at) > TOLERANCE:
        return f"it says that it was recorded on {at:%Y-%m-%d %H:%M}, and was written on {written_at:%Y-%m-%d %H:%M}"
    if not written_at - MOST_RESTORED <= to <= written_at:
        return f"it says that the table was restored to {to:%Y-%m-%d %H:%M}, which cannot be"
    return ""


def read_anchors(
    documents: Iterable[tuple[str, bytes]], restores: Sequence[Restore] = (), now: datetime | None = None
) -> tuple[dict[str, list[Anchored]], list[ChainFault]]:
    """What each shard's head was, by shard, from anchor documents (key, content) in the order of their keys.

    With `now` each says for how long its records are kept. The findings name anchors that cannot be read, and those whose
    predecessor is another one than they say.
    """
    heads: dict[str, dict[tuple[int, str], Anchored]] = {}
    findings: list[ChainFault] = []
    before: tuple[str, str] | None = None
    for key, content in documents:
        try:
            document = json.loads(content)
            at = kept_moment(document["at"])
            said = {shard: ChainHead(int(head["seq"]), str(head["hash"])) for shard, head in document["heads"].items()}
            previous = document.get("previous")
            years = document.get("retention_years")
            kept = keep_since(now, _kept_years(float(years))) if now is not None and years is not None else None
        except (ValueError, KeyError, TypeError, AttributeError):
            findings.append(ChainFault("anchor", key, 0, 0, "it cannot be read"))
            continue
        if before is not None and previous != {"key": before[0], "sha256": before[1]}:
            findings.append(
                ChainFault("anchor", key, 0, 0, f"it does not follow {before[0]}: one between them is missing or was altered")
            )
        before = (key, hashlib.sha256(content).hexdigest())
        restored = any(restore.explains(at) for restore in restores)
        for shard, head in said.items():
            known = heads.setdefault(shard, {})
            known.setdefault((head.seq, head.hash), Anchored(at, head, key, restored, kept))
    return {shard: sorted(known.values(), key=lambda anchored: anchored.head.seq) for shard, known in heads.items()}, findings


def _kept_years(said: float) -> float:
    """The years for which an anchor says that records are kept, as far as a stack can say it: who forges one says any."""
    return min(max(said, LEAST_YEARS), MOST_YEARS)


def keep_since(now: datetime, retention_years: float) -> datetime:
    """Records from this moment on must still be there; a day is given to the table's own expiry."""
    return now - timedelta(days=365.25 * retention_years - 1)
