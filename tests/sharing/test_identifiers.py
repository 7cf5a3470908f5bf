"""Patient identifiers: which kind each is, where they are found, and what the archive joins by itself."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from chalicelib.domain import italian
from chalicelib.domain.errors import Conflict, Forbidden, NotFound
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Put
from chalicelib.services.identity import codice_fiscale, linking
from tests.sharing.codes import fiscal_code, omocode
from tests.world import OIDS, A, B, C, World

CF = italian.CODICE_FISCALE
ADA = fiscal_code("19600315", "F")
UGO = fiscal_code("19600315", "M")


@pytest.mark.parametrize(
    ("issuer", "value", "kind"),
    [
        (CF, ADA, "codice-fiscale"),
        (CF, omocode(ADA, 3), "codice-fiscale"),
        (CF, "01234567890", "codice-fiscale-provisional"),
        (CF, "STP0301234567890", "stp"),
        (CF, "ENI0301234567890", "eni"),
        (italian.STP, "STP0301234567890", "stp"),
        (italian.ENI, "ENI0301234567890", "eni"),
        (italian.TEAM, "80380000300123456789", "team"),
        (italian.TEAM_CARD, "80380000300123456789", "team"),
        (italian.LOMBARDY, "1234567", "regional"),
        (OIDS[A], ADA, "hospital"),
        (OIDS[A], "STP0301234567890", "hospital"),
    ],
)
def test_kinds_of_identifiers_are_told_apart_by_issuer_and_form(issuer: str, value: str, kind: str) -> None:
    assert italian.kind(PatientIdentifier(issuer, value)) == kind


def test_a_code_with_omocodia_is_the_same_code() -> None:
    for places in range(1, 8):
        read = codice_fiscale.read(omocode(ADA, places))
        assert read is not None
        assert (read.code, read.birth, read.sex) == (ADA, "600315", "F")


@pytest.mark.parametrize(
    "value", ["STP0301234567890", "ENI0301234567890", "01234567890", ADA[:-1] + ("A" if ADA[-1] != "A" else "B"), "", "XXXXXX"]
)
def test_what_is_no_valid_code_is_never_read_as_one(value: str) -> None:
    assert codice_fiscale.read(value) is None


def linked(world: World, who: str, patient: str) -> set[tuple[str, str]]:
    return {
        (link["identifier"]["issuer"], link["identifier"]["id"])
        for link in world.links(who, patient)
        if link["status"] == "confirmed"
    }


def joined(world: World, who: str, patient: str, issuer: str, value: str) -> bool:
    """Whether two numbers are linked, whoever may know of it."""
    from chalicelib.services import access

    record = access.load_record(world.table, PatientIdentifier(OIDS[who], patient).hash)
    return PatientIdentifier(issuer, value) in record.linked


@pytest.mark.parametrize(
    "other",
    [
        {"other_ids": [(ADA, CF)]},
        {"other_ids": [(ADA, None)]},
        {"other_ids": [(omocode(ADA), CF)]},
        {"other_ids": [(ADA.lower(), None)]},
        {"other_ids": [("80380000300123456789", italian.TEAM), (ADA, CF)]},
    ],
)
def test_two_hospitals_whose_images_carry_one_code_have_one_patient(world: World, other: dict[str, object]) -> None:
    world.arrive(A, "1", "1.2.1", other_ids=[(ADA, CF)])
    world.arrive(B, "9", "1.2.2", **other)
    world.settle()
    assert joined(world, A, "1", OIDS[B], "9")
    assert joined(world, A, "1", CF, ADA)


def test_a_code_is_found_where_the_patient_id_itself_is_one(world: World) -> None:
    world.arrive(A, ADA, "1.2.1", universal=CF)
    world.arrive(B, omocode(ADA), "1.2.2", universal=CF)
    world.arrive(C, "5", "1.2.3", other_ids=[(ADA, CF)])
    world.settle()
    assert joined(world, C, "5", CF, ADA)
    assert joined(world, C, "5", CF, omocode(ADA))
    assert world.found(A, ("PatientID", ADA)) == {"1.2.1"}


SECOND = {"name": "Xaxa^Xexe", "other_ids": [(omocode(ADA), CF)]}
"""Who was given the code of ADA with omocodia: because two persons were born that day, there, of that sex, with such a name."""


@pytest.mark.parametrize("first", ["Rossi^Ada", "Xaxa", "Xaxa^Xexe Maria", ""])
@pytest.mark.parametrize("order", range(3))
def test_codes_that_are_equal_only_without_omocodia_join_no_two_who_are_not_named_alike_in_full(
    world: World, first: str, order: int
) -> None:
    arriving = [
        lambda: world.arrive(A, "1", "1.2.1", name=first, other_ids=[(ADA, CF)]),
        lambda: world.arrive(B, "9", "1.2.2", **SECOND),
        lambda: world.arrive(B, omocode(ADA), "1.2.3", name=SECOND["name"], universal=CF),
    ]
    for arrive in arriving[order:] + arriving[:order]:
        arrive()
        world.settle()
    transfer = world.open(A, "1", B)
    assert world.transfer(B, transfer)["linked_patients"] == []
    assert world.on_timeline(B, "9") == {"1.2.2", "1.2.3"}
    assert not joined(world, B, "9", CF, ADA)
    assert joined(world, A, "1", CF, ADA), "each under its own code"
    assert joined(world, B, "9", CF, omocode(ADA))
    world.declare_emergency(C, omocode(ADA), CF)
    world.settle()
    assert world.on_timeline(C, omocode(ADA), CF) == {"1.2.2", "1.2.3"}, "an emergency names one of the two"


def test_a_record_of_somebody_else_with_the_code_parts_what_omocodia_had_joined(world: World) -> None:
    world.arrive(A, "1", "1.2.1", name=SECOND["name"], other_ids=[(ADA, CF)])
    world.arrive(B, "9", "1.2.2", **SECOND)
    world.settle()
    assert joined(world, A, "1", OIDS[B], "9")
    world.arrive(C, "5", "1.2.3", name="Rossi^Ada", other_ids=[(ADA, CF)])
    world.settle()
    assert not joined(world, B, "9", CF, ADA)
    assert joined(world, C, "5", OIDS[A], "1"), "both were given this very code"
    assert not joined(world, C, "5", OIDS[B], "9")


def test_a_number_that_carries_a_code_with_omocodia_and_without_is_joined_to_nobody(world: World) -> None:
    world.arrive(A, "1", "1.2.1", other_ids=[(ADA, CF)])
    world.arrive(B, "9", "1.2.2", other_ids=[(omocode(ADA), CF)])
    world.settle()
    world.arrive(B, "9", "1.2.3", other_ids=[(ADA, CF)])
    world.settle()
    assert not joined(world, A, "1", OIDS[B], "9")
    assert linked(world, B, "9") == set()


def test_what_was_joined_before_codes_were_kept_as_written_stays_until_a_record_says_how_it_is_written(world: World) -> None:
    world.make_known(B, "9", name="Rossi^Ugo", birth_date="19600315", sex="F", identifiers=[{"issuer": CF, "id": ADA}])
    for key, item in world.table.memory.items().items():
        if key[1].startswith("CARRIES#"):
            kept = {name: value for name, value in item.data.items() if name not in ("name", "written")}
            world.table.memory.put(Put(replace(item, data=kept)))
    world.arrive(A, "1", "1.2.1", other_ids=[(ADA, CF)])
    world.settle()
    assert joined(world, A, "1", OIDS[B], "9")
    second = [{"issuer": CF, "id": omocode(ADA)}]
    world.make_known(B, "9", name="Rossi^Ugo", birth_date="19600315", sex="F", identifiers=second)
    world.settle()
    assert not joined(world, A, "1", OIDS[B], "9")
    assert linked(world, B, "9") == {(CF, omocode(ADA))}


@pytest.mark.parametrize("name", ["Rossi^Ada", "Verdi^Ada"])
def test_who_may_be_the_same_but_for_omocodia_is_proposed_and_said_to_be_that(world: World, name: str) -> None:
    world.arrive(B, "1", "1.2.1", name="Rossi^Ada", other_ids=[(ADA, CF)])
    world.arrive(B, "9", "1.2.2", name=name, other_ids=[(omocode(ADA), CF)])
    world.arrive(B, "9", "1.2.3", name="Verdi^Ada", other_ids=[(omocode(ADA), CF)])
    world.settle()
    (proposal,) = [link for link in world.links(B, "9") if link["status"] == "proposed"]
    assert proposal["identifier"]["id"] == "1"
    assert {"same-birth-date", "same-sex"} <= set(proposal["evidence"])
    assert "different-omocodia" in proposal["against"]
    assert world.confirm(B, "9", {"link": proposal["link"]})["status"] == "confirmed"
    world.settle()
    assert world.on_timeline(B, "1") == {"1.2.1", "1.2.2", "1.2.3"}


@pytest.mark.parametrize(
    ("code", "compares"),
    [(ADA, "same"), (omocode(ADA), "omocodia"), (fiscal_code("19600315", "F", "G388"), "different"), ("", "unknown")],
)
def test_a_receiver_asks_how_the_codes_compare_before_it_accepts(world: World, code: str, compares: str) -> None:
    world.arrive(A, "1", "1.2.1", name="Rossi^Ada", other_ids=[(ADA, CF)])
    world.arrive(B, "9", "1.2.2", **SECOND | {"other_ids": [(code, CF)] if code else []})
    world.settle()
    transfer = world.open(A, "1", B)
    assert world.transfer(B, transfer, compare="9")["codice_fiscale"] == compares
    assert "codice_fiscale" not in world.transfer(B, transfer)
    assert world.transfer(B, transfer, compare="10")["codice_fiscale"] == "unknown"
    with pytest.raises(Forbidden):
        world.transfer(A, transfer, compare="9")


def test_an_acceptance_under_a_code_that_is_equal_only_without_omocodia_leaves_no_link_when_it_is_taken_back(
    world: World,
) -> None:
    world.arrive(A, "1", "1.2.1", name="Rossi^Ada", other_ids=[(ADA, CF)])
    world.arrive(B, "9", "1.2.2", **SECOND)
    world.settle()
    transfer = world.open(A, "1", B, receiving="9")
    world.settle()
    assert joined(world, A, "1", OIDS[B], "9")
    world.take_back(B, transfer)
    assert not joined(world, A, "1", OIDS[B], "9")


@pytest.mark.parametrize("issuer", [italian.STP, italian.LOMBARDY, "1.2.3.4"])
def test_a_value_under_another_issuer_is_not_a_code_whatever_it_looks_like(world: World, issuer: str) -> None:
    world.arrive(A, "1", "1.2.1", other_ids=[(ADA, issuer)])
    world.arrive(B, "9", "1.2.2", other_ids=[(ADA, CF)])
    world.settle()
    assert not joined(world, A, "1", OIDS[B], "9")


@pytest.mark.parametrize(
    "record",
    [
        {"birth": "19600316"},
        {"sex": "M"},
        {"birth": None},
        {"sex": None},
        {"sex": "O"},
        {"birth": None, "sex": None},
        {"birth": "20600315"},
    ],
)
def test_a_record_that_does_not_agree_with_its_code_is_not_joined(world: World, record: dict[str, str | None]) -> None:
    world.arrive(A, "1", "1.2.1", other_ids=[(ADA, CF)])
    world.arrive(B, "9", "1.2.2", other_ids=[(ADA, CF)], **record)
    world.settle()
    assert not joined(world, A, "1", OIDS[B], "9")
    assert not joined(world, B, "9", CF, ADA)


def test_a_record_that_says_less_does_not_part_what_agreed(world: World) -> None:
    world.arrive(A, "1", "1.2.1", other_ids=[(ADA, CF)])
    world.arrive(B, "9", "1.2.2", other_ids=[(ADA, CF)])
    world.settle()
    world.arrive(B, "9", "1.2.3", other_ids=[(ADA, CF)], birth=None, sex="O")
    world.settle()
    assert joined(world, A, "1", OIDS[B], "9")


def test_a_newborn_under_its_mothers_code_never_gets_her_exams(world: World) -> None:
    world.arrive(A, "1", "1.2.1", other_ids=[(ADA, CF)], birth="19600315", sex="F")
    world.arrive(B, "77", "1.2.2", other_ids=[(ADA, CF)], birth="20260228", sex="F", name="Bianchi^Neonato")
    world.open(A, "1", B)
    world.settle()
    assert not joined(world, B, "77", OIDS[A], "1")
    assert world.on_timeline(B, "77") == {"1.2.2"}
    assert world.found(B, ("PatientID", "77")) == {"1.2.2"}
    assert world.found(B, ("PatientID", "1")) == {"1.2.1"}
    assert world.found(B, ("PatientID", ADA)) == {"1.2.1"}


@pytest.mark.parametrize("born", [{"birth": "20260228"}, {"sex": "M"}])
def test_a_record_that_later_disagrees_ends_the_automatic_link_for_good(world: World, born: dict[str, str]) -> None:
    world.arrive(A, "1", "1.2.1", other_ids=[(ADA, CF)])
    world.arrive(B, "9", "1.2.2", other_ids=[(ADA, CF)])
    world.open(A, "1", B)
    world.settle()
    assert world.on_timeline(B, "9") == {"1.2.1", "1.2.2"}
    world.arrive(B, "9", "1.2.3", other_ids=[(ADA, CF)], **born)
    world.settle()
    assert not joined(world, B, "9", OIDS[A], "1")
    assert world.on_timeline(B, "9") == {"1.2.2", "1.2.3"}
    world.arrive(B, "9", "1.2.4", other_ids=[(ADA, CF)])
    world.arrive(A, "1", "1.2.5", other_ids=[(ADA, CF)])
    world.settle()
    assert not joined(world, B, "9", OIDS[A], "1")


def test_the_code_does_not_join_a_child_and_somebody_born_a_century_before(world: World) -> None:
    code = fiscal_code("20250315", "F")
    world.arrive(A, "1", "1.2.1", other_ids=[(code, CF)], birth="19250315")
    world.arrive(B, "9", "1.2.2", other_ids=[(code, CF)], birth="20250315")
    world.settle()
    assert not joined(world, A, "1", OIDS[B], "9")
    assert not joined(world, A, "1", CF, code)


def test_same_name_and_birth_date_with_another_code_is_never_linked_not_even_by_hand(world: World) -> None:
    twin = fiscal_code("19600315", "F", "G388")
    world.arrive(A, "1", "1.2.1", other_ids=[(ADA, CF)])
    world.arrive(B, "9", "1.2.2", other_ids=[(twin, CF)])
    transfer = world.open(A, "1", B)
    world.settle()
    (proposal,) = [link for link in world.links(B, "9") if link["status"] == "proposed"]
    assert proposal["identifier"] == {"issuer": OIDS[A], "id": "1"}
    assert "different-codice-fiscale" in proposal["against"]
    for body in ({"link": proposal["link"]}, proposal["identifier"]):
        with pytest.raises(Conflict):
            world.confirm(B, "9", body)
    with pytest.raises(Conflict):
        world.accept(B, transfer, "9")
    world.settle()
    assert world.on_timeline(B, "9") == {"1.2.2"}


def test_a_senders_word_about_the_receivers_number_does_not_join_two_codes_and_tells_the_sender_nothing(world: World) -> None:
    world.arrive(A, "1", "1.2.1", other_ids=[(ADA, CF)])
    world.arrive(B, "9", "1.2.2", other_ids=[(UGO, CF)], sex="M", date="20260401")
    world.settle()
    world.open(A, "1", B, proposed="9")
    world.settle()
    assert world.on_timeline(B, "9") == {"1.2.2"}
    assert not world.sees(A, "1.2.2")
    assert world.found(A) == {"1.2.1"}


@pytest.mark.parametrize("before", [True, False])
def test_a_link_to_a_number_that_carries_another_code_ends_whoever_made_it(world: World, before: bool) -> None:
    if before:
        world.arrive(A, "1", "1.2.1", other_ids=[(ADA, CF)])
    else:
        world.arrive(A, "1", "1.2.1")
    world.settle()
    world.open(A, "1", B, receiving="9")
    world.settle()
    world.arrive(B, "9", "1.2.2", date="20260401", other_ids=[(UGO, CF)], sex="M")
    world.arrive(A, "1", "1.2.1", "1.2.1.1.2", other_ids=[(ADA, CF)])
    world.settle()
    assert not joined(world, B, "9", OIDS[A], "1")
    assert not world.sees(A, "1.2.2")
    assert world.on_timeline(B, "9") == {"1.2.2"}


def test_a_number_with_two_codes_is_nobodys_for_certain(world: World) -> None:
    other = fiscal_code("19600315", "F", "G388")
    world.arrive(A, "1", "1.2.1", other_ids=[(ADA, CF)])
    world.arrive(B, "9", "1.2.2", other_ids=[(ADA, CF)])
    world.settle()
    world.arrive(B, "9", "1.2.3", other_ids=[(other, CF)])
    world.settle()
    assert not joined(world, B, "9", OIDS[A], "1")
    assert not joined(world, B, "9", CF, other)


def test_what_a_hospital_says_of_another_hospitals_number_is_not_believed(world: World) -> None:
    world.arrive(A, "1", "1.2.1", birth="19600315", sex="F", other_ids=[(ADA, CF)])
    world.arrive(C, "5", "1.2.2", birth="19600315", sex="F", other_ids=[(ADA, CF)])
    world.settle()
    world.arrive(B, "1", "1.2.3", universal=OIDS[A], birth="19990101", sex="M", other_ids=[(ADA, CF)])
    world.settle()
    assert joined(world, A, "1", OIDS[C], "5"), "a forged record parted them"
    world.arrive(A, "2", "1.2.4", birth="19600315", sex="M")
    world.arrive(B, "2", "1.2.5", universal=OIDS[A], birth="19600315", sex="M", other_ids=[(UGO, CF)])
    world.arrive(C, "6", "1.2.6", birth="19600315", sex="M", other_ids=[(UGO, CF)])
    world.settle()
    assert not joined(world, A, "2", OIDS[C], "6"), "a forged record joined them"


@pytest.mark.parametrize(("numbers", "joins"), [(3, True), (4, False)])
def test_a_code_joins_16_numbers_and_not_17(world: World, monkeypatch: pytest.MonkeyPatch, numbers: int, joins: bool) -> None:
    assert linking.MAX_CARRIERS == 16
    monkeypatch.setattr(linking, "MAX_CARRIERS", 3)
    for number in range(numbers):
        world.arrive(A, f"n{number}", f"1.2.{number}", other_ids=[(ADA, CF)])
    world.settle()
    assert joined(world, A, "n0", OIDS[A], f"n{numbers - 1}") == joins


def test_a_code_that_too_many_numbers_carry_joins_none(world: World) -> None:
    for number in range(40):
        world.arrive(A, f"n{number}", f"1.2.{number}", other_ids=[(ADA, CF)])
    with world.counted() as requests:
        world.settle()
    assert not joined(world, A, "n0", OIDS[A], "n39")
    assert requests["transact"] < 200


def test_an_undone_link_never_returns_by_itself_but_a_person_can_make_it_again(world: World) -> None:
    world.arrive(A, "1", "1.2.1", other_ids=[(ADA, CF)])
    world.arrive(B, "9", "1.2.2", other_ids=[(ADA, CF)])
    transfer = world.open(A, "1", B)
    world.settle()
    (link,) = [link for link in world.links(B, "9") if link["identifier"] == {"issuer": OIDS[A], "id": "1"}]
    assert world.undo(B, "9", link["link"])["status"] == "undone"
    assert world.undo(B, "9", link["link"])["status"] == "undone"
    world.arrive(A, "1", "1.2.3", other_ids=[(ADA, CF)])
    world.arrive(B, "9", "1.2.4", other_ids=[(ADA, CF)])
    world.settle(random.Random(1))
    assert not joined(world, B, "9", OIDS[A], "1")
    world.accept(B, transfer, "9")
    world.settle()
    assert joined(world, B, "9", OIDS[A], "1")
    assert world.on_timeline(B, "9") == {"1.2.1", "1.2.2", "1.2.3", "1.2.4"}


def test_a_wrong_link_undone_leaves_no_trace_in_what_anyone_sees(world: World) -> None:
    world.arrive(A, "1", "1.2.1", name="Bianchi^Ada")
    world.arrive(B, "9", "1.2.2", name="Verdi^Ugo", sex="M", birth="19520101", date="20260401")
    never = world.open(A, "1", B)
    world.settle()
    before = seen_by_all(world)
    world.accept(B, never, "9")
    world.settle()
    assert seen_by_all(world) != before
    assert world.sees(A, "1.2.2")
    (link,) = [link for link in world.links(B, "9") if link["status"] == "confirmed"]
    world.undo(B, "9", link["link"])
    assert seen_by_all(world) == before, "at once, before any projection"
    world.settle()
    assert seen_by_all(world) == before


def test_naming_another_number_undoes_the_first_and_leaves_no_trace_of_it(world: World) -> None:
    world.arrive(A, "1", "1.2.1")
    world.arrive(B, "9", "1.2.2", date="20260401")
    world.arrive(B, "10", "1.2.3", date="20260401")
    transfer = world.open(A, "1", B, receiving="9")
    world.settle()
    assert world.found(A) == {"1.2.1", "1.2.2"}
    world.accept(B, transfer, "10")
    assert not world.sees(A, "1.2.2")
    world.settle()
    assert world.found(A) == {"1.2.1", "1.2.3"}
    assert world.on_timeline(B, "9") == {"1.2.2"}
    assert world.on_timeline(B, "10") == {"1.2.1", "1.2.3"}
    assert [change["study_instance_uid"] for change in world.changes(A) if change.get("owner") == B] == ["1.2.3"]


def test_correcting_the_number_of_one_transfer_leaves_a_link_by_code_alone(world: World) -> None:
    world.arrive(A, "1", "1.2.1", other_ids=[(ADA, CF)])
    world.arrive(B, "9", "1.2.2", other_ids=[(ADA, CF)])
    world.settle()
    transfer = world.open(A, "1", B, receiving="9")
    world.accept(B, transfer, "10")
    world.settle()
    assert joined(world, A, "1", OIDS[B], "9")
    assert joined(world, A, "1", OIDS[B], "10")


def test_a_link_to_a_number_that_the_caller_was_never_told_of_is_neither_listed_nor_guessed(world: World) -> None:
    world.arrive(A, "1", "1.2.1", other_ids=[(ADA, CF)])
    world.arrive(B, "9", "1.2.2", other_ids=[(ADA, CF)])
    world.settle()
    from chalicelib.domain.patients import link_id

    guessed = link_id(PatientIdentifier(OIDS[B], "9"), PatientIdentifier(OIDS[A], "1"))
    assert linked(world, B, "9") == {(CF, ADA)}
    with pytest.raises(NotFound):
        world.undo(B, "9", guessed)
    with pytest.raises(NotFound):
        world.undo(B, "9", link_id(PatientIdentifier(OIDS[B], "9"), PatientIdentifier(OIDS[A], "2")))
    with pytest.raises(NotFound):
        world.confirm(B, "9", {"issuer": OIDS[A], "id": "1"})
    world.open(A, "1", B)
    assert linked(world, B, "9") == {(CF, ADA), (OIDS[A], "1")}


def test_candidates_are_proposed_with_evidence_confirmed_undone_and_every_step_is_recorded(world: World) -> None:
    world.arrive(A, "1", "1.2.1")
    world.arrive(B, "9", "1.2.2", date="20260401")
    world.open(A, "1", B)
    world.settle()
    (proposal,) = world.links(B, "9")
    assert proposal["evidence"] == ["same-name", "same-birth-date", "same-sex"]
    confirmed = world.confirm(B, "9", {"link": proposal["link"]})
    assert (confirmed["status"], confirmed["basis"], confirmed["evidence"]) == ("confirmed", "confirmed", proposal["evidence"])
    assert world.confirm(B, "9", {"link": proposal["link"]}) == confirmed
    assert world.confirm(B, "9", {"issuer": OIDS[A], "id": "1"}) == confirmed
    world.settle()
    assert world.on_timeline(B, "9") == {"1.2.1", "1.2.2"}
    world.undo(B, "9", confirmed["link"])
    world.settle()
    (again,) = world.links(B, "9")
    assert (again["status"], again["against"]) == ("proposed", ["undone-before"])
    kinds = [
        item.data["kind"]
        for (pk, _), item in world.table.memory.items().items()
        if pk.startswith("F#AUDIT#") and "kind" in item.data
    ]
    assert {"link-confirmed", "link-undone", "transfer-opened"} <= set(kinds)


def seen_by_all(world: World) -> dict[str, object]:
    """Everything that anyone sees, but for when the feed's entries were written, and that a transfer was accepted, and is not."""
    seen: dict[str, object] = {}
    for who in (A, B, C):
        for number, issuer in (("1", OIDS[A]), ("9", OIDS[B]), ("1", None), ("9", None)):
            found = world.timeline(who, number, issuer)
            seen[f"{who} timeline {number} {issuer}"] = found
            query = [("PatientID", number), *([("IssuerOfPatientID", issuer)] if issuer else [])]
            seen[f"{who} search {number} {issuer}"] = world.find(who, *query)
        seen[f"{who} all"] = world.find(who)
        told = [change for change in world.changes(who) if change["kind"] not in ("transfer-accepted", "transfer-waiting")]
        seen[f"{who} changes"] = [(change["kind"], change.get("study_instance_uid")) for change in told]
    for who, number in ((A, "1"), (B, "9")):
        seen[f"{who} links"] = [{k: v for k, v in link.items() if k != "against"} for link in world.links(who, number)]
        seen[f"{who} transfers"] = world.transfers(who)
    return seen
