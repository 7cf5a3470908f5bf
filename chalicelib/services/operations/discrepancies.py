"""What a comparison of the archive with itself works with, and what it names: findings, and how far it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from chalicelib.domain.institutions import Registry
from chalicelib.domain.ports import Alerts, Objects, Table
from chalicelib.services.ingest.instance_items import ReadSummary
from chalicelib.services.ingest.rejection_notes import ActFor

RESERVE = 30.0
"""Seconds that are kept for what was begun."""
IN_STANDARD = timedelta(days=30)
"""How long objects lie in S3 Standard (`OldInstancesLieWhereItCostsLess` in infra/city.yaml). To ask for one costs 25 times as
much afterwards: of ten years of a city, more than it costs in a month."""


class DiscrepancyKind(StrEnum):
    """What differs."""

    NO_VERDICT = "object-without-verdict"
    NO_FACT = "indexed-without-fact"
    NO_IDENTITY = "instance-without-identity"
    NOT_FILED = "instance-not-filed"
    NO_POINTER = "version-without-pointer"
    NO_METADATA = "metadata-missing"
    NO_OBJECT = "fact-without-object"
    NO_VIEW = "study-without-view"
    VIEW_DIFFERS = "view-differs"
    VIEW_OF_NOTHING = "view-without-facts"
    NOT_TOLD = "study-not-told"
    FEED_OF_NOTHING = "feed-without-study"
    AUDIT_GAP = "audit-gap"


@dataclass(frozen=True)
class Discrepancy:
    """Something that differs: of whom, what, and whether it was made good. No patient is named."""

    kind: DiscrepancyKind
    institution: str
    study_instance_uid: str = ""
    sop_instance_uid: str = ""
    sha256: str = ""
    mended: bool = False
    shard: str = ""
    """The chain of the audit trail that it is of."""

    def to_item(self) -> dict[str, object]:
        """As a job answers it."""
        return {name: value for name, value in vars(self).items() if value != ""}


@dataclass(frozen=True)
class Progress:
    """How far a job is: which pass, of which institution, after which key."""

    stage: str = "objects"
    institution: str = ""
    after: str = ""

    def to_item(self) -> dict[str, object]:
        """As a cursor."""
        return vars(self)


@dataclass(frozen=True)
class Done:
    """What one call did. `next` is None when all is through."""

    findings: Sequence[Discrepancy]
    objects: int
    studies: int
    next: Progress | None


@dataclass(frozen=True)
class Reconciliation:
    """What a run works with. `mend`: whether to make good what differs.

    What is younger than `older_than` may still be on its way, and is left out. `every_object`: whether the bucket is asked for
    each instance, also for those that came longer than `IN_STANDARD` ago.
    """

    table: Table
    objects: Objects
    alerts: Alerts
    read_summary: ReadSummary
    act: ActFor
    clock: Callable[[], datetime]
    remaining: Callable[[], float]
    older_than: timedelta = timedelta(minutes=15)
    mend: bool = False
    every_object: bool = False


@dataclass(frozen=True)
class PageOfFindings:
    """What one step of a pass did: what it found, the objects and studies that it looked at, and the key to go on after, None at
    the end."""

    findings: Sequence[Discrepancy] = ()
    objects: int = 0
    studies: int = 0
    after: str | None = None


Stage = Callable[[Reconciliation, Registry, str, str], PageOfFindings]
"""A step of a pass through one institution's, after a key."""
