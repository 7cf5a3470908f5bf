"""A header field that is sent more than once is one list, whichever of them a gateway would put first or last."""

from __future__ import annotations

from tests.harness import RunningCity
from tests.integration.exactly import ask


def test_what_is_accepted_may_be_said_in_several_header_fields(city: RunningCity) -> None:
    for fields in ([("Accept", "application/dicom+json"), ("Accept", "text/html")], [("Accept", "text/html"), ("accept", "*/*")]):
        assert ask(city, "maugeri", "/dicomweb/studies", fields=fields).status == 200, fields
    assert ask(city, "maugeri", "/dicomweb/studies", fields=[("Accept", "text/html"), ("Accept", "image/png")]).status == 406


def test_that_a_body_is_gzipped_may_be_said_in_several_header_fields(city: RunningCity) -> None:
    fields = [("Accept-Encoding", "gzip"), ("Accept-Encoding", "br")]
    answer = ask(city, "maugeri", "/dicomweb", "OPTIONS", fields=[*fields, ("Accept", "application/json")])
    assert (answer.status, answer.headers["content-encoding"]) == (200, "gzip")
