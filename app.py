"""The handlers of every Lambda function of Contenitore."""

from __future__ import annotations

from typing import Any

import boto3  # noqa: F401  loaded while the function starts, when Lambda lends it a whole processor
from chalice.app import Chalice, Rate

from chalicelib import telemetry  # noqa: F401  the same
from chalicelib.api.routes import register_routes
from chalicelib.bootstrap import Archive
from chalicelib.domain.json_object import JsonObject


class Contenitore(Chalice):
    """Chalice, but for header fields that were sent more than once, which are one list (RFC 9110 5.3) and of which it would
    take the last, and for requests without an Accept header, which mean `*/*` (12.5.1) and which it would refuse.
    """

    def __call__(self, event: JsonObject, context: Any) -> Any:
        headers: dict[str, str] = {}
        for name, values in (event.get("multiValueHeaders") or {}).items():
            known = headers.get(name.lower())
            headers[name.lower()] = ", ".join([known, *values] if known is not None else values)
        headers = headers or {name.lower(): value for name, value in (event.get("headers") or {}).items()}
        headers.setdefault("accept", "*/*")
        return super().__call__({**event, "headers": headers}, context)


app = Contenitore(app_name="contenitore", configure_logs=False)  # telemetry.py has the logger
app.api.binary_types = ["*/*"]
archive = Archive()
register_routes(app, archive)


@app.on_sqs_message(queue_arn="arn:aws:sqs:eu-south-1:000000000000:instances", batch_size=100,
                    maximum_batching_window_in_seconds=1, name="index_instances")  # fmt: skip
def index_instances(event: Any) -> JsonObject:
    """What S3 says was stored is checked and indexed."""
    from chalicelib.api import events

    return events.index(archive, event.to_dict(), lambda: event.context.get_remaining_time_in_millis() / 1000)


@app.on_dynamodb_record(stream_arn="arn:aws:dynamodb:eu-south-1:000000000000:table/t/stream/s", batch_size=500,
                        starting_position="TRIM_HORIZON", name="project_facts")  # fmt: skip
def project_facts(event: Any) -> JsonObject:
    """Facts that changed are projected into views."""
    from chalicelib.api import events

    return events.project(archive, event.to_dict(), lambda: event.context.get_remaining_time_in_millis() / 1000)


@app.schedule(Rate(15, unit=Rate.MINUTES), name="anchor_audit")
def anchor_audit(event: Any) -> JsonObject:
    """The heads of the audit chains are locked away."""
    del event
    from chalicelib.api import events

    return events.anchor(archive)


@app.schedule(Rate(1, unit=Rate.MINUTES), name="tell_expired")
def tell_expired(event: Any) -> JsonObject:
    """The parties of transfers that ran out are told."""
    del event
    from chalicelib.api import events

    return events.notify_expired(archive)


@app.schedule(Rate(1, unit=Rate.MINUTES), name="read_again")
def read_again(event: Any) -> JsonObject:
    """What an earlier release stored is read again, some of it at a time."""
    from chalicelib.api import events

    return events.read_again(archive, lambda: event.context.get_remaining_time_in_millis() / 1000)


@app.schedule(Rate(5, unit=Rate.MINUTES), name="sweep_uploads")
def sweep_uploads(event: Any) -> JsonObject:
    """What was uploaded, and of which S3's event was lost, is announced again; what is no DICOM is removed."""
    from chalicelib.api import events

    return events.sweep_uploads(archive, event.to_dict(), lambda: event.context.get_remaining_time_in_millis() / 1000)


@app.schedule(Rate(15, unit=Rate.MINUTES), name="erase_due")
def erase_due(event: Any) -> JsonObject:
    """What is to be erased, and is due, is erased."""
    from chalicelib.api import events

    return events.erase_due(archive, lambda: event.context.get_remaining_time_in_millis() / 1000)


@app.schedule(Rate(5, unit=Rate.MINUTES), name="canary")
def canary(event: Any) -> JsonObject:
    """The archive is used as a hospital uses it, by an institution of its own."""
    del event
    from chalicelib.api import events

    return events.canary(archive)


@app.lambda_function(name="operate")
def operate(event: JsonObject, context: Any) -> Any:
    """What the operator has started goes on for as long as there is time."""
    from chalicelib.api import events

    return events.operate(archive, event, lambda: context.get_remaining_time_in_millis() / 1000)


@app.lambda_function(name="assemble_bodies")
def assemble_bodies(event: JsonObject, context: Any) -> Any:
    """A part of a body that is too large for the API is put together."""
    del context
    from chalicelib.api import events

    return events.assemble(archive, event)
