"""Stored values and rescaled ones against pydicom, on generated images and on its own real ones."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from pydicom.data import get_testdata_file
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array

from chalicelib.domain.rejections import Rejected
from pixels import decode, render
from pixels.errors import Undecodable
from pixels.grey import stored_values
from tests.unit.dicom.building import real_files
from tests.unit.pixels.generated import Spec, colour, file_of, grey, opened, replace

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
FEW = settings(max_examples=80, deadline=None, database=None, derandomize=True)


@FEW
@given(grey())
def test_stored_values_are_those_of_pydicom(spec: Spec) -> None:
    spec = replace(spec, above=False, high_bit=spec.stored - 1)  # pydicom does not look at High Bit
    read = opened(file_of(spec))
    ours = stored_values(decode.cells(read, spec.frames - 1)[0], read.described.layout)
    theirs = pixel_array(pydicom.dcmread(io.BytesIO(file_of(spec))), index=spec.frames - 1).astype(np.int64)
    if spec.signed:  # and it does not extend the sign
        half = 1 << (spec.stored - 1)
        theirs = ((theirs & ((1 << spec.stored) - 1)) ^ half) - half
    assert np.array_equal(ours, theirs)


@FEW
@given(grey())
def test_windows_are_those_of_pydicom(spec: Spec) -> None:
    spec = replace(spec, above=False, high_bit=spec.stored - 1, signed=False, photometric="MONOCHROME2", frames=1)
    if spec.window is None:
        return
    made = pydicom.dcmread(io.BytesIO(file_of(spec)))
    shown = apply_voi_lut(apply_modality_lut(pixel_array(made), made), made, index=0).astype(float)
    low = spec.intercept or 0.0  # pydicom spreads a window over what the modality may give
    span = ((1 << spec.stored) - 1) * (spec.slope or 1)
    expected = np.clip((shown - low) / span * 255, 0, 255)
    ours = render.drawn(opened(file_of(spec)), 0)
    assert np.abs(ours - expected).max() <= 1.5, (spec, ours, expected)


@FEW
@given(colour())
def test_colour_is_that_of_pydicom(spec: Spec) -> None:
    read = opened(file_of(spec))
    theirs = pixel_array(pydicom.dcmread(io.BytesIO(file_of(spec))), index=spec.frames - 1, raw=True)
    assert np.array_equal(decode.cells(read, spec.frames - 1)[0], theirs)


OTHERWISE = {
    # the stream's own colour is undone with it, where pydicom without libjpeg's transform leaves YBR
    "color3d_jpeg_baseline.dcm",
    "examples_ybr_color.dcm",
    "SC_rgb_dcmtk_+eb+cy+n1.dcm",
    "SC_rgb_dcmtk_+eb+cy+n2.dcm",
    "SC_rgb_dcmtk_+eb+cy+np.dcm",
    "SC_rgb_dcmtk_+eb+cy+s2.dcm",
    "SC_rgb_dcmtk_+eb+cy+s4.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_jpeg_lossy_gdcm.dcm",
    "SC_rgb_small_odd_jpeg.dcm",
}
BROKEN = {"JPEG2000-embedded-sequence-delimiter.dcm"}


IMAGES = sorted(name for name in real_files() if "palettes/" not in name and "charset" not in name)


def test_most_of_what_pydicom_brings_is_opened() -> None:
    """Else the next would find nothing to compare."""
    assert sum(is_opened(real_files()[name].read_bytes()) for name in IMAGES) >= 150


def is_opened(data: bytes) -> bool:
    try:
        opened(data)
    except (Rejected, Undecodable):
        return False
    return True


@pytest.mark.parametrize("name", IMAGES)
def test_real_images_hold_what_pydicom_reads(name: str) -> None:
    data = real_files()[name].read_bytes()
    if not is_opened(data):
        return
    read = opened(data)
    if name.rpartition("/")[2] in BROKEN:
        with pytest.raises(Undecodable):
            decode.cells(read, 0)
        return
    ours = decode.cells(read, 0)[0]
    assert render.drawn(read, 0).dtype == np.uint8
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = pydicom.dcmread(io.BytesIO(data), force=True)
            made.file_meta.TransferSyntaxUID = read.head.transfer_syntax_uid
            theirs = pixel_array(made, index=0, raw=True)
            theirs = theirs.astype(theirs.dtype.newbyteorder("<"))
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        pytest.skip(f"pydicom does not decode it: {type(error).__name__}")  # a codec that it finds nobody for
    if name.rpartition("/")[2] not in OTHERWISE:
        layout = read.described.layout
        if ours.dtype.kind in "iu" and theirs.dtype.kind in "iu" and theirs.dtype.itemsize == ours.dtype.itemsize:
            ours, theirs = (stored_values(pixels, layout) for pixels in (ours, theirs))
        assert np.array_equal(ours, theirs), name


def test_a_segmented_palette_is_laid_out_as_pydicom_does() -> None:
    source = get_testdata_file("gdcm-US-ALOKA-16.dcm", read=False, download=False)
    if source is None:
        pytest.skip("not in this version of pydicom's data")
    data = Path(str(source)).read_bytes()
    made = pydicom.dcmread(io.BytesIO(data))
    theirs: Any = apply_color_lut(made.pixel_array, made)
    ours = render.drawn(opened(data), 0)
    assert np.abs(ours.astype(int) - np.rint(theirs / 257)).max() <= 1
