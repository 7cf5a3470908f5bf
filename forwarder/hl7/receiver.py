"""HL7 in: a message becomes reports in the journal, and is answered with AA only when they are durable there."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable

from forwarder.config import Hl7Config
from forwarder.errors import SpoolError
from forwarder.hl7.acknowledgement import acknowledge
from forwarder.hl7.message import RefusedMessage, Segment, begin, read_header
from forwarder.hl7.report import check_header, read_reports, sender_of
from forwarder.hl7.waiting import take_in
from forwarder.logs import log
from forwarder.spool.spool import Spool, SpoolFullError

CROWDED_SECONDS = 900.0  # for which it is told


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
            with self._one_by_one:
                reading = read_reports(content, header, self._config)
        except RefusedMessage as refusal:
            self.refused += 1
            log.warning(
                "HL7 message refused", peer=peer, sender=_shown(header), code=refusal.code, condition=refusal.condition,
                segment=refusal.segment, number=refusal.number, field=refusal.field, detail=str(refusal),
            )  # fmt: skip
            return acknowledge(header, refusal)
        reports = reading.reports
        message = _digest(content, header)
        try:
            self._spool.check_space()
            new = take_in(self._spool.journal, message, sender_of(header)[:64], reports)
        except SpoolError as error:
            self.failing = not isinstance(error, SpoolFullError)
            raise
        self.failing = False
        self._spool.step("report-journaled")
        log.info("HL7 message accepted", peer=peer, sender=_shown(header), digest=message[:12], reports=len(reports), new=new)
        for fault in reading.left_out:
            log.warning("HL7 message refused in part", peer=peer, sender=_shown(header), digest=message[:12], detail=str(fault))
        for report in reports:
            if report.content is None:
                log.warning("a report was taken back by its sender", digest=message[:12], document=report.document[:12])
        self._on_stored()
        return acknowledge(header, None, reading.left_out)


def _shown(header: Segment | None) -> str:
    """Who sent it, as far as that can be read."""
    return "".join(letter for letter in sender_of(header) if letter.isprintable())[:64] if header else ""


def _digest(content: bytes, header: Segment) -> str:
    """Of what a message says, its control id included: the same when it is sent again, whatever time MSH-7 then says."""
    said = [*header.fields[:7], *header.fields[8:]]
    body = re.split(rb"[\r\n]", begin(content), maxsplit=1)[1:]
    return hashlib.sha256(b"\r".join(["|".join(said).encode("latin-1"), *body])).hexdigest()
