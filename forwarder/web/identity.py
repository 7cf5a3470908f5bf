"""Who asks: a person named by a trusted reverse proxy, or signed in by OpenID Connect; and which roles they have."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from starlette.requests import HTTPConnection

from forwarder.config import IdentityConfig

NAME = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,62}[\x21-\x7e])?")
"""What the archive takes in X-On-Behalf-Of: printable ASCII, at most 64 characters."""
NOBODY = re.compile(r"-*|[%$]?[({<\[].*[)}>\]]\w?")
"""What proxies write where they know of nobody: nothing, “-”, Apache's “(null)”, a variable's own name in brackets."""


class Role(StrEnum):
    """What a person may do; see the contract's table of roles."""

    REGISTRY = "registry"
    RADIOLOGY = "radiology"
    PRIVACY = "privacy"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is known: the name that stands in the audit trail, and the roles. `session`: of whom signed in here."""

    name: str
    roles: frozenset[Role]
    session: str = ""


class RefusedError(Exception):
    """The request is answered with this status (401, 403, 503) and this reason, a slug that the page and the log know."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class TrustedHeader:
    """The headers of a reverse proxy, believed from named addresses only: the peer's own, whatever X-Forwarded-For says."""

    def __init__(self, config: IdentityConfig) -> None:
        self._header, self._roles_header = config.header, config.roles_header
        self._trusted = [ipaddress.ip_network(network) for network in config.trusted]

    def trusts(self, connection: HTTPConnection) -> bool:
        """Whether the connection comes from the proxy."""
        return connection.client is not None and any(_address(connection.client.host) in network for network in self._trusted)

    def person(self, connection: HTTPConnection) -> Person | None:
        """Whom the proxy names; None where it names nobody, or is none.

        Raises RefusedError for a name or roles that come twice, or joined: one of them may be the client's own.
        """
        if not self._header or not self.trusts(connection):
            return None
        names = connection.headers.getlist(self._header)
        roles = connection.headers.getlist(self._roles_header) if self._roles_header else []
        if not names or (len(names) == 1 and NOBODY.fullmatch(names[0].strip())):
            return None
        if len(names) > 1 or len(roles) > 1 or "," in names[0]:
            raise RefusedError(403, "ambiguous-identity")
        return Person(checked_name(names[0].strip()), roles_of(roles[0].split(",") if roles else ()))


def checked_name(name: str) -> str:
    """A person's name as it goes to the archive. Raises RefusedError for one that it would not take."""
    if not NAME.fullmatch(name):
        raise RefusedError(403, "unusable-name")
    return name


def roles_of(named: Iterable[object]) -> frozenset[Role]:
    """Those of the named roles that mean something here: whole names, wherever among a person's many groups they stand."""
    found = {role.strip().lower() for role in named if isinstance(role, str)}
    return frozenset(role for role in Role if role in found)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    found = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return mapped if mapped is not None else found
