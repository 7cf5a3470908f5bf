"""How ADT stands, and what of it waits for a person: for pages, commands and metrics, without patient data."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from forwarder.hl7.adt.acts import DISCARDED, TOO_MANY, WITHIN, ActKind, ActState
from forwarder.hl7.adt.rules import EventOutcome

MOST_LISTED = 100
UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A number of ours under which a person may accept a transfer; what speaks for it and against it, as slugs."""

    transfer: str
    number: str
    evidence: tuple[str, ...]
    against: tuple[str, ...]
    since: float


def proposals(connection: sqlite3.Connection) -> list[Proposal]:
    """What waits for a person's eyes, the oldest first."""
    rows = connection.execute("SELECT transfer, number, evidence, against, since FROM adt_proposals ORDER BY since, number")
    return [Proposal(row[0], row[1], tuple(json.loads(row[2])), tuple(json.loads(row[3])), row[4]) for row in rows]


def waiting_for_a_person(connection: sqlite3.Connection, most: int = -1) -> list[dict[str, Any]]:
    """Acts that were held or that the archive refused, the oldest first, all or so many: without anything of the patient."""
    rows = connection.execute(
        "SELECT seq, kind, actor, state, reason, since FROM adt_acts WHERE state IN ('held', 'aside') ORDER BY seq LIMIT ?",
        (most,),
    )
    return [dict(row) for row in rows]


def release(connection: sqlite3.Connection, numbers: Collection[int]) -> int:
    """Let go on what waits for a person: these, or all; how many."""
    chosen = f" AND seq IN ({','.join(str(int(seq)) for seq in numbers)})" if numbers else ""
    return connection.execute(
        "UPDATE adt_acts SET state = 'waiting', reason = 'released', attempts = 0, not_before = 0"  # noqa: S608
        f" WHERE state IN ('held', 'aside'){chosen}"
    ).rowcount


def discard(connection: sqlite3.Connection, numbers: Collection[int]) -> int:
    """Have what waits for a person done by nobody: these, or all; how many."""
    chosen = f" AND seq IN ({','.join(str(int(seq)) for seq in numbers)})" if numbers else ""
    return connection.execute(
        f"UPDATE adt_acts SET state = 'dropped', reason = '{DISCARDED}' WHERE state IN ('held', 'aside'){chosen}"  # noqa: S608
    ).rowcount


def is_known(connection: sqlite3.Connection) -> bool:
    """Whether the journal is one of a forwarder that knows of ADT, or is not yet."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'adt_acts'").fetchone() is not None


def summary(connection: sqlite3.Connection) -> dict[str, Any]:
    """How ADT stands, without patient data. Zeros in a journal from before there was any."""
    outcomes = dict.fromkeys((*map(str, EventOutcome), UNREADABLE), 0)
    found: dict[str, Any] = {"events": outcomes, "unknown_destinations": [], "for_a_person": []}
    acts = {f"{kind}s": dict.fromkeys(("waiting", "held", "done", "undone", "aside"), 0) for kind in ActKind}
    found |= {"acts": acts, "waiting": 0, "oldest_waiting_seconds": None, "held": 0, "too_many": 0, "aside": 0, "proposals": 0}
    if not is_known(connection):
        return found
    for row in connection.execute("SELECT what, count FROM adt_counts WHERE code = ''"):
        outcomes[row["what"]] = row["count"]
    for row in connection.execute(
        "SELECT kind, state, count(*) AS n FROM adt_acts WHERE reason IS NOT ? GROUP BY kind, state", (WITHIN,)
    ):
        state = ActState.WAITING if row["state"] == ActState.UNDO else row["state"]
        if state in acts[f"{row['kind']}s"]:
            acts[f"{row['kind']}s"][state] += row["n"]
    waiting = connection.execute("SELECT count(*), min(since) FROM adt_acts WHERE state IN ('waiting', 'undo')").fetchone()
    found["waiting"] = waiting[0]
    found["oldest_waiting_seconds"] = None if waiting[1] is None else round(max(0.0, time.time() - waiting[1]), 1)
    found["held"] = sum(counts["held"] for counts in acts.values())
    found["aside"] = sum(counts["aside"] for counts in acts.values())
    found["too_many"] = connection.execute(
        "SELECT count(*) FROM adt_acts WHERE state = 'held' AND reason = ?", (TOO_MANY,)
    ).fetchone()[0]
    found["proposals"] = connection.execute("SELECT count(*) FROM adt_proposals").fetchone()[0]
    found["for_a_person"] = waiting_for_a_person(connection, MOST_LISTED)
    found["unknown_destinations"] = [
        {"code": row["code"], "count": row["count"], "last_at": row["last_at"]}
        for row in connection.execute("SELECT code, count, last_at FROM adt_counts WHERE code != '' ORDER BY last_at DESC, code")
    ]
    return found
