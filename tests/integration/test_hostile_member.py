"""Mondino, a member like any other, wants to see what Maugeri makes today of a patient that it never had."""

from __future__ import annotations

from chalicelib.domain.italian import CODICE_FISCALE
from tests.harness import RunningCity, hospital_day, is_linked, wait_until
from tests.sharing.codes import somebodys_code
from tests.sharing.images import image
from tests.sharing.test_in_the_city import Patient, found, sees
from tests.world import A, B, C


def test_a_member_that_names_a_code_or_guesses_numbers_reads_nothing_and_is_stopped(city: RunningCity) -> None:
    patient, code = Patient(city), somebodys_code("19480522", "M")
    number, today = patient.number[B], hospital_day()
    patient.send(B, image(number, patient.study(1), date=today, birth="19480522", sex="M", code=code, name="Neri^Ugo"))
    mondino, maugeri = city.client(C), city.client(B)
    wait_until(lambda: sees(maugeri, patient.study(1)))

    def opened(who: dict[str, str], **more: str) -> int:
        body = {"patient": who, "to": B, "reason": "curiosity", **more}
        return int(mondino.post("/transfers", json=body).status_code)

    assert opened({"id": code, "issuer": CODICE_FISCALE}) == 404, "a patient whom it never had"
    assert opened({"id": f"nobody{patient.unique}"}) == 404

    own = f"MO-{patient.unique}"
    said = {"birth_date": "1948-05-22", "sex": "M", "identifiers": [{"issuer": CODICE_FISCALE, "id": code}]}
    assert mondino.put(f"/patients/{own}", json=said).status_code == 200

    wait_until(lambda: is_linked(mondino, own))
    since = maugeri.get("/changes").json()["next"]
    for who in ({"id": own}, {"id": code, "issuer": CODICE_FISCALE}):
        assert opened(who, receiving_patient_id=number) == 201
    guesses = [opened({"id": own}, receiving_patient_id=f"{guess}") for guess in range(60)]
    assert 429 in guesses
    assert set(guesses) == {201, 429}
    refused = mondino.post("/transfers", json={"patient": {"id": own}, "to": B, "reason": "x", "receiving_patient_id": "1"})
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:contenitore:problem:too-many")
    assert int(refused.headers["Retry-After"]) > 0

    def told() -> list[str]:
        changes = maugeri.get("/changes", params={"since": since, "limit": "1000"}).json()["changes"]
        return [change["kind"] for change in changes if change.get("from") == C]

    wait_until(lambda: len([kind for kind in told() if kind == "transfer-opened"]) == guesses.count(201) + 2)
    assert told().count("link-proposed") <= 1, "once an hour and sender"
    assert not sees(mondino, patient.study(1))
    assert found(mondino, StudyInstanceUID=patient.study(1)) == set()
    timeline = mondino.get(f"/patients/{own}/timeline").json()
    assert timeline["studies"] == []
    assert number not in str(timeline["patient"]["identifiers"])
    assert A not in str(timeline)
    assert number not in {link["identifier"]["id"] for link in mondino.get(f"/patients/{own}/links").json()["links"]}
    trail = maugeri.get("/audit", params={"patient": number}).json()
    assert "transfer-opened" in str(trail), "the hospital whose number was guessed finds it in its audit"
