"""What deliveries ask the archive: who we are, whose a transfer or a study is, a patient's exams, instances and their bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import urllib3
from urllib3.exceptions import HTTPError as TransportError

from forwarder.archive.changes import ask
from forwarder.archive.client import Archive, place_of
from forwarder.deliver.rules import Patient, patient
from forwarder.errors import ArchiveError, Failure, SpoolError

_BLOCK = 256 * 1024
_TRIES = 5
UNCOMPRESSED = "1.2.840.10008.1.2.1"


@dataclass(frozen=True, slots=True)
class Self:
    """The hospital as the archive knows it: its id, its name, and the issuer of its patients' numbers."""

    id: str
    name: str
    issuer: str


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance of a manifest: what it is, and where its bytes are for the next minutes."""

    sop_instance: str
    sop_class: str
    series: str
    transfer_syntax: str
    size: int
    sha256: str
    url: str


class CannotBeHadError(Exception):
    """The archive has the instance, and cannot give it in the form that is asked for."""


class Source:
    """The archive, asked by deliveries. Methods raise ArchiveError."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._self: Self | None = None
        self.names: dict[str, str] = {}

    def ourselves(self) -> Self:
        """Who we are: of our own registration the archive shows all."""
        if self._self is None:
            listed = ask(self._archive, "/institutions")["institutions"]
            self.names = {str(one["id"]): str(one["name"]) for one in listed}
            own = next((one for one in listed if "patient_id_issuer" in one), None)
            if own is None:
                raise ArchiveError("The archive does not say who we are.", Failure.PROTOCOL)
            self._self = Self(str(own["id"]), str(own["name"]), str(own["patient_id_issuer"]))
        return self._self

    def number_of_transfer(self, transfer: str) -> str | None:
        """Our number of the patient of a transfer that was accepted; None where none is known, or nothing was accepted."""
        found = self._maybe(f"/transfers/{quote(transfer, safe='')}")
        own = self.ourselves()
        if found is None or not found.get("accepted_at"):
            return None
        for one in (found.get("receiving_patient"), found["patient"]):
            if one and one["issuer"] == own.issuer:
                return str(one["id"])
        return None

    def is_accepted(self, transfer: str) -> bool:
        """Whether a transfer was accepted and runs."""
        found = self._maybe(f"/transfers/{quote(transfer, safe='')}")
        return bool(found and found.get("accepted_at") and found["status"] == "active")

    def number_of_study(self, study: str) -> str | None:
        """Our number of the patient of a study of another hospital; None where none is known, or the study is not to be seen."""
        found = ask(
            self._archive,
            f"/dicomweb/studies?StudyInstanceUID={quote(study, safe='')}&includefield=IssuerOfPatientID",
            "application/dicom+json",
        )
        own = self.ourselves()
        for one in found:
            number, issuer = (str((one.get(tag, {}).get("Value") or [""])[0]) for tag in ("00100020", "00100021"))
            if number and issuer == own.issuer:
                return number
        return None

    def patient(self, number: str) -> Patient:
        """A patient by our own number; without exams where the archive shows nothing of this number."""
        found = self._maybe(f"/patients/{quote(number, safe='')}/timeline")
        if found is None:
            return Patient(number, "", "", "", (), "")
        try:
            return patient(number, found, self.ourselves().id)
        except (KeyError, TypeError, ValueError) as error:
            raise ArchiveError("The archive's timeline is not what the contract says.", Failure.PROTOCOL) from error

    def manifest(self, study: str, owner: str) -> Iterator[list[Instance]]:
        """The instances of a study, page by page; none where it is not to be seen."""
        path = f"/studies/{quote(study, safe='')}/manifest?owner={quote(owner, safe='')}&limit=500"
        cursor: str | None = ""
        while cursor is not None:
            page = self._maybe(path + (f"&cursor={quote(cursor, safe='')}" if cursor else ""))
            if page is None:
                return
            try:
                yield [
                    Instance(
                        str(one["sop_instance_uid"]), str(one["sop_class_uid"]), str(one["series_instance_uid"]),
                        str(one["transfer_syntax_uid"]), int(one["size"]), str(one["sha256"]), str(one["url"]),
                    )
                    for one in page["instances"]
                ]  # fmt: skip
            except (KeyError, TypeError, ValueError) as error:
                raise ArchiveError("The archive's manifest is not what the contract says.", Failure.PROTOCOL) from error
            cursor = page.get("next")

    def download(self, one: Instance, target: Path, pause: Callable[[int], None] = lambda _: None) -> None:
        """The bytes of an instance, verified by their SHA-256; what a broken line left in `target` is gone on with.

        `pause` hears of each block, and may sleep. Raises ArchiveError, SpoolError.
        """
        for left in reversed(range(_TRIES)):
            try:
                self._fetch(one, target, pause)
            except (TransportError, OSError) as error:
                if left == 0:
                    host = place_of(one.url)
                    raise ArchiveError(
                        f"The line to {host} broke ({type(error).__name__}).", Failure.NETWORK, host=host
                    ) from error
                continue
            if _sha256(target) == one.sha256:
                return
            target.unlink(missing_ok=True)  # it cannot be said which part is damaged
        raise ArchiveError("What the archive sent is not what it says it is.", Failure.PROTOCOL)

    def transcoded(self, study: str, owner: str, one: Instance, target: Path) -> None:
        """The instance uncompressed, made by the archive. Raises ArchiveError, CannotBeHadError, SpoolError."""
        below = f"studies/{study}/series/{one.series}/instances/{one.sop_instance}"
        accept = f'multipart/related; type="application/dicom"; transfer-syntax={UNCOMPRESSED}'
        path = f"/dicomweb/{below}?owner={quote(owner, safe='')}"
        answer = self._archive.call("GET", path, b"", {"Accept": accept}, (200, 307, 404, 406, 413))
        if answer.status == 307:
            answer_data = self._followed(answer.headers.get("Location", ""))
            headers = answer_data[0]
            body = answer_data[1]
        elif answer.status == 200:
            headers, body = dict(answer.headers), answer.data
        else:
            raise CannotBeHadError(str(answer.status))
        try:
            target.write_bytes(_only_part(headers.get("Content-Type", headers.get("content-type", "")), body))
        except OSError as error:
            raise SpoolError(f"The spool's disk does not take what was downloaded: {error.strerror or error}") from error

    def _followed(self, url: str) -> tuple[dict[str, str], bytes]:
        try:
            response = self._archive.http.request("GET", url, redirect=False)
        except (TransportError, OSError) as error:
            raise ArchiveError(f"The line to {place_of(url)} broke.", Failure.NETWORK, host=place_of(url)) from error
        if response.status != 200:
            raise ArchiveError(f"What the archive made is answered with {response.status}.", Failure.SERVER)
        return dict(response.headers), response.data

    def _fetch(self, one: Instance, target: Path, pause: Callable[[int], None]) -> None:
        begun = target.stat().st_size if target.exists() else 0
        if begun >= one.size:
            if begun > one.size:
                target.unlink()
            else:
                return
            begun = 0
        headers = {"Range": f"bytes={begun}-"} if begun else {}
        response = self._archive.http.request("GET", one.url, headers=headers, redirect=False, preload_content=False)
        try:
            _check(response, one.url)
            going_on = response.status == 206
            with target.open("ab" if going_on else "wb") as out:
                room = one.size - (begun if going_on else 0)
                for block in response.stream(_BLOCK):
                    room -= len(block)
                    if room < 0:
                        break  # more than it says it is: the digest will tell
                    out.write(block)
                    pause(len(block))
        finally:
            response.close()

    def _maybe(self, path: str) -> dict[str, Any] | None:
        """A JSON object, or None for 404."""
        answer = self._archive.call("GET", path, b"", {"Accept": "application/json"}, (200, 404))
        if answer.status == 404:
            return None
        try:
            found = json.loads(answer.data)
        except ValueError as error:
            raise ArchiveError("The archive's answer is not JSON.", Failure.PROTOCOL) from error
        if not isinstance(found, dict):
            raise ArchiveError("The archive's answer is not a JSON object.", Failure.PROTOCOL)
        return found


def _check(response: urllib3.BaseHTTPResponse, url: str) -> None:
    if response.status in (200, 206):
        return
    failure = Failure.EXPIRED_URL if response.status in (400, 403) else Failure.SERVER
    raise ArchiveError(f"GET of an instance was answered with {response.status}.", failure, host=place_of(url))


def _only_part(content_type: str, body: bytes) -> bytes:
    """The content of the only part of a multipart body."""
    marker = content_type.partition("boundary=")[2].split(";")[0].strip().strip('"').encode()
    begin = body.find(b"\r\n\r\n")
    end = body.rfind(b"\r\n--" + marker)
    if not marker or begin < 0 or end < begin:
        raise ArchiveError("The archive's answer is not one part.", Failure.PROTOCOL)
    return body[begin + 4 : end]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
