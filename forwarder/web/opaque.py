"""Patients' numbers, and what forms say of them, in addresses: sealed, since addresses stand in histories, logs and headers."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from forwarder.errors import SpoolError

LONGEST = 4000
PATIENT = "patient"


class Seal:
    """Seals with a key that lies in a file, so that an address stays good when the forwarder is started again (RFC 5297)."""

    def __init__(self, file: Path) -> None:
        """Raises SpoolError where the key can be neither read nor written."""
        try:
            if not file.exists():
                made = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
                with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                    out.write(AESSIV.generate_key(512))
                made.replace(file)
            self._cipher = AESSIV(file.read_bytes())
        except (OSError, ValueError) as error:
            raise SpoolError(f"The key “{file.name}” in the spool cannot be used.") from error

    def seal(self, text: str, purpose: str = PATIENT) -> str:
        """A text for an address, of letters, digits, `-` and `_`; the same for the same text. It opens for this purpose alone."""
        sealed = self._cipher.encrypt(text.encode() or b"\0", [purpose.encode()])
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def open(self, text: str, purpose: str = PATIENT) -> str | None:
        """What was sealed; None for a text that was not made here, or for another purpose."""
        if len(text) > LONGEST:
            return None
        try:
            return self._cipher.decrypt(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), [purpose.encode()]).decode()
        except (InvalidTag, binascii.Error, ValueError):
            return None
