"""Which handler answers which method and path."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from chalice.app import Response

from chalicelib.api.call import Call

Handler = Callable[..., Response]
HANDLERS: dict[tuple[str, str], Handler] = {}
"""The handlers by method and path, of the modules that were imported so far."""


def handler(method: str, path: str, *, public: bool = False, head: bool = False) -> Callable[[Handler], Handler]:
    """Let `handle(call, **path_parameters)` answer a method and path, with `head` HEAD too. `api.routes` registers it.

    Signed requests only, unless `public`: of members and the operator, before anything else is looked at.
    """
    del head  # said here for the reader; `api.routes` lets it in

    def register(handle: Handler) -> Handler:
        HANDLERS[method, path] = handle if public else _for_known_callers(handle)
        return handle

    return register


def _for_known_callers(handle: Handler) -> Handler:
    @wraps(handle)
    def guarded(call: Call, **parameters: str) -> Response:
        call.identify()
        return handle(call, **parameters)

    return guarded
