"""Lossless compression of one file: JPEG-LS (ISO/IEC 14495-1), each frame decoded again and compared before it counts.

What changes: the transfer syntax and the length of the file meta, and the Pixel Data element. Every other byte of the
file is copied as it is. What cannot be done so, exactly, is left alone: the reasons are in `why_not`.

It runs in a process of its own (`forwarder.compression.pool`): a codec is C++ that reads what strangers sent.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from forwarder.header import EXPLICIT_LE, Header, head_of

JPEG_LS_LOSSLESS = "1.2.840.10008.1.2.4.80"
WORTH_IT = 0.95  # of the original's size; above it the original is sent
SMALLEST = 8 * 1024  # bytes of pixel data below which it is not worth the trouble
LARGEST_FRAME = 256 * 1024 * 1024
ITEM, SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
COLOURS = {"MONOCHROME1": 1, "MONOCHROME2": 1, "PALETTE COLOR": 1, "RGB": 3, "YBR_FULL": 3}  # samples a pixel


class NotIdenticalError(Exception):
    """The compressed file did not decode to the same pixels, or another byte differs, or the original is no longer what
    it was. It must not be sent."""


class NotCompressibleError(Exception):
    """These pixels are not compressed, since decoders would not agree on them."""


@dataclass(frozen=True, slots=True)
class Compressed:
    """The compressed file: SHA-256 (hex) and size in bytes."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Pixels:
    """The layout of native pixel data. PS3.5 8.1.1. `value_at` and `length` are in bytes of the file."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    frames: int
    value_at: int
    length: int

    @property
    def frame_bytes(self) -> int:
        return self.rows * self.columns * self.samples * self.bits_allocated // 8

    def precision(self, frame: bytes) -> int:
        """The bits per sample for the code stream. Raises NotCompressibleError for what decoders would not agree on.

        Unsigned samples take the bits stored (in two bytes all, where that would be one). Signed ones
        take all that are allocated, with the sign extended through them. Anything else above the stored
        bits (an old overlay, a sign that is not extended) stays uncompressed.
        """
        if self.bits_stored == self.bits_allocated:
            return self.bits_allocated
        import numpy as np

        wide = self.bits_allocated == 16
        if self.signed:
            signed = np.frombuffer(frame, dtype="<i2" if wide else "i1")
            half = 1 << (self.bits_stored - 1)
            if int(signed.min()) < -half or int(signed.max()) >= half:
                raise NotCompressibleError
            return self.bits_allocated
        if int(np.frombuffer(frame, dtype="<u2" if wide else "u1").max()) >= 1 << self.bits_stored:
            raise NotCompressibleError
        return self.bits_stored if self.bits_stored > 8 or not wide else self.bits_allocated


def why_not(header: Header | None) -> str | None:
    """Why a file is not compressed, or None if it can be."""
    if header is None or header.transfer_syntax_uid != EXPLICIT_LE:
        return "transfer syntax"  # from implicit VR every element would have to be written anew
    element = header.pixel_data
    if element is None or element.vr not in (b"OW", b"OB") or element.length < SMALLEST:
        return "no native pixel data worth compressing"
    samples = COLOURS.get(header.text((0x0028, 0x0004)) or "")
    if samples is None:
        return "photometric interpretation"
    pixels = layout(header)
    if pixels is None or pixels.samples != samples:
        return "image attributes"
    expected = pixels.frame_bytes * pixels.frames
    if not 0 <= element.length - expected <= expected % 2 or pixels.frame_bytes > LARGEST_FRAME:
        return "length of the pixel data"
    return None


def layout(header: Header) -> Pixels | None:
    """The pixel layout of a header, or None if it is not one that JPEG-LS takes as it is."""
    element = header.pixel_data
    rows, columns = header.number((0x0028, 0x0010)), header.number((0x0028, 0x0011))
    samples = header.number((0x0028, 0x0002))
    allocated, stored = header.number((0x0028, 0x0100)), header.number((0x0028, 0x0101))
    high_bit, signed = header.number((0x0028, 0x0102)), header.number((0x0028, 0x0103))
    frames = header.text((0x0028, 0x0008)) or "1"
    if not (element and rows and columns and samples and allocated and stored and frames.isdigit()):
        return None
    colour = samples == 3 and allocated == 8 and header.number((0x0028, 0x0006)) == 0
    if not (colour or samples == 1) or allocated not in (8, 16) or int(frames) < 1:
        return None
    if not 2 <= stored <= allocated or high_bit != stored - 1 or signed not in (0, 1):
        return None
    return Pixels(rows, columns, samples, allocated, stored, signed == 1, int(frames), element.value_at, element.length)


def compress(source: Path, target: Path, sha256: str) -> Compressed | None:
    """Compress `source` into `target` and check it; None, and no target, where it cannot be done or gains too little.

    `sha256` (hex) is what `source` was when it was taken on: a file that a disk has changed since must not become a
    flawless compressed one. Raises NotIdenticalError if a check fails, OSError if a file cannot be read or written.
    """
    with source.open("rb") as file:
        header = head_of(file)
        if why_not(header) is not None:
            return None
        assert header is not None and header.pixel_data is not None
        pixels = layout(header)
        assert pixels is not None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as original:
            meta = new_meta(bytes(original[: header.data_set_at]))
            if meta is None or len(original) < pixels.value_at + pixels.length:
                return None
            try:
                with target.open("w+b") as out:
                    _write(original, header, pixels, meta, out)
                    size = out.tell()
                    if size > len(original) * WORTH_IT:
                        target.unlink()
                        return None
                    out.flush()
                    _compare(original, header, pixels, meta, out)
                    if hashlib.sha256(original).hexdigest() != sha256:
                        raise NotIdenticalError("the original is no longer what it was")
                    out.seek(0)
                    digest = hashlib.file_digest(out, "sha256").hexdigest()
            except NotCompressibleError:
                target.unlink(missing_ok=True)
                return None
            except BaseException:
                target.unlink(missing_ok=True)
                raise
    return Compressed(digest, size)


def _write(original: mmap.mmap, header: Header, pixels: Pixels, meta: bytes, out: BinaryIO) -> None:
    """PS3.5 A.4: Pixel Data of undefined length, a Basic Offset Table, one fragment for each frame."""
    element = header.pixel_data
    assert element is not None
    out.write(meta)
    out.write(original[header.data_set_at : element.start])
    out.write(b"\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff")
    table_at = out.tell() + 8
    out.write(ITEM + struct.pack("<L", 4 * pixels.frames) + bytes(4 * pixels.frames))
    offsets, first = [], out.tell()
    for frame in _frames(original, pixels):
        code = encode(frame, pixels)
        offsets.append(out.tell() - first)
        out.write(ITEM + struct.pack("<L", len(code)))
        out.write(code)
    out.write(SEQUENCE_END + bytes(4))
    out.write(original[pixels.value_at + pixels.length :])
    end = out.tell()
    out.seek(table_at)
    if offsets[-1] <= 0xFFFFFFFF:
        out.write(struct.pack(f"<{len(offsets)}L", *offsets))
    out.seek(end)


def _frames(original: mmap.mmap, pixels: Pixels) -> Iterator[bytes]:
    for number in range(pixels.frames):
        at = pixels.value_at + number * pixels.frame_bytes
        yield original[at : at + pixels.frame_bytes]


def encode(frame: bytes, pixels: Pixels) -> bytes:
    """One frame as JPEG-LS, lossless, of even length. Raises NotCompressibleError."""
    import jpeg_ls  # type: ignore[import-untyped]

    interleave = 2 if pixels.samples > 1 else 0
    precision = pixels.precision(frame)
    try:
        code = bytes(jpeg_ls.encode_buffer(frame, pixels.rows, pixels.columns, pixels.samples, precision, 0, interleave))
    except RuntimeError as error:  # CharLS: the code would be larger than the pixels
        raise NotCompressibleError from error
    return code + bytes(len(code) % 2)


def decode(code: bytes) -> bytes:
    """The pixels of a JPEG-LS code stream, little endian."""
    import jpeg_ls

    pixels, _ = jpeg_ls.decode_buffer(code)
    return bytes(pixels)


def _compare(original: mmap.mmap, header: Header, pixels: Pixels, meta: bytes, out: BinaryIO) -> None:
    """Read the new file back as anyone would, and compare all of it with the original. Raises NotIdenticalError."""
    element = header.pixel_data
    assert element is not None
    written = head_of(out)
    if written is None or written.transfer_syntax_uid != JPEG_LS_LOSSLESS or written.pixel_data is None:
        raise NotIdenticalError("the compressed file cannot be read")
    out.seek(0)
    if out.read(len(meta)) != meta or out.read(element.start - header.data_set_at) != bytes(
        original[header.data_set_at : element.start]
    ):
        raise NotIdenticalError("the header changed")
    out.seek(written.pixel_data.value_at)
    _, table_length = struct.unpack("<4sL", out.read(8))
    out.seek(table_length, 1)
    for frame in _frames(original, pixels):
        tag, length = struct.unpack("<4sL", out.read(8))
        if tag != ITEM or decode(out.read(length)) != frame:
            raise NotIdenticalError("a frame did not decode to the same pixels")
    if out.read(8) != SEQUENCE_END + bytes(4) or out.read() != original[pixels.value_at + pixels.length :]:
        raise NotIdenticalError("what follows the pixels changed")


def new_meta(head: bytes) -> bytes | None:
    """Preamble and file meta with the transfer syntax replaced; None for a file without (PS3.10 7.1)."""
    if head[128:132] != b"DICM":
        return None
    at, elements = 132, []
    while at + 8 <= len(head):
        group, number, vr = struct.unpack("<HH2s", head[at : at + 6])
        long = vr in (b"OB", b"UN", b"UT", b"OW", b"SQ")
        value_at = at + (12 if long else 8)
        length = int.from_bytes(head[at + 8 : at + 12] if long else head[at + 6 : at + 8], "little")
        if group != 2 or value_at + length > len(head):
            return None
        if number == 0x0010:
            value = JPEG_LS_LOSSLESS.encode() + b"\0" * (len(JPEG_LS_LOSSLESS) % 2)
            elements.append(struct.pack("<HH2sH", 2, 0x10, b"UI", len(value)) + value)
        elif number != 0x0000:
            elements.append(head[at : value_at + length])
        at = value_at + length
    body = b"".join(elements)
    return head[:132] + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(body)) + body
