"""Searching within a reading session (QIDO-RS): among the studies that its link opens, and nothing beside them."""

from __future__ import annotations

from datetime import datetime

from chalicelib.dicomweb.qido import Query, among_studies
from chalicelib.domain.audit import Recorder
from chalicelib.domain.errors import NotFound
from chalicelib.domain.ports import Table
from chalicelib.services.finding.search import SearchPage, search
from chalicelib.services.viewer import timeline
from chalicelib.services.viewer.sessions import Reader


def search_in_scope(table: Table, reader: Reader, query: Query, now: datetime, record: Recorder) -> SearchPage:
    """One page of what the link opens and the query matches. Raises NotFound for a study in the path that it does not open."""
    study = query.scope.study_instance_uid
    if study is not None:
        opened = frozenset({(study, timeline.require_in_scope(table, reader, study, None) or reader.viewer)})
        page = search(table, reader.caller, query, now, opened)
        if not page.matches:
            raise NotFound
        return page
    shown = timeline.shown_timeline(table, reader, now, record)
    opened = frozenset(study.key for study in shown.studies)
    narrowed = among_studies(query, frozenset(uid for uid, _ in opened))
    return SearchPage() if narrowed is None else search(table, reader.caller, narrowed, now, opened)
