"""MLLP: messages over TCP, each between <VT> and <FS><CR> (HL7 Transport Specification: MLLP, release 1), plain and over TLS.

Everything a peer can do costs it its own connection at the most: size, time and number are bounded.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import socketserver
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Protocol

from forwarder.config import Hl7Config
from forwarder.errors import ConfigError, SpoolError
from forwarder.logs import log
from forwarder.tls import tls_context

VT, FS = b"\x0b", b"\x1c"
HANDSHAKE_SECONDS = 15.0
BLOCK = 64 * 1024

SLOW_SECONDS = 10.0  # after which a message that is not whole yet may have to make room for another sender
"""Beyond the most connections, the one that has said nothing for longest makes room."""


class Taker(Protocol):
    """Who takes messages in (`hl7_door.MessageHandler`)."""

    def take(self, content: bytes, whole: bool, peer: str) -> list[bytes]:
        """The answers to a message, `whole` or too large. Raises SpoolError if it could not be made durable."""
        ...

    def crowded(self, *, made_room: bool) -> None:
        """There were as many connections as may be: one was closed for another, or this one turned away."""
        ...


class Stage(IntEnum):
    """What a connection is about; the greater, the later it makes room for another one."""

    IDLE = 0
    RECEIVING = 1
    ANSWERING = 2


@dataclass(slots=True)
class Place:
    """A connection's place: who has it, and since when (monotonic) it does what."""

    peer: str
    stage: Stage = Stage.IDLE
    since: float = field(default_factory=time.monotonic)

    def enter(self, stage: Stage) -> None:
        self.stage, self.since = stage, time.monotonic()


class _Ended(Exception):
    """There is nothing more to expect of this connection; the text says why, or nothing if the peer just closed it."""


class Frames:
    """The messages that come over a connection."""

    def __init__(self, connection: socket.socket, config: Hl7Config, place: Place) -> None:
        self._connection = connection
        self._place = place
        self._config = config
        self._rest = b""

    def next(self) -> tuple[bytes, bool]:
        """The next message, and whether it is whole: of one that is too large the beginning is kept, and its end awaited."""
        deadline = time.monotonic() + self._config.idle_seconds
        while not (begun := self._rest.lstrip(b"\r\n")):
            self._place.enter(Stage.IDLE)
            self._rest = self._receive(deadline, "")
        if not begun.startswith(VT):
            raise _Ended("what came is not MLLP")
        self._place.enter(Stage.RECEIVING)
        self._rest = begun[1:]
        content, whole = bytearray(), True
        deadline = time.monotonic() + self._config.message_seconds
        while True:
            piece, end, rest = self._rest.partition(FS)
            room = self._config.max_message_mb * 1_000_000 - len(content)
            whole = whole and len(piece) <= room
            content += piece[: max(room, 0)]
            self._rest = rest
            if end:
                self._place.enter(Stage.ANSWERING)
                return bytes(content), whole
            self._rest = self._receive(deadline, "a message was broken off")

    def _receive(self, deadline: float, loss: str) -> bytes:
        self._connection.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            data = self._connection.recv(BLOCK)
        except TimeoutError:
            raise _Ended(loss or "nothing came for too long") from None
        except OSError:
            raise _Ended(loss or "the connection broke") from None
        if not data or time.monotonic() > deadline:
            raise _Ended(loss)
        return data


class _Connection(socketserver.BaseRequestHandler):
    server: _MllpServer

    def handle(self) -> None:
        server, connection = self.server, self.request
        place = server.place_of(connection)
        try:
            if server.tls:
                connection.settimeout(HANDSHAKE_SECONDS)
                connection = server.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                server.replace(self.request, connection)
                connection.do_handshake()
            frames = Frames(connection, server.config, place)
            while True:
                answers = server.taker.take(*frames.next(), place.peer)
                connection.settimeout(server.config.message_seconds)
                for answer in answers:
                    connection.sendall(VT + answer + FS + b"\r")
        except _Ended as end:
            if str(end):
                log.warning("HL7 connection closed", peer=self.client_address[0], detail=str(end))
        except SpoolError as error:  # no answer: whoever gets none sends again
            log.error("HL7 message not stored", peer=self.client_address[0], detail=str(error))
        except OSError as error:
            log.warning("HL7 connection broke", peer=self.client_address[0], detail=type(error).__name__)
        finally:
            server.replace(connection, None)
            connection.close()


class _MllpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, port: int, config: Hl7Config, taker: Taker, tls: ssl.SSLContext | None) -> None:
        self.config, self.taker, self.tls = config, taker, tls
        self._allowed = [ipaddress.ip_network(address) for address in config.allowed_addresses]
        self._open: dict[socket.socket, Place] = {}
        self._lock = threading.Lock()
        super().__init__((config.address, port), _Connection)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether this peer may come in now."""
        known = not self._allowed or any(ipaddress.ip_address(client_address[0]) in network for network in self._allowed)
        with self._lock:
            full = known and len(self._open) >= self.config.max_connections
            made_room = full and self._make_room()
            if taken := known and (made_room or not full):
                request.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open[request] = Place(client_address[0])
        if full:
            self.taker.crowded(made_room=made_room)
        if not taken:
            log.warning("HL7 connection refused", peer=client_address[0], detail="too many" if known else "unknown address")
        return taken

    def _make_room(self) -> bool:
        """Close the connection that is missed least; False where each has a message under way. Called with the lock."""
        now = time.monotonic()
        peers = Counter(place.peer for place in self._open.values())
        least = min(
            (
                (place.stage, -peers[place.peer], place.since, connection)
                for connection, place in self._open.items()
                if place.stage is Stage.IDLE or (place.stage is Stage.RECEIVING and now - place.since > SLOW_SECONDS)
            ),
            key=lambda place: place[:3],
            default=None,
        )
        if least is None:
            return False
        place = self._open.pop(connection := least[3])
        log.warning("HL7 connection closed for a new one", peer=place.peer, idle_seconds=round(now - place.since))
        with contextlib.suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # its thread then ends by itself
        return True

    def place_of(self, connection: socket.socket) -> Place:
        with self._lock:
            return self._open.get(connection) or Place("")  # it had to make room already

    def replace(self, connection: socket.socket, by: socket.socket | None) -> None:
        """A connection became another one (TLS), or ended."""
        with self._lock:
            place = self._open.pop(connection, None)
            if by is not None and place is not None:
                self._open[by] = place

    def shutdown_request(self, request: Any) -> None:
        """A connection is over, also one for which no thread could be started: its place is free."""
        self.replace(request, None)
        super().shutdown_request(request)

    def end(self) -> None:
        """Close the door and every connection, and wait until what is under way is answered or dropped."""
        self.shutdown()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RD)  # TLS's own would have the last answer go in plain
        self.server_close()

    def handle_error(self, *_: object) -> None:
        log.error("HL7 connection failed", detail=type(sys.exc_info()[1]).__name__)


@contextmanager
def listening(config: Hl7Config, taker: Taker) -> Iterator[dict[str, int]]:
    """Listen while the block runs; yields the ports, {"hl7": …, "hl7_tls": …}. Raises ConfigError if one is taken."""
    wanted: list[tuple[str, int, ssl.SSLContext | None]] = [("hl7", config.port, None)] if config.port else []
    if config.tls.port:
        wanted.append(("hl7_tls", config.tls.port, tls_context(config.tls, server=True)))
    ports: dict[str, int] = {}
    with ExitStack() as stack:
        for name, port, tls in wanted:
            try:
                server = _MllpServer(port, config, taker, tls)
            except OSError as error:
                raise ConfigError(f"Cannot listen on {config.address}:{port} for HL7: {error.strerror}.") from error
            stack.callback(server.end)
            threading.Thread(target=server.serve_forever, args=(0.1,), name=name, daemon=True).start()
            ports[name] = server.server_address[1]
        yield ports
