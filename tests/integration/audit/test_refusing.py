"""What cannot be recorded is not done and not shown; what is refused is recorded, and reveals nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.credentials import Credentials

from chalicelib.adapters.dynamodb import DynamoTable
from chalicelib.domain import audit_chain, keys
from chalicelib.domain.ports import Delete, Item, PutNew
from tests.harness import Client, RunningCity
from tests.integration.audit.conftest import Shared


def _table(city: RunningCity) -> DynamoTable:
    return DynamoTable(city.aws("dynamodb"), city.outputs()["TableName"])


def _records(city: RunningCity, institution: str) -> list[dict[str, Any]]:
    table = _table(city)
    return [
        item.data
        for shard in audit_chain.shards(institution)
        for item in table.query_all(keys.audit_records(shard))
        if item.sk != keys.HEAD
    ]


@contextmanager
def _no_record_can_be_written(city: RunningCity, institution: str) -> Iterator[None]:
    """The place of the next record is taken in every chain of the institution."""
    table = _table(city)
    taken = []
    for shard in audit_chain.shards(institution):
        head = audit_chain.head_of(table.get(keys.audit_records(shard), keys.HEAD))
        taken.append(Item(keys.audit_records(shard), keys.audit_record(head.seq + 1), {"in": "the way"}))
        assert table.put(PutNew(taken[-1]))
    try:
        yield
    finally:
        for item in taken:
            table.put(Delete(*item.key))


@pytest.fixture(scope="module")
def ruined(own_city: RunningCity) -> Shared:
    return Shared(own_city)


@pytest.mark.parametrize(
    "path",
    [
        "/studies/{study}/manifest",
        "/dicomweb/studies",
        "/dicomweb/studies/{study}/series",
        "/patients/{patient}/timeline",
        "/audit",
    ],
)
def test_what_cannot_be_recorded_is_not_shown(ruined: Shared, path: str) -> None:
    path = path.format(study=ruined.study, patient=ruined.number_there)
    assert ruined.viewer.get(path).status_code == 200
    with _no_record_can_be_written(ruined.city, "maugeri"):
        answer = ruined.viewer.get(path)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:contenitore:problem:try-again")
        assert int(answer.headers["Retry-After"]) >= 1
        assert ruined.study not in answer.text
        assert ruined.number_there not in answer.text
    assert ruined.viewer.get(path).status_code == 200


def test_what_cannot_be_recorded_is_not_done(ruined: Shared) -> None:
    body = {"patient": {"id": ruined.number_there}, "to": "mondino", "reason": "stroke"}
    with _no_record_can_be_written(ruined.city, "maugeri"):
        assert ruined.viewer.post("/transfers", json=body).status_code == 503
        assert ruined.viewer.delete(f"/transfers/{ruined.transfer}").status_code == 503
    assert ruined.viewer.get("/transfers?direction=outgoing").json()["transfers"] == []
    assert ruined.viewer.get(f"/transfers/{ruined.transfer}").json()["status"] == "active"


def test_a_refusal_that_cannot_be_recorded_says_to_try_again_too(ruined: Shared) -> None:
    with _no_record_can_be_written(ruined.city, "maugeri"):
        assert ruined.viewer.get("/studies/1.2.3/manifest").status_code == 503


@pytest.fixture
def stranger(shared: Shared) -> Client:
    return shared.city.client("mondino").as_person("dr.bianchi")


def test_refused_reads_are_recorded_with_what_was_asked_for(shared: Shared, stranger: Client) -> None:
    paths = [
        f"/studies/{shared.study}/manifest", f"/dicomweb/studies/{shared.study}/series", f"/patients/{shared.number}/timeline",
        f"/transfers/{shared.transfer}", "/studies/1.2.3.4/manifest",
    ]  # fmt: skip
    answers = [stranger.get(path) for path in paths]
    assert [answer.status_code for answer in answers] == [404] * len(paths)
    refused = {record["request"]: record for record in _records(shared.city, "mondino") if record.get("kind") == "refusal"}
    found = [refused[answer.json()["request_id"]] for answer in answers]
    assert {record["actor"] for record in found} == {"dr.bianchi"}
    assert [record.get("study") for record in found] == [shared.study, shared.study, None, None, "1.2.3.4"]
    assert found[2]["patients"][0][1] == shared.number
    assert found[3]["subject"] == f"transfer={shared.transfer}"


def test_the_record_of_a_refusal_does_not_tell_absent_from_hidden(shared: Shared, stranger: Client) -> None:
    def refusal(study: str) -> dict[str, Any]:
        request = stranger.get(f"/studies/{study}/manifest").json()["request_id"]
        (record,) = [record for record in _records(shared.city, "mondino") if record["request"] == request]
        own = {"at", "hash", "prev", "seq", "shard", "request", "study", "expires"}
        return {name: value for name, value in record.items() if name not in own}

    assert refusal(shared.study) == refusal("1.2.3.4.5")


def test_absent_costs_the_same_requests_as_hidden(shared: Shared, stranger: Client) -> None:
    def requests(study: str) -> dict[str, int]:
        before = shared.city.aws_requests()
        stranger.get(f"/studies/{study}/manifest")
        after = shared.city.aws_requests()
        watched = ("dynamodb:TransactWriteItems", "dynamodb:GetItem", "dynamodb:BatchGetItem")
        return {name: after.get(name, 0) - before.get(name, 0) for name in watched}

    def least(study: str) -> dict[str, int]:
        """Of several: now and then one reads anew what the function keeps for a while, or the clock calls another one."""
        several = [requests(study) for _ in range(5)]
        return {name: min(counted[name] for counted in several) for name in several[0]}

    assert least(shared.study) == least("1.2.3.4.6")


def test_a_role_that_nobody_registered_is_recorded(city: RunningCity) -> None:
    made = city.aws("iam")
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}
    made.create_role(RoleName="stray", AssumeRolePolicyDocument=json.dumps(trust))
    made.put_role_policy(
        RoleName="stray", PolicyName="calls",
        PolicyDocument=json.dumps(
            {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"}]}
        ),
    )  # fmt: skip
    role = city.aws("sts").assume_role(RoleArn="arn:aws:iam::123456789012:role/stray", RoleSessionName="somebody")["Credentials"]
    client = city.client(None, Credentials(role["AccessKeyId"], role["SecretAccessKey"], role["SessionToken"]))
    answer = client.get("/studies/1.2.3/manifest")
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:contenitore:problem:unknown-institution")
    (record,) = [record for record in _records(city, "unregistered") if record["request"] == answer.json()["request_id"]]
    assert (record["kind"], record["role"], record["session"], record["study"]) == ("refusal", "stray", "somebody", "1.2.3")


def test_unsigned_requests_and_health_write_nothing(city: RunningCity) -> None:
    before = city.aws_requests().get("dynamodb:TransactWriteItems", 0)
    assert city.client(None).get("/health").status_code == 200
    assert city.client(None).get("/studies/1.2.3/manifest").status_code == 403
    assert city.client(None).get("/view/timeline").status_code in (401, 403, 404)
    assert city.aws_requests().get("dynamodb:TransactWriteItems", 0) == before


def test_no_log_holds_what_the_trail_holds(shared: Shared) -> None:
    shared.viewer.as_person("dr.rossi").get(f"/dicomweb/studies?PatientID={shared.number_there}")
    shared.owner.get(f"/patients/{shared.number}/accesses?format=pdf")
    for name in ("functions.log", "city.log"):
        text = (shared.city.state / "logs" / name).read_text()
        assert shared.number not in text
        assert shared.number_there not in text
        assert "dr.rossi" not in text
