"""What a hospital's own registration (its ADT) says of one of its patients: facts, of which the latest counts.

They lie in the patient's partition, before all that decides (`patients.DECIDING`), so that deciding never reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalicelib.domain import identifiers, italian, keys
from chalicelib.domain.errors import BadRequest
from chalicelib.domain.fields import fields
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Item
from chalicelib.domain.rfc3339 import iso

PREFIX = keys.begins(keys.registration)
MAX_NAME = 194
"""Characters: three component groups of 64 and what stands between (PS3.5 6.2, PN)."""
MAX_IDENTIFIERS = 16
MAX_EVENT = 64
SEXES = ("M", "F", "O")
_KNOWN = frozenset({"name", "birth_date", "sex", "identifiers", "event"})


@dataclass(frozen=True)
class Demographics:
    """Name (as in DICOM, `FAMILY^GIVEN`), birth date (YYYYMMDD) and sex (M, F, O), each empty where it is not known; the
    patient's other numbers; and the event by which it was learnt, such as A01. `number` counts what was said, from 1.
    """

    name: str = ""
    birth_date: str = ""
    sex: str = ""
    identifiers: tuple[PatientIdentifier, ...] = ()
    event: str = ""
    number: int = 0
    at: str = ""

    @property
    def codes(self) -> list[str]:
        """What stands under the codice fiscale's issuer, valid or not."""
        return [number.value for number in self.identifiers if number.issuer == italian.CODICE_FISCALE]


def parse(body: object) -> Demographics:
    """The body of `PUT /patients/{id}`. Raises BadRequest naming the field; what is absent or null is not known."""
    said = fields(body, _KNOWN)
    sex = _text(said.get("sex"), "sex", 1).upper()
    if sex and sex not in SEXES:
        raise BadRequest("sex must be M, F or O.", "sex")
    return Demographics(
        _text(said.get("name"), "name", MAX_NAME),
        _date(said.get("birth_date")),
        sex,
        _identifiers(said.get("identifiers")),
        _text(said.get("event"), "event", MAX_EVENT),
    )


def _text(value: object, parameter: str, longest: int) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > longest or not value.isprintable() or "\\" in value:
        raise BadRequest(f"{parameter} must be at most {longest} printable characters, without a backslash.", parameter)
    return value.strip()


def _date(value: object) -> str:
    """A birth date, which may be written YYYYMMDD or YYYY-MM-DD."""
    text = _text(value, "birth_date", 10)
    if not text:
        return ""
    digits = text.replace("-", "") if len(text) == 10 and text[4] == text[7] == "-" else text
    try:
        if len(digits) != 8 or not digits.isascii() or not digits.isdigit():
            raise ValueError
        datetime.strptime(digits, "%Y%m%d")
    except ValueError as error:
        raise BadRequest("birth_date must be a day: YYYYMMDD or YYYY-MM-DD.", "birth_date") from error
    return digits


def _identifiers(value: object) -> tuple[PatientIdentifier, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MAX_IDENTIFIERS:
        raise BadRequest(f"identifiers must be a list of at most {MAX_IDENTIFIERS}.", "identifiers")
    found: list[PatientIdentifier] = []
    for entry in value:
        number = fields(entry, ("issuer", "id"), ("issuer", "id"), of="identifiers")
        if not isinstance(number["issuer"], str) or not number["issuer"].strip():
            raise BadRequest("An identifier's issuer must be an OID or a name.", "identifiers")
        found.append(identifiers.patient_identifier(number["id"], number["issuer"], "", ("identifiers", "identifiers")))
    return tuple(dict.fromkeys(found))


def stated(own: PatientIdentifier, known: Demographics, by: str, now: datetime) -> Item:
    """The fact that its hospital says this of the patient with this number."""
    data: dict[str, object] = {
        "name": known.name,
        "birth_date": known.birth_date,
        "sex": known.sex,
        "identifiers": [{"issuer": number.issuer, "id": number.value} for number in known.identifiers],
        "event": known.event,
        "by": by,
        "at": iso(now),
    }
    return Item(keys.patient_facts(own.hash), keys.registration(known.number), data)


def from_item(item: Item) -> Demographics:
    """What a fact says."""
    data: Mapping[str, Any] = item.data
    numbers = tuple(PatientIdentifier(str(number["issuer"]), str(number["id"])) for number in data["identifiers"])
    number = int(item.sk.removeprefix(PREFIX))
    return Demographics(
        str(data["name"]), str(data["birth_date"]), str(data["sex"]), numbers, str(data["event"]), number, str(data["at"])
    )


def in_partition(items: Iterable[Item]) -> tuple[Demographics, ...]:
    """All that was said, the latest last, from facts of a patient's partition in any order."""
    facts = sorted((item for item in items if item.sk.startswith(PREFIX)), key=lambda item: item.sk)
    return tuple(from_item(item) for item in facts)
