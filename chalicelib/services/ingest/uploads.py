"""Uploads: what the archive has of what a hospital wants to send, and where to put the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from chalicelib.domain import identifiers, keys
from chalicelib.domain.errors import BadRequest, Conflict, NotFound
from chalicelib.domain.fields import fields
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.ports import Item, Objects, Put, Remover, Table, Write
from chalicelib.domain.rejections import NOT_DICOM
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.verdicts import UploadState, UploadStatus, Verdict
from chalicelib.services.ingest import offers as offered
from chalicelib.services.ingest import searchable, standing
from chalicelib.services.ingest.instance_items import StoredObject, verdicts_of
from chalicelib.services.ingest.offers import Announce

MAX_INSTANCES = 500
MAX_SIZE = 5 * 1024**3
UPLOAD_SECONDS = 900


@dataclass(frozen=True)
class UploadOffer:
    """An instance that a hospital wants to send: SHA-256, size in bytes, and its study where the sender knows it.

    `original`: SHA-256 of what the modality made, where the sender compressed it losslessly on the way.
    """

    sha256: str
    size: int
    study: str | None = None
    original: str | None = None


def parse_offers(body: object) -> list[UploadOffer]:
    """The body of `POST /uploads`. Raises BadRequest naming the entry."""
    entries = _entries(body, "instances")
    offers: list[UploadOffer] = []
    for position, said in enumerate(entries):
        where = f"instances[{position}]"
        entry = fields(said, of=where)
        size = entry.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= MAX_SIZE:
            raise BadRequest(f"{where}.size must be 1 to {MAX_SIZE} bytes.", f"{where}.size")
        study = entry.get("study_instance_uid")
        if study is not None and not isinstance(study, str):
            raise BadRequest(f"{where}.study_instance_uid must be a UID.", f"{where}.study_instance_uid")
        checked = identifiers.uid(study, f"{where}.study_instance_uid") if study else None
        original = entry.get("original_sha256")
        if original is not None:
            original = identifiers.sha256(original, f"{where}.original_sha256")
        offers.append(UploadOffer(identifiers.sha256(entry.get("sha256"), f"{where}.sha256"), size, checked, original))
    return offers


def parse_hashes(body: object) -> list[str]:
    """The body of `POST /uploads/status`. Raises BadRequest naming the entry."""
    entries = _entries(body, "sha256")
    return [identifiers.sha256(entry, f"sha256[{position}]") for position, entry in enumerate(entries)]


def request_uploads(
    table: Table, objects: Objects, announce: Announce, institution: str, offers: Sequence[UploadOffer], now: datetime
) -> list[JsonObject]:
    """For each offer, in order, its state, and for what is absent the presigned PUT of exactly these bytes.

    What is stored and has no verdict is announced to the indexer again: the event that told of it may be lost. What was removed
    is absent, and may be sent again.
    """
    wanted = list(dict.fromkeys(offer.sha256 for offer in offers))
    verdicts = _standing(table, institution, wanted)
    known = _states(objects, institution, wanted, {sha: verdict for sha, verdict in verdicts.items() if not verdict.is_removed})
    originals = _standing(table, institution, [offer.original for offer in offers if offer.original])
    for offer in offers:
        if offer.original in originals and known[offer.sha256].state is UploadState.ABSENT:
            known[offer.sha256] = UploadStatus.of(offer.sha256, originals[offer.original])  # it is here as it was made
    absent = [offer for offer in offers if known[offer.sha256].state is UploadState.ABSENT]
    _expect(table, institution, absent)
    _remember_originals(table, institution, absent)
    unread = [offer.sha256 for offer in offers if known[offer.sha256].state is UploadState.STORED]
    offered.remember(table, institution, [*(offer.sha256 for offer in absent), *unread], now)
    if unread:
        announce(objects.sizes([_key(institution, sha) for sha in dict.fromkeys(unread)]))
    expires_at = iso(now + timedelta(seconds=UPLOAD_SECONDS))
    answers: list[JsonObject] = []
    for offer in offers:
        status = known[offer.sha256]
        answer: JsonObject = {"sha256": offer.sha256, "state": status.state}
        if status.verdict is not None and status.verdict.reason:
            answer["reason"] = status.verdict.reason
        if status.state is UploadState.ABSENT:
            url, headers = objects.presign_put(_key(institution, offer.sha256), offer.sha256, UPLOAD_SECONDS)
            answer["upload"] = {"method": "PUT", "url": url, "headers": headers, "expires_at": expires_at}
        answers.append(answer)
    return answers


def states(table: Table, objects: Objects, institution: str, hashes: Sequence[str]) -> dict[str, UploadStatus]:
    """What became of each of the institution's own objects, by SHA-256.

    An original that was compressed on the way stands for what it was sent as.
    """
    wanted = list(dict.fromkeys(hashes))
    return _states(objects, institution, wanted, _standing(table, institution, wanted))


def statuses(table: Table, objects: Objects, institution: str, hashes: Sequence[str]) -> dict[str, UploadStatus]:
    """The answer of `POST /uploads/status`: the same, but `indexed` only of what a search finds by now."""
    wanted = list(dict.fromkeys(hashes))
    verdicts = _standing(table, institution, wanted)
    answers = _states(objects, institution, wanted, verdicts)
    for sha in searchable.awaited(table, institution, verdicts):
        answers[sha] = UploadStatus(sha, UploadState.STORED)
    return answers


def remove(table: Table, objects: Objects, remover: Remover, institution: str, sha256: str) -> None:
    """Have what the institution itself sent, and was rejected as no DICOM, removed at once. Again: the same.

    Raises NotFound where the archive has no such object of this institution, Conflict where it is anything else. TryAgain.
    """
    status = states(table, objects, institution, [sha256])[sha256]
    if status.state is UploadState.ABSENT:
        raise NotFound
    if status.verdict is None or not status.verdict.is_rejected_as(NOT_DICOM):
        raise Conflict(f"Only what was rejected as {NOT_DICOM} is removed.")
    if not remover.remove(institution, sha256):
        raise Conflict("This begins as DICOM does, and is kept.")


def _states(
    objects: Objects, institution: str, wanted: Sequence[str], verdicts: Mapping[str, Verdict]
) -> dict[str, UploadStatus]:
    unknown = [sha for sha in wanted if sha not in verdicts]
    stored = objects.existing([_key(institution, sha) for sha in unknown])
    answers = {sha: UploadStatus.of(sha, verdict) for sha, verdict in verdicts.items()}
    for sha in unknown:
        answers[sha] = UploadStatus(sha, UploadState.STORED if _key(institution, sha) in stored else UploadState.ABSENT)
    return answers


def _standing(table: Table, institution: str, hashes: Sequence[str]) -> dict[str, Verdict]:
    """What the verdicts that there are come to now, by the SHA-256 asked for."""
    verdicts = _verdicts(table, institution, hashes)
    by_object = {sha: (item.pk.rpartition("#")[2], Verdict.from_item(item.data)) for sha, item in verdicts.items()}
    return standing.now_standing(table, institution, by_object)


def _verdicts(table: Table, institution: str, hashes: Sequence[str]) -> dict[str, Item]:
    """The verdicts that there are, by the SHA-256 asked for."""
    found = verdicts_of(table, [keys.verdict(institution, sha) for sha in hashes])
    verdicts = {sha: found[key] for sha in hashes if (key := keys.verdict(institution, sha)) in found}
    unknown = [sha for sha in hashes if sha not in verdicts]
    aliases = table.batch_get((keys.object_facts(institution, sha), keys.SENT_AS) for sha in unknown)
    sent_as = {
        sha: str(aliases[key].data["sha256"])
        for sha in unknown
        if (key := (keys.object_facts(institution, sha), keys.SENT_AS)) in aliases
    }
    compressed = verdicts_of(table, [keys.verdict(institution, sha) for sha in sent_as.values()])
    for sha, other in sent_as.items():
        verdict = compressed.get(keys.verdict(institution, other))
        if verdict is not None and verdict.data["state"] == UploadState.INDEXED:
            verdicts[sha] = verdict
    return verdicts


def _remember_originals(table: Table, institution: str, offers: Sequence[UploadOffer]) -> None:
    """Record what each compressed instance was made from, and what each original was sent as: the same facts each time."""
    writes: list[Write] = []
    for sha, original in dict.fromkeys((offer.sha256, offer.original) for offer in offers if offer.original):
        writes.append(Put(Item(keys.verdict(institution, sha)[0], keys.MADE_FROM, {"sha256": original})))
        writes.append(Put(Item(keys.verdict(institution, str(original))[0], keys.SENT_AS, {"sha256": sha})))
    by_key = list({write.item.key: write for write in writes if isinstance(write, Put)}.values())
    for start in range(0, len(by_key), 100):
        table.transact(by_key[start : start + 100])


def _expect(table: Table, institution: str, offers: Sequence[UploadOffer]) -> None:
    """Record what each study will consist of, so that everyone can see while it is incomplete. One write for each study."""
    by_study: dict[str, list[str]] = {}
    for offer in offers:
        if offer.study:
            by_study.setdefault(offer.study, []).append(offer.sha256)
    for study, hashes in by_study.items():
        content = sorted(set(hashes))
        digest = sha256("".join(content).encode()).hexdigest()[:32]
        data: dict[str, object] = {"sha256": content}
        table.put(Put(Item(keys.study_facts(institution, study), keys.announcement(digest), data)))


def _key(institution: str, sha: str) -> str:
    return StoredObject(institution, sha, 0).key


def _entries(body: object, field: str) -> list[object]:
    entries = fields(body).get(field)
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_INSTANCES:
        raise BadRequest(f"The body must be a JSON object whose {field} lists 1 to {MAX_INSTANCES} entries.", field)
    return entries
