"""Reading the audit trail: what happened to an institution's own patients, newest first, page by page.

An institution reads its own partition of the indexes and nothing else, whatever it asks for.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from chalicelib.domain import audit_chain, audit_repeats, cursors, identifiers, keys, transfers
from chalicelib.domain.audit import EMERGENCY_BASIS, Kind, Record
from chalicelib.domain.errors import BadRequest
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Table
from chalicelib.domain.rfc3339 import iso, parse_moment
from chalicelib.domain.sharing import HOSPITAL_TIME
from chalicelib.domain.study_views import StudyView
from chalicelib.domain.transfers import Transfer
from chalicelib.services import access
from chalicelib.services.registry import Caller

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
_PARALLEL = 8
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_POSITION = re.compile(r"\d{4}-\d{2}-\d{2}T[0-9:.]{8,16}Z#[a-z0-9-]{3,40}#\d{2}#\d{12}")


@dataclass(frozen=True)
class Period:
    """From when, and up to when (not included); None for no bound."""

    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class RecordPage:
    """Records, newest first, and the cursor of the next page when there may be more."""

    records: list[Record]
    next: str | None


@dataclass(frozen=True)
class Details:
    """What records name, looked up: the owner's studies by UID, transfers by id."""

    studies: dict[str, StudyView]
    transfers: dict[str, Transfer]


def period(since: str | None, until: str | None) -> Period:
    """`from` and `to` of a query: RFC 3339 times, or days, which count whole and in the hospitals' time. Raises BadRequest."""
    return Period(_moment(since, "from", timedelta()), _moment(until, "to", timedelta(days=1)))


def _moment(text: str | None, parameter: str, whole_day: timedelta) -> datetime | None:
    if text is None:
        return None
    try:
        day = _DAY.fullmatch(text)
        found = datetime.fromisoformat(text).replace(tzinfo=HOSPITAL_TIME) + whole_day if day else parse_moment(text, parameter)
        iso(found - audit_repeats.WINDOW)  # which is where reading begins: not before the first year
        return found
    except (ValueError, OverflowError) as error:
        raise BadRequest(f"{parameter} must be a day or an RFC 3339 time with its offset.", parameter) from error


def own_patient(caller: Caller, patient: str, issuer: str | None) -> PatientIdentifier:
    """The patient that an institution asks about; its own number where no issuer is named. Raises BadRequest."""
    return identifiers.patient_identifier(patient, issuer, caller.member.patient_id_issuer, ("patient.id", "issuer"))


def accesses(
    table: Table, caller: Caller, patient: PatientIdentifier | None, when: Period, cursor: str | None, limit: int
) -> RecordPage:
    """What happened to the caller's patients, or to one of them under any of its linked numbers. Raises BadRequest.

    Under another hospital's number it is what was recorded under that: which numbers are linked with it is not told. What was
    recorded in short stands with the record that it repeats, within the period.
    """
    last = cursors.decode(cursor, _POSITION) if cursor else (iso(when.until) if when.until else "~")
    between = (iso(when.since - audit_repeats.WINDOW) if when.since else "0", last)
    if between[0] > between[1]:
        return RecordPage([], None)
    if patient is None:
        chains: list[tuple[str, str]] = [("gsi3", keys.audit_of_owner(caller.member.id))]
    else:
        numbers = {patient} if caller.is_anothers(patient) else {patient, *access.load_record(table, patient.hash).linked}
        partitions = [keys.audit_of_patient(caller.member.id, number.hash) for number in sorted(numbers)]
        chains = [(index, pk) for pk in partitions for index in ("gsi1", "gsi2")]
    found = list(islice(_newest_first(table, chains, between, limit + 2), limit + 2))
    found = [record for record in found if audit_chain.position(record) != last][: limit + 1]
    following = cursors.encode(audit_chain.position(found[limit - 1])) if len(found) > limit else None
    return RecordPage(_with_repeats(table, found[:limit], when), following)


def _with_repeats(table: Table, records: Sequence[Record], when: Period) -> list[Record]:
    """The records, each with its repeats; of what lies before the period only what was repeated in it."""
    repeats: dict[tuple[str, int], list[Record]] = {}
    with ThreadPoolExecutor(_PARALLEL) as pool:
        for shard, found in pool.map(lambda shard_range: (shard_range[0], _repeats_in(table, *shard_range)), _ranges(records)):
            for record in found:
                repeats.setdefault((shard, int(str(record["same"]))), []).append(record)
    first, until = iso(when.since) if when.since else "", iso(when.until) if when.until else "~"
    shown: list[Record] = []
    for record in records:
        own = repeats.get((str(record["shard"]), int(str(record["seq"]))), [])
        own = [record for record in own if first <= str(record["at"]) < until]
        if str(record["at"]) >= first:
            shown.append(audit_repeats.joined(record, own))
        elif own:
            whole = audit_repeats.expand(own[0], record)
            shown.append(audit_repeats.joined(whole, own[1:]))
    return shown


def _ranges(records: Sequence[Record]) -> list[tuple[str, int, int]]:
    """Where the repeats of records may be: (shard, first number, last number), what overlaps as one."""
    found: list[tuple[str, int, int]] = []
    places = {
        (str(record["shard"]), int(str(record["seq"])))
        for record in records
        if Kind(str(record["kind"])) in audit_repeats.REPEATED
    }
    for shard, seq in sorted(places):
        if found and found[-1][0] == shard and seq <= found[-1][2]:
            found[-1] = (shard, found[-1][1], seq + audit_repeats.REACH)
        else:
            found.append((shard, seq + 1, seq + audit_repeats.REACH))
    return found


def _repeats_in(table: Table, shard: str, first: int, last: int) -> list[Record]:
    between = (keys.audit_record(first), keys.audit_record(last))
    return [item.data for item in table.query_all(keys.audit_records(shard), between=between) if "same" in item.data]


def _newest_first(table: Table, chains: Sequence[tuple[str, str]], between: tuple[str, str], page: int) -> Iterator[Record]:
    """The records of several index partitions in one order, each once."""
    streams = [
        (item.data for item in table.query_all(key, index=index, between=between, descending=True, page=page))
        for index, key in chains
    ]
    before = ""
    for record in heapq.merge(*streams, key=audit_chain.position, reverse=True):
        if (here := audit_chain.position(record)) != before:
            yield record
        before = here


def details(table: Table, caller: Caller, records: Iterable[Record]) -> Details:
    """What the records name, for people to read: studies of the caller's own, and the transfers that opened them."""
    records = list(records)
    owner = caller.member.id
    wanted = {keys.study_view(str(record["study"]), owner) for record in records if record.get("study")}
    named = {transfer for record in records for transfer in _transfers_of(record)}
    found = table.batch_get([*sorted(wanted), *((keys.transfer_facts(transfer), keys.OPEN) for transfer in sorted(named))])
    return Details(
        {str(item.data["study"]): StudyView.from_item(item.data) for key, item in found.items() if key in wanted},
        {str(item.data["id"]): transfers.as_of(item, item) for key, item in found.items() if key not in wanted},
    )


def _transfers_of(record: Record) -> Iterator[str]:
    basis = record.get("basis")
    for named in basis if isinstance(basis, list) else []:
        if not str(named).startswith(EMERGENCY_BASIS):
            yield str(named)
    if str(record["kind"]).startswith("transfer-"):
        yield str(record["subject"])
