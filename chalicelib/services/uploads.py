"""Uploads: what the archive has of what a hospital wants to send, and where to put the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from chalicelib.domain import identifiers, studies
from chalicelib.domain.errors import BadRequest
from chalicelib.domain.ports import Item, Objects, Put, Table
from chalicelib.domain.transfers import iso
from chalicelib.services.index_instances import Stored, object_key

MAX_INSTANCES = 500
MAX_SIZE = 5 * 1024**3
UPLOAD_SECONDS = 900


@dataclass(frozen=True)
class Offer:
    """An instance that a hospital wants to send: SHA-256, size in bytes, and its study where the sender knows it."""

    sha256: str
    size: int
    study: str | None = None


def parse_offers(body: object) -> list[Offer]:
    """The body of `POST /uploads`. Raises BadRequest naming the entry."""
    entries = _entries(body, "instances")
    offers: list[Offer] = []
    for position, entry in enumerate(entries):
        where = f"instances[{position}]"
        if not isinstance(entry, dict):
            raise BadRequest(f"{where} must be an object with sha256 and size.", where)
        size = entry.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= MAX_SIZE:
            raise BadRequest(f"{where}.size must be 1 to {MAX_SIZE} bytes.", f"{where}.size")
        study = entry.get("study_instance_uid")
        if study is not None and not isinstance(study, str):
            raise BadRequest(f"{where}.study_instance_uid must be a UID.", f"{where}.study_instance_uid")
        checked = identifiers.uid(study, f"{where}.study_instance_uid") if study else None
        offers.append(Offer(identifiers.sha256(entry.get("sha256"), f"{where}.sha256"), size, checked))
    return offers


def parse_hashes(body: object) -> list[str]:
    """The body of `POST /uploads/status`. Raises BadRequest naming the entry."""
    entries = _entries(body, "sha256")
    return [identifiers.sha256(entry, f"sha256[{position}]") for position, entry in enumerate(entries)]


def request_uploads(
    table: Table, objects: Objects, institution: str, offers: Sequence[Offer], now: datetime
) -> list[dict[str, Any]]:
    """For each offer, in order, its state, and for what is absent the presigned PUT of exactly these bytes."""
    known = states(table, objects, institution, [offer.sha256 for offer in offers])
    _announce(table, institution, [offer for offer in offers if known[offer.sha256]["state"] == "absent"])
    expires_at = iso(now + timedelta(seconds=UPLOAD_SECONDS))
    answers: list[dict[str, Any]] = []
    for offer in offers:
        answer: dict[str, Any] = {"sha256": offer.sha256, "state": known[offer.sha256]["state"]}
        if answer["state"] == "absent":
            url, headers = objects.presign_put(_key(institution, offer.sha256), offer.sha256, UPLOAD_SECONDS)
            answer["upload"] = {"method": "PUT", "url": url, "headers": headers, "expires_at": expires_at}
        answers.append(answer)
    return answers


def states(table: Table, objects: Objects, institution: str, hashes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What became of each of the institution's own objects: the answer of `POST /uploads/status`, by SHA-256."""
    wanted = list(dict.fromkeys(hashes))
    verdicts = table.batch_get(object_key(institution, sha) for sha in wanted)
    unknown = [sha for sha in wanted if object_key(institution, sha) not in verdicts]
    stored = objects.existing([_key(institution, sha) for sha in unknown])
    answers: dict[str, dict[str, Any]] = {}
    for sha in wanted:
        verdict = verdicts.get(object_key(institution, sha))
        if verdict is None:
            answers[sha] = {
                "sha256": sha,
                "state": "stored" if _key(institution, sha) in stored else "absent",
            }
            continue
        answer: dict[str, Any] = {"sha256": sha, "state": verdict.data["state"]}
        for field, source in (
            ("reason", "reason"),
            ("study_instance_uid", "study"),
            ("sop_instance_uid", "sop"),
        ):
            if verdict.data.get(source):
                answer[field] = verdict.data[source]
        answers[sha] = answer
    return answers


def _announce(table: Table, institution: str, offers: Sequence[Offer]) -> None:
    """Record what each study will consist of, so that everyone can see while it is incomplete. One write for each study."""
    by_study: dict[str, list[str]] = {}
    for offer in offers:
        if offer.study:
            by_study.setdefault(offer.study, []).append(offer.sha256)
    for study, hashes in by_study.items():
        content = sorted(set(hashes))
        digest = sha256("".join(content).encode()).hexdigest()[:32]
        data: dict[str, object] = {"sha256": content}
        table.put(Put(Item(studies.study_partition(institution, study), f"E#{digest}", data)))


def _key(institution: str, sha: str) -> str:
    return Stored(institution, sha, 0).key


def _entries(body: object, field: str) -> list[object]:
    entries = body.get(field) if isinstance(body, dict) else None
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_INSTANCES:
        raise BadRequest(f"The body must be a JSON object whose {field} lists 1 to {MAX_INSTANCES} entries.", field)
    return entries
