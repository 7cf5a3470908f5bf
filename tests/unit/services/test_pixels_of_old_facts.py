"""An instance of an earlier release has no word on its pixels in its fact: its object is asked, and its frames come right."""

from __future__ import annotations

import numpy as np
import pytest

from chalicelib.domain.errors import NotAcceptable, NotFound
from chalicelib.domain.studies import Instance
from chalicelib.services.retrieval import frames as retrieve_frames
from chalicelib.services.retrieval import rendering
from tests.unit.pixels.generated import Spec, dataset, packed, replace, written
from tests.world import World, reading_world

YBR = Spec(allocated=8, stored=8, high_bit=7, photometric="YBR_FULL", frames=2)


def indexed(archive: World, spec: Spec, **tags: object) -> Instance:
    made = dataset(spec)
    made.add_new(0x7FE00010, "OB", packed(spec))
    for keyword, value in tags.items():
        setattr(made, keyword, value)
    assert archive.bring("san-matteo", written(made, spec.syntax)) == ["indexed"]
    (fact,) = [item for key, item in archive.facts().items() if key[1].startswith("I#")]
    _, series, sop = fact.sk.split("#")
    return Instance.from_item(series, sop, dict(fact.data))


def of_before(instance: Instance, frames: int, length: int) -> Instance:
    """As the release before had written it."""
    return replace(instance, fact=replace(instance.fact, pixels=None, number_of_frames=frames, frame_length=length))


def test_frames_that_an_old_fact_cuts_wrongly_are_cut_anew() -> None:
    archive = reading_world()
    new = indexed(archive, YBR, PhotometricInterpretation="YBR_FULL_422")
    old = of_before(new, 2, YBR.rows * YBR.columns * 2)
    for instance in (new, old):
        pieces = retrieve_frames.frames(archive.objects, "san-matteo", instance, [2])
        (extent,) = pieces[0]
        assert not isinstance(extent, bytes)
        content = archive.objects.read(extent.key, extent.start, extent.length)
        assert content == packed(YBR)[len(packed(YBR)) // 2 :]
    assert (old.fact.pixels, old.fact.frame_length) == (new.fact.pixels, new.fact.frame_length)


def test_what_an_old_fact_would_have_drawn_wrongly_is_refused() -> None:
    archive = reading_world()
    grey = Spec(allocated=8, stored=8, high_bit=7)
    old = of_before(indexed(archive, grey, BitsStored=12), 1, grey.rows * grey.columns)
    with pytest.raises(NotAcceptable, match="cannot be stored"):
        rendering.require_picture(archive.objects, "san-matteo", old)
    assert retrieve_frames.number_of_frames(archive.objects, "san-matteo", old) == 1
    assert np.frombuffer(packed(grey), np.uint8).size == grey.rows * grey.columns


def test_what_has_no_pixels_is_not_found() -> None:
    with pytest.raises(NotFound):
        retrieve_frames.described(reading_world().objects, "san-matteo", Instance.from_item("1", "2", {"sha256": "0", "size": 1}))
