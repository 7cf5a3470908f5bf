"""A patient who is transferred, the forwarder and the PACS of the hospital that receives: what deliveries are tried with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hospital import Hospital, hospital, until
from pacs import Pacs
from pydicom import Dataset

from forwarder.deliver.ledger import Ledger
from forwarder.spool.journal import Journal, open_read_only
from tests.browser import hospital as by_api
from tests.harness import RunningCity


@dataclass
class Case:
    """A patient of San Matteo's who is transferred to Maugeri, Maugeri's PACS and forwarder."""

    city: RunningCity
    pacs: Pacs
    place: Hospital
    patient: by_api.Patient

    def send(self, *images: Dataset) -> None:
        by_api.send(self.city.client("san-matteo"), *images)

    def prior(self, **more: Any) -> Dataset:
        return by_api.image(self.patient, "san-matteo", **more)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.place.state()["deliver"]
        assert found["announced"] == found["delivered"] + found["there"] + found["aside"] + found["waiting"]
        return found

    def settled(self, count: int, seconds: float = 60) -> dict[str, Any]:
        """How deliveries stand, once so many instances are announced and no study waits."""
        return until(lambda: (now := self.state())["announced"] >= count and not now["studies_waiting"] and now, seconds)

    def told_until(self) -> str:
        """The cursor of the feed up to which all is looked at and brought, once it is the last one."""

        def quiet() -> str | None:
            with closing(open_read_only(self.place.spool)) as connection:
                (cursor,) = connection.execute("SELECT cursor FROM deliver_feed").fetchone()
            state = self.state()
            busy = state["looks_waiting"] or state["studies_waiting"] or self.told_since(cursor)
            return None if busy else str(cursor)

        return until(quiet)

    def told_since(self, cursor: str) -> set[str]:
        """The studies of which the feed of the hospital that receives told since."""
        told = self.city.client("maugeri").get(f"/changes?limit=1000&since={cursor}").json()["changes"]
        return {str(change["study_instance_uid"]) for change in told if "study_instance_uid" in change}

    @property
    def number(self) -> str:
        return self.patient.at["maugeri"]


@contextmanager
def a_case(city: RunningCity, tmp_path: Path, pacs: Pacs, **values: Any) -> Iterator[Case]:
    patient = by_api.Patient()
    place = hospital(
        tmp_path, city.api, **{"archive__profile": "maugeri", "pacs__host": "127.0.0.1", "pacs__port": pacs.port,
                               "deliver__enabled": True, "deliver__mark": "[{hospital}] "} | values,
    )  # fmt: skip
    skip_what_is_told_already(city, place)
    yield Case(city, pacs, place, patient)


def skip_what_is_told_already(city: RunningCity, place: Hospital) -> None:
    """Other tests' patients are none of this one's: the feed is followed from here on."""
    client, cursor = city.client(place.values["archive.profile"]), ""
    while told := client.get(f"/changes?limit=1000&since={cursor}").json()["changes"]:
        cursor = told[-1]["cursor"]
    place.spool.mkdir(exist_ok=True)
    journal = Journal(place.spool / "journal.sqlite3")
    Ledger(journal).followed(cursor or "0" * 20, [], [])
    journal.close()
