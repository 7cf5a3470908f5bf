"""How long a certificate still holds."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from forwarder.errors import ConfigError

DAYS_WARNED = 30


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
