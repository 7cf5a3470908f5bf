"""Links: what opens a reading session in a browser, and for how long. Pure, over facts.

A link is a 256-bit random token. Only its SHA-256 is kept, and everything about it lies in one partition, so that deciding
whether a reader may go on is one consistent Query. In this order:

* a link waits to be opened for `OPEN_WITHIN` (or as asked, at most `SESSION_LIMIT`);
* its first opening begins *the* reading session, which ends `SESSION_LIMIT` later, or `IDLE_LIMIT` after the last sign of
  a reader, or when someone ends it, whichever is first;
* it opens again only from the browser that opened it, which keeps a secret of its own for that: a reload or a second tab joins
  the session, and never makes a longer one. Whoever finds the address elsewhere is told that it was opened;
* each opening is given a *key* (sent in `Authorization`) and a *pass* (put into addresses that a browser fetches without
  headers: images, frames, documents). A pass only reads images and reports; it cannot end, keep or open anything.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from chalicelib.domain import identifiers, keys
from chalicelib.domain.errors import BadRequest
from chalicelib.domain.fields import fields
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Item
from chalicelib.domain.rfc3339 import iso, kept_moment

OPEN_WITHIN = timedelta(minutes=30)
SESSION_LIMIT = timedelta(hours=8)
IDLE_LIMIT = timedelta(minutes=60)
ALIVE_EVERY = timedelta(minutes=5)
KEPT_AFTER_END = timedelta(days=1)
MAX_STUDIES = 100
MAX_OPENINGS = 100
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True)
class Practitioner:
    """Who reads: an identifier (printable ASCII, at most 64) as the hospital knows it, and a name to show."""

    id: str
    name: str


@dataclass(frozen=True)
class LinkScope:
    """What a link opens: one patient's timeline as its institution may see it, or these studies, as (UID, owner).

    `current`: the study of the timeline, as (UID, owner), with which the reading begins, where one was named.
    """

    patient: PatientIdentifier | None = None
    studies: tuple[tuple[str, str], ...] = ()
    current: tuple[str, str] | None = None


@dataclass(frozen=True)
class ViewerLink:
    """A link as it stands at a moment, from the facts of its partition."""

    id: str
    institution: str
    practitioner: Practitioner
    purpose: str
    scope: LinkScope
    created_at: datetime
    open_until: datetime
    opened_at: datetime | None
    alive_at: datetime | None
    ended: bool
    keys: frozenset[tuple[str, str]]
    browser: str = ""
    """What stands for the browser that opened it (`_of_browser`); empty for one that keeps no secret: it opens once."""

    @property
    def ends_at(self) -> datetime:
        """When it ends at the latest, if nobody ends it or goes idle."""
        return self.open_until if self.opened_at is None else self.opened_at + SESSION_LIMIT

    def may_open(self, now: datetime) -> bool:
        """Whether the token still opens at `now` (aware)."""
        if self.opened_at is None:
            return not self.ended and now < self.open_until
        return self.live(now) and len(self.keys) < 2 * MAX_OPENINGS

    def opened_elsewhere(self, browser: str | None) -> bool:
        """Whether it was opened, and not by the browser with this secret."""
        return self.opened_at is not None and (browser is None or _of_browser(self.id, browser) != self.browser)

    def live(self, now: datetime) -> bool:
        """Whether the reading session holds at `now` (aware)."""
        if self.ended or self.opened_at is None or self.alive_at is None:
            return False
        return now < self.ends_at and now < self.alive_at + IDLE_LIMIT

    def holds(self, kind: str, secret: str) -> bool:
        """Whether `secret` is one of its keys (`kind` "key") or passes ("pass")."""
        return (kind, _sha256(secret)) in self.keys


@dataclass(frozen=True)
class LinkRequest:
    """The body of `POST /links`, checked."""

    study_instance_uids: tuple[str, ...]
    patient: PatientIdentifier | None
    practitioner: Practitioner
    purpose: str
    open_within: timedelta
    current_study: str | None = None


def parse(body: object, default_issuer: str) -> LinkRequest:
    """The body of `POST /links`. Raises BadRequest naming the field.

    Either `patient`, with `current_study` or without, or `study_instance_uids`; `open_within_seconds` (60 s … 8 h, default 30
    min) is our addition.
    """
    said = fields(body, ("study_instance_uids", "patient", "current_study", "practitioner", "purpose", "open_within_seconds"))
    uids, patient = said.get("study_instance_uids"), said.get("patient")
    if (uids is None) == (patient is None):
        raise BadRequest("Give either study_instance_uids or patient.", "study_instance_uids")
    if uids is not None and (not isinstance(uids, list) or not 1 <= len(uids) <= MAX_STUDIES):
        raise BadRequest(f"study_instance_uids must be a list of 1 to {MAX_STUDIES} UIDs.", "study_instance_uids")
    current = said.get("current_study")
    if current is not None and patient is None:
        raise BadRequest("current_study goes together with patient.", "current_study")
    identifier = None
    if patient is not None:
        number = fields(patient, of="patient")
        identifier = identifiers.patient_identifier(number.get("id"), number.get("issuer"), default_issuer)
    seconds = said.get("open_within_seconds", int(OPEN_WITHIN.total_seconds()))
    longest = int(SESSION_LIMIT.total_seconds())
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not 60 <= seconds <= longest:
        raise BadRequest(f"open_within_seconds must be a number from 60 to {longest}.", "open_within_seconds")
    return LinkRequest(
        tuple(dict.fromkeys(identifiers.uid(_text(uid, "study_instance_uids", 64), "study_instance_uids") for uid in uids or ())),
        identifier,
        _practitioner(said.get("practitioner")),
        _text(said.get("purpose"), "purpose", 200),
        timedelta(seconds=seconds),
        None if current is None else identifiers.uid(_text(current, "current_study", 64), "current_study"),
    )


def _practitioner(value: object) -> Practitioner:
    said = fields(value, of="practitioner")
    number = _text(said.get("id"), "practitioner.id", 64)
    if not number.isascii():
        raise BadRequest("practitioner.id must be 1 to 64 printable ASCII characters.", "practitioner.id")
    return Practitioner(number, _text(said.get("name"), "practitioner.name", 100))


def _text(value: object, parameter: str, longest: int) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > longest or not value.isprintable():
        raise BadRequest(f"{parameter} must be 1 to {longest} printable characters.", parameter)
    return value.strip()


def new_secret() -> str:
    """256 random bits, as 43 characters that may stand in a fragment, a header or a path."""
    return secrets.token_urlsafe(32)


def link_id(token: str) -> str | None:
    """What stands for a token in keys: its SHA-256, in 43 URL-safe characters; None for what cannot be a token."""
    if not _SECRET.fullmatch(token):
        return None
    return urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).decode().rstrip("=")


def credential(link: str, secret: str) -> str:
    """What a browser keeps: where to look, and the secret."""
    return f"{link}.{secret}"


def split_credential(text: str) -> tuple[str, str] | None:
    """(link id, secret) of a credential, or None for what cannot be one."""
    link, dot, secret = text.partition(".")
    return (link, secret) if dot and _SECRET.fullmatch(link) and _SECRET.fullmatch(secret) else None


def browser_secret(value: object) -> str | None:
    """What a browser says to be known again by: 43 characters of base64url, or nothing. Raises BadRequest."""
    if value is None:
        return None
    if not isinstance(value, str) or not _SECRET.fullmatch(value):
        raise BadRequest("browser must be 256 random bits, as 43 characters of base64url.", "browser")
    return value


def _of_browser(link: str, secret: str) -> str:
    """What is kept of a browser's secret: nothing that could be compared between links."""
    return _sha256(f"{link}.{secret}")


def is_id(text: str) -> bool:
    """Whether `text` can be a link's id."""
    return _SECRET.fullmatch(text) is not None


def partition(link: str) -> str:
    """The partition of one link's facts."""
    return keys.link_facts(urlsafe_b64decode(link + "=").hex())


def creation(link: ViewerLink, by: str) -> Item:
    """The fact that a link was made. `by` is who asked for it."""
    patient = link.scope.patient
    return Item(
        partition(link.id),
        keys.LINK,
        {
            "institution": link.institution,
            "practitioner": {"id": link.practitioner.id, "name": link.practitioner.name},
            "purpose": link.purpose,
            "patient": {"issuer": patient.issuer, "id": patient.value} if patient else None,
            "studies": [list(study) for study in link.scope.studies],
            **({"current": list(link.scope.current)} if link.scope.current else {}),
            "created_at": iso(link.created_at),
            "open_until": iso(link.open_until),
            "by": by,
        },
        expires=_forgotten(link.open_until),
    )


def opening(link: ViewerLink, key: str, pass_: str, now: datetime) -> list[Item]:
    """The facts of an opening: a key and a pass. The first sign of life is one too."""
    begun = link.opened_at or now
    fields: dict[str, object] = {"at": iso(now)}
    return [
        Item(partition(link.id), keys.link_key(kind, _sha256(secret)), fields, expires=_forgotten(begun + SESSION_LIMIT))
        for kind, secret in (("key", key), ("pass", pass_))
    ]


def first_opening(link: ViewerLink, now: datetime, browser: str | None = None) -> Item:
    """The fact that begins the reading session: the first one stands. `browser` is the secret of the browser that opened it."""
    data: dict[str, object] = {"at": iso(now), "browser": _of_browser(link.id, browser) if browser else ""}
    return Item(partition(link.id), keys.OPENED, data, expires=_forgotten(now + SESSION_LIMIT))


def sign_of_life(link: ViewerLink, now: datetime) -> Item | None:
    """The fact that someone is reading, or None when the last one is recent enough."""
    if link.alive_at is not None and now < link.alive_at + ALIVE_EVERY:
        return None
    return Item(partition(link.id), keys.link_alive(iso(now)), {"at": iso(now)}, expires=_forgotten(link.ends_at))


def ending(link: ViewerLink, by: str, now: datetime) -> Item:
    """The fact that ends it."""
    return Item(partition(link.id), keys.END, {"at": iso(now), "by": by}, expires=_forgotten(link.ends_at))


def from_facts(link: str, items: Iterable[Item]) -> ViewerLink | None:
    """The link that the facts of its partition describe, or None when it was never made."""
    made: dict[str, object] | None = None
    opened: datetime | None = None
    alive: list[datetime] = []
    browser = ""
    given: set[tuple[str, str]] = set()
    ended = False
    for item in items:
        kind, _, rest = item.sk.partition("#")
        if kind == "LINK":
            made = item.data
        elif kind == keys.END:
            ended = True
        elif kind == "KEY":
            name, _, hashed = rest.partition("#")
            given.add((name, hashed))
        elif kind in (keys.OPENED, "ALIVE"):
            at = kept_moment(item.data["at"])
            alive.append(at)
            if kind == keys.OPENED:
                opened, browser = at, str(item.data.get("browser", ""))
    if made is None:
        return None
    return ViewerLink(
        link, str(made["institution"]), _practitioner(made["practitioner"]), str(made["purpose"]), _scope(made),
        kept_moment(made["created_at"]), kept_moment(made["open_until"]),
        opened, max(alive, default=None), ended, frozenset(given), browser,
    )  # fmt: skip


def _scope(made: dict[str, object]) -> LinkScope:
    patient, chosen, current = made["patient"], made["studies"], made.get("current")
    return LinkScope(
        PatientIdentifier(str(patient["issuer"]), str(patient["id"])) if isinstance(patient, dict) else None,
        tuple((str(uid), str(owner)) for uid, owner in chosen) if isinstance(chosen, list) else (),
        (str(current[0]), str(current[1])) if isinstance(current, list) else None,
    )


def _forgotten(ends_at: datetime) -> int:
    """When the table may forget a fact of a link: the audit has what was read through it."""
    return int((ends_at + SESSION_LIMIT + KEPT_AFTER_END).timestamp())


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
