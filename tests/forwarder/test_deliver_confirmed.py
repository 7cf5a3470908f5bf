"""What the PACS took counts as kept when it says so: by storage commitment, by C-FIND, or, doing neither, by its answer."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from deliveries import Case, a_case
from hospital import process, until
from pacs import running_pacs
from pydicom import Dataset
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import N_EVENT_REPORT

from forwarder.config import DicomConfig, PacsConfig
from forwarder.deliver import engine
from forwarder.retrieve import pacs as pacs_client
from forwarder.service import running
from tests.browser import hospital as by_api
from tests.harness import RunningCity

pytestmark = pytest.mark.usefixtures("credentials_of_the_city")


def a_study(case: Case, count: int = 3) -> list[Dataset]:
    films = [case.prior() for _ in range(count)]
    for film in films:
        film.StudyInstanceUID, film.SeriesInstanceUID = films[0].StudyInstanceUID, films[0].SeriesInstanceUID
    case.send(*films)
    by_api.transfer(case.city, case.patient)
    return films


def confirmed(case: Case, count: int) -> dict[str, Any]:
    return until(lambda: (now := case.state())["delivered"] == count and not now["unconfirmed"] and now["confirmed"])


@pytest.mark.parametrize("commits", ["same", "later"])
def test_a_pacs_that_commits_is_asked_once_and_believed(city: RunningCity, tmp_path: Path, commits: str) -> None:
    with running_pacs(commits=commits) as pacs, a_case(city, tmp_path, pacs) as case:
        pacs.report_to = case.place.port
        a_study(case)
        with running(case.place.config()):
            assert confirmed(case, 3) == {"commitment": 3, "find": 0, "journal": 0}
        assert (len(pacs.asked), pacs.reported) == (1, [0x0000])
        assert len(pacs.received) == 3


@pytest.mark.parametrize("delay", [0.0, 0.19])
def test_an_association_is_released_once_its_report_is_answered_and_not_before(
    monkeypatch: pytest.MonkeyPatch, delay: float
) -> None:
    """Pynetdicom answers a report in a thread of its own, for which its release does not wait: here that one is slow."""
    send = DIMSEServiceProvider.send_msg

    def send_late(self: DIMSEServiceProvider, primitive: Any, context_id: int) -> None:
        if isinstance(primitive, N_EVENT_REPORT) and primitive.MessageIDBeingRespondedTo is not None:
            time.sleep(0.05)
        send(self, primitive, context_id)

    monkeypatch.setattr(DIMSEServiceProvider, "send_msg", send_late)
    monkeypatch.setattr(pacs_client, "COMMITMENT_SECONDS", 0.2)
    wanted = {"1.2.3": "1.2.840.10008.5.1.4.1.1.2"}
    with running_pacs(commits="same", patience=0.5) as pacs, ThreadPoolExecutor(1) as pool:
        pacs.before_report = lambda: time.sleep(delay)
        node = pacs_client.Pacs(PacsConfig(ae_title="PACS", host="127.0.0.1", port=pacs.port), DicomConfig(ae_title="US"))
        for number in range(5):
            asked = pool.submit(node.ask_commitment, f"1.2.{number}", wanted, lambda *_: True)
            assert asked.result(timeout=30)
    if not delay:
        assert pacs.reported == [0x0000] * 5


def test_what_the_pacs_did_not_keep_is_brought_again(city: RunningCity, tmp_path: Path) -> None:
    with running_pacs(commits="same") as pacs, a_case(city, tmp_path, pacs) as case:
        films = a_study(case)
        pacs.loses = {str(films[1].SOPInstanceUID)}
        pacs.before_report = lambda: pacs.loses.clear() if len(pacs.asked) > 1 else None
        with running(case.place.config()):
            assert confirmed(case, 3)["commitment"] == 3
        assert [str(ds.SOPInstanceUID) for ds in pacs.received].count(str(films[1].SOPInstanceUID)) == 2
        assert len(pacs.received) == 4


def test_what_the_pacs_never_keeps_takes_a_person_after_three_times(city: RunningCity, tmp_path: Path) -> None:
    with running_pacs(commits="same") as pacs, a_case(city, tmp_path, pacs) as case:
        films = a_study(case, 2)
        pacs.loses = {str(films[0].SOPInstanceUID)}
        with running(case.place.config()):
            until(lambda: case.state()["aside_reasons"] == {"pacs-did-not-keep-it": 1})
            assert case.state()["announced"] == 2
        assert len(pacs.received) == 4


def test_a_pacs_without_commitment_is_asked_by_c_find(city: RunningCity, tmp_path: Path) -> None:
    with running_pacs() as pacs, a_case(city, tmp_path, pacs) as case:
        a_study(case)
        with running(case.place.config()):
            assert confirmed(case, 3) == {"commitment": 0, "find": 3, "journal": 0}


def test_what_c_find_lacks_for_a_while_is_not_brought_twice(
    city: RunningCity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some index behind their answer to C-STORE."""
    assert engine.LOOKS_BEFORE_LOST == 4
    monkeypatch.setattr(engine, "PAUSE_SECONDS", 0.1)
    with running_pacs() as pacs, a_case(city, tmp_path, pacs) as case:
        hidden: dict[str, Dataset] = {}
        looks = 0

        def find_late() -> None:
            nonlocal looks
            looks += 1
            if pacs.received:
                if looks < 5:
                    hidden.update(pacs.kept)
                    pacs.kept.clear()
                else:
                    pacs.kept.update(hidden)

        pacs.before_find = find_late
        a_study(case)
        with running(case.place.config()):
            assert confirmed(case, 3)["find"] == 3
        assert len(pacs.received) == 3


def test_a_pacs_that_does_neither_is_believed_by_its_answer(city: RunningCity, tmp_path: Path) -> None:
    with running_pacs(finds=False) as pacs, a_case(city, tmp_path, pacs) as case:
        a_study(case)
        with running(case.place.config()):
            assert confirmed(case, 3) == {"commitment": 0, "find": 0, "journal": 3}


def test_killed_before_the_answer_to_a_request_for_commitment(city: RunningCity, tmp_path: Path) -> None:
    """The answer comes when the forwarder runs again, on an association that the PACS opens."""
    with running_pacs(commits="later") as pacs, a_case(city, tmp_path, pacs) as case:
        pacs.report_to = case.place.port
        a_study(case)
        with process(case.place) as forwarder:
            pacs.before_report = lambda: (forwarder.kill(), forwarder.wait(), until(case.place.is_up))
            until(lambda: pacs.asked)
            forwarder.wait(60)
        with process(case.place):
            assert confirmed(case, 3)["commitment"] == 3
        assert len(pacs.received) == 3


def test_a_result_that_nobody_asked_for_changes_nothing(city: RunningCity, tmp_path: Path) -> None:
    with running_pacs(commits="later") as pacs, a_case(city, tmp_path, pacs) as case:
        pacs.report_to = case.place.port
        with running(case.place.config()):
            pacs._report(None, "1.2.3.4", [("1.2.840.10008.5.1.4.1.1.2", "1.2.3.5")])
            assert pacs.reported == [0x0110]
            assert case.state()["announced"] == 0
