"""The city's registry of institutions, kept through its API by signed calls."""

import json
from typing import Any

import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

Registration = dict[str, Any]
"""The body of ``PUT /institutions/{id}``: name, role_arn, patient_id_issuer, ae_titles, issuer_names, corrections."""

_TIMEOUT = 35  # seconds; the gateway itself gives up after 29


class RegistryRefused(Exception):
    """The API did not do what was asked; the message says what it answered, `status` with which HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class RegistryClient:
    """The registry behind an API's address, called with one principal's credentials (SigV4, execute-api)."""

    def __init__(self, api: str, credentials: Credentials, region: str) -> None:
        self.api = api.rstrip("/")
        self._credentials = credentials
        self._region = region

    def get(self, institution: str) -> Registration | None:
        """The institution as the API lists it, or None. Raises RegistryRefused, requests.RequestException."""
        answer = self._call("GET", "/institutions", None, {200})
        listed: list[Registration] = answer.json()["institutions"]
        return next((entry for entry in listed if entry.get("id") == institution), None)

    def put(self, institution: str, registration: Registration) -> Registration:
        """Register it, or change its registration; what counts now. Raises RegistryRefused, requests.RequestException."""
        answer: Registration = self._call("PUT", f"/institutions/{institution}", json.dumps(registration), {200, 201}).json()
        return answer

    def confirm(self, institution: str, role_arn: str | None = None) -> Registration:
        """Confirm the new role that waits, as the institution itself; without `role_arn` only where no other was proposed.

        Raises RegistryRefused, requests.RequestException.
        """
        said = json.dumps({"role_arn": role_arn} if role_arn else {})
        answer: Registration = self._call("POST", f"/institutions/{institution}/confirm", said, {200}).json()
        return answer

    def delete(self, institution: str) -> bool:
        """Take it out; False if it was not registered. Raises RegistryRefused, requests.RequestException."""
        return self._call("DELETE", f"/institutions/{institution}", None, {200, 204, 404}).status_code != 404

    def erasure(self, method: str, institution: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """How the erasure of an institution stands after GET, PUT or DELETE; None where none was ever asked for.

        Raises RegistryRefused, requests.RequestException.
        """
        text = json.dumps(body) if body is not None else None
        answer = self._call(method, f"/institutions/{institution}/erasure", text, {200, 404} if method == "GET" else {200})
        found: dict[str, Any] | None = answer.json() if answer.status_code == 200 else None
        return found

    def _call(self, method: str, path: str, body: str | None, expected: set[int]) -> requests.Response:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        signed = AWSRequest(method, self.api + path, headers, (body or "").encode())
        SigV4Auth(self._credentials, "execute-api", self._region).add_auth(signed)
        answer = requests.request(
            method,
            signed.url,
            headers=dict(signed.headers.items()),
            data=body.encode() if body is not None else None,
            timeout=_TIMEOUT,
            allow_redirects=False,
        )
        if answer.status_code not in expected:
            said = f"{method} {self.api}{path}: {answer.status_code} {_reason(answer)}"
            raise RegistryRefused(said, answer.status_code)
        return answer


def _reason(answer: requests.Response) -> str:
    """What problem+json, the gateway (`message`) or IAM (`Message`) says, on one line."""
    try:
        body = answer.json()
    except requests.JSONDecodeError:
        return answer.text[:200]
    texts = [body.get(key) for key in ("type", "detail", "message", "Message")] if isinstance(body, dict) else [body]
    return " ".join(" ".join(str(text).split())[:300] for text in texts if text)
