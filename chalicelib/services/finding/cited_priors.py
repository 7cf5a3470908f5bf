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
    if not any(cited_priors.may_cite(one.text) for one in written):
        return [_answered(one, []) for one in written]
    known = priors.understood(table, exams())
    mine = next((one for one in known if (one.study_instance_uid, one.owner) == (study, owner)), None)
    if mine is None:
        return [_answered(one, []) for one in written]
    return [_answered(one, cited_priors.cited(one.text, mine, known, comparison=one.kind == COMPARISON)) for one in written]


def _answered(section: Section, found: list[cited_priors.Citation]) -> JsonObject:
    answered: JsonObject = {"kind": section.kind, "title": section.title, "text": section.text}
    if found:
        answered["citations"] = [
            {
                "text": section.text[one.start : one.end],
                "studies": [{"study_instance_uid": exam.study_instance_uid, "owner": exam.owner} for exam in one.exams],
            }
            for one in found
        ]
    return answered
