"""The documents on sharing say what the code does, and name only what is there."""

from __future__ import annotations

import re

import pytest

from chalicelib.dicom import rejection_note
from chalicelib.domain import italian, sharing
from chalicelib.services import access
from chalicelib.services.identity import linking
from tests.harness import ROOT

SHARING = (ROOT / "docs" / "sharing.md").read_text(encoding="utf-8")
DOCUMENTS = ("sharing.md", "privacy.md", "threat-model.md")


def rules_in_code() -> set[str]:
    """The rule numbers in the docstring of `domain/sharing.py`; a rule with parts counts as its parts."""
    found: set[str] = set()
    for line in (sharing.__doc__ or "").splitlines():
        if number := re.match(r"(\d)\. ", line):
            found.add(number[1])
        elif part := re.match(r"   ([a-z])\. ", line):
            last = max(found, key=lambda rule: rule[0])
            found = {rule for rule in found if rule != last[0]} | {last[0] + part[1]}
    return found


def test_the_table_of_rules_has_the_rules_of_the_code() -> None:
    rows = re.findall(r"^\| (\d[a-z]?) \|", SHARING, re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == rules_in_code() == {"1", "2", "3", "4", "5a", "5b", "6"}


def test_titles_of_rejection_notes_and_identifiers_are_those_of_the_code() -> None:
    assert set(re.findall(r"^\| (113\d{3}) ", SHARING, re.MULTILINE)) == set(rejection_note.TITLES)
    assert italian.CODICE_FISCALE in SHARING
    assert italian.LOMBARDY in SHARING
    assert f"more than {linking.MAX_CARRIERS} numbers" in SHARING
    assert f"(`access.WIDTH` ({access.WIDTH})" in SHARING.replace("reads `access", "(`access")
    assert f"{rejection_note.MAX_REFERENCES:,}" in SHARING


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_and_test_that_is_named_is_there(document: str) -> None:
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    for path in re.findall(r"`((?:tests|chalicelib|docs|pixels)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (ROOT / "docs" / link).exists(), link
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "sharing").glob("*.py"))
    for name in re.findall(r"`(test_\w+)`", text):
        assert f"def {name}(" in tests, name


def test_every_threat_names_a_test() -> None:
    text = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if re.match(r"\| [STRIDE] \|", line)]
    assert {row[1].strip() for row in rows} == set("STRIDE")
    for row in rows:
        assert re.search(r"`tests/[\w/.]+`", row[4]), row[2]
