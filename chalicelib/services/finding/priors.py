"""The priors of a study: what else its viewer may see of the same patient, most relevant first."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from chalicelib.domain import audit, keys, places, priors
from chalicelib.domain.audit import Kind, Recorder
from chalicelib.domain.errors import NotFound
from chalicelib.domain.ports import Table
from chalicelib.domain.priors import Exam
from chalicelib.services import access
from chalicelib.services.finding.procedure_names import vocabularies
from chalicelib.services.finding.timeline import timeline
from chalicelib.services.registry import Caller

DEFAULT_LIMIT = 5
MAX_LIMIT = 50


def priors_of(
    table: Table, caller: Caller, study: str, owner: str | None, limit: int, now: datetime, record: Recorder
) -> dict[str, Any]:
    """The answer of `GET /studies/{uid}/priors`. Raises NotFound for a study that the caller may not see."""
    item, decided = access.find_study(table, caller.member.id, study, owner, now)
    record(audit.of_study(Kind.READ, audit.seen(item.data, decided.decision)))
    row = table.get(keys.search_rows(caller.member.id, study), item.sk)
    number: Any = row.data["found_as"] if row is not None else None
    entries: list[dict[str, Any]] = []
    if number is not None and number["id"]:
        try:
            entries = timeline(table, caller, number["id"], number["issuer"], now, record)["studies"]
        except NotFound:
            entries = []  # the view is older than the facts: nothing to propose yet
    return among(table, entries, study, item.sk, limit)


def first_to_read(entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The entry of a timeline that one looks at first: the newest one with images, else the newest; None of none."""
    return next((entry for entry in entries if priors.exam(entry).images), entries[0] if entries else None)


def courses(table: Table, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each entry, what exams of one course have in common: `kinds`, `regions`, and `within`, which is these and all that
    contain them. Two regions are of one course where one of them is within the other."""
    read = [exam.procedure for exam in understood(table, entries)]
    return [
        {
            "kinds": sorted(one.kinds),
            "regions": sorted(one.regions),
            "within": sorted({above for region in one.regions for above in places.containing(region)}),
        }
        for one in read
    ]


def understood(table: Table, entries: list[dict[str, Any]]) -> list[Exam]:
    """The entries of a timeline as exams, each read with the words of its own hospital too."""
    own = vocabularies(table, {str(entry["owner"]) for entry in entries})
    return [priors.exam(entry, own.get(str(entry["owner"]))) for entry in entries]


def among(table: Table, entries: list[dict[str, Any]], study: str, owner: str, limit: int) -> dict[str, Any]:
    """The priors of one entry of a timeline among the others."""
    exams = understood(table, entries)
    mine = [one for one in exams if (one.study_instance_uid, one.owner) == (study, owner)]
    ranked = priors.rank(mine[0], exams) if mine else []
    by_key = {(entry["study_instance_uid"], entry["owner"]): entry for entry in entries}
    return {
        "study_instance_uid": study,
        "owner": owner,
        "priors": [
            by_key[(prior.exam.study_instance_uid, prior.exam.owner)]
            | {"relevant": prior.relevant, "score": prior.score, "reasons": priors.reasons(prior.reasons)}
            for prior in ranked[:limit]
        ],
    }
