"""Where a C-MOVE stores: an association with a peer, which is opened again where it drops."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from forwarder.logs import log
from forwarder.retrieve.store_scu import Association, Node, NothingAcceptedError, PacsError

TRIES, PAUSE_SECONDS = 3, 1.0


class Destination:
    """A `Channel`. Opening it raises PacsError."""

    def __init__(self, node: Node, contexts: Collection[tuple[str, str]]) -> None:
        self._node, self._contexts = node, contexts
        self._open = ExitStack()
        self._association: Association | None = None

    def __enter__(self) -> Destination:
        self._association = self._open.enter_context(self._node.association(self._contexts))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    def takes(self, sop_class: str, transfer_syntax: str) -> str | None:
        """As `Association`'s."""
        return self._association.takes(sop_class, transfer_syntax) if self._association else None

    def store(self, path: Path, message_id: int, originator: tuple[str, int] | None = None) -> int:
        """As `Association`'s; where it drops, the same instance once more on another one: it is the same to whoever has it."""
        for left in reversed(range(TRIES)):
            try:
                if self._association is None:
                    self.__enter__()
                assert self._association is not None
                return self._association.store(path, message_id, originator)
            except NothingAcceptedError:
                raise
            except PacsError as error:
                self._open.close()
                self._association = None
                if not left:
                    raise
                log.info("the destination of a C-MOVE dropped, and is called again", reason=str(error))
                time.sleep(PAUSE_SECONDS)
        raise AssertionError("unreachable")
