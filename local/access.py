"""May this role call this route: the role's policies and its boundary, as the emulated IAM holds them."""

from __future__ import annotations

import json
from typing import Any

from local import policy
from local.emulator import ACCOUNT
from local.identities import Identity


def may_invoke(identity: Identity, arn: str) -> bool:
    """Whether `execute-api:Invoke` is allowed. A role that the emulated IAM does not know counts as one of
    another account, whose policies are not here to be read: it may call, and the archive decides what it may
    see."""
    from moto.iam.exceptions import NotFoundException
    from moto.iam.models import iam_backends

    backend = iam_backends[ACCOUNT]["aws"]
    try:
        role = backend.get_role_by_arn(identity.role_arn)
    except NotFoundException:
        return True
    documents = [_document(text) for text in role.policies.values()]
    documents += [_current(attached) for attached in role.managed_policies.values()]
    if policy.decide(documents, "execute-api:Invoke", arn, {}) != "allow":
        return False
    boundary = backend.managed_policies.get(role.permissions_boundary_arn)
    return boundary is None or policy.decide([_current(boundary)], "execute-api:Invoke", arn, {}) == "allow"


def _current(managed: Any) -> policy.Document:
    """The default version of a managed policy."""
    return _document(next(version.document for version in managed.versions if version.is_default))


def _document(text: Any) -> policy.Document:
    document: policy.Document = json.loads(text) if isinstance(text, str) else text
    return document
