"""Indexing: what happens to an uploaded object once it is in the bucket. Safe to repeat, in any order.

For a batch of objects: skip those with a verdict, unless their bytes were removed and have come again; read and check the
head of each; then write, in one transaction for up to 33 instances, what each SOP Instance UID stands for, the instance, and
the verdict. Nothing is written for an instance before that transaction but the fact that its patient has its study, and the
batch's metadata (one object, named by its content), which are true either way of repeating it. So a function that dies
anywhere leaves nothing that the next delivery does not complete. What is not read when the time runs short is left to it.

What is hostile, or merely huge, must not keep its neighbours waiting: at first every head is read within limits that a
whole batch keeps in seconds, then those over these limits, one after the other. And whatever goes wrong with one object is
that object's own failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import datetime

from chalicelib.domain import keys
from chalicelib.domain.errors import ContenitoreError, NotFound, TryAgain
from chalicelib.domain.institutions import Registry
from chalicelib.domain.ports import Item, Key, Objects, Put, PutNew, Table, Write
from chalicelib.domain.rejections import NOT_DICOM
from chalicelib.domain.studies import every_version
from chalicelib.domain.study_views import StudyView
from chalicelib.domain.verdicts import UploadState, Verdict
from chalicelib.services import access
from chalicelib.services.ingest import batches, corrections, rejection_notes, removals
from chalicelib.services.ingest.corrections import Came, Compare
from chalicelib.services.ingest.instance_items import (
    CheckedObject,
    LargeObject,
    ReadSummary,
    StoredObject,
    UnreadObject,
    check,
    content_of,
    fact_of,
    file_under_patients,
    keep_metadata,
    verdict,
)
from chalicelib.services.ingest.rejection_notes import ActFor
from chalicelib.services.registry import load_registry

_SETTLED_EVERY = 5.0
"""Seconds after which what was read so far is written, so that slow headers hold up no others."""
_RESERVE = 12.0
"""Seconds that are kept for writing."""

_MOST_COMPARED = 1024 * 1024 * 1024
_COMPARED_A_SECOND = 40 * 1024 * 1024
"""Bytes of an object that are compared with what stands under its UID, in a second at least."""

_PARALLEL = 16
_MAX_TRANSACTION = 100


def index_instances(
    table: Table,
    objects: Objects,
    read_summary: ReadSummary,
    now: datetime,
    batch: Sequence[StoredObject],
    remaining: Callable[[], float] = lambda: 60.0,
    *,
    act: ActFor,
    compare: Compare = corrections.compare_objects,
) -> dict[StoredObject, Exception]:
    """Index a batch; answers those that must be delivered again, with the error that kept them from being indexed.

    `remaining` answers how many seconds are left. `act` is how what a rejection note takes back, and what a correction changes,
    is done and recorded. `compare` tells what a correction is.
    """
    wanted = list(dict.fromkeys(batch))
    verdicts = [keys.verdict(stored.institution, stored.sha256) for stored in wanted]
    done = table.batch_get([*verdicts, *((pk, keys.MADE_FROM) for pk, _ in verdicts)])
    removed = _removed(table, [done[key] for key in verdicts if key in done])
    todo = [stored for stored, key in zip(wanted, verdicts, strict=True) if key not in done or key[0] in removed]
    if not todo:
        return {}
    registry = load_registry(table)
    originals = {pk: str(item.data["sha256"]) for (pk, sk), item in done.items() if sk == keys.MADE_FROM}

    def read(stored_object: StoredObject, whole: bool) -> CheckedObject | UnreadObject | LargeObject:
        partition = keys.object_facts(stored_object.institution, stored_object.sha256)
        checked = check(objects, read_summary, registry, stored_object, originals.get(partition), whole=whole)
        return replace(checked, later=removed.get(partition)) if isinstance(checked, CheckedObject) else checked

    run = _Run(table, objects, now, registry, act, compare, remaining)
    failed: dict[StoredObject, Exception] = {}
    large: list[StoredObject] = []
    pool = ThreadPoolExecutor(min(_PARALLEL, len(todo)))
    reading = {pool.submit(read, stored, False): stored for stored in todo}
    try:
        while reading and remaining() > _RESERVE:
            wait(reading, timeout=min(_SETTLED_EVERY, max(0.0, remaining() - _RESERVE)))
            results = [(reading.pop(future), future.result()) for future in list(reading) if future.done()]
            large += [stored for stored, result in results if isinstance(result, LargeObject)]
            failed |= _settle(run, [result for _, result in results])
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    failed |= {stored: TryAgain() for stored in reading.values()}
    for stored in large:
        if remaining() > _RESERVE:
            failed |= _settle(run, [read(stored, True)])
        else:
            failed[stored] = TryAgain()
    return failed


def _removed(table: Table, verdicts: Iterable[Item]) -> dict[str, int]:
    """Those of the objects, by the partition of their verdicts, whose bytes were removed; with the version that says so."""
    rejected = [item.pk for item in verdicts if item.data.get("reason") == NOT_DICOM]
    later = table.batch_get((pk, keys.LATER) for pk in rejected) if rejected else {}
    return {pk: item.version or 0 for (pk, _), item in later.items() if Verdict.from_item(item.data).is_removed}


def index_again(
    table: Table, objects: Objects, registry: Registry, now: datetime, checked: Sequence[CheckedObject], *, act: ActFor
) -> dict[StoredObject, Exception]:
    """Index objects that were rejected once and can be read now: each gets a second verdict. Answers those that failed."""
    return _settle(_Run(table, objects, now, registry, act, corrections.compare_objects, lambda: 60.0), checked)


@dataclass(frozen=True)
class _Run:
    """What one call of `index_instances` works with."""

    table: Table
    objects: Objects
    now: datetime
    registry: Registry
    act: ActFor
    compare: Compare
    remaining: Callable[[], float]


def _settle(run: _Run, read: Sequence[CheckedObject | UnreadObject | LargeObject]) -> dict[StoredObject, Exception]:
    """Write what was read; answers those that must be delivered again."""
    table, now = run.table, run.now
    failed = {
        checked.stored: checked.error
        for checked in read
        if isinstance(checked, UnreadObject) and not isinstance(checked.error, NotFound)
    }
    checked = [checked for checked in read if isinstance(checked, CheckedObject)]
    if not checked:
        return failed
    try:
        accepted = _settle_rejected_and_echoes(table, checked, now)
        first, erasing = _not_conflicting(table, accepted)
        failed |= {waits.stored: TryAgain() for waits in erasing}
        accepted = [known for known in accepted if known not in erasing]
        file_under_patients(table, run.registry, first)
        for note in first:
            if note.read.rejects is not None:
                owner = note.stored.institution
                rejection_notes.apply(table, run.act(owner), owner, note.read, note.read.rejects, note.patient, now)
        parts = keep_metadata(run.objects, accepted)
        taken = [late for late in accepted if late not in first] + _settle_accepted(table, first, now, parts)
    except ContenitoreError as error:
        return failed | {known.stored: error for known in checked}
    for late in taken:
        try:
            _settle_taken(run, late, parts.get(late.stored.institution))
        except Exception as error:  # its own failure, as one that cannot be read
            failed[late.stored] = error
    return failed


def _settle_taken(run: _Run, checked: CheckedObject, part: str | None) -> None:
    """What comes under a SOP Instance UID that stands for other bytes. Raises TryAgain, also where time to compare is short."""
    size = checked.stored.size if checked.stored.size <= _MOST_COMPARED else 0
    if run.remaining() < _RESERVE + size / _COMPARED_A_SECOND:
        raise TryAgain
    owner = checked.stored.institution
    member = run.registry.known(owner)
    corrections.settle(
        run.table,
        run.objects,
        Came(
            owner, checked.study, checked.read.series_instance_uid, checked.sop, checked.stored.key,
            content_of(checked, run.now, part),
        ),
        accepted=member is not None and member.corrections == "accept",
        compare=run.compare,
        verdict=lambda state, first, reason: verdict(checked, state, run.now, first=first, reason=reason),
        file=lambda: file_under_patients(run.table, run.registry, [checked]),
        act=run.act(owner),
        now=run.now,
    )  # fmt: skip


def _settle_rejected_and_echoes(table: Table, checked: Iterable[CheckedObject], now: datetime) -> list[CheckedObject]:
    """Record the verdicts on what is not to be indexed; answers the rest, each SOP Instance UID once a round."""
    accepted: list[CheckedObject] = []
    verdicts: list[list[Write]] = []
    for read in checked:
        if read.reason is not None:
            to_remove = [Put(removals.due(read.stored, now))] if read.reason == NOT_DICOM else []
            verdicts.append([verdict(read, UploadState.REJECTED, now, reason=read.reason), *to_remove])
        else:
            accepted.append(read)
    echoes = _echoes(table, accepted, now)
    verdicts += [[verdict(checked, UploadState.ECHO, now, owner=owner)] for checked, owner in echoes]
    for start in range(0, len(verdicts), 50):
        left = verdicts[start : start + 50]
        while left and (held := table.transact([write for writes in left for write in writes])):
            of_each = [writes for writes in left for _ in writes]
            done = {id(writes) for writes, ok in zip(of_each, held, strict=True) if not ok}  # another delivery was first
            left = [writes for writes in left if id(writes) not in done]
    echoed = {id(checked) for checked, _ in echoes}
    return [checked for checked in accepted if id(checked) not in echoed]


def _echoes(table: Table, accepted: list[CheckedObject], now: datetime) -> list[tuple[CheckedObject, str]]:
    """Those that are another owner's instances coming back: same study and SOP UID, and the sender may see that study.

    Or might, if its owner had not withdrawn it: what was sent in error must not come back as the sender's own. Nothing is an
    echo that the sender has itself, nor what belongs to a study that it had first: whoever copies a study, and shows it to
    its owner, neither stops its corrections nor takes the place of its next images.
    """
    echoes: list[tuple[CheckedObject, str]] = []
    by_study: dict[tuple[str, str], list[CheckedObject]] = {}
    for checked in accepted:
        by_study.setdefault((checked.stored.institution, checked.study), []).append(checked)
    for (sender, study), members in by_study.items():
        others = [StudyView.from_item(item.data) for item in table.query_all(keys.study_views(study)) if item.sk != sender]
        if not others:
            continue
        visible = access.decide(table, sender, others, now)
        for view, decided in zip(others, visible, strict=True):
            if not decided.granted.allowed:
                continue
            known = table.batch_get(keys.sop(owner, member.sop) for owner in (sender, view.owner) for member in members)
            back = [
                member
                for member in members
                if (first := known.get(keys.sop(view.owner, member.sop))) is not None
                and first.data["study"] == study
                and keys.sop(sender, member.sop) not in known
            ]
            if back and not _had_it_first(table, study, sender, view.owner):
                echoes += [(member, view.owner) for member in back]
    return echoes


def _had_it_first(table: Table, study: str, sender: str, other: str) -> bool:
    """Whether the sender had an instance of the study before the other owner of one with this UID."""

    def since(owner: str) -> str:
        facts = table.query_all(keys.study_facts(owner, study), keys.INSTANCES)
        return min((instance.fact.at for instance in every_version(facts)), default="")

    own = since(sender)
    return own != "" and own < since(other)


def _not_conflicting(table: Table, accepted: Sequence[CheckedObject]) -> tuple[list[CheckedObject], list[CheckedObject]]:
    """Those whose SOP Instance UID stands for nothing else yet: what a conflicting one says counts for nothing. And those whose
    study is being erased at this moment: they are taken as new once that is through."""
    uids = [keys.sop(checked.stored.institution, checked.sop) for checked in accepted]
    marks = [(keys.study_facts(checked.stored.institution, checked.study), keys.ERASING) for checked in accepted]
    known = table.batch_get([*uids, *marks])

    def stands(checked: CheckedObject, uid: Key) -> bool:
        return uid not in known or known[uid].data["sha256"] == checked.stored.sha256

    erasing = [checked for checked, mark in zip(accepted, marks, strict=True) if mark in known]
    here = [checked for checked, uid in zip(accepted, uids, strict=True) if stands(checked, uid)]
    return [checked for checked in here if checked not in erasing], erasing


def _settle_accepted(
    table: Table, accepted: Sequence[CheckedObject], now: datetime, parts: Mapping[str, str]
) -> list[CheckedObject]:
    """Write what was accepted, some instances in each transaction; answers those whose UID was taken meanwhile."""
    waiting, occupied = list(accepted), list[CheckedObject]()
    standing: set[Key] = set()
    while waiting:
        chunk: list[CheckedObject] = []
        later: list[CheckedObject] = []
        taken: set[tuple[str, str]] = set()
        studies: set[tuple[str, str]] = set()
        for checked in waiting:
            identity, study = (checked.stored.institution, checked.sop), (checked.stored.institution, checked.study)
            if 3 * (len(chunk) + 1) + len(studies | {study}) <= _MAX_TRANSACTION and identity not in taken:
                chunk.append(checked)
                taken.add(identity)
                studies.add(study)
            else:
                later.append(checked)
        again, other = _write(table, chunk, now, parts, standing)
        waiting, occupied = again + later, occupied + other
    return occupied


def _write(
    table: Table, chunk: list[CheckedObject], now: datetime, parts: Mapping[str, str], standing: set[Key]
) -> tuple[list[CheckedObject], list[CheckedObject]]:
    """One transaction; answers those of the chunk that are still to be written, and those whose UID stands for other bytes.

    `standing`: the SOP Instance UIDs that stand for these very bytes though there is no verdict on them, as where a table was
    damaged; learnt here. Such an instance may have been counted: it is left to the projector to count its study anew.
    """
    writes: list[Write] = []
    identities = [keys.sop(checked.stored.institution, checked.sop) for checked in chunk]
    plain = [fact_of(checked, now, parts.get(checked.stored.institution)) for checked in chunk]
    new = batches.marked([fact for fact, key in zip(plain, identities, strict=True) if key not in standing])
    marked = iter(new)
    facts = [fact if key in standing else next(marked) for fact, key in zip(plain, identities, strict=True)]
    for checked, fact, key in zip(chunk, facts, identities, strict=True):
        identity = Item(*key, {"sha256": checked.stored.sha256, "study": checked.study})
        writes.append(Put(identity) if key in standing else PutNew(identity))
        writes.append(Put(fact))
        writes.append(verdict(checked, UploadState.INDEXED, now, issuer_name=checked.issuer_name or ""))
    writes += [PutNew(item) for item in batches.totals_of(new)]
    held = table.transact(writes)
    if not held:
        return [], []
    again, occupied = list[CheckedObject](), list[CheckedObject]()
    for position, checked in enumerate(chunk):
        sop_free, _, verdict_free = held[3 * position : 3 * position + 3]
        if not verdict_free:
            continue  # another delivery of the same object was first
        if not sop_free:
            first = table.get(*identities[position])
            if first is not None and first.data["sha256"] != checked.stored.sha256:
                occupied.append(checked)
                continue
            if first is not None:
                standing.add(identities[position])
        again.append(checked)
    return again, occupied
