"""Withdrawal and correction: what its owner takes back is gone everywhere at once, and those who had it are told.

By the API, and by the rejection notes that a PACS sends (IHE IOCM, RAD TF-2 4.66): key object selections of CID 7011.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from chalicelib.domain import keys
from chalicelib.services.ingest import index
from chalicelib.services.ingest.summaries import read_summary
from tests.sharing.api import Api, api_over
from tests.sharing.images import image, rejection_note
from tests.world import A, B, C, World

TITLES = ["113001", "113037", "113038", "113039"]
STUDY, FIRST, SECOND = "1.2.1", "1.2.1.1.1", "1.2.1.1.2"


@pytest.fixture
def city() -> Iterator[World]:
    """A study of two images of San Matteo, shared with Maugeri; DICOM files are read."""
    world = World((A, B, C), read_summary)
    world.send(A, image("1", STUDY, 1), image("1", STUDY, 2))
    world.open(A, "1", B)
    world.settle()
    assert world.sees(B, STUDY)
    yield world


def kinds(world: World, who: str, study: str = STUDY) -> list[tuple[str, int]]:
    return [(change["kind"], change["instances"]) for change in world.changes(who) if change.get("study_instance_uid") == study]


def test_a_study_taken_back_is_gone_for_everybody_before_anything_is_projected(city: World) -> None:
    city.withdraw(A, STUDY)
    for who in (A, B):
        assert not city.sees(who, STUDY)
        assert city.handed_out(who, STUDY) is None
        assert city.found(who) == set()
        assert city.find(who, ("StudyInstanceUID", STUDY), level="series") == []
        assert city.find(who, ("SOPInstanceUID", FIRST), level="instance") == []
        assert city.on_timeline(who, "1", city.member(A).patient_id_issuer) == set()
    city.settle()
    assert {key for key in city.table.memory.items() if key[0].startswith(("V#SEE#", "V#SERIES#"))} == set()


def test_instances_taken_back_are_gone_from_every_answer_at_once(city: World) -> None:
    city.withdraw(A, STUDY, FIRST)
    for settled in (False, True):
        if settled:
            city.settle()
        for who in (A, B):
            assert city.handed_out(who, STUDY) == {SECOND}
            assert [result["00080018"]["Value"] for result in city.find(who, level="instance")] == [[SECOND]]
        with api_over(city) as api:
            for who in (A, B):
                assert shown_by_every_door(api, who) == {SECOND}
    assert city.find(B)[0]["00201208"]["Value"] == [1]


def shown_by_every_door(api: Api, who: str) -> set[str]:
    """Every SOP Instance UID in metadata of study, series and instances, and those whose bytes are answered."""
    series = f"{STUDY}.1"
    shown: set[str] = set()
    for path in ("/dicomweb/studies/{study}/metadata", "/dicomweb/studies/{study}/series/{series}/metadata"):
        parameters = {"study": STUDY} | ({"series": series} if "{series}" in path else {})
        shown |= {result["00080018"]["Value"][0] for result in api.call(who, "GET", path, **parameters).json}
    for sop in (FIRST, SECOND):
        path = "/dicomweb/studies/{study}/series/{series}/instances/{instance}"
        for below in ("", "/metadata", "/frames/1", "/rendered"):
            route = (path + below).replace("/1", "/{frames}")
            more = {"frames": "1"} if "frames" in route else {}
            accept = {"Accept": "*/*"}
            if api.call(who, "GET", route, headers=accept, study=STUDY, series=series, instance=sop, **more).status < 400:
                shown.add(sop)
    return shown


def test_a_series_whose_last_instance_was_taken_back_is_gone(city: World) -> None:
    city.withdraw(A, STUDY, FIRST, SECOND)
    city.settle()
    assert not city.sees(A, STUDY)
    assert not city.sees(B, STUDY)
    assert city.find(B, level="series") == []
    city.send(A, image("1", STUDY, 3))
    city.settle()
    assert city.handed_out(B, STUDY) == {f"{STUDY}.1.3"}


def test_those_who_had_it_are_told_even_if_they_may_not_see_it_any_more_but_not_from_whom_it_is_hidden(city: World) -> None:
    city.open(A, "1", C)
    transfer = city.open(A, "1", B)
    city.settle()
    city.end(A, transfer)
    city.withdraw(A, STUDY, FIRST)
    city.settle()
    city.withdraw(A, STUDY)
    city.settle()
    for who in (B, C):
        assert [left for kind, left in kinds(city, who) if kind == "study-withdrawn"] == [1, 0]
    other = World((A, B, C), read_summary)
    other.send(A, image("1", STUDY, 1))
    other.open(A, "1", B)
    other.settle()
    other.object(A, "1")
    other.settle()
    other.withdraw(A, STUDY)
    other.settle()
    assert kinds(other, B) == []


def test_whoever_never_saw_it_is_told_nothing(city: World) -> None:
    city.withdraw(A, STUDY)
    city.settle()
    city.open(A, "1", C)
    city.settle()
    assert kinds(city, C) == []


def test_only_the_owner_takes_back_and_only_what_is_its_own(city: World) -> None:
    with api_over(city) as api:
        body = {"reason": "wrong patient"}
        assert api.call(B, "POST", "/studies/{study}/withdrawals", body=body, study=STUDY).status == 404
        named = body | {"sop_instance_uids": ["1.2.999"]}
        assert api.call(A, "POST", "/studies/{study}/withdrawals", body=named, study=STUDY).status == 404
        assert city.sees(B, STUDY)
        first = api.call(A, "POST", "/studies/{study}/withdrawals", body=body, study=STUDY)
        again = api.call(A, "POST", "/studies/{study}/withdrawals", body={"reason": "another"}, study=STUDY)
        assert (first.status, first.json) == (again.status, again.json)
    fact = city.table.get(f"F#STUDY#{A}#{STUDY}", "WITHDRAWN")
    assert fact is not None
    assert fact.data["reason"] == "wrong patient", "the first one stands"


def test_object_facts_and_audit_stay(city: World) -> None:
    before = dict(city.objects.contents)
    city.withdraw(A, STUDY)
    city.settle()
    assert city.objects.contents == before
    assert city.table.get(f"F#STUDY#{A}#{STUDY}", f"I#{STUDY}.1#{FIRST}") is not None


# Rejection notes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", TITLES)
def test_a_rejection_note_takes_back_what_it_names_and_is_itself_not_shown(city: World, code: str) -> None:
    (note,) = city.send(A, rejection_note("1", STUDY, {STUDY: [FIRST]}, code=code))
    assert city.verdict(note)["state"] == "indexed"
    for who in (A, B):
        assert city.handed_out(who, STUDY) == {SECOND}
    city.settle()
    for who in (A, B):
        assert city.handed_out(who, STUDY) == {SECOND}
    assert ("study-withdrawn", 1) in kinds(city, B)
    recorded = [i.data for (pk, _), i in city.table.memory.items().items() if pk.startswith("F#AUDIT#") and "kind" in i.data]
    assert [record["study"] for record in recorded if record["kind"] == "withdrawal"] == [STUDY]


@pytest.mark.parametrize("code", TITLES)
def test_a_rejection_note_that_comes_before_the_images_takes_them_back_when_they_come(code: str) -> None:
    world = World((A, B), read_summary)
    world.open(A, "1", B)
    world.send(A, rejection_note("1", STUDY, {STUDY: [FIRST]}, code=code))
    world.settle(random.Random(3))
    assert not world.sees(A, STUDY)
    world.send(A, image("1", STUDY, 1), image("1", STUDY, 2))
    world.settle(random.Random(4))
    assert world.handed_out(A, STUDY) == {SECOND}
    assert world.handed_out(B, STUDY) == {SECOND}


def test_a_note_over_a_whole_study_and_over_several_leaves_nothing(city: World) -> None:
    city.send(A, image("1", "1.2.2", 1))
    city.send(A, rejection_note("1", STUDY, {STUDY: [FIRST, SECOND], "1.2.2": ["1.2.2.1.1"]}))
    city.settle()
    assert city.found(A) == set()
    assert city.found(B) == set()


@pytest.mark.parametrize(
    "note",
    [
        rejection_note("1", STUDY, {STUDY: [FIRST]}, code="113000"),
        rejection_note("1", STUDY, {STUDY: [FIRST]}, scheme="99LOCAL"),
        rejection_note("1", STUDY, {}),
    ],
    ids=["of interest", "another scheme", "names nothing"],
)
def test_another_key_object_selection_takes_nothing_back(city: World, note: bytes) -> None:
    city.send(A, note)
    city.settle()
    assert {FIRST, SECOND} <= (city.handed_out(A, STUDY) or set())


def test_a_note_takes_back_the_senders_own_instances_only(city: World) -> None:
    city.send(B, rejection_note("9", STUDY, {STUDY: [FIRST, SECOND]}))
    city.settle()
    assert city.handed_out(A, STUDY) == {FIRST, SECOND}
    assert city.handed_out(B, STUDY, A) == {FIRST, SECOND}


def test_a_note_whose_uid_is_taken_takes_nothing_back(city: World) -> None:
    city.send(A, rejection_note("1", STUDY, {STUDY: [FIRST]}))
    (conflict,) = city.send(A, rejection_note("1", STUDY, {STUDY: [SECOND]}))
    city.settle()
    assert city.verdict(conflict)["state"] == "conflict"
    assert city.handed_out(A, STUDY) == {SECOND}


def test_a_note_that_comes_twice_changes_nothing(city: World) -> None:
    note = rejection_note("1", STUDY, {STUDY: [FIRST]})
    city.send(A, note)
    city.settle()
    before = city.table.memory.items()
    city.send(A, note)
    city.settle()
    assert city.table.memory.items() == before


def test_a_note_that_names_too_much_is_refused_as_a_whole(city: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from chalicelib.dicom import rejection_note as notes

    assert notes.MAX_REFERENCES == 10_000
    monkeypatch.setattr(notes, "MAX_REFERENCES", 100)
    named = [f"1.3.{number}" for number in range(notes.MAX_REFERENCES)]
    (refused,) = city.send(A, rejection_note("1", STUDY, {STUDY: [FIRST, *named]}))
    verdict = city.verdict(refused)
    assert (verdict["state"], verdict["reason"]) == ("rejected", "too-many-references")
    assert city.handed_out(A, STUDY) == {FIRST, SECOND}
    (taken,) = city.send(A, rejection_note("2", STUDY, {STUDY: [FIRST, *named[1:]]}))
    assert city.verdict(taken)["state"] == "indexed"
    assert city.handed_out(A, STUDY) == {SECOND}


def test_a_function_that_dies_on_a_note_leaves_nothing_that_the_next_delivery_does_not_complete(city: World) -> None:
    class Died(BaseException):
        pass

    def dies(institution: str) -> object:
        raise Died

    note = city.store(A, rejection_note("1", STUDY, {STUDY: [FIRST]}))
    with pytest.raises(Died):
        index.index_instances(
            city.table,
            city.objects,
            city.read_summary,
            city.now,
            [note],
            act=dies,  # type: ignore[arg-type]
        )
    assert city.table.get(*keys.verdict(A, note.sha256)) is None
    assert city.index(note) == {}
    assert city.handed_out(A, STUDY) == {SECOND}


# What comes back --------------------------------------------------------------------------------------------------


def test_what_was_taken_back_does_not_come_back_as_the_receivers_own(city: World) -> None:
    city.withdraw(A, STUDY)
    city.settle()
    (echo,) = city.send(B, image("9", STUDY, 1, comment="pushed into the PACS, and sent back by a rule"))
    city.settle()
    assert city.verdict(echo)["state"] == "echo"
    assert not city.sees(B, STUDY)
