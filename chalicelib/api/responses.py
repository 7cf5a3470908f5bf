"""Answers in JSON."""

from __future__ import annotations

import json

from chalice.app import Response


def answer(body: object, status: int = 200, content_type: str = "application/json", **headers: str) -> Response:
    """JSON, never cached: what one caller may see is not for another."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    fields = {"Content-Type": content_type, "Cache-Control": "no-store"}
    return Response(text, fields | {name.replace("_", "-").title(): value for name, value in headers.items()}, status)
