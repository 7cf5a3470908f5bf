"""Who signs: temporary credentials of roles, kept in the state, and what the local city lets each of them
do."""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass
from typing import Any

from local.emulation.moto_patches import ACCOUNT
from local.state import State


@dataclass(frozen=True)
class RoleSession:
    """An assumed role's session. `expires` is a POSIX time."""

    access_key: str
    secret: str
    token: str
    role_arn: str
    session: str
    user_id: str
    expires: float

    @property
    def account(self) -> str:
        return self.role_arn.split(":")[4]

    @property
    def role_name(self) -> str:
        return self.role_arn.rsplit("/", 1)[-1]

    @property
    def arn(self) -> str:
        return f"arn:aws:sts::{self.account}:assumed-role/{self.role_name}/{self.session}"

    @property
    def expired(self) -> bool:
        return time.time() >= self.expires


class Identities:
    """Issues and finds credentials. They are the emulator's own, so that `GetCallerIdentity` knows them
    too."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._known: dict[str, RoleSession] = {}

    def restore(self) -> None:
        """Give the emulator back the sessions that have not ended; forget the others."""
        from moto.iam.models import AccessKey
        from moto.sts.models import AssumedRole, sts_backends

        with self._state.transaction() as database:
            database.execute("DELETE FROM credentials WHERE expires < ?", (time.time() - 86400,))
            rows = database.execute("SELECT access_key, secret, token, role_arn, session, expires FROM credentials").fetchall()
        for access_key, secret, token, role_arn, session, expires in rows:
            account = role_arn.split(":")[4]
            key = AccessKey(user_name=None, prefix="ASIA", account_id=account)
            key.access_key_id, key.secret_access_key, key.role_arn = access_key, secret, role_arn
            role = AssumedRole(account, "aws", key, session, role_arn, "", 0, "")
            role.session_token = token
            role.expiration = datetime.datetime.fromtimestamp(expires, datetime.UTC).replace(tzinfo=None)
            sts_backends[account]["aws"].assumed_roles.append(role)

    def issue(self, role_arn: str, session: str, seconds: int) -> RoleSession:
        from moto.sts.models import sts_backends

        role = sts_backends[ACCOUNT]["aws"].assume_role(
            region_name="aws",
            role_session_name=session,
            role_arn=role_arn,
            policy="",
            duration=seconds,
            external_id="",
        )
        found = self.find(role.access_key_id)
        assert found is not None
        return found

    def expire(self, role_arn: str, session: str) -> None:
        """Let what was issued to the role under this session's name be expired from now on."""
        with self._state.transaction() as database:
            database.execute(
                "UPDATE credentials SET expires = ? WHERE role_arn = ? AND session = ? AND expires > ?",
                (time.time(), role_arn, session, time.time()),
            )
        self._known = {key: known for key, known in self._known.items() if (known.role_arn, known.session) != (role_arn, session)}

    def find(self, access_key: str) -> RoleSession | None:
        if access_key in self._known:
            return self._known[access_key]
        with self._state.lock:
            row = self._state.database.execute(
                "SELECT access_key, secret, token, role_arn, session, expires FROM credentials WHERE access_key = ?",
                (access_key,),
            ).fetchone()
        if row is None:
            return None
        _, secret, token, role_arn, session, expires = row
        user_id = f"{_role_id(role_arn)}:{session}"
        identity = RoleSession(access_key, secret, token, role_arn, session, user_id, expires)
        self._known[access_key] = identity
        return identity


def _role_id(role_arn: str) -> str:
    from moto.iam.exceptions import NotFoundException
    from moto.iam.models import iam_backends

    try:
        return str(_find_role(iam_backends[ACCOUNT]["aws"], role_arn).id)
    except NotFoundException:
        return "AROA" + role_arn.rsplit("/", 1)[-1].upper().replace("-", "")[:17]


def _find_role(backend: Any, role_arn: str) -> Any:
    return backend.get_role_by_arn(role_arn)


def role_exists(role_arn: str) -> bool:
    from moto.iam.exceptions import NotFoundException
    from moto.iam.models import iam_backends

    try:
        iam_backends[ACCOUNT]["aws"].get_role_by_arn(role_arn)
    except NotFoundException:
        return False
    return True
