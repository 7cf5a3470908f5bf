"""Every view made anew from the facts while the archive serves, study by study: what is made takes the place of what stands there
in one transaction, so that who reads meanwhile reads the one or the other (`reconcile_views.count_anew`).

Two passes: the studies in each owner's own list, and then those that their facts know and the list does not, by the objects in
the bucket. What comes meanwhile is projected as everything is, and goes on from what it finds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chalicelib.domain import keys
from chalicelib.domain.institutions import Registry
from chalicelib.domain.ports import Table
from chalicelib.services.operations import reconcile_studies, reconcile_views
from chalicelib.services.operations.discrepancies import Done, PageOfFindings, Progress, Reconciliation, Stage
from chalicelib.services.operations.reconcile import go_through
from chalicelib.services.operations.reconcile_objects import OBJECTS_AT_ONCE


def rebuild(job: Reconciliation, start: Progress | None, only: str | None = None) -> Done:
    """Go on from `start`, or begin, for as long as there is time, through every institution or the one that is named."""
    return go_through(STAGES, job, start or Progress("studies"), only)


def _listed(job: Reconciliation, registry: Registry, institution: str, after: str) -> PageOfFindings:
    own, following = reconcile_studies.listed(job.table, institution, after)
    return _made_anew(job, registry, institution, own, following)


def _not_listed(job: Reconciliation, registry: Registry, institution: str, after: str) -> PageOfFindings:
    listed = job.objects.keys_after(keys.instance_object(institution, ""), after, OBJECTS_AT_ONCE)
    led = _studies_led_by(job.table, institution, [listing.key.rpartition("/")[2] for listing in listed])
    rows = {study: (keys.search_rows(institution, study), keys.by_owner(institution)) for study in led}
    there = job.table.batch_get(rows.values())
    following = listed[-1].key if len(listed) == OBJECTS_AT_ONCE else None
    return _made_anew(job, registry, institution, [study for study in led if rows[study] not in there], following)


STAGES: Mapping[str, Stage] = {"studies": _listed, "objects": _not_listed}
"""The passes, one after the other."""


def _made_anew(
    job: Reconciliation, registry: Registry, institution: str, studies: Sequence[str], following: str | None
) -> PageOfFindings:
    made = sum(reconcile_views.count_anew(job, institution, study, registry) for study in studies)
    return PageOfFindings(studies=made, after=following)


def _studies_led_by(table: Table, institution: str, hashes: Sequence[str]) -> list[str]:
    """The studies whose first fact is of one of these objects, so that each study comes up once in a whole run."""
    verdicts = table.batch_get(keys.verdict(institution, sha) for sha in hashes)
    studies = sorted({str(item.data["study"]) for item in verdicts.values() if item.data["state"] == "indexed"})
    firsts = {study: table.query(keys.study_facts(institution, study), keys.INSTANCES, limit=1).items for study in studies}
    return [study for study, items in firsts.items() if items and items[0].data["sha256"] in hashes]
