"""The institutions that a fresh local city has: their stacks from infra/institution.yaml, their registration
by the API."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from infra import templates
from local.cloudformation import stacks
from local.emulation.moto_patches import ACCOUNT, REGION
from local.iam.identities import RoleSession
from local.state import State

FOUNDERS: dict[str, dict[str, Any]] = {
    "san-matteo": {
        "name": "Fondazione IRCCS Policlinico San Matteo",
        "patient_id_issuer": "2.16.840.1.113883.2.9.99.1.4.1",
        "ae_titles": ["SANMATTEO"],
    },
    "maugeri": {
        "name": "Istituti Clinici Scientifici Maugeri, Pavia",
        "patient_id_issuer": "2.16.840.1.113883.2.9.99.2.4.1",
        "ae_titles": ["MAUGERI"],
    },
    "mondino": {
        "name": "Fondazione Istituto Neurologico Nazionale Casimiro Mondino",
        "patient_id_issuer": "2.16.840.1.113883.2.9.99.3.4.1",
        "ae_titles": ["MONDINO"],
    },
}
"""Example registrations. The OIDs lie in the arc of Italian health identifiers and are invented."""
AE_TITLES = {institution: str(record["ae_titles"][0]) for institution, record in FOUNDERS.items()}
"""The AE title of each one's forwarder."""
PACS_TITLES = {"san-matteo": "SMPACS", "maugeri": "MGPACS"}
"""Those of the demo's hospitals that have a PACS, and its AE title."""


def found(state: State, outputs: Mapping[str, str], api: str, operator: RoleSession) -> None:
    """Make and register those that this state has not seen yet. `outputs`: those of the city's stack."""
    done: list[str] = state.setting("founded") or []
    for institution, record in FOUNDERS.items():
        if institution in done:
            continue
        stack = stacks.create(
            state,
            f"{templates.CITY_STACK}-institution-{institution}",
            templates.load(templates.INSTITUTION),
            {
                "InstitutionId": institution,
                "CityName": templates.CITY_STACK,
                "ApiId": outputs["ApiId"],
                "InstitutionBoundaryArn": outputs["InstitutionBoundaryArn"],
                "PrincipalArns": f"arn:aws:iam::{ACCOUNT}:root",
            },
        )
        role_arn = next(output["OutputValue"] for output in stack.outputs if output["OutputKey"] == "RoleArn")
        register(api, operator, institution, {**record, "role_arn": role_arn})
        done = [*done, institution]
        state.set_setting("founded", done)


def register(api: str, operator: RoleSession, institution: str, record: dict[str, object]) -> None:
    """`PUT /institutions/{id}` as the operator. Raises OSError (HTTPError for a refusal)."""
    url, body = f"{api}/institutions/{institution}", json.dumps(record).encode()
    request = AWSRequest("PUT", url, data=body, headers={"Content-Type": "application/json"})
    SigV4Auth(Credentials(operator.access_key, operator.secret, operator.token), "execute-api", REGION).add_auth(request)
    call = urllib.request.Request(url, data=body, headers=dict(request.headers), method="PUT")  # noqa: S310
    with urllib.request.urlopen(call, timeout=30) as answer:  # noqa: S310
        answer.read()
