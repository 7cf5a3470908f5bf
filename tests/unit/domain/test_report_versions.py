"""Which of a study's reports stand, and which have been replaced: the same whatever order they came in."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain.report_versions import STATUSES, DeclaredDocument, Report, ReportVersion, place


def report(sop: str, kind: str = "sr", date: str = "20260301", **more: Any) -> Report:
    fields = {name: more.pop(name) for name in ("series", "title", "time", "number", "shown") if name in more}
    return Report(
        sop, fields.get("series", "s"), kind, fields.get("title", "Referto"), date, fields.get("time", ""),
        fields.get("number", 1), DeclaredDocument(**more), fields.get("shown", True),
    )  # fmt: skip


def cda(sop: str, identifier: str, version: int | None = None, set_: str = "set", **more: Any) -> Report:
    numbered = {} if version is None else {"version": version, "set": set_}
    return report(sop, "cda", id=identifier, **numbered, **more)


def placed(*reports: Report) -> list[tuple[str, int, bool]]:
    """(SOP Instance UID, version, newest), the same in any order of arrival."""
    answers = [place(order) for order in itertools.permutations(reports)]
    assert all(answer == answers[0] for answer in answers)
    return [(answer.report.sop_instance_uid, answer.version, answer.newest) for answer in answers[0]]


def test_versions_of_a_set_are_in_the_order_of_their_numbers_whatever_their_dates() -> None:
    found = placed(cda("1", "a", 1, date="20260305"), cda("2", "b", 2, date="20260301"), cda("3", "c", 10, date=""))
    assert found == [("3", 10, True), ("2", 2, False), ("1", 1, False)]


def test_what_a_document_says_that_it_replaces_is_older_without_any_set() -> None:
    found = placed(cda("1", "a"), cda("2", "b", replaces_ids=("a",)), cda("3", "c", replaces_ids=("b",)))
    assert [(sop, newest) for sop, _, newest in found] == [("3", True), ("2", False), ("1", False)]


def test_a_structured_report_is_replaced_by_one_that_names_it() -> None:
    found = placed(report("1"), report("2", replaces=("1",)), report("3", replaces=("2",)))
    assert found == [("3", 3, True), ("2", 2, False), ("1", 1, False)]


def test_structured_reports_of_one_series_that_do_not_name_each_other_all_stand() -> None:
    assert placed(report("1", number=1), report("2", number=2)) == [("2", 1, True), ("1", 1, True)]


def test_two_that_replace_the_same_report_both_stand() -> None:
    found = placed(report("1"), report("2", replaces=("1",)), report("3", replaces=("1",), date="20260302"))
    assert found == [("3", 2, True), ("2", 2, True), ("1", 1, False)]


def test_a_version_that_is_still_to_come_or_was_withdrawn_is_counted_and_holds_the_chain() -> None:
    assert placed(report("3", replaces=("2",))) == [("3", 2, True)]
    withdrawn = report("2", replaces=("1",), shown=False)
    assert placed(report("1"), withdrawn, report("3", replaces=("2",))) == [("3", 3, True), ("1", 1, False)]
    assert placed(report("1"), withdrawn) == [("1", 1, True)]


def test_a_pdf_is_replaced_by_the_next_of_its_series_and_title() -> None:
    found = placed(
        report("1", "pdf", number=1),
        report("2", "pdf", number=2),
        report("3", "pdf", number=3, title="Consulto"),
        report("4", "pdf", number=3, series="other"),
    )
    assert [(sop, newest) for sop, _, newest in found] == [("4", True), ("3", True), ("2", True), ("1", False)]


def test_posted_versions_are_in_the_order_of_their_dates_also_beside_those_of_an_older_release() -> None:
    old = report("1", "pdf", number=1, date="20260302", title="Referto (provvisorio)")
    late = report("2", "pdf", number=2, date="20260301", named="n", status="preliminary")
    newest = report("3", "pdf", number=3, date="20260303", named="n", status="corrected")
    assert placed(old, late, newest) == [("3", 3, True), ("1", 2, False), ("2", 1, False)]


def test_the_same_document_that_came_twice_stands_once() -> None:
    found = place([cda("2", "a", 1, content="x"), cda("1", "a", 1, content="x"), cda("3", "a", 1, content="other")])
    said = [(version.report.sop_instance_uid, version.newest, version.same_as) for version in found]
    assert said == [("3", True, ""), ("2", True, ""), ("1", False, "2")]
    assert len({version.document for version in found}) == 1


def test_in_a_circle_the_latest_stands() -> None:
    found = placed(report("1", replaces=("2",)), report("2", replaces=("3",), date="20260302"), report("3", replaces=("1",)))
    assert [(sop, newest) for sop, _, newest in found] == [("2", True), ("3", False), ("1", False)]
    assert [newest for _, _, newest in placed(cda("1", "a", 1, replaces_ids=("b",)), cda("2", "b", 2))] == [True, False]
    assert placed(report("1", replaces=("1",))) == [("1", 1, True)]


_SOPS = st.sampled_from("12345678")


def _some(values: str, most: int) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), max_size=most).map(tuple)


def _maybe(values: Iterable[str]) -> st.SearchStrategy[str]:
    return st.sampled_from(["", *values])


_DECLARED = st.builds(
    DeclaredDocument, replaces=_some("12345678", 2), replaces_ids=_some("abc", 2), id=_maybe("abc"), set=_maybe("st"),
    version=st.none() | st.integers(0, 3), content=_maybe("xy"), named=_maybe("no"), replaces_named=_some("no", 1),
    status=_maybe(sorted(STATUSES)),
)  # fmt: skip
_REPORTS = st.lists(
    st.builds(
        Report, _SOPS, st.sampled_from("pq"), st.sampled_from(["sr", "pdf", "cda"]), st.just("T"),
        st.sampled_from(["", "20260301", "20260302"]), st.just(""), st.integers(0, 3), _DECLARED, st.booleans(),
    ),
    max_size=8, unique_by=lambda candidate: candidate.sop_instance_uid,
)  # fmt: skip


def _said(newer: Report, older: Report, posted: set[tuple[str, str]]) -> bool:
    """Whether what these two say of themselves makes one replace the other."""
    successor, predecessor = newer.declared, older.declared
    if older.sop_instance_uid in successor.replaces:
        return True
    if predecessor.id in successor.replaces_ids and predecessor.id != successor.id:
        return True
    if predecessor.named in successor.replaces_named and predecessor.named != successor.named:
        return True
    if successor.set and predecessor.set and successor.version is not None and predecessor.version is not None:
        return successor.set == predecessor.set and successor.version > predecessor.version
    loose = [each.kind != "sr" and not each.declared.is_numbered for each in (newer, older)]
    same = (newer.series_instance_uid, newer.kind) == (older.series_instance_uid, older.kind)
    unnumbered = not any(each.is_numbered for each in (successor, predecessor))
    if same and unnumbered and (newer.series_instance_uid, newer.kind) in posted:
        later = [
            (each.date, each.time, STATUSES.get(each.status, 1), each.number, each.sop_instance_uid) for each in (newer, older)
        ]
        return newer.status != "addendum" and later[0] > later[1]
    same = same and newer.title == older.title
    return all(loose) and same and newer.number > older.number


@given(found=_REPORTS, order=st.randoms(use_true_random=False))
def test_any_order_gives_the_same_and_hides_nothing_that_was_not_replaced(found: list[Report], order: Any) -> None:
    shuffled = order.sample(found, len(found))
    answer = place(shuffled)
    assert answer == place(found)
    assert {version.report.sop_instance_uid for version in answer} == {
        report.sop_instance_uid for report in found if report.shown
    }
    assert not answer or any(version.newest for version in answer)
    reached = _reached(found)
    copied = {version.report.sop_instance_uid for version in answer if version.same_as}
    for version in answer:
        uid = version.report.sop_instance_uid
        replacing = {other.sop_instance_uid for other in found if other.shown and uid in reached[other.sop_instance_uid]}
        if not version.newest:
            assert replacing - {uid} or uid in copied
        elif not any(uid in reached[other] for other in reached[uid]):  # in no circle, and below none
            assert not replacing - reached[uid] or _below_a_circle(uid, reached)


def _reached(found: list[Report]) -> dict[str, set[str]]:
    """What each replaces, at one remove or more."""
    posted = {
        (report.series_instance_uid, report.kind) for report in found if report.declared.named and not report.declared.is_numbered
    }
    reached = {
        report.sop_instance_uid: {
            other.sop_instance_uid for other in found if other is not report and _said(report, other, posted)
        }
        for report in found
    }
    for _ in found:
        reached = {uid: set().union(below, *(reached[other] for other in below)) for uid, below in reached.items()}
    return reached


def _below_a_circle(uid: str, reached: dict[str, set[str]]) -> bool:
    return any(uid in below and other in below for other, below in reached.items())


def test_many_versions_cost_no_more_than_they_are() -> None:
    chain = [report(str(number), replaces=(str(number - 1),)) for number in range(3000)]
    chain += [cda(f"c{number}", f"i{number}", number % 2) for number in range(3000)]
    answer: list[ReportVersion] = place(chain)
    assert len(answer) == 6000
    assert sum(version.newest for version in answer) == 1501
