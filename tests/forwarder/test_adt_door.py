"""ADT at the MLLP door: what is acknowledged, refused, tried, told, and kept through a death at any step."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import ris
from fakes import FakeArchive, Reply
from hospital import Hospital, hospital, until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registry import Invented, adt, invented
from test_kill import doomed

from forwarder.__main__ import main
from forwarder.errors import ConfigError
from forwarder.hl7.adt import ledger
from forwarder.service import running
from local.processes import free_port
from tests.harness import RunningCity

THOROUGH = bool(os.environ.get("THOROUGH"))

NOWHERE = "http://127.0.0.1:9"
WHO = invented()


def place_of(folder: Path, api: str = NOWHERE, **values: Any) -> Hospital:
    settings = {
        "hl7__address": "127.0.0.1", "hl7__port": free_port(), "hl7__adt__enabled": True,
        "hl7__allowed_addresses": ["127.0.0.1"], "hl7__patient_authority": "SM", "hl7__adt__destinations": {"MAUG": "maugeri"},
    }  # fmt: skip
    return hospital(folder, api, **settings | values)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """A door whose archive never answers: what it takes stays in the journal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "AKID")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.delenv("AWS_PROFILE", raising=False)
        place = place_of(tmp_path_factory.mktemp("door"), archive__profile="")
        with running(place.config()):
            yield place


def post(place: Hospital, message: bytes) -> ris.Answer:
    with ris.Ris(int(place.values["hl7.port"])) as sender:
        return sender.send(message)


def tell(place: Hospital, trigger: str, who: Invented = WHO, **more: Any) -> ris.Answer:
    return post(place, adt(trigger, who, authority="SM", **more))


def kept(place: Hospital, query: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(place.spool / "journal.sqlite3")) as journal:
        return journal.execute(query).fetchall()


def changed(old: str, new: str, trigger: str = "A03") -> bytes:
    message = adt(trigger, invented(), authority="SM", to="MAUG").decode()
    assert old in message
    return message.replace(old, new).encode()


REFUSED = {
    "another hospital's number alone": (adt("A03", WHO, authority="XX"), "AE", "PID^1^3", "101"),
    "no patient": (changed("PID|", "ZID|"), "AE", "PID^1", "100"),
    "two patients": (changed("PV1|", "PID|2||X^^^SM^PI\rPV1|"), "AE", "PID^2", "100"),
    "two numbers of one house": (changed("^^^SM^PI", "^^^SM^PI~OTHER^^^SM^PI"), "AE", "PID^1^3", "102"),
    "a number that is too long": (adt("A03", invented("N" * 65), authority="SM"), "AE", "PID^1^3", "102"),
    "more patients than 100": (
        adt("A40", WHO, authority="SM", merged="M-0")
        + b"".join(b"PID|1||P-%d^^^SM^PI\rMRG|M-%d^^^SM^PI\r" % (number, number) for number in range(100)),
        "AE",
        "PID^101",
        "207",
    ),
    "a merge of nobody": (adt("A40", WHO, authority="SM"), "AE", "MRG^1", "100"),
    "a link of one": (adt("A24", WHO, authority="SM"), "AE", "PID^1", "100"),
    "no event": (changed("ADT^A03^ADT_A03", "ADT^^"), "AR", "MSH^1^9", "201"),
}


@pytest.mark.parametrize(("message", "code", "place", "condition"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_refused_naming_the_place_and_stands_on_the_page(
    door: Hospital, message: bytes, code: str, place: str, condition: str
):
    answered = post(door, message)
    assert (answered.code, answered.field("ERR", 2), answered.field("ERR", 3).split("^")[0]) == (code, place, condition)
    last = door.state()["adt"]["unreadable"][-1]
    assert last["place"] == "-".join(part for part in (place.split("^")[0], *place.split("^")[2:]))
    assert not any(personal in str(last) + answered.text for personal in (WHO.number, WHO.family, WHO.code))


def test_a_number_of_64_characters_100_patients_and_the_last_20_that_could_not_be_read(door: Hospital):
    assert tell(door, "A03", invented("N" * 64), to="MAUG").code == "AA"
    merges = b"".join(b"PID|1||Q-%d^^^SM^PI\rMRG|M-%d^^^SM^PI\r" % (number, number) for number in range(99))
    assert post(door, adt("A40", invented(), authority="SM", merged="M-X") + merges).code == "AA"
    for _ in range(21):
        assert post(door, changed("PID|", "ZID|")).code == "AE"
    assert len(door.state()["adt"]["unreadable"]) == 20


def test_of_one_patient_2000_events_are_kept_and_not_one_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert ledger.MOST_OF_A_PATIENT == 2000
    monkeypatch.setattr(ledger, "MOST_OF_A_PATIENT", 3)
    place, who = place_of(tmp_path), invented()
    with running(place.config()):
        answers = [tell(place, "A01", who, at=number, visit=f"V{number}") for number in range(4)]
        assert tell(place, "A01", invented()).code == "AA", "of another patient"
    assert [answered.code for answered in answers] == ["AA", "AA", "AA", "AE"]
    assert answers[3].field("ERR", 3).split("^")[0] == "207"


def test_the_time_of_an_event_is_needed(door: Hospital):
    message = adt("A03", WHO, authority="SM", to="MAUG").decode().split("\r")
    header = message[0].split("|")
    header[6] = ""
    answered = post(door, "\r".join(["|".join(header), "EVN|A03", *message[2:]]).encode())
    assert (answered.code, answered.field("ERR", 3).split("^")[0]) == ("AE", "101")


@pytest.mark.parametrize("nothing", ["00010101000000", "0001-01-01 00:00:00", "17530101000000", "18401231"])
def test_a_moment_by_which_a_database_says_none_is_none(door: Hospital, nothing: str):
    """.NET, SQL Server and MUMPS write their first one."""
    who = invented()
    for trigger in ("A03", "A08"):
        lines = adt(trigger, who, authority="SM", to="MAUG", visit="", occurred=nothing).decode().split("\r")
        lines[1] = lines[1].replace(lines[1].split("|")[2], nothing)
        lines[2] = lines[2].replace(who.birth_date, nothing)
        assert post(door, "\r".join(lines).encode()).code == "AA"
    ((said,),) = kept(door, f"SELECT content FROM adt_events WHERE number = '{who.number}' AND trigger = 'A08'")
    known = json.loads(said)
    assert (known["person"]["birth_date"], known["late"], known["dated"]) == ("", False, False)


def test_what_is_acknowledged_is_in_the_journal_with_what_follows_of_it(door: Hospital):
    who = invented()
    assert tell(door, "A03", who, to="MAUG").code == "AA"
    acts = kept(door, f"SELECT kind, state, subject FROM adt_acts WHERE number = '{who.number}' ORDER BY kind")
    assert [(kind, state) for kind, state, _ in acts] == [("opening", "waiting"), ("patient", "waiting")]
    assert acts[0][2] == "maugeri"
    assert tell(door, "A13", who, at=1).code == "AA"
    (state,) = kept(door, f"SELECT state FROM adt_acts WHERE number = '{who.number}' AND kind = 'opening'")[0]
    assert state == "dropped"


TWO = {"MAUG": "maugeri", "MOND": "mondino"}
DIALECTS = {
    "disposition": ({}, {"disposition": "MAUG"}, True),
    "discharged to location": ({}, {"to": "MAUG"}, True),
    "discharged to location with its parts": ({}, {"to": "MAUG&1.2.3&ISO^20260301"}, True),
    "both, of which one is no institution": ({}, {"to": "MAUG", "disposition": "02"}, True),
    "another field": ({"hl7__adt__discharge_fields": ["PV1-3.4"]}, {"ward": "MAUG"}, True),
    "a field that is not the hospital's": ({"hl7__adt__discharge_fields": ["PV1-3.4"]}, {"to": "MAUG"}, False),
    "two institutions": ({"hl7__adt__destinations": TWO}, {"to": "MAUG", "disposition": "MOND"}, False),
}


@pytest.mark.parametrize(("values", "said", "opens"), DIALECTS.values(), ids=DIALECTS)
def test_where_the_destination_stands_is_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], values: dict[str, Any], said: dict[str, str], opens: bool
):
    place = place_of(tmp_path, **values)
    file = tmp_path / "message.hl7"
    file.write_bytes(adt("A03", invented(), authority="SM", **said))
    assert main(["hl7", "try", str(file), "--config", str(place.write_config())]) == 0
    assert ("would open a transfer to maugeri" in capsys.readouterr().out) is opens


def test_trying_messages_does_nothing_and_knows_what_the_journal_knows(
    door: Hospital, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    who = invented()
    tell(door, "A03", who, to="MAUG")
    before = kept(door, "SELECT * FROM adt_acts"), kept(door, "SELECT * FROM adt_events")
    file = tmp_path / "messages.hl7"
    messages = [
        adt("A03", who, authority="SM", to="MAUG"), adt("A13", who, authority="SM", at=1),
        adt("A03", who, authority="SM", to="NOWHERE", visit="other"), adt("A01", who, authority="XX"),
        ris.oru("Testo.", study="1.2.3", patient=who.number), adt("A60", who, authority="SM"), b"rubbish\r",
    ]  # fmt: skip
    file.write_bytes(b"".join(b"\x0b" + message + b"\x1c\r" for message in messages))
    assert main(["hl7", "try", str(file), "--config", str(door.write_config())]) == 0
    said = capsys.readouterr().out
    for text in (
        "1. ADT^A03", "codice fiscale: valid, agrees", "2. ADT^A13", "would not open the transfer to maugeri",
        "“NOWHERE” is nobody's", "4. ADT^A01", "AE, There is no number", "1 reports", "not for us",
    ):  # fmt: skip
        assert text in said, text
    assert who.family not in said and who.code not in said
    assert before == (kept(door, "SELECT * FROM adt_acts"), kept(door, "SELECT * FROM adt_events"))


@pytest.mark.parametrize("missing", ["hl7__allowed_addresses", "hl7__patient_authority"])
@pytest.mark.parametrize("section", ["adt", "orders"])
def test_it_does_not_start_without_saying_who_may_send_and_whose_numbers_count(tmp_path: Path, missing: str, section: str):
    empty: Any = [] if missing.endswith("addresses") else ""
    values = {"hl7__adt__enabled": section == "adt", "hl7__orders__enabled": section == "orders", missing: empty}
    with pytest.raises(ConfigError, match=missing.replace("__", ".")):
        place_of(tmp_path, **values).config()


@settings(max_examples=150 if THOROUGH else 40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_damage_to_a_message_breaks_the_door(door: Hospital, data: st.DataObject):
    trigger = data.draw(st.sampled_from(["A01", "A03", "A13", "A40"]))
    message = bytearray(adt(trigger, WHO, authority="SM", to="MAUG", merged="X", control_id="C-1"))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(message) - 1))
        what = data.draw(st.sampled_from([b"|", b"^", b"~", b"\r", b"\\", b"&", b"\xe0", b"PID|", b"", b"\0", b"99999999999999"]))
        message[at : at + data.draw(st.integers(0, 30))] = what
    with ris.Ris(int(door.values["hl7.port"])) as sender:
        sender.post(bytes(message))
        sender.post(adt("A60", WHO, authority="SM", control_id="NEXT"))
        answers = []
        while not answers or answers[-1].field("MSA", 2) != "NEXT":
            got = sender.answer()
            assert got is not None
            answers.append(got)


def test_nothing_of_a_patient_is_in_the_log_the_page_or_the_metrics(door: Hospital, caplog: pytest.LogCaptureFixture):
    caplog.set_level("DEBUG", "forwarder")
    who = invented()
    tell(door, "A03", who, to="MAUG")
    tell(door, "A01", who)
    post(door, adt("A03", who, authority="XX"))
    shown = door.get("/metrics").data.decode() + door.get("/status.json").data.decode()
    told = shown + "".join(f"{record.getMessage()} {getattr(record, 'fields', '')}" for record in caplog.records)
    assert "forwarder_adt_unreadable_total" in told
    assert not any(secret in told for secret in (who.number, who.family, who.code, who.birth_date, who.visit))


@pytest.mark.usefixtures("credentials_of_the_city")
@pytest.mark.parametrize(
    "step", ["adt-begun", *(pytest.param(step, marks=pytest.mark.slow) for step in ("adt-journaled", "adt-done"))]
)
def test_death_right_after_each_step_opens_once_and_loses_nothing(city: RunningCity, tmp_path: Path, step: str):
    place, who = place_of(tmp_path, city.api), invented()
    message = adt("A03", who, authority="SM", to="MAUG")
    with doomed(place, step, 1 if step == "adt-journaled" else 2) as forwarder:
        with contextlib.suppress(AssertionError, ConnectionError):
            post(place, message)
        assert forwarder.wait(60) == -signal.SIGKILL
    with running(place.config()):
        assert post(place, message).code == "AA"  # a sender without an answer sends again
        until(lambda: place.state()["adt"]["waiting"] == 0)
        listed = city.client("san-matteo").get("/transfers?direction=outgoing&limit=1000").json()["transfers"]
        assert [transfer["status"] for transfer in listed if transfer["patient"]["id"] == who.number] == ["active"]


@pytest.mark.usefixtures("credentials_of_the_city")
def test_what_was_held_goes_on_when_a_person_says_so(city: RunningCity, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    place = place_of(tmp_path, city.api, hl7__adt__per_hour=1)
    config = str(place.write_config())
    with running(place.config()):
        for _ in range(3):
            tell(place, "A03", invented(), to="MAUG")
        until(lambda: place.state()["adt"]["held"] == 2)
        assert main(["hl7", "list", "--config", config]) == 0
        listed = capsys.readouterr().out
        assert listed.count("too-many") == 2 and "HL7 ADT^A03" in listed
        first = listed.split()[0]
        assert main(["hl7", "release", first, "--config", config]) == 0
        until(lambda: place.state()["adt"]["acts"]["openings"]["done"] == 2)
        assert main(["hl7", "discard", "--all", "--config", config]) == 0
        assert until(lambda: place.state()["adt"]["held"] == 0 and place.state()["adt"])["acts"]["openings"]["done"] == 2


@pytest.fixture
def refusing(archive: FakeArchive) -> Iterator[tuple[FakeArchive, list[Reply]]]:
    """An archive with a transfer that waits for WHO, and what it answers once to the acceptance, or (500) to what is
    known of the patient."""
    first: list[Reply] = []
    waits = {"id": "T1", "from": "maugeri", "opened_at": datetime.now(UTC).isoformat(), "patient": {"issuer": "2.1", "id": "X"}}
    waits |= {"linked_patients": [{"id": WHO.number}]}
    told = {
        "/institutions": {"institutions": [{"id": "san-matteo", "name": "SM", "patient_id_issuer": "2.2"}]},
        "/transfers": {"transfers": [waits]}, "/changes": {"changes": [], "next": "1"},
    }  # fmt: skip

    def before(method: str, path: str, _: bytes) -> Reply | None:
        if first and method == "PUT" and (WHO.number if first[0].status == 500 else "/receiving-patient") in path:
            return first.pop()
        return Reply(200, json.dumps(told.get(path.partition("?")[0], {})))

    archive.before = before
    yield archive, first


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize(
    "reply",
    [
        Reply(403, '{"message": "The security token included in the request is expired"}'),
        Reply(404, "<html>a page of something else</html>"),
        Reply(500, "{}"),
    ],
    ids=lambda reply: str(reply.status),
)
def test_what_stands_before_the_archive_decides_nothing_and_no_number_is_told_of_it(
    tmp_path: Path, refusing: tuple[FakeArchive, list[Reply]], caplog: pytest.LogCaptureFixture, reply: Reply
):
    """A clock that jumped, credentials that ended, a proxy that knows no such page: the acceptance is tried again."""
    archive, first = refusing
    first.append(reply)
    place = place_of(tmp_path, archive.url)
    with running(place.config()) as state:
        tell(place, "A01", WHO)
        until(lambda: not first)
        shown = until(lambda: reply.status == 403 or place.state()["line"]["error"])
        state._outbox.try_now()
        until(lambda: place.state()["adt"]["acts"]["acceptances"]["done"] == 1)
        assert place.state()["adt"]["aside"] == 0
    told = str(shown) + "".join(f"{getattr(record, 'fields', '')}" for record in caplog.records)
    assert WHO.number not in told


def test_a_message_at_which_the_forwarder_fails_is_answered_and_holds_up_nothing_behind_it(tmp_path: Path) -> None:
    place = place_of(tmp_path, archive__profile="")
    with running(place.config()) as state:
        assert state.registration is not None
        kept = state.registration.ledger

        class Failing:
            """Its journal, but for a question that nobody expected to fail."""

            failing = True

            def __getattr__(self, name: str) -> Any:
                return getattr(kept, name)

            def is_crowded(self, number: str) -> bool:
                if self.failing:
                    raise OverflowError("date value out of range")
                return kept.is_crowded(number)

        state.registration.ledger = failing = Failing()  # type: ignore[assignment]
        with ris.Ris(int(place.values["hl7.port"])) as sender:
            refused = sender.send(adt("A01", WHO, authority="SM"))
            assert refused.code == "AE"
            assert WHO.number not in refused.text
            failing.failing = False
            assert sender.send(adt("A01", WHO, authority="SM")).code == "AA"
        (shown,) = place.state()["adt"]["unreadable"]
        assert "its log says where" in str(shown["detail"])


@pytest.mark.usefixtures("credentials")
def test_an_admission_does_not_replace_the_number_under_which_a_person_accepted_meanwhile(
    tmp_path: Path, refusing: tuple[FakeArchive, list[Reply]]
):
    """As after a line that was away: the transfer waited when this was decided on."""
    archive, _ = refusing
    waiting, put = archive.before, []

    def before(method: str, path: str, body: bytes) -> Reply | None:
        if method == "GET" and path == "/transfers/T1":
            return Reply(200, json.dumps({"id": "T1", "receiving_patient": {"issuer": "2.2", "id": "ANOTHER"}, "state": "1"}))
        if "/receiving-patient" in path:
            put.append(path)
        return waiting(method, path, body)

    archive.before = before
    place = place_of(tmp_path, archive.url)
    with running(place.config()):
        tell(place, "A01", WHO)
        until(lambda: place.state()["adt"]["aside"] == 1)
        assert [act["reason"] for act in place.state()["adt"]["for_a_person"]] == ["accepted-otherwise"]
    assert not put
