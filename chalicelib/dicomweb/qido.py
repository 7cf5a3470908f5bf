"""QIDO-RS: what a search asks for, and whether an entity is in its answer (PS3.18 8.3.4 and 10.6).

`parse_query` reads the query once into a frozen `Query`; `matches` and `project` then work on entities in
the DICOM JSON Model; `selective_key` says which index finds the candidates. The rules are tables in
`search_attributes`.

What the standard leaves open is decided so:

* A parameter that is neither known nor an attribute is ignored, with a warning (8.3).
* An attribute that is no matching key here is ignored for matching, treated as a return key, with a warning
  (PS3.4 C.2.2.1.3). So is Timezone Offset From UTC, since no zone is converted.
* An attribute of an entity below the one searched for is refused (10.6.1.2.1 does not allow it).
* `limit` over the maximum is lowered to it (8.3.4.4.1).
* An attribute with several UIDs may list them with commas, with backslashes, or by repeating the parameter.
* Several values of a code string mean one of them; with `multiplevaluematching=true` every one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from chalicelib.dicomweb import range_matching, search_attributes
from chalicelib.dicomweb.matching import (
    Element,
    Match,
    Moments,
    Uids,
    Universal,
    Unparsable,
    matches_element,
    parse_match,
    values_of,
)
from chalicelib.dicomweb.range_matching import Range
from chalicelib.dicomweb.search_attributes import ATTRIBUTES, Level, rank
from chalicelib.domain import tags
from chalicelib.domain.errors import BadRequest

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
MAX_OFFSET = 10_000_000
MAX_PARAMETERS = 100
MAX_INCLUDED = 300
MAX_DEPTH = 4
REPLACEMENT = "\ufffd"
"""What stands for bytes that are no UTF-8 (Unicode 3.9)."""

Attributes = dict[str, Element]
"""An entity in the DICOM JSON Model: tag (8 hexadecimal digits, upper case) → attribute (PS3.18 F.2.2)."""

# Parameters that belong to content negotiation and to this archive, not to the search (8.3.3).
OTHER_PARAMETERS = frozenset({"accept", "charset", "owner"})

_FLAGS = ("fuzzymatching", "emptyvaluematching", "multiplevaluematching")


@dataclass(frozen=True, slots=True)
class SearchScope:
    """What the path of the resource has fixed: nothing, a study, or a study and a series (Table 10.6.1-1)."""

    study_instance_uid: str | None = None
    series_instance_uid: str | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """One matching key: the path of tags to the attribute, its entity, and what has to match."""

    path: tuple[str, ...]
    level: Level
    match: Match
    text: str


@dataclass(frozen=True, slots=True)
class MomentKey:
    """A date and its time as one (PS3.4 C.2.2.2.5): the tags of the pair, and the range of both together."""

    date: str
    time: str
    level: Level
    range: Range


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed search.

    `level`: of the entities that are returned. `keys`, `moments`: all of them have to match. `included`:
    paths of tags asked for by includefield. `limit`: 0 to 1000. `warnings`: texts for `Warning: 299`.
    `owner`: the institution whose studies are meant, when several have the same Study Instance UID.
    """

    level: Level
    scope: SearchScope
    keys: tuple[Key, ...] = ()
    moments: tuple[MomentKey, ...] = ()
    included: frozenset[tuple[str, ...]] = frozenset()
    include_all: bool = False
    fuzzy: bool = False
    limit: int = DEFAULT_LIMIT
    offset: int = 0
    owner: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def by_accession_number_alone(self) -> bool:
        """Whether it names an accession number, and not whose."""
        issuer = any(k.path[0] == tags.IssuerOfAccessionNumberSequence and not isinstance(k.match, Universal) for k in self.keys)
        return self.key(tags.AccessionNumber) is not None and not issuer

    def key(self, *path: str) -> Key | None:
        """The key on the attribute at `path`, unless it matches everything."""
        found = (k for k in self.keys if k.path == path and not isinstance(k.match, Universal))
        return next(found, None)


def among_studies(query: Query, uids: frozenset[str]) -> Query | None:
    """The same search among these studies only; None when it names none of them."""
    path = (tags.StudyInstanceUID,)
    named = query.key(*path)
    wanted = uids if named is None else uids & named.match.uids if isinstance(named.match, Uids) else frozenset()
    if not wanted:
        return None
    key = Key(path, ATTRIBUTES[path[0]].level, Uids(wanted), ",".join(sorted(wanted)))
    return replace(query, keys=(*(key for key in query.keys if key.path != path), key))


def parse_query(
    level: Level, params: Sequence[tuple[str, str]], scope: SearchScope | None = None, limit: int = DEFAULT_LIMIT
) -> Query:
    """The search that a query component asks for (PS3.18 8.3.4, 10.6.1.2).

    `params`: names and values in the order given, percent-decoded, repeats included. `limit`: how many results there are at the
    most where they do not say. Raises BadRequest, which names the parameter and never repeats its value.
    """
    _check_encoding(params)
    if sum(name != "includefield" for name, _ in params) > MAX_PARAMETERS:
        raise BadRequest(f"A search takes at most {MAX_PARAMETERS} query parameters besides includefield.")
    single = _single_values(params)
    flags = {name: _flag(name, single.get(name)) for name in _FLAGS}
    warnings: list[str] = []
    keys: dict[tuple[str, ...], Key] = {}
    returned: set[tuple[str, ...]] = set()
    for name, path, text in _match_parameters(params, warnings):
        wanted_level = ATTRIBUTES[path[0]].level if path[0] in ATTRIBUTES else None
        if wanted_level is not None and rank(wanted_level) > rank(level):
            raise BadRequest(f"{name} is an attribute of a {wanted_level}, not of a {level}.", name)
        if path[0] in search_attributes.NOT_MATCHED:
            continue
        vr = search_attributes.vr_of(path)
        if vr is None or wanted_level is None:
            warnings.append(f"Matching on {name} is not supported. It was ignored.")
            returned.add(path)
            continue
        match = _match(name, vr, text, flags)
        if path in keys:
            match, text = _joined(name, keys[path], match, text)
        keys[path] = Key(path, wanted_level, match, text)
    included, include_all = _included(params, warnings)
    dated, combined = _combine(keys)
    return Query(
        level=level,
        scope=scope or SearchScope(),
        keys=dated,
        moments=combined,
        included=frozenset(included | returned),
        include_all=include_all,
        fuzzy=flags["fuzzymatching"],
        limit=min(_unsigned("limit", single.get("limit"), limit), MAX_LIMIT),
        offset=min(_unsigned("offset", single.get("offset"), 0), MAX_OFFSET),
        owner=single.get("owner") or None,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _check_encoding(params: Iterable[tuple[str, str]]) -> None:
    """Raises BadRequest for what was percent-encoded otherwise than in UTF-8 (RFC 3986 2.5, PS3.18 8.3).

    API Gateway puts U+FFFD in the place of such bytes: a name with it would be found nowhere, as if there were no such patient.
    """
    for name, value in params:
        if REPLACEMENT in name:
            raise BadRequest("The name of a parameter is not percent-encoded UTF-8.")
        if REPLACEMENT in value:
            shown = _shown(name)
            raise BadRequest(f"{shown} is not percent-encoded UTF-8.", name if shown == name else None)


def _shown(name: str) -> str:
    """A parameter's name as an answer may repeat it."""
    return name if name.isascii() and name.replace(".", "").isalnum() and len(name) <= 64 else "A parameter"


def _single_values(params: Iterable[tuple[str, str]]) -> dict[str, str]:
    single: dict[str, str] = {}
    for name, value in params:
        if name in (*_FLAGS, "limit", "offset", "owner"):
            if name in single:
                raise BadRequest(f"{name} was given more than once.", name)
            single[name] = value
    return single


def _flag(name: str, value: str | None) -> bool:
    if value is None or value.lower() == "false":
        return False
    if value.lower() == "true":
        return True
    raise BadRequest(f"{name} must be true or false.", name)


def _unsigned(name: str, value: str | None, default: int) -> int:
    if value is None:
        return default
    if not (value.isascii() and value.isdigit()):
        raise BadRequest(f"{name} must be an unsigned integer.", name)
    return int(value) if len(value) <= 10 else MAX_OFFSET


def _match_parameters(params: Iterable[tuple[str, str]], warnings: list[str]) -> Iterable[tuple[str, tuple[str, ...], str]]:
    """The parameters that name attributes, as (name, path of tags, value)."""
    known = {*_FLAGS, "limit", "offset", "includefield"} | OTHER_PARAMETERS
    for name, value in params:
        if name in known:
            continue
        path = _path(name)
        if path is None:
            warnings.append(f"{_shown(name)} is not a supported query parameter. It was ignored.")
            continue
        yield name, path, value


def _path(name: str) -> tuple[str, ...] | None:
    """The tags of an attribute such as `00400275.00400009`, keywords allowed; None if it is not one
    (8.3.4.1).
    """
    identifiers = name.split(".")
    if len(identifiers) > MAX_DEPTH:
        return None
    tags = [search_attributes.tag_of(identifier) for identifier in identifiers]
    found = tuple(tag for tag in tags if tag is not None)
    return found if len(found) == len(tags) else None


def _match(name: str, vr: str, text: str, flags: dict[str, bool]) -> Match:
    try:
        return parse_match(
            vr,
            text,
            fuzzy=flags["fuzzymatching"],
            empty_values=flags["emptyvaluematching"],
            every=flags["multiplevaluematching"],
        )
    except Unparsable as error:
        raise BadRequest(f"{name} {error}.", name) from None


def _joined(name: str, before: Key, match: Match, text: str) -> tuple[Match, str]:
    """The same attribute twice: a longer list of UIDs; for all others an error (8.3.4.1)."""
    if not isinstance(before.match, Uids) or not isinstance(match, Uids):
        raise BadRequest(f"{name} was given more than once.", name)
    joined = f"{before.text}\\{text}"
    return _match(name, "UI", joined, dict.fromkeys(_FLAGS, False)), joined


def _included(params: Iterable[tuple[str, str]], warnings: list[str]) -> tuple[set[tuple[str, ...]], bool]:
    """The paths of includefield, repeated or as a list, and whether it was `all` (8.3.4.3)."""
    names = [n.strip() for key, value in params if key == "includefield" for n in value.split(",") if n.strip()]
    if len(names) > MAX_INCLUDED:
        raise BadRequest(f"includefield takes at most {MAX_INCLUDED} attributes.", "includefield")
    paths: set[tuple[str, ...]] = set()
    for name in names:
        if name == "all":
            continue
        if not all(search_attributes.looks_like_attribute(part) for part in name.split(".")):
            raise BadRequest("includefield takes tags, keywords, or all.", "includefield")
        path = _path(name)
        if path is None:
            warnings.append("includefield names an attribute that is not known. It was ignored.")
        else:
            paths.add(path)
    return paths, "all" in names


def _combine(keys: dict[tuple[str, ...], Key]) -> tuple[tuple[Key, ...], tuple[MomentKey, ...]]:
    """Date and time ranges of the same form become one (8.3.4.1.1).

    The date's own key stays, since the combination implies it. Raises BadRequest for ends in the wrong order.
    """
    combined: list[MomentKey] = []
    for date_tag, time_tag in search_attributes.DATE_TIME_PAIRS.items():
        date_key, time_key = keys.get((date_tag,)), keys.get((time_tag,))
        if date_key is None or time_key is None:
            continue
        if isinstance(date_key.match, Moments) and isinstance(time_key.match, Moments):
            both = range_matching.combine(date_key.match.range, time_key.match.range)
            if both is not None:
                combined.append(MomentKey(date_tag, time_tag, date_key.level, both))
    gone = {(m.time,) for m in combined}
    left = tuple(k for path, k in keys.items() if path not in gone)
    ranges = [(k.path[0], k.match.range) for k in left if isinstance(k.match, Moments)]
    for tag, byte_range in ranges + [(m.time, m.range) for m in combined]:
        if not byte_range.in_order:
            name = ATTRIBUTES[tag].keyword if tag in ATTRIBUTES else tag
            raise BadRequest(f"{name} is a range that ends before it begins.", name)
    return left, tuple(combined)


def matches(query: Query, attributes: Attributes, level: Level | None = None) -> bool:
    """Whether an entity, with the attributes of the entities above it, matches every key (PS3.4 C.2.2.2).

    With `level`, only the keys of that level are looked at: so a study can be ruled out before its series
    are read.
    """
    keys = [k for k in query.keys if level is None or k.level == level]
    pairs = [m for m in query.moments if level is None or m.level == level]
    return _match_item(tuple((k.path, k.match) for k in keys), attributes) and all(
        _match_pair(pair, attributes) for pair in pairs
    )


def _match_item(keys: tuple[tuple[tuple[str, ...], Match], ...], item: Attributes) -> bool:
    """All keys on one item; those into one sequence have to match in one of its items (PS3.4 C.2.2.2.6)."""
    inner: dict[str, list[tuple[tuple[str, ...], Match]]] = {}
    for path, match in keys:
        if len(path) == 1:
            if not matches_element(match, item.get(path[0])):
                return False
        elif not isinstance(match, Universal):
            inner.setdefault(path[0], []).append((path[1:], match))
    return all(
        any(isinstance(i, dict) and _match_item(tuple(rest), i) for i in _items(item.get(tag))) for tag, rest in inner.items()
    )


def _items(element: Element | None) -> Sequence[Attributes]:
    """The items of a sequence; one empty item for a sequence that has none, so that Empty can match."""
    return list(values_of(element)) or [{}]


def _match_pair(pair: MomentKey, attributes: Attributes) -> bool:
    """A stored date without a time stands for the day's first moment."""
    days = values_of(attributes.get(pair.date))
    times = values_of(attributes.get(pair.time))
    day = range_matching.stored_moment("DA", days[0]) if days else None
    time = range_matching.stored_moment("TM", times[0]) if times else None
    return day is not None and pair.range.contains(day + (time or "0" * 12))
