"""Which index answers a search: one selective key, then filtering of what it finds.

| key of the search | answered by |
|---|---|
| Study Instance UID, in the path or as a key | the studies themselves |
| Accession Number, Patient ID: one value each without wild cards | the index of that number |
| Patient's Name that begins with three letters or more | the index of names |
| Modalities in Study, or Modality below study level, without wild cards, and Study Date if given | the index of each modality |
| Study Date, one day or a range | the index of dates |
| Patient's Name that begins with one or two letters | the index of names |
| anything else | the index of dates, newest first, with bounded work |
"""

from __future__ import annotations

from dataclasses import dataclass

from chalicelib.dicomweb import person_names
from chalicelib.dicomweb.matching import Moments, Names, Texts, Uids
from chalicelib.dicomweb.qido import Query
from chalicelib.domain import tags

_NAME_PREFIX = 3
MOST_MODALITIES = 10
"""Values that are looked up, each by a Query of its own."""


@dataclass(frozen=True, slots=True)
class ByStudy:
    """Exactly these studies."""

    study_instance_uids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ByPatient:
    """The studies of a patient's number; Issuer of Patient ID, when given, is matched after."""

    patient_id: str


@dataclass(frozen=True, slots=True)
class ByAccession:
    """The studies with this accession number."""

    accession_number: str


@dataclass(frozen=True, slots=True)
class ByName:
    """The studies whose `name_key` begins so: all that match are among them, and some that do not."""

    prefix: str


@dataclass(frozen=True, slots=True)
class ByModality:
    """The studies that have one of these modalities, of these days (`ByDate`)."""

    modalities: tuple[str, ...]
    first: str | None
    last: str | None


@dataclass(frozen=True, slots=True)
class ByDate:
    """The studies of these days, `YYYYMMDD`, both included; None where the range is open."""

    first: str | None
    last: str | None


@dataclass(frozen=True, slots=True)
class Everything:
    """No key helps: all that the caller may see, newest first."""


SelectiveKey = ByStudy | ByPatient | ByAccession | ByName | ByModality | ByDate | Everything


def selective_key(query: Query) -> SelectiveKey:
    """The key that finds the candidates of a search; every entity that matches is among them."""
    study = query.key(tags.StudyInstanceUID)
    if query.scope.study_instance_uid is not None:
        return ByStudy((query.scope.study_instance_uid,))
    if study is not None and isinstance(study.match, Uids):
        return ByStudy(tuple(sorted(study.match.uids)))
    accession = one_text(query, tags.AccessionNumber)
    if accession is not None:
        return ByAccession(accession)
    patient = one_text(query, tags.PatientID)
    if patient is not None:
        return ByPatient(patient)
    prefix = _name_prefix(query)
    if len(prefix) >= _NAME_PREFIX:
        return ByName(prefix)
    date = query.key(tags.StudyDate)
    first, last = (date.match.range.first, date.match.range.last) if date and isinstance(date.match, Moments) else (None, None)
    modalities = _texts(query, tags.ModalitiesInStudy) or (_texts(query, tags.Modality) if query.level != "study" else ())
    if 1 <= len(modalities) <= MOST_MODALITIES:
        return ByModality(modalities, first, last)
    if first or last:
        return ByDate(first, last)
    return ByName(prefix) if prefix else Everything()


def one_text(query: Query, tag: str) -> str | None:
    """The value of a key that has one, without wild cards."""
    texts = _texts(query, tag)
    return texts[0] if len(texts) == 1 else None


def _texts(query: Query, tag: str) -> tuple[str, ...]:
    """The values of a key, if none has wild cards; else none."""
    key = query.key(tag)
    if key is None or not isinstance(key.match, Texts):
        return ()
    patterns = tuple(dict.fromkeys(key.match.patterns))
    return () if any("*" in pattern or "?" in pattern for pattern in patterns) else patterns


def _name_prefix(query: Query) -> str:
    """How the index key of every matching name begins; "" if that cannot be said.

    It cannot for fuzzy matching, where a word may stand anywhere in the name, for several groups or values,
    and for letters that are not Latin, which are looked for in every component group.
    """
    key = query.key(tags.PatientName)
    if key is None or not isinstance(key.match, Names) or key.match.fuzzy or len(key.match.patterns) != 1:
        return ""
    groups = key.match.patterns[0]
    if len(groups) != 1 or not person_names.fold(groups[0]).isascii():
        return ""
    start = groups[0].split("*")[0].split("?")[0]
    return person_names.key_prefix(start)
