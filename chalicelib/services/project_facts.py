"""Projecting: facts into views. Driven by the table's stream; safe to repeat, in any order, by several at once.

A projection reads the version of `V#STUDY`, then the facts (consistently), and writes the new `V#STUDY`, its series and what
each institution can find, in one transaction on the condition that the version is still the same. Who loses starts again,
so that what was read from old facts never overwrites what was read from newer ones. It writes a new version also when the
facts say the same as before: else a slower projection, which saw other facts in between (a transfer opened, and ended
since), would still find the version that it read, and put back what is no longer so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from chalicelib.dicomweb.person_names import name_key
from chalicelib.domain import sharing, studies, transfers
from chalicelib.domain.errors import ContenitoreError, TryAgain
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.institutions import Registry
from chalicelib.domain.patients import END
from chalicelib.domain.ports import Alerts, Delete, Item, Key, Put, PutVersion, Table, Write
from chalicelib.domain.studies import Attributes
from chalicelib.services import access, changes, identities
from chalicelib.services.access import Known
from chalicelib.services.changes import Change
from chalicelib.services.registry import load_registry

_ATTEMPTS = 20
_MAX_TRANSACTION = 100
StudyRef = tuple[str, str]
"""(owner, Study Instance UID)."""
Fact = tuple[str, str, str]
"""(sequence number, pk, sk) of a fact that was written."""


def project(
    table: Table, alerts: Alerts, facts: Iterable[Fact], now: Callable[[], datetime]
) -> tuple[str, ContenitoreError] | None:
    """Bring the views of all that the facts touch up to date, each study once.

    None when done; else from which sequence number on everything must be delivered again, and why.
    """
    first: dict[StudyRef, str] = {}
    failed: tuple[str, ContenitoreError] | None = None
    for sequence, pk, sk in facts:
        try:
            touched = affected(table, alerts, pk, sk, now())
        except ContenitoreError as error:
            failed = sequence, error
            break  # what came before is still to be projected: it will not be delivered again
        for ref in sorted(touched):
            first.setdefault(ref, sequence)
    for ref, sequence in first.items():
        try:
            project_study(table, *ref, now())
        except ContenitoreError as error:
            return sequence, error
    return failed


def affected(table: Table, alerts: Alerts, pk: str, sk: str, now: datetime) -> set[StudyRef]:
    """The studies whose views a changed fact touches; on the way, links what a codice fiscale joins and tells of transfers."""
    _, kind, rest = pk.split("#", 2)
    if kind == "STUDY":
        owner, _, study = rest.partition("#")
        return {(owner, study)}
    if kind == "TRANSFER":
        return _of_transfer(table, rest, sk, now)
    if kind != "PATIENT":
        return set()
    if sk.startswith("STUDY#"):
        _, owner, study = sk.split("#", 2)
        return {(owner, study)}
    if sk.startswith("CARRIES#"):
        identities.link_carriers(table, rest, now)
        return set()  # each link is a fact of its own
    record = access.load_record(table, rest)
    if sk.startswith("EMERGENCY#") and not sk.endswith(END):
        _tell_of_emergency(table, alerts, sk.split("#")[1], now)
    linked = {link.beyond(rest).hash for link in record.links}
    return {ref for one in [record, *(access.load_record(table, other) for other in sorted(linked))] for ref in one.studies}


def _of_transfer(table: Table, transfer_id: str, sk: str, now: datetime) -> set[StudyRef]:
    transfer = transfers.from_facts(table.query_all(transfers.partition(transfer_id)))
    if transfer is None:
        return set()
    kind = {"OPEN": "transfer-opened", "END": "transfer-ended"}.get(sk)
    if kind is not None:
        content = {"transfer_id": transfer.id, "from": transfer.sender, "to": transfer.receiver}
        parties = (transfer.sender, transfer.receiver)
        changes.tell(table, [Change(party, f"{sk}#{transfer.id}", kind, content) for party in parties], now)
    record = access.load_record(table, transfer.patient.hash)
    others = [access.load_record(table, other.hash) for other in record.linked]
    return {ref for one in [record, *others] for ref in one.studies}


def _tell_of_emergency(table: Table, alerts: Alerts, emergency: str, now: datetime) -> None:
    fact = table.get(f"F#EMERGENCY#{emergency}", "OPEN")
    if fact is None or not isinstance(fact.data["owners"], list):
        return
    content = {"emergency_id": emergency, "institution": fact.data["institution"]}
    told = [Change(str(owner), f"EMERGENCY#{emergency}", "emergency-access", content) for owner in fact.data["owners"]]
    changes.tell(table, told, now)
    for owner in fact.data["owners"]:
        about = {"id": emergency, "institution": str(fact.data["institution"]), "owner": str(owner)}
        alerts.alert("emergency-access", {**about, "at": str(fact.data["opened_at"])})


def project_study(table: Table, owner: str, study: str, now: datetime) -> None:
    """Bring the views of one study up to date with the facts. Raises TryAgain when others keep being faster."""
    for _ in range(_ATTEMPTS):
        if _project(table, owner, study, now):
            return
    raise TryAgain


def _project(table: Table, owner: str, study: str, now: datetime) -> bool:
    before = table.get(f"V#STUDY#{study}", owner)
    series_before = {item.sk: item.data for item in table.query_all(_series_partition(owner, study))}
    facts = list(table.query_all(studies.study_partition(owner, study)))
    found = list(studies.instances(facts, studies.withdrawn(facts)))
    gone = not found or any(item.sk == "WITHDRAWN" for item in facts)
    if not found and before is None:
        return True
    summary = studies.summarise(owner, study, found, studies.announced(facts)) if found else dict(before.data if before else {})
    known, _ = access.know(table, [] if gone else studies.for_deciding(summary).patients)
    summary["linked"] = sorted({other.hash for one in known.values() for other in one.record.linked})
    rows = [] if gone else _rows(load_registry(table), summary, known, now)
    series = {} if gone else studies.summarise_series(found)
    return _write(table, before, summary, rows, [*_series_writes(owner, study, series, series_before)], gone, now)


def _write(
    table: Table,
    before: Item | None,
    summary: dict[str, Any],
    rows: list[Item],
    series: list[Write],
    gone: bool,
    now: datetime,
) -> bool:
    """Write the views and tell who is concerned, if the study's view is still the one that was read; else False.

    One transaction nearly always. Where it would be too large, each part is conditional on the one before, and notes every
    row that may be there, so that whoever goes on after a death half way knows what to write and what to remove.
    """
    owner, study = str(summary["owner"]), str(summary["study"])
    known: set[Key] = {(str(pk), str(sk)) for pk, sk in before.data["rows"]} if before else set()  # type: ignore[attr-defined]
    keys, digest = {row.key for row in rows}, _digest(rows)
    writes = series
    if before is None or before.data["rows_digest"] != digest:
        writes = [*series, *(Put(row) for row in rows), *(Delete(*key) for key in sorted(known - keys))]
    told = changes.entry_writes(table, _changes(before, summary, known, rows, gone), now)
    version = (before.version or 0) if before else 0
    while True:
        room = _MAX_TRANSACTION - 1 - len(told)
        part, writes = writes[:room], writes[room:]
        noted: dict[str, Any] = {
            "rows": sorted(list(key) for key in (known | keys if writes else keys)),
            "rows_digest": "" if writes else digest,
        }
        view = PutVersion(Item(f"V#STUDY#{study}", owner, summary | noted, version=version + 1), version)
        if table.transact([view, *told, *part]):
            return False
        if not writes:
            return True
        version, told = version + 1, []


def _changes(before: Item | None, summary: Mapping[str, Any], known: set[Key], rows: list[Item], gone: bool) -> list[Change]:
    """What each institution is told: that it can see the study now, that it changed, that its owner withdrew it."""
    owner, study = str(summary["owner"]), str(summary["study"])
    content = {"owner": owner, "study_instance_uid": study, "instances": summary["instances"]}
    had = {pk.split("#")[2] for pk, _ in known}
    has = {row.pk.split("#")[2] for row in rows}
    told = [Change(viewer, "", "study-arrived", content) for viewer in sorted(has - had)]
    if before is not None and before.data.get("instances") != summary["instances"]:
        told += [Change(viewer, "", "study-changed", content) for viewer in sorted(has & had)]
    if before is not None and len(before.data["reports"]) < len(summary["reports"]):  # type: ignore[arg-type]
        told += [Change(viewer, "", "report-arrived", content) for viewer in sorted(has & had)]
    if gone:
        told += [Change(viewer, "", "study-withdrawn", content) for viewer in sorted(had)]
    return told


def _series_partition(owner: str, study: str) -> str:
    return f"V#SERIES#{owner}#{study}"


def _series_writes(
    owner: str, study: str, series: Mapping[str, dict[str, Any]], before: Mapping[str, dict[str, Any]]
) -> Iterator[Write]:
    """What is to be written of the views of series, given those that are there."""
    pk = _series_partition(owner, study)
    for uid, view in sorted(series.items()):
        if before.get(uid) != view:
            yield Put(Item(pk, uid, view, {"gsi1": (f"S#{uid}", f"{owner}#{study}")}))
    for uid in sorted(before.keys() - series.keys()):
        yield Delete(pk, uid)


def _digest(rows: list[Item]) -> str:
    """Changes when anything that a row says changes, so that rows are written only then."""
    text = json.dumps([[row.pk, row.sk, row.data, row.indexes] for row in rows], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _rows(registry: Registry, summary: Mapping[str, Any], known: Mapping[str, Known], now: datetime) -> list[Item]:
    """What each institution that may see the study can find it under."""
    ref = studies.for_deciding(summary)
    facts = {patient: one.facts for patient, one in known.items()}
    touching = {transfer.id: transfer for one in known.values() for transfer in one.transfers}
    linked = sorted({other for one in known.values() for other in one.record.linked})
    parties = {ref.owner, *(party for t in touching.values() for party in (t.sender, t.receiver))}
    parties |= {emergency.institution for one in facts.values() for emergency in one.emergencies}
    rows: list[Item] = []
    for viewer in sorted(parties):
        if not sharing.decide(viewer, ref, facts, now).allowed:
            continue
        own = [t for t in touching.values() if viewer in (t.sender, t.receiver) and t.status(now) == "active"]
        shown, numbers = studies.shown_patient(viewer, summary, own, linked, registry)
        rows += _index_rows(viewer, summary, search_row(summary, shown), shown, numbers)
    return rows


def search_row(summary: Mapping[str, Any], shown: PatientIdentifier | None) -> dict[str, Any]:
    """What a search answers from: the study's attributes as this viewer is shown them, with computed ones, and what decides."""
    attributes = studies.served_attributes(summary, shown)
    attributes["0020000D"] = {"vr": "UI", "Value": [summary["study"]]}
    attributes["00080061"] = {"vr": "CS", "Value": summary["modalities"]}
    attributes["00080062"] = {"vr": "UI", "Value": summary["sop_classes"]}
    attributes["00201206"] = {"vr": "IS", "Value": [summary["series"]]}
    attributes["00201208"] = {"vr": "IS", "Value": [summary["instances"]]}
    kept = ("owner", "study", "patients", "anonymous", "date", "linked")
    return {"attributes": attributes, **{name: summary[name] for name in kept}}


def _index_rows(
    viewer: str,
    summary: Mapping[str, Any],
    content: dict[str, Any],
    shown: PatientIdentifier | None,
    numbers: list[PatientIdentifier],
) -> list[Item]:
    """The row under the number that is shown, and one more for each other number."""
    owner, study = str(summary["owner"]), str(summary["study"])
    attributes: Attributes = summary["attributes"]
    moment = str(summary["date"]) + studies.first_value(attributes, "00080030")[:6]
    newest_first = f"{moment}#{study}#{owner}"
    accession = studies.first_value(attributes, "00080050")
    name = name_key((attributes.get("00100010", {}).get("Value") or [""])[0])
    indexes = {"gsi3": (f"D#{viewer}", newest_first)}
    if shown:
        indexes["gsi1"] = (f"P#{viewer}#{shown.value}", newest_first)
    if accession:
        indexes["gsi2"] = (f"A#{viewer}#{accession}", newest_first)
    if name:
        indexes["gsi4"] = (f"N#{viewer}", f"{name}#{study}#{owner}")
    pk = f"V#SEE#{viewer}#{study}"
    rows = [Item(pk, owner, content | {"found_as": _number(shown)}, indexes)]
    others = [number for number in numbers if shown is None or number.value != shown.value]
    for position, number in enumerate(others):
        found_as = content | {"found_as": _number(number)}
        rows.append(
            Item(
                pk,
                f"{owner}#{position + 1}",
                found_as,
                {"gsi1": (f"P#{viewer}#{number.value}", newest_first)},
            )
        )
    return rows


def _number(identifier: PatientIdentifier | None) -> dict[str, str]:
    return {"issuer": identifier.issuer, "id": identifier.value} if identifier else {"issuer": "", "id": ""}


def stream_keys(records: Iterable[Mapping[str, Any]]) -> list[Fact]:
    """(sequence number, pk, sk) of each stream record."""
    return [
        (
            str(record["dynamodb"]["SequenceNumber"]),
            str(record["dynamodb"]["Keys"]["pk"]["S"]),
            str(record["dynamodb"]["Keys"]["sk"]["S"]),
        )
        for record in records
    ]
