"""Where queries and retrievals end: many matches, many at once, what is not negotiated, destinations and lines that drop."""

from __future__ import annotations

import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import requests
from hospital import hospital
from images import ct_slice
from line_proxy import bad_line
from pacs import running_pacs
from pydicom import Dataset
from pynetdicom import AE
from pynetdicom.dsutils import decode, encode
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelMove

from forwarder.archive.client import Answer
from forwarder.errors import ArchiveError, Failure
from forwarder.query import destination, engine, retrieval, search
from forwarder.query.keys import understood
from forwarder.query.search import Caller
from forwarder.retrieve.instances import Instance
from forwarder.retrieve.query_retrieve import OUT_OF_RESOURCES, QueryRefusedError, Request
from forwarder.service import running
from forwarder.spool.spool import Spool
from local.processes import free_port
from tests.browser import hospital as by_api
from tests.harness import RunningCity

FIND, MOVE = StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelMove
OURS = "2.999.1"


class ManyStudies:
    """An archive of so many studies of ours, page by page; `gate` holds its answers up."""

    def __init__(self, count: int, warning: str = "") -> None:
        self.count, self.warning = count, warning
        self.gate = threading.Event()
        self.gate.set()
        self.largest_page = 0

    def call(self, method: str, path: str, payload: bytes, headers: Any, expected: Any = (200,)) -> Answer:
        if path == "/institutions":
            listed = [{"id": "ours", "name": "Ours", "patient_id_issuer": OURS}]
            return Answer(200, {}, json.dumps({"institutions": listed}).encode())
        self.gate.wait(20)
        wanted = {name: int(re.search(rf"{name}=(\d+)", path)[1]) for name in ("limit", "offset")}  # type: ignore[index]
        rows = range(wanted["offset"], min(self.count, wanted["offset"] + wanted["limit"]))
        self.largest_page = max(self.largest_page, len(rows))
        found = [
            {
                "0020000D": {"vr": "UI", "Value": [f"1.2.{number}"]}, "00100020": {"vr": "LO", "Value": ["7"]},
                "00100021": {"vr": "LO", "Value": [OURS]},
            }
            for number in rows
        ]  # fmt: skip
        last = wanted["offset"] + wanted["limit"] >= self.count
        return Answer(200, {"Warning": self.warning} if last else {}, json.dumps(found).encode())


def studies() -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID, query.PatientID = "STUDY", "", ""
    return query


def as_it_comes(query: Dataset) -> Dataset:
    """An identifier as a request has it: its values not read yet."""
    return decode(BytesIO(encode(query, True, True) or b""), True, True)


CALLER = Caller("WORKSTATION", "ours", OURS, frozenset(), "CONTENITORE")


@pytest.mark.parametrize(
    ("count", "warning", "refused"),
    [
        (10_000, "", ""),
        (10_001, "", "more than 10000"),
        (700, '299 - "Only the newest 10000 candidates were searched"', "newest"),
    ],
)
def test_ten_thousand_matches_are_answered_and_not_one_more(count: int, warning: str, refused: str) -> None:
    archive = ManyStudies(count, warning)
    uids: list[str] = []
    comment = ""
    try:
        for match in search.find(archive, understood("STUDY", as_it_comes(studies())), CALLER):  # type: ignore[arg-type]
            uids.append(match.identifier.StudyInstanceUID)
    except QueryRefusedError as error:
        assert error.status == OUT_OF_RESOURCES
        comment = error.comment
    assert len(uids) == len(set(uids)) == min(count, 10_000)
    assert (refused in comment) if refused else not comment
    assert archive.largest_page <= 500  # as they are found, never all at once


def test_80_keys_are_taken_and_not_one_more_and_sequences_of_one_item() -> None:
    query = studies()
    for number in range(80 - len(query)):
        query.add_new(0x00091000 + number, "UN", b"")
    assert understood("STUDY", as_it_comes(query)).level == "STUDY"
    query.add_new(0x00099000, "UN", b"")
    with pytest.raises(QueryRefusedError, match="more than 80") as refused:
        understood("STUDY", as_it_comes(query))
    assert refused.value.status == 0xA900
    query, item = studies(), Dataset()
    item.CodeValue = "1"
    query.ProcedureCodeSequence = [item]
    assert understood("STUDY", as_it_comes(query)).keys
    query.ProcedureCodeSequence = [item, item]
    with pytest.raises(QueryRefusedError) as refused:
        understood("STUDY", as_it_comes(query))
    assert refused.value.status == 0xA900


class Listed:
    """Manifests of one page, with so many instances."""

    def __init__(self, count: int) -> None:
        self.page = [Instance(f"1.{number}", "1.2", "1.3", "1.2.840.10008.1.2.1", 1, "", "") for number in range(count)]

    def manifest_page(self, study: str, owner: str, cursor: str) -> Any:
        return self.page, None


@pytest.mark.parametrize(
    ("studies_found", "instances", "refused"),
    [(1000, 1, ""), (1001, 1, "more than 1000 studies"), (1, 65_535, ""), (1, 65_536, "more than 65535 instances")],
)
def test_a_retrieval_is_of_1000_studies_and_65535_instances(studies_found: int, instances: int, refused: str) -> None:
    query = studies()
    query.StudyInstanceUID, query.PatientID = ["1.2.3", "1.2.4"], ""
    meant = understood("STUDY", as_it_comes(query))
    archive, listed = ManyStudies(studies_found), Listed(instances)
    if refused:
        with pytest.raises(QueryRefusedError, match=refused) as error:
            retrieval.plan(archive, listed, meant, CALLER)  # type: ignore[arg-type]
        assert error.value.status == 0xA701
    else:
        assert retrieval.plan(archive, listed, meant, CALLER).count == studies_found * instances  # type: ignore[arg-type]


class Failing(Listed):
    """An archive that answers with a failure so many times, and then has what is asked for."""

    def __init__(self, failures: int) -> None:
        super().__init__(60)
        self.bad = {instance.sop_instance for instance in self.page[:failures]}

    def download(self, instance: Instance, target: Path, go_on: Any) -> None:
        go_on()
        if instance.sop_instance in self.bad:
            raise ArchiveError("It is away.", Failure.SERVER)
        target.write_bytes(b"")


class Taking:
    """A channel that takes everything."""

    def takes(self, sop_class: str, transfer_syntax: str) -> str:
        return transfer_syntax

    def store(self, path: Path, message_id: int, originator: Any) -> int:
        return 0x0000


@pytest.mark.parametrize(("failures", "goes_on"), [(7, True), (8, False)])
def test_after_eight_failures_of_the_archive_in_a_row_the_rest_is_not_tried(tmp_path: Path, failures: int, goes_on: bool) -> None:
    archive, spool = Failing(failures), Spool(tmp_path / "spool", 0)
    page = retrieval.Page("1.2", "ours", "", archive.page, time.monotonic())
    attempt = retrieval.Retrieval(archive, spool, None, "", retrieval.RetrievalPlan([page]), CALLER, Taking())  # type: ignore[arg-type]
    folder = tmp_path / "fetched"
    folder.mkdir()
    told = [(step, len(list(folder.iterdir()))) for step in attempt.steps(folder, 1, None)]
    last, most = told[-1][0], max(on_disk for _, on_disk in told)
    spool.close()
    assert last.remaining == 0
    assert (last.completed == 60 - failures) if goes_on else (last.completed < retrieval.AHEAD)
    assert retrieval.AHEAD == 8 and most <= 8


def test_more_than_eight_at_once_wait_for_a_place_and_are_told_that_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine.PLACE_SECONDS == 10.0
    monkeypatch.setattr(engine, "PLACE_SECONDS", 0.2)
    archive = ManyStudies(3)
    spool = Spool(tmp_path, 0)
    queries = engine.Queries(hospital(tmp_path / "place", "http://127.0.0.1:9").config(), spool, archive)  # type: ignore[arg-type]
    archive.gate.clear()

    def asked(_: int) -> int | str:
        try:
            return len(list(queries.find(Request("STUDY", as_it_comes(studies()), "WORKSTATION", 1))))
        except QueryRefusedError as error:
            return error.comment

    with ThreadPoolExecutor(10) as pool:
        first = [pool.submit(asked, number) for number in range(10)]
        done, _ = wait(first, 1.0)
        refused = [future.result() for future in done]
        archive.gate.set()
        answered = [future.result() for future in first]
    assert refused == ["too many queries at once"] * 2
    assert sorted(map(str, answered)) == ["3"] * 8 + refused
    assert queries.counts["refused"] == 2 and asked(0) == 3
    spool.close()


@pytest.mark.usefixtures("credentials_of_the_city")
def test_relational_queries_that_are_proposed_are_not_agreed_to_and_refused_when_they_come(
    city: RunningCity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PS3.4 C.5.1.1: what the acceptor does not return is not supported; PS3.4 C.4.1.2: then all keys above are needed."""
    monkeypatch.setattr(search, "MOST_MATCHES", 2)
    peers = [{"ae_title": "WORKSTATION", "host": "127.0.0.1", "port": free_port()}]
    place = hospital(tmp_path, city.api, archive__profile="maugeri", peers=peers)
    patient = by_api.Patient()
    by_api.send(city.client("maugeri"), *(by_api.image(patient, "maugeri") for _ in range(3)))
    relational = SOPClassExtendedNegotiation()
    relational.sop_class_uid, relational.service_class_application_information = FIND, b"\x01\x01\x01\x01"
    with running(place.config()):
        ae = AE("WORKSTATION")
        ae.add_requested_context(FIND)
        association = ae.associate("127.0.0.1", place.port, ae_title="CONTENITORE", ext_neg=[relational])
        assert association.is_established
        assert not association.acceptor.sop_class_extended
        query = Dataset()
        query.QueryRetrieveLevel, query.SOPInstanceUID, query.PatientID = "IMAGE", "", patient.at["maugeri"]
        ((status, _),) = association.send_c_find(query, FIND)
        assert (status.Status, "StudyInstanceUID" in status.ErrorComment) == (0xA900, True)
        query = studies()
        query.PatientID = patient.at["maugeri"]
        *matches, (last, _) = association.send_c_find(query, FIND)
        assert ([found.Status for found, _ in matches], last.Status) == ([0xFF00] * 2, 0xA700)
        association.release()


@pytest.mark.usefixtures("credentials_of_the_city")
def test_a_destination_that_drops_and_comes_back_gets_everything(
    city: RunningCity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(destination, "PAUSE_SECONDS", 0.1)
    patient = by_api.Patient("FERRARI^LUCIA")
    films = [by_api.image(patient, "san-matteo") for _ in range(4)]
    for film in films:
        film.StudyInstanceUID, film.SeriesInstanceUID = films[0].StudyInstanceUID, films[0].SeriesInstanceUID
    by_api.send(city.client("san-matteo"), *films)
    by_api.transfer(city, patient)
    by_api.wait_for_studies(city, patient, 1)
    with running_pacs() as pacs:
        peers = [{"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": pacs.port}]
        place = hospital(tmp_path, city.api, archive__profile="maugeri", peers=peers)
        assert destination.TRIES == 3  # it is called again twice
        pacs.breaks = {str(films[1].SOPInstanceUID), str(films[2].SOPInstanceUID)}
        with running(place.config()):
            ae = AE("ARCHIVE")
            ae.add_requested_context(MOVE)
            association = ae.associate("127.0.0.1", place.port, ae_title="CONTENITORE")
            query = Dataset()
            query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", films[0].StudyInstanceUID
            *_, (status, _) = association.send_c_move(query, "ARCHIVE", MOVE)
            association.release()
    assert (status.Status, status.NumberOfCompletedSuboperations, status.NumberOfFailedSuboperations) == (0x0000, 4, 0)
    assert set(pacs.kept) == {str(film.SOPInstanceUID) for film in films}


@pytest.mark.usefixtures("credentials_of_the_city")
def test_a_line_that_is_cut_in_the_middle_of_a_body_is_no_whole_body_and_is_not_kept(city: RunningCity, tmp_path: Path) -> None:
    """At the door for viewers: what breaks off there breaks off here, and the next reading is whole."""
    patient = by_api.Patient()
    film = by_api.image(patient, "maugeri")
    large = ct_slice(1, edge=1900)
    film.Rows, film.Columns, film.PixelData = large.Rows, large.Columns, large.PixelData
    by_api.send(city.client("maugeri"), film)
    who = {"X-Remote-User": "m.rossi", "X-Remote-Roles": "radiology"}
    uids = film.StudyInstanceUID, film.SeriesInstanceUID, film.SOPInstanceUID
    with bad_line() as line:
        place = hospital(
            tmp_path, city.api, archive__profile="maugeri", archive__proxy=line.url, identity__header="X-Remote-User",
            identity__trusted=["127.0.0.1"], identity__roles_header="X-Remote-Roles",
        )  # fmt: skip
        with running(place.config()):
            url = place.page + "/dicomweb/studies/{}/series/{}/instances/{}".format(*uids)
            cuts = iter([2_000_000])
            line.cut_answer = lambda method, path: next(cuts, None) if "X-Amz-" in path else None
            with pytest.raises(requests.exceptions.RequestException):
                requests.get(url, headers=who | {"Accept": "application/dicom"}, timeout=60)
            assert line.cuts == 1
            whole = requests.get(url, headers=who | {"Accept": "application/dicom"}, timeout=60)
            assert whole.status_code == 200 and film.PixelData in whole.content
            assert "hit" not in whole.headers.get("Cache-Status", "")
            again = requests.get(url, headers=who | {"Accept": "application/dicom"}, timeout=60)
            assert again.content == whole.content and "hit" in again.headers["Cache-Status"]
