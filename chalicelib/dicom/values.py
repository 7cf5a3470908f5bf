"""Values of raw elements as the DICOM JSON Model has them (PS3.18 F.2), by VR, from bytes.

What a sloppy sender wrote is read where it can mean one thing only (`dicom.readings`). A number that is none becomes None, a
date is the text that was written, and neither is ever an error: a date of 99 days must not keep a film from the radiologist. Text
is Unicode whatever the file's character set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, MutableSequence
from struct import iter_unpack
from typing import Any

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from chalicelib.dicom.charset import decode
from chalicelib.dicom.readings import decimal, integer
from chalicelib.domain.tags import Tag, number

JsonValue = Any
"""str, int, float, dict (a name) or None."""

TEXT = frozenset({"SH", "LO", "UC", "ST", "LT", "UT", "PN"})
SINGLE = frozenset({"ST", "LT", "UT", "UR"})
BINARY = frozenset({"OB", "OW", "OF", "OD", "OL", "OV", "UN", "OB or OW", "US or OW", "US or SS or OW"})
_NUMBERS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
_WIDTH = {"H": 2, "h": 2, "L": 4, "l": 4, "Q": 8, "q": 8, "f": 4, "d": 8}


def json_values(vr: str, data: bytes, charset: list[str], *, little_endian: bool) -> list[JsonValue]:
    """The values of one element that is neither a sequence nor binary; empty where it has none.

    Numbers as int and float, names as `{"Alphabetic", "Ideographic", "Phonetic"}` (F.2.2), tags as eight
    hex digits.
    """
    if code := _NUMBERS.get(vr) or ("H" if vr == "US or SS" else None):
        width = _WIDTH[code]
        whole = data[: len(data) // width * width]
        return [_finite(value) for (value,) in iter_unpack(f"{'<' if little_endian else '>'}{code}", whole)]
    if vr == "AT":
        order = "<HH" if little_endian else ">HH"
        whole = data[: len(data) // 4 * 4]
        return [f"{group:04X}{element:04X}" for group, element in iter_unpack(order, whole)]
    return text_values(vr, decode(data, charset, vr) if vr in TEXT else data.decode("latin-1"))


def text_values(vr: str, text: str) -> list[JsonValue]:
    """The values that a text holds between backslashes, padding gone, None where one is empty or invalid.

    A NUL ends a value: what stands behind it is left over in the sender's buffer.
    """
    if vr in SINGLE:
        text = text.rstrip(" \0")
        return [text] if text else []
    strip = " \0\t\r\n" if vr == "UI" else " \0\t" if vr in ("IS", "DS") else " \0"
    parts = [part.strip(strip).partition("\0")[0].strip(strip) for part in text.split("\\")]
    read = _READ.get(vr)
    values: list[JsonValue] = [(read(part) if read else part) if part else None for part in parts]
    return values if any(value is not None for value in values) else []


def values_of(dataset: Dataset, tag: Tag | int, vr: str) -> list[JsonValue]:
    """The values of a data set's element, read as `vr`, the dictionary's: the VR that a file writes may be
    wrong.

    Only binary numbers are read by the file's own VR, which says how wide they are, or that they are text.
    """
    element = dataset.get_item(number(tag))
    if element is None or not element.value or element.VR == "SQ":
        return []
    if isinstance(element, RawDataElement):
        own = _number_vr(str(element.VR or vr), vr) if vr in _NUMBERS else vr
        charset = list(dataset.original_character_set)
        return json_values(own, element.value, charset, little_endian=element.is_little_endian)
    if isinstance(element.value, bytes):
        return []
    values = element.value if isinstance(element.value, MutableSequence) else [element.value]
    if element.VR == "AT":
        return [f"{int(value):08X}" for value in values]
    return list(values) if element.VR in _NUMBERS else text_values(vr, "\\".join(map(str, values)))


def _number_vr(written: str, vr: str) -> str:
    """How a binary number is read that a file writes as `written`: by its width, as text, or by the dictionary's VR."""
    if written in _NUMBERS:
        return written
    return vr if written in BINARY else "DS" if vr in ("FL", "FD") else "IS"


def text_of(dataset: Dataset, tag: Tag | int, vr: str) -> str:
    """The first value of an attribute as text, of a name its alphabetic group; empty where there is none."""
    values = values_of(dataset, tag, vr)
    value = values[0] if values else None
    if isinstance(value, dict):
        value = value.get("Alphabetic")
    return str(value) if value is not None else ""


def items_of(dataset: Dataset, tag: Tag | int) -> list[Dataset]:
    """The items of a sequence, empty where there is none."""
    element = dataset.get_item(number(tag))
    return list(element.value) if element is not None and element.VR == "SQ" and element.value else []


def little_endian_bytes(vr: str, data: bytes) -> bytes:
    """A binary value of a big endian data set in little endian order, which the web has only (PS3.18
    F.2.7).
    """
    width = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}.get(vr, 1)
    if width == 1 or len(data) % width:
        return data
    swapped = bytearray(len(data))
    for index in range(width):
        swapped[index::width] = data[width - 1 - index :: width]
    return bytes(swapped)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _name(text: str) -> dict[str, str] | None:
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
    name = {kind: group.strip(" ") for kind, group in groups if group.strip(" ^")}
    return name or None


_READ: dict[str, Callable[[str], JsonValue]] = {"IS": integer, "DS": decimal, "PN": _name}
