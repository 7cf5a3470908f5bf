"""The page's rules by themselves, in the browser that runs them: which slices and series belong together, and who is who."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Open
from tests.harness import RunningCity

pytestmark = pytest.mark.usefixtures("browser")
Rule = Any


@pytest.fixture(scope="module")
def rules(open_kept_page: Open, city: RunningCity) -> Page:
    """A page without a session, whose modules can be asked."""
    page, _ = open_kept_page(city.endpoints["viewer"])
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


def test_clock_and_day_are_the_hospitals_wherever_the_workstations_are_and_a_distance_is_told_as_it_is(rules: Page) -> None:
    assert ask(rules, "text", "[m.clockText(a[0]), m.dayOf(a[0])]", "2026-11-30T23:38:00Z") == ["00:38", "20261201"]
    assert "00:38" in ask(rules, "text", "m.momentText(a[0])", "2026-11-30T23:38:00Z")
    assert ask(rules, "text", "m.clockText(a[0])", "2026-07-01T21:30:00Z") == "23:30"
    ask(rules, "text", "m.loadTexts('it')")
    for date, distance in (
        ("20260930", "59 giorni prima"), ("20260912", "11 settimane prima"),
        ("20260528", "6 mesi prima"), ("20241128", "2 anni prima"),
    ):  # fmt: skip
        assert ask(rules, "text", "m.distanceText(a[0], a[1])", date, "20261128") == distance


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


def test_a_series_that_goes_over_its_levels_several_times_is_followed_each_time(rules: Page) -> None:
    thrice = axial(0, -45, 5) * 3
    pair = "m.pairing(m.stackOf(a[0]), m.stackOf(a[1]), [[], []])"
    for at in (3, 13, 23):
        assert ask(rules, "levels", f"m.levelWith({pair}, a[2])", thrice, thrice, at) == at
        assert ask(rules, "levels", f"m.levelWith({pair}, a[2])", thrice, axial(0, -45, 5), at) == 3


def test_of_several_echoes_at_one_level_it_is_the_same_one(rules: Page) -> None:
    def echoes(*times: float) -> list[Any]:
        return [{**plane, "echo": time} for time in times for plane in axial(0, -45, 5)]

    first, other = echoes(15, 90), echoes(15, 45, 90.2)
    pair = "m.pairing(m.stackOf(a[0]), m.stackOf(a[1]), [[], []])"
    assert ask(rules, "levels", f"m.levelWith({pair}, a[2])", first, other, 13) == 23
    assert ask(rules, "levels", f"m.levelWith(m.reversed({pair}), a[2])", first, other, 23) == 13
    assert ask(rules, "levels", f"m.levelWith({pair}, a[2])", echoes(15, 120), other, 13) == 13  # as before: the second time


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
        cut = {"image_type": ["ORIGINAL", "PRIMARY", image_type], "orientation": orientation, "position": [0, 0, 0], "view": ""}
        return {"description": name, "modality": "CT", "thickness": thickness, "kernel": kernel, "instances": [cut] * count}

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


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", [False, True])
def test_a_part_of_a_turned_image_is_found_in_the_image_as_it_lies(rules: Page, rotation: int, flip: bool) -> None:
    """A rectangle of an image of 400 × 200 pixels, where it is seen once turned (PS3.3 C.10.6), is that rectangle again."""
    lies = {"columns": 400, "rows": 200, "rotation": rotation, "flip": flip}
    corners = [ask(rules, "presentation", "m.placed(a[0], a[1])", point, lies) for point in ([40, 20], [120, 60])]
    across, down = (400, 200) if rotation % 180 == 0 else (200, 400)
    (left, right), (top, bottom) = (sorted(axis) for axis in zip(*corners, strict=True))
    seen = {"x": left / across, "y": top / down, "width": (right - left) / across, "height": (bottom - top) / down}
    part = ask(rules, "presentation", "m.unplaced(a[0], a[1])", seen, lies)
    assert part == pytest.approx({"x": 0.1, "y": 0.1, "width": 0.2, "height": 0.2})


def test_a_presentation_state_says_what_of_it_is_not_drawn_and_units_of_the_display_are_of_its_area(rules: Page) -> None:
    def item(**values: Any) -> dict[str, Any]:
        return {tag[1:]: {"vr": "UN", "Value": value if isinstance(value, list) else [value]} for tag, value in values.items()}

    image = {"sop": "1.2", "frame": 1, "rows": 200, "columns": 400, "inverse": True}
    line = item(_00700005="DISPLAY", _00700023="POLYLINE", _00700022=[0, 0, 1, 1])
    other = item(_00081140=[item(_00081155="1.3")], _00700009=[line])
    area = item(_00700052=[101, 51], _00700053=[300, 150])
    state = item(_00700080="X", _20500020="INVERSE", _0070005A=[area], _00700001=[item(_00700009=[line]), other])
    found = ask(rules, "presentation", "m.presentationOf(a[0], a[1])", state, image)
    assert found["marks"] == [{"kind": "POLYLINE", "points": [[100, 50], [300, 150]], "filled": False}]
    assert (found["inverted"], found["window"], found["partly"]) == (False, None, False)  # inverse as the image is by itself
    for unknown in (item(_00700009=[item(_00700005="MATRIX", _00700023="POINT", _00700022=[1, 1])]), item(_00700209=[item()])):
        partly = ask(rules, "presentation", "m.presentationOf(a[0], a[1])", state | item(_00700001=[unknown]), image)
        assert (partly["marks"], partly["partly"]) == ([], True)


def test_what_comes_when_nothing_is_read_any_more_has_no_address(rules: Page) -> None:
    assert ask(rules, "session", "m.imageUrl('/studies/1.2/thumbnail')") == ""
