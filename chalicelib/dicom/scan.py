"""The one parser: an iterative walk over a data set's structure, within limits, that builds pydicom's
Dataset.

pydicom's own reader recurses into sequences, believes every length, and would be a second parser that may
see another structure than the one that was checked. So it is not used: the scanner makes the Datasets,
Sequences and raw elements, and pydicom only converts single values, lazily. Nothing that it is given can
make it parse a sequence.

Structure: PS3.5 7.1 (elements), 7.5 (sequences, delimiters), 6.2.2 (UN), A.4 (encapsulated values).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from chalicelib.dicom.charset import DEFAULT, python_encodings
from chalicelib.dicom.elements import (
    ITEM,
    ITEM_END,
    PADDING,
    SEQUENCE_END,
    STREAMED,
    Element,
    Encoding,
    LeftOut,
    Path,
    Streaming,
    element_head,
    is_head,
    item_head,
    name,
    shown_encoding,
)
from chalicelib.dicom.limits import Limits
from chalicelib.dicom.source import Source
from chalicelib.dicom.vr import private_vr, public_vr
from chalicelib.domain import tags
from chalicelib.domain.rejections import Rejected

_SPECIFIC_CHARACTER_SET = tags.SpecificCharacterSet.number
_LARGE = Lock()
"""Held by the one thread whose header has more than `Limits.alone` elements so far."""

_MOST_PADDING = 1024 * 1024
"""Bytes of padding behind the last element that are looked through."""

_ITEM_STARTS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")


@dataclass(frozen=True, slots=True)
class Scanned:
    """`dataset` up to `position`; `stopped_at` is the element there, or None at the end. `repeated`: top-level tags that occur
    more than once, with several values. `streamed`: the sequences of `STREAMED` that are too long to be held, and how many
    items each has; they are not in `dataset`.
    """

    dataset: Dataset
    stopped_at: Element | None
    position: int
    encoding: Encoding
    left_out: tuple[LeftOut, ...]
    repeated: frozenset[int]
    streamed: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Level:
    """One open data set, or, where `items` is a list, one open sequence. `end` is None where undefined, `bound` that of what
    it is in, `closed` where its last sequence of defined length ended, `count` how many items it had so far. What is `passed`
    over is walked as everything is, and not held.
    """

    end: int | None
    encoding: Encoding
    charset: list[str]
    path: Path
    start: int
    elements: dict[BaseTag, RawDataElement | DataElement] = field(default_factory=dict)
    items: list[Dataset] | None = None
    bound: int | None = None
    closed: int = -1
    count: int = 0
    passed: bool = False


def scan(
    source: Source,
    start: int,
    encoding: Encoding,
    limits: Limits,
    stop: Callable[[int], bool] = lambda _: False,
    streaming: Streaming | None = None,
) -> Scanned:
    """The data set from `start` to the first top-level element for whose tag `stop` is true, or to the end. `streaming`: what
    becomes of the items of `STREAMED`, all of them.

    Raises `Rejected` with `truncated`, `too-deep`, `too-large-header` or `unreadable`.
    """
    scanning = _Scan(source, start, encoding, limits, streaming)
    try:
        return scanning.run(stop)
    finally:
        scanning.make_room()


class _Scan:
    def __init__(self, source: Source, start: int, encoding: Encoding, limits: Limits, streaming: Streaming | None) -> None:
        self._streaming = streaming
        self._streamed: dict[int, int] = {}
        self._passed = 0
        self._source = source
        self._limits = limits
        self._position = start
        self._root = _Level(source.size, shown_encoding(source, start, encoding), DEFAULT, (), start)
        self._levels = [self._root]
        self._elements = 0
        self._held = 0
        self._alone = False
        self._left_out: list[LeftOut] = []
        self._seen: set[int] = set()
        self._repeated: set[int] = set()

    def run(self, stop: Callable[[int], bool]) -> Scanned:
        stopped_at = None
        while True:
            level = self._levels[-1]
            end = level.bound if level.end is None else level.end
            if level is not self._root and end is not None and self._position >= end:
                self._close()  # where the delimiter is missing, at the end of what it is in
            elif level.items is not None:
                self._item(level, level.items)
            else:
                element = None if self._padded(level) else element_head(self._source, self._position, level.encoding)
                if element is None:
                    if level is not self._root:
                        raise Rejected("truncated", f"the object ends inside {name(level.path[-2])}")
                    break
                if level is self._root and stop(element.tag):
                    stopped_at = element
                    break
                self._element(level, element)
        return Scanned(
            _dataset(self._root),
            stopped_at,
            self._position,
            self._root.encoding,
            tuple(self._left_out),
            frozenset(self._repeated),
            self._streamed,
        )

    def _element(self, level: _Level, element: Element) -> None:
        tag, _, length, value, _ = element
        stray = tag == SEQUENCE_END and level.closed == self._position
        if tag in (ITEM, SEQUENCE_END) and level.end is None and level is not self._root and not stray:
            return self._close()  # without its delimiter: what follows belongs to the sequence
        self._count(1, value - self._position)
        self._position = value
        if tag == ITEM_END and level.end is None:
            return self._close()
        if tag in (ITEM_END, SEQUENCE_END) and not length:
            return None  # stray: some writers put delimiters after defined lengths
        if tag >> 16 == 0xFFFE:
            raise Rejected("unreadable", f"{name(tag)} outside a sequence at {value}")
        if length is not None and length % 2:
            length = self._even(level, tag, value, length)
        if length is not None:
            self._check_end(level, tag, value + length)
        if level is self._root:
            if tag in self._seen and tag not in self._repeated and not self._says_the_same(level, tag, value, length):
                self._repeated.add(tag)
            self._seen.add(tag)
        vr = self._vr(level, element)
        if vr == "SQ":
            return self._open(level, element, length)
        if length is None:
            return self._fragments(level, element, vr)
        return self._leaf(level, element, vr, length)

    def _says_the_same(self, level: _Level, tag: int, value: int, length: int | None) -> bool:
        """Whether an element that occurs again has the value that it had before."""
        before = level.elements.get(BaseTag(tag))
        if not isinstance(before, RawDataElement) or length is None or length != before.length:
            return False
        return bool(self._source.read(value, length) == before.value)

    def _vr(self, level: _Level, element: Element) -> str:
        """The VR to read the value by: `SQ` for all that is walked, `UN` for what stays bytes.

        UN of undefined length is a sequence (PS3.5 6.2.2). UN of defined length is one where the dictionary
        says so and the value begins with an item; where a private one's VR is not written, it stays bytes.
        """
        tag, vr, length, value, _ = element
        if vr not in (None, "UN"):
            return str(vr)
        if not tag & 0x10000:
            known = public_vr(tag)
        else:
            creator = level.elements.get(BaseTag((tag & 0xFFFF0000) | ((tag >> 8) & 0xFF)))
            known = private_vr(tag, creator.value if isinstance(creator, RawDataElement) else None)
            if known == "SQ" and length is not None:
                return "UN"
        if length is None:
            return known if known[:2] in ("OB", "OW") and vr is None else "SQ"
        if known == "SQ" and length and self._source.read(value, 4) not in _ITEM_STARTS:
            return "UN"
        return known

    def _even(self, level: _Level, tag: int, value: int, length: int) -> int:
        """A length that is odd: of the value as it stands, or without the byte that pads it. What follows tells."""
        if length > self._limits.value:
            return length
        follows = self._source.read(value, length + 9)[length:]
        padded = not is_head(follows[:8], tag, level.encoding) and is_head(follows[1:9], tag, level.encoding)
        return length + padded

    def _padded(self, level: _Level) -> bool:
        """Whether nothing but padding is left of the object: zeros or line ends, as files have that came by tape or by mail."""
        if level is not self._root or self._source.read(self._position, 8).strip(PADDING):
            return False
        if self._source.read(self._position, 128).strip(PADDING):
            return False  # an element with such a number and length, whose value begins
        position = self._position
        while data := self._source.read(position, self._limits.value):
            if data.strip(PADDING) or position > self._position + _MOST_PADDING:
                raise Rejected("unreadable", f"padding at {self._position}, and more behind it")
            position += len(data)
        self._position = position
        return True

    def _open(self, level: _Level, element: Element, length: int | None) -> None:
        if len(self._levels) // 2 >= self._limits.depth:
            raise Rejected("too-deep", f"more than {self._limits.depth} sequences at {element.value}")
        unknown = element.vr == "UN"
        implicit = element.implicit and not unknown
        little_endian = unknown or level.encoding.little_endian
        end = None if length is None else element.value + length
        path = (*level.path, element.tag)
        inner = Encoding(implicit, little_endian)
        bound = level.bound if level.end is None or level is self._root else level.end
        self._levels.append(_Level(end, inner, level.charset, path, element.value, items=[], bound=bound, passed=level.passed))

    def _item(self, level: _Level, items: list[Dataset]) -> None:
        tag, length = item_head(self._source, self._position, level.encoding)
        if tag not in (ITEM, SEQUENCE_END) and level.end is None and self._follows(level):
            return self._close()  # without its delimiter
        self._count(self._limits.item_weight, 8)
        self._position += 8
        if tag == SEQUENCE_END and level.end is None:
            return self._close()
        if tag in (SEQUENCE_END, ITEM_END) and not length:
            return None  # stray
        if tag != ITEM:
            raise Rejected("unreadable", f"no item in {name(level.path[-1])} at {self._position - 8}")
        end = None if length is None else self._position + length
        if end is not None:
            self._check_end(level, level.path[-1], end)
        encoding = level.encoding
        if not encoding.implicit:
            encoding = shown_encoding(self._source, self._position, encoding)
        path = (*level.path, level.count)
        bound = level.bound if level.end is None else level.end
        passed = self._passes(level, items) if level.path[0] in STREAMED and len(level.path) == 1 else level.passed
        level.count += 1
        if passed and end is not None and self._limits.accepted:
            self._position = end
            return None
        self._levels.append(_Level(end, encoding, level.charset, path, self._position, bound=bound, passed=passed))
        return None

    def _passes(self, sequence: _Level, items: list[Dataset]) -> bool:
        """Whether the next item of a sequence that may be long is passed over."""
        if self._streaming is not None:
            sequence.passed = True
            return not self._streaming.wanted(sequence.path[0], sequence.count)
        if sequence.count == self._limits.kept_items:
            sequence.passed = True
            items.clear()
            self._left_out = [left for left in self._left_out if left.path[0] != sequence.path[0]]
        return sequence.passed

    def _follows(self, sequence: _Level) -> bool:
        """Whether the next element of what the sequence is in begins here."""
        around = self._levels[-2]
        return is_head(self._source.read(self._position, 8), sequence.path[-1], around.encoding)

    def _close(self) -> None:
        done, parent = self._levels.pop(), self._levels[-1]
        if done.items is None:
            assert parent.items is not None
            if parent.passed:
                self._hand_on(done)
            else:
                item = _dataset(done)
                item.is_undefined_length_sequence_item = done.end is None
                parent.items.append(item)
            return
        parent.closed = -1 if done.end is None else self._position
        if not done.passed:
            sequence = Sequence(done.items)
            sequence.is_undefined_length = done.end is None
            tag = BaseTag(done.path[-1])
            parent.elements[tag] = DataElement(tag, "SQ", sequence, done.start, done.end is None, already_converted=True)
        elif len(done.path) == 1:
            self._streamed[done.path[0]] = done.count

    def _hand_on(self, item: _Level) -> None:
        if self._streaming is None or item.passed or len(item.path) != 2:
            return
        tag, number = item.path
        left_out, self._left_out = self._left_out, []
        self._streaming.each(tag, number, _dataset(item), left_out)
        self._elements = self._held = 0

    def _leaf(self, level: _Level, element: Element, vr: str, length: int) -> None:
        tag, value = element.tag, element.value
        self._position = value + length
        if level.passed:
            return
        if length > self._limits.value:
            if self._source.size is None and not self._source.read(self._position - 1, 1):
                raise Rejected("truncated", f"{name(tag)} declares {length} bytes")
            self._left_out.append(LeftOut((*level.path, tag), vr, value, length))
            return
        data = self._source.read(value, length)
        if len(data) < length:
            raise Rejected("truncated", f"{name(tag)} declares {length} bytes, {len(data)} are there")
        self._count(0, length)
        if tag == _SPECIFIC_CHARACTER_SET:
            level.charset = python_encodings(data)
        level.elements[BaseTag(tag)] = _raw_element(element, vr, data, level.encoding)

    def _fragments(self, level: _Level, element: Element, vr: str) -> None:
        """An encapsulated value inside the header, as an icon has: its items up to the delimiter (PS3.5
        A.4).
        """
        if vr[:2] not in ("OB", "OW"):
            raise Rejected("unreadable", f"{name(element.tag)} of VR {vr} has undefined length")
        while True:
            tag, length = item_head(self._source, self._position, level.encoding)
            self._count(1, 8)
            self._position += 8
            if tag == SEQUENCE_END:
                break
            if tag != ITEM or length is None:
                raise Rejected("unreadable", f"no fragment at {self._position - 8}")
            self._position += length
            self._check_end(level, element.tag, self._position)
        length = self._position - element.value
        self._left_out.append(LeftOut((*level.path, element.tag), vr, element.value, length))

    def _check_end(self, level: _Level, tag: int, end: int) -> None:
        if self._source.size is not None and end > self._source.size:
            raise Rejected("truncated", f"{name(tag)} ends at {end}, the object at {self._source.size}")
        if level.end is not None and end > level.end:
            raise Rejected("unreadable", f"{name(tag)} ends at {end}, what it is in at {level.end}")

    def make_room(self) -> None:
        """Let the next large header be read."""
        if self._alone:
            self._alone = False
            _LARGE.release()

    def _count(self, weight: int, held: int) -> None:
        if self._levels[-1].passed:
            self._passed += 1
            if self._passed > self._limits.passed:
                raise Rejected("too-large-header", f"more than {self._limits.passed} elements")
            return
        self._elements += weight
        self._held += held
        if self._elements > self._limits.alone and not self._alone:
            _LARGE.acquire()
            self._alone = True
        if self._elements > self._limits.elements:
            raise Rejected("too-large-header", f"more than {self._limits.elements} elements")
        if self._held > self._limits.header:
            raise Rejected("too-large-header", f"more than {self._limits.header} bytes")


class _Read(Dataset):  # type: ignore[misc]
    """A data set that is read and never written. pydicom looks at each thing that it notes in one, in case it is an attribute's
    name; for tens of thousands of items that took half of the time.
    """

    __setattr__ = object.__setattr__


def _dataset(level: _Level) -> Dataset:
    dataset = _Read(level.elements)
    dataset.set_original_encoding(level.encoding.implicit, level.encoding.little_endian, level.charset)
    return dataset


def _raw_element(element: Element, vr: str, data: bytes, encoding: Encoding) -> RawDataElement | DataElement:
    tag = BaseTag(element.tag)
    if vr == "UN":
        unknown = DataElement(tag, "UN", data, element.value, already_converted=True)
        unknown.VR = "UN"  # the constructor would put the dictionary's VR here, and keep bytes as the value
        return unknown
    little_endian = encoding.little_endian or element.vr == "UN"
    return RawDataElement(tag, vr, len(data), data, element.value, element.implicit, little_endian)
