"""All bulk data of an instance at once: how much work it is, whatever the instance holds."""

from __future__ import annotations

import re
import tracemalloc

import pytest

from chalicelib.dicomweb import representations
from chalicelib.dicomweb.media_types import negotiate
from chalicelib.domain.errors import TooLarge
from chalicelib.services.retrieval import bodies, bulkdata, frames
from chalicelib.services.retrieval.bodies import Body, Inline
from tests.fakes import WatchedObjects
from tests.streams import MOMENT
from tests.unit.dicom import building
from tests.world import World, reading_world

VALUES = 300


class NoPixels:
    """Nothing here is decoded."""

    def run(self, job: object) -> str | None:
        raise AssertionError


def with_many_values(syntax: str) -> bytes:
    values = b"".join(building.element(0x00910010 + 0x100 + n, "OB", bytes([n % 256]) * 1100) for n in range(VALUES))
    creator = building.element(0x00910010, "LO", "TEST") + building.element(0x00910011, "LO", "TEST")
    return building.part10(building.identity() + creator + values + building.pixels(), syntax)


def everything(archive: World, calls: list[str]) -> Body:
    """All bulk data of the study 1.2.3; `calls` are the reads and writes that it took."""
    opened = bodies.open_study(archive.table, archive.caller("san-matteo"), "1.2.3", None, MOMENT)
    found = bodies.instances(archive.table, opened)
    objects = WatchedObjects(archive.objects.contents, calls.append)
    selected = negotiate(representations.frames(building.EXPLICIT, single=False), None, None)
    return bulkdata.bulkdata_body(objects, NoPixels(), opened, found, selected, lambda instance, name: f"at/{name}")


@pytest.mark.parametrize("syntax", [building.EXPLICIT, building.DEFLATED])
def test_the_head_of_an_instance_is_read_once_however_many_values_it_has(syntax: str) -> None:
    archive, calls = reading_world(), list[str]()
    assert archive.bring("san-matteo", with_many_values(syntax)) == ["indexed"]
    body = everything(archive, calls)
    assert isinstance(body, Inline)
    names = re.findall(rb"Content-Location: at/(\w+)", body.content)
    assert len(set(names)) == VALUES + 1
    assert calls.count("read") < 20


def test_what_many_instances_inflate_to_is_not_held_together() -> None:
    archive = reading_world()
    pixels = building.element(0x7FE00010, "OW", bytes(24 * 1024**2))
    squeezed = [
        building.part10(
            building.identity(sop=f"1.2.{n}") + pixels, building.DEFLATED, meta=building.file_meta(building.DEFLATED, f"1.2.{n}")
        )
        for n in range(12)
    ]
    assert set(archive.bring("san-matteo", *squeezed)) == {"indexed"}
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            everything(archive, [])
        assert tracemalloc.get_traced_memory()[1] < 250_000_000
    finally:
        tracemalloc.stop()


def test_64_mib_of_values_are_made_anew_for_an_answer_and_not_a_byte_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert frames.MOST_IN_MEMORY == 64 * 1024**2
    archive = reading_world()
    pixels = building.element(0x7FE00010, "OW", bytes(4000))
    contents = [building.identity(sop=f"1.2.{n}") + pixels for n in (1, 2)]
    for n, content in enumerate(contents, 1):
        meta = building.file_meta(building.DEFLATED, f"1.2.{n}")
        assert archive.bring("san-matteo", building.part10(content, building.DEFLATED, meta=meta)) == ["indexed"]
    most = sum(map(len, contents))
    monkeypatch.setattr(frames, "MOST_IN_MEMORY", most)
    assert isinstance(everything(archive, []), Inline)
    monkeypatch.setattr(frames, "MOST_IN_MEMORY", most - 1)
    with pytest.raises(TooLarge):
        everything(archive, [])
