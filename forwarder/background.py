"""What the forwarder does besides receiving and sending, each in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from forwarder.logs import log_unforeseen

PAUSE_SECONDS = 5.0
TOLD_SECONDS = 600.0
"""How long a part that stumbled is told of: it may stumble only where something rare comes again."""


class Background:
    """Threads that run until `stop`. Where an error that nobody foresaw ends one of them, that part begins anew: to end the whole
    forwarder for it would close the doors to the hospital's PACS, again and again if the error comes again.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._waited_for: list[threading.Thread] = []
        self._stumbled: dict[str, float] = {}

    def begin(self, name: str, run: Callable[[threading.Event], None], waited_for: bool = True) -> None:
        """Start `run`, which ends when the event is set. Not waited for at the end is what may have a call under way."""
        thread = threading.Thread(target=self._again_and_again, args=(name, run), name=name, daemon=True)
        if waited_for:
            self._waited_for.append(thread)
        thread.start()

    @property
    def stumbles(self) -> bool:
        """Whether one of them met something that nobody foresaw a short time ago."""
        return any(time.monotonic() - moment < TOLD_SECONDS for moment in self._stumbled.values())

    def wait(self, seconds: float) -> None:
        """Until each has ended, for so many seconds at most for one of them."""
        for thread in self._waited_for:
            thread.join(seconds)

    def _again_and_again(self, name: str, run: Callable[[threading.Event], None]) -> None:
        while not self._stop.is_set():
            try:
                run(self._stop)
            except Exception as error:  # whatever it is: the other parts, and the doors, go on
                log_unforeseen("a part of the forwarder stumbled and begins anew", error, part=name)
                self._stumbled[name] = time.monotonic()
                self._stop.wait(PAUSE_SECONDS)
            else:
                return
