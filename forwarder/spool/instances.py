"""The journal's table of instances: the states that an instance can be in, and every statement that reads or writes it.

Functions that take a connection are part of the caller's transaction, and raise sqlite3.Error; `InstanceTable` opens its own.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from enum import StrEnum

from forwarder.archive.client import InstanceStatus, Offer
from forwarder.compression.jpegls import Compressed
from forwarder.spool.journal import Journal

POLL_FIRST = 0.25  # seconds after the PUT
POLL_SLOWEST = 10.0
FORGOTTEN_AT_ONCE = 1000  # rows in one transaction
COUNTED = 100_000  # instances of the last day: more would only cost time


class InstanceState(StrEnum):
    """What has become of an instance. The triggers of the journal keep a counter of each."""

    WAITING = "waiting"  # it is to be sent
    STORED = "stored"  # the archive has the bytes; its verdict is to come
    INDEXED = "indexed"  # the archive has it, and can find it
    ECHO = "echo"  # the archive has it from another hospital
    REJECTED = "rejected"  # put aside for a person
    CONFLICT = "conflict"  # put aside: another instance stands under its UID
    DISCARDED = "discarded"  # a person let go of it


class Packing(StrEnum):
    """How an instance is sent."""

    UNDECIDED = "todo"  # in the journal since the first release
    PACKED = "packed"  # losslessly compressed
    PLAIN = "plain"  # as it was received


CONFLICTING_PATIENT = "conflicting-patient"
"""The archive's reason for a conflict in which the patient differs."""
SETTLED_WELL = frozenset({InstanceState.INDEXED, InstanceState.ECHO})
"""The archive has it: no bytes are needed any more."""
PENDING = frozenset({InstanceState.WAITING, InstanceState.STORED})
"""It needs its bytes, to be sent."""
KEPT_ASIDE = frozenset({InstanceState.REJECTED, InstanceState.CONFLICT})
NEEDS_NO_BYTES = SETTLED_WELL | {InstanceState.DISCARDED}

# The conditions as the partial indexes of the journal have them: SQLite uses an index only where they are the same, word by word.
_PENDING = "state IN ('waiting', 'stored')"
_ASIDE = "state IN ('rejected', 'conflict')"
_ENDED = "state IN ('indexed', 'echo', 'discarded')"
_COLUMNS = "digest, size, study, rank, attempts, packing, packed_digest, packed_size"


@dataclass(frozen=True, slots=True)
class About:
    """What is known of an instance besides its bytes. `sent_as`: the UID that it was sent under, if not its own."""

    study: str | None = None
    sop_class: str | None = None
    sop_instance: str | None = None
    modality: str | None = None
    calling: str | None = None
    sent_as: str | None = None


@dataclass(frozen=True, slots=True)
class Aside:
    """An instance that was put aside, or a report (`modality` “report”). Times are seconds since the epoch."""

    digest: str
    state: str
    reason: str
    size: int
    modality: str | None
    calling: str | None
    received_at: float
    settled_at: float


@dataclass(slots=True)
class Item:
    """An instance on its way. `digest` names its bytes as received; what is sent may be the compressed form."""

    digest: str
    size: int
    study: str | None
    rank: float
    attempts: int
    packing: Packing
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


# Coming in


def take_on(
    connection: sqlite3.Connection, digest: str, size: int, about: About, received_at: float, rank: float
) -> InstanceState:
    """Take an instance on; what was discarded, lost or damaged and came again waits again. Returns the state it is in."""
    connection.execute(
        "INSERT INTO instances"
        " (digest, size, state, study, sop_class, sop_instance, sent_as, modality, calling, rank, received_at)"
        " VALUES (:digest, :size, 'waiting', :study, :sop_class, :sop_instance, :sent_as, :modality, :calling, :rank,"
        " :received_at)"
        " ON CONFLICT (digest) DO UPDATE SET state = 'waiting', reason = NULL, attempts = 0, not_before = 0,"
        " packing = 'todo', packed_digest = NULL, packed_size = NULL, settled_at = NULL"
        " WHERE state = 'discarded' OR (state = 'rejected' AND reason IN ('lost-from-spool', 'damaged-in-spool'))",
        {"digest": digest, "size": size, "received_at": received_at, "rank": rank, **asdict(about)},
    )
    (state,) = connection.execute("SELECT state FROM instances WHERE digest = ?", (digest,)).fetchone()
    return InstanceState(state)


def is_known(connection: sqlite3.Connection, digest: str) -> bool:
    """Whether the forwarder ever took it on."""
    return connection.execute("SELECT 1 FROM instances WHERE digest = ?", (digest,)).fetchone() is not None


def settle(connection: sqlite3.Connection, digest: str, state: InstanceState, reason: str | None) -> None:
    """Note an instance's end."""
    connection.execute(
        "UPDATE instances SET state = ?, reason = ?, settled_at = ? WHERE digest = ?", (state, reason, time.time(), digest)
    )


def forget_some(connection: sqlite3.Connection, before: float) -> int:
    """Remove some rows of what was settled `before` (seconds since the epoch); fewer than `FORGOTTEN_AT_ONCE` are all of them."""
    return connection.execute(
        f"DELETE FROM instances WHERE digest IN (SELECT digest FROM instances WHERE {_ENDED} AND settled_at < ? LIMIT ?)",
        (before, FORGOTTEN_AT_ONCE),
    ).rowcount


def states_of(connection: sqlite3.Connection, shard: str) -> dict[str, InstanceState]:
    """The state of each instance whose digest begins with `shard`."""
    rows = connection.execute("SELECT digest, state FROM instances WHERE digest BETWEEN ? AND ?", (shard, shard + "g"))
    return {row["digest"]: InstanceState(row["state"]) for row in rows}


def pending(connection: sqlite3.Connection) -> Iterator[str]:
    """The digests of all that need their bytes to be sent."""
    for (digest,) in connection.execute(f"SELECT digest FROM instances WHERE {_PENDING}"):
        yield digest


# What is told


def oldest_pending(connection: sqlite3.Connection) -> float | None:
    """When the oldest came that is not settled yet."""
    (oldest,) = connection.execute(f"SELECT min(received_at) FROM instances WHERE {_PENDING}").fetchone()
    return None if oldest is None else float(oldest)


def count_postponed(connection: sqlite3.Connection) -> int:
    """How many failed and are tried later."""
    sql = "SELECT count(*) FROM instances WHERE state = 'waiting' AND not_before > ?"
    return int(connection.execute(sql, (time.time(),)).fetchone()[0])


def count_aside(connection: sqlite3.Connection) -> dict[str, int]:
    """How many were put aside, by reason."""
    rows = connection.execute(f"SELECT reason, count(*) FROM instances WHERE {_ASIDE} GROUP BY reason ORDER BY reason")
    return dict(rows.fetchall())


def last_day(connection: sqlite3.Connection) -> dict[str, int]:
    """How many arrived and how many were put aside in the last day, each counted up to `COUNTED`."""
    since = time.time() - 86400.0
    return {
        name: connection.execute(
            f"SELECT count(*) FROM (SELECT 1 FROM instances WHERE {condition} AND settled_at > ? LIMIT ?)", (since, COUNTED)
        ).fetchone()[0]
        for name, condition in (("arrived", _ENDED), ("aside", _ASIDE))
    }


def last_by_sender(connection: sqlite3.Connection) -> list[tuple[str, float]]:
    """(calling AE title, when it sent last), the latest last. It looks at all instances."""
    return connection.execute(
        "SELECT calling, max(received_at) FROM instances WHERE calling IS NOT NULL GROUP BY calling ORDER BY 2"
    ).fetchall()


def under_uid(connection: sqlite3.Connection, sop_instance: str) -> list[tuple[InstanceState, str | None]]:
    """(state, SOP Class UID) of all that came under a SOP Instance UID, its data set's or the one it was sent as, the latest
    first."""
    rows = connection.execute(
        "SELECT state, sop_class FROM instances WHERE sop_instance = ? OR sent_as = ? ORDER BY received_at DESC",
        (sop_instance, sop_instance),
    )
    return [(InstanceState(state), sop_class) for state, sop_class in rows]


# What the administrator does


def put_aside(connection: sqlite3.Connection) -> list[Aside]:
    """What was put aside, the oldest first."""
    rows = connection.execute(
        "SELECT digest, state, reason, size, modality, calling, received_at, settled_at FROM instances"
        f" WHERE {_ASIDE} ORDER BY settled_at"
    )
    return [Aside(*row) for row in rows]


def discard(connection: sqlite3.Connection, digest: str) -> bool:
    """Let go of one put aside; whether it still was."""
    return bool(
        connection.execute(
            f"UPDATE instances SET state = 'discarded', settled_at = ? WHERE digest = ? AND {_ASIDE}", (time.time(), digest)
        ).rowcount
    )


def send_anew(connection: sqlite3.Connection, digest: str) -> int:
    """One put aside waits again, as on the first day; how many that are (0 or 1)."""
    return connection.execute(
        "UPDATE instances SET state = 'waiting', reason = NULL, attempts = 0, not_before = 0,"
        " packing = 'todo', packed_digest = NULL, packed_size = NULL, stored_at = NULL, settled_at = NULL"
        f" WHERE digest = ? AND {_ASIDE}",
        (digest,),
    ).rowcount


def last_moment(connection: sqlite3.Connection) -> float:
    """When the latest of what is to be sent came or was stored, by the clock of then (seconds); 0 without any."""
    latest = "max(received_at, coalesce(stored_at, 0))"
    found: float = connection.execute(f"SELECT coalesce(max({latest}), 0) FROM instances WHERE {_PENDING}").fetchone()[0]
    return found


def hurry(connection: sqlite3.Connection) -> int:
    """What was postponed is due now; how many."""
    return connection.execute(
        "UPDATE instances SET not_before = 0, attempts = 0 WHERE state = 'waiting' AND not_before > 0"
    ).rowcount


# Going out


class InstanceTable:
    """The instances that wait, in the order in which they should go, and what becomes of them. Methods raise SpoolError."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def next(self, count: int, besides: Collection[str], *, only_urgent: bool = False) -> list[Item]:
        """The next `count` to send that are due and not in `besides`."""
        before = 0.0 if only_urgent else float("inf")
        with self._journal.read() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM instances WHERE state = 'waiting' AND rank < ? AND not_before <= ?"
                " ORDER BY rank, digest LIMIT ?",
                (before, time.time(), count + len(besides)),
            )
            return [_item(row) for row in rows if row["digest"] not in besides][:count]

    def next_due(self) -> float | None:
        """Seconds until the next postponed one is due, or None if nothing is postponed."""
        with self._journal.read() as connection:
            (due,) = connection.execute(
                "SELECT min(not_before) FROM instances WHERE state = 'waiting' AND not_before > ?", (time.time(),)
            ).fetchone()
        return None if due is None else max(0.0, due - time.time())

    def packed(self, item: Item) -> Future[sqlite3.Cursor]:
        """Note how `item` will be sent (its `packing` and `packed`)."""
        packed = item.packed
        return self._execute(
            "UPDATE instances SET packing = ?, packed_digest = ?, packed_size = ? WHERE digest = ? AND state = 'waiting'",
            (item.packing, packed and packed.digest, packed and packed.size, item.digest),
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

    def settle(self, digest: str, state: InstanceState, reason: str | None) -> None:
        """Note an instance's end; its files stay."""
        self._journal.note(lambda connection: settle(connection, digest, state, reason))

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
            for digest, standing in verdicts:
                _note(connection, digest, standing, now)
            return [digest for digest, standing in verdicts if standing.state in SETTLED_WELL]

        return self._journal.write(work)

    def _execute(self, statement: str, values: tuple[object, ...]) -> Future[sqlite3.Cursor]:
        return self._journal.note_soon(lambda connection: connection.execute(statement, values))


def _item(row: sqlite3.Row) -> Item:
    packing = Packing(row["packing"])
    packed = Compressed(row["packed_digest"], row["packed_size"]) if packing is Packing.PACKED else None
    return Item(row["digest"], row["size"], row["study"], row["rank"], row["attempts"], packing, packed)


def _note(connection: sqlite3.Connection, digest: str, standing: InstanceStatus, now: float) -> None:
    if standing.state == InstanceState.STORED:
        connection.execute(
            "UPDATE instances SET state = 'stored', stored_at = coalesce(stored_at, ?),"
            " not_before = ? + min(?, max(?, (? - coalesce(stored_at, ?)) * 0.5))"
            f" WHERE digest = ? AND {_PENDING}",
            (now, now, POLL_SLOWEST, POLL_FIRST, now, now, digest),
        )
    elif standing.state == "absent":
        connection.execute(
            f"UPDATE instances SET state = 'waiting', stored_at = NULL, not_before = 0 WHERE digest = ? AND {_PENDING}", (digest,)
        )
    elif standing.state != InstanceState.CONFLICT or not _as_received(connection, digest):
        state, reason = _verdict(standing)
        connection.execute(
            f"UPDATE instances SET state = ?, reason = ?, settled_at = ? WHERE digest = ? AND {_PENDING}",
            (state, reason, now, digest),
        )


def _as_received(connection: sqlite3.Connection, digest: str) -> bool:
    """Have what was sent compressed sent as it was received; whether it was compressed.

    The archive compares only what has the same transfer syntax, and what it has may have come by a way that compresses nothing.
    """
    return bool(
        connection.execute(
            "UPDATE instances SET state = 'waiting', packing = 'plain', packed_digest = NULL, packed_size = NULL,"
            f" stored_at = NULL, not_before = 0 WHERE digest = ? AND packing = 'packed' AND {_PENDING}",
            (digest,),
        ).rowcount
    )


def _verdict(standing: InstanceStatus) -> tuple[InstanceState, str | None]:
    """How it ends here: well, or put aside for a person (rejected, in conflict, superseded, and what a newer archive may call it)
    under the archive's reason, else the state's own name."""
    if standing.state in SETTLED_WELL:
        return InstanceState(standing.state), None
    if standing.state in KEPT_ASIDE:
        return InstanceState(standing.state), standing.reason or standing.state
    return InstanceState.REJECTED, standing.state
