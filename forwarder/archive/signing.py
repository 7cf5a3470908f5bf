"""Signature Version 4 with the standard AWS chain, on a clock that is corrected from the archive's answers."""

from __future__ import annotations

import os
import shlex
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.configloader import load_config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError

from forwarder.alerts import Trouble
from forwarder.errors import ArchiveError, Failure

SKEW_TOLERATED = 60.0  # seconds; API Gateway tolerates 300
CANNOT_BE_HAD = (BotoCoreError, ClientError, OSError, ValueError, KeyError, RuntimeError)
"""What botocore raises for credentials: its own errors, those of a `credential_process` that is missing or says no JSON, and
RuntimeError where what was given is expired by this machine's clock."""


def _why(error: Exception) -> str:
    """In words; what is not botocore's own may quote what a program printed, which could be a secret."""
    if isinstance(error, BotoCoreError):
        return str(error)
    if isinstance(error, RuntimeError):
        return "what was given is expired by this machine's clock: is the clock right?"
    return f"the program or service that gives them failed ({type(error).__name__})"


@lru_cache(maxsize=4)
def _profiles(path: Path, _changed: int) -> dict[str, dict[str, Any]]:
    try:
        found: dict[str, dict[str, Any]] = load_config(str(path))["profiles"]
    except BotoCoreError:
        return {}  # told where the credentials are asked for
    return found


def certificate_of(profile: str | None) -> Path | None:
    """The certificate (PEM) that a profile's `credential_process` exchanges for credentials (Roles Anywhere), if it names one.

    Where the profile takes a role by another one (`source_profile`), that one's.
    """
    path = Path(os.environ.get("AWS_CONFIG_FILE", "~/.aws/config")).expanduser()
    try:
        profiles = _profiles(path, path.stat().st_mtime_ns)
    except OSError:
        return None
    name, seen = profile or os.environ.get("AWS_PROFILE", "default"), set[str]()
    while name in profiles and name not in seen:
        seen.add(name)
        section = profiles[name]
        if "credential_process" in section:
            return _certificate_among(str(section["credential_process"]))
        name = str(section.get("source_profile", ""))
    return None


def _certificate_among(command: str) -> Path | None:
    try:
        words = shlex.split(command.replace("--certificate=", "--certificate "))
    except ValueError:
        return None
    named = next((value for option, value in pairwise(words) if option == "--certificate"), "")
    return Path(named) if named and not named.startswith("pkcs11:") and not named.endswith((".p12", ".pfx")) else None


class Clock:
    """This machine's clock and how far (seconds) the archive's is ahead of it."""

    def __init__(self) -> None:
        self.offset = 0.0

    def now(self) -> float:
        """Seconds since the epoch, as the archive counts them."""
        return time.time() + self.offset

    def learn(self, date_header: str | None) -> float | None:
        """Take the archive's time from a `Date` header; returns the skew in seconds, or None if it says nothing."""
        if not date_header:
            return None
        try:
            theirs = parsedate_to_datetime(date_header).timestamp()
        except ValueError:
            return None
        skew = theirs - time.time()
        self.offset = skew if abs(skew) > SKEW_TOLERATED else 0.0
        return skew


class _SigV4AtCorrectedTime(SigV4Auth):  # type: ignore[misc]  # botocore has no types
    """botocore's signer takes the time from this machine; this one takes it from a Clock."""

    def __init__(self, credentials: object, region: str, clock: Clock) -> None:
        super().__init__(credentials, "execute-api", region)
        self._clock = clock

    def add_auth(self, request: AWSRequest) -> None:
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        request.context["timestamp"] = now.strftime("%Y%m%dT%H%M%SZ")
        self._modify_request_before_signing(request)
        canonical = self.canonical_request(request)
        signature = self.signature(self.string_to_sign(request, canonical), request)
        self._inject_signature_to_request(request, signature)


class Signer:
    """Signs requests to the archive with the credentials of one AWS profile (or of the standard chain).

    They are looked for when they are first needed: a machine that starts while the line is down still receives.
    """

    def __init__(self, profile: str | None = None, region: str | None = None) -> None:
        self.clock = Clock()
        self._profile = profile
        self._region = region
        self._lock = threading.Lock()
        self._found: tuple[Credentials, str] | None = None

    def _load(self) -> tuple[Credentials, str]:
        """(credentials, region). Raises ArchiveError(CREDENTIALS)."""
        try:
            session = botocore.session.Session(profile=self._profile)
            credentials = session.get_credentials()
            region = self._region or session.get_config_variable("region") or "eu-south-1"
        except CANNOT_BE_HAD as error:
            raise _not_renewed(error) from error
        if credentials is None:
            where = f"the profile “{self._profile}”" if self._profile else "the standard AWS chain"
            text = f"No AWS credentials were found in {where}."
            raise ArchiveError(text, Failure.CREDENTIALS, trouble=Trouble.NO_CREDENTIALS)
        return credentials, region

    def prepare(self) -> tuple[Credentials, str]:
        """Find the credentials, if that was not done yet: (credentials, region). Raises ArchiveError(CREDENTIALS)."""
        with self._lock:
            self._found = self._found or self._load()
            return self._found

    def reload(self) -> None:
        """Read profile and credential files again at the next signature, as after the archive called the credentials expired."""
        with self._lock:
            self._found = None

    def sign(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers to send, signature included. Raises ArchiveError(CREDENTIALS) if there are none to sign with."""
        credentials, region = self.prepare()
        try:
            frozen = credentials.get_frozen_credentials()
        except CANNOT_BE_HAD as error:
            self.reload()
            raise _not_renewed(error) from error
        request = AWSRequest(method=method, url=url, data=body, headers=dict(headers))
        _SigV4AtCorrectedTime(frozen, region, self.clock).add_auth(request)
        return {str(name): str(value) for name, value in request.headers.items()}


def _not_renewed(error: Exception) -> ArchiveError:
    text = f"The AWS credentials cannot be used: {_why(error)}"
    return ArchiveError(text, Failure.CREDENTIALS, trouble=Trouble.CREDENTIALS_NOT_RENEWED)
