"""The earlier exams that a report cites, among those that its reader may see."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chalicelib.domain import cited_priors
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.ports import Table
from chalicelib.domain.report_sections import COMPARISON, Section
from chalicelib.domain.timelines import TimelineStudy
from chalicelib.services.finding import priors


def sections(
    table: Table, written: Sequence[Section], study: str, owner: str, exams: Callable[[], Sequence[TimelineStudy]]
) -> list[JsonObject]:
    """Sections of a study's report as they are answered: `{"kind", "title", "text", "citations"?}`.

    A citation is `{"text", "studies"}`: one study, several where it may be each of them, none where it is not among `exams`:
    entries of the timeline, which are asked for only where something is cited.
    """
    if not any(cited_priors.may_cite(section.text) for section in written):
        return [_answered(section, []) for section in written]
    known = priors.understood(table, exams())
    mine = next((exam for exam in known if (exam.study_instance_uid, exam.owner) == (study, owner)), None)
    if mine is None:
        return [_answered(section, []) for section in written]
    return [
        _answered(section, cited_priors.cited(section.text, mine, known, comparison=section.kind == COMPARISON))
        for section in written
    ]


def _answered(section: Section, found: list[cited_priors.Citation]) -> JsonObject:
    answered: JsonObject = {"kind": section.kind, "title": section.title, "text": section.text}
    if found:
        answered["citations"] = [
            {
                "text": section.text[citation.start : citation.end],
                "studies": [{"study_instance_uid": exam.study_instance_uid, "owner": exam.owner} for exam in citation.exams],
            }
            for citation in found
        ]
    return answered
