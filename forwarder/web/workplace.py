"""What the staff's pages show beside what the archive says: this journal, what waits for a person, how fast it goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from forwarder.operations.work_items import WorkList
from forwarder.spool.journal import Journal


@dataclass(frozen=True, slots=True)
class Workplace:
    """`pace`: the seconds that an instance takes now into the PACS, where that is known; `on_accepted`: hears of a transfer that
    was accepted here."""

    journal: Journal
    work: WorkList
    pace: Callable[[], float | None] = lambda: None
    on_accepted: Callable[[str], None] = lambda _: None
