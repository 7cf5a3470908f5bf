"""Versions of an instance's fact: what was corrected by its owner, brought back, or read again by a later reader.

A fact is never changed: a newer one stands beside it, under the same UIDs and a higher number, and the highest counts. So any
order and repetition of events ends in the same. The first has no number in its sort key, since most instances have one only.
Beside what a SOP Instance UID stood for first, the item `CURRENT` says what it stands for now; it is rewritten under its version
in the transaction that adds a fact, so that two of them never take the same number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from chalicelib.domain import keys
from chalicelib.domain.instance_facts import InstanceFact
from chalicelib.domain.ports import Item, Key, PutNew, PutVersion, Write

READER = 5
"""Another one when the same bytes are read otherwise than before. Facts without one are of the first reader."""
MOST_VERSIONS = 200
"""Facts of one instance: a sender that corrects more often than that is out of order."""


class FactPlace(NamedTuple):
    """Where an instance's fact stands in its study's partition."""

    series: str
    sop: str
    number: int = 0

    @property
    def sk(self) -> str:
        """Its sort key."""
        if not self.number:
            return keys.instance(self.series, self.sop)
        return keys.instance_version(self.series, self.sop, self.number)

    @property
    def instance(self) -> tuple[str, str]:
        """(Series, SOP Instance UID)."""
        return self.series, self.sop


def place(sk: str) -> FactPlace | None:
    """The place that a sort key names; None for what is no instance's fact."""
    kind, _, rest = sk.partition("#")
    if kind != "I":
        return None
    series, _, rest = rest.partition("#")
    sop, _, number = rest.partition("#")
    return FactPlace(series, sop, int(number or 0))


def span(series: str, sop: str) -> Key:
    """The first and last sort key that facts of one instance may have."""
    first = FactPlace(series, sop).sk
    return first, f"{first}#~"


def placed(items: Iterable[Item]) -> Iterator[tuple[FactPlace, Item]]:
    """The facts of instances, with their places, the superseded ones among them."""
    for item in items:
        where = place(item.sk)
        if where is not None:
            yield where, item


def current(items: Iterable[Item]) -> Iterator[tuple[FactPlace, Item]]:
    """The facts that count, from those of a partition in the order of their sort keys."""
    last: tuple[FactPlace, Item] | None = None
    for where, item in placed(items):
        if last is not None and last[0].instance != where.instance:
            yield last
        last = where, item
    if last is not None:
        yield last


def is_stale(reader: int) -> bool:
    """Whether a fact, or the oldest of a study, is of an earlier reader than this release's."""
    return reader < READER


def another(
    partition: str, sop_partition: str, where: FactPlace, before: Item | None, fact: InstanceFact, *, exchanged: bool
) -> list[Write]:
    """The writes that put the next fact of an instance in place.

    `where` is the place of the fact that counts now, `before` the item `CURRENT`, None where there is none. `exchanged`: whether
    other bytes stand behind it. The first write fails when another one was faster.
    """
    new = where._replace(number=where.number + 1)
    item = Item(partition, new.sk, replace(fact, corrected=fact.corrected + exchanged).to_item())
    head: dict[str, object] = {"sha256": fact.sha256, "number": new.number, "series": where.series}
    version = (before.version or 0) if before is not None else 0
    pointer = replace(Item(sop_partition, keys.CURRENT, head), version=version + 1)
    return [PutVersion(pointer, version), PutNew(item)]
