"""A DICOM node of the hospital's as we call it: associations, and C-STORE of files (PS3.4 B)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config

from forwarder.config import DicomConfig, PacsConfig, PeerConfig
from forwarder.errors import ForwarderError
from forwarder.tls import tls_context

ANSWER_SECONDS = 60
PLAIN = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
MOST_CONTEXTS = 126
"""Presentation contexts that one association has room for (PS3.8 9.3.2.2: odd numbers to 255)."""
_config.STORE_SEND_CHUNKED_DATASET = True  # files are read as they are sent, never whole


class PacsError(Exception):
    """The PACS cannot be reached, broke off, or does not answer. The text is one word for the status."""


class NothingAcceptedError(PacsError):
    """The PACS speaks to us, and takes nothing of what was offered."""


class Association:
    """An association for C-STORE: `takes` tells which transfer syntax a SOP class may be sent in."""

    def __init__(self, association: Any) -> None:
        self._association = association
        self._accepted = {
            (str(context.abstract_syntax), str(context.transfer_syntax[0])) for context in association.accepted_contexts
        }

    def takes(self, sop_class: str, transfer_syntax: str) -> str | None:
        """The transfer syntax to send an instance in: its own, or an uncompressed one; None where the PACS takes neither."""
        for syntax in (transfer_syntax, *PLAIN):
            if (sop_class, syntax) in self._accepted:
                return syntax
        return None

    def store(self, path: Path, message_id: int = 1, originator: tuple[str, int] | None = None) -> int:
        """C-STORE of a file; the status (PS3.4 Table B.2-1). Raises PacsError where none came.

        `originator`: AE title and message id of the C-MOVE that it is a part of (PS3.7 9.3.1.1).
        """
        title, asked = originator or (None, None)
        try:
            status = self._association.send_c_store(path, message_id, originator_aet=title, originator_id=asked)
        except (ValueError, RuntimeError, OSError, AttributeError) as error:
            raise PacsError("broke-off") from error
        if "Status" not in status:
            raise PacsError("no-answer")
        return int(status.Status)


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
        try:
            yield Association(association)
        finally:
            if association.is_established:
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
