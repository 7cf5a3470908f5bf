"""The archive's services over stores in memory, driven as the cloud drives them: what hospitals do, events, facts, views.

Everything that knows a service's signature is here, so that tests say what happens, and not how it is called.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from chalicelib.domain import keys, transfers
from chalicelib.domain.errors import ContenitoreError
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Item, Key, Objects, Put, PutNew, Table, Write
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.transfers import Transfer
from chalicelib.services import access, membership, registry
from chalicelib.services.finding import search
from chalicelib.services.identity import linking
from chalicelib.services.ingest import index, uploads, withdrawals
from chalicelib.services.ingest.instance_items import StoredObject
from chalicelib.services.ingest.summaries import read_summary
from chalicelib.services.ingest.uploads import UploadOffer
from chalicelib.services.projection import facts as project_facts
from chalicelib.services.registry import Caller
from chalicelib.services.sharing import acceptance, protection
from infra import templates
from local.lambda_runtime.filters import passes
from tests.fakes import MemoryObjects, MemoryTable
from tests.unit.dicom import building

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
ISSUERS = {"san-matteo": "2.16.1.1", "maugeri": "2.16.1.2", "mondino": "2.16.1.3"}


def role(institution: str) -> str:
    return f"arn:aws:iam::123456789012:role/contenitore-institution-{institution}"


def patient(institution: str, value: str) -> PatientIdentifier:
    """A hospital's own number of a patient."""
    return PatientIdentifier(ISSUERS[institution], value)


def image(
    study: str = "1.2.3", series: str = "1", sop: str = "1", patient: str = "P1", date: str = "20260301", **more: str
) -> bytes:
    """A small CT slice. Series and SOP Instance UID are made of the study's and a number."""
    tags = {
        0x00080005: ("CS", more.get("charset", "")),
        0x00080016: ("UI", building.CT),
        0x00080018: ("UI", f"{study}.{series}.{sop}" if "." not in sop else sop),
        0x00080020: ("DA", date),
        0x00080030: ("TM", more.get("time", "101500")),
        0x00080050: ("SH", more.get("accession", "")),
        0x00080060: ("CS", more.get("modality", "CT")),
        0x00081030: ("LO", more.get("description", "")),
        0x00100010: ("PN", more.get("name", "Bianchi^Ada")),
        0x00100020: ("LO", patient),
        0x00100021: ("LO", more.get("issuer", "")),
        0x00100030: ("DA", more.get("birth_date", "")),
        0x0020000D: ("UI", study),
        0x0020000E: ("UI", f"{study}.{series}"),
        0x00204000: ("LT", more.get("comment", "")),
    }
    return building.part10(
        b"".join(building.element(tag, vr, value) for tag, (vr, value) in sorted(tags.items()) if value) + building.pixels(),
        meta=building.file_meta(sop=tags[0x00080018][1]),
    )


class Archive:
    """An archive of its own: a table, a bucket, and three hospitals that are registered."""

    def __init__(self, table: Table | None = None, objects: MemoryObjects | None = None) -> None:
        self.memory = MemoryTable()
        self.table: Table = table or self.memory
        self.objects: MemoryObjects = objects or MemoryObjects()
        self.transfers: list[Transfer] = []
        self.announced: list[Mapping[str, int]] = []
        """What the indexer was told again to be stored: sizes by key."""
        for institution in ISSUERS:
            self.register(institution)

    # Who is who -----------------------------------------------------------------------------------------

    def act(self, writes: Sequence[Write], *entries: object) -> list[bool]:
        """What the door gives to services that change something, without an audit trail."""
        return self.table.transact(writes) if writes else []

    @property
    def operator(self) -> Caller:
        return Caller(None, "operator", registry.load_registry(self.table))

    def caller(self, institution: str) -> Caller:
        known = registry.load_registry(self.table)
        return Caller(known.members[institution], institution, known)

    def register(self, institution: str, **changes: object) -> None:
        body = {
            "name": institution.title(),
            "role_arn": role(institution),
            "patient_id_issuer": ISSUERS.get(institution, "2.16.1.9"),
            **changes,
        }
        membership.register(self.table, self.operator, institution, body, NOW, self.act, lambda *entries: None)

    def remove(self, institution: str) -> None:
        membership.remove(self.operator, institution, NOW, self.act)

    # The way in -----------------------------------------------------------------------------------------

    def store(self, institution: str, *contents: bytes) -> list[StoredObject]:
        """Put objects into the bucket, as a hospital does by presigned PUT: what S3 then tells of."""
        return [StoredObject(institution, self.objects.store(institution, one), len(one)) for one in contents]

    def deliver(
        self,
        stored: Sequence[StoredObject],
        table: Table | None = None,
        objects: Objects | None = None,
        remaining: Callable[[], float] = lambda: 60.0,
        now: datetime = NOW,
    ) -> dict[StoredObject, Exception]:
        """Hand a batch to the indexer; those that must come again."""
        at = table or self.table
        return index.index_instances(
            at, objects or self.objects, read_summary, now, stored, remaining,
            act=lambda _: lambda writes, *entries: at.transact(writes),
        )  # fmt: skip

    def send(self, institution: str, *contents: bytes, now: datetime = NOW) -> list[str]:
        """Store, index and project; the state of each."""
        stored = self.store(institution, *contents)
        assert self.deliver(stored) == {}
        self.project_all(now)
        return [self.state(one) for one in stored]

    def status(self, institution: str, content: bytes) -> dict[str, Any]:
        """What `/uploads/status` says of these bytes."""
        sha = hashlib.sha256(content).hexdigest()
        return uploads.states(self.table, self.objects, institution, [sha])[sha].to_json()

    def state(self, stored: StoredObject) -> str:
        answer = uploads.states(self.table, self.objects, stored.institution, [stored.sha256])
        return str(answer[stored.sha256].state)

    # Sharing --------------------------------------------------------------------------------------------

    def open_transfer(self, sender: str, receiver: str, number: str, opened_at: datetime = NOW, days: int = 30) -> Transfer:
        transfer = Transfer(
            hashlib.sha256(f"{sender}{receiver}{number}{opened_at}".encode()).hexdigest()[:32],
            sender,
            receiver,
            patient(sender, number),
            opened_at,
            opened_at + timedelta(days=days),
            "rehabilitation",
        )
        for fact in transfers.opening(transfer):
            self.table.put(PutNew(fact))
        self.transfers.append(transfer)
        return transfer

    def accept(self, transfer: Transfer, number: str) -> None:
        """The receiver accepts the patient under one of its own numbers."""
        acceptance.accept(
            self.table, self.caller(transfer.receiver), transfer.id, {"id": number}, NOW, self.act, lambda *entries: None
        )

    def link(self, institution: str, number: str, other: PatientIdentifier) -> None:
        """Join one of a hospital's numbers with another."""
        own = patient(institution, number)
        record = access.load_record(self.table, own.hash)
        for write in linking.linking_writes(record, own, other, "confirmed", institution, (), NOW):
            self.table.put(write)

    def objection(self, owner: str, number: str, study: str | None = None) -> None:
        """The patient does not want others to see a study, or any."""
        protection.object_to_sharing(
            self.table, self.caller(owner), number, {"study_instance_uid": study} if study else {}, NOW, self.act
        )

    def withdraw(self, owner: str, study: str, *sops: str) -> str:
        """The owner takes instances back, or all of a study; the withdrawal's id."""
        body: dict[str, Any] = {"reason": "sent in error"} | ({"sop_instance_uids": list(sops)} if sops else {})
        return str(protection.withdraw(self.table, self.caller(owner), study, body, NOW, self.act)["id"])

    def end_withdrawal(self, owner: str, study: str, withdrawal: str) -> None:
        """And shows them again."""
        withdrawals.end_withdrawal(self.table, self.caller(owner), study, withdrawal, NOW, self.act)

    def announce(self, institution: str, study: str, hashes: list[str]) -> None:
        """The hospital says what the study will consist of."""
        offers = [UploadOffer(sha, 1000, study) for sha in hashes]
        uploads.request_uploads(self.table, self.objects, self.announced.append, institution, offers, NOW)

    def end_transfer(self, transfer: Transfer) -> None:
        self.table.put(PutNew(Item(keys.transfer_facts(transfer.id), "END", {"at": iso(NOW)})))

    # Facts and views ------------------------------------------------------------------------------------

    def facts(self) -> dict[Key, Item]:
        """All but the change feeds, which the projector writes."""
        found = self.memory.items().items()
        return {key: item for key, item in found if item.pk.startswith("F#") and not item.pk.startswith("F#FEED#")}

    def views(self) -> dict[Key, Item]:
        """Without the versions, which count how often a view was written."""
        return views_of(self.memory)

    def project_all(self, now: datetime = NOW) -> None:
        """Every fact comes by the projector once."""
        changes = [(f"{number:021d}", *key) for number, key in enumerate(streamed(self.facts().values()))]
        assert project(self.table, changes, now) is None

    def found(self, institution: str, query: Any) -> list[Any]:
        """What a search of the institution answers."""
        return search.search(self.table, self.caller(institution), query, NOW).matches


def views_of(memory: MemoryTable) -> dict[Key, Item]:
    """The views in a table, without what depends on how often or when they were written."""
    return {key: replace(item, version=None) for key, item in memory.items().items() if item.pk.startswith("V#")}


@cache
def _filters() -> list[Any]:
    source = templates.overrides()["Resources"]["ProjectFacts"]["Properties"]["Events"]["ProjectFactsDynamodbEventSource"]
    return [json.loads(entry["Pattern"]) for entry in source["Properties"]["FilterCriteria"]["Filters"]]


def streamed(items: Iterable[Item], *, by_keys: bool = False) -> list[Key]:
    """The keys of those of the items, just written, that the stream hands to the projector, and this takes for news.

    `by_keys`: of the items nothing but their keys is known, as when an operator hands them over.
    """
    records = [stream_record(item.key, item, with_image=not by_keys) for item in items]
    return [(pk, sk) for _, pk, sk in project_facts.stream_keys(one for one in records if passes(_filters(), one))]


def stream_record(key: Key, written: Item | None, *, with_image: bool = True) -> dict[str, Any]:
    """The stream's record of an item that was written, or, where there is none, removed."""
    change: dict[str, Any] = {"SequenceNumber": "0", "Keys": {"pk": {"S": key[0]}, "sk": {"S": key[1]}}}
    if written is not None and with_image:
        change["NewImage"] = {"data": {"S": json.dumps(written.data, separators=(",", ":"))}}
    return {"eventName": "MODIFY" if written is not None else "REMOVE", "dynamodb": change}


def project(table: Table, changes: Sequence[tuple[str, str, str]], now: datetime = NOW) -> tuple[str, ContenitoreError] | None:
    """Hand changed facts, as (sequence number, pk, sk), to the projector; what failed, and from where on."""
    return project_facts.project(table, Alerted(), changes, lambda: now)


class Alerted:
    """Where alerts go: nowhere, but into `told`."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, str]]] = []

    def alert(self, kind: str, content: dict[str, str]) -> None:
        self.told.append((kind, content))


__all__ = ["ISSUERS", "NOW", "Archive", "Put", "image", "patient", "project_facts", "views_of"]
