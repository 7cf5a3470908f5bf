"""`/queue`: what the administrator decides on; and the numbers that registration proposes, on the page of transfers."""

from __future__ import annotations

import re
import socket
import tomllib
from contextlib import closing
from html import unescape
from pathlib import Path

import pytest
import requests
from pydicom import Dataset
from pynetdicom import AE

from forwarder.alerts import texts
from forwarder.spool.journal import connect
from forwarder.web.aside_page import SHOWN
from tests.forwarder.images import ct_slice
from tests.harness import hospital_day, wait_until
from tests.integration.door.doors import MAUGERI, MONDINO, SAN_MATTEO, Doors, Patient, Staff
from tests.sharing.images import image


def store(doors: Doors, institution: str, image: Dataset) -> None:
    forwarder = doors.endpoints(institution)
    host, port = forwarder["dicom"].split(":")
    pacs = AE(ae_title="PACS")
    pacs.add_requested_context(image.SOPClassUID, image.file_meta.TransferSyntaxUID)
    association = pacs.associate(host, int(port), ae_title=forwarder["aet"])
    assert association.is_established
    assert association.send_c_store(image).Status == 0x0000
    association.release()


@pytest.fixture
def conflict(doors: Doors, patient: Patient) -> str:
    """The Study Instance UID of an image that was put aside, since other pixels came under its UID before."""
    page = doors.endpoints(MONDINO)["page"]

    def conflicts() -> int:
        return int(requests.get(page + "/status.json", timeout=60).json()["aside"].get("conflict", 0))

    study, before = f"1.2.{patient.unique}", conflicts()
    for pixels in (b"\1", b"\2"):
        image = ct_slice(1, study=study)
        image.PixelData = pixels * len(image.PixelData)
        store(doors, MONDINO, image)
    wait_until(lambda: conflicts() > before)
    return study


def act(staff: Staff, act: str, **fields: str) -> requests.Response:
    token = re.search(r'name="token" value="([0-9a-f]+)"', staff.get("/queue").text)
    assert token
    return staff.post("/queue", data={"token": token[1], "act": act, **fields}, allow_redirects=False)


def test_what_was_put_aside_is_shown_with_what_to_do_tried_again_and_let_go_of(doors: Doors, conflict: str):
    staff = doors.staff(MONDINO, "luca", "admin")
    staff.headers["Accept-Language"] = "it"
    text = staff.get("/queue").text
    digest = re.search(r'name="digest" value="([0-9a-f]{64})"', text)
    assert digest and "Riprova" in text and "PROVA" not in text
    assert re.search(r'<a href="/waiting" data-text="staff">', staff.get("/").text)  # from the technical page back to these
    assert act(staff, "retry", digest=digest[1]).status_code == 303
    wait_until(lambda: digest[1] in staff.get("/queue").text)  # judged again, and put aside again
    assert act(staff, "discard", digest=digest[1]).status_code == 303
    assert digest[1] not in staff.get("/queue").text
    log = (Path(doors.city.state) / "logs" / f"forwarder-{MONDINO}.log").read_text()
    assert re.search(r'"the administrator acted".*"discard".*"luca"', log)


@pytest.mark.parametrize("fields", [{"digest": ""}, {"digest": "f" * 64}, {"digest": "../x"}, {"number": "x"}])
def test_a_form_that_names_nothing_of_it_does_nothing(doors: Doors, conflict: str, fields: dict[str, str]):
    staff = doors.staff(MONDINO, "luca", "admin")
    before = requests.get(staff.door + "/status.json", timeout=60).json()["aside"]
    for what in ("discard", "retry", "release", "drop", "nothing"):
        if not ("number" in fields and what in ("retry", "discard")):
            assert act(staff, what, **fields).status_code == 400, what
    assert requests.get(staff.door + "/status.json", timeout=60).json()["aside"] == before


def test_of_hundreds_that_wait_all_are_counted_and_each_is_reached(doors: Doors) -> None:
    """In a spool beside the city's: recalls and acts of ADT as its journal has them."""
    staff = doors.staff(MONDINO, "luca", "admin", "registry")
    staff.headers["Accept-Language"] = "en"
    site = tomllib.loads(Path(doors.endpoints(MONDINO)["config"]).read_text())
    waits = [(f"2.25.{place}", "maugeri", "withdrawn", 1e9 + place) for place in range(SHOWN + 1)]
    acts = [("opening", f"N{place}", 2e9 + place) for place in range(2 * SHOWN + 1)]

    def numbers(path: str) -> list[int]:
        return list(
            map(int, re.findall(r'value="release">\s*<input type="hidden" name="number" value="(\d+)"', staff.get(path).text))
        )

    with closing(connect(Path(site["spool"]["folder"]) / "journal.sqlite3")) as journal:
        try:
            journal.executemany("INSERT INTO deliver_recalls (study, owner, reason, since) VALUES (?, ?, ?, ?)", waits)
            journal.executemany(
                "INSERT INTO adt_acts (kind, number, visit, subject, cause, actor, content, state, reason, since)"
                " VALUES (?, ?, '', 'maugeri', '', 'HL7 ADT^A03', '{}', 'held', 'too-many', ?)",
                acts,
            )
            page = staff.get("/queue").text
            assert f"To recall from our PACS ({len(waits)})" in page
            assert f"waiting for a person ({len(acts)})" in page
            assert "Shown: 1 to 200 of 201." in page and page.count("Show the next ones") == 2
            shown = page.count("<td>2.25.") + staff.get("/queue?recalls=200").text.count("<td>2.25.")
            assert shown == len(waits)
            reached = [number for place in (0, 200, 400) for number in numbers(f"/queue?adt={place}")]
            assert len(reached) == len(set(reached)) == len(acts) and reached == sorted(reached)
            for place in ("401", "999999999", "-1", "x", "1e3"):
                assert staff.get(f"/queue?adt={place}").status_code == 200
        finally:
            journal.execute("DELETE FROM deliver_recalls WHERE study LIKE '2.25.%'")
            journal.execute("DELETE FROM adt_acts WHERE cause = '' AND subject = 'maugeri'")


@pytest.mark.parametrize("language", ["it", "en"])
def test_what_the_pacs_did_not_take_is_told_with_what_to_do(doors: Doors, language: str) -> None:
    staff = doors.staff(MONDINO, "luca", "admin")
    staff.headers["Accept-Language"] = language
    site = tomllib.loads(Path(doors.endpoints(MONDINO)["config"]).read_text())
    with closing(connect(Path(site["spool"]["folder"]) / "journal.sqlite3")) as journal:
        try:
            journal.executemany(
                "INSERT INTO deliver_instances (study, owner, sop_instance, sha256, state, reason, since)"
                " VALUES ('2.25.7', 'maugeri', ?, '', 'aside', ?, 0)",
                [("2.25.8", "pacs-status-a900"), ("2.25.9", "other-person")],
            )
            page = unescape(staff.get("/queue").text)
            words = texts(language)
            for kind in ("other-person", "pacs-status"):
                assert words[f"advice.deliver.{kind}"] in page
            assert f"{words['deliver.pacs-status']} A900: 1" in page
        finally:
            journal.execute("DELETE FROM deliver_instances WHERE study = '2.25.7'")


@pytest.mark.parametrize("roles", [(), ("registry", "radiology", "privacy")])
def test_it_takes_the_role(doors: Doors, roles: tuple[str, ...]):
    assert doors.staff(MONDINO, "luca", *roles).get("/queue").status_code == 403


def test_a_number_that_registration_proposes_is_accepted_with_one_click(doors: Doors, patient: Patient):
    patient.arrives()
    transfer = patient.transferred()
    doors.with_site(
        MAUGERI,
        '[hl7]\nallowed_addresses = ["127.0.0.1"]\npatient_authority = "MAUG"\n[hl7.adt]\nenabled = true\n',
    )
    came = f"{hospital_day()}000000"  # a number is proposed for who came within three days
    try:
        message = [
            f"MSH|^~\\&|ADT|MAUG|CONTENITORE||{came}||ADT^A04^ADT_A01|C1|P|2.5.1||||||UNICODE UTF-8",
            f"EVN|A04|{came}",
            f"PID|1||{patient.elsewhere}^^^MAUG^PI||Bianchi^Ada||19600315|F",
            "PV1|1|O",
        ]
        host, port = doors.endpoints(MAUGERI)["hl7"].split(":")
        with socket.create_connection((host, int(port)), timeout=60) as ris:
            ris.sendall(b"\x0b" + "\r".join(message).encode() + b"\x1c\r")
            assert b"MSA|AA|C1" in ris.recv(65536)
        staff = doors.staff(MAUGERI, "anna", "registry")
        staff.headers["Accept-Language"] = "it"

        def card() -> str:
            found = re.search(rf'<li class="card">(?:(?!</li>).)*{patient.number}.*?</li>', staff.get("/transfers").text, re.S)
            assert found
            return found[0]

        shown = wait_until(lambda: (text := card()) and "propone" in text and text)
        assert "stesso nome" in shown and "stessa data di nascita" in shown
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', shown[: shown.index("Accetta con questo numero")]))
        assert fields["number"] == patient.elsewhere
        assert staff.post("/transfers", data=fields, allow_redirects=False).status_code == 303
        assert "accepted_at" in doors.city.client(SAN_MATTEO).get(f"/transfers/{transfer}").json()
    finally:
        doors.put_back(MAUGERI)


def test_a_second_number_of_a_patient_is_linked_by_the_registry_office_and_by_nobody_else(doors: Doors, patient: Patient) -> None:
    second = f"{patient.number}-B"
    patient.arrives()
    doors.send(SAN_MATTEO, image(second, f"{patient.prior}.9", 1))

    def link(*roles: str) -> requests.Response:
        staff = doors.staff(SAN_MATTEO, "anna", *roles)
        token = re.search(r'name="token" value="([0-9a-f]+)"', staff.get("/patients").text)
        assert token
        found = staff.post("/patients", data={"token": token[1], "act": "find", "number": patient.number}, allow_redirects=False)
        return staff.post(found.headers["Location"], data={"token": token[1], "act": "add-link", "number": second},
                          allow_redirects=False)  # fmt: skip

    assert link("privacy").status_code == 403
    assert link("registry").status_code == 303
    links = doors.city.client(SAN_MATTEO).get(f"/patients/{patient.number}/links").json()["links"]
    assert [entry["identifier"]["id"] for entry in links if entry["status"] == "confirmed"] == [second]
