"""The wire under an association: pynetdicom's upper layer, with a short way for data.

pynetdicom looks for work every millisecond, reads 4 KiB at a time and sends each PDU through the objects and queues of its state
machine. Here the thread waits for the socket, reads as much as a PDU still lacks in one call, and hands fragments of data to the
DIMSE provider out of one buffer that is used again and again: so memory is bounded for each connection, whatever is sent.
"""

from __future__ import annotations

import contextlib
import queue
import select
import socket
import ssl
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import A_ABORT, A_P_ABORT
from pynetdicom.transport import AssociationSocket

from forwarder.dicom.storage import WAIT_MS, InvalidError

P_DATA_TF = b"\x04"  # PDU type, PS3.8 9.3.5
PDU_TYPES = frozenset(bytes([number]) for number in range(1, 8))
HEADER = 6  # bytes of the header of a PDU, and of what precedes the data of a presentation data value
BUFFER = 192 * 1024  # bytes; room for the greatest PDU that we offer to take, and then some
PIECE = 160 * 1024  # what is taken of it at once
WHOLE = 4096  # what is at least so large is waited for in one call
LARGEST_PDU = 16 * 1024 * 1024  # far more than we offer; a peer that sends more is broken or hostile
LARGEST_OTHER_PDU = 1024 * 1024  # of those that are no data
QUICK_ACKNOWLEDGEMENT: int | None = getattr(socket, "TCP_QUICKACK", None)


@dataclass(frozen=True, slots=True)
class Encoded:
    """PDUs that are to leave together: the P-DATA-TF of one message (PS3.7 6.3.1: no other's fragments in between), made as they
    leave. OSError from making one ends the association."""

    parts: Iterable[bytes]


class UpperLayer(DULServiceProvider):  # type: ignore[misc]  # pynetdicom is untyped here
    """pynetdicom's upper layer of an association that stands, with a short way for P-DATA-TF.

    There the state machine would find that it stays in state 6 (PS3.8 table 9-10, event 10). Every other PDU takes
    pynetdicom's way.
    """

    def run_reactor(self) -> None:
        try:
            super().run_reactor()
        finally:
            self.socket.finish()
            self.assoc.dimse.abandon()

    def _process_recv_primitive(self) -> bool:
        """What is encoded already leaves as it is; everything else takes pynetdicom's way."""
        waiting = self.to_provider_queue.queue
        if not waiting or not isinstance(waiting[0], Encoded):
            return bool(super()._process_recv_primitive())
        message = self.to_provider_queue.get(block=False)
        if self.state_machine.current_state == "Sta6":
            try:
                for part in message.parts:
                    self.socket.send(part)
                    if self.socket.aborting() or "Evt17" in self.event_queue.queue:  # that the connection is gone
                        break
            except OSError:  # of the file that is sent; the peer waits for the rest of a message that has none
                self.assoc.ending = "a file cannot be read"
                self.socket.close()
        return True

    def _read_pdu_data(self) -> None:
        try:
            while True:
                head = bytes(self.socket.take(HEADER))
                length = int.from_bytes(head[2:], "big")
                if head[:1] not in PDU_TYPES:
                    raise InvalidError
                if head[:1] != P_DATA_TF or self.state_machine.current_state != "Sta6":
                    if length > (LARGEST_PDU if head[:1] == P_DATA_TF else LARGEST_OTHER_PDU):
                        raise InvalidError
                    self.socket.put_back(HEADER)
                    super()._read_pdu_data()
                    return
                if length > LARGEST_PDU:
                    raise InvalidError
                self._data(length)
                if not self.socket.buffered and not self.assoc.dimse.storing:
                    return
        except OSError:
            self.event_queue.put("Evt17")  # transport connection closed
        except InvalidError:
            self.assoc.ending = "protocol error"
            self.event_queue.put("Evt19")  # unrecognised or invalid PDU
            self.socket.deaf = True  # where the next one would begin nobody knows

    def _data(self, left: int) -> None:
        """The presentation data values of a PDU that has so many bytes left. PS3.8 9.3.5.1 and E.2."""
        take, dimse = self.socket.take, self.assoc.dimse
        if left < HEADER:
            raise InvalidError
        while left:
            if left < HEADER:
                raise InvalidError
            size, context_id, control = struct.unpack(">LBB", take(HEADER))
            left -= 4 + size
            if size < 2 or left < 0:
                raise InvalidError
            size -= 2
            # Of a message that goes on more is sure to come, at least two headers: they are read along.
            more = left if left else 2 * HEADER if not control & 2 else 0
            while size > PIECE:
                size -= PIECE
                dimse.receive_fragment(context_id, control & ~2, take(PIECE, size))
            dimse.receive_fragment(context_id, control, take(size, more))


class PromptSocket(AssociationSocket):  # type: ignore[misc]
    """A socket that is waited for instead of looked at, and read through a buffer.

    `wake` ends the waiting when there is something to send.
    """

    def __init__(self, assoc: Association, client_socket: socket.socket, silence: float) -> None:
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._poll = select.poll()
        self._poll.register(client_socket, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)
        self._client = client_socket
        self._flags = 0 if isinstance(client_socket, ssl.SSLSocket) else socket.MSG_WAITALL
        self._silence = silence
        self.deaf = False  # nothing that still comes is read
        self._buffer = memoryview(bytearray(BUFFER))
        self._start = self._end = 0  # of what was received and not taken yet
        super().__init__(assoc, client_socket=client_socket)

    def wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it will wake anyway; closed: nothing waits any more
            self._waker.send(b"w")

    @property
    def buffered(self) -> bool:
        """Whether something was received and not taken yet."""
        return self._start < self._end

    @property
    def ready(self) -> bool:
        """Whether there is something to read, having waited for it for at most `WAIT_MS`."""
        if self.socket is None or not self._is_connected or self.deaf:
            return False
        if self.buffered or (isinstance(self.socket, ssl.SSLSocket) and self.socket.pending()):
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

    def take(self, count: int, more: int = 0) -> memoryview:
        """The next `count` bytes (at most `BUFFER`), which stay valid until the next call. OSError when they do not come.

        `more`: how many bytes are sure to follow; as many of them as the buffer holds are read along.
        """
        have = self._end - self._start
        if have < count:
            if have:  # `bytes`, since the two places may overlap
                self._buffer[:have] = bytes(self._buffer[self._start : self._end])
            self._start, self._end = 0, have
            self._fill(count, more)
        taken = self._buffer[self._start : self._start + count]
        self._start += count
        return taken

    def put_back(self, count: int) -> None:
        """What was just taken, to be taken again."""
        self._start -= count

    def _fill(self, count: int, more: int) -> None:
        whole = count + more >= WHOLE
        limit = min(count + more, BUFFER) if whole else BUFFER
        silent = 0.0
        while self._end < count:
            self._acknowledge_at_once()
            try:
                received = self._client.recv_into(self._buffer[self._end : limit], 0, self._flags if whole else 0)
            except (BlockingIOError, ssl.SSLWantReadError):  # nothing for a second
                silent += 1.0
                if silent >= self._silence or self.aborting():
                    raise
                continue
            if not received:
                raise ConnectionError("the connection was closed")
            self._end += received

    def aborting(self) -> bool:
        """Whether we want to abort: nothing more is worth reading or sending."""
        return any(isinstance(item, A_ABORT | A_P_ABORT) for item in tuple(self.assoc.dul.to_provider_queue.queue))

    def recv(self, nr_bytes: int) -> bytearray:
        """As pynetdicom's: what comes of `nr_bytes` before the connection is closed."""
        data = bytearray()
        while len(data) < nr_bytes:
            try:
                data += self.take(min(nr_bytes - len(data), BUFFER))
            except ConnectionError:
                break
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
        for end in (self._client, self._woken, self._waker):
            end.close()


class WakingQueue(queue.Queue[Any]):
    """What is put here should be sent at once."""

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__()
        self._wake = wake

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._wake()
