"""What fits a response is sent; what does not lies in the bucket; what would be too much work is refused."""

from __future__ import annotations

from typing import Any

import pytest

from chalicelib.dicomweb import representations
from chalicelib.dicomweb.media_types import negotiate
from chalicelib.dicomweb.rendered import Viewport
from chalicelib.domain.assembly import ObjectRange
from chalicelib.domain.audit import DisclosedStudy
from chalicelib.domain.errors import NotAcceptable, TooLarge
from chalicelib.domain.pixel_facts import PixelFacts
from chalicelib.domain.studies import Instance, packed
from chalicelib.services.retrieval import bodies, decoding, files, rendering, zip_archive
from chalicelib.services.retrieval.bodies import Elsewhere, Inline, VisibleStudy
from tests.fakes import MemoryObjects

OPENED = VisibleStudy("san-matteo", "1.2", DisclosedStudy("san-matteo", "1.2", ()), None, "san-matteo")


class Decoder:
    """Stands for the function that decodes: writes so many bytes, or says why not."""

    def __init__(self, objects: MemoryObjects, size: int = 10, reason: str | None = None) -> None:
        self.objects, self.size, self.reason, self.jobs = objects, size, reason, 0

    def run(self, job: Any) -> str | None:
        self.jobs += 1
        if self.reason is None:
            self.objects.contents[str(job["target"])] = bytes(self.size)
        return self.reason


def instance(size: int, **more: Any) -> Instance:
    data = {"sha256": "a" * 64, "size": size, "class": "1.2", "syntax": "1.2.840.10008.1.2.1", "attributes": {}, **more}
    return Instance.from_item("1.3", "1.4", data)


def test_a_small_body_is_sent_and_a_large_one_made_once() -> None:
    objects = MemoryObjects()
    objects.contents["a"] = bytes(bodies.INLINE + 1)
    small = bodies.multipart_body(objects, [((), (ObjectRange("a", 0, 100),))], "application/dicom")
    assert isinstance(small, Inline) and list(objects.contents) == ["a"]
    parts: Any = [((), (ObjectRange("a", 0, bodies.INLINE + 1),))]
    large = bodies.multipart_body(objects, parts, "application/dicom")
    assert isinstance(large, Elsewhere) and large.key.startswith("cache/multipart/")
    objects.contents[large.key] = b"made before"
    assert bodies.multipart_body(objects, parts, "application/dicom") == large
    assert objects.contents[large.key] == b"made before"


def test_more_than_a_request_can_carry_is_refused_before_anything_is_read() -> None:
    pieces: Any = [((), (ObjectRange("a", number, 6 * 1024**2),)) for number in range(700)]
    with pytest.raises(TooLarge, match="manifest"):
        bodies.multipart_body(MemoryObjects(), pieces, "application/dicom")
    with pytest.raises(TooLarge, match="manifest"):
        zip_archive.body(MemoryObjects(), OPENED, [instance(5 * 1024**3)])


def test_metadata_that_does_not_fit_lies_in_the_bucket_with_its_encoding() -> None:
    objects = MemoryObjects()
    selected = negotiate(representations.METADATA, None)
    array = b"[" + bytes(range(33, 127)) * 60_000 + b"]"
    plain = files.metadata_body(objects, array, selected, gzipped=False)
    assert isinstance(plain, Elsewhere) and objects.contents[plain.key] == array
    assert isinstance(files.metadata_body(objects, array, selected, gzipped=True), Inline)


def test_a_picture_that_does_not_fit_lies_in_the_bucket() -> None:
    objects = MemoryObjects()
    decoder = Decoder(objects, bodies.INLINE + 1)
    picture = instance(10, rows=10, columns=10, pixel_offset=5, pixels=PixelFacts().to_item())
    selected = negotiate(rendering.offers(objects, "san-matteo", picture), "image/png")
    found = rendering.body(objects, decoder, OPENED, [(picture, 1)], rendering.Rendering(), selected)
    assert isinstance(found, Elsewhere) and found.content_type == "image/png"


def test_what_was_decoded_is_not_decoded_again() -> None:
    objects = MemoryObjects()
    decoder = Decoder(objects)
    jobs: Any = [{"op": "frame", "source": "instances/x/y", "frame": number} for number in (1, 2)]
    assert decoding.make(objects, decoder, jobs) == decoding.make(objects, decoder, jobs)
    assert decoder.jobs == 2
    with pytest.raises(NotAcceptable, match="broken"):
        decoding.make(objects, Decoder(objects, reason="undecodable"), [{"op": "frame", "source": "z", "frame": 1}])


def test_one_instance_that_cannot_be_decoded_does_not_withhold_the_others() -> None:
    objects = MemoryObjects()
    objects.contents["instances/san-matteo/" + "a" * 64] = bytes(10)
    two = [
        instance(10, syntax="1.2.840.10008.1.2.4.90"),
        Instance("1.3", "1.5", instance(10, syntax="1.2.840.10008.1.2.4.90").fact),
    ]
    selected = negotiate(
        representations.instances(frozenset({"1.2.840.10008.1.2.4.90"})), "multipart/related; type=application/dicom"
    )
    found = files.body(objects, Decoder(objects, reason="undecodable"), OPENED, two, selected)
    assert isinstance(found, Inline) and found.content.count(b"transfer-syntax=1.2.840.10008.1.2.4.90") == 2


def test_an_encapsulated_cda_is_offered_as_xml_and_what_nobody_can_draw_as_nothing() -> None:
    cda = instance(10, **{"class": "1.2.840.10008.5.1.4.1.1.104.2"})
    assert [offer.media_type for offer in rendering.offers(MemoryObjects(), "san-matteo", cda)] == ["text/xml"]
    with pytest.raises(bodies.NotFound):
        rendering.offers(MemoryObjects(), "san-matteo", instance(10))


def test_a_ct_is_stood_for_by_its_slices_and_not_by_its_scout() -> None:
    def image(series: str, number: int, kind: str) -> Instance:
        data = {"size": 10, "rows": 10, "columns": 10, "pixel_offset": 5, "pixels": PixelFacts().to_item()}
        attributes = packed({"00080008": {"vr": "CS", "Value": kind.split()}})
        return Instance(series, f"{series}.{number}", instance(**data, attributes=attributes).fact)

    scout = [image("1.1", 1, "ORIGINAL PRIMARY LOCALIZER")]
    slices = [image("1.2", number, "ORIGINAL PRIMARY AXIAL") for number in range(3)]
    assert rendering.representative([*scout, *slices]) == slices[1]
    assert rendering.representative(scout) == scout[0]


@pytest.mark.parametrize(("size", "where"), [(4_400_000, Inline), (4_400_001, Elsewhere)])
def test_a_body_of_4_4_mb_is_sent_and_one_byte_more_is_referred_to(size: int, where: type) -> None:
    objects = MemoryObjects()
    objects.contents["a"] = bytes(size)
    assert isinstance(bodies.single_body(objects, [ObjectRange("a", 0, size)], "video/mp4"), where)


class Unread(MemoryObjects):
    """Objects of which none has its bytes here: what is put together of them is noted alone."""

    def assemble(self, key: str, parts: Any, content_type: str) -> None:
        self.contents[key] = b""

    def checksums(self, extracts: Any) -> list[int]:
        return [0] * len(extracts)


def test_4_gib_are_read_for_an_answer_and_not_a_byte_more() -> None:
    mib = 1024**2
    most = [ObjectRange("a", number, 4 * mib) for number in range(1024)]
    assert isinstance(bodies.single_body(Unread(), most, "video/mp4"), Elsewhere)
    assert isinstance(bodies.single_body(Unread(), [ObjectRange("b", 0, 5 * 1024 * mib)], "video/mp4"), Elsewhere), "is copied"
    with pytest.raises(TooLarge, match="manifest"):
        bodies.single_body(Unread(), [*most, ObjectRange("a", 0, 1)], "video/mp4")


def test_a_zip_has_3_75_gib_and_not_a_byte_more() -> None:
    half = 15 * 1024**3 // 8
    assert isinstance(zip_archive.body(Unread(), OPENED, [instance(half), instance(half)]), Elsewhere)
    with pytest.raises(TooLarge, match="manifest"):
        zip_archive.body(Unread(), OPENED, [instance(half), instance(half + 1)])


def drawable(frames: int = 1, rows: int = 10, columns: int = 10) -> Instance:
    return instance(10, rows=rows, columns=columns, pixel_offset=5, pixels=PixelFacts(frames=frames).to_item())


def test_64_pictures_come_in_one_answer() -> None:
    objects = MemoryObjects()
    decoder = Decoder(objects)
    selected = negotiate(rendering.offers(objects, "san-matteo", drawable()), "multipart/related; type=image/png")
    for asked, made in ((64, 64), (65, 64)):
        shown = [(drawable(100), frame) for frame in range(1, asked + 1)]
        found = rendering.body(objects, decoder, OPENED, shown, rendering.Rendering(), selected)
        assert isinstance(found, Inline) and found.content.count(b"Content-Type: image/png") == made


@pytest.mark.parametrize(
    ("drawn", "moves"),
    [
        (drawable(200), True),
        (drawable(201), False),
        (drawable(128, 1024, 1024), True),
        (drawable(128, 1024, 1025), False),
    ],
    ids=["200 frames", "201 frames", "128 M pixels", "more pixels"],
)
def test_an_animation_has_200_frames_and_128_m_pixels(drawn: Instance, moves: bool) -> None:
    offered = {offer.media_type for offer in rendering.offers(MemoryObjects(), "san-matteo", drawn) if not offer.multipart}
    assert ("image/gif" in offered, "image/png" in offered) == (moves, True)


@pytest.mark.parametrize(
    ("asked", "made"), [(None, (128, 128)), (Viewport(1024, 1024), (1024, 1024)), (Viewport(1025, 9), (1024, 9))]
)
def test_a_thumbnail_has_128_pixels_a_side_or_up_to_1024(asked: Viewport | None, made: tuple[int, int]) -> None:
    viewport = rendering.thumbnail(rendering.Rendering(viewport=asked)).viewport
    assert viewport is not None and (viewport.width, viewport.height) == made
