"""The canary: what a hospital does, done every few minutes by an institution of its own, so that a failure rings first here.

It sends a picture of nobody by the ways that forwarders use, finds it, reads it bit for bit, and withdraws it. Nothing of it is
shared with anybody; its bytes expire by the bucket's lifecycle.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalicelib.dicom.phantom import phantom
from chalicelib.domain.ports import ArchiveApi

PATIENT_ID = "CANARY"
PATIENCE = 60.0
"""Seconds within which what was sent is to be found, and what was withdrawn to be gone."""
_PAUSE = 0.5


class NotAMember(Exception):
    """The archive knows no such institution: nobody has registered the canary."""


class FlightFailed(Exception):
    """A step that did not go as a hospital could expect it: which, and the HTTP status (0: no answer)."""

    def __init__(self, step: str, status: int) -> None:
        super().__init__(f"{step}: {status}")
        self.step, self.status = step, status


@dataclass(frozen=True)
class Flight:
    """How long (s) it took until what was sent was found, and all of it."""

    study_instance_uid: str
    found_after: float
    took: float


def fly(hospital: ArchiveApi, now: datetime, sleep: Callable[[float], None] = time.sleep, patience: float = PATIENCE) -> Flight:
    """Send, find, read, withdraw. Raises NotAMember, FlightFailed."""
    study = f"2.25.{uuid.uuid4().int}"
    content = phantom(study, PATIENT_ID, now)
    began = time.monotonic()
    _send(hospital, content)
    _until(hospital, study, True, sleep, patience)
    found_after = time.monotonic() - began
    _read(hospital, study, content)
    body = json.dumps({"reason": "canary"}).encode()
    _expect(hospital.call("POST", f"/studies/{study}/withdrawals", body), "withdraw", {200, 201})
    _until(hospital, study, False, sleep, patience)
    return Flight(study, round(found_after, 2), round(time.monotonic() - began, 2))


def _send(hospital: ArchiveApi, content: bytes) -> None:
    sha256 = hashlib.sha256(content).hexdigest()
    offer = json.dumps({"instances": [{"sha256": sha256, "size": len(content)}]}).encode()
    status, answer = hospital.call("POST", "/uploads", offer)
    if status == 403 and b"unknown-institution" in answer:
        raise NotAMember
    upload = _json(_expect((status, answer), "offer", {200}), "offer")["instances"][0].get("upload")
    if upload is None:
        raise FlightFailed("offer", status)
    _expect(hospital.follow("PUT", upload["url"], upload["headers"], content), "upload", {200})


def _until(hospital: ArchiveApi, study: str, is_there: bool, sleep: Callable[[float], None], patience: float) -> None:
    step, deadline = "find" if is_there else "be gone", time.monotonic() + patience
    while True:
        found = _json(_expect(hospital.call("GET", f"/dicomweb/studies?StudyInstanceUID={study}"), step, {200}), step)
        if bool(found) is is_there:
            return
        if time.monotonic() > deadline:
            raise FlightFailed(step, 200)
        sleep(_PAUSE)


def _read(hospital: ArchiveApi, study: str, content: bytes) -> None:
    manifest = _json(_expect(hospital.call("GET", f"/studies/{study}/manifest"), "manifest", {200}), "manifest")
    urls = [str(instance["url"]) for instance in manifest["instances"]]
    if len(urls) != 1:
        raise FlightFailed("manifest", 200)
    if _expect(hospital.follow("GET", urls[0], {}), "read", {200}) != content:
        raise FlightFailed("compare", 200)


def _expect(answer: tuple[int, bytes], step: str, expected: set[int]) -> bytes:
    status, body = answer
    if status not in expected:
        raise FlightFailed(step, status)
    return body


def _json(body: bytes, step: str) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise FlightFailed(step, 200) from error
