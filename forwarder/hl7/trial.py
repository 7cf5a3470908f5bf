"""What messages would do, and nothing done: for who sets up a hospital's dialect (`hl7 try FILE`)."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime

from forwarder.config import Hl7Config
from forwarder.hl7.adt import codice_fiscale
from forwarder.hl7.adt.engine import terms_of
from forwarder.hl7.adt.event import TAKEN, AdtEvent, read_events, trigger_of
from forwarder.hl7.adt.rehearsal import rehearsal, rehearse
from forwarder.hl7.adt.rules import EventOutcome, outcome
from forwarder.hl7.message import RefusedMessage, read_header
from forwarder.hl7.order import read_orders
from forwarder.hl7.receiver import digest_of, late
from forwarder.hl7.report import ORDERS, check_header, kind_of, read_reports

WORDS = {
    EventOutcome.OPENS: "a patient leaves for {to}",
    EventOutcome.PREPARES: "a patient is to leave for {to}: nothing is opened before it happens",
    EventOutcome.ADMITS: "a patient is admitted: accepts the transfer that waits, if one number alone is certain",
    EventOutcome.PROPOSES: "a patient is registered: proposed for transfers that wait",
    EventOutcome.UPDATES: "what is known of the patient",
    EventOutcome.LINKS: "two numbers are one patient's",
    EventOutcome.UNLINKS: "two numbers are two patients'",
    EventOutcome.CANCELS: "undoes what its event did",
    EventOutcome.NOT_FOR_US: "not for us: nothing",
    EventOutcome.NOBODY: "destination “{unknown}” is nobody's: nothing is opened, and it is listed",
    EventOutcome.SEVERAL: "names several institutions: nothing is opened",
    EventOutcome.NO_CONSENT: "without the patient's consent: nothing is opened",
    EventOutcome.LATE: "happened too long ago, or in the future: nothing is opened or accepted",
}
ACTS = {
    ("patient", "waiting"): "tell the archive what is known of the patient",
    ("opening", "waiting"): "open a transfer to {subject}",
    ("opening", "held"): "have a person decide on a transfer to {subject}: the codice fiscale does not agree",
    ("opening", "undo"): "end the transfer to {subject} that ADT opened",
    ("opening", "dropped"): "not open the transfer to {subject}, which was not opened yet",
    ("acceptance", "undo"): "take back what the admission accepted",
    ("acceptance", "dropped"): "not accept, which was not done yet",
    ("link", "waiting"): "link the two numbers",
    ("link", "undo"): "undo the link of the two numbers",
}
_BEGINS = re.compile(rb"(?:^|(?<=[\r\n\x0b]))(?=MSH)")


def try_messages(content: bytes, config: Hl7Config, journal: sqlite3.Connection | None) -> Iterator[str]:
    """For each message of a file (one after the other, with or without MLLP's frames), lines that say what it would do, given
    what the journal (read only, None where there is none) knows. Nothing is written, and nobody is asked."""
    messages = [part.strip(b"\x0b\x1c\r\n") + b"\r" for part in _BEGINS.split(content) if part.strip(b"\x0b\x1c\r\n \t")]
    with rehearsal(journal) as memory:
        for number, message in enumerate(messages, 1):
            yield from (f"{'' if line.startswith(' ') else f'{number}. '}{line}" for line in _tried(message, config, memory))


def _tried(message: bytes, config: Hl7Config, memory: sqlite3.Connection) -> Iterator[str]:
    header = None
    try:
        header = read_header(message)
        kind, event = kind_of(header)
        name = f"{kind}^{event} {header.value(10)}"
        check_header(header, config)
        if (kind, event) in ORDERS:
            orders = read_orders(message, header, config, digest_of(message, header))
            yield f"{name}: AA, {len(orders)} orders: would ask for what is relevant, and bring it first"
            return
        if kind != "ADT":
            yield f"{name}: AA, {len(read_reports(message, header, config).reports)} reports"
            return
        if trigger_of(header) not in TAKEN:
            yield f"{name}: AA, {WORDS[EventOutcome.NOT_FOR_US]}"
            return
        events = [
            late(event, config.adt, datetime.now(UTC))
            for event in read_events(message, header, config, digest_of(message, header))
        ]
    except RefusedMessage as refusal:
        place = f" ({refusal.segment}-{refusal.field})" if refusal.field else ""
        yield f"{name if header else 'no message'}: {refusal.code}, {refusal}{place}"
        return
    terms = terms_of(config.adt)
    for told in events:
        came_to = outcome(told, terms)
        yield f"{name}: AA, {WORDS[came_to].format(to=told.to, unknown=told.unknown)}"
        yield f"     {_known(told)}"
    acts = rehearse(memory, events, terms)
    for act in acts:
        text = ACTS.get((act["kind"], act["state"]))
        if text:
            yield f"     would {text.format(subject=act['subject'])}"
    if not acts:
        yield "     would do nothing"


def _known(event: AdtEvent) -> str:
    """What was understood of a message, without what says who it is."""
    fiscal = {None: "none", True: "valid, agrees", False: "not valid, or does not agree"}[codice_fiscale.agrees(event.person)]
    return (
        f"number read, visit {'read' if event.visit else 'not given'}, recorded {event.at}, happened {event.occurred}; name"
        f" {'read' if event.person.name else 'not given'}, birth date {'read' if event.person.birth_date else 'not given'},"
        f" sex {event.person.sex or 'not given'}, codice fiscale: {fiscal}"
    )
