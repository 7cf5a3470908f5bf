"""A hospital's own names of examinations: kept, read beside the archive's table, and which of its exams nobody understood."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from itertools import islice

from chalicelib.domain import keys, places, priors, procedure_names, tags
from chalicelib.domain.audit import Act, Entry, Kind
from chalicelib.domain.dicom_json import first_value, texts
from chalicelib.domain.errors import TryAgain
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.ports import Item, PutVersion, Table
from chalicelib.domain.procedure_names import OwnNames
from chalicelib.domain.procedures import Vocabulary
from chalicelib.domain.study_views import SearchRow, StudyView
from chalicelib.domain.timelines import TimelineStudy
from chalicelib.services.registry import Caller

_ATTEMPTS = 5
_LOOKED_AT = 1000
"""The newest studies of a hospital that are looked through for names that nobody understood."""


def key(institution: str) -> tuple[str, str]:
    """Where an institution's own names lie."""
    return keys.procedure_names(institution), keys.NAMES


def put(table: Table, caller: Caller, body: object, act: Act) -> JsonObject:
    """The answer of `PUT /procedure-names`: these are the caller's names from now on. Raises BadRequest, TryAgain."""
    institution, own = caller.member.id, procedure_names.parse(body)
    for _ in range(_ATTEMPTS):
        known = table.get(*key(institution))
        version = (known.version or 0) if known else 0
        write = PutVersion(Item(*key(institution), own.to_item(), version=version + 1), version)
        if not act([write], Entry(Kind.ADMINISTRATION, institution, subject=institution, text="procedure names")):
            return own.to_item()
    raise TryAgain


def shown(table: Table, caller: Caller) -> JsonObject:
    """The answer of `GET /procedure-names`: the caller's own rows, the places there are, and what nobody understood of its
    newest exams with images: `{"name", "modalities", "studies"}`, the most frequent first.
    """
    institution = caller.member.id
    own = _own(table, institution)
    words = procedure_names.vocabulary(own)
    rows = islice(table.query_all(keys.rows_by_date(institution), index="gsi3", descending=True, page=100), _LOOKED_AT)
    exams = [_entry(row) for item in rows if (row := SearchRow.from_item(item.data)).owner == institution]
    unclear = [exam for exam in exams if _is_missed(exam, words)]
    views = table.batch_get(keys.study_view(exam.study_instance_uid, institution) for exam in unclear)
    counted: dict[tuple[str, tuple[str, ...]], int] = {}
    for exam in unclear:
        item = views.get(keys.study_view(exam.study_instance_uid, institution))
        if item is not None:
            view = StudyView.from_item(item.data)
            exam = replace(exam, series_names=view.series_names, body_parts=view.body_parts, codes=view.codes)
        if _is_missed(exam, words):
            name = (exam.description, exam.modalities)
            counted[name] = counted.get(name, 0) + 1
    missed = sorted(counted.items(), key=lambda entry: (-entry[1], entry[0]))
    return own.to_item() | {
        "places": list(places.ABOVE),
        "not_understood": [{"name": name, "modalities": list(kinds), "studies": count} for (name, kinds), count in missed],
    }


def vocabularies(table: Table, owners: Collection[str]) -> dict[str, Vocabulary]:
    """The own names of those of these institutions that have any."""
    found = table.batch_get(key(owner) for owner in sorted(owners))
    return {
        pk.rpartition("#")[2]: procedure_names.vocabulary(procedure_names.from_item(item.data)) for (pk, _), item in found.items()
    }


def _is_missed(exam: TimelineStudy, words: Vocabulary) -> bool:
    read = priors.exam(exam, words)
    return read.images and not read.procedure.understood


def _own(table: Table, institution: str) -> OwnNames:
    item = table.get(*key(institution))
    return procedure_names.from_item(item.data) if item else OwnNames()


def _entry(row: SearchRow) -> TimelineStudy:
    """What `domain.priors.exam` needs of a study, as the timeline would have it."""
    return TimelineStudy(
        row.study_instance_uid,
        row.owner,
        row.study_date,
        modalities=tuple(texts(row.attributes, tags.ModalitiesInStudy)),
        description=first_value(row.attributes, tags.StudyDescription),
    )
