"""The DICOM door: storage, storage commitment, query and retrieve as SCP, plain and over TLS. PS3.4 A, B, C, J; PS3.15 B.12."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydicom import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import AE, _config, evt, register_uid
from pynetdicom._globals import ALL_TRANSFER_SYNTAXES
from pynetdicom.presentation import AllStoragePresentationContexts, build_context
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from forwarder.alerts import Refusal
from forwarder.config import DicomConfig, PeerConfig
from forwarder.dicom import storage as reception
from forwarder.dicom.associations import Desk, Places, Server
from forwarder.dicom.negotiation import Policy
from forwarder.dicom.peers import Peers
from forwarder.dicom.queries import MODELS, QueryHandler
from forwarder.dicom.refusals import Refusals, Refused
from forwarder.dicom.senders import Senders
from forwarder.errors import ConfigError, ForwarderError, SpoolError
from forwarder.logs import log
from forwarder.retrieve.pacs import answer_report
from forwarder.spool.spool import Arrival, Rank, Spool, SpoolFullError, look_at
from forwarder.tls import tls_context

# Where a sender offers several syntaxes for one class, this order decides: what it holds uncompressed stays whole, and
# nobody is led to compress with loss.
PREFERRED = [
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
]
TRANSFER_SYNTAXES = [*PREFERRED, *(uid for uid in ALL_TRANSFER_SYNTAXES if uid not in PREFERRED)]
NEGOTIATION_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]

# PS3.6 table A-1: storage SOP classes that are retired. Old equipment sends them, and archives are full of them.
RETIRED_STORAGE = [
    f"1.2.840.10008.5.1.{end}"
    for end in (
        "1.27",  # Stored Print
        "1.29",  # Hardcopy Grayscale Image
        "1.30",  # Hardcopy Color Image
        "4.1.1.3",  # Ultrasound Multi-frame Image
        "4.1.1.5",  # Nuclear Medicine Image
        "4.1.1.6",  # Ultrasound Image
        "4.1.1.8",  # Standalone Overlay
        "4.1.1.9",  # Standalone Curve
        "4.1.1.9.1",  # Waveform, trial
        "4.1.1.10",  # Standalone Modality LUT
        "4.1.1.11",  # Standalone VOI LUT
        "4.1.1.12.3",  # X-Ray Angiographic Bi-Plane Image
        "4.1.1.77.1",  # VL Image, trial
        "4.1.1.77.2",  # VL Multi-frame Image, trial
        "4.1.1.88.1",  # Text SR, trial
        "4.1.1.88.2",  # Audio SR, trial
        "4.1.1.88.3",  # Detail SR, trial
        "4.1.1.88.4",  # Comprehensive SR, trial
        "4.1.1.129",  # Standalone PET Curve
        "4.34.1",  # RT Beams Delivery Instruction, trial
    )
]

# PS3.4 table B.2-1 and PS3.7 annex C: what C-STORE is answered, and when.
STORE_STATUS = {
    0x0000: "success: the instance is durable in the spool",
    0xA700: "refused, out of resources: the spool's disk is (nearly) full; try again later",
    0x0110: "failure, processing: the spool's disk or journal failed; try again later",
    0xC000: "error, cannot understand: the request carried no data set",
    0x0122: "refused: SOP class not supported in this presentation context",
}

MOST_REFERENCES = 100_000  # of one request for storage commitment

# PS3.4 J.3.2.2: what N-ACTION is answered.
ACTION_STATUS = {
    0x0000: "success: the request is recorded and will be answered by N-EVENT-REPORT",
    0x0110: "failure, processing: the journal could not record the request, or who asks cannot be answered",
    0x0112: "no such SOP instance: not the well-known instance of storage commitment",
    0x0114: "no such argument: no transaction UID or no referenced instance",
    0x0115: "invalid argument value: a reference without SOP class or without SOP instance UID",
    0x0123: "no such action: only action type 1 exists",
    0x0213: "resource limitation: more than 100,000 references in one request, 1,000 requests open, or the disk nearly full",
}

# PS3.7 10.1.1.1.8: what N-EVENT-REPORT is answered.
REPORT_STATUS = {
    0x0000: "success: the result is recorded",
    0x0110: "failure, processing: no request of ours has this transaction UID",
    0x0115: "invalid argument value: no transaction UID",
    0x0213: "resource limitation: the journal could not record it; try again later",
}

OnAction = Callable[[str, str, list[tuple[str, str]], Any], None]
"""(transaction UID, calling AE, [(SOP class, SOP instance)], association) → recorded.

Raises SpoolError; another ForwarderError for an asker that could never be answered.
"""


def supported_syntaxes(extra: list[str]) -> dict[str, list[str]]:
    """By SOP class the transfer syntaxes, the preferred ones first: every storage class, verification and storage commitment."""
    storage = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    for uid in extra:
        if not UID(uid).is_valid:
            raise ConfigError(f"The key “dicom.extra_sop_classes” has “{uid}”, which is not a UID.")
    for uid in (*RETIRED_STORAGE, *extra):
        if uid not in storage:
            register_uid(uid, "Storage" + uid.replace(".", "_"), StorageServiceClass)
            storage.add(uid)
    syntaxes, few = [str(uid) for uid in TRANSFER_SYNTAXES], [str(uid) for uid in NEGOTIATION_SYNTAXES]
    return dict.fromkeys(sorted(storage), syntaxes) | {str(uid): few for uid in (Verification, StorageCommitmentPushModel)}


class Receiver:
    """What the handlers need: the spool, how urgent something is, who records commitment requests."""

    def __init__(self, spool: Spool, rank: Rank, on_action: OnAction, on_stored: Callable[[], None]) -> None:
        self.spool = spool
        self.rank = rank
        self.on_action = on_action
        self.on_stored = on_stored
        self.refusals = Refusals()
        self.senders = Senders()
        self.is_echo: Callable[[str], bool] = lambda _: False
        """Whether an instance, by its UID, is one that was brought to the sender from here (`forwarder.deliver`)."""
        self.on_commitment: Callable[[str, Collection[str], Collection[str]], bool] = lambda *_: False
        """Hears the PACS's answer to a request for storage commitment of ours; whether there was one (`forwarder.deliver`)."""
        self.echoes = 0
        self.bytes_received = 0
        self.failing = False  # whether the spool failed the last instance

    def new_arrival(self) -> Arrival:
        return self.spool.arrival()

    def store(self, request: reception.StoreRequest, sender: reception.Sender) -> int:
        """Make a received instance durable; returns one of `STORE_STATUS`."""
        arrival = request.arrival
        if not request.accepted:
            arrival.discard()
            return self._refuse(0x0122, Refusal.OTHER_CONTEXT, sender, request.sop_class_uid)
        try:
            about = look_at(arrival.head, sender.calling)
            if about.sop_instance and self.is_echo(about.sop_instance):
                arrival.discard()
                self.echoes += 1
                self.senders.heard(sender.calling, sender.peer)
                return 0x0000
            self.spool.admit(arrival, about, self.rank(about))
        except SpoolFullError as error:
            return self._refuse(0xA700, Refusal.NO_SPACE, sender, detail=str(error))
        except SpoolError as error:
            self.failing = True
            return self._refuse(0x0110, Refusal.SPOOL_FAILS, sender, detail=str(error))
        self.failing = False
        self.bytes_received += arrival.size
        self.senders.heard(sender.calling, sender.peer)
        self.on_stored()
        return 0x0000

    def store_nothing(self, event: evt.Event) -> int:
        """Answer a C-STORE request without data set; the others never come this way."""
        return self._refuse(0xC000, Refusal.NO_DATA_SET, event.assoc)

    def _refuse(self, status: int, why: Refusal, sender: reception.Sender, sop_class: str = "", detail: str = "") -> int:
        self.refusals.note("C-STORE", Refused(why, sender.peer, sender.calling, sender.called, sop_class, (), detail))
        return status

    def action(self, event: evt.Event) -> tuple[int, None]:
        """Answer an N-ACTION request of storage commitment; returns one of `ACTION_STATUS`."""
        request = event.request
        if request.RequestedSOPInstanceUID != "1.2.840.10008.1.20.1.1":
            return 0x0112, None
        if request.ActionTypeID != 1:
            return 0x0123, None
        information = event.action_information
        references = _references(information)
        transaction = str(information.get("TransactionUID") or "")
        if not transaction or not references:
            return 0x0114, None
        if not all(sop_class and sop_instance for sop_class, sop_instance in references):  # type 1, here and in the report
            return 0x0115, None
        if len(references) > MOST_REFERENCES:
            return 0x0213, None
        try:
            self.on_action(transaction, event.assoc.calling, references, event.assoc)
        except SpoolFullError as error:
            log.warning("commitment request not recorded", detail=str(error))
            return 0x0213, None
        except SpoolError as error:
            log.error("commitment request not recorded", detail=str(error))
            return 0x0110, None
        except ForwarderError:  # forwarder.dicom.commitment.UnreachableError
            asks = event.assoc
            self.refusals.note("commitment request", Refused(Refusal.NO_PEER, asks.peer, asks.calling, asks.called))
            return 0x0110, None
        return 0x0000, None

    def report(self, event: evt.Event) -> tuple[int, None]:
        """Answer an N-EVENT-REPORT of storage commitment; returns one of `REPORT_STATUS`."""
        try:
            return answer_report(event, self.on_commitment), None
        except SpoolError as error:
            log.error("the result of a storage commitment is not recorded", detail=str(error))
            return 0x0213, None


def _references(information: Dataset) -> list[tuple[str, str]]:
    return [
        (str(item.get("ReferencedSOPClassUID") or ""), str(item.get("ReferencedSOPInstanceUID") or ""))
        for item in information.get("ReferencedSOPSequence") or []
    ]


@contextmanager
def listening(
    config: DicomConfig, receiver: Receiver, peers: Sequence[PeerConfig] = (), queries: QueryHandler | None = None
) -> Iterator[dict[str, int]]:
    """Listen while the block runs; yields the ports, {"dicom": …, "tls": …}. Raises ConfigError if one is taken.

    `queries` answers what `peers` query and retrieve; without either the service is not there.
    """
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
    ae = AE(config.ae_title)
    ae.network_timeout = config.idle_seconds
    handlers = [
        (evt.EVT_C_ECHO, lambda _: 0x0000),
        (evt.EVT_C_STORE, receiver.store_nothing),
        (evt.EVT_N_ACTION, receiver.action),
        (evt.EVT_N_EVENT_REPORT, receiver.report),
    ]
    supported = supported_syntaxes(config.extra_sop_classes)
    known = Peers(peers)
    models = {uid: [str(syntax) for syntax in NEGOTIATION_SYNTAXES] for uid in MODELS if known and queries is not None}
    callers = frozenset(title.strip() for title in config.allowed_callers)
    policy = Policy(config.ae_title, callers, config.check_called, supported, models)
    desk = Desk(policy, Places(config.max_associations), receiver, receiver.refusals, known, queries)
    servers: dict[str, Any] = {}
    wanted: list[tuple[str, int, ssl.SSLContext | None]] = []
    if config.port:
        wanted.append(("dicom", config.port, None))
    if config.tls.port:
        wanted.append(("tls", config.tls.port, tls_context(config.tls, server=True)))
    try:
        for name, port, context in wanted:
            try:
                servers[name] = ae.make_server(
                    (config.address, port),
                    contexts=[build_context(Verification)],  # the library asks for one; what counts stands in the policy
                    ssl_context=context,
                    evt_handlers=handlers,
                    server_class=Server,
                    desk=desk,
                    silence=float(config.idle_seconds),
                )
            except OSError as error:
                text = f"Cannot listen on {config.address}:{port} for DICOM: {error.strerror}."
                raise ConfigError(text) from error
            ae._servers.append(servers[name])
            threading.Thread(target=servers[name].serve_forever, kwargs={"poll_interval": 0.1}, name=name, daemon=True).start()
        yield {name: server.server_address[1] for name, server in servers.items()}
    finally:
        for server in servers.values():
            server.shutdown()
