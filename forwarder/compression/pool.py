"""The compressing happens in processes of its own: a codec that crashes or swells harms only its instance."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from forwarder import logs
from forwarder.compression.jpegls import Compressed, NotIdenticalError, compress

TRIES = 3
INSTANCES_PER_PROCESS = 2000  # then a fresh one, so that memory stays flat whatever the codec keeps
PATIENCE = 60.0  # seconds for an instance, and
SLOWEST = 500_000  # bytes a second more; a process that takes longer ends, as one that crashes


def processes() -> int:
    """How many: one core is left to receiving and sending."""
    return max(1, (os.cpu_count() or 2) - 1)


def _begin(level: str, parent: int) -> None:
    logs.set_up(level)  # what a codec's library has to say becomes lines of the log too
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with contextlib.suppress(OSError):
        os.nice(5)


def _end_with(parent: int) -> None:
    """A parent that was killed cannot say when: it is looked for each second."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _work(source: str, target: str, sha256: str, patience: float) -> Compressed | str | None:
    """Packed, None for “send it as it is”, or in words why it failed. Ends the process where it takes too long."""
    try:
        longest = patience + Path(source).stat().st_size / SLOWEST
        signal.setitimer(signal.ITIMER_REAL, longest)  # the system ends the process: a codec heeds nothing else
        return compress(Path(source), Path(target), sha256)
    except NotIdenticalError as error:
        return f"not identical: {error}"
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        return f"{type(error).__name__}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class CompressionPool:
    """A pool of compressing processes that is built anew when one of them dies."""

    def __init__(self, count: int | None = None, patience: float = PATIENCE) -> None:
        self._count, self._patience = count or processes(), patience
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, source: Path, target: Path, sha256: str) -> Future[Compressed | str | None]:
        """Compress in the background (`jpegls.compress`): packed, None for “send it as it is”, or in words why it failed.

        Where a process dies it is tried again: all that shared it died with it, and the next time will tell who it was.
        """
        result: Future[Compressed | str | None] = Future()
        self._try(result, (str(source), str(target), sha256), TRIES)
        return result

    def _try(self, result: Future[Compressed | str | None], work: tuple[str, str, str], left: int) -> None:
        try:
            self._begin(work).add_done_callback(lambda done: self._ended(result, work, left - 1, done))
        except BrokenProcessPool:
            result.set_result("the compressing processes do not start")

    def _begin(self, work: tuple[str, str, str]) -> Future[Compressed | str | None]:
        with self._lock:
            for _ in range(2):
                if self._pool is None:
                    self._pool = ProcessPoolExecutor(
                        self._count,
                        mp_context=multiprocessing.get_context("spawn"),
                        initializer=_begin,
                        initargs=(logging.getLevelName(logging.getLogger("forwarder").getEffectiveLevel()).lower(), os.getpid()),
                        max_tasks_per_child=INSTANCES_PER_PROCESS,
                    )
                try:
                    return self._pool.submit(_work, *work, self._patience)
                except BrokenProcessPool:
                    self._pool.shutdown(wait=False)
                    self._pool = None
        raise BrokenProcessPool("the compressing processes do not start")

    def _ended(
        self,
        result: Future[Compressed | str | None],
        work: tuple[str, str, str],
        left: int,
        done: Future[Compressed | str | None],
    ) -> None:
        if done.cancelled():
            result.cancel()
        elif done.exception() is None:
            result.set_result(done.result())
        elif left:  # in a thread, since this one is the broken pool's own
            threading.Thread(target=self._try, args=(result, work, left), name="compress", daemon=True).start()
        else:
            result.set_result("the compressing process died")

    def close(self) -> None:
        with self._lock:
            if self._pool is not None:
                self._pool.shutdown(wait=True, cancel_futures=True)
                self._pool = None
