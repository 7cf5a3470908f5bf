"""The local city's stand-in for a hospital's reverse proxy: a browser reaches the staff's pages as a demo person."""

from __future__ import annotations

import re

import requests

from tests.integration.door.doors import MAUGERI, SAN_MATTEO, Doors, Patient


def test_a_browser_reaches_the_pages_as_a_demo_person_whatever_it_says_of_itself(doors: Doors, patient: Patient):
    patient.arrives()
    staff = doors.endpoints(SAN_MATTEO)["staff"]
    shown = requests.get(staff + "/transfers", headers={"X-Remote-User": "root", "X-Remote-Roles": "nothing"}, timeout=60)
    assert shown.status_code == 200 and f"demo.{SAN_MATTEO}" in shown.text and "root" not in shown.text
    token = re.search(r'name="token" value="([0-9a-f]+)"', shown.text)
    assert token
    form = {"token": token[1], "act": "look", "number": patient.number, "to": MAUGERI, "reason": "Riabilitazione"}
    assert "Bianchi Ada" in requests.post(staff + "/transfers", data=form, timeout=60).text


def test_addresses_of_dicomweb_lead_back_through_it(doors: Doors, patient: Patient):
    patient.arrives()
    staff = doors.endpoints(SAN_MATTEO)["staff"]
    (found,) = requests.get(f"{staff}/dicomweb/studies", params={"StudyInstanceUID": patient.prior}, timeout=60).json()
    assert found["00081190"]["Value"] == [f"{staff}/dicomweb/studies/{patient.prior}"]
