"""Hidden means undetectable: a world in which a study is hidden, and one in which it never was, answer alike.

Every route of the app, and every search that could betray something, is asked by a caller that knows all there is to know: the
UIDs, the patient's numbers, the transfer. Status, header fields and body are compared, and how often the stores were asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest

from chalicelib.services.ingest.summaries import read_summary
from chalicelib.services.sharing import protection
from tests.sharing import scenes
from tests.sharing.api import Answer, api_over
from tests.sharing.images import image
from tests.sharing.scenes import INSTANCE, PATIENT, RECEIVED, SERIES, STUDY, Scene
from tests.sharing.test_every_route import ROUTES, ROWS, call, changes_something
from tests.world import OIDS, A, B, C, World

Hide = Callable[[World], None]
SHOWN = "1.2.5"
"""A study of the same patient that may be seen."""


def _arrive(world: World) -> None:
    world.send(A, *(image(PATIENT, STUDY, number, accession="A-77", name="Rossi^Bianca") for number in (1, 2, 3)))


def before_it_came(hide: Hide) -> Hide:
    """Hidden from the first moment on."""

    def play(world: World) -> None:
        _arrive(world)
        hide(world)

    return play


def after_it_was_seen(hide: Hide) -> Hide:
    """Seen, listed, told of in the feed, and then hidden."""

    def play(world: World) -> None:
        _arrive(world)
        world.settle()
        assert world.sees(B, STUDY)
        hide(world)

    return play


def by_an_objection_to_the_study(world: World) -> None:
    world.object(A, PATIENT, STUDY)


def by_protection(world: World) -> None:
    protection.protect(world.table, world.caller(A), PATIENT, {"study_instance_uid": STUDY}, world.now, world.act)


def in_no_transfer(world: World) -> None:
    """It is another patient's, of whom no transfer tells."""
    world.send(A, *(image("P-unknown", STUDY, number, accession="A-77", name="Rossi^Bianca") for number in (1, 2, 3)))


def of_two_patients(world: World) -> None:
    """It is filed under two patients, of whom only one was transferred."""
    _arrive(world)
    world.send(A, image("P-unknown", STUDY, 4))


def never(world: World) -> None:
    """It never was."""


HIDDEN: dict[str, Hide] = {
    "objection before it came": before_it_came(by_an_objection_to_the_study),
    "objection after it was seen": after_it_was_seen(by_an_objection_to_the_study),
    "protection before it came": before_it_came(by_protection),
    "protection after it was seen": after_it_was_seen(by_protection),
    "in no transfer": in_no_transfer,
    "of two patients": of_two_patients,
}


def build(hidden: Hide, viewer: str, *, settled: bool = True, session: bool = True) -> Scene:
    """A city with a transfer, a study of the patient that may be seen, and the one that may not."""
    world = World((A, B, C), read_summary)
    world.now = (datetime.now(UTC) - timedelta(minutes=30)).replace(microsecond=0)
    for number, name in enumerate((A, B, C)):
        world.send(name, image("own", f"{scenes.OTHER}.{number}", name="Neri^Zoe", birth="19990101"))
    world.send(A, image(PATIENT, SHOWN, 1), image(PATIENT, SHOWN, 2))
    transfer = world.open(A, PATIENT, B, RECEIVED, key="the same in both worlds")
    world.settle()
    world.now += timedelta(minutes=1)
    hidden(world)
    if settled:
        world.settle()
    scene = Scene(world, viewer, False, transfer=transfer, parties={A, B})
    scenes.open_session(scene)
    world.now = datetime.now(UTC)
    return scene


@cache
def shared(name: str, viewer: str) -> tuple[Scene, Scene]:
    return build(HIDDEN[name], viewer), build(never, viewer)


# A transfer's state is made of moments too; that it says nothing else is held in test_acceptance.py and test_identifiers.py.
_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z|\d{14}\.\d+|(?<=\")\d{8}(?=\")|(?<=\"state\":\")[0-9a-f]{16}(?=\")"
)
_PLACE = re.compile(r"(?<![\da-f.])\d{20}(?![\da-f.])")  # not the first twenty characters of a random id
_RANDOM = re.compile(
    r"\b[0-9a-f]{24,32}\b|\"request-\d+\"|2\.25\.\d+|#[\w-]{43}|(?<=\")[\w-]{43}(?=\")|[\w-]{43}\.[\w-]{43}"
    r"|[a-z-]+-\d\d-\d+(?=\")|[a-z-]+#\d\d/\d+ [0-9a-f]{64}|(?<=\d to )[a-z-]+#\d+/\d+"
)


def told(answer: Answer) -> tuple[int, dict[str, str], str]:
    """An answer without what differs between any two requests: ids, moments, and places in the feed but for their order."""
    text = answer.body.decode("latin-1")
    places = {place: str(number) for number, place in enumerate(dict.fromkeys(_PLACE.findall(text)))}
    text = _PLACE.sub(lambda found: "0" if set(found[0]) == {"0"} else f"place {places[found[0]]}", text)
    text = _RANDOM.sub("random", _MOMENT.sub("moment", text))
    headers = {name: _RANDOM.sub("random", _MOMENT.sub("moment", value)) for name, value in answer.headers.items()}
    return answer.status, headers, text


@dataclass(frozen=True)
class Heard:
    """What a caller learns from a request: the answer, and how much work it took."""

    answer: tuple[int, dict[str, str], str]
    requests: dict[str, int]


def ask(scene: Scene, request: Callable[[Scene], Answer]) -> Heard:
    with scene.world.counted() as requests:
        answer = told(request(scene))
    return Heard(answer, dict(requests))


def difference(first: str, second: str) -> str | None:
    """Where two texts begin to differ, with some of what is around."""
    if first == second:
        return None
    place = next(
        (n for n, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), min(len(first), len(second))
    )
    return f"…{first[max(0, place - 80) : place + 80]}… against …{second[max(0, place - 80) : place + 80]}…"


def compare(scenes_: tuple[Scene, Scene], request: Callable[[Scene], Answer], *, work: bool = True) -> None:
    hidden, absent = (ask(scene, request) for scene in scenes_)
    assert hidden.answer[:2] == absent.answer[:2]
    assert (where := difference(hidden.answer[2], absent.answer[2])) is None, where
    assert hidden.answer[0] < 500
    if work:
        assert hidden.requests == absent.requests


PROBES: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "all": ("studies", []),
    "counted": ("studies", [("limit", "1")]),
    "second page": ("studies", [("limit", "1"), ("offset", "1")]),
    "page after the last": ("studies", [("limit", "100"), ("offset", "2")]),
    "patient": ("studies", [("PatientID", PATIENT)]),
    "patient and issuer": ("studies", [("00100020", PATIENT), ("00100021", OIDS[A])]),
    "own number": ("studies", [("PatientID", RECEIVED)]),
    "study": ("studies", [("StudyInstanceUID", STUDY)]),
    "study of owner": ("studies", [("StudyInstanceUID", STUDY), ("owner", A)]),
    "both studies": ("studies", [("StudyInstanceUID", f"{STUDY},{SHOWN}")]),
    "accession": ("studies", [("AccessionNumber", "A-77")]),
    "name": ("studies", [("PatientName", "Rossi*")]),
    "name, fuzzy": ("studies", [("PatientName", "rossi"), ("fuzzymatching", "true")]),
    "day": ("studies", [("StudyDate", "20260101")]),
    "days": ("studies", [("StudyDate", "20251231-20260102"), ("limit", "1")]),
    "modality": ("studies", [("ModalitiesInStudy", "CT"), ("includefield", "all")]),
    "series of it": ("series", [("SeriesInstanceUID", SERIES)]),
    "series of its study": ("series", [("StudyInstanceUID", STUDY)]),
    "series, all": ("series", [("limit", "1")]),
    "instance of it": ("instances", [("SOPInstanceUID", INSTANCE)]),
    "instances of it": ("instances", [("SOPInstanceUID", f"{INSTANCE},{STUDY}.1.2,{SHOWN}.1.1")]),
    "instances of its study": ("instances", [("StudyInstanceUID", STUDY)]),
    "instances, all": ("instances", [("limit", "2"), ("offset", "1")]),
    "studies by instance": ("studies", [("SOPInstanceUID", INSTANCE)]),
    "studies by series": ("studies", [("SeriesInstanceUID", SERIES)]),
}


@pytest.mark.parametrize("viewer", [B, C])
@pytest.mark.parametrize("name", HIDDEN)
def test_every_route_that_reads_answers_as_if_it_had_never_been(name: str, viewer: str) -> None:
    for route in ROUTES:
        if not changes_something(route) and route in ROWS:
            again = name.endswith("was seen") and ROWS[route].kind == "feed"
            compare(shared(name, viewer), lambda scene, route=route: call(scene, route, ROWS[route]), work=not again)


@pytest.mark.parametrize("viewer", [B, C])
@pytest.mark.parametrize("name", HIDDEN)
def test_every_search_answers_as_if_it_had_never_been(name: str, viewer: str) -> None:
    for level, query in PROBES.values():

        def search(scene: Scene, level: str = level, query: list[tuple[str, str]] = query) -> Answer:
            with api_over(scene.world) as api:
                return api.call(viewer, "GET", f"/dicomweb/{level}", query)

        compare(shared(name, viewer), search)


@pytest.mark.parametrize("viewer", [B, C])
@pytest.mark.parametrize("name", HIDDEN)
def test_every_patient_route_answers_as_if_it_had_never_been(name: str, viewer: str) -> None:
    """Under the caller's own numbers and the owner's, those that a transfer names among them."""
    for route in ("GET /patients/{patient}/links", "GET /patients/{patient}/timeline", "GET /patients/{patient}/objections"):
        for number, issuer in ((PATIENT, OIDS[A]), (RECEIVED, ""), ("P-unknown", OIDS[A]), (PATIENT, ""), ("nobody", OIDS[A])):

            def ask_for(scene: Scene, route: str = route, number: str = number, issuer: str = issuer) -> Answer:
                method, path = route.split(" ")
                with api_over(scene.world) as api:
                    return api.call(viewer, method, path, [("issuer", issuer)] if issuer else [], patient=number)

            compare(shared(name, viewer), ask_for)


def test_the_priors_and_the_manifest_of_another_study_say_nothing_of_it() -> None:
    for name in HIDDEN:
        for path in ("/studies/{study}/priors", "/studies/{study}/manifest", "/studies/{study}/reports"):

            def other(scene: Scene, path: str = path) -> Answer:
                with api_over(scene.world) as api:
                    return api.call(B, "GET", path, study=SHOWN)

            compare(shared(name, B), other)


@pytest.mark.parametrize("name", ["objection before it came", "in no transfer"])
@pytest.mark.parametrize("route", [route for route in ROUTES if route in ROWS and changes_something(route)])
def test_every_route_that_changes_something_answers_as_if_it_had_never_been(route: str, name: str) -> None:
    hidden, absent = (replace(scene, world=scene.world.copied()) for scene in shared(name, B))
    compare((hidden, absent), lambda scene: call(scene, route, ROWS[route]))


@pytest.mark.parametrize("name", ["objection after it was seen", "protection after it was seen"])
def test_it_is_gone_from_every_answer_even_before_anything_is_projected(name: str) -> None:
    late, absent = build(HIDDEN[name], B, settled=False), build(never, B)
    for route in ROUTES:
        if not changes_something(route) and route in ROWS:
            compare((late, absent), lambda scene, route=route: call(scene, route, ROWS[route]), work=False)
    for level, query in PROBES.values():

        def search(scene: Scene, level: str = level, query: list[tuple[str, str]] = query) -> Answer:
            with api_over(scene.world) as api:
                return api.call(B, "GET", f"/dicomweb/{level}", query)

        compare((late, absent), search, work=False)


def test_sending_an_instance_with_its_uids_tells_nothing() -> None:
    """Neither that the UID is taken, nor, as an echo would, that it is another's."""
    forged = image("mine", STUDY, 1, comment="forged")

    def send(scene: Scene) -> Answer:
        body = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + forged + b"\r\n--x--\r\n"
        kind = 'multipart/related; type="application/dicom"; boundary=x'
        with api_over(scene.world) as api:
            return api.call(B, "POST", "/dicomweb/studies", body=body, headers={"Content-Type": kind})

    for hide in HIDDEN.values():
        compare((build(hide, B), build(never, B)), send, work=False)
