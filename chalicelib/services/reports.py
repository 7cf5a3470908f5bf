"""Reports: a document that a RIS sends becomes a DICOM instance of its study; and is read back for people.

A document is told by the `document` parameter of its sender (or the setId of a CDA), and its versions are the instances of one
series. Sending the newest version again changes nothing; other bytes are the next version, and the older ones stay readable.
A CDA that names its set and its version has that version, whenever it comes.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Protocol

from chalicelib.domain import audit, studies
from chalicelib.domain.audit import Entry, Kind, Recorder
from chalicelib.domain.errors import BadRequest, NotFound, TryAgain
from chalicelib.domain.ports import Item, Objects, Table
from chalicelib.domain.sharing import HOSPITAL_TIME
from chalicelib.services import access, versions
from chalicelib.services.index_instances import Stored
from chalicelib.services.registry import Caller

MAX_BYTES = 4_400_000
"""What fits a request of the API after base64; larger documents are sent as DICOM by `/uploads`."""
_NAMESPACE = uuid.UUID("5d0b4e5e-7a2b-5d43-8f0e-5b0a9f1c8a11")

Index = Callable[[Stored], Exception | None]
"""Indexes a stored object now; the error when it must be tried again."""


@dataclass(frozen=True)
class Sent:
    """A report as it was sent: its kind, the title given or found in it, the id of the document, its bytes.

    `version`: that of a CDA with setId and versionNumber; None where it is the next one.
    """

    kind: str
    title: str
    document: str
    content: bytes
    version: int | None = None


@dataclass(frozen=True)
class Place:
    """Where a report goes: its series, its own UID, its version, and the UIDs of the versions that it replaces."""

    series: str
    sop: str
    version: int
    replaces: tuple[str, ...]


class Build(Protocol):
    """Makes the DICOM file of a report (`dicom.documents.build`)."""

    def __call__(self, sent: Sent, of_study: studies.Attributes, place: Place, at: datetime) -> bytes: ...


def add_report(
    table: Table,
    objects: Objects,
    index: Index,
    build: Build,
    caller: Caller,
    study: str,
    sent: Sent,
    now: datetime,
    tell: Recorder,
) -> tuple[dict[str, Any], bool]:
    """Add a report to one of the caller's own studies: its entry, and whether it is new. Raises NotFound."""
    owner = caller.member.id
    view, _ = access.find_study(table, owner, study, owner, now)
    series = _uid(f"{owner}\n{study}\n{sent.kind}\n{sent.document}")
    facts = list(table.query_all(studies.study_partition(owner, study), f"I#{series}#"))
    numbers = {one.sop_instance_uid: _number(one) for one in studies.instances(facts)}
    latest = max(numbers.values(), default=0)
    digest = sha256(sent.content).hexdigest()

    def entry(version: int) -> dict[str, Any]:
        return _entry(_uid(f"{series}\n{digest}\n{version}"), series, sent, version, newest=version >= latest)

    version = sent.version
    known = _uid(f"{series}\n{digest}\n{latest if version is None else version}")
    if known in numbers:
        tell(Entry(Kind.READ, owner, audit_patients(view), study))
        return entry(numbers[known]), False
    version = latest + 1 if version is None else version
    replaces = tuple(sorted(sop for sop, number in numbers.items() if number == latest < version))
    place = Place(series, _uid(f"{series}\n{digest}\n{version}"), version, replaces)
    attributes = studies.to_file_under(view.data) | {"0020000D": {"vr": "UI", "Value": [study]}}
    instance = build(sent, attributes, place, now.astimezone(HOSPITAL_TIME))
    stored = Stored(owner, sha256(instance).hexdigest(), len(instance))
    objects.put_new(stored.key, instance, stored.sha256)
    failed = index(stored)
    if failed is not None:
        raise TryAgain from failed
    tell(Entry(Kind.IMPORT, owner, audit_patients(view), study, count=1))
    return entry(version), True


def list_reports(table: Table, caller: Caller, study: str, owner: str | None, now: datetime, tell: Recorder) -> dict[str, Any]:
    """The reports of a study that the caller may see, newest first. Raises NotFound."""
    view, decided = access.find_study(table, caller.member.id, study, owner, now)
    gone = studies.withdrawn(table.query_all(studies.study_partition(view.sk, study), "W#"))
    entries: Any = view.data["reports"]
    _tell_seen(caller, view, decided, tell)
    left = [entry for entry in entries if entry["sop_instance_uid"] not in gone]
    return {"study_instance_uid": study, "owner": view.sk, "reports": left}


def find_report(
    table: Table, caller: Caller, study: str, sop: str, owner: str | None, now: datetime, tell: Recorder
) -> tuple[Stored, dict[str, Any]]:
    """The object that holds a report of a study that the caller may see, and the report's entry. Raises NotFound."""
    view, decided = access.find_study(table, caller.member.id, study, owner, now)
    entries: Any = view.data["reports"]
    entry = next((one for one in entries if one["sop_instance_uid"] == sop), None)
    if entry is None:
        raise NotFound
    fact = versions.fact_of(table, view.sk, study, str(entry["series_instance_uid"]), sop)
    if fact is None:
        raise NotFound
    _tell_seen(caller, view, decided, tell)
    return Stored(view.sk, str(fact.data["sha256"]), int(str(fact.data["size"]))), entry


def check_document(text: str | None) -> str:
    """The id of a document that a sender gives, or the default. Raises BadRequest."""
    if text is None:
        return "report"
    if not 1 <= len(text) <= 64 or not text.isprintable():
        raise BadRequest("document must be 1 to 64 printable characters.", "document")
    return text


def audit_patients(view: Item) -> tuple[Any, ...]:
    """The patients of a study's view, for the audit trail."""
    return audit.seen(view.data).patients


def _tell_seen(caller: Caller, view: Item, decided: access.Decided, tell: Recorder) -> None:
    kind = Kind.READ if view.sk == caller.member.id else Kind.DISCLOSURE
    tell(audit.of_study(kind, audit.seen(view.data, decided.decision), count=1))


def _number(one: studies.Instance) -> int:
    text = studies.first_value(one.attributes, "00200013")
    return int(text) if text.isdigit() else 0


def _uid(text: str) -> str:
    return f"2.25.{uuid.uuid5(_NAMESPACE, text).int}"


def _entry(sop: str, series: str, sent: Sent, version: int, *, newest: bool) -> dict[str, Any]:
    return {
        "sop_instance_uid": sop,
        "series_instance_uid": series,
        "kind": sent.kind,
        "title": sent.title,
        "version": version,
        "newest": newest,
    }
