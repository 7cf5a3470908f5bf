"""IAM Roles Anywhere in the emulated CloudFormation: the profile that a forwarder's credential helper names.

The emulator does not know it, and an output of a resource that it does not know breaks the stack, and its list of
stacks for good. There is nothing behind it: no certificate is changed into credentials in the local city.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from moto.core.common_models import CloudFormationModel


class CertificateProfile(CloudFormationModel):  # type: ignore[misc]
    """AWS::RolesAnywhere::Profile; `physical_resource_id` is its id, which follows from its name."""

    def __init__(self, name: str, account: str, region: str) -> None:
        self.physical_resource_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{account}/{region}/{name}"))
        self.arn = f"arn:aws:rolesanywhere:{region}:{account}:profile/{self.physical_resource_id}"

    @staticmethod
    def cloudformation_name_type() -> str:
        return "Name"

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::RolesAnywhere::Profile"

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return attr in ("ProfileArn", "ProfileId")

    def get_cfn_attribute(self, attribute_name: str) -> str:
        return self.arn if attribute_name == "ProfileArn" else self.physical_resource_id

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Mapping[str, Any], account_id: str, region_name: str, **_: Any
    ) -> CertificateProfile:
        return cls(str(cloudformation_json["Properties"].get("Name", resource_name)), account_id, region_name)

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: CertificateProfile,
        new_resource_name: str,
        cloudformation_json: Mapping[str, Any],
        account_id: str,
        region_name: str,
    ) -> CertificateProfile:
        del original_resource
        return cls.create_from_cloudformation_json(new_resource_name, cloudformation_json, account_id, region_name)

    @classmethod
    def delete_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Mapping[str, Any], account_id: str, region_name: str
    ) -> None:
        """Nothing stands behind it."""

    def is_created(self) -> bool:
        return True
