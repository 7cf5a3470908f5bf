"""ADT by MLLP at two hospitals of the real local city: what each event opens, accepts and undoes, and for whom it never does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ris
from hospital import Hospital, hospital, until
from pacs import running_pacs
from registry import Invented, adt, invented

from forwarder.__main__ import main
from forwarder.deliver.engine import Deliveries
from forwarder.hl7.adt.acts import Act
from forwarder.hl7.adt.engine import Registration
from forwarder.service import running
from local.processes import free_port
from tests.browser import hospital as by_api
from tests.harness import RunningCity

AUTHORITY = {"san-matteo": "SM", "maugeri": "MG"}
DESTINATIONS = {"MAUG": "maugeri", "SM": "san-matteo", "HOME": ""}


@dataclass
class Case:
    """Two hospitals, each with its registration and its forwarder."""

    city: RunningCity
    places: dict[str, Hospital]

    def tell(self, where: str, trigger: str, who: Invented, **more: Any) -> ris.Answer:
        """The registration of a hospital tells its forwarder of an event."""
        return self.post(where, adt(trigger, who, authority=AUTHORITY[where], **more))

    def post(self, where: str, message: bytes) -> ris.Answer:
        with ris.Ris(int(self.places[where].values["hl7.port"])) as sender:
            return sender.send(message)

    def transfers(self, who: Invented, where: str = "san-matteo", **query: str) -> list[dict[str, Any]]:
        """The transfers that San Matteo opened of its patient, as a hospital sees them."""
        asked = "".join(f"&{name}={value}" for name, value in query.items())
        found = self.city.client(where).get(f"/transfers?limit=1000{asked}").json()["transfers"]
        return [transfer for transfer in found if transfer["patient"]["id"] == who.number and transfer["from"] == "san-matteo"]

    def state(self, where: str) -> dict[str, Any]:
        found: dict[str, Any] = self.places[where].state()["adt"]
        return found

    def count(self, where: str, *path: str) -> int:
        """One of the counts of a hospital's state."""
        found: Any = self.state(where)
        for step in path:
            found = found.get(step, 0)
        return int(found)

    def counted_before(self, where: str, *path: str) -> int:
        """The count that a test begins with: what an earlier one opened is seen at the city before it is counted as done."""
        self.settled(where)
        return self.count(where, *path)

    def settled(self, where: str) -> dict[str, Any]:
        return until(lambda: (now := self.state(where))["waiting"] == 0 and now)

    def opened(self, who: Invented) -> dict[str, Any]:
        """The one transfer that is open of a patient of San Matteo's."""
        (found,) = until(lambda: self.transfers(who, status="active"))
        return found

    def accepted(self, who: Invented) -> dict[str, Any]:
        return until(
            lambda: next((transfer for transfer in self.transfers(who, status="active") if transfer.get("accepted_at")), None)
        )


@pytest.fixture(scope="module", autouse=True)
def credentials(city: RunningCity) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
            environment.delenv(name, raising=False)
        environment.setenv("AWS_CONFIG_FILE", city.endpoints["aws_config_file"])
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", city.endpoints["aws_shared_credentials_file"])
        yield


def place(city: RunningCity, folder: Path, institution: str, **values: Any) -> Hospital:
    settings = {
        "archive__profile": institution, "hl7__address": "127.0.0.1", "hl7__port": free_port(), "hl7__adt__enabled": True,
        "hl7__allowed_addresses": ["127.0.0.1"], "hl7__patient_authority": AUTHORITY[institution],
        "hl7__adt__destinations": DESTINATIONS,
    }  # fmt: skip
    return hospital(folder / institution, city.api, **settings | values)


@pytest.fixture(scope="module")
def case(city: RunningCity, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """Two hospitals for the whole module: each test has people of its own, and counts from what it found."""
    folder = tmp_path_factory.mktemp("hospitals")
    places = {institution: place(city, folder, institution) for institution in AUTHORITY}
    with ExitStack() as stack:
        for hospital_there in places.values():
            stack.enter_context(running(hospital_there.config()))
        yield Case(city, places)


def test_a_discharge_opens_and_an_admission_accepts_though_both_hospitals_use_the_same_number_for_two_people(case: Case):
    who = invented()
    other = invented(who.number)  # another person, with that very number at Maugeri
    there = invented(f"M{who.number}", visit=f"M{who.visit}", family=who.family, birth_date=who.birth_date)
    assert case.tell("maugeri", "A01", other).code == "AA"
    assert case.tell("san-matteo", "A03", who, to="MAUG").code == "AA"
    transfer = case.opened(who)
    assert (transfer["to"], "accepted_at" in transfer) == ("maugeri", False)
    assert case.tell("maugeri", "A01", there, coming_from="SM").code == "AA"
    accepted = case.accepted(who)
    assert (accepted["id"], accepted["receiving_patient"]["id"]) == (transfer["id"], there.number)
    assert accepted["reason"] == "Dimissione / discharge (ADT^A03)"


def test_what_an_event_did_stands_in_the_audit_under_its_control_id(case: Case):
    who = invented()
    case.tell("san-matteo", "A03", who, to="MAUG", control_id="CTRL-A03")
    case.opened(who)
    found = case.city.client("san-matteo").get(f"/audit?patient={who.number}").text
    assert "HL7 ADT^A03 CTRL-A03" in found


def test_an_admission_that_comes_before_the_discharge_accepts_too(case: Case):
    who = invented()
    there = invented(f"M{who.number}", visit=f"M{who.visit}", family=who.family, birth_date=who.birth_date)
    case.tell("maugeri", "A01", there)
    case.settled("maugeri")
    case.tell("san-matteo", "A03", who, to="MAUG")
    assert case.accepted(who)["receiving_patient"]["id"] == there.number


def test_an_error_that_nobody_foresaw_puts_off_one_act_and_neither_the_others_nor_the_forwarder(
    case: Case, monkeypatch: pytest.MonkeyPatch
):
    who, other = invented(), invented()
    do = Registration._open

    def opened_but_for_one(self: Registration, act: Act) -> tuple[str | None, str]:
        if act.number == who.number:
            raise KeyError("what an act has no place for")
        return do(self, act)

    monkeypatch.setattr(Registration, "_open", opened_but_for_one)
    assert case.tell("san-matteo", "A03", who, to="MAUG").code == "AA"
    assert case.tell("san-matteo", "A03", other, to="MAUG").code == "AA"
    case.opened(other)
    assert not case.transfers(who)
    monkeypatch.undo()
    case.opened(who)


def test_cancels_undo_what_their_event_did_and_nothing_that_a_person_did(case: Case):
    who = invented()
    there = invented(f"M{who.number}", visit=f"M{who.visit}", family=who.family, birth_date=who.birth_date)
    case.tell("san-matteo", "A03", who, to="MAUG")
    case.opened(who)
    by_a_person = {"patient": {"id": who.number}, "to": "maugeri", "reason": "by a person"}
    assert case.city.client("san-matteo").post("/transfers", json=by_a_person).status_code == 201
    case.tell("maugeri", "A01", there)
    until(lambda: sum("accepted_at" in transfer for transfer in case.transfers(who)) == 2)
    case.tell("maugeri", "A11", there, at=1)
    until(lambda: not any("accepted_at" in transfer for transfer in case.transfers(who)))
    case.tell("san-matteo", "A13", who, at=1)
    until(lambda: [transfer["reason"] for transfer in case.transfers(who, status="active")] == ["by a person"])
    case.tell("san-matteo", "A03", who, to="MAUG", at=2)
    until(lambda: len(case.transfers(who, status="active")) == 2)


@pytest.mark.parametrize("cancelled", [True, False])
def test_what_a_person_does_between_a_look_and_the_act_stands(case: Case, monkeypatch: pytest.MonkeyPatch, cancelled: bool):
    """The cancel of an admission looks under which number its transfer is accepted; then a person accepts it under another one.
    And an admission looks at a transfer that waits; then its sender lets it last longer."""
    who = invented()
    there = invented(f"M{who.number}", visit=f"M{who.visit}", family=who.family, birth_date=who.birth_date)
    case.tell("san-matteo", "A03", who, to="MAUG")
    path = f"/transfers/{case.opened(who)['id']}"
    sender, receiver = (case.city.client(name) for name in ("san-matteo", "maugeri"))
    ask, acted = Registration._call, []

    def interrupted(self: Registration, method: str, asked: str, act: Act, *more: Any, **headers: str) -> Any:
        answer = ask(self, method, asked, act, *more, **headers)
        if (method, asked, act.undo) == ("GET", path, cancelled) and not acted:
            if cancelled:
                acted.append(receiver.put(f"{path}/receiving-patient", json={"id": f"{there.number}-B"}).status_code)
            else:
                acted.append(sender.patch(path, json={"expires_at": "2030-01-01T00:00:00Z"}).status_code)
        return answer

    monkeypatch.setattr(Registration, "_call", interrupted)
    before = case.counted_before("maugeri", "aside")
    case.tell("maugeri", "A01", there)
    case.accepted(who)
    if cancelled:
        case.tell("maugeri", "A11", there, at=1)
        until(lambda: acted and case.settled("maugeri"))
        assert case.accepted(who)["receiving_patient"]["id"] == f"{there.number}-B"
    else:
        case.settled("maugeri")
        assert case.accepted(who)["receiving_patient"]["id"] == there.number
    assert acted == [200]
    assert case.count("maugeri", "aside") == before, "nothing is left for a person"


def test_a_cancel_that_comes_before_its_discharge_leaves_nothing_open(case: Case):
    who = invented()
    before = case.counted_before("san-matteo", "acts", "openings", "done")
    case.tell("san-matteo", "A13", who, at=1)
    case.tell("san-matteo", "A08", who, at=0.5)
    case.tell("san-matteo", "A03", who, to="MAUG", at=0)
    case.settled("san-matteo")
    assert case.count("san-matteo", "acts", "openings", "done") == before
    assert case.transfers(who) == []


def test_messages_that_come_again_change_nothing(case: Case):
    who = invented()
    message = adt("A03", who, authority="SM", to="MAUG")
    for _ in range(3):
        assert case.post("san-matteo", message).code == "AA"
    again = adt("A03", who, authority="SM", to="MAUG", control_id="OTHER")
    assert case.post("san-matteo", again).code == "AA"
    case.opened(who)
    case.settled("san-matteo")
    assert len(case.transfers(who)) == 1
    case.tell("san-matteo", "A13", who, at=1)
    until(lambda: not case.transfers(who, status="active"))
    assert case.post("san-matteo", message).code == "AA"
    case.settled("san-matteo")
    assert len(case.transfers(who)) == 1


def test_a_transfer_that_a_person_ended_is_not_opened_again_by_what_comes_later(case: Case):
    who = invented()
    case.tell("san-matteo", "A03", who, to="MAUG")
    transfer = case.opened(who)
    assert case.city.client("san-matteo").delete(f"/transfers/{transfer['id']}").status_code == 200
    case.tell("san-matteo", "A08", who, at=1, family="ALTRA")
    case.tell("san-matteo", "A03", who, to="MAUG", at=2)
    case.settled("san-matteo")
    assert [transfer["status"] for transfer in case.transfers(who)] == ["revoked"]


@pytest.mark.parametrize("trigger", ["A04", "A05"])
def test_a_registration_proposes_and_accepts_nothing(case: Case, trigger: str):
    who = invented()
    there = invented(f"M{who.number}", visit=f"M{who.visit}", family=who.family, birth_date=who.birth_date)
    case.tell("san-matteo", "A03", who, to="MAUG")
    case.opened(who)
    before = case.counted_before("maugeri", "proposals")
    case.tell("maugeri", trigger, there)
    until(lambda: case.count("maugeri", "proposals") > before)

    def linked() -> list[str]:
        waiting = case.transfers(who, "maugeri", direction="incoming", accepted="false")
        return [link["id"] for transfer in waiting for link in transfer["linked_patients"]]

    until(lambda: linked() == [there.number])


def test_without_an_agreeing_codice_fiscale_an_admission_proposes_only(case: Case):
    who = invented()
    there = invented(f"M{who.number}", visit=f"M{who.visit}", family=who.family, birth_date=who.birth_date)
    case.tell("san-matteo", "A03", who, to="MAUG")
    case.opened(who)
    before = case.counted_before("maugeri", "proposals")
    case.tell("maugeri", "A01", there, code="")
    until(lambda: case.count("maugeri", "proposals") > before)
    assert "accepted_at" not in case.opened(who)


def test_a_patient_whose_codice_fiscale_does_not_agree_is_transferred_by_a_person_or_once_it_is_put_right(case: Case):
    who, other = invented(), invented()
    case.tell("san-matteo", "A03", who, to="MAUG", code=other.code)
    reasons = until(lambda: [act["reason"] for act in case.state("san-matteo")["for_a_person"]])
    assert set(reasons) == {"codice-fiscale-disagrees"}
    assert case.transfers(who) == []
    assert "adt-too-many" not in case.places["san-matteo"].state()["troubles"]
    case.tell("san-matteo", "A08", who, at=1)
    case.opened(who)


def test_a_number_under_which_an_exam_is_of_somebody_else_is_transferred_by_a_person_or_once_that_is_corrected(case: Case):
    """A number that was given again, or one under which many are filed: a transfer shares all that lies under it."""
    who, before = invented(), invented()
    named = by_api.Patient(f"{before.family}^{before.given}")
    said = {"PatientID": who.number, "PatientBirthDate": before.birth_date}
    film = by_api.chest_film(named, "san-matteo", "20250301", **said)
    client = case.city.client("san-matteo")
    by_api.send(client, film)
    until(lambda: client.get(f"/patients/{who.number}/timeline").ok)
    case.tell("san-matteo", "A03", who, to="MAUG")
    (held,) = until(
        lambda: [act for act in case.state("san-matteo")["for_a_person"] if act["reason"] == "exams-of-another-person"]
    )
    assert case.transfers(who) == []
    case.tell("san-matteo", "A08", who, at=1)  # what is told again changes nothing
    case.settled("san-matteo")
    assert case.transfers(who) == []
    assert [act["seq"] for act in case.state("san-matteo")["for_a_person"] if act["kind"] == "opening"][-1] == held["seq"]
    withdrawal = {"reason": "wrong patient"}
    assert client.post(f"/studies/{film.StudyInstanceUID}/withdrawals", json=withdrawal).status_code == 201
    until(lambda: not client.get(f"/patients/{who.number}/timeline").json()["studies"])
    case.tell("san-matteo", "A08", who, at=2, family=who.family.lower())
    case.opened(who)


def test_what_was_held_for_exams_of_somebody_else_is_opened_where_a_person_releases_it(case: Case):
    """And not where a person released it who was shown another reason only."""
    who, before = invented(), invented()
    said = {"PatientID": who.number, "PatientBirthDate": before.birth_date}
    client = case.city.client("san-matteo")
    by_api.send(client, by_api.chest_film(by_api.Patient(f"{before.family}^{before.given}"), "san-matteo", "20250301", **said))
    until(lambda: client.get(f"/patients/{who.number}/timeline").ok)
    config = str(case.places["san-matteo"].write_config())
    case.tell("san-matteo", "A03", who, to="MAUG", code=before.code)
    for reason in ("codice-fiscale-disagrees", "exams-of-another-person"):

        def held(reason: str = reason) -> list[dict[str, Any]]:
            return [act for act in case.state("san-matteo")["for_a_person"] if act["reason"] == reason]

        (act,) = until(held)
        assert case.transfers(who) == []
        assert main(["hl7", "release", str(act["seq"]), "--config", config]) == 0
    case.opened(who)


@pytest.mark.parametrize("trigger", ["A40", "A47", "A18", "A34", "A36"])
def test_a_merge_links_two_numbers_of_one_house_and_is_reversible(case: Case, trigger: str):
    who, retired = invented(), invented().number
    case.tell("san-matteo", trigger, who, merged=retired)
    client = case.city.client("san-matteo")

    def joined() -> list[str]:
        links = client.get(f"/patients/{who.number}/links").json().get("links", [])
        return [link["identifier"]["id"] for link in links if link["status"] == "confirmed" and link["kind"] == "hospital"]

    until(lambda: joined() == [retired])
    case.tell("san-matteo", "A37", who, merged=retired, at=1)
    until(lambda: joined() == [])
    case.tell("san-matteo", "A24", who, merged=retired, at=2)
    until(lambda: joined() == [retired])


def test_merges_that_registrations_send_wrongly_join_nobody_else_and_go_in_no_circle(case: Case):
    """As reported of other archives: a number merged into itself, and the same merge again the other way round."""
    who, retired = invented(), invented().number
    case.tell("san-matteo", "A40", who, merged=who.number)
    case.settled("san-matteo")
    client = case.city.client("san-matteo")

    def joined(number: str) -> list[str]:
        links = client.get(f"/patients/{number}/links")
        found = links.json().get("links", []) if links.ok else []
        return [link["identifier"]["id"] for link in found if link["status"] == "confirmed" and link["kind"] == "hospital"]

    assert joined(who.number) == []
    case.tell("san-matteo", "A40", who, merged=retired, at=1)
    until(lambda: joined(who.number) == [retired])
    case.tell("san-matteo", "A40", invented(retired), merged=who.number, at=2)
    case.settled("san-matteo")
    assert joined(who.number) == [retired]


def test_what_is_not_for_us_is_acknowledged_and_what_nobody_receives_is_listed(case: Case):
    who = invented()
    before = [case.counted_before("san-matteo", "events", name) for name in ("not-for-us", "destination-of-nobody")]
    assert case.tell("san-matteo", "A60", who).code == "AA"
    assert case.tell("san-matteo", "A03", who, to="XYZ").code == "AA"
    assert case.tell("san-matteo", "A03", who, to="HOME", visit="other").code == "AA"
    state = case.settled("san-matteo")
    assert [state["events"]["not-for-us"], state["events"]["destination-of-nobody"]] == [count + 1 for count in before]
    assert [destination["code"] for destination in state["unknown_destinations"]] == ["XYZ"]
    assert case.transfers(who) == []


def test_a_move_within_the_house_opens_nothing(case: Case):
    who = invented()
    before = case.counted_before("san-matteo", "acts", "openings", "done"), case.counted_before("san-matteo", "aside")
    case.tell("san-matteo", "A02", who, ward="SM")
    case.tell("san-matteo", "A12", who, at=1)
    case.tell("san-matteo", "A02", who, ward="SM", at=2)
    state = case.settled("san-matteo")
    assert (state["acts"]["openings"]["done"], state["aside"], case.transfers(who)) == (*before, [])
    case.tell("san-matteo", "A02", who, ward="MAUG", at=3)
    assert case.opened(who)["reason"] == "Trasferimento / transfer (ADT^A02)"


def test_a_patient_is_known_to_the_archive_before_any_image(case: Case):
    who = invented()
    case.tell("maugeri", "A01", who)
    found = until(lambda: (answer := case.city.client("maugeri").get(f"/patients/{who.number}/timeline")).ok and answer.json())
    assert (found["patient"]["birth_date"], found["studies"]) == (who.birth_date, [])


def test_what_is_only_announced_makes_the_patient_known_and_opens_when_it_happens(case: Case):
    """A16 and A15 (pending discharge, pending transfer), and A25 and A26, which call them off."""
    leaves, moves, stays = invented(), invented(), invented()
    case.tell("san-matteo", "A16", leaves, to="MAUG")
    case.tell("san-matteo", "A15", moves, pending="MAUG")
    case.tell("san-matteo", "A16", stays, to="MAUG")
    case.tell("san-matteo", "A25", stays, at=1)
    case.settled("san-matteo")
    assert [case.transfers(who) for who in (leaves, moves, stays)] == [[], [], []]
    client = case.city.client("san-matteo")
    assert client.get(f"/patients/{leaves.number}/timeline").json()["patient"]["birth_date"] == leaves.birth_date
    case.tell("san-matteo", "A03", leaves, to="MAUG", at=2)
    case.tell("san-matteo", "A02", moves, ward="MAUG", at=2)
    assert [case.opened(who)["to"] for who in (leaves, moves)] == ["maugeri", "maugeri"]


def test_what_is_announced_opens_at_once_where_the_hospital_wants_it_and_once(city: RunningCity, tmp_path: Path):
    eager = place(city, tmp_path, "san-matteo", hl7__adt__pending_opens=True)
    with running(eager.config()):
        case = Case(city, {"san-matteo": eager})
        leaves, moves = invented(), invented()
        case.tell("san-matteo", "A16", leaves, to="MAUG")
        case.tell("san-matteo", "A15", moves, pending="MAUG")
        first = case.opened(leaves)["id"]
        case.opened(moves)
        case.tell("san-matteo", "A03", leaves, to="MAUG", at=1)
        case.tell("san-matteo", "A26", moves, at=1)
        until(lambda: not case.transfers(moves, status="active"))
        case.settled("san-matteo")
        assert [(transfer["id"], transfer["status"]) for transfer in case.transfers(leaves)] == [(first, "active")]  # still that


def test_an_admission_that_accepts_brings_the_images_and_waits_for_no_feed(
    case: Case, city: RunningCity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Deliveries, "follow", lambda self, stop: None)
    who = invented()
    there = invented(f"M{who.number}", visit=f"M{who.visit}", family=who.family, birth_date=who.birth_date)
    sent = by_api.Patient(f"{who.family}^{who.given}")
    sent.at["san-matteo"] = who.number
    film = by_api.image(sent, "san-matteo", PatientBirthDate=who.birth_date)
    by_api.send(city.client("san-matteo"), film)
    with running_pacs() as pacs:
        values = {"pacs__host": "127.0.0.1", "pacs__port": pacs.port, "deliver__enabled": True}
        receiving = place(city, tmp_path, "maugeri", **values)
        with running(receiving.config()):
            case.tell("san-matteo", "A03", who, to="MAUG")
            case.opened(who)
            Case(city, {"maugeri": receiving}).tell("maugeri", "A01", there)
            until(lambda: set(pacs.kept) == {str(film.SOPInstanceUID)})
        assert pacs.kept[str(film.SOPInstanceUID)].PatientID == there.number


def test_a_feed_gone_wild_opens_nothing_in_masses(city: RunningCity, tmp_path: Path):
    limited = place(city, tmp_path, "san-matteo", hl7__adt__per_hour=2)
    with running(limited.config()):
        case = Case(city, {"san-matteo": limited})
        people = [invented() for _ in range(5)]
        for who in people:
            assert case.tell("san-matteo", "A03", who, to="MAUG").code == "AA"
        until(lambda: case.state("san-matteo")["held"] == 3)
        assert "adt-too-many" in limited.state()["troubles"]
        assert sum(len(case.transfers(who)) for who in people) == 2


def test_only_with_consent_where_the_hospital_asks_for_it(city: RunningCity, tmp_path: Path):
    careful = place(city, tmp_path, "san-matteo", hl7__adt__open="consent")
    with running(careful.config()):
        case = Case(city, {"san-matteo": careful})
        refuses, agrees = invented(), invented()
        case.tell("san-matteo", "A03", refuses, to="MAUG", consent="N")
        case.tell("san-matteo", "A03", agrees, to="MAUG", consent="S")
        case.opened(agrees)
        assert case.settled("san-matteo")["events"]["no-consent"] == 1
        assert case.transfers(refuses) == []


def test_what_happened_too_long_ago_opens_nothing(case: Case):
    who = invented()
    before = case.counted_before("san-matteo", "events", "too-late")
    case.tell("san-matteo", "A03", who, to="MAUG", at=-8 * 24 * 60)
    case.settled("san-matteo")
    assert case.count("san-matteo", "events", "too-late") == before + 1
    assert case.transfers(who) == []


def test_what_was_acknowledged_is_done_after_the_line_was_away(city: RunningCity, tmp_path: Path):
    away = place(city, tmp_path, "san-matteo")
    cut = hospital(away.folder, "http://127.0.0.1:9", **{name.replace(".", "__"): value for name, value in away.values.items()
                                                         if name != "archive.api"})  # fmt: skip
    who = invented()
    with running(cut.config()):
        assert Case(city, {"san-matteo": cut}).tell("san-matteo", "A03", who, to="MAUG").code == "AA"
        until(lambda: cut.state()["adt"]["waiting"] == 2)
    with running(away.config()):
        Case(city, {"san-matteo": away}).opened(who)
