"""Versions of reports: which of a study's reports stand, and which have been replaced. Pure, whatever order they came in.

A report is replaced by whatever says so, and by nothing else: a structured report by one that names it as its predecessor; a
CDA document by one that replaces it (RPLC), or that has a higher versionNumber in its set (setId); a version that
`POST /studies/{uid}/reports` made, by a later one of its series (by the report's own date, then its status, then its number; of
a day without a time, by the status first), by one that names its document, and with all documents of its version of a report
(a text, a PDF) by a later version that is a correction, has one of them again, or is finished where it was not; another PDF, or
CDA document without these two, by one of its series and title with a higher Instance Number. An addendum replaces nothing. Two
that both replace a third both stand, since a report that nobody replaced must not be put away as an older version. What has been
withdrawn is shown no more, and still says what it replaced. In a circle, the latest stands.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from chalicelib.domain.json_object import JsonObject, known_fields, said_fields

Key = tuple[str, str, bool, str, int, int, str]
Moment = tuple[str, str, bool, str]
Series = tuple[str, str]
UNFINISHED = frozenset({"preliminary", "partial"})
STATUSES = {"preliminary": 0, "partial": 1, "final": 1, "addendum": 1, "corrected": 2, "cancelled": 3}
"""What a report may be, and which of two of the same moment counts as the later; one that says nothing counts as final."""


class WrittenMoment(NamedTuple):
    """When a report was written, at the hospital: YYYYMMDD and HHMMSS…, either may be empty.

    `repeated`: in the hour that comes twice when summer time ends, the second time. It is told where the moment has an offset.
    """

    date: str = ""
    time: str = ""
    repeated: bool = False

    @property
    def place(self) -> Moment:
        """What orders moments: within the hour that comes twice the first time goes before the second."""
        return self.date, self.time[:2], self.repeated, self.time


@dataclass(frozen=True, slots=True)
class DeclaredDocument:
    """What a report says of the document that it is a version of; what it does not say is empty.

    `replaces`: the SOP Instance UIDs, of the same study, that it replaces. `preliminary`: it says that it is not final. Of one
    that `POST /studies/{uid}/reports` made: `named` (the digest of its document's name), `report` (of the name of the
    report that it is a document of), `replaces_named`, and `status`
    (`STATUSES`). Of a CDA document: `id` and `set` (digests, `dicom.cda.same`), `version`, `replaces_ids` (digests), `date` and
    `time` (effectiveTime, at the hospital), `content` (the digest of its bytes). `conclusion`: the first line of what it
    concludes. `repeated`: as in `WrittenMoment`, of that date or of the instance's Content Date and Time.
    """

    replaces: tuple[str, ...] = ()
    preliminary: bool = False
    named: str = ""
    replaces_named: tuple[str, ...] = ()
    status: str = ""
    id: str = ""
    set: str = ""
    replaces_ids: tuple[str, ...] = ()
    date: str = ""
    time: str = ""
    content: str = ""
    version: int | None = None
    conclusion: str = ""
    repeated: bool = False
    report: str = ""

    @property
    def is_numbered(self) -> bool:
        """Whether it says its number in a set of versions."""
        return bool(self.set) and self.version is not None

    def to_item(self) -> JsonObject:
        """As items keep it: only what it says."""
        return said_fields(self, _DECLARED)

    @classmethod
    def from_item(cls, item: Mapping[str, Any] | None) -> DeclaredDocument:
        """What `to_item` made."""
        return cls(**known_fields(item, _DECLARED)) if item else UNDECLARED


_DECLARED = tuple(field.name for field in fields(DeclaredDocument))
UNDECLARED = DeclaredDocument()


@dataclass(frozen=True)
class Report:
    """A report as ordering sees it. `date` (YYYYMMDD) and `time` (HHMMSS…) may be empty; `number` is its Instance Number;
    `declared` what it says of its document; `shown` is False for a withdrawn one."""

    sop_instance_uid: str
    series_instance_uid: str
    kind: str
    title: str
    date: str
    time: str
    number: int
    declared: DeclaredDocument = UNDECLARED
    shown: bool = True

    def to_item(self) -> JsonObject:
        """As an item keeps it."""
        return {**{name: getattr(self, name) for name in _REPORT}, "declared": self.declared.to_item()}

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Report:
        """What `to_item` made."""
        return cls(**{**item, "declared": DeclaredDocument.from_item(item.get("declared"))})

    @property
    def status(self) -> str:
        """One of `STATUSES`, or empty where it says none."""
        return self.declared.status

    @property
    def written(self) -> WrittenMoment:
        """When it was written."""
        return WrittenMoment(self.date, self.time, self.declared.repeated)

    @property
    def rank(self) -> int:
        """The place of its status among those of one moment."""
        return STATUSES.get(self.status, 1)

    @property
    def series(self) -> Series:
        """What a document that says no order itself shares with its versions."""
        return self.series_instance_uid, self.kind

    @property
    def moment(self) -> Key:
        """What orders reports that are no versions of each other."""
        return *self.written.place, self.rank, self.number, self.sop_instance_uid


_REPORT = tuple(field.name for field in fields(Report))


@dataclass(frozen=True)
class ReportVersion:
    """A report in its place: its version, whether it stands (`newest`), and what all versions of its document share.

    `same_as`: the SOP Instance UID of the one that it is a copy of, or empty.
    """

    report: Report
    version: int
    newest: bool
    document: str
    same_as: str


@dataclass(frozen=True)
class ListedReport:
    """A report as a study's view lists it, and as `GET /studies/{uid}/reports` answers it.

    `newest`: none of the others has replaced it. `document`: what the versions of one have in common. `status`: one of
    `STATUSES`, or empty; `preliminary`: it says itself that it is not final. `same_as`: the instance that it is a copy of.
    `conclusion`: the first line of what it concludes, where it stands.
    """

    sop_instance_uid: str
    series_instance_uid: str
    kind: str
    title: str
    date: str
    time: str
    version: int
    newest: bool
    document: str = ""
    status: str = ""
    preliminary: bool = False
    same_as: str = ""
    conclusion: str = ""

    def to_item(self) -> JsonObject:
        """As items and answers have it: only what is not the default."""
        return {name: value for name, value in asdict(self).items() if name in _ALWAYS_LISTED or value}

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> ListedReport:
        """What `to_item` made."""
        return cls(**item)


_ALWAYS_LISTED = ("sop_instance_uid", "series_instance_uid", "kind", "title", "date", "time", "version", "newest")


def place(reports: Iterable[Report]) -> list[ReportVersion]:
    """The shown ones among the reports of a study: latest first, and each before those that it replaces."""
    every = {_instance(report.sop_instance_uid): report for report in reports}
    graph = _Graph(every)
    _replacements(graph, every)
    order, replaced = graph.newest_first()
    depths = graph.depths(order)
    by_date = _by_date(every.values())
    shown = [node for node in order if node in every and every[node].shown]
    copies = _copies(every[node] for node in shown if node not in replaced)
    copies |= _copies(every[node] for node in shown if node in replaced)
    placed: list[ReportVersion] = []
    for node in shown:
        report, same_as = every[node], copies.get(every[node].sop_instance_uid, "")
        stands = node not in replaced and not same_as
        version = _version(report, depths[node], report.series in by_date)
        placed.append(ReportVersion(report, version, stands, graph.document(node), same_as))
    return placed


def _copies(reports: Iterable[Report]) -> dict[str, str]:
    """Each that is a copy of one before it, byte for byte and under the same id: its SOP Instance UID, and that one's."""
    first: dict[tuple[str, str], str] = {}
    copies: dict[str, str] = {}
    for report in reports:
        if report.declared.id and report.declared.content:
            content = (report.declared.id, report.declared.content)
            original = first.setdefault(content, report.sop_instance_uid)
            if original != report.sop_instance_uid:
                copies[report.sop_instance_uid] = original
    return copies


def _replacements(graph: _Graph, every: dict[str, Report]) -> None:
    """Put into the graph what replaces what.

    A document's id stands for whatever instance holds it, and a level of a set or a series for all of that version, so that
    the graph stays as small as what it is made from.
    """
    levels: dict[tuple[str, ...], dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    by_date = _by_date(every.values())
    dated: dict[tuple[str, ...], list[Report]] = defaultdict(list)
    for node, report in every.items():
        declared = report.declared
        for sop in declared.replaces:
            graph.add(node, _instance(sop))
        for identifier in declared.replaces_ids:
            if identifier != declared.id:
                graph.add(node, f"id {identifier}")
        if declared.id:
            graph.add(f"id {declared.id}", node)
        for name in declared.replaces_named:
            if name != declared.named:
                graph.add(node, f"named {name}")
        for name in {declared.named, declared.report} - {""}:
            graph.add(f"named {name}", node)
        if declared.set and declared.version is not None:
            levels["set", declared.set][declared.version].append(node)
        elif report.series in by_date:
            dated[by_date[report.series]].append(report)
        elif report.kind != "sr" and report.status != "addendum":
            levels["series", report.series_instance_uid, report.kind, report.title][report.number].append(node)
    for group, by_version in levels.items():
        versions = sorted(by_version)
        for older, newer in itertools.pairwise(versions):
            level = " ".join((*group, str(older)))
            for node in by_version[newer]:
                graph.add(node, level)
            for node in by_version[older]:
                graph.add(level, node)
    for documents in dated.values():
        _chain(graph, documents)


def in_versions(documents: Iterable[Report]) -> list[list[Report]]:
    """The documents of one report by its versions, earlier first. Those of one version are of one moment, and one rank.

    One of which only the day is known comes behind those of that day that rank below it, and those of its rank and series that
    came before.
    """
    every = sorted(documents, key=lambda report: (report.rank, report.number, report.sop_instance_uid))
    latest: dict[tuple[str, ...], Moment] = {}  # of those below, by day; of those before, by day and series
    places: dict[tuple[Moment, bool, int], list[Report]] = defaultdict(list)
    for rank, of_rank in itertools.groupby(every, key=lambda report: report.rank):
        below = dict(latest)
        for report in of_rank:
            moment, day = report.written.place, report.date
            if report.time:
                for among in ((day,), (day, *report.series)):
                    latest[among] = max(moment, latest.get(among, moment))
            else:
                moment = max(moment, below.get((day,), moment), latest.get((day, *report.series), moment))
            places[moment, not report.time, rank].append(report)
    return [places[key] for key in sorted(places)]


def _chain(graph: _Graph, documents: list[Report]) -> None:
    """Put into the graph what replaces what among the documents of one report; an addendum replaces none."""
    versions = in_versions(documents)
    standing: dict[int, bool] = {}  # versions that none so far has replaced: whether they are unfinished
    latest: dict[Series, list[int]] = defaultdict(list)  # the last that has one of a series, and addenda since
    for number, version in enumerate(versions):
        whole = [report for report in version if report.status != "addendum"]
        corrects = any(report.rank > STATUSES["final"] for report in whole)
        unfinished = any(report.status in UNFINISHED for report in whole)
        again = {older for report in whole for older in latest.pop(report.series, ())}
        replaced = again | {older for older, was in standing.items() if corrects or (whole and was and not unfinished)}
        standing = {older: was for older, was in standing.items() if older not in replaced} | {number: unfinished}
        for series in {report.series for report in version}:
            latest[series].append(number)
        _replace(graph, whole, [older for each in sorted(replaced) for older in versions[each]])
        before: dict[Series, list[Report]] = defaultdict(list)
        for report in version:  # of one moment in one series: what came later
            if report.status != "addendum":
                _replace(graph, [report], before.pop(report.series, []))
            before[report.series].append(report)


def _replace(graph: _Graph, newer: list[Report], older: list[Report]) -> None:
    """Put into the graph that each of these replaces all of those."""
    if not older:
        return
    nodes = [_instance(report.sop_instance_uid) for report in newer]
    all_of_them = nodes[0] if len(nodes) == 1 else f"before {nodes[0]}"
    for node in nodes:
        graph.add(node, all_of_them)
    for report in older:
        graph.add(all_of_them, _instance(report.sop_instance_uid))


def _by_date(reports: Iterable[Report]) -> dict[Series, Series]:
    """The series that `POST /studies/{uid}/reports` made, or added to: each holds the versions of one document.

    Of each what it shares with those that hold other documents of its report: texts and PDFs, since a CDA has a date of its own.
    """
    every = [report for report in reports if report.declared.named and not report.declared.is_numbered]
    names = {report.declared.report for report in every} - {""}
    found: dict[Series, Series] = {}
    for report in sorted(every, key=lambda report: (report.number, report.sop_instance_uid)):
        name = report.declared.report or report.declared.named
        if name in names and report.kind != "cda":
            found[report.series] = (name, "")
        else:
            found.setdefault(report.series, report.series)
    return found


def _version(report: Report, depth: int, by_date: bool) -> int:
    """As the document itself says; else how many it stands on, or the number that its series gives it."""
    if report.declared.version is not None:
        return report.declared.version
    return depth if report.kind == "sr" or by_date else max(depth, report.number)


def _instance(sop: str) -> str:
    return f"instance {sop}"


class _Graph:
    """Which node replaces which: instances, absent ones among them, and what stands for several of them."""

    def __init__(self, reports: dict[str, Report]) -> None:
        self._reports = reports
        self._older: dict[str, set[str]] = {node: set() for node in reports}
        self._parents: dict[str, str] = {}

    def add(self, newer: str, older: str) -> None:
        """`newer` replaces `older`. Nothing replaces itself."""
        if newer == older:
            return
        self._older.setdefault(newer, set()).add(older)
        self._older.setdefault(older, set())
        root, other = sorted((self._root(newer), self._root(older)))
        if root != other:
            self._parents[other] = root

    def document(self, node: str) -> str:
        """What all that is connected has in common: 16 hex digits."""
        return hashlib.sha256(self._root(node).encode()).hexdigest()[:16]

    def newest_first(self) -> tuple[list[str], set[str]]:
        """(all nodes, newer before older; those that something shown replaces). A circle is opened at its latest."""
        waiting = dict.fromkeys(self._older, 0)
        for node in itertools.chain.from_iterable(self._older.values()):
            waiting[node] += 1
        latest = sorted(self._older, key=self._key, reverse=True)
        rank = {node: position for position, node in enumerate(latest)}
        ready = [rank[node] for node, count in waiting.items() if not count]
        heapq.heapify(ready)
        order: list[str] = []
        done: set[str] = set()
        replaced: set[str] = set()
        in_circles = (node for node in latest if node in self._reports)
        while len(order) < len(latest):
            node = latest[heapq.heappop(ready)] if ready else next(candidate for candidate in in_circles if candidate not in done)
            if node in done:
                continue
            done.add(node)
            order.append(node)
            shown = node in self._reports and self._reports[node].shown
            for older in self._older[node]:
                if older in done:
                    continue
                if shown or node in replaced:
                    replaced.add(older)
                waiting[older] -= 1
                if not waiting[older]:
                    heapq.heappush(ready, rank[older])
        return order, replaced

    def depths(self, order: list[str]) -> dict[str, int]:
        """How many instances deep each node stands, itself counted; `order` as `newest_first` answers."""
        at = {node: position for position, node in enumerate(order)}
        depths: dict[str, int] = {}
        for node in reversed(order):
            below = [depths[older] for older in self._older[node] if at[older] > at[node]]
            depths[node] = max(below, default=0) + node.startswith("instance ")
        return depths

    def _key(self, node: str) -> tuple[bool, Key]:
        """Latest first, and what is not a report before all of them, since it only hands on what replaces it."""
        report = self._reports.get(node)
        return (False, report.moment) if report else (True, ("", "", False, "", 0, 0, node))

    def _root(self, node: str) -> str:
        while (parent := self._parents.get(node, node)) != node:
            self._parents[node] = self._parents.get(parent, parent)
            node = parent
        return node
