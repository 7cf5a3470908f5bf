"""What the function that erases does each time the clock calls it: what is due, of every institution, by one run at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from chalicelib.domain import keys
from chalicelib.domain.errors import ContenitoreError
from chalicelib.domain.ports import Item, PutVersion
from chalicelib.domain.rfc3339 import iso, kept_moment
from chalicelib.services.erasure import erase_expired, erase_institution, erase_patient, institutions, put_back, retention
from chalicelib.services.erasure.erase_study import Eraser

_LEASE = (keys.ERASURE_PROGRESS, keys.LEASE)


def erase_due(run: Eraser, tell_waiting: Callable[[str, int], object]) -> dict[str, int]:
    """Carry out what is due: how many institutions, orders and rules were gone on with. Two runs at once do not meet.

    What was decided on before the table was made came with a restore: it is put back, and `waiting` counts it, until who decided
    on it does so anew. `tell_waiting` is told of each institution of which something waits, and how much.
    """
    done = {"institutions": 0, "orders": 0, "rules": 0, "waiting": 0, "failed": 0}
    with _lease(run) as mine:
        table_created_at = run.table.created_at()
        for institution in sorted({*run.registry.members, *run.registry.former}) if mine else ():
            if not run.has_time():
                break
            try:
                waiting = _of_institution(run, institution, table_created_at, done)
            except ContenitoreError:  # of this one: the next run tries again, and holds up no other
                done["failed"] += 1
            else:
                done["waiting"] += waiting
                if waiting:
                    tell_waiting(institution, waiting)
    return done


def _of_institution(run: Eraser, institution: str, table_created_at: datetime, done: dict[str, int]) -> int:
    """Go on with what is due of an institution; how much of it waits to be decided on anew."""
    now = run.clock()
    items = list(run.table.query_all(keys.erasure_facts(institution), between=(keys.WHOLE, f"{keys.RETENTION}~")))
    if not items:
        return 0
    waiting = 0
    left = institution in run.registry.former
    erasure = institutions.load(run.table, run.registry, institution)
    if left and erasure.is_older_than(table_created_at):
        erasure = put_back.institution(run, erasure)
        waiting += 1
    if left and erasure.is_due(now):
        erase_institution.carry_out(run, erasure)
        done["institutions"] += 1
        return waiting
    for order in list(erase_patient.waiting(run.table, institution)):
        if not order.cancelled and order.is_older_than(table_created_at):
            order = put_back.order(run, order)
            waiting += 1
        if order.is_due(now) and run.has_time():
            erase_patient.carry_out(run, order)
            done["orders"] += 1
    known = retention.load(run.table, institution)
    if known.is_older_than(table_created_at):
        known = put_back.rule(run, known)
        waiting += 1
    if known.is_due(now) and run.has_time():
        erase_expired.carry_out(run, known)
        done["rules"] += 1
    return waiting


@contextmanager
def _lease(run: Eraser) -> Iterator[bool]:
    """Whether nobody else is at it: two that rewrite the same object would bring back what the other took out."""
    item = run.table.get(*_LEASE)
    version, now = (item.version or 0) if item is not None else 0, run.clock()
    if item is not None and kept_moment(item.data["until"]) > now:
        yield False
        return
    until = iso(now + timedelta(seconds=run.remaining() + 60))
    if not run.table.put(PutVersion(Item(*_LEASE, {"until": until}, version=version + 1), version)):
        yield False
        return
    try:
        yield True
    finally:
        run.table.put(PutVersion(Item(*_LEASE, {"until": iso(run.clock())}, version=version + 2), version + 1))
