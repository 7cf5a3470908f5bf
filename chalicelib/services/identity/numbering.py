"""What a hospital's systems call its numbering: names that its registration knows, and those that keep a number apart.

Whose a study is follows, when it is projected, from what its instances say and from the names that are registered then
(`domain.filing`). So a change of the names touches the studies that are filed under them, each by a fact of its own, and the
projector sees to the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalicelib.domain import institutions, italian, keys, patients
from chalicelib.domain.errors import TryAgain
from chalicelib.domain.feed import IssuerNews
from chalicelib.domain.filing import Own, as_said
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.institutions import Institution, Registry
from chalicelib.domain.ports import Item, Key, PutNew, PutVersion, Table, Write
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.study_views import SearchRow, StudyView
from chalicelib.services import access, changes
from chalicelib.services.changes import Change
from chalicelib.services.identity import linking

MAX_TOLD = 100
"""Names that an institution is told of: a system that makes up a new one with each image fills no feed."""
_PAGE = 500
_PAGES_AT_ONCE = 100


@dataclass(frozen=True)
class Apart:
    """How many studies of an institution are filed under the same number of another issuer."""

    issuer: str
    studies: int

    def to_json(self) -> dict[str, object]:
        """As answers say it."""
        return {"issuer": self.issuer, "studies": self.studies}


def own_of(registry: Registry, owner: str) -> Own:
    """What makes the numbers that an owner's instances say those of its own numbering."""
    member = registry.known(owner)
    return member.own if member else as_said


def file_under_own(table: Table, registry: Registry, known: StudyView, summary: StudyView, now: datetime) -> None:
    """File a study, whose instances name the owner's issuer in its own way, under the owner's number too, once.

    So what is said of that number reaches the study. `known` is the summary of before.
    """
    own = own_of(registry, summary.owner)
    for said in summary.said:
        number = own(said)
        if number != said and number not in known.patients:
            for linked in access.load_deciding(table, said.hash).linked:
                if italian.kind(linked) == "codice-fiscale":
                    linking.check_code(table, linked, now)
            table.put(PutNew(patients.filed(number, summary.owner, summary.study_instance_uid)))


def tell_unknown(table: Table, registry: Registry, known: StudyView, summary: StudyView, now: datetime) -> None:
    """Tell an owner of each name that keeps some of its numbers apart, once. `known` is the summary of before."""
    owner = summary.owner
    member = registry.known(owner)
    for said in summary.said:
        name = member.unknown_name(said) if member and said not in known.said else None
        if name is None:
            continue
        event = f"ISSUER#{hashlib.sha256(name.casefold().encode()).hexdigest()[:32]}"
        change = Change(owner, event, "issuer-unknown", IssuerNews(name))
        if changes.was_told(table, change):
            continue
        if len(table.query(keys.feed(owner), keys.event_told("ISSUER#"), limit=MAX_TOLD).items) < MAX_TOLD:
            changes.tell(table, [change], now)


def kept_apart(viewer: str, asked: PatientIdentifier, rows: Iterable[SearchRow]) -> list[Apart]:
    """Of search rows that the viewer may see: how many of its own studies are filed under the same number of another issuer."""
    under: dict[str, set[str]] = {}
    joined: set[str] = set()
    for row in rows:
        if row.owner != viewer:
            continue
        for number in row.patients:
            if number == asked:
                joined.add(row.study_instance_uid)
            elif number.value == asked.value:
                under.setdefault(number.issuer, set()).add(row.study_instance_uid)
    return [Apart(issuer, len(found - joined)) for issuer, found in sorted(under.items()) if found - joined]


def apart_from(table: Table, viewer: str, number: PatientIdentifier, now: datetime) -> list[Apart]:
    """The same for a number, looked up. At most a page of rows is looked at."""
    items = table.query(keys.rows_by_patient(viewer, number.value), index="gsi1", limit=_PAGE, descending=True).items
    rows = [row for item in items if (row := SearchRow.from_item(item.data)).owner == viewer]
    return kept_apart(viewer, number, [row for row, _ in access.visible(table, viewer, rows, now)])


# When the names change -------------------------------------------------------------------------------------------


def names_changed(table: Table, registration: str, now: datetime) -> None:
    """Touch the studies that are filed under names which a registration (its sort key) brought or took away.

    Raises TryAgain while there are more than one delivery takes: the next one goes on where this one ended.
    """
    institution, _, version = registration.removeprefix(keys.begins(keys.institution)).partition("#")
    changed = _changed(table, institution, int(version))
    if not changed:
        return
    place = keys.names_progress(institution), version
    reached = table.get(*place)
    start: Any = reached.data["next"] if reached else {}
    if reached is not None and start is None:
        return
    for count in range(_PAGES_AT_ONCE):
        page = table.query(keys.rows_by_date(institution), index="gsi3", start=start or None, limit=_PAGE)
        rows = [SearchRow.from_item(item.data) for item in page.items]
        _touch(table, [(row.owner, row.study_instance_uid) for row in rows if _named(row) & changed], version, now)
        start = page.next
        if start is None or count == _PAGES_AT_ONCE - 1:
            break
    known = (reached.version or 0) if reached else 0
    table.put(PutVersion(Item(*place, {"next": start}, version=known + 1), known))
    if start is not None:
        raise TryAgain


def _changed(table: Table, institution: str, version: int) -> set[str]:
    """The names that a version of a registration has and the one before it has not, or the other way round."""
    versions: list[Key] = [(keys.REGISTRY, keys.institution(institution, number)) for number in (version - 1, version)]
    found = table.batch_get(versions)
    before, after = (_names(found[key]) if key in found else set() for key in versions)
    return before ^ after if versions[0] in found else set()


def _names(item: Item) -> set[str]:
    member: Institution = institutions.from_data(item.data)
    return {name.casefold() for name in (*member.names, *member.issuer_names)}


def _named(row: SearchRow) -> set[str]:
    """The names of issuers in the numbers of a search row, as its instances say them."""
    return {number.issuer.partition("/")[2].casefold() for number in row.said or row.patients} - {""}


def _touch(table: Table, found: Sequence[Key], version: str, now: datetime) -> None:
    for start in range(0, len(found), 100):
        writes: list[Write] = [
            PutNew(Item(keys.study_facts(owner, study), keys.renamed(version), {"at": iso(now)}))
            for owner, study in dict.fromkeys(found[start : start + 100])
        ]
        while writes and (held := table.transact(writes)):
            writes = [write for write, ok in zip(writes, held, strict=True) if ok]
