"""The event of the local gateway is the one that AWS documents, and so are its own answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra import throttles
from tests.harness import RunningCity
from tests.integration.exactly import ask


def event(city: RunningCity, target: str = "/echo/x", **more: Any) -> dict[str, Any]:
    answer = ask(city, "maugeri", target, **more)
    assert answer.status == 200, answer.text
    original: dict[str, Any] = answer.json()["original"]
    return original


def test_path_parameters_and_path_come_as_they_were_sent(standin_city: RunningCity) -> None:
    found = event(standin_city, "/echo/a%20b%2Fc%zz")
    assert found["pathParameters"] == {"word": "a%20b%2Fc%zz"}
    assert found["path"] == "/echo/a%20b%2Fc%zz"
    assert found["resource"] == "/echo/{word}"
    assert event(standin_city, "/echo/a+b")["pathParameters"] == {"word": "a+b"}


def test_a_literal_part_of_a_path_is_matched_as_it_stands(standin_city: RunningCity) -> None:
    assert ask(standin_city, None, "/%68ealth").status == 403


def test_a_query_comes_decoded_with_repeats_empty_values_and_plus_signs(standin_city: RunningCity) -> None:
    found = event(standin_city, "/echo/x?a=1&a=2&b=&c&d=e+f%2B%26&%C3%A9=%C3%A8")
    assert found["multiValueQueryStringParameters"] == {
        "a": ["1", "2"], "b": [""], "c": [""], "d": ["e f+&"], "é": ["è"],
    }  # fmt: skip
    assert found["queryStringParameters"]["a"] == "2"
    without = event(standin_city)
    assert without["queryStringParameters"] is without["multiValueQueryStringParameters"] is None


def test_a_semicolon_in_a_query_separates(standin_city: RunningCity) -> None:
    found = event(standin_city, "/echo/x?accept=application/dicom;q=1")
    assert found["multiValueQueryStringParameters"] == {"accept": ["application/dicom"], "q": ["1"]}


@pytest.mark.parametrize("character", ["|", "{", "}"])
def test_characters_that_no_query_may_hold_are_refused(standin_city: RunningCity, character: str) -> None:
    answer = ask(standin_city, None, f"/health?a={character}")
    assert (answer.status, answer.json()) == (400, {"message": "Bad Request"})


def test_header_fields_come_by_the_names_that_were_sent_and_all_of_those_that_were_repeated(standin_city: RunningCity) -> None:
    found = event(standin_city, fields=[("x-oNe", "1"), ("X-Two", "a"), ("X-Two", "b, c"), ("X-Empty", "")])
    assert found["headers"]["x-oNe"] == "1"
    assert found["multiValueHeaders"]["X-Two"] == ["a", "b, c"]
    assert found["headers"]["X-Two"] == "b, c"
    assert found["headers"]["X-Empty"] == ""


def test_who_came_is_appended_to_what_says_who_came(standin_city: RunningCity) -> None:
    found = event(standin_city, fields=[("X-Forwarded-For", "192.0.2.7")])
    assert found["headers"]["X-Forwarded-For"] == "192.0.2.7, 127.0.0.1"
    assert found["requestContext"]["identity"]["sourceIp"] == "127.0.0.1"
    assert found["headers"]["X-Amzn-Trace-Id"].startswith("Root=1-")


def test_the_fields_of_the_context_are_those_that_aws_lists(standin_city: RunningCity) -> None:
    found = event(standin_city)
    assert set(found) == {
        "resource", "path", "httpMethod", "headers", "multiValueHeaders", "queryStringParameters",
        "multiValueQueryStringParameters", "pathParameters", "stageVariables", "requestContext", "body", "isBase64Encoded",
    }  # fmt: skip
    assert (found["stageVariables"], found["body"], found["isBase64Encoded"]) == (None, None, False)
    assert set(found["requestContext"]) == {
        "resourceId", "resourcePath", "httpMethod", "extendedRequestId", "requestTime", "path", "accountId", "protocol", "stage",
        "domainPrefix", "requestTimeEpoch", "requestId", "identity", "domainName", "deploymentId", "apiId",
    }  # fmt: skip
    assert set(found["requestContext"]["identity"]) == {
        "accessKey", "accountId", "caller", "cognitoAuthenticationProvider", "cognitoAuthenticationType", "cognitoIdentityId",
        "cognitoIdentityPoolId", "principalOrgId", "sourceIp", "user", "userAgent", "userArn",
    }  # fmt: skip


def test_request_line_and_header_fields_over_ten_kilobytes_are_refused(standin_city: RunningCity) -> None:
    assert ask(standin_city, None, "/health?a=" + "x" * 9_000).status == 200
    assert ask(standin_city, None, "/health?a=" + "x" * 10_240).status == 413
    assert ask(standin_city, None, "/health", fields=[("X-Long", "x" * 10_240)]).status == 413


def test_header_fields_that_the_gateway_keeps_to_itself_arrive_under_another_name(standin_city: RunningCity) -> None:
    answer = ask(standin_city, "maugeri", "/remapped")
    assert answer.headers["x-amzn-remapped-www-authenticate"] == "Bearer"
    assert answer.headers["etag"] == '"x"'
    assert "www-authenticate" not in answer.headers


def test_what_the_gateway_refuses_can_be_read_by_a_page_of_another_origin(standin_city: RunningCity) -> None:
    for target, status in (("/nothing", 403), ("/echo/x", 403), ("/health?a=|", 400), ("/health?a=" + "x" * 10_240, 413)):
        answer = ask(standin_city, None, target, fields=[("Origin", "https://pages.example.org")])
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (status, "*"), target
    answer = ask(standin_city, "maugeri", "/big/6291600")
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (502, "*")


def test_a_flood_of_what_needs_no_signature_is_stopped_and_takes_nothing_from_who_signs(standin_city: RunningCity) -> None:
    answers = [ask(standin_city, None, "/health") for _ in range(throttles.HEALTH[1] * 3)]
    refused = [answer for answer in answers if answer.status == 429]
    assert refused, "a flood is answered in full"
    assert {answer.status for answer in answers} == {200, 429}
    assert refused[0].headers["retry-after"] == "2"
    assert refused[0].headers["content-type"] == "application/problem+json"
    assert json.loads(refused[0].content)["type"] == "urn:contenitore:problem:try-again"
    assert ask(standin_city, "maugeri", "/echo/x").status == 200
