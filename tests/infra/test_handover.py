"""What a hospital's IT is handed, file by file; the whole of it, in a city: tests/integration/operation/test_onboarding.py."""

from __future__ import annotations

import configparser
from dataclasses import replace

import pytest

from infra import handover

MEMBER = handover.Membership(
    institution="besta",
    name="Istituto Besta",
    issuer_oid="2.16.840.1.113883.2.9.99.4.4.1",
    api="https://a1b2c3d4e5.execute-api.eu-south-1.amazonaws.com/api",
    region="eu-south-1",
    bucket="contenitore-images",
    role_arn="arn:aws:iam::123456789012:role/contenitore-institution-besta",
)
CERTIFIED = replace(
    MEMBER,
    trust_anchor_arn="arn:aws:rolesanywhere:eu-south-1:123456789012:trust-anchor/1",
    profile_arn="arn:aws:rolesanywhere:eu-south-1:123456789012:profile/2",
    common_name="forwarder.besta",
)


def test_the_credential_helper_heeds_the_proxy_that_the_environment_names() -> None:
    settings = configparser.ConfigParser()
    settings.read_string(handover.credentials(CERTIFIED))
    assert settings["profile besta"]["credential_process"].split()[1:3] == ["credential-process", "--with-proxy"]


@pytest.mark.parametrize(("member", "service"), [(MEMBER, "sts"), (CERTIFIED, "rolesanywhere")])
def test_the_firewall_lets_through_to_where_the_credentials_come_from(member: handover.Membership, service: str) -> None:
    listed = handover.firewall(member)
    assert [line.split()[1] for line in listed.split("\n\n")[0].splitlines() if "TCP" in line] == [
        "a1b2c3d4e5.execute-api.eu-south-1.amazonaws.com:443",
        "contenitore-images.s3.eu-south-1.amazonaws.com:443",
        f"{service}.eu-south-1.amazonaws.com:443",
    ]
