"""`check`: everything that has to be right, tried once, with a sentence for each, and what the firewall has to let through."""

from __future__ import annotations

import os
import secrets
import smtplib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pynetdicom import AE
from pynetdicom.sop_class import Verification

from forwarder.archive.client import Archive, archive_of, place_of
from forwarder.archive.signing import SKEW_TOLERATED, certificate_of
from forwarder.config import Config, PacsConfig, PeerConfig
from forwarder.errors import ArchiveError, ForwarderError
from forwarder.operations.mail import signed_in
from forwarder.retrieve.pacs import Pacs
from forwarder.retrieve.store_scu import PacsError
from forwarder.tls import DAYS_WARNED, days_left, tls_context

PATIENCE = 10.0  # seconds for each step with a peer

# PS3.8 table 9-21: (source, reason) of an A-ASSOCIATE-RJ, in words about these AE titles.
REJECTED = {
    (1, 1): "refuses the association and gives no reason; is “{calling}” known there?",
    (1, 2): "refuses the application context: something other than DICOM images is at this port",
    (1, 3): "does not know the calling AE title “{calling}”: it has to be entered there",
    (1, 7): "is not called “{called}”: the AE title in [[peers]] is not the one at this port",
    (2, 1): "refuses the association and gives no reason",
    (2, 2): "speaks another version of the protocol",
    (3, 1): "is too busy now; try again",
    (3, 2): "has as many associations as it takes; try again",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried: whether it is right, and a sentence."""

    good: bool
    what: str
    text: str


def check(config: Config) -> Iterator[Finding]:
    """Try the PACS, the archive and its store, the clock, the disk and the certificate. Raises nothing that a check is about."""
    for peer in config.peers:
        yield _echo(config, peer)
    if config.pacs.host:
        echo = _echo(config, config.pacs)
        yield echo
        if echo.good:
            yield _query(config)
    if not config.peers and not config.pacs.host:
        yield Finding(True, "PACS", "neither [[peers]] nor [pacs] is configured, so none was called")
    store = ""
    try:
        archive = archive_of(config)
    except ForwarderError as error:
        yield Finding(False, "archive", str(error))
    else:
        answered = _signed_call(archive)
        yield answered
        if answered.good:
            stored, store = _store(archive)
            yield stored
        yield _clock(archive)
    yield _disk(config)
    for what, tls in (("certificate", config.dicom.tls), ("certificate, HL7", config.hl7.tls)):
        if tls.port:
            yield _certificate(what, Path(tls.certificate))
    if exchanged := certificate_of(config.archive.profile):
        yield _certificate("certificate, AWS", exchanged)
    if config.web.certificate:
        yield _certificate("certificate, HTTPS", Path(config.web.certificate))
    if config.mail.host:
        yield _mail(config)
    yield from _firewall(config, store)


def _query(config: Config) -> Finding:
    """Whether the PACS answers C-FIND of patients, by which deliveries know who somebody is there: about a number of nobody."""
    what = f"PACS {config.pacs.ae_title}, C-FIND"
    number = f"contenitore-{secrets.token_hex(8)}"
    try:
        found = Pacs(config.pacs, config.dicom).asked_for_patients(PatientID=number)
    except PacsError as error:
        reason = REASONS_OF_PACS.get(str(error), f"does not answer ({error})")
        return Finding(False, what, reason.format(calling=config.dicom.ae_title))
    if found is None:
        return Finding(True, what, "answers no query of patients: names come from the archive, and what it has is not known")
    if any(patient.id != number for patient in found):
        return Finding(False, what, "answers with other patients than the one who was asked for")
    return Finding(True, what, "answers")


REASONS_OF_PACS = {"aborts-queries": "takes the association and aborts the query: “{calling}” may not query there"}


def _mail(config: Config) -> Finding:
    """Whether the mail server takes us; nothing is sent."""
    try:
        with signed_in(config.mail) as server:
            server.noop()
    except (OSError, smtplib.SMTPException) as error:
        return Finding(False, "mail", f"{config.mail.host}:{config.mail.port} does not take us: {type(error).__name__}")
    return Finding(True, "mail", f"{config.mail.host}:{config.mail.port} takes us; nothing was sent")


def _echo(config: Config, peer: PeerConfig | PacsConfig) -> Finding:
    what = f"PACS {peer.ae_title}"
    try:
        tls = (tls_context(config.dicom.tls, server=False), None) if peer.tls else None
    except ForwarderError as error:
        return Finding(False, what, str(error))
    unreached = _unreached(peer, tls[0] if tls else None)
    if unreached:
        return Finding(False, what, unreached)
    ae = AE(config.dicom.ae_title)
    ae.acse_timeout = ae.dimse_timeout = ae.connection_timeout = PATIENCE
    ae.add_requested_context(Verification)
    association = ae.associate(peer.host, peer.port, ae_title=peer.ae_title, tls_args=tls)
    if not association.is_established:
        return Finding(False, what, _not_established(config, peer, association))
    status = association.send_c_echo()
    association.release()
    if status.get("Status") == 0x0000:
        return Finding(True, what, "answers C-ECHO")
    said = f"answers C-ECHO with 0x{status.Status:04X}" if "Status" in status else "does not answer C-ECHO"
    return Finding(False, what, said)


def _unreached(peer: PeerConfig | PacsConfig, tls: ssl.SSLContext | None) -> str:
    """Why there is no connection to a peer, in words; "" if there is."""
    place = f"{peer.host}:{peer.port}"
    try:
        with socket.create_connection((peer.host, peer.port), PATIENCE) as plain:
            if tls is not None:
                tls.wrap_socket(plain).close()
    except socket.gaierror:
        return f"the name {peer.host} cannot be resolved"
    except ssl.SSLCertVerificationError as error:
        return f"the certificate of {place} is not trusted by dicom.tls.ca_file ({error.verify_message})"
    except ssl.SSLError as error:
        return f"no TLS at {place} ({error.reason or type(error).__name__}): does it speak TLS, and trust our certificate?"
    except TimeoutError:
        return f"nobody answers DICOM at {place} in {PATIENCE:.0f} s: a firewall in between, or the machine is off"
    except ConnectionRefusedError:
        return f"nobody answers DICOM at {place}: the port is closed there"
    except OSError as error:
        return f"nobody answers DICOM at {place}: {error.strerror or type(error).__name__}"
    return ""


def _not_established(config: Config, peer: PeerConfig | PacsConfig, association: Any) -> str:
    """Why a peer that can be reached gives no association."""
    answer = association.acceptor.primitive
    if association.is_rejected and answer is not None:
        text = REJECTED.get((answer.result_source, answer.diagnostic), "refuses the association")
        return text.format(calling=config.dicom.ae_title, called=peer.ae_title)
    if answer is not None and answer.result == 0:
        return "takes the association, but no Verification (C-ECHO): whether it takes images is not known"
    return f"{peer.host}:{peer.port} takes the connection and does not speak DICOM, or ends it without a reason"


def _signed_call(archive: Archive) -> Finding:
    """A question about a digest that cannot exist: it needs address, line, credentials and registration."""
    try:
        (standing,) = archive.status([secrets.token_hex(32)])
    except ForwarderError as error:
        return Finding(False, "archive", str(error))
    return Finding(standing.state == "absent", "archive", f"answers signed calls ({standing.state})")


def _store(archive: Archive) -> tuple[Finding, str]:
    """Whether images could be put where the archive says, and where that is."""
    try:
        place = archive.probe()
    except ArchiveError as error:
        return Finding(False, "store", str(error)), error.host
    return Finding(True, "store", f"{place} can be reached and takes the archive's signatures; nothing was stored"), place


def _clock(archive: Archive) -> Finding:
    if archive.skew is None:
        return Finding(False, "clock", "not known, since the archive did not answer")
    if abs(archive.skew) > SKEW_TOLERATED:
        direction = "behind" if archive.skew > 0 else "ahead of"
        text = f"{abs(archive.skew):.0f} s {direction} the archive's; set up time synchronisation"
        return Finding(False, "clock", text)
    return Finding(True, "clock", f"agrees with the archive's to {abs(archive.skew):.0f} s")


def _disk(config: Config) -> Finding:
    folder = Path(config.spool.folder)
    if not folder.is_dir():
        return Finding(False, "disk", f"the spool “{folder}” does not exist yet")
    if not os.access(folder, os.W_OK):
        return Finding(False, "disk", f"the spool “{folder}” cannot be written")
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize // 1_000_000
    return Finding(free >= config.spool.reserve_mb, "disk", f"{free} MB free, {config.spool.reserve_mb} in reserve ({folder})")


def _certificate(what: str, path: Path) -> Finding:
    try:
        days = days_left(path)
    except ForwarderError as error:
        return Finding(False, what, str(error))
    return Finding(days >= DAYS_WARNED, what, f"holds for {days} days ({path})")


def _firewall(config: Config, store: str) -> Iterator[Finding]:
    """What has to be let through, out and in."""
    hosts = [
        place_of(config.archive.api),
        store or f"the bucket's host (usually <bucket>.s3.{config.archive.region}.amazonaws.com:443)",
    ]
    way = f" by the proxy {place_of(config.archive.proxy)}" if config.archive.proxy else ""
    out = f"to {' and '.join(dict.fromkeys(hosts))}{way}"
    nodes: list[PeerConfig | PacsConfig] = [*config.peers, config.pacs]
    if called := dict.fromkeys(f"{node.host}:{node.port}" for node in nodes if node.host):
        out += "; to the PACS " + ", ".join(called)
    if config.mail.host:
        out += f"; to the mail server {config.mail.host}:{config.mail.port}"
    yield Finding(True, "firewall, out", f"{out}; and where the AWS profile gets its credentials")
    doors = {
        "DICOM": config.dicom.port, "DICOM over TLS": config.dicom.tls.port, "HL7": config.hl7.port,
        "HL7 over TLS": config.hl7.tls.port, "the page": 0 if config.page.address.startswith("127.") else config.page.port,
    }  # fmt: skip
    inward = ", ".join(f"TCP {port} ({name})" for name, port in doors.items() if port)
    yield Finding(True, "firewall, in", f"{inward or 'nothing'}, from the hospital's network; nothing from the internet")
