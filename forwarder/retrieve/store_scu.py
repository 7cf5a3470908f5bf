"""A DICOM node of the hospital's as we call it: associations, and C-STORE of files (PS3.4 B)."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config

from forwarder.config import DicomConfig, PacsConfig, PeerConfig
from forwarder.errors import ForwarderError
from forwarder.header import head_of
from forwarder.tls import tls_context

ANSWER_SECONDS = 60
PLAIN = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
MOST_CONTEXTS = 126
"""Presentation contexts that one association has room for (PS3.8 9.3.2.2: odd numbers to 255)."""
_config.STORE_SEND_CHUNKED_DATASET = True  # files are read as they are sent, never whole
LARGEST_PDU, PDU_HEAD, SENT_AT_ONCE = 131_072, 6, 512 * 1024  # bytes
COMMAND, LAST = 1, 2  # PS3.8 E.2: message control header


class PacsError(Exception):
    """The PACS cannot be reached, broke off, or does not answer. The text is one word for the status."""


class NothingAcceptedError(PacsError):
    """The PACS speaks to us, and takes nothing of what was offered."""


class Association:
    """An association for C-STORE: `takes` tells which transfer syntax a SOP class may be sent in.

    pynetdicom sends each PDU through the objects and queues of its state machine, and waits 10 ms for its own thread before each
    message: a quarter of what a PACS takes. Here that thread rests while the association is used, and a message goes as it is.
    """

    def __init__(self, association: Any) -> None:
        self._association = association
        self._contexts = {
            (str(context.abstract_syntax), str(context.transfer_syntax[0])): int(context.context_id)
            for context in association.accepted_contexts
        }
        self.is_broken = False
        self._socket: socket.socket = association.dul.socket.socket
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Over TLS one thread must not read while another writes, as where a PACS answers before it has all: pynetdicom does both.
        self._is_direct = not isinstance(self._socket, ssl.SSLSocket)
        if not self._is_direct:
            return
        self._socket.settimeout(ANSWER_SECONDS)
        association._reactor_checkpoint.clear()
        deadline = time.monotonic() + ANSWER_SECONDS
        while not association._is_paused and association.is_established and time.monotonic() < deadline:
            time.sleep(0.001)

    def let_go(self) -> None:
        """It is not used any more: pynetdicom ends it."""
        self._association._reactor_checkpoint.set()

    def takes(self, sop_class: str, transfer_syntax: str) -> str | None:
        """The transfer syntax to send an instance in: its own, or an uncompressed one; None where the PACS takes neither."""
        for syntax in (transfer_syntax, *PLAIN):
            if (sop_class, syntax) in self._contexts:
                return syntax
        return None

    def store(self, path: Path, message_id: int = 1, originator: tuple[str, int] | None = None) -> int:
        """C-STORE of a file; the status (PS3.4 Table B.2-1). Raises PacsError where none came.

        `originator`: AE title and message id of the C-MOVE that it is a part of (PS3.7 9.3.1.1).
        """
        title, asked = originator or (None, None)
        try:
            if not self._is_direct:
                answer = self._association.send_c_store(path, message_id, originator_aet=title, originator_id=asked)
                if "Status" not in answer:
                    raise PacsError("no-answer")
                return int(answer.Status)
            self._send(path, message_id, originator)
            _, response = self._association.dimse.get_msg(block=True)
        except (ValueError, RuntimeError, OSError, AttributeError) as error:
            self.is_broken = True
            raise PacsError("broke-off") from error
        if response is None or getattr(response, "MessageIDBeingRespondedTo", None) != message_id:
            self.is_broken = True
            raise PacsError("no-answer")
        return int(response.Status)

    def _send(self, path: Path, message_id: int, originator: tuple[str, int] | None) -> None:
        """The request and its data set, as P-DATA-TF PDUs (PS3.7 9.3.1.1, PS3.8 9.3.5, E.2). Raises ValueError, OSError."""
        with path.open("rb") as file:
            header = head_of(file)
            if header is None or not header.sop_class_uid or not header.sop_instance_uid:
                raise ValueError("no instance")
            context = self._contexts.get((header.sop_class_uid, header.transfer_syntax_uid))
            if context is None:
                raise ValueError("no presentation context for it")
            elements = [
                (0x0002, _uid(header.sop_class_uid)), (0x0100, b"\x01\x00"), (0x0110, struct.pack("<H", message_id)),
                (0x0700, b"\x00\x00"), (0x0800, b"\x01\x00"), (0x1000, _uid(header.sop_instance_uid)),
            ]  # fmt: skip
            if originator is not None:
                title = originator[0].encode()
                elements += [(0x1030, title + b" " * (len(title) % 2)), (0x1031, struct.pack("<H", originator[1]))]
            command = b"".join(struct.pack("<HHL", 0, number, len(value)) + value for number, value in elements)
            out = bytearray(_pdu(context, COMMAND | LAST, struct.pack("<HHLL", 0, 0, 4, len(command)) + command))
            most = min(self._association.acceptor.maximum_length or LARGEST_PDU, LARGEST_PDU) - PDU_HEAD & ~1
            file.seek(header.data_set_at)
            left = path.stat().st_size - header.data_set_at
            while left > 0:
                part = file.read(most)
                if not part:
                    raise ValueError("the file became shorter")
                left -= len(part)
                out += _pdu(context, 0 if left else LAST, part)
                if len(out) >= SENT_AT_ONCE or not left:
                    self._socket.sendall(out)  # nobody else sends on the association meanwhile
                    out.clear()


def _pdu(context_id: int, control: int, data: bytes) -> bytes:
    """A P-DATA-TF PDU with one presentation data value. PS3.8 9.3.5, E.2."""
    return struct.pack(">BBLLBB", 0x04, 0, len(data) + 6, len(data) + 2, context_id, control) + data


def _uid(value: str) -> bytes:
    return value.encode() + b"\0" * (len(value) % 2)


class Node:
    """A node of the configuration. Methods raise PacsError."""

    def __init__(self, node: PacsConfig | PeerConfig, dicom: DicomConfig) -> None:
        self._node, self._dicom = node, dicom

    @contextmanager
    def association(self, wanted: Collection[tuple[str, str]]) -> Iterator[Association]:
        """An association for instances of these (SOP class, transfer syntax). What finds no room is not offered."""
        ae = self._ae()
        contexts: list[tuple[str, str]] = []
        for sop_class, syntax in sorted(wanted):
            contexts += [pair for pair in ((sop_class, syntax), *((sop_class, plain) for plain in PLAIN)) if pair not in contexts]
        for sop_class, syntax in contexts[:MOST_CONTEXTS]:
            ae.add_requested_context(sop_class, syntax)
        association = self._associate(ae)
        used = Association(association)
        try:
            yield used
        finally:
            used.let_go()
            if used.is_broken:
                association.abort()
            elif association.is_established:
                association.release()

    def _ae(self) -> Any:
        ae = AE(self._dicom.ae_title)
        ae.acse_timeout = ae.connection_timeout = 10
        ae.dimse_timeout = ae.network_timeout = ANSWER_SECONDS
        ae.maximum_pdu_size = 0
        return ae

    def _associate(self, ae: Any, handlers: list[Any] | None = None) -> Any:
        node = self._node
        try:
            tls = (tls_context(self._dicom.tls, server=False), None) if node.tls else None
            association = ae.associate(node.host, node.port, ae_title=node.ae_title, tls_args=tls, evt_handlers=handlers or [])
        except (OSError, RuntimeError, ForwarderError) as error:
            raise PacsError("unreachable") from error
        if association.is_rejected:
            raise PacsError("association-rejected")
        if not association.is_established and not association.is_aborted:
            raise PacsError("unreachable")
        if not association.is_established:  # where no context was accepted, pynetdicom aborts
            raise NothingAcceptedError("nothing-accepted") if association.rejected_contexts else PacsError("unreachable")
        return association
