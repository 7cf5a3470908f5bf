"""The attributes that the archive knows, as one table: what is kept of an instance, what searches match and return, what a
report takes over from its study, and what a DICOMDIR says.

The rows of what is kept stand in order of importance: when an instance's attributes together are too large to keep, the last
ones are dropped first. Rows of what is computed over a study follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chalicelib.domain import tags
from chalicelib.domain.tags import Tag

Level = Literal["patient", "study", "series", "instance"]
Return = Literal["U", "R", "C", "O"]
"""As in PS3.18 Tables 10.6.3-3 to -5: unique, required (empty when unknown), present when known. O: returned when asked for, or
with includefield=all (PS3.4 Tables C.6-1 to C.6-5)."""

MATCHING = "PS3.18 Table 10.6.1-5"
STUDY_ANSWER = "PS3.18 Table 10.6.3-3"
SERIES_ANSWER = "PS3.18 Table 10.6.3-4"
INSTANCE_ANSWER = "PS3.18 Table 10.6.3-5"
OPTIONAL_KEY = "PS3.4 C.6.1.1"
TIMELINE = "the patient's timeline"
DOCUMENT = "PS3.3 C.17.3, C.24.2"
ISSUERS = "PS3.3 C.7.1.1, C.7.2.1"
OTHER_RECORDS = ""
"""Directory records of kinds that have no keys of their own here."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute: its keyword and VR (PS3.6), the information entity it belongs to, and who wants it.

    `returned`: by searches. `kept`: of each instance, else computed, or a field of its fact. `answer_of`: the entity in whose
    answer it is first, where that is not its own; `also_of`: other entities' answers that have it. `matched`: whether it is a
    key. `in_report`: whether a report takes it over from its study. `records`: the directory records that have it (PS3.3 F.5).
    `items`: for a sequence, what is kept of each item.
    """

    keyword: str
    vr: str
    level: Level
    clause: str
    returned: Return
    kept: bool = True
    answer_of: Literal["study"] | None = None
    also_of: tuple[Level, ...] = ()
    matched: bool = True
    in_report: bool = False
    records: tuple[str, ...] = ()
    items: tuple[Tag, ...] = ()

    @property
    def tag(self) -> Tag:
        """Its tag."""
        found: Tag = getattr(tags, self.keyword)
        return found


_CODE = (tags.CodeValue, tags.CodingSchemeDesignator, tags.CodeMeaning)
_UNIVERSAL = (tags.UniversalEntityID, tags.UniversalEntityIDType)
_AUTHORITY = (tags.LocalNamespaceEntityID, *_UNIVERSAL)
_REQUEST = (tags.ScheduledProcedureStepID, tags.RequestedProcedureID)
_BELOW_SERIES = ("IMAGE", "SR DOCUMENT", "ENCAP DOC", OTHER_RECORDS)

TABLE: tuple[Attribute, ...] = (
    Attribute("PatientID", "LO", "patient", MATCHING, "R", in_report=True, records=("PATIENT",)),
    Attribute("PatientName", "PN", "patient", MATCHING, "R", in_report=True, records=("PATIENT",)),
    Attribute("PatientBirthDate", "DA", "patient", STUDY_ANSWER, "R", in_report=True, records=("PATIENT",)),
    Attribute("PatientSex", "CS", "patient", STUDY_ANSWER, "R", in_report=True, records=("PATIENT",)),
    Attribute("StudyDate", "DA", "study", MATCHING, "R", in_report=True, records=("STUDY",)),
    Attribute("StudyTime", "TM", "study", MATCHING, "R", in_report=True, records=("STUDY",)),
    Attribute("AccessionNumber", "SH", "study", MATCHING, "R", in_report=True, records=("STUDY",)),
    Attribute("IssuerOfAccessionNumberSequence", "SQ", "study", ISSUERS, "C", in_report=True, items=_AUTHORITY),
    Attribute("Modality", "CS", "series", MATCHING, "R", records=("SERIES",)),
    Attribute("StudyID", "SH", "study", MATCHING, "R", in_report=True, records=("STUDY",)),
    Attribute("ReferringPhysicianName", "PN", "study", MATCHING, "R", in_report=True),
    Attribute("StudyDescription", "LO", "study", TIMELINE, "O", in_report=True, records=("STUDY",)),
    Attribute("SeriesNumber", "IS", "series", MATCHING, "R", records=("SERIES",)),
    Attribute("InstanceNumber", "IS", "instance", MATCHING, "R", records=_BELOW_SERIES),
    Attribute("SeriesDescription", "LO", "series", SERIES_ANSWER, "C", records=("SERIES",)),
    Attribute("ConceptNameCodeSequence", "SQ", "instance", DOCUMENT, "O", records=("SR DOCUMENT", "ENCAP DOC"), items=_CODE),
    Attribute("DocumentTitle", "ST", "instance", DOCUMENT, "O", records=("ENCAP DOC",)),
    Attribute("MIMETypeOfEncapsulatedDocument", "LO", "instance", DOCUMENT, "O", records=("ENCAP DOC",)),
    Attribute("CompletionFlag", "CS", "instance", DOCUMENT, "O", records=("SR DOCUMENT",)),
    Attribute("VerificationFlag", "CS", "instance", DOCUMENT, "O", records=("SR DOCUMENT",)),
    Attribute("PerformedProcedureStepStartDate", "DA", "series", MATCHING, "C"),
    Attribute("PerformedProcedureStepStartTime", "TM", "series", MATCHING, "C"),
    Attribute("RequestAttributesSequence", "SQ", "series", MATCHING, "C", items=_REQUEST),
    Attribute("BitsAllocated", "US", "instance", INSTANCE_ANSWER, "C"),
    Attribute("TimezoneOffsetFromUTC", "SH", "study", STUDY_ANSWER, "C", matched=False, also_of=("series", "instance")),
    Attribute("BodyPartExamined", "CS", "series", TIMELINE, "O"),
    Attribute("Laterality", "CS", "series", TIMELINE, "O"),
    Attribute("ImageLaterality", "CS", "instance", TIMELINE, "O"),
    Attribute("ViewPosition", "CS", "series", TIMELINE, "O"),
    Attribute("ProtocolName", "LO", "series", TIMELINE, "O"),
    Attribute("ProcedureCodeSequence", "SQ", "study", OPTIONAL_KEY, "O", items=_CODE),
    Attribute("AnatomicRegionSequence", "SQ", "series", TIMELINE, "O", items=_CODE),
    Attribute("InstitutionName", "LO", "series", TIMELINE, "C", answer_of="study", matched=False, also_of=("series",)),
    Attribute("ImageType", "CS", "instance", TIMELINE, "O", records=("IMAGE",)),
    Attribute("ContentDate", "DA", "instance", TIMELINE, "O", records=("SR DOCUMENT", "ENCAP DOC", OTHER_RECORDS)),
    Attribute("ContentTime", "TM", "instance", TIMELINE, "O", records=("SR DOCUMENT", "ENCAP DOC", OTHER_RECORDS)),
    Attribute("IssuerOfPatientID", "LO", "patient", OPTIONAL_KEY, "C", in_report=True),
    Attribute("IssuerOfPatientIDQualifiersSequence", "SQ", "patient", ISSUERS, "O", in_report=True, items=_UNIVERSAL),
    Attribute("PatientAge", "AS", "study", OPTIONAL_KEY, "O"),
    Attribute("SeriesDate", "DA", "series", OPTIONAL_KEY, "O"),
    Attribute("SeriesTime", "TM", "series", OPTIONAL_KEY, "O"),
    Attribute("AcquisitionNumber", "IS", "instance", OPTIONAL_KEY, "O"),
    Attribute("StationName", "SH", "series", OPTIONAL_KEY, "O"),
    # Computed when a search is answered, or fields of an instance's fact
    Attribute("InstanceAvailability", "CS", "study", STUDY_ANSWER, "C", kept=False, matched=False, also_of=("instance",)),
    Attribute("ModalitiesInStudy", "CS", "study", MATCHING, "R", kept=False),
    Attribute("SOPClassesInStudy", "UI", "study", OPTIONAL_KEY, "O", kept=False),
    Attribute("RetrieveURL", "UR", "study", STUDY_ANSWER, "C", kept=False, matched=False, also_of=("series", "instance")),
    Attribute("StudyInstanceUID", "UI", "study", MATCHING, "U", kept=False, in_report=True, records=("STUDY",)),
    Attribute("NumberOfStudyRelatedSeries", "IS", "study", STUDY_ANSWER, "R", kept=False),
    Attribute("NumberOfStudyRelatedInstances", "IS", "study", STUDY_ANSWER, "R", kept=False),
    Attribute("OriginalAttributesSequence", "SQ", "study", "PS3.3 C.12.1", "C", kept=False, matched=False),
    Attribute("SeriesInstanceUID", "UI", "series", MATCHING, "U", kept=False, records=("SERIES",)),
    Attribute("NumberOfSeriesRelatedInstances", "IS", "series", SERIES_ANSWER, "R", kept=False),
    Attribute("SOPClassUID", "UI", "instance", MATCHING, "R", kept=False),
    Attribute("SOPInstanceUID", "UI", "instance", MATCHING, "U", kept=False),
    Attribute("AvailableTransferSyntaxUID", "UI", "instance", OPTIONAL_KEY, "O", kept=False),
    Attribute("NumberOfFrames", "IS", "instance", INSTANCE_ANSWER, "C", kept=False),
    Attribute("Rows", "US", "instance", INSTANCE_ANSWER, "C", kept=False),
    Attribute("Columns", "US", "instance", INSTANCE_ANSWER, "C", kept=False),
)

KEPT = tuple(row for row in TABLE if row.kept)
PATIENT_AND_STUDY = tuple(row.tag for row in KEPT if row.level in ("patient", "study"))
SERIES = tuple(row.tag for row in KEPT if row.level == "series")
IN_REPORTS = frozenset(row.tag for row in TABLE if row.in_report)

ITEM_VRS: dict[str, str] = {
    tags.CodeValue: "SH",
    tags.CodingSchemeDesignator: "SH",
    tags.CodeMeaning: "LO",
    tags.ScheduledProcedureStepID: "SH",
    tags.LocalNamespaceEntityID: "UT",
    tags.UniversalEntityID: "UT",
    tags.UniversalEntityIDType: "CS",
    tags.RequestedProcedureID: "SH",
}
"""The VRs of what is kept of items, which is matched there too (PS3.4 C.2.2.2.6)."""


def directory_keys(kind: str) -> tuple[Tag, ...]:
    """What a directory record of this kind has, the keys of `OTHER_RECORDS` where it has none of its own."""
    known = any(kind in row.records for row in TABLE)
    return tuple(row.tag for row in TABLE if (kind if known else OTHER_RECORDS) in row.records)
