"""Under which number and name a viewer is shown a study: its own where one is known, and each patient of a study by itself.

PS3.3 C.12.1.1.9. Stored bytes are never rewritten; this is only what is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from chalicelib.domain import italian, tags
from chalicelib.domain.dicom_json import Attributes, first_value
from chalicelib.domain.filing import whose
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.institutions import Registry
from chalicelib.domain.studies import is_of_patient
from chalicelib.domain.study_views import StudyView
from chalicelib.domain.transfers import Transfer

_IDENTIFYING = (tags.PatientID, tags.IssuerOfPatientID, tags.TypeOfPatientID, tags.IssuerOfPatientIDQualifiersSequence)
"""Patient ID, its issuer, its type, the issuer's qualifiers."""
_CREATOR = "CONTENITORE"


@dataclass(frozen=True)
class Face:
    """One patient of a study, as a viewer is shown it.

    `patient` as the study is filed under; `shown` the number it is shown under; `numbers` all that find it.
    """

    patient: PatientIdentifier | None
    shown: PatientIdentifier | None
    numbers: tuple[PatientIdentifier, ...]
    attributes: Attributes

    @property
    def coerced(self) -> bool:
        """Whether it is shown under another number than the one in the images."""
        return self.shown is not None and self.shown != self.patient


def faces(
    viewer: str,
    summary: StudyView,
    transfers: Iterable[Transfer],
    linked: Callable[[PatientIdentifier], Iterable[PatientIdentifier]],
    registry: Registry,
) -> list[Face]:
    """The patients of a study as `viewer` is shown them, the one that stands for the study first: the first of its own numbers.

    `linked`: the numbers that are linked to a patient's.
    """
    touching = list(transfers)
    patients = summary.patients
    if not summary.persons:  # of one patient, or of none; or summarised by an earlier release
        every = {number for patient in patients for number in linked(patient)}
        number, numbers = shown_patient(viewer, summary, touching, every, registry)
        attributes = marked(served_attributes(summary, number), len(patients))
        return [Face(patients[0] if patients else None, number, tuple(numbers), attributes)]
    shown: list[Face] = []
    for patient in patients:
        said = summary.persons.get(patient.hash) or of_nobody(summary.attributes, _saying(patient))
        part = replace(summary, patients=(patient,), attributes=said)
        number, numbers = shown_patient(viewer, part, touching, linked(patient), registry)
        shown.append(Face(patient, number, tuple(numbers), marked(served_attributes(part, number), len(patients))))
    member = registry.members.get(viewer)
    shown.sort(key=lambda face: face.patient is None or registry.by_issuer(face.patient.issuer) != member)
    return shown


def _saying(patient: PatientIdentifier) -> Attributes:
    return {
        tags.PatientID: {"vr": "LO", "Value": [patient.value]},
        tags.IssuerOfPatientID: {"vr": "LO", "Value": [patient.issuer]},
    }


def marked(attributes: Attributes, patients: int) -> Attributes:
    """Attributes that say so where they are of a study with instances of several patients."""
    if patients < 2:
        return attributes
    return {
        **attributes,
        tags.PatientsPrivateCreator: {"vr": "LO", "Value": [_CREATOR]},
        tags.NumberOfPatients: {"vr": "US", "Value": [patients]},
    }


def of_nobody(attributes: Attributes, said: Attributes) -> Attributes:
    """A study's attributes for an instance of a patient of whom the summary has nothing: what the instance says itself."""
    own = {tag: value for tag, value in said.items() if is_of_patient(tag)}
    return {tag: value for tag, value in attributes.items() if not is_of_patient(tag)} | own


def of_instance(said: PatientIdentifier | None, found: Sequence[Face], aliases: Mapping[str, Sequence[str]]) -> Face | None:
    """The face of the patient that an instance names, or None where it names none of them."""
    if len(found) == 1:
        return found[0]
    if said is None:
        return None
    named = whose(said, [face.patient for face in found if face.patient is not None], aliases)
    return next((face for face in found if named is not None and face.patient == named), None)


def shown_patient(
    viewer: str,
    summary: StudyView,
    transfers: Iterable[Transfer],
    linked: Iterable[PatientIdentifier],
    registry: Registry,
) -> tuple[PatientIdentifier | None, list[PatientIdentifier]]:
    """(the number under which `viewer` sees the study's patient, all numbers it may be found under).

    The viewer's own number where one is known; else the one in the images. It is found under that, under the one in the
    images, under those that `transfers` (live ones of the viewer) name, and under `linked` ones that are the viewer's own
    or national: another hospital's number that the viewer was never told leads nowhere.
    """
    original = summary.patients
    if not original:
        return None, []
    member = registry.members.get(viewer)
    joined = {*original, *linked}
    named = {number for t in transfers for number in (t.patient, t.receiving) if number in joined}

    def is_own(number: PatientIdentifier) -> bool:
        return member is not None and registry.by_issuer(number.issuer) == member

    known = {*original, *(number for number in joined if is_own(number) or italian.kind(number) != "hospital")}
    known |= {number for number in named if number is not None}
    own = [number for number in original if is_own(number)] + sorted(number for number in known if is_own(number))
    return (own[0] if own else original[0]), sorted(known)


def served_attributes(summary: StudyView, shown: PatientIdentifier | None) -> Attributes:
    """The study's attributes as sent out: under the viewer's own number, the originals in Original Attributes Sequence.

    PS3.3 C.12.1.1.9. Stored bytes are never rewritten; this is only what is answered.
    """
    attributes = dict(summary.attributes)
    if shown is None:
        return attributes
    if shown in summary.patients:
        return {tags.IssuerOfPatientID: {"vr": "LO", "Value": [shown.issuer]}, **attributes}
    original: Attributes = {tag: attributes.pop(tag) for tag in _IDENTIFYING if tag in attributes}
    identifiers, item = coerced(original, shown, summary.owner)
    return attributes | identifiers | {tags.OriginalAttributesSequence: {"vr": "SQ", "Value": [item]}}


def to_file_under(summary: StudyView) -> Attributes:
    """The attributes that put a document into a study: of its own patient, whose issuer is said as plainly as its images do.

    Where they say it only in Issuer of Patient ID Qualifiers, what was kept of them may lack it.
    """
    attributes = dict(summary.attributes)
    issuers = [patient.issuer for patient in summary.patients]
    if len(issuers) == 1:
        attributes.setdefault(tags.IssuerOfPatientID, {"vr": "LO", "Value": issuers})
    return attributes


def coerced(original: Attributes, shown: PatientIdentifier, owner: str) -> tuple[Attributes, Attributes]:
    """(the attributes that identify the patient by the number that is `shown`, the item that says what they replace).

    `original` are those of the images, of `owner`: what is in them besides number and issuer stays out, since it belongs to
    the replaced number.
    """
    replaced = {tag: original[tag] for tag in _IDENTIFYING if tag in original}
    return _saying(shown), {
        tags.ModifiedAttributesSequence: {"vr": "SQ", "Value": [replaced]},
        tags.ModifyingSystem: {"vr": "LO", "Value": ["CONTENITORE"]},
        tags.SourceOfPreviousValues: {"vr": "LO", "Value": [owner]},
        tags.ReasonForTheAttributeModification: {"vr": "CS", "Value": ["COERCE"]},
    }


def is_coerced(attributes: Attributes) -> bool:
    """Whether attributes are served under another number than the one in the images."""
    return tags.OriginalAttributesSequence in attributes


def shown_number(attributes: Attributes) -> PatientIdentifier:
    """The patient's number in attributes that are served."""
    return PatientIdentifier(first_value(attributes, tags.IssuerOfPatientID), first_value(attributes, tags.PatientID))


def uncoerced(attributes: Attributes, issuer: str) -> Attributes:
    """Attributes as they are served under the number in the images, which is of `issuer`."""
    original: Attributes = attributes[tags.OriginalAttributesSequence]["Value"][0][tags.ModifiedAttributesSequence]["Value"][0]
    kept = {tag: value for tag, value in attributes.items() if tag not in (tags.OriginalAttributesSequence, *_IDENTIFYING)}
    return {tags.IssuerOfPatientID: {"vr": "LO", "Value": [issuer]}, **kept, **original}
