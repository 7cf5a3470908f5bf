"""A job of the operator's that is stopped says where it goes on, and goes on there."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import pytest

from infra import operate
from infra.deployed import DeployedCity, OperationFailed

PLACE = {"stage": "studies", "institution": "san-matteo", "after": "20260301101500#1.2.3#san-matteo"}


class Functions:
    """A session whose functions answer one thing after the other; an exception is raised."""

    def __init__(self, answers: Sequence[dict[str, Any] | BaseException]) -> None:
        self.answers, self.asked = list(answers), list[dict[str, Any]]()

    def client(self, *_: object, **__: object) -> Functions:
        return self

    def invoke(self, FunctionName: str, Payload: bytes) -> dict[str, Any]:
        self.asked.append(json.loads(Payload))
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return {"Payload": io.BytesIO(json.dumps(answer).encode())}


def answer(progress: dict[str, str] | None) -> dict[str, Any]:
    return {"findings": [], "objects": 1, "studies": 2, "progress": progress}


@pytest.mark.parametrize("why", [OperationFailed("reconcile: the function failed"), KeyboardInterrupt()])
def test_a_job_that_is_stopped_says_where_it_goes_on(why: BaseException) -> None:
    stopped = Functions([answer(PLACE), why])
    with pytest.raises(OperationFailed, match="--from") as failed:
        DeployedCity(stopped, {}, "city").through({"job": "reconcile"}, lambda _: None)
    place = str(failed.value).rpartition("--from ")[2].strip("'")
    options = operate._arguments().parse_args(["reconcile", "--from", place])
    again = Functions([answer(None)])
    counted = DeployedCity(again, {}, "city").through({"job": "reconcile"}, lambda _: None, options.start)
    assert again.asked == [{"job": "reconcile", "progress": PLACE}] == stopped.asked[1:]
    assert counted == {"objects": 1, "studies": 2}


def test_a_job_that_never_began_says_what_was_wrong_and_no_place() -> None:
    with pytest.raises(OperationFailed) as failed:
        DeployedCity(Functions([OperationFailed("no such job")]), {}, "city").through({"job": "x"}, lambda _: None)
    assert str(failed.value) == "no such job"
    with pytest.raises(SystemExit):
        operate._arguments().parse_args(["rebuild", "--from", "nowhere"])


def test_a_job_whose_reader_has_gone_says_where_it_goes_on() -> None:
    def told(answered: dict[str, Any]) -> None:
        if answered["progress"] is None:
            raise BrokenPipeError

    with pytest.raises(OperationFailed, match="nobody reads what it says; it goes on with --from"):
        DeployedCity(Functions([answer(PLACE), answer(None)]), {}, "city").through({"job": "reconcile"}, told)
