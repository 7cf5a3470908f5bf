"""Every picture against DCMTK's `dcmj2pnm`, and every decoded frame against its decoders, on generated images.

Where they differ by more than rounding, it is said here why: a class of images is either drawn alike or explained.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import assume, given, settings
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian

from pixels import render, transcode
from tests.unit.pixels.generated import Spec, cells, colour, file_of, grey, opened

pytestmark = [
    pytest.mark.skipif(shutil.which("dcmj2pnm") is None, reason="DCMTK is not installed"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
ROUNDING = 2
"""Grey levels: DCMTK cuts where we round."""
FEW = settings(max_examples=50, deadline=None, database=None, derandomize=True)


def dcmtk(program: str, options: list[str], data: bytes, answer: str) -> bytes | None:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.dcm", Path(folder) / answer
        source.write_bytes(data)
        done = subprocess.run([program, *options, str(source), str(target)], capture_output=True, text=True, check=False)
        return target.read_bytes() if done.returncode == 0 and target.exists() else None


def picture(data: bytes, frame: int, *options: str) -> Any:
    found = dcmtk("dcmj2pnm", ["+F", str(frame), *options, "+on"], data, "picture.png")
    return None if found is None else np.array(Image.open(io.BytesIO(found)))


def alike(ours: Any, theirs: Any, tolerance: int = ROUNDING) -> bool:
    return ours.shape == theirs.shape and int(np.abs(ours.astype(int) - theirs.astype(int)).max()) <= tolerance


@FEW
@given(grey((8, 16)))
def test_grey_is_drawn_as_dcmtk_draws_it(spec: Spec) -> None:
    assume(spec.window is None or spec.window[2] != "LINEAR_EXACT")  # DCMTK 3.6.7 draws it as LINEAR
    assume(spec.slope != 0.5)  # DCMTK keeps the output of a rescale as whole numbers
    data = file_of(spec)
    theirs = picture(data, spec.frames, *(["+Wi", "1"] if spec.window else ["+Wm"]))
    assert theirs is not None
    ours = render.drawn(opened(data), spec.frames - 1)
    assert alike(ours, theirs), (spec, ours, theirs)


@FEW
@given(colour())
def test_colour_is_drawn_as_dcmtk_draws_it(spec: Spec) -> None:
    data = file_of(spec)
    theirs = picture(data, spec.frames)
    assert theirs is not None
    assert alike(render.drawn(opened(data), spec.frames - 1), theirs), spec


ENCODERS = {
    "JPEG lossless": ("dcmcjpeg", ["+e1"], "dcmdjpeg"),
    "JPEG lossless, any predictor": ("dcmcjpeg", ["+el"], "dcmdjpeg"),
    "JPEG-LS": ("dcmcjpls", ["+el"], "dcmdjpls"),
    "RLE": ("dcmcrle", [], "dcmdrle"),
}


@pytest.mark.parametrize("encoder", ENCODERS)
@settings(max_examples=10, deadline=None, database=None, derandomize=True)
@given(spec=grey((8, 16)) | colour())
def test_lossless_frames_decode_to_what_was_encoded(encoder: str, spec: Spec) -> None:
    program, options, decoder = ENCODERS[encoder]
    spec = replace(spec, syntax=ExplicitVRLittleEndian, above=False, high_bit=spec.stored - 1, slope=None)
    spec = replace(spec, planar=0)  # DCMTK's encoder takes planes of several frames for those of one
    assume(not (spec.samples == 3 and spec.allocated == 16 and encoder.startswith("JPEG lossless")))
    encoded = dcmtk(program, options, file_of(spec), "encoded.dcm")
    assume(encoded is not None)
    assert encoded is not None
    theirs = dcmtk(decoder, ["+cn"] if decoder == "dcmdjpeg" else [], encoded, "decoded.dcm")
    assume(theirs is not None)
    assert theirs is not None
    read = opened(encoded)
    other = pydicom.dcmread(io.BytesIO(theirs))
    size = len(cells(spec).tobytes()) // spec.frames
    for index in range(spec.frames):
        ours = np.frombuffer(transcode.frame(read, index), np.uint8)
        expected = cells(spec)[index]
        if spec.signed and spec.stored < spec.allocated and encoder != "RLE":  # ours have the sign in every bit above
            kind = np.dtype(f"<i{spec.allocated // 8}")
            expected = (expected.astype(np.int64) ^ (1 << (spec.stored - 1))) - (1 << (spec.stored - 1))
            expected = expected.astype(kind)
        assert ours.tobytes() == expected.tobytes(), spec
        if spec.samples == 1 and not spec.signed:
            assert other.PixelData[index * size : (index + 1) * size] == expected.tobytes()
    theirs_drawn = picture(encoded, 1, *(["+Wm"] if spec.samples == 1 else []))
    if theirs_drawn is not None and spec.window is None:
        assert alike(render.drawn(read, 0), theirs_drawn), spec
