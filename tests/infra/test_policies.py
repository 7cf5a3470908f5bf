"""The policy files against the code: each function may do what its services ask of the stores, and no more.

A right that is missing shows in the local city too, which obeys these files; one too many shows only here.
"""

import json
import re
from typing import Any

import pytest

from chalicelib.domain import keys
from infra.package import ROOT
from local.iam import policy

PORTS = {
    r"\btable\.created_at\(": {"dynamodb:DescribeTable"},
    r"\btable\.get\(": {"dynamodb:GetItem"},
    r"\btable\.batch_get\(": {"dynamodb:BatchGetItem"},
    r"\btable\.query(_all)?\(": {"dynamodb:Query"},
    r"\btable\.(put|transact)\(": {"dynamodb:PutItem"},
    r"\bDelete\(": {"dynamodb:DeleteItem"},
    # Without the right to list, S3 answers 403 for what is absent, and absent would look like broken.
    r"\bobjects\.(read|existing|sizes|checksums)\(": {"s3:GetObject", "s3:ListBucket"},
    r"\bobjects\.keys_after\(": {"s3:ListBucket"},
    r"\bversions\.(of|below)\(": {"s3:ListBucketVersions"},
    r"\bversions\.read\(": {"s3:GetObjectVersion"},
    r"\bversions\.remove\(": {"s3:DeleteObjectVersion"},
    r"\bobjects\.presign_(get|head)\b": {"s3:GetObject"},
    r"\bobjects\.write\(": {"s3:PutObject"},
    r"\bobjects\.assemble\(": {"s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"},
    r"\bvault\.read\(": {"s3:GetObject"},
    r"\bvault\.put_new\(": {"s3:PutObject"},
    r"\bobjects\.presign_put\(": {"s3:PutObject"},
}
"""What a call of a port (domain/ports.py) needs in IAM."""

ADAPTERS = {
    "describe_table": {"dynamodb:DescribeTable"},
    "get_item": {"dynamodb:GetItem"},
    "batch_get_item": {"dynamodb:BatchGetItem"},
    "query": {"dynamodb:Query"},
    "put_item": {"dynamodb:PutItem"},
    "delete_item": {"dynamodb:DeleteItem"},
    "transact_write_items": {"dynamodb:PutItem", "dynamodb:DeleteItem"},
    "get_object": {"s3:GetObject", "s3:GetObjectVersion"},
    "head_object": {"s3:GetObject"},
    "list_objects_v2": {"s3:ListBucket"},
    "list_object_versions": {"s3:ListBucketVersions"},
    "delete_object": {"s3:DeleteObjectVersion"},  # by its version, and never without
    "put_object": {"s3:PutObject"},
    "create_multipart_upload": {"s3:PutObject"},
    "upload_part": {"s3:PutObject"},
    "upload_part_copy": {"s3:GetObject", "s3:PutObject"},
    "complete_multipart_upload": {"s3:PutObject"},
    "abort_multipart_upload": {"s3:AbortMultipartUpload"},
    "publish": set(),  # to a topic, not to a store
    "send_message_batch": set(),  # to a queue
    "invoke": set(),  # of a function
}
"""What a call of boto3 needs in IAM."""

SHARED = {"access", "registry"}
EVENT_HANDLERS = {
    "indexer": {
        "ingest/index", "ingest/batches", "ingest/instance_items", "ingest/corrections", "ingest/rejection_notes",
        "identity/linking", "audit/trail",
    }
    | SHARED,
    "projector": {
        "projection/facts", "projection/studies", "projection/tallies", "changes", "identity/linking", "membership"
    }
    | SHARED,
    "anchor": {"audit/anchor", "audit/probes", "audit/trail"} | SHARED,
    "rereader": {
        "ingest/read_again", "ingest/index", "ingest/instance_items", "ingest/corrections", "ingest/rejection_notes",
        "identity/linking", "audit/trail",
    }
    | SHARED,
    "expiry": {"sharing/expiries", "changes", "membership", "audit/trail", "registry"},
    "canary": {"operations/canary"},
    "sweep": {"ingest/due", "ingest/offers", "ingest/removals", "audit/trail"},
    "erasure": {
        "erasure/run", "erasure/bytes", "erasure/forgetting", "erasure/erase_study", "erasure/erase_patient",
        "erasure/erase_institution", "erasure/erase_expired", "erasure/institutions", "erasure/retention", "erasure/put_back",
        "ingest/instance_items", "audit/trail",
    }
    | SHARED,
    "operations": {
        "operations/reconcile", "operations/reconcile_objects", "operations/reconcile_facts", "operations/reconcile_views",
        "operations/reconcile_studies", "operations/reconcile_feeds", "operations/reconcile_audit", "operations/jobs",
        "operations/rebuild", "operations/usage", "operations/forwarders",
        "ingest/index", "ingest/instance_items", "projection/studies",
        "projection/tallies", "retrieval/metadata", "audit/trail",
    }
    | SHARED,
}  # fmt: skip
"""The services behind the event handlers. All others are behind the API's routes."""
ONLY_BEHIND_EVENTS = {
    "ingest/read_again", "ingest/index", "ingest/removals", "audit/anchor", "sharing/expiries", "projection/facts",
    "projection/studies", "projection/tallies", "operations/jobs", "operations/rehearsal", "operations/usage",
    "operations/canary", "operations/discrepancies", "operations/rebuild", "operations/reconcile",
    "operations/reconcile_objects",
    "operations/reconcile_facts", "operations/reconcile_views", "operations/reconcile_studies", "operations/reconcile_feeds",
    "operations/reconcile_audit", "erasure/run", "erasure/bytes", "erasure/forgetting", "erasure/erase_study",
    "erasure/erase_patient", "erasure/erase_institution", "erasure/erase_expired", "erasure/put_back",
}  # fmt: skip
SERVICES = ROOT / "chalicelib" / "services"


def _services_of(function: str) -> set[str]:
    every = {path.relative_to(SERVICES).with_suffix("").as_posix() for path in SERVICES.rglob("*.py")}
    named = EVENT_HANDLERS[function] if function in EVENT_HANDLERS else every - ONLY_BEHIND_EVENTS
    assert named <= every
    return named


def _needed(function: str) -> set[str]:
    text = "\n".join((SERVICES / f"{name}.py").read_text(encoding="utf-8") for name in sorted(_services_of(function)))
    return {action for call, actions in PORTS.items() if re.search(call, text) for action in actions}


def _statements(function: str) -> list[dict[str, Any]]:
    policy = json.loads((ROOT / ".chalice" / "policies" / f"{function}.json").read_text(encoding="utf-8"))
    statements: list[dict[str, Any]] = policy["Statement"]
    return statements


def _granted(function: str) -> set[str]:
    """Rights on the stores themselves; not those that feed the function or write its logs and traces."""
    granted = set()
    for statement in _statements(function):
        if "/stream/" in json.dumps(statement["Resource"]):
            continue
        granted |= {action for action in _actions(statement) if action.startswith(("dynamodb:", "s3:"))}
    return granted


def _actions(statement: dict[str, Any]) -> set[str]:
    actions = statement["Action"]
    return {actions} if isinstance(actions, str) else set(actions)


@pytest.mark.parametrize(
    "function", ["anchor", "api", "canary", "erasure", "expiry", "indexer", "operations", "projector", "rereader", "sweep"]
)
def test_a_function_may_do_exactly_what_its_services_need(function: str) -> None:
    assert _granted(function) == _needed(function)


def test_the_adapters_call_nothing_whose_right_is_not_known() -> None:
    calls = set()
    for path in (ROOT / "chalicelib" / "adapters").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        calls |= set(re.findall(r'_call\(\s*"(\w+)"', text))
        calls |= set(re.findall(r"client\.(\w+)\(", text)) - {"generate_presigned_url"}
        calls |= set(re.findall(r'generate_presigned_url\(\s*"(\w+)"', text))
    assert calls
    assert calls <= set(ADAPTERS)
    everything = set().union(*(_granted(function) for function in ("api", "erasure", "indexer", "projector", "sweep")))
    assert set().union(*(ADAPTERS[call] for call in calls)) == everything


REACHED = {
    "api": {"instances/*", "cache/*", "metadata/*"},
    "assembly": {"instances/*", "cache/*"},
    "indexer": {"instances/*", "metadata/parts/*"},
    "rereader": {"instances/*", "metadata/parts/*"},
    "projector": set(),
    "pixels": {"instances/*", "cache/rendered/*"},
    "sweep": {"instances/*"},
    "erasure": {"instances/*", "metadata/*"},
    "operations": {"instances/*", "metadata/parts/*"},
}
"""Below which prefixes of the bucket each function reads or writes objects."""


@pytest.mark.parametrize("function", sorted(REACHED))
def test_a_function_reaches_only_its_prefixes_of_the_bucket(function: str) -> None:
    reached, listed = set(), set()
    for statement in _statements(function):
        if _actions(statement) & {"s3:ListBucket", "s3:ListBucketVersions"}:
            prefixes = statement["Condition"]["StringLike"]["s3:prefix"]
            listed |= {prefixes} if isinstance(prefixes, str) else set(prefixes)
        elif any(action.startswith("s3:") for action in _actions(statement)):
            named = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
            reached |= {resource["Fn::Sub"].removeprefix("${ImagesBucket.Arn}/") for resource in named}
    assert reached == REACHED[function]
    assert listed <= REACHED[function]


def test_the_function_that_decodes_pixels_reads_instances_and_writes_what_it_made_of_them_and_nothing_else() -> None:
    rights = {
        (action, json.dumps(statement["Resource"]))
        for statement in _statements("pixels")
        for action in _actions(statement)
        if not action.startswith(("logs:", "kms:"))
    }
    bucket = "${ImagesBucket.Arn}"
    assert rights == {
        ("s3:GetObject", json.dumps({"Fn::Sub": f"{bucket}/instances/*"})),
        ("s3:PutObject", json.dumps({"Fn::Sub": f"{bucket}/cache/rendered/*"})),
    }


def test_the_function_that_puts_bodies_together_writes_what_lasts_a_day_and_nothing_else() -> None:
    written = [statement["Resource"] for statement in _statements("assembly") if "s3:PutObject" in _actions(statement)]
    assert written == [{"Fn::Sub": "${ImagesBucket.Arn}/cache/*"}]
    assert {action.split(":")[0] for statement in _statements("assembly") for action in _actions(statement)} == {
        "s3",
        "kms",
        "logs",
        "xray",
    }


def test_instances_are_written_by_presigned_upload_only_where_an_upload_is_presigned() -> None:
    writers = {
        function
        for function in REACHED
        for statement in _statements(function)
        if "s3:PutObject" in _actions(statement) and statement["Resource"] == {"Fn::Sub": "${ImagesBucket.Arn}/instances/*"}
    }
    assert writers == {"api"}


def test_only_sweep_and_erasure_remove_anything_each_below_its_prefixes() -> None:
    every = {path.stem for path in (ROOT / ".chalice" / "policies").glob("*.json")}
    deleting = [
        (function, action, statement["Resource"])
        for function in sorted(every)
        for statement in _statements(function)
        for action in _actions(statement)
        if action.startswith("s3:Delete")
    ]
    assert deleting == [
        ("erasure", "s3:DeleteObjectVersion", {"Fn::Sub": "${ImagesBucket.Arn}/instances/*"}),
        ("erasure", "s3:DeleteObjectVersion", {"Fn::Sub": "${ImagesBucket.Arn}/metadata/*"}),
        ("sweep", "s3:DeleteObjectVersion", {"Fn::Sub": "${ImagesBucket.Arn}/instances/*"}),
    ]


def test_no_function_may_remove_a_record_of_the_audit() -> None:
    """Whatever it may remove of the table, and whatever key it would be brought to remove."""
    every = {path.stem for path in (ROOT / ".chalice" / "policies").glob("*.json")}
    removing = {function for function in every if "dynamodb:DeleteItem" in _granted(function)}
    assert removing == {"erasure", "operations", "projector"}
    audit = keys.audit_records("3")
    for function in removing:
        document = {"Statement": [statement | {"Resource": "*"} for statement in _statements(function)]}

        def decided(partition: str, document: dict[str, Any] = document) -> str:
            return policy.decide([document], "dynamodb:DeleteItem", "table", {"dynamodb:leadingkeys": partition})

        assert decided(audit) == "deny"
        assert decided(keys.study_facts("maugeri", "1.2.3")) == "allow"


def test_only_two_services_remove_bytes() -> None:
    """One reads again what it removes; the other goes by a decision that stands as a fact. Whoever else called for a removal
    would have to be looked at as closely."""
    callers = {
        path.stem
        for path in (ROOT / "chalicelib").rglob("*.py")
        if re.search(r"versions\.remove\(|\bdelete_object\(", path.read_text(encoding="utf-8"))
    }
    assert callers == {"bytes", "removals", "s3"}
    adapter = (ROOT / "chalicelib" / "adapters" / "s3.py").read_text(encoding="utf-8")
    assert re.findall(r"delete_object\((.*)\)", adapter) == ["Bucket=self._bucket, Key=key, VersionId=version"]


def test_only_the_api_and_the_sweep_say_that_something_is_stored() -> None:
    every = {path.stem for path in (ROOT / ".chalice" / "policies").glob("*.json")}
    senders = {
        function
        for function in every
        for statement in _statements(function)
        if "sqs:SendMessage" in _actions(statement) and "InstancesQueue" in json.dumps(statement["Resource"])
    }
    assert senders == {"api", "sweep"}


def test_anchors_are_all_that_their_function_reaches_in_buckets() -> None:
    statements = [
        statement for statement in _statements("anchor") if any(action.startswith("s3:") for action in _actions(statement))
    ]
    assert [statement["Resource"] for statement in statements] == [{"Fn::Sub": "${AuditAnchorBucket.Arn}/anchors/*"}]


def test_addresses_are_signed_for_no_longer_than_the_bucket_honours_them() -> None:
    from chalicelib.services.ingest.uploads import UPLOAD_SECONDS
    from chalicelib.services.retrieval.manifest import GET_SECONDS

    assert GET_SECONDS <= 300
    assert UPLOAD_SECONDS <= 900
