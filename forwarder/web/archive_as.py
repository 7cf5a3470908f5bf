"""The archive, asked by a person of this hospital: what the staff's pages read and do there."""

from __future__ import annotations

import asyncio
import json
import time
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import anyio

from forwarder.archive.client import Archive
from forwarder.errors import ArchiveError, Failure
from forwarder.web.identity import Person

REFUSALS = (400, 403, 404, 409, 412, 413, 429)
NAMES_SECONDS = 60.0
AT_ONCE = 4


class ArchiveRefusalError(Exception):
    """The archive said no: its status, and its problem's body (RFC 9457)."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(str(status))
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True)
class City:
    """The institutions: which is this hospital, the issuer of its numbers, and the names of all by id."""

    own: str
    issuer: str
    names: Mapping[str, str]
    issuer_names: frozenset[str] = frozenset()
    """What this hospital's systems write as the issuer of its numbers."""

    def name(self, institution: str | None) -> str:
        """What people call an institution; its id where it has left."""
        return self.names.get(institution or "", institution or "")

    @property
    def others(self) -> list[tuple[str, str]]:
        """(id, name) of the others, by name as people look for it: accents and capitals apart."""
        others = ((institution, name) for institution, name in self.names.items() if institution != self.own)
        return sorted(others, key=lambda pair: (_plain(pair[1]), pair))


def _plain(name: str) -> str:
    return "".join(sign for sign in unicodedata.normalize("NFKD", name) if not unicodedata.combining(sign)).casefold()


class ArchiveAs:
    """One person's requests. Methods raise ArchiveRefusalError and ArchiveError."""

    def __init__(self, archive: Archive, person: Person, cities: CityNames) -> None:
        self._archive, self._person, self._cities = archive, person, cities

    async def get(self, path: str, **query: str) -> Any:
        """The JSON of a 200."""
        return await self._ask("GET", path + _query(query), None, {})

    async def maybe(self, path: str, **query: str) -> Any:
        """The JSON of a 200; None where there is nothing to be seen (404)."""
        try:
            return await self.get(path, **query)
        except ArchiveRefusalError as error:
            if error.status == 404:
                return None
            raise

    async def do(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """The JSON of a 2xx."""
        return await self._ask(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})

    async def document(self, path: str, media_type: str, **query: str) -> bytes:
        """The body of a 200 of this media type."""
        answer = await self._call("GET", path + _query(query), b"", {"Accept": media_type})
        if answer.status in REFUSALS:
            raise ArchiveRefusalError(answer.status, {})
        return bytes(answer.data)

    async def patient(self, number: str, issuer: str = "") -> Any:
        """The timeline of a number, ours where no issuer is named; None where there is nothing to be seen."""
        return await self.maybe(f"/patients/{segment(number)}/timeline", issuer=issuer) if number else None

    async def patients(self, numbers: Iterable[Mapping[str, str]]) -> list[Any]:
        """The timelines of several numbers (`id`, and `issuer` where it is not ours), a few at a time, in their order."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def patient_of(number: Mapping[str, str]) -> Any:
            async with gate:
                return await self.patient(number.get("id", ""), number.get("issuer", ""))

        return list(await asyncio.gather(*(patient_of(number) for number in numbers)))

    async def city(self) -> City:
        """The institutions as they are, known for a minute."""
        return await self._cities.get(self)

    async def _ask(self, method: str, path: str, body: object, headers: Mapping[str, str]) -> Any:
        payload = b"" if body is None else json.dumps(body).encode()
        fields = {"Accept": "application/json", **headers} | ({"Content-Type": "application/json"} if payload else {})
        answer = await self._call(method, path, payload, fields)
        try:
            found = json.loads(answer.data) if answer.data else {}
        except ValueError as error:
            raise ArchiveError("The archive's answer is not JSON.", Failure.PROTOCOL) from error
        if answer.status in REFUSALS:
            raise ArchiveRefusalError(answer.status, found if isinstance(found, dict) else {})
        return found

    async def _call(self, method: str, path: str, payload: bytes, headers: Mapping[str, str]) -> Any:
        fields = {"X-On-Behalf-Of": self._person.name, **headers}
        expected = (200, 201, 204, *REFUSALS)
        return await anyio.to_thread.run_sync(lambda: self._archive.call(method, path, payload, fields, expected))


class CityNames:
    """The institutions, asked for once a minute at the most."""

    def __init__(self) -> None:
        self._known: tuple[float, City] | None = None

    async def get(self, archive: ArchiveAs) -> City:
        """Raises ArchiveError where the archive does not say which hospital this is."""
        if self._known is None or time.monotonic() - self._known[0] > NAMES_SECONDS:
            listed = (await archive.get("/institutions"))["institutions"]
            own = next((member for member in listed if "patient_id_issuer" in member), None)
            if own is None:
                raise ArchiveError("The archive does not say which hospital this is.", Failure.PROTOCOL)
            names = {str(member["id"]): str(member["name"]) for member in listed}
            city = City(
                str(own["id"]), str(own["patient_id_issuer"]), names, frozenset(map(str, own.get("issuer_names") or ()))
            )  # fmt: skip
            self._known = (time.monotonic(), city)
        return self._known[1]


def segment(text: str) -> str:
    """A number or an id as a segment of a path."""
    return quote(text, safe="")


def _query(query: Mapping[str, str]) -> str:
    given = {name: value for name, value in query.items() if value}
    return f"?{urlencode(given, quote_via=quote)}" if given else ""
