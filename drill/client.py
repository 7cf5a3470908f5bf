"""An ordinary SigV4 client of the contract: it reads its credentials anew at each call, and follows redirects to S3 unsigned."""

from __future__ import annotations

import configparser
import json
from pathlib import Path
from typing import Any

import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

NO_ANSWER = (requests.RequestException, OSError, configparser.Error, KeyError)
"""What befalls a call that got no answer: nothing is known of what it did."""


class Hospital:
    """A profile's hands. `endpoints` is what `endpoints.json` says."""

    def __init__(self, endpoints: dict[str, Any], profile: str, person: str = "") -> None:
        self.endpoints, self.profile, self.person = endpoints, profile, person
        self._session = requests.Session()
        self._session.trust_env = False

    def credentials(self) -> Credentials:
        """As the profile's file has them now."""
        parser = configparser.RawConfigParser()
        parser.read_string(Path(self.endpoints["aws_shared_credentials_file"]).read_text(encoding="utf-8"))
        section = parser[self.profile]
        return Credentials(section["aws_access_key_id"], section["aws_secret_access_key"], section["aws_session_token"])

    def call(self, method: str, path: str, body: Any = None, timeout: float = 30, **headers: str) -> requests.Response:
        """A signed call; `body` is bytes, or goes as JSON. Raises one of NO_ANSWER."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if data is not None and "Content-Type" not in fields:
            fields["Content-Type"] = "application/json"
        if self.person:
            fields["X-On-Behalf-Of"] = self.person
        url = requests.Request(method, self.endpoints["api"] + path).prepare().url
        request = AWSRequest(method, url, data=data or b"", headers=fields)
        SigV4Auth(self.credentials(), "execute-api", self.endpoints["region"]).add_auth(request)
        answer = self._session.request(
            method, str(url), data=data, headers=dict(request.headers), timeout=timeout, allow_redirects=False
        )
        if answer.status_code in (302, 303, 307):
            followed = requests.get(answer.headers["Location"], timeout=timeout, headers={"Accept": headers.get("Accept", "*/*")})
            followed.headers["x-amzn-RequestId"] = answer.headers.get("x-amzn-RequestId", "")
            return followed
        return answer

    def get(self, path: str, **headers: str) -> requests.Response:
        return self.call("GET", path, **headers)

    def tried(self, method: str, path: str, body: Any = None, **headers: str) -> requests.Response | None:
        """The answer, or None where none came."""
        try:
            return self.call(method, path, body, **headers)
        except NO_ANSWER:
            return None


def request_id(answer: requests.Response) -> str:
    """The number by which the audit knows the request."""
    return str(answer.headers.get("x-amzn-RequestId", ""))
