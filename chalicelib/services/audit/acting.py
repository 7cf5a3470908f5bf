"""Who acts where no request says it: machines of the archive, and the archive in somebody's place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from chalicelib.domain.audit import Act, Entry, RequestContext
from chalicelib.domain.ports import Write
from chalicelib.services.audit.trail import Trail
from chalicelib.services.registry import OPERATOR


def act_as(trail: Trail, context: RequestContext) -> Act:
    """What is done and recorded in another's place: what somebody was refused is told in the chain of who asked."""

    def act(writes: Sequence[Write], *entries: Entry) -> list[bool]:
        return trail.append(context, entries, writes)

    return act


def indexer(trail: Trail) -> Callable[[str], Act]:
    """What the indexer does on behalf of an institution, recorded in the same transaction."""

    def of(institution: str) -> Act:
        def act(writes: Sequence[Write], *entries: Entry) -> list[bool]:
            context = RequestContext(datetime.now(UTC), "", "index_instances", institution, "indexer", "indexer", "indexer")
            return trail.append(context, entries, writes)

        return act

    return of


def scheduled(trail: Trail, function: str) -> Act:
    """What a function that the clock calls does, recorded as the operator's own machine."""

    def act(writes: Sequence[Write], *entries: Entry) -> list[bool]:
        return trail.append(
            RequestContext(datetime.now(UTC), "", function, OPERATOR, function, function, function), entries, writes
        )

    return act
