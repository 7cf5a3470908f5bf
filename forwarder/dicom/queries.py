"""C-FIND, C-GET and C-MOVE as messages: requests are read within limits and handed on, answers are sent as they are found.

What is asked and what is answered is the handler's; here are the messages (PS3.7 9.1.2 to 9.1.4), C-CANCEL (9.3.2.3), and the
C-STORE sub-operations of a C-GET, which take the same association as the request (PS3.4 C.4.3).
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydicom.dataset import Dataset
from pynetdicom.dimse_primitives import C_FIND, C_GET, C_MOVE, C_STORE
from pynetdicom.dsutils import decode, encode

from forwarder.alerts import Refusal
from forwarder.dicom.refusals import Refused
from forwarder.dicom.storage import (
    C_STORE_RQ,
    COMMAND_FIELD,
    COMMAND_FRAGMENT,
    DATA_FRAGMENT,
    DATA_SET_TYPE,
    MESSAGE_ID,
    NO_DATA_SET,
    command_set,
    even,
    p_data,
)
from forwarder.dicom.upper_layer import Encoded
from forwarder.header import UNDEFINED, head_of, walk
from forwarder.logs import log
from forwarder.retrieve.query_retrieve import (
    CANCELLED,
    CANNOT_COUNT,
    NOT_THIS_SOP_CLASS,
    NOT_UNDERSTOOD,
    OUT_OF_RESOURCES,
    PENDING,
    PENDING_WITHOUT_SOME_KEYS,
    SUCCESS,
    UNKNOWN_DESTINATION,
    Channel,
    Match,
    QueryRefusedError,
    Request,
    SubOperations,
)
from forwarder.retrieve.store_scu import PLAIN, NothingAcceptedError, PacsError

if TYPE_CHECKING:
    from forwarder.dicom.associations import Established

# PS3.4 C.6.1.3 and C.6.2.3: (what the SOP class does, the root of its information model).
MODELS: dict[str, tuple[Any, str]] = {
    "1.2.840.10008.5.1.4.1.2.1.1": (C_FIND, "PATIENT"),
    "1.2.840.10008.5.1.4.1.2.1.2": (C_MOVE, "PATIENT"),
    "1.2.840.10008.5.1.4.1.2.1.3": (C_GET, "PATIENT"),
    "1.2.840.10008.5.1.4.1.2.2.1": (C_FIND, "STUDY"),
    "1.2.840.10008.5.1.4.1.2.2.2": (C_MOVE, "STUDY"),
    "1.2.840.10008.5.1.4.1.2.2.3": (C_GET, "STUDY"),
}
RESPONSES = {C_FIND: b"\x20\x80", C_GET: b"\x10\x80", C_MOVE: b"\x21\x80"}
KINDS = tuple(RESPONSES)
NAMES = {C_FIND: "C-FIND", C_GET: "C-GET", C_MOVE: "C-MOVE"}
SOP_CLASS_NOT_SUPPORTED = 0x0122  # PS3.7 C.5.6
WITH_DATA_SET = b"\x01\x00"
LARGEST_IDENTIFIER = 256 * 1024  # bytes of a request's identifier: a list of 3,900 UIDs
LARGEST_UID_LIST = 65_534  # bytes of a value with an explicit VR of UI (PS3.5 7.1.2)
UNSENT = 64  # answers that are found and not sent yet
PENDING_SECONDS = 5.0  # after which a retrieval says again that it goes on
ANSWER_SECONDS = 60.0  # for the answer to a C-STORE
BLOCK = 256 * 1024  # bytes of a file that are read at once


class QueryHandler(Protocol):
    """Who answers. Each raises QueryRefusedError; a generator that is closed has been cancelled."""

    def find(self, request: Request) -> Iterator[Match]:
        """What matches, as it is found."""
        ...

    def get(self, request: Request, channel: Channel) -> Iterator[SubOperations]:
        """How it stands, at least once a second while nothing changes."""
        ...

    def move(self, request: Request) -> Iterator[SubOperations]:
        """How it stands, at least once a second while nothing changes."""
        ...


def serve(association: Established, message: Any, context: Any, handler: QueryHandler) -> None:
    """Answer a request, until it is answered, cancelled, or nobody waits for it."""
    if getattr(message, "MessageIDBeingRespondedTo", None) is not None or message.MessageID is None:
        return  # a response to nothing
    exchange = _Exchange(association, message, context)
    began = time.monotonic()
    try:
        status = exchange.answered(handler)
    except QueryRefusedError as error:
        status = error.status
        if status == UNKNOWN_DESTINATION:
            told = Refused(Refusal.UNKNOWN_DESTINATION, association.peer, association.calling, association.called)
            association.note_refusal("C-MOVE", replace(told, detail=str(message.MoveDestination or "")))
        exchange.respond(status, comment=error.comment)
    log.info(
        "query answered", service=exchange.name, peer=association.peer, calling=association.calling,
        status=f"0x{status:04X}", answers=exchange.answers, seconds=round(time.monotonic() - began, 1),
    )  # fmt: skip


class _Exchange:
    """A request and its answers."""

    def __init__(self, association: Established, message: Any, context: Any) -> None:
        self._association = association
        self._message = message
        self._context = context
        self._syntax = context.transfer_syntax[0]
        self._kind, self._root = MODELS[context.abstract_syntax]
        self.name = NAMES[self._kind]
        self.answers = 0

    def answered(self, handler: QueryHandler) -> int:
        """Answer; the final status. Raises QueryRefusedError."""
        if not isinstance(self._message, self._kind) or self._message.AffectedSOPClassUID != self._context.abstract_syntax:
            raise QueryRefusedError(SOP_CLASS_NOT_SUPPORTED, "not the SOP class of this presentation context")
        request = self._request()
        if self._kind is C_FIND:
            return self._find(handler.find(request))
        if self._kind is C_GET:
            return self._retrieve(handler.get(request, _SameAssociation(self._association)))
        return self._retrieve(handler.move(replace(request, destination=str(self._message.MoveDestination or "").strip())))

    def _request(self) -> Request:
        encoded = self._message.Identifier
        size = len(encoded.getbuffer()) if encoded is not None else 0
        if not size:
            raise QueryRefusedError(NOT_THIS_SOP_CLASS, "the request has no identifier")
        if size > LARGEST_IDENTIFIER:
            raise QueryRefusedError(OUT_OF_RESOURCES if self._kind is C_FIND else CANNOT_COUNT, "the identifier is too large")
        syntax = self._syntax
        if not _is_whole(encoded.getvalue(), implicit=syntax.is_implicit_VR):
            raise QueryRefusedError(NOT_UNDERSTOOD, "the identifier is cut short, or nested too deeply")
        try:
            identifier = decode(encoded, syntax.is_implicit_VR, syntax.is_little_endian)
        except Exception as error:  # whatever pydicom stumbles over, recursion without end included
            raise QueryRefusedError(NOT_UNDERSTOOD, "the identifier cannot be read") from error
        return Request(self._root, identifier, self._association.calling, self._message.MessageID)

    def _find(self, matches: Iterator[Match]) -> int:
        with closing(matches):  # type: ignore[type-var]  # handlers give generators
            for match in matches:
                if self._association.is_ending:
                    return CANCELLED
                if self._is_cancelled():
                    self.respond(CANCELLED)
                    return CANCELLED
                self.respond(match.status, match.identifier)
                self.answers += 1
        status = CANCELLED if self._is_cancelled() else SUCCESS
        self.respond(status)
        return status

    def _retrieve(self, steps: Iterator[SubOperations]) -> int:
        said, last = -PENDING_SECONDS, SubOperations(0)
        with closing(steps):  # type: ignore[type-var]
            for step in steps:
                if self._association.is_ending:
                    return CANCELLED
                if step.remaining and self._is_cancelled():
                    self.respond(CANCELLED, _failed(step), counts=step)
                    return CANCELLED
                if step.remaining and (step != last or time.monotonic() - said >= PENDING_SECONDS):
                    self.respond(PENDING, counts=step)
                    self.answers += 1
                    said = time.monotonic()
                last = step
        self.respond(last.status, _failed(last) if last.failed or last.warning else None, counts=last)
        return last.status

    def _is_cancelled(self) -> bool:
        return self._association.dimse.cancel_req.pop(self._message.MessageID, None) is not None

    def respond(
        self, status: int, identifier: Dataset | None = None, *, counts: SubOperations | None = None, comment: str = ""
    ) -> None:
        """Send a response; waits while many others are not sent yet."""
        data = b""
        if identifier is not None:
            data = encode(identifier, self._syntax.is_implicit_VR, self._syntax.is_little_endian) or b""
        elements = [
            (0x0002, even(str(self._context.abstract_syntax).encode(), b"\0")),
            (COMMAND_FIELD, RESPONSES[self._kind]),
            (0x0120, struct.pack("<H", self._message.MessageID)),
            (DATA_SET_TYPE, WITH_DATA_SET if data else NO_DATA_SET),
            (0x0900, struct.pack("<H", status)),
        ]
        if comment:
            elements.append((0x0902, even(comment.encode("ascii", "replace"), b" ")))
        if counts is not None:
            numbers = [(0x1021, counts.completed), (0x1022, counts.failed), (0x1023, counts.warning)]
            if status in (PENDING, PENDING_WITHOUT_SOME_KEYS, CANCELLED):  # PS3.4 C.4.2.1.6: the others have none that remain
                numbers.insert(0, (0x1020, counts.remaining))
            elements += [(number, struct.pack("<H", count)) for number, count in numbers]
        context_id, most = self._context.context_id, self._association.dimse.maximum_pdu_size
        parts = list(p_data(context_id, COMMAND_FRAGMENT, command_set(*elements), most))
        parts += p_data(context_id, DATA_FRAGMENT, data, most)
        waiting = self._association.dul.to_provider_queue
        while waiting.qsize() >= UNSENT and not self._association.is_ending:
            time.sleep(0.005)
        waiting.put(Encoded([b"".join(parts)]))


def _is_whole(data: bytes, *, implicit: bool) -> bool:
    """Whether a data set (little endian) ends where its last element does: of one that is cut short pydicom makes another, that
    asks for more."""
    end = 0
    try:
        for element in walk(data, 0, implicit=implicit, order="<", limit=LARGEST_IDENTIFIER):
            end = len(data) if element.length == UNDEFINED else element.value_at + element.length
    except (struct.error, ValueError):
        return False
    return end == len(data)


def _failed(step: SubOperations) -> Dataset:
    """The identifier of a final response: what failed, as far as one value holds it (PS3.4 C.4.2.1.4.2)."""
    identifier = Dataset()
    listed: list[str] = []
    size = 0
    for uid in step.failed_instances:
        size += len(uid) + 1
        if size > LARGEST_UID_LIST:
            break
        listed.append(uid)
    identifier.FailedSOPInstanceUIDList = listed
    return identifier


class _SameAssociation:
    """C-STORE as SCU on the association of the C-GET, in the roles that were agreed (PS3.7 D.3.3.4)."""

    def __init__(self, association: Established) -> None:
        self._association = association
        self._contexts = {
            (str(context.abstract_syntax), str(context.transfer_syntax[0])): context.context_id
            for context in association._accepted_cx.values()
            if context.as_scu
        }

    def takes(self, sop_class: str, transfer_syntax: str) -> str | None:
        """As `forwarder.retrieve.store_scu.Association`'s."""
        return next((syntax for syntax in (transfer_syntax, *PLAIN) if (sop_class, syntax) in self._contexts), None)

    def store(self, path: Path, message_id: int, originator: tuple[str, int] | None = None) -> int:
        """C-STORE of a file; its status. Raises PacsError where none comes, NothingAcceptedError for what cannot be sent."""
        del originator  # of a C-MOVE only (PS3.7 9.3.1.1)
        with path.open("rb") as file:
            header = head_of(file)
        if header is None or not header.sop_class_uid or not header.sop_instance_uid:
            raise NothingAcceptedError("no-instance")
        context_id = self._contexts.get((header.sop_class_uid, header.transfer_syntax_uid))
        if context_id is None:
            raise NothingAcceptedError("no-context")
        command = command_set(
            (0x0002, even(header.sop_class_uid.encode(), b"\0")),
            (COMMAND_FIELD, C_STORE_RQ),
            (MESSAGE_ID, struct.pack("<H", message_id)),
            (0x0700, struct.pack("<H", 0)),
            (DATA_SET_TYPE, WITH_DATA_SET),
            (0x1000, even(header.sop_instance_uid.encode(), b"\0")),
        )
        sent = threading.Event()
        most = self._association.dimse.maximum_pdu_size
        parts = _message(path, header.data_set_at, context_id, command, most, sent)
        self._association.dul.to_provider_queue.put(Encoded(parts))
        return self._answer(message_id, sent)

    def _answer(self, message_id: int, sent: threading.Event) -> int:
        """The status of the response. What else comes meanwhile is served afterwards."""
        association = self._association
        others: list[tuple[int, Any]] = []
        last_at = time.monotonic()
        try:
            while not association.is_ending and time.monotonic() - last_at < ANSWER_SECONDS:
                if not sent.is_set():
                    last_at = time.monotonic()
                context_id, message = association.dimse.get_msg()
                if isinstance(message, C_STORE) and message.MessageIDBeingRespondedTo == message_id:
                    return int(message.Status)
                if message is not None:
                    others.append((context_id, message))
        finally:
            for other in others:
                association.dimse.msg_queue.put(other)
        raise PacsError("broke-off" if association.is_ending else "no-answer")


def _message(path: Path, at: int, context_id: int, command: bytes, most: int, sent: threading.Event) -> Iterator[bytes]:
    """A C-STORE request as PDUs, read from the file as they are sent; `sent` is set at the end. Raises OSError."""
    yield b"".join(p_data(context_id, COMMAND_FRAGMENT, command, most))
    piece = (most - 6 & ~1) * max(1, BLOCK // most)
    with path.open("rb") as file:
        left = file.seek(0, 2) - at
        file.seek(at)
        while left > 0:
            data = file.read(min(piece, left))
            if not data:
                raise OSError("the file became shorter")
            left -= len(data)
            yield b"".join(p_data(context_id, DATA_FRAGMENT, data, most, last=left == 0))
    sent.set()
