"""What has become of what was sent: asked about together, noted durably, and only then let go."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from forwarder.archive.client import BATCH, PENDING, Archive, InstanceStatus
from forwarder.archive.link import Link
from forwarder.errors import ArchiveError
from forwarder.logs import log
from forwarder.spool.instances import SETTLED_WELL, InstanceState, InstanceTable
from forwarder.spool.spool import Spool

PACE = (0.5, 8.0)  # seconds between two questions: at best, and when none is judged
MOST_NAMES = 20
PATIENCE = 2.0  # and at least so long while uploads are under way


class Verdicts:
    """Asks about stored instances, seldom while uploads are under way, more seldom while nothing is judged."""

    def __init__(
        self, spool: Spool, queue: InstanceTable, archive: Archive, line: Link, on_indexed: Callable[[Collection[str]], None]
    ) -> None:
        self._spool = spool
        self._queue = queue
        self._archive = archive
        self._line = line
        self._on_indexed = on_indexed
        self._asked_at = 0.0
        self._pace = PACE[0]
        self.issuer_names: dict[str, int] = {}
        """Since the start, under each name of an issuer that nobody registered for us, the instances that are kept apart for it.

        At most `MOST_NAMES` names; what came under others is counted under "…".
        """

    def ask(self, *, busy: bool) -> float:
        """One question, if it is time for one; returns the seconds to wait before the next call. Raises SpoolError, OSError.

        `busy`: uploads are under way.
        """
        due = self._queue.to_poll(BATCH)
        since = time.monotonic() - self._asked_at
        patience = max(self._pace, PATIENCE if busy else 0.0)
        if not due or self._line.closed_for() or (since < patience and len(due) < BATCH):
            return 0.2
        started = time.monotonic()
        try:
            standings = self._archive.status([sent for _, sent in due])
        except ArchiveError as error:
            if not self._line.failed(error, started):
                log.error("the archive refuses to tell", detail=str(error))
            return max(1.0, self._line.closed_for())
        self._line.succeeded()
        self._asked_at = time.monotonic()
        some = any(standing.state != InstanceState.STORED for standing in standings)
        self._pace = PACE[0] if some else min(PACE[1], self._pace * 1.5)
        self.judge([(digest, standing) for (digest, _), standing in zip(due, standings, strict=True)])
        return 0.05

    def judge(self, verdicts: Sequence[tuple[str, InstanceStatus]]) -> None:
        """Note verdicts, by the digests as received, and drop what is needed no more. Raises SpoolError, OSError."""
        if not verdicts:
            return
        done = self._queue.judged(verdicts)
        self._spool.step("judged")
        for digest in done:
            self._spool.drop_files(digest)
            self._spool.step("dropped")
        for digest, standing in verdicts:
            self._count(standing.issuer_name)
            if standing.state not in PENDING | SETTLED_WELL:
                self._spool.packed_path(digest).unlink(missing_ok=True)
                log.warning("not accepted", instance=digest[:12], state=standing.state, reason=standing.reason)
        if studies := {
            standing.study_instance_uid
            for _, standing in verdicts
            if standing.state == InstanceState.INDEXED and standing.study_instance_uid
        }:
            self._on_indexed(studies)

    def _count(self, issuer_name: str | None) -> None:
        if issuer_name:
            names = self.issuer_names
            name = issuer_name[:64] if issuer_name[:64] in names or len(names) < MOST_NAMES else "…"
            self.issuer_names = names | {name: names.get(name, 0) + 1}
