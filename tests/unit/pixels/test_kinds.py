"""The kinds of images that equipment makes, one by one, each with the picture or the frame that it should give."""

from __future__ import annotations

import dataclasses
import io
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from pixels import render, transcode
from pixels.errors import Undecodable, Unrenderable
from tests.unit.dicom.building import element
from tests.unit.pixels.generated import Spec, cells, dataset, opened, packed, replace, written
from tests.unit.pixels.test_against_dcmtk import alike, picture

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
EIGHT = Spec(allocated=8, stored=8, high_bit=7, rows=8, columns=12)
ENCAPSULATED, DEFLATED = "1.2.840.10008.1.2.1.98", "1.2.840.10008.1.2.8.1"
COLOUR = replace(EIGHT, photometric="RGB")
needs_dcmtk = pytest.mark.skipif(shutil.which("dcmj2pnm") is None, reason="DCMTK is not installed")


def made(spec: Spec, pixels: bytes | None = None, syntax: str | None = None, **tags: Any) -> bytes:
    data = dataset(spec)
    data.add_new(0x7FE00010, "OW" if spec.allocated > 8 else "OB", packed(spec) if pixels is None else pixels)
    for keyword, value in tags.items():
        setattr(data, keyword, value)
    return written(data, syntax or spec.syntax)


def fragments(spec: Spec, frames: list[bytes], syntax: str, **tags: Any) -> bytes:
    data = dataset(spec)
    data.add_new(0x7FE00010, "OB", encapsulate(frames))
    data["PixelData"].is_undefined_length = True
    for keyword, value in tags.items():
        setattr(data, keyword, value)
    return written(data, syntax)


def lut(entries: Any, first: int, bits: int, tags: tuple[int, int] = (0x00283002, 0x00283006)) -> Dataset:
    item = Dataset()
    item.add_new(tags[0], "US", [len(entries) & 0xFFFF, first & 0xFFFF, bits])
    item.add_new(tags[1], "OW", np.asarray(entries, "<u2").tobytes())
    return item


def values(spec: Spec) -> Any:
    found = cells(spec)[0, ..., 0].astype(np.int64)
    return np.where(found >= 1 << (spec.stored - 1), found - (1 << spec.stored), found) if spec.signed else found


def stretch(found: Any, drawn: Any = None) -> Any:
    seen = found if drawn is None else found[drawn]
    return np.clip(np.rint((found - seen.min()) / (seen.max() - seen.min()) * 255), 0, 255)


def test_single_bits_go_on_across_bytes_and_frames() -> None:
    spec = Spec(allocated=1, stored=1, high_bit=0, rows=3, columns=5, frames=5)
    bits = np.random.default_rng(3).integers(0, 2, (5, 3, 5), dtype=np.uint8)
    data = dataset(replace(spec, frames=5))
    data.add_new(0x7FE00010, "OB", np.packbits(bits.ravel(), bitorder="little").tobytes())
    read = opened(written(data, ExplicitVRLittleEndian))
    for number in range(5):
        assert np.array_equal(render.drawn(read, number), bits[number] * 255)
        assert np.array_equal(np.unpackbits(np.frombuffer(transcode.frame(read, number), np.uint8), bitorder="little")[:15],
                              bits[number].ravel())  # fmt: skip


@pytest.mark.parametrize("vr", ["OB", "OW"])
def test_single_bits_in_big_endian_order_are_turned_by_words_where_they_are_written_as_words(vr: str) -> None:
    bits = np.random.default_rng(3).integers(0, 2, (5, 3, 5), dtype=np.uint8)
    raw = np.packbits(np.append(bits.ravel(), np.zeros(5, np.uint8)), bitorder="little")
    stored = raw if vr == "OB" else raw.reshape(-1, 2)[:, ::-1]
    data = dataset(Spec(allocated=1, stored=1, high_bit=0, rows=3, columns=5, frames=5))
    data.add_new(0x7FE00010, vr, stored.tobytes())
    read = opened(written(data, ExplicitVRBigEndian))
    assert all(np.array_equal(render.drawn(read, number), bits[number] * 255) for number in range(5))
    if shutil.which("dcmj2pnm"):
        data.Rows, data.Columns, data.NumberOfFrames = 15, 5, 1  # DCMTK reads frames that begin with a byte
        content = written(data, ExplicitVRBigEndian)
        theirs = picture(content, 1, "+Wm")
        assert theirs is not None and alike(render.drawn(opened(content), 0), theirs)


def test_what_is_padding_is_background_and_stretches_nothing() -> None:
    spec = Spec(signed=True, allocated=16, stored=16, high_bit=15)
    found = values(spec).astype(np.int16) // 16
    found[0, :4], found[1, :2] = -2000, -1998
    ours = render.drawn(
        opened(made(spec, found.astype("<i2").tobytes(), PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1998)), 0
    )
    padding = (found >= -2000) & (found <= -1998)
    assert alike(ours, np.where(padding, 0, stretch(found, ~padding)), 1)
    inverted = replace(spec, photometric="MONOCHROME1")
    ours = render.drawn(
        opened(made(inverted, found.astype("<i2").tobytes(), PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1998)), 0
    )
    assert alike(ours, np.where(padding, 0, 255 - stretch(found, ~padding)), 1)


@pytest.mark.parametrize("signed", [False, True])
def test_a_modality_lut_is_looked_up_from_its_first_value_on(signed: bool) -> None:
    spec = Spec(signed=signed, stored=8, high_bit=7, allocated=8)
    entries = (np.arange(200) ** 2 % 4096).astype(np.uint16)
    first = -100 if signed else 20
    data = made(spec, ModalityLUTSequence=Sequence([lut(entries, first, 12)]))
    expected = entries[np.clip(values(spec) - first, 0, 199)].astype(float)
    assert alike(render.drawn(opened(data), 0), stretch(expected), 1)


def test_a_voi_lut_is_drawn_over_its_whole_range_behind_a_rescale() -> None:
    spec = Spec(slope=1, intercept=-1000)
    entries = np.linspace(0, 1023, 2048).astype(np.uint16)
    data = made(spec, VOILUTSequence=Sequence([lut(entries, -500, 10)]))
    assert alike(render.drawn(opened(data), 0), np.rint(entries[np.clip(values(spec) - 500, 0, 2047)] / 1023 * 255), 1)


@pytest.mark.parametrize(
    ("tags", "window"),
    [
        ({"WindowCenter": ["", 700], "WindowWidth": [400, 300]}, (700, 300)),
        ({"WindowCenter": [600, 700], "WindowWidth": [400, 300]}, (600, 400)),
        ({"WindowCenter": 600, "WindowWidth": 0.5}, None),
        ({"WindowCenter": 600, "WindowWidth": 0}, None),
        ({"WindowCenter": 600, "WindowWidth": -5}, None),
        ({"WindowCenter": 600}, None),
        ({"WindowCenter": 600, "WindowWidth": 1}, (600, 1)),
        ({"WindowCenter": 600, "WindowWidth": 400, "RescaleSlope": 0}, None),
        ({"WindowCenter": 600, "WindowWidth": 400, "RescaleSlope": None, "RescaleIntercept": None}, (600, 400)),
        ({"WindowCenter": 600, "WindowWidth": 400, "VOILUTFunction": "linear"}, (600, 400)),
    ],
)
def test_the_first_window_that_is_one_is_used(tags: dict[str, Any], window: tuple[float, float] | None) -> None:
    spec = Spec()
    found = values(spec).astype(float)
    if window is None:
        expected = stretch(found)
    elif window[1] == 1:
        expected = np.where(found > window[0] - 0.5, 255, 0)
    else:
        expected = np.rint(np.clip((found - (window[0] - 0.5)) / (window[1] - 1) + 0.5, 0, 1) * 255)
    assert alike(render.drawn(opened(made(spec, **tags)), 0), expected, 1)


@pytest.mark.parametrize("kind", ["OF", "OD"])
def test_float_pixels_without_numbers_in_some_places(kind: str) -> None:
    width = 4 if kind == "OF" else 8
    found = np.linspace(-3, 5, 48).reshape(6, 8).astype(f"<f{width}")
    found[0, 0], found[1, 1], found[2, 2] = np.nan, np.inf, -np.inf
    data = dataset(Spec())
    for keyword in ("BitsStored", "HighBit", "PixelRepresentation"):
        delattr(data, keyword)
    data.BitsAllocated = 8 * width
    data.add_new(0x7FE00008 if kind == "OF" else 0x7FE00009, kind, found.tobytes())
    ours = render.drawn(opened(written(data, ExplicitVRLittleEndian)), 0)
    finite = np.isfinite(found)
    assert alike(ours[finite], stretch(found[finite].astype(float)), 1)
    assert not ours[~finite].any()


PALETTE = np.stack([np.arange(256), 255 - np.arange(256), np.arange(256) * 3 % 256], 1)


def with_palette(bits: int, *, words: bool, order: str = "<", scale: int = 1, first: int = 0, alpha: bool = False) -> Dataset:
    data = dataset(replace(EIGHT, photometric="PALETTE COLOR"))
    for colour in range(4 if alpha else 3):
        tag = colour if colour < 3 else 3
        entries = PALETTE[:, colour % 3] * scale
        data.add_new(0x00281101 + tag, "US", [256, first, bits])
        raw = entries.astype(f"{order}u2").tobytes() if words else entries.astype(np.uint8).tobytes()
        if not words and order == ">":
            raw = np.frombuffer(raw, ">u2").astype("<u2").tobytes()
        data.add_new(0x00281201 + tag, "OW", raw)
    data.add_new(0x7FE00010, "OB", packed(EIGHT))
    return data


@pytest.mark.parametrize(
    ("bits", "words", "scale"), [(16, True, 257), (16, True, 256), (16, True, 1), (8, True, 1), (8, False, 1), (16, False, 1)]
)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("alpha", [False, True])
def test_palettes_of_every_make(bits: int, words: bool, scale: int, syntax: str, alpha: bool) -> None:
    data = with_palette(bits, words=words, order=">" if syntax == ExplicitVRBigEndian else "<", scale=scale, alpha=alpha)
    ours = render.drawn(opened(written(data, syntax)), 0)
    assert alike(ours, PALETTE[cells(EIGHT)[0, ..., 0]], 1)


def test_a_palette_begins_where_it_says_and_has_65536_entries() -> None:
    spec = Spec(photometric="PALETTE COLOR", allocated=16, stored=16, high_bit=15)
    data = dataset(spec)
    for colour in range(3):
        data.add_new(0x00281101 + colour, "US", [0, 0, 16])
        data.add_new(0x00281201 + colour, "OW", (np.arange(65536) if colour else np.arange(65536)[::-1]).astype("<u2").tobytes())
    data.add_new(0x7FE00010, "OW", packed(spec))
    found = values(spec)
    expected = np.rint(np.stack([65535 - found, found, found], -1) / 257)
    assert alike(render.drawn(opened(written(data, ExplicitVRLittleEndian)), 0), expected, 1)
    with pytest.raises(Exception, match="entries has"):
        data[0x00281201].value = b"\0" * 100
        render.drawn(opened(written(data, ExplicitVRLittleEndian)), 0)


@pytest.mark.parametrize(("vr", "octets"), [("OB", True), ("OW", False)])
def test_a_palette_of_eight_bits_in_big_endian_order(vr: str, octets: bool) -> None:
    spec = replace(EIGHT, photometric="PALETTE COLOR", syntax=ExplicitVRBigEndian)
    data, table = dataset(spec), np.arange(256, dtype=np.uint8)
    for colour in range(3):
        data.add_new(0x00281101 + colour, "US", [256, 0, 8])
        data.add_new(0x00281201 + colour, vr, (table if octets else table.reshape(-1, 2)[:, ::-1]).tobytes())
    data.add_new(0x7FE00010, "OB", packed(spec))
    expected = np.repeat(cells(spec)[0], 3, -1)
    assert np.array_equal(render.drawn(opened(written(data, ExplicitVRBigEndian)), 0), expected)


@pytest.mark.parametrize(
    ("vr", "value"), [("OW", b"\x06\0"), ("LO", b"6 "), ("DS", b"6.0 "), ("UL", b"\x06\0\0\0"), ("??", b"\x06\0")]
)
def test_rows_are_read_whatever_their_vr(vr: str, value: bytes) -> None:
    whole = made(Spec())
    rows = element(0x00280010, "US", b"\x06\0")
    assert whole.count(rows) == 1
    data = whole.replace(rows, element(0x00280010, vr, value))
    assert alike(render.drawn(opened(data), 0), stretch(values(Spec())), 1)


@pytest.mark.parametrize(
    "half", [{"RescaleIntercept": -1024}, {"RescaleSlope": None, "RescaleIntercept": -1024}, {"RescaleSlope": 2}]
)
def test_half_a_rescale_makes_no_window(half: dict[str, Any]) -> None:
    data = made(Spec(), WindowCenter=40, WindowWidth=400, **half)
    assert alike(render.drawn(opened(data), 0), stretch(values(Spec())), 1)


def ycc(rgb: Any) -> Any:
    matrix = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    return np.clip(np.rint(rgb.astype(float) @ matrix.T + [0, 128, 128]), 0, 255).astype(np.uint8)


SMOOTH = np.stack(np.broadcast_arrays(np.arange(12) * 20, (np.arange(8) * 30)[:, None], 90), -1).astype(np.uint8)


@needs_dcmtk
@pytest.mark.parametrize("photometric", ["YBR_FULL_422", "YBR_PARTIAL_422"])
def test_native_pixels_that_share_their_colour(photometric: str) -> None:
    full = ycc(SMOOTH)
    shared = np.concatenate([full[:, 0::2, :1], full[:, 1::2, :1], full[:, 0::2, 1:]], -1).astype(np.uint8)
    data = made(replace(COLOUR, photometric=photometric), shared.tobytes())
    theirs = picture(data, 1)
    assert theirs is not None and alike(render.drawn(opened(data), 0), theirs, 3)


NOISE = np.random.default_rng(5).integers(0, 256, (64, 64), dtype=np.uint8)


def jpeg(array: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, "JPEG", **{"quality": 95, "subsampling": 0, **options})
    return out.getvalue()


def without_marks(stream: bytes) -> bytes:
    """A JPEG without its JFIF segment."""
    assert stream[2:4] == b"\xff\xe0"
    return stream[:2] + stream[4 + int.from_bytes(stream[4:6], "big") :]


def adobe(stream: bytes, transform: int) -> bytes:
    segment = b"\xff\xee" + struct.pack(">H", 14) + b"Adobe" + struct.pack(">HHHB", 100, 0, 0, transform)
    bare = without_marks(stream)
    return bare[:2] + segment + bare[2:]


@pytest.mark.parametrize(
    ("stream", "photometric"),
    [
        (jpeg(SMOOTH), "YBR_FULL_422"),
        (jpeg(SMOOTH), "RGB"),
        (jpeg(SMOOTH, subsampling=2), "RGB"),
        (adobe(jpeg(SMOOTH), 1), "RGB"),
        (without_marks(jpeg(SMOOTH)), "YBR_FULL"),
        (adobe(jpeg(SMOOTH), 1), "YBR_FULL_422"),
    ],
)
def test_what_the_stream_says_of_its_colour_goes_first(stream: bytes, photometric: str) -> None:
    read = opened(fragments(replace(COLOUR, photometric=photometric), [stream], JPEGBaseline8Bit))
    assert alike(render.drawn(read, 0), SMOOTH, 40 if b"\x22\x00" in stream[:400] else 6)


def test_samples_that_the_stream_calls_rgb_are_not_converted() -> None:
    rgb = imagecodecs.jpeg8_encode(SMOOTH, level=95, colorspace="RGB", outcolorspace="RGB")
    for photometric in ("RGB", "YBR_FULL_422", "YBR_FULL"):
        read = opened(fragments(replace(COLOUR, photometric=photometric), [rgb], JPEGBaseline8Bit))
        assert alike(render.drawn(read, 0), SMOOTH, 8), photometric


def jpeg_2000(array: Any) -> bytes:
    """By Pillow, which is another encoder than those that decode here, with the colour transform for three samples."""
    out = io.BytesIO()
    Image.fromarray(array).save(out, "JPEG2000", irreversible=False, no_jp2=True, mct=int(array.ndim == 3))
    return out.getvalue()


COLOUR_SIGNED = replace(COLOUR, signed=True)


@pytest.mark.parametrize(
    "data",
    [
        made(COLOUR_SIGNED, SMOOTH.tobytes()),
        fragments(COLOUR_SIGNED, [jpeg_2000(SMOOTH)], JPEG2000Lossless),
        fragments(COLOUR_SIGNED, [jpeg(SMOOTH)], JPEGBaseline8Bit),
    ],
    ids=["native", "JPEG 2000", "JPEG"],
)
def test_samples_of_colour_have_no_sign_whatever_is_said(data: bytes) -> None:
    assert alike(render.drawn(opened(data), 0), SMOOTH, 6)


@pytest.mark.parametrize("photometric", ["YBR_RCT", "RGB", "YBR_FULL"])
def test_the_transform_of_jpeg_2000_is_undone_once(photometric: str) -> None:
    read = opened(fragments(replace(COLOUR, photometric=photometric), [jpeg_2000(SMOOTH)], JPEG2000Lossless))
    assert np.array_equal(render.drawn(read, 0), SMOOTH)


@pytest.mark.parametrize("stored", [8, 12, 16])
def test_jpeg_2000_decodes_to_what_another_encoder_was_given(stored: int) -> None:
    spec = Spec(rows=32, columns=32, allocated=8 if stored == 8 else 16, stored=stored, high_bit=stored - 1)
    found = cells(spec)[0, ..., 0]
    stream = jpeg_2000(found)
    with Image.open(io.BytesIO(stream)) as other:
        assert np.array_equal(np.array(other), found)  # and decodes to it elsewhere
    assert transcode.frame(opened(fragments(spec, [stream], JPEG2000Lossless)), 0) == found.tobytes()


def ends_early(stream: bytes, part: float, *, marked: bool) -> bytes:
    begin = stream.rfind(b"\xff\xda") + 14
    short = stream[: begin + int((len(stream) - begin) * part)]
    return short + b"\xff\xd9" if marked else short


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.97])
@pytest.mark.parametrize(
    ("stream", "spec"),
    [
        (jpeg(NOISE), EIGHT),
        (jpeg(np.stack([NOISE] * 3, -1), subsampling=2), COLOUR),
        (imagecodecs.jpeg8_encode(NOISE, lossless=True), EIGHT),
        (imagecodecs.jpeg8_encode(NOISE.astype(np.uint16) * 16, lossless=True, bitspersample=12), Spec(rows=64, columns=64)),
    ],
)
def test_what_is_missing_of_a_jpeg_is_not_made_up(stream: bytes, spec: Spec, part: float, marked: bool) -> None:
    spec = replace(spec, rows=64, columns=64)
    whole = render.drawn(opened(fragments(spec, [stream], JPEGBaseline8Bit)), 0)
    without_end = stream.rstrip(b"\0").removesuffix(b"\xff\xd9")
    assert np.array_equal(render.drawn(opened(fragments(spec, [without_end], JPEGBaseline8Bit)), 0), whole)
    short = fragments(spec, [ends_early(stream, part, marked=marked)], JPEGBaseline8Bit)
    with pytest.raises(Undecodable, match="ends too early"):
        render.drawn(opened(short), 0)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55"])
def test_retired_processes_of_jpeg_are_decoded(syntax: str) -> None:
    read = opened(fragments(COLOUR, [jpeg(SMOOTH, progressive=True)], syntax, PhotometricInterpretation="YBR_FULL_422"))
    assert alike(render.drawn(read, 0), SMOOTH, 6)


@pytest.mark.parametrize("frames", [1, 3])
def test_frames_that_begin_where_their_offset_table_should_be(frames: int) -> None:
    made_ = [jpeg(np.full((8, 12), 40 * (number + 1), np.uint8)) for number in range(frames)]
    whole = fragments(replace(EIGHT, frames=frames), made_, JPEGBaseline8Bit)
    table = whole.find(b"\xfe\xff\x00\xe0")
    length = 8 + int.from_bytes(whole[table + 4 : table + 8], "little")
    read = opened(whole[:table] + whole[table + length :])
    for number in range(frames):
        assert abs(int(transcode.frame(read, number)[0]) - 40 * (number + 1)) <= 2


@pytest.mark.parametrize("entries", [[0, 1, 2], [0, 2, 2], [0, 0, 0]], ids=["right", "right of the first", "wrong"])
@pytest.mark.parametrize("declared", [3, 5])
def test_an_offset_table_that_is_right_of_some_frames_only(tmp_path: Path, entries: list[int], declared: int) -> None:
    frames = [jpeg(np.full((8, 12), 40 * (number + 1), np.uint8)) for number in range(3)]
    data = fragments(replace(EIGHT, frames=3), frames, JPEGBaseline8Bit, NumberOfFrames=declared)
    table = data.find(b"\xfe\xff\x00\xe0") + 8
    offsets = struct.unpack("<3L", data[table : table + 12])
    wrong = struct.pack("<3L", *(offsets[entry] + 2 * (entry != number) for number, entry in enumerate(entries)))
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data[:table] + wrong + data[table + 12 :])
    transcode.to_explicit_little_endian(source, target)
    decoded = pydicom.dcmread(target)
    assert decoded.NumberOfFrames == 3
    read = opened(source.read_bytes())
    for number in range(3):
        assert abs(int(transcode.frame(read, number)[0]) - 40 * (number + 1)) <= 2
        assert abs(int(decoded.PixelData[96 * number]) - 40 * (number + 1)) <= 2


def test_an_extended_offset_table_that_is_right_of_the_first_frame_only(tmp_path: Path) -> None:
    frames = [jpeg(np.full((8, 12), 40 * (number + 1), np.uint8)) for number in range(3)]
    padded = [frame + b"\0" * (len(frame) % 2) for frame in frames]
    data = fragments(replace(EIGHT, frames=3), frames, JPEGBaseline8Bit)
    pixels = data.rfind(b"\xe0\x7f\x10\x00OB")
    tables = element(0x7FE00001, "OV", struct.pack("<3Q", 0, 10, 20))
    tables += element(0x7FE00002, "OV", struct.pack("<3Q", *map(len, padded)))
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data[:pixels] + tables + data[pixels:])
    transcode.to_explicit_little_endian(source, target)
    decoded = pydicom.dcmread(target).PixelData
    assert all(abs(int(decoded[96 * number]) - 40 * (number + 1)) <= 2 for number in range(3))


def rle(planes: list[bytes]) -> bytes:
    segments, offsets = b"", []
    for plane in planes:
        offsets.append(64 + len(segments))
        segments += b"".join(bytes([len(part) - 1]) + part for part in (plane[at : at + 128] for at in range(0, len(plane), 128)))
        segments += b"\0" * (len(segments) % 2)
    return struct.pack("<16L", len(planes), *offsets, *[0] * (15 - len(offsets))) + segments


@pytest.mark.parametrize("spec", [EIGHT, Spec(rows=3, columns=3, stored=16, high_bit=15), COLOUR])
def test_rle_by_segments_whose_ends_are_padded(spec: Spec) -> None:
    found = cells(spec)[0]
    big = found.astype(found.dtype.newbyteorder(">")).view(np.uint8).reshape(spec.rows * spec.columns, -1)
    planes = [big[:, plane].tobytes() for plane in range(big.shape[1])]
    read = opened(fragments(spec, [rle(planes)], RLELossless))
    assert transcode.frame(read, 0) == found.tobytes()
    for broken in (rle(planes[:-1] or [b""] * 2), rle(planes)[:70], rle([plane[:-2] for plane in planes])):
        with pytest.raises(Undecodable):
            transcode.frame(opened(fragments(spec, [broken + b"\0" * (len(broken) % 2)], RLELossless)), 0)


def test_encapsulated_uncompressed_and_deflated_frames() -> None:
    spec = replace(EIGHT, rows=3, columns=3, frames=3)
    frames = [cell.tobytes() for cell in cells(spec)]
    read = opened(fragments(spec, frames, ENCAPSULATED))
    assert [transcode.frame(read, number) for number in range(3)] == frames
    squeezed = []
    for frame in frames:
        squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
        squeezed.append(squeeze.compress(frame) + squeeze.flush())
    there = fragments(spec, squeezed, ENCAPSULATED).replace(
        element(0x00020010, "UI", ENCAPSULATED), element(0x00020010, "UI", DEFLATED)
    )
    read = opened(there)
    assert [transcode.frame(read, number) for number in range(3)] == frames


@pytest.mark.parametrize("photometric", ["YBR_FULL", "YBR_FULL_422"])
def test_encapsulated_uncompressed_colour_of_every_pixel(photometric: str) -> None:
    read = opened(fragments(replace(COLOUR, photometric=photometric), [ycc(SMOOTH).tobytes()], ENCAPSULATED))
    assert alike(render.drawn(read, 0), SMOOTH, 3)


@pytest.mark.parametrize(
    "syntax", [ENCAPSULATED, JPEG2000Lossless, RLELossless, "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.70"]
)
def test_partial_range_is_refused_where_nobody_says_how_it_is_compressed(syntax: str) -> None:
    planes = np.moveaxis(SMOOTH, -1, 0)
    stream = {
        ENCAPSULATED: SMOOTH.tobytes(),
        JPEG2000Lossless: jpeg_2000(SMOOTH),
        RLELossless: rle([plane.tobytes() for plane in planes]),
        "1.2.840.10008.1.2.4.80": imagecodecs.jpegls_encode(SMOOTH),
        "1.2.840.10008.1.2.4.70": imagecodecs.jpeg8_encode(SMOOTH, lossless=True, colorspace="RGB", outcolorspace="RGB"),
    }[syntax]
    with pytest.raises(Undecodable, match="YBR_PARTIAL_422"):
        render.drawn(opened(fragments(replace(COLOUR, photometric="YBR_PARTIAL_422"), [stream], syntax)), 0)


def test_pixels_inside_a_deflated_data_set() -> None:
    spec = replace(EIGHT, frames=2)
    read = opened(made(spec, syntax=DeflatedExplicitVRLittleEndian))
    assert [transcode.frame(read, number) for number in range(2)] == [cell.tobytes() for cell in cells(spec)]


def test_an_overlay_in_unused_bits_is_neither_drawn_nor_taken_for_a_value() -> None:
    plain, overlaid = Spec(seed=4), Spec(seed=4, above=True)
    assert np.array_equal(render.drawn(opened(made(plain)), 0), render.drawn(opened(made(overlaid)), 0))


def test_values_of_functional_groups_go_before_those_of_the_data_set() -> None:
    spec = Spec(frames=2)

    def group(center: float, slope: float) -> Dataset:
        window, transformation, item = Dataset(), Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = center, 500
        transformation.RescaleSlope, transformation.RescaleIntercept, transformation.RescaleType = slope, 0, "US"
        item.FrameVOILUTSequence, item.PixelValueTransformationSequence = Sequence([window]), Sequence([transformation])
        return item

    tags = {"PerFrameFunctionalGroupsSequence": Sequence([group(500, 1), group(900, 2)]), "WindowCenter": 1, "WindowWidth": 2}
    read = opened(made(spec, **tags))
    for number, (center, slope) in enumerate(((500, 1), (900, 2))):
        found = cells(spec)[number, ..., 0] * float(slope)
        expected = np.rint(np.clip((found - (center - 0.5)) / 499 + 0.5, 0, 1) * 255)
        assert alike(render.drawn(read, number), expected, 1)


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME1", "IDENTITY", True),
        ("MONOCHROME2", "IDENTITY", False),
    ],
)
def test_black_and_white_change_places_once(photometric: str, shape: str, inverted: bool) -> None:
    spec = Spec(photometric=photometric)
    expected = stretch(values(spec))
    ours = render.drawn(opened(made(spec, PresentationLUTShape=shape)), 0)
    assert alike(ours, 255 - expected if inverted else expected, 1)


def test_128_m_pixels_are_drawn_and_200_frames_as_one_and_not_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (render.MOST_PIXELS, render.MOST_FRAMES) == (128 * 1024 * 1024, 200)
    spec = Spec(frames=3)
    read, size = opened(made(spec)), (spec.columns, spec.rows)
    whole = render.RenderJob("image/gif", None, 90, (0, 0, *size), size, (False, False), None, ())
    still = dataclasses.replace(whole, media_type="image/png", frame=1)
    area = spec.rows * spec.columns
    for wanted, pixels, frames, refused in (
        (still, area, 1, False), (still, area - 1, 9, True), (whole, 3 * area, 3, False), (whole, 3 * area - 1, 3, True),
        (whole, 3 * area, 2, True),
    ):  # fmt: skip
        monkeypatch.setattr(render, "MOST_PIXELS", pixels)
        monkeypatch.setattr(render, "MOST_FRAMES", frames)
        if refused:
            with pytest.raises(Unrenderable, match="too many"):
                render.render(read, wanted)
        else:
            assert render.render(read, wanted)
