"""A correction reaches who has read what was wrong: in the hospital's feed, at the next visit; the owner sees who took note."""

from __future__ import annotations

import json
from typing import Any

import requests

from tests.browser import hospital
from tests.browser.hospital import Patient
from tests.harness import RunningCity, wait_until
from tests.integration.view.test_reading_session import Browser


class Story:
    """An exam of San Matteo with a report, which Maugeri may see, since the patient was transferred."""

    def __init__(self, city: RunningCity) -> None:
        self.city, self.patient = city, Patient()
        image = hospital.image(self.patient, "san-matteo", date="20260301")
        self.uid = str(image.StudyInstanceUID)
        hospital.send(city.client("san-matteo"), image)
        hospital.wait_for_studies(city, self.patient, 1, "san-matteo")
        self.transfer = hospital.transfer(city, self.patient)
        self.first = self.report("Addensamento basale destro.")
        self.since = city.client("maugeri").get("/changes", params={"since": "now"}).json()["next"]

    def report(self, text: str, **query: str) -> str:
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        address = f"/studies/{self.uid}/reports"
        answer = self.city.client("san-matteo").post(address, params=query, data=text.encode(), headers=headers)
        assert answer.status_code == 201, answer.text
        made = str(answer.json()["sop_instance_uid"])
        self.stands(made)
        return made

    def stands(self, sop: str) -> None:
        """Once a report stands in the archive's view."""
        listed = f"/studies/{self.uid}/reports"
        client = self.city.client("san-matteo")
        wait_until(
            lambda: any(report["sop_instance_uid"] == sop and report["newest"] for report in client.get(listed).json()["reports"])
        )

    def visit(self, who: str = "rossi") -> Browser:
        person = {"id": who, "name": f"Dr. {who.title()}"}
        made = hospital.link(self.city, patient={"id": self.patient.at["maugeri"]}, practitioner=person)
        return Browser(self.city, made["url"])

    def read(self, who: str = "rossi") -> Browser:
        """Somebody of Maugeri opens the exam and its report."""
        browser = self.visit(who)
        for what in ("images", f"reports/{self.first}"):
            assert browser.get(f"/view/studies/{self.uid}/{what}?owner=san-matteo").status_code == 200
        return browser

    def told(self, count: int = 1) -> list[dict[str, Any]]:
        """What Maugeri's feed says of readings, once there is so much."""

        def found() -> list[dict[str, Any]] | None:
            feed, since = list[dict[str, Any]](), self.since
            while page := self.city.client("maugeri").get("/changes", params={"since": since, "limit": "1000"}).json()["changes"]:
                feed, since = [*feed, *page], page[-1]["cursor"]
            mine = [change for change in feed if change["kind"].startswith("read-") and change["study_instance_uid"] == self.uid]
            return mine if len(mine) == count or not count else None

        if not count:
            return found() or []
        told: list[dict[str, Any]] = wait_until(found)
        return told

    def acknowledge(self, browser: Browser, **what: str) -> requests.Response:
        body = json.dumps({"study_instance_uid": self.uid, "owner": "san-matteo", **what})
        headers = {"Authorization": f"Bearer {browser.key}"}
        return self.city.client(None).post("/view/acknowledgements", data=body, headers=headers)

    def readings(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.city.client("san-matteo").get(f"/studies/{self.uid}/readings").json()["readings"]
        return listed


def test_who_read_a_report_learns_of_its_correction_and_takes_note(city: RunningCity) -> None:
    story = Story(city)
    open_page = story.read()
    assert open_page.get("/view/timeline").json()["corrections"] == []
    second = story.report("Addensamento basale sinistro.", status="corrected")
    (change,) = story.told()
    assert {name: change[name] for name in ("kind", "owner", "practitioner", "sop_instance_uid")} == {
        "kind": "read-report-corrected",
        "owner": "san-matteo",
        "practitioner": "rossi",
        "sop_instance_uid": story.first,
    }
    assert set(change) == {"cursor", "at", "kind", "owner", "study_instance_uid", "practitioner", "sop_instance_uid"}
    for browser in (open_page, story.visit()):
        (waiting,) = browser.get("/view/timeline").json()["corrections"]
        assert (waiting["kind"], waiting["sop_instance_uid"]) == ("report-corrected", story.first)
    assert story.visit("bianchi").timeline["corrections"] == []
    assert story.acknowledge(story.visit("bianchi"), sop_instance_uid=story.first).status_code == 404
    assert story.acknowledge(open_page).status_code == 404
    assert story.acknowledge(open_page, sop_instance_uid=second).status_code == 404
    for _ in range(2):
        assert story.acknowledge(open_page, sop_instance_uid=story.first).json()["status"] == "acknowledged"
    assert open_page.get("/view/timeline").json()["corrections"] == []
    assert story.visit().timeline["corrections"] == []
    of_report = next(reading for reading in story.readings() if "sop_instance_uid" in reading)
    assert of_report["practitioner"] == {"id": "rossi", "name": "Dr. Rossi"}
    assert (of_report["institution"], of_report["stands"]) == ("maugeri", False)
    assert of_report["acknowledged_at"] > of_report["read_at"]
    audit = city.client("san-matteo").get("/audit", params={"patient": story.patient.at["san-matteo"]}).text
    assert "correction-noted" in audit


def test_who_opened_an_exam_learns_that_it_was_withdrawn_and_nothing_else_of_it(city: RunningCity) -> None:
    story = Story(city)
    story.read()
    withdrawn = city.client("san-matteo").post(f"/studies/{story.uid}/withdrawals", json={"reason": "wrong patient"})
    assert withdrawn.status_code == 201
    (change,) = story.told()
    assert (change["kind"], change["practitioner"]) == ("read-study-withdrawn", "rossi")
    browser = story.visit()
    (waiting,) = browser.timeline["corrections"]
    assert set(waiting) == {"kind", "owner", "study_instance_uid", "read_at"}
    assert waiting["kind"] == "study-withdrawn"
    assert story.acknowledge(browser).json()["status"] == "acknowledged"
    assert browser.get("/view/timeline").json()["corrections"] == []
    assert [reading.get("acknowledged_at") is not None for reading in story.readings() if "sop_instance_uid" not in reading] == [
        True
    ]


def test_who_may_not_see_the_exam_any_more_is_told_nothing_of_its_report(city: RunningCity) -> None:
    story = Story(city)
    own = hospital.image(story.patient, "maugeri")
    hospital.send(city.client("maugeri"), own)
    hospital.wait_for_studies(city, story.patient, 2)
    browser = story.read()
    objection = city.client("san-matteo").post(f"/patients/{story.patient.at['san-matteo']}/objections", json={})
    assert objection.status_code == 201
    story.report("Addensamento basale sinistro.", status="corrected")
    assert browser.get("/view/timeline").json()["corrections"] == []
    assert story.acknowledge(browser, sop_instance_uid=story.first).status_code == 404
    assert story.told(0) == []


def test_who_read_it_in_the_hospitals_own_system_is_told_too_and_a_machine_is_not(city: RunningCity) -> None:
    story = Story(city)
    address = f"/studies/{story.uid}/reports/{story.first}"
    assert city.client("maugeri").get(address).status_code == 200
    assert story.readings() == []
    assert city.client("maugeri").get(address, headers={"X-On-Behalf-Of": "rossi"}).status_code == 200
    assert [reading["practitioner"]["id"] for reading in story.readings()] == ["rossi"]
    story.report("Addensamento basale sinistro.", status="corrected")
    (change,) = story.told()
    assert change["practitioner"] == "rossi"
    (waiting,) = story.visit().timeline["corrections"]
    assert waiting["sop_instance_uid"] == story.first


def test_the_owners_own_readings_and_old_versions_that_are_looked_up_are_not_kept(city: RunningCity) -> None:
    story = Story(city)
    second = story.report("Addensamento basale sinistro.", status="corrected")
    story.read("verdi")
    link = hospital.link(city, "san-matteo", patient={"id": story.patient.at["san-matteo"]})
    mine = Browser(city, link["url"])
    assert mine.get(f"/view/studies/{story.uid}/reports/{second}").status_code == 200
    assert [(reading["practitioner"]["id"], reading.get("sop_instance_uid")) for reading in story.readings()] == [("verdi", None)]
    assert city.client("maugeri").get(f"/studies/{story.uid}/readings").status_code == 404
