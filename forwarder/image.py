"""Build the forwarder's container image for several kinds of machine: `python -m forwarder.image OUT`.

Needs podman or docker (with buildx), and for a kind of machine that is not this one's QEMU's user mode. What goes in is the wheel
that `forwarder.build` makes, and what `requirements.txt` beside it names, each checked against its hash.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from forwarder import __version__
from forwarder.build import build
from forwarder.errors import ForwarderError

PLATFORMS = ("linux/amd64", "linux/arm64")
NAME = "contenitore-forwarder"


def command(engine: str, context: Path, platforms: Sequence[str], tag: str, base: str, more: Sequence[str] = ()) -> list[str]:
    """The command that builds the image from the folder that `forwarder.build` wrote, for all of the platforms under one name."""
    arguments = [*(["--build-arg", f"BASE={base}"] if base else []), *more, str(context)]
    kinds = f"--platform={','.join(platforms)}"
    if engine == "docker":
        return ["docker", "buildx", "build", kinds, "--tag", tag, *arguments]
    return ["podman", "build", kinds, "--manifest", tag, *arguments]


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 when the image was built, 2 with one sentence when it could not be."""
    parser = argparse.ArgumentParser(prog="python -m forwarder.image", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to build into")
    parser.add_argument("--platform", action="append", metavar="OS/ARCH", help=f"default: {' and '.join(PLATFORMS)}")
    parser.add_argument("--tag", default=f"{NAME}:{__version__}", help=f"default: {NAME}:{__version__}")
    parser.add_argument("--base", default="", metavar="IMAGE", help="another image with Python than the Dockerfile's")
    parser.add_argument("--engine", choices=("podman", "docker"), help="default: whichever is here")
    options, more = parser.parse_known_args(argv)
    engine = options.engine or next((name for name in ("podman", "docker") if shutil.which(name)), None)
    try:
        if engine is None:
            raise ForwarderError("Neither podman nor docker is installed.")
        build(options.out)
        wanted = command(
            engine,
            options.out,
            options.platform or PLATFORMS,
            options.tag,
            options.base,
            [argument for argument in more if argument != "--"],
        )
        if subprocess.run(wanted, check=False).returncode:
            raise ForwarderError(f"The image could not be built; {engine} said why above.")
    except ForwarderError as error:
        print(f"forwarder: {error}", file=sys.stderr)
        return 2
    print(f"{options.tag}  ({', '.join(options.platform or PLATFORMS)})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
