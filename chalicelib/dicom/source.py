"""Bytes of an object from front to back, by ranged reads, and no more of them than asked for."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Protocol

from chalicelib.dicom.limits import Limits
from chalicelib.domain.rejections import Rejected

Fetch = Callable[[int, int], bytes]
"""`fetch(start, length)` answers exactly `length` bytes of the object from `start` on."""


class Source(Protocol):
    """A stream that is read forwards. `size` is None where the end is not known beforehand."""

    size: int | None

    def read(self, position: int, length: int) -> bytes:
        """`length` bytes from `position` on, fewer only at the end. Positions never go back."""
        ...


class RangeSource:
    """An object read by ranges that grow fourfold; what is skipped is not fetched.

    Raises `OSError` when the object is shorter than its size says (a fault of the store, worth a retry), and
    `Rejected('too-large-header')` when it would take more than `limits.fetches` reads.
    """

    def __init__(self, fetch: Fetch, size: int, limits: Limits) -> None:
        self.size: int | None = size
        self.fetches = 0
        self.fetched = 0
        self.fetch = fetch
        self._end = size
        self._limits = limits
        self._next = limits.first_range
        self._start = 0
        self._data = b""

    def read(self, position: int, length: int) -> bytes:
        begin = position - self._start
        end = begin + length
        if begin >= 0 and end <= len(self._data):
            return self._data[begin:end]
        self._fill(position, length)
        begin = position - self._start
        return self._data[begin : begin + length]

    def aside(self, position: int, length: int) -> bytes:
        """`read`, without going there: what lies before can still be read. It is fetched by itself, unless it is here."""
        length = min(length, self._end - position)
        if self.held(position) >= length:
            return self.read(position, length)
        self.fetches += 1
        self.fetched += length
        return self.fetch(position, length)

    def held(self, position: int) -> int:
        """How many bytes from `position` on are already here."""
        return max(0, self._start + len(self._data) - position) if position >= self._start else 0

    def _fill(self, position: int, length: int) -> None:
        begin = position - self._start
        if begin < 0:
            raise ValueError("a source is read forwards only")
        if begin > len(self._data) + self._limits.first_range:  # a value was stepped over
            self._next = self._limits.first_range
        self._data = self._data[begin:]
        self._start = position
        missing = min(length, self._end - position) - len(self._data)
        if missing <= 0:
            return
        if self.fetches >= self._limits.fetches:
            raise Rejected("too-large-header", f"more than {self._limits.fetches} ranges")
        at = position + len(self._data)
        count = min(max(self._next, missing), self._end - at)
        chunk = self.fetch(at, count)
        if len(chunk) != count:
            raise OSError(f"asked for {count} bytes from {at} on, got {len(chunk)}")
        self.fetches += 1
        self.fetched += count
        self._next = min(self._next * 4, self._limits.largest_range)
        self._data += chunk


class InflatedSource:
    """The inflated data set of a deflated object (PS3.5 A.5), made while it is read and forgotten behind.

    Raises `Rejected('deflate-too-large')` at the first byte over `limits.inflated`,
    `Rejected('unreadable')` for a stream that is not deflated, `Rejected('truncated')` for one that ends
    too early.
    """

    _STEP = 64 * 1024

    def __init__(self, raw: RangeSource, start: int, limits: Limits) -> None:
        self.size: int | None = None
        self._raw = raw
        self._at = start
        self._limit = limits.inflated
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._start = 0
        self._data = bytearray()

    def read(self, position: int, length: int) -> bytes:
        begin = position - self._start
        if begin < 0:
            raise ValueError("a source is read forwards only")
        while begin + length > len(self._data):
            if begin > self._STEP:
                drop = min(begin, len(self._data))
                del self._data[:drop]
                self._start += drop
                begin -= drop
            if not self._more():
                break
        return bytes(self._data[begin : begin + length])

    def drain(self) -> None:
        """Inflate what is left and forget it: only so does a bomb behind the Pixel Data show."""
        while True:
            self._start += len(self._data)
            self._data.clear()
            if not self._more():
                return

    def _more(self) -> bool:
        if self._inflate.eof:
            return False
        deflated = self._inflate.unconsumed_tail
        if not deflated:
            deflated = self._raw.read(self._at, self._STEP)
            self._at += len(deflated)
        try:
            inflated = self._inflate.decompress(deflated, self._STEP)
        except zlib.error:
            raise Rejected("unreadable", f"deflated stream broken before byte {self._at}") from None
        if not deflated and not inflated and not self._inflate.eof:
            raise Rejected("truncated", "the deflated stream has no end")
        self._data += inflated
        if self._start + len(self._data) > self._limit:
            raise Rejected("deflate-too-large", f"more than {self._limit} bytes")
        return True
