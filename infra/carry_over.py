"""What ends or hides, carried over into a restored table from the one of before: docs/deploy.md, *Restore*.

A restore takes away what was written after its moment, and with it that a patient objected, that a transfer ended, that a study
was withdrawn: what was forbidden would be read again. Here the table of before is scanned for such facts, and those that held in
it and that the restored table lacks are written there. Nothing that opens is carried over, and nothing is overwritten but the
mark of a withdrawal that had ended. The same again writes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from chalicelib.domain import keys, studies, transfers
from chalicelib.domain.audit import Act, Entry, Kind, Purpose
from chalicelib.domain.erasures import ErasureOrder, ErasureState, InstitutionErasure
from chalicelib.domain.ports import Item, Key, Put, PutNew, Table, Write
from chalicelib.domain.rfc3339 import iso
from chalicelib.services import membership
from chalicelib.services.erasure import erase_patient, institutions, retention
from chalicelib.services.registry import OPERATOR, Caller, load_registry

SEGMENTS = 32
"""Parts of the table that are scanned at the same time."""
Counts = Counter[tuple[str, str]]
"""How much of what was carried over, by institution."""
_HIDES = {keys.begins(keys.objection): "objections", keys.begins(keys.protection): "protections"}
_ENDS = {
    keys.begins(keys.consent): "consents revoked",
    keys.begins(keys.emergency): "emergency accesses ended",
    keys.begins(keys.link): "links ended",
}
_LOOKED_FOR = (
    (keys.patient_facts, "(begins_with(sk, :objection) OR begins_with(sk, :protection) OR contains(sk, :ended))"),
    (keys.transfer_facts, "(sk = :end OR begins_with(sk, :changed))"),
    (keys.study_facts, "(sk = :withdrawn OR begins_with(sk, :mark) OR begins_with(sk, :withdrawal))"),
    (keys.link_facts, "(sk = :end OR sk = :opened)"),
)
_VALUES = {
    ":objection": keys.begins(keys.objection), ":protection": keys.begins(keys.protection), ":ended": keys.ENDED,
    ":end": keys.END, ":changed": keys.begins(keys.transfer_version), ":withdrawn": keys.WITHDRAWN, ":mark": keys.MARKS,
    ":withdrawal": keys.begins(keys.withdrawal), ":opened": keys.OPENED,
    **{f":in{n}": keys.begins(builder) for n, (builder, _) in enumerate(_LOOKED_FOR)},
}  # fmt: skip
FILTER = " OR ".join(f"(begins_with(pk, :in{n}) AND {sort_keys})" for n, (_, sort_keys) in enumerate(_LOOKED_FOR))


@dataclass(frozen=True)
class Restored:
    """The table of before, the restored one, and how what is done in that is recorded."""

    before: Table
    after: Table
    act: Act
    now: datetime


def scanned(client: Any, table: str, segment: int, segments: int = SEGMENTS) -> Iterator[list[Key]]:
    """The keys of what may end or hide, of one part of a table, a page at a time."""
    asked = {
        "TableName": table, "Segment": segment, "TotalSegments": segments, "FilterExpression": FILTER,
        "ProjectionExpression": "pk, sk", "ExpressionAttributeValues": {name: {"S": text} for name, text in _VALUES.items()},
    }  # fmt: skip
    for page in client.get_paginator("scan").paginate(**asked):
        yield [(item["pk"]["S"], item["sk"]["S"]) for item in page["Items"]]


def carry_over(restored: Restored, parts: Iterable[Callable[[], Iterator[list[Key]]]]) -> Counts:
    """Carry over what was found in each part, all parts at the same time; then memberships and erasures. What was done."""
    registered = load_registry(restored.after)  # refused here, where it is no table of the archive

    def of_part(part: Callable[[], Iterator[list[Key]]]) -> Counts:
        counts: Counts = Counter()
        for page in part():
            counts.update(_of_page(restored, page))
        return counts

    total: Counts = Counter()
    several = list(parts)
    with ThreadPoolExecutor(max(1, len(several))) as pool:
        for counts in pool.map(of_part, several):
            total.update(counts)
    left = load_registry(restored.before).former
    for institution in sorted({*registered.members} & {*left}):
        caller = Caller(None, OPERATOR, load_registry(restored.after))
        membership.remove(caller, institution, restored.now, restored.act)
        total[institution, "memberships ended"] += 1
    for institution in sorted(registered.versions.keys() | load_registry(restored.before).versions.keys()):
        total.update({(institution, what): count for what, count in _erasures(restored, institution).items()})
    for institution in sorted({institution for institution, _ in total}):
        _record(restored, institution, {what: count for (whose, what), count in total.items() if whose == institution})
    return total


def changed_since(before: Table, after: Table) -> list[str]:
    """The members whose registration was made or changed after the moment restored to: it is to be given anew."""
    then, now = load_registry(before), load_registry(after)
    return sorted(id for id, version in then.versions.items() if id in then.members and version > now.versions.get(id, 0))


def _record(restored: Restored, institution: str, counts: Mapping[str, int]) -> None:
    text = "carried over after a restore: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    entry = Entry(
        Kind.ADMINISTRATION, institution if institution in load_registry(restored.after).versions else None,
        purpose=Purpose.ADMINISTRATION, subject="carry-over", count=sum(counts.values()), text=text,
    )  # fmt: skip
    restored.act([], entry)


def _of_page(restored: Restored, page: list[Key]) -> Counts:
    """What of these keys is not in the restored table, and is carried over."""
    there = restored.after.batch_get(page)
    missing = [key for key in page if key not in there or (_is_mark(key[1]) and not studies.is_withdrawal(there[key]))]
    counts: Counts = Counter()
    for key, item in sorted(restored.before.batch_get(missing).items()):
        found = _restriction(restored, item, there.get(key))
        if found is None:
            continue
        institution, what, writes = found
        if not restored.after.transact(writes):
            counts[institution, what] += 1
    return counts


def _restriction(restored: Restored, item: Item, known: Item | None) -> tuple[str, str, list[Write]] | None:
    """Whose it is, what it is called, and what carries it over; None of what opens, or no more held."""
    if item.pk.startswith(keys.begins(keys.patient_facts)):
        return _of_patient(restored, item)
    if (study := keys.read(keys.study_facts, item.pk)) is not None:
        return _of_study(restored.before, study[0], item, known)
    opened = restored.after.get(item.pk, keys.OPEN if item.pk.startswith(keys.begins(keys.transfer_facts)) else keys.LINK)
    if opened is None:
        return None
    if opened.sk == keys.LINK:
        return str(opened.data["institution"]), "reading sessions ended or begun", [PutNew(item)]
    if item.sk == keys.END:
        return str(opened.data["from"]), "transfers ended", [PutNew(item)]
    return _unaccepted(restored, item.pk)


def _of_patient(restored: Restored, item: Item) -> tuple[str, str, list[Write]] | None:
    """An objection or a protection that held; the end of what the restored table has as holding."""
    if not item.sk.endswith(keys.ENDED):
        what = next((what for begins, what in _HIDES.items() if item.sk.startswith(begins)), None)
        if what is None or restored.before.get(item.pk, item.sk + keys.ENDED) is not None:
            return None
        return str(item.data["owner"]), what, [PutNew(item)]
    sk = item.sk.removesuffix(keys.ENDED)
    what = next((what for begins, what in _ENDS.items() if sk.startswith(begins)), None)
    ended = restored.after.get(item.pk, sk) if what is not None else None
    if what is None or ended is None or _is_linked_again(restored.before, item.pk, sk):
        return None
    whose = ended.data.get("owner") or ended.data.get("institution") or str(ended.data.get("by", "")).partition("/")[0]
    return str(whose), what, [PutNew(item)]


def _is_linked_again(before: Table, partition: str, sk: str) -> bool:
    """Whether the link of which this is one repeat held again, under a higher number."""
    if not sk.startswith(keys.begins(keys.link)):
        return False
    repeats = [item.sk for item in before.query_all(partition, f"{sk.rpartition('#')[0]}#")]
    return any(repeat > sk and not repeat.endswith(keys.ENDED) and repeat + keys.ENDED not in repeats for repeat in repeats)


def _is_mark(sk: str) -> bool:
    return sk == keys.WITHDRAWN or sk.startswith(keys.MARKS)


def _of_study(before: Table, owner: str, item: Item, known: Item | None) -> tuple[str, str, list[Write]] | None:
    """A withdrawal that held: its marks on the study or on instances, and that it was made."""
    if _is_mark(item.sk):
        return (owner, "withdrawals", [Put(item) if known else PutNew(item)]) if studies.is_withdrawal(item) else None
    if item.sk.endswith(keys.ENDED) or before.get(item.pk, item.sk + keys.ENDED) is not None:
        return None
    return owner, "withdrawals on record", [PutNew(item)]


def _unaccepted(restored: Restored, partition: str) -> tuple[str, str, list[Write]] | None:
    """That the receiver of a transfer took back by which number it had accepted the patient."""
    then, now = (transfers.from_facts(table.query_all(partition)) for table in (restored.before, restored.after))
    if then is None or now is None or now.accepted_at is None or then.receiving == now.receiving:
        return None
    own, copy = transfers.changing(now.unaccepted())
    said = replace(own, data=own.data | {"by": OPERATOR, "at": iso(restored.now)})
    return now.sender, "acceptances taken back", [PutNew(said), PutNew(copy)]


def _erasures(restored: Restored, institution: str) -> Counter[str]:
    """Erasures that were taken back; those that were ordered, which wait; a rule as it was said last, which is tried only."""
    done: Counter[str] = Counter()
    done["erasures taken back"] += _institution_kept(restored, institution)
    now, then = (
        {made.id: made for made in erase_patient.waiting(table, institution)} for table in (restored.after, restored.before)
    )
    for id, made in now.items():
        known = then.get(id)
        carried_out = restored.before.get(keys.erasure_facts(institution), keys.erased(id)) is not None
        if not made.cancelled and (known.cancelled if known is not None else not carried_out):
            done["erasures taken back"] += restored.after.put(replace(made, cancelled=True).write())
    for id, made in then.items():
        if id not in now and not made.cancelled:
            done["erasures that wait"] += restored.after.put(PutNew(_waiting(made)))
    done["retention rules"] += _rule(restored, institution)
    return +done


def _waiting(made: ErasureOrder) -> Item:
    return replace(made, waits=True, version=0).write().item


def _institution_kept(restored: Restored, institution: str) -> bool:
    """Whether the erasure of an institution was taken back, and is again."""
    key = keys.erasure_facts(institution), keys.WHOLE
    then, now = (
        InstitutionErasure.from_item(item.data, item.version or 0) if (item := table.get(*key)) is not None else None
        for table in (restored.before, restored.after)
    )
    if then is None or now is None or then.state is not ErasureState.CANCELLED:
        return False
    if now.state not in (ErasureState.ASKED, ErasureState.CONFIRMED):
        return False
    return restored.after.put(institutions.write(replace(now, state=ErasureState.CANCELLED, stage="")))


def _rule(restored: Restored, institution: str) -> bool:
    """Whether an owner said another rule since, with the studies that it holds: it is tried, and no more."""
    then, now = (retention.load(table, institution) for table in (restored.before, restored.after))
    tried = replace(then.policy, execute=False) if then.policy is not None else None
    if then.at <= now.at or (now.version and now.policy == tried):
        return False
    return restored.after.put(replace(now, policy=tried, by=then.by, at=then.at).write())
