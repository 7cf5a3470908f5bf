"""An emulated cloud in this process: the table as infra/city.yaml describes it and a bucket, behind the real adapters."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from moto import mock_aws

from infra import templates

REGION = "eu-south-1"
TABLE, BUCKET = "archive", "archive-images"


@dataclass(frozen=True)
class Emulated:
    """Clients of the emulated services; both stores are empty at first."""

    dynamodb: Any
    s3: Any
    table_name: str = TABLE
    bucket_name: str = BUCKET


@contextmanager
def emulated_cloud() -> Iterator[Emulated]:
    """A fresh emulated cloud. No credentials of whoever runs the tests are seen."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("AWS_")}
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }  # fmt: skip
    try:
        with mock_aws():
            dynamodb = boto3.client("dynamodb", region_name=REGION)
            s3 = boto3.client("s3", region_name=REGION, config=Config(signature_version="s3v4"))
            described = templates.load(templates.CITY)["Resources"]["Table"]["Properties"]
            wanted = ("KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes", "BillingMode")
            dynamodb.create_table(TableName=TABLE, **{name: described[name] for name in wanted})
            s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
            yield Emulated(dynamodb, s3)
    finally:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(kept)
