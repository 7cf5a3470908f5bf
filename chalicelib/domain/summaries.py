"""The summary of a study: what `V#STUDY` says of it, from what its instances add up to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from chalicelib.domain import report_versions, tags
from chalicelib.domain.filing import Filing, Own, as_said, filing, whose
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.report_versions import Placed, Report
from chalicelib.domain.studies import MAX_PERSONS, Attributes, is_of_patient
from chalicelib.domain.study_totals import Firsts, StudyTotals, Tally

_MAX_REPORTS = 200


def summarise(owner: str, study: str, tally: Tally, reports: list[dict[str, Any]], own: Own = as_said) -> dict[str, Any]:
    """The summary of a study. Where nothing of it is shown, it still says whose it was and what it was of.

    `reports` as `list_reports` answers them. `own` knows the names of the owner's numbering. `incomplete`: something that was
    announced is not indexed; what has become of it, its verdicts tell. Attributes are those of the first instance in UID order
    that has them, so any order of arrival gives the same. `date` is the earliest of all (YYYYMMDD), since a study must not count
    as later than its oldest part.
    """
    gone = tally.whole or not tally.shown.instances
    totals = tally.every if gone else tally.shown
    attributes = totals.firsts.attributes
    numbers = filed(totals, own)
    persons = _persons(totals, numbers, own, attributes) if len(numbers.patients) > 1 else {}
    if totals.date:
        attributes[tags.StudyDate] = {"vr": "DA", "Value": [totals.date]}
    return {
        "owner": owner,
        "study": study,
        "attributes": attributes,
        "patients": _numbers(numbers.patients),
        "said": _numbers(numbers.said),
        "aliases": numbers.aliases,
        "reported": list(numbers.reported),
        **({"persons": persons} if persons else {}),
        "anonymous": totals.nobodys,
        "date": totals.date,
        "modalities": list(totals.modalities),
        "reports": [] if gone else reports,
        "sop_classes": list(totals.sop_classes),
        "body_parts": list(totals.body_parts),
        "laterality": _laterality(totals),
        "views": list(totals.views),
        "series_names": list(totals.series_names),
        "codes": list(totals.codes),
        "series": 0 if gone else tally.series,
        "instances": 0 if gone else totals.instances,
        "images": 0 if gone else totals.images,
        "frames": 0 if gone else totals.frames,
        "bytes": totals.size,
        "changed_at": totals.changed_at,
        **({"incomplete": True} if tally.missing or tally.waiting else {}),
        "reader": totals.reader,
        "corrected": totals.corrected,
        "unread": list(totals.unread),
        "gone": gone,
        "withdrawn": tally.every.instances if gone else tally.taken_back.instances,
        "former": sorted(_hashes((*tally.superseded, *tally.every.said), own) - _hashes(totals.said, own)),
    }


def corrected_away(tally: Tally, own: Own = as_said) -> list[str]:
    """The hashes of the patient identifiers that a study had, and that corrections took from all of its instances."""
    return sorted(_hashes(tally.superseded, own) - _hashes(tally.every.said, own))


def filed(totals: StudyTotals, own: Own = as_said) -> Filing:
    """Whose the instances are, and how they say so."""
    pairs = [(number, False) for number, part in totals.said.items() if part.images]
    return filing([*pairs, *((number, True) for number, part in totals.said.items() if part.reports)], own)


def _hashes(said: Iterable[PatientIdentifier], own: Own) -> set[str]:
    return {number.hash for one in said for number in (one, own(one))}


def _numbers(numbers: Iterable[PatientIdentifier]) -> list[dict[str, str]]:
    return [{"issuer": one.issuer, "id": one.value} for one in numbers]


def _persons(totals: StudyTotals, numbers: Filing, own: Own, of_all: Attributes) -> dict[str, Attributes]:
    """Of a study with instances of several patients, what those of each say of patient and study, by the patient's hash."""
    found: dict[PatientIdentifier, Firsts] = {}
    for said, part in totals.said.items():
        patient = whose(own(said), numbers.patients)
        if patient is not None and part.firsts.found:
            found[patient] = found.get(patient, Firsts()) + part.firsts
    first = sorted(found, key=lambda patient: (found[patient].place, patient))[:MAX_PERSONS]
    study = {tag: value for tag, value in of_all.items() if not is_of_patient(tag)}
    return {patient.hash: study | found[patient].attributes for patient in first}


def _laterality(totals: StudyTotals) -> str:
    """The side that the images show: R, L, B for both, or empty (Laterality, Image Laterality; PS3.3 C.7.3.1, C.7.6.1)."""
    return totals.sides[0] if len(totals.sides) == 1 else "B" if totals.sides else ""


def list_reports(every: Iterable[Report]) -> list[dict[str, Any]]:
    """The reports of a study that are shown, newest first; `newest` are those that none of the others has replaced.

    What has been withdrawn only tells which reports it replaced. Reports with the same `document` are versions of one; `same_as`
    names the instance that another one is a copy of. `conclusion`: the first line of what one that stands concludes.
    """
    return [
        {
            "sop_instance_uid": placed.report.sop_instance_uid,
            "series_instance_uid": placed.report.series_instance_uid,
            "kind": placed.report.kind,
            "title": placed.report.title,
            "date": placed.report.date,
            "time": placed.report.time,
            "version": placed.version,
            "newest": placed.newest,
            "document": placed.document,
            **({"status": status} if (status := _status(placed.report)) else {}),
            **({"preliminary": True} if placed.report.declared.get("preliminary") else {}),
            **({"same_as": placed.same_as} if placed.same_as else {}),
            **({"conclusion": said} if placed.newest and (said := placed.report.declared.get("conclusion")) else {}),
        }
        for placed in _listed(report_versions.place(every))
    ]


def _listed(placed: Sequence[Placed]) -> list[Placed]:
    """As many as fit a summary, in order: of too many, older versions make room for what stands."""
    standing_first = sorted(range(len(placed)), key=lambda position: not placed[position].newest)
    return [placed[position] for position in sorted(standing_first[:_MAX_REPORTS])]


def _status(report: Report) -> str:
    """As it says itself; of one that says no more than that it is not final, that."""
    return report.status or ("preliminary" if report.declared.get("preliminary") else "")
