"""A corrected patient: the same UIDs come again with other bytes. What only corrects stands, everything else is a conflict."""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any

import pytest

from chalicelib.dicom import correction
from chalicelib.domain import instance_versions
from chalicelib.services.ingest import corrections, index
from chalicelib.services.ingest.instance_items import StoredObject
from chalicelib.services.ingest.summaries import read_summary
from tests.sharing.api import Api, api_over
from tests.sharing.images import image
from tests.sharing.test_sloppy_values import replaced
from tests.unit.dicom.building import element
from tests.world import OIDS, A, B, C, World

STUDY = "1.2.1"
FIRST, SECOND = f"{STUDY}.1.1", f"{STUDY}.1.2"
SERIES = "/dicomweb/studies/{study}/series/{series}"


@pytest.fixture
def api() -> Iterator[Api]:
    """A study of one image, filed under the wrong patient; DICOM files are read."""
    world = World((A, B, C), read_summary)
    world.send(A, image("wrong", STUDY, name="Sbagliato^Paziente"))
    world.settle()
    with api_over(world) as api:
        yield api


def state(api: Api, content: bytes, who: str = A) -> tuple[str, str | None]:
    sha = hashlib.sha256(content).hexdigest()
    (status,) = api.call(who, "POST", "/uploads/status", body={"sha256": [sha]}).json["instances"]
    (offered,) = api.call(who, "POST", "/uploads", body={"instances": [{"sha256": sha, "size": len(content)}]}).json["instances"]
    assert offered["state"] == status["state"]
    return status["state"], status.get("reason")


def send(api: Api, *contents: bytes, who: str = A) -> list[StoredObject]:
    stored = api.world.send(who, *contents)
    api.world.settle()
    return stored


def shown(api: Api, who: str = A, study: str = STUDY) -> list[str]:
    """Under which patients a search shows the study."""
    found = api.call(who, "GET", "/dicomweb/studies", [("StudyInstanceUID", study)]).json
    return [result["00100020"]["Value"][0] for result in found]


def bytes_of(api: Api, who: str = A) -> bytes:
    answer = api.call(
        who, "GET", SERIES + "/instances/{instance}", headers={"Accept": "application/dicom; transfer-syntax=*"},
        study=STUDY, series=f"{STUDY}.1", instance=FIRST,
    )  # fmt: skip
    return answer.body


def commitment(api: Api, sop: str = FIRST) -> int | None:
    """The Failure Reason that storage commitment gives; None where it commits."""
    reference = {"00081150": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]}, "00081155": {"vr": "UI", "Value": [sop]}}
    body = {"00081199": {"vr": "SQ", "Value": [reference]}}
    transaction = f"2.25.{random.getrandbits(100)}"
    answer = api.call(
        A, "POST", "/dicomweb/commitment-requests/{transaction}", body=body,
        headers={"Content-Type": "application/dicom+json"}, transaction=transaction,
    ).json  # fmt: skip
    failed = answer.get("00081198", {}).get("Value")
    return int(failed[0]["00081197"]["Value"][0]) if failed else None


WRONG = image("wrong", STUDY, name="Sbagliato^Paziente")
RIGHT = image("right", STUDY, name="Giusto^Paziente", birth="19700101", sex="M", accession="A2")


def test_a_correction_stands_and_the_wrong_patient_has_the_image_no_more(api: Api) -> None:
    send(api, RIGHT)
    assert (state(api, RIGHT), state(api, WRONG)) == (("indexed", None), ("superseded", None))
    assert shown(api) == ["right"]
    assert bytes_of(api) == RIGHT
    assert api.call(A, "GET", "/dicomweb/studies", [("PatientID", "wrong")]).json == []
    assert api.call(A, "GET", "/patients/{patient}/timeline", patient="wrong").status in (200, 404)
    assert api.world.on_timeline(A, "wrong") == set()
    assert api.world.on_timeline(A, "right") == {STUDY}
    (metadata,) = api.call(A, "GET", "/dicomweb/studies/{study}/metadata", study=STUDY).json
    assert metadata["00100020"]["Value"] == ["right"]
    (listed,) = api.call(A, "GET", "/studies/{study}/manifest", study=STUDY).json["instances"]
    assert listed["sha256"] == hashlib.sha256(RIGHT).hexdigest()
    assert commitment(api) is None
    assert [change["kind"] for change in api.world.changes(A)] == ["study-arrived", "study-changed"]
    assert len(api.world.objects.contents) >= 2, "what was superseded is kept"


def test_what_was_superseded_changes_nothing_when_it_is_sent_again(api: Api) -> None:
    send(api, RIGHT)
    send(api, WRONG)
    send(api, RIGHT)
    assert (state(api, RIGHT), state(api, WRONG), shown(api)) == (("indexed", None), ("superseded", None), ["right"])


def test_a_correction_may_be_corrected_and_the_owner_brings_any_version_back(api: Api) -> None:
    third = image("third", STUDY)
    send(api, RIGHT)
    send(api, third)
    assert shown(api) == ["third"]
    (instance,) = api.call(A, "GET", "/studies/{study}/versions", study=STUDY).json["instances"]
    assert [(status["patient"]["id"], status["state"]) for status in instance["versions"]] == [
        ("wrong", "superseded"), ("right", "superseded"), ("third", "indexed"),
    ]  # fmt: skip
    sha = hashlib.sha256(WRONG).hexdigest()
    for _ in range(2):
        back = api.call(A, "POST", "/studies/{study}/versions/{sha256}/current", study=STUDY, sha256=sha)
        assert (back.status, back.json["state"]) == (200, "indexed")
        api.world.settle()
        assert shown(api) == ["wrong"]
    assert [state(api, content)[0] for content in (WRONG, RIGHT, third)] == ["indexed", "superseded", "superseded"]
    assert bytes_of(api) == WRONG
    assert [change["kind"] for change in api.world.changes(A)][-1] == "study-changed"


def test_versions_are_the_owners_alone(api: Api) -> None:
    send(api, RIGHT)
    api.world.open(A, "right", B)
    api.world.settle()
    assert shown(api, B) == ["right"]
    sha = hashlib.sha256(WRONG).hexdigest()
    for who in (B, C):
        assert api.call(who, "GET", "/studies/{study}/versions", study=STUDY).status == 404
        assert api.call(who, "POST", "/studies/{study}/versions/{sha256}/current", study=STUDY, sha256=sha).status == 404
    assert api.call(A, "POST", "/studies/{study}/versions/{sha256}/current", study=STUDY, sha256="0" * 64).status == 404
    assert api.call(A, "POST", "/studies/{study}/versions/{sha256}/current", study=STUDY, sha256="x").status == 400
    assert api.call(A, "POST", "/studies/{study}/versions/{sha256}/current", study="1.2.999", sha256=sha).status == 404


def test_whoever_saw_it_under_the_wrong_patient_is_told_and_sees_it_no_more(api: Api) -> None:
    api.world.open(A, "wrong", B)
    api.world.open(A, "wrong", C)
    api.world.settle()
    assert shown(api, B) == ["wrong"]
    send(api, image("right", STUDY))
    api.world.open(A, "right", C)
    api.world.settle()
    assert (shown(api, B), shown(api, C)) == ([], ["right"])
    assert not api.world.sees(B, STUDY)
    assert [change["kind"] for change in api.world.changes(B) if change.get("study_instance_uid")][-1] == "study-withdrawn"


def test_what_hid_it_under_the_former_patient_goes_on_hiding(api: Api) -> None:
    api.world.object(A, "wrong", STUDY)
    api.world.settle()
    send(api, RIGHT)
    api.world.open(A, "right", B)
    api.world.settle()
    assert (shown(api, A), shown(api, B)) == (["right"], [])


# What is no correction ----------------------------------------------------------------------------------------------


def _changed(tag: int, vr: str, old: str, new: bytes) -> Callable[[bytes], bytes]:
    return lambda content: replaced(content, tag, vr, old, new)


OTHERS: dict[str, Callable[[bytes], bytes]] = {
    "a pixel": lambda content: content[:-1] + b"\1",
    "pixels more": lambda content: content[: -64 - 4] + struct.pack("<L", 66) + bytes(66),
    "the study's date": _changed(0x00080020, "DA", "20260101", b"20260102"),
    "the modality": _changed(0x00080060, "CS", "CT", b"PT"),
    "the instance number": _changed(0x00200013, "IS", "1", b"2"),
    "an attribute more": lambda content: _inserted(content, element(0x00181030, "LO", "TORACE")),
    "an image comment": lambda content: _inserted(content, element(0x00204000, "LT", "sinistra"), b"\x28\0\x02\0US"),
    "the transfer syntax": lambda content: content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.4.50"[:20]),
}


def _inserted(content: bytes, more: bytes, before: bytes = b"\x20\0\x0d\0UI") -> bytes:
    at = content.index(before)
    return content[:at] + more + content[at:]


@pytest.mark.parametrize("name", [name for name in OTHERS if name != "the transfer syntax"])
def test_anything_else_is_a_conflict_and_is_never_committed(api: Api, name: str) -> None:
    other = OTHERS[name](RIGHT)
    send(api, other)
    assert state(api, other)[0] == "conflict"
    assert (shown(api), state(api, WRONG)[0]) == (["wrong"], "indexed")
    assert commitment(api) == 0x0110
    send(api, RIGHT)
    assert commitment(api) is None, "a correction came last"


ALLOWED = {
    "issuer": element(0x00100021, "LO", "ALTRO"),
    "type of id": element(0x00100022, "CS", "TEXT"),
    "other ids": element(0x00101001, "PN", "Altro^Nome"),
    "size": element(0x00101020, "DS", "1.80"),
    "weight": element(0x00101030, "DS", "80"),
    "comments": element(0x00104000, "LT", "allergia"),
    "private": element(0x00110010, "LO", "ACME") + element(0x00111001, "LO", "x"),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_patient_order_and_private_attributes_may_change(api: Api, name: str) -> None:
    corrected = _inserted(image("right", STUDY), ALLOWED[name])
    send(api, corrected)
    assert (state(api, corrected), state(api, WRONG)[0]) == (("indexed", None), "superseded")


@pytest.mark.parametrize("more", [
    element(0x00080005, "CS", "ISO_IR 100"), element(0x00080015, "DT", "20260102"),
    element(0x00080000, "UL", struct.pack("<L", 4)), element(0x00080090, "PN", "Medico^Altro"),
])  # fmt: skip
def test_what_says_who_changed_what_is_not_compared(api: Api, more: bytes) -> None:
    first = b"\x08\0\x16\0UI" if more[2] < 0x16 else b"\x10\0\x10\0PN"
    corrected = _inserted(image("right", STUDY), more, first)
    send(api, corrected)
    assert state(api, corrected) == ("indexed", None)


def test_another_character_set_is_no_other_text(api: Api) -> None:
    before = _inserted(image("a", "1.2.5", name="Rossi"), element(0x00080005, "CS", "ISO_IR 100"), b"\x08\0\x16\0UI")
    before = replaced(before, 0x00080060, "CS", "CT", b"CT")
    before = _inserted(before, element(0x00181030, "LO", "caff\xe8".encode("latin-1")))
    after = _inserted(image("b", "1.2.5", name="Rossi"), element(0x00080005, "CS", "ISO_IR 192"), b"\x08\0\x16\0UI")
    after = _inserted(after, element(0x00181030, "LO", "caff\xe8".encode()))
    send(api, before)
    send(api, after)
    assert (state(api, after)[0], state(api, before)[0]) == ("indexed", "superseded")


def test_a_hospital_whose_registration_wants_conflicts_gets_them(api: Api) -> None:
    data: Any = api.world.table.get("F#REGISTRY", f"INSTITUTION#{A}#000001")
    api.world.table.memory._items[data.key] = type(data)(data.pk, data.sk, data.data | {"corrections": "conflict"})
    send(api, RIGHT)
    assert (state(api, RIGHT)[0], shown(api), commitment(api)) == ("conflict", ["wrong"], 0x0110)


def test_a_conflict_in_which_the_patient_differs_says_so(api: Api) -> None:
    """Perhaps what stands is under the wrong patient: a PACS that corrects and sends in another transfer syntax than before."""
    other_pixels, same_patient = (OTHERS["a pixel"](content) for content in (RIGHT, WRONG))
    send(api, other_pixels, same_patient)
    assert state(api, other_pixels) == ("conflict", "conflicting-patient")
    assert state(api, same_patient) == ("conflict", None)
    assert shown(api) == ["wrong"]


def test_what_is_too_large_to_be_compared_is_a_conflict_that_says_so(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert correction.MOST_COMPARED == index._MOST_COMPARED == 1024**3
    largest = max(len(WRONG), len(RIGHT))
    monkeypatch.setattr(correction, "MOST_COMPARED", largest - 1)
    send(api, RIGHT)
    assert state(api, RIGHT) == ("conflict", "pixels-not-compared")
    monkeypatch.setattr(correction, "MOST_COMPARED", largest)
    same = image("other", STUDY, name="Giusto^Paziente", birth="19700101", sex="M", accession="A2")
    assert len(same) == largest
    send(api, same)
    assert state(api, same) == ("indexed", None)


def test_an_instance_is_corrected_200_times_and_not_once_more(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert instance_versions.MOST_VERSIONS == 200
    monkeypatch.setattr(corrections, "MOST_VERSIONS", 2)
    made = [image(f"right{number}", STUDY) for number in range(3)]
    for content in made:
        send(api, content)
    assert [state(api, content) for content in made] == [
        ("superseded", None), ("indexed", None), ("conflict", "too-many-corrections"),
    ]  # fmt: skip


# Withdrawal ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [False, True], ids=["the study", "the instance"])
def test_what_is_sent_again_after_a_withdrawal_is_rejected_until_it_ends(api: Api, named: bool) -> None:
    body = {"reason": "wrong patient"} | ({"sop_instance_uids": [FIRST]} if named else {})
    done = api.call(A, "POST", "/studies/{study}/withdrawals", body=body, study=STUDY).json
    other = image("wrong", STUDY, 2)
    send(api, WRONG)
    send(api, RIGHT)
    send(api, other)
    expected = ("rejected", "withdrawn")
    assert (state(api, WRONG), state(api, RIGHT)) == (expected, expected)
    assert state(api, other) == (("indexed", None) if named else expected)
    assert shown(api) == (["wrong"] if named else [])
    assert commitment(api) is not None
    (listed,) = api.call(A, "GET", "/studies/{study}/withdrawals", study=STUDY).json["withdrawals"]
    assert (listed["id"], listed["status"]) == (done["id"], "active")
    for who in (B, C):
        path = "/studies/{study}/withdrawals/{withdrawal}"
        assert api.call(who, "DELETE", path, study=STUDY, withdrawal=done["id"]).status == 404
    assert api.call(A, "DELETE", "/studies/{study}/withdrawals/{withdrawal}", study=STUDY, withdrawal="0" * 24).status == 404
    for _ in range(2):
        ended = api.call(A, "DELETE", "/studies/{study}/withdrawals/{withdrawal}", study=STUDY, withdrawal=done["id"])
        assert (ended.status, ended.json["status"]) == (200, "ended")
        api.world.settle()
        assert [state(api, content)[0] for content in (WRONG, RIGHT, other)] == ["superseded", "indexed", "indexed"]
        assert bytes_of(api) == RIGHT
    assert commitment(api) is None
    again = api.call(A, "POST", "/studies/{study}/withdrawals", body=body, study=STUDY).json
    api.world.settle()
    assert again["id"] != done["id"]
    assert state(api, RIGHT) == expected


def test_a_withdrawal_of_before_there_were_ids_ends_too(api: Api) -> None:
    from chalicelib.domain.ports import Item, PutNew

    data: dict[str, object] = {"at": "2026-01-01T00:00:00Z", "by": "rossi", "reason": "sent in error"}
    api.world.table.put(PutNew(Item(f"F#STUDY#{A}#{STUDY}", "WITHDRAWN", data)))
    api.world.settle()
    assert shown(api) == []
    (known,) = api.call(A, "GET", "/studies/{study}/withdrawals", study=STUDY).json["withdrawals"]
    assert api.call(A, "DELETE", "/studies/{study}/withdrawals/{withdrawal}", study=STUDY, withdrawal=known["id"]).status == 200
    api.world.settle()
    assert shown(api) == ["wrong"]


# Order and repetition -----------------------------------------------------------------------------------------------


def _views(world: World) -> dict[Any, Any]:
    from tests.world import views_of

    return {key: item.data for key, item in views_of(world.table.memory).items()}


@pytest.mark.parametrize("order", list(permutations(range(4)))[::5])
def test_any_order_and_repetition_of_events_ends_in_the_same_views(order: tuple[int, ...]) -> None:
    def play(settle: Callable[[World], None]) -> World:
        world = World((A, B, C), read_summary, audited=False)
        world.open(A, "wrong", B, key="one")
        world.send(A, WRONG, image("wrong", STUDY, 2))
        settle(world)
        happenings = [
            lambda: world.send(A, RIGHT),
            lambda: world.object(A, "wrong") and None,
            lambda: world.send(A, WRONG),
            lambda: world.send(A, image("right", STUDY, 2)),
        ]
        for place in order:
            happenings[place]()
            settle(world)
        world.settle()
        return world

    at_once = play(lambda world: world.settle())
    late = play(lambda world: None)
    shuffled = play(lambda world: world.settle(random.Random(3)))
    seen = [
        {(who, patient): world.found(who, ("PatientID", patient)) for who in (A, B) for patient in ("wrong", "right")}
        for world in (at_once, late, shuffled)
    ]
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][A, "right"] == {STUDY}
    assert seen[0][A, "wrong"] == set()


def test_a_report_of_the_right_patient_is_taken_at_once_and_none_of_another(api: Api) -> None:
    """A PACS corrects, and the RIS sends its report in the same second: the view of the study does not know yet."""

    def posted(number: str) -> int:
        role = f'<recordTarget><patientRole><id root="{OIDS[A]}" extension="{number}"/></patientRole></recordTarget>'
        name = f'<id root="1.2.3" extension="{number}"/>'
        document = f'<ClinicalDocument xmlns="urn:hl7-org:v3">{name}{role}<title>Referto</title></ClinicalDocument>'
        headers = {"Content-Type": "application/hl7-cda+xml"}
        return api.call(A, "POST", "/studies/{study}/reports", body=document.encode(), headers=headers, study=STUDY).status

    assert posted("right") == 409
    api.world.send(A, image("right", STUDY, name="Giusto^Paziente"))
    assert posted("right") == 201
    assert posted("another") == 409
    api.world.settle()
    assert posted("another") == 409
