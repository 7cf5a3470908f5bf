"""S3 loses an event: the instance is found all the same, when its sender asks again and when nobody does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import requests

from tests.harness import Client, RunningCity, running_city, wait_until
from tests.world import image


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCity]:
    with running_city(tmp_path_factory.mktemp("lost")) as running:
        yield running


def upload_unheard(city: RunningCity, hospital: Client, content: bytes) -> str:
    """Upload, and lose the event that tells of it; the SHA-256."""
    sha = hashlib.sha256(content).hexdigest()
    (offer,) = offered(hospital, content)
    (city.state / "lose-events").write_text("1")
    put = offer["upload"]
    assert requests.put(put["url"], data=content, headers=put["headers"], timeout=60).status_code == 200
    assert not (city.state / "lose-events").exists()
    return sha


def offered(hospital: Client, content: bytes) -> list[dict]:
    wanted = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    return hospital.post("/uploads", json={"instances": [wanted]}).json()["instances"]


def state(hospital: Client, sha: str) -> str:
    (instance,) = hospital.post("/uploads/status", json={"sha256": [sha]}).json()["instances"]
    return str(instance["state"])


def sweep(city: RunningCity, at: datetime) -> int:
    """What the clock calls, called as at that moment."""
    event = {"version": "0", "id": "i", "detail-type": "Scheduled Event", "source": "aws.events", "account": "123456789012",
             "time": f"{at:%Y-%m-%dT%H:%M:%SZ}", "region": "eu-south-1", "resources": [], "detail": {}}  # fmt: skip
    answer = city.aws("lambda").invoke(FunctionName="sweep_uploads", Payload=json.dumps(event))
    return int(json.loads(answer["Payload"].read())["announced"])


def test_who_offers_it_again_has_it_indexed(city: RunningCity) -> None:
    hospital, content = city.client("san-matteo"), image(study="1.2.31")
    sha = upload_unheard(city, hospital, content)
    assert state(hospital, sha) == "stored"
    assert sweep(city, datetime.now(UTC)) == 0  # too early
    assert [status["state"] for status in offered(hospital, content)] == ["stored"]
    wait_until(lambda: state(hospital, sha) == "indexed")


def test_who_only_asks_after_its_state_has_it_indexed_by_the_sweep(city: RunningCity) -> None:
    hospital, content = city.client("maugeri"), image(study="1.2.32")
    sha = upload_unheard(city, hospital, content)
    assert state(hospital, sha) == "stored"
    assert sweep(city, datetime.now(UTC) + timedelta(minutes=11)) == 1
    wait_until(lambda: state(hospital, sha) == "indexed")
    assert sweep(city, datetime.now(UTC) + timedelta(minutes=60)) == 0
