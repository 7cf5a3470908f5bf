"""Indexing within the request that brought something, in place of S3's event for it, which then finds it done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from chalicelib.domain.ports import Objects, Table
from chalicelib.services.audit import acting
from chalicelib.services.audit.trail import Trail
from chalicelib.services.ingest import read_again
from chalicelib.services.ingest.index import index_instances
from chalicelib.services.ingest.instance_items import StoredObject
from chalicelib.services.ingest.summaries import read_summary

_PATIENCE = 25.0
"""Seconds of a request that indexing may take, its reserve for writing included."""


def index_all(table: Table, objects: Objects, trail: Trail) -> Callable[[Sequence[StoredObject]], dict[StoredObject, Exception]]:
    """`services.ingest.store.IndexAll`: for as long as the caller waits."""

    def index(stored: Sequence[StoredObject]) -> dict[StoredObject, Exception]:
        until, now = time.monotonic() + _PATIENCE, datetime.now(UTC)
        return index_instances(
            table, objects, read_summary, now, stored, lambda: until - time.monotonic(), act=acting.indexer(trail)
        )

    return index


def index_one(table: Table, objects: Objects, trail: Trail) -> Callable[[StoredObject], Exception | None]:
    """`services.ingest.reports.Index`."""

    def index(stored: StoredObject) -> Exception | None:
        act = acting.indexer(trail)
        return index_instances(table, objects, read_summary, datetime.now(UTC), [stored], act=act).get(stored)

    return index


def read_study_again(table: Table, objects: Objects) -> Callable[[str, str], int]:
    """`services.ingest.read_again.read_study`, at the first use of a study that an earlier release read."""

    def read(owner: str, study: str) -> int:
        return read_again.read_study(table, objects, read_summary, owner, study, datetime.now(UTC))

    return read
