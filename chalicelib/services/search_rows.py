"""What each institution can find a study under: the rows of `V#SEE`, computed from a study's summary and what is known of its
patients. Pure, but for what it is given.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from chalicelib.dicomweb.person_names import name_key
from chalicelib.domain import sharing, studies
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.institutions import Registry
from chalicelib.domain.ports import Item
from chalicelib.domain.studies import Attributes
from chalicelib.domain.transfers import iso
from chalicelib.services import access
from chalicelib.services.access import Known

_LONGEST_KEY = 200
"""Characters of a value that stand in an index: a key of DynamoDB has 1,024 bytes, and what files hold has no bound."""


def indexed(text: str) -> str:
    """A value as the indexes have it. What is longer is found by its beginning, and compared as a whole afterwards."""
    return text[:_LONGEST_KEY]


@dataclass(frozen=True)
class Sight:
    """Who sees a study: the rows, until when each viewer sees it (None: no end), and by which emergencies any does."""

    rows: tuple[Item, ...] = ()
    until: dict[str, str | None] = field(default_factory=dict)
    emergencies: frozenset[str] = frozenset()
    linked: tuple[str, ...] = ()
    hidden_from: frozenset[str] = frozenset()
    """Of those who were asked about, the institutions that an objection or a protection keeps it from."""

    def of_nobody(self) -> Sight:
        """The same of a study that is gone."""
        return Sight(linked=self.linked, hidden_from=self.hidden_from)

    @property
    def digest(self) -> str:
        """Changes when anything that a row says changes, so that rows are written only then."""
        text = json.dumps([[row.pk, row.sk, row.data, row.indexes, row.expires] for row in self.rows], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def sight(
    registry: Registry,
    summary: Mapping[str, Any],
    known: Mapping[str, Known],
    now: datetime,
    former: frozenset[str] = frozenset(),
) -> Sight:
    """Who sees the study of a summary. A row expires when what opens it does, unless something changes before.

    `former` viewers are asked about too, whether it is hidden from them.
    """
    ref = studies.for_deciding(summary)
    facts = access.facts_of(summary, known)
    known = {patient: known[patient] for patient in access.numbers_of(summary) if patient in known}
    touching = {transfer.id: transfer for one in known.values() for transfer in one.transfers}
    linked = sorted({other for one in known.values() for other in one.numbers})
    summary = {**summary, "linked": sorted(other.hash for other in linked)}
    parties = {ref.owner, *(party for t in touching.values() for party in (t.sender, t.receiver))}
    parties |= {emergency.institution for one in known.values() for emergency in one.facts.emergencies}
    rows: list[Item] = []
    until: dict[str, str | None] = {}
    emergencies: set[str] = set()
    for viewer in sorted(parties):
        decision = sharing.decide(viewer, ref, facts, now)
        if not decision.allowed:
            continue
        until[viewer] = iso(decision.until) if decision.until else None
        emergencies |= set(decision.emergencies)
        own = [t for t in touching.values() if viewer in (t.sender, t.receiver) and t.status(now) == "active"]
        shown, numbers = studies.shown_patient(viewer, summary, own, linked, registry)
        expires = math.ceil(decision.until.timestamp()) if decision.until else None
        rows += _index_rows(viewer, summary, search_row(summary, shown), shown, numbers, expires)
    hidden = frozenset(viewer for viewer in former if sharing.hidden(viewer, ref, facts))
    return Sight(tuple(rows), until, frozenset(emergencies), tuple(summary["linked"]), hidden)


def search_row(summary: Mapping[str, Any], shown: PatientIdentifier | None) -> dict[str, Any]:
    """What a search answers from: the study's attributes as this viewer is shown them, with computed ones, and what decides."""
    attributes = studies.served_attributes(summary, shown)
    attributes["0020000D"] = {"vr": "UI", "Value": [summary["study"]]}
    attributes["00080061"] = {"vr": "CS", "Value": summary["modalities"]}
    attributes["00080062"] = {"vr": "UI", "Value": summary["sop_classes"]}
    attributes["00201206"] = {"vr": "IS", "Value": [summary["series"]]}
    attributes["00201208"] = {"vr": "IS", "Value": [summary["instances"]]}
    kept = ("owner", "study", "patients", "anonymous", "date", "linked", "former")
    said = {name: summary[name] for name in ("said", "aliases", "reported") if summary.get(name)}
    if said.get("said") == summary["patients"]:
        del said["said"]
    return {"attributes": attributes, **{name: summary[name] for name in kept}, **said}


def _index_rows(
    viewer: str,
    summary: Mapping[str, Any],
    content: dict[str, Any],
    shown: PatientIdentifier | None,
    numbers: list[PatientIdentifier],
    expires: int | None,
) -> list[Item]:
    """The row under the number that is shown, and one more for each other number and for each modality."""
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
        indexes["gsi2"] = (f"A#{viewer}#{indexed(accession)}", newest_first)
    if name:
        indexes["gsi4"] = (f"N#{viewer}", f"{indexed(name)}#{study}#{owner}")
    pk = f"V#SEE#{viewer}#{study}"
    rows = [Item(pk, owner, content | {"found_as": _number(shown)}, indexes, expires=expires)]
    others = [number for number in numbers if shown is None or number.value != shown.value]
    for position, number in enumerate(others):
        found_as = content | {"found_as": _number(number)}
        rows.append(
            Item(
                pk,
                f"{owner}#{position + 1}",
                found_as,
                {"gsi1": (f"P#{viewer}#{number.value}", newest_first)},
                expires=expires,
            )
        )
    for modality in summary["modalities"]:
        index = {"gsi3": (f"M#{viewer}#{indexed(modality)}", newest_first)}
        rows.append(Item(pk, f"{owner}#M#{indexed(modality)}", rows[0].data, index, expires=expires))
    return rows


def _number(identifier: PatientIdentifier | None) -> dict[str, str]:
    return {"issuer": identifier.issuer, "id": identifier.value} if identifier else {"issuer": "", "id": ""}
