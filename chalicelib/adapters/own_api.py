"""The archive's own API and store, called from outside as a hospital calls them. Fulfils `domain.ports.ArchiveApi`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

_PATIENCE = urllib3.Timeout(connect=5.0, read=35.0)
"""Seconds. The gateway itself gives up after 29."""


class SignedApi:
    """Calls signed (SigV4, execute-api) with `session`'s credentials, to the API at `url`; `session` is a boto3 Session."""

    def __init__(self, session: Any, url: str) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._http = urllib3.PoolManager(timeout=_PATIENCE, retries=False)

    def call(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """See `ports.ArchiveApi.call`."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        request = AWSRequest(method, self._url + path, headers, body)
        signer = SigV4Auth(self._session.get_credentials().get_frozen_credentials(), "execute-api", self._session.region_name)
        signer.add_auth(request)
        return self._answer(method, self._url + path, dict(request.headers.items()), body)

    def follow(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> tuple[int, bytes]:
        """See `ports.ArchiveApi.follow`."""
        return self._answer(method, url, headers, body)

    def _answer(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        try:
            answer = self._http.request(method, url, headers=dict(headers), body=body or None, redirect=False)
        except urllib3.exceptions.HTTPError:
            return 0, b""
        return answer.status, answer.data
