"""The Store Instances Response Module, and the status that goes with it (PS3.18 10.5.3, Annex I)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chalicelib.dicomweb.json_model import Model
from chalicelib.domain import tags
from chalicelib.domain.dicom_json import Element


@dataclass(frozen=True, slots=True)
class Reason:
    """A Failure Reason (0008,1197): its code, what it says, and the clause that defines the code."""

    code: int
    meaning: str
    clause: str


_CANNOT_UNDERSTAND = "PS3.18 Table I.2-2, Cxxx"
_DOES_NOT_MATCH = "PS3.18 Table I.2-2, A9xx"

# Slug of a verdict (domain/rejections.py and the states of an upload) → Failure Reason.
FAILURE_REASONS: dict[str, Reason] = {
    "not-dicom": Reason(0xC000, "Not a DICOM instance", _CANNOT_UNDERSTAND),
    "truncated": Reason(0xC001, "Ends inside an element", _CANNOT_UNDERSTAND),
    "unreadable": Reason(0xC002, "Broken structure", _CANNOT_UNDERSTAND),
    "too-deep": Reason(0xC003, "Sequences nested too deeply", _CANNOT_UNDERSTAND),
    "too-large-header": Reason(0xC004, "Header too large", _CANNOT_UNDERSTAND),
    "deflate-too-large": Reason(0xC005, "Deflated data set too large", _CANNOT_UNDERSTAND),
    "executable-preamble": Reason(0xC006, "Preamble of an executable", _CANNOT_UNDERSTAND),
    "unsupported-media-type": Reason(0xC007, "A part of another media type", _CANNOT_UNDERSTAND),
    "too-many-references": Reason(0xC008, "Rejection note names too many instances", _CANNOT_UNDERSTAND),
    "ambiguous-identifier": Reason(0xA900, "Identifying attribute twice", _DOES_NOT_MATCH),
    "study-mismatch": Reason(0xA901, "Study Instance UID is not the one in the path", _DOES_NOT_MATCH),
    "missing-uid": Reason(0xA902, "A UID is missing", _DOES_NOT_MATCH),
    "invalid-uid": Reason(0xA903, "A UID is not one", _DOES_NOT_MATCH),
    "meta-mismatch": Reason(0xA904, "File meta and data set disagree", _DOES_NOT_MATCH),
    "invalid-patient-id": Reason(0xA905, "Patient ID or its issuer too long", _DOES_NOT_MATCH),
    "missing-bulkdata": Reason(0xA906, "Bulk data that the request does not hold", _DOES_NOT_MATCH),
    "withdrawn": Reason(0xA907, "Withdrawn by its owner", _DOES_NOT_MATCH),
    "pixels-not-compared": Reason(0xA908, "Duplicate SOP Instance, too large to be compared", _DOES_NOT_MATCH),
    "too-many-corrections": Reason(0xA909, "Duplicate SOP Instance, corrected too often", _DOES_NOT_MATCH),
    "conflicting-patient": Reason(0xA90B, "Duplicate SOP Instance of another patient", _DOES_NOT_MATCH),
    "superseded": Reason(0xA90A, "Corrected since", _DOES_NOT_MATCH),
    "dicomdir": Reason(0x0122, "SOP Class not supported", "PS3.18 Table I.2-2"),
    "conflict": Reason(0x0111, "Duplicate SOP Instance with other bytes", "PS3.7 C.5.14"),
    "unsupported-transfer-syntax": Reason(0xC122, "Transfer Syntax not supported", "PS3.18 Table I.2-2"),
    "processing-failure": Reason(0x0110, "Processing failure", "PS3.18 Table I.2-2"),
    "out-of-resources": Reason(0xA700, "Out of resources", "PS3.18 Table I.2-2"),
}

# Table I.2-1.
COERCED, DISCARDED = 0xB000, 0xB006


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An instance that is stored.

    `retrieve_url`, `study_url`: where it and its study can be had. `warning`: a Warning Reason of Table I.2-1.
    """

    sop_class_uid: str
    sop_instance_uid: str
    retrieve_url: str
    study_url: str
    warning: int | None = None


@dataclass(frozen=True, slots=True)
class FailedInstance:
    """An instance that is not stored; `reason` is a key of `FAILURE_REASONS`.

    Without both UIDs, which are type 1 in Failed SOP Sequence, it is reported among the failures that belong to no instance.
    """

    reason: str
    sop_class_uid: str = ""
    sop_instance_uid: str = ""

    @property
    def is_named(self) -> bool:
        """Whether it is told which instance this is."""
        return bool(self.sop_class_uid and self.sop_instance_uid)


Outcome = StoredInstance | FailedInstance


def failure_reason(slug: str) -> int:
    """The Failure Reason of a verdict; 0110, processing failure, for one that the table does not have."""
    return FAILURE_REASONS.get(slug, FAILURE_REASONS["processing-failure"]).code


def status(outcomes: Sequence[Outcome]) -> int:
    """The HTTP status of Table 10.5.3-1: 200 all stored, 202 some stored or with warnings, 409 none."""
    stored = [outcome for outcome in outcomes if isinstance(outcome, StoredInstance)]
    if not stored:
        return 409
    return 200 if len(stored) == len(outcomes) and all(instance.warning is None for instance in stored) else 202


def response(outcomes: Sequence[Outcome]) -> Model:
    """The module of Annex I, in the order of the request. Instances of several studies have no common Retrieve URL."""
    stored = [outcome for outcome in outcomes if isinstance(outcome, StoredInstance)]
    failed = [outcome for outcome in outcomes if isinstance(outcome, FailedInstance)]
    studies = {instance.study_url for instance in stored}
    model: Model = {tags.RetrieveURL: _element("UR", *(studies if len(studies) == 1 else ()))}
    sequences = {
        tags.FailedSOPSequence: [_failed(failure) for failure in failed if failure.is_named],
        tags.ReferencedSOPSequence: [_stored(instance) for instance in stored],
        tags.OtherFailuresSequence: [_reason(failure) for failure in failed if not failure.is_named],
    }
    model.update({tag: _element("SQ", *items) for tag, items in sequences.items() if items})
    return model


def _element(vr: str, *values: Any) -> Element:
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Model:
    return {
        tags.ReferencedSOPClassUID: _element("UI", *filter(None, [sop_class_uid])),
        tags.ReferencedSOPInstanceUID: _element("UI", sop_instance_uid),
    }


def _stored(instance: StoredInstance) -> Model:
    item = _reference(instance.sop_class_uid, instance.sop_instance_uid) | {
        tags.RetrieveURL: _element("UR", instance.retrieve_url)
    }
    if instance.warning is not None:
        item[tags.WarningReason] = _element("US", instance.warning)
    return dict(sorted(item.items()))


def _reason(failed: FailedInstance) -> Model:
    return {tags.FailureReason: _element("US", failure_reason(failed.reason))}


def _failed(failed: FailedInstance) -> Model:
    return _reference(failed.sop_class_uid, failed.sop_instance_uid) | _reason(failed)
