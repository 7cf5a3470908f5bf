"""A city in memory: hospitals, what they send, and the events that follow, delivered when and as a test wants.

The services are the real ones, over `tests.fakes`. Nothing happens by itself: stream records wait in `pending` until
`settle()` or `deliver()` hands them to the projector, so a test can act while the projector is late.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import urlencode

from chalicelib.domain import audit
from chalicelib.domain.institutions import Institution
from chalicelib.domain.ports import Delete, Item, Key, Page, PutNew, Write
from chalicelib.services import index_instances, project_facts, registry
from chalicelib.services.audit import Trail
from chalicelib.services.index_instances import Stored
from chalicelib.services.registry import Caller
from infra import templates
from local import filters
from tests.fakes import MemoryObjects, MemoryTable

A, B, C, D = "san-matteo", "maugeri", "mondino", "don-gnocchi"
OIDS = {
    A: "2.16.840.1.113883.2.9.1.1",
    B: "2.16.840.1.113883.2.9.1.2",
    C: "2.16.840.1.113883.2.9.1.3",
    D: "2.16.840.1.113883.2.9.1.4",
}
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
CT, KEY_OBJECT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.59"


@cache
def stream_patterns() -> list[Any]:
    """What the stream's event source lets through, as the template says."""
    resource = templates.load(templates.INFRA / "functions.yaml")["Resources"]["ProjectFacts"]
    (source,) = resource["Properties"]["Events"].values()
    return [json.loads(one["Pattern"]) for one in source["Properties"]["FilterCriteria"]["Filters"]]


def streamed(pk: str, sk: str) -> bool:
    """Whether a change of this item reaches the projector."""
    return filters.passes(stream_patterns(), {"dynamodb": {"Keys": {"pk": {"S": pk}, "sk": {"S": sk}}}})


class StreamedTable:
    """The table: counts requests by kind, and remembers what its stream would deliver."""

    def __init__(self) -> None:
        self.memory = MemoryTable()
        self.requests: Counter[str] = Counter()
        self.pending: list[Key] = []

    def get(self, pk: str, sk: str) -> Item | None:
        self.requests["get"] += 1
        return self.memory.get(pk, sk)

    def batch_get(self, keys: Iterable[Key]) -> dict[Key, Item]:
        asked = list(dict.fromkeys(keys))
        self.requests["batch_get"] += -(-len(asked) // 100)
        return self.memory.batch_get(asked)

    def query(
        self,
        pk: str,
        prefix: str = "",
        *,
        index: str | None = None,
        between: Key | None = None,
        start: dict[str, str] | None = None,
        limit: int | None = None,
        descending: bool = False,
    ) -> Page:
        self.requests["query"] += 1
        return self.memory.query(pk, prefix, index=index, between=between, start=start, limit=limit, descending=descending)

    def query_all(
        self,
        pk: str,
        prefix: str = "",
        *,
        index: str | None = None,
        between: Key | None = None,
        descending: bool = False,
        page: int | None = None,
    ) -> Iterator[Item]:
        start: dict[str, str] | None = None
        while True:
            answer = self.query(pk, prefix, index=index, between=between, start=start, limit=page, descending=descending)
            yield from answer.items
            start = answer.next
            if start is None:
                return

    def put(self, write: Write) -> bool:
        self.requests["put"] += 1
        done = self.memory.put(write)
        self._tell([write] if done else [])
        return done

    def transact(self, writes: Sequence[Write]) -> list[bool]:
        self.requests["transact"] += 1
        held = self.memory.transact(writes)
        self._tell([] if held else writes)
        return held

    def _tell(self, writes: Iterable[Write]) -> None:
        keys = [(w.pk, w.sk) if isinstance(w, Delete) else w.item.key for w in writes]
        self.pending += [key for key in keys if streamed(*key)]


@dataclass
class Told:
    """What went out as alerts."""

    sent: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def alert(self, kind: str, content: dict[str, str]) -> None:
        self.sent.append((kind, dict(content)))


def plain_summary(fetch: Callable[[int, int], bytes], size: int) -> dict[str, Any] | str:
    """Reads what `World.arrive` writes when it is not to cost the making and reading of DICOM files."""
    found: dict[str, Any] = json.loads(fetch(0, size))
    return found


class World:
    """The city. `now` is the clock; move it by `later`."""

    def __init__(self, institutions: Sequence[str] = (A, B, C), read_summary: Any = plain_summary) -> None:
        self.table = StreamedTable()
        self.objects = MemoryObjects()
        self.alerts = Told()
        self.now = START
        self.read_summary = read_summary
        self.trail = Trail(self.table, 2)
        for name in institutions:
            self.register(name)

    # What happens -------------------------------------------------------------------------------------------------

    def register(self, name: str, version: int = 1, *, removed: bool = False) -> None:
        data: dict[str, object] = {
            "id": name, "name": name.replace("-", " ").title(), "role_arn": f"arn:aws:iam::123456789012:role/contenitore-{name}",
            "patient_id_issuer": OIDS[name], "ae_titles": [], "version": version, "removed": removed,
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
        context = audit.Context(self.now, "r", "test", A, "rossi", "role", "rossi")
        return self.trail.append(context, entries, writes)

    def tell(self, *entries: audit.Entry) -> None:
        """What a read records goes nowhere."""

    def store(self, owner: str, content: bytes) -> Stored:
        return Stored(owner, self.objects.store(owner, content), len(content))

    def index(self, *stored: Stored) -> dict[Stored, Any]:
        return index_instances.index_instances(self.table, self.objects, self.read_summary, self.now, stored)

    def arrive(self, owner: str, patient: str | None, study: str, instance: str | None = None, **more: Any) -> Stored:
        """An instance comes and is indexed. See `summary` for `more`."""
        stored = self.store(owner, json.dumps(summary(patient, study, instance, **more)).encode())
        assert self.index(stored) == {}
        return stored

    def verdict(self, stored: Stored) -> dict[str, Any]:
        item = self.table.get(*index_instances.object_key(stored.institution, stored.sha256))
        assert item is not None
        return item.data

    # The stream ---------------------------------------------------------------------------------------------------

    def deliver(self, keys: Sequence[Key]) -> None:
        """One batch of stream records."""
        records = [
            {"dynamodb": {"SequenceNumber": str(number), "Keys": {"pk": {"S": pk}, "sk": {"S": sk}}}}
            for number, (pk, sk) in enumerate(keys)
        ]
        failed = project_facts.project(self.table, self.alerts, project_facts.stream_keys(records), lambda: self.now)
        assert failed is None

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
        before = self.table.requests.copy()
        during: Counter[str] = Counter()
        yield during
        during.update(self.table.requests - before)


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
    """A summary as `dicom.summary.summarise` makes it. `other_ids` are (value, issuer) of (0010,1002)."""
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
        "patient": {
            "id": patient, "issuer": issuer, "issuer_universal_id": universal,
            "other_ids": [{"id": value, "issuer": None, "issuer_universal_id": of} for value, of in other_ids],
        },
    }  # fmt: skip
    if rejects is not None:
        found["rejects"] = rejects
    return found


# The API in this process ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Api:
    """The real Chalice app over a `World`, called with events as API Gateway makes them. See the fixture `api`."""

    def __init__(self, app: Any, world: World) -> None:
        self.app, self.world = app, world
        self._serial = 0

    def call(
        self,
        who: str | None,
        method: str,
        route: str,
        query: Sequence[tuple[str, str]] = (),
        body: Any = None,
        headers: dict[str, str] | None = None,
        **parameters: str,
    ) -> Answer:
        """`who`: an institution, `operator`, `unregistered`, or None for an unsigned request. `route`: with placeholders."""
        self._serial += 1
        path = route
        for name, value in parameters.items():
            path = path.replace("{" + name + "}", value)
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        values: dict[str, list[str]] = {}
        for name, value in query:
            values.setdefault(name, []).append(value)
        arn = None if who is None else f"arn:aws:sts::123456789012:assumed-role/contenitore-{who}/{who}"
        sent = {"Content-Type": "application/json", "Host": "archive.test", "X-Forwarded-Proto": "https"} | (headers or {})
        event = {
            "resource": route, "path": path, "httpMethod": method, "headers": sent,
            "multiValueHeaders": {name: [value] for name, value in sent.items()},
            "queryStringParameters": {name: found[-1] for name, found in values.items()} or None,
            "multiValueQueryStringParameters": values or None, "pathParameters": parameters or None, "stageVariables": None,
            "body": base64.b64encode(content).decode(), "isBase64Encoded": True,
            "requestContext": {
                "resourcePath": route, "path": f"{path}?{urlencode(query)}".rstrip("?").split("?")[0], "httpMethod": method,
                "requestId": f"request-{self._serial}", "identity": {"userArn": arn, "sourceIp": "127.0.0.1"}, "stage": "api",
            },
        }  # fmt: skip
        answer = self.app(event, None)
        content = answer["body"]
        raw = base64.b64decode(content) if answer.get("isBase64Encoded") else content.encode()
        single = {name.lower(): str(value) for name, value in (answer.get("headers") or {}).items()}
        single |= {name.lower(): str(found[-1]) for name, found in (answer.get("multiValueHeaders") or {}).items()}
        return Answer(int(answer["statusCode"]), single, raw)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
