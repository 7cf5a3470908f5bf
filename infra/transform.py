"""What CloudFormation makes of the packaged template before it makes resources: AWS's own SAM transform, carried out here.

cfn-lint reads SAM as it is written, where a cycle, a Ref to nothing and a misspelt event pass. What is linted, and what the
tests look at, is therefore what comes out of the transform.
"""

from __future__ import annotations

import copy
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from infra.templates import Template

REGION = "eu-south-1"
_ARTIFACTS = "artifacts"


class TransformFailed(Exception):
    """CloudFormation would refuse the template; the message says why, one fault a line."""


class _NoManagedPolicies:
    """No function of ours has a managed policy, so that none need be looked up in an account."""

    def load(self) -> dict[str, str]:
        return {}


def transformed(template: Template, parameters: Mapping[str, str] = MappingProxyType({})) -> Template:
    """The template in plain CloudFormation: `AWS::Serverless::…` written out, each zip at a place in a bucket.

    `parameters` are the stack's, where they are not as the template has them. Raises TransformFailed.
    """
    from samtranslator.model.exceptions import InvalidDocumentException
    from samtranslator.translator.transform import transform

    uploaded = copy.deepcopy(template)
    for resource in uploaded["Resources"].values():
        if resource.get("Type") == "AWS::Serverless::Function":  # as `aws cloudformation package` does
            code = resource["Properties"]["CodeUri"]
            resource["Properties"]["CodeUri"] = {"Bucket": _ARTIFACTS, "Key": code.removeprefix("./")}
    try:
        with _region():
            made: Template = transform(uploaded, dict(parameters), _NoManagedPolicies())
    except InvalidDocumentException as error:
        raise TransformFailed("\n".join(str(cause.message) for cause in error.causes)) from error
    return made


@contextmanager
def _region() -> Iterator[None]:
    """The transform asks botocore for the partition of a region, as if it ran in one."""
    before = os.environ.get("AWS_DEFAULT_REGION")
    os.environ["AWS_DEFAULT_REGION"] = REGION
    try:
        yield
    finally:
        if before is None:
            del os.environ["AWS_DEFAULT_REGION"]
        else:
            os.environ["AWS_DEFAULT_REGION"] = before


def faults(template: Template) -> Iterator[str]:
    """What the transform refuses, or else what cfn-lint finds in what comes out: warnings too."""
    try:
        made = transformed(template)
    except TransformFailed as failure:
        yield from (f"transform: {line}" for line in str(failure).splitlines())
        return
    yield from lint(made)


def lint(template: Template) -> Iterator[str]:
    """What cfn-lint finds in a template: cycles, dangling references, unknown properties, values that no service takes."""
    from cfnlint.api import lint_file  # a second to import, and only packaging needs it

    with tempfile.TemporaryDirectory(prefix="contenitore-lint-") as folder:
        file = Path(folder, "template.json")
        file.write_text(json.dumps(template, indent=1), encoding="utf-8")
        found: list[Any] = lint_file(file, {"regions": [REGION]})
    lines = json.dumps(template, indent=1).splitlines()
    for match in found:
        yield f"cfn-lint {match.rule.id}: {match.message} ({lines[match.linenumber - 1].strip()[:80]})"
