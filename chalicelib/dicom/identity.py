"""What says whose and which instance this is must say it once, clearly, and twice the same (PS3.3
C.7.1–C.12.1, PS3.10 7.1).
"""

from __future__ import annotations

from collections.abc import Set

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from chalicelib.dicom.elements import name
from chalicelib.dicom.values import values_of
from chalicelib.domain import tags
from chalicelib.domain.identifiers import is_uid
from chalicelib.domain.rejections import Rejected
from chalicelib.domain.tags import Tag

_REQUIRED = (tags.StudyInstanceUID, tags.SeriesInstanceUID, tags.SOPInstanceUID, tags.SOPClassUID)
_META = (tags.MediaStorageSOPClassUID, tags.MediaStorageSOPInstanceUID, tags.TransferSyntaxUID)
_SINGLE = (tags.PatientID, tags.IssuerOfPatientID)
ONCE = tags.numbers(
    *_REQUIRED, *_META, *_SINGLE, tags.PatientName, tags.IssuerOfPatientIDQualifiersSequence, tags.PatientBirthDate,
    tags.PatientSex, tags.TypeOfPatientID,
)  # fmt: skip
"""Tags that may occur once: those above and the patient's name, type of id, issuer qualifiers, birth date
and sex.
"""

_LONGEST = 64
"""Characters that an LO value may have (PS3.5 6.2). A longer identifier could only be cut, and so mistaken.
"""

_SAME = (
    (tags.MediaStorageSOPClassUID, tags.SOPClassUID),
    (tags.MediaStorageSOPInstanceUID, tags.SOPInstanceUID),
)


def single_uid(dataset: Dataset, tag: Tag) -> str:
    """The UID of this tag without padding and line ends, empty where there is none.

    Raises `Rejected`: `ambiguous-identifier` for two values, `invalid-uid` for what is no UID (PS3.5 9.1).
    Leading zeros in a component pass, since real modalities make them.
    """
    element = dataset.get_item(tag.number)
    if element is None:
        return ""
    if isinstance(element, RawDataElement):
        text = (element.value or b"").decode("latin-1")
    elif isinstance(element.value, str):
        text = element.value
    else:
        raise Rejected("invalid-uid", name(tag.number))
    text = text.rstrip("\0 \t\r\n").lstrip(" ")
    if "\\" in text:
        raise Rejected("ambiguous-identifier", f"{name(tag.number)} has {text.count(chr(92)) + 1} values")
    if text and not is_uid(text):
        raise Rejected("invalid-uid", f"{name(tag.number)}, {len(text)} characters")
    return text


def check(file_meta: Dataset, meta_repeated: Set[int], dataset: Dataset, repeated: Set[int], *, part10: bool) -> None:
    """Raises `Rejected`: `ambiguous-identifier`, `missing-uid`, `invalid-uid`, `meta-mismatch`.

    An object without preamble (`part10` false) that lacks a UID is `not-dicom`: nothing else says that it
    is one.
    """
    for repeat in sorted(ONCE & (meta_repeated | repeated)):
        raise Rejected("ambiguous-identifier", f"{name(repeat)} occurs more than once")
    for tag in _REQUIRED:
        if not single_uid(dataset, tag):
            raise Rejected("missing-uid" if part10 else "not-dicom", name(tag.number))
    for tag in _SINGLE:
        values = values_of(dataset, tag, "LO")
        if len(values) > 1:
            raise Rejected("ambiguous-identifier", f"{name(tag.number)} has {len(values)} values")
        if values and len(values[0]) > _LONGEST:
            raise Rejected("invalid-patient-id", f"{name(tag.number)} has {len(values[0])} characters")
    for in_meta, in_dataset in _SAME:
        if (declared := single_uid(file_meta, in_meta)) and declared != single_uid(dataset, in_dataset):
            raise Rejected("meta-mismatch", f"{name(in_meta.number)} and {name(in_dataset.number)}")
