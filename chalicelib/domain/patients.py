"""What the partition of one patient identifier says: links, transfers, objections, protections, emergencies.

Patients are linked, never merged. A link joins two identifiers, stands in the partitions of both, and is ended by a fact
beside it. Links are not followed further: what is linked to a linked identifier is not linked.

Every kind of fact is `KIND#<id>[#<number>]`, and is ended by the same key with `#END`. The kinds that decide lie side by
side in the order of keys, between those that only tell what is there, of which there may be many: `DECIDING`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

from chalicelib.domain import demographics, italian, keys, transfers
from chalicelib.domain.demographics import Demographics
from chalicelib.domain.emergencies import EmergencyAccess
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Item, Key
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.sharing import Consent, Emergency, Objection, Protection
from chalicelib.domain.transfers import Transfer

END = keys.ENDED
AUTOMATIC = "codice-fiscale"
"""The basis of a link that the archive makes by itself."""
MOST_NAMES, MOST_FAMILY = 16, 4
"""Names of one number that are compared, and words of a family's name where it is written in one with the given name."""
ABOUT = keys.begins(keys.about)
DECIDING: Key = (keys.begins(keys.consent), f"{keys.begins(keys.transfer)}~")
"""The sort keys between which all that decides lies: CONSENT, EMERGENCY, LINK, OBJECTION, PROTECTION, TRANSFER."""


@dataclass(frozen=True)
class IdentityLink:
    """Two identifiers of the same patient. `basis`: `codice-fiscale`, `transfer` or `confirmed`. `number` counts repeats."""

    id: str
    number: int
    one: PatientIdentifier
    other: PatientIdentifier
    basis: str
    by: str
    at: str
    evidence: tuple[str, ...] = ()
    ended: bool = False

    @property
    def rests_on_code(self) -> bool:
        """Whether two numbers are joined by nothing but the codice fiscale that both are linked to."""
        return self.basis == AUTOMATIC and not any(italian.kind(side) == "codice-fiscale" for side in (self.one, self.other))

    def is_word_of(self, institution: str) -> bool:
        """Whether the archive made it, or somebody of this institution."""
        return self.basis == AUTOMATIC or self.by.partition("/")[0] == institution

    def beyond(self, patient: str) -> PatientIdentifier:
        """The identifier that is not the one with this hash."""
        return self.other if self.one.hash == patient else self.one


@dataclass(frozen=True)
class CodeCarrier:
    """An identifier whose record carries a codice fiscale (`code`: without omocodia), with what it says of birth date (YYYYMMDD),
    sex and name (`FAMILY^GIVEN`, as it is compared), and as what the code is `written` there, empty where that was not kept.
    """

    identifier: PatientIdentifier
    code: str
    birth_date: str
    sex: str
    name: str = ""
    written: str = ""


@dataclass(frozen=True)
class Record:
    """The partition of one patient identifier, folded. `studies`, `carriers` and `stated` only where the whole of it was read."""

    patient: str
    links: tuple[IdentityLink, ...] = ()
    transfers: tuple[Transfer, ...] = ()
    objections: dict[str, Objection] = field(default_factory=dict)
    protections: tuple[Protection, ...] = ()
    consents: tuple[Consent, ...] = ()
    emergencies: tuple[Emergency, ...] = ()
    studies: tuple[tuple[str, str], ...] = ()
    carriers: tuple[CodeCarrier, ...] = ()
    stated: tuple[Demographics, ...] = ()
    """What its hospital's registration said of it, the latest last."""

    @property
    def linked(self) -> tuple[PatientIdentifier, ...]:
        """The identifiers that are linked to this one now, as far as this record can tell (see `joins`)."""
        return tuple(sorted({link.beyond(self.patient) for link in self.links if not link.ended and self._holds(link)}))

    @property
    def codes(self) -> frozenset[PatientIdentifier]:
        """The codici fiscali that it is, or is linked to now."""
        sides = {side for link in self.links if not link.ended for side in (link.one, link.other)}
        return frozenset(side for side in sides if italian.kind(side) == "codice-fiscale")

    def joins(self, other: Record, institution: str | None = None) -> bool:
        """Whether the link to the identifier of another record holds: one that rests on a codice fiscale, only as long as both
        are linked to it. With `institution`, whether one does that the archive made, or somebody of this institution."""
        live = [link for link in self.links if not link.ended and link.beyond(self.patient).hash == other.patient]
        live = [link for link in live if institution is None or link.is_word_of(institution)]
        return any(not link.rests_on_code or self.codes & other.codes for link in live)

    def _holds(self, link: IdentityLink) -> bool:
        return bool(self.codes) or not link.rests_on_code


def link_id(one: PatientIdentifier, other: PatientIdentifier) -> str:
    """The id of the link of two identifiers, whichever comes first."""
    return sha256("\n".join(sorted((one.hash, other.hash))).encode()).hexdigest()[:24]


def fold(patient: str, items: Iterable[Item]) -> Record:
    """The record of the identifier with this hash, from the facts of its partition in any order."""
    facts = list(items)
    ended = {item.sk.removesuffix(END) for item in facts if item.sk.endswith(END)}
    live = [item for item in facts if not item.sk.endswith(END) and item.sk not in ended]

    def of(kind: str) -> list[Item]:
        return [item for item in live if item.sk.startswith(f"{kind}#")]

    return Record(
        patient,
        links=tuple(
            _link(item, item.sk in ended)
            for item in facts
            if item.sk.startswith(keys.begins(keys.link)) and not item.sk.endswith(END)
        ),
        transfers=tuple(transfers.in_patient(facts)),
        objections={item.sk.split("#")[1]: Objection(str(item.data["owner"]), _study(item)) for item in of("OBJECTION")},
        protections=tuple(Protection(str(i.data["owner"]), str(i.data["study"])) for i in of("PROTECTION")),
        consents=tuple(Consent(str(i.data["owner"]), str(i.data["study"]), str(i.data["to"])) for i in of("CONSENT")),
        emergencies=tuple(EmergencyAccess.from_item(item.data).for_deciding() for item in of("EMERGENCY")),
        studies=tuple(owner_and_study(item.sk) for item in of("UID")),
        carriers=tuple(_carrier(item.data) for item in of("CARRIES")),
        stated=demographics.in_partition(facts),
    )


def filed(identifier: PatientIdentifier, owner: str, study: str) -> Item:
    """The fact that a patient identifier has a study."""
    return Item(keys.patient_facts(identifier.hash), keys.filed(owner, study), dict(identifier.to_item()))


def linking(link: IdentityLink) -> list[Item]:
    """The facts of a link: the same in the partitions of both identifiers."""
    data: dict[str, object] = {
        "id": link.id,
        "number": link.number,
        "one": link.one.to_item(),
        "other": link.other.to_item(),
        "basis": link.basis,
        "by": link.by,
        "at": link.at,
        "evidence": list(link.evidence),
    }
    return [Item(keys.patient_facts(side.hash), keys.link(link.id, link.number), data) for side in (link.one, link.other)]


def unlinking(link: IdentityLink, by: str, now: datetime) -> list[Item]:
    """The facts that undo a link, in the partitions of both identifiers."""
    data: dict[str, object] = {"by": by, "at": iso(now)}
    sk = keys.link(link.id, link.number) + keys.ENDED
    return [Item(keys.patient_facts(side.hash), sk, data) for side in (link.one, link.other)]


@dataclass(frozen=True)
class Statement:
    """What an image says of whose number it has: birth date (YYYYMMDD), sex, and a codice fiscale; each may be empty."""

    birth_date: str
    sex: str
    code: str = ""


def stating(identifier: PatientIdentifier, said: Statement) -> Item:
    """The fact that an image of this identifier says so. The same however often it is said."""
    digest = sha256(f"{said.birth_date}\n{said.sex}\n{said.code}".encode()).hexdigest()[:16]
    data: dict[str, object] = {"birth_date": said.birth_date, "sex": said.sex, "code": said.code}
    return Item(keys.patient_facts(identifier.hash), f"{ABOUT}{digest}", data)


def statement(item: Item) -> Statement:
    """What a fact of `stating` says."""
    return Statement(*(str(item.data[name]) for name in ("birth_date", "sex", "code")))


@dataclass(frozen=True)
class Judgement:
    """What the records that carry a codice fiscale say of it: identifiers that agree with it, and those that contradict it.

    Those in neither do not say enough.
    """

    agreeing: frozenset[PatientIdentifier]
    contradicting: frozenset[PatientIdentifier]


def judge(carriers: Sequence[CodeCarrier], birth: str, sex: str) -> Judgement:
    """Compare records with the birth date (YYMMDD) and the sex (M, F) that a codice fiscale encodes.

    An identifier agrees when one of its records states both and they fit, and none states another one: a newborn filed
    under its mother's code is not her. What is absent, or a sex of O, says nothing. The code does not tell the century, so
    where those who agree differ in it, all of them contradict.
    """
    contradicting = {carrier.identifier for carrier in carriers if contradicts(carrier, birth, sex)}
    fitting = [carrier for carrier in carriers if carrier.identifier not in contradicting and _fits(carrier, birth, sex)]
    if len({carrier.birth_date for carrier in fitting}) > 1:
        return Judgement(frozenset(), frozenset(contradicting | {carrier.identifier for carrier in fitting}))
    return Judgement(frozenset(carrier.identifier for carrier in fitting), frozenset(contradicting))


def named_apart(
    carriers: Sequence[CodeCarrier], agreeing: Set[PatientIdentifier], encodes: Callable[[str], bool]
) -> frozenset[PatientIdentifier]:
    """Those that agree with a codice fiscale and are named as another person than it was given to: twins differ in nothing else.

    `encodes`: whether the code encodes a given name. Where it does one, all those are named apart whose given name is not that
    one, or that one with a name more or less; where it does two that differ, all are. Where it encodes none of them, they are
    written in ways that tell nothing. What stands in for a name (`italian.is_stand_in`) is nobody's for certain, nor is a number
    of more than `MOST_NAMES`; a record without a given name says nothing.
    """
    names: dict[PatientIdentifier, set[str]] = {number: set() for number in agreeing}
    for carrier in carriers:
        if carrier.identifier in names and " ".join(carrier.name.split("^")).count(" "):
            names[carrier.identifier].add(carrier.name)
    named = {number: found for number, found in names.items() if found}
    told = [found for found in named.values() if len(found) <= MOST_NAMES]
    real = {name for found in told for name in found if not italian.is_stand_in(name)}
    encoded = {name for name in real if any(encodes(given) for given in _given(name))}
    meant = {name for name in encoded or real if not encoded or all(_alike(name, other) for other in encoded)}
    return frozenset(
        number
        for number, found in named.items()
        if len(found) > MOST_NAMES or not any(_alike(name, other) for name in found & real for other in meant)
    )


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", name) if word]


def _given(name: str) -> list[str]:
    """The given name of `FAMILY^GIVEN`; of a name that is written in one, what it may be."""
    family, _, given = name.partition("^")
    words = family.split()
    return [given] if given else [" ".join(words[start:]) for start in range(1, min(len(words), 1 + MOST_FAMILY))]


def _alike(name: str, other: str) -> bool:
    """Whether two names are of one given name, or one of them has names besides: by all their words, or the given ones. What is
    written in one (ANNAMARIA) is what is written in two."""
    if _within(_words(name), _words(other)):
        return True
    return any(
        _within(given, also) or "".join(given) in _beginnings(also) or "".join(also) in _beginnings(given)
        for given in map(_words, _given(name))
        for also in map(_words, _given(other))
    )


def _within(words: list[str], others: list[str]) -> bool:
    return set(words) <= set(others) or set(others) <= set(words)


def _beginnings(words: list[str]) -> set[str]:
    return {"".join(words[:count]) for count in range(1, len(words) + 1)}


def by_written_code(carriers: Sequence[CodeCarrier], agreeing: Set[PatientIdentifier]) -> dict[str, frozenset[PatientIdentifier]]:
    """Whom each codice fiscale, as it is written, joins of those that agree with it, where all are equal without omocodia.

    Those that carry just this one; and of those that carry another, who are named as all that carry it are: by one name, family
    and given. One that carries two is nobody's for certain.
    """
    names: dict[PatientIdentifier, set[str]] = {}
    codes: dict[PatientIdentifier, set[str]] = {}
    for carrier in carriers:
        names.setdefault(carrier.identifier, set()).add(carrier.name)
        codes.setdefault(carrier.identifier, set()).update({carrier.written} - {""})
    written = {number: found or {carriers[0].code} for number, found in codes.items()}
    joined: dict[str, frozenset[PatientIdentifier]] = {}
    for code in sorted(set().union(*written.values())):
        named = set().union(*(names[number] for number, found in written.items() if code in found))
        joined[code] = frozenset(
            number
            for number in agreeing
            if len(written[number]) == 1 and (code in written[number] or _is_full(named | names[number]))
        )
    return joined


def _is_full(names: Set[str]) -> bool:
    """Whether these are one name, with family and given name."""
    return len(names) == 1 and all(all(name.partition("^")[::2]) for name in names)


def _fits(carrier: CodeCarrier, birth: str, sex: str) -> bool:
    return len(carrier.birth_date) == 8 and carrier.birth_date[2:] == birth and carrier.sex == sex


def contradicts(said: CodeCarrier | Statement, birth: str, sex: str) -> bool:
    """Whether a record states another birth date (YYMMDD) or sex (M, F). What is absent, or a sex of O, says nothing."""
    other_date = len(said.birth_date) == 8 and said.birth_date[2:] != birth
    return other_date or (said.sex in ("M", "F") and said.sex != sex)


def _link(item: Item, ended: bool) -> IdentityLink:
    data: Mapping[str, Any] = item.data
    return IdentityLink(
        str(data["id"]),
        int(data["number"]),
        PatientIdentifier.from_item(data["one"]),
        PatientIdentifier.from_item(data["other"]),
        str(data["basis"]),
        str(data["by"]),
        str(data["at"]),
        tuple(str(text) for text in data["evidence"]),
        ended,
    )


def _carrier(data: Mapping[str, Any]) -> CodeCarrier:
    said = (str(data.get(name, "")) for name in ("code", "birth_date", "sex", "name", "written"))
    return CodeCarrier(PatientIdentifier.from_item(data), *said)


def _study(item: Item) -> str | None:
    study = item.data.get("study")
    return str(study) if study else None


def owner_and_study(sk: str) -> tuple[str, str]:
    """The study that the sort key of a `filed` fact names."""
    _, owner, study = sk.split("#", 2)
    return owner, study
