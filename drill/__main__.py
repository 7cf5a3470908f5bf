"""`python -m drill [--seconds N] [--seed N] [--only KIND,…] [--without KIND,…] [--reduce] [--keep DIR]`: hold the drill.

Exit 0 when every promise held, 1 when one did not: the seed and the command that plays it again are printed.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import requests
from botocore.config import Config
from pydicom import Dataset

from drill import breaking, running, world
from drill.breaking import Breaking
from drill.checker.audit import read_trail
from drill.checker.promises import Evidence, Violation, check, summary
from drill.checker.rules import Knowledge
from drill.client import NO_ANSWER, Hospital
from drill.dicom import Pacs
from drill.ledger import Ledger
from drill.load import Load
from drill.running import DrillError, RunningCity, free_port
from tests.forwarder.line_proxy import BadLine, bad_line

SETTLE_SECONDS, NO_PROGRESS_SECONDS = 300.0, 90.0
"""How long everything has to come to rest at the most (or twice as long as things broke), and how long without any change of the
counts."""
REST_SECONDS = 6.0
"""How long nothing waits nor changes once everything has come to rest: longer than a record of the table's stream is late."""
LONG_SECONDS = 120.0
"""A drill beyond it asks no more of an hour than one process that stands for all of AWS can do in it."""
SECONDS_A_PERSON = 12
"""A patient whom two hospitals move to and fro all day is nobody's: who comes grows with the time."""
SWEPT_AT = (11, 44, 140, 430)
"""Minutes ahead of now at which the sweep is made to look: what was offered is looked at three times as late each time."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m drill", description="The city under load while everything breaks.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long things break (default 60)")
    parser.add_argument("--seed", type=int, default=None, help="the schedule and everyone's choices; without it a new one")
    parser.add_argument("--only", default="", metavar="KIND,…", help="only these faults")
    parser.add_argument("--without", default="", metavar="KIND,…", help="all but these faults")
    parser.add_argument("--reduce", action="store_true", help="where it fails, look for fewer faults that do")
    parser.add_argument(
        "--persons", type=int, metavar="N", help="how many patients (default: one for 12 seconds, 5 at the least)"
    )
    parser.add_argument("--pace", type=float, metavar="F", help="how long everyone pauses (default 1, or 2.5 in a long drill)")
    parser.add_argument("--keep", type=Path, default=None, metavar="DIR", help="keep state and ledger there")
    chosen = parser.parse_args(arguments)
    seed = chosen.seed if chosen.seed is not None else int.from_bytes(os.urandom(3), "big")
    kinds = tuple(kind for kind in breaking.ALL if kind in (chosen.only.split(",") if chosen.only else breaking.ALL))
    kinds = tuple(kind for kind in kinds if kind not in chosen.without.split(","))
    pace = chosen.pace or (2.5 if chosen.seconds > LONG_SECONDS else 1.0)
    persons = chosen.persons or max(5, round(chosen.seconds / SECONDS_A_PERSON))
    try:
        violations = hold(seed, chosen.seconds, kinds, chosen.keep, persons=min(persons, world.MOST_PERSONS), pace=pace)
    except DrillError as error:
        print(f"The drill could not be held: {error}", file=sys.stderr)
        return 2
    if violations and chosen.reduce:
        kinds = _reduced(seed, chosen.seconds, kinds)
    if violations:
        print(f"\nPlay it again: python -m drill --seed {seed} --seconds {chosen.seconds:g} --only {','.join(kinds)}")
    return 1 if violations else 0


def _reduced(seed: int, seconds: float, kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Fewer kinds of fault with which it fails still: each is left out once."""
    for kind in kinds:
        fewer = tuple(other for other in kinds if other != kind)
        if hold(seed, seconds, fewer, None):
            kinds = fewer
    return kinds


def hold(
    seed: int, seconds: float, kinds: tuple[str, ...], keep: Path | None = None, *, persons: int = 5, pace: float = 1.0
) -> list[Violation]:
    """One drill, from an empty state to the verdict; `pace` is how long everyone pauses. Raises DrillError."""
    print(f"drill: seed {seed}, {seconds:g} s, faults: {', '.join(kinds) or 'none'}", flush=True)
    began = time.monotonic()
    state = keep or Path(tempfile.mkdtemp(prefix="drill-"))
    (state / "drill" / "sent").mkdir(parents=True, exist_ok=True)
    held = False
    try:
        with ExitStack() as stack:
            ledger = Ledger(state / "drill" / "ledger.jsonl")
            stack.callback(ledger.close)
            city = RunningCity(state)
            lines = {name: stack.enter_context(bad_line()) for name in world.SENDERS}
            pacs = {name: Pacs(name, f"PACS{number}", free_port(), ledger) for number, name in enumerate(world.SENDERS)}
            for archive_node in pacs.values():
                archive_node.start()
                stack.callback(archive_node.stop)
            _configure(state, lines, pacs)
            stack.callback(city.stop)
            city.start()
            print(f"  the city is up after {time.monotonic() - began:.0f} s; state in {state}", flush=True)
            load = Load(city, ledger, seed, state / "drill" / "sent", persons, pace)
            plan = breaking.schedule(seed, seconds, kinds)
            faults = Breaking(city, ledger, plan, lines, pacs, seed, seconds)
            load.start()
            faults.start()
            time.sleep(seconds)
            faults.heal()
            load.end()
            print(
                f"  {len(plan)} faults, {len(ledger.entries)} entries; settling after {time.monotonic() - began:.0f} s",
                flush=True,
            )
            settled = _settle(city, ledger, kinds, max(SETTLE_SECONDS, 2 * seconds))
            print(f"  settled after {time.monotonic() - began:.0f} s", flush=True)
            violations = _judge(city, ledger, settled, load, seed)
        held = not violations
        for violation in violations[:40]:
            print(f"  BROKEN {violation}", flush=True)
        print(f"drill: seed {seed}: {'every promise held' if held else f'{len(violations)} violations'}"
              f" ({time.monotonic() - began:.0f} s)", flush=True)  # fmt: skip
        return violations
    finally:
        if keep is None and held:
            shutil.rmtree(state, ignore_errors=True)
        elif not held:
            print(f"  ledger, logs and state are in {state}", flush=True)


def _configure(state: Path, lines: dict[str, BadLine], pacs: dict[str, Pacs]) -> None:
    """What each forwarder's site lays over its configuration."""
    destinations = ", ".join(f'"{name}" = "{name}"' for name in world.EVERYONE)
    for number, name in enumerate(world.SENDERS):
        folder = state / "forwarders" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "site.toml").write_text(
            f"""
archive = {{ proxy = "{lines[name].url}", timeout_seconds = 15 }}
spool = {{ reserve_mb = 1 }}
send = {{ lossless = {"true" if number else "false"} }}
pacs = {{ ae_title = "{pacs[name].title}", host = "127.0.0.1", port = {pacs[name].port} }}
deliver = {{ enabled = true, max_studies = 1000 }}
[[peers]]
ae_title = "{pacs[name].title}"
host = "127.0.0.1"
port = {pacs[name].port}
[hl7]
allowed_addresses = ["127.0.0.1"]
patient_authority = "{name}"
[hl7.adt]
enabled = true
per_hour = 1000
destinations = {{ {destinations} }}
""",
            encoding="utf-8",
        )


def _settle(city: RunningCity, ledger: Ledger, kinds: tuple[str, ...], most: float) -> dict[str, dict[str, Any]]:
    """Wait until nothing waits any more, with the help that an operator has: sweeps, and dead letters redriven. The last counts."""
    if "letters" in kinds:
        breaking.letters(city.state)
    began = changed = rested = time.monotonic()
    sweeps = 0
    last: dict[str, dict[str, Any]] = {}
    waiting: list[tuple[str, str, int]] = []
    done: list[Any] = []
    while (now := time.monotonic()) - rested < REST_SECONDS and now - began < most and now - changed < NO_PROGRESS_SECONDS:
        if now - began > 10 * sweeps:
            _sweep(city, SWEPT_AT[min(sweeps, len(SWEPT_AT) - 1)])
            sweeps += 1
            for name in world.SENDERS:
                running.retry(city.forwarder(name)["config"])
        try:
            for name in world.SENDERS:
                page = city.forwarder(name)["page"]
                last[name] = requests.get(f"{page}/status.json", timeout=15).json()
        except (*NO_ANSWER, ValueError):
            rested = time.monotonic()
            time.sleep(0.5)
            continue
        found = [(name, kind, count) for name, status in last.items() for kind, count in _waiting(status) if count]
        did = [(status["indexed"], status["rejected"], status["deliver"].get("delivered")) for status in last.values()]
        changed = time.monotonic() if found != waiting else changed
        rested = time.monotonic() if found or did != done else rested
        waiting, done = found, did
        time.sleep(0.5)
    if waiting:
        print(f"  still busy when the time was over: {waiting}", flush=True)
    for name, status in last.items():
        ledger.note("settled", by=name, **{key: status[key] for key in ("received", "indexed", "rejected", "waiting")})
    return last


def _waiting(status: dict[str, Any]) -> list[tuple[str, int]]:
    """What waits in a forwarder, by kind."""
    deliver = status["deliver"]
    return [
        ("instances", status["waiting"]),
        ("reports", status["reports"]["waiting"]),
        ("adt", status["adt"].get("waiting", 0)),
        ("deliveries", sum(deliver.get(what, 0) for what in ("waiting", "studies_waiting", "looks_waiting"))),
    ]


def _client(city: RunningCity, service: str) -> Any:
    """An AWS client of the emulated cloud with every right, as who damages and inspects it has."""
    credentials = Hospital(city.endpoints, "administrator").credentials()
    return boto3.client(
        service, region_name=city.endpoints["region"], endpoint_url=city.endpoints["s3"],
        aws_access_key_id=credentials.access_key, aws_secret_access_key=credentials.secret_key,
        aws_session_token=credentials.token, config=Config(retries={"max_attempts": 2}),
    )  # fmt: skip


def _sweep(city: RunningCity, minutes: int) -> None:
    """What the clock calls every ten minutes, called as if that time had passed: events that were lost are found."""
    at = datetime.now(UTC) + timedelta(minutes=minutes)
    event = {"version": "0", "id": "drill", "detail-type": "Scheduled Event", "source": "aws.events", "account": "123456789012",
             "time": f"{at:%Y-%m-%dT%H:%M:%SZ}", "region": city.endpoints["region"], "resources": [], "detail": {}}  # fmt: skip
    _client(city, "lambda").invoke(FunctionName="sweep_uploads", Payload=json.dumps(event))


def _judge(city: RunningCity, ledger: Ledger, settled: dict[str, dict[str, Any]], load: Load, seed: int) -> list[Violation]:
    transfers: dict[str, dict[str, Any]] = {}
    for name in world.SENDERS:
        for status in ("active", "expired", "revoked"):
            cursor: str | None = ""
            while cursor is not None:
                path = f"/transfers?direction=outgoing&status={status}" + (f"&cursor={quote(cursor)}" if cursor else "")
                answer = Hospital(city.endpoints, name).get(path).json()
                transfers |= {found["id"]: found for found in answer["transfers"]}
                cursor = answer.get("next")
    for found in transfers.values():
        if found["status"] == "active" and "accepted_at" in found:
            ledger.note("standing", transfer=found["id"])
    numbers = {(person.index, name): number for person in load.people for name, number in person.numbers.items()}
    (stack,) = _client(city, "cloudformation").describe_stacks(StackName="contenitore")["Stacks"]
    table = next(output["OutputValue"] for output in stack["Outputs"] if output["OutputKey"] == "TableName")
    known = Knowledge(ledger.entries, transfers.values(), {(name, number): index for (index, name), number in numbers.items()})

    def upload(institution: str, bodies: list[bytes]) -> list[str]:
        return _upload(Hospital(city.endpoints, institution), bodies)

    def fresh(count: int) -> list[Dataset]:
        chance, study = random.Random(seed), world.uid(seed, "growth")
        return [world.image(load.people[0], "mondino", study, n, "20260101", chance, edge=16) for n in range(1, count + 1)]

    evidence = Evidence(
        known,
        lambda name: Hospital(city.endpoints, name, "controllo"),
        numbers,
        city.state / "drill" / "sent",
        read_trail(_client(city, "dynamodb"), table),
        settled,
        lambda: requests.get(f"{city.endpoints['s3']}/_city/functions", timeout=10).json(),
        upload,
        fresh,
    )
    violations = list(check(evidence))
    print("  " + summary(violations, known), flush=True)
    return violations


def _upload(hands: Hospital, bodies: list[bytes]) -> list[str]:
    """Ask, put, and wait until each is judged; the states."""
    hashes = [hashlib.sha256(body).hexdigest() for body in bodies]
    offers = [{"sha256": sha, "size": len(body)} for sha, body in zip(hashes, bodies, strict=True)]
    answer = hands.call("POST", "/uploads", {"instances": offers}).json()["instances"]
    for body, status in zip(bodies, answer, strict=True):
        if status["state"] == "absent":
            requests.put(status["upload"]["url"], data=io.BytesIO(body), headers=status["upload"]["headers"], timeout=30)
    deadline = time.monotonic() + 30
    while True:
        states = [status["state"] for status in hands.call("POST", "/uploads/status", {"sha256": hashes}).json()["instances"]]
        if not {"stored", "absent"} & set(states) or time.monotonic() > deadline:
            return states
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
