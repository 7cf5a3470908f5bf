"""Dates, times and numbers as equipment writes them: read where they can mean one thing only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.dicom.readings import decimal, integer, valid_date, valid_time


@pytest.mark.parametrize(
    "text",
    [
        "20260110", "2026.01.10", "2026-01-10", "2026/01/10", "2026:01:10", "2026 01 10", "2026-1-10", "20260110101500",
        "202601101015", "20260110 101500", "20260110T101500Z", "2026-01-10T10:15:00+01:00", "20260110101500.123456+0100",
        "20260110+0100", " 20260110 ",
    ],
)  # fmt: skip
def test_a_date_that_can_be_read_is_read(text: str) -> None:
    assert valid_date(text) == "20260110"


@pytest.mark.parametrize(
    ("text", "read"),
    [("31/12/2025", "20251231"), ("31.12.2025", "20251231"), ("12-31-2025 10:15", "20251231"), ("7/7/2025", "20250707")],
)
def test_a_date_with_its_year_last_is_read_where_it_is_one_day_only(text: str, read: str) -> None:
    assert valid_date(text) == read


@pytest.mark.parametrize(
    "text",
    ["", "10/01/2026", "31/02/2026", "31/13/2025", "31/12/25", "31/12-2025",
     "10.01.2026", "260110", "2026011", "20260132", "20261301", "00000000", "20260110-20260120",
     "2026-01-10 - 2026-02-01", "ieri", "2026", "202601", "2026-01", "2026010", "2026.01"],
)  # fmt: skip
def test_what_may_be_another_day_or_is_none_is_not_read(text: str) -> None:
    assert valid_date(text) is None


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("101530", "101530"), ("1015", "1015"), ("10", "10"), ("10:15:30", "101530"), ("10:15", "1015"), ("10.15.30", "101530"),
        ("9:15:30", "091530"), ("101530.1234567", "101530.123456"), ("101530.", "101530"), ("101530,5", "101530.5"),
        ("1015301", "101530.1"), ("10:15:30.25", "101530.25"), ("101530+0100", "101530"), ("101530Z", "101530"),
        ("20260110101530", "101530"), ("20260110101530.5", "101530.5"), ("2026-01-10T10:15:30", "101530"),
        ("20260110 10:15", "1015"), ("10:15:30 PM", "221530"), ("12:15:30 am", "001530"), ("235960", "235960"),
        ("20260110", None), ("24:00:00", None), ("2460", None), ("101575", None), ("13:15:30 PM", None), ("", None),
        ("mezzogiorno", None), ("1", None), ("101", None),
    ],
)  # fmt: skip
def test_a_time_of_day(text: str, read: str | None) -> None:
    assert valid_time(text) == read


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("1800,5", 1800.5), ("-0,143", -0.143), ("1800 HU", 1800), ("1800HU", 1800), ("5mm", 5), ("3600,0 HU", 3600.0),
        ("12 %", 12), ("37 °C", 37), ("1.0D+02", 100.0), ("1.800,5", 1800.5), ("1,800.5", 1800.5), ("1E3", 1000.0), (".5", 0.5),
        ("5.", 5.0), ("+7", 7), ("abc", None), ("0,1,2", None), ("1.2.3", None), ("nan", None), ("inf", None), ("1e999", None),
        ("", None), ("-", None), ("HU", None), ("1 2", None), ("9" * 65, None),
    ],
)  # fmt: skip
def test_a_decimal(text: str, read: float | None) -> None:
    assert decimal(text) == read


@pytest.mark.parametrize(
    ("text", "read"),
    [("3", 3), ("3.0", 3), ("3.", 3), ("3,00", 3), ("+3", 3), ("-3.000", -3), ("1e2", 100), ("3.5", None), ("3 frames", 3),
     ("tre", None), ("", None), ("1e15", None), ("123456789012.0", 123456789012)],
)  # fmt: skip
def test_a_whole_number(text: str, read: int | None) -> None:
    assert integer(text) == read


@given(st.text(max_size=80))
def test_whatever_is_written_is_a_value_or_none(text: str) -> None:
    day, time, number, whole = valid_date(text), valid_time(text), decimal(text), integer(text)
    assert day is None or (len(day) == 8 and valid_date(day) == day)
    assert time is None or valid_time(time) == time
    assert number is None or decimal(repr(number)) == number
    assert whole is None or integer(str(whole)) == whole
