"""The archive as the functions have it: settings and clients. The only place that creates a client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config as ClientConfig

from chalicelib.config import Config, from_environment

if TYPE_CHECKING:
    from chalicelib.domain.assembly import Assembler
    from chalicelib.domain.ports import Alerts, Announcer, ArchiveApi, Objects, PixelDecoder, Remover, Table, Vault, Versions
    from chalicelib.services.audit.trail import Trail

_CLIENT = ClientConfig(
    connect_timeout=2,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 4},
    max_pool_connections=32,
)
_PATIENT = ClientConfig(connect_timeout=2, read_timeout=25, retries={"total_max_attempts": 1}, max_pool_connections=64)
"""Of functions that are asked once, for as long as the API's own caller waits."""


@dataclass(frozen=True, eq=False)
class Archive:
    """Settings and clients, made in `app.py` and handed down. Each is made when it is first needed, once for the life of the
    process, since no function needs all of them; what makes it is imported then (docs/adr/0022).

    `parts`: what is given, by name, and not made.
    """

    parts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.__dict__.update(self.parts)

    @cached_property
    def config(self) -> Config:
        """The settings of this function. Raises KeyError naming the variable that is not set."""
        return from_environment()

    @cached_property
    def table(self) -> Table:
        """The table."""
        from chalicelib.adapters.dynamodb import DynamoTable

        return DynamoTable(boto3.client("dynamodb", config=_CLIENT), self.config.table_name)

    @cached_property
    def trail(self) -> Trail:
        """The audit trail, which remembers where it wrote last."""
        from chalicelib.services.audit.trail import Trail

        return Trail(self.table, self.config.audit_retention_years)

    @cached_property
    def objects(self) -> Objects:
        """The bucket. URLs are signed with SigV4, for the region's host. Another function puts large bodies together."""
        from chalicelib.adapters.lambda_ import LambdaAssembler
        from chalicelib.adapters.s3 import S3Objects
        from chalicelib.deadline import remaining

        name = self.config.assembly_function
        assembler = None if name is None else LambdaAssembler(boto3.client("lambda", config=_PATIENT), name)
        return S3Objects(self._s3, self.config.bucket_name, assembler, remaining)

    @cached_property
    def assembler(self) -> Assembler:
        """What brings bytes from S3 to S3, through this process."""
        from chalicelib.adapters.s3 import S3Carrier

        return S3Carrier(self._s3, self.config.bucket_name)

    @cached_property
    def versions(self) -> Versions:
        """The versions that the bucket keeps, for the one function that may remove any."""
        from chalicelib.adapters.s3 import S3Versions

        return S3Versions(self._s3, self.config.bucket_name)

    @cached_property
    def vault(self) -> Vault:
        """The bucket of the audit trail's anchors. Raises LookupError where no such bucket is configured."""
        from chalicelib.adapters.vault import S3Vault

        return S3Vault(boto3.client("s3", config=_CLIENT), _set(self.config.audit_anchor_bucket, "AUDIT_ANCHOR_BUCKET"))

    @cached_property
    def alerts(self) -> Alerts:
        """Where alerts go."""
        from chalicelib.adapters.sns import SnsAlerts

        return SnsAlerts(boto3.client("sns", config=_CLIENT), self.config.alerts_topic_arn)

    @cached_property
    def announcer(self) -> Announcer:
        """What announces objects to the indexer as S3 does. Raises LookupError."""
        from chalicelib.adapters.sqs import SqsAnnouncer

        return SqsAnnouncer(boto3.client("sqs", config=_CLIENT), _set(self.config.instances_queue_url, "INSTANCES_QUEUE_URL"))

    def announce(self, sizes: Mapping[str, int]) -> None:
        """`services.ingest.offers.Announce`. The client is made when there is something to announce, which is seldom."""
        self.announcer.announce(sizes)

    @cached_property
    def pixels(self) -> PixelDecoder:
        """The function that decodes pixels. Raises LookupError."""
        from chalicelib.adapters.lambda_ import LambdaPixels

        return LambdaPixels(boto3.client("lambda", config=_PATIENT), _set(self.config.pixels_function, "PIXELS_FUNCTION"))

    @cached_property
    def remover(self) -> Remover:
        """The function that removes what is no DICOM. Raises LookupError."""
        from chalicelib.adapters.lambda_ import LambdaRemover

        return LambdaRemover(boto3.client("lambda", config=_PATIENT), _set(self.config.sweep_function, "SWEEP_FUNCTION"))

    @cached_property
    def own_api(self) -> ArchiveApi:
        """The archive from outside, as the institution whose role this function has. Raises LookupError."""
        from chalicelib.adapters.own_api import SignedApi

        if boto3.DEFAULT_SESSION is None:
            boto3.setup_default_session()
        return SignedApi(boto3.DEFAULT_SESSION, _set(self.config.api_url, "API_URL"))

    @cached_property
    def _s3(self) -> Any:
        # Any other style signs addresses of S3's global host, which answers 400 for buckets in regions of after March 2019.
        config = ClientConfig(signature_version="s3v4", s3={"addressing_style": "virtual"})
        return boto3.client("s3", config=_CLIENT.merge(config))


def _set(value: str | None, variable: str) -> str:
    if value is None:
        raise LookupError(f"{variable} is not set")
    return value
