"""What an earlier release stored shows what this one reads in it: facts and verdicts of before are read again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest

from chalicelib.domain import keys
from chalicelib.domain.ports import Item
from chalicelib.services.ingest import read_again
from chalicelib.services.ingest.instance_items import StoredObject
from chalicelib.services.ingest.summaries import read_summary
from tests.sharing.api import Api, api_over
from tests.sharing.images import image
from tests.sharing.test_corrections import state
from tests.sharing.test_reading_order import position, slice_at
from tests.sharing.test_sloppy_values import replaced
from tests.world import A, B, World

STUDY = "1.2.9.1"


@pytest.fixture
def api() -> Iterator[Api]:
    world = World((A, B), read_summary)
    world.now = datetime.now(UTC)
    with api_over(world) as api:
        yield api


def as_before(world: World, *, keep: tuple[str, ...] = ()) -> None:
    """Make every fact what the release before made of it: no reader, no place, no date in another form; and its views."""
    items = world.table.memory._items
    for key, item in list(items.items()):
        pk, sk = key
        if pk.startswith("F#STUDY#") and sk.startswith("I#"):
            attributes: Any = item.data["attributes"]
            old = {tag: value for tag, value in attributes.items() if tag in keep or tag not in ("00080020", "00200013")}
            data = {name: value for name, value in item.data.items() if name not in ("reader", "place", "unread")}
            items[key] = Item(pk, sk, data | {"attributes": old}, item.indexes, item.version, item.expires)
        elif pk.startswith("V#"):
            del items[key]
    world.table.pending += [key for key in items if key[0].startswith("F#STUDY#") and key[1].startswith("I#")]
    world.settle()


def sweep(world: World) -> int:
    done = read_again.sweep(
        world.table, world.objects, world.read_summary, world.now, lambda: 60.0, act=lambda _: world.act
    )  # fmt: skip
    world.settle()
    return done


def test_an_undated_follow_up_appears_when_its_date_can_be_read(api: Api) -> None:
    world = api.world
    world.send(A, image("a1", "1.2.9.2"))
    world.open(A, "a1", B, receiving="b1")
    day = (world.now + timedelta(days=1)).strftime("%Y-%m-%d")
    world.send(B, replaced(image("b1", STUDY, date="20300101"), 0x00080020, "DA", "20300101", day.encode()))
    as_before(world)
    assert api.call(A, "GET", "/dicomweb/studies", [("StudyInstanceUID", STUDY)]).json == []
    assert sweep(world) == 2
    (found,) = api.call(A, "GET", "/dicomweb/studies", [("StudyInstanceUID", STUDY)]).json
    assert found["00080020"]["Value"] == [day.replace("-", "")]
    assert sweep(world) == 0, "it is through"


def test_images_are_in_order_at_first_use(api: Api) -> None:
    world = api.world
    made = [slice_at("1", 11 + place, position(str(place * 3 % 7))) for place in range(7)]
    world.send(A, *(content.replace(b"1.2.8.1", b"1.2.9.1") for content in made))
    as_before(world, keep=("00200013",))
    wanted = [f"{STUDY}.1.{11 + place}" for place in sorted(range(7), key=lambda place: place * 3 % 7)]
    metadata = api.call(A, "GET", "/dicomweb/studies/{study}/metadata", study=STUDY).json
    assert [result["00080018"]["Value"][0] for result in metadata] == wanted
    world.settle()
    listed = api.call(A, "GET", "/studies/{study}/manifest", study=STUDY).json["instances"]
    assert [instance["sop_instance_uid"] for instance in listed] == wanted


def test_the_page_reads_a_study_again_too(api: Api) -> None:
    world = api.world
    world.send(A, *(slice_at("1", 11 + place, position(str(-place))).replace(b"1.2.8.1", b"1.2.9.1") for place in range(3)))
    as_before(world, keep=("00200013",))
    body = {"study_instance_uids": [STUDY], "practitioner": {"id": "x", "name": "X"}, "purpose": "report"}
    token = api.call(A, "POST", "/links", body=body).json["url"].split("#")[1]
    key = api.call(None, "POST", "/view/session", body={"token": token}).json["key"]
    headers = {"Authorization": f"Bearer {key}"}
    shown = api.call(None, "GET", "/view/studies/{study}/images", headers=headers, study=STUDY).json
    uids = [instance["sop_instance_uid"] for instance in shown["series"][0]["instances"]]
    assert uids == [f"{STUDY}.1.{11 + place}" for place in (2, 1, 0)]


def test_what_was_rejected_and_can_be_read_now_gets_a_second_verdict(api: Api) -> None:
    world = api.world
    odd = image("a1", STUDY)
    at = odd.index(b"\x10\0\x10\0PN")
    odd = odd[:at] + b"\x09\0\x10\x10  \x04\0ABCD" + odd[at:]
    broken = b"no DICOM at all"
    for content, reason in ((odd, "truncated"), (broken, "not-dicom")):
        stored = StoredObject(A, world.objects.store(A, content), len(content))
        data: dict[str, object] = {"state": "rejected", "reason": reason, "at": "2026-01-01T00:00:00Z", "size": len(content)}
        world.table.memory._items[keys.verdict(A, stored.sha256)] = Item(*keys.verdict(A, stored.sha256), data)
    assert (state(api, odd), state(api, broken)) == (("rejected", "truncated"), ("rejected", "not-dicom"))
    assert sweep(world) == 1
    assert (state(api, odd), state(api, broken)) == (("indexed", None), ("rejected", "not-dicom"))
    assert api.world.found(A, ("PatientID", "a1")) == {STUDY}
    first = world.table.get(*keys.verdict(A, sha256(odd).hexdigest()))
    assert first is not None
    assert first.data["state"] == "rejected", "a fact is never changed"


def test_a_correction_that_comes_meanwhile_is_not_put_back(api: Api) -> None:
    world = api.world
    world.send(A, image("wrong", STUDY))
    as_before(world)
    world.send(A, image("right", STUDY))
    world.settle()
    sweep(world)
    assert world.found(A, ("PatientID", "right")) == {STUDY}
    assert world.found(A, ("PatientID", "wrong")) == set()
    (instance,) = api.call(A, "GET", "/studies/{study}/versions", study=STUDY).json["instances"]
    assert [status["state"] for status in instance["versions"]] == ["superseded", "indexed"]


def test_what_is_gone_or_cannot_be_read_keeps_what_it_says_and_holds_up_nothing(api: Api) -> None:
    world = api.world
    stored = world.send(A, image("a1", STUDY), image("a1", STUDY, 2), image("a1", "1.2.9.3"))
    as_before(world, keep=("00080020", "00200013"))
    world.objects.contents[stored[0].key] = b"damaged"
    del world.objects.contents[stored[1].key]
    assert sweep(world) >= 2
    assert world.found(A) == {STUDY, "1.2.9.3"}
    assert sweep(world) == 0


def test_the_sweep_goes_on_where_it_ended(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_again, "_PAGE", 10)
    world = api.world
    world.send(A, *(image("a1", f"1.2.9.{number}") for number in range(10, 40)))
    as_before(world)
    left = iter([60.0, 60.0, 0.0])  # the other hospital has nothing
    first = read_again.sweep(
        world.table, world.objects, world.read_summary, world.now, lambda: next(left, 0.0), act=lambda _: world.act
    )  # fmt: skip
    assert (first, sweep(world)) == (10, 20)
    assert world.table.get(keys.READ_PROGRESS, A) is not None
