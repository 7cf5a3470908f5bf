"""Stacks brought to a wanted state by change sets, so that doing it twice does nothing the second time."""

import hashlib
import json
import uuid
from dataclasses import dataclass
from typing import Any, Literal

from botocore.exceptions import ClientError, WaiterError

Step = Literal["create", "update", "nothing"]

FINGERPRINT_TAG = "contenitore:fingerprint"
_SETTLED = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"}
_NEVER_MADE = {"REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE"}
_BEGINNINGS = ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS")
_NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
_WAIT = {"Delay": 3, "MaxAttempts": 200}  # seconds, tries: ten minutes


class StackFailed(Exception):
    """CloudFormation could not or would not; the message has its reason."""


@dataclass(frozen=True)
class Wanted:
    """A stack as it should be: its name, its template's text, its parameters."""

    name: str
    body: str
    parameters: dict[str, str]

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of template and parameters; as a tag, it tells whether the stack is as wanted."""
        text = json.dumps([self.body, self.parameters], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def describe(cloudformation: Any, name: str) -> dict[str, Any] | None:
    """The stack as `DescribeStacks` gives it, or None where there is none."""
    try:
        found: dict[str, Any] = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in error.response["Error"]["Message"]:
            return None
        raise
    return None if found["StackStatus"] == "DELETE_COMPLETE" else found


def outputs(stack: dict[str, Any]) -> dict[str, str]:
    """A described stack's outputs by name."""
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs") or []}


def plan(wanted: Wanted, found: dict[str, Any] | None) -> Step:
    """What is to be done to the stack found. Raises StackFailed while somebody else is changing it."""
    if found is None or found["StackStatus"] in _NEVER_MADE:
        return "create"
    status = found["StackStatus"]
    if status.endswith("_IN_PROGRESS"):
        raise StackFailed(f"{wanted.name} is being changed ({status}): wait until that has ended")
    tags = {tag["Key"]: tag["Value"] for tag in found.get("Tags", [])}
    return "nothing" if status in _SETTLED and tags.get(FINGERPRINT_TAG) == wanted.fingerprint else "update"


def deploy(cloudformation: Any, wanted: Wanted) -> Step:
    """Bring the stack to the wanted state and wait for it; what was done. Raises StackFailed, ClientError."""
    found = describe(cloudformation, wanted.name)
    step = plan(wanted, found)
    if step == "nothing":
        return "nothing"
    if found and step == "create":
        delete(cloudformation, wanted.name)  # a shell without resources, left by a first try that did not come through
    change_set = cloudformation.create_change_set(
        StackName=wanted.name,
        ChangeSetName=f"onboard-{uuid.uuid4().hex}",
        ChangeSetType=step.upper(),
        TemplateBody=wanted.body,
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in wanted.parameters.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Tags=[{"Key": FINGERPRINT_TAG, "Value": wanted.fingerprint}],
    )["Id"]
    made = {"StackName": wanted.name, "ChangeSetName": change_set}
    try:
        cloudformation.get_waiter("change_set_create_complete").wait(**made, WaiterConfig=_WAIT)
    except WaiterError as error:
        reason = cloudformation.describe_change_set(**made).get("StatusReason", "")
        cloudformation.delete_change_set(**made)
        if any(text in reason for text in _NO_CHANGES):
            return "nothing"
        raise StackFailed(f"{wanted.name}: {reason or error}") from error
    cloudformation.execute_change_set(**made)
    _wait(cloudformation, wanted.name, f"stack_{step}_complete")
    return step


def delete(cloudformation: Any, name: str) -> None:
    """Delete a stack and wait until it is gone; nothing where there is none. Raises StackFailed."""
    cloudformation.delete_stack(StackName=name)
    _wait(cloudformation, name, "stack_delete_complete")


def _wait(cloudformation: Any, name: str, waiter: str) -> None:
    try:
        cloudformation.get_waiter(waiter).wait(StackName=name, WaiterConfig=_WAIT)
    except WaiterError as error:
        raise StackFailed(f"{name}: {_first_failure(cloudformation, name) or error}") from error


def _first_failure(cloudformation: Any, name: str) -> str:
    """The reason at the root of the latest failure: the oldest failed event since the last beginning."""
    failure = ""
    for event in cloudformation.describe_stack_events(StackName=name)["StackEvents"]:  # newest first
        if event["ResourceStatus"].endswith("_FAILED"):
            failure = f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', event['ResourceStatus'])}"
        if event["LogicalResourceId"] == name and event["ResourceStatus"] in _BEGINNINGS:
            break
    return failure
