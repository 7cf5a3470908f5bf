"""The first bytes of an object: what may stand there, and where the File Meta Information begins (PS3.10
7.1).
"""

from __future__ import annotations

from struct import Struct

from chalicelib.dicom.elements import Encoding
from chalicelib.dicom.source import RangeSource
from chalicelib.dicom.vr import KNOWN_VR, public_vr
from chalicelib.domain.rejections import Rejected

_TAG = {True: Struct("<HH").unpack_from, False: Struct(">HH").unpack_from}

_PROGRAMS: tuple[bytes, ...] = (
    b"MZ",  # DOS, Windows PE
    b"\x7fELF",
    b"\xfe\xed\xfa\xce",  # Mach-O, both widths and byte orders
    b"\xfe\xed\xfa\xcf",
    b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",  # Mach-O universal, Java class
    b"\xbe\xba\xfe\xca",
    b"#!",
    b"\0asm",
    b"dex\n",
    b"!<arch>",
    b"PK\x03\x04",  # ZIP, and with it JAR, APK, Office documents
    b"Rar!",
    b"7z\xbc\xaf",
    b"{\\rtf",
    b"\xd0\xcf\x11\xe0",  # OLE: MSI, old Office documents
)
_DOCUMENTS = (
    b"%pdf-",
    b"<!doctype",
    b"<html",
    b"<script",
    b"<svg",
    b"<?php",
    b"<?xml",
    b"<body",
    b"<iframe",
    b"<img",
)
"""Looked for anywhere in the preamble, in any case: their readers skip what stands before."""


def check_preamble(raw: RangeSource) -> int:
    """The offset where the File Meta Information begins: 132, or 0 for an object without preamble.

    Raises `Rejected('executable-preamble')`; `Rejected('not-dicom')` for what has no `DICM` and does not
    begin with an element of group 0002 or 0008, as data sets do that were written without File Meta
    Information.
    """
    first = raw.read(0, 132)
    if first[128:] == b"DICM":
        preamble = first[:128]
        if preamble.startswith(_PROGRAMS):
            raise Rejected("executable-preamble", "program or archive")
        if any(mark in preamble.lower() for mark in _DOCUMENTS):
            raise Rejected("executable-preamble", "document or script")
        return 132
    if guess_encoding(first[:8]) is None:
        raise Rejected("not-dicom")
    return 0


BEGINNING = 132
"""Bytes by which `begins_as_dicom` decides."""


def begins_as_dicom(first: bytes) -> bool:
    """Whether an object with these first bytes may hold an image, however broken the rest is, and may so not be removed.

    Less is asked than for being taken: a data set without File Meta Information that lacks a UID is rejected as no DICOM.
    """
    return first[128:BEGINNING] == b"DICM" or guess_encoding(first[:8]) is not None


def guess_encoding(first: bytes) -> Encoding | None:
    """The encoding of a data set that begins with these eight bytes, None where they are no beginning of one.

    A data set begins with group 0002 or 0008, save for a few retired and private ones that nobody sends bare.
    """
    if len(first) < 8:
        return None
    for little_endian in (True, False):
        group, element = _TAG[little_endian](first)
        if group not in (2, 8) or element > 0x0100:
            continue
        if first[4:6] in KNOWN_VR:
            return Encoding(False, little_endian)
        known = element == 0 or public_vr(group << 16 | element) != "UN"
        if little_endian and known and int.from_bytes(first[4:8], "little") < 1024:
            return Encoding(True, True)
    return None
