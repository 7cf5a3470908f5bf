"""Reports by HL7 to the real local city: they stand beside the images, at the other hospital too, in whatever order things come."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ris
from hospital import Hospital, free_port, hospital, process, store, until
from images import ct_slice
from line_proxy import bad_line
from test_kill import doomed

from forwarder import admin
from forwarder.service import running

_numbers = itertools.count(1)


@dataclass
class Case:
    """A patient of San Matteo of whom Maugeri may see the study, and San Matteo's forwarder."""

    city: Any
    place: Hospital
    patient: str
    study: str
    accession: str

    @property
    def port(self) -> int:
        return int(self.place.values["hl7.port"])

    def image(self) -> None:
        """The PACS sends the study; it is there when this returns."""
        ds = ct_slice(1, study=self.study, edge=16)
        ds.PatientID, ds.AccessionNumber = self.patient, self.accession
        assert store(self.place, [ds]) == [0x0000]
        until(lambda: self.city.client("maugeri").get(f"/studies/{self.study}/reports").status_code == 200)

    def oru(self, text: str, **more: Any) -> bytes:
        return ris.oru(text, **{"patient": self.patient, "study": self.study} | more)

    def send(self, *messages: bytes) -> list[str]:
        return ris.send(self.port, *messages)

    def reports(self) -> dict[str, Any]:
        """What the journal says of reports; received = sent + aside + waiting."""
        found: dict[str, Any] = self.place.state()["reports"]
        assert found["received"] == found["sent"] + found["aside"] + found["waiting"]
        return found

    def settled(self, count: int) -> dict[str, Any]:
        return until(lambda: (now := self.reports())["received"] >= count and not now["waiting"] and now)

    def seen(self) -> list[tuple[str, int, str]]:
        """(title, version, text) of the reports that Maugeri sees, newest first."""
        maugeri = self.city.client("maugeri")
        listed = maugeri.get(f"/studies/{self.study}/reports").json()["reports"]
        path = f"/studies/{self.study}/reports/"
        return [(one["title"], one["version"], maugeri.get(path + one["sop_instance_uid"]).text) for one in listed]


@pytest.fixture
def case(city, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", city.endpoints["aws_config_file"])
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", city.endpoints["aws_shared_credentials_file"])
    place = hospital(tmp_path, city.api, hl7__address="127.0.0.1", hl7__port=free_port())
    number = f"{time.time_ns()}{next(_numbers)}"
    patient = f"SM-{number}"
    transfer = {"patient": {"id": patient}, "to": "maugeri", "reason": "test", "receiving_patient_id": f"MG-{number}"}
    assert city.client("san-matteo").post("/transfers", json=transfer).status_code == 201
    return Case(city, place, patient, f"2.25.{number}", number[-16:])


@pytest.fixture
def up(case: Case) -> Iterator[Case]:
    with running(case.place.config()):
        yield case


def test_a_report_stands_beside_the_images_at_the_other_hospital(up: Case):
    up.image()
    assert up.send(up.oru("Non lesioni focali.\nConclusioni: negativo per perché.")) == ["AA"]
    up.settled(1)
    ((title, version, text),) = until(up.seen)
    assert (title, version) == ("RX TORACE PA", 1)
    assert text == "Non lesioni focali.\nConclusioni: negativo per perché."
