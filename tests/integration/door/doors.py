"""The doors of a running city's hospitals, people before them with and without roles, and an invented patient."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.harness import RunningCity, wait_until
from tests.sharing.images import image

SAN_MATTEO, MAUGERI, MONDINO = "san-matteo", "maugeri", "mondino"


class Staff(requests.Session):
    """A person as the hospital's reverse proxy names them; paths are relative to the hospital's door."""

    def __init__(self, door: str, name: str | None, *roles: str) -> None:
        super().__init__()
        self.door, self.trust_env = door, False
        if name is not None:
            self.headers["X-Remote-User"] = name
        if roles:
            self.headers["X-Remote-Roles"] = ", ".join(roles)

    def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs.setdefault("timeout", 60)
        return super().request(method, self.door + url if url.startswith("/") else url, *args, **kwargs)


@dataclass
class Doors:
    """The doors of a running city's hospitals."""

    city: RunningCity
    laid: dict[str, str] = field(default_factory=dict)
    due: set[str] = field(default_factory=set)
    """Whose own configuration is to be put back before anybody comes to their door again."""

    def endpoints(self, institution: str) -> dict[str, Any]:
        if institution in self.due:
            self.with_site(institution, "")
        return self._endpoints(institution)

    def _endpoints(self, institution: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((Path(self.city.state) / "endpoints.json").read_text())["forwarders"][institution]
        return found

    def staff(self, institution: str, name: str | None = "m.rossi", *roles: str) -> Staff:
        return Staff(self.endpoints(institution)["page"], name, *roles)

    def with_site(self, institution: str, text: str) -> None:
        """Lay a `site.toml` over the hospital's configuration, and wait until its forwarder runs with it."""
        self.due.discard(institution)
        if self.laid.get(institution, "") == text:
            return
        self.laid[institution] = text
        before = self._endpoints(institution)
        Path(before["config"]).with_name("site.toml").write_text(text)
        os.kill(before["pid"], signal.SIGKILL)
        wait_until(lambda: self._endpoints(institution)["pid"] != before["pid"])

        def answers() -> bool:
            with contextlib.suppress(requests.RequestException):
                return requests.get(before["page"] + "/health", timeout=60).ok
            with contextlib.suppress(requests.RequestException):
                return requests.get(before["page"].replace("http:", "https:") + "/health", timeout=60, verify=False).ok
            return False

        wait_until(answers)

    def put_back(self, institution: str) -> None:
        """Its own configuration again, from when somebody comes to its door next: until then another may be laid over it."""
        self.due.add(institution)

    def send(self, institution: str, *contents: bytes) -> None:
        """Have the archive hold instances of an institution, indexed."""
        client = self.city.client(institution)
        hashes = [hashlib.sha256(content).hexdigest() for content in contents]
        offers = [{"sha256": sha, "size": len(content)} for sha, content in zip(hashes, contents, strict=True)]
        answer = client.post("/uploads", json={"instances": offers}).json()["instances"]
        for offer, content in zip(answer, contents, strict=True):
            requests.put(offer["upload"]["url"], data=content, headers=offer["upload"]["headers"], timeout=60).raise_for_status()

        def indexed() -> bool:
            states = client.post("/uploads/status", json={"sha256": hashes}).json()["instances"]
            return all(state["state"] == "indexed" for state in states)

        wait_until(indexed)

    def audit(self, institution: str, patient: str) -> str:
        """The audit trail of one of the institution's patients, as text."""
        return json.dumps(self.city.client(institution).get("/audit", params={"patient": patient}).json())


@dataclass
class Patient:
    """A patient of this test alone: numbers at two hospitals, one exam of each."""

    doors: Doors
    unique: int = field(default_factory=lambda: uuid.uuid4().int % 10**12)

    @property
    def number(self) -> str:
        return f"SM{self.unique}"

    @property
    def elsewhere(self) -> str:
        return f"MA{self.unique}"

    @property
    def prior(self) -> str:
        return f"1.2.{self.unique}.1"

    @property
    def follow_up(self) -> str:
        return f"1.2.{self.unique}.2"

    def arrives(self, **differs: str) -> None:
        self.doors.send(SAN_MATTEO, *(image(self.number, self.prior, number) for number in (1, 2)))
        self.doors.send(MAUGERI, image(self.elsewhere, self.follow_up, **{"date": "20991231", **differs}))

    def transferred(self) -> str:
        body = {"patient": {"id": self.number}, "to": MAUGERI, "reason": "riabilitazione"}
        answer = self.doors.city.client(SAN_MATTEO).post("/transfers", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])
