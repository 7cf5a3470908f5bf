"""A structured report as a person reads it: no finding is left out, and what is not shown is said."""

from __future__ import annotations

from pydicom import Dataset

from pixels import report


def _code(meaning: str) -> list[Dataset]:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", meaning
    return [code]


def _item(kind: str, name: str, **values: object) -> Dataset:
    item = Dataset()
    item.ValueType, item.ConceptNameCodeSequence = kind, _code(name)
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _measured(number: str | None) -> list[Dataset]:
    measured = Dataset()
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = number, _code("millimeter")
    return [measured]


def _of(*items: Dataset) -> Dataset:
    dataset = Dataset()
    dataset.PatientName, dataset.PatientBirthDate, dataset.StudyDate = "Bianchi^Ada", "19600315", "20260102"
    dataset.ConceptNameCodeSequence, dataset.ContentSequence = _code("Chest"), list(items)
    return dataset


def test_a_number_has_its_unit_or_says_why_there_is_none() -> None:
    text = report.to_text(
        _of(
            _item("NUM", "Long axis", MeasuredValueSequence=_measured("12.50")),
            _item("NUM", "Residue", MeasuredValueSequence=_measured("0")),
            _item("NUM", "Short axis", NumericValueQualifierCodeSequence=_code("Measurement failure")),
            _item("NUM", "Rest", MeasuredValueSequence=[], NumericValueQualifierCodeSequence=_code("Not measured")),
            _item("NUM", "Odd", MeasuredValueSequence=_measured("1e9"), NumericValueQualifierCodeSequence=_code("Overflow")),
            _item("NUM", "Empty", MeasuredValueSequence=_measured(None)),
        )
    ).decode()
    assert text.splitlines()[-6:] == [
        "Long axis: 12.50 millimeter",
        "Residue: 0 millimeter",
        "Short axis: Measurement failure",
        "Rest: Not measured",
        "Odd: 1e9 millimeter (Overflow)",
        "Empty: —",
    ]
    assert "<dd>Measurement failure</dd>" in report.to_html(_of(*_of().ContentSequence, _item(
        "NUM", "Short axis", NumericValueQualifierCodeSequence=_code("Measurement failure")
    ))).decode()  # fmt: skip


def test_names_and_dates_are_written_as_people_write_them() -> None:
    items = [
        _item("PNAME", "Observer", PersonName="Neri^Ugo^^Dr"),
        _item("PNAME", "Nobody", PersonName="^^"),
        _item("DATE", "Seen", Date="20260103"),
    ]
    lines = report.to_text(_of(*items)).decode().splitlines()
    assert lines[:3] == ["Chest", "Bianchi Ada · 1960-03-15", "2026-01-02"]
    assert lines[-3:] == ["Observer: Neri Ugo Dr", "Nobody: ^^", "Seen: 2026-01-03"]


def test_what_lies_too_deep_to_be_shown_is_said() -> None:
    item = _item("TEXT", "Deepest", TextValue="seen by nobody")
    for depth in range(40):
        outer = _item("CONTAINER", f"Level {depth}")
        outer.ContentSequence = [item]
        item = outer
    text = report.to_text(_of(item)).decode()
    assert "seen by nobody" not in text
    assert "deeper than 30 levels" in text.splitlines()[-1]
