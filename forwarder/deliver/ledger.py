"""What is to be brought into the PACS and what became of it: announced = delivered + there + aside + waiting, always."""

from __future__ import annotations

import sqlite3

from forwarder.deliver.bringing import Bringing
from forwarder.deliver.confirming import Confirming
from forwarder.deliver.following import Following
from forwarder.deliver.planning import Planning
from forwarder.deliver.recalling import Recalling
from forwarder.deliver.tables import are_known


class Ledger(Following, Planning, Bringing, Confirming, Recalling):
    """The journal's tables of deliveries. Every method raises SpoolError."""


def retry(connection: sqlite3.Connection, *, everything: bool) -> int:
    """Everything is tried now, and where `everything` is to be, what was put aside waits again; how many instances that are."""
    done = 0
    if not are_known(connection):
        return done
    if everything:
        done = connection.execute(
            "UPDATE deliver_instances SET state = 'waiting', reason = NULL, attempts = 0 WHERE state = 'aside'"
        ).rowcount
    connection.execute(
        "UPDATE deliver_studies SET state = 'waiting', asked = asked + 1, attempts = 0, not_before = 0"
        " WHERE state = 'waiting' OR EXISTS (SELECT 1 FROM deliver_instances AS instance WHERE instance.study ="
        " deliver_studies.study AND instance.owner = deliver_studies.owner AND instance.state = 'waiting')"
    )
    for table in ("deliver_looks", "deliver_confirmations", "deliver_recalls"):
        connection.execute(f"UPDATE {table} SET not_before = 0, attempts = 0")  # noqa: S608
    return done
