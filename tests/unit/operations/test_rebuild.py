"""While views are made anew, whoever reads, before any write and after it, reads what stood there or what is right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.domain import keys
from chalicelib.domain.ports import Item, Put, Table
from chalicelib.domain.study_views import StudyView
from chalicelib.services.ingest.summaries import read_summary
from chalicelib.services.operations import reconcile_studies
from chalicelib.services.operations.discrepancies import DiscrepancyKind, Progress, Reconciliation
from chalicelib.services.operations.rebuild import rebuild
from chalicelib.services.operations.reconcile import STAGES, reconcile
from chalicelib.services.retrieval.manifest import still_to_come
from tests.fakes import ShortPages, Watched
from tests.world import A, B, World, image

WHOLE, WRONG, GROWS = "1.2.1", "1.2.2", "1.2.3"


def job(archive: World, table: Table, seconds: float = 900.0) -> Reconciliation:
    return Reconciliation(
        table, archive.objects, archive.alerts, archive.read_summary, lambda _: archive.act, lambda: archive.now, lambda: seconds
    )


def damaged_world() -> World:
    """Three studies that B sees by a transfer: of the first something is still to come, the other two have views that say 300."""
    archive = World((A, B), read_summary, audited=False)
    contents = [image(WHOLE, sop=str(number)) for number in range(3)]
    archive.announce(A, WHOLE, [hashlib.sha256(content).hexdigest() for content in contents])
    archive.bring(A, *contents[:2], image(WRONG, sop="5"), image(GROWS, sop="5"))
    archive.open(A, "P1", B, receiving="7")
    archive.project_all()
    for item in archive.views().values():
        if item.pk.endswith((WRONG, GROWS)) and item.pk.startswith(("V#STUDY#", "V#SEE#")):
            there = archive.table.get(*item.key)
            data = json.loads(json.dumps(there.data | {"instances": 300, "modalities": ["MR"]}))
            if "00201208" in data["attributes"]:
                data["attributes"]["00201208"]["Value"] = [300]
            archive.table.put(Put(replace(there, data=data)))
    return archive


def seen(archive: World) -> dict[str, Any]:
    """What both hospitals are told, by study."""
    told: dict[str, Any] = {}
    for study in (WHOLE, WRONG, GROWS):
        views = [archive.find(who, ("StudyInstanceUID", study)) for who in (A, B)]
        series = [archive.find(who, ("StudyInstanceUID", study), level="series") for who in (A, B)]
        instances = [archive.handed_out(who, study) for who in (A, B)]
        shown = [
            entry for entry in (archive.timeline(B, "7") or {"studies": []})["studies"] if entry["study_instance_uid"] == study
        ]
        told[study] = (views, series, instances, shown)
    view = StudyView.from_item(archive.views()[f"V#STUDY#{WHOLE}", A].data)
    told[WHOLE] += (still_to_come(archive.table, view), archive.status(A, image(WHOLE, sop="0"))["state"])
    return told


def rebuilt(archive: World, before_write: Callable[[], None]) -> int:
    def before(name: str) -> None:
        if name in ("put", "transact"):
            before_write()

    return rebuild(job(archive, Watched(archive.table, before)), None).studies


def test_readers_see_what_stood_there_or_what_is_right_and_nothing_between() -> None:
    archive = damaged_world()
    first = seen(archive)
    readings: list[dict[str, Any]] = []
    assert rebuilt(archive, lambda: readings.append(seen(archive))) == 3
    last = seen(archive)
    assert len(readings) >= 3
    readings.append(last)
    assert first[WHOLE] == last[WHOLE] and first[WHOLE][-2:] == (1, "indexed")
    assert {reading[WHOLE] == first[WHOLE] for reading in readings} == {True}
    for study in (WRONG, GROWS):
        assert first[study] != last[study]
        right = [reading[study] == last[study] for reading in readings]
        assert right == sorted(right) and not right[0], "wrong, and from one moment on right"
        assert [row["00201208"]["Value"] for row in first[study][0][0]] == [[300]]
        assert all(reading[study] in (first[study], last[study]) for reading in readings)
    assert not reconcile(job(archive, archive.table), Progress()).findings


def test_what_comes_at_any_moment_of_it_is_in_the_new_views_and_no_view_stays_old() -> None:
    """Also an instance that takes the first place among its study's, by which the study is known in the bucket's listing."""
    writes: list[None] = []
    rebuilt(damaged_world(), lambda: writes.append(None))
    for moment in range(len(writes)):
        archive, left = damaged_world(), moment

        def arrive(archive: World = archive) -> None:
            nonlocal left
            if left == 0:
                archive.bring(A, image(GROWS, sop="1"))
            left -= 1

        rebuilt(archive, arrive)
        for study, instances in ((GROWS, 2), (WRONG, 1)):
            view = StudyView.from_item(archive.views()[f"V#STUDY#{study}", A].data)
            assert (view.instances, view.modalities) == (instances, ("CT",)), (moment, study)


def test_bytes_that_are_gone_are_looked_for_among_the_young_and_among_all_where_that_is_asked_for() -> None:
    archive = damaged_world()
    sha = hashlib.sha256(image(WHOLE, sop="1")).hexdigest()
    del archive.objects.contents[f"instances/{A}/{sha}"]

    def gone(*, every: bool) -> list[str]:
        findings = reconcile(replace(job(archive, archive.table), every_object=every), Progress("studies")).findings
        return [finding.sha256 for finding in findings if finding.kind == DiscrepancyKind.NO_OBJECT]

    assert gone(every=False) == gone(every=True) == [sha]
    archive.later(days=31)
    assert (gone(every=False), gone(every=True)) == ([], [sha])


def test_a_function_without_time_does_one_step_and_says_where_to_go_on_and_in_the_end_all_is_done_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconcile_studies, "STUDIES_AT_ONCE", 2)
    archive = damaged_world()
    short, named, made, calls = job(archive, archive.table, seconds=0.0), list[str](), 0, 0
    progress: Progress | None = Progress()
    while progress is not None:
        done = reconcile(short, progress)
        named += [finding.study_instance_uid for finding in done.findings]
        progress, calls = done.next, calls + 1
    assert sorted(named) == [WRONG, GROWS]
    assert calls > 2 * len(STAGES), "each pass stops in each institution"
    started, progress = False, None
    while not started or progress is not None:
        done, started = rebuild(short, progress), True
        made, progress = made + done.studies, done.next
    assert made == 3
    assert not reconcile(job(archive, archive.table), Progress()).findings


def test_what_does_not_fit_into_a_page_is_compared_too() -> None:
    archive = World((A, B), read_summary, audited=False)
    archive.bring(A, *(image(f"1.2.{number}", sop="1") for number in range(5)))
    archive.project_all()
    for number in range(5):
        named = {"owner": B, "study_instance_uid": f"1.9.{number}"}
        archive.table.put(Put(Item(keys.feed(A), keys.feed_entry(900 + number), named)))
    done = reconcile(job(archive, ShortPages(archive.table)), Progress())
    assert (done.objects, done.studies, done.next) == (5, 5, None)
    absent = [found.study_instance_uid for found in done.findings if found.kind is DiscrepancyKind.FEED_OF_NOTHING]
    assert absent == [f"1.9.{number}" for number in range(5)]
