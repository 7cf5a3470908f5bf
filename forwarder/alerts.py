"""What can be wrong, by the names under which the page tells it: each has a text in every language of `forwarder/web`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from importlib import resources

LANGUAGES = ("it", "en")


class Trouble(StrEnum):
    """What is wrong with the line, more exactly than the kind of failure, or with this machine."""

    UNTRUSTED_CERTIFICATE = "untrusted-certificate"
    UNKNOWN_NAME = "unknown-name"
    CONNECTION_REFUSED = "connection-refused"
    NO_ANSWER_IN_TIME = "no-answer-in-time"
    LINE_BROKE = "line-broke"
    PROXY_REFUSES = "proxy-refuses"
    PROXY_UNREACHABLE = "proxy-unreachable"
    STORE_BLOCKED = "store-blocked"
    NO_CREDENTIALS = "no-credentials"
    CREDENTIALS_NOT_RENEWED = "credentials-not-renewed"
    UNKNOWN_INSTITUTION = "unknown-institution"
    DISK_READ_ONLY = "disk-read-only"
    DISK_LOW = "disk-low"
    SPOOL_FAILS = "spool-fails"
    WATCH_FAILS = "watch-fails"
    HL7_CROWDED = "hl7-connections-full"
    PATIENT_NOT_CORRECTED = "patient-not-corrected"
    MANY_ASIDE = "many-aside"
    RECALLS_TO_ACT_ON = "recalls-to-act-on"
    PACS_DOES_NOT_TAKE = "pacs-does-not-take"
    DELIVERY_UNFORESEEN = "delivery-unforeseen"
    PART_STUMBLES = "part-stumbles"
    ADT_TOO_MANY = "adt-too-many"
    CLOCK_WRONG = "clock-wrong"
    CERTIFICATE_ENDS = "certificate-ends"
    CERTIFICATE_UNREADABLE = "certificate-unreadable"


class Reason(StrEnum):
    """Why the forwarder itself put an instance or a report aside, or what stands for the archive's reason where it gave none."""

    LARGER_THAN_5_GIB = "larger-than-5-gib"
    REFUSED_BY_THE_STORE = "refused-by-the-store"
    DAMAGED_IN_SPOOL = "damaged-in-spool"
    LOST_FROM_SPOOL = "lost-from-spool"
    EMPTY_FILE = "empty-file"
    NOT_DICOM = "not-dicom"
    SPECIAL_FILE = "special-file"
    LINK_OUT_OF_FOLDER = "link-out-of-folder"
    CONFLICT = "conflict"
    SUPERSEDED = "superseded"
    REJECTED = "rejected"
    REPORT_OF_ANOTHER_PATIENT = "report-of-another-patient"
    REPORT_REFUSED = "report-refused-by-archive"
    REPORT_OF_SEVERAL_EXAMS = "report-of-several-exams"
    REPORT_WITHOUT_STUDY = "report-without-study"
    REPORT_OVERTAKEN = "report-overtaken"
    REPORT_DELETION = "report-deletion"
    REPORT_TAKEN_BACK = "report-taken-back"


class Refusal(StrEnum):
    """Why an association, a presentation context or an instance was not taken at the DICOM door."""

    PROTOCOL_VERSION = "protocol-version"
    APPLICATION_CONTEXT = "application-context"
    CALLING_AE_TITLE = "calling-ae-title"
    CALLED_AE_TITLE = "called-ae-title"
    TOO_MANY_ASSOCIATIONS = "too-many-associations"
    TOO_MANY_CONNECTIONS = "too-many-connections"
    NO_REQUEST_IN_TIME = "no-request-in-time"
    NOT_DICOM = "not-dicom"
    TLS_HANDSHAKE = "tls-handshake"
    SOP_CLASS = "sop-class"
    TRANSFER_SYNTAX = "transfer-syntax"
    NO_TRANSFER_SYNTAX = "no-transfer-syntax"
    DAMAGED_CONTEXT = "damaged-context"
    OTHER_CONTEXT = "other-context"
    NO_DATA_SET = "no-data-set"
    NO_SPACE = "no-space"
    SPOOL_FAILS = "spool-fails"
    NO_PEER = "no-peer"
    NOT_A_PEER = "not-a-peer"
    UNKNOWN_DESTINATION = "unknown-destination"


@cache
def texts(language: str) -> dict[str, str]:
    """Every text of a language, by key; troubles as `trouble.…`, reasons as `reason.…`, refusals as `refusal.…`."""
    found: dict[str, str] = json.loads((resources.files("forwarder") / "web" / f"{language}.json").read_text(encoding="utf-8"))
    return found


def advise(reason: str | None) -> str:
    """What to do about a trouble, or about what was put aside for this reason, in English."""
    return texts("en").get(f"advice.{reason}", texts("en")["advice.other"])


def explain(reason: str | None) -> str:
    """A reason's slug with what it means, in English; the slug alone where a newer archive knows more of them."""
    if not reason:
        return ""
    meaning = texts("en").get(f"reason.{reason}")
    return f"{reason} ({meaning})" if meaning else reason


def why_not_delivered(reason: str, words: Mapping[str, str]) -> str:
    """Why an exam or an image is not in the PACS, or should not be, in the words of a language; the slug where it has none."""
    kind, status = _delivery_kind(reason)
    return " ".join(filter(None, (words.get(f"deliver.{kind}", kind), status.upper())))


def advise_on_delivery(reason: str, words: Mapping[str, str]) -> str:
    """What to do about that; where the line to the archive holds it up, what is to be done about the line."""
    kind, _ = _delivery_kind(reason)
    return words.get(f"advice.deliver.{kind}") or words.get(f"advice.{kind}", words["advice.other"])


def _delivery_kind(reason: str) -> tuple[str, str]:
    """A reason without the status of the PACS's that may stand behind it, and that status."""
    before, kind, status = reason.partition("pacs-status-")
    return (kind[:-1], status) if kind and not before else (reason, "")
