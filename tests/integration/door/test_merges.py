"""A merge takes effect whomever it is of; where a person has to look at it, that waits where the registry office sees it."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest

from tests.harness import wait_until
from tests.integration.door.doors import MAUGERI, SAN_MATTEO, Doors, Patient, Staff
from tests.sharing.images import image

SITE = '[hl7]\nallowed_addresses = ["127.0.0.1"]\npatient_authority = "SM"\n[hl7.adt]\nenabled = true\n'
PILE = "Numeri uniti da guardare"
ANOTHER, PROPOSED = "nominato anche qualcun altro", "sono proposti per quello che resta"
OBJECTED, HINT = "opposizione a tutti gli esami", "la registri anche qui"


@pytest.fixture
def registration(doors: Doors) -> Iterator[Doors]:
    """San Matteo's registration tells its forwarder by ADT."""
    doors.with_site(SAN_MATTEO, SITE)
    yield doors
    doors.put_back(SAN_MATTEO)


def tell(doors: Doors, trigger: str, number: str, other: str, at: str) -> None:
    second = f"PID|2||{other}^^^SM^PI" if trigger == "A37" else f"MRG|{other}^^^SM^PI"
    lines = [
        f"MSH|^~\\&|ADT|SM|CONTENITORE||{at}||ADT^{trigger}|{trigger}-{number}|P|2.5.1||||||UNICODE UTF-8",
        f"EVN|{trigger}|{at}",
        f"PID|1||{number}^^^SM^PI||Bianchi^Ada||19600315|F",
        second,
    ]
    host, port = doors.endpoints(SAN_MATTEO)["hl7"].split(":")
    with socket.create_connection((host, int(port)), timeout=60) as ris:
        ris.sendall(b"\x0b" + "\r".join(lines).encode() + b"\x1c\r")
        assert b"MSA|AA" in ris.recv(65536)


def joined(doors: Doors, number: str) -> list[str]:
    found = doors.city.client(SAN_MATTEO).get(f"/patients/{number}/links")
    links = found.json()["links"] if found.ok else []
    return [link["identifier"]["id"] for link in links if link["status"] == "confirmed"]


def clerk(doors: Doors, *roles: str) -> Staff:
    staff = doors.staff(SAN_MATTEO, "anna", *roles)
    staff.headers["Accept-Language"] = "it"
    return staff


def card(staff: Staff, number: str) -> str:
    """What waits of the merges of a number; empty for nothing."""
    cards = re.findall(r'<li class="card">.*?</li>', staff.get("/patients").text, re.S)
    return next((found for found in cards if f">{number}</a>" in found), "")


def token(staff: Staff) -> str:
    found = re.search(r'name="token" value="([0-9a-f]+)"', staff.get("/patients").text)
    assert found
    return found[1]


def test_a_merge_of_two_persons_takes_effect_and_waits_for_the_registry_office(registration: Doors, patient: Patient):
    number, other = patient.number, f"{patient.number}-0"
    patient.arrives()
    registration.send(SAN_MATTEO, image(other, f"{patient.prior}.8", name="Verdi^Ugo", birth="19410523"))
    tell(registration, "A40", number, other, "20261130120000")
    wait_until(lambda: joined(registration, number) == [other])
    staff = clerk(registration, "registry")
    shown = wait_until(lambda: card(staff, number))
    assert ANOTHER in shown and PROPOSED not in shown and other in shown
    waiting = staff.get("/waiting").text
    assert PILE in waiting and 'href="/patients#merges"' in waiting and number not in waiting
    assert PILE not in clerk(registration, "privacy").get("/waiting").text
    assert number not in clerk(registration, "privacy").get("/patients").text

    address = re.search(r'<a href="(/patients/[^"]+)"', shown)
    assert address and number not in address[1]
    assert "Verdi Ugo" in staff.get(address[1]).text, "the exam says whose it is"
    assert card(staff, number), "having opened the page is not having looked"

    form = {"act": "merge-seen", "number": number, "other": other}
    refused = clerk(registration, "privacy")
    assert refused.post("/patients", data=form | {"token": token(refused)}).status_code == 403
    told = staff.post("/patients", data=form | {"token": token(staff)})
    assert "non attende più" in told.text and not card(staff, number)
    assert joined(registration, number) == [other]


def test_a_merge_that_is_undone_waits_no_more(registration: Doors, patient: Patient):
    number, other = patient.number, f"{patient.number}-0"
    patient.arrives()
    registration.send(SAN_MATTEO, image(other, f"{patient.prior}.8", name="Verdi^Ugo", birth="19410523"))
    staff = clerk(registration, "registry")
    tell(registration, "A40", number, other, "20261130120000")
    wait_until(lambda: card(staff, number))
    tell(registration, "A37", number, other, "20261130120100")
    wait_until(lambda: not card(staff, number))
    assert joined(registration, number) == []
    tell(registration, "A40", number, other, "20261130120200")
    shown = wait_until(lambda: card(staff, number))
    link = registration.city.client(SAN_MATTEO).get(f"/patients/{number}/links").json()["links"][0]["link"]
    address = re.search(r'<a href="(/patients/[^"]+)"', shown)
    assert address
    assert staff.post(address[1], data={"act": "undo-link", "link": link, "token": token(staff)}).ok
    assert not card(staff, number), "a person undid it"


def test_what_was_linked_to_the_number_given_up_waits_to_be_confirmed_for_the_one_that_stays(
    registration: Doors, patient: Patient
):
    number, other = patient.number, f"{patient.number}-0"
    patient.arrives()
    registration.send(SAN_MATTEO, image(other, f"{patient.prior}.8"))
    sent = registration.city.client(SAN_MATTEO).post("/transfers", json={"patient": {"id": other}, "to": MAUGERI, "reason": "r"})
    accepted = f"/transfers/{sent.json()['id']}/receiving-patient"
    assert registration.city.client(MAUGERI).put(accepted, json={"id": patient.elsewhere}).ok
    tell(registration, "A40", number, other, "20261130120000")
    staff = clerk(registration, "registry")
    shown = wait_until(lambda: card(staff, number))
    assert PROPOSED in shown and ANOTHER not in shown
    address = re.search(r'<a href="(/patients/[^"]+)"', shown)
    assert address
    page = staff.get(address[1]).text
    form = re.search(r'value="confirm-link"><input type="hidden" name="link" value="([0-9a-f]+)"', page)
    assert form and PILE in staff.get("/waiting").text
    assert staff.post(address[1], data={"act": "confirm-link", "link": form[1], "token": token(staff)}).ok
    assert not card(staff, number)
    assert patient.elsewhere in joined(registration, number)


def test_an_objection_under_the_number_given_up_is_to_be_recorded_for_the_one_that_stays(registration: Doors, patient: Patient):
    """Links are not followed further: of a third number it would hide nothing, and the page does not say that it does."""
    number, other, third = patient.number, f"{patient.number}-0", f"{patient.number}-1"
    client = registration.city.client(SAN_MATTEO)
    patient.arrives()
    for place, given_up in ((8, other), (9, third)):
        registration.send(SAN_MATTEO, image(given_up, f"{patient.prior}.{place}"))
    assert client.post(f"/patients/{other}/objections", json={}).status_code == 201
    assert client.post(f"/patients/{third}/protections", json={"study_instance_uid": f"{patient.prior}.9"}).status_code == 201
    tell(registration, "A40", number, third, "20261130120000")
    wait_until(lambda: joined(registration, number) == [third])
    tell(registration, "A40", number, other, "20261130120100")
    staff = clerk(registration, "registry", "privacy")
    shown = wait_until(lambda: card(staff, number))
    assert OBJECTED in shown and other in shown and third not in shown
    assert OBJECTED not in card(staff, other)
    patient.transferred()
    assert client.post(f"/patients/{other}/objections", json={}).status_code == 201
    address = re.search(r'<a href="(/patients/[^"]+)"', shown)
    assert address
    assert HINT in staff.get(address[1]).text
    assert staff.post(address[1], data={"act": "object", "study": "", "token": token(staff)}).ok
    assert HINT not in staff.get(address[1]).text


def test_a_merge_of_one_person_waits_for_nobody(registration: Doors, patient: Patient):
    number, other = patient.number, f"{patient.number}-0"
    patient.arrives()
    registration.send(SAN_MATTEO, image(other, f"{patient.prior}.8", name="Bianchi^Ada Maria", birth="19600315"))
    tell(registration, "A40", number, other, "20261130120000")
    wait_until(lambda: joined(registration, number) == [other])
    wait_until(lambda: registration.staff(SAN_MATTEO).get("/status.json").json()["adt"]["waiting"] == 0)
    assert not card(clerk(registration, "registry"), number)
