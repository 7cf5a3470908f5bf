"""The state that everyone may see: one snapshot for the page, the terminal, the metrics and `check`. No patient data."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from forwarder import __version__
from forwarder.alerts import Trouble
from forwarder.archive.client import Archive
from forwarder.archive.signing import SKEW_TOLERATED, certificate_of
from forwarder.background import Background
from forwarder.config import Config
from forwarder.deliver import account
from forwarder.deliver.deliveries import SAFETY
from forwarder.deliver.engine import Deliveries
from forwarder.dicom.commitment import summary as commitments_summary
from forwarder.dicom.scp import Receiver
from forwarder.errors import ConfigError
from forwarder.hl7.adt.engine import Registration
from forwarder.hl7.adt.standing import summary as adt_summary
from forwarder.hl7.priors import OrderPriors
from forwarder.hl7.priors import summary as orders_summary
from forwarder.hl7.receiver import MessageHandler
from forwarder.hl7.waiting import summary as reports_summary
from forwarder.logs import UNFORESEEN
from forwarder.operations import work_items
from forwarder.operations.work_items import WorkList
from forwarder.query.engine import COUNTS, Queries
from forwarder.spool import instances
from forwarder.spool.instances import CONFLICTING_PATIENT
from forwarder.spool.journal import tally
from forwarder.spool.spool import Spool
from forwarder.spool.watched_folder import Watcher
from forwarder.tls import DAYS_WARNED, days_left
from forwarder.upload.outbox import Outbox

RATE_OVER = 10.0  # seconds


def summary(counters: dict[str, int]) -> dict[str, int]:
    """The counters as people think of them: received = indexed + rejected + waiting, always.

    `waiting` includes those that the archive has and has not judged yet (`at_archive`); `indexed` includes echoes;
    `rejected` includes conflicts and what the administrator discarded.
    """
    return {
        "received": counters["received"],
        "waiting": counters["waiting"] + counters["stored"],
        "indexed": counters["indexed"] + counters["echo"],
        "rejected": counters["rejected"] + counters["conflict"] + counters["discarded"],
        "at_archive": counters["stored"],
        "echo": counters["echo"],
        "conflict": counters["conflict"],
        "discarded": counters["discarded"],
        "bytes_waiting": counters["bytes_waiting"],
    }


def from_journal(connection: sqlite3.Connection) -> dict[str, Any]:
    """What the journal alone can tell, in one consistent view."""
    counts: dict[str, Any] = dict(summary(tally(connection)))
    oldest = instances.oldest_pending(connection)
    counts["oldest_waiting_seconds"] = None if oldest is None else round(max(0.0, time.time() - oldest), 1)
    counts["reports"] = reports_summary(connection)
    counts["commitments"] = commitments_summary(connection)
    counts["aside"] = instances.count_aside(connection) | counts["reports"].pop("reasons")
    counts["deliver"] = account.summary(connection)
    counts["adt"] = adt_summary(connection)
    counts["orders"] = orders_summary(connection)
    counts["last_day"] = instances.last_day(connection)
    counts["troubled"] = instances.count_postponed(connection)
    return counts


class Rates:
    """Bytes and instances a second over the last ten, from running totals. `tick` once a second."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, dict[str, int]]] = deque()
        self._lock = threading.Lock()

    def tick(self, totals: dict[str, int]) -> None:
        now = time.monotonic()
        with self._lock:
            self._points.append((now, totals))
            while len(self._points) > 2 and now - self._points[0][0] > RATE_OVER:
                self._points.popleft()

    def now(self) -> dict[str, float]:
        with self._lock:
            if len(self._points) < 2:
                return {}
            (start, first), (end, last) = self._points[0], self._points[-1]
        elapsed = max(end - start, 0.001)
        return {name: round((last[name] - first[name]) / elapsed, 1) for name in last}


class State:
    """Puts the snapshot together."""

    def __init__(
        self,
        config: Config,
        spool: Spool,
        outbox: Outbox,
        receiver: Receiver,
        archive: Archive,
        door: MessageHandler,
        background: Background,
    ) -> None:
        self._config = config
        self._spool = spool
        self._outbox = outbox
        self._receiver = receiver
        self._archive = archive
        self._door = door
        self.background = background
        self._rates = Rates()
        self.watcher: Watcher | None = None
        self.deliveries: Deliveries | None = None
        self.queries: Queries | None = None
        self.work: WorkList | None = None
        self.archive_sees: dict[str, Any] = {}
        """The archive's answer to the last sign of life."""
        self.ports: dict[str, int] = {}
        self.started_at = time.time()

    @property
    def registration(self) -> Registration | None:
        """Who takes events of ADT, if anybody does."""
        return self._door.registration

    @property
    def orders(self) -> OrderPriors | None:
        """Who asks what there is for orders, if anybody does."""
        return self._door.orders

    @property
    def pace(self) -> float | None:
        """The seconds that an instance takes now into the PACS, where that is known."""
        return self.deliveries.seconds_each if self.deliveries is not None else None

    def recall(self) -> None:
        """Look once at what the journal remembers. Raises SpoolError."""
        self._receiver.senders.recall(self._spool.journal)

    def tick(self) -> None:
        counters = self._spool.tally()
        self._rates.tick(
            {
                "bytes_in": self._receiver.bytes_received,
                "bytes_out": self._outbox.traffic.bytes_sent,
                "instances_in": counters["received"],
                "instances_out": counters["indexed"] + counters["echo"],
            }
        )

    def snapshot(self) -> dict[str, Any]:
        """Everything. Raises SpoolError when the journal cannot be read."""
        with self._spool.journal.read() as connection:
            counts = from_journal(connection)
            patients = account.patients(connection)
        free, reserve = self._spool.free_bytes(), self._spool.reserve_bytes
        line, traffic = self._outbox.line, self._outbox.traffic
        days = self._certificate_days()
        return {
            "version": __version__,
            "ae_title": self._config.dicom.ae_title,
            "archive": self._config.archive.api,
            "running": True,
            "troubles": self._troubles(counts, free < reserve, days),
            "since": round(self.started_at),
            "ports": self.ports,
            **counts,
            "rates": self._rates.now(),
            "refused": self._receiver.refusals.totals["C-STORE"],
            "associations_refused": self._receiver.refusals.totals["association"],
            "contexts_refused": self._receiver.refusals.totals["presentation context"],
            "refusals": self._receiver.refusals.listed(),
            "senders": self._receiver.senders.listed(),
            "left_in_folder": self.watcher.left if self.watcher else {},
            "hl7_refused": self._door.refused,
            "issuer_names": self._outbox.issuer_names,
            "hl7_made_room": self._door.made_room,
            "hl7_turned_away": self._door.turned_away,
            "traffic": {
                "bytes_received": self._receiver.bytes_received,
                "bytes_sent": traffic.bytes_sent,
                "bytes_saved": traffic.bytes_saved,
                "packing_failures": traffic.packing_failures,
            },
            "deliver": counts["deliver"]
            | {
                "enabled": self.deliveries is not None,
                "trouble": self.deliveries.trouble if self.deliveries else None,
                "echoes": self._receiver.echoes,
                "seconds_each": self.deliveries.seconds_each if self.deliveries else None,
                "patients": [patient.shown(self.deliveries.seconds_each if self.deliveries else None) for patient in patients],
            },
            "queries": {
                "enabled": self.queries is not None,
                **{name: self.queries.counts[name] if self.queries else 0 for name in COUNTS},
            },
            "people": work_items.summary(self.work.items if self.work else ()),
            "orders": counts["orders"] | {"enabled": self.orders is not None},
            "adt": counts["adt"] | {"enabled": self.registration is not None, "unreadable": list(self._door.unreadable)},
            "line": {
                "open": line.error is None and line.reached,
                "tried": line.reached or line.error is not None,
                "error": str(line.error) if line.error else None,
                "kind": line.error.failure.value if line.error else None,
                "trouble": line.error.trouble if line.error else None,
                "host": line.error.host if line.error else None,
                "since": round(line.since),
                "again_in_seconds": round(line.closed_for(), 1),
                "uploads": self._outbox.uploads_now,
                "window": self._outbox.window.limit,
                "skew_seconds": None if self._archive.skew is None else round(self._archive.skew, 1),
            },
            "disk": {"free_bytes": free, "reserve_bytes": reserve, "low": free < reserve},
            "archive_sees": self.archive_sees or None,
            "certificate_days": min(days, default=None) if days is not None else None,
        }

    def _certificate_days(self) -> list[int] | None:
        """Until each certificate of ours ends; None where one cannot be read."""
        doors = (self._config.dicom.tls, self._config.hl7.tls)
        try:
            files = [tls.certificate for tls in doors if tls.port] + [self._config.web.certificate]
            exchanged = certificate_of(self._config.archive.profile)
            files.append(str(exchanged) if exchanged else "")
            return [days_left(Path(file)) for file in files if file]
        except ConfigError:
            return None

    def _troubles(self, counts: dict[str, Any], low: bool, days: list[int] | None) -> list[str]:
        """What is wrong now, the gravest first: names of `forwarder.alerts`, and kinds of failure."""
        error, skew = self._outbox.line.error, self._archive.skew
        last_day: dict[str, int] = counts["last_day"]
        found: list[tuple[bool, str]] = [
            (self._spool.read_only(), Trouble.DISK_READ_ONLY),
            (low, Trouble.DISK_LOW),
            (self._receiver.failing or self._door.failing or self._outbox.failing, Trouble.SPOOL_FAILS),
            (error is not None, error.trouble if error else ""),
            (CONFLICTING_PATIENT in counts["aside"], Trouble.PATIENT_NOT_CORRECTED),
            (0 < last_day["arrived"] + last_day["aside"] <= 3 * last_day["aside"], Trouble.MANY_ASIDE),
            (self.watcher is not None and self.watcher.failing, Trouble.WATCH_FAILS),
            (skew is not None and abs(skew) > SKEW_TOLERATED, Trouble.CLOCK_WRONG),
            (self._door.is_crowded, Trouble.HL7_CROWDED),
            (any(name in SAFETY for name in counts["deliver"]["recalls"]), Trouble.RECALLS_TO_ACT_ON),
            (self.deliveries is not None and self.deliveries.trouble is not None, Trouble.PACS_DOES_NOT_TAKE),
            (UNFORESEEN in counts["deliver"]["waiting_for"], Trouble.DELIVERY_UNFORESEEN),
            (self.background.stumbles, Trouble.PART_STUMBLES),
            (bool(counts["adt"]["too_many"]), Trouble.ADT_TOO_MANY),
            (days is None, Trouble.CERTIFICATE_UNREADABLE),
            (min(days or [DAYS_WARNED]) < DAYS_WARNED, Trouble.CERTIFICATE_ENDS),
        ]
        return [str(name) for holds, name in found if holds]
