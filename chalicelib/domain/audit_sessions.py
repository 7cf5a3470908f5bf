"""Reading sessions, as a patient understands them: who looked, from when to when, at what. Pure, over records of the trail."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from chalicelib.domain.audit import Kind, Record
from chalicelib.domain.rfc3339 import kept_moment
from chalicelib.domain.viewer_sessions import IDLE_LIMIT

GAP = IDLE_LIMIT
"""Without anything for so long, what follows is another session: as long as a page may lie idle."""
_RANK = {Kind.QUERY: 0, Kind.DISCLOSURE: 1, Kind.READ: 2, Kind.SHOWN: 3, Kind.ACCESS: 4, Kind.SENT: 4}
"""What belongs to a reading, and what of it is said first."""
_OPENED = frozenset({Kind.ACCESS, Kind.SENT, Kind.SHOWN})
_UNSEEN = frozenset({Kind.AHEAD})
"""What nobody looked at: the page had it ready, which is in the trail. Who then looks is recorded by an access of its own."""


@dataclass
class Session:
    """What one person or machine did in one go, newest first; or one act that is no reading."""

    records: list[Record] = field(default_factory=list)

    @property
    def main(self) -> Record:
        """What says best what it was: the newest of the most that was done."""
        return max(self.records, key=lambda record: _RANK.get(_kind(record), 0))

    @property
    def begin(self) -> datetime:
        """When it began."""
        return min(kept_moment(record["at"]) for record in self.records)

    @property
    def end(self) -> datetime:
        """When the last of it was handed out, or was said to be still on the screen."""
        return max(kept_moment(record.get("until", record["at"])) for record in self.records)

    @property
    def events(self) -> int:
        """Records of the trail that it is made of."""
        return sum(int(str(record.get("events", 1))) for record in self.records)

    def opened(self) -> dict[str, int]:
        """The studies whose images or reports were opened, in that order, and how many times something of them was handed out."""
        found: dict[str, int] = {}
        for record in reversed(self.records):
            if _kind(record) in _OPENED and record.get("study"):
                handed_out = int(str(record.get("events", 1))) if _kind(record) is not Kind.SHOWN else 0
                found[str(record["study"])] = found.get(str(record["study"]), 0) + handed_out
        return found


def sessions(records: Iterable[Record]) -> list[Session]:
    """Records, newest first, as sessions, by the newest of each; without what nobody looked at."""
    found: list[Session] = []
    under_way: dict[tuple[str, ...], Session] = {}
    for record in records:
        if _kind(record) in _UNSEEN:
            continue
        if _kind(record) not in _RANK:
            found.append(Session([record]))
            continue
        key = tuple(str(record.get(name, "")) for name in ("institution", "actor", "session", "purpose"))
        session = under_way.get(key)
        if session is None or session.begin - kept_moment(record.get("until", record["at"])) > GAP:
            session = under_way[key] = Session()
            found.append(session)
        session.records.append(record)
    return found


def _kind(record: Record) -> Kind:
    return Kind(str(record["kind"]))
