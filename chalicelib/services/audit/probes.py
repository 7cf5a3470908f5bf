"""Probes: who asked for an institution's patients or studies and was refused, counted afterwards for the institution itself.

A refusal is recorded alike whether what was asked for is absent, not shared or hidden, and nothing more is read or written in
the request, so that the two cannot be told apart. Whose it was is looked up here, later, by a function that nobody waits for:
it reads the records that the chains have gained and tells each owner, in its own audit, who asked how often.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime

from chalicelib.domain import audit_chain, keys
from chalicelib.domain.audit import MAX_PATIENTS, Act, Entry, Kind, Record, RequestContext, patients_of
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.institutions import Registry
from chalicelib.domain.ports import Item, PutVersion, Table
from chalicelib.domain.study_views import StudyView
from chalicelib.services import access

ROUTE = "count_probes"
MOST_READ = 20_000
"""Records that one run reads; the next one goes on."""
ActAs = Callable[[RequestContext], Act]
Numbers = tuple[PatientIdentifier, ...]
_Probe = tuple[str, str, str | None, Numbers]
"""Whose, asked for by which person or machine, which study, and the patient's numbers."""


def count_probes(table: Table, registry: Registry, shards: list[str], now: datetime, act_as: ActAs) -> int:
    """Tell each owner who was refused what is its own, since the last run; how many refusals. Raises TryAgain.

    The first run of all only notes where the chains end: what is older is not counted.
    """
    found = table.batch_get((keys.audit_records(shard), keys.HEAD) for shard in shards)
    heads = {keys.shard_of(item.pk): audit_chain.head_of(item).seq for item in found.values()}
    known = {item.sk: item for item in table.query_all(keys.AUDIT_PROGRESS, keys.COUNTED)}
    if keys.COUNTED not in known:
        for institution in {_institution(shard) for shard in heads}:
            of = {shard: seq for shard, seq in heads.items() if _institution(shard) == institution}
            _remember(table, None, institution, of)
        table.put(PutVersion(Item(keys.AUDIT_PROGRESS, keys.COUNTED, {}, version=1), 0))
        return 0
    counted = left = 0
    for institution in sorted({_institution(shard) for shard in heads}):
        item = known.get(keys.counted(institution))
        places = dict(item.data) if item else {}
        new: list[Record] = []
        for shard in sorted(shard for shard in heads if _institution(shard) == institution):
            done = int(str(places.get(shard, 0)))
            if heads[shard] > done and left < MOST_READ:
                last = min(heads[shard], done + MOST_READ - left)
                records = list(_between(table, shard, done, last))
                left, places[shard] = left + last - done, last
                new += [record for record in records if record.get("kind") == Kind.REFUSAL.value]
        if item is None or places != item.data:
            counted += _tell(table, registry, institution, new, item, places, now, act_as)
    return counted


def _between(table: Table, shard: str, done: int, last: int) -> Iterator[Record]:
    between = (keys.audit_record(done + 1), keys.audit_record(last))
    return (item.data for item in table.query_all(keys.audit_records(shard), between=between))


def _tell(
    table: Table,
    registry: Registry,
    institution: str,
    refusals: list[Record],
    known: Item | None,
    places: dict[str, object],
    now: datetime,
    act_as: ActAs,
) -> int:
    """Tell the owners, and remember up to where, in one transaction, unless another run did meanwhile."""
    probes: Counter[_Probe] = Counter()
    counted = 0
    for record in refusals:
        owners = _owners(table, registry, institution, record)
        counted += bool(owners)
        study = str(record["study"]) if record.get("study") else None
        probes.update((owner, str(record.get("actor", "")), study, numbers) for owner, numbers in owners.items())
    place = _place(known, institution, places)
    entries = [
        Entry(Kind.PROBED, owner, numbers, study, subject=f"institution={institution}", count=times, text=actor)
        for (owner, actor, study, numbers), times in sorted(probes.items(), key=str)
    ]
    if not entries:
        table.put(place)
        return 0
    context = RequestContext(now, "", ROUTE, institution, "", ROUTE, "")
    return 0 if act_as(context)([place], *entries) else counted


def _owners(table: Table, registry: Registry, prober: str, record: Record) -> dict[str, Numbers]:
    """Whose the thing was that was asked for, as is known now, with the patient's numbers; not the one that asked.

    A number that its issuer never gave out is told as asked for, without the number: who guesses fills no page with guesses.
    """
    found: dict[str, Numbers] = {}
    for number in patients_of(record):
        known = access.load_record(table, number.hash)
        found |= {owner: (number,) for owner, _ in known.studies}
        giver = registry.by_issuer(number.issuer)
        if giver is not None:
            found.setdefault(giver.id, (number,) if known.transfers or known.links else ())
    if record.get("study"):
        for view in table.query_all(keys.study_views(str(record["study"]))):
            found[view.sk] = StudyView.from_item(view.data).patients[:MAX_PATIENTS]
    found.pop(prober, None)
    return found


def _place(known: Item | None, institution: str, places: dict[str, object]) -> PutVersion:
    version = (known.version or 0) if known else 0
    return PutVersion(Item(keys.AUDIT_PROGRESS, keys.counted(institution), places, version=version + 1), version)


def _remember(table: Table, known: Item | None, institution: str, places: dict[str, int]) -> None:
    table.put(_place(known, institution, dict(places)))


def _institution(shard: str) -> str:
    return shard.partition("#")[0]
