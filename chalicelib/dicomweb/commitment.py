"""Storage Commitment: what is asked for, and the answer in the structure of the question (PS3.18 13, Annex J)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chalicelib.dicomweb.json_model import Model, first_text, items, parse_json
from chalicelib.dicomweb.media_types import parse_media_type
from chalicelib.dicomweb.multipart import parse as parse_multipart
from chalicelib.dicomweb.native_xml import parse_xml
from chalicelib.domain import tags
from chalicelib.domain.dicom_json import Element
from chalicelib.domain.errors import BadRequest, UnsupportedMediaType
from chalicelib.domain.identifiers import uid

MAX_INSTANCES = 5000

# PS3.3 C.14.1.1: Failure Reason (0008,1197) of an instance that is not committed.
PROCESSING_FAILURE = 0x0110
NO_SUCH_INSTANCE = 0x0112
CLASS_INSTANCE_CONFLICT = 0x0119
CLASS_NOT_SUPPORTED = 0x0122
DUPLICATE_TRANSACTION = 0x0131
RESOURCE_LIMITATION = 0x0213

REASONS = frozenset(
    {
        PROCESSING_FAILURE,
        NO_SUCH_INSTANCE,
        CLASS_INSTANCE_CONFLICT,
        CLASS_NOT_SUPPORTED,
        DUPLICATE_TRANSACTION,
        RESOURCE_LIMITATION,
    }
)


@dataclass(frozen=True, slots=True)
class Reference:
    """One instance whose safekeeping is asked for; study and series where the request says them."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str | None = None
    series_instance_uid: str | None = None


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """The instances in the order asked. `by_study`: the request had the structure study, series, class, instance."""

    references: tuple[Reference, ...]
    by_study: bool


def parse_commitment_request(content_type: str | None, body: bytes) -> CommitmentRequest:
    """A Storage Commitment Request Module (J.1) in JSON or XML, alone or as the one part of a multipart body.

    Raises UnsupportedMediaType, and BadRequest for what is not that module or names more than 5,000 instances.
    """
    media_type = parse_media_type(content_type or "")
    name, content = media_type.name if media_type else "", memoryview(body)
    if media_type is not None and name == "multipart/related":
        root = parse_media_type(media_type.parameter("type") or "")
        parts = list(parse_multipart(body, media_type.parameter("boundary") or "", max_parts=1))
        if not parts:
            raise BadRequest("The body has no part.")
        declared = parse_media_type(parts[0].header("content-type") or "") or root
        name, content = declared.name if declared else "", parts[0].body
    if name in ("application/dicom+json", "application/json"):
        models = parse_json(content)
        if len(models) != 1:
            raise BadRequest("The body must hold one Storage Commitment Request Module.")
        return _request(models[0])
    if name == "application/dicom+xml":
        return _request(parse_xml(content))
    raise UnsupportedMediaType("Send application/dicom+json or application/dicom+xml.")


def _request(model: Model) -> CommitmentRequest:
    flat = [_reference(item) for item in items(model, tags.ReferencedSOPSequence)]
    nested = [
        _reference(
            instance,
            _uid(by_class, tags.ReferencedSOPClassUID),
            _uid(study, tags.StudyInstanceUID),
            _uid(series, tags.SeriesInstanceUID),
        )
        for study in items(model, tags.ReferencedStudySequence)
        for series in _required(study, tags.ReferencedSeriesSequence)
        for by_class in _required(series, tags.ReferencedInstancesBySOPClassSequence)
        for instance in _required(by_class, tags.ReferencedInstanceSequence)
    ]
    if bool(flat) == bool(nested):
        raise BadRequest("Either Referenced SOP Sequence or Referenced Study Sequence must have items.")
    found = tuple(dict.fromkeys(flat or nested))
    if len(found) > MAX_INSTANCES:
        raise BadRequest(f"One request may name at most {MAX_INSTANCES} instances.")
    return CommitmentRequest(found, by_study=bool(nested))


def _required(model: Model, tag: str) -> list[Model]:
    found = items(model, tag)
    if not found:
        raise BadRequest(f"The sequence {tag} has no items.")
    return found


def _uid(model: Model, tag: str) -> str:
    return uid(first_text(model, tag), tag)


def _reference(item: Model, sop_class: str | None = None, study: str | None = None, series: str | None = None) -> Reference:
    return Reference(
        sop_class or _uid(item, tags.ReferencedSOPClassUID), _uid(item, tags.ReferencedSOPInstanceUID), study, series
    )


def commitment_response(request: CommitmentRequest, failure_of: Callable[[Reference], int | None]) -> Model:
    """The Storage Commitment Response Module (J.2), in the structure of the request.

    `failure_of`: None for an instance that is committed, else one of `REASONS`.
    """
    committed: dict[Reference, int | None] = {}
    failed: dict[Reference, int | None] = {}
    for reference in request.references:
        reason = failure_of(reference)
        (committed if reason is None else failed)[reference] = reason
    if request.by_study:
        found = {tags.ReferencedStudySequence: _by_study(committed), tags.FailedStudySequence: _by_study(failed)}
    else:
        found = {
            tags.FailedSOPSequence: [_class(r) | _instance(r, reason) for r, reason in failed.items()],
            tags.ReferencedSOPSequence: [_class(r) | _instance(r, None) for r in committed],
        }
    return {tag: _sequence(those) for tag, those in found.items() if those}


def _by_study(verdicts: dict[Reference, int | None]) -> list[Model]:
    """The instances grouped by study, series and class, each in the order of the request."""
    tree: dict[str | None, dict[str | None, dict[str, list[Model]]]] = {}
    for reference, reason in verdicts.items():
        series = tree.setdefault(reference.study_instance_uid, {})
        classes = series.setdefault(reference.series_instance_uid, {})
        classes.setdefault(reference.sop_class_uid, []).append(_instance(reference, reason))
    return [
        {
            tags.ReferencedSeriesSequence: _sequence(
                [
                    {
                        tags.ReferencedInstancesBySOPClassSequence: _sequence(
                            [
                                {
                                    tags.ReferencedInstanceSequence: _sequence(instances),
                                    tags.ReferencedSOPClassUID: _text(sop_class),
                                }
                                for sop_class, instances in classes.items()
                            ]
                        ),
                        tags.SeriesInstanceUID: _text(series_uid),
                    }
                    for series_uid, classes in series.items()
                ]
            ),
            tags.StudyInstanceUID: _text(study_uid),
        }
        for study_uid, series in tree.items()
    ]


def _class(reference: Reference) -> Model:
    return {tags.ReferencedSOPClassUID: _text(reference.sop_class_uid)}


def _instance(reference: Reference, reason: int | None) -> Model:
    model: Model = {tags.ReferencedSOPInstanceUID: _text(reference.sop_instance_uid)}
    if reason is not None:
        model[tags.FailureReason] = {"vr": "US", "Value": [reason]}
    return model


def _text(uid_text: str | None) -> Element:
    return {"vr": "UI", "Value": [uid_text]}


def _sequence(found: list[Model]) -> Element:
    return {"vr": "SQ", "Value": found}
