"""How the elements of a data set are written: its Value Representations, byte order and character set (PS3.5 6.1, 7)."""

from __future__ import annotations

import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from pydicom import charset, config
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.valuerep import PersonName

from forwarder.header import LONG_VRS, Tag

_filters = threading.Lock()


@contextmanager
def strictly() -> Iterator[None]:
    """What pydicom only warns of, as letters that it replaces, is an error within; but for a value that is longer than PS3.5 6.2
    allows, of which nothing is lost. The filters of warnings are the process's, not the thread's: two at once would take them
    from each other, and a damaged text would pass."""
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", r"The (PN component|value) length \(\d+\) exceeds")
        yield


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a data set is written (PS3.5 7, 6.1)."""

    implicit: bool
    big_endian: bool
    character_sets: tuple[str, ...]

    @property
    def order(self) -> str:
        return ">" if self.big_endian else "<"

    def element(self, tag: Tag, value: str) -> bytes:
        """One element of text or of a name. Raises UnicodeEncodeError where the character set cannot hold it."""
        return _encoded(self, tag, value)

    def wrap(self, tag: Tag, vr: bytes, value: bytes, length: int | None = None) -> bytes:
        """An element with its head; `length` where it is not that of the value."""
        size = len(value) if length is None else length
        if self.implicit:
            return struct.pack(self.order + "HHL", *tag, size) + value
        if vr in LONG_VRS:
            return struct.pack(self.order + "HH2sHL", *tag, vr, 0, size) + value
        return struct.pack(self.order + "HH2sH", *tag, vr, size) + value

    def item(self, content: bytes) -> bytes:
        """An item of defined length."""
        return struct.pack(self.order + "HHL", 0xFFFE, 0xE000, len(content)) + content

    def sequence(self, tag: Tag, items: bytes) -> bytes:
        """A sequence of defined length."""
        return self.wrap(tag, b"SQ", items)

    def data_set(self, content: Dataset) -> bytes:
        """A data set's elements."""
        out = DicomBytesIO()
        out.is_little_endian, out.is_implicit_VR = not self.big_endian, self.implicit
        write_dataset(out, content)
        return bytes(out.getvalue())


def codecs_of(character_sets: tuple[str, ...]) -> list[str]:
    """Python's names of these character sets, as Specific Character Set has them (PS3.3 C.12.1.1.2). Where it has something that
    cannot be a name at all, ASCII, which is a part of every one of them."""
    try:
        return list(charset.convert_encodings(list(character_sets) or ["ISO_IR 6"]))
    except (ValueError, LookupError):
        return ["ascii"]


_ASCII_ALONE = frozenset({"", "ISO_IR 6", "ISO 2022 IR 6"})
"""What Specific Character Set has where it has nothing but the default repertoire (PS3.3 C.12.1.1.2)."""


@lru_cache(maxsize=1024)
def _encoded(encoding: Encoding, tag: Tag, value: str) -> bytes:
    """One element of text or of a name: the same for every instance of a study. Raises UnicodeEncodeError."""
    vr = dictionary_VR(tag)
    encodings = codecs_of(encoding.character_sets)
    if set(encoding.character_sets) <= _ASCII_ALONE and not value.isascii():  # pydicom would write Latin-1, which nothing says
        raise UnicodeEncodeError("dicom", value, 0, len(value), "not in the default repertoire")
    try:
        with strictly():
            raw = _name(value).encode(encodings) if vr == "PN" else charset.encode_string(value, encodings)
        is_same = _read_back(bytes(raw), encodings, vr) == (str(_name(value)) if vr == "PN" else value)
    except (UserWarning, LookupError, ValueError) as error:
        raise UnicodeEncodeError("dicom", value, 0, len(value), "not in this character set") from error
    if not is_same:
        raise UnicodeEncodeError("dicom", value, 0, len(value), "not in this character set")
    padded = bytes(raw) + b" " * (len(raw) % 2)
    return encoding.wrap(tag, vr.encode(), padded)


def _name(value: str | bytes, encodings: list[str] | None = None) -> PersonName:
    """However long it is: PACSs know patients by more than the 64 characters of PS3.5 6.2."""
    return PersonName(value, encodings, validation_mode=config.IGNORE)


def _read_back(raw: bytes, encodings: list[str], vr: str) -> str:
    if vr == "PN":
        return str(_name(raw, encodings).decode())
    return charset.decode_bytes(raw, encodings, {0x5C}) if raw else ""
