"""OpenID Connect (Core 1.0): people sign in by authorization code with PKCE (RFC 7636), viewers bring tokens (RFC 6750)."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
from authlib.integrations.base_client import OAuthError
from authlib.integrations.starlette_client import OAuth, StarletteOAuth2App
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from starlette.requests import Request
from starlette.responses import Response

from forwarder.config import OidcConfig
from forwarder.errors import ConfigError
from forwarder.logs import log
from forwarder.web.identity import Person, RefusedError, checked_name, roles_of

SIGNED = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
LEEWAY = 60
PATIENCE = 10.0  # seconds for one answer of the provider
REMEMBERED_SECONDS = 60.0
REMEMBERED = 1000  # tokens
KEYS_SECONDS = 60.0  # between two looks for keys that are not known
METADATA_SECONDS = 3600.0
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 2.1
LONGEST_TOKEN = 16 * 1024
LONGEST_HINT = 4 * 1024  # of an ID token in an address: servers take some 8 kB
_UNREACHABLE = (httpx2.HTTPError, RuntimeError, KeyError, TypeError, ValueError)
"""What authlib raises for a provider that cannot be reached, or answers what no provider answers."""


class _Client(StarletteOAuth2App):  # type: ignore[misc]
    async def fetch_jwk_set(self, force: bool = False) -> Any:
        """The provider's keys without those of a kind that is not known here: one more of them must not end the others' use."""
        found = await super().fetch_jwk_set(force=force)
        found["keys"] = [key for key in found["keys"] if _is_known(key)]
        return found


class Provider:
    """The hospital's identity provider, as configured. `ca_file`: authorities to trust (PEM), or None for the machine's."""

    def __init__(self, config: OidcConfig, ca_file: str | None) -> None:
        self._config = config
        self._issuer = config.issuer.rstrip("/")
        self._ca_file, self._secret = ca_file, _secret(config.client_secret_file)
        self._client = self._registered()
        self._read_at: float | None = None
        self._tokens: dict[str, tuple[float, Person]] = {}
        self._keys_at = 0.0

    async def redirect(self, request: Request, back: str, state: str, *, again: bool) -> Response:
        """To the provider, which sends the person back to the address `back` with `state`. Raises RefusedError.

        `again`: the provider asks for the password whoever it remembers (OpenID Connect Core 3.1.2.1).
        """
        try:
            await self._metadata()
            more = {"prompt": "login"} if again else {}
            answer: Response = await self._client.authorize_redirect(request, back, state=state, **more)
        except _UNREACHABLE as error:
            raise self._unreachable(error) from error
        return answer

    async def signed_in(self, request: Request) -> tuple[Person, str]:
        """(who came back, their ID token). Raises RefusedError."""
        try:
            metadata = await self._metadata()
            options = {"iss": {"essential": True, "values": [metadata["issuer"]]}}
            token = await self._client.authorize_access_token(request, claims_options=options, leeway=LEEWAY)
            claims = dict(token.get("userinfo") or {})
            if not claims or self._config.client_id not in _audience(claims):
                raise RefusedError(403, "sign-in-failed")
            if self._claim(claims, self._config.roles_claim) is None and metadata.get("userinfo_endpoint"):
                more = dict(await self._client.userinfo(token=token))
                claims |= more if more.get("sub") == claims["sub"] else {}
        except (OAuthError, JoseError) as error:
            log.warning("a sign-in failed", kind=type(error).__name__)
            raise RefusedError(403, "sign-in-failed") from error
        except _UNREACHABLE as error:
            raise self._unreachable(error) from error
        return self._person(claims), str(token["id_token"])

    async def sign_out_address(self, id_token: str, back: str, state: str) -> str:
        """Where the provider's own session ends, and the way leads back from (RP-Initiated Logout 1.0); empty: nowhere.

        Raises RefusedError.
        """
        try:
            if not (await self._metadata()).get("end_session_endpoint"):
                return ""
            hint = id_token if len(id_token) <= LONGEST_HINT else None
            found = await self._client.create_logout_url(back, hint, state, client_id=self._config.client_id)
        except _UNREACHABLE as error:
            raise self._unreachable(error) from error
        return str(found["url"])

    async def bearer(self, token: str) -> Person:
        """Whom a viewer's token stands for: a JWT of this provider for this client, or an opaque one that it knows.

        Raises RefusedError.
        """
        if len(token) > LONGEST_TOKEN or not TOKEN.fullmatch(token):
            raise RefusedError(401, "invalid-token")
        key, now = hashlib.sha256(token.encode()).hexdigest(), time.monotonic()
        known = self._tokens.get(key)
        if known is not None and known[0] > now:
            return known[1]
        try:
            claims, lasts = await self._claims_of(token)
        except JoseError as error:
            raise RefusedError(401, "invalid-token") from error
        except _UNREACHABLE as error:
            raise self._unreachable(error) from error
        person = self._person(claims)
        while len(self._tokens) >= REMEMBERED:
            del self._tokens[next(iter(self._tokens))]
        self._tokens[key] = (now + min(lasts, REMEMBERED_SECONDS), person)
        return person

    async def _claims_of(self, token: str) -> tuple[Mapping[str, Any], float]:
        """(claims, seconds for which they hold)."""
        metadata = await self._metadata()
        if token.count(".") == 2:
            claims = await self._decoded(token)
            jwt.JWTClaimsRegistry(
                leeway=LEEWAY, iss={"essential": True, "value": metadata["issuer"]}, exp={"essential": True}
            ).validate(claims)
            if self._config.client_id not in (*_audience(claims), claims.get("azp")):
                raise RefusedError(401, "token-of-another-client")
            return claims, float(claims["exp"]) - time.time()
        if not self._config.opaque_tokens or not metadata.get("userinfo_endpoint"):
            raise RefusedError(401, "invalid-token")
        async with httpx2.AsyncClient(timeout=PATIENCE, verify=self._client.client_kwargs["verify"]) as http:
            answer = await http.get(metadata["userinfo_endpoint"], headers={"Authorization": f"Bearer {token}"})
        if answer.status_code in (400, 401, 403):
            raise RefusedError(401, "invalid-token")
        answer.raise_for_status()
        return answer.json(), REMEMBERED_SECONDS

    async def _decoded(self, token: str) -> dict[str, Any]:
        try:
            return jwt.decode(token, KeySet.import_key_set(await self._client.fetch_jwk_set()), algorithms=SIGNED).claims
        except InvalidKeyIdError:
            if time.monotonic() - self._keys_at < KEYS_SECONDS:
                raise
            self._keys_at = time.monotonic()
            keys = KeySet.import_key_set(await self._client.fetch_jwk_set(force=True))
            return jwt.decode(token, keys, algorithms=SIGNED).claims

    async def _metadata(self) -> dict[str, Any]:
        """What the provider says of itself, read again each hour with its keys; what held goes on while it does not answer."""
        now = time.monotonic()
        if self._read_at is None or now - self._read_at >= METADATA_SECONDS:
            try:
                client = self._registered()
                found = await client.load_server_metadata()
                if str(found.get("issuer")).rstrip("/") != self._issuer:
                    raise RuntimeError("the provider is another issuer")
                self._client, self._read_at = client, now
            except _UNREACHABLE:
                if self._read_at is None:
                    raise
                self._read_at = now - METADATA_SECONDS + KEYS_SECONDS
        metadata: dict[str, Any] = self._client.server_metadata
        return metadata

    def _registered(self) -> Any:
        return OAuth().register(
            "hospital",
            client_cls=_Client,
            client_id=self._config.client_id,
            client_secret=self._secret,
            server_metadata_url=f"{self._issuer}/.well-known/openid-configuration",
            client_kwargs={
                "scope": "openid profile", "code_challenge_method": "S256", "timeout": PATIENCE, "verify": self._ca_file or True,
                "token_endpoint_auth_method": "client_secret_basic" if self._config.client_secret_file else "none",
            },
        )  # fmt: skip

    def _person(self, claims: Mapping[str, Any]) -> Person:
        name = claims.get(self._config.user_claim)
        roles = self._claim(claims, self._config.roles_claim)
        if not isinstance(name, str):
            raise RefusedError(403, "unusable-name")
        return Person(checked_name(name), roles_of(roles if isinstance(roles, list) else [roles]))

    @staticmethod
    def _claim(claims: Mapping[str, Any], path: str) -> Any:
        """A claim by its name, which may have dots of its own (as addresses have), or lead into objects."""
        if path in claims:
            return claims[path]
        found: Any = claims
        for name in path.split("."):
            found = found.get(name) if isinstance(found, dict) else None
        return found

    @staticmethod
    def _unreachable(error: Exception) -> RefusedError:
        log.warning("the identity provider cannot be used", kind=type(error).__name__)
        return RefusedError(503, "provider-unreachable")


def _is_known(key: Any) -> bool:
    """Whether a key is one that can be used (RFC 7517 5: others of the set are ignored)."""
    try:
        KeySet.import_key_set({"keys": [key]})
    except (JoseError, KeyError, TypeError, ValueError):
        return False
    return True


def _audience(claims: Mapping[str, Any]) -> tuple[Any, ...]:
    audience = claims.get("aud")
    return tuple(audience) if isinstance(audience, list) else (audience,)


def _secret(path: str) -> str | None:
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The key “identity.oidc.client_secret_file” names a file that cannot be read: {path}") from error
