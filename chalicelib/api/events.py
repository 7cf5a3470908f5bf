"""Handlers of the functions that events drive: a batch in, the identifiers of what must be delivered again out."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import unquote_plus

from chalicelib.bootstrap import Archive
from chalicelib.domain import assembly, identifiers
from chalicelib.domain.errors import BadRequest, ContenitoreError, TryAgain
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.rfc3339 import kept_moment
from chalicelib.services import membership
from chalicelib.services.audit import acting
from chalicelib.services.audit import anchor as audit_anchor
from chalicelib.services.audit import probes as audit_probes
from chalicelib.services.ingest import index as index_instances
from chalicelib.services.ingest import offers, removals, retries
from chalicelib.services.ingest import read_again as reading
from chalicelib.services.ingest.instance_items import StoredObject
from chalicelib.services.ingest.summaries import begins_as_dicom, read_summary
from chalicelib.services.operations import forwarders
from chalicelib.services.projection import facts
from chalicelib.services.registry import load_registry
from chalicelib.services.sharing import earlier_transfers, expiries
from chalicelib.telemetry import FunctionFailed, log_unexpected, logger, without_texts


@without_texts
def index(archive: Archive, event: JsonObject, remaining: Callable[[], float]) -> JsonObject:
    """An SQS batch of S3 events: index what was stored; messages with an object that could not be done come again.

    `remaining` answers how many seconds the function has left.
    """
    wanted: dict[str, list[StoredObject]] = {}
    unreadable: list[str] = []
    for record in event["Records"]:
        try:
            wanted[record["messageId"]] = list(_stored(record["body"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            unreadable.append(record["messageId"])  # not what S3 sends: it ends in the dead-letter queue, alone
    batch = [stored for ones in wanted.values() for stored in ones]
    reasons: list[str] = []

    def read(begin: Callable[[int, int], bytes], size: int, whole: bool) -> Any:
        summary = read_summary(begin, size, whole)
        if isinstance(summary, str):
            reasons.append(summary)
        return summary

    def attempt(some: Sequence[StoredObject]) -> dict[StoredObject, Exception]:
        return index_instances.index_instances(
            archive.table,
            archive.objects,
            read,
            datetime.now(UTC),
            some,
            remaining,
            act=acting.indexer(archive.trail),
        )

    failed = retries.index_patiently(attempt, batch, remaining)
    again = [*unreadable, *(message for message, ones in wanted.items() if any(stored in failed for stored in ones))]
    for error in failed.values():
        if not isinstance(error, ContenitoreError):
            log_unexpected(error, function="index_instances")
    kinds = sorted({type(error).__name__ for error in failed.values()})
    logger().info("indexed", extra={"objects": len(batch), "again": len(again), "errors": kinds})
    _tell_of(batch, failed, reasons)
    return {"batchItemFailures": [{"itemIdentifier": message} for message in again]}


@without_texts
def project(
    archive: Archive, event: JsonObject, remaining: Callable[[], float], sleep: Callable[[float], None] = time.sleep
) -> JsonObject:
    """A batch of stream records: bring the views of what they touch up to date, each study once.

    Reports the first record whose study could not be projected; the stream then comes again from there.

    Raises FunctionFailed where that is the first of several: Lambda halves only what failed as a whole, so that a fact which
    never succeeds is alone in the end. Told that it goes on from its first record, Lambda would hand over the same records
    until their tries are used up, and set them all aside. One that is alone is tried again within the invocation, while it may
    only be waiting for others: nothing else of its shard could be done meanwhile. `remaining` answers how many seconds the
    function has left.
    """
    records = facts.stream_keys(event["Records"])
    attempt = partial(facts.project, archive.table, archive.alerts, records, lambda: datetime.now(UTC))
    alone = len(event["Records"]) == 1
    failed = facts.project_patiently(attempt, remaining, sleep) if alone else attempt()
    if failed is not None:
        sequence, error = failed
        logger().warning("projection is tried again", extra={"error": type(error).__name__, "records": len(records)})
        if not alone and sequence == event["Records"][0]["dynamodb"]["SequenceNumber"]:
            raise FunctionFailed(type(error).__name__)
        return {"batchItemFailures": [{"itemIdentifier": sequence}]}
    logger().info("projected", extra={"records": len(records)})
    return {"batchItemFailures": []}


@without_texts
def anchor(archive: Archive) -> JsonObject:
    """Every quarter of an hour: tell owners who was refused what is theirs; lock away the heads of the chains that have grown."""
    table, now = archive.table, datetime.now(UTC)
    registry = load_registry(table)
    try:
        probes = audit_probes.count_probes(
            table, registry, audit_anchor.all_shards(list(registry.versions)), now, partial(acting.act_as, archive.trail)
        )
        logger().info("probes", extra={"refusals": probes})
    except TryAgain:  # the next run counts them; anchoring waits for nothing
        logger().warning("probes are counted later")
    grown = audit_anchor.anchor_heads(table, archive.vault, now, archive.config.audit_retention_years)
    logger().info("anchored", extra={"chains": grown})
    return {"chains": grown}


@without_texts
def notify_expired(archive: Archive) -> JsonObject:
    """Every minute: tell the parties of transfers that ran out; let new roles of members count that waited long enough.

    Once, transfers of before that wait for their receiver are told of.
    """
    table, now = archive.table, datetime.now(UTC)
    earlier_transfers.bring_up_to_date(table, now)
    told = expiries.notify_expired(table, now)
    roles = membership.take_effect(table, now, acting.scheduled(archive.trail, "tell_expired"))
    logger().info("expired", extra={"transfers": told, "roles": roles})
    logger().info("forwarders", extra=forwarders.counted(table, now))
    return {"transfers": told, "roles": roles}


@without_texts
def read_again(archive: Archive, remaining: Callable[[], float]) -> JsonObject:
    """Every minute: go on reading again what an earlier release read otherwise; nothing once all is through."""
    table, objects, read = archive.table, archive.objects, read_summary
    count = reading.sweep(table, objects, read, datetime.now(UTC), remaining, act=acting.indexer(archive.trail))
    logger().info("read again", extra={"objects": count})
    return {"objects": count}


@without_texts
def sweep_uploads(archive: Archive, event: JsonObject, remaining: Callable[[], float]) -> JsonObject:
    """Every five minutes: announce again what was uploaded and has no verdict; remove what is no DICOM and has had its time.

    The API calls it too, with an event whose detail names what its sender wants removed at once: whether it is.
    """
    now, table = kept_moment(event["time"]), archive.table
    rights = archive.versions, begins_as_dicom
    act = acting.scheduled(archive.trail, "sweep_uploads")
    if detail := event.get("detail"):
        unwanted = StoredObject(str(detail["institution"]), identifiers.sha256(detail["sha256"], "sha256"), 0)
        return {"removed": removals.remove(table, *rights, unwanted, now, act)}
    announced = offers.announce_lost(table, archive.objects, archive.announce, now)
    removed = removals.remove_due(table, *rights, now, remaining, act)
    logger().info("swept", extra={"announced": announced, "removed": removed})
    return {"announced": announced, "removed": removed}


@without_texts
def erase_due(archive: Archive, remaining: Callable[[], float]) -> dict[str, int]:
    """Every quarter of an hour: erase what was decided on and is due. Nothing of the event counts: it decides nothing."""
    from chalicelib.services.erasure import run
    from chalicelib.services.erasure.erase_study import Eraser

    act = acting.scheduled(archive.trail, "erase_due")
    registry = load_registry(archive.table)

    def tell_waiting(institution: str, count: int) -> None:
        logger().warning("erasure waits", extra={"institution": institution, "count": count})

    done = run.erase_due(
        Eraser(archive.table, archive.objects, archive.versions, registry, act, lambda: datetime.now(UTC), remaining),
        tell_waiting,
    )
    logger().info("erased", extra=done)
    return done


@without_texts
def assemble(archive: Archive, event: JsonObject) -> list[str] | list[int]:
    """One batch of a large body, on the way from S3 to S3."""
    return assembly.assemble(event, archive.assembler)


@without_texts
def canary(archive: Archive) -> JsonObject:
    """Every five minutes: the archive is used from outside, as by a hospital. `off` until the operator has registered it."""
    from chalicelib.services.operations import canary as flights

    if archive.config.api_url is None:
        return {"state": "off"}
    try:
        flight = flights.fly(archive.own_api, datetime.now(UTC))
    except flights.NotAMember:
        logger().info("canary", extra={"state": "off"})
        return {"state": "off"}
    except flights.FlightFailed as error:
        logger().error("canary", extra={"state": "failed", "step": error.step, "status": error.status})
        raise
    logger().info("canary", extra={"state": "passed", "found_after": flight.found_after, "took": flight.took})
    return {"state": "passed", "found_after": flight.found_after, "took": flight.took}


@without_texts
def operate(archive: Archive, event: JsonObject, remaining: Callable[[], float]) -> JsonObject:
    """A job of the operator's, as far as there is time: its findings, what was looked at, and where to go on.

    `{"job": "reconcile" | "rebuild", "institution"?, "older_than"?, "every_object"?, "mend"?, "by"?, "progress"?}`; a job that
    does not exist is answered with `error`.
    """
    from chalicelib.services.operations import jobs
    from chalicelib.services.operations.discrepancies import Reconciliation

    job = Reconciliation(
        archive.table,
        archive.objects,
        archive.alerts,
        read_summary,
        acting.indexer(archive.trail),
        lambda: datetime.now(UTC),
        remaining,
    )
    answer = jobs.run(job, acting.scheduled(archive.trail, "operate"), event)
    logger().info("operated", extra={"job": str(event.get("job")), "findings": len(answer.get("findings", []))})
    return answer


def _tell_of(batch: Sequence[StoredObject], failed: Collection[StoredObject], reasons: Sequence[str]) -> None:
    """What came, by institution, and what was rejected, by reason: the lines that infra/dashboard.py adds up."""
    for institution in sorted({stored.institution for stored in batch}):
        came = [stored for stored in batch if stored.institution == institution]
        figures = {
            "objects": len(came),
            "bytes": sum(stored.size for stored in came),
            "again": sum(stored in failed for stored in came),
        }
        logger().info("arrived", extra={"institution": institution, **figures})
    for reason, count in sorted(Counter(reasons).items()):
        logger().info("rejected", extra={"reason": reason, "objects": count})


def _stored(body: str) -> Iterator[StoredObject]:
    """The objects that a message tells of; S3's test event, and keys that are no instance's, tell of none."""
    for record in json.loads(body).get("Records", []):
        key = unquote_plus(record["s3"]["object"]["key"])
        prefix, _, rest = key.partition("/")
        institution, _, sha = rest.partition("/")
        if prefix != "instances":
            continue
        try:
            yield StoredObject(
                identifiers.institution_id(institution, "institution"),
                identifiers.sha256(sha, "sha256"),
                int(record["s3"]["object"].get("size", 0)),
            )
        except BadRequest:
            logger().warning("an object's key is not an instance's")
