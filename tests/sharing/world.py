"""A city in memory: hospitals, what they send, and the events that follow, delivered when and as a test wants.

The services are the real ones, over `tests.fakes`. Nothing happens by itself: stream records wait in `pending` until
`settle()` or `deliver()` hands them to the projector, so a test can act while the projector is late.
"""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from chalicelib.dicomweb.qido import SearchScope, parse_query
from chalicelib.domain import audit, keys
from chalicelib.domain.errors import NotFound
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.instance_summary import InstanceSummary, StatedIdentifier
from chalicelib.domain.institutions import Institution
from chalicelib.domain.ports import Delete, Item, Key, PutNew, Write
from chalicelib.domain.rejections import RejectionNote
from chalicelib.services import access, changes, registry
from chalicelib.services.audit.trail import Trail
from chalicelib.services.finding import search, timeline  # fmt: skip
from chalicelib.services.identity import identity_links, known_patients
from chalicelib.services.ingest import index as index_instances
from chalicelib.services.ingest.instance_items import StoredObject
from chalicelib.services.projection import facts
from chalicelib.services.registry import Caller
from chalicelib.services.retrieval import manifest
from chalicelib.services.sharing import acceptance, emergencies, protection, transfer_reading, transfers
from infra import templates
from local.lambda_runtime import filters
from tests.archive import stream_record
from tests.fakes import MemoryObjects, MemoryTable, Watched

A, B, C, D = "san-matteo", "maugeri", "mondino", "don-gnocchi"
OIDS = {name: f"2.16.840.1.113883.2.9.1.{number}" for number, name in enumerate((A, B, C, D), 1)}
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
CT, KEY_OBJECT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.59"


@cache
def stream_patterns() -> list[Any]:
    """What the stream's event source lets through, as the template says."""
    resource = templates.load(templates.FUNCTIONS)["Resources"]["ProjectFacts"]
    (source,) = resource["Properties"]["Events"].values()
    return [json.loads(one["Pattern"]) for one in source["Properties"]["FilterCriteria"]["Filters"]]


def streamed(pk: str, sk: str) -> bool:
    """Whether a change of this item reaches the projector."""
    return filters.passes(stream_patterns(), {"dynamodb": {"Keys": {"pk": {"S": pk}, "sk": {"S": sk}}}})


class Requests(Counter[str]):
    """Requests by kind. Exact, whichever threads make them."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def made(self, kind: str, count: int = 1) -> None:
        with self._lock:
            self[kind] += count


class StreamedTable(Watched):
    """The table: counts requests by kind, and remembers what its stream would deliver."""

    def __init__(self, memory: MemoryTable) -> None:
        self.memory = memory
        self.requests = Requests()
        self.pending: list[Key] = []
        self.deliver_at_once: Callable[[], None] | None = None
        self._delivering = threading.Lock()
        super().__init__(memory, self.requests.made)

    def batch_get(self, keys: Iterable[Key]) -> dict[Key, Item]:
        asked = list(dict.fromkeys(keys))
        self.requests.made("batch_get", -(-len(asked) // 100))
        return self.memory.batch_get(asked)

    def put(self, write: Write) -> bool:
        done = super().put(write)
        self._tell([write] if done else [])
        return done

    def transact(self, writes: Sequence[Write]) -> list[bool]:
        held = super().transact(writes)
        self._tell([] if held else writes)
        return held

    def _tell(self, writes: Iterable[Write]) -> None:
        for write in writes:
            if isinstance(write, Delete):
                record = stream_record((write.pk, write.sk), None)
            else:
                record = stream_record(write.item.key, write.item)
            if filters.passes(stream_patterns(), record):
                self.pending += [(pk, sk) for _, pk, sk in facts.stream_keys([record])]
        if self.deliver_at_once is not None and self._delivering.acquire(blocking=False):
            try:
                self.deliver_at_once()
            finally:
                self._delivering.release()


class CountedObjects(MemoryObjects):
    """The bucket: counts requests by kind, in the table's counter, so that one number says what a request cost."""

    def __init__(self, requests: Requests) -> None:
        super().__init__()
        self._requests = requests

    def existing(self, keys: Sequence[str]) -> set[str]:
        self._requests.made("object", len(keys))
        return super().existing(keys)

    def sizes(self, keys: Sequence[str]) -> dict[str, int]:
        self._requests.made("object", len(keys))
        return super().sizes(keys)

    def read(self, key: str, start: int, length: int) -> bytes:
        self._requests.made("object")
        return super().read(key, start, length)

    def write(self, key: str, body: bytes, content_type: str) -> None:
        self._requests.made("object")
        super().write(key, body, content_type)


@dataclass
class Told:
    """What went out as alerts."""

    sent: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def alert(self, kind: str, content: dict[str, str]) -> None:
        self.sent.append((kind, dict(content)))


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


class World:
    """The city. `now` is the clock; move it by `later`."""

    def __init__(
        self,
        institutions: Sequence[str] = (A, B, C),
        read_summary: Any = plain_summary,
        *,
        audited: bool = True,
        memory: MemoryTable | None = None,
    ) -> None:
        self.table = StreamedTable(memory or MemoryTable())
        self.objects = CountedObjects(self.table.requests)
        self.alerts = Told()
        self.now = START
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

    def index(self, *stored: StoredObject) -> dict[StoredObject, Any]:
        return index_instances.index_instances(
            self.table, self.objects, self.read_summary, self.now, stored, act=lambda _: self.act
        )

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

    def object(self, owner: str, patient: str, study: str | None = None) -> str:
        body = {"study_instance_uid": study} if study else {}
        return str(protection.object_to_sharing(self.table, self.caller(owner), patient, body, self.now, self.act)["id"])

    def withdraw(self, owner: str, study: str, *instances: str) -> None:
        body: dict[str, Any] = {"reason": "sent in error"} | ({"sop_instance_uids": list(instances)} if instances else {})
        protection.withdraw(self.table, self.caller(owner), study, body, self.now, self.act)

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
        return {one["0020000D"]["Value"][0] for one in self.find(who, *query)}

    def timeline(self, who: str, patient: str, issuer: str | None = None) -> dict[str, Any] | None:
        """The timeline, or None for 404."""
        try:
            return timeline.timeline(self.table, self.caller(who), patient, issuer, self.now, self.tell).to_json()
        except NotFound:
            return None

    def on_timeline(self, who: str, patient: str, issuer: str | None = None) -> set[str]:
        return {one["study_instance_uid"] for one in (self.timeline(who, patient, issuer) or {"studies": []})["studies"]}

    def transfer(self, who: str, transfer: str) -> dict[str, Any]:
        return transfer_reading.read_transfer(self.table, self.caller(who), transfer, self.now, self.tell).to_json()

    def transfers(self, who: str, direction: str = "incoming") -> list[dict[str, Any]]:
        caller = self.caller(who)
        page = transfer_reading.list_transfers(self.table, caller, direction, None, None, None, 100, self.now)
        listed = [shown.to_json() for shown in page.transfers]
        single = [transfer_reading.read_transfer(self.table, caller, one["id"], self.now, self.tell).to_json() for one in listed]
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
        return {one["sop_instance_uid"] for one in found["instances"]}

    def verdict(self, stored: StoredObject) -> dict[str, Any]:
        item = self.table.get(*keys.verdict(stored.institution, stored.sha256))
        assert item is not None
        return item.data

    # The stream ---------------------------------------------------------------------------------------------------

    def deliver(self, keys: Sequence[Key]) -> None:
        """One batch of stream records."""
        records = [
            {"dynamodb": {"SequenceNumber": str(number), "Keys": {"pk": {"S": pk}, "sk": {"S": sk}}}}
            for number, (pk, sk) in enumerate(keys)
        ]
        assert facts.project(self.table, self.alerts, facts.stream_keys(records), lambda: self.now) is None

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
