"""The rule of an owner for how long its studies stay: tried first, then carried out, a page at a time, every four weeks.

Two passes, each of which goes on where a cursor says, and neither of which scans: the owner's list of studies by date, as far as
the shortest time allows, which costs what is due; then the bucket's listing, for what no list has: what is kept aside, what was
withdrawn, what nobody ever indexed. A rule is carried out only once a pass that tried exactly this rule is through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from chalicelib.domain import erasures, keys, retention
from chalicelib.domain.audit import Act, Entry, Kind, Purpose
from chalicelib.domain.erasures import ErasedCount
from chalicelib.domain.errors import Conflict, TryAgain
from chalicelib.domain.ports import Item, PutVersion, Table
from chalicelib.domain.retention import RetentionPolicy
from chalicelib.domain.rfc3339 import iso, kept_moment
from chalicelib.services.registry import Caller

EVERY = timedelta(days=28)
MOST_NAMED = 200
"""Studies that a pass names; all are counted."""
_STUDIES_AT_ONCE, _OBJECTS_AT_ONCE = 50, 200


@dataclass(frozen=True)
class RetentionPass:
    """One going through: of which rule, since when, how far, and what it found due, or erased where it is carried out."""

    digest: str = ""
    execute: bool = False
    began_at: str = ""
    ended_at: str = ""
    stage: str = "studies"
    after: str = ""
    found: ErasedCount = field(default_factory=ErasedCount)
    named: tuple[str, ...] = ()

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> RetentionPass:
        """What `asdict` made of one."""
        return cls(**{**item, "found": erasures.counted(item["found"]), "named": tuple(item["named"])})

    def and_study(self, study: str, count: ErasedCount) -> RetentionPass:
        """With one study more."""
        named = (*self.named, study) if len(self.named) < MOST_NAMED else self.named
        return replace(self, found=erasures.plus(self.found, count), named=named)


@dataclass(frozen=True)
class OwnersRetention:
    """What an owner said, and the last pass. `version` 0: nothing was ever said."""

    institution: str
    policy: RetentionPolicy | None = None
    by: str = ""
    at: str = ""
    last: RetentionPass = field(default_factory=RetentionPass)
    version: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """Where it stands."""
        return keys.erasure_facts(self.institution), keys.RETENTION

    def write(self) -> PutVersion:
        """The write that keeps it."""
        policy = self.policy.to_item() if self.policy is not None else None
        said: dict[str, object] = {"policy": policy, "by": self.by, "at": self.at, "last": asdict(self.last)}
        return PutVersion(Item(*self.key, said, version=self.version + 1), self.version)

    def to_answer(self) -> dict[str, object]:
        """As its owner reads it."""
        last = asdict(self.last) | {"named": list(self.last.named)}
        shown = {name: value for name, value in last.items() if name not in ("digest", "stage", "after")}
        return {
            "policy": self.policy.to_item() if self.policy is not None else None,
            "tried": self.is_tried,
            "last_pass": shown if self.last.began_at else None,
        }

    @property
    def is_tried(self) -> bool:
        """Whether a pass tried this rule to its end."""
        return self.policy is not None and self.last.digest == self.policy.digest and bool(self.last.ended_at)

    def is_older_than(self, table: datetime) -> bool:
        """Whether a rule that is carried out was said before the table that it stands in was made (aware).

        Then it came with a restore, and what was said of it since, such as studies that are held, may be among what was lost.
        """
        return self.policy is not None and self.policy.execute and kept_moment(self.at) <= table

    def put_back(self) -> OwnersRetention:
        """Tried only: its owner has to say anew that it is carried out."""
        assert self.policy is not None
        return replace(self, policy=replace(self.policy, execute=False))

    def is_due(self, now: datetime) -> bool:
        """Whether a pass is to begin, or to go on."""
        if self.policy is None:
            return False
        if not self.last.ended_at or (self.last.digest, self.last.execute) != (self.policy.digest, self.policy.execute):
            return True
        return kept_moment(self.last.ended_at) <= now - EVERY


def load(table: Table, institution: str) -> OwnersRetention:
    """What an owner said, and how far the last pass is."""
    unsaid = OwnersRetention(institution)
    item = table.get(*unsaid.key)
    if item is None:
        return unsaid
    policy: Any = item.data["policy"]
    last: Any = item.data["last"]
    return OwnersRetention(
        institution, retention.from_item(policy) if policy else None, str(item.data["by"]), str(item.data["at"]),
        RetentionPass.from_item(last), item.version or 0,
    )  # fmt: skip


def put(table: Table, caller: Caller, body: object, now: datetime, act: Act) -> dict[str, object]:
    """The answer of `PUT /retention`: the rule from now on; `null` ends it. Raises BadRequest, TryAgain; Conflict for a rule that
    is to be carried out and was not tried."""
    known = load(table, caller.member.id)
    policy = retention.parse(body) if body is not None else None
    new = replace(known, policy=policy, by=caller.actor, at=iso(now))
    if policy is not None and policy.execute and not new.is_tried:
        raise Conflict("This rule was not tried yet: put it without execute, and wait until GET /retention says that it is.")
    text = "no rule" if policy is None else f"{'carried out' if policy.execute else 'tried'}: {policy.to_item()}"
    if act(
        [new.write()],
        Entry(Kind.ERASURE_ORDERED, known.institution, purpose=Purpose.ADMINISTRATION, subject="retention", text=text),
    ):
        raise TryAgain
    return new.to_answer()
