"""IHE Invoke Image Display (RAD-106), a plain `/open`, and the same signed by a RIS: 303 to the reading page, as the person.

The only addresses in which a patient's number may stand; they redirect at once, and nothing of them is kept.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from forwarder.errors import ConfigError
from forwarder.header import is_uid
from forwarder.web.archive_as import ArchiveAs, ArchiveRefusalError
from forwarder.web.identity import Person, RefusedError, Role, checked_name
from forwarder.web.pages import Pages

IID, OPEN = "/IHEInvokeImageDisplay", "/open"
MOST_PARAMETERS, MOST_LISTED = 40, 50
SIGNED_SECONDS = 300
MOST_REMEMBERED = 10_000
SHORTEST_SECRET = 16
_DATE_TIME = re.compile(r"(\d{8})(\d{0,6})")
_LISTED = re.compile(r"[,;\\]")
_SHOWN = ("", "document", "frame", "iframe")
"""Sec-Fetch-Dest of what a person gets to see; a picture on another site's page would stand in the audit as a reading."""


@dataclass(frozen=True)
class Wanted:
    """What is to be shown: a patient by number and issuer (empty: ours), beginning with a study; or these studies."""

    number: str = ""
    issuer: str = ""
    current: str | None = None
    studies: tuple[str, ...] = ()


class ImageDisplay:
    """Both addresses."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        config = pages.door.config
        self._authorities = {config.hl7.patient_authority} - {""}
        self._signed = SignedRequests(config.web.ris_secret_file) if config.web.ris_secret_file else None

    def routes(self) -> list[BaseRoute]:
        """Where a RIS or PACS leads a person."""
        return [
            self._pages.route(IID, self.invoke, Role.RADIOLOGY, named_by=self._named),
            self._pages.route(OPEN, self.open, Role.RADIOLOGY, named_by=self._named),
        ]

    async def invoke(self, request: Request, person: Person) -> Response:
        """303 to the reading page; 400 for what RAD-106 does not have, 404 for a patient or study that is not there."""
        asked = parameters(request)
        archive = self._pages.archive(person)
        kind = asked.get("requesttype", "").upper()
        if kind == "PATIENT":
            wanted = await self._patient(archive, asked)
        elif kind == "STUDY":
            wanted = await self._studies(archive, asked)
        else:
            raise RefusedError(400, "bad-request-type")
        return await self._read(archive, person, wanted)

    async def open(self, request: Request, person: Person) -> Response:
        """303 to the reading page of a patient of ours, or of a study, or of both together. 400, 404."""
        asked = parameters(request)
        archive, number, study = self._pages.archive(person), asked.get("patient", ""), asked.get("study", "")
        if study and not is_uid(study):
            raise RefusedError(400, "bad-identifier")
        if number:
            return await self._read(archive, person, Wanted(number, current=study or None))
        if not study:
            raise RefusedError(400, "nothing-asked-for")
        return await self._read(archive, person, await self._of_studies(archive, [study]))

    async def _read(self, archive: ArchiveAs, person: Person, wanted: Wanted) -> Response:
        body: dict[str, Any] = {"practitioner": {"id": person.name, "name": person.name}, "purpose": "TREAT"}
        if wanted.studies:
            body["study_instance_uids"] = list(wanted.studies)
        else:
            body["patient"] = {"id": wanted.number} | ({"issuer": wanted.issuer} if wanted.issuer else {})
            if wanted.current:
                body["current_study"] = wanted.current
        try:
            link = await archive.do("POST", "/links", body)
        except ArchiveRefusalError as error:
            if error.status == 400:
                raise RefusedError(400, "bad-identifier") from error
            raise RefusedError(404 if error.status == 404 else 502, "nothing-there") from error
        return RedirectResponse(str(link["url"]), 303, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})

    # RAD-106

    async def _patient(self, archive: ArchiveAs, asked: dict[str, str]) -> Wanted:
        number, issuer = await self._identifier(archive, asked.get("patientid", ""))
        narrowed = [asked.get(name, "") for name in ("lowerdatetime", "upperdatetime", "modalitiesinstudy", "mostrecentresults")]
        born = re.sub(r"\D", "", asked.get("patientbirthdate", ""))[:8]
        if not any(narrowed) and not born:
            return Wanted(number, issuer)
        found = await archive.patient(number, issuer)
        if found is None:
            raise RefusedError(404, "nothing-there")
        known = str(found["patient"].get("birth_date") or "")
        if born and known and born != known:
            raise RefusedError(404, "another-patient")
        if not any(narrowed):
            return Wanted(number, issuer)
        studies = narrow(found["studies"], *narrowed)
        if not studies:
            raise RefusedError(404, "nothing-there")
        return Wanted(studies=tuple(str(study["study_instance_uid"]) for study in studies[:MOST_LISTED]))

    async def _studies(self, archive: ArchiveAs, asked: dict[str, str]) -> Wanted:
        uids, accessions = listed(asked.get("studyuid", "")), listed(asked.get("accessionnumber", ""))
        if not uids and not accessions:
            raise RefusedError(400, "nothing-asked-for")
        if len(uids) + len(accessions) > MOST_LISTED or not all(map(is_uid, uids)):
            raise RefusedError(400, "bad-identifier")
        return await self._of_studies(archive, uids, accessions)

    async def _of_studies(self, archive: ArchiveAs, uids: Sequence[str], accessions: Sequence[str] = ()) -> Wanted:
        """What these studies, each of which has to be there, are to be shown as: one opens its patient, with it in front."""
        fields = {"includefield": "IssuerOfPatientID"}
        found: dict[str, dict[str, Any]] = {}
        for key, value in [("StudyInstanceUID", uid) for uid in uids] + [("AccessionNumber", number) for number in accessions]:
            # An accession number alone finds our own studies only: others number theirs alike.
            answer = await archive.get("/dicomweb/studies", **{key: literal(value)}, **fields)
            if not answer:
                raise RefusedError(404, "nothing-there")
            found |= {str(_value(row, "0020000D")): row for row in answer}
        patients = {(_value(row, "00100020"), _value(row, "00100021")) for row in found.values()}
        if len(patients) > 1:
            raise RefusedError(400, "several-patients")
        ((number, issuer),) = patients
        if len(found) == 1 and number:
            return Wanted(number, issuer, next(iter(found)))
        return Wanted(studies=tuple(found))

    async def _identifier(self, archive: ArchiveAs, cx: str) -> tuple[str, str]:
        """(number, issuer; empty: ours) of a CX (HL7 v2 2.A.14): `ID^^^name&OID&ISO`, or the number alone."""
        components = cx.split("^")
        number = components[0].strip()
        if not number or len(number) > 64 or not number.isprintable():
            raise RefusedError(400, "bad-identifier")
        authority = components[3] if len(components) > 3 else ""
        name, oid, *_ = [part.strip() for part in authority.split("&")] + ["", ""]
        city = await archive.city()
        if oid:
            return number, "" if oid == city.issuer else oid
        if not name or name in self._authorities or name in city.issuer_names:
            return number, ""
        if re.fullmatch(r"[0-9]+(\.[0-9]+)+", name):
            return number, "" if name == city.issuer else name
        raise RefusedError(404, "unknown-authority")

    # Signed by a RIS

    def _named(self, request: Request) -> Person | None:
        """Whom a signed request names; None for one without a signature. Raises RefusedError."""
        query = request.scope["query_string"]
        if b"signature=" not in query:
            return None
        if self._signed is None:
            raise RefusedError(403, "bad-signature")
        return Person(self._signed.user(request.url.path, query), frozenset({Role.RADIOLOGY}))


class SignedRequests:
    """Requests that a RIS signed with a secret it shares with this door, where there is no single sign-on.

    `…&user=<name>&expires=<seconds since the epoch>&signature=<hex>`: HMAC-SHA256 (RFC 2104) of the path, `?`, and the query as
    it stands before `&signature=`, which comes last. Good once, for at most five minutes.
    """

    def __init__(self, file: str) -> None:
        """Raises ConfigError."""
        try:
            self._secret = Path(file).read_bytes().strip()
        except OSError as error:
            raise ConfigError(f"The key “web.ris_secret_file” names a file that cannot be read: {file}") from error
        if len(self._secret) < SHORTEST_SECRET:
            raise ConfigError(f"The secret in “web.ris_secret_file” should have at least {SHORTEST_SECRET} characters.")
        self._used: dict[str, float] = {}
        self._lock = threading.Lock()

    def user(self, path: str, query: bytes) -> str:
        """Who is named. Raises RefusedError for a signature that is wrong, late, too early, or was used."""
        signed, _, signature = query.rpartition(b"&signature=")
        wanted = hmac.new(self._secret, path.encode() + b"?" + signed, hashlib.sha256).hexdigest()
        given = signature.decode("latin-1").lower()
        if not hmac.compare_digest(wanted.encode(), given.encode("latin-1", "replace")):
            raise RefusedError(403, "bad-signature")
        try:
            fields = dict(parse_qsl(signed.decode("ascii"), max_num_fields=MOST_PARAMETERS))
            expires = int(fields["expires"])
            name = fields["user"]
        except (ValueError, KeyError) as error:
            raise RefusedError(403, "bad-signature") from error
        now = time.time()
        if not now <= expires <= now + SIGNED_SECONDS:
            raise RefusedError(403, "signature-expired")
        with self._lock:
            self._used = {signature: until for signature, until in self._used.items() if until >= now}
            if wanted in self._used or len(self._used) >= MOST_REMEMBERED:
                raise RefusedError(403, "signature-used")
            self._used[wanted] = float(expires)
        return checked_name(name)


def parameters(request: Request) -> dict[str, str]:
    """The query's parameters by lower-case name; those of RAD-106 are written in more than one way. Raises RefusedError."""
    if request.headers.get("sec-fetch-dest", "") not in _SHOWN:
        raise RefusedError(400, "nothing-asked-for")
    try:
        query = request.scope["query_string"].decode("ascii")
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS)
    except ValueError as error:
        raise RefusedError(400, "bad-identifier") from error
    found: dict[str, str] = {}
    for name, value in pairs:
        if found.setdefault(name.lower(), value.strip()) != value.strip():
            raise RefusedError(400, "bad-identifier")
    return found


def listed(text: str) -> list[str]:
    """A list as clients write it: by comma, semicolon, or DICOM's backslash; each once."""
    return list(dict.fromkeys(part.strip() for part in _LISTED.split(text) if part.strip()))


def literal(value: str) -> str:
    """A value that matches itself alone. Raises RefusedError for one with wildcards (PS3.4 C.2.2.2.4)."""
    if len(value) > 64 or not value.isprintable() or any(sign in value for sign in "*?"):
        raise RefusedError(400, "bad-identifier")
    return value


def narrow(studies: Sequence[dict[str, Any]], lower: str, upper: str, modalities: str, most: str) -> list[dict[str, Any]]:
    """Studies, newest first, within two moments (`20260301` or `20260301T101500`), of these modalities, the newest `most`.

    Raises RefusedError for what is no moment or number.
    """
    start, end = _moment(lower, "0"), _moment(upper, "9")
    wanted = {code.upper() for code in listed(modalities)}
    if most and not re.fullmatch(r"[1-9]\d{0,3}", most):
        raise RefusedError(400, "bad-identifier")
    found = [
        study
        for study in studies
        if (not start or _when(study, "0") >= start)
        and (not end or (study.get("study_date") and _when(study, "0") <= end))
        and (not wanted or wanted & set(study.get("modalities") or ()))
    ]
    return found[: int(most)] if most else found


def _moment(text: str, filler: str) -> str:
    digits = re.sub(r"[-:T ]", "", text.partition(".")[0].partition("+")[0].rstrip("Z"))
    if not digits:
        return ""
    if not _DATE_TIME.fullmatch(digits):
        raise RefusedError(400, "bad-identifier")
    return digits.ljust(14, filler)


def _when(study: dict[str, Any], filler: str) -> str:
    date, clock = str(study.get("study_date") or ""), str(study.get("study_time") or "").partition(".")[0]
    return (date + clock).ljust(14, filler)


def _value(dataset: dict[str, Any], tag: str) -> str:
    return str((dataset.get(tag, {}).get("Value") or [""])[0])
