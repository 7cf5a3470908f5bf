"""The drill's checker would notice: what the rules forbade, what nobody asked for, a trail that was altered."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from drill.checker.audit import GENESIS, read_trail
from drill.checker.promises import Evidence, _brought, _conserved, _read
from drill.checker.rules import Knowledge

NUMBERS = {("san-matteo", "1"): 0, ("maugeri", "2"): 0}
STUDY = {"what": "study", "at": 1.0, "owner": "san-matteo", "study": "1.2", "person": 0, "date": "20260101", "sops": ["1.2.1"]}
FOLLOW_UP = STUDY | {"owner": "maugeri", "study": "1.3", "date": "20260401"}
TRANSFER = {
    "id": "t", "from": "san-matteo", "to": "maugeri", "patient": {"id": "1"},
    "opened_at": "2026-03-01T10:00:00Z", "expires_at": "2026-03-01T11:00:00Z",
}  # fmt: skip
OPENED = 1772359200.0
ASKED = {"what": "opening", "at": OPENED - 1, "sender": "san-matteo", "receiver": "maugeri", "person": 0}
ACCEPTING = {"what": "accepting", "at": OPENED + 5, "receiver": "maugeri", "person": 0}


def known(*entries: dict[str, Any], transfers: tuple[dict[str, Any], ...] = (TRANSFER,)) -> Knowledge:
    return Knowledge([STUDY, FOLLOW_UP, ASKED, *entries], transfers, NUMBERS)


@pytest.mark.parametrize(
    ("viewer", "study", "at", "entries", "allowed"),
    [
        ("san-matteo", "1.2", 0.0, (), True),
        ("maugeri", "1.2", OPENED - 60, (), False),
        ("maugeri", "1.2", OPENED + 60, (), True),
        ("maugeri", "1.2", OPENED + 3700, (), False),
        ("mondino", "1.2", OPENED + 60, (), False),
        ("san-matteo", "1.3", OPENED + 60, (), False),
        ("san-matteo", "1.3", OPENED + 60, (ACCEPTING,), True),
        ("san-matteo", "1.3", OPENED + 2, (ACCEPTING,), False),
        ("maugeri", "1.2", OPENED + 60, ({"what": "ended", "at": OPENED + 30, "transfer": "t"},), False),
        ("maugeri", "1.2", OPENED + 20, ({"what": "ended", "at": OPENED + 30, "transfer": "t"},), True),
        ("mondino", "1.2", OPENED, ({"what": "emergency", "at": OPENED - 9, "by": "mondino", "person": 0},), True),
    ],
)
def test_what_the_rules_forbid_is_known(viewer: str, study: str, at: float, entries: Any, allowed: bool) -> None:
    knowledge = known(*entries)
    assert knowledge.may_see(viewer, knowledge.studies[study], at, at) is allowed


def test_an_objection_hides_from_when_it_was_acknowledged_until_it_may_have_ended() -> None:
    said = {"what": "objected", "at": OPENED + 10, "owner": "san-matteo", "person": 0, "study": "1.2", "objection": "o"}
    knowledge = known(said, {"what": "showing", "at": OPENED + 50, "objection": "o"})
    study = knowledge.studies["1.2"]
    moments = [OPENED + 5, OPENED + 20, OPENED + 60]
    assert [knowledge.may_see("maugeri", study, at, at) for at in moments] == [True, False, True]


def test_a_transfer_needs_somebody_who_asked_for_it_each_one_of_its_own() -> None:
    assert known().unasked() == []
    assert known(transfers=(TRANSFER, TRANSFER | {"id": "u"})).unasked() == ["u"]


def evidence(knowledge: Knowledge, **more: Any) -> Evidence:
    def nothing(*_: Any) -> Any:
        return None

    values = {"hands": nothing, "numbers": {(0, "maugeri"): "2"}, "sent": more.get("sent"), "trail": None, "settled": {}}
    return Evidence(knowledge, functions=nothing, upload=nothing, fresh=nothing, **values | more)  # type: ignore[arg-type]


def test_readings_counts_and_deliveries_that_break_a_promise_are_named(tmp_path: Any) -> None:
    read = {
        "what": "read",
        "at": OPENED - 50,
        "began": OPENED - 60,
        "by": "maugeri",
        "study": "1.2",
        "status": 200,
        "how": "manifest",
    }
    counts = {"what": "counts", "at": 2.0, "by": "maugeri", "received": 3, "indexed": 1, "rejected": 0, "waiting": 1,
              "deliver": {"announced": 1, "delivered": 1, "there": 0, "aside": 0, "waiting": 0}}  # fmt: skip
    brought = {"what": "brought", "at": OPENED + 60, "to": "maugeri", "study": "1.2", "sop": "1.2.1", "number": "1"}
    brought |= {"again": True, "pixels": ""}
    found = evidence(known(read, counts, brought), sent=tmp_path)
    assert [violation.promise for violation in _read(found)] == [5]
    assert [violation.promise for violation in _conserved(found)] == [10]
    assert [violation.promise for violation in _brought(found)] == [11, 11]  # another's number, and twice


class Table:
    """What a scan of the audit's partition answers."""

    def __init__(self, *records: dict[str, Any]) -> None:
        head = {"seq": len(records), "hash": records[-1]["hash"]}
        self.items = [("HEAD", head), *((f"{record['seq']:012d}", record) for record in records)]

    def scan(self, **_: Any) -> dict[str, Any]:
        return {
            "Items": [
                {"pk": {"S": "F#AUDIT#a#00"}, "sk": {"S": key}, "data": {"S": json.dumps(data)}} for key, data in self.items
            ]
        }


def chained(*requests: str) -> list[dict[str, Any]]:
    before, made = GENESIS, []
    for number, request in enumerate(requests, 1):
        record: dict[str, Any] = {"seq": number, "prev": before, "request": request, "shard": "a#00"}
        text = json.dumps(record, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        before = hashlib.sha256(text.encode()).hexdigest()
        made.append(record | {"hash": before})
    return made


def test_a_trail_is_walked_and_each_way_to_alter_it_shows() -> None:
    sound = chained("r1", "r2", "r3")
    trail = read_trail(Table(*sound), "t")
    assert (trail.faults, trail.requests, trail.records) == ([], {"r1", "r2", "r3"}, 3)
    for broken in ([sound[0], sound[2]], [sound[0], sound[1] | {"request": "x"}, sound[2]], [*chained("y"), *sound[1:]]):
        assert read_trail(Table(*broken), "t").faults
    cut = Table(*sound)
    cut.items.pop()
    assert read_trail(cut, "t").faults
