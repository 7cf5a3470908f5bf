"""``python -m infra.reproducible``: whether two builds of the same sources are the same, byte for byte.

The second one is of a copy in another folder, with other times and permissions, under another umask, locale and time zone.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from chalicelib.config import VERSION

ROOT = Path(__file__).parent.parent
_COPIED = (
    "app.py",
    "chalicelib",
    "pixels",
    "infra",
    "forwarder",
    "docs",
    "requirements",
    "requirements.txt",
    ".chalice",
    "pyproject.toml",
)
_MADE = ("**/*.zip", "**/*.whl", "**/sam.json", "**/*.cdx.json", "**/licences.txt")


def digests(root: Path, out: Path, *, forwarder_only: bool, umask: int, zone: str) -> dict[str, str]:
    """The SHA-256 of everything that is made of the sources in `root`, by its name below `out`."""
    commands = [] if forwarder_only else [["infra.package", "--stage", "prod", "--out", str(out)]]
    commands.append(["forwarder.build", str(out / "forwarder")])
    commands += [] if forwarder_only else [["infra.bill", "--out", str(out)]]
    for command in commands:
        subprocess.run(
            [sys.executable, "-m", *command], cwd=root, check=True, stdout=subprocess.DEVNULL, umask=umask,
            env={**os.environ, "TZ": zone, "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
    made = sorted(path for pattern in _MADE for path in out.glob(pattern))
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in made}


def differing(*, forwarder_only: bool = False) -> tuple[list[str], int]:
    """The names of what two builds make otherwise, or only one of them makes; and how many things there are."""
    with tempfile.TemporaryDirectory(prefix="contenitore-twice-") as folder:
        copy = Path(folder) / "elsewhere" / "sources"
        copy.mkdir(parents=True)
        for name in _COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, copy / name)
        for path in copy.rglob("*"):
            os.utime(path, (1, 1))
            path.chmod(0o700 if path.is_dir() else 0o600)
        with ThreadPoolExecutor(2) as both:
            built = partial(digests, forwarder_only=forwarder_only)
            first = both.submit(built, ROOT, Path(folder) / "one", umask=0o022, zone="UTC")
            second = both.submit(built, copy, Path(folder) / "other", umask=0o077, zone="Pacific/Kiritimati")
            here, other = first.result(), second.result()
    return sorted(name for name in {*here, *other} if here.get(name) != other.get(name)), len(here)


def main(arguments: list[str] | None = None) -> int:
    """The command: 1 where something differs."""
    parser = argparse.ArgumentParser(prog="python -m infra.reproducible", description="Build twice, and compare.")
    parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument("--forwarder-only", action="store_true", help="the forwarder's wheel alone, in seconds")
    options = parser.parse_args(arguments)
    names, count = differing(forwarder_only=options.forwarder_only)
    print("\n".join(f"differs  {name}" for name in names) or f"{count} files, each the same twice")
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
