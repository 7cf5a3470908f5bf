"""Onboarding in the local city, with the same files and the same command as in AWS."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from infra.package import ROOT

BESTA = ["besta", "--name", "Istituto Besta", "--issuer-oid", "2.16.840.1.113883.2.9.99.4.4.1", "--ae-title", "BESTA"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A running city, and the environment of an operator who uses its AWS files."""
    state = tmp_path_factory.mktemp("city") / "state"
    with (state.parent / "output").open("w+") as output:
        command = [sys.executable, "-m", "local", "up", "--state", str(state), "--ports", "0", "--no-demo"]
        command += ["--member-accounts", "222222222222,333333333333"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 60
        while not (state / "endpoints.json").exists():
            assert process.poll() is None, Path(output.name).read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        endpoints = json.loads((state / "endpoints.json").read_text())
        bare = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        yield bare | {
            "AWS_CONFIG_FILE": endpoints["aws_config_file"],
            "AWS_SHARED_CREDENTIALS_FILE": endpoints["aws_shared_credentials_file"],
            "API": endpoints["api"],
        }
        process.terminate()
        process.wait(60)


def _run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra.onboard", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)


def _onboard(environment: dict[str, str], *arguments: str) -> str:
    done = _run(environment, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _credentials(environment: dict[str, str], profile: str) -> ReadOnlyCredentials:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(name, environment[name])
        found = boto3.Session(profile_name=profile).get_credentials()
    assert found is not None
    return found.get_frozen_credentials()


def _call(environment: dict[str, str], credentials: ReadOnlyCredentials, method: str, path: str) -> requests.Response:
    request = AWSRequest(method, environment["API"] + path)
    SigV4Auth(credentials, "execute-api", "eu-south-1").add_auth(request)
    return requests.request(method, request.url, headers=dict(request.headers.items()), timeout=240)


def test_a_fourth_institution_works_at_once_and_is_a_stranger_once_removed(environment: dict[str, str]) -> None:
    assert "Dry run: nothing was done." in _onboard(environment, *BESTA, "--dry-run")
    assert "besta: registered" in _onboard(environment, *BESTA)
    besta = _credentials(environment, "besta")
    listed = _call(environment, besta, "GET", "/institutions")
    assert listed.status_code == 200
    assert "besta" in {entry["id"] for entry in listed.json()["institutions"]}
    assert _call(environment, besta, "DELETE", "/institutions/maugeri").status_code == 403
    assert "Nothing to do." in _onboard(environment, *BESTA)
    assert "no longer registered" in _onboard(environment, "besta", "--remove")
    answer = _call(environment, besta, "GET", "/institutions")
    assert answer.status_code == 403
    assert answer.json()["type"] == "urn:contenitore:problem:unknown-institution"


def test_a_changed_role_waits_until_the_institution_confirms_it(environment: dict[str, str]) -> None:
    cattinara = ["cattinara", "--name", "Cattinara", "--issuer-oid", "2.16.840.1.113883.2.9.99.6.6.1"]
    roles = [f"arn:aws:iam::222222222222:role/cattinara-{number}" for number in (1, 2)]
    assert f"registered with {roles[0]}" in _onboard(environment, *cattinara, "--role-arn", roles[0])
    said = _onboard(environment, *cattinara, "--role-arn", roles[1])
    assert f"instead of {roles[0]}" in said
    assert f"{roles[1]} waits" in said
    again = _onboard(environment, *cattinara, "--role-arn", roles[1])
    assert "Nothing to do." in again
    assert f"{roles[1]} waits" in again
    assert f"--confirm --role-arn {roles[1]}" in again
    as_itself = ["cattinara", "--confirm", "--profile", "cattinara", "--api", environment["API"]]
    other = _run(environment, *as_itself, "--role-arn", roles[0])
    assert other.returncode == 1
    assert "Another role waits" in other.stderr
    confirmed = _onboard(environment, *as_itself, "--role-arn", roles[1])
    assert f"{roles[1]} counts" in confirmed
    assert "Nothing to do.\n" in _onboard(environment, *cattinara, "--role-arn", roles[1])
    assert "no longer registered" in _onboard(environment, "cattinara", "--remove")


def test_an_institution_with_a_certificate_is_brought_in_and_taken_out_as_the_manual_says(environment: dict[str, str]) -> None:
    anchor = "arn:aws:rolesanywhere:eu-south-1:123456789012:trust-anchor/11111111-2222-3333-4444-555555555555"
    sandonato = ["sandonato", "--name", "San Donato", "--issuer-oid", "2.16.840.1.113883.2.9.99.5.5.1", "--ae-title", "SANDONATO"]
    trust = ["--trust-anchor-arn", anchor, "--certificate-cn", "forwarder.sandonato"]
    assert "Dry run: nothing was done." in _onboard(environment, *sandonato, *trust, "--dry-run")
    said = _onboard(environment, *sandonato, *trust)
    assert "sandonato: registered" in said
    assert "names the profile arn:aws:rolesanywhere:eu-south-1:" in said
    assert "Nothing to do." in _onboard(environment, *sandonato, *trust)
    assert _call(environment, _credentials(environment, "sandonato"), "GET", "/institutions").status_code == 200
    assert "no longer registered" in _onboard(environment, "sandonato", "--remove", "--delete-stack")
