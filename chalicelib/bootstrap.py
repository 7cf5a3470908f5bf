"""Puts the parts together: the only place that creates a client."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import boto3
from botocore.config import Config as ClientConfig

from chalicelib.adapters.dynamodb import DynamoTable
from chalicelib.adapters.s3 import S3Objects
from chalicelib.adapters.sns import SnsAlerts
from chalicelib.config import config
from chalicelib.domain.ports import Alerts, Objects, Table
from chalicelib.domain.rejections import Rejected
from chalicelib.services.audit import Trail

_CLIENT = ClientConfig(
    connect_timeout=2,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 4},
    max_pool_connections=32,
)


@cache
def table() -> Table:
    """The table, one client for the life of the process."""
    return DynamoTable(boto3.client("dynamodb", config=_CLIENT), config().table_name)


@cache
def trail() -> Trail:
    """The audit trail, one for the life of the process, which remembers where it wrote last."""
    return Trail(table(), config().audit_retention_years)


@cache
def objects() -> Objects:
    """The bucket, one client for the life of the process. URLs are signed with SigV4, and name the region."""
    client_config = _CLIENT.merge(ClientConfig(signature_version="s3v4", s3={"addressing_style": "auto"}))
    return S3Objects(boto3.client("s3", config=client_config), config().bucket_name)


@cache
def alerts() -> Alerts:
    """Where alerts go."""
    return SnsAlerts(boto3.client("sns", config=_CLIENT), config().alerts_topic_arn)


def read_summary(fetch: Callable[[int, int], bytes], size: int) -> dict[str, Any] | str:
    """`services.index_instances.ReadSummary`: pydicom is imported here, where headers are read, and nowhere else."""
    from chalicelib.dicom.header import read_head
    from chalicelib.dicom.summary import summarise

    try:
        return summarise(read_head(fetch, size))
    except Rejected as rejected:
        return rejected.reason
