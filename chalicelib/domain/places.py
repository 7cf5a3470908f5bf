"""Places of the body as examinations name them, and how they lie to each other. Pure.

A tree: joints lie below their limb, segments below the spine, the organs of the face below the head. Two examinations show the
same place where a place of one is a place of the other, or lies above or below it; what is merely beside does not count.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache

ABOVE: dict[str, tuple[str, ...]] = {
    "whole-body": (),
    "head": (),
    "orbits": ("head", "face"),
    "temporal-bone": ("head",),
    "face": ("head",),
    "sinuses": ("face",),
    "nose": ("face",),
    "mandible": ("face",),
    "teeth": ("face", "mandible"),
    "tmj": ("face", "mandible"),
    "neck": (),
    "salivary": ("neck", "face"),
    "chest": ("whole-body",),
    "heart": ("chest",),
    "esophagus": ("chest",),
    "breast": (),
    "axilla": ("breast", "upper-limb"),
    "aorta": (),
    "abdomen": ("whole-body",),
    "pelvis": ("whole-body",),
    "groin": ("pelvis",),
    "spine": ("whole-body",),
    "cervical-spine": ("spine",),
    "thoracic-spine": ("spine",),
    "lumbar-spine": ("spine",),
    "sacrum": ("spine", "pelvis"),
    "upper-limb": (),
    "shoulder": ("upper-limb",),
    "clavicle": ("shoulder",),
    "upper-arm": ("upper-limb",),
    "elbow": ("upper-limb",),
    "forearm": ("upper-limb",),
    "wrist": ("upper-limb",),
    "hand": ("upper-limb",),
    "lower-limb": (),
    "hip": ("lower-limb", "pelvis"),
    "femur": ("lower-limb",),
    "knee": ("lower-limb",),
    "leg": ("lower-limb",),
    "ankle": ("lower-limb",),
    "foot": ("lower-limb",),
}
"""Each place, and those that contain it directly. The whole body is what an examination of it shows: trunk and spine."""


@cache
def containing(place: str) -> frozenset[str]:
    """The place itself and all that contain it."""
    return frozenset({place}).union(*(containing(above) for above in ABOVE.get(place, ())))


def meets(one: str, other: str) -> bool:
    """Whether two places are the same, or one lies above the other."""
    return one in containing(other) or other in containing(one)


def most_specific(named: Collection[str]) -> frozenset[str]:
    """`named` without the places of which it names a part of the spine, too: "cervical spine" is not all of the spine."""
    segments = {"cervical-spine", "thoracic-spine", "lumbar-spine", "sacrum"}
    return frozenset(named) - ({"spine"} if segments & set(named) else set())


def coverage(wanted: Collection[str], shown: Collection[str]) -> float:
    """The share of the places `wanted` that `shown` shows: 1 for all, 0 for none."""
    return sum(any(meets(place, other) for other in shown) for place in wanted) / len(wanted) if wanted else 0.0


STRETCH = ("head", "neck", "chest", "abdomen", "pelvis", "lower-limb")
"""The body from head to foot, as a table moves through a scanner."""
_AT = {"cervical-spine": "neck", "thoracic-spine": "chest", "lumbar-spine": "abdomen", "sacrum": "pelvis"}
_WHOLE = {"whole-body": ("chest", "abdomen", "pelvis"), "spine": ("neck", "chest", "abdomen")}


def stretch(named: Collection[str]) -> list[str]:
    """What of `STRETCH` the places show, head to foot: where a scan of them begins and ends."""
    shown = {part for place in named for part in _WHOLE.get(place, (_AT.get(place, place),))}
    held = {above for place in shown for above in containing(place)}
    return [part for part in STRETCH if part in held]
