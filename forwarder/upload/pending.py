"""What the way out reads from and writes to the journal."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from forwarder.archive.client import InstanceStatus, Offer, Upload
from forwarder.compression.jpegls import Compressed
from forwarder.spool.journal import Journal

POLL_FIRST = 0.25  # seconds after the PUT
POLL_SLOWEST = 10.0
LONGEST_PAUSES = {"instances": 2 * 3600.0, "commitments": 3600.0, "reports": 12 * 3600.0}  # seconds, by table; generously
KEPT_ASIDE = frozenset({"rejected", "conflict"})


@dataclass(slots=True)
class Item:
    """An instance on its way. `digest` names its bytes as received; what is sent may be the compressed form."""

    digest: str
    size: int
    study: str | None
    rank: float
    attempts: int
    packing: str
    packed: Compressed | None

    @property
    def sent_digest(self) -> str:
        return self.packed.digest if self.packed else self.digest

    @property
    def sent_size(self) -> int:
        return self.packed.size if self.packed else self.size

    @property
    def urgent(self) -> bool:
        """Whether it goes before everything that is not (`forwarder.upload.priority`)."""
        return self.rank < 0

    def offer(self) -> Offer:
        """What to ask the archive about."""
        original = self.digest if self.packed else None
        return Offer(self.sent_digest, self.sent_size, self.study, original)


@dataclass(order=True)
class Job:
    """An upload to be made: the smallest rank first, then the one that came first."""

    rank: float
    number: int
    item: Item = field(compare=False)
    upload: Upload = field(compare=False)


@dataclass
class Traffic:
    """What went out since the start."""

    bytes_sent: int = 0  # over the line, repeated attempts included
    bytes_saved: int = 0  # by compressing
    packing_failures: int = 0


def _item(row: sqlite3.Row) -> Item:
    packed = Compressed(row["packed_digest"], row["packed_size"]) if row["packing"] == "packed" else None
    return Item(row["digest"], row["size"], row["study"], row["rank"], row["attempts"], row["packing"], packed)


COLUMNS = "digest, size, study, rank, attempts, packing, packed_digest, packed_size"


def straighten(journal: Journal) -> None:
    """What a clock that has been put right since put off for longer than any pause lasts is due now. Raises SpoolError."""
    now = time.time()

    def work(connection: sqlite3.Connection) -> None:
        for table, longest in LONGEST_PAUSES.items():
            connection.execute(f"UPDATE {table} SET not_before = 0 WHERE not_before > ?", (now + longest,))  # noqa: S608

    journal.note(work)


class Queue:
    """The instances that wait, in the order in which they should go."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def next(self, count: int, besides: Collection[str], *, only_urgent: bool = False) -> list[Item]:
        """The next `count` to send that are due and not in `besides`."""
        before = 0.0 if only_urgent else float("inf")
        with self._journal.read() as connection:
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM instances WHERE state = 'waiting' AND rank < ? AND not_before <= ?"  # noqa: S608
                " ORDER BY rank, digest LIMIT ?",
                (before, time.time(), count + len(besides)),
            )
            return [_item(row) for row in rows if row["digest"] not in besides][:count]

    def next_due(self) -> float | None:
        """Seconds until the next postponed one is due, or None if nothing is postponed."""
        with self._journal.read() as connection:
            row = connection.execute(
                "SELECT min(not_before) FROM instances WHERE state = 'waiting' AND not_before > ?",
                (time.time(),),
            ).fetchone()
        return None if row[0] is None else max(0.0, row[0] - time.time())

    def packed(self, item: Item) -> Future[sqlite3.Cursor]:
        """Note how `item` will be sent (its `packing` and `packed`)."""
        packed = item.packed
        values = (item.packing, packed and packed.digest, packed and packed.size, item.digest)
        return self._execute(
            "UPDATE instances SET packing = ?, packed_digest = ?, packed_size = ? WHERE digest = ? AND state = 'waiting'",
            values,
        )

    def stored(self, item: Item) -> Future[sqlite3.Cursor]:
        """The archive has the bytes; its verdict is to come."""
        now = time.time()
        return self._execute(
            "UPDATE instances SET state = 'stored', stored_at = ?, not_before = ?, attempts = 0"
            " WHERE digest = ? AND state = 'waiting'",
            (now, now + POLL_FIRST, item.digest),
        )

    def postponed(self, item: Item, seconds: float, reason: str) -> Future[sqlite3.Cursor]:
        """This one failed for its own reasons; it waits aside while the others go on."""
        return self._execute(
            "UPDATE instances SET attempts = attempts + 1, not_before = ?, reason = ? WHERE digest = ? AND state = 'waiting'",
            (time.time() + seconds, reason, item.digest),
        )

    def to_poll(self, count: int) -> list[tuple[str, str]]:
        """Stored instances whose verdict is due, at most `count`: (digest as received, digest as sent)."""
        with self._journal.read() as connection:
            rows = connection.execute(
                "SELECT digest, coalesce(packed_digest, digest) AS sent FROM instances"
                " WHERE state = 'stored' AND not_before <= ? ORDER BY not_before LIMIT ?",
                (time.time(), count),
            )
            return [(row["digest"], row["sent"]) for row in rows]

    def judged(self, verdicts: Sequence[tuple[str, InstanceStatus]]) -> list[str]:
        """Note the archive's verdicts on instances (by digest as received), durably.

        Returns the digests whose bytes are no longer needed. What the archive calls absent goes back to waiting.
        """
        now = time.time()

        def work(connection: sqlite3.Connection) -> list[str]:
            done: list[str] = []
            for digest, standing in verdicts:
                if standing.state in ("indexed", "echo"):
                    done.append(digest)
                _note(connection, digest, standing, now)
            return done

        return self._journal.write(work)

    def _execute(self, statement: str, values: tuple[object, ...]) -> Future[sqlite3.Cursor]:
        return self._journal.note_soon(lambda connection: connection.execute(statement, values))


def _note(connection: sqlite3.Connection, digest: str, standing: InstanceStatus, now: float) -> None:
    if standing.state in ("indexed", "echo"):
        connection.execute(
            "UPDATE instances SET state = ?, reason = NULL, settled_at = ? WHERE digest = ? AND state IN ('waiting', 'stored')",
            (standing.state, now, digest),
        )
    elif standing.state == "stored":
        connection.execute(
            "UPDATE instances SET state = 'stored', stored_at = coalesce(stored_at, ?),"
            " not_before = ? + min(?, max(?, (? - coalesce(stored_at, ?)) * 0.5))"
            " WHERE digest = ? AND state IN ('waiting', 'stored')",
            (now, now, POLL_SLOWEST, POLL_FIRST, now, now, digest),
        )
    elif standing.state == "absent":
        connection.execute(
            "UPDATE instances SET state = 'waiting', stored_at = NULL, not_before = 0"
            " WHERE digest = ? AND state IN ('waiting', 'stored')",
            (digest,),
        )
    else:  # put aside for a person: rejected, in conflict, superseded, and what a newer archive may call it
        state = standing.state if standing.state in KEPT_ASIDE else "rejected"
        connection.execute(
            "UPDATE instances SET state = ?, reason = ?, settled_at = ? WHERE digest = ? AND state IN ('waiting', 'stored')",
            (state, reason_of(standing), now, digest),
        )


def reason_of(standing: InstanceStatus) -> str:
    """Under which reason it is put aside: the archive's, else the state's own name."""
    return standing.state if standing.state not in KEPT_ASIDE or not standing.reason else standing.reason
