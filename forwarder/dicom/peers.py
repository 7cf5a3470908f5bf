"""Who may query and retrieve: the `[[peers]]`, known by AE title and by address, or by the certificate that they show over TLS.

An AE title alone is what anybody can write.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import Any

from forwarder.config import PeerConfig


class Peers:
    """The nodes of the configuration that may query. Any thread may ask."""

    def __init__(self, peers: Sequence[PeerConfig]) -> None:
        self._peers = [peer for peer in peers if peer.query]

    def __bool__(self) -> bool:
        return bool(self._peers)

    def may_query(self, calling: str, address: str, connection: object) -> bool:
        """Whether a caller is one of them: by its AE title, and by the name in its certificate where one is configured, else by
        its address. `connection` is the socket on which it called."""
        return any(
            _has_name(connection, peer.certificate) if peer.certificate else _is_at(address, peer.host)
            for peer in self._peers
            if peer.ae_title.strip() == calling
        )


def _is_at(address: str, host: str) -> bool:
    """Whether a host, by name or address, has this address now. A name that cannot be resolved is nobody."""
    try:
        found = {_plain(str(entry[4][0])) for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False
    return _plain(address) in found


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return getattr(parsed, "ipv4_mapped", None) or parsed


def _has_name(connection: object, name: str) -> bool:
    """Whether the certificate that was shown, and proved to be of our authorities', is of this name (RFC 6125 6.4)."""
    if not isinstance(connection, ssl.SSLSocket):
        return False
    return name.lower() in set(_names(connection.getpeercert() or {}))


def _names(certificate: dict[str, Any]) -> Iterator[str]:
    """Its subject alternative names; its common name where it has none."""
    alternative = [value.lower() for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "IP Address", "URI")]
    yield from alternative
    if not alternative:
        yield from (value.lower() for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName")
