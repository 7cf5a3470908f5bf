"""A search by modality reads what matches, however much else there is; and finds the same as one that reads everything."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.dicomweb.qido import parse_query
from chalicelib.dicomweb.search_plan import ByModality, Everything, selective_key
from chalicelib.services.finding import search
from tests.fakes import Watched
from tests.streams import MOMENT
from tests.world import World, image, reading_world

MODALITIES = ("CR", "CT", "MR", "SR")
studies = st.lists(
    st.tuples(st.lists(st.sampled_from(MODALITIES), min_size=1, max_size=3), st.integers(0, 4), st.booleans()), max_size=6
)


def filled(made: list[tuple[list[str], int, bool]]) -> World:
    """An archive with studies: the modalities of their series, the day, whether Maugeri's."""
    archive = reading_world()
    for number, (modalities, day, theirs) in enumerate(made):
        who, date = ("maugeri" if theirs else "san-matteo"), f"2026030{day + 1}"
        contents = [
            image(f"1.2.{number}", str(series), "1", "P1", date, modality=modality)
            for series, modality in enumerate(modalities, 1)
        ]
        archive.bring(who, *contents)
    transfer = archive.open_transfer("maugeri", "san-matteo", "P1", MOMENT - timedelta(days=60), days=365)
    archive.accept(transfer.receiver, transfer.id, "P1")
    archive.project_all()
    return archive


@settings(max_examples=25, deadline=None)
@given(studies, st.lists(st.sampled_from(MODALITIES), min_size=1, max_size=3), st.sampled_from(["", "20260302-20260303"]))
def test_what_it_finds_is_what_has_one_of_them_newest_first_and_each_study_once(
    made: list[tuple[list[str], int, bool]], asked: list[str], dates: str
) -> None:
    archive = filled(made)
    keys = [("ModalitiesInStudy", "\\".join(asked))] + ([("StudyDate", dates)] if dates else [])
    found = [match.study for match in archive.matches("san-matteo", parse_query("study", keys))]
    every = archive.matches("san-matteo", parse_query("study", [("includefield", "all")]))
    expected = [
        match.study
        for match in every
        if set(match.attributes["00080061"]["Value"]) & set(asked)
        and (not dates or "20260302" <= match.attributes["00080020"]["Value"][0] <= "20260303")
    ]
    assert found == expected


def test_a_study_that_loses_a_modality_is_not_found_by_it_any_more() -> None:
    archive = filled([(["CT", "SR"], 1, False)])
    assert len(archive.matches("san-matteo", parse_query("study", [("ModalitiesInStudy", "SR")]))) == 1
    archive.withdraw("san-matteo", "1.2.0", "1.2.0.2.1")
    archive.project_all()
    assert archive.matches("san-matteo", parse_query("study", [("ModalitiesInStudy", "SR")])) == []
    assert len(archive.matches("san-matteo", parse_query("study", [("ModalitiesInStudy", "CT")]))) == 1


def test_a_study_of_more_modalities_than_any_examination_has_is_projected_all_the_same() -> None:
    archive = reading_world()
    slices = [image("1.2.0", str(number), modality=f"{number:04}".ljust(64, "\u20ac")) for number in range(600)]
    archive.bring("san-matteo", *slices, image("1.2.1", modality="MR"))
    (study,) = archive.matches("san-matteo", parse_query("study", [("StudyInstanceUID", "1.2.0"), ("includefield", "all")]))
    assert study.attributes["00201208"]["Value"] == [600]
    assert len(study.attributes["00080061"]["Value"]) == 30
    assert len(archive.matches("san-matteo", parse_query("study", [("ModalitiesInStudy", "MR")]))) == 1


def test_one_of_a_rare_modality_is_found_by_one_query() -> None:
    archive = filled([(["CT"], 1, False)] * 60 + [(["MR"], 0, False)])
    asked: list[str] = []
    caller = archive.caller("san-matteo")
    table = Watched(archive.table, asked.append)
    found = search.search(table, caller, parse_query("study", [("ModalitiesInStudy", "MR")]), MOMENT)
    assert [match.study for match in found.matches] == ["1.2.60"]
    assert asked == ["query", "batch_get"]
    assert search.search(table, caller, parse_query("series", [("Modality", "MR")]), MOMENT).matches


def test_ten_modalities_are_looked_up_each_by_its_own_and_more_are_filtered() -> None:
    for count, kind in ((10, ByModality), (11, Everything)):
        asked = parse_query("study", [("ModalitiesInStudy", "\\".join(f"M{number}" for number in range(count)))])
        assert isinstance(selective_key(asked), kind)


def test_of_more_candidates_than_10_000_the_newest_are_looked_at_and_the_answer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert search._Budget().left == 10_000
    archive = filled([(["CT"], day, False) for day in (0, 1, 2)])
    everything = parse_query("study", [("PatientSex", "")])
    for most, warned in ((3, False), (2, True)):
        monkeypatch.setattr(search._Budget.__init__, "__defaults__", (most, False))
        found = search.search(archive.table, archive.caller("san-matteo"), everything, MOMENT)
        dates = [match.attributes["00080020"]["Value"][0] for match in found.matches]
        assert (len(dates), dates == sorted(dates, reverse=True), bool(found.warnings)) == (most, True, warned)
