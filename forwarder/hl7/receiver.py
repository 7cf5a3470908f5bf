"""HL7 in: a message becomes reports or events in the journal, and is answered with AA only when they are durable there."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from forwarder.config import AdtConfig, Hl7Config
from forwarder.errors import SpoolError
from forwarder.hl7.acknowledgement import acknowledge
from forwarder.hl7.adt.engine import Registration
from forwarder.hl7.adt.event import TAKEN, AdtEvent, read_events, trigger_of
from forwarder.hl7.adt.rules import EventOutcome
from forwarder.hl7.adt.standing import UNREADABLE
from forwarder.hl7.message import RefusedMessage, Segment, begin, read_header
from forwarder.hl7.moments import moment_of
from forwarder.hl7.order import Order, read_orders
from forwarder.hl7.priors import OrderPriors, told
from forwarder.hl7.report import ORDERS, Report, check_header, kind_of, read_reports, sender_of
from forwarder.hl7.waiting import take_in
from forwarder.logs import log, place_of
from forwarder.spool.spool import Spool, SpoolFullError

CROWDED_SECONDS = 900.0  # for which it is told
MOST_UNREADABLE = 20  # messages of ADT that are shown
CLOCKS_DIFFER = timedelta(days=1)


@dataclass(frozen=True)
class _ReadMessage:
    """What a message says, read but not kept yet; `counted`: under which name one is counted of which nothing is kept."""

    reports: Sequence[Report] = ()
    events: Sequence[AdtEvent] = ()
    left_out: Sequence[RefusedMessage] = ()
    orders: Sequence[Order] = ()
    counted: str = ""


class MessageHandler:
    """Takes messages in. Since the start: `refused` counts those answered with AE or AR, `made_room` the connections that were
    closed for new ones, `turned_away` those for which there was no room.
    """

    def __init__(self, config: Hl7Config, spool: Spool, on_stored: Callable[[], None]) -> None:
        self._config = config
        self._spool = spool
        self._on_stored = on_stored
        self._one_by_one = threading.Lock()  # what reading a large message takes of memory, it takes once
        self.refused = self.made_room = self.turned_away = 0
        self._crowded_at: float | None = None
        self.failing = False  # whether the spool failed the last message
        self.registration: Registration | None = None  # who takes events of ADT
        self.orders: OrderPriors | None = None  # who asks what there is for an order
        self.unreadable: deque[dict[str, object]] = deque(maxlen=MOST_UNREADABLE)

    def crowded(self, *, made_room: bool) -> None:
        """There were as many connections as may be (`hl7_mllp.Taker`)."""
        self.made_room += made_room
        self.turned_away += not made_room
        self._crowded_at = time.monotonic()

    @property
    def is_crowded(self) -> bool:
        """Whether that was so lately."""
        return self._crowded_at is not None and time.monotonic() - self._crowded_at < CROWDED_SECONDS

    def take(self, content: bytes, whole: bool, peer: str) -> list[bytes]:
        """The answers to a message (`hl7_mllp.Take`). Raises SpoolError: then nothing was taken, and nothing is answered."""
        header: Segment | None = None
        try:
            header = read_header(content)
            check_header(header, self._config)
            if not whole:
                raise RefusedMessage("AE", 207, f"The message is larger than {self._config.max_message_mb} MB.")
            message = digest_of(content, header)
            with self._one_by_one:
                reading = self._read_safely(content, header, message)
        except RefusedMessage as refusal:
            self._refused(refusal, header, peer)
            return acknowledge(header, refusal, responds=self._responds)
        try:
            self._spool.check_space()
            new = self._keep(reading, message, header)
        except SpoolError as error:
            self.failing = not isinstance(error, SpoolFullError)
            raise
        self.failing = False
        log.info(
            "HL7 message accepted", peer=peer, sender=_shown(header), digest=message[:12], reports=len(reading.reports),
            events=len(reading.events), orders=len(reading.orders), new=new,
        )  # fmt: skip
        for fault in reading.left_out:
            log.warning("HL7 message refused in part", peer=peer, sender=_shown(header), digest=message[:12], detail=str(fault))
        for report in reading.reports:
            if report.content is None:
                log.warning("a report was taken back by its sender", digest=message[:12], document=report.document[:12])
        return acknowledge(header, None, reading.left_out, self._told(reading), responds=self._responds)

    @property
    def _responds(self) -> bool:
        """Whether orders are answered by their own responses."""
        return self.orders is not None and self._config.orders.acknowledgement == "response"

    def _told(self, reading: _ReadMessage) -> list[list[str]]:
        """The segments that tell the RIS what there is for its order, where it is to be told. Raises SpoolError."""
        if self.orders is None or not reading.orders or not (segment := self._config.orders.answer_segment):
            return []
        return told(segment, self.orders.answer(reading.orders))

    def _read_safely(self, content: bytes, header: Segment, message: str) -> _ReadMessage:
        """As `_read`. One that this forwarder fails at is refused too: without an answer its sender would send it for ever, and
        all that stands behind it would wait. Raises RefusedMessage."""
        try:
            return self._read(content, header, message)
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            log.error("an HL7 message cannot be read", error=type(error).__name__, where=place_of(error.__traceback__))
            reason = "This forwarder failed at the message; its log says where. Nothing of it was taken."
            raise RefusedMessage("AE", 207, reason) from error

    def _read(self, content: bytes, header: Segment, message: str) -> _ReadMessage:
        """What a message says. Raises RefusedMessage."""
        if kind_of(header) in ORDERS:
            return _ReadMessage(orders=read_orders(content, header, self._config, message))
        if kind_of(header)[0] != "ADT":
            reading = read_reports(content, header, self._config)
            return _ReadMessage(reports=reading.reports, left_out=reading.left_out)
        if trigger_of(header) not in TAKEN:
            return _ReadMessage(counted=EventOutcome.NOT_FOR_US)
        now, events = datetime.now(UTC), read_events(content, header, self._config, message)
        if self.registration is not None and any(self.registration.ledger.is_crowded(event.number) for event in events):
            raise RefusedMessage("AE", 207, "There are more events of this patient than any registration tells.", "PID", 1, 3)
        return _ReadMessage(events=[late(event, self._config.adt, now) for event in events])

    def _keep(self, reading: _ReadMessage, message: str, header: Segment) -> int:
        """Make what was read durable, and tell who does something with it; how much of it is new. Raises SpoolError."""
        if self.registration is not None and reading.counted:
            self.registration.ledger.counted(reading.counted)
            return 0
        if self.registration is not None and reading.events:
            new = self.registration.ledger.take_in(reading.events)
            self._spool.step("adt-journaled")
            self.registration.notice()
            return new
        if self.orders is not None and reading.orders:
            new = self.orders.take_in(reading.orders)
            self._spool.step("order-journaled")
            self.orders.notice()
            return new
        new = take_in(self._spool.journal, message, sender_of(header)[:64], reading.reports)
        self._spool.step("report-journaled")
        self._on_stored()
        return new

    def _refused(self, refusal: RefusedMessage, header: Segment | None, peer: str) -> None:
        """Count a message that is not taken, and tell it; one of ADT stands on the page too."""
        self.refused += 1
        log.warning(
            "HL7 message refused", peer=peer, sender=_shown(header), code=refusal.code, condition=refusal.condition,
            segment=refusal.segment, number=refusal.number, field=refusal.field, detail=str(refusal),
        )  # fmt: skip
        if self.registration is None or header is None or kind_of(header)[0] != "ADT":
            return
        self.registration.ledger.counted(UNREADABLE)
        place = f"{refusal.segment}-{refusal.field}" if refusal.field else refusal.segment
        self.unreadable.append(
            {
                "at": round(time.time()),
                "event": trigger_of(header)[:3],
                "control_id": "".join(letter for letter in header.value(10) if letter.isprintable())[:40],
                "sender": _shown(header),
                "place": place,
                "detail": str(refusal),
            }
        )


def _shown(header: Segment | None) -> str:
    """Who sent it, as far as that can be read."""
    return "".join(letter for letter in sender_of(header) if letter.isprintable())[:64] if header else ""


def late(event: AdtEvent, config: AdtConfig, now: datetime) -> AdtEvent:
    """The same, marked where it happened too long ago, or is not to have happened yet."""
    age = now - moment_of(event.occurred)
    return replace(event, late=not -CLOCKS_DIFFER <= age <= timedelta(days=config.max_age_days))


def digest_of(content: bytes, header: Segment) -> str:
    """Of what a message says, its control id included: the same when it is sent again, whatever time MSH-7 then says."""
    said = [*header.fields[:7], *header.fields[8:]]
    body = re.split(rb"[\r\n]", begin(content), maxsplit=1)[1:]
    return hashlib.sha256(b"\r".join(["|".join(said).encode("latin-1"), *body])).hexdigest()
