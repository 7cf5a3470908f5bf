"""The status as Prometheus metrics. Names and meanings stand in `METRICS`, which the docs are tested against."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from forwarder.operations.work_items import WorkKind

PEOPLE = {
    WorkKind.ACCEPTANCE: "transfers to accept", WorkKind.NUMBER_PROPOSAL: "numbers that are proposed for them",
    WorkKind.MERGE: "merged numbers to look at",
    WorkKind.EMERGENCY_REVIEW: "emergencies to review", WorkKind.PUT_ASIDE: "images and reports that were put aside",
    WorkKind.DELIVERY_ASIDE: "exams of which the PACS did not take all", WorkKind.REGISTRATION: "acts of ADT",
    WorkKind.RECALL: "exams to recall from the PACS",
}  # fmt: skip
# name: (kind, meaning, path in the snapshot)
METRICS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "forwarder_received": ("counter", "Instances that were acknowledged", ("received",)),
    "forwarder_indexed": ("counter", "Instances that the archive has and can find", ("indexed",)),
    "forwarder_rejected": ("counter", "Instances that were rejected, in conflict or discarded", ("rejected",)),
    "forwarder_waiting": ("gauge", "Instances that are not settled yet", ("waiting",)),
    "forwarder_at_archive": ("gauge", "Of those, what the archive has and not judged yet", ("at_archive",)),
    "forwarder_troubled": ("gauge", "Waiting instances that failed and are tried later", ("troubled",)),
    "forwarder_waiting_bytes": ("gauge", "Size of what waits, as received", ("bytes_waiting",)),
    "forwarder_oldest_waiting_seconds": ("gauge", "Age of the oldest that waits", ("oldest_waiting_seconds",)),
    "forwarder_refused": ("counter", "C-STORE requests answered with a failure", ("refused",)),
    "forwarder_associations_refused": ("counter", "DICOM associations that were refused", ("associations_refused",)),
    "forwarder_contexts_refused": ("counter", "Presentation contexts that were refused", ("contexts_refused",)),
    "forwarder_commitments_open": ("gauge", "Requests for storage commitment that are not answered yet", ("commitments", "open")),
    "forwarder_commitments_oldest_seconds": ("gauge", "Age of the oldest of them", ("commitments", "oldest_seconds")),
    "forwarder_reports_received": ("counter", "Reports that came by HL7 and were acknowledged", ("reports", "received")),
    "forwarder_reports_sent": ("counter", "Reports that the archive has", ("reports", "sent")),
    "forwarder_reports_aside": ("counter", "Reports that were put aside or discarded", ("reports", "aside")),
    "forwarder_reports_waiting": ("gauge", "Reports that wait for the line or for their study", ("reports", "waiting")),
    "forwarder_reports_oldest_waiting_seconds": ("gauge", "Age of the oldest of them", ("reports", "oldest_waiting_seconds")),
    "forwarder_hl7_refused": ("counter", "HL7 messages answered with AE or AR", ("hl7_refused",)),
    "forwarder_hl7_made_room": ("counter", "HL7 connections that were closed for new ones", ("hl7_made_room",)),
    "forwarder_hl7_turned_away": ("counter", "HL7 connections for which there was no room", ("hl7_turned_away",)),
    "forwarder_deliver_announced": ("gauge", "Instances of other hospitals that are to be in the PACS", ("deliver", "announced")),
    "forwarder_deliver_delivered": ("gauge", "Of those, what the forwarder brought into the PACS", ("deliver", "delivered")),
    "forwarder_deliver_there": ("gauge", "Of those, what the PACS had already", ("deliver", "there")),
    "forwarder_deliver_aside": ("gauge", "Of those, what was put aside", ("deliver", "aside")),
    "forwarder_deliver_waiting": ("gauge", "Of those, what waits", ("deliver", "waiting")),
    "forwarder_deliver_oldest_waiting_seconds": (
        "gauge", "Age of the oldest exam that waits", ("deliver", "oldest_waiting_seconds")
    ),
    "forwarder_deliver_numberless": ("gauge", "Accepted transfers without a local number", ("deliver", "numberless")),
    "forwarder_deliver_not_accepted": ("gauge", "Incoming transfers that wait for acceptance", ("deliver", "not_accepted")),
    "forwarder_deliver_unconfirmed": (
        "gauge", "Delivered instances of which it is not known yet that the PACS keeps them", ("deliver", "unconfirmed")
    ),
    "forwarder_deliver_looks_waiting": (
        "gauge", "Patients, exams and transfers of which it is yet to be found out what to bring", ("deliver", "looks_waiting")
    ),
    "forwarder_deliver_recalls_rejected": (
        "gauge", "Recalls of which the PACS took a rejection note", ("deliver", "recalls_rejected")
    ),
    "forwarder_deliver_echoes": ("counter", "Instances that the PACS sent back", ("deliver", "echoes")),
    "forwarder_query_found": ("counter", "C-FIND requests that were answered", ("queries", "found")),
    "forwarder_query_matches": ("counter", "Matches that they were answered with", ("queries", "matches")),
    "forwarder_query_retrieved": ("counter", "C-GET and C-MOVE requests that were answered", ("queries", "retrieved")),
    "forwarder_query_instances": ("counter", "Instances that they stored", ("queries", "instances")),
    "forwarder_query_failed": ("counter", "Instances that they could not store", ("queries", "failed")),
    "forwarder_query_refused": (
        "counter", "C-FIND, C-GET and C-MOVE requests answered with a failure", ("queries", "refused")
    ),
    "forwarder_adt_opened": ("gauge", "Transfers that ADT opened, not undone", ("adt", "acts", "openings", "done")),
    "forwarder_adt_accepted": ("gauge", "Transfers that ADT accepted, not undone", ("adt", "acts", "acceptances", "done")),
    "forwarder_adt_waiting": ("gauge", "Acts of ADT that are still to be done at the archive", ("adt", "waiting")),
    "forwarder_adt_oldest_waiting_seconds": ("gauge", "Age of the oldest of them", ("adt", "oldest_waiting_seconds")),
    "forwarder_adt_held": ("gauge", "Acts of ADT held for a person: beyond the hour's limit, or in doubt", ("adt", "held")),
    "forwarder_adt_aside": ("gauge", "Acts of ADT that the archive refused", ("adt", "aside")),
    "forwarder_adt_proposals": ("gauge", "Numbers that ADT proposes for transfers that wait for a person", ("adt", "proposals")),
    "forwarder_adt_unreadable": ("counter", "ADT messages answered with AE or AR", ("adt", "events", "unreadable")),
    "forwarder_adt_nobody": ("counter", "ADT events for a destination of nobody", ("adt", "events", "destination-of-nobody")),
    "forwarder_orders_received": ("gauge", "Orders of the last days", ("orders", "received")),
    "forwarder_orders_waiting": ("gauge", "Of those, for which the archive is still to be asked", ("orders", "waiting")),
    "forwarder_orders_with_priors": ("gauge", "Of those, with something relevant at another hospital", ("orders", "with_priors")),
    "forwarder_orders_with_same": ("gauge", "Of those, of which the same was made elsewhere lately", ("orders", "with_same")),
    **{
        f"forwarder_people_{kind.replace('-', '_')}": (
            "gauge", f"What waits for a person: {meaning}", ("people", str(kind), "count")
        )
        for kind, meaning in PEOPLE.items()
    },
    **{
        f"forwarder_people_{kind.replace('-', '_')}_oldest_seconds": (
            "gauge", "Age of the oldest of them", ("people", str(kind), "oldest_seconds")
        )
        for kind in PEOPLE
    },
    "forwarder_received_bytes": ("counter", "Bytes received since the start", ("traffic", "bytes_received")),
    "forwarder_sent_bytes": ("counter", "Bytes sent since the start", ("traffic", "bytes_sent")),
    "forwarder_saved_bytes": ("counter", "Bytes saved by compressing", ("traffic", "bytes_saved")),
    "forwarder_packing_failures": ("counter", "Images that could not be compressed", ("traffic", "packing_failures")),
    "forwarder_line_open": ("gauge", "1 if the archive answers", ("line", "open")),
    "forwarder_uploads": ("gauge", "Uploads under way", ("line", "uploads")),
    "forwarder_window": ("gauge", "Uploads that the line bears", ("line", "window")),
    "forwarder_clock_skew_seconds": ("gauge", "The archive's clock less ours", ("line", "skew_seconds")),
    "forwarder_disk_free_bytes": ("gauge", "Free space of the spool's disk", ("disk", "free_bytes")),
    "forwarder_disk_low": ("gauge", "1 if senders are refused for lack of space", ("disk", "low")),
    "forwarder_certificate_days": (
        "gauge", "Days until the first certificate ends, of TLS or of the AWS credentials", ("certificate_days",),
    ),
}  # fmt: skip


class _Collector:
    def __init__(self, snapshot: dict[str, Any]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        for name, (kind, meaning, path) in METRICS.items():
            value: Any = self._snapshot
            for step in path:
                value = value[step]
            if value is None:
                continue
            family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
            yield family(name, meaning, value=float(value))


def exposition(snapshot: dict[str, Any]) -> tuple[str, bytes]:
    """(media type, body) of the metrics page."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(snapshot))
    return CONTENT_TYPE_LATEST, generate_latest(registry)
