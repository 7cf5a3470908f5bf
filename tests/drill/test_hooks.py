"""What the drill breaks in a forwarder is its disk, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.harness import ROOT

WRITES = """
import os, sys
spool = sys.argv[1]
file = os.open(os.path.join(spool, "a"), os.O_CREAT | os.O_WRONLY)
reads, writes = os.pipe()
os.dup2(writes, file)
print(os.write(file, b"12"), os.read(reads, 2))
try:
    os.write(os.open(os.path.join(spool, "b"), os.O_CREAT | os.O_WRONLY), b"1")
except OSError as error:
    print(error.strerror)
"""


def test_a_full_disk_is_full_for_files_and_not_for_a_pipe_that_has_the_number_of_one(tmp_path: Path) -> None:
    """The processes that compress are spoken to by pipes: what one had to compress was lost on the way, and waited for good."""
    (tmp_path / "spool").mkdir()
    (tmp_path / "drill.json").write_text(json.dumps({"disk": "full"}), encoding="utf-8")
    command = [sys.executable, "-c", WRITES, str(tmp_path / "spool"), "forwarder", "run", "--config", str(tmp_path / "x.toml")]
    hooks = {"PYTHONPATH": str(ROOT / "drill" / "hooks")}
    said = subprocess.run(command, env=os.environ | hooks, capture_output=True, text=True, timeout=60, check=True).stdout
    assert said.splitlines() == ["2 b'12'", "No space left on device"]
