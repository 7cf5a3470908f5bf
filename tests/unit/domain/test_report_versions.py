"""Which of a study's reports stand, and which have been replaced: the same whatever order they came in."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
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


def part(sop: str, kind: str, status: str, time: str, number: int = 1, document: str = "n") -> Report:
    """A document of the report “n”, which has them in series of their own."""
    series = f"{kind} {document}"
    return report(sop, kind, series=series, time=time, number=number, named=document, report="n", status=status)


def newest(*reports: Report) -> set[str]:
    return {sop for sop, _, stands in placed(*reports) if stands}


def test_a_correction_replaces_all_documents_of_its_report_whatever_it_holds_itself() -> None:
    text, pdf, second = part("1", "sr", "final", "10"), part("2", "pdf", "final", "10"), part("3", "pdf", "final", "10", 1, "n-2")
    assert newest(text, pdf, second) == {"1", "2", "3"}
    assert newest(text, pdf, second, part("4", "pdf", "corrected", "11", 2)) == {"4"}
    assert newest(text, pdf, second, part("4", "sr", "corrected", "10", 2), part("5", "pdf", "corrected", "10", 2)) == {"4", "5"}


def test_a_final_pdf_replaces_a_preliminary_text_and_one_that_has_the_text_again_the_pdf_too() -> None:
    text, pdf = part("1", "sr", "preliminary", "10"), part("2", "pdf", "final", "11")
    assert newest(text, pdf) == {"2"}
    assert newest(part("1", "sr", "final", "10"), part("2", "pdf", "final", "10"), part("3", "sr", "final", "11", 2)) == {"3"}


def test_of_one_status_a_pdf_that_comes_by_itself_may_be_a_part_and_an_addendum_replaces_nothing() -> None:
    assert newest(part("1", "sr", "final", "10"), part("2", "pdf", "final", "11"), part("3", "sr", "addendum", "12", 2)) == {
        "1", "2", "3"
    }  # fmt: skip


def test_what_was_posted_without_a_reports_name_is_of_the_report_of_its_document() -> None:
    before = report("1", "sr", series="sr n", time="10", named="n", status="final")
    assert newest(before, part("2", "pdf", "corrected", "11")) == {"2"}
    assert newest(before, report("2", "pdf", series="pdf n", time="11", named="n", status="corrected")) == {"1", "2"}


@pytest.mark.parametrize(
    ("first", "second", "stands"),
    [
        (("preliminary", "110000"), ("final", ""), "2"), (("final", ""), ("preliminary", "110000"), "1"),
        (("final", "090000"), ("preliminary", ""), "1"), (("final", "090000"), ("corrected", ""), "2"),
        (("corrected", "090000"), ("final", ""), "1"), (("final", "090000"), ("final", ""), "2"),
        (("final", ""), ("final", "090000"), "2"), (("final", ""), ("final", ""), "2"),
    ],
)  # fmt: skip
def test_where_only_the_day_is_known_the_status_tells_and_then_what_came_later(
    first: tuple[str, str], second: tuple[str, str], stands: str
) -> None:
    said = [
        report(str(number), named="n", status=status, time=time, number=number)
        for number, (status, time) in ((1, first), (2, second))
    ]
    assert newest(*said) == {stands}


def test_a_day_between_moments_stands_behind_all_that_rank_below_it() -> None:
    said = [("preliminary", "090000"), ("final", ""), ("preliminary", "110000"), ("corrected", "120000"), ("preliminary", "")]
    found = placed(
        *(report(str(number), named="n", status=status, time=time, number=number) for number, (status, time) in enumerate(said))
    )
    assert [sop for sop, _, _ in found] == ["3", "1", "4", "2", "0"]


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


_PARTS = st.lists(
    st.builds(part, _SOPS, st.sampled_from(["sr", "pdf"]), _maybe(sorted(STATUSES)), _maybe(["09", "10"]), st.integers(0, 3)),
    max_size=8, unique_by=lambda candidate: candidate.sop_instance_uid,
)  # fmt: skip


@given(found=_PARTS, order=st.randoms(use_true_random=False))
def test_a_reports_documents_stand_the_same_in_any_order_and_no_preliminary_beside_what_came_of_it(
    found: list[Report], order: Any
) -> None:
    answer = place(order.sample(found, len(found)))
    assert answer == place(found)
    assert not answer or any(version.newest for version in answer)
    standing = [version.report for version in answer if version.newest]
    for kind in ("sr", "pdf"):  # of each series one that is whole at most
        assert sum(report.kind == kind and report.status != "addendum" for report in standing) <= 1
    if all(report.time for report in found) and len({report.time for report in found}) == 1:
        ranks = {report.rank for report in standing if report.status != "addendum"}
        assert len(ranks) <= 1 or (ranks == {0, 1} and "partial" in {report.status for report in standing})


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
