"""What the operator reads of the hospitals' forwarders."""

from __future__ import annotations

from typing import Any

import pytest

from forwarder.alerts import Trouble, advise, texts
from forwarder.errors import Failure
from infra.forwarders import HERE, told

TROUBLES = [*map(str, Trouble), *(failure.value for failure in Failure)]
SIGN: dict[str, Any] = {
    "institution": "maugeri", "age_seconds": 12, "silent": False, "version": "0.1.0", "contract": "1", "archive_contract": "1",
    "waiting": 0, "oldest_waiting_seconds": None, "line_open": True, "disk_free_bytes": None, "certificate_days": None,
    "clock_offset_seconds": None, "troubles": [],
}  # fmt: skip


@pytest.mark.parametrize("trouble", TROUBLES)
def test_each_trouble_is_told_with_what_it_means_and_what_to_do(trouble: str) -> None:
    _, meaning, there, *here = told(SIGN | {"troubles": [trouble]})
    assert meaning == f"    {trouble}: {texts('en')[f'trouble.{trouble}']}"
    assert there == f"        at the hospital: {advise(trouble)}"
    assert bool(here) == (trouble in HERE)


def test_where_the_hospital_is_told_to_ask_the_operator_the_operator_is_told_what_to_do() -> None:
    assert {trouble for trouble in TROUBLES if "operator" in advise(trouble)} <= HERE.keys() <= set(TROUBLES)


def test_silence_and_another_contract_are_told_with_what_to_do_and_a_sound_one_takes_a_line() -> None:
    assert told(SIGN) == ["maugeri  alive  12 s ago  version 0.1.0  0 waiting  line open  no troubles"]
    first, *more = told(SIGN | {"silent": True, "contract": "2"})
    assert first.startswith("maugeri  SILENT  12 s ago  version 0.1.0 (contract 2, the archive's is 1)")
    assert [line.partition(":")[0].strip() for line in more] == ["silent", "at the hospital", "here", "contract"]
