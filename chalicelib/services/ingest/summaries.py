"""Headers are read here, with pydicom, which is imported where it is needed and nowhere else in the services."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from chalicelib.domain.instance_summary import InstanceSummary
from chalicelib.domain.rejections import Rejected

_LARGEST_METADATA = 512 * 1024
"""Bytes of an instance's metadata that are kept when it is indexed; larger ones are read anew when asked for."""


def read_summary(fetch: Callable[[int, int], bytes], size: int, whole: bool = True) -> InstanceSummary | str | None:
    """`services.ingest.index.ReadSummary`.

    Within the limits of the first round a head takes 0.2 s at the most; a hostile one of 4 KB that uses all that the whole
    ones are allowed, ten times as long.
    """
    from chalicelib.dicom import documents, frames, report_identity, served
    from chalicelib.dicom.header import DEFAULT_LIMITS, read_head
    from chalicelib.dicom.summary import summarise

    limits = DEFAULT_LIMITS if whole else replace(DEFAULT_LIMITS, elements=20_000, passed=20_000, header=2 * 1024**2, fetches=8)
    try:
        head = read_head(fetch, size, limits)
        described = frames.examine(head, fetch)
        summary = summarise(head, described)
        declared = report_identity.identify(head, fetch)
        if declared is not None:
            summary = replace(summary, document=replace(declared, conclusion=documents.conclusion(head, fetch)))
    except Rejected as rejected:
        return None if not whole and rejected.reason == "too-large-header" else rejected.reason
    if head.streamed:
        return summary  # its metadata is made when it is asked for
    kept = served.keep(head, summary.series_instance_uid, summary.sop_instance_uid, described)
    return replace(summary, metadata=kept) if len(kept) <= _LARGEST_METADATA else summary


def begins_as_dicom(first: bytes) -> bool:
    """`services.ingest.removals.BeginsAsDicom`."""
    from chalicelib.dicom import preamble

    return preamble.begins_as_dicom(first)
