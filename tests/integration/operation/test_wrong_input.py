"""The operator's commands, asked wrongly, stopped, or read by nobody: a sentence that says what to do, and no traceback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra import audit, authority, onboard, operate
from infra.command_line import NOT_READ
from tests.harness import ROOT
from tests.integration.operation.conftest import OperatedCity

NOW = datetime.now(UTC)
DAY, BEFORE = (f"{at:%Y-%m-%d}T00:00:00Z" for at in (NOW, NOW - timedelta(days=30)))
NEXT_YEAR = f"{NOW.year + 1}-01"


def refused(operated: OperatedCity, command: str, *arguments: str) -> int:
    """What a command exits with, with where the city is behind all of it."""
    try:
        return (operate.main if command == "operate" else audit.main)([*arguments, *operated.where])
    except SystemExit as ended:  # argparse's
        return int(str(ended.code))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["operate", "reconcile", "--institution", "San Matteo"], "'San Matteo' is not an institution's id: 3 to 40 of"),
        (["operate", "reconcile", "--mend", "--institution", ""], "'' is not an institution's id"),
        (["operate", "reconcile", "--institution", "san-mateo"], "`operate usage` names every one"),
        (["operate", "reconcile", "--older-than", "nan"], "older_than must be a number of seconds"),
        (["operate", "rebuild", "--from", "nowhere"], "STAGE:INSTITUTION:AFTER"),
        (["operate", "usage", "--month", "2026-13"], "'2026-13' is not a month: YYYY-MM"),
        (["operate", "usage", "--month", ""], "'' is not a month: YYYY-MM"),
        (["operate", "usage", "--month", NEXT_YEAR], f"{NEXT_YEAR} has not begun yet"),
        (["operate", "usage", "--prices", "README.md"], "README.md is not a list of prices as infra/prices.json"),
        (["operate", "usage", "--prices", "infra/counted.json"], "it lacks region"),
        (["operate", "usage", "--prices", "nowhere.json"], "nowhere.json: No such file or directory"),
        (["operate", "erase"], "the following arguments are required: ID"),
        (["operate", "erase", "../x", "--status"], "'../x' is not an institution's id"),
        (["operate", "erase", "san-mateo"], "san-mateo never was an institution: `usage` names every one"),
        (["operate", "erase", "san-matteo"], "end its membership first (python -m infra.onboard ID --remove)"),
        (["operate", "erase", "san-matteo", "--api", "http://127.0.0.1:9"], "is there a city, and the way to it open? see"),
        (["operate", "erase", "san-matteo", "--api", "foo"], "'foo' is not the API's address: it begins with https://"),
        (["operate", "carry-over"], "the following arguments are required: --from"),
        (["operate", "carry-over", "--from", "a b"], "'a b' is not a table's name"),
        (["operate", "carry-over", "--from", "before", "--retention-years", "0"], "'0' is not for how many years"),
        (["operate", "carry-over", "--from", "before", "--retention-years", "ten"], "'ten' is no whole number of years"),
        (["operate", "carry-over", "--from", "before"], "see --profile (stop, start and carry-over are an administrator's)"),
        (["operate", "carry-over", "--from", "before", "--profile", "administrator"], "there is no table before in eu-south-1"),
        (["operate", "stop"], "see --profile (stop, start and carry-over are an administrator's)"),
        (["operate", "forwarders", "--city", "nowhere"], "--city, --region"),
        (["operate", "forwarders", "--profile", "nobody"], "see --profile"),
        (["operate", "forwarders", "--profile", "san-matteo"], "see --profile"),
        (["audit", "verify", "--from", "yesterday"], "--from must be an RFC 3339 time with its offset, such as"),
        (["audit", "export", "--from", ""], "--from must be an RFC 3339 time"),
        (["audit", "verify", "--from", DAY, "--to", BEFORE], "--from must be before --to"),
        (["audit", "export", "--from", DAY, "--to", BEFORE], "--from must be before --to"),
        (["audit", "verify", "--retention-years", "-1"], "'-1' is not for how many years"),
        (["audit", "verify", "--retention-years", "nan"], "'nan' is not for how many years"),
        (["audit", "verify", "--retention-years", "1e300"], "'1e300' is not for how many years"),
        (["audit", "export", "--out", "/nowhere/x"], "/nowhere/x: No such file or directory"),
        (["audit", "restored", "--to", DAY], "the following arguments are required: --reason"),
        (["audit", "verify", "--profile", "maugeri"], "see --profile"),
    ],
)  # fmt: skip
def test_what_is_asked_wrongly_is_answered_with_what_to_do(
    operated: OperatedCity, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(operated, *arguments) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert not [line for line in told.out.splitlines() if "no erasure was ever asked for" not in line]


@pytest.mark.parametrize("content", ["[]", "no JSON", "{}", '{"aws_config_file": 7}'])
def test_a_file_that_says_nothing_of_a_city_is_named(tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "endpoints.json"
    file.write_text(content)
    assert operate.main(["forwarders", "--endpoints", str(file)]) == 2
    assert audit.main(["--endpoints", str(file), "verify"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert f"{file} is not a local city's endpoints.json: " in first
    assert second == f"audit:{first.removeprefix('operate:')}"


def _environment(unbuffered: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | (
        {"PYTHONUNBUFFERED": unbuffered} if unbuffered else {}
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["operate forwarders", "operate reconcile --json", "audit verify", "audit export"])
def test_a_command_that_nobody_reads_to_the_end_ends_without_a_word(
    operated: OperatedCity, command: str, unbuffered: str
) -> None:
    program, *arguments = command.split()
    reads, writes = os.pipe()
    os.close(reads)
    asked = [sys.executable, "-m", f"infra.{program}", *operated.where, *arguments]
    ran = subprocess.run(
        asked, cwd=ROOT, env=_environment(unbuffered), stdout=writes, stderr=subprocess.PIPE, text=True, timeout=240, check=False
    )
    os.close(writes)
    assert (ran.returncode, ran.stderr) == (NOT_READ, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_nor_do_the_authority_and_the_forwarder_say_a_word(tmp_path: Path, unbuffered: str) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    environment = _environment(unbuffered) | {authority.PASSPHRASE: "a passphrase of the city"}
    for asked in (["infra.authority", str(tmp_path / "ca"), "init"], ["forwarder", "example-config"]):
        ran = subprocess.run(
            [sys.executable, "-m", *asked], cwd=ROOT, env=environment, stdout=writes, stderr=subprocess.PIPE, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert (ran.returncode, ran.stderr) == (NOT_READ, "")
    os.close(writes)


def test_a_reason_that_is_left_empty_is_refused_and_nothing_is_asked_for(
    operated: OperatedCity, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of one that left: the canary."""
    operated.run(operate.main, "canary", "--join")
    operated.run(onboard.main, "canary", "--remove")
    assert operate.main([*operated.where, "erase", "canary", "--reason", ""]) == 2
    told = capsys.readouterr()
    assert "reason must be 1 to 200 printable characters" in told.err
    assert told.out == "canary: no erasure was ever asked for\n"


@contextmanager
def _as_at_a_terminal() -> Iterator[None]:
    """A shell lets what it starts in the background ignore Ctrl-C, and whatever that starts: these tests, too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("command", "code"), [("operate usage", 2), ("operate reconcile", 2), ("audit verify", 2), ("onboard nobody --remove", 1)]
)
def test_ctrl_c_in_the_middle_says_what_the_same_command_does(tmp_path: Path, command: str, code: int) -> None:
    """Before an archive that takes the call and does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as archive:
        address = f"http://127.0.0.1:{archive.getsockname()[1]}"
        config, credentials = tmp_path / "config", tmp_path / "credentials"
        config.write_text(f"[profile operator]\nregion = eu-south-1\nendpoint_url = {address}\n")
        credentials.write_text("[operator]\naws_access_key_id = A\naws_secret_access_key = B\n")
        said = {"aws_config_file": str(config), "aws_shared_credentials_file": str(credentials), "api": address}
        (tmp_path / "endpoints.json").write_text(json.dumps(said))
        program, *arguments = command.split()
        asked = [sys.executable, "-m", f"infra.{program}", *arguments, "--endpoints", str(tmp_path / "endpoints.json")]
        with (
            _as_at_a_terminal(),
            subprocess.Popen(asked, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running,
        ):
            try:
                archive.settimeout(120)
                connection, _ = archive.accept()
                with connection:
                    connection.recv(1)
                    running.send_signal(signal.SIGINT)
                    out, err = running.communicate(timeout=120)
            finally:
                running.kill()
    assert (running.returncode, out) == (code, "")
    assert err.startswith(f"{program}: stopped")
    assert len(err.splitlines()) == 1
