"""An owner's rule carried out, or tried: a page at a time, every four weeks.

Two passes, each of which goes on where a cursor says, and neither of which scans: the owner's list of studies by date, as far as
the shortest time allows, which costs what is due; then the bucket's listing, for what no list has: what is kept aside, what was
withdrawn, what nobody ever indexed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime

from chalicelib.domain import keys, retention, tags
from chalicelib.domain.audit import Entry, Kind, Purpose
from chalicelib.domain.dicom_json import Attributes, first_value
from chalicelib.domain.erasures import ErasedCount
from chalicelib.domain.errors import TryAgain
from chalicelib.domain.ports import Item, Listed, Table
from chalicelib.domain.refusals import RefusedInstance
from chalicelib.domain.rejections import NOT_DICOM
from chalicelib.domain.retention import RetentionPolicy
from chalicelib.domain.rfc3339 import iso, kept_moment
from chalicelib.domain.studies import Instance, instances, is_withdrawal
from chalicelib.domain.study_views import StudyView
from chalicelib.domain.verdicts import Verdict
from chalicelib.services.erasure import bytes, forgetting
from chalicelib.services.erasure.erase_study import Eraser, erase_study
from chalicelib.services.erasure.retention import OwnersRetention, RetentionPass
from chalicelib.services.ingest.instance_items import verdicts_of

_STUDIES_AT_ONCE, _OBJECTS_AT_ONCE = 50, 200


def carry_out(run: Eraser, known: OwnersRetention) -> OwnersRetention:
    """Go on with the pass that is due, or begin it, as far as there is time."""
    policy, now = known.policy, run.clock()
    if policy is None:
        return known
    last = known.last
    if last.ended_at or (last.digest, last.execute) != (policy.digest, policy.execute):
        last = RetentionPass(policy.digest, policy.execute, iso(now))
    while not last.ended_at and run.has_time():
        work = _studies if last.stage == "studies" else _objects
        last = work(run, known.institution, policy, last)
        known = _saved(run, replace(known, last=last))
    return known


def _saved(run: Eraser, new: OwnersRetention) -> OwnersRetention:
    """Keep how far it is, and record the end. Raises TryAgain where the owner changed its rule meanwhile."""
    if new.last.ended_at:
        what = "carried out" if new.last.execute else "tried"
        entry = Entry(
            Kind.ERASURE if new.last.execute else Kind.ERASURE_ORDERED, new.institution, purpose=Purpose.ADMINISTRATION,
            subject="retention", count=new.last.found.objects, text=f"{what}: {new.last.found}",
        )  # fmt: skip
        held = run.act([new.write()], entry)
    else:
        held = [] if run.table.put(new.write()) else [False]
    if held:
        raise TryAgain
    return replace(new, version=new.version + 1)


def _studies(run: Eraser, owner: str, policy: RetentionPolicy, last: RetentionPass) -> RetentionPass:
    """A page of the owner's list by date, up to the last day on which anything can be due. What has no date comes first."""
    today = run.clock().date()
    newest = f"{today.year - policy.shortest:04d}{today:%m%d}~"
    page = run.table.query(
        keys.rows_by_date(owner), index="gsi3", between=(f"{last.after}!" if last.after else "!", newest), limit=_STUDIES_AT_ONCE
    )
    rows = [row for row in page.items if row.sk == keys.by_owner(owner)]
    named = [read[1] for row in rows if (read := keys.read(keys.search_rows, row.pk)) is not None]
    found = run.table.batch_get(keys.study_view(study, owner) for study in named)
    for _, item in sorted(found.items()):
        view = StudyView.from_item(item.data)
        if view.study_instance_uid in policy.held or not view.changed_at:
            continue
        if _until(policy, view.study_date, view.changed_at, view.modalities, _births(view)) <= today:
            after = _go(run, owner, view.study_instance_uid, policy, last, ErasedCount(1, view.instances, view.size))
            if after is None:
                return last
            last = after
    if page.next:
        return replace(last, after=page.items[-1].indexes["gsi3"][1])
    return replace(last, stage="objects", after="")


def _until(
    policy: RetentionPolicy, study_date: str, came_at: str, modalities: Iterable[str], births: Iterable[date | None]
) -> date:
    exam = retention.dicom_date(study_date) or kept_moment(came_at).date()
    return policy.kept_until(exam, modalities, births)


def _births(view: StudyView) -> list[date | None]:
    """The birth dates of a study's patients."""
    said: list[Attributes] = [view.attributes, *view.persons.values()]
    return [retention.dicom_date(first_value(attributes, tags.PatientBirthDate)) for attributes in said]


def _go(
    run: Eraser, owner: str, study: str, policy: RetentionPolicy, last: RetentionPass, would: ErasedCount
) -> RetentionPass | None:
    """A study that seems due: erased if each of its instances says so, or counted where the rule is only tried.

    None where there was no time.
    """
    if not last.execute:
        return last.and_study(study, would)
    today = run.clock().date()
    gone = erase_study(run, owner, study, "retention", lambda found: _are_past(policy, found, today))
    if gone is None:
        return None
    if gone.is_kept:
        return last
    return last.and_study(study, gone.count)


def _objects(run: Eraser, owner: str, policy: RetentionPolicy, last: RetentionPass) -> RetentionPass:
    """A page of the bucket's listing: what is kept aside for long enough, and withdrawn studies, which no list has."""
    prefix = keys.instance_object(owner, "")
    listed = run.objects.keys_after(prefix, last.after, _OBJECTS_AT_ONCE)
    found = {keys.verdict(owner, entry.key.removeprefix(prefix)): entry for entry in listed}
    verdicts = verdicts_of(run.table, found)
    for key, entry in found.items():
        sha, verdict = entry.key.removeprefix(prefix), verdicts.get(key)
        if _is_aside(verdict, entry, policy, run.clock()):
            last = _let_go(run, owner, sha, entry, verdict, last)
    indexed = {str(item.data["study"]) for item in verdicts.values() if item.data["state"] == "indexed"}
    for study in sorted(indexed - policy.held):
        withdrawn = _withdrawn(run.table, owner, study)
        if withdrawn and _are_past(policy, withdrawn, run.clock().date()):
            after = _go(run, owner, study, policy, last, ErasedCount(1))
            if after is None:
                return last
            last = after
    if len(listed) == _OBJECTS_AT_ONCE:
        return replace(last, after=listed[-1].key)
    return replace(last, ended_at=iso(run.clock()))


def _is_aside(verdict: Item | None, entry: Listed, policy: RetentionPolicy, now: datetime) -> bool:
    """Whether an object was never indexed, and that long enough ago. What is no DICOM the sweep removes by itself."""
    if verdict is None:
        return policy.lets_go(entry.modified, now)
    if verdict.data["state"] == "indexed" or verdict.data.get("reason") == NOT_DICOM:
        return False
    return policy.lets_go(kept_moment(verdict.data["at"]), now)


def _forget_refused(run: Eraser, owner: str, sha: str, verdict: Item | None) -> None:
    """Remove what is kept of an object that was refused under a SOP Instance UID: its line of metadata, and that it was."""
    sop = Verdict.from_item(verdict.data).sop_instance_uid if verdict is not None else ""
    item = run.table.get(keys.sop_facts(owner, sop), keys.refused(sha)) if sop else None
    if item is not None:
        if part := RefusedInstance.from_item(item).part:
            bytes.remove_lines(run.objects, run.versions, part, [sha])
        forgetting.remove_items(run.table, [item.key])


def _let_go(run: Eraser, owner: str, sha: str, entry: Listed, verdict: Item | None, last: RetentionPass) -> RetentionPass:
    """Remove what is kept aside, or count it where the rule is only tried. Each is recorded by its hash."""
    if last.execute:
        run.act(
            [], Entry(Kind.ERASURE, owner, purpose=Purpose.ADMINISTRATION, subject=sha, count=1, text="retention: kept aside")
        )
        _forget_refused(run, owner, sha, verdict)
        bytes.remove_objects(run.versions, [entry.key])
        forgetting.remove_items(run.table, [item.key for item in run.table.query_all(keys.object_facts(owner, sha))])
    return replace(last, found=last.found.and_object(sha, entry.size))


def _withdrawn(table: Table, owner: str, study: str) -> list[Instance]:
    """The instances of a study that is withdrawn as a whole; none of any other."""
    if not is_withdrawal(table.get(*keys.withdrawn_study(owner, study))):
        return []
    return list(instances(table.query_all(keys.study_facts(owner, study), keys.INSTANCES)))


def _are_past(policy: RetentionPolicy, found: Sequence[Instance], today: date) -> bool:
    """Whether a study of these instances is past its time by what each of them says."""
    modalities = {first_value(instance.attributes, tags.Modality) for instance in found}

    def until(instance: Instance) -> date:
        birth = retention.dicom_date(first_value(instance.attributes, tags.PatientBirthDate))
        return _until(policy, first_value(instance.attributes, tags.StudyDate), instance.fact.at, modalities, [birth])

    return all(until(instance) <= today for instance in found)
