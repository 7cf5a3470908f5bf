"""Under which patient's numbers a study is filed: what its instances say, by what its owner's numbering is called now.

A fact keeps the number as the instance said it, and a name in Issuer of Patient ID that is not the owner's own keeps a
numbering apart. Which names are the owner's own, its registration says (`Institution.issuer_names`), now and not when the
instance came: so a name that is registered later joins what was stored before, and one that is taken out parts it again.

A report (PS3.3 A.35, A.45) is of its study's own patient, however it writes the issuer: the same study of the same owner
and the same number are one patient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from chalicelib.domain.identifiers import PatientIdentifier

Own = Callable[[PatientIdentifier], PatientIdentifier]
"""From a number as an instance says it to the same number under the owner's own issuer, where its issuer's name is one of
the owner's (`Institution.own`)."""


def as_said(number: PatientIdentifier) -> PatientIdentifier:
    """The number itself: where nothing is known of names."""
    return number


@dataclass(frozen=True)
class Filing:
    """The numbers of a study. `said`: as its instances say them; `patients`: whose they are; both in order.

    `aliases`: by the hash of one of `patients`, those of its other spellings. `reported`: hashes of numbers that only reports
    say: they open nothing, and what was said under them hides.
    """

    patients: tuple[PatientIdentifier, ...] = ()
    said: tuple[PatientIdentifier, ...] = ()
    aliases: dict[str, list[str]] = field(default_factory=dict)
    reported: tuple[str, ...] = ()


def filing(said: Iterable[tuple[PatientIdentifier, bool]], own: Own) -> Filing:
    """The filing of a study from what each of its instances says, and whether that instance is a report."""
    pairs = set(said)
    images = {own(number) for number, report in pairs if not report}
    only = next(iter(images)) if len(images) == 1 else None
    patients: set[PatientIdentifier] = set()
    aliases: dict[str, set[str]] = {}
    reported: set[str] = set()
    for number, report in pairs:
        patient = own(number)
        if report and only is not None and patient.value == only.value and patient != only:
            reported |= {number.hash, patient.hash}
            patient = only
        elif number != patient:
            aliases.setdefault(patient.hash, set()).add(number.hash)
        patients.add(patient)
    spelled = {other for others in aliases.values() for other in others} | {number.hash for number in patients}
    return Filing(
        tuple(sorted(patients)),
        tuple(sorted({number for number, _ in pairs})),
        {patient: sorted(others) for patient, others in sorted(aliases.items())},
        tuple(sorted(reported - spelled)),
    )


def whose(
    said: PatientIdentifier, patients: Iterable[PatientIdentifier], aliases: Mapping[str, Iterable[str]] | None = None
) -> PatientIdentifier | None:
    """Which of a study's patients an instance is of that says this number: the same one, or the same in another spelling."""
    found = list(patients)
    if said in found:
        return said
    spelled = [number for number in found if said.hash in (aliases or {}).get(number.hash, ())]
    return next(iter([*spelled, *(number for number in found if number.value == said.value)]), None)
