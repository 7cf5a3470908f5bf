"""What is new to a reader stays so until looked at, from visit to visit, for this person alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.institutions import Institution, Registry
from chalicelib.domain.report_versions import ListedReport
from chalicelib.domain.timelines import TimelineStudy
from chalicelib.domain.viewer_sessions import LinkScope, Practitioner, ViewerLink
from chalicelib.services.registry import Caller
from chalicelib.services.viewer import news
from chalicelib.services.viewer.sessions import Reader
from tests.fakes import MemoryTable
from tests.unit.viewer_sessions.test_links import fresh

NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
FILM = TimelineStudy("1.2.1", "san-matteo", images=1, instances=1)
CT = TimelineStudy("1.2.2", "san-matteo", images=80, instances=80)
REPORT = ListedReport("1.9", "1.8", "text", "Referto", "20260301", "0900", 1, True)


def reader(person: str = "rossi", patient: str | None = "MG-1") -> Reader:
    scope = LinkScope(PatientIdentifier("2.16.1", patient)) if patient else LinkScope(None, (FILM.key,))
    link: ViewerLink = replace(fresh(), practitioner=Practitioner(person, "Dr."), scope=scope)
    member = Institution("maugeri", "Maugeri", "arn:aws:iam::123456789012:role/maugeri", "2.16.1")
    return Reader(link, Caller(member, person, Registry({"maugeri": member}, {"maugeri": 1})))


def test_what_came_after_the_first_visit_is_new_until_it_was_on_the_screen() -> None:
    table = MemoryTable()
    assert not news.unseen(table, reader(), [FILM])
    news.begin(table, reader(), [FILM], NOW)
    assert not news.unseen(table, reader(), [FILM])
    news.begin(table, reader(), [FILM, CT], NOW)  # another visit
    assert news.unseen(table, reader(), [FILM, CT]) == {CT.key}
    news.looked_at(table, reader(), [FILM], NOW)
    assert news.unseen(table, reader(), [FILM, CT]) == {CT.key}
    news.looked_at(table, reader(), [CT], NOW)
    assert not news.unseen(table, reader(), [FILM, CT])


def test_a_report_another_version_of_it_and_the_last_image_are_news_and_one_of_many_that_come_is_none() -> None:
    table = MemoryTable()
    news.begin(table, reader(), [FILM, replace(CT, missing=3)], NOW)
    assert not news.unseen(table, reader(), [replace(CT, missing=2, images=81)])
    assert news.unseen(table, reader(), [CT]) == {CT.key}
    read = replace(FILM, reports=(REPORT,))
    assert news.unseen(table, reader(), [read]) == {FILM.key}
    news.looked_at(table, reader(), [read], NOW)
    assert not news.unseen(table, reader(), [replace(FILM, reports=(replace(REPORT, conclusion="said since"),))])
    again = replace(FILM, reports=(replace(REPORT, newest=False), replace(REPORT, sop_instance_uid="1.10", version=2)))
    assert news.unseen(table, reader(), [again]) == {FILM.key}


def test_it_is_one_persons_of_one_patient_and_nothing_is_kept_of_a_link_to_single_exams() -> None:
    table = MemoryTable()
    news.begin(table, reader(), [FILM], NOW)
    for other in (reader("bianchi"), reader(patient="MG-2"), reader(patient=None)):
        assert not news.unseen(table, other, [FILM, CT])
        news.looked_at(table, other, [CT], NOW)
    assert news.unseen(table, reader(), [CT]) == {CT.key}
    news.begin(table, reader(patient=None), [CT], NOW)
    assert not news.unseen(table, reader(patient=None), [FILM])


def test_what_is_kept_names_nobody() -> None:
    table = MemoryTable()
    news.begin(table, reader(), [FILM, CT], NOW)
    (item,) = table.query_all(*[news._key(reader())[0]])  # type: ignore[index]
    kept = f"{item.pk} {item.sk} {item.data}"
    for personal in ("rossi", "MG-1", FILM.study_instance_uid):
        assert personal not in kept
