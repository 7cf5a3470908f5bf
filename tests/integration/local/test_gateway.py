"""The gateway answers as API Gateway does: signatures, routes, limits, and the form of the event."""

from __future__ import annotations

import base64
import concurrent.futures
import datetime
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.api_gateway.gateway import Gateway
from local.iam.identities import RoleSession
from local.lambda_runtime.functions import Function
from local.web.servers import Server
from tests.harness import Client, RunningCity, running_city, wait_until

from .conftest import STANDIN


@pytest.fixture
def maugeri(standin_city: RunningCity) -> Client:
    return standin_city.client("maugeri")


def signed(city: RunningCity, path: str, service: str = "execute-api", region: str = "eu-south-1", **given: Any) -> Any:
    """The headers of a signed GET; `given` are changes of the credentials."""
    credentials = city.credentials("maugeri")
    made = Credentials(
        given.get("access_key", credentials.access_key),
        given.get("secret", credentials.secret_key),
        given.get("token", credentials.token),
    )
    request = AWSRequest("GET", city.api + path)
    SigV4Auth(made, service, region).add_auth(request)
    return dict(request.headers)


def refusal(answer: requests.Response) -> tuple[int, str]:
    kind = answer.headers["x-amzn-ErrorType"]
    assert set(answer.json()) == {"Message" if kind == "AccessDeniedException" else "message"}
    return answer.status_code, kind


# Who calls -------------------------------------------------------------------------------------------


def test_a_public_route_needs_no_signature(standin_city: RunningCity) -> None:
    answer = standin_city.client(None).get("/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


def test_a_signed_request_arrives_with_its_role(maugeri: Client) -> None:
    identity = maugeri.get("/echo/x").json()["context"]["identity"]
    assert identity["userArn"] == "arn:aws:sts::123456789012:assumed-role/contenitore-institution-maugeri/maugeri"
    assert identity["caller"] == identity["user"]
    assert identity["caller"].startswith("AROA")
    assert identity["caller"].endswith(":maugeri")
    assert identity["accountId"] == "123456789012"


def test_another_session_name_is_the_same_role(standin_city: RunningCity) -> None:
    credentials = standin_city.session_credentials("maugeri", "dr.rossi")
    context = standin_city.client(None, credentials).get("/echo/x").json()["context"]
    assert context["identity"]["userArn"].endswith(":assumed-role/contenitore-institution-maugeri/dr.rossi")


def test_an_unsigned_request_is_refused(standin_city: RunningCity) -> None:
    answer = standin_city.client(None).get("/echo/x")
    assert refusal(answer) == (403, "MissingAuthenticationTokenException")
    assert answer.json() == {"message": "Missing Authentication Token"}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"secret": "wrong"}, "InvalidSignatureException"),
        ({"access_key": "ASIAUNKNOWN"}, "UnrecognizedClientException"),
        ({"token": "wrong"}, "UnrecognizedClientException"),
        ({"token": None}, "UnrecognizedClientException"),
        ({"service": "s3"}, "InvalidSignatureException"),
        ({"region": "eu-west-1"}, "InvalidSignatureException"),
    ],
)
def test_a_badly_signed_request_is_refused(standin_city: RunningCity, changes: dict[str, Any], error: str) -> None:
    answer = requests.get(f"{standin_city.api}/echo/x", headers=signed(standin_city, "/echo/x", **changes), timeout=60)
    assert refusal(answer) == (403, error)


@pytest.mark.parametrize("header", ["Basic x", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=b"])
def test_another_kind_of_authorization_is_refused(standin_city: RunningCity, header: str) -> None:
    answer = requests.get(f"{standin_city.api}/echo/x", headers={"Authorization": header}, timeout=60)
    assert refusal(answer) == (403, "IncompleteSignatureException")


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_signature_of_another_time_is_refused(standin_city: RunningCity, minutes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import botocore.auth

    then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=minutes)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: then)
    answer = requests.get(f"{standin_city.api}/echo/x", headers=signed(standin_city, "/echo/x"), timeout=60)
    assert refusal(answer) == (403, "InvalidSignatureException")


def test_another_body_path_query_or_method_than_was_signed_is_refused(standin_city: RunningCity) -> None:
    headers = signed(standin_city, "/echo/x?a=1")
    url = standin_city.api
    assert requests.get(f"{url}/echo/x?a=1", headers=headers, timeout=60).status_code == 200
    for method, address, body in (
        ("GET", "/echo/x?a=2", b""),
        ("GET", "/echo/y?a=1", b""),
        ("GET", "/echo/x?a=1", b"x"),
        ("POST", "/echo/x?a=1", b""),
    ):
        answer = requests.request(method, url + address, headers=headers, data=body, timeout=60)
        assert refusal(answer) == (403, "InvalidSignatureException"), (method, address, body)


def test_an_unsigned_payload_is_refused(standin_city: RunningCity) -> None:
    class Unsigned(SigV4Auth):  # type: ignore[misc]
        def payload(self, request: Any) -> str:
            return "UNSIGNED-PAYLOAD"

    request = AWSRequest(
        "POST",
        f"{standin_city.api}/echo/x",
        data=b"{}",
        headers={"Content-Type": "application/json", "X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"},
    )
    Unsigned(standin_city.credentials("maugeri"), "execute-api", "eu-south-1").add_auth(request)
    answer = requests.post(f"{standin_city.api}/echo/x", data=b"{}", headers=dict(request.headers), timeout=60)
    assert refusal(answer) == (403, "InvalidSignatureException")


def test_a_role_may_call_only_what_its_policies_allow(standin_city: RunningCity) -> None:
    assert standin_city.client("operator").put("/institutions/x1", json={"role_arn": "arn"}).status_code == 200
    for profile, method, path in (("maugeri", "PUT", "/institutions/x1"), ("operator", "GET", "/echo/x")):
        answer = standin_city.client(profile).request(method, path)
        assert refusal(answer) == (403, "AccessDeniedException")
        assert f"/api/{method}{path}" in answer.json()["Message"]
    standin_city.client("operator").delete("/institutions/x1")


def test_spaces_and_odd_characters_in_a_query_may_be_signed_as_clients_do(maugeri: Client) -> None:
    for query in ("q=a%20b", "q=a+b", "q=%C3%A9*", "b=2&a=1&b=1", "q=a/b:c@d,e", "q", "q=", "q=%2B"):
        answer = maugeri.get(f"/echo/x?{query}")
        assert answer.status_code == 200, query


# What is called --------------------------------------------------------------------------------------


def test_an_unknown_route_or_method_looks_like_a_missing_token(maugeri: Client) -> None:
    for method, path in (("GET", "/nothing"), ("DELETE", "/echo/x"), ("OPTIONS", "/echo/x"), ("GET", "/echo")):
        answer = maugeri.request(method, path)
        assert answer.json() == {"message": "Missing Authentication Token"}
        assert answer.status_code == 403


def test_the_event_has_the_form_that_lambda_gets(maugeri: Client) -> None:
    answer = maugeri.post("/echo/a%20b%2Fc?x=1&x=2&y=%C3%A9", json={"k": "ü"}, headers={"X-On-Behalf-Of": "rossi"})
    seen = answer.json()
    assert seen["word"] == "a%20b%2Fc"
    assert seen["event"]["query_params"] == {"x": "2", "y": "é"}
    assert seen["event"]["headers"]["x-on-behalf-of"] == "rossi"
    assert seen["raw"].encode("latin-1") == b'{"k": "\\u00fc"}'
    context = seen["context"]
    assert context["resourcePath"] == "/echo/{word}"
    assert context["path"] == "/echo/a%20b%2Fc"
    assert context["stage"] == "api"
    assert f"http://{context['domainName']}" == maugeri.api


def test_a_body_of_any_bytes_arrives_whole(maugeri: Client) -> None:
    body = bytes(range(256)) * 100
    answer = maugeri.post("/echo/x", data=body, headers={"Content-Type": "application/dicom"})
    assert answer.json()["raw"].encode("latin-1") == body


def test_a_chunked_body_arrives_whole(standin_city: RunningCity) -> None:
    body = b'{"long": "' + b"x" * 100_000 + b'"}'
    request = AWSRequest("POST", f"{standin_city.api}/echo/x", data=body, headers={"Content-Type": "application/json"})
    SigV4Auth(standin_city.credentials("maugeri"), "execute-api", "eu-south-1").add_auth(request)
    pieces = (body[start : start + 7000] for start in range(0, len(body), 7000))
    answer = requests.post(request.url, data=pieces, headers=dict(request.headers), timeout=60)
    assert answer.json()["raw"].encode() == body


def test_bytes_come_back_as_bytes(maugeri: Client) -> None:
    answer = maugeri.get("/bytes", headers={"Accept": "application/dicom"})
    assert answer.content == b"\x00\xff\x01"
    assert answer.headers["Content-Type"] == "application/dicom"


def test_head_has_headers_and_no_body(maugeri: Client) -> None:
    answer = maugeri.head("/echo/x")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 0


# Limits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_10_mb_is_refused_and_the_client_can_read_why(standin_city: RunningCity, chunked: bool) -> None:
    body: Any = b"x" * (10 * 1024**2 + 1)
    answer = requests.post(f"{standin_city.api}/echo/x", data=iter([body[:1000], body[1000:]]) if chunked else body, timeout=60)
    assert answer.status_code == 413
    assert answer.json()["message"] == "Request Too Long"
    assert "POST /uploads" in answer.json()["detail"]


def was_read(connection: socket.socket) -> bool:
    """Whether the other end, on this machine, has read all that was sent to it (the queues in /proc/net/tcp)."""
    here, there = (f"{name[1]:04X}" for name in (connection.getsockname(), connection.getpeername()))
    queues = {}
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        _, local, remote, _, waiting, *_ = line.split()
        queues[local[-4:], remote[-4:]] = waiting
    sent, received = queues[here, there].split(":")[0], queues[there, here].split(":")[1]
    return int(sent, 16) == int(received, 16) == 0


def test_a_body_over_10_mb_whose_last_chunk_comes_in_pieces_is_refused_at_once(standin_city: RunningCity) -> None:
    address = urlsplit(standin_city.api)
    with socket.create_connection((address.hostname, address.port), 20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(b"POST /echo/x HTTP/1.1\r\nHost: archive.test\r\nTransfer-Encoding: chunked\r\n\r\n")
        size = 10 * 1024**2 + 1
        connection.sendall(f"{size:x}\r\n".encode() + b"x" * size)
        for piece in (b"\r\n", b"0", b"\r\n\r\n"):
            wait_until(lambda: was_read(connection))
            connection.sendall(piece)
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_lambda_could_not_take_is_refused(maugeri: Client) -> None:
    body = b'"' + b"x" * (6 * 1024**2) + b'"'
    answer = maugeri.post("/echo/x", data=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.headers["x-amzn-ErrorType"]) == (413, "RequestTooLargeException")
    assert "POST /uploads" in answer.json()["detail"]


def test_an_answer_over_6_mb_is_an_error(maugeri: Client) -> None:
    assert maugeri.get("/big/5000000").status_code == 200
    answer = maugeri.get("/big/6291600")
    assert refusal(answer) == (502, "InternalServerErrorException")
    assert answer.json() == {"message": "Internal server error"}


def test_long_polls_do_not_hold_up_others(standin_city: RunningCity) -> None:
    with concurrent.futures.ThreadPoolExecutor(60) as pool:
        clients, before = [standin_city.client("maugeri") for _ in range(60)], standin_city.invoked()
        polls = [pool.submit(client.get, "/sleep/8") for client in clients]
        wait_until(lambda: standin_city.invoked() >= before + 60)
        started = time.monotonic()
        assert standin_city.client("maugeri").get("/echo/x").status_code == 200
        assert time.monotonic() - started < 4
        assert all(poll.result().status_code == 200 for poll in polls)


# One gateway in this process, around a function of the test's own ------------------------------------


class OneIdentity:
    def __init__(self, identity: RoleSession) -> None:
        self._identity = identity

    def find(self, access_key: str) -> RoleSession | None:
        return self._identity if access_key == self._identity.access_key else None


def served(handler: Any, **options: Any) -> Iterator[str]:
    route = {"GET": SimpleNamespace(authorizer=None), "POST": SimpleNamespace(authorizer=None)}
    app = SimpleNamespace(api=SimpleNamespace(binary_types=["application/dicom"]), routes={"/x": route})
    server = Server(0, 8, 1 << 20)
    server.app = Gateway(
        app,
        Function("api", handler, timeout=60, memory=128),
        OneIdentity(RoleSession("AK", "secret", "token", "arn:aws:iam::1:role/r", "s", "id", time.time() + 60)),  # type: ignore[arg-type]
        lambda identity, arn: True,
        "local",
        **options,
    )
    server.start()
    yield f"http://127.0.0.1:{server.port}"
    server.stop()


def answer_of(handler: Any, path: str = "/x", **options: Any) -> requests.Response:
    gateway = served(handler, **options)
    try:
        return requests.get(next(gateway) + path, timeout=60)
    finally:
        gateway.close()  # type: ignore[attr-defined]


def test_a_function_that_takes_too_long_is_not_waited_for() -> None:
    answer = answer_of(lambda event, context: time.sleep(1), timeout=0.1)
    assert answer.status_code == 504
    assert answer.json() == {"message": "Endpoint request timed out"}


def test_a_function_that_raises_is_an_error_that_says_nothing() -> None:
    def handler(event: Any, context: Any) -> Any:
        raise KeyError("Rossi^Mario")

    answer = answer_of(handler)
    assert (answer.status_code, answer.json()) == (502, {"message": "Internal server error"})


@pytest.mark.parametrize("malformed", [None, "text", {}, {"statusCode": "no"}, {"statusCode": 200, "body": {"a": 1}}])
def test_a_malformed_answer_of_the_function_is_an_error(malformed: Any) -> None:
    answer = answer_of(lambda event, context: malformed)
    assert (answer.status_code, answer.json()) == (502, {"message": "Internal server error"})


def test_a_function_knows_how_long_it_may_take() -> None:
    def handler(event: Any, context: Any) -> Any:
        left = context.get_remaining_time_in_millis()
        return {"statusCode": 200, "body": json.dumps([left, context.function_name, context.memory_limit_in_mb])}

    left, name, memory = answer_of(handler).json()
    assert 55_000 < left <= 60_000
    assert (name, memory) == ("api", 128)


def test_base64_is_decoded_only_for_who_accepts_the_type_first() -> None:
    content = base64.b64encode(b"\x00\x01").decode()
    gateway = served(lambda event, context: {"statusCode": 200, "body": content, "isBase64Encoded": True})
    url = f"{next(gateway)}/x"
    for accept, expected in (
        ("application/dicom", b"\x00\x01"),
        ("application/dicom; transfer-syntax=*, text/html", b"\x00\x01"),
        ("text/html, application/dicom", content.encode()),
    ):
        assert requests.get(url, headers={"Accept": accept}, timeout=60).content == expected
    gateway.close()  # type: ignore[attr-defined]


def test_several_values_of_a_header_all_arrive() -> None:
    answer = answer_of(
        lambda event, context: {
            "statusCode": 200,
            "headers": {"X-A": "0"},
            "multiValueHeaders": {"X-A": ["1", "2"]},
            "body": "",
        }
    )
    assert answer.headers["X-A"] == "1, 2"


# Under a stage's path --------------------------------------------------------------------------------


def test_under_a_stage_path_the_path_of_the_request_has_the_stage_and_the_event_has_not(tmp_path: Path) -> None:
    with running_city(tmp_path / "state", *STANDIN, "--base-path", "/api") as city:
        assert city.api.endswith("/api")
        assert city.client(None).get("/health").status_code == 200
        seen = city.client("maugeri").get("/echo/x").json()
        assert seen["context"]["path"] == "/api/echo/x"
        assert seen["context"]["resourcePath"] == "/echo/{word}"
        outside = requests.get(city.api.removesuffix("/api") + "/health", timeout=60)
        assert (outside.status_code, outside.json()) == (403, {"message": "Missing Authentication Token"})


# Other accounts --------------------------------------------------------------------------------------


def _registered(city: RunningCity, institution: str, role: str) -> Client:
    """A client of a role that was just registered."""
    assert city.client("operator").put(f"/institutions/{institution}", json={"role_arn": role}).status_code == 200
    return city.client(institution)


def test_a_role_of_another_account_is_let_in_where_the_resource_policy_names_it(standin_city: RunningCity) -> None:
    named = _registered(standin_city, "named", "arn:aws:iam::222222222222:role/named")
    assert named.get("/echo/x").status_code == 200
    for method in ("PUT", "DELETE"):
        answer = named.request(method, "/institutions/named")
        assert refusal(answer) == (403, "AccessDeniedException"), "the registry is the operator's, of whatever account one is"
    stranger = _registered(standin_city, "stranger", "arn:aws:iam::333333333333:role/stranger")
    answer = stranger.get("/echo/x")
    assert refusal(answer) == (403, "AccessDeniedException")
    assert "arn:aws:sts::333333333333:assumed-role/stranger/stranger is not authorized" in answer.json()["Message"]
    for institution in ("named", "stranger"):
        standin_city.client("operator").delete(f"/institutions/{institution}")


def test_a_role_of_the_citys_account_without_policies_is_left_to_the_archive(standin_city: RunningCity) -> None:
    """In AWS nobody could assume it: who registers one by hand to try something is not refused for what stands nowhere."""
    nobody = _registered(standin_city, "nobody", "arn:aws:iam::123456789012:role/nobody")
    assert nobody.get("/echo/x").status_code == 200
    standin_city.client("operator").delete("/institutions/nobody")
