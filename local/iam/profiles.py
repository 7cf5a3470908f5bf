"""The AWS files: a profile for each institution, one for the operator, one for who administers the emulated cloud; with
credentials that never run short."""

from __future__ import annotations

import configparser
import io
import threading
from collections.abc import Mapping
from pathlib import Path

from local.emulation.moto_patches import REGION
from local.iam.identities import Identities, RoleSession
from local.state import State, write_atomically

LIFETIME = 36 * 3600
RENEWED_EVERY = 6 * 3600
"""Seconds. A profile's credentials are at any time valid for at least 30 hours."""

OPERATOR, ADMINISTRATOR = "operator", "administrator"


class Profiles:
    """Writes and renews the files. `own` are the roles behind the profiles that are no institution's."""

    def __init__(self, state: State, identities: Identities, own: Mapping[str, str], endpoint: str) -> None:
        self._state, self._identities = state, identities
        self._own, self._endpoint = dict(own), endpoint
        self.config_file = state.directory / "aws-config"
        self.credentials_file = state.directory / "aws-credentials"
        self._current: dict[str, RoleSession] = {}
        self._lock = threading.Lock()

    def institutions(self) -> dict[str, str]:
        """Role ARNs by institution, as they were registered through the API."""
        found: dict[str, str] = self._state.setting("institutions") or {}
        return found

    def register(self, institution: str, role_arn: str) -> None:
        self._state.set_setting("institutions", {**self.institutions(), institution: role_arn})
        self.write()

    def unregister(self, institution: str) -> None:
        self._state.set_setting("institutions", {name: arn for name, arn in self.institutions().items() if name != institution})
        self.write()

    def identity(self, profile: str) -> RoleSession:
        with self._lock:
            return self._current[profile]

    def expire(self, profile: str) -> None:
        """Let a profile's credentials be expired from now on; the files have them until `write` with `renew`. Raises KeyError."""
        identity = self.identity(profile)
        self._identities.expire(identity.role_arn, identity.session)

    def write(self, renew: bool = False) -> None:
        """Write both files anew; credentials are kept unless they are new or `renew`."""
        with self._lock:
            roles = {**self._own, **self.institutions()}
            for profile, role_arn in roles.items():
                known = self._current.get(profile)
                if renew or known is None or known.role_arn != role_arn:
                    self._current[profile] = self._identities.issue(role_arn, profile, LIFETIME)
            self._current = {profile: self._current[profile] for profile in roles}
            config, credentials = _parser(), _parser()
            for profile, identity in self._current.items():
                config[f"profile {profile}"] = {
                    "region": REGION,
                    "endpoint_url": self._endpoint,
                    "output": "json",
                }
                credentials[profile] = {
                    "aws_access_key_id": identity.access_key,
                    "aws_secret_access_key": identity.secret,
                    "aws_session_token": identity.token,
                }
            _write(self.credentials_file, credentials)
            _write(self.config_file, config)


def _parser() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    return parser


def _write(path: Path, parser: configparser.RawConfigParser) -> None:
    text = io.StringIO()
    parser.write(text)
    write_atomically(path, text.getvalue(), 0o600)
