"""What is no DICOM does not stay: a week after its verdict, or as soon as its sender asks, its bytes are removed for good.

Nothing else may be. What is removed is decided here and nowhere else, by the one function that has the right: the verdict must
say `not-dicom`, no later one may say otherwise, and the first bytes of each version that is removed are read again. What begins
as DICOM does is kept, whatever its verdict. The verdict stays, and says from then on that the bytes are gone (`removed_at`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from chalicelib.domain import keys
from chalicelib.domain.audit import Act, Entry, Kind, Purpose
from chalicelib.domain.errors import NotFound, TryAgain
from chalicelib.domain.ports import Item, Put, PutVersion, Table, Version, Versions
from chalicelib.domain.rejections import NOT_DICOM
from chalicelib.domain.rfc3339 import iso, kept_moment
from chalicelib.domain.verdicts import Verdict
from chalicelib.services.ingest.due import DueList
from chalicelib.services.ingest.instance_items import StoredObject

KEPT_FOR = timedelta(days=7)
"""How long what is no DICOM is kept after its verdict, unless its sender has it removed."""
BeginsAsDicom = Callable[[bytes], bool]
"""`dicom.preamble.begins_as_dicom`, of an object's first `_BEGINNING` bytes."""

_BEGINNING = 132
_AGAIN = timedelta(days=1)
_FORGOTTEN = timedelta(days=90)
_MOST_VERSIONS = 1000
_RESERVE = 15.0
"""Seconds that are kept for what was begun."""
_LIST = DueList(keys.removed_on, keys.REMOVAL_PROGRESS, hourly=False, furthest=timedelta(days=60), most=300)


def due(stored: StoredObject, now: datetime) -> Item:
    """What has an object removed in time, written with the verdict that it is no DICOM."""
    return _due_at(stored, now + KEPT_FOR)


def remove_due(
    table: Table,
    versions: Versions,
    begins_as_dicom: BeginsAsDicom,
    now: datetime,
    remaining: Callable[[], float],
    act: Act,
) -> int:
    """Remove what has been kept for long enough, as much as there is time for; how many objects. Safe to repeat.

    What the stores do not answer for is put back for the day after, so that it holds up no other.
    """
    removed = 0

    def handle(item: Item) -> int | None:
        nonlocal removed
        if remaining() < _RESERVE:
            return None
        stored = StoredObject(str(item.data["institution"]), str(item.data["sha256"]), 0)
        try:
            removed += remove(table, versions, begins_as_dicom, stored, now, act, KEPT_FOR)
        except TryAgain:
            table.put(Put(_due_at(stored, now + _AGAIN)))
        return 1

    _LIST.go_through(table, now, handle)
    return removed


def remove(
    table: Table,
    versions: Versions,
    begins_as_dicom: BeginsAsDicom,
    stored: StoredObject,
    now: datetime,
    act: Act,
    kept_for: timedelta = timedelta(),
) -> bool:
    """Remove every version of an object that was rejected as no DICOM; whether its bytes are gone. Raises TryAgain.

    False for whatever else it is, for what begins as DICOM does, and for what got its verdict later than `kept_for` ago.
    """
    first = keys.verdict(stored.institution, stored.sha256)
    verdicts = table.batch_get([first, (first[0], keys.LATER)])
    later = verdicts.get((first[0], keys.LATER))
    item = later or verdicts.get(first)
    verdict = Verdict.from_item(item.data) if item is not None else None
    if verdict is None or not verdict.is_rejected_as(NOT_DICOM):
        return False
    if kept_for and kept_moment(verdict.at) > now - kept_for:
        return False  # it was sent again: its own time comes
    found = versions.of(stored.key)
    if any(_is_image(versions, begins_as_dicom, stored.key, version) for version in found):
        return False
    if not verdict.is_removed:
        number = (later.version or 0) if later is not None else 0
        gone = Item(first[0], keys.LATER, replace(verdict, removed_at=iso(now)).to_item(), version=number + 1)
        entry = Entry(Kind.UPLOAD_REMOVED, stored.institution, purpose=Purpose.ADMINISTRATION, subject=stored.sha256, count=1)
        if act([PutVersion(gone, number)], entry):
            raise TryAgain  # it got another verdict meanwhile
    for version in found:  # these, and none that came since
        versions.remove(stored.key, version.id)
    if len(found) >= _MOST_VERSIONS:
        raise TryAgain
    return True


def _is_image(versions: Versions, begins_as_dicom: BeginsAsDicom, key: str, version: Version) -> bool:
    try:
        return not version.marker and begins_as_dicom(versions.read(key, version.id, _BEGINNING))
    except NotFound as error:  # nothing is removed that was not read
        raise TryAgain from error


def _due_at(stored: StoredObject, at: datetime) -> Item:
    data: dict[str, object] = {"institution": stored.institution, "sha256": stored.sha256}
    return _LIST.item(at, f"{stored.institution}#{stored.sha256}", data, at + _FORGOTTEN)
