"""The summary of a study: what `V#STUDY` says of it, from what its instances add up to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chalicelib.domain import report_versions, tags
from chalicelib.domain.dicom_json import Attributes
from chalicelib.domain.filing import Filing, Own, as_said, filing, whose
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.report_versions import ListedReport, Report, ReportVersion
from chalicelib.domain.studies import MAX_PERSONS, is_of_patient
from chalicelib.domain.study_totals import Firsts, StudyTotals, Tally
from chalicelib.domain.study_views import StudyView

_MAX_REPORTS = 200


def summarise(owner: str, study: str, tally: Tally, reports: Sequence[ListedReport], own: Own = as_said) -> StudyView:
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
    return StudyView(
        owner=owner,
        study_instance_uid=study,
        study_date=totals.date,
        patients=numbers.patients,
        said=numbers.said,
        aliases=numbers.aliases,
        reported=numbers.reported,
        former=tuple(sorted(_hashes((*tally.superseded, *tally.every.said), own) - _hashes(totals.said, own))),
        anonymous=totals.nobodys,
        gone=gone,
        attributes=attributes,
        persons=persons,
        modalities=totals.modalities,
        reports=() if gone else tuple(reports),
        sop_classes=totals.sop_classes,
        body_parts=totals.body_parts,
        laterality=_laterality(totals),
        views=totals.views,
        series_names=totals.series_names,
        codes=totals.codes,
        series=0 if gone else tally.series,
        instances=0 if gone else totals.instances,
        images=0 if gone else totals.images,
        frames=0 if gone else totals.frames,
        size=totals.size,
        changed_at=totals.changed_at,
        incomplete=bool(tally.missing or tally.waiting),
        reader=totals.reader,
        corrected=totals.corrected,
        withdrawn=tally.every.instances if gone else tally.taken_back.instances,
        unread=totals.unread,
    )


def corrected_away(tally: Tally, own: Own = as_said) -> list[str]:
    """The hashes of the patient identifiers that a study had, and that corrections took from all of its instances."""
    return sorted(_hashes(tally.superseded, own) - _hashes(tally.every.said, own))


def filed(totals: StudyTotals, own: Own = as_said) -> Filing:
    """Whose the instances are, and how they say so."""
    pairs = [(number, False) for number, part in totals.said.items() if part.images]
    return filing([*pairs, *((number, True) for number, part in totals.said.items() if part.reports)], own)


def _hashes(said: Iterable[PatientIdentifier], own: Own) -> set[str]:
    return {number.hash for stated in said for number in (stated, own(stated))}


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


def list_reports(every: Iterable[Report]) -> list[ListedReport]:
    """The reports of a study that are shown, newest first; `newest` are those that none of the others has replaced.

    What has been withdrawn only tells which reports it replaced. Reports with the same `document` are versions of one; `same_as`
    names the instance that another one is a copy of. `conclusion`: the first line of what one that stands concludes.
    """
    return [listed(placed) for placed in _listed(report_versions.place(every))]


def listed(placed: ReportVersion) -> ListedReport:
    """A report in its place as it is listed; its status as it says itself, or that it is not final."""
    report = placed.report
    preliminary = report.declared.preliminary
    return ListedReport(
        report.sop_instance_uid,
        report.series_instance_uid,
        report.kind,
        report.title,
        report.date,
        report.time,
        placed.version,
        placed.newest,
        placed.document,
        report.status or ("preliminary" if preliminary else ""),
        preliminary,
        placed.same_as,
        report.declared.conclusion if placed.newest else "",
    )


def _listed(placed: Sequence[ReportVersion]) -> list[ReportVersion]:
    """As many as fit a summary, in order: of too many, older versions make room for what stands."""
    standing_first = sorted(range(len(placed)), key=lambda position: not placed[position].newest)
    return [placed[position] for position in sorted(standing_first[:_MAX_REPORTS])]
