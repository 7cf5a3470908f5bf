"""Query and retrieve at the forwarder's DICOM port: what the archive shows this hospital, under its own numbers, to its peers."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority, client_context
from hospital import hospital, until
from pacs import PLAIN
from pydicom import Dataset, dcmread
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.uid import ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_FIND
from pynetdicom.dsutils import decode
from pynetdicom.sop_class import (
    CTImageStorage,
    ModalityWorklistInformationFind,
    PatientRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)
from querying import NEEDS_DCMTK, PATIENT, STUDY, Case, a_case, dcmtk

from forwarder.dicom.storage import even
from forwarder.service import running
from local.processes import free_port
from tests.browser import hospital as by_api
from tests.harness import RunningCity

pytestmark = pytest.mark.usefixtures("credentials_of_the_city")


@pytest.fixture
def case(city: RunningCity, tmp_path: Path) -> Iterator[Case]:
    with a_case(city, tmp_path) as made:
        yield made


def test_a_peer_finds_the_other_hospitals_exams_under_its_own_number(case: Case) -> None:
    films = [case.prior(source=name, AccessionNumber="SM-1") for name in ("CT_small.dcm", "MR_small_implicit.dcm")]
    case.send(*films)
    by_api.transfer(case.city, case.patient)
    by_api.wait_for_studies(case.city, case.patient, 2)
    patients, status = case.find(
        QueryRetrieveLevel="PATIENT", PatientID=case.number, PatientName="", PatientBirthDate="", IssuerOfPatientID="",
        NumberOfPatientRelatedStudies="", NumberOfPatientRelatedInstances="",
    )  # fmt: skip
    assert status.Status == 0x0000
    (patient,) = patients
    assert (patient.PatientID, str(patient.PatientName), patient.PatientBirthDate) == (case.number, "FERRARI^LUCIA", "19510314")
    assert (patient.NumberOfPatientRelatedStudies, patient.NumberOfPatientRelatedInstances) == (2, 2)
    studies, _ = case.find(
        QueryRetrieveLevel="STUDY", PatientID=case.number, StudyInstanceUID="", StudyDate="20260101-", StudyTime="0800-1000",
        ModalitiesInStudy="", AccessionNumber="", InstitutionName="", StudyDescription="", NumberOfStudyRelatedInstances="",
    )  # fmt: skip
    assert {dataset.StudyInstanceUID for dataset in studies} == {film.StudyInstanceUID for film in films}
    assert {study.ModalitiesInStudy for study in studies} == {"CT", "MR"}
    assert {(dataset.AccessionNumber, dataset.RetrieveAETitle, dataset.PatientID) for dataset in studies} == {
        ("", "CONTENITORE", case.number)
    }
    film = films[0]
    (series,), _ = case.find(
        QueryRetrieveLevel="SERIES", PatientID=case.number, StudyInstanceUID=film.StudyInstanceUID, SeriesInstanceUID="",
        Modality="", NumberOfSeriesRelatedInstances="",
    )  # fmt: skip
    assert (series.SeriesInstanceUID, series.Modality, series.NumberOfSeriesRelatedInstances) == (film.SeriesInstanceUID, "CT", 1)
    (image,), _ = case.find(
        STUDY, QueryRetrieveLevel="IMAGE", StudyInstanceUID=film.StudyInstanceUID, SeriesInstanceUID=film.SeriesInstanceUID,
        SOPInstanceUID="", InstanceNumber="",
    )  # fmt: skip
    assert image.SOPInstanceUID == film.SOPInstanceUID


def test_nobody_else_may_query_whatever_it_calls_itself(case: Case) -> None:
    ae = AE("STRANGER")
    ae.add_requested_context(STUDY, PLAIN)
    ae.add_requested_context(CTImageStorage, PLAIN)
    association = ae.associate("127.0.0.1", case.place.port, ae_title="CONTENITORE")
    assert [str(accepted_context.abstract_syntax) for accepted_context in association.accepted_contexts] == [CTImageStorage]
    assert [rejected_context.result for rejected_context in association.rejected_contexts] == [1]
    association.release()
    told = until(lambda: [refusal for refusal in case.place.state()["refusals"] if refusal["reason"] == "not-a-peer"])
    assert (told[0]["calling"], told[0]["peer"], told[0]["sop_class"]) == ("STRANGER", "127.0.0.1", STUDY)
    assert case.place.state()["contexts_refused"] >= 1


def test_a_peer_is_known_by_its_address_too(city: RunningCity, tmp_path: Path) -> None:
    peers = [
        {"ae_title": "WORKSTATION", "host": "127.0.0.2", "port": 104},
        {"ae_title": "CT1", "host": "127.0.0.1", "port": 104, "query": False},
    ]
    place = hospital(tmp_path, city.api, archive__profile="maugeri", peers=peers)
    with running(place.config()):
        for title in ("WORKSTATION", "CT1"):
            ae = AE(title)
            ae.add_requested_context(STUDY, PLAIN)
            assert not ae.associate("127.0.0.1", place.port, ae_title="CONTENITORE").is_established
        ae = AE("WORKSTATION")
        ae.add_requested_context(STUDY, PLAIN)
        association = ae.associate("127.0.0.1", place.port, ae_title="CONTENITORE", bind_address=("127.0.0.2", 0))
        assert association.is_established
        association.release()


def test_without_peers_there_is_no_query(city: RunningCity, tmp_path: Path) -> None:
    place = hospital(tmp_path, city.api, archive__profile="maugeri")
    with running(place.config()):
        ae = AE("WORKSTATION")
        ae.add_requested_context(STUDY, PLAIN)
        ae.add_requested_context(CTImageStorage, PLAIN)
        association = ae.associate("127.0.0.1", place.port, ae_title="CONTENITORE")
        assert [rejected_context.result for rejected_context in association.rejected_contexts] == [3]
        association.release()
        assert place.state()["queries"]["enabled"] is False


@NEEDS_DCMTK
def test_findscu_and_getscu_of_dcmtk(case: Case, tmp_path: Path) -> None:
    films = [case.prior(source=name) for name in ("CT_small.dcm", "JPEG2000.dcm")]
    for film in films:
        film.StudyInstanceUID = films[0].StudyInstanceUID
    case.send(*films)
    by_api.transfer(case.city, case.patient)
    by_api.wait_for_studies(case.city, case.patient, 1)
    address = ["127.0.0.1", str(case.place.port)]
    said = dcmtk(
        "findscu", "-S", "-aet", "FINDSCU", "-aec", "CONTENITORE", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName=ferr*",
        "-k", "StudyDate=20260101-20261231", "-k", f"PatientID={case.number}", "-k", "StudyInstanceUID", *address,
    )  # fmt: skip
    assert films[0].StudyInstanceUID in said and "Pending" in said
    folder = tmp_path / "got"
    folder.mkdir()
    dcmtk(
        "getscu", "-S", "-aet", "GETSCU", "-aec", "CONTENITORE", "-od", str(folder), "-k", "QueryRetrieveLevel=STUDY",
        "-k", f"StudyInstanceUID={films[0].StudyInstanceUID}", *address,
    )  # fmt: skip
    got = {ds.SOPInstanceUID: ds for ds in map(dcmread, folder.iterdir())}
    assert set(got) == {film.SOPInstanceUID for film in films}
    assert got[films[0].SOPInstanceUID].PixelData == films[0].PixelData
    assert {ds.PatientID for ds in got.values()} == {case.number}


@pytest.fixture
def shared(case: Case) -> Case:
    """The case, with two CTs (one of two series) and an MR that were transferred."""
    ct, other = (
        case.prior(PatientName="MÜLLER^ZOË"),
        case.prior(PatientName="MÜLLER^ZOË", StudyDate="20260105", StudyTime="235900"),
    )
    second = case.prior(PatientName="MÜLLER^ZOË")
    second.StudyInstanceUID = ct.StudyInstanceUID
    case.films = [ct, second, other]
    case.send(*case.films)
    by_api.transfer(case.city, case.patient)
    by_api.wait_for_studies(case.city, case.patient, 2)
    return case


NAMES = [
    ("ISO_IR 100", "MÜLLER^*".encode("latin-1"), "ISO_IR 100"),
    ("ISO_IR 192", "MÜLLER^*".encode(), "ISO_IR 192"),
    ("ISO_IR 144", b"M*", "ISO_IR 192"),  # Cyrillic, which has no such letters
    ("", "MÜLLER^*".encode(), "ISO_IR 100"),  # says nothing, and is UTF-8
    ("", "müller^*".encode("latin-1"), "ISO_IR 100"),
]


def test_a_name_is_read_and_answered_in_the_character_set_of_the_request(shared: Case) -> None:
    for asked, raw, answered in NAMES:
        elements = [
            (0x00080005, asked.encode()),
            (0x00080052, b"PATIENT"),
            (0x00100010, raw),
            (0x00100020, shared.number.encode()),
        ]
        query = b"".join(
            struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(even(value, b" "))) + even(value, b" ") for tag, value in elements
        )
        found = [matched for matched in raw_find(shared, PATIENT, query) if matched.Status == 0xFF00]
        assert len(found) == 1, asked
        answer = decode(found[0].Identifier, True, True)
        assert (answer.SpecificCharacterSet, str(answer.PatientName)) == (answered, "MÜLLER^ZOË")


def raw_find(case: Case, model: Any, *identifiers: bytes) -> list[C_FIND]:
    """The responses to C-FIND requests with these identifiers, which are implicit VR little endian."""
    answers: list[C_FIND] = []
    with case.association("WORKSTATION", contexts=[(model, [ImplicitVRLittleEndian])]) as association:
        association._reactor_checkpoint.clear()
        for number, identifier in enumerate(identifiers, 1):
            request = C_FIND()
            request.MessageID, request.AffectedSOPClassUID, request.Priority = number, model, 0
            request.Identifier = BytesIO(identifier)
            association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
            while True:
                _, answer = association.dimse.get_msg(block=True)
                answers.append(answer)
                if answer is None or answer.Status not in (0xFF00, 0xFF01):
                    break
        association._reactor_checkpoint.set()
    return answers


KEYS = [
    ({"StudyDate": "20260101-20260131"}, 1),
    ({"StudyDate": "-20260201"}, 1),
    ({"StudyDate": "20260301"}, 1),
    ({"StudyDate": "20260101-20260401", "StudyTime": "0830-0930"}, 1),  # two keys, not one moment
    ({"StudyDate": "20260101-20260401", "StudyTime": "235959-"}, 0),
    ({"StudyDescription": "TC*"}, 2),
    ({"StudyDescription": "T? TORACE"}, 2),
    ({"ModalitiesInStudy": "CT\\MR"}, 2),
    ({"ModalitiesInStudy": "US"}, 0),
    ({"PatientBirthDate": "19510314", "PatientSex": "F"}, 2),
    ({"PatientBirthDate": "19510315"}, 0),
    ({"AccessionNumber": "*"}, 2),
    ({"PatientName": "*"}, 2),
]


def test_keys_are_matched_as_the_standard_has_them(shared: Case) -> None:
    for keys, count in KEYS:
        found, status = shared.find(QueryRetrieveLevel="STUDY", PatientID=shared.number, StudyInstanceUID="", **keys)
        assert (status.Status, len(found)) == (0x0000, count), keys


def test_lists_of_uids_and_sequences_are_matched_and_what_is_not_known_is_said(shared: Case) -> None:
    listed = [film.StudyInstanceUID for film in shared.films] + [generate_uid() for _ in range(120)]
    found, status = shared.find(STUDY, QueryRetrieveLevel="STUDY", StudyInstanceUID=listed, PatientID="")
    assert (len(found), status.Status) == (2, 0x0000)
    item = Dataset()
    item.CodeValue = "NOT-THERE"
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID, query.ProcedureCodeSequence = "STUDY", "", [item]
    with shared.association("WORKSTATION", STUDY) as association:
        assert [status.Status for status, _ in association.send_c_find(query, STUDY)] == [0x0000]
        query.ProcedureCodeSequence, query.PatientID, query.Occupation = [], shared.number, "NURSE"
        answers = list(association.send_c_find(query, STUDY))
    assert [status.Status for status, _ in answers] == [0xFF01, 0xFF01, 0x0000]
    assert "Occupation" not in answers[0][1]


REFUSED = {
    "no level": (STUDY, {"StudyInstanceUID": "1.2.3"}, 0xA900),
    "a level that is none": (STUDY, {"QueryRetrieveLevel": "FRAME"}, 0xA900),
    "patients below the root of studies": (STUDY, {"QueryRetrieveLevel": "PATIENT", "PatientID": "1"}, 0xA900),
    "relational: series of no study": (STUDY, {"QueryRetrieveLevel": "SERIES", "Modality": "CT"}, 0xA900),
    "relational: series of a patient": (PATIENT, {"QueryRetrieveLevel": "SERIES", "PatientID": "1"}, 0xA900),
    "relational: studies of any patient": (PATIENT, {"QueryRetrieveLevel": "STUDY", "StudyDate": "20260301"}, 0xA900),
    "images of any series": (STUDY, {"QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": "1.2.3"}, 0xA900),
    "a list of studies above": (STUDY, {"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": ["1.2.3", "1.2.4"]}, 0xA900),
    "a date that is none": (STUDY, {"QueryRetrieveLevel": "STUDY", "AcquisitionNumber": "", "StudyDate": "yesterday"}, 0xA900),
    "a time that is none, beside a date": (
        STUDY, {"QueryRetrieveLevel": "STUDY", "StudyDate": "20260101-20260102", "StudyTime": "noon-"}, 0xA900,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_match_the_sop_class_is_refused_with_the_reason(case: Case, name: str) -> None:
    model, keys, expected = REFUSED[name]
    query = Dataset()
    for keyword, value in keys.items():
        query.add(DataElement(tag_for_keyword(keyword), dictionary_VR(keyword), value, validation_mode=IGNORE))
    with case.association("WORKSTATION", model) as association:
        *_, (status, _) = association.send_c_find(query, model)
    assert status.Status == expected
    if expected:
        assert status.ErrorComment


def test_a_worklist_is_refused_in_the_negotiation(case: Case) -> None:
    ae = AE("WORKSTATION")
    ae.add_requested_context(ModalityWorklistInformationFind, PLAIN)
    ae.add_requested_context(STUDY, PLAIN)
    association = ae.associate("127.0.0.1", case.place.port, ae_title="CONTENITORE")
    assert [
        (rejected_context.abstract_syntax, rejected_context.result) for rejected_context in association.rejected_contexts
    ] == [(ModalityWorklistInformationFind, 3)]
    association.release()


def test_a_hostile_identifier_harms_nobody(case: Case) -> None:
    deep = b"\x40\x00\x75\x02\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff\x40\x00\x75\x02\xff\xff\xff\xff" * 3000
    large = b"\x20\x00\x0d\x00" + struct.pack("<L", 300_000) + b"1" * 300_000
    cut = b"\x08\x00\x52\x00\xff\x00\x00\x00STUDY "
    klingon = b"\x08\x00\x05\x00\x08\x00\x00\x00KLINGON \x08\x00\x52\x00\x06\x00\x00\x00STUDY "
    identifiers = (deep, large, cut, b"\xff" * 64, b"\x08\x00\x52\x00\x00\x00\x00\x00", klingon)
    for identifier, answer in zip(identifiers, raw_find(case, STUDY, *identifiers), strict=True):
        assert answer is not None and answer.Status in (0xA700, 0xA900, 0xC001), (identifier[:20], answer)
    for size, expected in ((256 * 1024, 0xA900), (256 * 1024 + 2, 0xA700)):  # it names no level
        (answer,) = raw_find(case, STUDY, b"\x20\x00\x0d\x00" + struct.pack("<L", size - 8) + b"1" * (size - 8))
        assert answer is not None and answer.Status == expected
    found, status = case.find(STUDY, QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3.4.5")
    assert (found, status.Status) == ([], 0x0000)


def test_another_hospitals_number_is_not_ours_although_it_reads_the_same(case: Case) -> None:
    """Both hospitals have given one number, to two people."""
    number = case.number
    ours = by_api.image(by_api.Patient("ROSSI^MARIO"), "maugeri", PatientID=number)
    theirs = by_api.image(by_api.Patient("BIANCHI^ADA"), "san-matteo", PatientID=number)
    case.send(ours, owner="maugeri")
    case.send(theirs)
    local = by_api.Patient()
    body = {"patient": {"id": number}, "to": "maugeri", "reason": "rehabilitation"}
    transfer = case.city.client("san-matteo").post("/transfers", json=body).json()["id"]
    by_api.accept(case.city, transfer, local)
    by_api.wait_for_studies(case.city, local, 1)
    found, _ = case.find(QueryRetrieveLevel="PATIENT", PatientID=number, PatientName="")
    assert [str(answer.PatientName) for answer in found] == ["ROSSI^MARIO"]
    found, _ = case.find(QueryRetrieveLevel="PATIENT", PatientID=local.at["maugeri"], PatientName="")
    assert [(dataset.PatientID, str(dataset.PatientName)) for dataset in found] == [(local.at["maugeri"], "BIANCHI^ADA")]
    came, _ = case.get(PatientRootQueryRetrieveInformationModelGet, QueryRetrieveLevel="PATIENT", PatientID=number)
    assert [ds.SOPInstanceUID for ds in came] == [ours.SOPInstanceUID]
    came, answers = case.get(
        PatientRootQueryRetrieveInformationModelGet, QueryRetrieveLevel="STUDY", PatientID=number,
        StudyInstanceUID=theirs.StudyInstanceUID,
    )  # fmt: skip
    assert (came, answers[-1][0].Status, answers[-1][0].NumberOfCompletedSuboperations) == ([], 0x0000, 0)


def test_nothing_is_answered_once_the_transfer_has_ended(shared: Case) -> None:
    client = shared.city.client("maugeri")
    (transfer,) = client.get(f"/patients/{shared.number}/timeline").json()["transfers"]
    assert client.delete(f"/transfers/{transfer['id']}").status_code == 200
    film = shared.films[0]
    assert shared.find(QueryRetrieveLevel="PATIENT", PatientID=shared.number)[0] == []
    keys = {"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": film.StudyInstanceUID, "SeriesInstanceUID": ""}
    assert shared.find(STUDY, **keys)[0] == []
    came, answers = shared.get(QueryRetrieveLevel="STUDY", StudyInstanceUID=film.StudyInstanceUID)
    assert (came, answers[-1][0].Status) == ([], 0x0000)


def test_the_audit_names_the_workstation(shared: Case) -> None:
    shared.find(QueryRetrieveLevel="STUDY", PatientID=shared.number, StudyInstanceUID="")
    shared.get(QueryRetrieveLevel="STUDY", StudyInstanceUID=shared.films[0].StudyInstanceUID)
    number = shared.patient.at["san-matteo"]
    events = shared.city.client("san-matteo").get(f"/audit?patient={number}").text
    assert "WORKSTATION" in events


def test_what_fails_is_counted_and_listed(shared: Case) -> None:
    refused = str(shared.films[0].SOPInstanceUID)
    keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": shared.films[0].StudyInstanceUID}
    _, answers = shared.get(answer=lambda ds: 0xC123 if ds.SOPInstanceUID == refused else 0x0000, **keys)
    status, failed = answers[-1]
    assert (status.Status, status.NumberOfCompletedSuboperations, status.NumberOfFailedSuboperations) == (0xB000, 1, 1)
    assert failed.FailedSOPInstanceUIDList == refused
    for warning in (0xB007, 0xB123, 0x0001, 0x0107, 0x0116):
        _, answers = shared.get(answer=lambda ds, warning=warning: warning, **keys)
        assert (answers[-1][0].Status, answers[-1][0].NumberOfWarningSuboperations) == (0xB000, 2)
    _, answers = shared.get(answer=lambda ds: 0xA700, **keys)
    assert (answers[-1][0].Status, len(answers[-1][1].FailedSOPInstanceUIDList)) == (0xA702, 2)
    model = StudyRootQueryRetrieveInformationModelMove
    with shared.association("WORKSTATION", model) as association:
        query = Dataset()
        query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", shared.films[0].StudyInstanceUID
        *_, (status, failed) = association.send_c_move(query, "FINDSCU", model)  # where nobody listens
    assert (status.Status, status.NumberOfFailedSuboperations, len(failed.FailedSOPInstanceUIDList)) == (0xA702, 2, 2)
    assert shared.place.state()["queries"]["failed"] == 1 + 0 + 2


def test_a_find_that_is_cancelled_says_so(case: Case) -> None:
    films = [case.prior() for _ in range(8)]
    case.send(*films)
    by_api.transfer(case.city, case.patient)
    by_api.wait_for_studies(case.city, case.patient, 8)
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID, query.PatientID = "STUDY", "", case.number
    with case.association("WORKSTATION", STUDY) as association:
        answers = association.send_c_find(query, STUDY)
        association.send_c_cancel(1, None, STUDY)
        statuses = [status.Status for status, _ in answers]
        assert statuses[-1] == 0xFE00
        assert [status.Status for status, _ in association.send_c_find(query, STUDY)] == [0xFF00] * 8 + [0x0000]


def test_without_the_archive_the_answer_says_so(tmp_path: Path) -> None:
    peers = [{"ae_title": "WORKSTATION", "host": "127.0.0.1", "port": 104}]
    place = hospital(tmp_path, "http://127.0.0.1:9", archive__profile="maugeri", peers=peers)
    with running(place.config()):
        ae = AE("WORKSTATION")
        ae.add_requested_context(STUDY, PLAIN)
        association = ae.associate("127.0.0.1", place.port, ae_title="CONTENITORE")
        query = Dataset()
        query.QueryRetrieveLevel = "STUDY"
        ((status, _),) = association.send_c_find(query, STUDY)
        association.release()
    assert (status.Status, status.ErrorComment) == (0xC002, "the archive does not answer: network")


def test_over_tls_a_peer_is_known_by_its_certificate(city: RunningCity, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    pair = authority.issue("forwarder")
    port = free_port()
    peers = [{"ae_title": "WORKSTATION", "host": "192.0.2.1", "port": 104, "certificate": "Workstation"}]
    tls = {"dicom__tls__port": port, "dicom__tls__certificate": str(pair.certificate), "dicom__tls__key": str(pair.key),
           "dicom__tls__ca_file": str(authority.pem)}  # fmt: skip
    place = hospital(tmp_path, city.api, **{"archive__profile": "maugeri", "peers": peers, **tls})
    with running(place.config()):
        for name, expected in (("workstation", True), ("another", False)):
            ae = AE("WORKSTATION")
            ae.add_requested_context(STUDY, PLAIN)
            ae.add_requested_context(CTImageStorage, PLAIN)
            association = ae.associate(
                "127.0.0.1", port, ae_title="CONTENITORE", tls_args=(client_context(authority, authority.issue(name)), None)
            )
            assert (STUDY in [accepted_context.abstract_syntax for accepted_context in association.accepted_contexts]) is expected
            association.release()
        case = Case(city, place, by_api.Patient())
        film = by_api.image(case.patient, "maugeri", "RG1_UNCR.dcm")  # 7 MB, in many PDUs
        case.send(film, owner="maugeri")
        came, answers = case.get(
            QueryRetrieveLevel="STUDY", StudyInstanceUID=film.StudyInstanceUID, port=port,
            tls_args=(client_context(authority, authority.issue("workstation")), None),
        )  # fmt: skip
        assert (answers[-1][0].Status, [ds.PixelData == film.PixelData for ds in came]) == (0x0000, [True])
        ae = AE("WORKSTATION")
        ae.add_requested_context(STUDY, PLAIN)
        assert not ae.associate("127.0.0.1", place.port, ae_title="CONTENITORE").is_established  # without TLS


def test_a_dozen_workstations_at_once_are_all_answered(shared: Case) -> None:
    def ask(_: int) -> tuple[int, int]:
        found, status = shared.find(QueryRetrieveLevel="STUDY", PatientID=shared.number, StudyInstanceUID="")
        return len(found), status.Status

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, range(24))) == [(2, 0x0000)] * 24


def test_the_hospitals_own_name_for_its_numbering_is_understood(shared: Case) -> None:
    keys = {"QueryRetrieveLevel": "PATIENT", "PatientID": shared.number}
    for issuer, answered in (("MAUGERI", "MAUGERI"), ("", "2.16.840.1.113883.2.9.99.2.4.1")):
        (found,), _ = shared.find(IssuerOfPatientID=issuer, **keys)
        assert found.IssuerOfPatientID == answered
    assert shared.find(IssuerOfPatientID="SANMATTEO", **keys)[0] == []
