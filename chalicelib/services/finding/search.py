"""Searching (QIDO-RS, PS3.18 10.6): one Query finds candidates, facts decide, the rest of the keys filter.

Work is bounded: a search that no index helps looks at `MAX_EXAMINED` entities at the most, newest first, and says so.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache, partial
from itertools import islice

from chalicelib.dicomweb import qido, resources, search_plan
from chalicelib.dicomweb.matching import Uids, Universal
from chalicelib.dicomweb.qido import Query
from chalicelib.dicomweb.search_results import project, remaining_text, with_day_of_change
from chalicelib.domain import accession, audit, keys, shown_patients, studies, tags
from chalicelib.domain.attributes import PATIENT_AND_STUDY, SERIES
from chalicelib.domain.audit import DisclosedStudy, Entry, Kind
from chalicelib.domain.dicom_json import Attributes
from chalicelib.domain.errors import NotFound
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Item, Key, Table
from chalicelib.domain.studies import Bounds
from chalicelib.domain.study_views import SearchFace, SearchRow, SeriesView
from chalicelib.services import access
from chalicelib.services.finding import paging
from chalicelib.services.finding.persons import Persons, matching_face, persons
from chalicelib.services.registry import Caller
from chalicelib.services.search_rows import indexed, numbers_linked, search_row

MAX_EXAMINED = 10_000
_CHUNK = 100


@dataclass(frozen=True)
class Match:
    """One result: the attributes of the entity and of those above it, and what its Retrieve URL needs."""

    attributes: Attributes
    seen: DisclosedStudy
    within: Bounds
    series: str | None = None
    sop: str | None = None
    persons: Persons | None = None
    """Of a study of several patients, which of its series and instances are whose."""
    issuer: Attributes | None = None
    """Of accession numbers (`domain.accession`)."""
    tally: str = ""
    """What stands for the study's content, where it is named in the path."""

    @property
    def owner(self) -> str:
        """Whose study it is."""
        return self.seen.owner

    @property
    def study(self) -> str:
        """Its Study Instance UID."""
        return self.seen.study

    def retrieve_url(self, service: str, viewer: str) -> str:
        """Where the entity is retrieved; `?owner=` tells another institution's from the caller's own."""
        owner = None if self.owner == viewer else self.owner
        return resources.entity_url(service, self.study, self.series, self.sop, owner)


@dataclass
class SearchPage:
    """What was found, and the texts of `Warning: 299`."""

    matches: list[Match] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def entries(self, caller: Caller, query: Query, text: str) -> list[Entry]:
        """What to record: the search itself, and the studies that it disclosed.

        `text`: the query as it was sent. It is of one patient where it names a PatientID, the caller's own where it names no
        issuer.
        """
        own, number = caller.member, search_plan.one_text(query, tags.PatientID)
        issuer = search_plan.one_text(query, tags.IssuerOfPatientID) or own.patient_id_issuer
        patients = (PatientIdentifier(issuer, number),) if number else ()
        owner = own.id if number and caller.registry.by_issuer(issuer) == own else None
        searched = Entry(Kind.QUERY, owner, patients, text=text, count=len(self.matches))
        return [*audit.disclosures(own.id, (match.seen for match in self.matches)), searched]

    def results(self, caller: Caller, query: Query, service: str, now: datetime) -> list[Attributes]:
        """The matches as DICOM JSON (PS3.18 10.6.3.3), each with its owner's name and its address below `service`."""
        results = []
        for match in self.matches:
            result = with_day_of_change(project(query, match.attributes), now)
            owner = caller.registry.members.get(match.owner)
            result[tags.InstitutionName] = {"vr": "LO", "Value": [owner.name if owner else match.owner]}
            result[tags.RetrieveURL] = {"vr": "UR", "Value": [match.retrieve_url(service, caller.member.id)]}
            results.append(dict(sorted(result.items())))
        return results


@dataclass
class _Budget:
    left: int = MAX_EXAMINED
    exceeded: bool = False
    """Whether there was something that was not looked at."""

    def take(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, until the budget is spent."""
        for item in items:
            if self.left <= 0:
                self.exceeded = True
                return
            self.left -= 1
            yield item


def search(
    table: Table, caller: Caller, query: Query, now: datetime, opened: frozenset[tuple[str, str]] | None = None
) -> SearchPage:
    """One page of what the caller may see and the query matches, newest study first. Raises NotFound for a study in
    the path that the caller may not see.

    `opened`: (study, owner) of what it is kept to, where it is.
    """
    budget = _Budget()
    every = _studies(table, caller, query, now, budget)
    if opened is not None:
        every = (match for match in every if (match.study, match.owner) in opened)
    pages, start = None, paging.BEGINNING
    if query.level != "study":
        if query.scope.study_instance_uid is not None:
            matches = list(every)
            every = iter(matches)
            pages = _pages(caller.member.id, query, matches)
            start = pages.nearest(table, query.offset) if pages else start
        below = _series if query.level == "series" else _instances
        every = below(table, query, every, budget, start.after)
    skipped = query.offset - start.offset
    page = list(islice(every, skipped, skipped + query.limit + 1))
    found = SearchPage(page[: query.limit], list(query.warnings))
    if len(page) > query.limit:
        found.warnings.append(remaining_text(None))
        if pages and found.matches:
            last = found.matches[-1]
            pages.keep(table, paging.PagePlace(query.offset + query.limit, "#".join(filter(None, (last.series, last.sop)))), now)
    elif budget.exceeded:
        found.warnings.append(f"Only the newest {MAX_EXAMINED} candidates were searched. Please add a key")
    return found


def _pages(viewer: str, query: Query, matches: Sequence[Match]) -> paging.SearchPages | None:
    """The pages of a search in one study; None where there are none to be kept."""
    if len(matches) != 1:
        return None
    study = matches[0]
    content = (study.tally, repr(study.within), repr(study.persons.row if study.persons else None))
    return paging.pages_of(viewer, study.owner, study.study, content, query)


def _studies(table: Table, caller: Caller, query: Query, now: datetime, budget: _Budget) -> Iterator[Match]:
    viewer, tally = caller.member.id, ""
    is_others = _others_number(table, caller, query)
    if query.scope.study_instance_uid is not None:
        view, decided = access.find_study(table, viewer, query.scope.study_instance_uid, query.owner, now)
        linked = numbers_linked(view, decided.known)
        found = shown_patients.faces(viewer, view, decided.used(), linked, caller.registry)
        tally = view.tally
        rows: Iterable[tuple[SearchRow, access.StudyDecision]] = [(search_row(view, found), decided)]
    else:
        rows = _rows(table, caller, query, now, budget, is_others)
    seen: set[tuple[str, str]] = set()
    for row, decided in rows:
        owner, study = row.owner, row.study_instance_uid
        issuer = accession.issuer_of(caller.registry, owner)
        matches = partial(_matches, query, issuer, is_others)
        meant = matching_face(row, matches) if _means_owner(query, viewer, owner) else None
        if meant is None or (owner, study) in seen:
            continue
        seen.add((owner, study))
        people = None
        if query.level != "study":
            people = persons(table, viewer, meant, decided, matches)
        yield Match(
            accession.with_issuer(meant.attributes, issuer),
            audit.disclosed(row, decided.decision),
            studies.bounds(viewer, row),
            persons=people,
            issuer=issuer,
            tally=tally,
        )


def _rows(
    table: Table, caller: Caller, query: Query, now: datetime, budget: _Budget, is_others: IsOthers
) -> Iterator[tuple[SearchRow, access.StudyDecision]]:
    """The rows that an index finds, as far as the caller may see them; only those that match are decided on."""
    viewer = caller.member.id
    candidates = budget.take(_candidates(table, viewer, query, _narrow(table, caller, query)))
    while chunk := list(islice(candidates, _CHUNK)):
        rows = [row for item in chunk if _means_owner(query, viewer, (row := SearchRow.from_item(item.data)).owner)]
        issuers = {owner: accession.issuer_of(caller.registry, owner) for owner in {row.owner for row in rows}}
        rows = [row for row in rows if matching_face(row, partial(_matches, query, issuers[row.owner], is_others)) is not None]
        yield from access.visible(table, viewer, rows, now)


def _means_owner(query: Query, viewer: str, owner: str) -> bool:
    """Whether a search may mean a study of this owner: an accession number alone is the caller's own."""
    return query.owner in (None, owner) and (owner == viewer or not query.by_accession_number_alone)


_ISSUERS = (tags.IssuerOfPatientID, tags.IssuerOfPatientIDQualifiersSequence)
IsOthers = Callable[[PatientIdentifier], bool]
"""Whether a number, though written as one that is searched for, is another person's."""


def _others_number(table: Table, caller: Caller, query: Query) -> IsOthers:
    """Two hospitals give one number to two persons. A PatientID without issuer that is a number of the caller's own means that
    patient, and nobody whom another member calls the same; any other number means everybody who has it."""
    number = search_plan.one_text(query, tags.PatientID)
    names_issuer = any(key.path[0] in _ISSUERS and not isinstance(key.match, Universal) for key in query.keys)
    own = PatientIdentifier(caller.member.patient_id_issuer, number or "")
    if number is None or names_issuer:
        return lambda _: False
    is_known = cache(lambda: access.is_known(table, own, caller.member.id))

    def is_others(found_as: PatientIdentifier) -> bool:
        member = caller.registry.by_issuer(found_as.issuer)
        return member is not None and member != caller.member and is_known()

    return is_others


def _matches(query: Query, issuer: Attributes | None, is_others: IsOthers, face: SearchFace) -> bool:
    """A study is matched under the number that it is found by, which need not be the one that is shown."""
    if face.found_as is not None and is_others(face.found_as):
        return False
    shown = accession.matched(face.attributes, issuer)
    if face.found_as is not None:
        shown = shown | {
            tags.PatientID: {"vr": "LO", "Value": [face.found_as.value]},
            tags.IssuerOfPatientID: {"vr": "LO", "Value": [face.found_as.issuer]},
        }
    return qido.matches(query, shown, "study")


def _narrow(table: Table, caller: Caller, query: Query) -> tuple[Key, ...] | None:
    """(owner, study) of the studies that a key below study level leaves, when it names series or instances by UID; else None."""
    sops, series = query.key(tags.SOPInstanceUID), query.key(tags.SeriesInstanceUID)
    if sops is not None and isinstance(sops.match, Uids):
        wanted = [keys.sop(member, uid) for uid in sorted(sops.match.uids) for member in caller.registry.members]
        found = table.batch_get(wanted)
        return tuple(sorted({(key[0].split("#")[2], str(item.data["study"])) for key, item in found.items()}))
    if series is not None and isinstance(series.match, Uids):
        return tuple(
            sorted(
                {
                    _owner_and_study(item.indexes["gsi1"][1])
                    for uid in sorted(series.match.uids)
                    for item in table.query_all(keys.series_of(uid), index="gsi1")
                }
            )
        )
    return None


def _owner_and_study(text: str) -> Key:
    owner, _, study = text.partition("#")
    return owner, study


def _candidates(table: Table, viewer: str, query: Query, narrowed: tuple[Key, ...] | None) -> Iterator[Item]:
    if narrowed is not None:
        # One request, whether there is something that the viewer may not see, or nothing at all.
        rows = [(keys.search_rows(viewer, study), owner) for owner, study in narrowed]
        found = table.batch_get(rows or [keys.search_row(viewer, "0", viewer)])
        yield from (found[key] for key in sorted(found))
        return
    key = search_plan.selective_key(query)
    page = min(1000, query.offset + query.limit + 1)
    match key:
        case search_plan.ByStudy(uids):
            for uid in uids:
                yield from (item for item in table.query_all(keys.search_rows(viewer, uid)) if "#M#" not in item.sk)
        case search_plan.ByAccession(number):
            yield from table.query_all(keys.rows_by_accession(viewer, indexed(number)), index="gsi2", descending=True, page=page)
        case search_plan.ByPatient(number):
            yield from table.query_all(keys.rows_by_patient(viewer, number), index="gsi1", descending=True, page=page)
        case search_plan.ByName(prefix):
            yield from table.query_all(keys.rows_by_name(viewer), indexed(prefix), index="gsi4", page=1000)
        case search_plan.ByModality(modalities, first, last):
            between = (first or "0", f"{last or '99999999'}~")
            asked = [keys.rows_by_modality(viewer, indexed(modality)) for modality in modalities]
            most = max(page, _CHUNK)
            yield from _newest_first(
                table.query_all(pk, index="gsi3", between=between, descending=True, page=most) for pk in asked
            )
        case search_plan.ByDate(first, last):
            between = (first or "0", f"{last or '99999999'}~")
            yield from table.query_all(keys.rows_by_date(viewer), index="gsi3", between=between, descending=True, page=1000)
        case _:
            newest = min(1000, max(page, _CHUNK))
            yield from table.query_all(keys.rows_by_date(viewer), index="gsi3", descending=True, page=newest)


def _newest_first(found: Iterable[Iterator[Item]]) -> Iterator[Item]:
    """What several queries of the same index find, each study once."""
    seen: set[str] = set()
    for item in heapq.merge(*found, key=lambda item: item.indexes["gsi3"][1], reverse=True):
        place = item.indexes["gsi3"][1]
        if place not in seen:
            seen.add(place)
            yield item


def _series(table: Table, query: Query, found: Iterable[Match], budget: _Budget, after: str) -> Iterator[Match]:
    """The series that match, from behind the one with the UID `after` on."""
    for study in found:
        uid = query.scope.series_instance_uid
        partition = keys.series_views(study.owner, study.study)
        between = (uid, uid) if uid else (f"{after} ", "~")  # a blank comes before whatever a UID may go on with
        for item in budget.take(table.query_all(partition, between=between)):
            view = SeriesView.from_item(item.sk, item.data)
            whole = study.persons.of_series(view.patients) if study.persons else study.attributes
            if whole is None:
                continue
            attributes = accession.with_issuer(whole, study.issuer) | _series_attributes(view)
            if qido.matches(query, attributes, "series"):
                yield replace(study, attributes=attributes, series=item.sk)


def _instances(table: Table, query: Query, found: Iterable[Match], budget: _Budget, after: str) -> Iterator[Match]:
    """The instances that match, from behind the one at `after`, `<series>#<sop>`, on."""
    for study in found:
        uid = query.scope.series_instance_uid
        view_of = _views_in_order(table, keys.series_views(study.owner, study.study), uid or after.partition("#")[0], uid)
        if uid is not None and view_of(uid) is None:
            raise NotFound
        partition = keys.study_facts(study.owner, study.study)
        gone = studies.withdrawn(table.query_all(partition, keys.MARKS))
        every = keys.instance(uid, "") if uid else keys.INSTANCES
        first = f"{keys.INSTANCES}{after}#~" if after else every
        facts = table.query_all(partition, between=(first, f"{every}~"))
        for instance in studies.instances(budget.take(facts), gone, study.within):
            view = view_of(instance.series_instance_uid) or SeriesView(instance.series_instance_uid, {}, 1)
            whole = study.persons.of_instance(instance) if study.persons else study.attributes
            if whole is None:
                continue
            above = accession.with_issuer(whole, study.issuer) | _series_attributes(view)
            if not qido.matches(query, above, "series"):
                continue
            attributes = above | instance_attributes(instance)
            if qido.matches(query, attributes, "instance"):
                yield replace(study, attributes=attributes, series=instance.series_instance_uid, sop=instance.sop_instance_uid)


def _views_in_order(table: Table, partition: str, first: str, last: str | None) -> Callable[[str], SeriesView | None]:
    """What answers the view of a series, None where there is none, for series that are asked for in order of their UIDs."""
    views = table.query_all(partition, between=(first or "0", last or "~"))
    reached = next(views, None)

    def view_of(uid: str) -> SeriesView | None:
        nonlocal reached
        while reached is not None and reached.sk < uid:
            reached = next(views, None)
        return SeriesView.from_item(uid, reached.data) if reached is not None and reached.sk == uid else None

    return view_of


def _series_attributes(view: SeriesView) -> Attributes:
    return {
        **view.attributes,
        tags.SeriesInstanceUID: {"vr": "UI", "Value": [view.series_instance_uid]},
        tags.NumberOfSeriesRelatedInstances: {"vr": "IS", "Value": [view.instances]},
    }


def instance_attributes(instance: studies.Instance) -> Attributes:
    """The attributes of an instance itself, as DICOM JSON: those kept in its fact, and those kept as fields."""
    above = {*PATIENT_AND_STUDY, *SERIES}
    own = {tag: value for tag, value in instance.attributes.items() if tag not in above}
    own[tags.SOPClassUID] = {"vr": "UI", "Value": [instance.fact.sop_class_uid]}
    own[tags.SOPInstanceUID] = {"vr": "UI", "Value": [instance.sop_instance_uid]}
    own[tags.AvailableTransferSyntaxUID] = {"vr": "UI", "Value": [instance.fact.transfer_syntax_uid]}
    if instance.fact.rows:
        own[tags.NumberOfFrames] = {"vr": "IS", "Value": [instance.fact.number_of_frames]}
        own[tags.Rows] = {"vr": "US", "Value": [instance.fact.rows]}
        own[tags.Columns] = {"vr": "US", "Value": [instance.fact.columns]}
    return own
