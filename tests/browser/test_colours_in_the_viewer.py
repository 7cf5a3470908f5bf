"""Colours and greys in the ways in which equipment and gateways store them, of which stock OHIF would draw many wrongly: each is
drawn as it was before it was stored, or words say that it is not drawn."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from tests.browser import hospital
from tests.browser.conftest import Open
from tests.browser.hospital import Patient
from tests.browser.test_mended import _PLACE, VIEWPORTS, in_ohif, picture
from tests.harness import RunningCity, wait_until
from tests.unit.pixels.test_kinds import adobe, jpeg, rle, without_marks, ycc

pytestmark = pytest.mark.usefixtures("browser", "ohif")
ROWS, COLUMNS = 192, 256


class Kind(NamedTuple):
    """An image, and what it has to look like (rows × columns × RGB, or grey); None for one that is not to be drawn."""

    data: Dataset
    seen: Any


def scene() -> Any:
    """Colours that run into each other, and squares of the pure ones."""
    y, x = np.mgrid[0:ROWS, 0:COLUMNS].astype(float)
    u, v = x / (COLUMNS - 1), y / (ROWS - 1)
    made = np.stack([230 * u, 230 * v, 200 * (1 - u) * (1 - v) + 20], -1)
    for left, top, colour in (
        (0.22, 0.22, (255, 0, 0)),
        (0.42, 0.22, (0, 255, 0)),
        (0.62, 0.22, (0, 0, 255)),
        (0.42, 0.5, (255,) * 3),
    ):
        made[(u >= left) & (u < left + 0.16) & (v >= top) & (v < top + 0.2)] = colour
    return np.rint(made).astype(np.uint8)


SCENE = scene()
YBR = ycc(SCENE)
GREY = np.rint(np.add.outer(np.arange(ROWS) * 8.0, np.arange(COLUMNS) * 10.0)).astype(int)  # 0 to 4078
SHOWN = np.rint(GREY / 4095 * 255).astype(np.uint8)
DIRT = (np.add.outer(np.arange(ROWS) // 16, np.arange(COLUMNS) // 16) % 16) << 12
INDEX = (np.add.outer(np.arange(ROWS), np.arange(COLUMNS)) * 255 // (ROWS + COLUMNS - 2)).astype(np.uint8)
GREENS = np.stack([np.zeros(256), np.arange(256), np.arange(256) // 2], -1).astype(int)
WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}


def image(
    photometric: str, pixels: bytes = b"", syntax: str = ExplicitVRLittleEndian, stream: bytes = b"", **said: Any
) -> Dataset:
    data = Dataset()
    data.SOPClassUID, data.Modality, data.Rows, data.Columns = SecondaryCaptureImageStorage, "OT", ROWS, COLUMNS
    data.PhotometricInterpretation, data.SamplesPerPixel = photometric, 3 if photometric[:3] in ("RGB", "YBR") else 1
    if data.SamplesPerPixel == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = 8
    data.PixelRepresentation = 0
    for keyword, value in said.items():
        setattr(data, keyword, value)
    if "HighBit" not in data:
        data.HighBit = data.BitsStored - 1
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID, data.file_meta.MediaStorageSOPClassUID = syntax, data.SOPClassUID
    data.add_new(0x7FE00010, "OB" if stream or data.BitsAllocated == 8 else "OW", encapsulate([stream]) if stream else pixels)
    data["PixelData"].is_undefined_length = bool(stream)
    return data


def planes(samples: Any) -> bytes:
    return bytes(np.moveaxis(samples, -1, 0).tobytes())


def segments(samples: Any) -> bytes:
    return rle([np.ascontiguousarray(samples[..., index]).tobytes() for index in range(3)])


def without_transform(samples: Any) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(samples, level=0, codecformat="j2k", mct=False, reversible=True))


def renamed(stream: bytes, names: bytes) -> bytes:
    """A JPEG of three samples without a word on what they are but the names of its components."""
    bare, at = stream[:2], 2
    while True:
        marker, length = stream[at + 1], 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        part = bytearray(stream[at : at + length])
        first, each = (10, 3) if 0xC0 <= marker <= 0xC3 else (5, 2)
        if 0xC0 <= marker <= 0xC3 or marker == 0xDA:
            part[first : first + 3 * each : each] = names
        if marker not in (0xE0, 0xEE):
            bare += part
        at += length
        if marker == 0xDA:
            return bare + stream[at:]


def turned(stream: bytes, first: int = 8) -> bytes:
    """A JPEG whose Exif says that it lies on its side; where it says it, unless `first` leads elsewhere."""
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", first, 1, 0x0112, 3, 1, 6, 0, 0)
    return stream[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + stream[2:]


def palette(entries: Any, **more: Any) -> Dataset:
    data = image("PALETTE COLOR", INDEX.tobytes(), **more)
    for index in range(3):
        data.add_new(0x00281101 + index, "US", [256, 0, 16])
        data.add_new(0x00281201 + index, "OW", entries[:, index].astype("<u2").tobytes())
    return data


def grey(values: Any, stream: bytes = b"", syntax: str = ExplicitVRLittleEndian, **more: Any) -> Dataset:
    said = {"BitsAllocated": 16, "BitsStored": 12, **more}
    return image("MONOCHROME2", np.asarray(values).astype("<u2").tobytes(), syntax, stream, **said)


def kinds() -> Iterator[tuple[str, Kind]]:
    as_rgb = imagecodecs.jpeg8_encode(SCENE, level=95, colorspace="RGB", outcolorspace="RGB")
    lossless = imagecodecs.jpeg8_encode(YBR, lossless=True, predictor=1, colorspace="RGB", outcolorspace="RGB")
    shared = np.concatenate([YBR[:, 0::2, :1], YBR[:, 1::2, :1], YBR[:, 0::2, 1:]], -1)
    deep = {"BitsAllocated": 16, "BitsStored": 16}
    j2k, jll, jls = JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless
    yield "planes", Kind(image("RGB", planes(SCENE), PlanarConfiguration=1), SCENE)
    yield "planes of 16 bits", Kind(image("RGB", planes(SCENE.astype("<u2") * 257), PlanarConfiguration=1, **deep), SCENE)
    yield "a sign that colour cannot have", Kind(image("RGB", SCENE.tobytes(), PixelRepresentation=1), SCENE)
    yield "a rescale that colour cannot have", Kind(image("RGB", SCENE.tobytes(), RescaleSlope=2, RescaleIntercept=-100), SCENE)
    yield "shared colour", Kind(image("YBR_FULL_422", shared.tobytes()), SCENE)
    yield "shared colour that is not", Kind(image("YBR_FULL_422", YBR.tobytes()), SCENE)
    yield "YBR by RLE", Kind(image("YBR_FULL", syntax=RLELossless, stream=segments(YBR)), SCENE)
    yield (
        "RGB by JPEG-LS, said to be planes",
        Kind(image("RGB", syntax=jls, stream=imagecodecs.jpegls_encode(SCENE), PlanarConfiguration=1), SCENE),
    )
    yield "YBR by JPEG 2000 without its transform", Kind(image("YBR_FULL", syntax=j2k, stream=without_transform(YBR)), SCENE)
    yield "YBR by lossless JPEG", Kind(image("YBR_FULL", syntax=jll, stream=renamed(lossless, b"\1\2\3")), SCENE)
    yield "JFIF, said to be RGB", Kind(image("RGB", syntax=JPEGBaseline8Bit, stream=jpeg(SCENE)), SCENE)
    yield "RGB by name, said to be YBR", Kind(image("YBR_FULL_422", syntax=JPEGBaseline8Bit, stream=as_rgb), SCENE)
    yield "RGB without a word", Kind(image("RGB", syntax=JPEGBaseline8Bit, stream=renamed(as_rgb, b"\1\2\3")), None)
    yield "YBR by Adobe's mark", Kind(image("RGB", syntax=JPEGExtended12Bit, stream=adobe(jpeg(SCENE), 1)), SCENE)
    yield "YBR without a word", Kind(image("YBR_FULL", syntax=JPEGBaseline8Bit, stream=without_marks(jpeg(SCENE))), SCENE)
    yield "on its side by Exif", Kind(image("YBR_FULL", syntax=JPEGBaseline8Bit, stream=turned(jpeg(SCENE))), None)
    nowhere = turned(jpeg(SCENE), 0xFFFF0000)
    yield "an Exif that leads nowhere", Kind(image("RGB", syntax=JPEGExtended12Bit, stream=nowhere), SCENE)
    yield "a palette without red", Kind(palette(GREENS * 257), GREENS[INDEX].astype(np.uint8))
    yield "a dark palette", Kind(palette(GREENS * 60), (GREENS[INDEX] * 60 / 257).astype(np.uint8))
    yield "bits above", Kind(grey(GREY | DIRT, **WINDOW), SHOWN)
    yield "bits above, without a window", Kind(grey(GREY | DIRT), SHOWN)
    yield "bits at the top", Kind(grey(GREY << 4, HighBit=15, **WINDOW), SHOWN)
    yield "a falling slope", Kind(grey(4095 - GREY, RescaleSlope=-10, RescaleIntercept=3000), SHOWN)
    small = np.rint(np.clip((GREY / 1000 - 1.5) / 4 + 0.5, 0, 1) * 255).astype(np.uint8)
    yield "a small slope", Kind(grey(GREY, RescaleSlope=0.001, RescaleIntercept=0, WindowCenter=2, WindowWidth=5), small)
    eight = (GREY >> 4).astype(np.uint8)
    signed = imagecodecs.jpeg8_encode(eight ^ 128, lossless=True, predictor=1)
    more = {"BitsAllocated": 8, "BitsStored": 8, "PixelRepresentation": 1, "WindowCenter": 0, "WindowWidth": 256}
    yield "a sign by lossless JPEG of 8 bits", Kind(grey(eight, signed, jll, **more), None)


def sent(city: RunningCity, patient: Patient, made: dict[str, Kind]) -> str:
    """All in an exam, a series each; its Study Instance UID."""
    study, files = generate_uid(), []
    for number, (name, (data, _)) in enumerate(made.items(), 1):
        data.SpecificCharacterSet, data.PatientName, data.PatientID = "ISO_IR 192", patient.name, patient.at["maugeri"]
        data.PatientBirthDate, data.PatientSex = "19510314", "F"
        data.StudyDate, data.StudyTime, data.StudyDescription, data.StudyInstanceUID = "20261129", "090000", "COLORI", study
        data.SeriesInstanceUID, data.SOPInstanceUID = generate_uid(), generate_uid()
        data.SeriesDescription, data.SeriesNumber, data.InstanceNumber = name, number, 1
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        content = io.BytesIO()
        data.save_as(content, enforce_file_format=True)
        files.append((content.getvalue(), str(study)))
    hospital.send_files(city.client("maugeri"), files)
    hospital.wait_for_studies(city, patient, 1)
    return str(study)


_SHOW = """uid => {
  const { displaySetService, viewportGridService } = window.services;
  const found = displaySetService.getActiveDisplaySets().find(set => set.SeriesInstanceUID === uid);
  if (!found) return false;
  const shown = { viewportId: 'contenitore-current', displaySetInstanceUIDs: [found.displaySetInstanceUID] };
  viewportGridService.setDisplaySetsForViewports([shown]);
  return true;
}"""
_SHOWN = """sop => {
  const viewport = cornerstone.getRenderingEngines().map(engine => engine.getViewport('contenitore-current')).find(Boolean);
  const id = viewport?.getImageIds?.()[0];
  return Boolean(id) && cornerstone.metaData.get('instance', id)?.SOPInstanceUID === sop;
}"""


def off(page: Page, seen: Any) -> float:
    """By how much of 255 an image in the viewer differs from what it has to look like, on the whole."""
    place = page.frames[-1].evaluate(_PLACE, VIEWPORTS[0])
    if place is None:
        return 255.0
    canvas = page.frame_locator(".viewer iframe").locator(f'[data-viewportid="{VIEWPORTS[0]}"] canvas').first
    drawn = picture(canvas).crop(tuple(map(round, place)))
    if min(drawn.size) < 32:
        return 255.0
    first, second = (
        np.asarray(each.convert("RGB").resize((32, 32), Image.Resampling.BOX), float)[2:-2, 2:-2]
        for each in (drawn, Image.fromarray(seen))
    )
    return float(np.abs(first - second).mean())


def test_each_is_drawn_as_it_was_before_it_was_stored_or_is_said_not_to_be(open_page: Open, city: RunningCity) -> None:
    made, patient = dict(kinds()), Patient()
    study = sent(city, patient, made)
    page, _ = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]}, current_study=study)["url"]))
    expect(page.locator(".pane.left .film img")).to_be_visible()
    frame = in_ohif(page)
    words = frame.locator(f'[data-viewportid="{VIEWPORTS[0]}"] .contenitore-words')
    wrong = {}
    for name, (data, seen) in made.items():
        wait_until(lambda data=data: page.frames[-1].evaluate(_SHOW, str(data.SeriesInstanceUID)))
        wait_until(lambda data=data: page.frames[-1].evaluate(_SHOWN, str(data.SOPInstanceUID)))
        try:
            if seen is None:
                expect(words).to_contain_text("non si può mostrare", timeout=8000)
            else:
                wait_until(lambda seen=seen: words.count() == 0 and off(page, seen) < 4, 8)
        except AssertionError:
            wrong[name] = words.inner_text() if words.count() else off(page, seen) if seen is not None else "drawn"
    assert wrong == {}
