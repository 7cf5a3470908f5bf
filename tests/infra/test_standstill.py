"""While the table is replaced nothing runs: sources stop before functions, and start after them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from infra import standstill
from infra.deployed import OperationFailed
from infra.operate import COMMANDS

KINDS = {
    "AWS::Lambda::Function": ["erase", "api"],
    "AWS::Events::Rule": ["clock"],
    "AWS::Lambda::EventSourceMapping": ["queue", "stream"],
    "AWS::S3::Bucket": ["images"],
}


class Account:
    """What of a session is asked: one stack on two pages, and sources that take a while to stop."""

    def __init__(self) -> None:
        self.running = {"queue": True, "stream": True, "clock": True, "erase": True, "api": True}
        self._asked: dict[str, bool] = {}
        self.pauses = 0

    def client(self, _: str) -> Account:
        return self

    def get_paginator(self, _: str) -> Account:
        return self

    def paginate(self, StackName: str) -> list[dict[str, Any]]:
        assert StackName == "contenitore"
        every = [{"ResourceType": kind, "PhysicalResourceId": name} for kind, names in KINDS.items() for name in names]
        return [{"StackResourceSummaries": every[:3]}, {"StackResourceSummaries": every[3:]}]

    def update_event_source_mapping(self, UUID: str, Enabled: bool) -> None:
        self._asked[UUID] = Enabled

    def get_event_source_mapping(self, UUID: str) -> dict[str, str]:
        return {"State": "Enabled" if self.running[UUID] else "Disabled"}

    def pause(self) -> None:
        self.pauses += 1
        for name, on in self._asked.items():
            self._note(name, on)

    def disable_rule(self, Name: str) -> None:
        self._note(Name, False)

    def enable_rule(self, Name: str) -> None:
        self._note(Name, True)

    def put_function_concurrency(self, FunctionName: str, ReservedConcurrentExecutions: int) -> None:
        assert ReservedConcurrentExecutions == 0
        assert not any(self.running[source] for source in KINDS["AWS::Lambda::EventSourceMapping"])
        self._note(FunctionName, False)

    def delete_function_concurrency(self, FunctionName: str) -> None:
        self._note(FunctionName, True)

    def _note(self, name: str, on: bool) -> None:
        self.running[name] = on


def test_everything_stops_sources_first_and_starts_again() -> None:
    account = Account()
    assert standstill.stop(account, "contenitore", account.pause) == 2
    assert not any(account.running.values())
    assert account.pauses == 1
    assert standstill.start(account, "contenitore", account.pause) == 2
    assert all(account.running.values())


def test_a_source_that_does_not_stop_is_told_and_not_waited_for_without_end() -> None:
    account, looks = Account(), itertools.count()
    with pytest.raises(OperationFailed):
        standstill.stop(account, "contenitore", lambda: next(looks))
    assert next(looks) == standstill.MOST_LOOKS


def test_both_are_commands() -> None:
    assert {"stop", "start"} <= set(COMMANDS)
