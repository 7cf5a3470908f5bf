"""A tiny app with the archive's shape, for what concerns the local city only."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from chalice import Chalice, IAMAuthorizer, Response

app = Chalice(app_name="standin")
app.api.binary_types.insert(0, "application/dicom")
iam = IAMAuthorizer()


def table() -> Any:
    return boto3.resource("dynamodb").Table(os.environ["TABLE_NAME"])


def s3() -> Any:
    return boto3.client("s3", config=Config(signature_version="s3v4", s3={"addressing_style": "path"}))


@app.route("/health")
def health() -> dict[str, str]:
    return {"status": "ok", "version": "0"}


@app.route("/institutions/{institution}", methods=["PUT", "DELETE"], authorizer=iam)
def institution(institution: str) -> dict[str, str]:
    return {"id": institution, **(app.current_request.json_body or {})}


@app.route(
    "/echo/{word}",
    methods=["GET", "POST", "HEAD"],
    authorizer=iam,
    content_types=["application/json", "application/dicom", "text/plain"],
)
def echo(word: str) -> dict[str, Any]:
    return {
        "word": word,
        "event": app.current_request.to_dict(),
        "original": app.current_request.to_original_event(),
        "raw": app.current_request.raw_body.decode("latin-1"),
        "context": app.current_request.context,
    }


@app.route("/sleep/{seconds}", authorizer=iam)
def sleep(seconds: str) -> dict[str, str]:
    time.sleep(float(seconds))
    return {"slept": seconds}


@app.route("/presign/{name}", methods=["POST"], authorizer=iam)
def presign(name: str) -> dict[str, str]:
    asked = app.current_request.json_body
    return {
        "url": s3().generate_presigned_url(
            asked["operation"],
            Params={"Bucket": os.environ["BUCKET_NAME"], **asked["params"]},
            ExpiresIn=asked.get("seconds", 300),
        )
    }


@app.route("/big/{size}", authorizer=iam)
def big(size: str) -> dict[str, str]:
    return {"text": "x" * int(size)}


@app.route("/bytes", authorizer=iam)
def some_bytes() -> Response:
    return Response(b"\x00\xff\x01", headers={"Content-Type": "application/dicom"})


@app.route("/delete", methods=["POST"], authorizer=iam)
def delete() -> dict[str, str]:
    try:
        table().delete_item(Key={"pk": "x", "sk": "x"})
    except ClientError as error:
        return {"code": error.response["Error"]["Code"]}
    return {"code": "none"}


@app.route("/remapped", authorizer=iam)
def remapped() -> Response:
    return Response("", headers={"WWW-Authenticate": "Bearer", "ETag": '"x"'})


@app.route("/crash", authorizer=iam)
def crash() -> Response:
    os.environ["MISSING"]
    return Response("")


@app.on_sqs_message(
    queue_arn="arn:aws:sqs:eu-south-1:123456789012:placeholder",
    batch_size=100,
    maximum_batching_window_in_seconds=1,
)
def index_instances(event: Any) -> Any:
    failed = []
    for record in event.to_dict()["Records"]:
        for entry in json.loads(record["body"]).get("Records", []):
            _, institution, sha256 = entry["s3"]["object"]["key"].replace("%2F", "/").split("/")
            if sha256.startswith("dead"):
                failed.append({"itemIdentifier": record["messageId"]})
                continue
            table().put_item(
                Item={
                    "pk": f"F#OBJECT#{institution}#{sha256}",
                    "sk": ".",
                    "tries": record["attributes"]["ApproximateReceiveCount"],
                }
            )
    return {"batchItemFailures": failed}


@app.on_dynamodb_record(stream_arn="arn:aws:dynamodb:eu-south-1:123456789012:table/t/stream/x", batch_size=500)
def project_facts(event: Any) -> Any:
    for record in event.to_dict()["Records"]:
        keys = record["dynamodb"]["Keys"]
        table().put_item(Item={"pk": "V#" + keys["pk"]["S"], "sk": keys["sk"]["S"], "event": record["eventName"]})
    return {"batchItemFailures": []}
