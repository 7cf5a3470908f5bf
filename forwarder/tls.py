"""TLS as DICOM and HL7 use it: the profile, how long a certificate holds, a renewed one taken into use without a restart."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from forwarder.config import TlsConfig
from forwarder.errors import ConfigError
from forwarder.logs import log

DAYS_WARNED = 30
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"


@lru_cache(maxsize=8)
def _ends(path: Path, _changed: int) -> datetime:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except (OSError, ValueError) as error:
        raise ConfigError(f"The certificate “{path}” cannot be read.") from error


def days_left(path: Path) -> int:
    """Whole days until the first certificate in a PEM file ends; negative when it has. Raises ConfigError."""
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise ConfigError(f"The certificate “{path}” cannot be read.") from error
    return (_ends(path, changed) - datetime.now(UTC)).days


class RenewedContext(ssl.SSLContext):
    """A server's context that is made anew when its files change: a renewed certificate counts from the next connection on.

    While they cannot be used, as in the moment between writing the one and the other, the last good ones stay in use.
    """

    def follow(self, make: Callable[[], ssl.SSLContext], paths: Sequence[str]) -> None:
        """Use what `make` gives (it raises ConfigError) whenever one of the files has changed. Raises ConfigError now."""
        self._make, self._paths = make, [Path(path) for path in paths]
        self._making = threading.Lock()
        self._stamp = self._now()
        self._newest = make()

    def _now(self) -> tuple[int, ...]:
        try:
            return tuple(path.stat().st_mtime_ns for path in self._paths)
        except OSError:
            return ()

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """As that of the newest context."""
        return self._context().wrap_socket(*args, **kwargs)

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """As that of the newest context."""
        return self._context().wrap_bio(*args, **kwargs)

    def _context(self) -> ssl.SSLContext:
        with self._making:
            stamp = self._now()
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._newest = self._make()
                    log.info("new certificates for TLS are in use")
                except ConfigError as error:
                    log.warning("new certificates for TLS are not in use", detail=str(error))
            return self._newest


def tls_context(tls: TlsConfig, *, server: bool) -> ssl.SSLContext:
    """The BCP 195 TLS profile (PS3.15 B.12): TLS 1.2 or newer, forward secrecy, both ends authenticated.

    A server's follows its files when they are renewed. Raises ConfigError when certificate, key or authority cannot be used.
    """
    if not server:
        return _context_now(tls, ssl.PROTOCOL_TLS_CLIENT)
    context = RenewedContext(ssl.PROTOCOL_TLS_SERVER)
    context.follow(lambda: _context_now(tls, ssl.PROTOCOL_TLS_SERVER), (tls.certificate, tls.key, tls.ca_file))
    return context


def _context_now(tls: TlsConfig, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    _restrict(context)
    context.check_hostname = False  # DICOM nodes are known by certificate, not by name
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        context.load_verify_locations(tls.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"The certificates for TLS cannot be used: {error}.") from error
    return context


def _restrict(context: ssl.SSLContext) -> None:
    """TLS 1.2 or newer, forward secrecy; nobody renegotiates, which OpenSSL before 3 lets whoever connects do without end."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION


def https_context(certificate: str, key: str) -> ssl.SSLContext:
    """TLS 1.2 or newer for people's browsers and viewers, which show no certificate; follows its files when they are renewed.

    Raises ConfigError when certificate or key cannot be used.
    """

    def make() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _restrict(context)
        try:
            context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"The certificate for HTTPS cannot be used: {error}.") from error
        return context

    context = RenewedContext(ssl.PROTOCOL_TLS_SERVER)
    context.follow(make, (certificate, key))
    return context
