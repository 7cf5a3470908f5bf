"""What schemathesis loads: who signs each request, and what the city has in place of most identifiers that it invents.

`KNOWN` names a JSON file that tells what is there (`tests/fuzz/openapi.py` makes it). Identifiers that answers tell of are
remembered, so that what was opened is accepted, extended and ended.
"""

from __future__ import annotations

import json
import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
import schemathesis
from botocore.credentials import Credentials

from tests.harness import SignedBy

KNOWN: dict[str, Any] = json.loads(Path(os.environ["KNOWN"]).read_text(encoding="utf-8"))
_TOLD: dict[str, list[str]] = {"transfer": [KNOWN["transfer"]], "link": [KNOWN["link"]]}
_MEANT = {"id": ("transfer", "emergency", "objection", "consent", "withdrawal", "erasure", "link"), "link": ("link",)}
"""Which parameters what is told under a name may be of."""
_chance = random.Random(KNOWN["seed"])


class Signed(requests.auth.AuthBase):
    """As San Matteo, often as Maugeri, where it needs one as the operator; at `/view` with the key of a reading that is open."""

    def __init__(self) -> None:
        self._by = {name: SignedBy(Credentials(*given), KNOWN["region"]) for name, given in KNOWN["credentials"].items()}

    def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        path = str(prepared.url).removeprefix(KNOWN["api"])
        if path.startswith("/view/"):
            prepared.headers["Authorization"] = f"Bearer {KNOWN['ending' if prepared.method == 'DELETE' else 'reading']}"
            return prepared
        if path.startswith("/institutions/") and "/confirm" not in path:
            return self._by["operator"](prepared)
        return self._by[_chance.choice(("san-matteo", "san-matteo", "maugeri"))](prepared)


schemathesis.auth.set_from_requests(Signed())


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Most of what is named is there, and belongs together. No member is removed, and nothing waited for."""
    exam = _chance.choice(KNOWN["exams"])
    for name, value in (case.path_parameters or {}).items():
        if name == "institution":
            case.path_parameters[name] = _chance.choice(("fuzz-a", "fuzz-b"))
        elif name in _TOLD and value not in _TOLD[name] and _chance.random() < 0.8:
            case.path_parameters[name] = _chance.choice(_TOLD[name])
        elif name in exam and _chance.random() < 0.8:
            case.path_parameters[name] = exam[name]
    if isinstance(case.body, dict):
        _fill(case.body, exam)
    if str((case.query or {}).get("wait", "")).isdigit():
        case.query["wait"] = 1  # which is asked for twenty seconds otherwise


def _fill(body: dict[str, Any], exam: dict[str, str]) -> None:
    known: dict[str, Any] = {
        "patient": {"id": exam["patient"]}, "to": "maugeri", "owner": "san-matteo", "study_instance_uid": exam["study"],
        "current_study": exam["study"], "sop_instance_uid": exam["sop"], "study_instance_uids": [exam["study"]],
        "sha256": [exam["sha256"]], "role_arn": "arn:aws:iam::123456789012:role/fuzz", "patient_id_issuer": "2.999.7",
        "practitioner": {"id": "rossi", "name": "Dr. Anna Rossi"}, "purpose": "report",
        "expires_at": f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%dT%H:%M:%SZ}",
    }  # fmt: skip
    for name, value in body.items():
        if name in known and type(value) is type(known[name]) and _chance.random() < 0.8:
            body[name] = known[name]
        elif isinstance(value, dict):
            _fill(value, exam)


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """What an answer tells of is known."""
    if response.status_code < 300 and response.content and "json" in response.headers.get("content-type", [""])[0]:
        _remember(response.json())


def _remember(told: Any) -> None:
    for name, value in told.items() if isinstance(told, dict) else enumerate(told) if isinstance(told, list) else ():
        for parameter in _MEANT.get(name, ()) if isinstance(value, str) else ():
            known = _TOLD.setdefault(parameter, [])
            if value not in known:
                known.append(value)
                del known[:-20]
        _remember(value)
