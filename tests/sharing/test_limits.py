"""Every limit that docs/openapi.yaml names of a request: what is just within it is taken, what is one beyond it is 400.

Generated from the document: a limit of a field that no request here has fails.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.services.sharing import readings
from chalicelib.services.sharing.readings import ReadingPerson
from chalicelib.services.viewer import sessions
from tests.described import document
from tests.sharing.api import OPERATOR, VIEWER, Answer, Api, api_over
from tests.sharing.images import image
from tests.unit.dicom import building
from tests.unit.dicom.building import element, item
from tests.world import A, B, C

STUDY = "1.2.826.0.1.3680043.8.498.72"
UPPER, LOWER = {"maximum", "maxLength", "maxItems"}, {"minimum", "minLength", "minItems"}
_READER = {"id": "v", "name": "V"}

REQUESTS: dict[str, dict[str, Any]] = {
    "POST /emergency-access": {"patient": {"id": "own"}, "reason": "fall", "practitioner": "verdi"},
    "POST /emergency-access/{emergency}/review": {"conclusion": "justified", "note": "seen"},
    "PUT /forwarder": {"version": "1", "contract": "1", "troubles": ["disk-low"]},
    "PUT /institutions/{institution}": {
        "name": "Nuova", "role_arn": "arn:aws:iam::123456789012:role/contenitore-nuova", "patient_id_issuer": "1.2.3.4.5",
        "ae_titles": ["CT"], "issuer_names": ["NUOVA"],
    },
    "PUT /institutions/{institution}/erasure": {"reason": "left", "after_days": 30},
    "POST /links": {
        "patient": {"id": "own"}, "current_study": STUDY, "practitioner": _READER, "purpose": "reading",
        "open_within_seconds": 600,
    },
    "PUT /patients/{patient}": {"name": "Verdi^Mia", "identifiers": [{"issuer": "CF", "id": "1"}], "event": "A01"},
    "POST /patients/{patient}/consents": {"study_instance_uid": STUDY, "to": B},
    "POST /patients/{patient}/objections": {"study_instance_uid": STUDY},
    "POST /patients/{patient}/protections": {"study_instance_uid": STUDY},
    "POST /patients/{patient}/erasures": {"reason": "wish", "after_days": 30, "study_instance_uids": [STUDY], "confirm": "x"},
    "PUT /procedure-names": {},
    "PUT /retention": {"years": 10, "by_modality": {"MG": 30}, "minors_until_age": 28, "rejected_days": 365, "held": [STUDY]},
    "POST /studies/{study}/withdrawals": {"reason": "wrong", "sop_instance_uids": [f"{STUDY}.1.1"]},
    "POST /transfers": {"patient": {"id": "own"}, "to": B, "reason": "discharge"},
    "POST /uploads": {"instances": [{"sha256": "a" * 64, "size": 1, "study_instance_uid": STUDY}]},
    "POST /uploads/status": {"sha256": ["a" * 64]},
    "POST /view/session/keep": {"shown": [{"study_instance_uid": STUDY, "owner": A}]},
}  # fmt: skip
"""A request of each route whose body has limits, with every field that has one."""
SEVERAL: dict[str, Callable[[int], Any]] = {
    "instances": lambda number: {"sha256": f"{number:064x}", "size": 1},
    "sha256": lambda number: f"{number:064x}",
    "identifiers": lambda number: {"issuer": f"ISSUER {number}", "id": "1"},
    "names": lambda number: {"phrase": f"torace numero {number}", "places": ["chest"]},
    "codes": lambda number: {"code": f"LOCAL|{number}", "places": ["chest"]},
    "places": lambda number: "chest",
    "ae_titles": lambda number: f"CT{number}",
    "issuer_names": lambda number: f"NAME {number}",
    "troubles": lambda number: f"trouble-{number}",
    "shown": lambda number: {"study_instance_uid": f"{STUDY}.{number}", "owner": A},
}
"""So many entries of a list, each another one; UIDs, where it says nothing."""
OTHERWISE: dict[tuple[str, str], dict[str, Any]] = {
    ("POST /links", "study_instance_uids"): {"study_instance_uids": [STUDY], "practitioner": _READER, "purpose": "reading"},
    ("PUT /procedure-names", "codes"): {"codes": [{"code": "LOCAL|1", "places": ["chest"]}]},
    ("PUT /procedure-names", "names"): {"names": [{"phrase": "torace letto", "places": ["chest"]}]},
}
"""The request of a field that does not go together with others, or is counted with them."""
QUERIES = {"GET /transfers": [("direction", "incoming")], "GET /patients/{patient}/priors": [("description", "TC TORACE")]}
PATHS = {"patient": "own", "study": STUDY, "sop": f"{STUDY}.1.1", "institution": C, "withdrawal": "w", "sha256": "a" * 64}


@dataclass(frozen=True)
class Limit:
    """One limit: `where` it is (`query`, `path`, `header`, or `body` with the way to the field), and which it is."""

    route: str
    where: tuple[str, ...]
    keyword: str
    number: int

    def __str__(self) -> str:
        return f"{self.route} {'.'.join(self.where)} {self.keyword} {self.number}"

    @property
    def beyond(self) -> int:
        """The first number that it does not allow."""
        return self.number + (1 if self.keyword in UPPER else -1)


def _followed(node: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in node:
        _, first, second, third = node["$ref"].split("/")
        node = document()[first][second][third]
    return node


def _limits(route: str, schema: Mapping[str, Any], where: tuple[str, ...]) -> Iterator[Limit]:
    schema = _followed(schema)
    for keyword in sorted(schema.keys() & (UPPER | LOWER)):
        yield Limit(route, where, keyword, schema[keyword])
    inner = dict(schema.get("properties", {}))
    inner |= {"[]": schema["items"]} if "items" in schema else {}
    inner |= {"*": schema["additionalProperties"]} if isinstance(schema.get("additionalProperties"), dict) else {}
    for name, below in inner.items():
        yield from _limits(route, below, (*where, name))


def _stated() -> Iterator[Limit]:
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            route = f"{method.upper()} {path}"
            for parameter in map(_followed, operation.get("parameters", [])):
                if parameter["name"] != "X-On-Behalf-Of" or route == "GET /institutions":  # of every route, and read in one place
                    yield from _limits(route, parameter["schema"], (parameter["in"], parameter["name"]))
            for content in operation.get("requestBody", {}).get("content", {}).values():
                yield from _limits(route, content.get("schema", {}), ("body",))


LIMITS = list(_stated())
TAKEN = frozenset({200, 201, 404, 409, 403})
"""What a request that is understood is answered with, whether or not there is what it names."""


def _value(limit: Limit, number: int) -> Any:
    """A value of this length, count or size."""
    if "Length" in limit.keyword:
        if limit.where[-1] in ("study", "sop", "current_study") or "_uid" in "".join(limit.where[-2:]):
            return "1.".ljust(number, "2")
        if limit.where[-1] == "code":
            return "LOCAL|".ljust(number, "x")
        return "torace".ljust(number, "x")[:number]
    if "Items" in limit.keyword:
        make = SEVERAL.get(limit.where[-1], lambda position: f"{STUDY}.1.{position + 1}")
        return [make(position) for position in range(number)]
    return number


def _body(limit: Limit, number: int) -> Any:
    body: Any = copy.deepcopy(OTHERWISE.get((limit.route, limit.where[1]), REQUESTS[limit.route]))
    inner, way = body, list(limit.where[1:])
    while len(way) > 1:
        step = way.pop(0)
        inner = inner[0] if step == "[]" else inner["MG"] if step == "*" else inner[step]
    name: Any = {"[]": 0, "*": "MG"}.get(way[0], way[0])
    inner[name] = _value(limit, number)
    return body


@dataclass(frozen=True)
class Reading:
    """An API, the keys of a reading session that is open at it, and an emergency access that waits for its review."""

    api: Api
    keys: sessions.Keys
    emergency: str


def _asked(reading: Reading, limit: Limit, number: int) -> Answer:
    method, path = limit.route.split(" ")
    there = PATHS | {"emergency": reading.emergency, "reader": reading.keys.pass_}
    names = {name: value for name, value in there.items() if "{" + name + "}" in path}
    query = list(QUERIES.get(limit.route, ()))
    headers = {"Authorization": f"Bearer {reading.keys.key}"} if path.startswith("/view") else {}
    body: Any = REQUESTS.get(limit.route)
    if limit.route == "POST /studies/{study}/reports":
        body, headers = b"nothing found", {"Content-Type": "text/plain; charset=utf-8"}
    place, name = limit.where[0], limit.where[1]
    if place == "query":
        query.append((name, str(_value(limit, number))))
    elif place == "path":
        names[name] = _value(limit, number)
    elif place == "header":
        headers[name] = _value(limit, number)
    else:
        body = _body(limit, number)
    who = None if path.startswith("/view") else OPERATOR if path.startswith("/institutions/") else A
    return reading.api.call(who, method, path, query, body, headers, **names)


@pytest.fixture(scope="module")
def reading() -> Iterator[Reading]:
    with api_over() as api:
        world = api.world
        world.send(A, image("own", STUDY, 1))
        world.settle()
        emergency = world.declare_emergency(B, "own", world.member(A).patient_id_issuer)
        world.settle()
        body = OTHERWISE["POST /links", "study_instance_uids"]
        made = sessions.make(world.table, world.caller(A), body, VIEWER, world.now, world.act, world.tell)
        assert api.call(OPERATOR, "DELETE", "/institutions/{institution}", institution=C).status == 200
        _, opened = sessions.open_link(world.table, made["url"].split("#")[1], None, world.now)
        yield Reading(api, opened, emergency)


@pytest.mark.parametrize("limit", LIMITS, ids=str)
def test_what_is_at_the_limit_is_taken_and_one_beyond_it_is_a_bad_request(reading: Reading, limit: Limit) -> None:
    within = _asked(reading, limit, limit.number)
    assert within.status in TAKEN, within.body
    beyond = _asked(reading, limit, limit.beyond)
    assert (beyond.status, beyond.json["type"]) == (400, "urn:contenitore:problem:bad-request"), beyond.body


def test_a_report_replaces_up_to_16_documents(api: Api) -> None:
    api.world.send(A, image("own", STUDY, 1))
    api.world.settle()
    route, headers = "/studies/{study}/reports", {"Content-Type": "text/plain; charset=utf-8"}
    for count, status in ((16, 201), (17, 400)):
        query = [("replaces", ",".join(f"R-{number}" for number in range(count)))]
        assert api.call(A, "POST", route, query, b"nothing found", headers, study=STUDY).status == status


def test_the_first_1000_readings_of_a_study_are_listed(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    assert readings.MAX_READINGS == 1000
    world, number = reading.api.world, PatientIdentifier("1.2", "theirs")
    for name in ("rossi", "verdi", "bianchi"):
        readings.remember(world.table, ReadingPerson(B, name, name), number, A, STUDY, None, world.now)
    for most, shown in ((1000, 3), (3, 3), (2, 2)):
        monkeypatch.setattr(readings, "MAX_READINGS", most)
        assert len(reading.api.call(A, "GET", "/studies/{study}/readings", study=STUDY).json["readings"]) == shown


def test_a_study_on_the_timeline_names_30_body_parts_and_12_series_and_codes(reading: Reading) -> None:
    study, world = f"{STUDY}.9", reading.api.world

    def named(number: int) -> bytes:
        code = element(0x00080100, "SH", f"C{number:02}") + element(0x00080102, "SH", "99SM") + element(0x00080104, "LO", "x")
        content = element(0x00080016, "UI", building.CT) + element(0x00080018, "UI", f"{study}.{number}")
        content += element(0x00081032, "SQ", item(code)) + element(0x0008103E, "LO", f"Serie {number:02}")
        content += element(0x00100020, "LO", "many") + element(0x00180015, "CS", f"PART{number:02}")
        content += element(0x0020000D, "UI", study) + element(0x0020000E, "UI", f"{study}.0.{number}")
        return building.part10(content + building.pixels(), meta=building.file_meta(sop=f"{study}.{number}"))

    for first, last, counts in ((1, 12, (12, 12, 12)), (13, 30, (30, 12, 12)), (31, 31, (30, 12, 12))):
        world.send(A, *(named(number) for number in range(first, last + 1)))
        world.settle()
        (shown,) = reading.api.call(A, "GET", "/patients/{patient}/timeline", patient="many").json["studies"]
        assert (len(shown["body_parts"]), len(shown["series_names"]), len(shown["codes"])) == counts
