"""Associations as real senders ask for them: what DCMTK and Orthanc take is taken, and who is refused is told, and so are we."""

from __future__ import annotations

import json
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from certificates import Authority
from fakes import FakeArchive
from hospital import Hospital, dcmtk, hospital, process, store, until
from images import ct_slice, write_ct
from raw_dicom import (
    ABORT,
    COMMITMENT,
    CT,
    ECHO,
    EXPLICIT,
    IMPLICIT,
    RELEASE,
    Sender,
    command,
    context,
    item,
    p_data,
    request,
    status,
    store_request,
    user,
)

from forwarder.dicom import associate, associations, refusals
from forwarder.service import running
from local.processes import free_port

pytestmark = pytest.mark.usefixtures("credentials")
NOWHERE = "http://127.0.0.1:9"
E1 = context(1, ECHO, IMPLICIT)
PRIVATE = "1.3.12.2.1107.5.9.1"


@pytest.fixture
def place(tmp_path) -> Iterator[Hospital]:
    place = hospital(tmp_path, NOWHERE)
    with running(place.config()):
        yield place


def told(place: Hospital, reason: str) -> dict:
    return until(lambda: next((refusal for refusal in place.state()["refusals"] if refusal["reason"] == reason), None))


# Each of these is taken by DCMTK 3.6.7 and Orthanc 1.10.1, or asks for less than they do.
SLOPPY = {
    "plain": request(E1),
    "titles padded with NUL": request(E1, padding=b"\0"),
    "a title that ends in garbage": request(E1, calling=b"CT1\0\0garb\x01\x02"),
    "a title with a letter that is no ASCII": request(E1, calling=b"RADIOLOGI\xc0"),
    "a title with a backslash": request(E1, calling=b"PA\\CS"),
    "titles of blanks": request(E1, calling=b"", called=b""),
    "version bits besides ours": request(E1, version=0x8003),
    "an application context with padding": request(E1, application=b"1.2.840.10008.3.1.1.1\0"),
    "no maximum length": request(E1, information=user(maximum=None)),
    "a maximum length of 0": request(E1, information=user(maximum=0)),
    "a maximum length below that of a header": request(E1, information=user(maximum=5)),
    "no user information": request(E1, information=b""),
    "no implementation": request(E1, information=user()),
    "a long version name": request(E1, information=user(item(0x52, b"1.2.3"), item(0x55, b"X" * 40))),
    "a version name that is no ASCII": request(E1, information=user(item(0x55, b"V\xe8rsion"))),
    "a long implementation UID": request(E1, information=user(item(0x52, b"1." * 40 + b"1"))),
    "an implementation UID that is none": request(E1, information=user(item(0x52, b"abc\xff"))),
    "an unknown item": request(E1, tail=item(0x70, b"abcd")),
    "an unknown sub-item": request(E1, information=user(item(0x5A, b"abcd"))),
    "an unknown item before the contexts": request(item(0x1F, b""), E1),
    "user identity": request(E1, information=user(item(0x58, b"\x01\x01\0\5a.b.c\0\0"))),
    "user identity of a later type": request(E1, information=user(item(0x58, b"\x09\x01\0\5a.b.c\0\0"))),
    "user identity that is cut short": request(E1, information=user(item(0x58, b"\x01"))),
    "asynchronous operations without limit": request(E1, information=user(item(0x53, b"\0\0\0\0"))),
    "asynchronous operations cut short": request(E1, information=user(item(0x53, b"\0"))),
    "a role": request(E1, information=user(item(0x54, struct.pack(">H", len(ECHO)) + ECHO.encode() + b"\1\1"))),
    "a role longer than its item": request(E1, information=user(item(0x54, struct.pack(">H", 99) + ECHO.encode() + b"\1\1"))),
    "extended negotiation": request(E1, information=user(item(0x56, struct.pack(">H", len(CT)) + CT.encode() + b"\1\1"))),
    "common extended negotiation": request(
        E1, information=user(item(0x57, struct.pack(">H", len(CT)) + CT.encode() + b"\0\x111.2.840.10008.4.2\0\0"))
    ),
    "user information damaged within": request(E1, information=item(0x50, b"\x51\0\0\4\0\0\x40\0\x52\0\0\x50abc")),
    "padding behind the items": request(E1, tail=b"\0\0"),
    "an item of type 0 behind the items": request(E1, tail=b"\0\0\0\0"),
    "reserved bytes that are not 0": request(E1[:5] + b"\x09\x09\x09" + E1[8:]),
}  # fmt: skip


def test_sloppy_senders_are_served(place):
    answered = {}
    for name, asked in SLOPPY.items():
        with Sender(place.port) as sender:
            answered[name] = (sender.ask(asked), sender.echo())
            sender.send(RELEASE)
            assert sender.pdu()[0] == 6
    assert answered == dict.fromkeys(SLOPPY, ({1: 0}, 0))
    assert not place.state()["refusals"]


# What becomes of a context beside a good one: its number and result (PS3.8 table 9-18), and the reason that is told.
BESIDES = {
    "an even number": (context(4, CT, EXPLICIT), {4: 0}, None),
    "the number 0": (context(0, CT, EXPLICIT), {0: 0}, None),
    "UIDs padded with NUL": (context(3, CT + "\0", EXPLICIT + "\0"), {3: 0}, None),
    "UIDs padded with blanks": (context(3, CT + " ", EXPLICIT + " "), {3: 0}, None),
    "an unknown sub-item": (
        item(0x20, b"\3\0\0\0" + item(0x30, CT.encode()) + item(0x41, b"xx") + item(0x40, EXPLICIT.encode())), {3: 0}, None,
    ),
    "a damaged transfer syntax among good ones": (context(3, CT, b"1.2.\xe2", EXPLICIT), {3: 0}, None),
    "the same number again": (context(1, CT, EXPLICIT), {}, None),
    "a damaged SOP class": (context(3, b"1.2.\xe2\x80.5", IMPLICIT), {3: 3}, "damaged-context"),
    "a SOP class of 65 characters": (context(3, "1." + "2" * 63, IMPLICIT), {3: 3}, "damaged-context"),
    "no SOP class": (item(0x20, b"\3\0\0\0" + item(0x40, IMPLICIT.encode())), {3: 3}, "damaged-context"),
    "a sub-item that is too long": (item(0x20, b"\3\0\0\0\x30\0\0\x50" + CT.encode()), {3: 3}, "damaged-context"),
    "a number and nothing else": (item(0x20, b"\3"), {3: 3}, "damaged-context"),
    "no number": (item(0x20, b""), {}, None),
    "no transfer syntax": (context(3, CT), {3: 4}, "no-transfer-syntax"),
    "an empty transfer syntax": (context(3, CT, ""), {3: 4}, "no-transfer-syntax"),
    "an unknown transfer syntax": (context(3, CT, "1.2.3.4"), {3: 4}, "transfer-syntax"),
    "an unknown SOP class": (context(3, PRIVATE, EXPLICIT), {3: 3}, "sop-class"),
}  # fmt: skip


@pytest.mark.parametrize("name", BESIDES)
def test_one_odd_context_harms_no_other(place, name):
    odd, results, reason = BESIDES[name]
    for order in ((E1, odd), (odd, E1)) if name != "the same number again" else ((E1, odd),):
        with Sender(place.port) as sender:
            assert sender.ask(request(*order)) == {1: 0} | results
            assert sender.echo() == 0
            sender.send(ABORT)
    if reason:
        refusal = told(place, reason)
        assert (refusal["calling"], refusal["called"], refusal["peer"], refusal["count"]) == (
            "CT1",
            "CONTENITORE",
            "127.0.0.1",
            2,
        )
    else:
        assert not place.state()["refusals"]


OF_ANOTHER_SERVICE = {"C-GET": 0x10, "C-FIND": 0x20, "C-MOVE": 0x21, "N-EVENT-REPORT": 0x100, "N-GET": 0x110, "N-SET": 0x120,
                      "N-ACTION": 0x130, "N-CREATE": 0x140, "N-DELETE": 0x150}  # fmt: skip


@pytest.mark.parametrize("number", [1, 3, 5])
@pytest.mark.parametrize("name", OF_ANOTHER_SERVICE)
def test_a_request_of_another_service_is_refused_in_a_response_of_its_own(place, name: str, number: int):
    field = OF_ANOTHER_SERVICE[name]
    if number == 5 and name in ("N-ACTION", "N-EVENT-REPORT"):
        pytest.skip("storage commitment takes it")
    contexts = {1: ECHO, 3: CT, 5: COMMITMENT}
    of_class = contexts[number].encode()
    asked = command(
        field, 7, e0002=of_class, e0003=of_class, e0600=b"XX", e0700=b"\0\0", e0800=b"\0\0", e1000=b"1.2.3", e1001=b"1.2.3",
        e1002=b"\1\0", e1008=b"\1\0",
    )  # fmt: skip
    with Sender(place.port) as sender:
        sender.ask(request(*(context(place_of, uid, IMPLICIT) for place_of, uid in contexts.items())))
        answer = sender.send(p_data(number, 3, asked) + p_data(number, 2, b"\x08\0\x52\0\6\0\0\0STUDY ")).message()
        assert (int.from_bytes(answer[0x0100], "little"), status(answer)) == (0x8000 | field, 0x0211)
        assert int.from_bytes(answer[0x0120], "little") == 7
        assert sender.echo() == 0  # the association goes on
        sender.send(RELEASE)


def test_a_commitment_request_that_names_another_class_is_refused_as_one(place):
    asked = command(0x130, 7, e0003=ECHO.encode(), e0800=b"\0\0", e1001=b"1.2.840.10008.1.20.1.1", e1008=b"\1\0")
    with Sender(place.port) as sender:
        sender.ask(request(context(1, ECHO, IMPLICIT), context(5, COMMITMENT, IMPLICIT)))
        answer = sender.send(p_data(5, 3, asked) + p_data(5, 2, b"\x08\0\x52\0\6\0\0\0STUDY ")).message()
        assert (int.from_bytes(answer[0x0100], "little"), status(answer)) == (0x8130, 0x0118)
        assert sender.echo() == 0


@pytest.mark.parametrize("number", [3, 5])
def test_an_echo_is_answered_on_every_context(place, number: int):
    with Sender(place.port) as sender:
        sender.ask(request(context(3, CT, IMPLICIT), context(5, COMMITMENT, IMPLICIT)))
        assert sender.echo(number) == 0


def test_an_image_is_stored_under_an_even_number_and_answered_within_the_senders_limit(place):
    with Sender(place.port) as sender:
        assert sender.ask(request(context(4, CT, EXPLICIT), information=user(maximum=100))) == {4: 0}
        answer = sender.send(store_request(4, ct_slice())).message()
        assert status(answer) == 0 and answer[-2] > 1
        sender.send(RELEASE)
    assert place.state()["received"] == 1


@pytest.mark.parametrize(
    ("said", "kept_to"), [(1, 64), (63, 64), (65, 65), (0, 16_384), (None, 16_384), (131_072, 131_072), (10**6, 131_072)]
)
def test_what_is_sent_keeps_to_the_maximum_length_that_the_sender_names_and_to_16384_where_it_names_none(
    place, said: int | None, kept_to: int
):
    asked = associate.read_request(request(E1, information=user(maximum=said))[6:])
    (length,) = associations._primitive(asked).user_information
    assert length.maximum_length_received == kept_to
    if kept_to == 64:
        with Sender(place.port) as sender:
            sender.ask(request(E1, information=user(maximum=said)))
            sender.send(p_data(1, 3, command(0x30, e0002=ECHO.encode())))
            kind, first = sender.pdu()
            assert (kind, len(first)) == (4, 64)


@pytest.mark.parametrize(
    ("settings", "asked", "rejection", "reason"),
    [
        ({}, request(E1, version=2), (1, 2, 2), "protocol-version"),
        ({}, request(E1, version=0), (1, 2, 2), "protocol-version"),
        ({}, request(E1, application=b"1.2.3"), (1, 1, 2), "application-context"),
        ({"dicom__allowed_callers": ["PACS"]}, request(E1, calling=b"PACS2"), (1, 1, 3), "calling-ae-title"),
        ({"dicom__check_called": True}, request(E1, called=b"OTHER"), (1, 1, 7), "called-ae-title"),
    ],
)
def test_who_is_refused_is_told_why_and_so_are_log_status_metrics(tmp_path, caplog, settings, asked, rejection, reason):
    place = hospital(tmp_path, NOWHERE, **settings)
    with running(place.config()):
        with Sender(place.port) as sender:
            kind, body = sender.send(asked).pdu()
            assert (kind, tuple(body[1:])) == (3, rejection)
            assert sender.ends(20)
        refusal = told(place, reason)
        assert refusal["peer"] == "127.0.0.1" and refusal["calling"] in ("CT1", "PACS2")
        metrics = place.get("/metrics").data.decode()
    assert "forwarder_associations_refused_total 1.0" in metrics
    (record,) = [record for record in caplog.records if record.getMessage() == "association refused"]
    assert record.fields["peer"] == "127.0.0.1" and record.fields["reason"] == reason


def test_titles_count_without_their_padding(tmp_path):
    place = hospital(tmp_path, NOWHERE, dicom__allowed_callers=["PACS"], dicom__check_called=True)
    with running(place.config()):
        for called, calling, padding in ((b" CONTENITORE", b" PACS", b" "), (b"CONTENITORE", b"PACS", b"\0")):
            with Sender(place.port) as sender:
                assert sender.ask(request(E1, called=called, calling=calling, padding=padding)) == {1: 0}


def test_what_is_refused_is_one_entry_with_its_class_and_not_a_line_each_time(place, caplog):
    for _ in range(3):
        with Sender(place.port) as sender:
            sender.ask(request(context(1, PRIVATE, EXPLICIT), context(3, CT, "1.2.3.4")))
            sender.send(RELEASE)
    refusal, other = told(place, "sop-class"), told(place, "transfer-syntax")
    assert (refusal["sop_class"], refusal["count"]) == (PRIVATE, 3)
    assert (other["sop_class"], other["name"], other["transfer_syntaxes"]) == (CT, "CT Image Storage", ["1.2.3.4"])
    assert "forwarder_contexts_refused_total 6.0" in place.get("/metrics").data.decode()
    warnings = [r for r in caplog.records if r.getMessage() == "presentation context refused" and r.levelname == "WARNING"]
    assert len(warnings) == 2


def test_a_flood_of_different_refusals_is_remembered_within_bounds(place):
    for number in range(0, 3 * refusals.KEPT, 100):
        with Sender(place.port) as sender:
            sender.ask(request(*(context(n, f"1.2.3.{number + n}", EXPLICIT) for n in range(1, 101))))
    assert len(place.state()["refusals"]) == refusals.KEPT == 100


def test_a_c_store_that_is_answered_with_a_failure_counts_and_is_told(place):
    with Sender(place.port) as sender:
        sender.ask(request(context(1, "1.2.840.10008.5.1.4.1.1.7", EXPLICIT)))
        assert status(sender.send(store_request(1, ct_slice())).message()) == 0x0122
        bare = command(1, e0002=b"1.2.840.10008.5.1.4.1.1.7", e0700=b"\0\0", e1000=b"1.2.3")
        assert status(sender.send(p_data(1, 3, bare)).message()) == 0xC000
    assert told(place, "other-context")["sop_class"] == CT
    assert told(place, "no-data-set")["calling"] == "CT1"
    assert place.state()["refused"] == 2


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n", struct.pack(">BBL", 1, 0, 10) + bytes(10), request(E1, tail=b"\x70\0\xff\xff"), RELEASE, ABORT],
    ids=["http", "short", "overlong item", "release", "abort"],
)
def test_what_is_no_request_for_an_association_is_aborted_at_once_and_told(place, data):
    with Sender(place.port) as sender:
        assert sender.send(data).pdu()[0] == 7
        assert sender.ends(20)
    assert told(place, "not-dicom")["peer"] == "127.0.0.1"


def test_who_asks_byte_by_byte_has_one_deadline(tmp_path, monkeypatch):
    assert (associations.ARTIM_SECONDS, associations.HANDSHAKE_SECONDS) == (30.0, 15.0)
    monkeypatch.setattr(associations, "ARTIM_SECONDS", 1.0)
    place = hospital(tmp_path, NOWHERE)
    with running(place.config()), Sender(place.port) as slow, Sender(place.port) as silent:
        begun = time.monotonic()
        with pytest.raises(OSError):  # reset or broken pipe, as the system likes
            for byte in request(E1) * 100:
                slow.send(bytes([byte]))
                if slow.ends(0.1):
                    raise OSError
        assert time.monotonic() - begun < 20
        assert silent.ends(20)
        told(place, "no-request-in-time")


def test_before_an_association_stands_a_connection_is_one_thread_and_there_are_only_so_many(tmp_path, monkeypatch):
    assert associations.STRANGERS == 64
    monkeypatch.setattr(associations, "STRANGERS", 10)
    place = hospital(tmp_path, NOWHERE, dicom__max_associations=2)
    with process(place) as forwarder:
        threads = psutil.Process(forwarder.pid).num_threads
        store(place, [ct_slice()])
        before = threads()
        crowd = [Sender(place.port) for _ in range(100)]
        until(lambda: sum(peer.ends(0.01) for peer in crowd) >= 30)  # 2 + 64 may stay
        until(lambda: threads() <= before + 66)  # those that were sent away end within moments
        for peer in crowd:
            peer.__exit__()

        def served() -> bool:
            try:
                return store(place, [ct_slice(2)]) == [0x0000]
            except (AssertionError, OSError):  # refused for as long as the crowd's places are not free yet
                return False

        until(served)


def test_associations_beyond_the_limit_are_refused_for_now_and_their_places_are_free_again(tmp_path):
    place = hospital(tmp_path, NOWHERE, dicom__max_associations=2)
    with running(place.config()):
        kept = [Sender(place.port) for _ in range(2)]
        for association in kept:
            association.ask(request(E1))
        with Sender(place.port) as third:
            assert third.send(request(E1)).pdu() == (3, b"\0\2\3\2")
        told(place, "too-many-associations")
        assert [association.echo() for association in kept] == [0, 0]
        for association in kept:
            association.__exit__()

        def served() -> bool:
            with Sender(place.port) as again:
                return again.send(request(E1)).pdu()[0] == 2

        until(served)


def test_a_tls_handshake_that_fails_names_the_peer(tmp_path):
    authority, port = Authority(tmp_path / "tls"), free_port()
    pair = authority.issue("forwarder")
    place = hospital(
        tmp_path, NOWHERE, dicom__tls__port=port, dicom__tls__certificate=str(pair.certificate),
        dicom__tls__key=str(pair.key), dicom__tls__ca_file=str(authority.pem),
    )  # fmt: skip
    with running(place.config()), Sender(port) as plain:
        plain.send(request(E1))
        assert plain.ends(20)
        assert told(place, "tls-handshake")["peer"] == "127.0.0.1"


def test_a_forwarder_that_stops_tells_the_senders_and_waits_for_none(tmp_path):
    place = hospital(tmp_path, NOWHERE)
    with process(place) as forwarder, Sender(place.port, 30) as sender, Sender(place.port) as silent:
        sender.ask(request(context(1, CT, EXPLICIT)))
        assert status(sender.send(store_request(1, ct_slice())).message()) == 0
        forwarder.terminate()
        assert sender.pdu()[0] == 7
        assert forwarder.wait(40) == 0  # idle_seconds is 120
        assert silent.ends(20)


class TestTheLog:
    """One JSON object a line, whatever happens; with `debug`, the life of each association."""

    def lines(self, place: Hospital) -> list[dict]:
        return [json.loads(line) for line in (place.folder / "log").read_text().splitlines()]

    def test_the_life_of_an_association(self, tmp_path):
        place = hospital(tmp_path, NOWHERE, log__level="debug")
        with process(place):
            with Sender(place.port) as sender:
                sender.ask(request(context(1, CT, EXPLICIT), context(3, PRIVATE, EXPLICIT)))
                assert status(sender.send(store_request(1, ct_slice())).message()) == 0
                sender.send(RELEASE).pdu()
            with Sender(place.port) as sender:
                sender.ask(request(E1, calling=b"CT2"))
                sender.send(ABORT)
            with Sender(place.port) as sender:
                sender.ask(request(E1, calling=b"CT3"))
            with Sender(place.port) as sender:
                sender.ask(request(E1, calling=b"CT4"))
                sender.send(b"\x99\0\0\0\0\1\0").ends(5)
            until(lambda: sum(line["message"] == "association ended" for line in self.lines(place)) == 4)
        lines = self.lines(place)
        begun = next(line for line in lines if line["message"] == "association accepted")
        assert (begun["peer"], begun["calling"], begun["contexts"], begun["refused"]) == ("127.0.0.1", "CT1", 1, 1)
        ended = {line["calling"]: line for line in lines if line["message"] == "association ended"}
        assert {calling: association["how"] for calling, association in ended.items()} == {
            "CT1": "released", "CT2": "aborted", "CT3": "aborted", "CT4": "protocol error",
        }  # fmt: skip
        assert ended["CT1"]["stored"] == 1 and ended["CT4"]["level"] == "warning"
        assert ct_slice().SOPInstanceUID not in (place.folder / "log").read_text()

    def test_whatever_is_sent_leaves_nothing_but_json_and_no_uid_of_an_instance(self, tmp_path):
        place = hospital(tmp_path, NOWHERE)
        uid = "1.2.826.0.1.3680043.10.1.05.7"
        references = item_of(0x1150, CT) + item_of(0x1155, uid)
        body = item_of(0x1195, uid) + struct.pack("<HHL", 8, 0x1199, len(references) + 8)
        body += struct.pack("<HHL", 0xFFFE, 0xE000, len(references)) + references
        ask = command(0x130, e0003=b"1.2.840.10008.1.20.1", e0800=b"\0\0", e1001=b"1.2.840.10008.1.20.1.1", e1008=b"\1\0")
        with process(place):
            for data in (*SLOPPY.values(), b"GET / HTTP/1.1\r\n\r\n", request(E1)[:60]):
                with Sender(place.port) as sender:
                    sender.send(data)
                    sender.send(p_data(1, 3, b"\0\0\0\1"))
            with Sender(place.port) as sender:
                sender.ask(request(context(1, "1.2.840.10008.1.20.1", IMPLICIT)))
                for data in (body, body[:-20], b"\xff" * 40):
                    sender.send(p_data(1, 3, ask) + p_data(1, 2, data))
                sender.ends(1)
            with Sender(place.port) as sender:
                sender.ask(request(E1))
                sender.send(p_data(1, 3, command(0x20, e0002=b"1.2.3"))).ends(1)
            store(place, [ct_slice(1)])
        lines = self.lines(place)
        assert any("127.0.0.1" in line.get("peer", "") for line in lines)
        assert uid not in (place.folder / "log").read_text()

    def test_a_forwarder_that_cannot_start_says_so_in_json(self, tmp_path):
        place = hospital(tmp_path, NOWHERE, dicom__ae_title="")
        with process(place) as forwarder:
            assert forwarder.wait(60) == 2
        (line,) = self.lines(place)
        assert "dicom.ae_title" in line["detail"]


def item_of(number: int, text: str) -> bytes:
    value = text.encode() + b"\0" * (len(text) % 2)
    return struct.pack("<HHL", 8, number, len(value)) + value


@pytest.mark.skipif(not Path("/usr/sbin/Orthanc").exists(), reason="Orthanc is not installed (Debian: orthanc)")
def test_orthanc_sends(archive: FakeArchive, tmp_path):
    import urllib3

    http, dicom = free_port(), free_port()
    place = hospital(tmp_path / "place", archive.url)
    (tmp_path / "db").mkdir()
    settings = {
        "StorageDirectory": str(tmp_path / "db"), "IndexDirectory": str(tmp_path / "db"), "HttpPort": http, "DicomPort": dicom,
        "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "Plugins": [],
        "DicomModalities": {"forwarder": ["CONTENITORE", "127.0.0.1", place.port]},
    }  # fmt: skip
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    (file,) = write_ct(tmp_path / "ct", 1)
    with (
        running(place.config()),
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(["/usr/sbin/Orthanc", str(tmp_path / "orthanc.json")], stdout=log, stderr=log) as orthanc,
        urllib3.PoolManager(retries=False, timeout=60) as pool,
    ):
        try:
            url = f"http://127.0.0.1:{http}"

            def up() -> bool:
                try:
                    return pool.request("GET", url + "/system").status == 200
                except urllib3.exceptions.HTTPError:
                    return False

            until(up)
            found = json.loads(pool.request("POST", url + "/instances", body=file.read_bytes()).data)
            assert pool.request("POST", url + "/modalities/forwarder/echo", body=b"{}").status == 200
            assert pool.request("POST", url + "/modalities/forwarder/store", body=found["ID"].encode()).status == 200
            until(lambda: place.settled(1))
        finally:
            orthanc.terminate()
    assert archive.objects


@pytest.mark.skipif(not dcmtk("storescu"), reason="DCMTK's storescu is not installed")
@pytest.mark.parametrize(
    "options",
    [["-xs"], ["-xv"], ["-xi"], ["-pdu", "4096"], ["-usr", "user", "-pwd", "secret"]],
    ids=lambda options: options[0],
)
def test_dcmtk_sends_whatever_it_proposes(archive: FakeArchive, tmp_path, options):
    place = hospital(tmp_path, archive.url)
    (file,) = write_ct(tmp_path / "ct", 1)
    command = ["/usr/bin/storescu", *options, "127.0.0.1", str(place.port), str(file)]
    with running(place.config()):
        subprocess.run(command, check=True, env={"TCP_NODELAY": "1"}, timeout=240, capture_output=True)
        until(lambda: place.settled(1))
        assert not place.state()["refusals"]
