"""The viewer's site as it is published: the page's own files below a folder named by what is in them, so that browsers keep them
for good and never an old one beside a new one. What names that folder (`NAMING`) is asked for anew each time.

    python -m infra.page FOLDER

writes the whole site to a new folder, OHIF included where it was prepared, ready for `aws s3 sync` (docs/viewer.md).
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
from pathlib import Path

from chalicelib.config import VERSION

PAGE = "/page/"
NAMING = ("index.html", "app-config.js")
"""Files of the site that name files of the page; OHIF's own index is another."""
_DIGITS = 16


def version(site: Path) -> str:
    """What the folder of the page's files is called: hex digits that change whenever one of the files does."""
    digest = hashlib.sha256()
    for file in sorted(path for path in (site / "page").rglob("*") if path.is_file()):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(site).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:_DIGITS]


def addressed(text: bytes, version: str) -> bytes:
    """A text that names files of the page, naming them where they are published."""
    return text.replace(PAGE.encode(), f"{PAGE}{version}/".encode())


def publish(viewer: Path, target: Path) -> str:
    """Write the whole site of the folder `viewer` to a new folder; the answer is the version. Raises OSError."""
    site, ohif = viewer / "site", viewer / "dist" / "ohif"
    named = version(site)
    target.mkdir(parents=True)
    if (ohif / "index.html").is_file():
        shutil.copytree(ohif, target, ignore=shutil.ignore_patterns("*.gz", "index.html"), dirs_exist_ok=True)
        (target / "ohif").mkdir()
        (target / "ohif" / "index.html").write_bytes(addressed((ohif / "index.html").read_bytes(), named))
    shutil.copytree(site / "page", target / "page" / named)
    for name in NAMING:
        (target / name).write_bytes(addressed((site / name).read_bytes(), named))
    return named


def main(arguments: list[str] | None = None) -> int:
    """The command: prints the version that the files are published under."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.page", description="Write the page and the viewer as they are published."
    )
    parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a folder that does not exist yet")
    options = parser.parse_args(arguments)
    print(publish(Path(__file__).parent.parent / "viewer", options.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
