"""A DICOM node of the hospital's as we call it: associations for C-STORE (PS3.4 B), and by pynetdicom for everything else."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from pynetdicom import AE

from forwarder.config import DicomConfig, PacsConfig, PeerConfig
from forwarder.errors import ForwarderError
from forwarder.retrieve.store_association import (
    ANSWER_SECONDS,
    PLAIN,
    Association,
    NothingAcceptedError,
    PacsError,
    connected,
)
from forwarder.tls import tls_context

MOST_CONTEXTS = 126
"""Presentation contexts that one association has room for (PS3.8 9.3.2.2: odd numbers to 255)."""
__all__ = ["PLAIN", "Association", "Node", "NothingAcceptedError", "PacsError"]


class Node:
    """A node of the configuration. Methods raise PacsError."""

    def __init__(self, node: PacsConfig | PeerConfig, dicom: DicomConfig) -> None:
        self._node, self._dicom = node, dicom

    @contextmanager
    def association(self, wanted: Collection[tuple[str, str]]) -> Iterator[Association]:
        """An association for instances of these (SOP class, transfer syntax). What finds no room is not offered."""
        contexts: list[tuple[str, str]] = []
        for sop_class, syntax in sorted(wanted):
            contexts += [pair for pair in ((sop_class, syntax), *((sop_class, plain) for plain in PLAIN)) if pair not in contexts]
        node = self._node
        try:
            connection = connected(node.host, node.port, tls_context(self._dicom.tls, server=False) if node.tls else None)
        except (OSError, ForwarderError) as error:
            raise PacsError("unreachable") from error
        try:
            association = Association(connection, self._dicom.ae_title, node.ae_title, contexts[:MOST_CONTEXTS])
        except BaseException:
            connection.close()
            raise
        try:
            yield association
        finally:
            association.end()

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
