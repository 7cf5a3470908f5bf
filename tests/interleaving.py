"""Several functions at once over one table, one call at a time, in an order that a test chooses.

Each task is a thread that waits before every call on the table until it is its turn, so that any interleaving of the calls
can be played, and played again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import cycle

from chalicelib.domain.ports import Table
from tests.fakes import Watched

_PATIENCE = 30.0


class _Turns:
    """Who waits for a turn, and whose turn it is."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.waiting: dict[int, int] = {}
        self.finished: set[int] = set()
        self.granted: int | None = None
        self.errors: list[BaseException] = []

    def wait(self, task: int) -> None:
        with self.changed:
            self.waiting[task] = self.waiting.get(task, 0) + 1
            self.changed.notify_all()
            if not self.changed.wait_for(lambda: self.granted == task, _PATIENCE):
                raise TimeoutError("a turn never came")
            self.granted = None
            self.waiting[task] -= 1
            self.changed.notify_all()


def interleave(table: Table, tasks: Sequence[Callable[[Table], object]], choices: Sequence[int]) -> None:
    """Run all tasks to their ends; `choices` says whose call comes next, counted among those that wait.

    They are used over and over, each time moved on by one, so that everyone's turn comes.
    """
    turns = _Turns()

    def run(number: int, task: Callable[[Table], object]) -> None:
        try:
            task(Watched(table, lambda name: turns.wait(number)))
        except BaseException as error:
            turns.errors.append(error)
        finally:
            with turns.changed:
                turns.finished.add(number)
                turns.changed.notify_all()

    threads = [threading.Thread(target=run, args=(number, task), daemon=True) for number, task in enumerate(tasks)]
    for thread in threads:
        thread.start()
    everyone = range(len(tasks))

    def settled() -> bool:
        """Each task waits for its turn, or has ended."""
        return turns.granted is None and all(member in turns.finished or turns.waiting.get(member, 0) for member in everyone)

    for step, choice in enumerate(cycle(choices)):
        with turns.changed:
            assert turns.changed.wait_for(settled, _PATIENCE), "a task neither asked for the table nor ended"
            ready = [member for member in everyone if member not in turns.finished]
            if not ready:
                break
            turns.granted = ready[(choice + step // len(choices)) % len(ready)]
            turns.changed.notify_all()
    for thread in threads:
        thread.join(_PATIENCE)
    if turns.errors:
        raise turns.errors[0]
