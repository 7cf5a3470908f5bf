"""Between pynetdicom and the spool: C-STORE data sets go to the disk as they come, never through memory.

pynetdicom collects a data set in a BytesIO before it calls a handler. Here that BytesIO is an `Arrival`, which writes to
the spool and hashes, so memory does not grow with the size of an instance, and a disk that fails in the middle of a data
set is an answer (0xA700, 0x0110) instead of an exception in the protocol's thread.
"""

from __future__ import annotations

import contextlib
import queue
import select
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from forwarder.spool import Arrival

IMPLEMENTATION_CLASS_UID = "2.25.247839285318217623041539284766011938217"
IMPLEMENTATION_VERSION_NAME = "CONTENITORE_1"
# The two above stand in the file meta of every instance, and so in its digest: the same instance sent again after an
# update of the forwarder is the same bytes only while they stay what they are.

HANDSHAKE_SECONDS = 15.0
P_DATA_TF = b"\x04"  # PDU type, PS3.8 9.3.5
COMMAND_FIELD, DATA_SET_TYPE = 0x0100, 0x0800  # elements of group 0000, PS3.7 E.1
C_STORE_RQ, C_STORE_RSP, NO_DATA_SET = b"\x01\x00", b"\x01\x80", b"\x01\x01"
WAIT_MS = 20  # what a release or an abort may be late
QUICK_ACKNOWLEDGEMENT: int | None = getattr(socket, "TCP_QUICKACK", None)
RECEIVE_BLOCK = 1024 * 1024
LARGEST_PDU = 16 * 1024 * 1024  # far more than we offer; a peer that sends more is broken or hostile


class Door(Protocol):
    """Who takes in what arrives."""

    def new_arrival(self) -> Arrival: ...

    def store(self, request: StoreRequest, calling: str) -> int:
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
        value = _even(uid.encode("ascii"), b"\0")
        elements += struct.pack("<HH2sH", 2, number, b"UI", len(value)) + value
    name = _even(IMPLEMENTATION_VERSION_NAME.encode("ascii"), b" ")
    elements += struct.pack("<HH2sH", 2, 0x0013, b"SH", len(name)) + name
    return bytes(128) + b"DICM" + struct.pack("<HH2sHL", 2, 0x0000, b"UL", 4, len(elements)) + elements


def _even(value: bytes, padding: bytes) -> bytes:
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


@dataclass(slots=True)
class StoreRequest:
    """A C-STORE request. PS3.7 9.3.1.1."""

    context_id: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    arrival: Arrival
    accepted: bool  # whether its SOP class is that of the presentation context

    def response(self, status: int) -> bytes:
        """The P-DATA-TF PDU of the response. PS3.7 9.3.1.2, PS3.8 9.3.5."""
        elements = b""
        for number, value in (
            (0x0002, _even(self.sop_class_uid.encode("ascii"), b"\0")),
            (COMMAND_FIELD, C_STORE_RSP),
            (0x0120, struct.pack("<H", self.message_id)),
            (DATA_SET_TYPE, NO_DATA_SET),
            (0x0900, struct.pack("<H", status)),
            (0x1000, _even(self.sop_instance_uid.encode("ascii"), b"\0")),
        ):
            elements += struct.pack("<HHL", 0, number, len(value)) + value
        command = struct.pack("<HHLL", 0, 0, 4, len(elements)) + elements
        size = len(command) + 2
        return struct.pack(">BBLLBB", 0x04, 0, size + 4, size, self.context_id, 0x03) + command


class SpoolingDimse(DIMSEServiceProvider):  # type: ignore[misc]  # pynetdicom is untyped here
    """A DIMSE provider that lets C-STORE requests write their data sets into an `Arrival`, and answers them itself.

    All of a C-STORE happens in the thread that reads the connection, since each change of thread costs more than the
    work that it hands over; and its command sets are decoded here, since general data sets cost more time than all the
    rest of receiving an image. Every other message is pynetdicom's.
    """

    def __init__(self, assoc: Association, door: Door) -> None:
        super().__init__(assoc)
        self._door = door
        self._command: list[tuple[int, bytes]] = []  # fragments of a command set that is not complete yet
        self._storing: StoreRequest | None = None  # a request whose data set is arriving

    def receive_primitive(self, primitive: Any) -> None:
        for context_id, data in primitive.presentation_data_value_list:
            self.receive_fragment(context_id, memoryview(data))

    def receive_fragment(self, context_id: int, data: memoryview) -> None:
        """One presentation data value: its message control header and what follows. PS3.8 E.2."""
        is_command, is_last = data[0] & 1, data[0] & 2
        if not is_command and self._storing is not None:
            self._storing.arrival.write(data[1:])
            if is_last:
                request, self._storing = self._storing, None
                status = self._door.store(request, self.assoc.requestor.ae_title)
                self.dul.socket.send(request.response(status))
        elif is_command:
            self._command.append((context_id, bytes(data)))
            if is_last:
                fragments, self._command = self._command, []
                self._command_complete(fragments)
        else:
            self._pass_on([(context_id, bytes(data))])

    def _command_complete(self, fragments: list[tuple[int, bytes]]) -> None:
        try:
            command = command_elements(b"".join(data[1:] for _, data in fragments))
            if command[COMMAND_FIELD] == C_STORE_RQ and command[DATA_SET_TYPE] != NO_DATA_SET:
                self._storing = self._store_request(command, fragments[-1][0])
                return
        except (KeyError, ValueError):
            self.dul.event_queue.put("Evt19")  # an invalid message ends the association
            return
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
            int.from_bytes(command[0x0110][:2], "little"),
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


class PromptDul(DULServiceProvider):  # type: ignore[misc]
    """pynetdicom's upper layer, with a short way for data: P-DATA-TF while an association is established.

    It goes from the socket to the DIMSE provider without the objects and queues of the state machine, which would find
    that it stays in state 6 (PS3.8 table 9-10, event 10). Every other PDU takes pynetdicom's way.
    """

    def run_reactor(self) -> None:
        try:
            super().run_reactor()
        finally:
            self.socket.finish()
            self.assoc.dimse.abandon()
            if self.assoc.requestor.primitive is None:  # gone before it asked for anything: nobody need wait
                self.to_user_queue.put(None)

    def _read_pdu_data(self) -> None:
        try:
            head = self.socket.recv(6)
            length = int.from_bytes(head[2:6], "big")
            if head[:1] != P_DATA_TF or self.state_machine.current_state != "Sta6":
                self.socket.unread(head)
                super()._read_pdu_data()
                return
            if length > LARGEST_PDU:
                self.event_queue.put("Evt19")  # unrecognised or invalid PDU
                return
            body = self.socket.recv(length)
        except OSError:
            self.event_queue.put("Evt17")  # transport connection closed
            return
        if len(head) < 6 or len(body) < length:
            self.event_queue.put("Evt17")
            return
        view, at = memoryview(body), 0
        while at + 6 <= length:
            size = int.from_bytes(view[at : at + 4], "big")
            if size < 2 or at + 4 + size > length:
                break
            self.assoc.dimse.receive_fragment(view[at + 4], view[at + 5 : at + 4 + size])
            at += 4 + size
        if at != length:
            self.event_queue.put("Evt19")


class PromptSocket(AssociationSocket):  # type: ignore[misc]
    """pynetdicom looks for work every millisecond and reads 4 KiB at a time; this waits, and reads what is there.

    `wake` ends the waiting when there is something to send.
    """

    def __init__(self, assoc: Association, client_socket: socket.socket) -> None:
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._poll = select.poll()
        self._poll.register(client_socket, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)
        self._client = client_socket
        self._unread = bytearray()
        super().__init__(assoc, client_socket=client_socket)

    def wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it will wake anyway; closed: nothing waits any more
            self._waker.send(b"w")

    @property
    def ready(self) -> bool:
        """Whether there is something to read, having waited for it for at most `WAIT_MS`."""
        if self.socket is None or not self._is_connected:
            return False
        if isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            return True
        try:
            found = self._poll.poll(WAIT_MS)
            woken = self._woken.fileno()
            if any(descriptor == woken for descriptor, _ in found):
                self._woken.recv(4096)
        except OSError:
            self.event_queue.put("Evt17")  # transport connection closed
            return False
        return any(descriptor != woken for descriptor, _ in found)

    def unread(self, data: bytearray) -> None:
        """What was read and should be read again."""
        self._unread = data

    def recv(self, nr_bytes: int) -> bytearray:
        data = bytearray(nr_bytes)
        received = min(nr_bytes, len(self._unread))
        data[:received] = self._unread[:received]
        self._unread = self._unread[received:]
        view = memoryview(data)
        self._acknowledge_at_once()
        while received < nr_bytes:
            count = self.socket.recv_into(view[received : received + RECEIVE_BLOCK])
            if not count:
                view.release()
                return data[:received]
            received += count
        return data

    def _acknowledge_at_once(self) -> None:
        """Linux: no delayed acknowledgement. Most senders leave Nagle's algorithm on, and would wait 40 ms for it
        with each image. The option does not last, so it is set with each read.
        """
        if QUICK_ACKNOWLEDGEMENT is not None:
            with contextlib.suppress(OSError):
                self._client.setsockopt(socket.IPPROTO_TCP, QUICK_ACKNOWLEDGEMENT, 1)

    def finish(self) -> None:
        """Let go of everything: the protocol's thread has ended."""
        self.close()
        for one in (self._client, self._woken, self._waker):
            one.close()


class _WakingQueue(queue.Queue[Any]):
    """What is put here should be sent at once."""

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__()
        self._wake = wake

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._wake()


class Server(ThreadedAssociationServer):  # type: ignore[misc]
    """An association server whose TLS handshakes happen in the connection's own thread, within a time limit.

    Otherwise one client that connects and says nothing would keep all others out.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, *args: Any, door: Door, silence: float, **kwargs: Any) -> None:
        self.door = door
        self.silence = silence
        super().__init__(*args, request_handler=_Reception, **kwargs)

    def get_request(self) -> tuple[socket.socket, Any]:
        client, address = self.socket.accept()
        client.settimeout(self.silence)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client, address

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        if self.ssl_context:
            request.settimeout(HANDSHAKE_SECONDS)
            try:
                request = self.ssl_context.wrap_socket(request, server_side=True)
            except (OSError, ssl.SSLError) as error:
                self.refused(client_address, error)
                self.shutdown_request(request)
                return
            request.settimeout(self.silence)
        super().process_request_thread(request, client_address)

    def refused(self, client_address: Any, error: OSError) -> None:
        """A TLS handshake failed; overridden by who wants to know."""

    def service_actions(self) -> None:
        """pynetdicom collects garbage here every minute of idling; the interpreter does it well enough."""


class _Reception(RequestHandler):  # type: ignore[misc]
    """As pynetdicom's, but with our DIMSE provider and socket."""

    server: Server

    def _create_association(self) -> Association:
        server = self.server
        assoc = Association(self.ae, "acceptor")
        assoc._server = server
        assoc.name = f"AcceptorThread@{datetime.now():%Y%m%d%H%M%S}"
        assoc.dul = PromptDul(assoc)
        assoc.network_timeout = assoc.network_timeout  # these two set the timers of `dul`
        assoc.acse_timeout = assoc.acse_timeout
        assoc.dimse = SpoolingDimse(assoc, server.door)
        connection = PromptSocket(assoc, self.request)
        assoc.set_socket(connection)
        assoc.dul.to_provider_queue = _WakingQueue(connection.wake)
        assoc.dul._run_loop_delay = 0  # the socket waits
        assoc.acceptor.maximum_length = self.ae.maximum_pdu_size
        assoc.acceptor.ae_title = server.ae_title
        assoc.acceptor.address_info = self.local
        assoc.acceptor.implementation_class_uid = self.ae.implementation_class_uid
        assoc.acceptor.implementation_version_name = self.ae.implementation_version_name
        assoc.acceptor.supported_contexts = server.contexts  # only read: copying thousands would cost 0.1 s
        assoc.requestor.address_info = self.remote
        for event, handlers in server._handlers.items():
            if event.is_intervention:
                if handlers:
                    assoc.bind(event, *handlers)
            else:
                for handler in handlers:
                    assoc.bind(event, *handler)
        return assoc
