"""The answer to a request to store (PS3.18 10.5.3, Annex I), as the archive answers what is smaller; tests hold both together."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from forwarder.web.media_types import XML

REASONS: Mapping[str, int] = {
    "not-dicom": 0xC000, "truncated": 0xC001, "unreadable": 0xC002, "too-deep": 0xC003, "too-large-header": 0xC004,
    "deflate-too-large": 0xC005, "executable-preamble": 0xC006, "unsupported-media-type": 0xC007,
    "too-many-references": 0xC008, "ambiguous-identifier": 0xA900, "study-mismatch": 0xA901, "missing-uid": 0xA902,
    "invalid-uid": 0xA903, "meta-mismatch": 0xA904, "invalid-patient-id": 0xA905, "withdrawn": 0xA907,
    "pixels-not-compared": 0xA908, "too-many-corrections": 0xA909, "superseded": 0xA90A, "conflicting-patient": 0xA90B,
    "dicomdir": 0x0122,
    "conflict": 0x0111,
}  # fmt: skip
"""Failure Reasons (PS3.18 table I.2-2) as the archive tells them (docs/conformance.md); every other verdict is 0110."""
PROCESSING_FAILURE = 0x0110
KEYWORDS: Mapping[str, str] = {
    "00081150": "ReferencedSOPClassUID", "00081155": "ReferencedSOPInstanceUID", "00081190": "RetrieveURL",
    "00081197": "FailureReason", "00081198": "FailedSOPSequence", "00081199": "ReferencedSOPSequence",
    "0008119A": "OtherFailuresSequence",
}  # fmt: skip
NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
Model = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class StoreOutcome:
    """What became of an instance. `reason`: why it is not stored; None where it is, and where it can be had then."""

    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    reason: str | None = None
    study_url: str = ""
    retrieve_url: str = ""


def store_answer(outcomes: Sequence[StoreOutcome], media_type: str) -> Response:
    """200 where all is stored, 202 where some is, 409 where nothing is.

    Both UIDs of a failed instance are type 1: what has not both is among Other Failures.
    """
    stored = [outcome for outcome in outcomes if outcome.reason is None]
    status = 409 if not stored else 200 if len(stored) == len(outcomes) else 202
    model = _model(outcomes)
    xml = media_type == XML
    content = _xml(model) if xml else json.dumps(model, ensure_ascii=False, separators=(",", ":"))
    return Response(content.encode(), status, {"Cache-Control": "no-store"}, media_type)


def _model(outcomes: Sequence[StoreOutcome]) -> Model:
    stored: list[Model] = []
    failed: list[Model] = []
    others: list[Model] = []
    studies: set[str] = set()
    for outcome in outcomes:
        item = {
            "00081150": _element("UI", outcome.sop_class_uid),
            "00081155": _element("UI", outcome.sop_instance_uid),
        }
        if outcome.reason is None:
            stored.append(item | {"00081190": _element("UR", outcome.retrieve_url)})
            studies.add(outcome.study_url)
            continue
        reason = {"00081197": _element("US", REASONS.get(outcome.reason, PROCESSING_FAILURE))}
        if outcome.sop_class_uid and outcome.sop_instance_uid:
            failed.append(item | reason)
        else:
            others.append(reason)
    model = {"00081190": _element("UR", studies.pop() if len(studies) == 1 else "")}
    sequences = {"00081198": failed, "00081199": stored, "0008119A": others}
    return model | {tag: {"vr": "SQ", "Value": items} for tag, items in sequences.items() if items}


def _element(vr: str, value: object) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]} if value != "" else {"vr": vr}


def _xml(model: Model) -> str:
    """The Native DICOM Model (PS3.19 A.1)."""
    root = f'NativeDicomModel xmlns="{NAMESPACE}" xml:space="preserve"'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}>{_attributes(model)}</NativeDicomModel>'


def _attributes(model: Model) -> str:
    written = []
    for tag, element in model.items():
        values = []
        for number, value in enumerate(element.get("Value", ()), 1):
            if element["vr"] == "SQ":
                values.append(f'<Item number="{number}">{_attributes(value)}</Item>')
            else:
                values.append(f'<Value number="{number}">{html.escape(str(value), quote=False)}</Value>')
        written.append(
            f'<DicomAttribute tag="{tag}" vr="{element["vr"]}" keyword="{KEYWORDS[tag]}">{"".join(values)}</DicomAttribute>'
        )
    return "".join(written)
