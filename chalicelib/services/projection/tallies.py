"""What the instances of a study add up to, kept beside its view, so that what arrives is added and nothing is read again.

The indexer leaves with each transaction what its instances add up to (`services.ingest.batches`). The projector adds what is
left to the tally (`V#TALLY`) and removes it, in the transaction that moves the view on: each batch is counted once, in any
order, however often events come. `V#STUDY` names the digest of the tally that it was made of. Where it names none (the view of
an earlier release, or one that was left half written), the study is counted anew from its facts, page by page. So is one of
which an instance was withdrawn, shown again, corrected or read again, since nothing can be taken out of a total.

Counting anew reads the facts first, and what is left of batches afterwards: all batches of which it saw a part are among these,
or were added by another projector, who moved the view on. It completes those of which it did not see all, and removes what is
left of all of them together with its result.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from chalicelib.domain import instance_versions, keys, studies, summaries
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Delete, Item, Put, Table, Write
from chalicelib.domain.report_versions import ListedReport, Report
from chalicelib.domain.studies import Instance
from chalicelib.domain.study_totals import (
    FORM,
    MAX_NUMBERS,
    SeriesTotals,
    Tally,
    Totals,
    beginning,
    digest_of,
    members_of,
    total,
)
from chalicelib.domain.study_views import StudyView
from chalicelib.domain.verdicts import UploadState, Verdict
from chalicelib.services.ingest.instance_items import verdicts_of

ROOM = 98
"""Writes of one transaction, besides those of the study's view and of what was told of it."""
MAX_MISSING = 1000
"""Announced instances that a tally says are missing."""
MAX_OPEN = 20
"""Announcements of which it says so."""
MAX_WAITING = 200
"""Announcements that wait until there is room for them."""
_REPORTS = keys.begins(keys.report)
_BATCHES = 100
"""Batches that are looked at for one transaction."""
_PORTION = 500
"""Instances that are counted at once."""


@dataclass(frozen=True)
class Count:
    """A study as it is counted now, and what to write for it.

    `digest` is that of the tally, which its view names. `core` belongs into one transaction with the view, and fits it. `bulk`
    goes before it, in as many as it takes; meanwhile the view must name no tally. `more`: whether more is to be added afterwards.
    """

    tally: Tally
    reports: Sequence[ListedReport]
    digest: str
    core: tuple[Write, ...] = ()
    bulk: tuple[Write, ...] = ()
    more: bool = False


@dataclass(frozen=True)
class CountedStudy:
    """What is kept of a study: its view (an empty one where there is none), its tally where that holds, and whether all of it is
    withdrawn now."""

    owner: str
    study: str
    view: StudyView
    tally: Tally | None
    whole: bool

    @property
    def is_torn(self) -> bool:
        """Whether the view names a tally that is another one than the one that was read."""
        return self.tally is None and bool(self.view.tally)

    @property
    def facts(self) -> str:
        """The partition of its facts."""
        return keys.study_facts(self.owner, self.study)

    @property
    def series(self) -> str:
        """The partition of the views of its series."""
        return keys.series_views(self.owner, self.study)


def counted_study(view: StudyView, tally: Item | None, whole: bool) -> CountedStudy:
    """What is kept of a study, from its view and its tally, which does not hold if the view does not name it."""
    known = None
    if tally is not None and view.tally == digest_of(tally.data) and tally.data["form"] == FORM:
        known = Tally.from_item(tally.data)
    return CountedStudy(view.owner, view.study_instance_uid, view, known, whole)


def bring_up_to_date(table: Table, known: CountedStudy, changed: Collection[str]) -> Count | None:
    """Count a study whose facts with these sort keys changed; None for one of which there is no instance."""
    announced = [sk for sk in changed if sk.startswith(keys.ANNOUNCEMENTS)]
    anew = any(sk.startswith(keys.MARKS) or instance_versions.place(sk) is not None for sk in changed)
    if anew or known.tally is None or (known.tally.whole and not known.whole):
        return _anew(table, known)
    page = table.query(known.facts, keys.BATCHES, limit=_BATCHES)
    if any(item.data["form"] != FORM for item in page.items):
        return _anew(table, known)
    batches = [(item, Totals.from_item(item.data)) for item in page.items]
    if known.tally.marked and _any_withdrawn(table, known, (place for _, batch in batches for place in batch.members)):
        return _anew(table, known)
    return _added(table, known, known.tally, batches, announced, page.next is not None)


# Adding what arrived -----------------------------------------------------------------------------------------------


def _added(
    table: Table, known: CountedStudy, tally: Tally, left: Sequence[tuple[Item, Totals]], announced: Sequence[str], further: bool
) -> Count:
    """The study with as many of the batches as fit a transaction."""
    taken: list[Item] = []
    arrived = Totals()
    for totals, batch in left:
        together = arrived + batch
        if taken and len(taken) + 2 + len(together.series) + len(together.reports) > ROOM:
            break
        taken.append(totals)
        arrived = together
    writes: list[Write] = [Delete(*item.key) for item in taken]
    bulk: list[Write] = []
    series = tally.series
    if known.whole and not tally.whole:
        series = 0
        bulk = [Delete(*view.key) for view in table.query_all(known.series)]
    elif not known.whole and arrived.series:
        there = table.batch_get((known.series, uid) for uid in arrived.series)
        for uid, part in sorted(arrived.series.items()):
            before = there.get((known.series, uid))
            writes.append(_series_write(known, uid, SeriesTotals.from_item(before.data) + part if before else part))
        series += len(arrived.series) - len(there)
    partition, sk = keys.study_tally(known.owner, known.study)
    writes += [_report_write(partition, place, report) for place, report in sorted(arrived.reports.items())]
    reports: Sequence[ListedReport] = known.view.reports
    if arrived.reports:
        reports = summaries.list_reports([*_reports(table, partition), *arrived.reports.values()])
    missing, waiting = _still_missing(table, known, tally, announced, set(arrived.members.values()))
    after = replace(tally, shown=tally.shown + arrived.study, series=series, whole=known.whole, missing=missing, waiting=waiting)
    item = after.to_item()
    if after == tally:
        return Count(tally, reports, digest_of(item))
    fits = len(writes) + 1 + len(bulk) <= ROOM
    core = (Put(Item(partition, sk, item)), *writes, *(bulk if fits else ()))
    return Count(after, reports, digest_of(item), core, () if fits else tuple(bulk), further or len(taken) < len(left))


def _any_withdrawn(table: Table, known: CountedStudy, places: Iterable[str]) -> bool:
    found = table.batch_get((known.facts, keys.withdrawn(place.partition("#")[2])) for place in places)
    return any(studies.is_withdrawal(item) for item in found.values())


def _reports(table: Table, partition: str) -> Iterator[Report]:
    return (Report.from_item(item.data) for item in table.query_all(partition, _REPORTS))


def _series_write(known: CountedStudy, uid: str, totals: SeriesTotals) -> Put:
    return Put(Item(known.series, uid, totals.to_item(), {"gsi1": (keys.series_of(uid), f"{known.owner}#{known.study}")}))


def _report_write(partition: str, place: str, report: Report) -> Put:
    return Put(Item(partition, f"{_REPORTS}{place}", report.to_item()))


Missing = dict[str, tuple[str, ...]]
"""As `Tally.missing`."""


def _still_missing(
    table: Table, known: CountedStudy, tally: Tally, announced: Sequence[str], arrived: Collection[str]
) -> tuple[Missing, tuple[str, ...]]:
    """(What of each announcement is not indexed; the announcements that wait, since that is too much.)"""
    came = {beginning(sha) for sha in arrived}
    missing: Missing = {}
    for sk, before in tally.missing.items():
        left = tuple(hashed for hashed in before if hashed not in came)
        missing |= {sk: left} if left else {}
    waiting: list[str] = []
    for sk in dict.fromkeys([*tally.waiting, *announced]):
        if waiting or not _has_room(missing, MAX_MISSING // 2):
            waiting.append(sk)
            continue
        fact = table.get(known.facts, sk)
        found = _not_indexed(table, known, studies.announced([fact] if fact is not None else []))
        missing |= {sk: tuple(sorted(map(beginning, found)))} if found else {}
    return missing, tuple(waiting[:MAX_WAITING])


def _has_room(missing: Missing, further: int) -> bool:
    return len(missing) < MAX_OPEN and sum(map(len, missing.values())) + further <= MAX_MISSING


def _not_indexed(table: Table, known: CountedStudy, announced: Collection[str]) -> set[str]:
    """Those of the announced instances that are not indexed as this study's."""
    asked = {keys.verdict(known.owner, sha): sha for sha in announced}
    verdicts = verdicts_of(table, asked)
    given = {asked[key]: Verdict.from_item(item.data) for key, item in verdicts.items()}
    indexed = {sha for sha, verdict in given.items() if verdict.state is UploadState.INDEXED}
    return set(announced) - {sha for sha in indexed if given[sha].study_instance_uid == known.study}


# Counting anew -----------------------------------------------------------------------------------------------------


@dataclass
class _Facts:
    """What was read of a study's facts so far."""

    withdrawn: set[str]
    shown: Totals = field(default_factory=Totals)
    taken_back: Totals = field(default_factory=Totals)
    hashes: set[str] = field(default_factory=set)
    """SHA-256 of each version of each instance."""
    superseded: set[PatientIdentifier] = field(default_factory=set)

    def add(self, versions: Iterable[Sequence[Instance]]) -> None:
        """Add instances, each with all its versions."""
        shown: list[Instance] = []
        taken_back: list[Instance] = []
        for every in versions:
            current = every[-1]
            (taken_back if current.sop_instance_uid in self.withdrawn else shown).append(current)
            self.hashes.update(version.fact.sha256 for version in every)
            self.superseded.update(number for version in every[:-1] if (number := version.fact.patient) is not None)
        self.shown += total(shown)
        self.taken_back += total(taken_back)


def _anew(table: Table, known: CountedStudy) -> Count | None:
    """The study counted from its facts."""
    markers = list(table.query_all(known.facts, keys.MARKS))
    announced = {item.sk: studies.announced([item]) for item in table.query_all(known.facts, keys.ANNOUNCEMENTS)}
    found = _Facts(studies.withdrawn(markers))
    for some in _in_portions(_versions(table.query_all(known.facts, keys.INSTANCES))):
        found.add(some)
    left = list(table.query_all(known.facts, keys.BATCHES))
    _complete(table, known, found, left)
    every = found.shown + found.taken_back
    if not every.members:
        return None
    partition, sk = keys.study_tally(known.owner, known.study)
    superseded = tuple(sorted(found.superseded)[:MAX_NUMBERS])
    series = {} if known.whole else found.shown.series
    missing, waiting = _missing_of(announced, found.hashes)
    tally = Tally(
        found.shown.study, found.taken_back.study, len(series), superseded, bool(markers), known.whole, missing, waiting
    )
    reports = {
        place: replace(instance, shown=instance.sop_instance_uid not in found.withdrawn)
        for place, instance in every.reports.items()
    }
    bulk: list[Write] = [Delete(*item.key) for item in left]
    bulk += _differing(
        table.query_all(known.series), [_series_write(known, uid, totals) for uid, totals in sorted(series.items())]
    )
    bulk += _differing(
        table.query_all(partition, _REPORTS),
        [_report_write(partition, place, report) for place, report in sorted(reports.items())],
    )
    item = tally.to_item()
    core: tuple[Write, ...] = (Put(Item(partition, sk, item)),)
    if len(bulk) + len(core) <= ROOM:
        core, bulk = (*core, *bulk), []
    return Count(tally, summaries.list_reports(reports.values()), digest_of(item), core, tuple(bulk))


def _complete(table: Table, known: CountedStudy, found: _Facts, left: Iterable[Item]) -> None:
    """Add those instances of the batches that are left which were written after their place in the facts was read."""
    seen = found.shown.members.keys() | found.taken_back.members.keys()
    written = [place for item in left for place in members_of(item.data) if place not in seen]
    items = table.batch_get((known.facts, f"{keys.INSTANCES}{place}") for place in written)
    found.add([instance] for instance in studies.every_version(items.values()))


def _versions(facts: Iterable[Item]) -> Iterator[list[Instance]]:
    """The instances among facts in the order of their keys, each with all its versions, the one that counts last."""
    versions: list[Instance] = []
    for instance in studies.every_version(facts):
        if versions and versions[-1].sop_instance_uid != instance.sop_instance_uid:
            yield versions
            versions = []
        versions.append(instance)
    if versions:
        yield versions


def _in_portions(every: Iterable[list[Instance]]) -> Iterator[list[list[Instance]]]:
    portion: list[list[Instance]] = []
    for instance in every:
        portion.append(instance)
        if len(portion) >= _PORTION:
            yield portion
            portion = []
    if portion:
        yield portion


def _differing(there: Iterable[Item], wanted: Sequence[Put]) -> list[Write]:
    """The writes that make of the items that are there those that are wanted."""
    before = {item.key: item.data for item in there}
    writes: list[Write] = [write for write in wanted if before.pop(write.item.key, None) != write.item.data]
    return writes + [Delete(*key) for key in sorted(before)]


def _missing_of(announced: Mapping[str, Collection[str]], here: Collection[str]) -> tuple[Missing, tuple[str, ...]]:
    """As `_still_missing`, of all announcements of a study and the SHA-256 of all that is indexed of it."""
    missing: Missing = {}
    waiting: list[str] = []
    for sk, hashes in sorted(announced.items()):
        left = tuple(sorted(beginning(sha) for sha in hashes if sha not in here))
        if left and (waiting or not _has_room(missing, len(left))):
            waiting.append(sk)
        elif left:
            missing[sk] = left
    return missing, tuple(waiting[:MAX_WAITING])
