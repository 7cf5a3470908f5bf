"""In place of a hospital's reverse proxy that signs its staff in: whoever comes by this address is a demo person with every role.

For a browser on this machine, which cannot set the headers that a forwarder trusts from here.
"""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROLES = "registry,radiology,privacy,admin"
_PIECE = 64 * 1024
_SECONDS = 60
_OF_A_CONNECTION = frozenset({"connection", "keep-alive", "transfer-encoding", "x-remote-user", "x-remote-roles"})


class DemoStaff(ThreadingHTTPServer):
    """The address `http://127.0.0.1:<port>`, before the forwarder's page at `page_port`."""

    daemon_threads = True

    def __init__(self, institution: str, port: int, page_port: int) -> None:
        self.person, self.page_port = f"demo.{institution}", page_port
        super().__init__(("127.0.0.1", port), _Handler)

    def start(self) -> None:
        """Answer from now on."""
        threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True, name="demo-staff").start()

    def handle_error(self, *_: object) -> None:
        """A browser that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: DemoStaff
    timeout = _SECONDS

    def _answer(self) -> None:
        forwarder = http.client.HTTPConnection("127.0.0.1", self.server.page_port, timeout=_SECONDS)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _OF_A_CONNECTION}
            headers |= {"X-Remote-User": self.server.person, "X-Remote-Roles": ROLES}
            length = int(self.headers.get("Content-Length") or 0)
            forwarder.request(self.command, self.path, self.rfile.read(length) if length else None, headers)
            answer = forwarder.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in (*_OF_A_CONNECTION, "server", "date"):
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            while piece := answer.read(_PIECE):
                self.wfile.write(piece)
        except (OSError, http.client.HTTPException):
            self.close_connection = True
        finally:
            forwarder.close()

    do_GET = do_HEAD = do_POST = do_OPTIONS = _answer

    def log_message(self, format: str, *args: object) -> None:
        pass
