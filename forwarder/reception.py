"""Between pynetdicom and the spool: C-STORE data sets go to the disk as they come, never through memory.

pynetdicom collects a data set in a BytesIO before it calls a handler. Here that BytesIO is an `Arrival`, which writes to
the spool and hashes, so memory does not grow with the size of an instance, and a disk that fails in the middle of a data
set is an answer (0xA700, 0x0110) instead of an exception in the protocol's thread.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from datetime import datetime
from io import BytesIO
from typing import Any

from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dsutils import encode_file_meta
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from forwarder.spool import Arrival

IMPLEMENTATION_CLASS_UID = "2.25.247839285318217623041539284766011938217"
IMPLEMENTATION_VERSION_NAME = "CONTENITORE_1"
# The two above stand in the file meta of every instance, and so in its digest: the same instance sent again after an
# update of the forwarder is the same bytes only while they stay what they are.

HANDSHAKE_SECONDS = 15.0
RECEIVE_BLOCK = 1024 * 1024


def file_head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble, prefix and file meta that turn a received data set into a file. PS3.10 7.1."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return bytes(128) + b"DICM" + bytes(encode_file_meta(meta))


class SpoolingDimse(DIMSEServiceProvider):  # type: ignore[misc]  # pynetdicom is untyped here
    """A DIMSE provider that gives each C-STORE request an `Arrival` to write its data set into."""

    def __init__(self, assoc: Association, new_arrival: Callable[[], Arrival]) -> None:
        super().__init__(assoc)
        self._new_arrival = new_arrival

    def receive_primitive(self, primitive: Any) -> None:
        super().receive_primitive(primitive)
        message = self.message  # None when the message is complete and handed on
        if isinstance(message, C_STORE_RQ) and not isinstance(message.data_set, Arrival):
            message.data_set = self.begin(message.command_set, message.context_id, message.data_set)

    def begin(self, command: Any, context_id: int, already: BytesIO) -> Arrival:
        """An arrival with file meta and what has `already` come of the data set."""
        syntax = self.assoc._accepted_cx[context_id].transfer_syntax[0]
        arrival = self._new_arrival()
        arrival.write(file_head(command.AffectedSOPClassUID, command.AffectedSOPInstanceUID, syntax))
        arrival.write(already.getvalue())
        return arrival

    def abandon(self) -> None:
        """The association is gone: what was half received goes too."""
        message = self.message
        if isinstance(message, C_STORE_RQ) and isinstance(message.data_set, Arrival):
            message.data_set.discard()


class LargeReads(AssociationSocket):  # type: ignore[misc]
    """pynetdicom reads 4 KiB at a time; this reads what is there."""

    def recv(self, nr_bytes: int) -> bytearray:
        data = bytearray(nr_bytes)
        view, received = memoryview(data), 0
        while received < nr_bytes:
            count = self.socket.recv_into(view[received : received + RECEIVE_BLOCK])
            if not count:
                view.release()
                return data[:received]
            received += count
        return data


class Server(ThreadedAssociationServer):  # type: ignore[misc]
    """An association server whose TLS handshakes happen in the connection's own thread, within a time limit.

    Otherwise one client that connects and says nothing would keep all others out.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, *args: Any, new_arrival: Callable[[], Arrival], silence: float, **kwargs: Any) -> None:
        self.new_arrival = new_arrival
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
        assoc.dimse = SpoolingDimse(assoc, server.new_arrival)
        assoc.set_socket(LargeReads(assoc, client_socket=self.request))
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


def abandon(event: evt.Event) -> None:
    """Handler of EVT_CONN_CLOSE: forget what was half received."""
    if isinstance(event.assoc.dimse, SpoolingDimse):
        event.assoc.dimse.abandon()
