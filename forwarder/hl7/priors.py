"""What other hospitals have for an order: asked at the archive, told to the deliveries, the page and the RIS.

An order is durable before it is acknowledged. What is relevant for it goes first into the PACS; whether the same examination was
made elsewhere in the last days is told, so that it is not made again for want of knowing.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from forwarder.archive.client import Archive
from forwarder.archive.link import Link
from forwarder.archive.retry import pause
from forwarder.config import OrdersConfig
from forwarder.errors import ArchiveError, Failure, SpoolError
from forwarder.hl7.moments import HOSPITAL_TIME
from forwarder.hl7.order import Order
from forwarder.logs import UNFORESEEN, log, log_unforeseen
from forwarder.retrieve.instances import Instances
from forwarder.spool.spool import Spool

MOST_PRIORS = 50
MOST_LISTED = 50
MOST_TOLD = 5
TRIES = 20
Front = Callable[[str, Sequence[tuple[str, str]]], None]
"""Told a patient's number and (study, owner) of what is relevant, best first."""


@dataclass(frozen=True, slots=True)
class ExamForOrder:
    """An exam of another hospital that is relevant for an order. `same`: same region and modality, made within the last days."""

    study: str
    owner: str
    hospital: str
    date: str
    description: str
    modalities: tuple[str, ...]
    same: bool


class OrderPriors:
    """Asks for each order, in a thread of its own (`run`)."""

    def __init__(self, spool: Spool, archive: Archive, line: Link, config: OrdersConfig, front: Front | None) -> None:
        self._journal = spool.journal
        self._archive = archive
        self._line = line
        self._config = config
        self._front = front
        self._instances = Instances(archive)
        self._wake = threading.Event()
        self._answered = threading.Condition()

    def notice(self) -> None:
        """Something new waits, or it is time to stop."""
        self._wake.set()

    def take_in(self, orders: Sequence[Order]) -> int:
        """Take orders on, durably; how many are new. Raises SpoolError."""
        now = time.time()

        def work(connection: sqlite3.Connection) -> int:
            return sum(
                connection.execute(
                    "INSERT OR IGNORE INTO orders (digest, control_id, number, content, state, received_at)"
                    " VALUES (?, ?, ?, ?, 'waiting', ?)",
                    (order.digest, order.control_id, order.number, json.dumps(asdict(order)), now),
                ).rowcount
                for order in orders
            )

        return self._journal.write(work)

    def answer(self, orders: Sequence[Order]) -> list[ExamForOrder]:
        """What is relevant for these orders, those of the last days first, waiting for it as long as is configured; none where it
        is not known by then. Raises SpoolError."""
        deadline = time.monotonic() + self._config.answer_seconds
        with self._answered:
            while True:
                found, waits = self._known(orders)
                left = deadline - time.monotonic()
                if not waits or left <= 0:
                    return sorted(found, key=lambda exam: not exam.same)
                self._answered.wait(left)

    def _known(self, orders: Sequence[Order]) -> tuple[list[ExamForOrder], bool]:
        found: list[ExamForOrder] = []
        waits = False
        with self._journal.read() as connection:
            for order in orders:
                row = connection.execute("SELECT state, answer FROM orders WHERE digest = ?", (order.digest,)).fetchone()
                waits = waits or (row is not None and row["state"] == "waiting")
                for exam in json.loads(row["answer"]) if row is not None else ():
                    found.append(ExamForOrder(**exam | {"modalities": tuple(exam["modalities"])}))
        return list(dict.fromkeys(found)), waits

    def run(self, stop: threading.Event) -> None:
        """Until `stop`; a failing disk is waited out."""
        while not stop.is_set():
            self._wake.clear()
            try:
                wait = self._step()
            except SpoolError as error:
                log.error("the spool fails", detail=str(error))
                wait = 2.0
            if wait and not stop.is_set():
                self._wake.wait(wait)

    def _step(self) -> float:
        """Ask for one order, if one is due; how long to wait (seconds) before the next. Raises SpoolError."""
        if closed := self._line.closed_for():
            return closed
        with self._journal.read() as connection:
            row = connection.execute(
                "SELECT digest, content, attempts FROM orders WHERE state = 'waiting' AND not_before <= ?"
                " ORDER BY received_at DESC LIMIT 1",
                (time.time(),),
            ).fetchone()
        if row is None:
            return 1.0
        digest, started = str(row["digest"]), time.monotonic()
        try:
            order = Order(**json.loads(row["content"]))
            found = self._ask(order)
        except ArchiveError as error:
            blamed = not self._line.failed(error, started)
            log.warning("priors of an order cannot be asked for", kind=error.failure.value, detail=str(error))
            if blamed or error.failure in (Failure.SERVER, Failure.REFUSED, Failure.PROTOCOL):
                self._later(digest, int(row["attempts"]) + 1, error.failure.value, error.retry_after)
            return 0.0
        except (SpoolError, OSError):
            raise
        except Exception as error:  # nobody foresaw it: it holds up this order alone
            log_unforeseen("priors of an order cannot be asked for", error)
            self._later(digest, int(row["attempts"]) + 1, UNFORESEEN)
            return 0.0
        self._line.succeeded()
        if found and self._front is not None:
            self._front(order.number, [(exam.study, exam.owner) for exam in found])
        self._settled(order, found)
        log.info("priors of an order are known", relevant=len(found), same=sum(exam.same for exam in found))
        return 0.0

    def _ask(self, order: Order) -> list[ExamForOrder]:
        """The relevant exams of other hospitals, best first. Raises ArchiveError."""
        own = self._instances.ourselves().id
        asked = {"description": order.description, "modality": order.modality, "code": order.code, "limit": str(MOST_PRIORS)}
        query = urlencode({name: value for name, value in asked.items() if value}, quote_via=quote)
        actor = "".join(letter for letter in order.control_id if letter.isascii() and letter.isprintable())
        headers = {"Accept": "application/json", "X-On-Behalf-Of": f"HL7 order {actor}"[:64]}
        answer = self._archive.call(
            "GET", f"/patients/{quote(order.number, safe='')}/priors?{query}", b"", headers, (200, 400, 404)
        )
        if answer.status != 200:
            return []  # nothing of the patient is to be seen
        try:
            listed = json.loads(answer.data)["priors"]
            oldest = (datetime.now(HOSPITAL_TIME) - timedelta(days=self._config.same_days)).strftime("%Y%m%d")
            return [self._exam(prior, oldest) for prior in listed if prior["relevant"] is True and prior["owner"] != own]
        except (ValueError, KeyError, TypeError) as error:
            raise ArchiveError("The archive's priors are not what the contract says.", Failure.PROTOCOL) from error

    def _exam(self, prior: dict[str, Any], oldest: str) -> ExamForOrder:
        reasons = {str(reason["reason"]) for reason in prior["reasons"]}
        owner = str(prior["owner"])
        return ExamForOrder(
            str(prior["study_instance_uid"]),
            owner,
            self._instances.names.get(owner, owner),
            str(prior["study_date"]),
            str(prior["description"]),
            tuple(str(code) for code in prior["modalities"]),
            {"same-region", "same-modality"} <= reasons and str(prior["study_date"]) >= oldest,
        )

    def _settled(self, order: Order, found: Sequence[ExamForOrder]) -> None:
        self._journal.write(
            lambda connection: connection.execute(
                "UPDATE orders SET state = 'done', reason = NULL, answer = ? WHERE digest = ?",
                (json.dumps([asdict(exam) for exam in found]), order.digest),
            )
        )
        with self._answered:
            self._answered.notify_all()

    def _later(self, digest: str, attempts: int, reason: str, retry_after: float | None = None) -> None:
        seconds = pause(Failure.INSTANCE, attempts, retry_after)
        state = "waiting" if attempts < TRIES else "aside"
        self._journal.write(
            lambda connection: connection.execute(
                "UPDATE orders SET attempts = ?, not_before = ?, reason = ?, state = ? WHERE digest = ?",
                (attempts, time.time() + seconds, reason, state, digest),
            )
        )

    def forget(self, before: float) -> None:
        """Remove orders from `before` (seconds since the epoch). Raises SpoolError."""
        self._journal.write(lambda connection: connection.execute("DELETE FROM orders WHERE received_at < ?", (before,)))


def same_elsewhere(connection: sqlite3.Connection, number: str) -> list[ExamForOrder]:
    """The same examinations as those that were ordered for a patient, made at other hospitals lately, as the archive said."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'orders'").fetchone() is None:
        return []
    rows = connection.execute(
        "SELECT answer FROM orders WHERE number = ? AND answer != '[]' ORDER BY received_at DESC", (number,)
    )
    exams = [
        ExamForOrder(**exam | {"modalities": tuple(exam["modalities"])}) for row in rows for exam in json.loads(row["answer"])
    ]
    return list(dict.fromkeys(exam for exam in exams if exam.same))


def told(segment: str, exams: Sequence[ExamForOrder]) -> list[list[str]]:
    """Segments that tell a RIS of the same examinations that were made elsewhere lately, each as its fields, in ASCII.

    NTE: number, L, a sentence. Others: number, Study Instance UID, institution, its name, date, description, modalities.
    """
    found: list[list[str]] = []
    for place, exam in enumerate([exam for exam in exams if exam.same][:MOST_TOLD], 1):
        kinds, day = " ".join(exam.modalities), f"{exam.date[6:]}/{exam.date[4:6]}/{exam.date[:4]}"
        if segment == "NTE":
            text = f"Stesso esame del {day} presso {exam.hospital}, disponibile in visione: {exam.description} ({kinds})"
            fields = [segment, str(place), "L", text]
        else:
            fields = [segment, str(place), exam.study, exam.owner, exam.hospital, exam.date, exam.description, kinds]
        found.append([_ascii(field) for field in fields])
    return found


def _ascii(text: str) -> str:
    """The same without accents and other signs: an acknowledgement is in any of a dozen character sets."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", text) if letter.isascii() and letter.isprintable())


def summary(connection: sqlite3.Connection) -> dict[str, Any]:
    """How orders stand, without patient data. `same`: the last ones of which the same examination was made elsewhere lately, by
    their control ids. Zeros in a journal from before there were orders."""
    found: dict[str, Any] = {"received": 0, "waiting": 0, "aside": 0, "with_priors": 0, "with_same": 0, "same": []}
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'orders'").fetchone() is None:
        return found
    for row in connection.execute("SELECT state, count(*) AS n FROM orders GROUP BY state"):
        found["received"] += row["n"]
        if row["state"] in found:
            found[row["state"]] = row["n"]
    rows = connection.execute("SELECT control_id, answer, received_at FROM orders WHERE answer != '[]' ORDER BY received_at DESC")
    for row in rows:
        found["with_priors"] += 1
        same = [exam for exam in json.loads(row["answer"]) if exam["same"]]
        found["with_same"] += bool(same)
        if same and len(found["same"]) < MOST_LISTED:
            hospitals = sorted({str(exam["hospital"]) for exam in same})
            found["same"].append({"control_id": row["control_id"][:40], "at": row["received_at"], "hospitals": hospitals})
    return found
