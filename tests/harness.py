"""A real local city as a process of its own, and hospitals that call it as any SigV4 client would."""

from __future__ import annotations

import configparser
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import boto3
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from local.processes import free_port
from tests.described import require_described

ROOT = Path(__file__).parent.parent
Result = TypeVar("Result")


class SignedBy(requests.auth.AuthBase):
    """botocore's SigV4 signer, service `execute-api`, as an authentication of `requests`."""

    def __init__(self, credentials: Credentials, region: str, service: str = "execute-api") -> None:
        self._signer = SigV4Auth(credentials, service, region)

    def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        body = prepared.body
        if body is not None and not isinstance(body, str | bytes):
            raise TypeError("sign a body in memory")
        signed = AWSRequest(str(prepared.method), prepared.url, data=body or b"")
        for name in ("Content-Type", "X-On-Behalf-Of", "Idempotency-Key"):
            if name in prepared.headers:
                signed.headers[name] = prepared.headers[name]
        self._signer.add_auth(signed)
        prepared.headers.update(dict(signed.headers))
        return prepared


class Client(requests.Session):
    """A session whose paths are relative to the API, and whose requests are signed.

    `client.get("/health")`; `client.as_person("rossi")` adds X-On-Behalf-Of. Every answer must be one of docs/openapi.yaml,
    unless it is not the archive that runs behind the gateway (`described`).
    """

    def __init__(self, api: str, auth: requests.auth.AuthBase | None, *, described: bool = True) -> None:
        super().__init__()
        self.api, self.trust_env, self.described = api, False, described
        self.auth = auth  # type: ignore[assignment]

    def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs.setdefault("timeout", 60)
        answer = super().request(method, self.api + url if url.startswith("/") else url, *args, **kwargs)
        first = answer.history[0] if answer.history else answer  # what S3 answers after a redirect is no answer of the API
        if self.described and "x-amzn-RequestId" in first.headers and not kwargs.get("stream"):
            path = urlsplit(str(first.url)[len(self.api) :]).path
            require_described(str(method), path, first.status_code, first.headers, first.content)
        return answer

    def rebuild_auth(self, prepared_request: Any, response: Any) -> None:
        """A redirect to S3 carries its signature in the address: S3 refuses what else of a signature stands in headers."""
        super().rebuild_auth(prepared_request, response)
        for name in [name for name in prepared_request.headers if name.lower().startswith("x-amz-")]:
            del prepared_request.headers[name]

    def as_person(self, practitioner: str) -> Client:
        other = Client(self.api, self.auth, described=self.described)  # type: ignore[arg-type]
        other.headers["X-On-Behalf-Of"] = practitioner
        return other


class RunningCity:
    """What tests see of a running city: its addresses, its profiles, its process."""

    def __init__(self, state: Path, process: subprocess.Popen[str]) -> None:
        self.state, self.process = state, process
        self.endpoints: dict[str, str] = json.loads((state / "endpoints.json").read_text())
        self.api, self.s3 = self.endpoints["api"], self.endpoints["s3"]

    def credentials(self, profile: str) -> Credentials:
        parser = configparser.RawConfigParser()
        parser.read(self.endpoints["aws_shared_credentials_file"])
        section = parser[profile]
        return Credentials(section["aws_access_key_id"], section["aws_secret_access_key"], section["aws_session_token"])

    def client(self, profile: str | None, credentials: Credentials | None = None) -> Client:
        """A signed client of an institution, or of `operator`; None for one that does not sign."""
        archive = "--app" not in list(map(str, self.process.args))  # type: ignore[arg-type]
        if profile is None and credentials is None:
            return Client(self.api, None, described=archive)
        signed = SignedBy(credentials or self.credentials(str(profile)), self.endpoints["region"])
        return Client(self.api, signed, described=archive)

    def session_credentials(self, profile: str, session: str) -> Credentials:
        """Credentials of the profile's own role under another session name, by STS."""
        who = self.aws("sts", profile)
        role = who.get_caller_identity()["Arn"].split("/")[1]
        made = who.assume_role(RoleArn=f"arn:aws:iam::123456789012:role/{role}", RoleSessionName=session)["Credentials"]
        return Credentials(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])

    def aws(self, service: str, profile: str = "administrator") -> Any:
        """A boto3 client of the emulated cloud with a profile's credentials."""
        credentials = self.credentials(profile)
        return boto3.client(
            service, region_name=self.endpoints["region"], endpoint_url=self.s3,
            aws_access_key_id=credentials.access_key, aws_secret_access_key=credentials.secret_key,
            aws_session_token=credentials.token,
            config=Config(retries={"max_attempts": 1}, signature_version="s3v4" if service == "s3" else None),
        )  # fmt: skip

    def outputs(self) -> dict[str, str]:
        """The outputs of the city's stack: TableName, BucketName, …"""
        (stack,) = self.aws("cloudformation").describe_stacks(StackName="contenitore")["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    def aws_requests(self) -> dict[str, int]:
        """AWS requests since the start, by `service:Operation`."""
        answer: dict[str, int] = requests.get(f"{self.s3}/_city/requests", timeout=60).json()
        return answer

    def functions(self) -> dict[str, dict[str, float]]:
        """Of each function since the start: invocations, cpu_ms, requests to AWS, bytes_sent, bytes_read."""
        answer: dict[str, dict[str, float]] = requests.get(f"{self.s3}/_city/functions", timeout=60).json()
        return answer

    def units(self) -> dict[str, float]:
        """Of the table since the start: request units `written` and `read`, bytes newly `stored`."""
        answer: dict[str, float] = requests.get(f"{self.s3}/_city/units", timeout=60).json()
        return answer

    def invoked(self) -> int:
        """How often any function was invoked since the start, those that run now included."""
        return int(sum(spent["invocations"] for spent in self.functions().values()))

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(60)


def on_its_own(work: Callable[[], Result]) -> Result:
    """What `work` answers in a thread of its own, where it may run an event loop: a browser's runs in this one."""
    with ThreadPoolExecutor(1) as own:
        return own.submit(work).result()


def hospital_day() -> str:
    """Today at the hospitals (YYYYMMDD), which late in the evening is another one than here."""
    return datetime.now(ZoneInfo("Europe/Rome")).strftime("%Y%m%d")


def start_city(state: Path, *arguments: str, port: int | None = None, forwarders: bool = False) -> RunningCity:
    """Start `python -m local up --no-demo` and wait until it answers; without forwarders unless asked for."""
    arguments = arguments if forwarders else ("--no-forwarders", *arguments)
    command = [
        sys.executable,
        "-m",
        "local",
        "up",
        "--state",
        str(state),
        "--ports",
        str(port or free_port(3)),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    (state / "endpoints.json").unlink(missing_ok=True)  # a killed city leaves it behind
    process = subprocess.Popen(
        [*command, "--no-demo", *arguments], cwd=ROOT, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        wait_until(lambda: process.poll() is not None or (state / "endpoints.json").exists())
    except BaseException:
        process.kill()
        raise
    if process.poll() is not None:
        raise AssertionError(f"the city ended with {process.returncode}: {process.communicate()[0]}")
    return RunningCity(state, process)


@contextmanager
def running_city(state: Path, *arguments: str, port: int | None = None, forwarders: bool = False) -> Iterator[RunningCity]:
    city = start_city(state, *arguments, port=port, forwarders=forwarders)
    try:
        yield city
    finally:
        if city.process.poll() is None:
            city.stop()
        if city.process.stdout is not None:
            city.process.stdout.close()


def is_linked(client: Client, number: str) -> bool:
    """Whether a number is linked to another one; what is only proposed, as of somebody with the same name, does not count."""
    return any(link["status"] == "confirmed" for link in client.get(f"/patients/{number}/links").json()["links"])


def wait_until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The first true value of `condition`; AssertionError if there is none within the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen within {seconds} s")
        time.sleep(0.02)
