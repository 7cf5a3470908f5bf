"""DICOMweb at the hospital's door: what viewers that cannot sign get, and under whose name."""

from __future__ import annotations

import http.client
import io
import random
import socket
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pydicom
import pytest
import requests
from dicomweb_client import DICOMwebClient
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from tests.forwarder.certificates import Authority, client_context
from tests.forwarder.images import ct_slice
from tests.harness import wait_until
from tests.integration.door.doors import MAUGERI, MONDINO, SAN_MATTEO, Doors, Patient, Staff
from tests.sharing.images import image


def written(instance: pydicom.Dataset) -> bytes:
    """A Part 10 file of it."""
    out = io.BytesIO()
    instance.save_as(out, enforce_file_format=True)
    return out.getvalue()


@pytest.fixture(scope="module")
def shared(doors: Doors) -> Patient:
    patient = Patient(doors)
    patient.arrives()
    patient.transferred()
    wait_until(lambda: doors.city.client(MAUGERI).get(f"/dicomweb/studies?StudyInstanceUID={patient.prior}").json())
    return patient


@pytest.fixture
def radiologist(doors: Doors) -> Staff:
    return doors.staff(MAUGERI, "m.rossi", "radiology")


@pytest.fixture(scope="module")
def large(doors: Doors) -> str:
    """The Study Instance UID of an image that no function's answer can hold."""
    return a_large_one(doors)


def a_large_one(doors: Doors) -> str:
    """Send another such image; its Study Instance UID."""
    study = generate_uid()
    made = pydicom.Dataset()
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    made.PatientID, made.PatientName, made.Modality = "MA-LARGE", "Grande^Ida", "OT"
    made.StudyInstanceUID, made.SeriesInstanceUID = study, generate_uid()
    made.Rows = made.Columns = 3000
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    made.PixelData = bytes(range(250)) * (3000 * 3000 // 250)
    out = io.BytesIO()
    pydicom.dcmwrite(out, made, enforce_file_format=True)
    doors.send(MAUGERI, out.getvalue())
    return str(study)


def instance_of(staff: Staff, study: str, **query: str) -> str:
    """The path of the study's first instance."""
    found = staff.get(f"/dicomweb/studies/{study}/instances", params=query).json()
    assert found, study
    url = found[0]["00081190"]["Value"][0]
    return str(url.removeprefix(staff.door))


class TestWhoMayAsk:
    @pytest.mark.parametrize(
        ("name", "roles", "status"),
        [
            (None, (), 401), (None, ("radiology",), 401), ("m.rossi", (), 403),
            ("m.rossi", ("registry", "admin", "privacy"), 403), ("m.rossi", ("RADIOLOGY",), 200),
            ("m.rossi, root", ("radiology",), 403), ("x" * 65, ("radiology",), 403),
            ("r\xf2ssi", ("radiology",), 403),
        ],
    )  # fmt: skip
    def test_only_a_named_person_with_the_role_is_answered(self, doors: Doors, name, roles, status):
        answer = doors.staff(MAUGERI, name, *roles).get("/dicomweb/studies", params={"limit": "1"})
        assert answer.status_code == status
        if status != 200:
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert "m.rossi" not in answer.text

    def test_a_second_name_beside_the_proxys_is_refused(self, doors: Doors):
        parts = urlsplit(doors.endpoints(MAUGERI)["page"])
        line = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        line.putrequest("GET", "/dicomweb/studies")
        for name, value in (("X-Remote-User", "m.rossi"), ("X-Remote-User", "root"), ("X-Remote-Roles", "radiology")):
            line.putheader(name, value)
        line.endheaders()
        assert line.getresponse().status == 403
        line.close()

    def test_who_read_stands_in_the_archives_audit(self, doors: Doors, shared: Patient):
        path = f"/dicomweb/studies/{shared.prior}/metadata"
        assert doors.staff(MAUGERI, "dr.verdi-7", "radiology").get(path).status_code == 200
        wait_until(lambda: "dr.verdi-7" in doors.audit(SAN_MATTEO, shared.number))

    def test_what_is_not_shared_looks_as_what_is_not_there(self, doors: Doors, shared: Patient):
        stranger = doors.staff(MONDINO, "m.rossi", "radiology")
        answers = [stranger.get(f"/dicomweb/studies/{study}/metadata") for study in (shared.prior, "1.2.3.4.5")]
        assert [answer.status_code for answer in answers] == [404, 404]
        bodies = [{**answer.json(), "request_id": ""} for answer in answers]
        assert bodies[0] == bodies[1]

    @pytest.mark.parametrize(
        "path",
        [
            "/../audit",
            "/%2e%2e/audit",
            "/studies/..%2f..%2faudit",
            "/studies//instances",
            "/studies/%00",
            "/./x",
            "/studies/.%2e/x",
        ],
    )
    def test_no_path_leads_out_of_the_service(self, doors: Doors, path: str):
        parts = urlsplit(doors.endpoints(SAN_MATTEO)["page"])
        line = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        line.request("GET", "/dicomweb" + path, headers={"X-Remote-User": "m.rossi", "X-Remote-Roles": "radiology"})
        answer = line.getresponse()
        assert answer.status in (400, 404)
        assert b"AuditEvent" not in answer.read()
        line.close()

    def test_a_page_of_another_origin_cannot_have_a_browser_store(self, radiologist: Staff):
        answer = radiologist.post("/dicomweb/studies", data=b"", headers={"Origin": "https://evil.example"})
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:contenitore:problem:other-origin")

    @pytest.mark.parametrize(
        ("method", "path", "kind", "name", "status", "slug"),
        [
            ("GET", "/studies", "", None, 401, "no-identity"), ("GET", "/studies", "", "r\xf2ssi", 403, "unusable-name"),
            ("GET", "/nothing", "", "m.rossi", 404, "no-such-resource"),
            ("DELETE", "/studies", "", "m.rossi", 405, "method-not-allowed"),
            ("POST", "/studies", 'multipart/related; type="application/dicom"; boundary=x', "m.rossi", 400, "bad-multipart"),
        ],
    )  # fmt: skip
    def test_a_refusal_has_all_that_the_contract_says(self, doors: Doors, method, path, kind, name, status, slug):
        staff = doors.staff(MAUGERI, name, "radiology")
        headers = {"Content-Type": kind} if kind else {}
        answers = [
            staff.request(method, f"/dicomweb{path}", data=iter([b"no part"]) if kind else b"", headers=headers) for _ in range(2)
        ]
        problems = [answer.json() for answer in answers]
        for answer, told in zip(answers, problems, strict=True):
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert set(told) == {"type", "title", "status", "detail", "request_id"}
            assert (answer.status_code, told["status"], told["type"]) == (status, status, f"urn:contenitore:problem:{slug}")
            assert told["title"] and told["detail"]
        assert problems[0]["request_id"] != problems[1]["request_id"]

    def test_a_search_that_is_too_long_is_told_so_and_not_how_to_store(self, radiologist: Staff):
        answer = radiologist.get("/dicomweb/studies", params={"StudyInstanceUID": ",".join(["1.2.840.113619.2.55.3"] * 600)})
        assert (answer.status_code, answer.json()["type"]) == (414, "urn:contenitore:problem:address-too-long")
        assert "uploads" not in answer.text

    def test_a_search_in_another_encoding_than_utf_8_is_refused_by_the_parameters_name(self, doors: Doors, radiologist: Staff):
        search = "/dicomweb/studies?PatientName=M%FCller*"
        for answer in (radiologist.get(search), doors.city.client(MAUGERI).get(search)):
            assert (answer.status_code, answer.json()["parameter"]) == (400, "PatientName")


class TestWhatIsAnswered:
    def test_no_address_of_the_archive_is_in_a_warning(self, shared: Patient, radiologist: Staff):
        for path in ("/dicomweb/studies", f"/dicomweb/studies/{shared.prior}/instances"):
            answer = radiologist.get(path, params={"limit": "1"})
            assert answer.headers["Warning"].startswith(f"299 {radiologist.door}/dicomweb: ")

    def test_no_address_of_the_archive_or_the_store_is_in_what_viewers_get(self, doors, shared, radiologist):
        elsewhere = [doors.city.api.encode(), doors.city.s3.encode()]
        instance = instance_of(radiologist, shared.prior, owner=SAN_MATTEO).partition("?")[0]
        wanted = [
            ("/dicomweb/studies", "application/dicom+json"),
            (f"/dicomweb/studies/{shared.prior}/series", "application/dicom+json"),
            (f"/dicomweb/studies/{shared.prior}/metadata", "application/dicom+json"),
            (f"/dicomweb/studies/{shared.prior}/metadata", 'multipart/related; type="application/dicom+xml"'),
            (instance, 'multipart/related; type="application/dicom"'),
            (f"{instance}/bulkdata/7FE00010", 'multipart/related; type="application/octet-stream"'),
            (f"{instance}/frames/1", 'multipart/related; type="application/octet-stream"'),
            (f"/dicomweb/studies/{shared.prior}/bulkdata", 'multipart/related; type="application/octet-stream"'),
        ]
        for path, accept in wanted:
            answer = radiologist.get(path, headers={"Accept": accept})
            assert answer.status_code == 200, (path, answer.text)
            assert not any(address in answer.content for address in elsewhere), path
            assert not any(address.decode() in value for address in elsewhere for value in answer.headers.values()), path
            if "bulkdata" in path or "frames" in path:
                assert f"Content-Location: {radiologist.door}/dicomweb/studies/".encode() in answer.content, path

    def test_addresses_in_metadata_lead_back_through_this_door(self, shared: Patient, radiologist: Staff):
        metadata = radiologist.get(f"/dicomweb/studies/{shared.prior}/metadata").json()
        address = metadata[0]["7FE00010"]["BulkDataURI"]
        assert address.startswith(radiologist.door + "/dicomweb/")
        answer = radiologist.get(address, headers={"Accept": "application/octet-stream"})
        assert (answer.status_code, answer.content) == (200, bytes(64))

    def test_behind_a_reverse_proxy_addresses_are_as_people_reach_it(self, doors: Doors, shared: Patient):
        answer = doors.staff(MAUGERI, "m.rossi", "radiology").get("/dicomweb/studies", headers={"Host": "immagini.example:8443"})
        assert "http://immagini.example:8443/dicomweb/studies/" in answer.text
        odd = doors.staff(MAUGERI, "m.rossi", "radiology").get("/dicomweb/studies", headers={"Host": 'x"y'})
        assert odd.status_code == 400

    @pytest.mark.parametrize(
        "asked",
        ["GET /dicomweb/studios", "POST /dicomweb/workitems", "GET /dicomweb/studies/1.2/patients", "GET /dicomweb/series/1.2"],
    )
    def test_what_the_archive_does_not_have_is_not_found_and_no_failure_of_the_line(self, radiologist: Staff, asked: str):
        answer = radiologist.request(*asked.split(), data=b"--x--", headers={"Content-Type": "application/dicom+json"})
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:contenitore:problem:no-such-resource")

    @pytest.mark.parametrize(
        ("asked", "allowed"),
        [
            ("POST /dicomweb", "OPTIONS"), ("GET /dicomweb/", "OPTIONS"), ("DELETE /dicomweb/studies/1.2", "GET, HEAD, POST"),
            ("POST /dicomweb/studies/1.2/series", "GET, HEAD"), ("OPTIONS /dicomweb/studies", "GET, HEAD, POST"),
        ],
    )  # fmt: skip
    def test_a_method_that_a_resource_does_not_have_is_told_which_it_has(self, radiologist: Staff, asked: str, allowed: str):
        answer = radiologist.request(*asked.split(), data=b"--x--", headers={"Content-Type": "application/dicom+json"})
        assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)

    def test_instances_are_bit_for_bit_what_was_sent(self, shared: Patient, radiologist: Staff):
        path = f"/dicomweb/studies/{shared.prior}/series/{shared.prior}.1/instances/{shared.prior}.1.1"
        answer = radiologist.get(path, params={"owner": SAN_MATTEO}, headers={"Accept": "application/dicom"})
        assert answer.content == image(shared.number, shared.prior, 1)

    def test_an_unchanged_study_is_not_sent_again(self, shared: Patient, radiologist: Staff):
        path = f"/dicomweb/studies/{shared.prior}/metadata"
        tag = radiologist.get(path).headers["ETag"]
        again = radiologist.get(path, headers={"If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b"")

    def test_head_has_no_body(self, shared: Patient, radiologist: Staff):
        answer = radiologist.head(f"/dicomweb/studies/{shared.prior}/metadata")
        assert (answer.status_code, answer.content) == (200, b"")

    @pytest.mark.parametrize(
        "query",
        ["PatientName=*ADA*&limit=5", "PatientName=Bianchi%5EAda", "StudyDate=20250101-20271231&ModalitiesInStudy=CT",
         "00100010=Bianchi^A*&includefield=all&fuzzymatching=false", "includefield=00081030,00080050&PatientName=Bianchi%5EAd%3F",
         "PatientName=Bianchi+*"],
    )  # fmt: skip
    def test_queries_as_viewers_write_them_are_understood(self, shared: Patient, radiologist: Staff, query: str):
        answer = radiologist.get(f"/dicomweb/studies?{query}")
        assert answer.status_code == 200, answer.text

    def test_the_service_describes_itself_under_this_address(self, radiologist: Staff):
        answer = radiologist.request("OPTIONS", "/dicomweb")
        assert answer.status_code == 200
        assert f'base="{radiologist.door}/dicomweb"' in answer.text

    def test_what_is_in_a_body_cannot_act_on_the_staffs_pages(self, shared: Patient, radiologist: Staff):
        answer = radiologist.get(f"/dicomweb/studies/{shared.prior}/metadata")
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


class TestClients:
    def test_dicomweb_client_finds_reads_and_stores(self, doors: Doors, shared: Patient):
        headers = {"X-Remote-User": "m.rossi", "X-Remote-Roles": "radiology"}
        client = DICOMwebClient(doors.endpoints(MAUGERI)["dicomweb"], headers=headers)
        assert any(result["0020000D"]["Value"] == [shared.prior] for result in client.search_for_studies())
        metadata = client.retrieve_study_metadata(shared.prior)
        uids = (shared.prior, f"{shared.prior}.1", f"{shared.prior}.1.1")
        assert len(metadata) == 2
        assert client.retrieve_instance(*uids).PatientName == "Bianchi^Ada"
        assert client.retrieve_instance_frames(*uids, frame_numbers=[1]) == [bytes(64)]
        assert client.retrieve_bulkdata(metadata[0]["7FE00010"]["BulkDataURI"]) == [bytes(64)]
        made = pydicom.dcmread(io.BytesIO(image("MA-STOW", study := f"{shared.prior}.77")))
        stored = client.store_instances([made])
        assert doors.endpoints(MAUGERI)["dicomweb"] in stored.ReferencedSOPSequence[0].RetrieveURL
        wait_until(lambda: client.search_for_studies(search_filters={"StudyInstanceUID": study}))

    def test_ohif_opens_a_study_by_its_own_requests(self, shared: Patient, radiologist: Staff):
        """As @ohif/extension-default's DICOMweb data source asks: QIDO with includefield, series metadata, frames by XHR."""
        fields = {"limit": "101", "offset": "0", "fuzzymatching": "false", "includefield": "00081030,00080060"}
        (study,) = radiologist.get("/dicomweb/studies", params=fields | {"StudyInstanceUID": shared.prior}).json()
        series = radiologist.get(f"/dicomweb/studies/{shared.prior}/series", params={"includefield": "0008103E,00080021"}).json()
        uid = series[0]["0020000E"]["Value"][0]
        metadata = radiologist.get(f"/dicomweb/studies/{shared.prior}/series/{uid}/metadata").json()
        sop = metadata[0]["00080018"]["Value"][0]
        frame = radiologist.get(
            f"/dicomweb/studies/{shared.prior}/series/{uid}/instances/{sop}/frames/1",
            headers={"Accept": "multipart/related; type=application/octet-stream; transfer-syntax=*"},
        )
        assert study["0020000D"]["Value"] == [shared.prior]
        assert (frame.status_code, bytes(64) in frame.content) == (200, True)

    def test_weasis_reads_by_wado_uri_and_slicer_by_whole_series(self, shared: Patient, radiologist: Staff):
        uri = {
            "requestType": "WADO", "studyUID": shared.prior, "seriesUID": f"{shared.prior}.1", "objectUID": f"{shared.prior}.1.2",
            "contentType": "application/dicom", "transferSyntax": "*",
        }  # fmt: skip
        weasis = radiologist.get("/dicomweb/wado", params=uri, headers={"Accept": "application/dicom, */*"})
        assert (weasis.status_code, weasis.content) == (200, image(shared.number, shared.prior, 2))
        slicer = radiologist.get(
            f"/dicomweb/studies/{shared.prior}/series/{shared.prior}.1",
            headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'},
        )
        assert slicer.status_code == 200
        assert all(image(shared.number, shared.prior, number) in slicer.content for number in (1, 2))

    def test_weasis_follows_what_it_is_told_from_a_study_to_every_instance(self, shared: Patient, radiologist: Staff):
        """As its RsQueryResult does: what it asks next it puts together from the Retrieve URL of the answer before."""
        study_fields = (
            "00080020,00080030,00080050,00080061,00080090,00081030,00100010,00100020,00100021,00100030,00100040,0020000D,00200010"
        )
        (study,) = radiologist.get(f"/dicomweb/studies?0020000D={shared.prior}&includefield={study_fields}").json()
        assert study["00201208"]["Value"] == [2]
        path = f"/dicomweb/studies/{shared.prior}/series?includefield=0008103E,00080060,0020000E,00200011,00081190"
        came = set()
        for series in radiologist.get(path).json():
            address = series["00081190"]["Value"][0]
            instances = radiologist.get(address + "/instances?includefield=00080018,00200013,00081190")
            assert instances.status_code == 200, (address, instances.text)
            for instance in instances.json():
                url = instance["00081190"]["Value"][0]
                assert url.startswith(radiologist.door)
                accept = 'multipart/related;type="application/dicom";transfer-syntax=*'
                answer = radiologist.get(url, headers={"Accept": accept})
                assert answer.status_code == 200 and answer.headers["Content-Type"].startswith("multipart/related")
                assert image(shared.number, shared.prior, int(instance["00200013"]["Value"][0])) in answer.content
                came.add(instance["00080018"]["Value"][0])
        assert len(came) == 2

    def test_slicer_pages_through_the_studies_to_the_end_and_fetches_instance_by_instance(self, doors: Doors, shared: Patient):
        """As its DICOMweb browser does: the next page begins where the last one ended, until one is empty."""
        headers = {"X-Remote-User": "m.rossi", "X-Remote-Roles": "radiology"}
        client = DICOMwebClient(doors.endpoints(MAUGERI)["dicomweb"], headers=headers)
        studies: list[str] = []
        while page := client.search_for_studies(offset=len(studies)):
            uids = [study["0020000D"]["Value"][0] for study in page]
            assert not set(uids) & set(studies)
            studies += uids
        assert shared.prior in studies
        (series,) = client.search_for_series(shared.prior)
        uid = series["0020000E"]["Value"][0]
        for instance in client.search_for_instances(study_instance_uid=shared.prior, series_instance_uid=uid):
            came = client.retrieve_instance(shared.prior, uid, instance["00080018"]["Value"][0])
            assert came.PixelData == bytes(64)


class TestLargeBodies:
    def test_what_lies_in_the_store_comes_through_the_door_and_the_second_time_from_its_disk(self, doors: Doors, radiologist):
        path, accept = instance_of(radiologist, a_large_one(doors)), {"Accept": "application/dicom"}
        first = radiologist.get(path, headers=accept)
        assert (first.status_code, first.headers["Cache-Status"]) == (200, "contenitore; fwd=miss")
        again = radiologist.get(path, headers=accept)
        assert (again.status_code, again.headers["Cache-Status"]) == (200, "contenitore; hit")
        assert first.content == again.content
        assert again.headers["ETag"] == first.headers["ETag"]
        assert radiologist.get(path, headers=accept | {"If-None-Match": again.headers["ETag"]}).status_code == 304

    def test_a_small_image_comes_from_the_disk_too_once_the_archive_has_said_that_it_is_the_same(
        self, doors, shared, radiologist
    ):
        path = f"/dicomweb/studies/{shared.prior}/series/{shared.prior}.1/instances/{shared.prior}.1.1/frames/1"
        accept = {"Accept": 'multipart/related; type="application/octet-stream"'}
        first = radiologist.get(path, headers=accept)
        again = radiologist.get(path, headers=accept)
        assert (again.status_code, again.headers["Cache-Status"]) == (200, "contenitore; hit")
        assert again.content == first.content and bytes(64) in again.content
        assert radiologist.get(path, headers=accept | {"If-None-Match": again.headers["ETag"]}).status_code == 304

    def test_nothing_comes_from_the_disk_once_it_may_not_be_seen(self, doors: Doors):
        patient = Patient(doors)
        patient.arrives()
        transfer = patient.transferred()
        staff = doors.staff(MAUGERI, "m.rossi", "radiology")
        path = f"/dicomweb/studies/{patient.prior}/series/{patient.prior}.1/instances/{patient.prior}.1.1"
        for _ in range(2):
            assert staff.get(path, headers={"Accept": "application/dicom"}).status_code == 200
        doors.city.client(SAN_MATTEO).delete(f"/transfers/{transfer}")
        assert staff.get(path, headers={"Accept": "application/dicom"}).status_code == 404, "at once"

    def test_parts_are_answered_alike_by_the_store_and_from_the_disk(self, doors: Doors, radiologist: Staff, large: str):
        path, whole = instance_of(radiologist, large), None
        whole = radiologist.get(path, headers={"Accept": "application/dicom"}).content
        for asked, part in (("bytes=100-199", whole[100:200]), ("bytes=-50", whole[-50:]), ("bytes=8999000-", whole[8999000:])):
            answer = radiologist.get(path, headers={"Accept": "application/dicom", "Range": asked})
            assert (answer.status_code, answer.content) == (206, part)
            assert answer.headers["Content-Range"].endswith(f"/{len(whole)}")
        beyond = radiologist.get(path, headers={"Accept": "application/dicom", "Range": "bytes=99999999-"})
        assert beyond.status_code == 416

    def test_each_reading_is_recorded_also_of_what_comes_from_the_disk(self, doors: Doors, large: str):
        for name in ("first-reader", "second-reader"):
            staff = doors.staff(MAUGERI, name, "radiology")
            staff.get(instance_of(staff, large), headers={"Accept": "application/dicom"})
        trail = wait_until(lambda: (text := doors.audit(MAUGERI, "MA-LARGE")) and "second-reader" in text and text)
        assert "first-reader" in trail

    def test_the_disk_lets_go_when_a_transfer_ends(self, doors: Doors, shared: Patient, radiologist: Staff, large: str):
        path, accept = instance_of(radiologist, large), {"Accept": "application/dicom"}
        radiologist.get(path, headers=accept)
        assert radiologist.get(path, headers=accept).headers["Cache-Status"] == "contenitore; hit"
        other = Patient(doors)
        other.arrives()
        transfer = other.transferred()
        doors.city.client(MAUGERI).delete(f"/transfers/{transfer}")
        folder = doors.city.state / "forwarders" / MAUGERI / "spool" / "web"
        wait_until(lambda: not list(folder.iterdir()))

    def test_a_viewer_that_goes_away_frees_its_line_to_the_store(self, doors: Doors, radiologist: Staff, large: str):
        path = instance_of(radiologist, large)
        process = psutil.Process(doors.endpoints(MAUGERI)["pid"])
        parts = urlsplit(radiologist.door)
        held = []
        for _ in range(5):
            line = socket.create_connection((parts.hostname, parts.port), 20)
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.sendall(
                f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nX-Remote-User: m\r\nX-Remote-Roles: radiology\r\n"
                "Accept: application/dicom\r\nRange: bytes=0-8999999\r\n\r\n".encode()
            )
            assert line.recv(100).startswith(b"HTTP/1.1 20")
            held.append(line)
        port = int(urlsplit(doors.city.s3).port or 0)

        def to_store() -> int:
            return sum(
                1
                for net_connection in process.net_connections("tcp")
                if net_connection.raddr and net_connection.raddr.port == port
            )

        for line in held:
            line.close()
        wait_until(lambda: radiologist.get("/dicomweb/studies?limit=1").status_code == 200 and to_store() <= 32)

    def test_a_hundred_viewers_at_once_need_little_memory(self, doors: Doors, radiologist: Staff, large: str):
        path, process = instance_of(radiologist, large), psutil.Process(doors.endpoints(MAUGERI)["pid"])
        radiologist.get(path, headers={"Accept": "application/dicom"})
        before, peak, done = process.memory_info().rss, 0, threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.02):
                peak = max(peak, process.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()

        def read(_: int) -> int:
            with doors.staff(MAUGERI, "m.rossi", "radiology") as staff:
                answer = staff.get(path, headers={"Accept": "application/dicom"}, stream=True, timeout=300)
                assert answer.status_code == 200
                return sum(len(piece) for piece in answer.iter_content(65536))

        with ThreadPoolExecutor(100) as pool:
            sizes = set(pool.map(read, range(100)))
        done.set()
        watcher.join()
        assert sizes == {len(radiologist.get(path, headers={"Accept": "application/dicom"}).content)}
        assert peak - before < 80e6

    def test_what_is_larger_than_one_request_is_stored_all_the_same_and_each_instance_has_its_verdict(self, doors: Doors):
        """Two instances of 7 MB, one of another study, and a part that is none: to the store by presigned addresses."""
        radiologist = doors.staff(MONDINO, "m.rossi", "radiology")
        study = f"1.2.{uuid.uuid4().int % 10**12}"
        slices = [ct_slice(1, study=study), ct_slice(2, study=study), ct_slice(3, study=study + ".9")]
        for instance in slices:
            instance.Rows = instance.Columns = 1900
            instance.PixelData = random.Random(int(instance.InstanceNumber)).randbytes(2 * 1900 * 1900)
        contents = [*(written(instance) for instance in slices), b"%PDF-1.4 no instance"]
        kinds = ["application/dicom"] * 3 + ["application/pdf"]
        pieces = b"".join(
            b"--edge\r\nContent-Type: " + kind.encode() + b"\r\n\r\n" + content + b"\r\n"
            for kind, content in zip(kinds, contents, strict=True)
        )
        kind = 'multipart/related; type="application/dicom"; boundary=edge'
        headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
        answer = radiologist.post(f"/dicomweb/studies/{study}", data=pieces + b"--edge--\r\n", headers=headers, timeout=120)
        assert answer.status_code == 202, answer.text
        stored = answer.json()["00081199"]["Value"]
        assert [item["00081155"]["Value"][0] for item in stored] == [str(dataset.SOPInstanceUID) for dataset in slices[:2]]
        (other,) = answer.json()["00081198"]["Value"]
        assert other == {
            "00081150": {"vr": "UI", "Value": [str(slices[2].SOPClassUID)]},
            "00081155": {"vr": "UI", "Value": [str(slices[2].SOPInstanceUID)]},
            "00081197": {"vr": "US", "Value": [0xA901]},
        }
        assert answer.json()["0008119A"]["Value"] == [{"00081197": {"vr": "US", "Value": [0xC007]}}]
        assert answer.json()["00081190"]["Value"][0].endswith(f"/dicomweb/studies/{study}")
        back = radiologist.get(stored[0]["00081190"]["Value"][0], headers={"Accept": "application/dicom"}, timeout=60)
        assert contents[0] in back.content
        again = radiologist.post("/dicomweb/studies", data=iter([pieces + b"--edge--"]), headers=headers, timeout=120)  # chunked
        assert again.status_code == 202 and len(again.json()["00081199"]["Value"]) == 3  # once there, and of any study here
        assert doors.audit(MONDINO, str(slices[0].PatientID)).count("m.rossi") > 0
        broken = radiologist.post("/dicomweb/studies", data=iter([pieces]), headers=headers, timeout=60)
        assert broken.status_code == 400
        folder = Path(doors.endpoints(MONDINO)["config"]).parent / "spool" / "stow"
        assert not folder.exists() or not list(folder.iterdir())

    def test_a_body_that_is_larger_than_is_taken_is_refused_with_the_way_that_works(self, radiologist: Staff):
        kind = 'multipart/related; type="application/dicom+json"; boundary=x'
        answer = radiologist.post("/dicomweb/studies", data=bytes(11_000_000), headers={"Content-Type": kind})
        assert answer.status_code == 413
        assert "C-STORE" in answer.json()["title"]


class TestConfigured:
    @pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
    def test_only_the_named_web_viewers_may_read_from_a_browser_and_https_is_the_hospitals(self, doors: Doors, tmp_path):
        authority = Authority(tmp_path / "tls")
        pair = authority.issue("127.0.0.1")
        doors.with_site(
            MONDINO,
            f'[web]\nallowed_origins = ["https://viewer.example"]\ncertificate = "{pair.certificate}"\nkey = "{pair.key}"\n',
        )
        try:
            url = doors.endpoints(MONDINO)["dicomweb"].replace("http:", "https:") + "/studies"
            preflight = {
                "Origin": "https://viewer.example", "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": "authorization",
            }  # fmt: skip
            allowed = requests.options(url, headers=preflight, verify=False, timeout=60)
            assert (allowed.status_code, allowed.headers["Access-Control-Allow-Origin"]) == (200, "https://viewer.example")
            assert (
                requests.options(
                    url, headers=preflight | {"Origin": "https://evil.example"}, verify=False, timeout=60
                ).status_code
                == 400
            )
            who = {"X-Remote-User": "m.rossi", "X-Remote-Roles": "radiology"}
            read = requests.get(url, headers=who | {"Origin": "https://viewer.example"}, verify=False, timeout=60)
            assert read.headers["Access-Control-Allow-Origin"] == "https://viewer.example"
            other = requests.get(url, headers=who | {"Origin": "https://evil.example"}, verify=False, timeout=60)
            assert "Access-Control-Allow-Origin" not in other.headers
            context = client_context(authority, None)
            plain = socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), 20)
            with context.wrap_socket(plain) as line:
                assert line.version() in ("TLSv1.2", "TLSv1.3")
        finally:
            doors.put_back(MONDINO)
