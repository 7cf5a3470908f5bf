"""What says whose and which instance this is must say it once, clearly, and twice the same (PS3.3
C.7.1–C.12.1, PS3.10 7.1).
"""

from __future__ import annotations

import re
from collections.abc import Set

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from chalicelib.dicom.elements import name
from chalicelib.dicom.values import values_of
from chalicelib.domain.rejections import Rejected

SOP_CLASS, SOP_INSTANCE, STUDY, SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
PATIENT_ID, ISSUER_OF_PATIENT_ID = 0x00100020, 0x00100021
MEDIA_SOP_CLASS, MEDIA_SOP_INSTANCE, TRANSFER_SYNTAX = 0x00020002, 0x00020003, 0x00020010

_REQUIRED = (STUDY, SERIES, SOP_INSTANCE, SOP_CLASS)
_META = (MEDIA_SOP_CLASS, MEDIA_SOP_INSTANCE, TRANSFER_SYNTAX)
_SINGLE = (PATIENT_ID, ISSUER_OF_PATIENT_ID)
ONCE = frozenset({*_REQUIRED, *_META, *_SINGLE, 0x00100010, 0x00100024, 0x00100030, 0x00100040, 0x00100022})
"""Tags that may occur once: those above and the patient's name, type of id, issuer qualifiers, birth date
and sex.
"""

_LONGEST = 64
"""Characters that an LO value may have (PS3.5 6.2). A longer identifier could only be cut, and so mistaken.
"""

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_SAME = ((MEDIA_SOP_CLASS, SOP_CLASS), (MEDIA_SOP_INSTANCE, SOP_INSTANCE))


def single_uid(dataset: Dataset, tag: int) -> str:
    """The UID of this tag without padding and line ends, empty where there is none.

    Raises `Rejected`: `ambiguous-identifier` for two values, `invalid-uid` for what is no UID (PS3.5 9.1).
    Leading zeros in a component pass, since real modalities make them.
    """
    element = dataset.get_item(tag)
    if element is None:
        return ""
    if isinstance(element, RawDataElement):
        text = (element.value or b"").decode("latin-1")
    elif isinstance(element.value, str):
        text = element.value
    else:
        raise Rejected("invalid-uid", name(tag))
    text = text.rstrip("\0 \t\r\n").lstrip(" ")
    if "\\" in text:
        raise Rejected("ambiguous-identifier", f"{name(tag)} has {text.count(chr(92)) + 1} values")
    if text and (len(text) > 64 or not _UID.fullmatch(text)):
        raise Rejected("invalid-uid", f"{name(tag)}, {len(text)} characters")
    return text


def check(file_meta: Dataset, meta_repeated: Set[int], dataset: Dataset, repeated: Set[int], *, part10: bool) -> None:
    """Raises `Rejected`: `ambiguous-identifier`, `missing-uid`, `invalid-uid`, `meta-mismatch`.

    An object without preamble (`part10` false) that lacks a UID is `not-dicom`: nothing else says that it
    is one.
    """
    for tag in sorted(ONCE & (meta_repeated | repeated)):
        raise Rejected("ambiguous-identifier", f"{name(tag)} occurs more than once")
    for tag in _REQUIRED:
        if not single_uid(dataset, tag):
            raise Rejected("missing-uid" if part10 else "not-dicom", name(tag))
    for tag in _SINGLE:
        values = values_of(dataset, tag, "LO")
        if len(values) > 1:
            raise Rejected("ambiguous-identifier", f"{name(tag)} has {len(values)} values")
        if values and len(values[0]) > _LONGEST:
            raise Rejected("invalid-patient-id", f"{name(tag)} has {len(values[0])} characters")
    for in_meta, in_dataset in _SAME:
        if (declared := single_uid(file_meta, in_meta)) and declared != single_uid(dataset, in_dataset):
            raise Rejected("meta-mismatch", f"{name(in_meta)} and {name(in_dataset)}")
