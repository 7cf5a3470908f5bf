"""Puts the parts together: the only place that creates a client."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config as ClientConfig

from chalicelib.adapters.dynamodb import DynamoTable
from chalicelib.adapters.lambda_ import LambdaCarrier, LambdaPixels, LambdaRemover
from chalicelib.adapters.s3 import S3Carrier, S3Objects, S3Versions
from chalicelib.adapters.sns import SnsAlerts
from chalicelib.adapters.sqs import SqsAnnouncer
from chalicelib.adapters.vault import S3Vault
from chalicelib.config import config
from chalicelib.domain.assembly import Carrier
from chalicelib.domain.audit import Act, Context, Entry
from chalicelib.domain.errors import NotFound, TooLarge
from chalicelib.domain.ports import Alerts, Announcer, Objects, Pixels, Remover, Table, Vault, Versions, Write
from chalicelib.domain.rejections import Rejected
from chalicelib.domain.studies import Attributes
from chalicelib.services.audit.trail import Trail
from chalicelib.services.ingest.index import Stored, index_instances
from chalicelib.services.ingest.reports import MAX_BYTES, Place, Sent
from chalicelib.services.registry import OPERATOR

if TYPE_CHECKING:
    from chalicelib.dicom.documents import Document

_LARGEST_METADATA = 512 * 1024
"""Bytes of an instance's metadata that are kept when it is indexed; larger ones are read anew when asked for."""
_ANSWER_WITHIN = 26.0
"""Seconds in which a request is answered, or refused for now: its gateway waits for 29."""
_until: ContextVar[float | None] = ContextVar("until", default=None)
_PATIENCE = 25.0
"""Seconds of a request that indexing may take, its reserve for writing included."""
_CLIENT = ClientConfig(
    connect_timeout=2,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 4},
    max_pool_connections=32,
)


def begin_request() -> None:
    """A request begins: whatever waits for others in it, one after another, stops waiting before its own caller does."""
    _until.set(time.monotonic() + _ANSWER_WITHIN)


def remaining() -> float:
    """Seconds left of the request that this thread answers."""
    until = _until.get()
    return _ANSWER_WITHIN if until is None else until - time.monotonic()


@cache
def table() -> Table:
    """The table, one client for the life of the process."""
    return DynamoTable(boto3.client("dynamodb", config=_CLIENT), config().table_name)


@cache
def trail() -> Trail:
    """The audit trail, one for the life of the process, which remembers where it wrote last."""
    return Trail(table(), config().audit_retention_years)


@cache
def objects() -> Objects:
    """The bucket, one client for the life of the process. URLs are signed with SigV4, and name the region."""
    return S3Objects(_s3(), config().bucket_name, _carrier(), remaining)


@cache
def carrier() -> Carrier:
    """What brings bytes from S3 to S3, through this process."""
    return S3Carrier(_s3(), config().bucket_name)


def _carrier() -> Carrier | None:
    """The function that puts large bodies together. It is asked once, for as long as the API's own caller waits."""
    name = config().assembly_function
    if name is None:
        return None
    patient = ClientConfig(connect_timeout=2, read_timeout=25, retries={"total_max_attempts": 1}, max_pool_connections=64)
    return LambdaCarrier(boto3.client("lambda", config=patient), name)


@cache
def _s3() -> Any:
    return boto3.client("s3", config=_CLIENT.merge(ClientConfig(signature_version="s3v4", s3={"addressing_style": "auto"})))


@cache
def vault() -> Vault:
    """The bucket of the audit trail's anchors. Raises LookupError where no such bucket is configured."""
    bucket = config().audit_anchor_bucket
    if bucket is None:
        raise LookupError("AUDIT_ANCHOR_BUCKET is not set")
    return S3Vault(boto3.client("s3", config=_CLIENT), bucket)


@cache
def alerts() -> Alerts:
    """Where alerts go."""
    return SnsAlerts(boto3.client("sns", config=_CLIENT), config().alerts_topic_arn)


@cache
def _announcer() -> Announcer:
    queue = config().instances_queue_url
    if queue is None:
        raise LookupError("INSTANCES_QUEUE_URL is not set")
    return SqsAnnouncer(boto3.client("sqs", config=_CLIENT), queue)


def announce(sizes: Mapping[str, int]) -> None:
    """`services.ingest.offers.Announce`. The client is made when there is something to announce, which is seldom."""
    _announcer().announce(sizes)


def index_all_now(stored: Sequence[Stored]) -> dict[Stored, Exception]:
    """`services.ingest.store.IndexAll`: index in this request, for as long as its caller waits."""
    until = time.monotonic() + _PATIENCE
    now = datetime.now(UTC)
    return index_instances(table(), objects(), read_summary, now, stored, lambda: until - time.monotonic(), act=indexing_act)


@cache
def pixels() -> Pixels:
    """The function that decodes pixels. It is asked once, for as long as the API's own caller waits. Raises LookupError."""
    name = config().pixels_function
    if name is None:
        raise LookupError("PIXELS_FUNCTION is not set")
    patient = ClientConfig(connect_timeout=2, read_timeout=25, retries={"total_max_attempts": 1}, max_pool_connections=32)
    return LambdaPixels(boto3.client("lambda", config=patient), name)


@cache
def versions() -> Versions:
    """The versions that the bucket keeps, for the one function that may remove any."""
    return S3Versions(_s3(), config().bucket_name)


@cache
def remover() -> Remover:
    """The function that removes what is no DICOM. It is asked once, for as long as its caller waits. Raises LookupError."""
    name = config().sweep_function
    if name is None:
        raise LookupError("SWEEP_FUNCTION is not set")
    patient = ClientConfig(connect_timeout=2, read_timeout=25, retries={"total_max_attempts": 1})
    return LambdaRemover(boto3.client("lambda", config=patient), name)


def begins_as_dicom(first: bytes) -> bool:
    """`services.ingest.removals.BeginsAsDicom`."""
    from chalicelib.dicom import preamble

    return preamble.begins_as_dicom(first)


def index_now(stored: Stored) -> Exception | None:
    """`services.ingest.reports.Index`: index one object in this request; S3's event for it then finds it done."""
    return index_instances(table(), objects(), read_summary, datetime.now(UTC), [stored], act=indexing_act).get(stored)


def read_study_again(owner: str, study: str) -> int:
    """`services.ingest.read_again.read_study`, at the first use of a study that an earlier release read."""
    from chalicelib.services.ingest import read_again

    return read_again.read_study(table(), objects(), read_summary, owner, study, datetime.now(UTC))


def indexing_act(institution: str) -> Act:
    """What the indexer does on behalf of an institution, recorded in the same transaction."""

    def act(writes: Sequence[Write], *entries: Entry) -> list[bool]:
        context = Context(datetime.now(UTC), "", "index_instances", institution, "indexer", "indexer", "indexer")
        return trail().append(context, entries, writes)

    return act


def scheduled_act(function: str) -> Act:
    """What a function that the clock calls does, recorded as the operator's own machine."""

    def act(writes: Sequence[Write], *entries: Entry) -> list[bool]:
        return trail().append(Context(datetime.now(UTC), "", function, OPERATOR, function, function, function), entries, writes)

    return act


def act_as(context: Context) -> Act:
    """What is done and recorded in another's place: what somebody was refused is told in the chain of who asked."""

    def act(writes: Sequence[Write], *entries: Entry) -> list[bool]:
        return trail().append(context, entries, writes)

    return act


def build_report(sent: Sent, of_study: Attributes, place: Place, at: datetime) -> bytes:
    """`services.ingest.reports.Build`."""
    from chalicelib.dicom import cda, documents

    sop_class = {"pdf": documents.PDF, "cda": documents.CDA, "sr": documents.BASIC_TEXT_SR}[sent.kind]
    identity = documents.Identity(
        place.series, place.sop, place.number, sent.title, place.date, place.time, at,
        place.replaces, sent.status, place.document, place.replaced,
    )  # fmt: skip
    header = cda.read_cda(sent.content).header if sent.kind == "cda" else None
    return documents.build(sop_class, of_study, identity, sent.content, header)


def read_document(stored: Stored) -> Document:
    """The document in a stored object. Raises NotFound when it holds none that can be read, TooLarge over `MAX_BYTES`."""
    from chalicelib.dicom import cda, documents
    from chalicelib.dicom.header import DEFAULT_LIMITS, read_head

    limits = replace(DEFAULT_LIMITS, value=MAX_BYTES + 1)  # one byte of padding
    too_large = TooLarge("This document is too large to be answered here; the whole instance is in the study's manifest.")
    try:
        head = read_head(lambda start, length: objects().read(stored.key, start, length), stored.size, limits)
    except Rejected as error:  # it was taken when its long values were not read
        raise too_large from error
    if any(one.path[-1] in documents.LONG for one in head.left_out):
        raise too_large
    try:
        document = documents.read(head)
    except cda.UnreadableDocument as error:
        raise NotFound from error
    if len(document.text) > MAX_BYTES or len(document.text.encode()) > MAX_BYTES:
        raise too_large
    return document


def read_summary(fetch: Callable[[int, int], bytes], size: int, whole: bool = True) -> dict[str, Any] | str | None:
    """`services.ingest.index.ReadSummary`: pydicom is imported here, where headers are read, and nowhere else.

    Within the limits of the first round a head takes 0.2 s at the most; a hostile one of 4 KB that uses all that the whole
    ones are allowed, ten times as long.
    """
    from chalicelib.dicom import frames, report_identity, served
    from chalicelib.dicom.header import DEFAULT_LIMITS, read_head
    from chalicelib.dicom.summary import summarise

    limits = DEFAULT_LIMITS if whole else replace(DEFAULT_LIMITS, elements=20_000, passed=20_000, header=2 * 1024**2, fetches=8)
    try:
        head = read_head(fetch, size, limits)
        described = frames.examine(head, fetch)
        summary = summarise(head, described) | {"document": report_identity.identify(head, fetch)}
    except Rejected as rejected:
        return None if not whole and rejected.reason == "too-large-header" else rejected.reason
    if head.streamed:
        return summary  # its metadata is made when it is asked for
    kept = served.keep(head, summary["series_instance_uid"], summary["sop_instance_uid"], described)
    return summary | ({"metadata": kept} if len(kept) <= _LARGEST_METADATA else {})
