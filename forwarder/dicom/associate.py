"""A-ASSOCIATE as bytes: what a sender asks for, and what it is answered. PS3.8 9.3.2 to 9.3.4 and 9.3.8, PS3.7 D.3.3.

Read here and not by pynetdicom, which takes one item that it does not know, one letter that is no ASCII or one context that
is damaged for the end of the association. What can be read is read: items of other types are skipped (PS3.8 9.3.1).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from forwarder.header import is_uid

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
FIXED = 68  # bytes before the variable items: version, two titles, reserved
APPLICATION_ITEM, CONTEXT_RQ, CONTEXT_AC, ABSTRACT, TRANSFER, USER_INFORMATION = 0x10, 0x20, 0x21, 0x30, 0x40, 0x50
MAXIMUM_LENGTH, IMPLEMENTATION_CLASS, ROLE_SELECTION, IMPLEMENTATION_VERSION = 0x51, 0x52, 0x54, 0x55

# PS3.8 table 9-18: the result of a presentation context.
ACCEPTED, USER_REJECTION, ABSTRACT_SYNTAX_NOT_SUPPORTED, TRANSFER_SYNTAXES_NOT_SUPPORTED = 0, 1, 3, 4
# PS3.8 table 9-26: why a service provider aborts.
NO_REASON, UNRECOGNISED_PDU, UNEXPECTED_PDU, INVALID_PARAMETER = 0, 1, 2, 6


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A presentation context as it was proposed; a name that cannot be read is empty. PS3.8 9.3.2.2."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """An A-ASSOCIATE-RQ. `titles` are the 64 bytes that the answer repeats; `maximum_length` is 0 for “no limit”; `roles`, by SOP
    class, whether the requestor wants to be its SCU, and its SCP (PS3.7 D.3.3.4)."""

    protocol_version: int
    called: str
    calling: str
    titles: bytes
    application_context: str
    contexts: tuple[ProposedContext, ...]
    maximum_length: int
    roles: Mapping[str, tuple[bool, bool]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContextAnswer:
    """What becomes of a proposed context: one of the results above, and the transfer syntax if it was accepted; `roles`: the
    requestor's as they were agreed, where it proposed some and they are not the usual ones."""

    context: ProposedContext
    result: int
    transfer_syntax: str = ""
    roles: tuple[bool, bool] | None = None


def read_request(body: bytes) -> AssociateRequest:
    """Read what follows the header of an A-ASSOCIATE-RQ. ValueError for what is none, or is cut short."""
    if len(body) < FIXED:
        raise ValueError("an A-ASSOCIATE-RQ is cut short")
    application_context, maximum_length = "", 0
    roles: dict[str, tuple[bool, bool]] = {}
    contexts: list[ProposedContext] = []
    for kind, value in _items(body[FIXED:]):
        if kind == APPLICATION_ITEM:
            application_context = _uid(value)
        elif kind == CONTEXT_RQ:
            contexts += _context(value)
        elif kind == USER_INFORMATION:
            maximum_length, roles = _user_information(value)
    return AssociateRequest(
        protocol_version=int.from_bytes(body[:2], "big"),
        called=ae_title(body[4:20]),
        calling=ae_title(body[20:36]),
        titles=body[4:FIXED],
        application_context=application_context,
        contexts=tuple(contexts),
        maximum_length=maximum_length,
        roles=roles,
    )


def ae_title(value: bytes) -> str:
    """An AE title as text: up to the first NUL, which some languages pad with, without blanks around it (PS3.5 6.2).

    A letter beyond ASCII stays (as Latin-1); what cannot be printed becomes a question mark.
    """
    text = value.partition(b"\0")[0].decode("latin-1").strip()
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, value) of each item or sub-item. ValueError for one that is longer than what holds it.

    Fewer bytes than an item has at least are padding.
    """
    at = 0
    while at + 4 <= len(data):
        kind, _, length = struct.unpack_from(">BBH", data, at)
        at += 4
        if at + length > len(data):
            raise ValueError("an item is longer than what holds it")
        yield kind, data[at : at + length]
        at += length


def _uid(value: bytes) -> str:
    """A UID without padding, or "" for what is none."""
    text = value.rstrip(b"\0 ").decode("latin-1")
    return text if is_uid(text) else ""


def _context(value: bytes) -> list[ProposedContext]:
    """The context, or none where even its number is missing, so that it cannot be answered."""
    if not value:
        return []
    abstract, transfer = "", []
    try:
        for kind, name in _items(value[4:]):
            if kind == ABSTRACT:
                abstract = abstract or _uid(name)
            elif kind == TRANSFER and _uid(name):
                transfer.append(_uid(name))
    except ValueError:  # damaged within itself: it is refused, and the others stand
        return [ProposedContext(value[0], "", ())]
    return [ProposedContext(value[0], abstract, tuple(transfer))]


def _user_information(value: bytes) -> tuple[int, dict[str, tuple[bool, bool]]]:
    """(maximum length, roles). PS3.8 D.1, PS3.7 D.3.3.4; what else stands there (implementation, user identity …) makes no
    difference here."""
    maximum, roles = 0, dict[str, tuple[bool, bool]]()
    try:
        for kind, data in _items(value):
            if kind == MAXIMUM_LENGTH and len(data) == 4:
                maximum = int.from_bytes(data, "big")
            elif kind == ROLE_SELECTION and len(data) >= 4 and len(data) == 4 + int.from_bytes(data[:2], "big"):
                roles.setdefault(_uid(data[2:-2]), (data[-2] == 1, data[-1] == 1))
    except ValueError:  # a damaged item of user information spoils nothing else
        pass
    return maximum, roles


def accept(
    request: AssociateRequest, answers: Sequence[ContextAnswer], maximum_length: int, implementation_class: str, version: str
) -> bytes:
    """The A-ASSOCIATE-AC. PS3.8 9.3.3."""
    items = _item(APPLICATION_ITEM, APPLICATION_CONTEXT.encode())
    for answer in answers:
        syntax = answer.transfer_syntax or IMPLICIT_VR_LITTLE_ENDIAN  # without meaning where the context is refused
        head = bytes([answer.context.context_id, 0, answer.result, 0])
        items += _item(CONTEXT_AC, head + _item(TRANSFER, syntax.encode()))
    user = _item(MAXIMUM_LENGTH, struct.pack(">L", maximum_length))
    user += _item(IMPLEMENTATION_CLASS, implementation_class.encode())
    for sop_class, (scu, scp) in {answer.context.abstract_syntax: answer.roles for answer in answers if answer.roles}.items():
        user += _item(ROLE_SELECTION, struct.pack(">H", len(sop_class)) + sop_class.encode() + bytes([scu, scp]))
    user += _item(IMPLEMENTATION_VERSION, version.encode())
    return _pdu(0x02, struct.pack(">HH", 1, 0) + request.titles + items + _item(USER_INFORMATION, user))


def reject(result: int, source: int, reason: int) -> bytes:
    """The A-ASSOCIATE-RJ. PS3.8 table 9-21."""
    return _pdu(0x03, bytes([0, result, source, reason]))


def abort(reason: int) -> bytes:
    """The A-ABORT of a service provider. PS3.8 9.3.8."""
    return _pdu(0x07, bytes([0, 0, 2, reason]))


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def _pdu(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBL", kind, 0, len(value)) + value
