"""What API Gateway answers by itself: refusals, in the form that the API's definition gives them, and throttling.

After "Gateway responses" and "Throttle requests to your REST APIs" of its Developer Guide.
"""

from __future__ import annotations

import threading

from infra import templates
from local.web.wsgi import json_body

_API = templates.load(templates.FUNCTIONS)["Resources"]["RestAPI"]["Properties"]
_RESPONSES = _API["DefinitionBody"]["x-amazon-apigateway-gateway-responses"]
_KINDS = {"RequestTooLargeException": "REQUEST_TOO_LARGE", "TooManyRequestsException": "THROTTLED"}
_HEADER = "gatewayresponse.header."


class GatewayRefusal(Exception):
    """The gateway answers itself: status, the `x-amzn-ErrorType`, the message."""

    def __init__(self, status: int, error_type: str, message: str) -> None:
        super().__init__(error_type)
        self.status, self.error_type, self.message = status, error_type, message


def gateway_response(refused: GatewayRefusal, id_: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """What the gateway answers by itself: its own, and what the template says of that kind of answer ("Gateway responses")."""
    kind = _KINDS.get(refused.error_type, f"DEFAULT_{refused.status // 100}XX")
    said = _RESPONSES.get(kind, {})
    headers = {"Content-Type": "application/json", "x-amzn-ErrorType": refused.error_type}
    headers |= {name.removeprefix(_HEADER): value.strip("'") for name, value in said.get("responseParameters", {}).items()}
    key = "Message" if refused.error_type == "AccessDeniedException" else "message"  # IAM's own words come with a capital
    body = json_body({key: refused.message})
    if "responseTemplates" in said:
        body = str(said["responseTemplates"]["application/json"]).replace("$context.requestId", id_).encode()
    return int(said.get("statusCode", refused.status)), list(headers.items()), body


def too_large(id_: str) -> tuple[list[tuple[str, str]], bytes]:
    """Header fields and body that answer a request that is too large, for a request id."""
    return gateway_response(too_large_request(), id_)[1:]


def too_large_request() -> GatewayRefusal:
    """The refusal of a request that is too large."""
    return GatewayRefusal(413, "RequestTooLargeException", "Request Too Long")


class TokenBucket:
    """API Gateway's throttling of a method: so many requests a second on average, so many at once."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, float(burst)
        self._left, self._at = float(burst), 0.0
        self._lock = threading.Lock()

    def take(self, now: float) -> bool:
        """Whether a request may pass at `now`, in seconds."""
        with self._lock:
            self._left = min(self._burst, self._left + (now - self._at) * self._rate)
            self._at = now
            if self._left < 1:
                return False
            self._left -= 1
            return True
