"""Identifiers and institutions: what is taken at the door, and what an instance's PatientID stands for."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain import identifiers
from chalicelib.domain.errors import BadRequest
from chalicelib.domain.identifiers import PatientIdentifier, resolve_issuer
from chalicelib.domain.institutions import Institution, assumed_role, clash, fold, parse, role_of

OWN = "2.16.1.1"
NAMES = frozenset({"san-matteo", "sanmatteo"})


@pytest.mark.parametrize("text", ["1", "1.2.840.10008", "0.01.002", "1" * 64, "2.25.329800735698586629295641978511506172918"])
def test_uids_pass_with_leading_zeros_too(text: str) -> None:
    assert identifiers.uid(text, "study") == text


@pytest.mark.parametrize(
    "text", ["", ".", "1.", ".1", "1..2", "1" * 65, "../etc", "1.2\n", "1.2 ", "x", "١.٢", "1.2\0", "1.2\\1.3", "1,2"]
)
def test_what_is_no_uid_is_refused_naming_the_parameter(text: str) -> None:
    with pytest.raises(BadRequest) as refused:
        identifiers.uid(text, "study")
    assert refused.value.parameter == "study"
    assert text.strip() == "" or text.strip() not in refused.value.detail.split()


@pytest.mark.parametrize("text", ["", "A" * 64, "a" * 63, "a" * 65, "g" * 64, 5, None, ["a" * 64], "a" * 63 + "\n"])
def test_what_is_no_sha256_is_refused(text: object) -> None:
    with pytest.raises(BadRequest, match="SHA-256"):
        identifiers.sha256(text, "sha256")


@pytest.mark.parametrize("text", ["", "ab", "A-b", "1ab", "-ab", "ab-", "a" * 41, "a/b", "a#b", "a b", "à-la", None, 5])
def test_what_cannot_be_an_institution_is_refused(text: object) -> None:
    with pytest.raises(BadRequest):
        identifiers.institution_id(text, "id")


@pytest.mark.parametrize(
    ("issuer_text", "universal_id", "expected"),
    [
        ("", "", OWN),
        ("SANMATTEO", "", OWN),
        ("san-matteo ", "", OWN),
        ("San-Matteo", " ", OWN),
        ("2.16.7", "", "2.16.7"),
        ("SANMATTEO", "2.16.8", "2.16.8"),
        ("2.16.7", "2.16.8", "2.16.8"),
        ("2.16.7", "not an OID", "2.16.7"),
        ("LAB", "", f"{OWN}/LAB"),
        ("LAB", "RIS", f"{OWN}/LAB"),
        ("2.16.07", "", f"{OWN}/2.16.07"),
    ],
)
def test_the_issuer_of_a_number_is_the_oid_the_house_itself_or_another_numbering_of_it(
    issuer_text: str, universal_id: str, expected: str
) -> None:
    assert resolve_issuer("P1", issuer_text, universal_id, OWN, NAMES) == PatientIdentifier(expected, "P1")


@given(st.tuples(st.text(max_size=5), st.text(max_size=5)), st.tuples(st.text(max_size=5), st.text(max_size=5)))
def test_two_identifiers_have_the_same_hash_only_when_they_are_the_same(one: tuple[str, str], other: tuple[str, str]) -> None:
    first, second = PatientIdentifier(*one), PatientIdentifier(*other)
    if all(text.isprintable() for text in (*one, *other)):
        assert (first.hash == second.hash) is (first == second)


def test_no_identifier_from_a_request_can_imitate_another_ones_hash() -> None:
    """The hash joins issuer and value by a line feed: neither may hold one."""
    for issuer, value in (("a\nb", "c"), ("a", "b\nc")):
        with pytest.raises(BadRequest):
            identifiers.patient_identifier(value, issuer, OWN)


# Institutions ----------------------------------------------------------------------------------------


def institution(key: str, version: int = 1, /, **changes: Any) -> Institution:
    role = f"arn:aws:iam::123456789012:role/hospitals/{key}"
    known = Institution(key, key.title(), role, f"2.16.1.{len(key)}", version=version)
    return replace(known, **changes)


def test_the_registry_is_the_highest_version_of_each_in_any_order() -> None:
    versions = [institution("maugeri", 1), institution("maugeri", 2, name="Maugeri SpA"), institution("mondino", 1)]
    versions += [
        institution("mondino", 2, removed=True),
        institution("mondino", 10, name="back"),
        institution("gone", 3, removed=True),
    ]
    for order in permutations(versions):
        registry = fold(order)
        assert {key: member.name for key, member in registry.members.items()} == {"maugeri": "Maugeri SpA", "mondino": "back"}
        assert registry.versions == {"maugeri": 2, "mondino": 10, "gone": 3}
        gone = registry.known("gone")
        assert gone is not None
        assert gone.removed
        assert registry.by_role("123456789012", "gone") is None
        assert registry.known("never") is None


@pytest.mark.parametrize(
    ("arn", "expected"),
    [
        ("arn:aws:sts::123456789012:assumed-role/maugeri/session-1", ("123456789012", "maugeri", "session-1")),
        ("arn:aws:iam::123456789012:user/maugeri", None),
        ("arn:aws:iam::123456789012:role/maugeri", None),
        ("arn:aws:sts::123456789012:federated-user/maugeri", None),
        ("arn:aws:sts::123456789012:assumed-role/maugeri", None),
        ("arn:aws:sts::123456789012:assumed-role/a/b/c", None),
        ("arn:aws:iam::123456789012:root", None),
        ("", None),
    ],
)
def test_only_an_assumed_role_is_a_caller(arn: str, expected: tuple[str, str, str] | None) -> None:
    assert assumed_role(arn) == expected


def test_a_role_is_the_same_with_and_without_its_path_and_another_in_another_account() -> None:
    assert role_of("arn:aws:iam::123456789012:role/a/b/maugeri") == role_of("arn:aws:iam::123456789012:role/maugeri")
    assert role_of("arn:aws:iam::999999999999:role/maugeri") != role_of("arn:aws:iam::123456789012:role/maugeri")
    registry = fold([institution("maugeri")])
    assert registry.by_role("999999999999", "maugeri") is None
    assert registry.by_role("123456789012", "maugeri") is not None


def test_an_issuer_belongs_to_the_house_that_gives_it_out_with_its_other_numberings() -> None:
    registry = fold([institution("maugeri", patient_id_issuer="2.16.1.2"), institution("mondino", patient_id_issuer="2.16.1.20")])
    for issuer, owner in (("2.16.1.2", "maugeri"), ("2.16.1.2/LAB", "maugeri"), ("2.16.1.20", "mondino"), ("2.16.1.2.5", None)):
        found = registry.by_issuer(issuer)
        assert (found.id if found else None) == owner


BODY = {"name": "Maugeri", "role_arn": "arn:aws:iam::123456789012:role/maugeri", "patient_id_issuer": "2.16.1.2"}


@pytest.mark.parametrize(
    ("changes", "parameter"),
    [
        ({"name": ""}, "name"), ({"name": 5}, "name"), ({"name": "a\nb"}, "name"), ({"name": "x" * 101}, "name"),
        ({"role_arn": "maugeri"}, "role_arn"), ({"role_arn": "arn:aws:iam::123456789012:user/x"}, "role_arn"),
        ({"role_arn": None}, "role_arn"), ({"patient_id_issuer": "Maugeri"}, "patient_id_issuer"),
        ({"patient_id_issuer": "1." + "9" * 63}, "patient_id_issuer"), ({"patient_id_issuer": 5}, "patient_id_issuer"),
        ({"ae_titles": "MAUGERI"}, "ae_titles"), ({"ae_titles": ["x" * 17]}, "ae_titles"), ({"ae_titles": [" "]}, "ae_titles"),
        ({"ae_titles": ["A\\B"]}, "ae_titles"), ({"ae_titles": ["A"] * 51}, "ae_titles"), ({"ae_titles": [None]}, "ae_titles"),
        ({"issuer_names": "ADT1"}, "issuer_names"), ({"issuer_names": [" "]}, "issuer_names"),
        ({"issuer_names": ["x" * 65]}, "issuer_names"), ({"issuer_names": ["A\\B"]}, "issuer_names"),
        ({"issuer_names": ["a\nb"]}, "issuer_names"), ({"issuer_names": [None]}, "issuer_names"),
        ({"issuer_names": ["2.16.1.9"]}, "issuer_names"), ({"issuer_names": ["A"] * 51}, "issuer_names"),
        ({"corrections": "maybe"}, "corrections"), ({"corrections": None}, "corrections"), ({"corrections": []}, "corrections"),
        ({"extra": 1}, "extra"),
    ],
)  # fmt: skip
def test_what_an_institution_cannot_be_is_refused_naming_the_field(changes: dict[str, object], parameter: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse("maugeri", {**BODY, **changes})
    assert refused.value.parameter == parameter


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"role_arn": "arn:aws:iam::123456789012:role/other/path/maugeri"}, "role_arn"),
        ({"patient_id_issuer": "2.16.1.2"}, "patient_id_issuer"),
        ({"ae_titles": ("X", "MAUGERI")}, "ae_titles"),
        ({}, None),
    ],
)
def test_no_institution_takes_what_belongs_to_another(changes: dict[str, Any], field: str | None) -> None:
    known = fold([institution("maugeri", patient_id_issuer="2.16.1.2", ae_titles=("MAUGERI",))])
    assert clash(known, institution("mondino", **changes)) == field
    assert clash(known, institution("maugeri", **changes)) is None
