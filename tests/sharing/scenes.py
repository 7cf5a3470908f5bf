"""Relations of a caller to a study, each as a city in which it holds: who calls, whose study, and whether it may be seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest

from chalicelib.domain.errors import BadRequest
from chalicelib.domain.viewer_sessions import ViewerLink
from chalicelib.services.ingest.summaries import read_summary
from chalicelib.services.sharing import protection
from chalicelib.services.viewer import sessions
from tests.sharing.api import OPERATOR, UNREGISTERED, VIEWER
from tests.sharing.images import image
from tests.world import A, B, C, World

STUDY, OTHER = "1.2.3", "1.2.4"
SERIES, INSTANCE = f"{STUDY}.1", f"{STUDY}.1.1"
PATIENT, RECEIVED = "P-1", "R-9"
LATER = "20991231"


@dataclass
class Scene:
    """A city, who calls, and what the call is about: `STUDY` of `owner`, filed under `patient`."""

    world: World
    viewer: str | None
    visible: bool
    owner: str = A
    patient: str = PATIENT
    transfer: str = "0" * 32
    emergency: str = "0" * 32
    objection: str = "0" * 24
    consent: str = "0" * 24
    link: str = "0" * 24
    session: tuple[str, str] = ("", "")
    """Key and pass of the viewer's reading session."""
    session_of_study: bool = False
    """Whether that was opened for the study, when it could still be seen; else for another study of the viewer's own."""
    parties: set[str] = field(default_factory=set)

    @property
    def member(self) -> bool:
        return self.viewer in (A, B, C)

    @property
    def owns(self) -> bool:
        return self.viewer == self.owner


def _city(hours_ago: float = 0.5) -> World:
    """A city of hours ago, in which the study was sent, and each hospital has a study of its own."""
    world = World((A, B, C), read_summary)
    world.now = datetime.now(UTC) - timedelta(hours=hours_ago)
    for number, name in enumerate((A, B, C)):
        world.send(name, image("own", f"{OTHER}.{number}", name="Neri^Zoe", birth="19990101"))
    return world


def _sent(world: World, owner: str = A, patient: str = PATIENT, date: str = "20260101") -> None:
    world.send(owner, image(patient, STUDY, 1, date=date), image(patient, STUDY, 2, date=date))
    world.settle()


def _present(world: World) -> None:
    """The city is of now."""
    world.settle()
    world.now = datetime.now(UTC)


def _transferred(world: World, expires: timedelta | None = None, **more: str) -> str:
    until = {"expires_at": (world.now + expires).isoformat()} if expires else {}
    transfer = world.open(A, PATIENT, B, **more, **until)
    world.settle()
    return transfer


def open_session(scene: Scene, study: str | None = None) -> None:
    """A reading session of the viewer, for the study, or for its own other one."""
    if scene.viewer not in (A, B, C):
        return
    world = scene.world
    own = f"{OTHER}.{(A, B, C).index(scene.viewer)}"
    body = {"study_instance_uids": [study or own], "practitioner": {"id": "verdi", "name": "Anna Verdi"}, "purpose": "reading"}
    made = sessions.make(world.table, world.caller(scene.viewer), body, VIEWER, world.now, world.act, world.tell)
    reader, keys = sessions.open_link(world.table, made["url"].split("#")[1], None, world.now)
    assert isinstance(reader.link, ViewerLink)
    scene.session, scene.session_of_study = (keys.key, keys.pass_), study is not None


def owner() -> Scene:
    world = _city()
    _sent(world)
    scene = Scene(world, A, True, transfer=_transferred(world), parties={A, B})
    scene.objection = world.object(A, "own")
    scene.consent = consented_to(world, A, "own", f"{OTHER}.0")
    scene.emergency = world.declare_emergency(C, PATIENT, world.member(A).patient_id_issuer)
    world.send(A, image("P-2", f"{OTHER}.9"))
    world.settle()
    scene.link = world.confirm(A, PATIENT, {"id": "P-2"})["link"]
    open_session(scene, STUDY)
    return scene


def consented_to(world: World, owner: str, patient: str, study: str, to: str = C) -> str:
    body = {"study_instance_uid": study, "to": to}
    return str(protection.consent(world.table, world.caller(owner), patient, body, world.now, world.act)["id"])


def receiver() -> Scene:
    world = _city()
    _sent(world)
    scene = Scene(world, B, True, transfer=_transferred(world), parties={A, B})
    open_session(scene, STUDY)
    return scene


def receiver_under_its_own_number() -> Scene:
    world = _city()
    _sent(world)
    scene = Scene(world, B, True, transfer=_transferred(world, receiving=RECEIVED), parties={A, B})
    open_session(scene, STUDY)
    return scene


def sender_after_the_transfer() -> Scene:
    world = _city()
    transfer = _transferred(world, receiving=RECEIVED)
    _sent(world, B, RECEIVED, LATER)
    scene = Scene(world, A, True, B, RECEIVED, transfer, parties={A, B})
    open_session(scene, STUDY)
    return scene


def sender_before_acceptance() -> Scene:
    """The sender proposed the right number, and the receiver has not accepted."""
    world = _city()
    transfer = _transferred(world, proposed=RECEIVED)
    _sent(world, B, RECEIVED, LATER)
    scene = Scene(world, A, False, B, RECEIVED, transfer, parties={A, B})
    open_session(scene)
    return scene


def sender_after_acceptance_was_taken_back() -> Scene:
    scene = sender_after_the_transfer()
    scene.world.take_back(B, scene.transfer)
    scene.visible = False
    return scene


def sender_before_the_transfer() -> Scene:
    world = _city()
    transfer = _transferred(world, receiving=RECEIVED)
    _sent(world, B, RECEIVED, "20200101")
    scene = Scene(world, A, False, B, RECEIVED, transfer, parties={A, B})
    open_session(scene)
    return scene


def expired() -> Scene:
    world = _city()
    _sent(world)
    scene = Scene(world, B, False, transfer=_transferred(world, timedelta(minutes=10)), parties={A, B})
    open_session(scene, STUDY)
    return scene


def revoked() -> Scene:
    scene = receiver()
    scene.world.end(A, scene.transfer)
    scene.visible = False
    return scene


def of_an_objecting_patient() -> Scene:
    scene = receiver_under_its_own_number()
    scene.world.object(A, PATIENT)
    scene.visible = False
    return scene


def of_an_objected_study() -> Scene:
    scene = receiver()
    scene.world.object(A, PATIENT, STUDY)
    scene.visible = False
    return scene


def protected() -> Scene:
    scene = receiver()
    world = scene.world
    protection.protect(world.table, world.caller(A), PATIENT, {"study_instance_uid": STUDY}, world.now, world.act)
    scene.visible = False
    return scene


def consented() -> Scene:
    scene = protected()
    consented_to(scene.world, A, PATIENT, STUDY, B)
    scene.visible = True
    return scene


def withdrawn_from_a_receiver() -> Scene:
    scene = receiver()
    scene.world.withdraw(A, STUDY)
    scene.visible = False
    return scene


def undone() -> Scene:
    """The wrong number was named, and the link undone."""
    scene = sender_after_the_transfer()
    world = scene.world
    (link,) = [link for link in world.links(B, RECEIVED) if link["status"] == "confirmed"]
    world.undo(B, RECEIVED, link["link"])
    scene.visible = False
    return scene


def passed_on() -> Scene:
    """The receiver opens a transfer of what it received."""
    world = _city()
    _sent(world)
    _transferred(world, receiving=RECEIVED)
    transfer = world.open(B, RECEIVED, C)
    with pytest.raises(BadRequest):  # nor under the number that the sender knows the patient by
        world.open(B, PATIENT, C, issuer=world.member(A).patient_id_issuer)
    scene = Scene(world, C, False, transfer=transfer, parties={B, C})
    open_session(scene)
    return scene


def stranger() -> Scene:
    world = _city()
    _sent(world)
    scene = Scene(world, C, False, transfer=_transferred(world), parties={A, B})
    open_session(scene)
    return scene


def emergency() -> Scene:
    world = _city()
    _sent(world)
    scene = Scene(world, C, True)
    scene.emergency = world.declare_emergency(C, PATIENT, world.member(A).patient_id_issuer)
    world.settle()
    open_session(scene, STUDY)
    return scene


def emergency_over() -> Scene:
    world = _city(25)
    _sent(world)
    scene = Scene(world, C, False)
    scene.emergency = world.declare_emergency(C, PATIENT, world.member(A).patient_id_issuer)
    world.settle()
    world.now = datetime.now(UTC)
    open_session(scene)
    return scene


def _of(viewer: str | None) -> Callable[[], Scene]:
    def build() -> Scene:
        world = _city()
        _sent(world)
        return Scene(world, viewer, False, transfer=_transferred(world), parties={A, B})

    return build


RELATIONS: dict[str, Callable[[], Scene]] = {
    "owner": owner,
    "receiver": receiver,
    "receiver under its own number": receiver_under_its_own_number,
    "sender after the transfer": sender_after_the_transfer,
    "sender before the transfer": sender_before_the_transfer,
    "sender before acceptance": sender_before_acceptance,
    "sender after acceptance was taken back": sender_after_acceptance_was_taken_back,
    "expired": expired,
    "revoked": revoked,
    "patient objected": of_an_objecting_patient,
    "study objected": of_an_objected_study,
    "protected": protected,
    "consented": consented,
    "withdrawn": withdrawn_from_a_receiver,
    "link undone": undone,
    "passed on": passed_on,
    "stranger": stranger,
    "emergency": emergency,
    "emergency over": emergency_over,
    OPERATOR: _of(OPERATOR),
    UNREGISTERED: _of(UNREGISTERED),
    "unsigned": _of(None),
}


@cache
def shared(relation: str, *, settled: bool) -> Scene:
    """The city of a relation as it is now, the same one for all tests that only look; `settled`: with everything projected."""
    scene = RELATIONS[relation]()
    if settled:
        scene.world.settle()
    scene.world.now = datetime.now(UTC)
    return scene


def build(relation: str, *, settled: bool) -> Scene:
    """A city of its own for a test that changes something."""
    known = shared(relation, settled=settled)
    return replace(known, world=known.world.copied())
