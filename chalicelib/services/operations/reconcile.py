"""Objects, facts and views compared with one another, a page at a time, and what differs made good.

Nothing is scanned: the bucket's listing is the inventory of objects, an owner's list of studies that of views. Four passes, each
of which goes on where a cursor says:

* objects: each has a verdict; what is indexed has the instance's fact, whichever version it is, what its SOP Instance UID stands
  for, its patient's fact, and the object that holds its metadata; its study has a view that its owner can find;
* studies: each instance's fact has its object (of the last 30 days, or of all where that is asked for); the views are what the
  projector makes of the facts, counted anew; who sees it was told;
* feeds: no feed names a study that nobody has;
* audit: the newest records of each chain follow one another up to its head.

Mending writes what is missing from what is there: from the bytes a fact, from the facts a view. It removes no bytes. An instance
whose bytes are gone is named, and stays so: its sender has it. Safe to repeat, and while hospitals send.
"""

from __future__ import annotations

from collections.abc import Mapping

from chalicelib.domain.audit import UNREGISTERED
from chalicelib.domain.institutions import CANARY, Registry
from chalicelib.services.operations import (
    reconcile_audit,
    reconcile_feeds,
    reconcile_objects,
    reconcile_studies,
)
from chalicelib.services.operations.discrepancies import RESERVE, Discrepancy, Done, Progress, Reconciliation, Stage
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
    return go_through(STAGES, job, start, only)


def go_through(stages: Mapping[str, Stage], job: Reconciliation, start: Progress, only: str | None) -> Done:
    """The passes of a job from `start` on, one after the other, each through every institution or the one that is named."""
    registry = load_registry(job.table)
    findings: list[Discrepancy] = []
    objects = studies = 0
    position: Progress | None = start
    while position is not None:
        if job.remaining() < RESERVE and position != start:
            break
        institution = position.institution or _next(registry, only, "")
        if institution is None:
            break
        page = stages[position.stage](job, registry, institution, position.after)
        findings += page.findings
        objects, studies = objects + page.objects, studies + page.studies
        following = Progress(position.stage, institution, page.after or "")
        position = _beyond(stages, registry, only, following, done=page.after is None)
    return Done(findings, objects, studies, position)


def _beyond(stages: Mapping[str, Stage], registry: Registry, only: str | None, at: Progress, *, done: bool) -> Progress | None:
    """Where to go on: in the same place, with the next institution, with the next pass, or nowhere."""
    if not done:
        return at
    following = _next(registry, only, at.institution)
    if following is not None:
        return Progress(at.stage, following)
    first = _next(registry, only, "")
    names = list(stages)
    later = names[names.index(at.stage) + 1 :]
    return Progress(later[0], first) if later and first is not None else None


def everyone(registry: Registry) -> set[str]:
    """Who has anything to compare: those that left, and those that only have an audit trail, among them."""
    # What the canary sent lasts a day: its facts have no objects, and that is no damage.
    return {*registry.former, *registry.members, OPERATOR, UNREGISTERED} - {CANARY}


def _next(registry: Registry, only: str | None, after: str) -> str | None:
    """The institution after this one."""
    every = sorted(everyone(registry)) if only is None else [only]
    return next((institution for institution in every if institution > after), None)
