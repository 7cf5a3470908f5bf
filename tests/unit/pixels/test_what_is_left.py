"""A run that was killed leaves no pixels to the next one: Lambda keeps /tmp, and a full one is the next patient's trouble."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from tests.harness import ROOT

JOB = {"op": "transcode", "source": "instances/maugeri/aa", "target": "cache/rendered/bb"}


def decoder(folder: Path, **more: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = kept | {
        "TMPDIR": str(folder), "BUCKET_NAME": "b", "AWS_DEFAULT_REGION": "eu-south-1", "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x", "AWS_CONFIG_FILE": os.devnull,
    }  # fmt: skip
    command = [sys.executable, "-m", "pixels.worker"]
    return subprocess.Popen(command, cwd=ROOT, env=environment | more, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def is_ready(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    return process.stdout.readline() == "ready\n"


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=30)


@pytest.mark.parametrize("in_lambda", [True, False])
def test_what_a_killed_run_left_goes_where_nobody_else_is_at_work(tmp_path: Path, in_lambda: bool) -> None:
    begun, over = Event(), Event()

    class Slow(BaseHTTPRequestHandler):
        """Sends a part of an object, and nothing more."""

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(1 << 24))
            self.end_headers()
            self.wfile.write(bytes(1 << 21))
            begun.set()
            over.wait(60)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    Thread(target=server.serve_forever, daemon=True).start()
    somebodys = tmp_path / "somebody-elses"
    somebodys.touch()
    killed = decoder(tmp_path, AWS_ENDPOINT_URL=f"http://127.0.0.1:{server.server_port}")
    assert is_ready(killed)
    assert killed.stdin is not None
    print(json.dumps(JOB), file=killed.stdin, flush=True)
    assert begun.wait(60)
    end(killed)
    over.set()
    server.shutdown()
    server.server_close()
    left = [path for path in tmp_path.iterdir() if path != somebodys]
    assert len(left) == 1
    following = decoder(tmp_path, **({"AWS_LAMBDA_FUNCTION_NAME": "archive-pixels"} if in_lambda else {}))
    assert is_ready(following)
    end(following)
    assert left[0].exists() is not in_lambda
    assert somebodys.exists()
