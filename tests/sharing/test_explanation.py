"""An owner is told who sees its own studies and why; what it is told is what holds."""

from __future__ import annotations

from datetime import timedelta

import pytest

from chalicelib.domain.rfc3339 import iso
from tests.sharing.api import Api
from tests.sharing.images import image
from tests.world import A, B, C

OLD, NEW = "1.2.1", "1.2.2"
ROUTE = "/patients/{patient}/sharing"


@pytest.fixture
def patient(api: Api) -> Api:
    """San Matteo has two studies of its patient P1."""
    for study, date in ((OLD, "20260101"), (NEW, "20260201")):
        api.world.send(A, image("P1", study, date=date))
    api.world.settle()
    return api


def told(api: Api, to: str, **query: str) -> dict[str, dict]:
    answer = api.call(A, "GET", ROUTE, [("to", to), *query.items()], patient="P1")
    assert answer.status == 200, answer.body
    found = {row["study_instance_uid"]: row for row in answer.json["studies"]}
    for study, explained in found.items():
        seen = api.call(to, "GET", "/studies/{study}/manifest", study=study).status == 200
        assert explained["sees"] == seen, "what is told is what holds"
    return found


def act(api: Api, route: str, **body: object) -> str:
    answer = api.call(A, "POST", route, body=body, patient="P1")
    assert answer.status == 201, answer.body
    return str(answer.json.get("id", ""))


def test_each_rule_is_named_with_what_it_rests_on(patient: Api) -> None:
    assert {study["rule"] for study in told(patient, B).values()} == {"nothing"}
    transfer = act(patient, "/transfers", patient={"id": "P1"}, to=B, reason="r")
    opened = told(patient, B)[OLD]
    assert (opened["rule"], opened["transfers"], opened["sees"]) == ("transfer", [transfer], True)
    assert opened["since"] < opened["until"]
    objection = act(patient, "/patients/{patient}/objections", study_instance_uid=OLD)
    act(patient, "/patients/{patient}/protections", study_instance_uid=NEW)
    assert {study: explained["rule"] for study, explained in told(patient, B).items()} == {OLD: "objection", NEW: "protection"}
    consent = act(patient, "/patients/{patient}/consents", study_instance_uid=NEW, to=B)
    assert {study: explained["rule"] for study, explained in told(patient, B).items()} == {OLD: "objection", NEW: "transfer"}
    everything = patient.call(A, "GET", ROUTE, patient="P1").json
    assert [(row["id"], row["study_instance_uid"]) for row in everything["objections"]] == [(objection, OLD)]
    assert [row["study_instance_uid"] for row in everything["protections"]] == [NEW]
    assert [(row["id"], row["to"]) for row in everything["consents"]] == [(consent, B)]
    assert (
        patient.call(A, "DELETE", "/patients/{patient}/objections/{objection}", patient="P1", objection=objection).status == 200
    )
    assert patient.call(A, "GET", ROUTE, patient="P1").json["objections"] == []
    assert told(patient, B)[OLD]["rule"] == "transfer"


def test_an_emergency_and_a_withdrawal_are_named_too(patient: Api) -> None:
    oid = patient.world.member(A).patient_id_issuer
    body = {"patient": {"id": "P1", "issuer": oid}, "reason": "coma", "practitioner": {"id": "d", "name": "D"}}
    declared = patient.call(C, "POST", "/emergency-access", body=body).json["id"]
    assert {(study["rule"], *study["emergencies"]) for study in told(patient, C).values()} == {("emergency", declared)}
    assert patient.call(A, "POST", "/studies/{study}/withdrawals", body={"reason": "wrong"}, study=OLD).status == 201
    assert told(patient, C)[OLD]["rule"] == "withdrawn"


def test_what_would_be_seen_is_what_is_seen_once_it_is_opened(patient: Api) -> None:
    act(patient, "/patients/{patient}/objections", study_instance_uid=OLD)
    until = iso(patient.world.now + timedelta(days=3))
    supposed = {study: explained["if_opened"]["sees"] for study, explained in told(patient, B, until=until).items()}
    assert supposed == {OLD: False, NEW: True}
    assert not any(study["sees"] for study in told(patient, B).values()), "nothing was opened by asking"
    act(patient, "/transfers", patient={"id": "P1"}, to=B, reason="r", expires_at=until)
    assert {study: explained["sees"] for study, explained in told(patient, B).items()} == supposed


@pytest.mark.parametrize(
    ("query", "status"),
    [({"to": A}, 400), ({"to": "nobody"}, 400), ({"until": "2030-01-01T00:00:00Z"}, 400), ({"to": B, "until": "soon"}, 400)],
)
def test_what_cannot_be_asked_is_named(patient: Api, query: dict[str, str], status: int) -> None:
    assert patient.call(A, "GET", ROUTE, list(query.items()), patient="P1").status == status


def test_nobody_is_told_of_another_hospitals_patient(patient: Api) -> None:
    act(patient, "/transfers", patient={"id": "P1"}, to=B, reason="r")
    answers = [patient.call(B, "GET", ROUTE, [("to", C)], patient=number) for number in ("P1", "NOBODY")]
    assert [answer.status for answer in answers] == [404, 404]
    assert next({**answer.json, "request_id": ""} for answer in answers) == {**answers[1].json, "request_id": ""}
