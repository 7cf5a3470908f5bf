"""Configuration of the functions, which the stack writes into their environment."""

from __future__ import annotations

import os
from dataclasses import dataclass

VERSION = "0.1.0"


@dataclass(frozen=True)
class Config:
    """Names of what the stack created. `public_base_url` overrides the address that a request came to.

    `audit_retention_years` is how long audit records are kept, two at the least. `viewer_base_url` is where the web page
    is served, to which links lead. `alerts_topic_arn` is where emergency accesses are told. `audit_anchor_bucket` is
    where the heads of the audit chains are locked away. `pixels_function` is the name of the function that decodes pixels,
    `assembly_function` of the one that puts large bodies together, `sweep_function` of the one that removes what is no DICOM.
    `instances_queue_url` is the queue that S3 tells what was stored. `api_url` is the address of the API, for the canary.
    """

    table_name: str
    bucket_name: str
    operator_role_arn: str
    public_base_url: str | None
    audit_retention_years: int = 10
    viewer_base_url: str | None = None
    alerts_topic_arn: str | None = None
    audit_anchor_bucket: str | None = None
    pixels_function: str | None = None
    assembly_function: str | None = None
    instances_queue_url: str | None = None
    sweep_function: str | None = None
    api_url: str | None = None


def from_environment() -> Config:
    """The configuration of this function. Raises KeyError naming the variable that is not set."""
    return Config(
        os.environ["TABLE_NAME"],
        os.environ["BUCKET_NAME"],
        os.environ["OPERATOR_ROLE_ARN"],
        os.environ.get("PUBLIC_BASE_URL") or None,
        max(2, int(os.environ.get("AUDIT_RETENTION_YEARS") or 10)),
        os.environ.get("VIEWER_BASE_URL") or None,
        os.environ.get("ALERTS_TOPIC_ARN") or None,
        os.environ.get("AUDIT_ANCHOR_BUCKET") or None,
        os.environ.get("PIXELS_FUNCTION") or None,
        os.environ.get("ASSEMBLY_FUNCTION") or None,
        os.environ.get("INSTANCES_QUEUE_URL") or None,
        os.environ.get("SWEEP_FUNCTION") or None,
        os.environ.get("API_URL") or None,
    )
