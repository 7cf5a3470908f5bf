"""Which attributes a search matches and returns, as data (PS3.18 10.6, PS3.4 C.6).

One row for each attribute: its information entity, and what Tables 10.6.3-3, -4 and -5 say of it in an
answer. An attribute that has no row is no matching key here (PS3.4 C.2.2.1.3: it is then ignored for
matching and treated as a return key), but can be returned where the archive knows it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Level = Literal["study", "series", "instance"]

LEVELS: tuple[Level, ...] = ("study", "series", "instance")

# U, R and C as in Tables 10.6.3-3 to -5: unique, required (empty when unknown), present when known.
# O: returned when asked for, or with includefield=all (PS3.4 Tables C.6-1 to C.6-5).
ReturnType = Literal["U", "R", "C", "O"]


@dataclass(frozen=True, slots=True)
class SearchAttribute:
    """One attribute of Table 10.6.1-5, 10.6.3-3, 10.6.3-4, 10.6.3-5 or of PS3.4 C.6.1.1 and C.6.2.1."""

    tag: str
    keyword: str
    vr: str
    level: Level
    returned: ReturnType


# tag, keyword, VR, type in the answer.
_STUDY = """
00080020 StudyDate DA R
00080030 StudyTime TM R
00080050 AccessionNumber SH R
00080051 IssuerOfAccessionNumberSequence SQ C
00080056 InstanceAvailability CS C
00080061 ModalitiesInStudy CS R
00080062 SOPClassesInStudy UI O
00080080 InstitutionName LO C
00080090 ReferringPhysicianName PN R
00080201 TimezoneOffsetFromUTC SH C
00081030 StudyDescription LO O
00081190 RetrieveURL UR C
00100010 PatientName PN R
00100020 PatientID LO R
00100021 IssuerOfPatientID LO C
00100024 IssuerOfPatientIDQualifiersSequence SQ O
00100030 PatientBirthDate DA R
00100040 PatientSex CS R
00101010 PatientAge AS O
0020000D StudyInstanceUID UI U
00200010 StudyID SH R
00201206 NumberOfStudyRelatedSeries IS R
00201208 NumberOfStudyRelatedInstances IS R
04000561 OriginalAttributesSequence SQ C
"""

_SERIES = """
00080021 SeriesDate DA O
00080031 SeriesTime TM O
00080060 Modality CS R
0008103E SeriesDescription LO C
00081010 StationName SH O
00180015 BodyPartExamined CS O
00181030 ProtocolName LO O
00185101 ViewPosition CS O
0020000E SeriesInstanceUID UI U
00200011 SeriesNumber IS R
00200060 Laterality CS O
00201209 NumberOfSeriesRelatedInstances IS R
00400244 PerformedProcedureStepStartDate DA C
00400245 PerformedProcedureStepStartTime TM C
00400275 RequestAttributesSequence SQ C
"""

_INSTANCE = """
00080008 ImageType CS O
00080016 SOPClassUID UI R
00080018 SOPInstanceUID UI U
00080023 ContentDate DA O
00080033 ContentTime TM O
00083002 AvailableTransferSyntaxUID UI O
00200012 AcquisitionNumber IS O
00200013 InstanceNumber IS R
00200062 ImageLaterality CS O
00280008 NumberOfFrames IS C
00280010 Rows US C
00280011 Columns US C
00280100 BitsAllocated US C
0040A043 ConceptNameCodeSequence SQ O
0040A491 CompletionFlag CS O
0040A493 VerificationFlag CS O
00420010 DocumentTitle ST O
00420012 MIMETypeOfEncapsulatedDocument LO O
"""

# Attributes that are matched inside an item of a sequence: tag, keyword, VR (PS3.4 C.2.2.2.6).
_ITEM = """
00080100 CodeValue SH
00080102 CodingSchemeDesignator SH
00080104 CodeMeaning LO
00400009 ScheduledProcedureStepID SH
00400031 LocalNamespaceEntityID UT
00400032 UniversalEntityID UT
00400033 UniversalEntityIDType CS
00401001 RequestedProcedureID SH
"""

# Rows whose values are computed when a search is answered, and not kept of any instance.
COMPUTED = frozenset(
    [
        "00080056",
        "00080061",
        "00080062",
        "00081190",
        "0020000D",
        "00201206",
        "00201208",
        "04000561",
        "0020000E",
        "00201209",
        "00080016",
        "00080018",
        "00083002",
        "00280008",
        "00280010",
        "00280011",
    ]
)

# Returned, but no keys: what the archive adds to an answer, and the zone, since none is converted
# (PS3.4 C.4.1.1).
RETURNED_ONLY = frozenset({"00080056", "00080080", "00080201", "00081190", "04000561"})


def _rows(level: Level, text: str) -> list[SearchAttribute]:
    rows = []
    for line in text.split("\n")[1:-1]:
        tag, keyword, vr, returned = line.split()
        rows.append(SearchAttribute(tag, keyword, vr, level, _RETURNED[returned]))
    return rows


_RETURNED: dict[str, ReturnType] = {"U": "U", "R": "R", "C": "C", "O": "O"}

ATTRIBUTES: dict[str, SearchAttribute] = {
    row.tag: row for row in _rows("study", _STUDY) + _rows("series", _SERIES) + _rows("instance", _INSTANCE)
}

ITEM_VRS: dict[str, str] = {line.split()[0]: line.split()[2] for line in _ITEM.split("\n")[1:-1]}

# Attributes of more than one entity's answer; the level of their row is the highest one.
RETURNED_ALSO: dict[Level, frozenset[str]] = {
    "study": frozenset(),
    "series": frozenset({"00080201", "00081190", "00080080"}),  # Table 10.6.3-4
    "instance": frozenset({"00080056", "00080201", "00081190"}),  # Table 10.6.3-5
}

# Never a key: how the request is encoded (PS3.4 C.2.2.2).
NOT_MATCHED = frozenset({"00080005"})

# A date and the time that belongs to it (PS3.18 8.3.4.1.1, PS3.4 C.2.2.2.5).
DATE_TIME_PAIRS: dict[str, str] = {
    "00080020": "00080030",
    "00080021": "00080031",
    "00080023": "00080033",
    "00400244": "00400245",
}

_TAG_BY_KEYWORD: dict[str, str] = {row.keyword: row.tag for row in ATTRIBUTES.values()} | {
    line.split()[1]: line.split()[0] for line in _ITEM.split("\n")[1:-1]
}

_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_KEYWORD = re.compile(r"[A-Z][A-Za-z0-9]{1,63}")


def looks_like_attribute(text: str) -> bool:
    """Whether `text` has the form of a tag or of a keyword (PS3.18 8.3.1)."""
    return bool(_TAG.fullmatch(text) or _KEYWORD.fullmatch(text))


def tag_of(identifier: str) -> str | None:
    """The tag, as 8 upper-case hexadecimal digits, of a tag or of a keyword of PS3.6 Table 6-1; None if it
    is neither.

    Keywords of the tables above need no dictionary; any other one is looked up in pydicom's, which is
    imported only then.
    """
    if _TAG.fullmatch(identifier):
        return identifier.upper()
    if not _KEYWORD.fullmatch(identifier):
        return None
    known = _TAG_BY_KEYWORD.get(identifier)
    if known is not None:
        return known
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(identifier)
    return None if tag is None else f"{tag:08X}"


def vr_of(path: tuple[str, ...]) -> str | None:
    """The VR of the attribute at the end of `path` if it is a matching key here, else None."""
    first = ATTRIBUTES.get(path[0])
    if first is None or path[0] in RETURNED_ONLY:
        return None
    if len(path) == 1:
        return first.vr
    if first.vr != "SQ" or any(ITEM_VRS.get(tag) != "SQ" for tag in path[1:-1]):
        return None
    return ITEM_VRS.get(path[-1])


def rank(level: Level) -> int:
    """0 for study, 1 for series, 2 for instance."""
    return LEVELS.index(level)
