"""Projecting: facts into views. Driven by the table's stream; safe to repeat, in any order, by several at once.

A projection reads the version of `V#STUDY`, then the facts (consistently), and writes the new `V#STUDY` and what each
institution can find, in one transaction on the condition that the version is still the same. Who loses starts again, so
that what was read from old facts never overwrites what was read from newer ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from chalicelib.dicomweb.person_names import name_key
from chalicelib.domain import sharing, studies
from chalicelib.domain.errors import TryAgain
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.institutions import Registry
from chalicelib.domain.ports import Delete, Item, Put, PutVersion, Table, Write
from chalicelib.domain.studies import Attributes
from chalicelib.services import access
from chalicelib.services.registry import load_registry

_ATTEMPTS = 20
StudyRef = tuple[str, str]
"""(owner, Study Instance UID)."""


def affected(pk: str, sk: str) -> set[StudyRef] | str:
    """What a changed fact touches: studies, or (as text) the hash of a patient, all of whose studies it touches."""
    _, kind, rest = pk.split("#", 2)
    if kind == "STUDY":
        owner, _, study = rest.partition("#")
        return {(owner, study)}
    if kind == "PATIENT":
        if sk.startswith("STUDY#"):
            return set()  # the instance that follows it in the study's own partition is what counts
        return rest
    return set()


def studies_of(table: Table, patient: str) -> set[StudyRef]:
    """All studies filed under a patient identifier's hash."""
    found: set[StudyRef] = set()
    for item in table.query_all(f"F#PATIENT#{patient}", "STUDY#"):
        _, owner, study = item.sk.split("#", 2)
        found.add((owner, study))
    return found


def project_study(table: Table, owner: str, study: str, now: datetime) -> None:
    """Bring the views of one study up to date with the facts. Raises TryAgain when others keep being faster."""
    for _ in range(_ATTEMPTS):
        if _project(table, owner, study, now):
            return
    raise TryAgain


def _project(table: Table, owner: str, study: str, now: datetime) -> bool:
    before = table.get(f"V#STUDY#{study}", owner)
    series_before = {item.sk: item for item in table.query_all(_series_partition(owner, study))}
    facts = list(table.query_all(studies.study_partition(owner, study)))
    found = list(studies.instances(facts))
    if not found:
        return True
    summary = studies.summarise(owner, study, found, studies.announced(facts))
    rows = _rows(table, load_registry(table), summary, now)
    summary["rows"] = sorted(list(row.key) for row in rows)
    summary["rows_digest"] = _digest(rows)
    if before is None or before.data != summary:
        known = {(str(pk), str(sk)) for pk, sk in before.data["rows"]} if before else set()  # type: ignore[attr-defined]
        version = (before.version or 0) if before else 0
        writes: list[Write] = [PutVersion(Item(f"V#STUDY#{study}", owner, summary, version=version + 1), version)]
        writes += [Put(row) for row in rows]
        writes += [Delete(*key) for key in sorted(known - {row.key for row in rows})]
        if table.transact(writes):
            return False
    return all(
        _put_series(table, _series_partition(owner, study), series, view, series_before.get(series))
        for series, view in studies.summarise_series(found).items()
    )


def _series_partition(owner: str, study: str) -> str:
    return f"V#SERIES#{owner}#{study}"


def _put_series(table: Table, pk: str, series: str, view: dict[str, Any], before: Item | None) -> bool:
    if before is not None and before.data == view:
        return True
    version = (before.version or 0) if before else 0
    owner_and_study = pk.split("#", 2)[2]
    indexes = {"gsi1": (f"S#{series}", owner_and_study)}
    return table.put(PutVersion(Item(pk, series, view, indexes, version=version + 1), version))


def _digest(rows: list[Item]) -> str:
    """Changes when anything that a row says changes, so that rows are written only then."""
    text = json.dumps([[row.pk, row.sk, row.data, row.indexes] for row in rows], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _rows(table: Table, registry: Registry, summary: Mapping[str, Any], now: datetime) -> list[Item]:
    """What each institution that may see the study can find it under."""
    ref = studies.for_deciding(summary)
    parties = {ref.owner}
    facts = access.patient_facts(table, ref.patients) if ref.patients else {}
    for entries in facts.values():
        parties |= {party for transfer, _ in entries for party in (transfer.sender, transfer.receiver)}
    transfers = {transfer.id: transfer for entries in facts.values() for transfer, _ in entries}
    grants = {patient: [grant for _, grant in entries] for patient, entries in facts.items()}
    rows: list[Item] = []
    for viewer in sorted(parties):
        decision = sharing.decide(viewer, ref, grants, now)
        if not decision.allowed:
            continue
        shown, numbers = studies.shown_patient(viewer, summary, decision, transfers.values(), registry)
        content = search_row(summary, shown)
        rows += _index_rows(viewer, summary, content, shown, numbers)
    return rows


def search_row(summary: Mapping[str, Any], shown: PatientIdentifier | None) -> dict[str, Any]:
    """What a search answers from: the study's attributes as this viewer is shown them, with computed ones, and what decides."""
    attributes = studies.served_attributes(summary, shown)
    attributes["0020000D"] = {"vr": "UI", "Value": [summary["study"]]}
    attributes["00080061"] = {"vr": "CS", "Value": summary["modalities"]}
    attributes["00080062"] = {"vr": "UI", "Value": summary["sop_classes"]}
    attributes["00201206"] = {"vr": "IS", "Value": [summary["series"]]}
    attributes["00201208"] = {"vr": "IS", "Value": [summary["instances"]]}
    kept = ("owner", "study", "patients", "anonymous", "date")
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


def stream_keys(records: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """(sequence number, pk, sk) of each stream record."""
    return [
        (
            str(record["dynamodb"]["SequenceNumber"]),
            str(record["dynamodb"]["Keys"]["pk"]["S"]),
            str(record["dynamodb"]["Keys"]["sk"]["S"]),
        )
        for record in records
    ]
