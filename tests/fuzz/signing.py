"""What schemathesis loads to sign its requests as San Matteo; it runs in an environment without the product's libraries."""

import configparser
import json
import os
from pathlib import Path

import requests
import schemathesis  # type: ignore[import-not-found]
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

_SIGNED = ("Content-Type", "X-On-Behalf-Of", "Idempotency-Key")


class Signature(requests.auth.AuthBase):
    """SigV4 with the credentials of a running city's profile."""

    def __init__(self) -> None:
        endpoints = json.loads(Path(os.environ["ENDPOINTS"]).read_text())
        profiles = configparser.RawConfigParser()
        profiles.read(endpoints["aws_shared_credentials_file"])
        section = profiles["san-matteo"]
        self._credentials = Credentials(
            section["aws_access_key_id"], section["aws_secret_access_key"], section["aws_session_token"]
        )
        self._region = endpoints["region"]

    def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        fields = {name: prepared.headers[name] for name in _SIGNED if name in prepared.headers}
        request = AWSRequest(prepared.method, prepared.url, data=prepared.body or b"", headers=fields)
        SigV4Auth(self._credentials, "execute-api", self._region).add_auth(request)
        prepared.headers.update(dict(request.headers))
        return prepared


schemathesis.auth.set_from_requests(Signature())
