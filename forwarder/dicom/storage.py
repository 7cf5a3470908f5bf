"""Between pynetdicom and the spool: C-STORE data sets go to the disk as they come, never through memory.

pynetdicom collects a data set in a BytesIO before it calls a handler. Here that BytesIO is an `Arrival`, which writes to
the spool and hashes, so memory does not grow with the size of an instance, and a disk that fails in the middle of a data
set is an answer (0xA700, 0x0110) instead of an exception in the protocol's thread.
"""

from __future__ import annotations

import queue
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import P_DATA

from forwarder.spool.spool import Arrival

IMPLEMENTATION_CLASS_UID = "2.25.247839285318217623041539284766011938217"
IMPLEMENTATION_VERSION_NAME = "CONTENITORE_1"
# The two above stand in the file meta of every instance, and so in its digest: the same instance sent again after an
# update of the forwarder is the same bytes only while they stay what they are.

COMMAND_FIELD, MESSAGE_ID, DATA_SET_TYPE = 0x0100, 0x0110, 0x0800  # elements of group 0000, PS3.7 E.1
DATA_FRAGMENT, COMMAND_FRAGMENT, LAST_FRAGMENT = 0, 1, 2  # bits of a message control header, PS3.8 E.2
C_STORE_RQ, C_STORE_RSP, NO_DATA_SET = b"\x01\x00", b"\x01\x80", b"\x01\x01"
CANCELLABLE = (b"\x20\x00", b"\x10\x00", b"\x21\x00")  # C-FIND-RQ, C-GET-RQ, C-MOVE-RQ
HEADER = 6  # bytes of what precedes a fragment
WAIT_MS = 20  # what a release or an abort may be late
LARGEST_COMMAND = 64 * 1024  # bytes of a command set; real ones have a few hundred
OUTSTANDING = 100  # requests that wait for their answer; without an agreement there is one at a time (PS3.7 D.3.3.3)
LARGEST_MESSAGE = 32 * 1024 * 1024  # bytes of a data set that is no instance: 100,000 references have half of it


class InvalidError(Exception):
    """What came is not what PS3.8 9.3 and PS3.7 6.3 say, or more than anyone would send; the association is aborted."""


class Sender(Protocol):
    """Who an association is with: address and AE titles."""

    @property
    def peer(self) -> str: ...
    @property
    def calling(self) -> str: ...
    @property
    def called(self) -> str: ...


class StoreHandler(Protocol):
    """Who takes in what arrives."""

    def new_arrival(self) -> Arrival: ...

    def store(self, request: StoreRequest, sender: Sender) -> int:
        """Make it durable; returns the status to answer."""
        ...


def file_head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble, prefix and file meta that turn a received data set into a file. PS3.10 7.1."""
    elements = struct.pack("<HH2sHL2s", 2, 0x0001, b"OB", 0, 2, b"\x00\x01")
    for number, uid in (
        (0x0002, sop_class_uid),
        (0x0003, sop_instance_uid),
        (0x0010, transfer_syntax_uid),
        (0x0012, IMPLEMENTATION_CLASS_UID),
    ):
        value = even(uid.encode("ascii"), b"\0")
        elements += struct.pack("<HH2sH", 2, number, b"UI", len(value)) + value
    name = even(IMPLEMENTATION_VERSION_NAME.encode("ascii"), b" ")
    elements += struct.pack("<HH2sH", 2, 0x0013, b"SH", len(name)) + name
    return bytes(128) + b"DICM" + struct.pack("<HH2sHL", 2, 0x0000, b"UL", 4, len(elements)) + elements


def even(value: bytes, padding: bytes) -> bytes:
    """A value of even length (PS3.5 6.2)."""
    return value + padding * (len(value) % 2)


def command_elements(data: bytes) -> dict[int, bytes]:
    """The elements of a command set (implicit VR little endian, group 0000) by element number. PS3.7 6.3.

    Raises ValueError for what is no command set.
    """
    elements, at = {}, 0
    while at < len(data):
        if at + 8 > len(data):
            raise ValueError("a command set is cut short")
        group, number, length = struct.unpack_from("<HHL", data, at)
        at += 8
        if group != 0 or at + length > len(data):
            raise ValueError("a command set has a wrong element")
        elements[number] = data[at : at + length]
        at += length
    return elements


def command_set(*elements: tuple[int, bytes]) -> bytes:
    """A command set of these elements of group 0000, in ascending order. PS3.7 6.3, E.1."""
    data = b"".join(struct.pack("<HHL", 0, number, len(value)) + value for number, value in elements)
    return struct.pack("<HHLL", 0, 0, 4, len(data)) + data


def p_data(context_id: int, kind: int, data: bytes, maximum_length: int, *, last: bool = True) -> Iterator[bytes]:
    """`data` as P-DATA-TF PDUs of at most `maximum_length` bytes, the last of them marked as the last. PS3.8 9.3.5, D.1, E.2."""
    most = (maximum_length - HEADER) & ~1
    for at in range(0, len(data), most):
        part = data[at : at + most]
        control = kind | (LAST_FRAGMENT if last and at + most >= len(data) else 0)
        yield struct.pack(">BBLLBB", 0x04, 0, len(part) + 6, len(part) + 2, context_id, control) + part


@dataclass(slots=True)
class StoreRequest:
    """A C-STORE request. PS3.7 9.3.1.1."""

    context_id: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    arrival: Arrival
    accepted: bool  # whether its SOP class is that of the presentation context

    def response(self, status: int, maximum_length: int) -> bytes:
        """The response as P-DATA-TF PDUs of at most `maximum_length` bytes. PS3.7 9.3.1.2, PS3.8 9.3.5 and D.1."""
        command = command_set(
            (0x0002, even(self.sop_class_uid.encode("ascii"), b"\0")),
            (COMMAND_FIELD, C_STORE_RSP),
            (0x0120, struct.pack("<H", self.message_id)),
            (DATA_SET_TYPE, NO_DATA_SET),
            (0x0900, struct.pack("<H", status)),
            (0x1000, even(self.sop_instance_uid.encode("ascii"), b"\0")),
        )
        return b"".join(p_data(self.context_id, COMMAND_FRAGMENT, command, maximum_length))


class SpoolingDimse(DIMSEServiceProvider):  # type: ignore[misc]  # pynetdicom is untyped here
    """A DIMSE provider that lets C-STORE requests write their data sets into an `Arrival`, and answers them itself.

    All of a C-STORE happens in the thread that reads the connection, since each change of thread costs more than the
    work that it hands over; and its command sets are decoded here, since general data sets cost more time than all the
    rest of receiving an image. Every other message is pynetdicom's.
    """

    def __init__(self, assoc: Association, door: StoreHandler) -> None:
        super().__init__(assoc)
        self._door = door
        self._command: list[tuple[int, bytes]] = []  # fragments of a command set that is not complete yet
        self._collected = 0  # bytes of a message other than C-STORE, or of a command set, so far
        self._storing: StoreRequest | None = None  # a request whose data set is arriving

    @property
    def storing(self) -> bool:
        """Whether the data set of an instance is arriving."""
        return self._storing is not None

    def receive_primitive(self, primitive: Any) -> None:
        try:
            for context_id, data in primitive.presentation_data_value_list:
                self.receive_fragment(context_id, data[0], memoryview(data)[1:])
        except InvalidError:
            self.assoc.ending = "protocol error"
            self.dul.event_queue.put("Evt19")

    def receive_fragment(self, context_id: int, control: int, data: memoryview) -> None:
        """A presentation data value, or a part of it: its message control header (PS3.8 E.2) and what follows.

        `data` is only valid during the call. Raises InvalidError, which ends the association.
        """
        if not control & 1 and self._storing is not None:
            self._storing.arrival.write(data)
            if control & 2:
                request, self._storing = self._storing, None
                status = self._door.store(request, self.assoc)
                self.assoc.stored[status] += 1
                self.dul.socket.send(request.response(status, self.maximum_pdu_size))
            return
        self._collected += HEADER + len(data)
        if self._collected > (LARGEST_COMMAND if control & 1 else LARGEST_MESSAGE):
            raise InvalidError
        if not control & 1:
            if control & 2:
                self._collected = 0
            self._pass_on([(context_id, bytes([control]) + data)])
        else:
            self._command.append((context_id, bytes([control]) + data))
            if control & 2:
                fragments, self._command, self._collected = self._command, [], 0
                self._command_complete(fragments)

    def _command_complete(self, fragments: list[tuple[int, bytes]]) -> None:
        try:
            command = command_elements(b"".join(data[1:] for _, data in fragments))
            if self._storing is not None or self.msg_queue.qsize() > OUTSTANDING:
                raise InvalidError
            if command[COMMAND_FIELD] == C_STORE_RQ and command[DATA_SET_TYPE] != NO_DATA_SET:
                self._storing = self._store_request(command, fragments[-1][0])
                return
            if command[COMMAND_FIELD] in CANCELLABLE:
                # A C-CANCEL of before meant an earlier request with this message id, which some give to all of theirs.
                self.cancel_req.pop(int.from_bytes(command[MESSAGE_ID][:2], "little"), None)
        except (KeyError, ValueError) as error:
            raise InvalidError from error
        self._pass_on(fragments)

    def _pass_on(self, fragments: list[tuple[int, bytes]]) -> None:
        primitive = P_DATA()
        primitive.presentation_data_value_list.extend(fragments)
        super().receive_primitive(primitive)

    def _store_request(self, command: dict[int, bytes], context_id: int) -> StoreRequest:
        """Raises KeyError or ValueError for what is missing or not allowed."""
        context = self.assoc._accepted_cx[context_id]
        sop_class_uid, sop_instance_uid = _uid(command[0x0002]), _uid(command[0x1000])
        arrival = self._door.new_arrival()
        arrival.write(file_head(sop_class_uid, sop_instance_uid, context.transfer_syntax[0]))
        return StoreRequest(
            context_id,
            int.from_bytes(command[MESSAGE_ID][:2], "little"),
            sop_class_uid,
            sop_instance_uid,
            arrival,
            context.abstract_syntax == sop_class_uid,
        )

    def get_msg(self, block: bool = False) -> Any:
        """As pynetdicom's; but who does not want to block waits for `WAIT_MS` all the same, instead of spinning."""
        if block:
            return super().get_msg(block=True)
        try:
            return self.msg_queue.get(timeout=WAIT_MS / 1000)
        except queue.Empty:
            return None, None

    def abandon(self) -> None:
        """The association is gone: what was half received goes too."""
        request, self._storing = self._storing, None
        if request is not None:
            request.arrival.discard()


def _uid(value: bytes) -> str:
    """Raises ValueError for what is no UID at all; whether it is a good one is the archive's to judge."""
    text = value.rstrip(b"\0 ").decode("ascii")
    if not 0 < len(text) <= 64:
        raise ValueError("not a UID")
    return text
