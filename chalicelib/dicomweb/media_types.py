"""Media types as clients write them, and the choice between representations (PS3.18 8.7, RFC 9110 12.5.1).

What is written differently and means the same: `type="application/dicom"` and `type=application/dicom`, upper and
lower case, the transfer syntax as a parameter of the multipart type or inside its `type`, the experimental
names of compressed images. A media range that cannot be read is ignored (8.7.7); an empty or absent Accept
means anything (RFC 9110 12.5.1; PS3.18 8.7.5 would have a 406 here, which would shut out ordinary HTTP
clients).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from chalicelib.domain.errors import BadRequest, NotAcceptable
from chalicelib.domain.identifiers import is_uid

EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
ANY = "*"

MAX_HEADER = 8192
MAX_RANGES = 64

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# A type inside a parameter is often written without quotes, so a slash is allowed where a token is expected.
_LOOSE_VALUE = re.compile(r"[^\s\",;]+")
_Q = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")

# Old and colloquial names (8.7.3.3.2, note 4) → the registered ones.
_SAME = {
    "image/x-dicom-rle": "image/dicom-rle",
    "image/x-jls": "image/jls",
    "image/jpg": "image/jpeg",
    "image/j2c": "image/jphc",
    "video/mpeg2": "video/mpeg",
}

# 8.3.3.1: DICOM media types may not stand beside others in the accept query parameter.
_DICOM_TYPES = frozenset({"application/dicom", "application/dicom+json", "application/dicom+xml"})
_RENDERED_TYPES = frozenset({"image/png", "image/gif", "text/html", "text/plain", "text/xml", "application/pdf"})


@dataclass(frozen=True, slots=True)
class MediaType:
    """One media type or media range: `name` is `type/subtype` in lower case; parameter names are in lower
    case.
    """

    name: str
    parameters: tuple[tuple[str, str], ...] = ()

    def parameter(self, name: str) -> str | None:
        """The value of a parameter, without quotes; None if it is not there."""
        return next((value for key, value in self.parameters if key == name), None)


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One acceptable media range.

    `name`: of the representation, for a multipart range that of its parts; `*/*` and `image/*` are wild
    cards.
    `multipart`: True or False if only such will do, None if either. `transfer_syntax`: a UID, `*`, or None.
    """

    name: str
    multipart: bool | None
    transfer_syntax: str | None
    quality: float


@dataclass(frozen=True, slots=True)
class Representation:
    """One representation that a resource has.

    `media_type`: of the body, or with `multipart` of its parts. `transfer_syntaxes`: the UIDs it can be had
    in, the default first; empty where the parameter has no meaning. `stored`: what `transfer-syntax=*` gets.
    """

    media_type: str
    multipart: bool = False
    transfer_syntaxes: tuple[str, ...] = ()
    stored: str | None = None


@dataclass(frozen=True, slots=True)
class Selected:
    """The representation to answer with; `transfer_syntax` is None where the parameter has no meaning.

    `any_syntax`: the client takes each part in whatever transfer syntax it is stored in. `named`: it asks for just this one.
    """

    offer: Representation
    transfer_syntax: str | None = None
    any_syntax: bool = False
    named: bool = False


def parse_media_type(text: str) -> MediaType | None:
    """A media type with its parameters (RFC 9110 8.3.1), as tolerant as real clients need; None if it is
    not one.
    """
    name, _, rest = text.partition(";")
    kind, slash, subtype = name.strip().lower().partition("/")
    if not slash or not _TOKEN.fullmatch(kind) or not (subtype == "" or _TOKEN.fullmatch(subtype)):
        return None
    # `image/` for `image/*`, as dicomweb-client may write it.
    full = f"{kind}/{subtype or ANY}"
    return MediaType(_SAME.get(full, full), tuple(_parameters(rest)))


def _parameters(text: str) -> Iterator[tuple[str, str]]:
    for part in split_outside_quotes(text, ";"):
        name, equals, value = part.partition("=")
        name, value = name.strip().lower(), value.strip()
        if not equals or not _TOKEN.fullmatch(name):
            continue
        if len(value) >= 2 and value[0] == value[-1] == '"':
            yield name, re.sub(r"\\(.)", r"\1", value[1:-1])
        elif _LOOSE_VALUE.fullmatch(value):
            yield name, value


def split_outside_quotes(text: str, separator: str) -> list[str]:
    """`text` split at a one-character separator, but not inside quoted strings (RFC 9110 5.6.4)."""
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


def parse_accept(text: str) -> tuple[MediaRange, ...]:
    """The media ranges of an Accept field or of an accept parameter (8.7.7); those that cannot be read are
    left out.

    Raises BadRequest for more than 64 ranges or 8 KiB.
    """
    parts = split_outside_quotes(text, ",") if len(text) <= MAX_HEADER else []
    if not parts or len(parts) > MAX_RANGES:
        raise BadRequest(f"Accept takes at most {MAX_RANGES} media ranges and {MAX_HEADER} characters.", "Accept")
    return tuple(found for part in parts if (found := _range(part)) is not None)


def _range(text: str) -> MediaRange | None:
    media_type = parse_media_type(text)
    if media_type is None or (media_type.name.startswith("*/") and media_type.name != "*/*"):
        return None
    q = media_type.parameter("q")
    quality = float(q) if q is not None and _Q.fullmatch(q) else 1.0
    syntax = media_type.parameter("transfer-syntax")
    name, multipart = media_type.name, False if media_type.name != "*/*" else None
    if name in ("multipart/related", "multipart/*"):
        inner = parse_media_type(media_type.parameter("type") or "*/*")
        if inner is None:
            return None
        name, multipart = inner.name, True
        syntax = syntax or inner.parameter("transfer-syntax")
    if syntax is not None and syntax != ANY and not is_uid(syntax):
        syntax = None
    return MediaRange(name, multipart, syntax, quality)


def negotiate(offers: Sequence[Representation], accept: str | None, accept_parameter: str | None = None) -> Selected:
    """The representation to answer with (8.7.8).

    `offers`: what the resource has, in the server's order, the default first. `accept`: the header, several
    joined by commas. `accept_parameter`: the query parameter of PS3.18 8.3.3.1; it wins, unless nothing in
    it is offered. Raises NotAcceptable, and BadRequest for a parameter that mixes DICOM and rendered media
    types.
    """
    asked: tuple[MediaRange, ...] = ()
    if accept_parameter:
        # A plus sign that is not percent-encoded arrives as a blank.
        asked = tuple(r for r in parse_accept(BLANK.sub("+", accept_parameter)) if ANY not in r.name.split("/"))
        names = {r.name for r in asked}
        if names & _DICOM_TYPES and names & _RENDERED_TYPES:
            raise BadRequest("accept mixes DICOM and rendered media types.", "accept")
        found = _best(offers, asked)
        if found is not None:
            return found
    found = _best(offers, parse_accept(accept) if accept and accept.strip() else () if asked else (_ANYTHING,))
    if found is None:
        raise NotAcceptable(f"None of these is acceptable: {', '.join(dict.fromkeys(map(describe, offers)))}.")
    return found


_ANYTHING = MediaRange("*/*", None, None, 1.0)
BLANK = re.compile(r"(?<=[A-Za-z]) (?=[A-Za-z])")


def _best(offers: Sequence[Representation], ranges: Iterable[MediaRange]) -> Selected | None:
    """Each representation has the quality of the most specific range it matches; the highest wins (8.7.8.1).

    Of equals, the first offer does, in its stored transfer syntax for a range with `transfer-syntax=*`.
    """
    ordered = sorted(ranges, key=_specificity, reverse=True)
    best: tuple[float, int, int] | None = None
    selected: Selected | None = None
    for position, offer in enumerate(offers):
        for place, syntax in enumerate(offer.transfer_syntaxes or (None,)):
            found = next((r for r in ordered if _matches(r, offer, syntax)), None)
            if found is None or found.quality <= 0:
                continue
            anything = syntax is not None and _as_stored(found, offer)
            rank = (found.quality, -position, 1 if anything and syntax == offer.stored else -place)
            if best is None or rank > best:
                best = rank
                selected = Selected(offer, syntax, anything, named=found.transfer_syntax not in (None, ANY))
    return selected


def _specificity(media_range: MediaRange) -> tuple[int, int, int]:
    kind, subtype = media_range.name.split("/")
    named = 2 if subtype != ANY else 1 if kind != ANY else 0
    return named, 0 if media_range.multipart is None else 1, _SYNTAX_RANK.get(media_range.transfer_syntax, 2)


_SYNTAX_RANK: dict[str | None, int] = {None: 0, ANY: 1}


def _matches(media_range: MediaRange, offer: Representation, syntax: str | None) -> bool:
    if media_range.multipart not in (None, offer.multipart):
        return False
    kind, subtype = media_range.name.split("/")
    offered_kind, offered_subtype = offer.media_type.lower().split("/")
    if kind not in (ANY, offered_kind) or subtype not in (ANY, offered_subtype):
        return False
    if syntax is None or _as_stored(media_range, offer):
        return True
    return syntax == (media_range.transfer_syntax or offer.transfer_syntaxes[0])


def _as_stored(media_range: MediaRange, offer: Representation) -> bool:
    """Whether any transfer syntax will do: said by `*`, or of whole instances by `*/*` alone."""
    anything = media_range.multipart is None and media_range.transfer_syntax is None
    return media_range.transfer_syntax == ANY or (anything and offer.media_type == "application/dicom")


def describe(offer: Representation) -> str:
    """The media type of an offer as it stands in Accept."""
    return f'multipart/related; type="{offer.media_type}"' if offer.multipart else offer.media_type


def part_type(selected: Selected, transfer_syntax: str | None = None) -> str:
    """Content-Type of the body or, in a multipart one, of a part (8.7.9)."""
    syntax = transfer_syntax or selected.transfer_syntax
    return f"{selected.offer.media_type}; transfer-syntax={syntax}" if syntax else selected.offer.media_type
