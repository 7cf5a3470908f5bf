"""Storing by STOW-RS (PS3.18 10.5), by the rules of uploads: bytes are kept as they came, and the answer tells their verdicts."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from chalicelib.dicomweb import part10, resources, stow
from chalicelib.dicomweb.json_model import first_text
from chalicelib.dicomweb.part10 import Unstorable
from chalicelib.dicomweb.stow import StoreRequest
from chalicelib.dicomweb.stow_response import FailedInstance, Outcome, StoredInstance
from chalicelib.domain import keys, tags
from chalicelib.domain.instance_summary import InstanceSummary
from chalicelib.domain.ports import Objects, Table
from chalicelib.domain.verdicts import UploadState, Verdict
from chalicelib.services.ingest import searchable, standing
from chalicelib.services.ingest.instance_items import ReadSummary, StoredObject, verdicts_of

_PARALLEL = 8
_PATIENCE = 4.0
"""Seconds that an answer waits until what it says can be retrieved and searched."""
_AT_MOST = 26.0
"""Seconds after which it waits no more, whatever came before: the gateway gives up after 29."""
IndexAll = Callable[[Sequence[StoredObject]], Mapping[StoredObject, Exception]]
"""Indexes stored objects now; those that must be tried again, with the error."""


@dataclass(frozen=True)
class _Read:
    """One instance of the request: its bytes, what its head says, and the verdict where there is one already."""

    content: bytes
    summary: InstanceSummary | None = None
    failed: FailedInstance | None = None

    @property
    def sop_class(self) -> str:
        return self.summary.sop_class_uid if self.summary else ""

    @property
    def sop(self) -> str:
        return self.summary.sop_instance_uid if self.summary else ""

    def failure(self, reason: str) -> FailedInstance:
        return FailedInstance(reason, self.sop_class, self.sop)


def store(
    table: Table,
    objects: Objects,
    index_all: IndexAll,
    read_summary: ReadSummary,
    institution: str,
    request: StoreRequest,
    study: str | None,
    service: str,
) -> list[Outcome]:
    """Store the instances of a request; what became of each, in the order of the request.

    `study`: the study in the path, of which every instance must be. `service`: the address of DICOMweb.
    """
    started = time.monotonic()
    read = [_read(read_summary, bytes(part.body), study) for part in request.instances]
    read += [_made(read_summary, request, instance, study) for instance in request.metadata]
    stored = {id(instance): _stored(institution, instance) for instance in read if instance.failed is None}
    contents = {stored[id(instance)]: instance.content for instance in read if instance.failed is None}
    if contents:
        with ThreadPoolExecutor(min(_PARALLEL, len(contents))) as pool:
            list(
                pool.map(
                    lambda stored_object: objects.put_new(stored_object.key, contents[stored_object], stored_object.sha256),
                    contents,
                )
            )
    again = index_all(list(contents))
    verdicts = verdicts_of(table, [keys.verdict(institution, content.sha256) for content in contents])
    known = {key: Verdict.from_item(item.data) for key, item in verdicts.items()}
    searchable.wait_for(table, institution, known, min(_PATIENCE, started + _AT_MOST - time.monotonic()))
    by_object = {key: (key[0].rpartition("#")[2], verdict) for key, verdict in known.items()}
    now = standing.now_standing(table, institution, by_object)
    outcomes: list[Outcome] = []
    for instance in read:
        if instance.failed is not None:
            outcomes.append(instance.failed)
        elif stored[id(instance)] in again:
            outcomes.append(instance.failure("out-of-resources"))
        else:
            outcomes.append(_outcome(instance, now.get(keys.verdict(institution, stored[id(instance)].sha256)), service))
    return outcomes + [FailedInstance("unsupported-media-type")] * request.foreign


def _stored(institution: str, read: _Read) -> StoredObject:
    return StoredObject(institution, hashlib.sha256(read.content).hexdigest(), len(read.content))


def _read(read_summary: ReadSummary, content: bytes, study: str | None) -> _Read:
    def fetch(start: int, length: int) -> bytes:
        return content[start : start + length]

    summary = read_summary(fetch, len(content), True) if content else "not-dicom"
    if not isinstance(summary, InstanceSummary):
        return _Read(content, None, FailedInstance(summary or "too-large-header", *_declared(fetch, len(content))))
    read = _Read(content, summary)
    if study is not None and summary.study_instance_uid != study:
        return _Read(content, summary, read.failure("study-mismatch"))
    return read


def _declared(fetch: Callable[[int, int], bytes], size: int) -> tuple[str, str]:
    from chalicelib.dicom.header import declared_uids

    return declared_uids(fetch, size)


def _made(read_summary: ReadSummary, request: StoreRequest, instance: stow.MetadataInstance, study: str | None) -> _Read:
    try:
        content = part10.to_part10(instance.model, lambda uri: stow.bulkdata_of(request, uri))
    except Unstorable as error:
        uids = first_text(instance.model, tags.SOPClassUID), first_text(instance.model, tags.SOPInstanceUID)
        return _Read(b"", None, FailedInstance(error.reason, *uids))
    return _read(read_summary, content, study)


def _outcome(read: _Read, verdict: Verdict | None, service: str) -> Outcome:
    if verdict is None or read.summary is None:
        return read.failure("processing-failure")
    if verdict.state in (UploadState.INDEXED, UploadState.ECHO):
        owner = verdict.owner if verdict.state is UploadState.ECHO else None
        study, series = read.summary.study_instance_uid, read.summary.series_instance_uid
        url = resources.entity_url(service, study, series, read.sop, owner)
        return StoredInstance(read.sop_class, read.sop, url, resources.entity_url(service, study, owner=owner))
    return read.failure(verdict.reason or verdict.state)
