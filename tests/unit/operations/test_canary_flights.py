"""A flight that fails says at which step: the archive is played by a few lines that break one promise each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path

import pytest

from chalicelib.services.operations import canary
from chalicelib.services.operations.canary import FlightFailed, NotAMember

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


class PlayedArchive:
    """An archive that keeps one object. `broken`: what it does wrong."""

    def __init__(self, broken: str = "") -> None:
        self.broken, self.content, self.withdrawn = broken, b"", False

    def call(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        if path == "/uploads":
            upload = {"url": "https://store/x", "headers": {"If-None-Match": "*"}}
            return {
                "registry": (403, b'{"type": "urn:contenitore:problem:unknown-institution"}'),
                "down": (0, b""),
                "gateway": (502, b"<html>"),
            }.get(self.broken, (200, json.dumps({"instances": [{"state": "absent", "upload": upload}]}).encode()))
        if path.endswith("/manifest"):
            return 200, json.dumps({"instances": [{"url": "https://store/x"}]}).encode()
        if path.endswith("/withdrawals"):
            self.withdrawn = self.broken != "withdrawal"
            return 201, b"{}"
        there = bool(self.content) and not self.withdrawn and self.broken != "projector"
        return 200, b"[{}]" if there else b"[]"

    def follow(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> tuple[int, bytes]:
        if method == "PUT":
            self.content = body
            return (500 if self.broken == "store" else 200), b""
        return 200, self.content[:-1] + b"?" if self.broken == "bytes" else self.content


def test_all_goes_well() -> None:
    archive = PlayedArchive()
    flight = canary.fly(archive, NOW, lambda _: None)
    assert flight.found_after <= flight.took
    assert archive.withdrawn
    assert archive.content[128:132] == b"DICM"


@pytest.mark.parametrize(
    ("broken", "step"),
    [("down", "offer"), ("gateway", "offer"), ("store", "upload"), ("projector", "find"), ("bytes", "compare"),
     ("withdrawal", "be gone")],
)  # fmt: skip
def test_what_is_broken_is_named(broken: str, step: str) -> None:
    with pytest.raises(FlightFailed) as raised:
        canary.fly(PlayedArchive(broken), NOW, lambda _: None, patience=0.01)
    assert raised.value.step == step


def test_its_role_may_call_what_it_calls_and_nothing_else() -> None:
    """By its policy file, which the local gateway does not hold functions to."""
    policy = json.loads((Path(canary.__file__).parents[3] / ".chalice" / "policies" / "canary.json").read_text(encoding="utf-8"))
    (calls,) = [statement for statement in policy["Statement"] if "execute-api:Invoke" in statement["Action"]]
    allowed = {resource["Fn::Sub"].split("${RestAPI}/api/")[1] for resource in calls["Resource"]}
    assert "dynamodb" not in json.dumps(policy) and "s3:" not in json.dumps(policy)
    called = set()

    class Listening(PlayedArchive):
        def call(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
            route = method + path.partition("?")[0]
            called.update({pattern for pattern in allowed if fnmatch(route, pattern)} or {f"not allowed: {route}"})
            return super().call(method, path, body)

    canary.fly(Listening(), NOW, lambda _: None)
    assert called == allowed


def test_one_that_nobody_registered_does_not_fly() -> None:
    with pytest.raises(NotAMember):
        canary.fly(PlayedArchive("registry"), NOW, lambda _: None)
