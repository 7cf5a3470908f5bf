"""What is no DICOM and was sent all the same goes after a week, or when its sender asks. An image never does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import requests
from botocore.exceptions import ClientError

from tests.harness import Client, RunningCity, running_city, wait_until
from tests.world import image

BARE = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100\x08\x00\x60\x00CS\x02\x00CT"
"""Begins as a data set does, and names no instance: rejected as no DICOM."""


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCity]:
    with running_city(tmp_path_factory.mktemp("junk")) as running:
        yield running


def offered(hospital: Client, content: bytes) -> dict:
    wanted = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (offer,) = hospital.post("/uploads", json={"instances": [wanted]}).json()["instances"]
    return dict(offer)


def send(hospital: Client, content: bytes) -> str:
    """Upload, and wait for the verdict; the SHA-256."""
    sha, put = hashlib.sha256(content).hexdigest(), offered(hospital, content)["upload"]
    assert requests.put(put["url"], data=content, headers=put["headers"], timeout=60).status_code == 200
    wait_until(lambda: state(hospital, sha)["state"] not in ("absent", "stored"))
    return sha


def state(hospital: Client, sha: str) -> dict:
    (instance,) = hospital.post("/uploads/status", json={"sha256": [sha]}).json()["instances"]
    return dict(instance)


def versions(city: RunningCity, institution: str, sha: str) -> int:
    """How much of an object the bucket has, hidden or not."""
    listed = city.aws("s3").list_object_versions(Bucket=city.outputs()["BucketName"], Prefix=f"instances/{institution}/{sha}")
    return len(listed.get("Versions", [])) + len(listed.get("DeleteMarkers", []))


def sweep(city: RunningCity, at: datetime) -> int:
    """What the clock calls, called as at that moment; how much it removed."""
    event = {"version": "0", "id": "i", "detail-type": "Scheduled Event", "source": "aws.events", "account": "123456789012",
             "time": f"{at:%Y-%m-%dT%H:%M:%SZ}", "region": "eu-south-1", "resources": [], "detail": {}}  # fmt: skip
    answer = city.aws("lambda").invoke(FunctionName="sweep_uploads", Payload=json.dumps(event))
    return int(json.loads(answer["Payload"].read())["removed"])


def test_its_sender_has_it_removed_at_once_and_finds_it_said(city: RunningCity) -> None:
    hospital = city.client("maugeri")
    sha = send(hospital, b"-----BEGIN OPENSSH PRIVATE KEY----- of maugeri")
    assert state(hospital, sha) == {"sha256": sha, "state": "rejected", "reason": "not-dicom"}
    assert versions(city, "maugeri", sha) == 1
    for _ in range(2):
        answer = hospital.delete(f"/uploads/{sha}")
        assert (answer.status_code, answer.content) == (204, b"")
        assert versions(city, "maugeri", sha) == 0
    told = state(hospital, sha)
    assert (told["state"], told["reason"]) == ("rejected", "not-dicom")
    assert abs(datetime.fromisoformat(told["removed_at"]) - datetime.now(UTC)) < timedelta(minutes=5)


def test_nobody_else_can_nor_tell_it_from_what_is_not_there(city: RunningCity) -> None:
    sha = send(city.client("maugeri"), b"a letter to a patient of maugeri")
    other = city.client("san-matteo")
    answers = [other.delete(f"/uploads/{sha256}") for sha256 in (sha, "0" * 64)]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert {**answers[0].json(), "request_id": ""} == {**answers[1].json(), "request_id": ""}
    assert city.client("operator").delete(f"/uploads/{sha}").status_code == 403
    assert versions(city, "maugeri", sha) == 1


def test_nothing_else_is_removed_that_way(city: RunningCity) -> None:
    hospital = city.client("maugeri")
    for content, kept in ((image(study="1.2.61"), "indexed"), (image(study="1.2.62")[:400], "rejected"), (BARE, "rejected")):
        sha = send(hospital, content)
        assert state(hospital, sha)["state"] == kept
        assert hospital.delete(f"/uploads/{sha}").status_code == 409
        assert versions(city, "maugeri", sha) == 1
    assert [hospital.delete(f"/uploads/{bad}").status_code for bad in ("x", "A" * 64, "..%2F..")] == [400, 400, 400]


def test_the_archive_removes_it_after_a_week_and_nothing_else(city: RunningCity) -> None:
    hospital = city.client("san-matteo")
    junk = [send(hospital, b"PK\x03\x04 a zipped folder %d" % number) for number in range(3)]
    kept = [send(hospital, content) for content in (image(study="1.2.63"), image(study="1.2.64")[:400], BARE)]
    now = datetime.now(UTC)
    sweep(city, now + timedelta(days=6))
    assert [versions(city, "san-matteo", sha) for sha in junk] == [1, 1, 1]
    assert sweep(city, now + timedelta(days=7, minutes=1)) >= 3
    assert [versions(city, "san-matteo", sha) for sha in junk] == [0, 0, 0]
    assert [state(hospital, sha)["state"] for sha in junk] == ["rejected"] * 3
    sweep(city, now + timedelta(days=30))
    assert [versions(city, "san-matteo", sha) for sha in kept] == [1, 1, 1]
    study = hospital.get("/dicomweb/studies/1.2.63", headers={"Accept": 'multipart/related; type="application/dicom"'})
    assert study.status_code == 200


def test_sent_again_it_is_taken_and_rejected_again(city: RunningCity) -> None:
    hospital, content = city.client("mondino"), b"%PDF-1.4 not an image" * 20
    sha = send(hospital, content)
    assert hospital.delete(f"/uploads/{sha}").status_code == 204
    assert offered(hospital, content)["state"] == "absent"
    put = offered(hospital, content)["upload"]
    assert requests.put(put["url"], data=content, headers=put["headers"], timeout=60).status_code == 200
    wait_until(lambda: "removed_at" not in state(hospital, sha))
    assert state(hospital, sha) == {"sha256": sha, "state": "rejected", "reason": "not-dicom"}
    assert versions(city, "mondino", sha) == 1
    assert hospital.delete(f"/uploads/{sha}").status_code == 204
    assert versions(city, "mondino", sha) == 0


def test_it_stands_in_the_audit_who_asked_and_that_it_was_done(city: RunningCity) -> None:
    hospital = city.client("maugeri").as_person("rossi")
    sha = send(hospital, b"passwords of the ward")
    assert hospital.delete(f"/uploads/{sha}").status_code == 204
    entries = [entry["resource"] for entry in hospital.get("/audit").json()["entry"]]
    removed = [entry for entry in entries if sha in json.dumps(entry)]
    assert len(removed) == 2
    assert any("rossi" in json.dumps(event) for event in removed)
    assert {event["action"] for event in removed} == {"D"}


def test_even_who_may_use_every_service_deletes_no_instance(city: RunningCity) -> None:
    sha = send(city.client("maugeri"), image(study="1.2.65"))
    bucket, s3 = city.outputs()["BucketName"], city.aws("s3")
    key = f"instances/maugeri/{sha}"
    (version,) = s3.list_object_versions(Bucket=bucket, Prefix=key)["Versions"]
    for more in ({}, {"VersionId": version["VersionId"]}):
        with pytest.raises(ClientError, match="AccessDenied"):
            s3.delete_object(Bucket=bucket, Key=key, **more)
    assert versions(city, "maugeri", sha) == 1
