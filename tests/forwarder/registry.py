"""A hospital's registration for the tests: it tells by ADT who comes, goes, moves and is somebody else."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from codicefiscale import codicefiscale

_numbers = itertools.count(1)
_LETTERS = "BCDFGLMNPRSTVZ"


@dataclass
class Invented:
    """An invented person, with a codice fiscale that agrees, and a number at each hospital."""

    number: str
    visit: str
    family: str
    given: str = "LUCIA"
    birth_date: str = "19510314"
    sex: str = "F"
    code: str = field(init=False)

    def __post_init__(self) -> None:
        born = datetime.strptime(self.birth_date, "%Y%m%d").strftime("%d/%m/%Y")
        self.code = str(codicefiscale.encode(self.family, self.given, self.sex, born, "Pavia"))


def invented(number: str = "", **more: str) -> Invented:
    """Somebody whom no other test knows; `number` where two persons are to have the same."""
    count = next(_numbers)
    born = datetime(1930, 1, 1) + timedelta(days=(datetime.now().microsecond * 7 + count * 131) % 20_000)
    letters = "".join(_LETTERS[(count // 14**place) % 14] + "A" for place in range(3))
    unique = f"{datetime.now():%H%M%S%f}{count}"
    values = {"number": number or f"P{unique}", "visit": f"V{unique}", "family": letters, "birth_date": f"{born:%Y%m%d}"} | more
    return Invented(**values)


def minutes(count: float) -> str:
    """So many minutes from now, at the hospital."""
    return f"{datetime.now(ZoneInfo('Europe/Rome')) + timedelta(minutes=count):%Y%m%d%H%M%S}"


def adt(
    trigger: str,
    who: Invented,
    *,
    authority: str,
    to: str = "",
    disposition: str = "",
    at: float = 0.0,
    occurred: str = "",
    control_id: str = "",
    ward: str = "",
    pending: str = "",
    coming_from: str = "",
    code: str | None = None,
    merged: str = "",
    **more: str,
) -> bytes:
    """An ADT message as a common RIS writes it; `at`: minutes from now (EVN-2)."""
    number = more.get("number", who.number)
    code = who.code if code is None else code
    said = f"~{code}^^^&2.16.840.1.113883.2.9.4.3.2&ISO^NNITA" if code else ""
    person = f"{more.get('family', who.family)}^{who.given}||{more.get('birth_date', who.birth_date)}|{more.get('sex', who.sex)}"
    pv1 = {
        2: "I",
        3: f"MED^101^1^{ward}",
        14: coming_from,
        19: more.get("visit", who.visit),
        36: disposition,
        37: to,
        42: pending,
    }
    if pending:
        pv1[42] = f"^^^{pending}"
    fields = "|".join(["PV1", *(pv1.get(place, "") for place in range(1, max(pv1) + 1))]).rstrip("|")
    lines = [
        f"MSH|^~\\&|{more.get('sender', 'ADT')}|{authority}|CONTENITORE|CITY|{minutes(0)}||ADT^{trigger}^ADT_{trigger}|"
        f"{control_id or f'C{next(_numbers)}-{minutes(0)}'}|P|2.5||||||UNICODE UTF-8",
        f"EVN|{trigger}|{minutes(at)}||||{occurred}",
        f"PID|1||{number}^^^{authority}^PI{said}||{person}",
    ]
    if merged and trigger in ("A24", "A37"):
        return ("\r".join([*lines, fields, f"PID|2||{merged}^^^{authority}^PI||{person}"]) + "\r").encode()
    if merged:
        lines.append(f"MRG|{merged}^^^{authority}^PI")
    else:
        lines.append(fields)
    if "consent" in more:
        lines.append(f"ZCO|{more['consent']}")
    return ("\r".join(lines) + "\r").encode()
