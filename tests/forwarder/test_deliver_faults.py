"""Whatever goes wrong on the way into the PACS: nothing is lost, nothing comes twice, and what holds it up is said."""

from __future__ import annotations

import hashlib
import itertools
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority, Pair
from deliveries import Case, a_case
from hospital import store, until
from line_proxy import BadLine, bad_line
from pacs import PLAIN, Pacs, running_pacs
from pydicom import Dataset
from pydicom.uid import JPEG2000Lossless

from forwarder.__main__ import main
from forwarder.alerts import advise_on_delivery, texts, why_not_delivered
from forwarder.deliver import delivery, engine, preparation
from forwarder.deliver.delivery import Delivery
from forwarder.operations import admin
from forwarder.retrieve.coercion import coerced
from forwarder.service import running
from tests.browser import hospital as by_api
from tests.harness import RunningCity

pytestmark = pytest.mark.usefixtures("credentials_of_the_city")
STEPS = ["deliver-listed", "deliver-fetched", "deliver-coerced", "deliver-stored", "deliver-settled", "deliver-asked",
         "deliver-committed"]  # fmt: skip


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PAUSE_SECONDS", 0.2)


def a_study(case: Case, count: int = 3) -> list[Dataset]:
    films = [case.prior() for _ in range(count)]
    for film in films:
        film.StudyInstanceUID, film.SeriesInstanceUID = films[0].StudyInstanceUID, films[0].SeriesInstanceUID
    case.send(*films)
    by_api.transfer(case.city, case.patient)
    return films


def came_once(pacs: Pacs, films: list[Dataset]) -> None:
    assert sorted(str(ds.SOPInstanceUID) for ds in pacs.received) == sorted(str(film.SOPInstanceUID) for film in films)


@contextmanager
def doomed(case: Case, step: str) -> Iterator[subprocess.Popen[bytes]]:
    """A forwarder that dies right after it has done this step for the second time (the first, where there is but one)."""
    times = 1 if step in ("deliver-listed", "deliver-asked", "deliver-committed") else 2
    command = [sys.executable, str(Path(__file__).parent / "dying.py"), str(case.place.write_config()), step, str(times)]
    with (case.place.folder / "log").open("ab") as log:
        dying = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield dying
    finally:
        if dying.poll() is None:
            dying.kill()
        dying.wait()


def test_death_right_after_each_step_loses_and_doubles_nothing(
    city: RunningCity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One death after the other: each forwarder finds what the one before left, and another patient's study, and dies a step
    further on. An answer that a busy PACS gives too late is waited for ten minutes; here not."""
    monkeypatch.setattr(engine, "COMMITMENT_WAIT", 15.0)
    with running_pacs(commits="same") as pacs, a_case(city, tmp_path, pacs, pacs__associations=1) as case:
        films: list[Dataset] = []
        for step in STEPS:
            case.patient = by_api.Patient()
            films += a_study(case)
            with doomed(case, step) as dying:
                until(lambda: dying.poll() is not None)
                assert dying.returncode == -signal.SIGKILL, step
        with running(case.place.config()):
            state = until(lambda: (now := case.settled(len(films), 60)) and not now["unconfirmed"] and now)
        assert state["delivered"] + state["there"] == len(films)
        came_once(pacs, films)
        assert not [path for path in (case.place.spool / "deliver").iterdir() if path.is_file()]


@contextmanager
def over_a_bad_line(city: RunningCity, tmp_path: Path) -> Iterator[tuple[Case, BadLine]]:
    with bad_line() as line, running_pacs() as pacs, a_case(city, tmp_path, pacs, archive__proxy=line.url) as case:
        yield case, line


def is_image(method: str, path: str) -> bool:
    return method == "GET" and path.startswith("/") and "/instances/" in path and "X-Amz-" in path


def test_a_line_that_breaks_between_the_list_and_the_images(city: RunningCity, tmp_path: Path) -> None:
    with over_a_bad_line(city, tmp_path) as (case, line):
        films = a_study(case)
        tries = itertools.count(1)
        line.lose_answer = lambda method, path: is_image(method, path) and next(tries) <= 12
        with running(case.place.config()):
            assert case.settled(3, 90)["delivered"] == 3
        assert line.lost == 12
        came_once(case.pacs, films)


def test_an_image_that_is_cut_in_the_middle_is_gone_on_with_where_it_stopped(city: RunningCity, tmp_path: Path) -> None:
    with over_a_bad_line(city, tmp_path) as (case, line):
        films = a_study(case, 2)
        cuts = itertools.count(1)
        line.cut_answer = lambda method, path: 20_000 if is_image(method, path) and next(cuts) <= 2 else None
        with running(case.place.config()):
            assert case.settled(2)["delivered"] == 2
        assert line.cuts == 2
        came_once(case.pacs, films)
        for film in films:
            assert case.pacs.kept[str(film.SOPInstanceUID)].PixelData == film.PixelData


def test_a_pacs_that_breaks_off_after_it_took_an_image_gets_it_once(city: RunningCity, tmp_path: Path) -> None:
    with running_pacs() as pacs, a_case(city, tmp_path, pacs) as case:
        films = a_study(case)
        pacs.breaks = {str(films[1].SOPInstanceUID)}
        with running(case.place.config()):
            state = case.settled(3)
        assert (state["delivered"], state["there"], state["aside"]) == (2, 1, 0)
        came_once(pacs, films)


def test_an_image_that_breaks_every_association_takes_a_person_and_the_others_come(city: RunningCity, tmp_path: Path) -> None:
    with running_pacs(finds=False) as pacs, a_case(city, tmp_path, pacs, pacs__associations=1) as case:
        films = a_study(case)
        bad = str(films[0].SOPInstanceUID)

        class AlwaysBreaks(set[str]):
            def __contains__(self, uid: object) -> bool:
                return uid == bad

        pacs.breaks = AlwaysBreaks()
        with running(case.place.config()):
            state = case.settled(3)
        assert (state["delivered"], state["aside_reasons"]) == (2, {"breaks-the-association": 1})


def test_a_pacs_that_answers_no_request_for_commitment_is_asked_by_c_find(
    city: RunningCity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine.COMMITMENT_WAIT == 600.0
    monkeypatch.setattr(engine, "COMMITMENT_WAIT", 1.0)
    with running_pacs(commits="later") as pacs, a_case(city, tmp_path, pacs) as case:
        pacs.report_to = 1  # where nobody listens
        a_study(case)
        with running(case.place.config()):
            until(lambda: case.state()["confirmed"] == {"commitment": 0, "find": 3, "journal": 0})


def test_a_pacs_that_takes_our_association_and_aborts_our_queries_is_told_as_that(city: RunningCity, tmp_path: Path) -> None:
    """As Orthanc does with an AE title that it does not know; once it knows it, everything comes, and under its issuer."""
    with running_pacs() as pacs, a_case(city, tmp_path, pacs, pacs__issuer="MAUGERI") as case:
        pacs.aborts_queries = True
        films = a_study(case, 2)
        with running(case.place.config()):
            until(lambda: case.state()["waiting_for"] == {"pacs-aborts-queries": 1})
            pacs.aborts_queries = False
            assert case.settled(2)["delivered"] == 2
        came_once(pacs, films)
        assert {ds.IssuerOfPatientID for ds in pacs.received} == {"MAUGERI"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the PACS's own: it is stopped at any moment
def test_a_pacs_that_dies_and_comes_back_gets_the_rest(city: RunningCity, tmp_path: Path) -> None:
    with running_pacs() as first, a_case(city, tmp_path, first, pacs__associations=1) as case:
        films = a_study(case, 6)
        died = threading.Event()
        first.answer = lambda ds: (died.set(), 0x0000)[1] if len(first.received) == 3 else 0x0000
        with running(case.place.config()):
            assert died.wait(90)
            first.stop()
            until(lambda: case.state()["trouble"], 120)
            assert "pacs-does-not-take" in case.place.state()["troubles"]
            assert set(case.state()["waiting_for"]) <= {"pacs-unreachable", "pacs-broke-off", "pacs-no-answer"}
            with running_pacs(port=first.port, kept=first.kept) as second:
                state = case.settled(6)
                assert (state["aside"], state["trouble"]) == (0, None)
                both = [str(ds.SOPInstanceUID) for ds in first.received + second.received]
                assert set(both) == {str(film.SOPInstanceUID) for film in films} == set(second.kept)


def test_a_pacs_takes_several_associations_at_once_if_it_bears_them(city: RunningCity, tmp_path: Path) -> None:
    with running_pacs(associations=2) as pacs, a_case(city, tmp_path, pacs, pacs__associations=8) as case:
        a_study(case, 64)
        pause = threading.Event()
        pacs.answer = lambda ds: (pause.wait(0.1), 0x0000)[1]  # a slow one
        with running(case.place.config()):
            assert case.settled(64, 90)["delivered"] == 64
        assert pacs.most_at_once == 2
        assert len(pacs.received) == 64


def test_a_class_a_syntax_and_an_instance_that_are_refused_hold_up_nothing(
    city: RunningCity, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mr = "1.2.840.10008.5.1.4.1.1.4"
    syntaxes = [*PLAIN, str(JPEG2000Lossless)]
    with running_pacs(refuses=frozenset([mr]), syntaxes=syntaxes) as pacs, a_case(city, tmp_path, pacs) as case:
        films = [case.prior(source=name) for name in ("CT_small.dcm", "MR_small_implicit.dcm", "JPEG2000.dcm", "CT_small.dcm")]
        for film in films:
            film.StudyInstanceUID = films[0].StudyInstanceUID
        refused = str(films[3].SOPInstanceUID)
        pacs.answer = lambda ds: 0xA900 if str(ds.SOPInstanceUID) == refused else 0x0000
        case.send(*films)
        by_api.transfer(city, case.patient)
        with running(case.place.config()):
            state = case.settled(4)
        assert state["delivered"] == 2
        assert state["aside_reasons"] == {"pacs-status-a900": 1, "pacs-takes-no-such-instance": 1}
        assert main(["deliveries", "--config", str(case.place.write_config())]) == 0
        told = capsys.readouterr().out
        for reason in state["aside_reasons"]:
            assert f"{reason}: {why_not_delivered(reason, texts('en'))}\n    {advise_on_delivery(reason, texts('en'))}\n" in told


def test_a_syntax_that_the_pacs_accepts_and_then_refuses_is_sent_plain(city: RunningCity, tmp_path: Path) -> None:
    with running_pacs() as pacs, a_case(city, tmp_path, pacs) as case:
        film = case.prior(source="JPEG2000.dcm")
        whole = film.Rows * film.Columns * film.SamplesPerPixel * film.BitsAllocated // 8
        pacs.answer = lambda ds: 0x0000 if len(ds.PixelData) == whole else 0xC000
        case.send(film)
        by_api.transfer(city, case.patient)
        with running(case.place.config()):
            assert case.settled(1)["delivered"] == 1


def test_a_warning_is_a_delivery_that_says_so(city: RunningCity, tmp_path: Path) -> None:
    with running_pacs() as pacs, a_case(city, tmp_path, pacs) as case:
        statuses = (0xB000, 0xB006, 0xB007, 0xB123, 0x0001, 0x0107, 0x0116)
        films = a_study(case, len(statuses))
        warnings = dict(zip((str(film.SOPInstanceUID) for film in films), statuses, strict=True))
        pacs.answer = lambda ds: warnings[str(ds.SOPInstanceUID)]
        pacs.warns = frozenset(statuses)
        with running(case.place.config()):
            assert case.settled(len(statuses))["delivered"] == len(statuses)
        came_once(pacs, films)


def test_a_pacs_that_has_an_instance_says_so_and_is_asked_whether_it_keeps_it(city: RunningCity, tmp_path: Path) -> None:
    with running_pacs(commits="same") as pacs, a_case(city, tmp_path, pacs) as case:
        film = case.prior(source="JPEG2000.dcm")
        case.send(film)
        by_api.transfer(city, case.patient)
        pacs.answer = lambda ds: 0x0111
        pacs.warns = frozenset({0x0111})
        with running(case.place.config()):
            until(lambda: case.state()["confirmed"]["commitment"] == 1)
        came_once(pacs, [film])


def test_a_correction_of_which_the_pacs_says_that_it_has_it_is_not_delivered(city: RunningCity, tmp_path: Path) -> None:
    """It has the wrong one, and only that."""
    with running_pacs(finds=False) as pacs, a_case(city, tmp_path, pacs) as case:
        (film,) = a_study(case, 1)
        with running(case.place.config()):
            assert case.settled(1)["delivered"] == 1
            pacs.answer = lambda ds: 0x0111
            film.StudyDescription = "TC ADDOME"
            case.send(film)
            until(lambda: case.state()["aside_reasons"] == {"corrected": 1})
            admin.retry(case.place.spool, everything=True)
            until(lambda: case.state()["aside_reasons"] == {"pacs-status-0111": 1})


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of the long name
def test_a_name_longer_than_the_standard_has_it_is_brought(city: RunningCity, tmp_path: Path) -> None:
    name = "DELLA ROVERE" * 6 + "^MARIA"
    with running_pacs() as pacs, a_case(city, tmp_path, pacs) as case:
        pacs.knows(case.number, name)
        films = a_study(case)
        with running(case.place.config()):
            assert case.settled(3)["delivered"] == 3
        came_once(pacs, films)
        assert {str(ds.PatientName) for ds in pacs.received} == {name}


def test_one_instance_that_nobody_foresaw_takes_a_person_and_the_others_come(
    city: RunningCity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_pacs() as pacs, a_case(city, tmp_path, pacs) as case:
        films = a_study(case)
        bad = hashlib.sha256(by_api._bytes(films[1])).hexdigest()

        def stumbles(source: Path, *rest: Any) -> Any:
            return {}[source] if source.stem == bad else coerced(source, *rest)

        monkeypatch.setattr(preparation, "coerced", stumbles)
        with running(case.place.config()):
            state = case.settled(3)
        assert (state["delivered"], state["aside_reasons"]) == (2, {"cannot-be-coerced": 1})
        came_once(pacs, [films[0], films[2]])


@pytest.mark.parametrize("associations", [1, 4])
def test_a_study_that_nobody_foresaw_is_put_off_and_told_and_the_others_come(
    city: RunningCity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, associations: int
) -> None:
    monkeypatch.setattr(delivery, "EACH", 1)
    with running_pacs() as pacs, a_case(city, tmp_path, pacs, pacs__associations=associations) as case:
        films = a_study(case, 4)
        case.patient = by_api.Patient("ROSSI^ANNA")
        others = a_study(case, 1)
        store = Delivery.store

        def stumbles(self: Delivery, *rest: Any) -> None:
            return {}[0] if rest[0].task.study == films[0].StudyInstanceUID else store(self, *rest)

        monkeypatch.setattr(Delivery, "store", stumbles)
        with running(case.place.config()):
            until(lambda: case.state()["waiting_for"] == {"unforeseen": 1} and case.state()["delivered"] == 1)
            assert "delivery-unforeseen" in case.place.state()["troubles"]
            came_once(pacs, others)
            monkeypatch.setattr(Delivery, "store", store)
            admin.retry(case.place.spool, everything=True)
            assert case.settled(5)["delivered"] == 5
            assert "delivery-unforeseen" not in case.place.state()["troubles"]


@pytest.mark.parametrize("method", ["_plan", "_found_there"])
def test_what_nobody_foresaw_beside_bringing_is_tried_again(
    city: RunningCity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    does, fell = getattr(engine.Deliveries, method), itertools.count(1)

    def stumbles(self: engine.Deliveries, *rest: Any) -> Any:
        return does(self, *rest) if next(fell) > 2 else {}[0]

    monkeypatch.setattr(engine.Deliveries, method, stumbles)
    with running_pacs() as pacs, a_case(city, tmp_path, pacs) as case:
        a_study(case)
        with running(case.place.config()):
            until(lambda: case.state()["confirmed"]["find"] == 3)


def test_a_full_disk_waits_and_says_so(city: RunningCity, tmp_path: Path) -> None:
    with running_pacs() as pacs, a_case(city, tmp_path, pacs, spool__reserve_mb=10_000_000) as case:
        a_study(case)
        with running(case.place.config()):
            until(lambda: case.state()["waiting_for"] == {"no-space": 1})
            assert pacs.received == []
        case.place.values["spool.reserve_mb"] = 1
        with running(case.place.config()):
            admin.retry(case.place.spool)
            assert case.settled(3)["delivered"] == 3


def test_one_number_that_two_hospitals_use_for_two_people_mixes_up_nobody(city: RunningCity, tmp_path: Path) -> None:
    """San Matteo's number of the patient is another person's at Maugeri: who has exams of that day's own there."""
    with running_pacs() as pacs, a_case(city, tmp_path, pacs) as case:
        shared = case.patient.at["san-matteo"]
        other = by_api.Patient("BIANCHI^ADA")
        other.at["maugeri"] = shared
        pacs.knows(shared, "BIANCHI^ADA", "19400506")
        pacs.knows(case.number, "FERRARI^LUCIA")
        own = by_api.image(other, "maugeri", PatientBirthDate="19400506")
        by_api.send(city.client("maugeri"), own)
        films = a_study(case)
        with running(case.place.config()):
            assert case.settled(3)["delivered"] == 3
        assert {(ds.PatientID, str(ds.PatientName)) for ds in pacs.received} == {(case.number, "FERRARI^LUCIA")}
        came_once(pacs, films)


SETS = {
    "ISO_IR 100": "Tórax à gauche", "ISO_IR 101": "Płuca źle", "ISO_IR 144": "Грудь", "\\ISO 2022 IR 87": "胸部",
    "GB18030": "胸部平扫", "ISO_IR 192": "胸部 Грудь ü",
}  # fmt: skip


NAMES = {"ISO_IR 144": "Жуков^Иван", "GB18030": "王^小东", "\\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎"}


def test_names_and_texts_in_six_character_sets_arrive_undamaged(city: RunningCity, tmp_path: Path) -> None:
    """The PACS knows the patient with a letter that only some of the sets have: the others become UTF-8 as a whole."""
    with running_pacs() as pacs, a_case(city, tmp_path, pacs) as case:
        pacs.knows(case.number, "WAŁĘSA^ŁUCJA")
        films = []
        for sets, text in SETS.items():
            film = case.prior(description=text)
            film.SpecificCharacterSet = sets.split("\\") if "\\" in sets else sets
            film.PatientName = {
                "ISO_IR 144": "Жуков^Иван",
                "GB18030": "王^小东",
                "\\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎",
            }.get(sets, "FERRARI^LUCIA")
            films.append(film)
        case.send(*films)
        by_api.transfer(city, case.patient)
        with running(case.place.config()):
            assert case.settled(6)["delivered"] == 6
    for film in films:
        came = pacs.kept[str(film.SOPInstanceUID)]
        assert str(came.PatientName) == "WAŁĘSA^ŁUCJA"
        assert came.StudyDescription.endswith(film.StudyDescription)
        original = came.OriginalAttributesSequence[-1].ModifiedAttributesSequence[0]
        assert str(original.PatientName) == str(film.PatientName)
        assert came.PixelData == film.PixelData


def test_the_patient_who_is_examined_here_now_goes_before_a_long_study_of_another(
    city: RunningCity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "EACH", 1000)
    with running_pacs() as pacs, a_case(city, tmp_path, pacs) as case:
        long = a_study(case, 30)
        pause, first = threading.Event(), threading.Event()
        other = by_api.Patient("ROSSI^ANNA")
        prior = by_api.image(other, "san-matteo")

        def slow(ds: Dataset) -> int:
            """Until what is awaited has come: what is between the two may take its time."""
            first.set()
            if ds.SOPInstanceUID == prior.SOPInstanceUID:
                pause.set()
            pause.wait(2)
            return 0x0000

        pacs.answer = slow
        by_api.send(city.client("san-matteo"), prior)
        with running(case.place.config()):
            assert first.wait(90)
            by_api.transfer(city, other)
            case.settled(31, 90)
        order = [str(ds.SOPInstanceUID) for ds in pacs.received]
        assert order.index(str(prior.SOPInstanceUID)) < 25
        assert len(order) == len(set(order)) == len(long) + 1


def one_bit_wrong(body: bytes, damaged: list[str]) -> bytes:
    damaged.append("")
    return body[:-1] + bytes([body[-1] ^ 1])


def test_what_the_archive_sends_otherwise_than_it_says_never_reaches_the_pacs(city: RunningCity, tmp_path: Path) -> None:
    with over_a_bad_line(city, tmp_path) as (case, line):
        a_study(case, 1)
        line.instead = lambda method, path: (200, b"x" * 39_000) if is_image(method, path) else None
        with running(case.place.config()):
            until(lambda: case.state()["waiting_for"])
            assert case.pacs.received == []
            damaged: list[str] = []
            line.instead = lambda method, path: None
            line.alter = lambda method, path, body: one_bit_wrong(body, damaged) if is_image(method, path) else body
            admin.retry(case.place.spool)
            until(lambda: damaged and case.state()["waiting_for"])
            assert case.pacs.received == []
            line.alter = lambda method, path, body: body
            admin.retry(case.place.spool)
            assert case.settled(1)["delivered"] == 1


def test_a_pacs_over_tls_shows_its_certificate_and_wants_ours(city: RunningCity, tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path / "ca"), Authority(tmp_path / "stranger", "stranger")
    ours, theirs, false = authority.issue("forwarder"), authority.issue("pacs"), stranger.issue("pacs")
    values = {
        "pacs__tls": True, "dicom__tls.certificate": str(ours.certificate), "dicom__tls.key": str(ours.key),
        "dicom__tls.ca_file": str(authority.pem),
    }  # fmt: skip

    def context(shown: Pair) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(shown.certificate, shown.key)
        made.load_verify_locations(authority.pem)
        made.verify_mode = ssl.CERT_REQUIRED
        return made

    with running_pacs(tls=context(theirs)) as pacs, a_case(city, tmp_path, pacs, **values) as case:
        films = a_study(case)
        with running(case.place.config()):
            assert case.settled(3)["delivered"] == 3
        came_once(pacs, films)
    with running_pacs(tls=context(false)) as pacs, a_case(city, tmp_path / "other", pacs, **values) as case:
        a_study(case, 1)
        with running(case.place.config()):
            until(lambda: case.state()["trouble"] == "unreachable")
        assert pacs.received == []


@pytest.mark.slow
def test_a_thousand_rounds_of_an_echo_make_no_copy_no_conflict_and_no_entry_of_the_feed(
    city: RunningCity, tmp_path: Path
) -> None:
    """A PACS that routes everything back, each time with another moment in it, by a forwarder that brought nothing: the archive
    alone recognises it."""
    with running_pacs() as pacs, a_case(city, tmp_path, pacs) as case:
        films = a_study(case, 2)
        with running(case.place.config()):
            case.settled(2)
    with running_pacs() as unused, a_case(city, tmp_path / "other", unused, deliver__enabled=False) as back:
        client, owner = city.client("maugeri"), city.client("san-matteo")
        cursor = client.get("/changes?limit=1000&since=" + last(client)).json()["next"]
        owners = last(owner)
        with running(back.place.config()):
            came = pacs.kept[str(films[0].SOPInstanceUID)]
            rounds = []
            for number in range(1000):
                copy = Dataset()
                copy.update(came)
                copy.file_meta = came.file_meta if hasattr(came, "file_meta") else films[0].file_meta
                copy.InstanceCoercionDateTime = f"20261130120000.{number:06d}"
                rounds.append(copy)
            assert store(back.place, rounds) == [0x0000] * 1000
            state = until(lambda: back.place.settled(1000), 300)
        assert (state["echo"], state["conflict"], state["rejected"]) == (1000, 0, 0)
        assert client.get(f"/changes?since={cursor}").json()["changes"] == []
        assert owner.get(f"/changes?since={owners}").json()["changes"] == []
        manifest = owner.get(f"/studies/{films[0].StudyInstanceUID}/manifest").json()["instances"]
        content = films[0].SOPInstanceUID
        assert [status["sha256"] for status in manifest if status["sop_instance_uid"] == content] == [sha256_of(films[0])]
        own = client.get(f"/dicomweb/studies?StudyInstanceUID={films[0].StudyInstanceUID}").json()
        assert len(own) == 1


def sha256_of(film: Dataset) -> str:
    return hashlib.sha256(by_api._bytes(film)).hexdigest()


def last(client: object) -> str:
    """The end of an institution's feed."""
    cursor = ""
    while told := client.get(f"/changes?limit=1000&since={cursor}").json()["changes"]:  # type: ignore[attr-defined]
        cursor = str(told[-1]["cursor"])
    return cursor or "0"
