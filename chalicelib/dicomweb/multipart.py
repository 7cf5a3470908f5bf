"""multipart/related bodies: read in place, written piece by piece (RFC 2046 5.1, RFC 2387, PS3.18 8.6.1.2).

Reading copies nothing: a part's body is a view of the buffer. It is strict about what decides where a part ends and
lenient about the rest: a preamble, blanks after a delimiter or a header, a missing line break at the very end, and
bodies that break lines with LF alone throughout, are all taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from chalicelib.domain.errors import BadRequest

MAX_PARTS = 10_000
MAX_HEADERS = 32
MAX_HEADER_BYTES = 16 * 1024
MAX_BLANKS = 256
MAX_BOUNDARY = 200
"""Characters of a boundary. RFC 2046 5.1.1 binds who writes to 70; Orthanc writes 73."""

# RFC 2046 5.1.1 allows fewer characters; real clients use more, and none of these is ambiguous.
_BOUNDARY = re.compile(rb"[!-~](?:[ -~]{0,%d}[!-~])?" % (MAX_BOUNDARY - 2))
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t -~\x80-\xff]*")

Headers = Sequence[tuple[str, str]]
Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class BodyPart:
    """One part: its header fields with names in lower case, and its body as a view of the whole buffer."""

    headers: tuple[tuple[str, str], ...]
    body: memoryview
    offset: int
    """Where the body begins in the buffer, in bytes."""

    def header(self, name: str) -> str | None:
        """The value of a header field, by its name in lower case; None if it is not there."""
        return next((value for key, value in self.headers if key == name), None)


def check_boundary(boundary: str) -> bytes:
    """The boundary as bytes: 1 to 200 printable ASCII characters, no blank at the end. Raises BadRequest."""
    encoded = boundary.encode("ascii", "replace")
    if not boundary.isascii() or not _BOUNDARY.fullmatch(encoded):
        raise BadRequest(f"The boundary must be 1 to {MAX_BOUNDARY} printable ASCII characters.", "Content-Type")
    return encoded


def parse(body: bytes, boundary: str, *, max_parts: int = MAX_PARTS) -> Iterator[BodyPart]:
    """The parts of a multipart body, one by one, without copying.

    Raises BadRequest for a body without the boundary, without its closing delimiter (it was cut off), with broken or
    too many headers, or with more than `max_parts` parts.
    """
    dashes = b"--" + check_boundary(boundary)
    delimiter, start = _first_delimiter(body, dashes)
    view = memoryview(body)
    count = 0
    while (begin := _after_delimiter(body, start)) is not None:
        count += 1
        if count > max_parts:
            raise BadRequest(f"The body has more than {max_parts} parts.")
        headers, offset = _headers(body, begin)
        # An empty body may follow the empty line at once, sharing its line break with the delimiter.
        end = _find_delimiter(body, delimiter, max(begin, offset - len(delimiter) + len(dashes)))
        if end < 0:
            raise BadRequest("The body ends before its closing delimiter.")
        yield BodyPart(headers, view[offset : max(offset, end)], offset)
        start = end + len(delimiter)


def _first_delimiter(body: bytes, dashes: bytes) -> tuple[bytes, int]:
    """(what separates parts from here on, position after the first boundary).

    How the first delimiter's line ends decides: with LF alone, all lines may; with CRLF, none does.
    """
    at = 0
    while (at := body.find(dashes, at)) >= 0:
        after = at + len(dashes)
        if (at == 0 or body[at - 1 : at] == b"\n") and _is_delimiter(body, after):
            line_end = body.find(b"\n", after)
            lenient = line_end > 0 and body[line_end - 1 : line_end] != b"\r"
            return (b"\n" if lenient else b"\r\n") + dashes, after
        at = after
    raise BadRequest("The body does not have the boundary that Content-Type names.")


def _is_delimiter(body: bytes, after: int) -> bool:
    """Whether a boundary that ends at `after` is a whole delimiter, and not the beginning of something else."""
    return _blank_line_end(body, after) is not None or body[after : after + 2] == b"--"


def _blank_line_end(body: bytes, at: int) -> int | None:
    """The position after the line break, if nothing but a few blanks is before it."""
    blanks = body[at : at + MAX_BLANKS]
    at += len(blanks) - len(blanks.lstrip(b" \t"))
    if body[at : at + 2] == b"\r\n":
        return at + 2
    return at + 1 if body[at : at + 1] == b"\n" else None


def _after_delimiter(body: bytes, at: int) -> int | None:
    """Where the next part begins; None after the closing delimiter."""
    return None if body[at : at + 2] == b"--" else _blank_line_end(body, at)


def _find_delimiter(body: bytes, delimiter: bytes, start: int) -> int:
    """The next whole delimiter from `start`, or -1."""
    while (start := body.find(delimiter, start)) >= 0:
        if _is_delimiter(body, start + len(delimiter)):
            return start
        start += 1
    return -1


def _headers(body: bytes, at: int) -> tuple[tuple[tuple[str, str], ...], int]:
    """The header fields that begin at `at`, and where the body after them begins."""
    limit = at + MAX_HEADER_BYTES
    headers: list[tuple[str, str]] = []
    while True:
        end = body.find(b"\n", at, limit)
        if end < 0:
            raise BadRequest("The headers of a part do not end, or are longer than 16 KiB.")
        line = body[at : end - 1] if body[end - 1 : end] == b"\r" and end > at else body[at:end]
        at = end + 1
        if not line:
            return tuple(headers), at
        if line[:1] in (b" ", b"\t") and headers:
            name, value = headers[-1]
            headers[-1] = name, f"{value} {_text(line.strip())}".strip()
            continue
        raw_name, colon, raw_value = line.partition(b":")
        if not colon or not _NAME.fullmatch(raw_name.strip()) or len(headers) >= MAX_HEADERS:
            raise BadRequest(f"A part has a line that is no header field, or more than {MAX_HEADERS} of them.")
        headers.append((raw_name.strip().lower().decode("ascii"), _text(raw_value.strip())))


def _text(value: bytes) -> str:
    if not _VALUE.fullmatch(value):
        raise BadRequest("A header field of a part has a control character.")
    return value.decode("latin-1")


def part_head(boundary: str, headers: Headers, *, first: bool) -> bytes:
    """What stands before a part's body: the delimiter and its header fields.

    Names and values are the caller's own, in ASCII and without line breaks.
    """
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    start = "--" if first else "\r\n--"
    return f"{start}{boundary}\r\n{lines}\r\n".encode("ascii")


def closing(boundary: str) -> bytes:
    """What stands after the last part."""
    return f"\r\n--{boundary}--\r\n".encode("ascii")


def write(parts: Iterable[tuple[Headers, Buffer | Iterable[Buffer]]], boundary: str) -> Iterator[Buffer]:
    """The pieces of a body, in order: each part as (header fields, body or pieces of it). At least one part."""
    first = True
    for headers, body in parts:
        yield part_head(boundary, headers, first=first)
        if isinstance(body, bytes | bytearray | memoryview):
            yield body
        else:
            yield from body
        first = False
    yield closing(boundary)


def length(parts: Iterable[tuple[Headers, int]], boundary: str) -> int:
    """How many bytes `write` makes, for parts given as (header fields, size of the body)."""
    total = len(closing(boundary))
    for position, (headers, size) in enumerate(parts):
        total += len(part_head(boundary, headers, first=position == 0)) + size
    return total
