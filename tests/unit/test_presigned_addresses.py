"""Where presigned addresses lead on AWS, which no emulated store tells: it has an address of its own.

S3 answers 400 to what comes to its global endpoint for a bucket in a region of after March 2019, as all of the archive's.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import boto3
import pytest

from chalicelib.bootstrap import Archive
from chalicelib.config import Config
from infra.handover import Membership, firewall

BUCKET = "contenitore-images-111122223333-eu-south-1"
REGION = "eu-south-1"


@pytest.fixture
def on_aws(monkeypatch: pytest.MonkeyPatch) -> Archive:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"DEFAULT_REGION": REGION, "ACCESS_KEY_ID": "AKIAINVENTED", "SECRET_ACCESS_KEY": "invented"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    return Archive({"config": Config("archive", BUCKET, "arn:aws:iam::111122223333:role/contenitore-operator", None)})


def test_they_lead_to_the_regions_own_host_which_the_firewall_lets_through(on_aws: Archive) -> None:
    objects = on_aws.objects
    addresses = [
        objects.presign_put("instances/x", "ab" * 32, 900)[0],
        objects.presign_get("instances/x", 900),
        objects.presign_head("instances/x", 900),
    ]
    assert {urlsplit(address).netloc for address in addresses} == {f"{BUCKET}.s3.{REGION}.amazonaws.com"}
    assert {urlsplit(address).scheme for address in addresses} == {"https"}
    let_through = firewall(
        Membership("maugeri", "Maugeri", "2.25.1", "https://api.example", REGION, BUCKET, "arn:aws:iam::111122223333:role/x")
    )
    assert f"{BUCKET}.s3.{REGION}.amazonaws.com:443" in let_through
