"""Compressed frames by imagecodecs (PS3.5 8.2, A.4): libjpeg-turbo for JPEG baseline, extended and lossless, CharLS for
JPEG-LS, OpenJPEG for JPEG 2000 and HTJ2K.

Each is asked by name and never chosen by what is installed, so that the same bytes give the same pixels everywhere.
"""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np

from chalicelib.dicom import codestream
from chalicelib.dicom.codestream import Codestream
from chalicelib.dicom.pixels import Layout, stream_fault
from pixels.errors import Undecodable

_SCAN, _END = b"\xff\xda", b"\xff\xd9"
"""JPEG's Start of Scan and End of Image, which compressed samples never hold (ISO/IEC 10918-1 B.1.1.2)."""
_OTHER_BYTES = bytes(range(1, 255))


def decode(source: bytes, layout: Layout, family: str) -> tuple[Any, str]:
    """(the cells of one frame: rows, columns and, in colour, samples; what its samples are, a photometric interpretation).

    Raises Undecodable.
    """
    said = codestream.read(source)
    if said is None:
        raise Undecodable("its compressed frame cannot be read")
    if fault := stream_fault(layout, family, said):
        raise Undecodable(fault)
    decoded, photometric = _decoded(source, layout, said)
    decoded = np.ascontiguousarray(decoded)
    shape = (layout.rows, layout.columns, *((layout.samples,) if layout.samples > 1 else ()))
    if decoded.shape != shape or decoded.dtype.kind not in "iu":
        raise Undecodable(f"its compressed frame decodes to {decoded.shape}, the data set says {shape}")
    return cells(decoded, layout, said.precision), photometric


def cells(decoded: Any, layout: Layout, precision: int) -> Any:
    """Decoded samples in the width that is allocated, and with the sign that is declared, which is not always the stream's.

    A stream of more bits than are stored may hold the whole cell, with an overlay or the sign in its upper bits: then it stays as
    it is.
    """
    width = max(1, layout.allocated // 8)
    kind = np.dtype(f"<{'i' if layout.signed else 'u'}{width}")
    whole = precision > layout.stored and bool(np.any(decoded.astype(np.int64) >> layout.stored))
    if whole or layout.high_bit != layout.stored - 1:
        return decoded.astype(np.int64).astype(np.dtype(f"<u{width}")).view(kind)
    wide = decoded.astype(np.int64) & ((1 << layout.stored) - 1)
    if layout.signed:
        half = 1 << (layout.stored - 1)
        wide = (wide ^ half) - half
    return wide.astype(kind)


def _decoded(source: bytes, layout: Layout, said: Codestream) -> tuple[Any, str]:
    if said.family == "jpeg-2000":
        return imagecodecs.jpeg2k_decode(source), _of_jpeg_2000(layout, said)
    if said.family == "jpeg-ls":
        return imagecodecs.jpegls_decode(source), without_transform(layout)
    if layout.samples == 1:
        return _jpeg(source), layout.photometric
    rgb = said.rgb if said.rgb is not None else layout.photometric in ("RGB", "YBR_RCT", "YBR_ICT")
    if said.lossless or rgb:  # the samples as they are: libjpeg converts none in lossless streams
        return _jpeg(source, "RGB"), "RGB" if rgb else "YBR_FULL"
    return _jpeg(source, "YCBCR"), "RGB"


def _jpeg(source: bytes, colorspace: str | None = None) -> Any:
    """The samples of a JPEG that is whole. Raises Undecodable.

    Of a stream that ends too early libjpeg makes up the rest, and tells it by a warning only. What follows the last sample of a
    whole one changes nothing: so it is decoded with other bytes behind it, too.
    """
    outcolorspace = "RGB" if colorspace else None
    found = imagecodecs.jpeg8_decode(source, colorspace=colorspace, outcolorspace=outcolorspace)
    end = source.rfind(_END)
    body = source[:end] if end > source.rfind(_SCAN) else source
    again = imagecodecs.jpeg8_decode(body + _OTHER_BYTES + _END, colorspace=colorspace, outcolorspace=outcolorspace)
    if not np.array_equal(found, again):
        raise Undecodable("its compressed frame ends too early")
    return found


def _of_jpeg_2000(layout: Layout, said: Codestream) -> str:
    """The stream's own transform, which only RGB goes through, was taken back with it (PS3.5 8.2.4)."""
    return "RGB" if said.transformed and layout.samples == 3 else without_transform(layout)


def without_transform(layout: Layout) -> str:
    if layout.photometric in ("YBR_RCT", "YBR_ICT"):
        return "RGB"
    return "YBR_FULL" if layout.photometric == "YBR_FULL_422" else layout.photometric
