"""Media types of a request to store, read as the archive reads them (PS3.18 8.7, 10.5; RFC 9110 8.3.1, 12.5.1).

The door decides by these for what is too large for the archive; tests hold them against the archive's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from forwarder.web.identity import RefusedError

DICOM = "application/dicom"
JSON = "application/dicom+json"
XML = "application/dicom+xml"
METADATA = (JSON, XML)
ANSWERS = (JSON, XML, "application/json")
"""What the answer to a request to store may be (the archive's `STORE_RESPONSE`); the first is the default."""
LONGEST_BOUNDARY = 200
LONGEST_ACCEPT, MOST_RANGES, LONGEST_PARAMETER = 8192, 64, 500

_PART_TYPES = (DICOM, *METADATA, "application/octet-stream")
_PIXEL_TYPES = ("image/", "video/")
_RENDERED = frozenset({"image/png", "image/gif", "text/html", "text/plain", "text/xml", "application/pdf"})
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LOOSE_VALUE = re.compile(r"[^\s\",;]+")
_Q = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")
_BOUNDARY = re.compile(rf"[!-~](?:[ -~]{{0,{LONGEST_BOUNDARY - 2}}}[!-~])?")
_BLANK = re.compile(r"(?<=[A-Za-z]) (?=[A-Za-z])")


@dataclass(frozen=True, slots=True)
class MediaType:
    """`type/subtype` in lower case, and the parameters by their names in lower case, of which the first of a name counts."""

    name: str
    parameters: dict[str, str]


@dataclass(frozen=True, slots=True)
class StoreBody:
    """What a request to store holds: parts between a boundary, or without one an instance by itself.

    `part_type`: the media type of parts that say none.
    """

    part_type: str
    boundary: bytes | None = None


def parse_media_type(text: str) -> MediaType | None:
    """A media type, as tolerantly as real clients need; None where it is none."""
    name, _, rest = text.partition(";")
    kind, slash, subtype = name.strip().lower().partition("/")
    if not slash or not _TOKEN.fullmatch(kind) or not (subtype == "" or _TOKEN.fullmatch(subtype)):
        return None
    parameters: dict[str, str] = {}
    for key, value in _parameters(rest):
        parameters.setdefault(key, value)
    return MediaType(f"{kind}/{subtype or '*'}", parameters)


def store_body(content_type: str) -> StoreBody:
    """What a Content-Type says that comes (PS3.18 10.5.1). Raises RefusedError: 415, and 400 for a boundary that is none."""
    media_type = parse_media_type(content_type)
    if media_type is None:
        raise RefusedError(415, "unsupported-media-type")
    if media_type.name != "multipart/related":
        if media_type.name not in (DICOM, *METADATA):
            raise RefusedError(415, "unsupported-media-type")
        return StoreBody(media_type.name)
    root = parse_media_type(media_type.parameters.get("type", ""))
    if root is not None and root.name not in _PART_TYPES and not root.name.startswith(_PIXEL_TYPES):
        raise RefusedError(415, "unsupported-media-type")
    boundary = media_type.parameters.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise RefusedError(400, "bad-multipart")
    return StoreBody(root.name if root else DICOM, boundary.encode("ascii"))


def holds_metadata(content_type: str) -> bool:
    """Whether instances come as metadata, with their bulk data beside it."""
    media_type = parse_media_type(content_type)
    if media_type is not None and media_type.name == "multipart/related":
        media_type = parse_media_type(media_type.parameters.get("type", ""))
    return media_type is not None and media_type.name in METADATA


def negotiated(accept: str | None, parameter: str | None) -> str:
    """Which of `ANSWERS` fits Accept and the query parameter `accept`, which comes first (PS3.18 8.3.3.1, 8.7.8).

    Raises RefusedError: 406, and 400 for too many media ranges or a parameter that mixes DICOM with what is rendered.
    """
    asked = [found for found in _ranges(_BLANK.sub("+", parameter)) if not found.wild_cards] if parameter else []
    names = {media_range.name for media_range in asked}
    if names & {DICOM, *METADATA} and names & _RENDERED:
        raise RefusedError(400, "bad-accept")
    found = _best(asked)
    if found is None:
        found = _best(_ranges(accept) if accept and accept.strip() else [] if asked else [_Range("*/*", 1.0)])
    if found is None:
        raise RefusedError(406, "not-acceptable")
    return found


@dataclass(frozen=True, slots=True)
class _Range:
    """A media range; of one that is multipart the name of its parts."""

    name: str
    quality: float
    multipart: bool = False

    @property
    def wild_cards(self) -> int:
        return self.name.split("/").count("*")

    def matches(self, answer: str) -> bool:
        pairs = zip(self.name.split("/"), answer.split("/"), strict=True)
        return not self.multipart and all(asked in ("*", offered) for asked, offered in pairs)


def _best(ranges: Sequence[_Range]) -> str | None:
    """The answer of the highest quality, each by the most specific range that it matches; of equals the first."""
    ordered = sorted(ranges, key=lambda media_range: media_range.wild_cards)
    qualities = {answer: next((found.quality for found in ordered if found.matches(answer)), 0.0) for answer in ANSWERS}
    best = max(ANSWERS, key=lambda answer: qualities[answer])
    return best if qualities[best] > 0 else None


def _ranges(text: str) -> list[_Range]:
    """The media ranges of Accept or `accept` (PS3.18 8.7.7); what cannot be read is left out. Raises RefusedError."""
    parts = _split(text, ",") if len(text) <= LONGEST_ACCEPT else []
    if not parts or len(parts) > MOST_RANGES:
        raise RefusedError(400, "bad-accept")
    found = []
    for part in parts:
        media_type = parse_media_type(part)
        if media_type is None or (media_type.name.startswith("*/") and media_type.name != "*/*"):
            continue
        q = media_type.parameters.get("q", "")
        multipart = media_type.name in ("multipart/related", "multipart/*")
        inner = parse_media_type(media_type.parameters.get("type") or "*/*") if multipart else media_type
        if inner is not None:
            found.append(_Range(inner.name, float(q) if _Q.fullmatch(q) else 1.0, multipart))
    return found


def _parameters(text: str) -> Iterator[tuple[str, str]]:
    for part in _split(text, ";"):
        name, equals, value = part.partition("=")
        name, value = name.strip().lower(), value.strip()
        if not equals or not _TOKEN.fullmatch(name):
            continue
        if len(value) >= 2 and value[0] == value[-1] == '"':
            yield name, re.sub(r"\\(.)", r"\1", value[1:-1])
        elif _LOOSE_VALUE.fullmatch(value):
            yield name, value


def _split(text: str, separator: str) -> list[str]:
    """`text` split at a character, but not inside quoted strings (RFC 9110 5.6.4)."""
    parts, start, quoted, escaped = [], 0, False, False
    for at, char in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char == separator and not quoted:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]
