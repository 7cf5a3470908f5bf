"""Compressed frames by imagecodecs, as a plugin of pydicom's decoders (PS3.5 8.2, A.4).

JPEG baseline, extended and lossless by libjpeg-turbo, JPEG-LS by CharLS, JPEG 2000 and HTJ2K by OpenJPEG. RLE is pydicom's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
from pydicom.pixels import get_decoder
from pydicom.uid import UID

_JPEG = ("50", "51", "57", "70")
_JPEG_LS = ("80", "81")
_JPEG_2000 = ("90", "91", "201", "202", "203")
_PREFIX = "1.2.840.10008.1.2.4."
SYNTAXES = tuple(_PREFIX + end for end in (*_JPEG, *_JPEG_LS, *_JPEG_2000))
LABEL = "imagecodecs"

DECODER_DEPENDENCIES = {UID(uid): ("numpy", "imagecodecs") for uid in SYNTAXES}


class Undecodable(ValueError):
    """The frame is not what the data set says of it."""


def register() -> None:
    """Make pydicom decode with imagecodecs, whatever else is installed."""
    for uid in SYNTAXES:
        decoder = get_decoder(UID(uid))
        if LABEL not in decoder.available_plugins:
            decoder.add_plugin(LABEL, (__name__, "decode_frame"))


def is_available(uid: str) -> bool:
    """What pydicom asks a plugin."""
    return uid in SYNTAXES


def decode_frame(source: bytes, runner: Any) -> bytes:
    """One frame in little endian, samples of a pixel together. Raises Undecodable."""
    decoded = np.ascontiguousarray(_decoder(str(runner.transfer_syntax))(source, runner))
    samples = int(runner.samples_per_pixel)
    shape = (int(runner.rows), int(runner.columns)) + ((samples,) if samples > 1 else ())
    if decoded.shape != shape:
        raise Undecodable(f"a frame of {decoded.shape} where {shape} is declared")
    if samples > 1:
        runner.set_option("planar_configuration", 0)
    width = (int(runner.bits_allocated) + 7) // 8
    if decoded.dtype.kind not in "iu" or width not in (1, 2, 4):
        raise Undecodable(f"{decoded.dtype} where {runner.bits_allocated} bits are declared")
    return bytes(_fitted(decoded, width, int(runner.bits_stored), bool(runner.pixel_representation)).tobytes())


def _fitted(decoded: Any, width: int, stored: int, signed: bool) -> Any:
    """In the declared width, and with the declared sign, which is not always that of the compressed stream."""
    wide = decoded.astype(np.int64) & ((1 << stored) - 1)
    if signed:
        half = 1 << (stored - 1)
        wide = (wide ^ half) - half
    return wide.astype(np.dtype(f"<{'i' if signed else 'u'}{width}"))


def _decoder(syntax: str) -> Callable[[bytes, Any], Any]:
    end = syntax.removeprefix(_PREFIX)
    if end in _JPEG:
        return _jpeg
    return _jpeg_ls if end in _JPEG_LS else _jpeg_2000


def _jpeg(source: bytes, runner: Any) -> Any:
    if int(runner.samples_per_pixel) != 3:
        return imagecodecs.jpeg8_decode(source)
    if str(runner.photometric_interpretation) == "RGB":
        return imagecodecs.jpeg8_decode(source, colorspace="RGB", outcolorspace="RGB")
    runner.set_option("photometric_interpretation", "RGB")
    return imagecodecs.jpeg8_decode(source, colorspace="YCBCR", outcolorspace="RGB")


def _jpeg_ls(source: bytes, runner: Any) -> Any:
    del runner
    return imagecodecs.jpegls_decode(source)


def _jpeg_2000(source: bytes, runner: Any) -> Any:
    decoded = imagecodecs.jpeg2k_decode(source)
    if str(runner.photometric_interpretation) in ("YBR_RCT", "YBR_ICT"):
        runner.set_option("photometric_interpretation", "RGB")  # the stream's own transform was undone with it
    return decoded
