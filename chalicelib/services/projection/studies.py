"""The views of studies: summaries, series, and who can find them.

A projection reads the version of `V#STUDY`, then what is new (`projection.tallies`) and what decides, consistently, and writes
everything that follows in transactions on the condition that the version is still that one. Who loses starts again, so that what
was read from old facts never overwrites what was read from newer ones. What does not fit one transaction is written in several
steps, each of which moves the version on; until the last, the view says that it is unsettled, so that whoever finds it so writes
all of it again.
A new version is written also where nothing else changed: else a slower projection, which saw other facts in between (a
transfer opened, and ended since), would still find the version that it read, and put back what is no longer so.

What each institution was told of a study is no view, since it does not follow from the facts: it stands beside, in the item
`F#FEED#<study>`, and moves only together with the view.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from chalicelib.domain import keys, studies, summaries
from chalicelib.domain.errors import TryAgain
from chalicelib.domain.feed import StudyNews
from chalicelib.domain.institutions import Registry
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.ports import Alerts, Delete, Item, Key, Put, PutVersion, Table, Write
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.study_views import StudyView
from chalicelib.services import access, changes, search_rows
from chalicelib.services.access import LoadedPatient
from chalicelib.services.changes import Change
from chalicelib.services.identity import linking, numbering
from chalicelib.services.projection import tallies
from chalicelib.services.registry import load_registry
from chalicelib.services.search_rows import Visibility
from chalicelib.services.sharing import emergencies, readings

_ATTEMPTS = 20
_TORN = 3
"""Times that a view and its tally are read again that do not belong together: they were read while somebody wrote them."""
_OWN = 2
"""Writes of a study's view and of what was told of it."""
_STUDIES_AT_ONCE = 100
StudyRef = tuple[str, str]
"""(owner, Study Instance UID)."""


@dataclass(frozen=True)
class Notified:
    """What an institution was told of a study: whether it saw it then and until when (None: no end), and how many instances,
    reports, withdrawn and corrected instances the study had."""

    sees: bool
    until: str | None
    instances: int
    reports: int
    withdrawn: int
    corrected: int = 0

    def to_item(self) -> JsonObject:
        """As `F#FEED#<study>` keeps it."""
        return asdict(self)

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Notified:
        """What `to_item` made, and earlier releases, which knew no corrections."""
        return cls(**item)


@dataclass(frozen=True)
class _State:
    """What is there of a study: its view with its version, 0 and an empty one where there is none, and what was told of it."""

    owner: str
    study: str
    view: StudyView
    version: int
    told: Mapping[str, Notified]
    """By institution."""
    alerted: frozenset[str]
    """The emergency accesses that the owner was told of because of it."""


@dataclass(frozen=True)
class _Plan:
    """What the views of a study are to become: `view` is `V#STUDY` once everything is written, `rows` who can find it,
    `core` and `bulk` as in `tallies.Count`. `news` is what to tell, and `told` what has then been told, by institution."""

    state: _State
    view: StudyView
    rows: tuple[Write, ...]
    core: tuple[Write, ...]
    bulk: tuple[Write, ...]
    news: dict[str, list[Change]]
    told: Mapping[str, Notified]
    alerted: frozenset[str]

    @property
    def size(self) -> int:
        """Writes that it takes, besides the study's own two."""
        return len(self.rows) + len(self.core) + len(self.bulk) + sum(len(changes) + 1 for changes in self.news.values())

    def own(self, step: int = 1, partly: StudyView | None = None, told: Mapping[str, Notified] | None = None) -> list[Write]:
        """The writes of the study's view and of what was told; in a step before the last one, as far as it goes."""
        content = (self.view if partly is None else partly).to_item()
        version = self.state.version + step
        view_key, told_key = _own_keys((self.state.owner, self.state.study))
        view = Item(*view_key, content, version=version)
        writes: list[Write] = [PutVersion(view, version - 1)]
        now_told = self.told if told is None else told
        if (now_told, self.alerted) != (self.state.told, self.state.alerted):
            said = {institution: notified.to_item() for institution, notified in now_told.items()}
            writes.append(Put(Item(*told_key, {"told": said, "alerted": sorted(self.alerted)})))
        return writes


def project(
    table: Table, alerts: Alerts, owner: str, study: str, now: datetime, changed: Collection[str] = (), *, anew: bool = False
) -> None:
    """Bring the views of one study up to date with its facts, of which those with the sort keys `changed` may be new.

    `anew`: nothing that the views and their tally say is taken for true: all of it is counted, and written, from the facts, and
    takes the place of what stands there in the same transaction. Raises TryAgain when others keep being faster.
    """
    attempts = 0
    while attempts < _ATTEMPTS:
        attempts += 1
        state, known, erasing = _state_and_tally(table, (owner, study))
        if erasing:
            return
        if anew:
            known, state = replace(known, tally=None), replace(state, view=replace(state.view, rows_digest=""))
        elif known.is_torn and attempts <= _TORN:
            continue
        count = tallies.bring_up_to_date(table, known, changed)
        if count is None:
            return
        plan = _from_count(table, alerts, state, count, now)
        if _write(table, plan, now):
            if not count.more:
                readings.tell(table, plan.view, now)
                return
            attempts, changed = 0, ()
    raise TryAgain


def refresh(table: Table, alerts: Alerts, refs: Sequence[StudyRef], now: datetime) -> None:
    """Bring who can find these studies up to date with the facts of their patients, many in one transaction."""
    for start in range(0, len(refs), _STUDIES_AT_ONCE):
        states = _states(table, refs[start : start + _STUDIES_AT_ONCE])
        whole = [state for state in states if not state.version or state.view.unsettled]
        settled = [state for state in states if state not in whole]
        hashes = [patient for state in settled for patient in access.deciding_numbers(state.view)]
        hints = [hint for state in settled for hint in state.view.linked]
        known = access.load_facts(table, hashes, hints).known
        registry = load_registry(table)
        plans: list[_Plan] = []
        for state in settled:
            seen = _seen(table, alerts, state, state.view, registry, known, now)
            plans.append(_plan(state, state.view, seen, now))
        _write_together(table, alerts, plans, now)
        for state in whole:
            project(table, alerts, state.owner, state.study, now)


def _states(table: Table, refs: Sequence[StudyRef]) -> list[_State]:
    there = table.batch_get([key for ref in refs for key in _own_keys(ref)])
    return [_state(ref, there) for ref in refs]


def _state_and_tally(table: Table, ref: StudyRef) -> tuple[_State, tallies.CountedStudy, bool]:
    """What is kept of a study, and whether it is being erased, so that nothing is made of its facts any more."""
    tally, withdrawn, erasing = keys.study_tally(*ref), keys.withdrawn_study(*ref), (keys.study_facts(*ref), keys.ERASING)
    there = table.batch_get([*_own_keys(ref), tally, withdrawn, erasing])
    state = _state(ref, there)
    whole = studies.is_withdrawal(there.get(withdrawn))
    return state, tallies.counted_study(state.view, there.get(tally), whole), erasing in there


def _own_keys(ref: StudyRef) -> tuple[Key, Key]:
    """The keys of a study's view and of what was told of it."""
    owner, study = ref
    return keys.study_view(study, owner), (keys.told_of(study), owner)


def _state(ref: StudyRef, there: Mapping[Key, Item]) -> _State:
    view, told = (there.get(key) for key in _own_keys(ref))
    said: Any = told.data if told else {"told": {}, "alerted": []}
    owner, study = ref
    known = StudyView.from_item(view.data) if view else StudyView(owner=owner, study_instance_uid=study)
    return _State(
        owner,
        study,
        known,
        (view.version or 0) if view else 0,
        {viewer: Notified.from_item(notified) for viewer, notified in said["told"].items()},
        frozenset(said["alerted"]),
    )


def _from_count(table: Table, alerts: Alerts, state: _State, count: tallies.Count, now: datetime) -> _Plan:
    registry = load_registry(table)
    own = numbering.own_of(registry, state.owner)
    summary = replace(summaries.summarise(state.owner, state.study, count.tally, count.reports, own), tally=count.digest)
    numbering.file_under_own(table, registry, state.view, summary, now)
    numbering.tell_unknown(table, registry, state.view, summary, now)
    for patient in summaries.corrected_away(count.tally, own):
        linking.leave(table, patient, (state.owner, state.study), now)
    known = access.load_facts(table, access.deciding_numbers(summary), state.view.linked).known
    seen = _seen(table, alerts, state, summary, registry, known, now)
    return _plan(state, summary, seen, now, count.core, count.bulk)


def _plan(
    state: _State,
    summary: StudyView,
    seen: Visibility,
    now: datetime,
    core: tuple[Write, ...] = (),
    bulk: tuple[Write, ...] = (),
) -> _Plan:
    told, news = _news(state, summary, seen, now)
    found = sorted(row.key for row in seen.rows)
    view = replace(summary, linked=seen.linked, rows=tuple(found), rows_digest=seen.digest, unsettled=False)
    rows: list[Write] = []
    if state.view.rows_digest != seen.digest or state.view.unsettled:
        rows = [Put(row) for row in seen.rows]
        rows += [Delete(*key) for key in sorted({*state.view.rows} - {*found})]
    return _Plan(state, view, tuple(rows), core, bulk, news, told, state.alerted | seen.emergencies)


def _news(
    state: _State, summary: StudyView, seen: Visibility, now: datetime
) -> tuple[dict[str, Notified], dict[str, list[Change]]]:
    """What each institution has been told of the study after this, and what of that is new.

    Who ever saw a study is told when its owner withdraws it or a part of it, even if it may not see it any more; but not
    where an objection or a protection hides it. So is who saw it under a patient's number that its owner has corrected since.
    """
    here = Notified(False, None, summary.instances, len(summary.reports), summary.withdrawn, summary.corrected)
    content = StudyNews(state.owner, state.study, here.instances)
    told = dict(state.told)
    news: dict[str, list[Change]] = {}
    for viewer in sorted(told.keys() | seen.until.keys()):
        last = told.get(viewer)
        sees = viewer in seen.until
        saw = last is not None and last.sees and (last.until is None or last.until > iso(now))
        corrected = last is not None and last.corrected != here.corrected
        kinds: list[str] = []
        if last is not None and last.withdrawn < here.withdrawn and viewer not in seen.hidden_from:
            kinds.append("study-withdrawn")
        if sees and not saw:
            kinds.append("study-arrived")
        elif sees and last is not None and (last.instances != here.instances or corrected):
            kinds.append("study-changed")
        elif last is not None and last.sees and not sees and corrected and viewer not in seen.hidden_from and not kinds:
            kinds.append("study-withdrawn")  # it was another patient's, whom this viewer may not see
        if sees and saw and last is not None and last.reports < here.reports:
            kinds.append("report-arrived")
        if kinds:
            news[viewer] = [Change(viewer, "", kind, content) for kind in kinds]
        if sees:
            told[viewer] = replace(here, sees=True, until=seen.until[viewer])
        elif last is not None:
            told[viewer] = here if "study-withdrawn" in kinds else replace(last, sees=False, until=None)
    return told, news


def _write(table: Table, plan: _Plan, now: datetime) -> bool:
    """Write the views and tell who is concerned, if the study's view is still the one that was read."""
    if plan.size <= tallies.ROOM:
        return not table.transact([*plan.own(), *plan.bulk, *plan.core, *plan.rows, *_entries(table, plan.news, now)])
    rows = tuple(sorted({*plan.state.view.rows, *plan.view.rows}))
    partly = replace(plan.view, unsettled=True, rows=rows, rows_digest="")
    told = dict(plan.state.told)
    step = 0
    for part in _parts(plan.bulk):
        step += 1
        if table.transact([*plan.own(step, replace(partly, tally=""), told), *part]):
            return False
    for part in [plan.core, *_parts(plan.rows)]:
        step += 1
        if table.transact([*plan.own(step, partly, told), *part]):
            return False
    for viewer, news in plan.news.items():
        step += 1
        told = told | {viewer: plan.told[viewer]}
        if table.transact([*plan.own(step, partly, told), *_entries(table, {viewer: news}, now)]):
            return False
    return not table.transact(plan.own(step + 1))


def _parts(writes: Sequence[Write]) -> list[Sequence[Write]]:
    return [writes[start : start + tallies.ROOM] for start in range(0, len(writes), tallies.ROOM)]


def _write_together(table: Table, alerts: Alerts, plans: Sequence[_Plan], now: datetime) -> None:
    """Write plans, as many in each transaction as fit; those of a transaction that failed, and what is too large, one by one."""
    groups: list[list[_Plan]] = []
    room = 0
    for plan in plans:
        needed = plan.size + _OWN
        if needed > room:
            groups.append([])
            room = tallies.ROOM + _OWN
        groups[-1].append(plan)
        room -= needed
    for group in groups:
        news: dict[str, list[Change]] = {}
        for plan in group:
            for viewer, ones in plan.news.items():
                news.setdefault(viewer, []).extend(ones)
        writes = [write for plan in group for write in (*plan.own(), *plan.rows)]
        if group[0].size > tallies.ROOM or table.transact([*writes, *_entries(table, news, now)]):
            for plan in group:
                project(table, alerts, plan.state.owner, plan.state.study, now)


def _entries(table: Table, news: Mapping[str, Sequence[Change]], now: datetime) -> list[Write]:
    return changes.entry_writes(table, [change for ones in news.values() for change in ones], now)


def _seen(
    table: Table,
    alerts: Alerts,
    state: _State,
    summary: StudyView,
    registry: Registry,
    known: Mapping[str, LoadedPatient],
    now: datetime,
) -> Visibility:
    """Who sees a study. Its owner is told of each emergency access that opens it, if it was not yet because of this study."""
    seen = search_rows.visibility(registry, summary, known, now, frozenset(state.told))
    if summary.gone:
        return seen.of_nobody()
    for emergency in sorted(seen.emergencies - state.alerted):
        emergencies.alert_owner(table, alerts, emergency, state.owner, now)
    return seen
