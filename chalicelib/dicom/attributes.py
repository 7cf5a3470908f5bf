"""Which attributes of an instance the archive keeps, as data: what searches match and return, what a
timeline needs.

Each row names the clause that wants it. The rows stand in order of importance: when an instance's
attributes together are too large to keep, the last ones are dropped first. What is computed over a study
(counts, modalities, Retrieve URL, availability) has no row. Study, Series, SOP Instance and SOP Class UID,
Rows, Columns and Number of Frames are fields of a summary and have no row either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["patient", "study", "series", "instance"]

MATCHING = "PS3.18 Table 10.6.1-5"
STUDY_ANSWER = "PS3.18 Table 10.6.3-3"
SERIES_ANSWER = "PS3.18 Table 10.6.3-4"
INSTANCE_ANSWER = "PS3.18 Table 10.6.3-5"
OPTIONAL_KEY = "PS3.4 C.6.1.1"
TIMELINE = "the patient's timeline"
REPORT = "PS3.3 C.17.3, C.24.2"
ISSUERS = "PS3.3 C.7.1.1, C.7.2.1"


@dataclass(frozen=True, slots=True)
class Kept:
    """One attribute: its tag, keyword and VR (PS3.6), the information entity it belongs to, and who wants it.

    `items`: for a sequence, the tags kept of each item.
    """

    tag: int
    keyword: str
    vr: str
    level: Level
    clause: str
    items: tuple[int, ...] = ()

    @property
    def json_tag(self) -> str:
        """The tag as the DICOM JSON Model writes it (PS3.18 F.2.2)."""
        return f"{self.tag:08X}"


_CODE = (0x00080100, 0x00080102, 0x00080104)
_UNIVERSAL = (0x00400032, 0x00400033)
_AUTHORITY = (0x00400031, *_UNIVERSAL)
ITEM_VRS = {0x00080104: "LO", 0x00400031: "UT", 0x00400032: "UT", 0x00400033: "CS"}
"""The VRs of what is kept of items, where it is not SH."""

KEPT: tuple[Kept, ...] = (
    Kept(0x00100020, "PatientID", "LO", "patient", MATCHING),
    Kept(0x00100010, "PatientName", "PN", "patient", MATCHING),
    Kept(0x00100030, "PatientBirthDate", "DA", "patient", STUDY_ANSWER),
    Kept(0x00100040, "PatientSex", "CS", "patient", STUDY_ANSWER),
    Kept(0x00080020, "StudyDate", "DA", "study", MATCHING),
    Kept(0x00080030, "StudyTime", "TM", "study", MATCHING),
    Kept(0x00080050, "AccessionNumber", "SH", "study", MATCHING),
    Kept(0x00080051, "IssuerOfAccessionNumberSequence", "SQ", "study", ISSUERS, _AUTHORITY),
    Kept(0x00080060, "Modality", "CS", "series", MATCHING),
    Kept(0x00200010, "StudyID", "SH", "study", MATCHING),
    Kept(0x00080090, "ReferringPhysicianName", "PN", "study", MATCHING),
    Kept(0x00081030, "StudyDescription", "LO", "study", TIMELINE),
    Kept(0x00200011, "SeriesNumber", "IS", "series", MATCHING),
    Kept(0x00200013, "InstanceNumber", "IS", "instance", MATCHING),
    Kept(0x0008103E, "SeriesDescription", "LO", "series", SERIES_ANSWER),
    Kept(0x0040A043, "ConceptNameCodeSequence", "SQ", "instance", REPORT, _CODE),
    Kept(0x00420010, "DocumentTitle", "ST", "instance", REPORT),
    Kept(0x00420012, "MIMETypeOfEncapsulatedDocument", "LO", "instance", REPORT),
    Kept(0x0040A491, "CompletionFlag", "CS", "instance", REPORT),
    Kept(0x0040A493, "VerificationFlag", "CS", "instance", REPORT),
    Kept(0x00400244, "PerformedProcedureStepStartDate", "DA", "series", MATCHING),
    Kept(0x00400245, "PerformedProcedureStepStartTime", "TM", "series", MATCHING),
    Kept(0x00400275, "RequestAttributesSequence", "SQ", "series", MATCHING, (0x00400009, 0x00401001)),
    Kept(0x00280100, "BitsAllocated", "US", "instance", INSTANCE_ANSWER),
    Kept(0x00080201, "TimezoneOffsetFromUTC", "SH", "study", STUDY_ANSWER),
    Kept(0x00180015, "BodyPartExamined", "CS", "series", TIMELINE),
    Kept(0x00200060, "Laterality", "CS", "series", TIMELINE),
    Kept(0x00200062, "ImageLaterality", "CS", "instance", TIMELINE),
    Kept(0x00185101, "ViewPosition", "CS", "series", TIMELINE),
    Kept(0x00181030, "ProtocolName", "LO", "series", TIMELINE),
    Kept(0x00080080, "InstitutionName", "LO", "series", TIMELINE),
    Kept(0x00080008, "ImageType", "CS", "instance", TIMELINE),
    Kept(0x00080023, "ContentDate", "DA", "instance", TIMELINE),
    Kept(0x00080033, "ContentTime", "TM", "instance", TIMELINE),
    Kept(0x00100021, "IssuerOfPatientID", "LO", "patient", OPTIONAL_KEY),
    Kept(0x00100024, "IssuerOfPatientIDQualifiersSequence", "SQ", "patient", ISSUERS, _UNIVERSAL),
    Kept(0x00101010, "PatientAge", "AS", "study", OPTIONAL_KEY),
    Kept(0x00080021, "SeriesDate", "DA", "series", OPTIONAL_KEY),
    Kept(0x00080031, "SeriesTime", "TM", "series", OPTIONAL_KEY),
    Kept(0x00200012, "AcquisitionNumber", "IS", "instance", OPTIONAL_KEY),
    Kept(0x00081010, "StationName", "SH", "series", OPTIONAL_KEY),
)
