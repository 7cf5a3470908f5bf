"""Searching the archive as this hospital, and what it answers as identifiers (PS3.4 C.4.1, PS3.18 10.6)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from pydicom import config as pydicom_config
from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from forwarder.archive.client import Archive
from forwarder.errors import ArchiveError, Failure
from forwarder.query.keys import LEVELS, UNIQUE_KEYS, Identifier, Key, time_matches, without_combined_times
from forwarder.retrieve.query_retrieve import (
    NOT_THIS_SOP_CLASS,
    OUT_OF_RESOURCES,
    PENDING,
    PENDING_WITHOUT_SOME_KEYS,
    Match,
    QueryRefusedError,
)

FIRST_PAGE, PAGE = 50, 500  # results that are asked for at once: the first ones soon, then many
MOST_MATCHES = 10_000
UIDS_AT_ONCE = 50
CUT_SHORT = re.compile(r"Only the newest \d+ candidates were searched")
ALWAYS = ("PatientID", "IssuerOfPatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
OF_THE_OTHER_HOSPITALS_ORDER = frozenset({"AccessionNumber", "IssuerOfAccessionNumberSequence", "RequestAttributesSequence"})
"""Two hospitals number their orders alike: as in what is retrieved, these are empty in other hospitals' exams."""
COUNTED: dict[str, str] = {
    "NumberOfPatientRelatedStudies": "",
    "NumberOfPatientRelatedSeries": "NumberOfStudyRelatedSeries",
    "NumberOfPatientRelatedInstances": "NumberOfStudyRelatedInstances",
}

Result = dict[str, Any]
"""A result of QIDO-RS: attributes by tag, in the DICOM JSON Model (PS3.18 F.2)."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and who we are: our institution's id, the issuer of our numbers and what may stand for it, and our AE title."""

    title: str
    institution: str
    issuer: str
    issuer_names: frozenset[str]
    ae_title: str


def find(archive: Archive, identifier: Identifier, caller: Caller) -> Iterator[Match]:
    """The answers to a C-FIND, as they are found. Raises QueryRefusedError, ArchiveError."""
    rows = results(archive, identifier, caller)
    if identifier.level == "PATIENT":
        rows = _patients(rows, any(keyword_for_tag(key.path[0]) in COUNTED for key in identifier.keys))
    for number, row in enumerate(rows):
        if number >= MOST_MATCHES:
            raise QueryRefusedError(OUT_OF_RESOURCES, f"more than {MOST_MATCHES} matches: ask more narrowly")
        status = PENDING_WITHOUT_SOME_KEYS if identifier.ignored else PENDING
        yield Match(status, _answer(row, identifier, caller))


def results(archive: Archive, identifier: Identifier, caller: Caller) -> Iterator[Result]:
    """What the archive shows of it that has a number of ours, or is ours. Raises QueryRefusedError, ArchiveError."""
    keys, times = without_combined_times(identifier.keys)
    path, unique = _path(identifier), UNIQUE_KEYS[LEVELS.index(identifier.level)]
    seen: set[str] = set()
    for some in _in_portions(keys, tag_for_keyword(unique) or 0):
        for page in _pages(archive, path, _query(identifier, some, caller), caller):
            own = {text_of(row, unique) for row in page if not owner_of(row)}
            for row in page:
                uid = text_of(row, unique)
                if owner_of(row) and (text_of(row, "IssuerOfPatientID") != caller.issuer or uid in own):
                    continue  # under no number of ours; or our own stands under the same UID
                if identifier.level != "PATIENT" and uid in seen:
                    continue
                seen.add(uid)
                if all(time_matches(key.value, text_of(row, keyword_for_tag(key.path[0]))) for key in times):
                    yield row


def _in_portions(keys: tuple[Key, ...], unique: int) -> Iterator[tuple[Key, ...]]:
    """The keys, once for each `UIDS_AT_ONCE` of a list of UIDs of the level."""
    listed = next((key for key in keys if key.path == (unique,)), Key((unique,), ""))
    uids = list(dict.fromkeys(listed.value.split("\\")))
    if len(uids) <= UIDS_AT_ONCE:
        yield keys
        return
    for at in range(0, len(uids), UIDS_AT_ONCE):
        yield tuple(Key(key.path, "\\".join(uids[at : at + UIDS_AT_ONCE])) if key is listed else key for key in keys)


def _pages(archive: Archive, path: str, query: str, caller: Caller) -> Iterator[list[Result]]:
    offset, size = 0, FIRST_PAGE
    while True:
        page, cut_short = _page(archive, f"{path}?{query}&limit={size}&offset={offset}", caller)
        yield page
        if len(page) < size:
            if cut_short:
                raise QueryRefusedError(OUT_OF_RESOURCES, "the archive looked at the newest studies only: ask more narrowly")
            return
        offset, size = offset + size, PAGE


def owner_of(row: Result) -> str:
    """The institution that a result is of, as its Retrieve URL says; "" for the caller's own."""
    return parse_qs(urlsplit(text_of(row, "RetrieveURL")).query).get("owner", [""])[0]


def text_of(row: Result, keyword: str) -> str:
    """The first value of an attribute as text; "" where there is none."""
    values = row.get(f"{tag_for_keyword(keyword):08X}", {}).get("Value") or [""]
    return str(values[0] if values[0] is not None else "")


def _path(identifier: Identifier) -> str:
    study, series = (quote(identifier.above.get(name, ""), safe="") for name in ("StudyInstanceUID", "SeriesInstanceUID"))
    if identifier.level == "SERIES":
        return f"/dicomweb/studies/{study}/series"
    if identifier.level == "IMAGE":
        return f"/dicomweb/studies/{study}/series/{series}/instances"
    return "/dicomweb/studies"


def _query(identifier: Identifier, keys: tuple[Key, ...], caller: Caller) -> str:
    """The query component. A patient's number without an issuer is one of ours."""
    wanted: list[tuple[str, str]] = []
    included = set(ALWAYS[: 3 + max(0, LEVELS.index(identifier.level) - 1)])
    above = identifier.above.get("PatientID")
    if above:
        wanted.append(("PatientID", above))
    for key in keys:
        if key.value:
            ours = keyword_for_tag(key.path[0]) == "IssuerOfPatientID" and key.value in caller.issuer_names
            wanted.append((key.name, caller.issuer if ours else key.value))
        elif keyword_for_tag(key.path[0]) not in COUNTED:
            included.add(key.name)
    numbers = identifier.values("PatientID")
    if numbers and not identifier.values("IssuerOfPatientID"):
        wanted.append(("IssuerOfPatientID", caller.issuer))
    return urlencode([*wanted, ("includefield", ",".join(sorted(included)))])


def _page(archive: Archive, path: str, caller: Caller) -> tuple[list[Result], bool]:
    """(results, whether the archive did not look at all there is)."""
    headers = {"Accept": "application/dicom+json", "X-On-Behalf-Of": caller.title}
    answer = archive.call("GET", path, b"", headers, (200, 400, 404))
    if answer.status == 400:
        raise QueryRefusedError(NOT_THIS_SOP_CLASS, "the archive cannot read the value of a key")
    if answer.status == 404:
        return [], False
    try:
        found = json.loads(answer.data)
    except ValueError as error:
        raise ArchiveError("The archive's answer is not JSON.", Failure.PROTOCOL) from error
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise ArchiveError("The archive's answer to a search is not what the contract says.", Failure.PROTOCOL)
    return found, bool(CUT_SHORT.search(answer.headers.get("Warning", "")))


def _patients(rows: Iterator[Result], counted: bool) -> Iterator[Result]:
    """The patients of these studies, each once; with their counts where these are asked for, all rows being read first."""
    found: dict[tuple[str, str], Result] = {}
    for row in rows:
        who = (text_of(row, "PatientID"), text_of(row, "IssuerOfPatientID"))
        patient = found.get(who)
        if patient is None:
            patient = found[who] = dict(row)
            if counted:
                patient |= {_tag(name): {"Value": [0]} for name in COUNTED}
            else:
                yield patient
        if counted:
            for name, of_study in COUNTED.items():
                _add(patient, name, int(text_of(row, of_study) or 0) if of_study else 1)
    if counted:
        yield from found.values()


def _add(row: Result, keyword: str, count: int) -> None:
    row[_tag(keyword)] = {"Value": [int(text_of(row, keyword)) + count]}


def _tag(keyword: str) -> str:
    return f"{tag_for_keyword(keyword):08X}"


def _answer(row: Result, identifier: Identifier, caller: Caller) -> Dataset:
    """The identifier of one answer: what was asked for, the unique keys, and where it can be had (PS3.4 C.4.1.1.3.2)."""
    answer = Dataset()
    wanted = {key.path[0] for key in identifier.keys} | {tag_for_keyword(name) or 0 for name in identifier.above}
    wanted.add(tag_for_keyword(UNIQUE_KEYS[LEVELS.index(identifier.level)]) or 0)
    foreign = bool(owner_of(row))
    for tag in sorted(wanted):
        found = {} if foreign and keyword_for_tag(tag) in OF_THE_OTHER_HOSPITALS_ORDER else row.get(f"{tag:08X}", {})
        answer[tag] = _element(tag, found)
    (asked,) = identifier.values("IssuerOfPatientID")[:1] or ("",)
    if asked in caller.issuer_names:
        answer.IssuerOfPatientID = asked  # as the hospital's own systems call it, and as they will match it
    answer.QueryRetrieveLevel = identifier.level
    answer.RetrieveAETitle = caller.ae_title
    if identifier.level != "PATIENT":
        answer.InstanceAvailability = "ONLINE"
    name = _character_set(answer, identifier.character_set)
    if name:
        answer.SpecificCharacterSet = name.split("\\")
    return answer


def _element(tag: int, found: Result) -> DataElement:
    """An attribute of the DICOM JSON Model, as it is: what equipment wrote is not for us to put right."""
    vr = dictionary_VR(tag)
    values = [value for value in found.get("Value") or [] if value is not None]
    value: Any
    if vr == "SQ":
        value = DicomSequence([_item(item) for item in values if isinstance(item, dict)])
    elif vr == "PN":
        value = "\\".join(_name(value) for value in values if isinstance(value, dict))
    elif vr in ("US", "UL", "SS", "SL"):
        value = [int(value) for value in values] or None
    else:
        value = "\\".join(str(value) for value in values)
    return DataElement(tag, vr, value, validation_mode=pydicom_config.IGNORE)


def _item(found: Result) -> Dataset:
    item = Dataset()
    for name, values in found.items():
        tag = int(name, 16)
        if keyword_for_tag(tag) and isinstance(values, dict):
            item[tag] = _element(tag, values)
    return item


def _name(groups: Result) -> str:
    return "=".join(str(groups.get(group, "")) for group in ("Alphabetic", "Ideographic", "Phonetic")).rstrip("=")


def _character_set(answer: Dataset, asked: str) -> str:
    """In which an answer is written: "" where ASCII does, else the request's where that is one set and holds it, else UTF-8.
    A request that names none may be read by equipment that knows Latin-1 at the most."""
    texts = list(_texts(answer))
    if all(text.isascii() for text in texts):
        return ""
    for name in dict.fromkeys((asked or "ISO_IR 100", "ISO_IR 192")):
        if "\\" in name:
            continue
        (encoding, *_) = convert_encodings([name])
        try:
            for text in texts:
                text.encode(encoding)
        except (UnicodeError, LookupError):
            continue
        return name
    return "ISO_IR 192"


def _texts(item: Dataset) -> Iterator[str]:
    for element in item:
        if element.VR == "SQ":
            for inner in element.value:
                yield from _texts(inner)
        elif element.VR in ("PN", "SH", "LO", "ST", "LT", "UC", "UT"):
            yield str(element.value or "")
