"""Addresses in bodies that pass through: the archive's become this door's, in a stream, wherever the pieces are cut.

Only where an address can stand is looked: at the beginning of a JSON string, of an XML attribute or text, in a part's
Content-Location. The bytes of instances and pixels pass as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

LONGEST_PART_HEAD = 16 * 1024
_BOUNDARY = re.compile(r'boundary="?([^";,\s]{1,200})"?', re.I)


class Rewriter(Protocol):
    """Takes a body piece by piece."""

    def feed(self, data: bytes) -> bytes: ...

    def end(self) -> bytes: ...


class MalformedError(ValueError):
    """The body is not what its media type says."""


class Replacer:
    """Replaces patterns, of which none begins within another, across the borders of pieces."""

    def __init__(self, pairs: dict[bytes, bytes]) -> None:
        self._pairs = pairs
        self._pattern = re.compile(b"|".join(re.escape(old) for old in pairs))
        self._longest = max(map(len, pairs))
        self._left = b""

    def feed(self, data: bytes) -> bytes:
        data = self._left + data
        given: list[bytes] = []
        done = 0
        for match in self._pattern.finditer(data):
            given += (data[done : match.start()], self._pairs[match.group()])
            done = match.end()
        keep = max(done, len(data) - self._longest + 1)
        given.append(data[done:keep])
        self._left = data[keep:]
        return b"".join(given)

    def end(self) -> bytes:
        left, self._left = self._left, b""
        return left


def in_json(old: str, new: str) -> Replacer:
    """Addresses that begin a JSON string: Retrieve URL, BulkDataURI."""
    return Replacer({f'"{old}{end}'.encode(): f'"{new}{end}'.encode() for end in ("/", "?", '"')})


def in_xml(old: str, new: str) -> Replacer:
    """Addresses that begin an attribute or a text."""
    return Replacer({f"{start}{old}{end}".encode(): f"{start}{new}{end}".encode() for start in '">' for end in '/?"<'})


class Multipart:
    """A multipart body (RFC 2046 5.1): Content-Location of each part, and what is inside a part of JSON or XML."""

    def __init__(self, boundary: str, old: str, new: str) -> None:
        self._delimiter = b"\r\n--" + boundary.encode("latin-1")
        self._old, self._new = old, new
        self._buffer = b"\r\n"  # so that the first delimiter is found as all others are
        self._first = True
        self._head = False  # whether a part's head comes next
        self._inner: Replacer | None = None
        self._closed = False

    def feed(self, data: bytes) -> bytes:
        self._buffer += data
        return b"".join(self._steps())

    def end(self) -> bytes:
        """Raises MalformedError for a body that was cut off."""
        if not self._closed:
            raise MalformedError("the body ends within a part")
        left, self._buffer = self._buffer, b""
        return left

    def _steps(self) -> Iterator[bytes]:
        while True:
            if self._closed:
                left, self._buffer = self._buffer, b""
                yield left
                return
            if self._head:
                found = self._buffer.find(b"\r\n\r\n")
                if self._buffer.startswith(b"--"):
                    self._closed = True
                    continue
                if found < 0:
                    if len(self._buffer) > LONGEST_PART_HEAD:
                        raise MalformedError("the head of a part is too long")
                    return
                yield self._rewritten(self._buffer[: found + 2]) + b"\r\n"
                self._buffer, self._head = self._buffer[found + 4 :], False
                # An empty part's delimiter may follow its head at once.
            found = self._buffer.find(self._delimiter)
            if found >= 0:
                yield self._content(self._buffer[:found]) + self._inner_end()
                given = self._delimiter[2:] if self._first else self._delimiter
                self._buffer, self._head, self._first = self._buffer[found + len(self._delimiter) :], True, False
                yield given
                if len(self._buffer) < 2:  # “--” or a line's end: wait for which
                    return
                continue
            keep = len(self._delimiter) - 1
            if len(self._buffer) > keep:
                yield self._content(self._buffer[:-keep])
                self._buffer = self._buffer[-keep:]
            return

    def _content(self, data: bytes) -> bytes:
        if self._first:
            return data[2:] if data.startswith(b"\r\n") else data  # a preamble
        return self._inner.feed(data) if self._inner else data

    def _inner_end(self) -> bytes:
        inner, self._inner = self._inner, None
        return inner.end() if inner else b""

    def _rewritten(self, head: bytes) -> bytes:
        """A part's head, lines with their ends."""
        lines = head.split(b"\r\n")
        fields = {line.partition(b":")[0].strip().lower(): line.partition(b":")[2].strip() for line in lines if b":" in line}
        self._inner = _by_type(fields.get(b"content-type", b"").decode("latin-1"), self._old, self._new)
        return b"\r\n".join(
            self._line(line) for line in lines if not (self._inner and line.lower().startswith(b"content-length:"))
        )

    def _line(self, line: bytes) -> bytes:
        name, _, value = line.partition(b":")
        if name.strip().lower() not in (b"content-location", b"location"):
            return line
        return name + b": " + address(value.strip().decode("latin-1"), self._old, self._new).encode("latin-1")


def rewriter(content_type: str, old: str, new: str) -> Rewriter | None:
    """What rewrites a body of this media type; None where no address can stand in it."""
    if content_type.lower().startswith("multipart/"):
        found = _BOUNDARY.search(content_type)
        return Multipart(found[1], old, new) if found else None
    return _by_type(content_type, old, new)


def address(value: str, old: str, new: str) -> str:
    """An address as it is called here."""
    rest = value.removeprefix(old)
    return new + rest if rest != value and (not rest or rest[0] in "/?#") else value


def addresses(value: str, old: str, new: str) -> str:
    """A text in which addresses stand among other words (Warning, RFC 7234 5.5; Link, RFC 8288), as they are called here."""
    return re.sub(re.escape(old) + r"(?![A-Za-z0-9._~%-])", lambda _: new, value)


def _by_type(content_type: str, old: str, new: str) -> Replacer | None:
    kind = content_type.partition(";")[0].strip().lower()
    if kind.endswith("json"):
        return in_json(old, new)
    return in_xml(old, new) if kind.endswith("xml") and not kind.startswith("text/") else None
