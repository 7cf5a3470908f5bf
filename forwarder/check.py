"""`check`: everything that has to be right, tried once, with a sentence for each."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pynetdicom import AE
from pynetdicom.sop_class import Verification

from forwarder.archive import Archive
from forwarder.certificates import DAYS_WARNED, days_left
from forwarder.config import Config, PeerConfig
from forwarder.errors import ForwarderError
from forwarder.scp import tls_context
from forwarder.service import archive_of
from forwarder.signing import SKEW_TOLERATED


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried: whether it is right, and a sentence."""

    good: bool
    what: str
    text: str


def check(config: Config) -> Iterator[Finding]:
    """Try the PACS, the archive, the clock, the disk and the certificate. Raises nothing that a check is about."""
    for peer in config.peers:
        yield _echo(config, peer)
    if not config.peers:
        yield Finding(True, "PACS", "no [[peers]] is configured, so none was called")
    try:
        archive = archive_of(config)
    except ForwarderError as error:
        yield Finding(False, "archive", str(error))
    else:
        yield _signed_call(archive)
        yield _clock(archive)
    yield _disk(config)
    if config.dicom.tls.port:
        yield _certificate(Path(config.dicom.tls.certificate))


def _echo(config: Config, peer: PeerConfig) -> Finding:
    what = f"PACS {peer.ae_title}"
    ae = AE(config.dicom.ae_title)
    ae.acse_timeout = ae.dimse_timeout = ae.connection_timeout = 10
    ae.add_requested_context(Verification)
    try:
        tls = (tls_context(config.dicom.tls, server=False), None) if peer.tls else None
    except ForwarderError as error:
        return Finding(False, what, str(error))
    try:
        association = ae.associate(peer.host, peer.port, ae_title=peer.ae_title, tls_args=tls)
    except OSError:
        return Finding(False, what, f"the name {peer.host} cannot be resolved")
    if association.is_rejected:
        return Finding(False, what, f"refuses the calling AE title “{config.dicom.ae_title}”")
    if not association.is_established:
        return Finding(False, what, f"nobody answers DICOM at {peer.host}:{peer.port}")
    status = association.send_c_echo()
    association.release()
    if status.get("Status") == 0x0000:
        return Finding(True, what, "answers C-ECHO")
    return Finding(False, what, "does not answer C-ECHO with success")


def _signed_call(archive: Archive) -> Finding:
    """A question about a digest that cannot exist: it needs address, line, credentials and registration."""
    try:
        (standing,) = archive.status([secrets.token_hex(32)])
    except ForwarderError as error:
        return Finding(False, "archive", str(error))
    return Finding(standing.state == "absent", "archive", f"answers signed calls ({standing.state})")


def _clock(archive: Archive) -> Finding:
    if archive.skew is None:
        return Finding(False, "clock", "the archive told no time")
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
    return Finding(free >= config.spool.reserve_mb, "disk", f"{free} MB free, {config.spool.reserve_mb} in reserve")


def _certificate(path: Path) -> Finding:
    try:
        days = days_left(path)
    except ForwarderError as error:
        return Finding(False, "certificate", str(error))
    return Finding(days >= DAYS_WARNED, "certificate", f"holds for {days} days")
