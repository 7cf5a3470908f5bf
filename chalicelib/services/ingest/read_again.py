"""Reading again: what an earlier release stored shows what a later one reads in it, without being sent again.

A fact names the reader that made it (`instance_versions.READER`). One of an earlier reader is read anew from its object, and a
newer fact is put beside it: at the first use of its study, as far as that does not keep anybody waiting, and by a sweep over the
bucket that goes on where it ended and costs one look for each institution once it is through. An object that was rejected, and
can be read now, gets a second, later verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime

from chalicelib.domain import instance_versions, keys
from chalicelib.domain.errors import ContenitoreError
from chalicelib.domain.instance_facts import InstanceFact
from chalicelib.domain.instance_versions import READER, FactPlace, is_stale
from chalicelib.domain.institutions import Registry
from chalicelib.domain.ports import Item, Key, Objects, Put, Table
from chalicelib.domain.rejections import NOT_DICOM
from chalicelib.domain.verdicts import UploadState, Verdict
from chalicelib.services.ingest import removals
from chalicelib.services.ingest.index import index_again
from chalicelib.services.ingest.instance_items import (
    CheckedObject,
    ReadSummary,
    StoredObject,
    check,
    content_of,
    file_under_patients,
    keep_metadata,
)
from chalicelib.services.ingest.rejection_notes import ActFor
from chalicelib.services.registry import load_registry

AT_FIRST_USE = 200
"""Instances of a study that are read again before it is answered; those beyond are the sweep's."""
_PAGE = 100
_RESERVE = 20.0
"""Seconds that are kept for what was begun."""
_PARALLEL = 16


@dataclass(frozen=True)
class _Stale:
    """An instance whose fact an earlier reader made: its object, where the fact stands, what it says, and what points to it."""

    stored: StoredObject
    study: str
    where: FactPlace
    fact: InstanceFact
    pointer: Item | None


def sweep(
    table: Table,
    objects: Objects,
    read_summary: ReadSummary,
    now: datetime,
    remaining: Callable[[], float],
    *,
    act: ActFor,
) -> int:
    """Go on with the sweep for as long as there is time; how many objects were read again."""
    registry = load_registry(table)
    done = 0
    for institution in sorted({**registry.former, **registry.members}):
        progress = table.get(keys.READ_PROGRESS, institution)
        said = progress.data if progress is not None and progress.data["reader"] == READER else {}
        if said.get("done"):
            continue
        after = str(said.get("after", ""))
        while remaining() > _RESERVE:
            page = objects.keys_after(keys.instance_object(institution, ""), after, _PAGE)
            if not page and not after and institution not in registry.members:
                break  # it left, and all that it had was erased: how far this came is not said of it either
            stored = [StoredObject(institution, listed.key.rpartition("/")[2], listed.size) for listed in page]
            done += _read_page(table, objects, read_summary, registry, stored, now, act)
            after = page[-1].key if page else after
            state: dict[str, object] = {"reader": READER, "after": after, "done": len(page) < _PAGE}
            table.put(Put(Item(keys.READ_PROGRESS, institution, state)))
            if state["done"]:
                break
        else:
            return done
    return done


def read_study(table: Table, objects: Objects, read_summary: ReadSummary, owner: str, study: str, now: datetime) -> int:
    """Read the instances of a study again that an earlier reader read, `AT_FIRST_USE` at the most; how many were."""
    partition = keys.study_facts(owner, study)
    found = [
        (where, fact)
        for where, item in instance_versions.current(table.query_all(partition, keys.INSTANCES))
        if is_stale((fact := InstanceFact.from_item(item.data)).reader)
    ][:AT_FIRST_USE]
    pointers = table.batch_get(keys.sop_now(owner, where.sop) for where, _ in found)
    stale = [
        _Stale(StoredObject(owner, fact.sha256, fact.size), study, where, fact, pointers.get(keys.sop_now(owner, where.sop)))
        for where, fact in found
    ]
    return _renew(table, objects, read_summary, load_registry(table), stale, now)


def _read_page(
    table: Table,
    objects: Objects,
    read_summary: ReadSummary,
    registry: Registry,
    stored: Sequence[StoredObject],
    now: datetime,
    act: ActFor,
) -> int:
    asked = [keys.verdict(listed.institution, listed.sha256) for listed in stored]
    verdicts = table.batch_get([*asked, *((pk, keys.LATER) for pk, _ in asked)])
    by_state: dict[UploadState, list[tuple[StoredObject, Item]]] = {}
    for listed, key in zip(stored, asked, strict=True):
        verdict = verdicts.get((key[0], keys.LATER)) or verdicts.get(key)
        if verdict is not None:
            by_state.setdefault(Verdict.from_item(verdict.data).state, []).append((listed, verdict))
    stale = _stale(table, by_state.get(UploadState.INDEXED, []))
    rejected = by_state.get(UploadState.REJECTED, [])
    return _renew(table, objects, read_summary, registry, stale, now) + _take(
        table, objects, read_summary, registry, rejected, now, act
    )


def _stale(table: Table, indexed: Sequence[tuple[StoredObject, Item]]) -> list[_Stale]:
    """Those of the indexed objects that stand now, and whose fact is of an earlier reader."""
    first: dict[StoredObject, tuple[Key, Key]] = {}
    for stored, item in indexed:
        verdict = Verdict.from_item(item.data)
        place = FactPlace(verdict.series_instance_uid, verdict.sop_instance_uid)
        partition = keys.study_facts(stored.institution, verdict.study_instance_uid)
        first[stored] = (partition, place.sk), keys.sop_now(stored.institution, place.sop)
    found = table.batch_get(key for pair in first.values() for key in pair)
    places: dict[StoredObject, tuple[str, FactPlace]] = {}
    for stored, (fact, pointer) in first.items():
        base = instance_versions.place(fact[1])
        assert base is not None
        number = int(str(found[pointer].data["number"])) if pointer in found else 0
        places[stored] = fact[0], base._replace(number=number)
    later = table.batch_get((partition, place.sk) for partition, place in places.values() if place.number)
    stale: list[_Stale] = []
    for stored, (partition, place) in places.items():
        fact_item = (later if place.number else found).get((partition, place.sk))
        said = InstanceFact.from_item(fact_item.data) if fact_item is not None else None
        if said is not None and said.sha256 == stored.sha256 and is_stale(said.reader):
            pointer_item = found.get(keys.sop_now(stored.institution, place.sop))
            stale.append(_Stale(stored, partition.split("#", 3)[3], place, said, pointer_item))
    return stale


def _renew(
    table: Table, objects: Objects, read_summary: ReadSummary, registry: Registry, stale: Sequence[_Stale], now: datetime
) -> int:
    """Put a newer fact beside each of these; what cannot be read now keeps what it says."""
    if not stale:
        return 0
    with ThreadPoolExecutor(min(_PARALLEL, len(stale))) as pool:
        read = list(pool.map(lambda old: _checked(objects, read_summary, registry, old), stale))
    good = [checked for checked in read if checked is not None]
    file_under_patients(table, registry, good)
    parts = keep_metadata(objects, good)
    renewed = 0
    for earlier, checked in zip(stale, read, strict=True):
        newer = _newer(earlier, checked, now, parts.get(earlier.stored.institution))
        writes = instance_versions.another(
            keys.study_facts(earlier.stored.institution, earlier.study),
            keys.sop_facts(earlier.stored.institution, earlier.where.sop),
            earlier.where,
            earlier.pointer,
            newer,
            exchanged=False,
        )
        renewed += not table.transact(writes)  # another was faster: a correction, or the same reading
    return renewed


def _checked(objects: Objects, read_summary: ReadSummary, registry: Registry, stale: _Stale) -> CheckedObject | None:
    try:
        checked = check(objects, read_summary, registry, stale.stored, stale.fact.original_sha256 or None, whole=True)
    except ContenitoreError:
        return None
    if not isinstance(checked, CheckedObject) or checked.summary is None:
        return None
    same = (checked.study, checked.summary.series_instance_uid, checked.sop) == (stale.study, *stale.where.instance)
    return checked if same else None


def _newer(stale: _Stale, checked: CheckedObject | None, now: datetime, part: str | None) -> InstanceFact:
    """What the newer fact says: when the instance came, and how often it was corrected, stays."""
    if checked is None:
        return replace(stale.fact, reader=READER)
    return replace(content_of(checked, now, part), at=stale.fact.at, corrected=stale.fact.corrected)


def _take(
    table: Table,
    objects: Objects,
    read_summary: ReadSummary,
    registry: Registry,
    rejected: Iterable[tuple[StoredObject, Item]],
    now: datetime,
    act: ActFor,
) -> int:
    """Index what was rejected once and can be read now. What is no DICOM gets its time, as it had none in earlier releases."""
    taken: list[CheckedObject] = []
    for item, verdict in rejected:
        try:
            checked = check(objects, read_summary, registry, item, None, whole=True)
        except ContenitoreError:
            continue
        if isinstance(checked, CheckedObject) and checked.summary is not None:
            taken.append(replace(checked, later=(verdict.version or 0) if verdict.sk == keys.LATER else 0))
        elif isinstance(checked, CheckedObject) and checked.reason == verdict.data.get("reason") == NOT_DICOM:
            table.put(Put(removals.due(item, now)))
    failed = index_again(table, objects, registry, now, taken, act=act) if taken else {}
    return len(taken) - len(failed)
