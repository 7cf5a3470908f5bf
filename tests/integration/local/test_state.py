"""What a city had, it has again; and it says clearly when it cannot start."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from local.processes import free_port
from tests.harness import ROOT, RunningCity, running_city, start_city, wait_until

from .conftest import STANDIN
from .test_s3 import BODY, presigned, stored, upload


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def port() -> int:
    return free_port(3)


@pytest.fixture
def cities() -> Iterator[list[RunningCity]]:
    """Whatever a test starts is ended."""
    started: list[RunningCity] = []
    yield started
    for city in started:
        city.stop(signal.SIGKILL)
        if city.process.stdout is not None:
            city.process.stdout.close()


def verdict(city: RunningCity, name: str) -> Any:
    wanted = {"pk": {"S": f"F#OBJECT#test#{name}"}, "sk": {"S": "."}}
    return city.aws("dynamodb").get_item(TableName=city.outputs()["TableName"], Key=wanted).get("Item")


def start_and_fail(*arguments: str) -> str:
    """The message of a city that does not start."""
    command = [sys.executable, "-m", "local", "up", "--no-demo", *arguments]
    ended = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr


# Kept ------------------------------------------------------------------------------------------------


def test_after_a_restart_everything_is_there(state: Path, port: int, cities: list[RunningCity]) -> None:
    first = start_city(state, *STANDIN, port=port)
    cities.append(first)
    outputs, s3 = first.outputs(), first.aws("s3")
    bucket = outputs["BucketName"]
    stored(first, "kept")
    old = s3.put_object(Bucket=bucket, Key="cache/v", Body=b"1", ContentType="text/plain", Metadata={"a": "b"})
    s3.put_object(Bucket=bucket, Key="cache/v", Body=b"2")
    s3.put_object(Bucket=bucket, Key="cache/gone", Body=b"3")
    s3.delete_object(Bucket=bucket, Key="cache/gone")
    address = presigned(first, "get_object", "kept")
    first.client("operator").put("/institutions/besta", json={"role_arn": "arn:aws:iam::210987654321:role/besta"})
    template = {
        "Resources": {"Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": {"Statement": []}}}},
        "Outputs": {"Arn": {"Value": {"Fn::GetAtt": ["Role", "Arn"]}}},
    }
    first.aws("cloudformation").create_stack(StackName="other", TemplateBody=json.dumps(template))
    (made,) = first.aws("cloudformation").describe_stacks(StackName="other")["Stacks"]
    wait_until(lambda: verdict(first, "kept"))
    wait_until(lambda: first.client("besta").get("/echo/x").status_code == 200)
    before = first.credentials("maugeri")
    listed = s3.list_object_versions(Bucket=bucket)
    assert first.stop() == 0

    second = start_city(state, *STANDIN, port=port)
    cities.append(second)
    assert second.outputs() == outputs
    s3 = second.aws("s3")
    assert requests.get(address, timeout=60).content == BODY
    again = s3.list_object_versions(Bucket=bucket)
    for kind in ("Versions", "DeleteMarkers"):
        assert again[kind] == listed[kind]
    got = s3.get_object(Bucket=bucket, Key="cache/v", VersionId=old["VersionId"])
    assert (got["Body"].read(), got["ContentType"], got["Metadata"]) == (b"1", "text/plain", {"a": "b"})
    assert verdict(second, "kept")["tries"] == {"S": "1"}, "what has its verdict is not announced again"
    assert second.client(None, before).get("/echo/x").status_code == 200, "credentials outlive a restart"
    assert second.client("besta").get("/echo/x").status_code == 200
    (remade,) = second.aws("cloudformation").describe_stacks(StackName="other")["Stacks"]
    assert remade["Outputs"] == made["Outputs"]
    url, headers = upload(second, "kept")
    assert requests.put(url, data=BODY, headers=headers, timeout=60).status_code == 412


def test_what_was_answered_survives_a_kill(state: Path, port: int, cities: list[RunningCity]) -> None:
    first = start_city(state, *STANDIN, port=port)
    cities.append(first)
    dynamodb, table = first.aws("dynamodb"), first.outputs()["TableName"]
    for number in range(20):
        stored(first, f"killed-{number}")
        dynamodb.put_item(TableName=table, Item={"pk": {"S": "kill"}, "sk": {"S": f"{number:02}"}})
    first.stop(signal.SIGKILL)

    with running_city(state, *STANDIN, port=port) as second:
        for number in range(20):
            answer = requests.get(presigned(second, "get_object", f"killed-{number}"), timeout=60)
            assert answer.content == BODY
            wait_until(lambda number=number: verdict(second, f"killed-{number}"))
        found = second.aws("dynamodb").query(
            TableName=table, KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": {"S": "kill"}}
        )
        assert found["Count"] == 20


def test_an_upload_that_was_cut_off_leaves_nothing(state: Path, port: int, cities: list[RunningCity]) -> None:
    with running_city(state, *STANDIN, port=port) as city:
        stored(city, "whole")
    orphan = state / "objects" / "00" / ("0" * 32)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"half")
    with running_city(state, *STANDIN, port=port) as city:
        assert requests.get(presigned(city, "get_object", "whole"), timeout=60).content == BODY
    assert not orphan.exists()


# Ended -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_city_ends_at_once_whatever_it_is_doing(state: Path, how: signal.Signals, cities: list[RunningCity]) -> None:
    city = start_city(state, *STANDIN)
    cities.append(city)
    client = city.client("maugeri")

    def poll() -> None:
        try:
            client.get("/sleep/20")
        except requests.ConnectionError:
            return

    before = city.invoked()
    threading.Thread(target=poll, daemon=True).start()
    wait_until(lambda: city.invoked() > before)
    asked_at = time.monotonic()
    assert city.stop(how) == 0
    assert time.monotonic() - asked_at < 10  # and not when the call is over
    assert not (state / "endpoints.json").exists()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("moment", ["its folder is there", "it keeps its state", "its first door is open"])
def test_a_city_that_is_starting_can_be_ended(state: Path, moment: str, port: int) -> None:
    reached: dict[str, Callable[[], bool]] = {
        "its folder is there": (state / "logs").exists,
        "it keeps its state": (state / "city.sqlite").exists,
        "its first door is open": lambda: any(listens(door) for door in (port, port + 1, port + 2)),
    }
    command = [sys.executable, "-m", "local", "up", "--no-demo", "--state", str(state), "--ports", str(port), *STANDIN]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_until(reached[moment])
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    with running_city(state, *STANDIN, port=port) as city:
        assert city.client("mondino").get("/echo/x").status_code == 200


BROKEN_OFF = """
import os, signal, sys
from local import __main__, city

def start(self):
    both = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, both)
    for number in both:  # in one moment, as from a terminal and from whoever started it
        os.kill(os.getpid(), number)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
    finally:
        raise RuntimeError("release unlocked lock")

city.City.start = start
sys.exit(__main__.main(sys.argv[1:]))
"""


def test_what_fails_because_the_end_broke_it_off_is_no_failure(state: Path, port: int) -> None:
    """A lock that the main thread was letting go of, for instance, as CPython's `threading.Condition` then says."""
    up = ["up", "--no-demo", "--state", str(state), "--ports", str(port), *STANDIN]
    ended = subprocess.run(
        [sys.executable, "-c", BROKEN_OFF, *up], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "The city has stopped." in ended.stdout


def test_a_city_that_is_killed_while_it_makes_its_state_starts_again(state: Path) -> None:
    """At each statement that it makes it of, one after the other."""
    tried = subprocess.run([sys.executable, "-c", KILLED, str(state)], cwd=ROOT, text=True, capture_output=True, check=False)
    assert (tried.returncode, tried.stderr) == (0, "")
    assert int(tried.stdout) > 8


KILLED = """
import os, pathlib, shutil, sqlite3, sys
from local import state
folder, connect, statements = pathlib.Path(sys.argv[1]), sqlite3.connect, 0
while True:
    statements += 1
    shutil.rmtree(folder, ignore_errors=True)
    child = os.fork()
    if child == 0:
        left = iter(range(statements))
        def killed(*arguments, **named):
            made = connect(*arguments, **named)
            made.set_trace_callback(lambda _statement: next(left, None) is None and os._exit(9))
            return made
        sqlite3.connect = killed
        state.State(folder)
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    state.State(folder).close()
    if ended == 0:
        break
print(statements)
"""


# Refused ---------------------------------------------------------------------------------------------


def test_two_cities_do_not_share_a_state(standin_city: RunningCity) -> None:
    message = start_and_fail("--state", str(standin_city.state), "--ports", str(free_port(3)))
    assert f"process {standin_city.process.pid}" in message


def test_ports_in_use_are_named(standin_city: RunningCity, state: Path) -> None:
    port = int(standin_city.api.rsplit(":", 1)[1])
    assert f"Port {port} " in start_and_fail("--state", str(state), "--ports", str(port))


def test_a_state_of_a_newer_city_is_left_alone(state: Path) -> None:
    state.mkdir()
    with sqlite3.connect(state / "city.sqlite") as database:
        database.execute("PRAGMA user_version=99")
    database.close()
    message = start_and_fail("--state", str(state), "--ports", str(free_port(3)))
    assert "format 99" in message


@pytest.mark.parametrize("content", [b"this is no database, and long enough to be read as a header" * 10])
def test_a_file_that_is_no_state_is_left_alone(state: Path, content: bytes) -> None:
    state.mkdir()
    (state / "city.sqlite").write_bytes(content)
    message = start_and_fail("--state", str(state), "--ports", str(free_port(3)))
    assert "move it away" in message
    assert (state / "city.sqlite").read_bytes() == content


def test_a_state_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be used" in start_and_fail("--state", str(tmp_path / "file" / "state"), "--ports", "0")
