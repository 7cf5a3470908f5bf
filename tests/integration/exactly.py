"""Requests whose target and header fields go out byte for byte as given, which other clients put right."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from tests.harness import RunningCity


@dataclass(frozen=True)
class Answer:
    """Status, header fields by lower-case name, and body."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return json.loads(self.content)


def ask(
    city: RunningCity,
    profile: str | None,
    target: str,
    method: str = "GET",
    fields: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
) -> Answer:
    """Send one request, signed as `profile` unless that is None; `fields` may repeat names, and none of them is signed."""
    address = urlsplit(city.api)
    sent = [("Host", address.netloc), *fields]
    if profile is not None:
        signed = AWSRequest(method, city.api + target, data=body)
        SigV4Auth(city.credentials(profile), "execute-api", "eu-south-1").add_auth(signed)
        sent += [(name, value) for name, value in signed.headers.items() if name.lower() != "host"]
    connection = http.client.HTTPConnection(address.netloc, timeout=60)
    try:
        connection.putrequest(method, address.path + target, skip_host=True, skip_accept_encoding=True)
        for name, value in sent:
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()
