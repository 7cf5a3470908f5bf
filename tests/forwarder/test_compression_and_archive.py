"""The forwarder and the archive share no code, and agree on what pixels are: only what can be drawn is compressed, and it is
drawn the same before and after."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from chalicelib.dicom.header import read_head
from chalicelib.dicom.pixels import describe
from forwarder.compression import jpegls
from forwarder.header import read_header
from pixels import render
from tests.unit.pixels.generated import Spec, cells, colour, dataset, grey, opened, packed, replace, written

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
LARGE = {"rows": 96, "columns": 96, "syntax": "1.2.840.10008.1.2.1"}
BASES = (
    Spec(**LARGE),
    Spec(allocated=8, stored=8, high_bit=7, **LARGE),
    Spec(photometric="RGB", allocated=8, stored=8, high_bit=7, frames=2, **LARGE),
    Spec(photometric="YBR_FULL", allocated=8, stored=8, high_bit=7, **LARGE),
)
WRONG: dict[str, tuple[Any, ...]] = {
    "PhotometricInterpretation": ("MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "PALETTE COLOR", "ARGB", ""),
    "NumberOfFrames": (1, 2, 3, 7, "3.0"),
    "BitsStored": (1, 8, 9, 12, 16, 17),
    "HighBit": (0, 7, 11, 15),
    "BitsAllocated": (1, 8, 12, 16, 32),
    "PixelRepresentation": (0, 1, 2),
    "PlanarConfiguration": (0, 1, 2),
    "SamplesPerPixel": (1, 2, 3, 4),
    "Rows": (0, 48, 96, 97),
}


@pytest.mark.parametrize("spec", BASES)
@pytest.mark.parametrize(("keyword", "value"), [(keyword, value) for keyword, values in WRONG.items() for value in values])
def test_what_contradicts_itself_is_not_compressed(spec: Spec, keyword: str, value: Any) -> None:
    made = dataset(spec)
    made.add_new(0x7FE00010, "OW" if spec.allocated > 8 else "OB", packed(spec))
    setattr(made, keyword, value)
    data = written(made, spec.syntax)
    described = describe(read_head(lambda start, length: data[start : start + length], len(data)))
    assert described is not None
    if jpegls.why_not(read_header(data)) is None:
        assert described.facts.picture_fault == "" and described.facts.frames_fault == ""
        assert described.facts.frames == described.declared_frames


@settings(max_examples=15, deadline=None, database=None, derandomize=True)
@given(spec=grey((8, 16)) | colour())
def test_a_compressed_image_is_drawn_as_the_one_that_came(spec: Spec) -> None:
    spec = replace(spec, **LARGE)
    made = dataset(spec)
    ramp = np.sort(cells(spec).ravel()).reshape(cells(spec).shape)  # noise is not worth compressing
    made.add_new(0x7FE00010, "OW" if spec.allocated > 8 else "OB", ramp.tobytes())
    data = written(made, spec.syntax)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source", Path(folder) / "target"
        source.write_bytes(data)
        if jpegls.compress(source, target, hashlib.sha256(data).hexdigest()) is None:
            return
        after = target.read_bytes()
    for index in range(spec.frames):
        assert np.array_equal(render.drawn(opened(data), index), render.drawn(opened(after), index)), spec
