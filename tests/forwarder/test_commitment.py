"""Storage commitment (PS3.4 J): the PACS asks, and is told once it is certain."""

from __future__ import annotations

import contextlib
import json
import socket
import time

import pytest
from fakes import FakeArchive
from hospital import Hospital, hospital, store, until
from images import ct_slice
from pydicom import Dataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
)
from pynetdicom import AE, evt
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import StorageCommitmentPushModel
from raw_dicom import (
    COMMITMENT,
    CT,
    EXPLICIT,
    IMPLICIT,
    RELEASE,
    Sender,
    command,
    context,
    p_data,
    request,
    status,
    store_command,
    store_request,
    user,
)
from senders import NOWHERE

from forwarder.dicom import commitment, scp
from forwarder.service import running
from forwarder.spool.journal import open_read_only
from forwarder.spool.spool import Spool

pytestmark = pytest.mark.usefixtures("credentials")


PACS = {"ae_title": "PACS", "host": "127.0.0.1", "port": 9}  # nobody answers there


class TestCommitment:
    """PS3.4 J: the PACS asks, and is told once it is certain."""

    def pacs(self, place: Hospital, reports: list) -> AE:
        ae = AE("PACS")
        ae.acse_timeout = ae.connection_timeout = ae.dimse_timeout = 10
        ae.add_requested_context(ct_slice().SOPClassUID, ExplicitVRLittleEndian)
        ae.add_requested_context(StorageCommitmentPushModel)
        return ae

    def handler(self, reports: list):
        def report(event):
            reports.append((event.event_type, event.event_information))
            return 0x0000, None

        return [(evt.EVT_N_EVENT_REPORT, report)]

    def ask(self, assoc, datasets: list[Dataset], transaction: str = "1.2.3.99") -> int:
        request = Dataset()
        request.TransactionUID = transaction
        request.ReferencedSOPSequence = []
        for ds in datasets:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
            request.ReferencedSOPSequence.append(item)
        status, _ = assoc.send_n_action(request, 1, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1")
        return status.Status

    def test_on_the_association_that_asked(self, archive: FakeArchive, tmp_path):
        place, reports = hospital(tmp_path, archive.url), []
        with running(place.config()):
            ae = self.pacs(place, reports)
            assoc = ae.associate("127.0.0.1", place.port, evt_handlers=self.handler(reports))
            assert assoc.send_c_store(ct_slice(1)).Status == 0x0000
            assert self.ask(assoc, [ct_slice(1)]) == 0x0000
            until(lambda: reports and not place.state()["commitments"]["open"])  # the answer to the report has come
            assoc.release()
        event_type, information = reports[0]
        assert event_type == 1
        assert information.TransactionUID == "1.2.3.99"
        assert [item.ReferencedSOPInstanceUID for item in information.ReferencedSOPSequence] == [ct_slice(1).SOPInstanceUID]

    def test_on_a_new_association_after_a_restart(self, archive: FakeArchive, tmp_path):
        reports: list = []
        listener = AE("PACS")
        listener.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        server = listener.start_server(("127.0.0.1", 0), block=False, evt_handlers=self.handler(reports))
        peer = {"ae_title": "PACS", "host": "127.0.0.1", "port": server.server_address[1]}
        place = hospital(tmp_path, archive.url, peers=[peer])
        archive.indexing_seconds = 3600
        try:
            with running(place.config()):
                assoc = self.pacs(place, reports).associate("127.0.0.1", place.port)
                assert assoc.send_c_store(ct_slice(1)).Status == 0x0000
                assert self.ask(assoc, [ct_slice(1)]) == 0x0000
                assoc.release()
                until(lambda: place.state()["at_archive"] == 1)
            assert not reports
            archive.indexing_seconds = 0
            with running(place.config()):
                until(lambda: reports)
        finally:
            server.shutdown()
        assert reports[0][0] == 1

    def test_a_peer_whose_name_cannot_be_resolved_holds_up_no_other(self, archive: FakeArchive, tmp_path, caplog):
        peer = {"ae_title": "PACS", "host": "pacs.invalid", "port": 104}
        place, reports = hospital(tmp_path, archive.url, peers=[peer]), []
        with running(place.config()):
            gone = self.pacs(place, reports).associate("127.0.0.1", place.port)
            assert gone.send_c_store(ct_slice(1)).Status == 0x0000
            until(lambda: place.settled(1))
            assert self.ask(gone, [ct_slice(1)]) == 0x0000
            gone.abort()
            until(lambda: "cannot be reached" in caplog.text)
            ae = self.pacs(place, reports)
            assoc = ae.associate("127.0.0.1", place.port, evt_handlers=self.handler(reports))
            assert self.ask(assoc, [ct_slice(1)], "1.2.3.100") == 0x0000
            until(lambda: any(information.TransactionUID == "1.2.3.100" for _, information in reports))
            assoc.release()

    def test_more_open_requests_and_references_than_can_be_kept_are_refused(self, archive: FakeArchive, tmp_path, monkeypatch):
        assert (commitment.OPEN_AT_MOST, scp.MOST_REFERENCES) == (1000, 100_000)
        monkeypatch.setattr(commitment, "OPEN_AT_MOST", 2)
        monkeypatch.setattr(scp, "MOST_REFERENCES", 3)
        place, reports = hospital(tmp_path, NOWHERE, peers=[PACS]), []
        with running(place.config()):
            assoc = self.pacs(place, reports).associate("127.0.0.1", place.port)
            assert assoc.send_c_store(ct_slice(1)).Status == 0x0000
            asked = [[ct_slice(n) for n in range(count)] for count in (3, 4, 1, 1)]
            statuses = [self.ask(assoc, some, f"1.2.3.{number}") for number, some in enumerate(asked)]
            assoc.release()
        assert statuses == [0x0000, 0x0213, 0x0000, 0x0213]

    def test_what_failed_is_named_with_its_reason(self, archive: FakeArchive, tmp_path):
        place, reports = hospital(tmp_path, archive.url), []
        archive.verdict = lambda sha256, body: (
            ("rejected", "truncated") if b"1.2.826.0.1.3680043.10.1.2.2" in body else ("indexed", None)
        )
        with running(place.config()):
            ae = self.pacs(place, reports)
            assoc = ae.associate("127.0.0.1", place.port, evt_handlers=self.handler(reports))
            for number in (1, 2):
                assert assoc.send_c_store(ct_slice(number)).Status == 0x0000
            until(lambda: place.settled(2))
            wrong_class = ct_slice(1)
            wrong_class.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
            assert self.ask(assoc, [ct_slice(1), ct_slice(2), ct_slice(3), wrong_class]) == 0x0000
            until(lambda: reports and not place.state()["commitments"]["open"])  # the answer to the report has come
            assoc.release()
        event_type, information = reports[0]
        assert event_type == 2
        assert [item.FailureReason for item in information.FailedSOPSequence] == [0x0110, 0x0112, 0x0119]

    @pytest.mark.parametrize("missing", ["SOPClassUID", "SOPInstanceUID"])
    @pytest.mark.parametrize("empty", [True, False])
    def test_a_reference_that_does_not_say_both_uids_is_refused(self, archive: FakeArchive, tmp_path, missing: str, empty: bool):
        place, reports = hospital(tmp_path, archive.url, peers=[PACS]), []
        asked, reference, whole = Dataset(), Dataset(), Dataset()
        for item in (reference, whole):
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = ct_slice(1).SOPClassUID, ct_slice(1).SOPInstanceUID
        if empty:
            setattr(reference, f"Referenced{missing}", "")
        else:
            delattr(reference, f"Referenced{missing}")
        asked.TransactionUID, asked.ReferencedSOPSequence = "1.2.3.99", [whole, reference]
        with running(place.config()):
            assoc = self.pacs(place, reports).associate("127.0.0.1", place.port)
            status, _ = assoc.send_n_action(asked, 1, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1")
            assoc.release()
            assert status.Status == 0x0115
            assert place.state()["commitments"]["open"] == 0

    def test_nothing_is_promised_while_the_archive_has_not_judged(self, archive: FakeArchive, tmp_path):
        place, reports = hospital(tmp_path, archive.url, peers=[PACS]), []
        archive.indexing_seconds = 3600
        with running(place.config()):
            assoc = self.pacs(place, reports).associate("127.0.0.1", place.port, evt_handlers=self.handler(reports))
            assert assoc.send_c_store(ct_slice(1)).Status == 0x0000
            assert self.ask(assoc, [ct_slice(1)]) == 0x0000
            until(lambda: place.state()["at_archive"] == 1)
            assert not reports
            archive.indexing_seconds = 0
            until(lambda: reports and not place.state()["commitments"]["open"])  # the answer to the report has come
            assoc.release()

    def listener(self, reports: list):
        """Who is told on an association of its own; its server and its `[[peers]]` entry as GOOD."""
        listener = AE("GOOD")
        listener.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        server = listener.start_server(("127.0.0.1", 0), block=False, evt_handlers=self.handler(reports))
        return server, {"ae_title": "GOOD", "host": "127.0.0.1", "port": server.server_address[1]}

    def asked_and_left(self, place: Hospital, calling: str, transaction: str) -> int:
        with Sender(place.port) as sender:
            sender.ask(request(context(1, COMMITMENT, IMPLICIT), calling=calling.encode()))
            answer = sender.send(commitment_request(1, ct_slice(1), transaction)).message()
            sender.send(RELEASE).pdu()
            return status(answer)

    def test_a_peer_that_says_nothing_delays_no_other(self, archive: FakeArchive, tmp_path):
        reports: list = []
        server, good = self.listener(reports)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            peers = [{"ae_title": "SILENT", "host": "127.0.0.1", "port": silent.getsockname()[1]}, good]
            place = hospital(tmp_path, archive.url, peers=peers)
            with running(place.config()):
                assert store(place, [ct_slice(1)]) == [0x0000]
                until(lambda: place.settled(1))
                assert [self.asked_and_left(place, "SILENT", f"1.2.{n}") for n in range(3)] == [0, 0, 0]
                silent.settimeout(10)
                connection, _ = silent.accept()
                assert self.asked_and_left(place, "GOOD", "1.2.9") == 0
                until(lambda: reports)
                until(lambda: place.state()["commitments"]["open"] == 3)
                assert "forwarder_commitments_open 3.0" in place.get("/metrics").data.decode()
                connection.close()
        server.shutdown()

    def test_a_modality_that_goes_on_storing_keeps_its_association_and_may_answer_late(self, archive, tmp_path, monkeypatch):
        monkeypatch.setattr(commitment, "ANSWER_SECONDS", 0.3)
        place = hospital(tmp_path, archive.url)
        with running(place.config()), Sender(place.port) as sender:
            assert sender.ask(request(context(1, CT, EXPLICIT), context(3, COMMITMENT, IMPLICIT))) == {1: 0, 3: 0}
            assert status(sender.send(store_request(1, ct_slice(1))).message()) == 0
            until(lambda: place.settled(1))
            assert status(sender.send(commitment_request(3, ct_slice(1), "1.2.3")).message()) == 0
            report = sender.message()
            assert report[0x0100] == b"\0\1" and b"1.2.3" in report[-1]
            for number in range(2, 30):
                assert status(sender.send(store_request(1, ct_slice(number), number)).message()) == 0
                if number == 2:
                    until(lambda: attempts(place) >= 2)
            assert place.state()["commitments"]["open"] == 1
            late = command(0x8100, int.from_bytes(report[0x0110], "little"), e0002=COMMITMENT.encode(), e0900=b"\0\0")
            sender.send(p_data(3, 3, late))
            until(lambda: place.state()["commitments"]["open"] == 0)
            assert status(sender.send(store_request(1, ct_slice(40), 40)).message()) == 0

    def test_a_report_in_many_pdus_is_not_interrupted_by_other_answers(self, archive, tmp_path):
        place = hospital(tmp_path, archive.url)
        with running(place.config()), Sender(place.port) as sender:
            sender.ask(request(context(1, CT, EXPLICIT), context(3, COMMITMENT, IMPLICIT), information=user(maximum=128)))
            assert status(sender.send(store_request(1, ct_slice(1))).message()) == 0
            until(lambda: place.settled(1))
            sender.send(commitment_request(3, ct_slice(1), "1.2.3", times=500))
            stores = b"".join(store_request(1, ct_slice(number), number) for number in range(2, 40))
            sender.send(stores)
            kinds = [int.from_bytes(sender.message()[0x0100], "little") for _ in range(40)]
            assert sorted(set(kinds)) == [0x0100, 0x8001, 0x8130]

    def test_who_cannot_be_answered_is_refused_at_once_and_the_page_says_what_is_missing(self, tmp_path, monkeypatch):
        assert commitment.AT_ONCE_SECONDS == 5.0
        monkeypatch.setattr(commitment, "AT_ONCE_SECONDS", 0.3)
        place = hospital(tmp_path, NOWHERE)
        with running(place.config()):
            assert store(place, [ct_slice(1)]) == [0x0000]
            assert self.asked_and_left(place, "STRANGER", "1.2.3") == 0x0110
            (refusal,) = place.state()["refusals"]
            assert (refusal["reason"], refusal["calling"]) == ("no-peer", "STRANGER")
            assert place.state()["commitments"] == {"open": 0, "oldest_seconds": None}

    def test_who_leaves_without_an_address_is_not_called_for_a_week(self, archive, tmp_path):
        place = hospital(tmp_path, archive.url)
        with running(place.config()):
            assert store(place, [ct_slice(1)]) == [0x0000]
            until(lambda: place.settled(1))
            with Sender(place.port) as sender:
                sender.ask(request(context(1, COMMITMENT, IMPLICIT)))
                assert status(sender.send(commitment_request(1, ct_slice(1), "1.2.3")).message()) == 0
                sender.message()  # the report, which it does not answer
                assert place.state()["commitments"]["open"] == 1
            until(lambda: place.state()["commitments"]["open"] == 0)

    @pytest.mark.parametrize(("days", "still_open"), [(6.99, 1), (7.01, 0)])
    def test_who_is_never_reached_is_called_for_a_week(self, tmp_path, days: float, still_open: int):
        place = hospital(tmp_path, NOWHERE, peers=[PACS])
        spool = Spool(place.spool, 0)
        row = ("1.2.3", "PACS", time.time() - days * 86400, json.dumps([[CT, "1.2"]]))
        spool.journal.write(
            lambda connection: connection.execute(
                "INSERT INTO commitments (transaction_uid, caller, requested_at, items) VALUES (?, ?, ?, ?)", row
            )
        )
        config = place.config()
        asked = commitment.Commitments(spool, config.dicom, config.peers)
        asked._report_due()
        until(lambda: not asked._busy)
        with spool.journal.read() as connection:
            assert commitment.summary(connection)["open"] == still_open
        spool.close()

    def test_a_conflict_is_never_committed(self, archive: FakeArchive, tmp_path):
        place, reports = hospital(tmp_path, archive.url, send__lossless=False), []
        first, other = ct_slice(1), ct_slice(1)
        other.PatientComments = "OTHER BYTES"
        archive.verdict = lambda sha256, body: ("conflict", None) if b"OTHER BYTES" in body else ("indexed", None)
        with running(place.config()):
            for count, ds in enumerate((first, other), 1):
                assert store(place, [ds]) == [0x0000]
                until(lambda: place.settled(count))  # noqa: B023
            assoc = self.pacs(place, reports).associate("127.0.0.1", place.port, evt_handlers=self.handler(reports))
            assert self.ask(assoc, [first]) == 0x0000
            until(lambda: reports and not place.state()["commitments"]["open"])  # the answer to the report has come
            assoc.release()
        event_type, information = reports[0]
        assert (event_type, information.FailedSOPSequence[0].FailureReason) == (2, 0x0110)

    def test_what_is_sent_under_another_uid_than_its_own_is_known_under_both(self, archive: FakeArchive, tmp_path):
        place, reports = hospital(tmp_path, archive.url, send__lossless=False), []
        archive.verdict = lambda sha256, body: ("rejected", "meta-mismatch")
        own, sent_as = ct_slice(1), ct_slice(2)
        data_set = store_request(3, own)[len(p_data(3, 3, store_command(own))) :]
        with running(place.config()):
            with Sender(place.port) as sender:
                sender.ask(request(context(3, CT, EXPLICIT)))
                assert status(sender.send(p_data(3, 3, store_command(sent_as)) + data_set).message()) == 0x0000
                sender.send(RELEASE)
            until(lambda: place.settled(1))
            assoc = self.pacs(place, reports).associate("127.0.0.1", place.port, evt_handlers=self.handler(reports))
            assert self.ask(assoc, [own, sent_as, ct_slice(3)]) == 0x0000
            until(lambda: reports and not place.state()["commitments"]["open"])  # the answer to the report has come
            assoc.release()
        assert [item.FailureReason for item in reports[0][1].FailedSOPSequence] == [0x0110, 0x0110, 0x0112]


def commitment_request(number: int, ds: Dataset, transaction: str, times: int = 1) -> bytes:
    """An N-ACTION of storage commitment, by hand."""
    information = Dataset()
    information.TransactionUID = transaction
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    information.ReferencedSOPSequence = [item] * times
    asked = command(0x0130, 9, e0003=COMMITMENT.encode(), e0800=b"\0\0", e1001=b"1.2.840.10008.1.20.1.1", e1008=b"\1\0")
    return p_data(number, 3, asked) + p_data(number, 2, encode(information, True, True))


def attempts(place: Hospital) -> int:
    """How often the oldest open request was tried to be answered."""
    with contextlib.closing(open_read_only(place.spool)) as connection:
        return connection.execute("SELECT attempts FROM commitments").fetchone()[0]
