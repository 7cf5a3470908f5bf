"""What is written of one object: its head checked, its fact, its verdict, its patient, and the line of metadata that is kept."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from chalicelib.domain import instance_versions, keys, patients, studies
from chalicelib.domain.identifiers import PatientIdentifier, resolve_issuer
from chalicelib.domain.instance_facts import InstanceFact
from chalicelib.domain.instance_summary import InstanceSummary
from chalicelib.domain.institutions import Registry
from chalicelib.domain.ports import Item, Key, Objects, PutNew, PutVersion, Table, Write
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.verdicts import UploadState, Verdict
from chalicelib.services.identity import linking, numbering

ReadSummary = Callable[[Callable[[int, int], bytes], int, bool], InstanceSummary | str | None]
"""Reads a head by ranged reads: a summary, or the slug of why it is rejected; None for one that is over the limits of the first
round, unless the last argument says that the whole is wanted.
"""


@dataclass(frozen=True)
class StoredObject:
    """An object that S3 says is stored: whose, its SHA-256 from the key, its size in bytes."""

    institution: str
    sha256: str
    size: int

    @property
    def key(self) -> str:
        """Its key in the bucket."""
        return keys.instance_object(self.institution, self.sha256)


@dataclass(frozen=True)
class UnreadObject:
    """An object that could not be read; with NotFound one that was removed since: there is nothing left to index."""

    stored: StoredObject
    error: Exception


@dataclass(frozen=True)
class LargeObject:
    """An object whose head is over the limits of the first round."""

    stored: StoredObject


@dataclass(frozen=True)
class CheckedObject:
    stored: StoredObject
    summary: InstanceSummary | None
    reason: str | None = None
    patient: PatientIdentifier | None = None
    original: str | None = None
    issuer_name: str | None = None
    """The name of the issuer that keeps its number apart, since its sender has registered no such name."""
    later: int | None = None
    """Of what was rejected once: the version of the later verdict that this one takes the place of, 0 where there is none."""

    @property
    def study(self) -> str:
        return self.read.study_instance_uid

    @property
    def sop(self) -> str:
        return self.read.sop_instance_uid

    @property
    def read(self) -> InstanceSummary:
        """The summary of one that could be read."""
        assert self.summary is not None
        return self.summary


def verdicts_of(table: Table, firsts: Iterable[Key]) -> dict[Key, Item]:
    """The verdicts on objects, by the keys of the first: of one that was rejected, the second where there is one."""
    found = table.batch_get(firsts)
    rejected = [key for key, item in found.items() if item.data["state"] == UploadState.REJECTED]
    later = table.batch_get((pk, keys.LATER) for pk, _ in rejected) if rejected else {}
    return found | {key: later[key[0], keys.LATER] for key in rejected if (key[0], keys.LATER) in later}


def keep_metadata(objects: Objects, accepted: Sequence[CheckedObject]) -> dict[str, str]:
    """Write the metadata of the batch, one object for each institution; answers its key by institution."""
    lines: dict[str, list[bytes]] = {}
    for checked in accepted:
        text = checked.read.metadata
        if text is not None:
            lines.setdefault(checked.stored.institution, []).append(checked.stored.sha256.encode() + b"\t" + text)
    parts: dict[str, str] = {}
    for institution, texts in lines.items():
        content = b"\n".join(sorted(texts))
        key = keys.metadata_part(institution, hashlib.sha256(content).hexdigest()[:32])
        objects.write(key, gzip.compress(content, 6, mtime=0), "application/gzip")
        parts[institution] = key
    return parts


def check(
    objects: Objects, read_summary: ReadSummary, registry: Registry, stored: StoredObject, original: str | None, *, whole: bool
) -> CheckedObject | UnreadObject | LargeObject:
    member = registry.known(stored.institution)
    try:
        summary = read_summary(lambda start, length: objects.read(stored.key, start, length), stored.size, whole)
    except Exception as error:  # reported, logged, delivered again, in the end set aside: by itself, without its neighbours
        return UnreadObject(stored, error)
    if summary is None:
        return LargeObject(stored)
    if isinstance(summary, str):
        return CheckedObject(stored, None, summary)
    patient = summary.patient
    if not patient.id or member is None:
        return CheckedObject(stored, summary, original=original)
    identifier = resolve_issuer(patient.id, patient.issuer, patient.issuer_universal_id, member.patient_id_issuer, member.names)
    return CheckedObject(stored, summary, None, identifier, original, member.unknown_name(identifier))


def file_under_patients(table: Table, registry: Registry, accepted: Iterable[CheckedObject]) -> None:
    """Record that a patient has a study, and which codici fiscali its images carry. The same facts however often."""
    facts: dict[Key, Item] = {}
    for checked in accepted:
        if checked.patient is None:
            continue
        institution = checked.stored.institution
        numbers = dict.fromkeys((checked.patient, numbering.own_of(registry, institution)(checked.patient)))
        filed = [patients.filed(number, institution, checked.study) for number in numbers]
        carried = linking.carrying(institution, registry, checked.patient, checked.read)
        facts |= {item.key: item for item in (*filed, *carried)}
    known = table.batch_get(facts)
    for key, item in facts.items():
        if key not in known:
            table.put(PutNew(item))


def fact_of(checked: CheckedObject, now: datetime, part: str | None) -> Item:
    """The fact of an instance; `part`: the object that holds its line of metadata, where it has one."""
    place = (
        keys.study_facts(checked.stored.institution, checked.study),
        keys.instance(checked.read.series_instance_uid, checked.sop),
    )
    return Item(*place, content_of(checked, now, part).to_item())


def content_of(checked: CheckedObject, now: datetime, part: str | None) -> InstanceFact:
    """What the fact of an instance says; `part` as `fact_of` takes it."""
    summary = checked.read
    return replace(
        InstanceFact.of(summary),
        sha256=checked.stored.sha256,
        size=checked.stored.size,
        at=iso(now),
        kept=studies.packed(summary.attributes),
        reader=instance_versions.READER,
        patient=checked.patient,
        part=part if part is not None and summary.metadata is not None else "",
        original_sha256=checked.original or "",
    )


def verdict(
    checked: CheckedObject,
    state: UploadState,
    now: datetime,
    *,
    reason: str = "",
    owner: str = "",
    first: str = "",
    issuer_name: str = "",
) -> Write:
    """The write of a verdict, which holds if no other delivery was first."""
    given = Verdict(
        state=state, at=iso(now), size=checked.stored.size, reason=reason, owner=owner, first=first, issuer_name=issuer_name
    )
    if (summary := checked.summary) is not None:
        given = replace(
            given,
            study_instance_uid=summary.study_instance_uid,
            series_instance_uid=summary.series_instance_uid,
            sop_instance_uid=summary.sop_instance_uid,
            unread=summary.unread,
        )
    data = given.to_item()
    pk, first = keys.verdict(checked.stored.institution, checked.stored.sha256)
    if checked.later is None:
        return PutNew(Item(pk, first, data))
    return PutVersion(Item(pk, keys.LATER, data, version=checked.later + 1), checked.later)
