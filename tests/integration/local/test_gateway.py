"""The gateway answers as API Gateway does."""

from __future__ import annotations

from tests.harness import RunningCity


def test_a_public_route_needs_no_signature(standin_city: RunningCity) -> None:
    answer = standin_city.client(None).get("/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


def test_a_signed_request_arrives_with_its_role(standin_city: RunningCity) -> None:
    answer = standin_city.client("maugeri").post("/echo/a%20b?x=1&x=2&y=%C3%A9", json={"k": "ü"})
    assert answer.status_code == 200, answer.text
    seen = answer.json()
    identity = seen["context"]["identity"]
    assert (
        identity["userArn"]
        == "arn:aws:sts::123456789012:assumed-role/contenitore-institution-maugeri/maugeri"
    )
    assert identity["caller"] == identity["user"] and identity["caller"].endswith(":maugeri")
    assert seen["word"] == "a b"
    assert seen["event"]["query_params"]["y"] == "é"
