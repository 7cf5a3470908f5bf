"""Instances of the archive, for the hospital's own systems: who we are there, a study's instances, and their bytes."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import urllib3
from urllib3.exceptions import HTTPError as TransportError

from forwarder.archive.changes import ask
from forwarder.archive.client import Archive, place_of
from forwarder.errors import ArchiveError, Failure, SpoolError
from forwarder.retrieve.coercion import LocalPatient

_BLOCK = 256 * 1024
_TRIES = 5
UNCOMPRESSED = "1.2.840.10008.1.2.1"


@dataclass(frozen=True, slots=True)
class Self:
    """The hospital as the archive knows it: its id, its name, the issuer of its patients' numbers (an OID), and what its own
    systems may write in place of that."""

    id: str
    name: str
    issuer: str
    issuer_names: frozenset[str] = frozenset()


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


class Instances:
    """The archive, asked for instances. Methods raise ArchiveError."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._headers: dict[str, str] = {}
        self._self: Self | None = None
        self.names: dict[str, str] = {}

    def on_behalf_of(self, caller: str) -> Instances:
        """The same, asked for somebody: the archive records them by this name, printable ASCII of at most 64 characters."""
        self.ourselves()
        other = copy.copy(self)
        other._headers = {"X-On-Behalf-Of": caller}
        return other

    def ourselves(self) -> Self:
        """Who we are: of our own registration the archive shows all."""
        if self._self is None:
            listed = ask(self._archive, "/institutions")["institutions"]
            self.names = {str(member["id"]): str(member["name"]) for member in listed}
            own = next((member for member in listed if "patient_id_issuer" in member), None)
            if own is None:
                raise ArchiveError("The archive does not say who we are.", Failure.PROTOCOL)
            goes_by = {own["id"], own["name"], *own.get("ae_titles", ()), *own.get("issuer_names", ())}
            self._self = Self(str(own["id"]), str(own["name"]), str(own["patient_id_issuer"]), frozenset(map(str, goes_by)))
        return self._self

    def manifest_page(self, study: str, owner: str, cursor: str = "") -> tuple[list[Instance], str | None] | None:
        """(up to 500 instances of a study, where the next ones begin); None where it is not to be seen."""
        path = f"/studies/{quote(study, safe='')}/manifest?owner={quote(owner, safe='')}&limit=500"
        page = self.maybe(path + (f"&cursor={quote(cursor, safe='')}" if cursor else ""))
        if page is None:
            return None
        try:
            listed = [
                Instance(
                    str(entry["sop_instance_uid"]), str(entry["sop_class_uid"]), str(entry["series_instance_uid"]),
                    str(entry["transfer_syntax_uid"]), int(entry["size"]), str(entry["sha256"]), str(entry["url"]),
                )
                for entry in page["instances"]
            ]  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise ArchiveError("The archive's manifest is not what the contract says.", Failure.PROTOCOL) from error
        return listed, page.get("next")

    def download(self, instance: Instance, target: Path, pause: Callable[[int], None] = lambda _: None) -> None:
        """The bytes of an instance, verified by their SHA-256; what a broken line left in `target` is gone on with.

        `pause` hears of each block, and may sleep. Raises ArchiveError, SpoolError.
        """
        for left in reversed(range(_TRIES)):
            try:
                sha256 = self._fetch(instance, target, pause)
            except (TransportError, OSError) as error:
                if left == 0:
                    host = place_of(instance.url)
                    raise ArchiveError(
                        f"The line to {host} broke ({type(error).__name__}).", Failure.NETWORK, host=host
                    ) from error
                continue
            if (sha256 or _sha256(target)) == instance.sha256:
                return
            target.unlink(missing_ok=True)  # it cannot be said which part is damaged
        raise ArchiveError("What the archive sent is not what it says it is.", Failure.PROTOCOL)

    def transcoded(self, study: str, owner: str, instance: Instance, target: Path) -> None:
        """The instance uncompressed, made by the archive. Raises ArchiveError, CannotBeHadError, SpoolError."""
        below = f"studies/{study}/series/{instance.series}/instances/{instance.sop_instance}"
        accept = f'multipart/related; type="application/dicom"; transfer-syntax={UNCOMPRESSED}'
        path = f"/dicomweb/{below}?owner={quote(owner, safe='')}"
        answer = self._archive.call("GET", path, b"", {"Accept": accept, **self._headers}, (200, 307, 404, 406, 413))
        try:
            if answer.status == 307:
                kind = self._followed(answer.headers.get("Location", ""), target)
            elif answer.status == 200:
                target.write_bytes(answer.data)
                kind = answer.headers.get("Content-Type", "")
            else:
                raise CannotBeHadError(str(answer.status))
            _keep_only_part(kind, target)
        except OSError as error:
            raise SpoolError(f"The spool's disk does not take what was downloaded: {error.strerror or error}") from error

    def _followed(self, url: str, target: Path) -> str:
        """The body into `target`; its media type."""
        try:
            response = self._archive.http.request("GET", url, redirect=False, preload_content=False)
        except (TransportError, OSError) as error:
            raise ArchiveError(f"The line to {place_of(url)} broke.", Failure.NETWORK, host=place_of(url)) from error
        try:
            if response.status != 200:
                raise ArchiveError(f"What the archive made is answered with {response.status}.", Failure.SERVER)
            with target.open("wb") as out:
                for block in response.stream(_BLOCK):
                    out.write(block)
        except TransportError as error:
            raise ArchiveError(f"The line to {place_of(url)} broke.", Failure.NETWORK, host=place_of(url)) from error
        finally:
            response.close()
        return str(response.headers.get("Content-Type", ""))

    def _fetch(self, instance: Instance, target: Path, pause: Callable[[int], None]) -> str:
        """What is missing in `target`; the SHA-256 (hex) of the whole where all of it came now, else an empty string."""
        begun = target.stat().st_size if target.exists() else 0
        if begun >= instance.size:
            if begun > instance.size:
                target.unlink()
            else:
                return ""
            begun = 0
        headers = {"Range": f"bytes={begun}-"} if begun else {}
        response = self._archive.http.request("GET", instance.url, headers=headers, redirect=False, preload_content=False)
        try:
            _check(response, instance.url)
            going_on = response.status == 206
            digest = hashlib.sha256()
            with target.open("ab" if going_on else "wb") as out:
                room = instance.size - (begun if going_on else 0)
                for block in response.stream(_BLOCK):
                    room -= len(block)
                    if room < 0:
                        break  # more than it says it is: the digest will tell
                    out.write(block)
                    digest.update(block)
                    pause(len(block))
            return "" if going_on or room else digest.hexdigest()
        finally:
            response.close()

    def patient(self, number: str, issuer: str) -> LocalPatient:
        """A patient of ours, by our number, as the archive knows them."""
        found = self.maybe(f"/patients/{quote(number, safe='')}/timeline")
        who = found.get("patient", {}) if found else {}
        return LocalPatient(number, issuer, *(str(who.get(name, "")) for name in ("name", "birth_date", "sex")))

    def maybe(self, path: str) -> dict[str, Any] | None:
        """The JSON object that a GET is answered with, or None for 404."""
        answer = self._archive.call("GET", path, b"", {"Accept": "application/json", **self._headers}, (200, 404))
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


def _keep_only_part(content_type: str, path: Path) -> None:
    """Leave of a multipart body the content of its only part. Raises ArchiveError, OSError."""
    if not path.stat().st_size:
        raise ArchiveError("The archive's answer is empty.", Failure.PROTOCOL)
    marker = b"\r\n--" + content_type.partition("boundary=")[2].split(";")[0].strip().strip('"').encode()
    with path.open("rb") as body, path.open("r+b") as kept:
        begin = body.read(_BLOCK).find(b"\r\n\r\n") + 4
        tail_at = max(0, path.stat().st_size - _BLOCK)
        body.seek(tail_at)
        found = body.read().rfind(marker)
        left = tail_at + found - begin
        if len(marker) == 4 or begin < 4 or found < 0 or left < 0:
            raise ArchiveError("The archive's answer is not one part.", Failure.PROTOCOL)
        body.seek(begin)
        while left and (block := body.read(min(left, _BLOCK))):
            kept.write(block)
            left -= len(block)
        kept.truncate()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
