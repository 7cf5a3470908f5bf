"""Fixtures that all tests may use."""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from tests.harness import RunningCity, running_city

settings.register_profile("contenitore", deadline=None)  # a busy machine is no error
settings.load_profile("contenitore")


THOROUGH = bool(os.environ.get("THOROUGH"))
"""Whether what takes long is run too, as `make thorough` does."""

ORDER = os.environ.get("ORDER", "")
"""The seed of another order, for who looks for tests that need one."""


TOGETHER = (
    "browser/", "infra/", "integration/audit/", "integration/dicomweb/", "integration/local/",
    "integration/door/",
)  # fmt: skip
"""Folders whose tests share what takes long to make: all of one go to one process, and first. Others go by module."""


gc.disable()  # a quarter of the time in which all tests are found goes into looking for garbage of which there is none
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 8
os.environ["LOCAL_PORTS"] = f"{12_000 + 2_500 * _WORKER}-{14_500 + 2_500 * _WORKER}"
"""Each process of the tests looks for ports where no other does."""


class Together(LoadScopeScheduling):  # type: ignore[misc]
    """Which process runs a test: that of its folder's others, or of its module's."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.split("::")[0].removeprefix("tests/")
        return next((folder for folder in TOGETHER if module.startswith(folder)), module)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    """xdist's own way, by a mark, does nothing under this version of pytest."""
    return Together(config, log)


def pytest_collection_finish() -> None:
    """From here on there is garbage, but not among what was loaded."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long is left to `make thorough`, or begins first. ORDER=7 gives modules and their tests another order each."""
    if ORDER:
        _shuffle(items, ORDER)
    for item in items:
        if item.get_closest_marker("slow") is not None and not THOROUGH:
            item.add_marker(pytest.mark.skip(reason="takes long: make thorough runs it"))
    items.sort(key=_begins)


def _shuffle(items: list[pytest.Item], seed: str) -> None:
    chance = random.Random(seed)
    modules: dict[Path, list[pytest.Item]] = {}
    for item in items:
        modules.setdefault(item.path, []).append(item)
    shuffled = list(modules.values())
    chance.shuffle(shuffled)
    for tests in shuffled:
        chance.shuffle(tests)
    items[:] = [item for tests in shuffled for item in tests]


def _begins(item: pytest.Item) -> int:
    module = item.path.relative_to(Path(__file__).parent).as_posix()
    order = (*TOGETHER[:-1], "forwarder/", *TOGETHER[-1:], "integration/")  # one browser at a time, as far as it goes
    return next((place for place, folder in enumerate(order) if module.startswith(folder)), len(order))


@pytest.fixture(scope="session")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCity]:
    """One real local city for the whole test run, without the demo's data, on free ports.

    Tests share it: use patients, studies and institutions of your own.
    """
    state: Path = tmp_path_factory.mktemp("city")
    with running_city(state, "--member-accounts", "222222222222") as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One Chromium for all tests of a process, which can have no second one beside it."""
    from tests.browser.chromium import EXECUTABLE, chromium

    if EXECUTABLE is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with chromium() as found:
        yield found
