"""A provider that answers nonsense, comes back, changes its keys, or goes away: asked over HTTP, by the tokens of viewers."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from forwarder.config import OidcConfig
from forwarder.web import oidc
from forwarder.web.identity import RefusedError
from tests.harness import on_its_own

OLD, NEW = (RSAKey.generate_key(2048, {"kid": kid}) for kid in ("old", "new"))


class Door(ThreadingHTTPServer):
    """What it answers, by path; `down`: nothing."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.issuer = f"http://127.0.0.1:{self.server_port}"
        self.down = False
        self.said: dict[str, Any] = {
            "/.well-known/openid-configuration": {"issuer": self.issuer, "jwks_uri": self.issuer + "/keys"},
            "/keys": {"keys": [OLD.as_dict(private=False)]},
        }

    def token(self, key: RSAKey, **claims: Any) -> str:
        now = int(time.time())
        body = {"iss": self.issuer, "aud": "contenitore", "sub": "anna", "exp": now + 300, "iat": now, **claims}
        return jwt.encode({"alg": "RS256", "kid": key.kid}, body, key)


class Answers(BaseHTTPRequestHandler):
    server: Door

    def do_GET(self) -> None:
        body = json.dumps(self.server.said[self.path]).encode()
        self.send_response(503 if self.server.down else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def door() -> Iterator[Door]:
    with Door() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def provider(door: Door) -> oidc.Provider:
    return oidc.Provider(OidcConfig(issuer=door.issuer, client_id="contenitore"), None)


def status(provider: oidc.Provider, token: str) -> int:
    try:
        return 200 if on_its_own(lambda: asyncio.run(provider.bearer(token))).name == "anna" else 0
    except RefusedError as error:
        return error.status


@pytest.mark.parametrize("nonsense", [{}, [], "closed", None, {"issuer": "https://another.example"}, {"issuer": None}])
def test_what_it_answered_once_does_not_stay(door: Door, provider: oidc.Provider, nonsense: Any) -> None:
    path = "/.well-known/openid-configuration"
    good, door.said[path] = door.said[path], nonsense
    assert status(provider, door.token(OLD)) == 503
    door.said[path] = good
    assert status(provider, door.token(OLD)) == 200


def test_a_key_that_it_no_longer_names_opens_nothing_an_hour_later(
    door: Door, provider: oidc.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert status(provider, door.token(OLD, jti="1")) == 200
    door.said["/keys"] = {"keys": [NEW.as_dict(private=False)]}
    assert [status(provider, door.token(key, jti="2")) for key in (NEW, OLD)] == [200, 401]
    door.said["/keys"] = {"keys": [OLD.as_dict(private=False)]}
    monkeypatch.setattr(oidc, "METADATA_SECONDS", 0.0)
    assert [status(provider, door.token(key, jti="3")) for key in (NEW, OLD)] == [401, 200]


@pytest.mark.parametrize(
    "other",
    [
        {"kty": "EC", "crv": "P-999", "kid": "other", "x": "AA", "y": "AA"},
        {"kty": "OKP", "crv": "Ed999", "kid": "other", "x": "AA"},
        {"kty": "AKP", "alg": "ML-DSA-44", "kid": "other", "pub": "AA"},
        {"kty": "RSA", "kid": "other"},
        {"kid": "other"},
        "other",
        None,
    ],
)
def test_a_key_that_is_not_understood_ends_nobody_else_s_use(door: Door, provider: oidc.Provider, other: Any) -> None:
    door.said["/keys"] = {"keys": [other, OLD.as_dict(private=False)]}
    assert [status(provider, door.token(key)) for key in (OLD, NEW)] == [200, 401]


def test_while_it_is_away_what_held_goes_on(door: Door, provider: oidc.Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    assert status(provider, door.token(OLD, jti="1")) == 200
    door.down = True
    monkeypatch.setattr(oidc, "METADATA_SECONDS", 0.0)
    assert status(provider, door.token(OLD, jti="2")) == 200
