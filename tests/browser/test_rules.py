"""The page's rules by themselves, in the browser that runs them: which slices and series belong together, and who is who."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Open
from tests.harness import RunningCity

pytestmark = pytest.mark.usefixtures("browser")
Rule = Any


@pytest.fixture
def rules(open_page: Open, city: RunningCity) -> Page:
    """A page without a session, whose modules can be asked."""
    page, _ = open_page(city.endpoints["viewer"])
    page.locator("[data-kind=noLink]").wait_for()
    return page


def ask(page: Page, module: str, call: str, *arguments: Any) -> Any:
    """What an expression over a module `m` and arguments `a` gives."""
    return page.evaluate(f"async a => {{ const m = await import('/page/{module}.js'); return {call}; }}", list(arguments))


def axial(top: float, bottom: float, spacing: float, frame: str = "") -> list[dict[str, Any]]:
    count = round(abs(top - bottom) / spacing) + 1
    step = spacing if bottom > top else -spacing
    return [
        {"position": [0, 0, top + step * number], "orientation": [1, 0, 0, 0, 1, 0], "frame": frame} for number in range(count)
    ]


CHEST, TRUNK, ABDOMEN = ["chest"], ["chest", "abdomen"], ["abdomen"]


@pytest.mark.parametrize(
    ("one", "other", "places", "how", "at", "level"),
    [
        (axial(0, -300, 5), axial(0, -300, 5), [CHEST, CHEST], "position", 30, 30),
        (axial(0, -300, 5), axial(-300, 0, 5), [CHEST, CHEST], "position", 0, 60),
        (axial(0, -600, 5), axial(0, -300, 2.5), [TRUNK, CHEST], "position", 20, 40),
        (axial(0, -300, 5, "1.2"), axial(400, 300, 5, "1.2"), [[], []], "frame", 0, 20),
        (axial(0, -300, 5), axial(1500, 1170, 3), [CHEST, CHEST], "proportion", 60, 110),
        (axial(0, -300, 5), axial(-100, -400, 5), [CHEST, CHEST], "proportion", 0, 0),
        (axial(0, -600, 5), axial(1500, 1200, 5), [TRUNK, CHEST], "top", 20, 20),
        (axial(0, -600, 5), axial(1500, 1250, 5), [TRUNK, ABDOMEN], "bottom", 120, 50),
        (axial(0, -600, 5), axial(1500, 1200, 5), [[], []], "middle", 60, 30),
    ],
)
def test_levels_are_paired_by_the_best_that_is_known(
    rules: Page, one: list[Any], other: list[Any], places: list[Any], how: str, at: int, level: int
) -> None:
    pair = "m.pairing(m.stackOf(a[0]), m.stackOf(a[1]), a[2])"
    assert ask(rules, "levels", f"{pair}.how", one, other, places) == how
    assert ask(rules, "levels", f"m.levelWith({pair}, a[3])", one, other, places, at) == level
    back = ask(rules, "levels", f"m.levelWith(m.reversed({pair}), m.levelWith({pair}, a[3]))", one, other, places, at)
    assert abs(back - at) <= 1


@pytest.mark.parametrize(
    ("one", "other", "places"),
    [
        (axial(0, -300, 5), [{**plane, "orientation": [1, 0, 0, 0, 0, -1]} for plane in axial(0, -300, 5)], [[], []]),
        (axial(0, -300, 5), axial(0, 0, 5), [[], []]),
        (axial(0, -300, 5), [{"position": None, "orientation": None}] * 9, [[], []]),
        (axial(0, -600, 5), axial(1500, 1350, 5), [TRUNK, ["head"]]),
    ],
    ids=["another plane", "one slice", "no positions", "another part of the body"],
)
def test_what_has_no_levels_in_common_is_not_paired(rules: Page, one: list[Any], other: list[Any], places: list[Any]) -> None:
    assert ask(rules, "levels", "m.pairing(m.stackOf(a[0]), m.stackOf(a[1]), a[2])", one, other, places) is None


def test_the_series_nearest_in_plane_thickness_and_kernel_is_chosen_and_never_a_localizer(rules: Page) -> None:
    def series(name: str, image_type: str, orientation: list[int], thickness: float, kernel: str, count: int = 20) -> Rule:
        one = {"image_type": ["ORIGINAL", "PRIMARY", image_type], "orientation": orientation, "position": [0, 0, 0], "view": ""}
        return {"description": name, "modality": "CT", "thickness": thickness, "kernel": kernel, "instances": [one] * count}

    flat, upright = [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1]
    scout = series("scout", "LOCALIZER", upright, 0.6, "T20", 1)
    lung, soft = series("polmone", "AXIAL", flat, 1, "B70f"), series("mediastino", "AXIAL", flat, 5, "B30f")
    coronal = series("MPR", "AXIAL", upright, 5, "B30f")
    every = [scout, coronal, lung, soft]
    for wanted in (lung, soft, coronal):
        reference = {**wanted, "description": "altro nome"}
        assert ask(rules, "matching", "m.nearestSeries(a[0], a[1]).description", every, reference) == wanted["description"]
    assert ask(rules, "matching", "m.firstSeries(a[0]).description", every) == "MPR"
    assert ask(rules, "matching", "m.firstSeries(a[0]).description", [scout]) == "scout"


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ({"name": "FERRARI^LUCIA"}, {"name": "Ferrari^Lucia^^"}, []),
        ({"name": "D'ANGELO^NICOLÒ"}, {"name": "DANGELO^NICOLO"}, []),
        ({"name": "FERRARI^LUCIA"}, {"name": ""}, []),
        ({"name": "FERRARI^LUCIA", "sex": "F"}, {"name": "FERRARI^LUCIO", "sex": "M"}, ["name", "sex"]),
        ({"birth_date": "19510314"}, {"birth_date": "19510413"}, ["birth_date"]),
        ({"sex": "O"}, {"sex": "F"}, []),
    ],
)
def test_what_two_exams_say_of_the_patient_is_compared_as_people_read_it(
    rules: Page, one: dict[str, str], other: dict[str, str], told: list[str]
) -> None:
    assert ask(rules, "identity", "m.differences(a[0], a[1])", one, other) == told
