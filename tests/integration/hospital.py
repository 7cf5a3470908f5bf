"""What tests do as a hospital: send, wait, look."""

from __future__ import annotations

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import requests

from tests.harness import Client, RunningCity, wait_until

SETTLED = {"indexed", "rejected", "conflict", "echo"}


def new_uid() -> str:
    """A UID that no other test has."""
    return f"2.25.{time.time_ns()}"


def send(hospital: Client, *contents: bytes, seconds: float = 60.0) -> list[dict[str, Any]]:
    """Ask, put, and wait for the verdicts; the status of each content, in order."""
    hashes = [hashlib.sha256(content).hexdigest() for content in contents]
    offers = [{"sha256": sha, "size": len(content)} for sha, content in zip(hashes, contents, strict=True)]
    asked = hospital.post("/uploads", json={"instances": offers})
    assert asked.status_code == 200, asked.text

    def put(pair: tuple[dict[str, Any], bytes]) -> None:
        entry, content = pair
        if entry["state"] == "absent":
            upload = entry["upload"]
            answer = requests.put(upload["url"], data=content, headers=upload["headers"], timeout=60)
            assert answer.status_code == 200, answer.text

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, zip(asked.json()["instances"], contents, strict=True)))

    def settled() -> list[dict[str, Any]] | None:
        found: list[dict[str, Any]] = hospital.post("/uploads/status", json={"sha256": hashes}).json()["instances"]
        return found if all(status["state"] in SETTLED for status in found) else None

    answer: list[dict[str, Any]] = wait_until(settled, seconds)
    return answer


def visible(hospital: Client, study: str, instances: int = 1) -> Any:
    """Wait until a search finds the study with so many instances; its attributes."""

    def found() -> Any:
        matches = hospital.get(f"/dicomweb/studies?StudyInstanceUID={study}").json()
        return matches[0] if matches and matches[0]["00201208"]["Value"] == [instances] else None

    return wait_until(found)


def problem(answer: requests.Response) -> dict[str, Any]:
    """The body of a refusal, without the request's own number."""
    body: dict[str, Any] = answer.json()
    body.pop("request_id")
    return body


def ticked(city: RunningCity, function: str) -> dict[str, Any]:
    """What a function answers that the clock calls, called now."""
    event = {"version": "0", "id": "i", "detail-type": "Scheduled Event", "source": "aws.events", "account": "123456789012",
             "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "region": "eu-south-1", "resources": [], "detail": {},
    }  # fmt: skip
    answer = city.aws("lambda").invoke(FunctionName=function, Payload=json.dumps(event))
    said: dict[str, Any] = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, said
    return said
