"""Objects, facts and views compared with one another, a page at a time, and what differs made good.

Nothing is scanned: the bucket's listing is the inventory of objects, an owner's list of studies that of views. Four passes, each
of which goes on where a cursor says:

* objects: each has a verdict; what is indexed has the instance's fact, whichever version it is, what its SOP Instance UID stands
  for, its patient's fact, and the object that holds its metadata; its study has a view that its owner can find;
* studies: each instance's fact has its object; the views are what the projector makes of the facts, counted anew; who sees it was
  told;
* feeds: no feed names a study that nobody has;
* audit: the newest records of each chain follow one another up to its head.

Mending writes what is missing from what is there: from the bytes a fact, from the facts a view. It removes no bytes. An instance
whose bytes are gone is named, and stays so: its sender has it. Safe to repeat, and while hospitals send.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chalicelib.domain import keys
from chalicelib.domain.audit import UNREGISTERED
from chalicelib.domain.institutions import CANARY, Registry
from chalicelib.domain.ports import Table
from chalicelib.services.operations import (
    reconcile_audit,
    reconcile_feeds,
    reconcile_objects,
    reconcile_studies,
    reconcile_views,
)
from chalicelib.services.operations.discrepancies import RESERVE, Discrepancy, Done, Progress, Reconciliation, Stage
from chalicelib.services.operations.reconcile_objects import OBJECTS_AT_ONCE
from chalicelib.services.registry import OPERATOR, load_registry

STAGES: Mapping[str, Stage] = {
    "objects": reconcile_objects.page,
    "studies": reconcile_studies.page,
    "feeds": reconcile_feeds.page,
    "audit": reconcile_audit.page,
}
"""The passes, one after the other."""


def reconcile(job: Reconciliation, start: Progress, only: str | None = None) -> Done:
    """Go on from `start` for as long as there is time, through every institution or the one that is named."""
    registry = load_registry(job.table)
    findings: list[Discrepancy] = []
    counted = dict.fromkeys(STAGES, 0)
    position: Progress | None = start
    while position is not None:
        if job.remaining() < RESERVE and position != start:
            break
        institution = position.institution or _next(registry, only, "")
        if institution is None:
            break
        found, count, after = STAGES[position.stage](job, registry, institution, position.after)
        findings += found
        counted[position.stage] += count
        position = _beyond(registry, only, Progress(position.stage, institution, after or ""), done=after is None)
    return Done(findings, counted["objects"], counted["studies"], position)


def _beyond(registry: Registry, only: str | None, at: Progress, *, done: bool) -> Progress | None:
    """Where to go on: in the same place, with the next institution, with the next pass, or nowhere."""
    if not done:
        return at
    following = _next(registry, only, at.institution)
    if following is not None:
        return Progress(at.stage, following)
    first = _next(registry, only, "")
    names = list(STAGES)
    later = names[names.index(at.stage) + 1 :]
    return Progress(later[0], first) if later and first is not None else None


def _next(registry: Registry, only: str | None, after: str) -> str | None:
    """The institution after this one: those that left, and those that only have an audit trail, among them."""
    # What the canary sent lasts a day: its facts have no objects, and that is no damage.
    everyone = {*registry.former, *registry.members, OPERATOR, UNREGISTERED} - {CANARY}
    every = sorted(everyone) if only is None else [only]
    return next((institution for institution in every if institution > after), None)


def rebuild(job: Reconciliation, start: Progress, only: str | None = None) -> Done:
    """Make every view anew from the facts, study by study, each in the transaction that moves it on: readers see either."""
    registry = load_registry(job.table)
    count = 0
    position: Progress | None = start
    while position is not None:
        if job.remaining() < RESERVE and position != start:
            break
        institution = position.institution or _next(registry, only, "")
        if institution is None:
            break
        listed = job.objects.keys_after(keys.instance_object(institution, ""), position.after, OBJECTS_AT_ONCE)
        for study in _studies_led_by(job.table, institution, [listing.key.rpartition("/")[2] for listing in listed]):
            count += reconcile_views.count_anew(job, institution, study, registry)
        if len(listed) == OBJECTS_AT_ONCE:
            position = Progress("objects", institution, listed[-1].key)
        else:
            following = _next(registry, only, institution)
            position = Progress("objects", following) if following is not None else None
    return Done((), 0, count, position)


def _studies_led_by(table: Table, institution: str, hashes: Sequence[str]) -> list[str]:
    """The studies whose first fact is of one of these objects, so that each study comes up once in a whole run."""
    verdicts = table.batch_get(keys.verdict(institution, sha) for sha in hashes)
    studies = sorted({str(item.data["study"]) for item in verdicts.values() if item.data["state"] == "indexed"})
    firsts = {study: table.query(keys.study_facts(institution, study), keys.INSTANCES, limit=1).items for study in studies}
    return [study for study, items in firsts.items() if items and items[0].data["sha256"] in hashes]
