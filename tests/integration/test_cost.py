"""What it costs: the work itself, where times on one machine say little. Requests to AWS, their bytes, the table's units and
processor time, counted at the emulated cloud's door and by function (`python -m bench.cost`, `/_city/functions`), within budgets.

Budgets are a tenth above what it takes, those of processor time four times that. How many batches there are depends on how fast
the uploads come, so that what a batch costs is counted by batch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from bench.cost import SLICES, ct, spend
from infra import workload
from local.state import State
from tests.browser import hospital
from tests.browser.hospital import Patient
from tests.harness import Client, RunningCity, running_city, wait_until

API, INDEX, PROJECT = "api_handler", "index_instances", "project_facts"
Figures = dict[str, dict[str, float]]
SCHEDULED = ("anchor_audit", "tell_expired", "read_again", "sweep_uploads", "erase_due", "canary")
ROOM = 1.3
"""How far above its budget a figure may be: below a request, a byte or a unit done twice."""
STARTED = 400.0
"""Milliseconds of processor of two processes of a function that start meanwhile, as they may on a busy machine."""


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCity]:
    """One of its own, in which nobody else does anything, nor any function by itself; its functions have been started."""
    folder = tmp_path_factory.mktemp("cost")
    state = State(folder)
    for name in SCHEDULED:
        state.set_setting(f"schedule:{name}", time.time() + 3600)  # when it ran last, as far as the city knows
    state.close()
    with running_city(folder) as running:
        warm = Patient()
        hospital.send(running.client("san-matteo"), hospital.image(warm, "san-matteo"))
        hospital.transfer(running, warm)
        yield running


@dataclass(frozen=True)
class Budget:
    """What something may take of AWS and of the processor at the most; units are those of the table."""

    requests: float
    bytes_read: float
    bytes_sent: float
    cpu_ms: float
    written: float = float("inf")
    read: float = float("inf")


@dataclass(frozen=True)
class Spent:
    """The figures between two moments."""

    before: Figures
    after: Figures

    def of(self, name: str, figure: str) -> float:
        return self.after.get(name, {}).get(figure, 0.0) - self.before.get(name, {}).get(figure, 0.0)

    def beyond(self, budget: Budget, *functions: str, times: float = 1.0) -> dict[str, tuple[float, float]]:
        """(taken, allowed) of what is more than the budget, `times` being how often it was done."""
        found = {
            figure: sum(self.of(name, figure) for name in functions) / times
            for figure in ("requests", "bytes_read", "bytes_sent", "cpu_ms")
        } | {unit: self.of("units", unit) / times for unit in ("written", "read")}  # fmt: skip
        started = {"cpu_ms": STARTED / times}
        return {
            name: (taken, getattr(budget, name))
            for name, taken in found.items()
            if taken > ROOM * getattr(budget, name) + started.get(name, 0.0)
        }


def figures(city: RunningCity) -> Figures:
    return {**city.functions(), "units": city.units()}


def at_rest(city: RunningCity) -> Figures:
    """The figures, once nothing has happened for a second."""
    found, since = figures(city), time.monotonic()

    def rests() -> bool:
        nonlocal found, since
        if (now := figures(city)) != found:
            found, since = now, time.monotonic()
        return time.monotonic() - since > 1.0

    wait_until(rests)
    return found


@pytest.fixture(autouse=True)
def _rested(city: RunningCity) -> None:
    """What other tests of the same city began is done."""
    at_rest(city)


def spent(city: RunningCity, act: Callable[[], Any], times: int = 1) -> Spent:
    """What acts take from which nothing follows."""
    before = figures(city)
    for _ in range(times):
        act()
    return Spent(before, figures(city))


FEW_BATCHES, NONE = 20, float("inf")
PAUSE = 0.04
"""Seconds with which 500 slices come in some forty batches, on a quick machine too."""
OF_A_BATCH = {"written": 27.0, "read": 14.0, "stored": 11_000.0}
"""Of the table, what each batch more takes: the slower the slices come, the smaller the batches in which they are indexed."""


def test_a_ct_of_500_slices_costs_what_is_promised(city: RunningCity):
    before = figures(city)
    requests = spend(city, ct(), PAUSE)
    work = Spent(before, at_rest(city))
    batches = work.of(INDEX, "invocations")
    counted = workload.counted()["slice"]
    for name, figure in (("written", counted.written), ("read", counted.read), ("stored", counted.stored)):
        took = (work.of("units", name) - max(0, batches - FEW_BATCHES) * OF_A_BATCH[name]) / SLICES
        assert took <= 1.15 * figure, f"the cost page starts from {figure} {name} an instance: {took}, {batches} batches"
    assert requests["s3:PutObject"] <= SLICES + 2 + 1.1 * batches, requests  # the slices, and one metadata object for each batch
    assert requests["s3:GetObject"] <= SLICES, requests  # one head each
    assert not any("Scan" in name for name in requests), requests
    # 16 to 20 for the facts, one for the patient, and for each batch the views, the audit's record, the feed.
    assert requests["dynamodb:TransactWriteItems"] + requests["dynamodb:PutItem"] <= 20 + 5 * batches, requests
    assert work.of(INDEX, "requests") <= SLICES + 9 * batches, f"{batches} batches"
    more = max(0, batches - FEW_BATCHES) / SLICES
    assert work.beyond(Budget(NONE, 43_500 + 10_000 * more, 4_300 + 6_500 * more, 16), INDEX, times=SLICES) == {}
    projected = work.of(PROJECT, "invocations")
    assert work.beyond(Budget(11, 30_000, 27_000, 45), PROJECT, times=projected) == {}, "by batch, of whatever size"


def test_a_film_costs_what_is_stated(city: RunningCity) -> None:
    client, film = city.client("san-matteo"), hospital.chest_film(Patient(), "san-matteo", "20260102")
    before = at_rest(city)
    hospital.announce(client, film)
    announced = Spent(before, figures(city))
    assert announced.beyond(Budget(8, 2_500, 3_000, 30, 8, 13.5), API) == {}
    hospital.send(client, film)
    arrived = Spent(before, at_rest(city))
    asked = arrived.of(API, "invocations")  # whether it is indexed, again and again while the machine is busy
    assert arrived.beyond(Budget(12, 75_000, 9_500, 60, 85, 60 + 4 * asked), INDEX) == {}, "of 7 MB the head is read"
    assert arrived.of(PROJECT, "requests") <= 11 * arrived.of(PROJECT, "invocations")


def test_what_is_asked_costs_what_is_stated(city: RunningCity) -> None:
    """Of a patient of two films: search, metadata, addresses, timeline, feed; a transfer opened and accepted, read, ended."""
    patient, times = Patient(), 5
    ours, theirs = city.client("san-matteo"), city.client("maugeri")
    film, earlier = (hospital.chest_film(patient, "san-matteo", date) for date in ("20260102", "20260101"))
    hospital.send(ours, film, earlier)
    number, study = patient.at["san-matteo"], film.StudyInstanceUID
    wait_until(lambda: len(ours.get(f"/dicomweb/studies?PatientID={number}").json()) == 2)
    for path, budget in {
        f"/dicomweb/studies?PatientID={number}": Budget(4, 6_500, 2_700, 20, 6.5, 4.5),
        f"/dicomweb/studies/{study}/metadata": Budget(11, 8_600, 3_600, 45, 4.5, 8),
        f"/studies/{study}/manifest": Budget(6, 5_800, 2_700, 25, 4.5, 5.5),
        f"/patients/{number}/timeline": Budget(7, 11_000, 2_900, 25, 4.5, 9),
        f"/changes?since={_last_told(ours)}": Budget(2, 1_600, 600, 10, 0, 2.5),
    }.items():
        assert ours.get(path).status_code == 200
        taken = spent(city, lambda path=path: ours.get(path), times)
        assert taken.beyond(budget, API, times=times) == {}, path.replace(number, "…")
    before = at_rest(city)
    body = {"patient": {"id": number}, "to": "maugeri", "reason": "rehabilitation"}
    transfer = ours.post("/transfers", json=body).json()["id"]
    hospital.accept(city, transfer, patient)
    opened = Spent(before, at_rest(city))
    assert opened.beyond(Budget(52, 50_000, 85_000, 180, 295, 55), API, PROJECT) == {}, "opened and accepted"
    assert _reading(city, patient).beyond(Budget(43, 54_000, 20_500, 170, 35, 44), API) == {}, "a reading begun by its link"
    before = at_rest(city)
    assert theirs.delete(f"/transfers/{transfer}").status_code == 200
    ended = Spent(before, at_rest(city))
    assert ended.beyond(Budget(21, 20_000, 27_000, 80, 100, 20), API, PROJECT) == {}, "ended"


def _last_told(client: Client) -> str:
    """A cursor after which the feed has nothing."""
    cursor = "0"
    while told := client.get(f"/changes?since={cursor}&limit=1000").json()["changes"]:
        cursor = told[-1]["cursor"]
    return cursor


def _reading(city: RunningCity, patient: Patient) -> Spent:
    """What it takes to open a link to a patient; the first such loads what the function needs for it, and does not count."""
    for _ in range(2):
        link = hospital.link(city, patient={"id": patient.at["maugeri"]})
        token = json.dumps({"token": link["url"].split("#")[1]})
        taken = spent(city, lambda token=token: city.client(None).post("/view/session", data=token))
    return taken


def test_waiting_for_changes_costs_four_looks_a_second(city: RunningCity) -> None:
    client, seconds = city.client("mondino"), 1
    taken = spent(city, lambda: client.get(f"/changes?wait={seconds}"))
    assert taken.of("units", "written") == 0
    assert taken.of(API, "requests") <= 2 + 4 * seconds, "its place, and what stands after it"
    assert taken.of("units", "read") <= 2 + 4 * seconds


def test_what_is_asked_all_day_keeps_its_budget(city: RunningCity):
    """Signs of life, the feed, a search with its audit: each writes what the cost page says of it, and no more."""
    hospital, times = city.client("maugeri"), 20
    for name, ask in (
        ("sign", lambda: hospital.put("/forwarder", json={"version": "1"})),
        ("poll", lambda: hospital.get("/changes?since=now")),
        ("question", lambda: hospital.get("/dicomweb/studies?PatientID=BUDGET-1")),
    ):
        assert ask().status_code == 200
        before = city.units()["written"]
        for _ in range(times):
            ask()
        written = (city.units()["written"] - before) / times
        assert written <= 1.15 * workload.counted()[name].written + 0.1, f"{name}: {written}"
