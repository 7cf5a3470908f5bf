"""CloudFormation stacks: made from the files in `infra/`, completed where the emulator drops properties, made
again at start.

The emulator's CloudFormation creates the resources; what it silently leaves out of a bucket or a table is
applied from the same resolved template through the same APIs that CloudFormation would call. Stacks made at
run time (an institution's, by `python -m infra.onboard`) are written into the state and made again at the
next start, with the same physical names.
"""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Mapping
from typing import Any

from moto.cloudformation.models import Stack, cloudformation_backends
from moto.moto_api._internal import mock_random

from local.cloudformation import roles_anywhere  # noqa: F401  known to the emulator once it is loaded
from local.emulation.moto_patches import ACCOUNT, REGION
from local.iam import policy
from local.state import State

_NAME_PROPERTY = {
    "AWS::DynamoDB::Table": "TableName",
    "AWS::S3::Bucket": "BucketName",
    "AWS::IAM::Role": "RoleName",
}


def backend() -> Any:
    return cloudformation_backends[ACCOUNT][REGION]


def create_city(state: State, name: str, template: dict[str, Any], parameters: Mapping[str, str]) -> Stack:
    """The city's own stack, from the template as it is now, under the names that its resources had before."""
    with state.lock:
        row = state.database.execute("SELECT resources FROM stacks WHERE name = ?", (name,)).fetchone()
    return _create(state, name, template, dict(parameters), {}, json.loads(row[0]) if row else {})


def create(state: State, name: str, template: dict[str, Any], parameters: Mapping[str, str]) -> Stack:
    """A stack made at run time, by this process itself."""
    return _create(state, name, template, dict(parameters), {}, {}, repeatable=False)


def resolved(stack: Stack, value: Any) -> Any:
    """A part of a stack's template with its functions replaced by what they stand for."""
    from moto.cloudformation.parsing import clean_json

    return clean_json(value, stack.resource_map)


def bucket_policies(stack: Stack) -> dict[str, policy.Document]:
    """The bucket policies of a stack by bucket name. Raises UnknownOperator for what could not be decided."""
    found: dict[str, policy.Document] = {}
    for resource in stack.template_dict["Resources"].values():
        if resource["Type"] == "AWS::S3::BucketPolicy":
            properties = resolved(stack, resource["Properties"])
            policy.check(properties["PolicyDocument"])
            found[properties["Bucket"]] = properties["PolicyDocument"]
    return found


def recreate_others(state: State, city: str) -> None:
    """Make the stacks again that were made at run time, in the order of their making."""
    with state.lock:
        rows = state.database.execute(
            "SELECT name, template, parameters, tags, resources FROM stacks WHERE name != ? ORDER BY created",
            (city,),
        ).fetchall()
    for name, template, *texts in rows:
        parameters, tags, resources = (json.loads(text) for text in texts)
        _create(state, name, Stack.parse_template(template), parameters, tags, resources)
    mock_random.seed(os.urandom(32))


def _create(
    state: State,
    name: str,
    template: dict[str, Any],
    parameters: dict[str, str],
    tags: dict[str, str],
    resources: dict[str, str],
    repeatable: bool = True,
) -> Stack:
    named = copy.deepcopy(template)
    for logical_id, physical_id in resources.items():
        resource = named["Resources"].get(logical_id, {})
        property_name = _NAME_PROPERTY.get(resource.get("Type", ""))
        if property_name:
            resource.setdefault("Properties", {}).setdefault(property_name, physical_id)
    if repeatable:
        mock_random.seed(name)  # key ids, role ids and generated names are the same at every start
    stack = backend().create_stack(name=name, template=json.dumps(named), parameters=parameters, notification_arns=[], tags=tags)
    stack.template = json.dumps(template)
    complete(stack)
    remember(state, stack)
    return stack


def remember(state: State, stack: Stack) -> None:
    """Write a stack into the state, or renew it."""
    resources = {
        logical_id: str(resource.physical_resource_id)
        for logical_id, resource in _resources(stack)
        if getattr(resource, "physical_resource_id", None) is not None
    }
    with state.transaction() as database:
        database.execute(
            "INSERT INTO stacks VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
            "template = excluded.template, parameters = excluded.parameters, tags = excluded.tags, "
            "resources = excluded.resources",
            (
                stack.name,
                REGION,
                stack.template,
                json.dumps(dict(stack.resource_map.input_parameters)),
                json.dumps(dict(stack.tags)),
                json.dumps(resources),
                time.time_ns(),
            ),
        )


_remembered: dict[str, tuple[str, str, str, str]] = {}
"""The stacks as they were when they were saved last, by name: reading a template takes longer than anything else here."""


def remember_changes(state: State, city: str) -> None:
    """After a CloudFormation request: save what was made or changed, forget what was deleted."""
    alive = {stack.name: stack for stack in backend().stacks.values() if stack.status.endswith("_COMPLETE")}
    with state.transaction() as database:
        saved = {row[0] for row in database.execute("SELECT name FROM stacks").fetchall()}
        for name in saved - set(alive) - {city}:
            database.execute("DELETE FROM stacks WHERE name = ?", (name,))
        for name, stack in alive.items():
            as_it_is = (
                stack.stack_id,
                stack.status,
                stack.template,
                json.dumps(stack.resource_map.input_parameters, sort_keys=True),
            )
            if name != city and _remembered.get(name) != as_it_is:
                _take_over_change_set(stack)
                complete(stack)
                remember(state, stack)
                _remembered[name] = as_it_is


def _take_over_change_set(stack: Stack) -> None:
    """The emulator executes a change set without telling the stack its template, so that it has no outputs."""
    stack.template_dict = Stack.parse_template(stack.template)
    stack.parameters = stack.resource_map.input_parameters
    stack.output_map = stack._create_output_map()


def _resources(stack: Stack) -> list[tuple[str, Any]]:
    """The resources that exist; asking the map itself would make the others."""
    made = stack.resource_map._parsed_resources
    return [(logical_id, made[logical_id]) for logical_id in stack.resource_map.resources if logical_id in made]


def complete(stack: Stack) -> None:
    """Apply the properties that the emulator's CloudFormation drops."""
    for logical_id, resource in _resources(stack):
        definition = stack.resource_map._resource_json_map[logical_id]
        finish = _FINISH.get(definition["Type"])
        if finish is not None:
            finish(resource, resolved(stack, definition.get("Properties", {})))


def _finish_bucket(bucket: Any, properties: dict[str, Any]) -> None:
    from moto.s3.models import s3_backends

    s3 = s3_backends[ACCOUNT]["aws"]
    if versioning := properties.get("VersioningConfiguration"):
        s3.put_bucket_versioning(bucket.name, versioning["Status"])
    if block := properties.get("PublicAccessBlockConfiguration"):
        s3.put_public_access_block(bucket.name, {key: str(value).lower() for key, value in block.items()})
    if cors := properties.get("CorsConfiguration"):
        bucket.set_cors([_cors_rule(rule) for rule in cors["CorsRules"]])
    if lifecycle := properties.get("LifecycleConfiguration"):
        bucket.set_lifecycle([_lifecycle_rule(rule) for rule in lifecycle["Rules"]])
    if lock := properties.get("ObjectLockConfiguration"):
        retention = lock.get("Rule", {}).get("DefaultRetention", {})
        bucket.object_lock_enabled = True
        bucket.default_lock_mode = retention.get("Mode")
        bucket.default_lock_days = int(retention.get("Days", 0))
        bucket.default_lock_years = int(retention.get("Years", 0))
    if notification := properties.get("NotificationConfiguration"):
        s3.put_bucket_notification_configuration(bucket.name, _notification(notification))


def _cors_rule(rule: dict[str, Any]) -> dict[str, Any]:
    names = {
        "AllowedMethods": "AllowedMethod",
        "AllowedOrigins": "AllowedOrigin",
        "AllowedHeaders": "AllowedHeader",
        "ExposedHeaders": "ExposeHeader",
        "MaxAge": "MaxAgeSeconds",
    }
    made = {names[key]: value for key, value in rule.items() if key in names}
    if "MaxAgeSeconds" in made:
        made["MaxAgeSeconds"] = str(made["MaxAgeSeconds"])
    return made


def _lifecycle_rule(rule: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "ID": rule.get("Id"),
        "Status": rule["Status"],
        "Filter": {"Prefix": rule.get("Prefix", "")},
    }
    if "ExpirationInDays" in rule:
        made["Expiration"] = {"Days": str(rule["ExpirationInDays"])}
    if rule.get("ExpiredObjectDeleteMarker"):
        made["Expiration"] = {"ExpiredObjectDeleteMarker": "true"}
    if moves := rule.get("Transitions"):
        made["Transition"] = [{"Days": str(move["TransitionInDays"]), "StorageClass": move["StorageClass"]} for move in moves]
    if old := rule.get("NoncurrentVersionExpiration"):
        made["NoncurrentVersionExpiration"] = {"NoncurrentDays": str(old["NoncurrentDays"])}
    if unfinished := rule.get("AbortIncompleteMultipartUpload"):
        made["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": str(unfinished["DaysAfterInitiation"])}
    return made


def _notification(configuration: dict[str, Any]) -> dict[str, Any]:
    queues = []
    for entry in configuration.get("QueueConfigurations", []):
        made: dict[str, Any] = {"Queue": entry["Queue"], "Event": [entry["Event"]]}
        if rules := entry.get("Filter", {}).get("S3Key", {}).get("Rules"):
            made["Filter"] = {"S3Key": {"FilterRule": [dict(rule) for rule in rules]}}
        queues.append(made)
    return {"QueueConfiguration": queues}


def _finish_table(table: Any, properties: dict[str, Any]) -> None:
    from moto.dynamodb.models import dynamodb_backends

    dynamodb = dynamodb_backends[ACCOUNT][REGION]
    if ttl := properties.get("TimeToLiveSpecification"):
        dynamodb.update_time_to_live(table.name, ttl)
    if recovery := properties.get("PointInTimeRecoverySpecification"):
        dynamodb.update_continuous_backups(table.name, recovery)


_FINISH = {"AWS::S3::Bucket": _finish_bucket, "AWS::DynamoDB::Table": _finish_table}
