"""Links and reading sessions: made by an institution, opened by a browser, decided on facts at every request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from chalicelib.domain import viewer_sessions
from chalicelib.domain.audit import Act, Entry, Kind, Recorder
from chalicelib.domain.errors import Gone, NotFound, OpenedElsewhere
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.ports import Item, PutNew, Table
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.timelines import TimelineStudy
from chalicelib.domain.viewer_sessions import LinkScope, ViewerLink
from chalicelib.services import access
from chalicelib.services.finding.timeline import timeline
from chalicelib.services.registry import Caller, load_registry
from chalicelib.services.sharing.readings import ReadingPerson

_NO_LINK = "A" * 42 + "A"


@dataclass(frozen=True)
class Reader:
    """Someone reading through a link: which link, and the caller as whom every service answers."""

    link: ViewerLink
    caller: Caller

    @property
    def viewer(self) -> str:
        """The id of the institution whose eyes these are."""
        return self.caller.member.id

    @property
    def person(self) -> ReadingPerson:
        """Who reads."""
        return ReadingPerson(self.viewer, self.link.practitioner.id, self.link.practitioner.name)


@dataclass(frozen=True)
class Keys:
    """What an opening gives to the browser: for the Authorization header, and for addresses."""

    key: str
    pass_: str


def make(table: Table, caller: Caller, body: object, viewer_url: str, now: datetime, act: Act, record: Recorder) -> JsonObject:
    """The answer of `POST /links`. Raises BadRequest; NotFound when the caller may not see a study, or nothing of the patient, or
    the study with which to begin is none of the patient's."""
    member = caller.member
    asked = viewer_sessions.parse(body, member.patient_id_issuer)
    current = None
    if asked.patient is not None:
        shown = timeline(table, caller, asked.patient.value, asked.patient.issuer, now, record)
        if asked.current_study is not None:
            current = _among(shown.studies, asked.current_study, member.id)
    studies = [(uid, access.find_study(table, member.id, uid, None, now)[0].owner) for uid in asked.study_instance_uids]
    token = viewer_sessions.new_secret()
    number = viewer_sessions.link_id(token) or ""
    link = ViewerLink(
        number, member.id, asked.practitioner, asked.purpose, LinkScope(asked.patient, tuple(studies), current),
        now, now + asked.open_within, None, None, False, frozenset(),
    )  # fmt: skip
    act([PutNew(viewer_sessions.creation(link, caller.actor))], session_entry(link, "made"))
    return {"id": number, "url": f"{viewer_url}/#{token}", "expires_at": iso(link.open_until)}


def _among(entries: Sequence[TimelineStudy], study: str, viewer: str) -> tuple[str, str]:
    """(UID, owner) of a study of a timeline; of two owners' the viewer's own, as everywhere. Raises NotFound."""
    owners = sorted(entry.owner for entry in entries if entry.study_instance_uid == study)
    if not owners:
        raise NotFound
    return study, viewer if viewer in owners else owners[0]


def end_by_institution(table: Table, caller: Caller, link_id: str, now: datetime, act: Act, record: Recorder) -> JsonObject:
    """The answer of `DELETE /links/{id}`: the link opens nothing from the next request on. Raises NotFound."""
    institution = caller.member.id
    link = _load(table, link_id if viewer_sessions.is_id(link_id) else _NO_LINK)
    if link is None or link.institution != institution:
        raise NotFound
    _end(link, caller.actor, now, act, record)
    return {"id": link.id, "status": "ended"}


def open_link(table: Table, token: object, browser: str | None, now: datetime) -> tuple[Reader, Keys]:
    """Open a link: a key and a pass of its reading session. `browser`: the secret of the browser that opens it.

    Raises NotFound for an unknown token, Gone for one that ended, OpenedElsewhere for one that another browser opened.
    """
    number = viewer_sessions.link_id(token) if isinstance(token, str) else None
    link = _load(table, number or _NO_LINK)
    if link is None:
        raise NotFound
    _require_open(link, browser, now)
    reader = _reader(table, link)
    if link.opened_at is None and not table.put(PutNew(viewer_sessions.first_opening(link, now, browser))):
        link = _load(table, link.id) or link
        _require_open(link, browser, now)
    secrets = viewer_sessions.new_secret(), viewer_sessions.new_secret()
    writes: list[Item] = viewer_sessions.opening(link, *secrets, now)
    if link.opened_at is not None and (alive := viewer_sessions.sign_of_life(link, now)) is not None:
        writes.append(alive)
    table.transact([PutNew(item) for item in writes])
    opened = replace(link, opened_at=link.opened_at or now, alive_at=now)
    return replace(reader, link=opened), Keys(*(viewer_sessions.credential(link.id, secret) for secret in secrets))


def _require_open(link: ViewerLink, browser: str | None, now: datetime) -> None:
    if not link.may_open(now):
        raise Gone("This link has ended.")
    if link.opened_elsewhere(browser):
        raise OpenedElsewhere


def reader(table: Table, credential: str, kind: str, now: datetime) -> Reader:
    """Who reads with this key (`kind` "key") or pass ("pass"). Raises NotFound when unknown, Gone when the session ended."""
    number, secret = viewer_sessions.split_credential(credential) or (_NO_LINK, "")
    link = _load(table, number)
    if link is None or not link.holds(kind, secret):
        raise NotFound
    if not link.live(now):
        raise Gone("The reading session has ended.")
    return _reader(table, link)


def keep(table: Table, reader: Reader, now: datetime) -> Reader:
    """Someone is there: the session does not go idle."""
    alive = viewer_sessions.sign_of_life(reader.link, now)
    if alive is None:
        return reader
    table.put(PutNew(alive))
    return replace(reader, link=replace(reader.link, alive_at=now))


def end(reader: Reader, now: datetime, act: Act, record: Recorder) -> None:
    """The reader is done: every key and pass of the session, and the link, open nothing from the next request on."""
    _end(reader.link, reader.caller.actor, now, act, record)


def session_entry(link: ViewerLink, what: str) -> Entry:
    """What to record of a link's life: made, opened, ended."""
    return Entry(Kind.SESSION, link.institution, subject=link.id, text=what)


def _end(link: ViewerLink, by: str, now: datetime, act: Act, record: Recorder) -> None:
    entry = session_entry(link, "ended")
    if act([PutNew(viewer_sessions.ending(link, by, now))], entry):
        record(entry)  # it had ended before: that it was asked for again is recorded all the same


def _load(table: Table, link_id: str) -> ViewerLink | None:
    return viewer_sessions.from_facts(link_id, table.query_all(viewer_sessions.partition(link_id)))


def _reader(table: Table, link: ViewerLink) -> Reader:
    registry = load_registry(table)
    member = registry.members.get(link.institution)
    if member is None:
        raise Gone("The institution that made this link has left.")
    return Reader(link, Caller(member, link.practitioner.id, registry))
