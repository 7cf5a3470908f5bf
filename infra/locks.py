"""``python -m infra.locks``: the locks anew, each package with the SHA-256 of every file it may be installed from.

Needs uv (requirements/tools.txt). What is locked stays at its version, unless its .in file asks for another, or it is named with
``--upgrade-package``. A lock names no address: where packages come from is the installing machine's business.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from chalicelib.config import VERSION
from forwarder.build import REQUIRES
from infra import runtime

ROOT = Path(__file__).parent.parent
DEVELOPERS = ROOT / "requirements" / "dev.txt"
FORWARDER = ROOT / "forwarder" / "deploy" / "requirements.txt"
OLDEST = "3.11"
"""The oldest Python on which anything is run or installed."""


def commands(more: Sequence[str] = ()) -> list[tuple[list[str], str]]:
    """(command, what it reads from standard input) for each lock, the developers' first: the others keep to its versions."""
    locked = ROOT / "requirements"
    constrained = [*more, "--constraints", str(DEVELOPERS)]
    of_runtime = ("--python-version", runtime.version(runtime.DEFAULT), "--python-platform", "aarch64-manylinux_2_34")
    return [
        (_compile(str(locked / "dev.in"), DEVELOPERS, "--universal", "--python-version", OLDEST, *more), ""),
        (_compile("-", FORWARDER, "--universal", "--python-version", OLDEST, *constrained), "\n".join(REQUIRES)),
        (_compile(str(locked / "lambda.in"), ROOT / "requirements.txt", *of_runtime, *constrained), ""),
        (_compile(str(locked / "pixels.in"), locked / "pixels.txt", *of_runtime, *constrained), ""),
        (_compile(str(locked / "tools.in"), locked / "tools.txt", "--universal", "--python-version", OLDEST, *more), ""),
    ]


def _compile(source: str, lock: Path, *options: str) -> list[str]:
    said = ("--quiet", "--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links")
    return ["uv", "pip", "compile", *said, *options, source, "--output-file", str(lock)]


def main(arguments: list[str] | None = None) -> int:
    """The command: 1 where a lock could not be made."""
    parser = argparse.ArgumentParser(prog="python -m infra.locks", description="Make the locks anew.")
    parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument("--upgrade-package", action="append", default=[], metavar="NAME", help="to its newest version")
    options = parser.parse_args(arguments)
    more = [part for name in options.upgrade_package for part in ("--upgrade-package", name)]
    for command, given in commands(more):
        if subprocess.run(command, input=given, text=True, check=False).returncode:
            return 1
        print(command[-1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
