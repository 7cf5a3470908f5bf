"""A city in memory: hospitals, what they send, and the events that follow, delivered when and as a test wants.

The services are the real ones, over `tests.fakes`. Nothing happens by itself: stream records wait in `pending` until
`settle()` or `deliver()` hands them to the projector, so a test can act while the projector is late.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from chalicelib.dicomweb.qido import SearchScope, parse_query
from chalicelib.domain import audit, keys
from chalicelib.domain import transfers as transfer_facts
from chalicelib.domain.errors import NotFound
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.instance_summary import InstanceSummary, StatedIdentifier
from chalicelib.domain.institutions import Institution
from chalicelib.domain.ports import Item, Key, Objects, PutNew, Table, Write
from chalicelib.domain.rejections import RejectionNote
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.transfers import Transfer
from chalicelib.services import access, changes, membership, registry
from chalicelib.services.audit.trail import Trail
from chalicelib.services.finding import search, timeline  # fmt: skip
from chalicelib.services.identity import identity_links, known_patients, linking
from chalicelib.services.ingest import index as index_instances
from chalicelib.services.ingest import uploads, withdrawals
from chalicelib.services.ingest.instance_items import StoredObject
from chalicelib.services.ingest.summaries import read_summary
from chalicelib.services.ingest.uploads import UploadOffer
from chalicelib.services.projection import facts
from chalicelib.services.registry import Caller
from chalicelib.services.retrieval import manifest
from chalicelib.services.sharing import acceptance, emergencies, protection, transfer_reading, transfers
from chalicelib.services.sharing.transfer_reading import TransferFilter
from tests.fakes import MemoryObjects, MemoryTable
from tests.streams import MOMENT, CountedObjects, StreamedTable, Told, changed_keys, project, views_of
from tests.unit.dicom import building

A, B, C, D = "san-matteo", "maugeri", "mondino", "don-gnocchi"
OIDS = {name: f"2.16.840.1.113883.2.9.1.{number}" for number, name in enumerate((A, B, C, D), 1)}
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
CT, KEY_OBJECT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.59"


def plain_summary(fetch: Callable[[int, int], bytes], size: int, whole: bool = True) -> InstanceSummary:
    """Reads what `World.arrive` writes when it is not to cost the making and reading of DICOM files."""
    found: dict[str, Any] = json.loads(fetch(0, size))
    del found["salt"]
    patient, rejects = found.pop("patient"), found.pop("rejects", None)
    return InstanceSummary(
        patient=StatedIdentifier(patient["id"] or "", patient["issuer"] or "", patient["issuer_universal_id"] or ""),
        other_ids=tuple(StatedIdentifier(value, issuer_universal_id=issuer or "") for value, issuer in found.pop("other_ids")),
        rejects=RejectionNote(**rejects) if rejects else None,
        **found,
    )


def patient(institution: str, value: str) -> PatientIdentifier:
    """A hospital's own number of a patient."""
    return PatientIdentifier(OIDS[institution], value)


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


class World:
    """The city. `now` is the clock; move it by `later`."""

    def __init__(
        self,
        institutions: Sequence[str] = (A, B, C),
        read_summary: Any = plain_summary,
        *,
        audited: bool = True,
        memory: MemoryTable | None = None,
        table: Any = None,
        objects: MemoryObjects | None = None,
        now: datetime = START,
    ) -> None:
        self.memory = memory or MemoryTable()
        self.table = table or StreamedTable(self.memory)
        self.objects = objects or CountedObjects(self.table.requests)
        self.alerts = Told()
        self.now = now
        self.opened: list[Transfer] = []
        """Those that `open_transfer` opened."""
        self.announced: list[Mapping[str, int]] = []
        """What the indexer was told again to be stored: sizes by key."""
        self.read_summary = read_summary
        self.trail = Trail(self.table, 2)
        self.audited = audited
        for name in institutions:
            self.register(name)

    def copied(self) -> World:
        """Another city in which the same has happened."""
        other = World((), self.read_summary, audited=self.audited, memory=self.table.memory.copied())
        other.table.pending = list(self.table.pending)
        other.objects.contents = dict(self.objects.contents)
        other.alerts.sent = list(self.alerts.sent)
        other.now = self.now
        return other

    # What happens -------------------------------------------------------------------------------------------------

    def register(self, name: str, version: int = 1, *, removed: bool = False, issuer_names: Sequence[str] = ()) -> None:
        data: dict[str, object] = {
            "id": name, "name": name.replace("-", " ").title(), "role_arn": f"arn:aws:iam::123456789012:role/contenitore-{name}",
            "patient_id_issuer": OIDS[name], "ae_titles": [], "version": version, "removed": removed,
            "issuer_names": list(issuer_names),
        }  # fmt: skip
        self.table.put(PutNew(Item("F#REGISTRY", f"INSTITUTION#{name}#{version:06d}", data)))

    def caller(self, name: str, actor: str = "rossi") -> Caller:
        known = registry.load_registry(self.table)
        return Caller(known.members[name], actor, known)

    @property
    def operator(self) -> Caller:
        return Caller(None, "operator", registry.load_registry(self.table))

    def remove(self, name: str) -> None:
        membership.remove(self.operator, name, self.now, self.act)

    def member(self, name: str) -> Institution:
        return registry.load_registry(self.table).members[name]

    def later(self, **duration: float) -> None:
        self.now += timedelta(**duration)

    def act(self, writes: Sequence[Write], *entries: audit.Entry) -> list[bool]:
        """As a request does it: the act and its record in one transaction."""
        if not self.audited:
            return self.table.transact(writes) if writes else []
        context = audit.RequestContext(self.now, "r", "test", A, "rossi", "role", "rossi")
        return self.trail.append(context, entries, writes)

    def tell(self, *entries: audit.Entry) -> None:
        """What a read records goes nowhere."""

    def store(self, owner: str, content: bytes) -> StoredObject:
        return StoredObject(owner, self.objects.store(owner, content), len(content))

    def put_objects(self, owner: str, *contents: bytes) -> list[StoredObject]:
        """Put objects into the bucket, as a hospital does by presigned PUT: what S3 then tells of."""
        return [self.store(owner, content) for content in contents]

    def index(self, *stored: StoredObject) -> dict[StoredObject, Any]:
        return self.index_batch(stored)

    def index_batch(
        self,
        stored: Sequence[StoredObject],
        table: Table | None = None,
        objects: Objects | None = None,
        remaining: Callable[[], float] = lambda: 60.0,
        now: datetime | None = None,
    ) -> dict[StoredObject, Any]:
        """Hand a batch to the indexer, with other stores, less time or another clock; those that must come again."""
        at = table or self.table
        act = self.act if self.audited else lambda writes, *entries: at.transact(writes)
        return index_instances.index_instances(
            at, objects or self.objects, self.read_summary, now or self.now, stored, remaining, act=lambda _: act
        )

    def bring(self, owner: str, *contents: bytes, now: datetime | None = None) -> list[str]:
        """Store, index and project; the state of each."""
        stored = self.put_objects(owner, *contents)
        assert self.index_batch(stored) == {}
        self.project_all(now)
        return [self.state(instance) for instance in stored]

    def status(self, owner: str, content: bytes) -> dict[str, Any]:
        """What `/uploads/status` says of these bytes."""
        sha = hashlib.sha256(content).hexdigest()
        return uploads.states(self.table, self.objects, owner, [sha])[sha].to_json()

    def state(self, stored: StoredObject) -> str:
        answer = uploads.states(self.table, self.objects, stored.institution, [stored.sha256])
        return str(answer[stored.sha256].state)

    def announce(self, owner: str, study: str, hashes: list[str]) -> None:
        """The hospital says what the study will consist of."""
        offers = [UploadOffer(sha, 1000, study) for sha in hashes]
        uploads.request_uploads(self.table, self.objects, self.announced.append, owner, offers, self.now)

    def arrive(self, owner: str, patient: str | None, study: str, instance: str | None = None, **more: Any) -> StoredObject:
        """An instance comes and is indexed. See `summary` for `more`."""
        stored = self.store(owner, json.dumps(summary(patient, study, instance, **more)).encode())
        assert self.index(stored) == {}
        return stored

    def send(self, owner: str, *contents: bytes) -> list[StoredObject]:
        """DICOM files come and are indexed; for a world that reads them."""
        stored = [self.store(owner, content) for content in contents]
        assert self.index(*stored) == {}
        return stored

    def open(
        self,
        sender: str,
        patient: str,
        to: str,
        receiving: str | None = None,
        issuer: str | None = None,
        key: str | None = None,
        proposed: str | None = None,
        **more: Any,
    ) -> str:
        """Open a transfer of one of the sender's patients; its id, which is always the same for the same `key`.

        `receiving`: the receiver accepts it at once, under this number. `proposed`: what the sender takes for that number.
        """
        number = PatientIdentifier(issuer or OIDS[sender], patient)
        if number.issuer == OIDS[sender] and not known_patients.has(self.table.memory, self.caller(sender), number, self.now):
            self.make_known(sender, patient)
        body = {"patient": {"id": patient} | ({"issuer": issuer} if issuer else {}), "to": to, "reason": "discharge"} | more
        if proposed is not None:
            body["receiving_patient_id"] = proposed
        answer = transfers.open_transfer(self.table, self.caller(sender), body, key, self.now, self.act, self.tell)
        if receiving is not None:
            self.accept(to, answer.transfer.id, receiving)
        return answer.transfer.id

    def make_known(self, who: str, patient: str, **said: Any) -> dict[str, Any]:
        """The hospital's registration says something of its patient; or only that there is one."""
        return known_patients.make_known(self.table, self.caller(who), patient, said, self.now, self.act, self.tell)

    def end(self, who: str, transfer: str) -> None:
        transfers.end_transfer(self.table, self.caller(who), transfer, self.now, self.act, self.tell)

    def accept(self, who: str, transfer: str, number: str | None = None) -> dict[str, Any]:
        body = {"id": number} if number is not None else {}
        return acceptance.accept(self.table, self.caller(who), transfer, body, self.now, self.act, self.tell).to_json()

    def take_back(self, who: str, transfer: str) -> dict[str, Any]:
        return acceptance.take_back(self.table, self.caller(who), transfer, self.now, self.act, self.tell).to_json()

    def extend(self, who: str, transfer: str, expires_at: datetime) -> dict[str, Any]:
        body = {"expires_at": expires_at.isoformat()}
        return transfers.extend_transfer(self.table, self.caller(who), transfer, body, self.now, self.act, self.tell).to_json()

    def links(self, who: str, patient: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = identity_links.list_links(self.table, self.caller(who), patient, self.now, self.tell)[
            "links"
        ]
        return found

    def confirm(self, who: str, patient: str, body: dict[str, Any]) -> dict[str, Any]:
        return identity_links.confirm_link(self.table, self.caller(who), patient, body, self.now, self.act, self.tell)

    def undo(self, who: str, patient: str, link: str) -> dict[str, Any]:
        return identity_links.undo_link(self.table, self.caller(who), patient, link, self.now, self.act, self.tell)

    def link(self, who: str, number: str, other: PatientIdentifier) -> None:
        """Join one of a hospital's numbers with another, as what confirms it does."""
        own = patient(who, number)
        record = access.load_record(self.table, own.hash)
        for write in linking.linking_writes(record, own, other, "confirmed", who, (), self.now):
            self.table.put(write)

    def open_transfer(
        self, sender: str, receiver: str, number: str, opened_at: datetime | None = None, days: int = 30
    ) -> Transfer:
        """A transfer of any patient and any day: its facts alone."""
        at = opened_at or self.now
        digest = hashlib.sha256(f"{sender}{receiver}{number}{at}".encode()).hexdigest()[:32]
        transfer = Transfer(digest, sender, receiver, patient(sender, number), at, at + timedelta(days=days), "rehabilitation")
        for fact in transfer_facts.opening(transfer):
            self.table.put(PutNew(fact))
        self.opened.append(transfer)
        return transfer

    def end_transfer(self, transfer: Transfer) -> None:
        self.table.put(PutNew(Item(keys.transfer_facts(transfer.id), "END", {"at": iso(self.now)})))

    def object(self, owner: str, patient: str, study: str | None = None) -> str:
        body = {"study_instance_uid": study} if study else {}
        return str(protection.object_to_sharing(self.table, self.caller(owner), patient, body, self.now, self.act)["id"])

    def withdraw(self, owner: str, study: str, *instances: str) -> str:
        """The owner takes instances back, or all of a study; the withdrawal's id."""
        body: dict[str, Any] = {"reason": "sent in error"} | ({"sop_instance_uids": list(instances)} if instances else {})
        return str(protection.withdraw(self.table, self.caller(owner), study, body, self.now, self.act)["id"])

    def end_withdrawal(self, owner: str, study: str, withdrawal: str) -> None:
        """And shows them again."""
        withdrawals.end_withdrawal(self.table, self.caller(owner), study, withdrawal, self.now, self.act)

    def declare_emergency(self, who: str, patient: str, issuer: str | None = None) -> str:
        body = {"patient": {"id": patient} | ({"issuer": issuer} if issuer else {}), "reason": "unconscious, chest trauma"}
        answer = emergencies.declare(self.table, self.caller(who), body | {"practitioner": "verdi"}, self.now, self.act)
        return str(answer["id"])

    # What one sees ------------------------------------------------------------------------------------------------

    def sees(self, who: str, study: str, owner: str | None = None) -> bool:
        """Whether facts let the institution see the study, at this moment."""
        try:
            access.find_study(self.table, who, study, owner, self.now)
        except NotFound:
            return False
        return True

    def find(self, who: str, *query: tuple[str, str], level: Any = "study", scope: SearchScope | None = None) -> list[Any]:
        """The results of a search, as DICOM JSON."""
        asked = parse_query(level, list(query), scope or SearchScope())
        return [match.attributes for match in search.search(self.table, self.caller(who), asked, self.now).matches]

    def found(self, who: str, *query: tuple[str, str]) -> set[str]:
        """The Study Instance UIDs that a search finds."""
        return {result["0020000D"]["Value"][0] for result in self.find(who, *query)}

    def timeline(self, who: str, patient: str, issuer: str | None = None) -> dict[str, Any] | None:
        """The timeline, or None for 404."""
        try:
            return timeline.timeline(self.table, self.caller(who), patient, issuer, self.now, self.tell).to_json()
        except NotFound:
            return None

    def on_timeline(self, who: str, patient: str, issuer: str | None = None) -> set[str]:
        return {study["study_instance_uid"] for study in (self.timeline(who, patient, issuer) or {"studies": []})["studies"]}

    def transfer(self, who: str, transfer: str, compare: str | None = None) -> dict[str, Any]:
        return transfer_reading.read_transfer(self.table, self.caller(who), transfer, compare, self.now, self.tell).to_json()

    def transfers(self, who: str, direction: str = "incoming") -> list[dict[str, Any]]:
        caller = self.caller(who)
        page = transfer_reading.list_transfers(self.table, caller, TransferFilter(direction), None, 100, self.now)
        listed = [shown.to_json() for shown in page.transfers]
        single = [
            transfer_reading.read_transfer(self.table, caller, transfer["id"], None, self.now, self.tell).to_json()
            for transfer in listed
        ]
        assert single == listed
        return listed

    def changes(self, who: str, since: str | None = None, limit: int = 1000) -> list[dict[str, Any]]:
        answer = changes.read_changes(self.table, self.caller(who), since, limit, 0, lambda: self.now)
        found: list[dict[str, Any]] = answer["changes"]
        return found

    def handed_out(self, who: str, study: str, owner: str | None = None) -> set[str] | None:
        """The SOP Instance UIDs of which the manifest gives addresses, or None for 404."""
        try:
            found = manifest.manifest(self.table, self.objects, who, study, self.now, owner, record=self.tell)
        except NotFound:
            return None
        return {instance["sop_instance_uid"] for instance in found["instances"]}

    def verdict(self, stored: StoredObject) -> dict[str, Any]:
        item = self.table.get(*keys.verdict(stored.institution, stored.sha256))
        assert item is not None
        return item.data

    def matches(self, who: str, query: Any) -> list[Any]:
        """What a search finds."""
        return search.search(self.table, self.caller(who), query, self.now).matches

    def facts(self) -> dict[Key, Item]:
        """All but the change feeds, which the projector writes."""
        found = self.memory.items().items()
        return {key: item for key, item in found if item.pk.startswith("F#") and not item.pk.startswith("F#FEED#")}

    def views(self) -> dict[Key, Item]:
        """Without the versions, which count how often a view was written."""
        return views_of(self.memory)

    # The stream ---------------------------------------------------------------------------------------------------

    def deliver(self, keys: Sequence[Key]) -> None:
        """One batch of stream records."""
        records = [
            {"dynamodb": {"SequenceNumber": str(number), "Keys": {"pk": {"S": pk}, "sk": {"S": sk}}}}
            for number, (pk, sk) in enumerate(keys)
        ]
        assert facts.project(self.table, self.alerts, facts.stream_keys(records), lambda: self.now) is None

    def project_all(self, now: datetime | None = None) -> None:
        """Every fact comes by the projector once."""
        changes = [(f"{number:021d}", *key) for number, key in enumerate(changed_keys(self.facts().values()))]
        assert project(self.table, changes, now or self.now) is None

    def settle(self, shuffled: random.Random | None = None) -> None:
        """Deliver until nothing is pending; with `shuffled` in any order of the partitions, and some twice."""
        while self.table.pending:
            batch, self.table.pending = self.table.pending, []
            if shuffled is not None:
                batch = batch + shuffled.sample(batch, len(batch) // 3)
                shuffled.shuffle(batch)
                half = len(batch) // 2
                self.deliver(batch[:half])
                batch = batch[half:]
            self.deliver(batch)

    @contextmanager
    def counted(self) -> Iterator[Counter[str]]:
        """The requests to the table made within."""
        before = Counter(self.table.requests)
        during: Counter[str] = Counter()
        yield during
        during.update(Counter(self.table.requests) - before)


def reading_world(table: MemoryTable | None = None, objects: MemoryObjects | None = None) -> World:
    """A world that reads DICOM files (`image`), records nothing in an audit trail, and streams nothing by itself."""
    memory = table or MemoryTable()
    stores = {"memory": memory, "table": memory, "objects": objects or MemoryObjects()}
    return World((A, B, C), read_summary, audited=False, now=MOMENT, **stores)


def summary(
    patient: str | None,
    study: str,
    instance: str | None = None,
    *,
    issuer: str | None = None,
    universal: str | None = None,
    other_ids: Sequence[tuple[str, str | None]] = (),
    name: str = "Bianchi^Ada",
    birth: str | None = "19600315",
    sex: str | None = "F",
    date: str | None = "20260101",
    accession: str | None = None,
    series: str | None = None,
    modality: str = "CT",
    sop_class: str = CT,
    rejects: Any = None,
    salt: str = "",
) -> dict[str, Any]:
    """What `plain_summary` makes a summary of. `other_ids` are (value, issuer) of (0010,1002)."""
    instance = instance or f"{study}.1.1"
    given = {
        "00080020": ("DA", date), "00080050": ("SH", accession), "00080060": ("CS", modality), "00100020": ("LO", patient),
        "00100021": ("LO", issuer), "00100030": ("DA", birth), "00100040": ("CS", sex),
    }  # fmt: skip
    attributes: dict[str, Any] = {tag: {"vr": vr, "Value": [value]} for tag, (vr, value) in given.items() if value}
    if name:
        attributes["00100010"] = {"vr": "PN", "Value": [{"Alphabetic": name}]}
    found: dict[str, Any] = {
        "study_instance_uid": study, "series_instance_uid": series or f"{study}.1", "sop_instance_uid": instance,
        "sop_class_uid": sop_class, "transfer_syntax_uid": "1.2.840.10008.1.2.1", "attributes": attributes, "salt": salt,
        "patient": {"id": patient, "issuer": issuer, "issuer_universal_id": universal}, "other_ids": list(other_ids),
    }  # fmt: skip
    if rejects is not None:
        found["rejects"] = rejects
    return found
