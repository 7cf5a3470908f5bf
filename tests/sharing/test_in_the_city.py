"""Sharing in the real local city: signed requests, the emulated cloud, its queue and its stream."""

from __future__ import annotations

import hashlib
import uuid

import pytest
import requests

from tests.harness import Client, RunningCity, wait_until
from tests.sharing.codes import fiscal_code, omocode
from tests.sharing.images import image, rejection_note
from tests.world import A, B, C


class Patient:
    """A patient of this test alone, and what its hospitals send."""

    def __init__(self, city: RunningCity) -> None:
        self.city = city
        self.unique = uuid.uuid4().int % 10**12
        self.number = {name: f"{name[:2].upper()}{self.unique}" for name in (A, B, C)}

    def study(self, number: int) -> str:
        return f"1.2.{self.unique}.{number}"

    def send(self, who: str, *contents: bytes) -> None:
        client = self.city.client(who)
        hashes = [hashlib.sha256(content).hexdigest() for content in contents]
        offers = [{"sha256": sha, "size": len(content)} for sha, content in zip(hashes, contents, strict=True)]
        answer = client.post("/uploads", json={"instances": offers}).json()["instances"]
        for offer, content in zip(answer, contents, strict=True):
            put = requests.put(offer["upload"]["url"], data=content, headers=offer["upload"]["headers"], timeout=60)
            assert put.status_code == 200

        def indexed() -> bool:
            states = client.post("/uploads/status", json={"sha256": hashes}).json()["instances"]
            return all(state["state"] == "indexed" for state in states)

        wait_until(indexed)


def found(client: Client, **query: str) -> set[str]:
    answer = client.get("/dicomweb/studies", params=query)
    assert answer.status_code == 200
    return {result["0020000D"]["Value"][0] for result in answer.json()}


def sees(client: Client, study: str) -> bool:
    return bool(client.get(f"/studies/{study}/manifest").status_code == 200)


@pytest.fixture
def patient(city: RunningCity) -> Patient:
    return Patient(city)


def test_both_hospitals_see_one_patient_until_the_transfer_ends(city: RunningCity, patient: Patient) -> None:
    prior, follow_up = patient.study(1), patient.study(2)
    patient.send(A, image(patient.number[A], prior))
    patient.send(B, image(patient.number[B], follow_up, date="20991231"))
    sender, receiver, stranger = (city.client(name) for name in (A, B, C))
    wait_until(lambda: sees(sender, prior) and sees(receiver, follow_up))  # an arrival is a view, a transfer decides at once
    body = {"patient": {"id": patient.number[A]}, "to": B, "reason": "rehabilitation"}
    transfer = sender.post("/transfers", json=body).json()["id"]
    assert sees(receiver, prior), "at once"
    named = receiver.put(f"/transfers/{transfer}/receiving-patient", json={"id": patient.number[B]})
    assert named.status_code == 200
    wait_until(lambda: found(receiver, PatientID=patient.number[B]) == {prior, follow_up})
    wait_until(lambda: found(sender, PatientID=patient.number[A]) == {prior, follow_up})
    assert found(stranger, PatientID=patient.number[A]) == set()
    assert receiver.delete(f"/transfers/{transfer}").json()["status"] == "revoked"
    assert not sees(receiver, prior)
    assert not sees(sender, follow_up)
    assert found(receiver, PatientID=patient.number[B]) == {follow_up}


def test_a_rejection_note_an_objection_and_an_emergency_hold_at_once(city: RunningCity, patient: Patient) -> None:
    kept, rejected, hidden = (patient.study(number) for number in (1, 2, 3))
    patient.send(A, *(image(patient.number[A], study) for study in (kept, rejected, hidden)))
    issuer = next(
        institution["patient_id_issuer"]
        for institution in city.client("operator").get("/institutions").json()["institutions"]
        if institution["id"] == A
    )
    wait_until(lambda: len(found(city.client(A), PatientID=patient.number[A])) == 3)
    doctor = city.client(C).as_person("verdi")
    since = city.client(A).get("/changes").json()["next"]
    assert city.client(A).get("/changes?since=0").json() == city.client(A).get("/changes?since=").json()
    who = {"id": patient.number[A], "issuer": issuer}
    declared = doctor.post("/emergency-access", json={"patient": who, "reason": "unconscious, trauma", "practitioner": "verdi"})
    assert declared.status_code == 201
    assert all(sees(doctor, study) for study in (kept, rejected, hidden))
    patient.send(A, rejection_note(patient.number[A], rejected, {rejected: [f"{rejected}.1.1"]}))
    assert not sees(doctor, rejected)
    body = {"study_instance_uid": hidden}
    assert city.client(A).post(f"/patients/{patient.number[A]}/objections", json=body).status_code == 201
    assert not sees(doctor, hidden)
    assert sees(city.client(A), hidden)
    wait_until(lambda: found(doctor, PatientID=patient.number[A]) == {kept})

    def told() -> bool:
        changes = city.client(A).get("/changes", params={"since": since, "limit": "1000"}).json()["changes"]
        return {"emergency-access", "study-withdrawn"} <= {change["kind"] for change in changes}

    wait_until(told)
    waiting = city.client(A).get("/emergency-access").json()["reviews"]
    assert declared.json()["id"] in {emergency["id"] for emergency in waiting}


def test_a_codice_fiscale_joins_two_hospitals_numbers_by_itself(city: RunningCity, patient: Patient) -> None:
    code, prior, new = fiscal_code("19600315", "F"), patient.study(1), patient.study(2)
    patient.send(A, image(patient.number[A], prior, code=code))
    patient.send(B, image(patient.number[B], new, code=omocode(code)))
    sender, receiver = city.client(A), city.client(B)
    sender.post("/transfers", json={"patient": {"id": patient.number[A]}, "to": B, "reason": "rehabilitation"})
    wait_until(lambda: found(receiver, PatientID=patient.number[B]) == {prior, new})
    links = receiver.get(f"/patients/{patient.number[B]}/links").json()["links"]
    confirmed = [link for link in links if link["status"] == "confirmed"]
    assert {known["kind"] for known in confirmed} == {"codice-fiscale", "hospital"}
    assert {known["basis"] for known in confirmed} == {"codice-fiscale"}
    (link,) = [link for link in links if link["identifier"]["id"] == patient.number[A]]
    assert receiver.delete(f"/patients/{patient.number[B]}/links/{link['link']}").status_code == 200
    assert found(receiver, PatientID=patient.number[B]) == {new}
    assert found(receiver, PatientID=patient.number[A]) == {prior}
