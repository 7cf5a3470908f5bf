"""From a connection to an association: TLS, the request, its answer, and then pynetdicom's services on our upper layer.

Until an association stands, a connection is one thread with one deadline (the ARTIM timer, PS3.8 9.1.4), and how many there
may be is bounded. Who is refused is told why, and noted (`forwarder.dicom.refusals`).
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.dimse_messages import N_EVENT_REPORT_RQ
from pynetdicom.dimse_primitives import C_ECHO, C_STORE, N_ACTION, N_EVENT_REPORT
from pynetdicom.dsutils import encode
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import A_ABORT, A_ASSOCIATE, A_P_ABORT, A_RELEASE, MaximumLengthNotification
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification
from pynetdicom.transport import AddressInformation, ThreadedAssociationServer

from forwarder.alerts import Refusal
from forwarder.dicom import associate, negotiation, queries
from forwarder.dicom.associate import ACCEPTED, AssociateRequest, ContextAnswer
from forwarder.dicom.negotiation import Policy
from forwarder.dicom.peers import Peers
from forwarder.dicom.refusals import Refusals, Refused
from forwarder.dicom.storage import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, SpoolingDimse, StoreHandler
from forwarder.dicom.upper_layer import HEADER, LARGEST_OTHER_PDU, Encoded, PromptSocket, UpperLayer, WakingQueue
from forwarder.logs import log

MAXIMUM_PDU = 131072  # bytes; larger than usual, since each PDU costs the library a fixed time
NO_LIMIT = 16384  # bytes of what we send to who names no maximum length
SMALLEST_PDU = 64  # who names less could hardly be answered at all
HANDSHAKE_SECONDS = 15.0
ARTIM_SECONDS = 30.0  # from the connection to a whole A-ASSOCIATE-RQ
LINGER_SECONDS = 3.0  # for a peer that was refused to close the connection
STOP_SECONDS = 3.0  # for the associations that stand when the forwarder stops
STRANGERS = 64  # connections beside the associations that may be: those that will be refused, or say nothing
NO_SUCH_SOP_CLASS, SOP_CLASS_NOT_SUPPORTED, UNRECOGNIZED_OPERATION = 0x0118, 0x0122, 0x0211  # PS3.7 annex C
REPORTS = 1000  # answers that are remembered until they are asked for
A_ASSOCIATE_RQ = 0x01


class Places:
    """How many may be in, over all ports: `most` associations, and `STRANGERS` connections beside them."""

    def __init__(self, most: int) -> None:
        self.associations = 0
        self._most = most
        self._connections = 0
        self._lock = threading.Lock()

    def enter(self) -> bool:
        """A connection; whether there is a place for it."""
        with self._lock:
            if self._connections >= self._most + STRANGERS:
                return False
            self._connections += 1
            return True

    def associate(self) -> bool:
        """It wants to become an association; whether there is a place for that."""
        with self._lock:
            if self.associations >= self._most:
                return False
            self.associations += 1
            return True

    def leave(self, *, associated: bool) -> None:
        """It is gone."""
        with self._lock:
            self._connections -= 1
            self.associations -= associated


@dataclass(frozen=True, slots=True)
class Desk:
    """What the servers of all ports share: the rules, the places, who takes what comes, and the memory of what was refused."""

    policy: Policy
    places: Places
    door: StoreHandler
    refusals: Refusals
    peers: Peers
    queries: queries.QueryHandler | None = None


class _GoneError(Exception):
    """A connection that ends before an association stands; its reason was noted."""


class Server(ThreadedAssociationServer):  # type: ignore[misc]  # pynetdicom is untyped here
    """An association server each of whose connections is answered in a thread of its own, within a time limit.

    Otherwise one client that connects and says nothing would keep all others out.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, *args: Any, desk: Desk, silence: float, **kwargs: Any) -> None:
        self.desk = desk
        self.silence = silence
        super().__init__(*args, **kwargs)

    def get_request(self) -> tuple[socket.socket, Any]:
        client, address = self.socket.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client, address

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.desk.places.enter():
            self.refused(Refused(Refusal.TOO_MANY_CONNECTIONS, client_address[0]))
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self.desk.places.leave(associated=False)
            self.refused(Refused(Refusal.TOO_MANY_CONNECTIONS, client_address[0]))
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        deadline = time.monotonic() + min(ARTIM_SECONDS, self.silence)
        associated = handed_over = False
        try:
            if self.ssl_context:
                request = self._handshake(request, client_address[0])
            asked = self._asked(request, client_address[0], deadline)
            associated = self._let_in(request, client_address[0], asked)
            association = self._established(request, client_address, asked)
            association.start()
            handed_over = True
        except _GoneError:
            pass
        except OSError as error:
            log.debug("connection lost before an association stood", peer=client_address[0], detail=type(error).__name__)
        except RuntimeError as error:  # no thread can be started
            log.error("no association could be begun", peer=client_address[0], detail=type(error).__name__)
        finally:
            if not handed_over:
                self.shutdown_request(request)
                self.desk.places.leave(associated=associated)

    def handle_error(self, _: Any, client_address: Any) -> None:
        """As the standard library's, without its words on standard error."""
        log.error("a connection failed", peer=client_address[0])

    def refused(self, refused: Refused) -> None:
        """Note that there will be no association."""
        self.desk.refusals.note("association", refused)

    def _handshake(self, request: socket.socket, peer: str) -> socket.socket:
        request.settimeout(HANDSHAKE_SECONDS)
        try:
            return self.ssl_context.wrap_socket(request, server_side=True)  # type: ignore[no-any-return]
        except (OSError, ssl.SSLError) as error:
            self.refused(Refused(Refusal.TLS_HANDSHAKE, peer, detail=getattr(error, "reason", None) or type(error).__name__))
            raise _GoneError from error

    def _asked(self, request: socket.socket, peer: str, deadline: float) -> AssociateRequest:
        """The request for an association, whole before the deadline. Raises _GoneError, OSError."""
        head = b""
        try:
            head = _receive(request, HEADER, deadline)
            length = int.from_bytes(head[2:], "big")
            if head[0] != A_ASSOCIATE_RQ or length > LARGEST_OTHER_PDU:
                known = head[0] in range(2, 8)
                raise self._turned_away(request, associate.UNEXPECTED_PDU if known else associate.UNRECOGNISED_PDU, peer)
            return associate.read_request(_receive(request, length, deadline))
        except ValueError:
            raise self._turned_away(request, associate.INVALID_PARAMETER, peer) from None
        except TimeoutError:
            self.refused(Refused(Refusal.NO_REQUEST_IN_TIME, peer))
            raise _GoneError from None

    def _turned_away(self, request: socket.socket, reason: int, peer: str) -> _GoneError:
        """What came is no request for an association."""
        self.refused(Refused(Refusal.NOT_DICOM, peer))
        _say_last(request, associate.abort(reason))
        return _GoneError()

    def _let_in(self, request: socket.socket, peer: str, asked: AssociateRequest) -> bool:
        """Take a place for the association. Raises _GoneError where it is refused, once the sender knows."""
        why = negotiation.why_refused(asked, self.desk.policy)
        if why is None and self.desk.places.associate():
            return True
        why = why or Refusal.TOO_MANY_ASSOCIATIONS
        self.refused(Refused(why, peer, asked.calling, asked.called))
        _say_last(request, associate.reject(*negotiation.REJECTIONS[why]))
        raise _GoneError

    def _established(self, request: Any, client_address: Any, asked: AssociateRequest) -> Established:
        """Answer the request with yes; the association that stands then, not started yet. Raises OSError."""
        peer = self.desk.peers.may_query(asked.calling, client_address[0], request)
        answers = negotiation.answers(asked, self.desk.policy, peer=peer)
        for answer, why in answers:
            if why is not None:
                context = answer.context
                syntaxes = context.transfer_syntaxes if why is Refusal.TRANSFER_SYNTAX else ()
                told = Refused(why, client_address[0], asked.calling, asked.called, context.abstract_syntax, syntaxes)
                self.desk.refusals.note("presentation context", told)
        chosen = [answer for answer, _ in answers]
        # Waiting in the system is one call where Python's own timeouts are two; the receiver looks up each second.
        request.settimeout(None)
        request.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 1, 0))
        request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(self.silence), 0))
        association = Established(self, request, client_address, asked, chosen)
        yes = associate.accept(asked, chosen, MAXIMUM_PDU, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME)
        try:
            request.sendall(yes)
        except OSError:
            association.dul.socket.finish()
            raise
        return association

    def shutdown(self) -> None:
        """Stop listening and abort the associations that stand: their senders know at once, and send again later."""
        super().shutdown()
        open_ones = self.active_associations
        for association in open_ones:
            association.ending = association.ending or "the forwarder stops"
            association.abort(block=False)
        deadline = time.monotonic() + STOP_SECONDS
        for association in open_ones:
            association.join(max(0.0, deadline - time.monotonic()))

    def service_actions(self) -> None:
        """pynetdicom collects garbage here every minute of idling; the interpreter does it well enough."""


def _receive(connection: socket.socket, count: int, deadline: float) -> bytes:
    """Exactly `count` bytes. TimeoutError when they are not there by `deadline`; ConnectionError when they do not come."""
    data = bytearray()
    while len(data) < count:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        some = connection.recv(min(count - len(data), 65536))
        if not some:
            raise ConnectionError("the connection was closed")
        data += some
    return bytes(data)


def _say_last(connection: socket.socket, data: bytes) -> None:
    """Send it, and give the peer a moment to read it and to close: closing at once might take it away again."""
    with contextlib.suppress(OSError):
        connection.settimeout(LINGER_SECONDS)
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + LINGER_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            if not connection.recv(4096):
                return


class Established(Association):  # type: ignore[misc]  # pynetdicom is untyped here
    """An association that was answered with yes, from there on pynetdicom's, with our DIMSE provider and socket."""

    def __init__(
        self, server: Server, request: Any, client_address: Any, asked: AssociateRequest, answers: list[ContextAnswer]
    ) -> None:
        super().__init__(server.ae, "acceptor")
        self.peer, self.calling, self.called = str(client_address[0]), asked.calling, asked.called
        self.ending = ""  # why it ends, where that is not the sender's wish
        self.stored: Counter[int] = Counter()  # C-STORE answers, by status
        self._desk = server.desk
        self._began = time.monotonic()
        self._reports = 0  # sent by us
        self._answers: dict[int, int] = {}  # by message id: the status with which a report of ours was answered
        self._answered = threading.Condition()
        self._server = server
        self.name = f"AcceptorThread@{datetime.now():%Y%m%d%H%M%S}"
        self.dul = UpperLayer(self)
        self.dul.daemon = True  # a sender that does not let go keeps no forwarder from stopping
        self.network_timeout, self.acse_timeout = server.ae.network_timeout, server.ae.acse_timeout  # this sets timers of `dul`
        self.dimse = SpoolingDimse(self, server.desk.door)
        connection = PromptSocket(self, request, server.silence)
        self.set_socket(connection)
        self.dul.event_queue.get(block=False)  # that a connection came: its answer was given here
        self.dul.state_machine.transition("Sta6")
        self.dul.to_provider_queue = WakingQueue(connection.wake)
        self.dul._run_loop_delay = 0  # the socket waits
        self.requestor.address_info = AddressInformation.from_tuple(client_address)
        self.acceptor.address_info = AddressInformation.from_tuple(server.server_address)
        self.requestor.primitive = _primitive(asked)
        for answer in answers:
            if answer.result == ACCEPTED:
                self._accepted_cx[answer.context.context_id] = _context(answer)
        for event, handlers in server._handlers.items():
            if event.is_intervention and handlers:
                self.bind(event, *handlers)
        log.debug(
            "association accepted", peer=self.peer, calling=self.calling, called=self.called,
            contexts=len(self._accepted_cx), refused=len(answers) - len(self._accepted_cx),
        )  # fmt: skip

    def run_reactor(self) -> None:
        """Serve it until it ends. Runs in a thread of its own."""
        try:
            self._started_dul = True
            self.dul.start()
            self._dul_ready.wait()
            self.is_established = True
            self._run_reactor()
        finally:
            self.is_established = False
            self.dul.kill_dul()
            if not self.dul.is_alive():
                self.dul.socket.finish()
            self._desk.places.leave(associated=True)
            with self._answered:
                self._answered.notify_all()
            self._tell_end()

    def _tell_end(self) -> None:
        how = self.ending or ("released" if self.is_released else "aborted" if self.is_aborted else "connection lost")
        say = log.warning if self.ending else log.debug
        say(
            "association ended", how=how, peer=self.peer, calling=self.calling, called=self.called,
            stored=self.stored[0], failed=self.stored.total() - self.stored[0], seconds=round(time.monotonic() - self._began, 1),
        )  # fmt: skip

    def abort(self, block: bool = True) -> None:
        """As pynetdicom's; it comes from here when nothing was said for too long, or a service failed."""
        if not self.ending:
            self.ending = "silent for too long" if self.dul.idle_timer_expired() else "a request that cannot be served"
        super().abort(block)

    def send_report(self, information: Dataset, event_type: int, sop_class: str, sop_instance: str) -> int:
        """Send an N-EVENT-REPORT; returns its message id, for `answer`. PS3.7 10.1.1.

        Nobody waits meanwhile, and the association goes on: a modality that stores, and answers late or never, is not to
        lose it. Raises ValueError where there is no context for it.
        """
        context = next((accepted for accepted in self._accepted_cx.values() if accepted.abstract_syntax == sop_class), None)
        if context is None:
            raise ValueError("there is no presentation context for it")
        syntax = context.transfer_syntax[0]
        request = N_EVENT_REPORT()
        with self._answered:
            self._reports += 1
            request.MessageID = message_id = self._reports % 65536
        request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = UID(sop_class), UID(sop_instance)
        request.EventTypeID = event_type
        request.EventInformation = BytesIO(encode(information, syntax.is_implicit_VR, syntax.is_little_endian) or b"")
        message = N_EVENT_REPORT_RQ()
        message.primitive_to_message(request)
        parts = message.encode_msg(context.context_id, self.dimse.maximum_pdu_size)
        self.dul.to_provider_queue.put(Encoded([b"".join(P_DATA_TF(part).encode() for part in parts)]))
        return message_id

    def answer(self, message_id: int, seconds: float) -> int | None:
        """The status with which a report of ours was answered; None where no answer comes in time."""
        with self._answered:
            self._answered.wait_for(lambda: message_id in self._answers or not self.is_established, seconds)
            return self._answers.pop(message_id, None)

    def _serve_request(self, msg: Any, context_id: int) -> None:
        """As pynetdicom's; an answer to a report of ours goes to who waits for it, and queries are answered by `queries`.

        A request of another service than its context's is refused here: pynetdicom would answer it as one of that service.
        """
        if isinstance(msg, N_EVENT_REPORT) and msg.MessageIDBeingRespondedTo is not None:
            with self._answered:
                if len(self._answers) < REPORTS and isinstance(msg.Status, int):
                    self._answers[msg.MessageIDBeingRespondedTo] = msg.Status
                self._answered.notify_all()
            return
        context = self._accepted_cx.get(context_id)
        refused = None if context is None else _why_not_served(msg, context.abstract_syntax)
        if refused is not None:
            self._refuse_request(msg, context_id, refused)
            return
        if self._desk.queries is not None and context is not None and isinstance(msg, queries.KINDS):
            queries.serve(self, msg, context, self._desk.queries)
            self.dul._idle_timer.restart()  # it says nothing while it is answered
            return
        super()._serve_request(msg, context_id)

    def _refuse_request(self, message: Any, context_id: int, status: int) -> None:
        """Answer a request in a response of its own service."""
        if getattr(message, "MessageID", None) is None or message.MessageIDBeingRespondedTo is not None:
            return  # a response to nothing
        answer = type(message)()
        answer.MessageIDBeingRespondedTo, answer.Status = message.MessageID, status
        log.debug("request refused", service=type(message).__name__, status=f"0x{status:04X}", calling=self.calling)
        self.dimse.send_msg(answer, context_id)

    def note_refusal(self, what: str, refused: Refused) -> None:
        """Tell the administrator of something that was refused on this association."""
        self._desk.refusals.note(what, refused)

    @property
    def is_ending(self) -> bool:
        """Whether the peer, or we, want it to end, or it has ended: nobody waits for an answer any more."""
        wanted = self.dul.peek_next_pdu()
        return isinstance(wanted, A_RELEASE | A_ABORT | A_P_ABORT) or not (self.is_established and self.dul.is_alive())


def _why_not_served(message: Any, abstract_syntax: str) -> int | None:
    """The status for a request that is none of its presentation context's service, or names another SOP class; None for one
    that is. C-ECHO is answered on every context: some senders have no other."""
    sop_class = getattr(message, "AffectedSOPClassUID", None) or getattr(message, "RequestedSOPClassUID", None)
    if isinstance(message, C_ECHO):
        return None if sop_class == Verification else UNRECOGNIZED_OPERATION
    if abstract_syntax in queries.MODELS:
        kinds: Any = queries.MODELS[abstract_syntax][0]
        return None if isinstance(message, kinds) else UNRECOGNIZED_OPERATION
    if abstract_syntax == StorageCommitmentPushModel:
        if not isinstance(message, N_ACTION | N_EVENT_REPORT):
            return UNRECOGNIZED_OPERATION
        return None if sop_class == abstract_syntax else NO_SUCH_SOP_CLASS
    if abstract_syntax == Verification or not isinstance(message, C_STORE):
        return UNRECOGNIZED_OPERATION
    return None if sop_class == abstract_syntax else SOP_CLASS_NOT_SUPPORTED


def _primitive(asked: AssociateRequest) -> A_ASSOCIATE:
    """What pynetdicom still looks up while the association stands: the greatest PDU that the sender takes."""
    length = MaximumLengthNotification()
    length.maximum_length_received = max(SMALLEST_PDU, min(asked.maximum_length or NO_LIMIT, MAXIMUM_PDU))
    primitive = A_ASSOCIATE()
    primitive.user_information = [length]
    return primitive


def _context(answer: ContextAnswer) -> PresentationContext:
    context = PresentationContext()
    context._context_id = answer.context.context_id  # its setter refuses even numbers, which some senders use
    context.abstract_syntax = UID(answer.context.abstract_syntax)
    context.transfer_syntax = [UID(answer.transfer_syntax)]
    context.result = answer.result
    context._as_scu, context._as_scp = answer.roles is not None, True
    return context
