"""A transport for dicomweb-client that keeps what it sends and answers what a test gives it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO

import pytest
import requests
from dicomweb_client.api import DICOMwebClient

Answer = tuple[int, str, bytes]


class Wire(requests.adapters.BaseAdapter):
    """Answers each request with the next answer, or with 404; `requests` and `bodies` are what was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[requests.PreparedRequest] = []
        self.bodies: list[bytes] = []
        self.answers: list[Answer] = []

    def send(self, request: requests.PreparedRequest, *args: object, **kwargs: object) -> requests.Response:
        self.requests.append(request)
        sent = request.body or b""
        self.bodies.append(sent if isinstance(sent, bytes) else b"".join(sent))  # type: ignore[arg-type]
        status, content_type, body = self.answers.pop(0) if self.answers else (404, "text/plain", b"")
        response = requests.Response()
        response.status_code = status
        response.headers["Content-Type"] = content_type
        response.raw = BytesIO(body)
        response.request = request
        response.url = str(request.url)
        return response

    def close(self) -> None:
        """Nothing is held open."""


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def client(wire: Wire) -> Iterator[DICOMwebClient]:
    session = requests.Session()
    session.mount("http://", wire)
    with session:
        yield DICOMwebClient("http://archive.invalid/dicomweb", session=session)


@pytest.fixture
def sent_accept(wire: Wire, client: DICOMwebClient) -> Callable[[Callable[[DICOMwebClient], object]], str]:
    """The Accept field that a call of the client sends."""

    def accept(call: Callable[[DICOMwebClient], object]) -> str:
        try:
            result = call(client)
            if isinstance(result, Iterator):
                next(result, None)
        except requests.HTTPError:
            pass
        return str(wire.requests[-1].headers["Accept"])

    return accept
