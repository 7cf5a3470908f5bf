"""Probes at an owner's patients and studies: told to the owner afterwards, from what every refusal writes alike."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from chalicelib.bootstrap import Archive
from chalicelib.domain import audit
from chalicelib.domain.audit import Entry, RequestContext
from chalicelib.domain.errors import TryAgain
from chalicelib.domain.ports import Write
from chalicelib.services.audit import anchor, probes
from chalicelib.services.registry import load_registry
from infra import audit as command
from tests.fakes import Watched
from tests.sharing.api import Api, api_over
from tests.sharing.images import image
from tests.unit.audit.test_verify_command import MemoryVault
from tests.world import OIDS, A, B, C

STUDY, OTHER = "1.2.826.0.1.3680043.8.498.81", "1.2.826.0.1.3680043.8.498.82"
PERSON = {"X-On-Behalf-Of": "rossi"}


@pytest.fixture
def api() -> Iterator[Api]:
    with api_over() as running:
        running.world.send(A, image("own", STUDY, 1), image("hidden", OTHER, 1))
        running.world.settle()
        count(running)
        yield running


def count(api: Api, table: Any = None) -> int:
    world = api.world
    registry = load_registry(world.table)

    def act_as(context: RequestContext) -> audit.Act:
        def act(writes: list[Write], *entries: Entry) -> list[bool]:
            return world.trail.append(context, entries, writes)

        return act  # type: ignore[return-value]

    shards = anchor.all_shards(list(registry.versions))
    return probes.count_probes(table or world.table, registry, shards, world.now, act_as)


def asks(api: Api, who: str, patient: str, issuer: str = OIDS[A]) -> None:
    query = [("issuer", issuer)]
    assert api.call(who, "GET", "/patients/{patient}/timeline", query, headers=PERSON, patient=patient).status == 404


def probed(api: Api, who: str, **query: str) -> list[tuple[str, int, str | None]]:
    """Of an institution's audit: who asked how often, and for which of its patients."""
    bundle = api.call(who, "GET", "/audit", list({"limit": "1000", **query}.items())).json
    found = []
    for event in (entry["resource"] for entry in bundle.get("entry", [])):
        if "probed" not in {coding["code"] for coding in event["subtype"]}:
            continue
        details = [detail for entity in event["entity"] for detail in entity.get("detail", []) if detail["type"] == "instances"]
        patient = next(
            (e["what"]["identifier"]["value"] for e in event["entity"] if e.get("what", {}).get("type") == "Patient"), None
        )
        who = next(agent["who"]["display"] for agent in event["agent"] if "display" in agent["who"])
        found.append((who, int(details[0]["valueString"]), patient))
    return sorted(found, key=str)


def test_the_owner_learns_who_asked_how_often_and_nobody_else_does(api: Api) -> None:
    for _ in range(3):
        asks(api, C, "own")
    for number in range(4):
        asks(api, C, f"guess-{number}")
    assert api.call(C, "GET", "/studies/{study}/manifest", headers=PERSON, study=STUDY).status == 404
    assert count(api) == 8
    told = probed(api, A)
    assert told == [("Mondino", 1, "own"), ("Mondino", 3, "own"), ("Mondino", 4, None)], "by study, by number, by guesses"
    assert {entry["resource"]["outcome"] for entry in api.call(A, "GET", "/audit").json["entry"] if "probed" in str(entry)} == {
        "8"
    }
    assert probed(api, A, patient="own")
    assert probed(api, C) == probed(api, B) == []
    (line, *_) = [
        access
        for access in api.call(A, "GET", "/patients/{patient}/accesses", [("lang", "en")], patient="own").json["accesses"]
        if access["kind"] == "probed"
    ]
    assert line["who"].startswith("rossi, ")
    assert line["institution"]["id"] == C
    assert line["what"].startswith("Asked for your examinations and was refused")


def test_what_was_counted_is_not_counted_again_and_a_run_that_dies_loses_nothing(api: Api) -> None:
    asks(api, C, "own")

    def dies(name: str) -> None:
        if name == "transact":
            raise TryAgain

    before = api.world.trail
    api.world.trail = type(before)(Watched(api.world.table, dies), 2)
    with pytest.raises(TryAgain):
        count(api)
    api.world.trail = before
    assert probed(api, A) == []
    assert count(api) == 1
    assert count(api) == 0
    assert len(probed(api, A)) == 1


def test_what_one_asks_of_ones_own_and_what_is_nobodys_is_told_to_nobody(api: Api) -> None:
    assert api.call(A, "GET", "/patients/{patient}/timeline", patient="never-here").status == 404
    asks(api, C, "X", "1.2.3.4.5")
    assert count(api) == 0
    assert probed(api, A) == probed(api, C) == []


def test_a_refusal_writes_and_reads_the_same_whether_hidden_or_absent(api: Api) -> None:
    """The work is done later: in the request nothing is looked up for it."""
    world = api.world
    world.open(A, "hidden", B)
    world.settle()
    world.object(A, "hidden")
    world.settle()
    assert api.call(C, "GET", "/studies/{study}/manifest", study="1.2.3").status == 404  # the process then knows its chain
    costs = []
    for study in (OTHER, "1.2.3.4.5.6"):
        with world.counted() as counted:
            assert api.call(C, "GET", "/studies/{study}/manifest", study=study).status == 404
        costs.append(dict(counted))
    assert costs[0] == costs[1]


def test_an_upgrade_tells_nothing_of_what_was_refused_before_it() -> None:
    with api_over() as api:
        api.world.send(A, image("own", STUDY, 1))
        api.world.settle()
        asks(api, C, "own")
        assert count(api) == 0
        assert probed(api, A) == []
        asks(api, C, "own")
        assert count(api) == 1


def test_the_function_that_anchors_counts_first_so_that_what_it_tells_is_anchored_too(api: Api) -> None:
    from chalicelib.api import events

    asks(api, C, "own")
    vault = MemoryVault()
    assert events.anchor(Archive({**api.archive.parts, "vault": vault}))["chains"] > 0
    assert len(probed(api, A)) == 1
    seen = command.verify(api.world.table, sorted(vault.documents.items()), datetime.now(UTC), 10)
    assert (seen.findings, seen.unanchored) == ([], 1), "the one that is not anchored is this test's own reading of the audit"
