"""From RIS and PACS to the reading page: RAD-106 as its clients write it, `/open`, and the request that a RIS signed."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
import requests

from forwarder.errors import ConfigError
from forwarder.web.invoke_image_display import SignedRequests
from tests.harness import wait_until
from tests.integration.door.doors import MAUGERI, MONDINO, SAN_MATTEO, Doors, Patient, Staff
from tests.sharing.images import image

IID, OPEN = "/IHEInvokeImageDisplay", "/open"


@pytest.fixture(scope="module")
def shared(doors: Doors) -> Patient:
    """A prior of 2026 at San Matteo, a follow-up of 2099 at Maugeri, where the patient is accepted."""
    patient = Patient(doors)
    patient.arrives()
    doors.send(MAUGERI, image(patient.elsewhere, f"{patient.prior}.3", date="20250601", accession=f"ACC{patient.unique}"))
    body = {"id": patient.elsewhere}
    accepted = doors.city.client(MAUGERI).put(f"/transfers/{patient.transferred()}/receiving-patient", json=body)
    assert accepted.status_code == 200
    timeline = f"/patients/{patient.elsewhere}/timeline"
    client = doors.city.client(MAUGERI)
    wait_until(lambda: len(client.get(timeline).json()["studies"]) == 3)  # what is found by a number is a view
    return patient


@pytest.fixture
def radiologist(doors: Doors) -> Staff:
    return doors.staff(MAUGERI, "m.rossi", "radiology")


def issuer(doors: Doors, institution: str) -> str:
    listed = doors.city.client(institution).get("/institutions").json()["institutions"]
    return str(next(hospital["patient_id_issuer"] for hospital in listed if hospital["id"] == institution))


def reading(doors: Doors, answer: requests.Response) -> dict[str, Any]:
    """The reading session that the address in a 303 opens: its timeline and the exam it begins with."""
    assert answer.status_code == 303, answer.text
    url = answer.headers["Location"]
    assert url.startswith(doors.city.endpoints["viewer"] + "/")
    opened = requests.post(
        doors.city.api + "/view/session", json={"token": urlsplit(url).fragment, "browser": "b" * 43}, timeout=60
    )
    assert opened.status_code == 201, opened.text
    found: dict[str, Any] = opened.json()
    return found


def studies(session: dict[str, Any]) -> set[str]:
    return {study["study_instance_uid"] for study in session["timeline"]["studies"]}


class TestPatientRequests:
    def test_a_number_of_ours_opens_what_both_hospitals_have(self, doors: Doors, shared: Patient, radiologist: Staff):
        answer = radiologist.get(IID, params={"requestType": "PATIENT", "patientID": shared.elsewhere}, allow_redirects=False)
        assert studies(reading(doors, answer)) == {shared.prior, shared.follow_up, f"{shared.prior}.3"}
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "m.rossi" in doors.audit(MAUGERI, shared.elsewhere)

    @pytest.mark.parametrize("form", ["{0}^^^&{1}&ISO", "{0}^^^MAUGERI&{1}&ISO", "{0}^^^{1}", "{0}", "{0}^^^&{2}&ISO"])
    def test_identifiers_as_ris_write_them(self, doors: Doors, shared: Patient, radiologist: Staff, form: str):
        of = shared.number if "{2}" in form else shared.elsewhere
        cx = form.format(of, issuer(doors, MAUGERI), issuer(doors, SAN_MATTEO))
        answer = radiologist.get(IID, params={"requestType": "PATIENT", "patientID": cx}, allow_redirects=False)
        assert shared.prior in studies(reading(doors, answer))

    @pytest.mark.parametrize(
        ("narrowed", "wanted"),
        [
            ({"mostRecentResults": "1"}, {"follow"}),
            ({"mostRecentResults": "2"}, {"follow", "prior"}),
            ({"lowerDateTime": "20260101T000000", "upperDateTime": "20261231"}, {"prior"}),
            ({"upperDateTime": "20251231"}, {"own"}),
            ({"lowerDateTime": "2026-01-01T00:00:00Z"}, {"prior", "follow"}),
            ({"modalitiesInStudy": "CT,MR"}, {"prior", "follow", "own"}),
            ({"modalitiesInStudy": "MR;CT", "mostRecentResults": "1"}, {"follow"}),
            ({"patientBirthDate": "19600315"}, {"prior", "follow", "own"}),
        ],
    )
    def test_it_is_narrowed_as_the_profile_says(self, doors: Doors, shared: Patient, radiologist: Staff, narrowed, wanted):
        names = {"prior": shared.prior, "follow": shared.follow_up, "own": f"{shared.prior}.3"}
        query = {"requestType": "PATIENT", "patientID": shared.elsewhere, "viewerType": "IHE_BIR"} | narrowed
        assert studies(reading(doors, radiologist.get(IID, params=query, allow_redirects=False))) == {
            names[exam] for exam in wanted
        }


class TestStudyRequests:
    def test_one_study_opens_its_patient_with_it_in_front(self, doors: Doors, shared: Patient, radiologist: Staff):
        query = {"requestType": "STUDY", "studyUID": shared.prior, "diagnosticQuality": "true"}
        session = reading(doors, radiologist.get(IID, params=query, allow_redirects=False))
        assert shared.follow_up in studies(session)
        assert session["current"]["study_instance_uid"] == shared.prior

    @pytest.mark.parametrize("separator", [",", ";", "\\"])
    def test_a_list_as_clients_separate_it(self, doors: Doors, shared: Patient, radiologist: Staff, separator: str):
        query = {"requestType": "STUDY", "studyUID": separator.join((shared.prior, shared.follow_up))}
        session = reading(doors, radiologist.get(IID, params=query, allow_redirects=False))
        assert studies(session) == {shared.prior, shared.follow_up}

    def test_an_accession_number_is_ones_own_only(self, doors: Doors, shared: Patient, radiologist: Staff):
        query = {"requestType": "STUDY", "accessionNumber": f"ACC{shared.unique}"}
        session = reading(doors, radiologist.get(IID, params=query, allow_redirects=False))
        assert session["current"]["study_instance_uid"] == f"{shared.prior}.3"
        other = doors.staff(SAN_MATTEO, "m.rossi", "radiology").get(IID, params=query, allow_redirects=False)
        assert other.status_code == 404

    def test_exams_of_two_patients_are_not_put_beside_each_other(self, doors: Doors, shared: Patient, radiologist: Staff):
        doors.send(MAUGERI, image(f"OTHER{shared.unique}", f"{shared.prior}.4"))
        query = {"requestType": "STUDY", "studyUID": f"{shared.follow_up},{shared.prior}.4"}
        assert radiologist.get(IID, params=query, allow_redirects=False).status_code == 400


class TestRefusals:
    @pytest.mark.parametrize(
        ("query", "status"),
        [
            ({}, 400), ({"requestType": "SERIES"}, 400), ({"requestType": "PATIENT"}, 400), ({"requestType": "STUDY"}, 400),
            ({"requestType": "PATIENT", "patientID": "NOBODY-1"}, 404), ({"requestType": "STUDY", "studyUID": "1.2.3.4.5"}, 404),
            ({"requestType": "STUDY", "studyUID": "*"}, 400), ({"requestType": "STUDY", "accessionNumber": "*"}, 400),
            ({"requestType": "STUDY", "studyUID": ",".join(f"1.2.{n}" for n in range(60))}, 400),
            ({"requestType": "PATIENT", "patientID": "1^^^UNKNOWN"}, 404), ({"requestType": "PATIENT", "patientID": "1\n2"}, 400),
            ({"requestType": "PATIENT", "patientID": "{own}", "mostRecentResults": "-1"}, 400),
            ({"requestType": "PATIENT", "patientID": "{own}", "lowerDateTime": "yesterday"}, 400),
            ({"requestType": "PATIENT", "patientID": "{own}", "patientBirthDate": "19991231"}, 404),
            ({"requestType": "PATIENT", "patientID": "{own}", "modalitiesInStudy": "US"}, 404),
        ],
    )  # fmt: skip
    def test_what_cannot_be_shown_is_said_on_a_page(self, shared: Patient, radiologist: Staff, query, status):
        filled = {name: value.format(own=shared.elsewhere) if "{" in value else value for name, value in query.items()}
        answer = radiologist.get(IID, params=filled, allow_redirects=False)
        assert answer.status_code == status, answer.text
        assert answer.headers["Content-Type"].startswith("text/html")
        assert shared.elsewhere not in answer.text

    def test_a_third_hospital_is_told_what_an_absent_one_is(self, doors: Doors, shared: Patient):
        stranger = doors.staff(MONDINO, "m.rossi", "radiology")
        asked = [
            {"requestType": "STUDY", "studyUID": shared.prior}, {"requestType": "STUDY", "studyUID": "1.2.3.4.5"},
            {"requestType": "PATIENT", "patientID": f"{shared.number}^^^&{issuer(doors, SAN_MATTEO)}&ISO"},
        ]  # fmt: skip
        answers = [stranger.get(IID, params=params, allow_redirects=False) for params in asked]
        assert {answer.status_code for answer in answers} == {404}
        assert len({answer.text for answer in answers}) == 1

    @pytest.mark.parametrize(("name", "roles", "status"), [(None, (), 401), ("m.rossi", ("registry",), 403)])
    def test_it_takes_a_person_with_the_role(self, doors: Doors, shared: Patient, name, roles, status):
        answer = doors.staff(MAUGERI, name, *roles).get(OPEN, params={"patient": shared.elsewhere}, allow_redirects=False)
        assert answer.status_code == status


class TestOpen:
    def test_a_button_opens_a_patient_a_study_or_both(self, doors: Doors, shared: Patient, radiologist: Staff):
        for query in ({"patient": shared.elsewhere, "study": shared.prior}, {"study": shared.prior}):
            session = reading(doors, radiologist.get(OPEN, params=query, allow_redirects=False))
            assert session["current"]["study_instance_uid"] == shared.prior
        answer = radiologist.get(OPEN, params={"patient": shared.elsewhere}, allow_redirects=False)
        assert shared.prior in studies(reading(doors, answer))
        assert radiologist.get(OPEN, allow_redirects=False).status_code == 400
        wrong = {"patient": shared.elsewhere, "study": "1.2.3.4"}
        assert radiologist.get(OPEN, params=wrong, allow_redirects=False).status_code == 404
        number = {"patient": shared.elsewhere}
        for embedded, status in (("image", 400), ("script", 400), ("document", 303)):  # another site's picture is no reading
            headers = {"Sec-Fetch-Dest": embedded}
            assert radiologist.get(OPEN, params=number, headers=headers, allow_redirects=False).status_code == status


SECRET = b"a secret that the RIS has too"


def test_a_secret_has_16_characters_at_least(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"x" * 16 + b"\n")
    assert SignedRequests(str(secret))
    secret.write_bytes(b"x" * 15 + b"\n")
    with pytest.raises(ConfigError, match="at least 16"):
        SignedRequests(str(secret))


@pytest.fixture(scope="module")
def signing(doors: Doors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The door of a hospital whose RIS signs."""
    secret = Path(tmp_path_factory.mktemp("ris") / "secret")
    secret.write_bytes(SECRET + b"\n")
    doors.with_site(SAN_MATTEO, f'[web]\nris_secret_file = "{secret}"\n')
    yield doors.endpoints(SAN_MATTEO)["page"]
    doors.put_back(SAN_MATTEO)


class TestSigned:
    def signed(self, path: str, expires: float, secret: bytes = SECRET, **query: str) -> str:
        text = urlencode(query | {"user": "dr.bianchi", "expires": str(int(expires))}, quote_via=quote)
        return f"{path}?{text}&signature=" + hmac.new(secret, f"{path}?{text}".encode(), hashlib.sha256).hexdigest()

    def ask(self, door: str, path: str) -> requests.Response:
        return requests.get(door + path, allow_redirects=False, timeout=60)

    def test_what_the_ris_signed_opens_once_for_whom_it_names(self, doors: Doors, shared: Patient, signing: str):
        path = self.signed(OPEN, time.time() + 60, patient=shared.number)
        assert shared.prior in studies(reading(doors, self.ask(signing, path)))
        assert "dr.bianchi" in doors.audit(SAN_MATTEO, shared.number)
        assert self.ask(signing, path).status_code == 403, "again"

    def test_nothing_else_of_it_opens_anything(self, shared: Patient, signing: str):
        now = time.time()
        good = self.signed(OPEN, now + 290, patient=shared.number)  # another one than before, whatever second it is
        wrong = [
            good.replace(shared.number, "SM-OTHER"), good.replace("dr.bianchi", "root"), good.replace("/open", IID), good[:-1],
            good + "&patient=OTHER", good.replace("&signature=", "&signature=&signature="), good.partition("&signature")[0],
            self.signed(OPEN, now - 1, patient=shared.number), self.signed(OPEN, now + 320, patient=shared.number),
            self.signed(OPEN, now + 60, b"another secret that nobody has", patient=shared.number),
        ]  # fmt: skip
        assert {self.ask(signing, address).status_code for address in wrong} <= {401, 403}
        assert self.ask(signing, good).status_code == 303

    def test_it_opens_images_and_no_other_page(self, signing: str):
        assert self.ask(signing, self.signed("/transfers", time.time() + 60)).status_code in (401, 403)
