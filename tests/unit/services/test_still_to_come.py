"""An exam is complete when everything that its sender announced has a verdict, however much that is and whatever came first."""

from __future__ import annotations

import hashlib

import pytest

from chalicelib.domain.study_views import StudyView
from chalicelib.services.retrieval.manifest import still_to_come
from tests.world import World, image, reading_world

STUDY = "1.2.3"


def slices(count: int, start: int = 0) -> list[bytes]:
    return [image(STUDY, sop=str(start + number)) for number in range(count)]


def hashes(contents: list[bytes]) -> list[str]:
    return [hashlib.sha256(content).hexdigest() for content in contents]


def missing(archive: World) -> int:
    return still_to_come(archive.table, StudyView.from_item(archive.views()[f"V#STUDY#{STUDY}", "maugeri"].data))


def told(archive: World) -> tuple[bool, int]:
    """What the timeline says: whether the exam is complete, and how many are still to come."""
    found = archive.timeline("maugeri", "P1")
    assert found is not None
    (study,) = found["studies"]
    return study["complete"], study["missing"]


@pytest.mark.parametrize("first", ["announced", "indexed"])
def test_what_was_announced_and_has_no_verdict_is_still_to_come(first: str) -> None:
    archive = reading_world()
    every = slices(6)
    if first == "announced":
        archive.announce("maugeri", STUDY, hashes(every))
    archive.bring("maugeri", *every[:2])
    if first == "indexed":
        archive.announce("maugeri", STUDY, hashes(every))
        archive.project_all()
    assert missing(archive) == 4
    archive.index_batch(archive.put_objects("maugeri", *every[2:5]))
    assert missing(archive) == 1, "its verdicts tell before the view does"
    archive.project_all()
    assert missing(archive) == 1
    assert told(archive) == (False, 1)
    archive.bring("maugeri", every[5])
    assert missing(archive) == 0
    assert told(archive) == (True, 0)
    assert "incomplete" not in archive.views()[f"V#STUDY#{STUDY}", "maugeri"].data


def test_what_was_announced_and_rejected_is_not_waited_for() -> None:
    archive = reading_world()
    bad = b"no DICOM" * 100
    archive.announce("maugeri", STUDY, hashes([*slices(1), bad]))
    archive.bring("maugeri", *slices(1))
    assert missing(archive) == 1
    archive.index_batch(archive.put_objects("maugeri", bad))
    assert missing(archive) == 0


def test_more_than_a_view_has_room_for_is_still_to_come_until_the_last_has_its_verdict() -> None:
    archive = reading_world()
    every = slices(1300)
    for start in range(0, len(every), 100):
        archive.announce("maugeri", STUDY, hashes(every[start : start + 100]))
    archive.bring("maugeri", every[0])
    tally = archive.views()[f"V#TALLY#maugeri#{STUDY}", "."].data
    named = {sha for sk in tally["missing"] for sha in archive.facts()[f"F#STUDY#maugeri#{STUDY}", sk].data["sha256"]}
    assert 500 <= len(named) <= 1000
    archive.index_batch(archive.put_objects("maugeri", *(content for content in every if hashes([content])[0] in named)))
    assert missing(archive) >= 1, "of those that the view does not name"
    last = next(content for content in reversed(every) if hashes([content])[0] not in named)
    archive.index_batch(archive.put_objects("maugeri", *(content for content in every if content is not last)))
    assert missing(archive) == 1
    archive.project_all()
    assert missing(archive) == 1
    archive.bring("maugeri", last)
    assert missing(archive) == 0
