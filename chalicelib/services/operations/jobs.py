"""What the operator may start, by name. A job runs for as long as its function has time, and says where to go on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from chalicelib.domain import identifiers, keys
from chalicelib.domain.audit import Act, Entry, Kind, Purpose
from chalicelib.domain.errors import BadRequest, TryAgain
from chalicelib.domain.json_object import JsonObject
from chalicelib.services.ingest.instance_items import StoredObject, UnreadObject, check, verdicts_of
from chalicelib.services.operations import forwarders, rebuild, reconcile, usage
from chalicelib.services.operations.discrepancies import RESERVE, Progress, Reconciliation
from chalicelib.services.operations.usage import Month
from chalicelib.services.registry import load_registry

OLDEST = timedelta(days=36500)
MOST_OBJECTS = 100


def run(job: Reconciliation, record: Act, event: Mapping[str, Any]) -> JsonObject:
    """Do what `event` asks for. What changes something is recorded first, at each call, under the name that its starter gave."""
    if event.get("job") == "look":
        return _look(job, event)
    if event.get("job") == "forwarders":
        return {"forwarders": forwarders.shown(job.table, job.clock())}
    if event.get("job") == "usage":
        return _usage(job, event)
    try:
        name, only = _name(event), _institution(job, event)
        stages = rebuild.STAGES if name == "rebuild" else reconcile.STAGES
        progress = _progress(event, stages, [only] if only else reconcile.everyone(load_registry(job.table)))
        job = replace(
            job,
            older_than=_older_than(event),
            mend=event.get("mend") is True,
            every_object=event.get("every_object") is True,
        )
    except BadRequest as error:
        return {"error": error.detail}
    if job.mend or name == "rebuild":
        what = Entry(
            Kind.ADMINISTRATION, purpose=Purpose.ADMINISTRATION, subject=name, text=f"{only or 'all'} by {event.get('by', '')}"
        )
        if record([], what):
            raise TryAgain
    done = rebuild.rebuild(job, progress, only) if name == "rebuild" else reconcile.reconcile(job, progress or Progress(), only)
    return {
        "findings": [finding.to_item() for finding in done.findings],
        "objects": done.objects,
        "studies": done.studies,
        "progress": done.next.to_item() if done.next is not None else None,
    }


def _name(event: Mapping[str, Any]) -> str:
    name = event.get("job")
    if name not in ("reconcile", "rebuild"):
        raise BadRequest("There is no such job: forwarders, look, rebuild, reconcile, usage.", "job")
    return str(name)


def _institution(job: Reconciliation, event: Mapping[str, Any]) -> str | None:
    """The institution that is asked about. Of one that there never was nothing would differ, as if all were well."""
    if event.get("institution") is None:
        return None
    named = identifiers.institution_id(event["institution"], "institution")
    registry = load_registry(job.table)
    if named not in reconcile.everyone(registry) | registry.members.keys():  # the canary may be asked for, by its name
        raise BadRequest("There is no such institution: `operate usage` names every one that there is or was.", "institution")
    return named


def _older_than(event: Mapping[str, Any]) -> timedelta:
    seconds = event.get("older_than", 900)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= OLDEST.total_seconds():
        raise BadRequest("older_than must be a number of seconds.", "older_than")
    return timedelta(seconds=seconds)


def _progress(event: Mapping[str, Any], stages: Collection[str], institutions: Collection[str]) -> Progress | None:
    """Where the job goes on. From a place that it has not, nothing would be left to do, as if all were well."""
    given = event.get("progress")
    if given is None:
        return None
    if (
        not isinstance(given, dict)
        or set(given) != {"stage", "institution", "after"}
        or given["stage"] not in stages
        or given["institution"] not in institutions
    ):
        raise BadRequest("There is no such place to go on from in this job: take the one that a call of it answered.", "progress")
    return Progress(*(str(given[name]) for name in ("stage", "institution", "after")))


def _usage(job: Reconciliation, event: Mapping[str, Any]) -> JsonObject:
    """What institutions used in a month, page after page: what is answered is to be added up, by institution."""
    try:
        only, month, registry = _institution(job, event), _month(event), load_registry(job.table)
        every = sorted({**registry.former, **registry.members}) if only is None else [only]
        progress = _progress(event, ["objects"], every) or Progress()
    except BadRequest as error:
        return {"error": error.detail}
    counted: list[JsonObject] = []
    for institution in every:
        after: str | None = progress.after if institution == progress.institution else ""
        while after is not None and institution >= progress.institution:
            if counted and job.remaining() < RESERVE:
                return {"usage": counted, "progress": Progress("objects", institution, after).to_item()}
            used, after = usage.page(job.table, job.objects, institution, month, after)
            counted.append(used.to_item())
    return {"usage": counted, "progress": None}


def _month(event: Mapping[str, Any]) -> Month:
    try:
        begins = datetime.strptime(str(event.get("month")), "%Y-%m").replace(tzinfo=UTC)
    except ValueError as error:
        raise BadRequest("month must be YYYY-MM.", "month") from error
    return Month(begins, (begins + timedelta(days=32)).replace(day=1))


def _look(job: Reconciliation, event: Mapping[str, Any]) -> JsonObject:
    """Why objects could not be indexed, as it is now: the state of each in a few words."""
    try:
        wanted = [_stored(named) for named in event["objects"][:MOST_OBJECTS]]
    except (BadRequest, KeyError, TypeError, AttributeError):
        return {"error": "objects must name an institution and a SHA-256 each."}
    registry = load_registry(job.table)
    verdicts = verdicts_of(job.table, [keys.verdict(stored.institution, stored.sha256) for stored in wanted])
    sizes = job.objects.sizes([stored.key for stored in wanted])

    def cause(stored: StoredObject) -> str:
        verdict = verdicts.get(keys.verdict(stored.institution, stored.sha256))
        if verdict is not None:
            return f"it has been decided on since: {verdict.data['state']}"
        if stored.key not in sizes:
            return "there is no such object"
        read = check(job.objects, job.read_summary, registry, replace(stored, size=sizes[stored.key]), None, whole=True)
        if isinstance(read, UnreadObject):
            return f"reading it fails: {type(read.error).__name__}"
        return "it can be read now"

    return {"causes": [cause(stored) for stored in wanted]}


def _stored(named: Mapping[str, Any]) -> StoredObject:
    institution = identifiers.institution_id(named.get("institution"), "institution")
    return StoredObject(institution, identifiers.sha256(named.get("sha256"), "sha256"), 0)
