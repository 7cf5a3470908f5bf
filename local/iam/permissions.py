"""What an identity may do: its role's policies, as the emulated IAM and the functions' policy files hold them.

Coarser than IAM in three places, which docs/local-city.md names: the administrator may use every service, so that one can look
into the emulated cloud; everyone may take their own role again, under another session name; and of a role of another account
its own policies are not here to be read: it may call of the API what the API's resource policy lets its account. A role of this
account that the emulated IAM does not know, which AWS would let nobody assume, may call the API: the archive decides.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moto.iam.exceptions import NotFoundException
from moto.iam.models import iam_backends

from local.emulation.moto_patches import ACCOUNT, REGION
from local.iam import policy
from local.iam.identities import RoleSession

if TYPE_CHECKING:
    from moto.cloudformation.models import Stack

Needs = list[tuple[str, str]]
"""Pairs of an action and the ARN of what it acts on."""


class Permissions:
    """`functions` are the policies of the functions' roles by role name, `administrator` the role that may do anything, `api`
    the API's resource policy.

    The rights of other roles are those of the emulated IAM.
    """

    def __init__(self, functions: Mapping[str, list[policy.Document]], administrator: str, api: policy.Document) -> None:
        self._functions, self._administrator, self._api = functions, administrator, api

    def may(self, identity: RoleSession, needs: Needs, context: policy.Context | None = None) -> tuple[str, str] | None:
        """None if everything is allowed, else the first pair that is not; `context` are the condition keys of the request."""
        if identity.role_name == self._administrator:
            return None
        documents = self._functions.get(identity.role_name)
        every = [documents] if documents is not None else _of_role(identity) or [[]]
        for action, resource in needs:
            if action == "sts:GetCallerIdentity" or (action == "sts:AssumeRole" and resource == identity.role_arn):
                continue
            if not _allowed(every, action, resource, context or {}):
                return action, resource
        return None

    def may_request(
        self, identity: RoleSession, service: str, operation: str, parameters: Mapping[str, Any]
    ) -> tuple[str, str] | None:
        """As `may`, of a request to any service but S3."""
        needed = needs(service, operation, parameters)
        if service != "dynamodb" or (identity.role_name in self._functions and operation != "DeleteItem"):
            return self.may(identity, needed)  # no function has a right that hangs on the partition, but to remove from it
        refused = (self.may(identity, needed, {"dynamodb:leadingkeys": key}) for key in _leading_keys(parameters))
        return next((reason for reason in refused if reason is not None), None)

    def may_invoke(self, identity: RoleSession | None, arn: str) -> bool:
        """Whether `execute-api:Invoke` of this method and path is allowed; `identity` is None of who does not sign.

        By the API's resource policy, and of a role of this account by its own policies and its boundary ("How API Gateway
        resource policies affect authorization workflow", tables A and B).
        """
        context = {} if identity is None else {"aws:principalaccount": identity.account}
        said = policy.decide([self._api], "execute-api:Invoke", arn, context)
        if identity is None or identity.account != ACCOUNT:
            return said == "allow"
        documents = self._functions.get(identity.role_name)
        every = [documents] if documents is not None else _of_role(identity)
        return said != "deny" and (every is None or _allowed(every, "execute-api:Invoke", arn, {}))


def _allowed(every: Sequence[list[policy.Document]], action: str, resource: str, context: policy.Context) -> bool:
    return all(policy.decide(documents, action, resource, context) == "allow" for documents in every)


def _of_role(identity: RoleSession) -> list[list[policy.Document]] | None:
    """The policies of a role of the emulated IAM and, where it has one, its boundary: each of the two must allow what it does.

    None of a role that the emulated IAM does not know.
    """
    backend = iam_backends[ACCOUNT]["aws"]
    try:
        role = backend.get_role_by_arn(identity.role_arn)
    except NotFoundException:
        return None
    inline = [_document(text) for text in role.policies.values()]
    attached = [_current(managed) for managed in role.managed_policies.values()]
    boundary = backend.managed_policies.get(role.permissions_boundary_arn)
    return [inline + attached, *([] if boundary is None else [[_current(boundary)]])]


def _leading_keys(parameters: Mapping[str, Any]) -> list[str]:
    """The partitions that a request of DynamoDB names; one that nobody may read where it is not seen which."""
    found = [parameters[name]["pk"] for name in ("Key", "Item") if "pk" in parameters.get(name, {})]
    for asked in parameters.get("RequestItems", {}).values():
        found += [key["pk"] for key in asked.get("Keys", []) if "pk" in key] if isinstance(asked, Mapping) else []
    equals = re.search(r"(?:^|[ (])(?:#?\w*pk\w*|#\w+) = (:\w+)", str(parameters.get("KeyConditionExpression", "")))
    if equals is not None:
        found.append(parameters.get("ExpressionAttributeValues", {}).get(equals[1], {}))
    return [str(value.get("S", "")) for value in found] or [""]


def _current(managed: Any) -> policy.Document:
    """The default version of a managed policy."""
    return _document(next(version.document for version in managed.versions if version.is_default))


def _document(text: Any) -> policy.Document:
    document: policy.Document = json.loads(text) if isinstance(text, str) else text
    return document


def policy_file(path: Path, stack: Stack) -> policy.Document:
    """A function's policy with its references resolved; statements about what only the packaged template has (log
    groups) are left out. Raises UnknownOperator."""
    from moto.cloudformation.parsing import clean_json

    document = json.loads(path.read_text(encoding="utf-8"))
    known = set(stack.resource_map.resources)
    statements = [
        clean_json(statement, stack.resource_map)
        for statement in document["Statement"]
        if all(name in known for name in _attributes_of(statement.get("Resource")))
    ]
    resolved = {**document, "Statement": statements}
    policy.check(resolved)
    return resolved


def _attributes_of(value: Any) -> list[str]:
    """The logical ids that `Fn::GetAtt` names within a value."""
    if isinstance(value, dict):
        if "Fn::GetAtt" in value:
            return [value["Fn::GetAtt"][0]]
        return [name for inner in value.values() for name in _attributes_of(inner)]
    if isinstance(value, list):
        return [name for inner in value for name in _attributes_of(inner)]
    return []


_TRANSACTION_ACTIONS = {
    "Put": "PutItem",
    "Update": "UpdateItem",
    "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
    "Get": "GetItem",
}


def needs(service: str, operation: str, parameters: Mapping[str, Any]) -> Needs:
    """The permissions that a request needs (Service Authorization Reference, "Actions" of each service)."""
    if service == "dynamodb":
        return _dynamodb_needs(operation, parameters)
    resource = "*"
    if service == "lambda" and operation.startswith("POST /2015-03-31/functions/"):
        name = operation.split("/")[3]
        return [("lambda:InvokeFunction", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}")]
    if service == "sts":
        resource = str(parameters.get("RoleArn", "*"))
    elif service == "cloudformation" and "StackName" in parameters:
        name = str(parameters["StackName"])
        resource = name if name.startswith("arn:") else f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{name}/id"
    elif service == "sns" and "TopicArn" in parameters:
        resource = str(parameters["TopicArn"])
    elif service == "sqs" and "QueueUrl" in parameters:
        resource = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{str(parameters['QueueUrl']).rsplit('/', 1)[-1]}"
    return [(f"{service}:{operation.removesuffix('Batch') if service == 'sqs' else operation}", resource)]


def _dynamodb_needs(operation: str, parameters: Mapping[str, Any]) -> Needs:
    if operation in ("TransactWriteItems", "TransactGetItems"):
        return [
            (f"dynamodb:{_TRANSACTION_ACTIONS.get(kind, kind)}", _table(str(action.get("TableName"))))
            for entry in parameters.get("TransactItems", [])
            for kind, action in entry.items()
        ]
    tables = parameters.get("RequestItems")
    if isinstance(tables, Mapping):
        return [(f"dynamodb:{operation}", _table(name)) for name in tables]
    arn = _table(str(parameters.get("TableName", "*")))
    if "IndexName" in parameters:
        arn = f"{arn}/index/{parameters['IndexName']}"
    return [(f"dynamodb:{operation}", arn)]


def _table(name: str) -> str:
    return name if name.startswith("arn:") else f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{name}"
