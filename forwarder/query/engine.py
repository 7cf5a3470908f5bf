"""Answers to C-FIND, C-GET and C-MOVE, a few at once, from the archive."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from forwarder.archive.client import Archive
from forwarder.config import Config
from forwarder.errors import ArchiveError, Failure, SpoolError
from forwarder.logs import log
from forwarder.query import retrieval, search
from forwarder.query.destination import Destination
from forwarder.query.keys import Identifier, understood
from forwarder.query.search import Caller
from forwarder.retrieve.instances import Instances
from forwarder.retrieve.pacs import Pacs
from forwarder.retrieve.query_retrieve import (
    ARCHIVE_AWAY,
    CANNOT_COUNT,
    OUT_OF_RESOURCES,
    UNKNOWN_DESTINATION,
    Channel,
    Match,
    QueryRefusedError,
    Request,
    SubOperations,
)
from forwarder.retrieve.store_scu import Node, PacsError
from forwarder.spool.spool import Spool

AT_ONCE = 8
PLACE_SECONDS = 10.0  # for a place among them
COUNTS = ("found", "matches", "retrieved", "instances", "failed", "refused")
"""What is counted: C-FIND requests and their matches, retrievals and their instances, stored and not, and what was refused."""
FOLDER = "query"
"""Below the spool's folder: what was fetched and is not stored yet."""


class Queries:
    """The handler of `forwarder.dicom.queries`. Any thread may ask."""

    def __init__(self, config: Config, spool: Spool, archive: Archive) -> None:
        self._config, self._spool, self._archive = config, spool, archive
        self._instances = Instances(archive)
        self._pacs = Pacs(config.pacs, config.dicom) if config.pacs.host else None
        self._peers = {peer.ae_title.strip(): peer for peer in config.peers}
        self._places = threading.BoundedSemaphore(AT_ONCE)
        self._folder = spool.folder / FOLDER
        shutil.rmtree(self._folder, ignore_errors=True)  # of a forwarder that was killed
        self.counts: Counter[str] = Counter()

    def find(self, request: Request) -> Iterator[Match]:
        """What matches, as it is found. Raises QueryRefusedError."""
        with self._answering("found", OUT_OF_RESOURCES):
            identifier = understood(request.root, request.identifier)
            for match in search.find(self._archive, identifier, self._caller(request)):
                yield match
                self.counts["matches"] += 1

    def get(self, request: Request, channel: Channel) -> Iterator[SubOperations]:
        """Store what is meant on the channel. Raises QueryRefusedError."""
        with self._answering("retrieved", CANNOT_COUNT):
            yield from self._stored(request, self._plan(request), channel, None)

    def move(self, request: Request) -> Iterator[SubOperations]:
        """Store what is meant into the destination. Raises QueryRefusedError."""
        peer = self._peers.get(request.destination)
        if peer is None:
            self.counts["refused"] += 1
            raise QueryRefusedError(UNKNOWN_DESTINATION, "the destination has no [[peers]] entry")
        with self._answering("retrieved", CANNOT_COUNT):
            meant = self._plan(request)
            if not meant.count:
                yield SubOperations(0)
                return
            yield SubOperations(meant.count)
            try:
                with Destination(Node(peer, self._config.dicom), meant.contexts) as channel:
                    yield from self._stored(request, meant, channel, (request.caller, request.message_id))
            except PacsError as error:
                log.warning("the destination of a C-MOVE takes nothing", destination=request.destination, detail=str(error))
                every = tuple(instance.sop_instance for page in meant.pages for instance in page.instances)
                yield SubOperations(0, failed=meant.count, failed_instances=every)

    def _caller(self, request: Request) -> Caller:
        own = self._instances.ourselves()
        return Caller(request.caller, own.id, own.issuer, own.issuer_names, self._config.dicom.ae_title)

    def _plan(self, request: Request) -> retrieval.RetrievalPlan:
        identifier: Identifier = understood(request.root, request.identifier)
        asked_for = self._instances.on_behalf_of(request.caller)
        return retrieval.plan(self._archive, asked_for, identifier, self._caller(request))

    def _stored(
        self, request: Request, meant: retrieval.RetrievalPlan, channel: Channel, originator: tuple[str, int] | None
    ) -> Iterator[SubOperations]:
        asked_for = self._instances.on_behalf_of(request.caller)
        mark = self._config.deliver.mark
        retrieving = retrieval.Retrieval(asked_for, self._spool, self._pacs, mark, meant, self._caller(request), channel)
        with self._own_folder() as folder:
            for step in retrieving.steps(folder, request.message_id, originator):
                yield step
        self.counts["instances"] += step.completed + step.warning
        self.counts["failed"] += step.failed

    @contextlib.contextmanager
    def _own_folder(self) -> Iterator[Path]:
        """A folder for what one retrieval fetches; gone at the end. Raises SpoolError."""
        try:
            self._folder.mkdir(exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=self._folder))
        except OSError as error:
            raise SpoolError(f"The spool's disk does not take a folder: {error.strerror or error}") from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def _answering(self, counted: str, when_busy: int) -> Iterator[None]:
        """A place among those that are answered, and one count. Raises QueryRefusedError for whatever keeps it from an answer."""
        if not self._places.acquire(timeout=PLACE_SECONDS):
            self.counts["refused"] += 1
            raise QueryRefusedError(when_busy, "too many queries at once")
        try:
            yield
            self.counts[counted] += 1
        except QueryRefusedError:
            self.counts["refused"] += 1
            raise
        except ArchiveError as error:
            self.counts["refused"] += 1
            log.warning("a query is not answered", kind=error.failure.value, detail=str(error))
            status = when_busy if error.failure is Failure.THROTTLED else ARCHIVE_AWAY
            raise QueryRefusedError(status, f"the archive does not answer: {error.failure.value}") from error
        except SpoolError as error:
            self.counts["refused"] += 1
            log.error("a query is not answered", detail=str(error))
            raise QueryRefusedError(when_busy, "no space on the forwarder's disk") from error
        finally:
            self._places.release()
