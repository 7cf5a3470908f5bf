"""What an identifier asks for: its level, the keys to match and those to return. Pure (PS3.4 C.2.2, C.4.1.2, C.6).

The model is hierarchical: the unique keys above the level have to be there with one value each, and what lacks one does not
match the SOP class (A900). Relational queries are not negotiated, so nobody may count on them (PS3.4 C.5.1.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pydicom import charset
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

from forwarder.retrieve.query_retrieve import NOT_THIS_SOP_CLASS, NOT_UNDERSTOOD, QueryRefusedError

LEVELS = ("PATIENT", "STUDY", "SERIES", "IMAGE")
UNIQUE_KEYS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
"""Of each level."""
MOST_KEYS = 80
"""Keys that an identifier may have; QIDO-RS takes 100 parameters."""
DEEPEST = 3

# What the archive matches and returns, and of which level it is (PS3.4 C.6.1.1; `docs/conformance.md`).
ATTRIBUTES: dict[str, str] = dict.fromkeys(
    ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence"),
    "PATIENT",
) | dict.fromkeys(
    (
        "StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "IssuerOfAccessionNumberSequence", "StudyID",
        "ReferringPhysicianName", "StudyDescription", "ProcedureCodeSequence", "PatientAge", "ModalitiesInStudy",
        "SOPClassesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances",
    ),
    "STUDY",
) | dict.fromkeys(
    (
        "SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription", "SeriesDate", "SeriesTime", "StationName",
        "BodyPartExamined", "Laterality", "ViewPosition", "ProtocolName", "AnatomicRegionSequence",
        "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime", "RequestAttributesSequence",
        "NumberOfSeriesRelatedInstances",
    ),
    "SERIES",
) | dict.fromkeys(
    (
        "SOPInstanceUID", "SOPClassUID", "InstanceNumber", "ContentDate", "ContentTime", "ImageType", "ImageLaterality",
        "AcquisitionNumber", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "AvailableTransferSyntaxUID",
        "ConceptNameCodeSequence", "DocumentTitle", "MIMETypeOfEncapsulatedDocument", "CompletionFlag", "VerificationFlag",
    ),
    "IMAGE",
)  # fmt: skip
RETURNED_ONLY: dict[str, str] = {
    "NumberOfPatientRelatedStudies": "PATIENT", "NumberOfPatientRelatedSeries": "PATIENT",
    "NumberOfPatientRelatedInstances": "PATIENT", "InstitutionName": "STUDY", "TimezoneOffsetFromUTC": "STUDY",
    "InstanceAvailability": "PATIENT", "RetrieveAETitle": "PATIENT", "QueryRetrieveLevel": "PATIENT",
    "SpecificCharacterSet": "PATIENT",
}  # fmt: skip
"""Returned, and no keys to match: what is counted or said of each answer."""
NO_KEYS = frozenset({"SpecificCharacterSet", "QueryRetrieveLevel", "RetrieveAETitle", "InstanceAvailability"})
DATES_AND_TIMES = (
    ("StudyDate", "StudyTime"), ("SeriesDate", "SeriesTime"), ("ContentDate", "ContentTime"),
    ("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Key:
    """One key: the tags that lead to it (one, or those of the sequences around it and its own), and its value as text, empty
    for universal matching (PS3.4 C.2.2.2.3)."""

    path: tuple[int, ...]
    value: str

    @property
    def name(self) -> str:
        """As a QIDO-RS parameter (PS3.18 8.3.4.1)."""
        return ".".join(f"{tag:08X}" for tag in self.path)


@dataclass(frozen=True, slots=True)
class Identifier:
    """An identifier that was understood.

    `above`: the unique keys above the level, by keyword. `keys`: what is to be matched or returned at the level, and above it.
    `ignored`: whether something is asked for that is neither matched nor returned (FF01). `character_set`: in which it is
    written, and its answers may be; empty for the default repertoire.
    """

    root: str
    level: str
    above: dict[str, str]
    keys: tuple[Key, ...]
    ignored: bool
    character_set: str

    def values(self, keyword: str) -> tuple[str, ...]:
        """The values of a key of the first level, without empty ones."""
        tag = tag_for_keyword(keyword)
        found = next((key.value for key in self.keys if key.path == (tag,)), self.above.get(keyword, ""))
        return tuple(value for value in found.split("\\") if value)


def understood(root: str, identifier: Dataset) -> Identifier:
    """What the identifier of a C-FIND, C-GET or C-MOVE says. Raises QueryRefusedError."""
    character_set, encodings = _character_set(identifier)
    if len(identifier) > MOST_KEYS:
        raise QueryRefusedError(NOT_THIS_SOP_CLASS, f"more than {MOST_KEYS} keys")
    level = _text(identifier, 0x00080052, encodings).upper()
    if level not in LEVELS[LEVELS.index(root) :]:
        raise QueryRefusedError(NOT_THIS_SOP_CLASS, "Query/Retrieve Level is not one of this model")
    above = {}
    for keyword in UNIQUE_KEYS[LEVELS.index(root) : LEVELS.index(level)]:
        above[keyword] = _text(identifier, tag_for_keyword(keyword) or 0, encodings)
        if not above[keyword] or set(above[keyword]) & set("*?\\"):
            raise QueryRefusedError(NOT_THIS_SOP_CLASS, f"{keyword} is needed with one value")
    keys: list[Key] = []
    ignored = False
    for tag in identifier.keys():  # noqa: SIM118  # the values are not decoded yet, and need not be decodable
        keyword = keyword_for_tag(tag)
        if tag.element == 0 or keyword in NO_KEYS or keyword in above:
            continue
        if not _is_of(keyword, level):
            ignored = True
            continue
        found = list(_keys(identifier, (int(tag),), encodings))
        if keyword in RETURNED_ONLY:
            ignored = ignored or any(key.value.strip("*") for key in found)
            found = [Key((int(tag),), "")]
        keys += found
    return Identifier(root, level, above, tuple(keys), ignored, character_set)


def _is_of(keyword: str, level: str) -> bool:
    of = ATTRIBUTES.get(keyword) or RETURNED_ONLY.get(keyword)
    return of is not None and LEVELS.index(of) <= LEVELS.index(level)


def _keys(item: Dataset, path: tuple[int, ...], encodings: list[str]) -> Iterator[Key]:
    """A key, or those in the one item of a sequence (PS3.4 C.2.2.2.6)."""
    if _vr(path[-1]) != "SQ":
        yield Key(path, _text(item, path[-1], encodings))
        return
    try:
        items = list(item[path[-1]].value or [])
    except Exception as error:  # whatever pydicom stumbles over
        raise QueryRefusedError(NOT_UNDERSTOOD, "a sequence cannot be read") from error
    if len(items) > 1 or len(path) >= DEEPEST:
        raise QueryRefusedError(NOT_THIS_SOP_CLASS, "a sequence with more than one item, or too deep")
    inner = [key for tag in (items[0].keys() if items else ()) for key in _keys(items[0], (*path, int(tag)), encodings)]
    yield from inner or [Key(path, "")]


def _vr(tag: int) -> str:
    try:
        return str(dictionary_VR(tag))
    except KeyError:
        return "UN"


def _text(item: Dataset, tag: int, encodings: list[str]) -> str:
    """A value as text: not as a number or a date, since a key may be a range or have wild cards. "" where it is absent."""
    if tag not in item:
        return ""
    element = item.get_item(tag)
    raw = element.value if isinstance(element, RawDataElement) else None
    if not isinstance(raw, bytes):
        return ""
    vr = _vr(tag)
    try:
        if vr == "PN":
            text = str(PersonName(raw, encodings).decode())
        elif vr in ("SH", "LO", "ST", "LT", "UC", "UT"):
            text = charset.decode_bytes(raw, encodings, {0x5C})
        elif vr in ("US", "UL", "SS", "SL"):
            return _numbers(raw, vr)
        else:
            text = raw.decode("ascii")
    except (UnicodeError, LookupError, ValueError) as error:
        raise QueryRefusedError(NOT_UNDERSTOOD, "a key is not in the character set of the request") from error
    return "\\".join(part.strip(" \0") for part in text.split("\\"))


def _numbers(raw: bytes, vr: str) -> str:
    size = 2 if vr[1] == "S" else 4
    values = (int.from_bytes(raw[at : at + size], "little", signed=vr[0] == "S") for at in range(0, len(raw), size))
    return "\\".join(map(str, values))


def _character_set(identifier: Dataset) -> tuple[str, list[str]]:
    """(Specific Character Set, Python's names of its encodings). Text beyond ASCII without one is UTF-8 where it can be, else
    Latin-1, as senders write it that say nothing."""
    named = _text(identifier, 0x00080005, [])
    if not named:
        return "", ["utf-8" if _is_utf8(identifier) else "latin-1"]
    terms = named.split("\\")
    if not all(term in charset.python_encoding for term in terms):
        raise QueryRefusedError(NOT_UNDERSTOOD, "Specific Character Set is not known")
    return named, charset.convert_encodings(terms)


def _is_utf8(identifier: Dataset) -> bool:
    for tag in identifier.keys():  # noqa: SIM118
        element = identifier.get_item(tag)
        if isinstance(element, RawDataElement) and isinstance(element.value, bytes) and not element.value.isascii():
            try:
                element.value.decode("utf-8")
            except UnicodeDecodeError:
                return False
    return True


_TIME = re.compile(r"(\d{2}):?(\d{2})?:?(\d{2})?(?:\.(\d{1,6}))?")


def without_combined_times(keys: tuple[Key, ...]) -> tuple[tuple[Key, ...], tuple[Key, ...]]:
    """(the keys for QIDO-RS, the times to match here). Ranges of a date and of its time are two keys in C-FIND unless it was
    negotiated otherwise, and one in QIDO-RS (PS3.4 C.2.2.2.5, PS3.18 8.3.4.1.1). Raises QueryRefusedError for no range."""
    ranges = {key.path[0] for key in keys if len(key.path) == 1 and "-" in key.value}
    apart = {tag_for_keyword(time) for date, time in DATES_AND_TIMES if {tag_for_keyword(date), tag_for_keyword(time)} <= ranges}
    times = tuple(key for key in keys if key.path[0] in apart)
    for key in times:
        time_matches(key.value, "")  # whether there is anything to match or not
    return tuple(Key(key.path, "") if key in times else key for key in keys), times


def time_matches(wanted: str, stored: str) -> bool:
    """Whether a TM lies in a range of TM. Raises QueryRefusedError for what is no range of TM."""
    first, last = (_moment(part.strip(), fill) for part, fill in zip(wanted.split("-", 1), ("0", "9"), strict=True))
    try:
        moment = _moment(stored, "0")
    except QueryRefusedError:
        return False
    return bool(moment) and (not first or first <= moment) and (not last or moment <= last)


def _moment(text: str, fill: str) -> str:
    """HHMMSSffffff; the first (`fill` 0) or the last (9) moment that a TM covers; "" for none."""
    if not text:
        return ""
    found = _TIME.fullmatch(text)
    if found is None:
        raise QueryRefusedError(NOT_THIS_SOP_CLASS, "a time is none")
    hour, minute, second, fraction = found.groups()
    rest = "00" if fill == "0" else "59"
    return f"{hour}{minute or rest}{second or rest}{(fraction or '').ljust(6, fill)}"
