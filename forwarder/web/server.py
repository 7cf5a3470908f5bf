"""The HTTP server of the hospital's door: uvicorn in a thread of its own, with limits on connections and on patience."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from forwarder.config import Config
from forwarder.errors import ConfigError, ForwarderError
from forwarder.tls import https_context

AT_ONCE = 256  # connections
REQUEST_SECONDS = 10.0
"""Within which the head of a request must be there, from the beginning of the connection or of the request."""
START_SECONDS = 15.0
ABORT = "abort_connection"
"""In a request's `state`: what breaks its connection off."""


class _Protocol(H11Protocol):
    """uvicorn's, which waits for a request's head as long as a client likes, and takes any number of connections."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        if len(self.connections) >= AT_ONCE:
            self.transport = transport
            transport.abort()
            return
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._lend()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_watching()
        elif self._patience is None:
            self._patience = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def on_response_complete(self) -> None:
        self._stop_watching()  # what comes next has its own time: idle connections are closed by uvicorn
        super().on_response_complete()
        self._lend()

    def _lend(self) -> None:
        """Let whoever answers break the connection off: a closed one stays until the client has taken all, if ever."""
        if self.scope is not None:
            self.scope["state"][ABORT] = self.transport.abort

    def _stop_watching(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


@contextmanager
def serving(config: Config, app: ASGIApp) -> Iterator[None]:
    """Serve the app at [page]'s address and port while the block runs. Raises ConfigError if the port is taken."""
    door = _listen(config.page.address, config.page.port)
    try:
        settings = uvicorn.Config(
            app, http=_Protocol, ws="none", loop="asyncio", lifespan="on", log_config=None, log_level="critical",
            access_log=False, proxy_headers=False, server_header=False, timeout_keep_alive=30, timeout_graceful_shutdown=3,
            h11_max_incomplete_event_size=64 * 1024, ssl_context_factory=_https(config) if config.web.certificate else None,
        )  # fmt: skip
        settings.load()  # here, where an error of the certificate is still ours to raise
        server = uvicorn.Server(settings)
        thread = threading.Thread(target=server.run, args=([door],), name="web", daemon=True)
        thread.start()
        _wait_until_started(server, thread)
        try:
            yield
        finally:
            server.should_exit = True
            thread.join(10)
    finally:
        door.close()


def _https(config: Config) -> Callable[..., ssl.SSLContext]:
    return lambda *_: https_context(config.web.certificate, config.web.key)


def _listen(address: str, port: int) -> socket.socket:
    try:
        return socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET, backlog=256)
    except OSError as error:
        raise ConfigError(f"Cannot show the page on {address}:{port}: {error.strerror}.") from error


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    waited = threading.Event()
    for _ in range(int(START_SECONDS / 0.01)):
        if server.started:
            return
        if not thread.is_alive():
            break
        waited.wait(0.01)
    raise ForwarderError("The page cannot be shown: its server did not start.")
