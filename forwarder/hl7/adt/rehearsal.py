"""What messages would do, tried on a copy of the journal's tables in memory."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from forwarder.hl7.adt.event import AdtEvent
from forwarder.hl7.adt.reconciling import insert, reconcile
from forwarder.hl7.adt.rules import Terms
from forwarder.hl7.adt.standing import is_known
from forwarder.spool.schema import REGISTRATION


@contextmanager
def rehearsal(journal: sqlite3.Connection | None) -> Iterator[sqlite3.Connection]:
    """The tables in memory, with what a journal has in them, for trying what messages would do."""
    memory = sqlite3.connect(":memory:")
    memory.row_factory = sqlite3.Row
    try:
        memory.executescript(REGISTRATION)
        if journal is not None and is_known(journal):
            for table in ("adt_events", "adt_acts"):
                columns = ", ".join(column["name"] for column in memory.execute(f"PRAGMA table_info({table})"))
                for row in journal.execute(f"SELECT {columns} FROM {table}"):  # noqa: S608
                    places = ", ".join("?" * len(row))
                    memory.execute(f"INSERT INTO {table} ({columns}) VALUES ({places})", tuple(row))  # noqa: S608
        yield memory
    finally:
        memory.close()


def rehearse(memory: sqlite3.Connection, events: Sequence[AdtEvent], terms: Terms) -> list[dict[str, Any]]:
    """What a message's events would change of the acts: each as it would stand."""

    def stand() -> dict[int, dict[str, Any]]:
        return {row["seq"]: dict(row) for row in memory.execute("SELECT * FROM adt_acts ORDER BY seq")}

    before, now = stand(), time.time()
    new = [event for event in events if insert(memory, event, now)]
    for number in dict.fromkeys(event.number for event in new):
        reconcile(memory, number, terms, now)
    return [act for seq, act in stand().items() if before.get(seq) != act]
