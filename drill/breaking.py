"""The schedule by which everything breaks: the same for the same seed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from drill.client import NO_ANSWER, Hospital
from drill.dicom import Pacs
from drill.ledger import Ledger
from drill.running import ROOT, RunningCity
from drill.world import SENDERS, STRANGER
from tests.forwarder.line_proxy import BadLine

CITY = (
    "throttled", "dies", "answer_lost", "events_lost", "events_doubled", "events_late", "events_shuffled", "records_doubled",
    "records_late_seconds",
)  # fmt: skip
"""Faults of the emulated cloud, by their names in `faults.json`."""
_HOW_OFTEN: dict[str, Any] = {
    "throttled": 0.5, "dies": 0.05, "answer_lost": 0.15, "events_lost": 0.3, "events_doubled": 0.5, "events_late": 0.4,
    "events_shuffled": True, "records_doubled": 0.5, "records_late_seconds": 4.0,
}  # fmt: skip
AT_A_HOSPITAL = (
    "kill_forwarder", "disk_full", "disk_read_only", "disk_slow", "clock", "line_cut", "line_slow", "line_answers_lost",
    "credentials", "pacs_full", "pacs_slow", "pacs_deaf", "pacs_dead",
)  # fmt: skip
ELSEWHERE = ("kill_city", "flood", "letters")
ALL = (*CITY, *AT_A_HOSPITAL, *ELSEWHERE)


@dataclass(frozen=True)
class Fault:
    """One entry of the schedule: `at` and `lasts` in seconds from the beginning."""

    at: float
    lasts: float
    kind: str
    whom: str


def schedule(seed: int, seconds: float, kinds: tuple[str, ...] = ALL) -> list[Fault]:
    """Each kind at least once where there is time, the city killed once in a minute at the most; nothing in the last seconds."""
    chance = random.Random(f"{seed}/schedule")
    room = max(1.0, seconds * 0.9)
    order = [kind for kind in ALL if kind in kinds]
    chance.shuffle(order)
    wanted = max(len(order), int(seconds / 1.5)) if order else 0
    plan = []
    for number in range(wanted):
        kind = order[number % len(order)]
        if kind == "kill_city" and number // len(order) > seconds / 60:
            continue
        whom = chance.choice(SENDERS) if kind in AT_A_HOSPITAL else ""
        at = (number % len(order) + chance.random()) * room / len(order)
        lasts = chance.uniform(1.0, min(8.0, max(1.5, seconds / 6)))
        plan.append(Fault(round(at, 2), round(lasts, 2), kind, whom))
    return sorted(plan, key=lambda fault: fault.at)


class Breaking:
    """Breaks things by the schedule until `heal`."""

    def __init__(
        self, city: RunningCity, ledger: Ledger, plan: list[Fault], lines: dict[str, BadLine], pacs: dict[str, Pacs],
        seed: int, seconds: float,
    ) -> None:  # fmt: skip
        self._city, self._ledger, self._plan, self._lines, self._pacs = city, ledger, plan, lines, pacs
        self._seed, self._seconds = seed, seconds
        self._chance = random.Random(f"{seed}/breaking")
        self._active: list[Fault] = []
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="breaking", daemon=True)
        self._killing = threading.Lock()
        self._others: list[threading.Thread] = []

    def start(self) -> None:
        self._thread.start()

    def heal(self) -> None:
        """End every fault; returns when the city is up."""
        self._stopped.set()
        self._thread.join(120)
        for thread in self._others:
            thread.join(60)
        with self._lock:
            self._active.clear()
            self._apply()

    def _run(self) -> None:
        began = time.monotonic()
        left = list(self._plan)
        while not self._stopped.wait(0.05):
            now = time.monotonic() - began
            with self._lock:
                ended = [fault for fault in self._active if fault.at + fault.lasts <= now]
                self._active = [fault for fault in self._active if fault not in ended]
            begun = []
            while left and left[0].at <= now:
                begun.append(left.pop(0))
            for fault in begun:
                self._ledger.note("fault", kind=fault.kind, whom=fault.whom, lasts=fault.lasts)
                with self._lock:
                    self._active.append(fault)
                self._at_once(fault)
            if begun or ended:
                self._apply()

    def _at_once(self, fault: Fault) -> None:
        doing: dict[str, Callable[[], object]] = {
            "kill_forwarder": lambda: self._city.kill_forwarder(fault.whom),
            "kill_city": lambda: self._aside(self._kill_city),
            "credentials": lambda: self._expire(fault.whom),
            "flood": lambda: self._aside(self._flood),
            "letters": lambda: self._aside(self._redrive),
        }
        if fault.kind in doing:
            doing[fault.kind]()

    def _aside(self, what: Callable[[], None]) -> None:
        thread = threading.Thread(target=what, daemon=True)
        thread.start()
        self._others.append(thread)

    def _kill_city(self) -> None:
        with self._killing:
            self._city.kill()
            self._city.start()

    def _expire(self, profile: str) -> None:
        try:
            requests.post(f"{self._city.endpoints['s3']}/_city/expired/{profile}", timeout=5)
        except requests.RequestException:
            return

    def _redrive(self) -> None:
        """Twice: what is redriven may have been delivered already."""
        for _ in range(2):
            letters(self._city.state)

    def _flood(self) -> None:
        """A hospital that offers rubbish in masses: it gets in nobody's way, and each is rejected for its reason."""
        hands = Hospital(self._city.endpoints, STRANGER)
        from hashlib import sha256

        for _ in range(3):
            rubbish = {sha256(body).hexdigest(): body for body in (self._chance.randbytes(600) for _ in range(40))}
            body = {"instances": [{"sha256": sha, "size": len(content)} for sha, content in rubbish.items()]}
            try:
                answer = hands.call("POST", "/uploads", body)
                for status in answer.json().get("instances", []):
                    if status["state"] == "absent":
                        put = status["upload"]
                        requests.put(put["url"], data=rubbish[status["sha256"]], headers=put["headers"], timeout=10)
                        self._ledger.note("rubbish", by=STRANGER, sha256=status["sha256"])
            except (*NO_ANSWER, ValueError):
                continue

    def _apply(self) -> None:
        with self._lock:
            active = list(self._active)
        kinds = {fault.kind for fault in active}
        chances = {name: _HOW_OFTEN[name] for name in CITY if name in kinds}
        file = self._city.state / "faults.json"
        if chances:
            late = min(600.0, self._seconds / 3)
            _write(file, chances | {"late_seconds": late, "seed": self._seed})
        else:
            file.unlink(missing_ok=True)
        for institution in SENDERS:
            self._apply_at(institution, {fault.kind for fault in active if fault.whom == institution})

    def _apply_at(self, institution: str, kinds: set[str]) -> None:
        wrong: dict[str, Any] = {}
        for kind, name in (("disk_full", "full"), ("disk_read_only", "read-only"), ("disk_slow", "slow")):
            if kind in kinds:
                wrong["disk"] = name
        if "clock" in kinds:
            wrong["clock"] = 1200 if self._seed % 2 else -1200
        file = self._city.state / "forwarders" / institution / "drill.json"
        if wrong or file.exists():
            _write(file, wrong)
        line = self._lines[institution]
        cut, lost = "line_cut" in kinds, "line_answers_lost" in kinds
        line.bytes_per_second = 60_000.0 if "line_slow" in kinds else None
        line.cut_after = (
            (lambda method, path: 4000 if self._chance.random() < 0.4 else None) if cut else lambda method, path: None
        )
        line.cut_answer = (lambda method, path: 40 if self._chance.random() < 0.3 else None) if cut else lambda method, path: None
        line.lose_answer = (lambda method, path: self._chance.random() < 0.4) if lost else lambda method, path: False
        pacs = self._pacs[institution]
        moods = [kind.removeprefix("pacs_") for kind in kinds if kind.startswith("pacs_")]
        pacs.mood = next((mood for mood in moods if mood != "dead"), "")
        pacs.live("dead" not in moods)


def letters(state: Path) -> None:
    """The operator redrives dead letters."""
    subprocess.run(
        [sys.executable, "-m", "infra.operate", "--endpoints", str(state / "endpoints.json"), "letters", "--redrive"],
        cwd=ROOT, env=os.environ, capture_output=True, timeout=60, check=False,
    )  # fmt: skip


def _write(file: Path, content: dict[str, Any]) -> None:
    new = file.with_suffix(".new")
    new.write_text(json.dumps(content), encoding="utf-8")
    new.replace(file)
