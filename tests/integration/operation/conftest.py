"""One small city, which is operated: seen, paid for, onboarded into."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from tests.harness import RunningCity, running_city

Command = Callable[[list[str]], int]


class OperatedCity:
    """A running city and the operator's commands, each run in this process against it."""

    def __init__(self, city: RunningCity) -> None:
        self.city = city
        self.where = ["--endpoints", str(city.state / "endpoints.json")]

    def run(self, command: Command, *arguments: str, expected: int | None = 0) -> str:
        """What a command prints; `arguments` as they are typed, but for where the city is."""
        told = io.StringIO()
        with redirect_stdout(told):
            code = command([*self.where, *arguments])
        assert expected is None or code == expected, told.getvalue()
        return told.getvalue()

    def log_lines(self) -> Iterator[dict[str, object]]:
        """The lines that the functions wrote, as CloudWatch would have them."""
        import json

        for line in (self.city.state / "logs" / "functions.log").read_text(encoding="utf-8").splitlines():
            if line.startswith("{"):
                yield json.loads(line)


@pytest.fixture(scope="module")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatedCity]:
    """One for each module: what looks at all that a city has takes longer the more the tests before it have sent."""
    state: Path = tmp_path_factory.mktemp("operated")
    with running_city(state) as running:
        yield OperatedCity(running)
