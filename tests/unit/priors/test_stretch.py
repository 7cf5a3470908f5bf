"""Where on the body a scan of places begins and ends."""

from __future__ import annotations

import pytest

from chalicelib.domain.places import stretch


@pytest.mark.parametrize(
    ("named", "shown"),
    [
        ({"chest"}, ["chest"]),
        ({"abdomen", "chest"}, ["chest", "abdomen"]),
        ({"whole-body"}, ["chest", "abdomen", "pelvis"]),
        ({"heart"}, ["chest"]),
        ({"lumbar-spine", "sacrum"}, ["abdomen", "pelvis"]),
        ({"knee"}, ["lower-limb"]),
        ({"breast"}, []),
        (set(), []),
    ],
)
def test_places_are_told_head_to_foot(named: set[str], shown: list[str]) -> None:
    assert stretch(named) == shown
