"""The HL7 door: what senders of all kinds are answered, over real sockets, and what stands in the journal afterwards."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ris
from certificates import Authority, client_context
from hospital import Hospital, hospital, until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forwarder.hl7 import mllp
from forwarder.service import running
from local.processes import free_port

pytestmark = pytest.mark.usefixtures("credentials")
NOWHERE = "http://127.0.0.1:9"  # an archive that never answers
STUDY = "1.2.826.0.1.3680043.10.77"


def place_of(folder: Path, **values: Any) -> Hospital:
    return hospital(folder, NOWHERE, **{"hl7__address": "127.0.0.1", "hl7__port": free_port(), **values})


@contextmanager
def door(folder: Path, **values: Any) -> Iterator[Hospital]:
    place = place_of(folder, **values)
    with running(place.config()):
        yield place


def port(place: Hospital) -> int:
    return int(place.values["hl7.port"])


def kept(place: Hospital) -> list[sqlite3.Row]:
    """The reports in the journal, in order."""
    connection = sqlite3.connect(place.spool / "journal.sqlite3")
    connection.row_factory = sqlite3.Row
    with contextlib.closing(connection):
        return connection.execute("SELECT * FROM reports ORDER BY seq").fetchall()


def answer(place: Hospital, message: bytes) -> ris.Answer:
    with ris.Ris(port(place)) as sender:
        return sender.send(message)


def test_a_report_is_in_the_journal_when_it_is_acknowledged(tmp_path):
    with door(tmp_path) as place:
        got = answer(place, ris.oru("Riga uno.\nRiga due.", study=STUDY, control_id="C-1"))
        (row,) = kept(place)
    assert (got.code, got.field("MSA", 2)) == ("AA", "C-1")
    assert [got.field("MSH", n) for n in (3, 5, 9, 11, 12, 18)] == [
        "CONTENITORE",
        "RIS",
        "ACK^R01^ACK",
        "P",
        "2.5",
        "UNICODE UTF-8",
    ]
    assert (row["state"], row["study"], row["content"]) == ("waiting", STUDY, b"Riga uno.\nRiga due.")


def replaced(old: str, new: str) -> Callable[[str], str]:
    return lambda message: message.replace(old, new, 1)


REFUSED: list[tuple[str, Callable[[str], str], str, str, str]] = [
    ("another type", replaced("ORU^R01", "ADT^A01"), "AR", "MSH^1^9", "200"),
    ("another event", replaced("ORU^R01", "ORU^R30"), "AR", "MSH^1^9", "201"),
    ("another version", replaced("|2.5|", "|3.0|"), "AR", "MSH^1^12", "203"),
    ("a test message", replaced("|P|2.5", "|T|2.5"), "AR", "MSH^1^11", "202"),
    ("no control id", replaced("|C-1|", "||"), "AR", "MSH^1^10", "101"),
    ("another character set", replaced("UNICODE UTF-8", "GB 18030"), "AE", "MSH^1^18", "103"),
    ("other characters than it says", replaced("Però", "Per\udcf2"), "AE", "MSH^1^18", "102"),
    ("no patient", replaced("PID|", "ZID|"), "AE", "PID^1", "100"),
    ("no patient number", replaced("SM-1^^^SM^MR", ""), "AE", "PID^1^3", "101"),
    ("no order", replaced("OBR|", "ZBR|"), "AE", "OBR^1", "100"),
    ("no study", replaced("113014^DICOM Study^DCM", "1^x^y"), "AE", "OBR^1^18", "101"),
    ("no UID", replaced(STUDY, "1.2.x"), "AE", "OBX^1^5", "102"),
    ("two studies", replaced("OBX|2", f"ZDS|{STUDY}.1\rOBX|2"), "AE", "ZDS^1^1", "102"),
    ("no text", replaced("|TX|", "|NM|"), "AE", "OBX^1^5", "101"),
    ("a damaged document", replaced("|TX|18748-4^Referto^LN||", "|ED|1||^Application^PDF^Base64^JVBE"), "AE", "OBX^2^5", "102"),
    (
        "what is neither PDF nor CDA",
        replaced("|TX|18748-4^Referto^LN||Però", "|ED|1||^AP^PDF^Base64^QUJD"),
        "AE",
        "OBX^2^5",
        "102",
    ),
    ("a line that is no segment", replaced("ORC|", "orc!|"), "AE", "", "100"),
    ("two headers", replaced("PID|", "MSH|^~\\&|A\rPID|"), "AE", "MSH^2", "100"),
]


@pytest.mark.parametrize(
    ("change", "code", "place", "condition"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
@pytest.mark.parametrize("version", ["2.3.1", "2.5"])
def test_what_cannot_be_used_is_refused_naming_the_place_and_repeating_nothing(
    closed_door: Hospital, change: Callable[[str], str], code: str, place: str, condition: str, version: str
):
    message = change(ris.oru("Però.", study=STUDY, control_id="C-1").decode()).replace("|2.5|", f"|{version}|", 1)
    got = answer(closed_door, message.encode(errors="surrogateescape"))
    assert got.code == code
    if got.field("MSH", 12) != "2.3.1":
        assert got.field("ERR", 2) == place
        assert got.field("ERR", 3).split("^")[0] == condition
    else:
        located = got.field("ERR", 1).split("^")
        assert "^".join(located[:3]).strip("^") == place and located[3].split("&")[0] == condition
    assert not any(personal in got.text for personal in ("Però", "FERRARI", "SM-1", STUDY))
    assert kept(closed_door) == []


@pytest.fixture(scope="module")
def closed_door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """A door that no test of this module leaves anything behind in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "AKID")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.delenv("AWS_PROFILE", raising=False)
        with door(tmp_path_factory.mktemp("door"), archive__profile="", hl7__message_seconds=1, hl7__max_message_mb=1) as place:
            yield place


@pytest.mark.parametrize(
    ("wishes", "good", "bad"),
    [
        (("", ""), ["AA"], ["AE"]),
        (("AL", "NE"), ["CA"], ["CE"]),
        (("AL", "AL"), ["CA", "AA"], ["CE", "AE"]),
        (("NE", "AL"), ["AA"], ["AE"]),
        (("ER", "SU"), ["AA"], ["CE"]),
    ],
)
def test_the_enhanced_mode_is_answered_as_msh_15_and_16_wish(tmp_path, wishes, good, bad):
    fields = {"field_15": wishes[0], "field_16": wishes[1]}
    last = ris.oru("Ultimo.", study=STUDY, control_id="LAST")
    with door(tmp_path) as place, ris.Ris(port(place)) as sender:
        for message, codes in ((ris.oru("Bene.", study=STUDY, **fields), good), (ris.oru("", study=STUDY, **fields), bad)):
            sender.post(message)
            assert [sender.answer().code for _ in codes] == codes
        assert sender.send(last).field("MSA", 2) == "LAST"


def test_nobody_is_answered_who_wishes_no_answer(tmp_path):
    with door(tmp_path) as place, ris.Ris(port(place)) as sender:
        sender.post(ris.oru("Uno.", study=STUDY, field_15="NE", field_16="NE"))
        assert sender.send(ris.oru("Due.", study=STUDY, control_id="C-2")).field("MSA", 2) == "C-2"
        assert len(kept(place)) == 2


@pytest.mark.parametrize("charset", ["UNICODE UTF-8", "8859/1", "8859/15"])
def test_the_character_set_of_the_message_counts(tmp_path, charset):
    codec = {"8859/1": "cp1252", "8859/15": "iso-8859-15"}.get(charset, "utf-8")
    text = "È più stabile: 3 € d'attesa, così"
    with door(tmp_path) as place:
        assert answer(place, ris.oru(text, study=STUDY, charset=charset).decode().encode(codec)).code == "AA"
        (row,) = kept(place)
    assert row["content"].decode() == text


def test_where_the_message_names_no_character_set_the_configured_one_counts(tmp_path):
    with door(tmp_path, hl7__charset="8859/1") as place:
        assert answer(place, ris.oru("Però", study=STUDY, charset="").decode().encode("latin-1")).code == "AA"
        (row,) = kept(place)
    assert row["content"].decode() == "Però"


def test_a_message_that_is_too_large_is_refused_and_the_connection_goes_on(closed_door: Hospital):
    with ris.Ris(port(closed_door)) as sender:
        for size, condition in ((1_000_000, "101"), (1_000_001, "207"), (3_000_000, "207")):  # of no study, so it is never taken
            message = ris.oru("x" * (size - len(ris.oru("x", control_id="BIG")) + 1), control_id="BIG")
            got = sender.send(message)
            assert (len(message), got.code, got.field("MSA", 2)) == (size, "AE", "BIG")
            assert got.field("ERR", 3).split("^")[0] == condition
        assert sender.send(ris.oru("", study=STUDY, control_id="NEXT")).field("MSA", 2) == "NEXT"


@pytest.mark.parametrize("junk", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", b"MSH|^~\\&|A\r", bytes(1000)])
def test_what_is_not_mllp_ends_the_connection(closed_door: Hospital, junk: bytes):
    with ris.Ris(port(closed_door)) as sender:
        sender.socket.sendall(junk)
        assert sender.answer() is None


@pytest.mark.parametrize("junk", [b"", b"hello", b"MSH", b"MSH|^~\\&", b"MSH||||||||", b"MSHABCDEFGH", b"\xff" * 500])
def test_what_is_no_message_is_refused_and_the_connection_goes_on(closed_door: Hospital, junk: bytes):
    with ris.Ris(port(closed_door)) as sender:
        assert sender.send(junk).code == "AR"
        assert sender.send(ris.oru("", study=STUDY)).code == "AE"


def test_a_sender_that_dribbles_loses_its_connection_and_delays_nobody(closed_door: Hospital):
    with ris.Ris(port(closed_door)) as slow:
        slow.socket.sendall(b"\x0bMSH|^~\\&|")
        started = time.monotonic()

        def dribbles() -> bool:
            try:
                slow.socket.sendall(b"x")
                slow.socket.settimeout(0.05)
                return slow.socket.recv(1) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        assert answer(closed_door, ris.oru("", study=STUDY)).code == "AE"
        until(dribbles)
        assert time.monotonic() - started >= 0.9


def test_a_message_that_breaks_off_is_not_taken(closed_door: Hospital):
    with ris.Ris(port(closed_door)) as sender:
        sender.socket.sendall(b"\x0b" + ris.oru("Mezzo.", study=STUDY))
    assert answer(closed_door, ris.oru("", study=STUDY)).code == "AE"
    assert kept(closed_door) == []


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_damage_to_a_message_breaks_the_door(closed_door: Hospital, data: st.DataObject):
    """Whatever is done to a message, it is answered, and the next one is."""
    message = bytearray(ris.oru("Però.", study=STUDY, control_id="C-1", kind="ORU^R30"))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(message) - 1))
        what = data.draw(st.sampled_from([b"|", b"^", b"\r", b"\\", b"&", b"~", b"\xe0", b"MSH|", b""]))
        message[at : at + data.draw(st.integers(0, 30))] = what
    with ris.Ris(port(closed_door)) as sender:
        sender.post(bytes(message))
        sender.post(ris.oru("", study=STUDY, control_id="NEXT", field_15="", field_16=""))
        answers = []
        while not answers or answers[-1].field("MSA", 2) != "NEXT":
            got = sender.answer()
            assert got is not None
            answers.append(got)


def test_more_segments_than_allowed_are_refused(tmp_path):
    more = ris.oru("\n".join("abcdefg"), study=STUDY)
    with door(tmp_path, hl7__max_segments=more.count(b"\r") - 1) as place:
        refused = answer(place, more)
        assert (refused.code, refused.field("ERR", 3).split("^")[0], kept(place)) == ("AE", "207", [])
        assert answer(place, ris.oru("\n".join("abcdef"), study=STUDY)).code == "AA"


def test_only_known_addresses_come_in(tmp_path):
    with (
        door(tmp_path, hl7__allowed_addresses=["10.1.0.0/16"]) as place,
        contextlib.suppress(ConnectionError),
        ris.Ris(port(place)) as sender,
    ):
        sender.post(ris.oru("Uno.", study=STUDY))
        assert sender.answer() is None


@pytest.mark.parametrize(("allowed", "code"), [("RIS", "AA"), ("RIS@SAN-MATTEO", "AA"), ("RIS@MAUGERI", "AR"), ("PACS", "AR")])
def test_only_known_senders_are_heard(tmp_path, allowed, code):
    with door(tmp_path, hl7__allowed_senders=[allowed]) as place:
        assert answer(place, ris.oru("Uno.", study=STUDY)).code == code


def test_beyond_the_most_connections_the_most_idle_one_makes_room(tmp_path):
    with door(tmp_path, hl7__max_connections=3) as place, contextlib.ExitStack() as stack:
        kept_open = [stack.enter_context(ris.Ris(port(place))) for _ in range(3)]
        for number, sender in enumerate(kept_open):
            assert sender.send(ris.oru("Uno.", study=STUDY, order=f"A-{number}")).code == "AA"
            time.sleep(0.2)  # a connection is idle soon after its answer has come, and not before
        assert kept_open[0].send(ris.oru("Due.", study=STUDY)).code == "AA"  # so the second is the one that is idle for longest
        time.sleep(0.2)
        assert answer(place, ris.oru("Tre.", study=STUDY)).code == "AA"
        assert kept_open[1].answer() is None
        assert [sender.send(ris.oru("Quattro.", study=STUDY)).code for sender in (kept_open[0], kept_open[2])] == ["AA", "AA"]
        state = place.state()
        assert (state["hl7_made_room"], state["hl7_turned_away"]) == (1, 0)
        assert "hl7-connections-full" in state["troubles"]
        assert "forwarder_hl7_made_room_total 1" in place.get("/metrics").data.decode()


def test_connections_that_say_nothing_keep_no_sender_out(tmp_path):
    with door(tmp_path, hl7__max_connections=4) as place, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(ris.Ris(port(place))) for _ in range(20)]
        assert answer(place, ris.oru("Uno.", study=STUDY)).code == "AA"
        assert sum(sender.answer() is None for sender in silent[:16]) == 16


def test_a_message_under_way_makes_no_room_for_another_sender(tmp_path):
    with door(tmp_path, hl7__max_connections=1) as place:
        with ris.Ris(port(place)) as first:
            message = ris.oru("Uno.", study=STUDY)
            first.socket.sendall(b"\x0b" + message + b"\x1c\r\x0b" + message[:100])
            assert first.answer() is not None
            with contextlib.suppress(ConnectionError), ris.Ris(port(place)) as second:
                second.post(ris.oru("Due.", study=STUDY))
                assert second.answer() is None
            first.socket.sendall(message[100:] + b"\x1c\r")
            answered = first.answer()
            assert answered is not None and answered.code == "AA"
            assert place.state()["hl7_turned_away"] >= 1
        until(lambda: _answers(place))


def test_of_a_full_set_of_slow_messages_one_makes_room_and_the_others_are_heard_out(tmp_path, monkeypatch: pytest.MonkeyPatch):
    assert mllp.SLOW_SECONDS == 10.0
    monkeypatch.setattr(mllp, "SLOW_SECONDS", 1.0)
    message = ris.oru("Uno.", study=STUDY)

    def finished(slow: ris.Ris) -> str | None:
        with contextlib.suppress(ConnectionError):
            slow.socket.sendall(message[100:] + b"\x1c\r")
            answered = slow.answer()
            return answered.code if answered else None
        return None

    with door(tmp_path, hl7__max_connections=3) as place, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(ris.Ris(port(place))) for _ in range(3)]
        for sender in slow:
            sender.socket.sendall(b"\x0b" + message[:100])
        until(lambda: place.state()["hl7_made_room"] == 1 or (_answers(place) and False))
        assert sorted(str(finished(sender)) for sender in slow) == ["AA", "AA", "None"]
        assert "hl7-connections-full" in place.state()["troubles"]


def test_a_connection_for_which_there_is_no_thread_takes_no_place(tmp_path):
    with door(tmp_path, hl7__max_connections=1) as place:
        usual = threading.stack_size(2**46)  # more than there is: no thread can be started
        try:
            with contextlib.suppress(ConnectionError), ris.Ris(port(place)) as turned_away:
                turned_away.post(ris.oru("Uno.", study=STUDY))
                assert turned_away.answer() is None
        finally:
            threading.stack_size(usual)
        until(lambda: _answers(place))


def _answers(place: Hospital) -> bool:
    with contextlib.suppress(ConnectionError, AssertionError):
        return answer(place, ris.oru("Tre.", study=STUDY)).code == "AA"
    return False


def test_a_disk_that_is_nearly_full_gets_no_answer_and_takes_nothing(tmp_path):
    with door(tmp_path, spool__reserve_mb=10_000_000) as place:
        with ris.Ris(port(place)) as sender:
            sender.post(ris.oru("Uno.", study=STUDY))
            assert sender.answer() is None
        assert kept(place) == []


def test_over_tls_with_certificates_at_both_ends(tmp_path):
    authority = Authority(tmp_path / "ca")
    ours, theirs = authority.issue("forwarder"), authority.issue("ris")
    values = {"certificate": str(ours.certificate), "key": str(ours.key), "ca_file": str(authority.pem)}
    tls_port = free_port()
    with door(tmp_path, hl7__port=0, hl7__tls__port=tls_port, **{f"hl7__tls__{k}": v for k, v in values.items()}) as place:
        with ris.Ris(tls_port, client_context(authority, theirs)) as sender:
            assert sender.send(ris.oru("Cifrato.", study=STUDY)).code == "AA"
        with contextlib.suppress(OSError), ris.Ris(tls_port, client_context(authority, None)) as stranger:
            stranger.post(ris.oru("Senza certificato.", study=STUDY))
            assert stranger.answer() is None
        with ris.Ris(tls_port) as plain:
            plain.post(ris.oru("In chiaro.", study=STUDY))
            assert plain.answer() is None
        assert len(kept(place)) == 1
        assert place.state()["ports"]["hl7_tls"] == tls_port


def test_connections_that_say_nothing_do_not_keep_the_forwarder_from_stopping(tmp_path):
    authority = Authority(tmp_path / "ca")
    pair, tls_port = authority.issue("forwarder"), free_port()
    values = {"certificate": str(pair.certificate), "key": str(pair.key), "ca_file": str(authority.pem)}
    with contextlib.ExitStack() as idle:
        with door(tmp_path, hl7__tls__port=tls_port, **{f"hl7__tls__{k}": v for k, v in values.items()}) as place:
            for listener in (port(place), tls_port):
                idle.enter_context(ris.Ris(listener))
            for listener, tls in ((port(place), None), (tls_port, client_context(authority, pair))):
                sender = idle.enter_context(ris.Ris(listener, tls))
                assert sender.send(ris.oru("Uno.", study=STUDY)).code == "AA"
            stopping = time.monotonic()
        assert time.monotonic() - stopping < 10


def test_nothing_of_a_patient_is_in_the_log_or_the_metrics(tmp_path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("DEBUG", "forwarder")
    with door(tmp_path) as place:
        messages = [ris.oru("Segreto.", study=STUDY, patient="SM-77"), ris.oru("Segreto.", study="1.2.x", patient="SM-77")]
        assert ris.send(port(place), *messages, ris.oru("Segreto.", study=STUDY, patient="SM-77", state="X")) == [
            "AA",
            "AE",
            "AA",
        ]
        shown = place.get("/metrics").data.decode() + place.get("/status.json").data.decode()
    told = shown + "".join(f"{record.getMessage()} {getattr(record, 'fields', '')}" for record in caplog.records)
    assert "HL7 message refused" in told and "forwarder_reports_aside_total 2.0" in told
    assert not any(secret in told for secret in ("Segreto", "SM-77", STUDY, "FERRARI"))


@pytest.mark.parametrize("version", ["2.3", "2.5"])
def test_an_attachment_that_is_not_taken_is_told_with_the_acceptance(tmp_path, caplog: pytest.LogCaptureFixture, version: str):
    image = "OBX|7|ED|IMG^Immagine FERRARI^L||^image^jpeg^Base64^/9j/4AAQSkZJRg==||||||F\r"
    with door(tmp_path) as place:
        got = answer(place, ris.oru("Testo.", study=STUDY, version=version) + image.encode())
        (row,) = kept(place)
    assert got.code == "AA" and "JPEG" in got.field("MSA", 3)
    said = [got.field("ERR", number) for number in (2, 3, 4)]
    assert said == (["OBX^3^5", "102^Data type error^HL70357", "W"] if version == "2.5" else ["", "", ""])
    assert row["content"].decode().endswith("\n[Allegato non trasmesso: Immagine FERRARI (JPEG)]")
    (logged,) = [record.fields for record in caplog.records if "in part" in record.getMessage()]
    assert (logged["peer"], logged["sender"]) == ("127.0.0.1", "RIS@SAN-MATTEO")
    assert "FERRARI" not in got.text + str(logged)


def test_the_log_of_a_refusal_says_who_sent_it_and_where_it_is_wrong(tmp_path, caplog: pytest.LogCaptureFixture):
    with door(tmp_path) as place:
        assert answer(place, ris.oru("", study=STUDY)).code == "AE"
        assert answer(place, b"MSH|nothing").code == "AR"
    first, second = [record.fields for record in caplog.records if record.getMessage() == "HL7 message refused"]
    assert [first[name] for name in ("peer", "sender", "segment", "field")] == ["127.0.0.1", "RIS@SAN-MATTEO", "OBX", 5]
    assert (second["peer"], second["sender"]) == ("127.0.0.1", "")


@pytest.mark.parametrize(("at", "reason"), [("20260110100000", "report-taken-back"), ("20260111090000", None)])
def test_what_was_taken_back_without_a_time_was_so_for_all_versions_of_that_day(tmp_path, at: str, reason: str | None):
    with door(tmp_path) as place:
        gone, late = (ris.oru("x", study=STUDY, state=state, status_at=when) for state, when in (("X", "20260110"), ("F", at)))
        assert ris.send(port(place), gone, late) == ["AA", "AA"]
        assert kept(place)[1]["reason"] == reason


def test_a_version_that_was_taken_back_before_it_came_is_put_aside(tmp_path):
    def version(hour: int, state: str) -> bytes:
        return ris.oru(f"Ore {hour}.", study=STUDY, state=state, status_at=f"20260110{hour:02}0000")

    with door(tmp_path) as place:
        assert ris.send(port(place), version(11, "X"), version(10, "F"), version(12, "F")) == ["AA"] * 3
        assert [(status["state"], status["reason"]) for status in kept(place)][:2] == [
            ("aside", "report-deletion"),
            ("aside", "report-taken-back"),
        ]
        assert kept(place)[2]["state"] == "waiting"


def test_in_the_hour_that_comes_twice_what_was_written_after_the_taking_back_is_not_taken_back(tmp_path):
    def version(at: str, state: str) -> bytes:
        return ris.oru(f"Stato {state}.", study=STUDY, state=state, status_at=at)

    with door(tmp_path) as place:
        sent = version("20261025025000+0200", "X"), version("20261025021000+0100", "F"), version("20261025024000+0200", "P")
        assert ris.send(port(place), *sent) == ["AA"] * 3
        assert [row["state"] for row in kept(place)] == ["aside", "waiting", "aside"]


def test_what_says_no_time_is_never_before_a_known_version_of_the_hour_that_comes_twice(tmp_path):
    with door(tmp_path) as place:
        sent = [ris.oru(f"Testo {at}.", study=STUDY, status_at=at) for at in ("29991027025000+0200", "29991027021000+0100", "")]
        assert ris.send(port(place), *sent) == ["AA"] * 3
        assert [row["at"] for row in kept(place)] == [
            "29991027025000+0200", "29991027021000+0100", "29991027021000+0100",
        ]  # fmt: skip


def test_several_messages_in_one_packet_are_answered_one_by_one(tmp_path):
    with door(tmp_path) as place, ris.Ris(port(place)) as sender:
        frames = [b"\x0b" + ris.oru("Uno.", study=STUDY, order=f"F-{n}") + b"\x1c\r" for n in range(5)]
        sender.socket.sendall(b"".join(frames))
        assert [sender.answer().code for _ in frames] == ["AA"] * 5


def test_a_port_that_is_taken_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = place_of(tmp_path, hl7__port=taken.getsockname()[1])
        with pytest.raises(Exception, match="for HL7"), running(place.config()):
            pass


def test_a_journal_from_before_reports_gets_what_it_lacks(tmp_path):
    from forwarder.operations.snapshot import from_journal
    from forwarder.spool.journal import open_read_only
    from forwarder.spool.schema import SCHEMA

    place = place_of(tmp_path)
    place.spool.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(place.spool / "journal.sqlite3")) as old:
        old.executescript(SCHEMA + "PRAGMA user_version = 1;")
    with contextlib.closing(open_read_only(place.spool)) as journal:
        assert from_journal(journal)["reports"]["received"] == 0
    with running(place.config()):
        assert answer(place, ris.oru("Uno.", study=STUDY)).code == "AA"
        assert place.state()["reports"]["waiting"] == 1
