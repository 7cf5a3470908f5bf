"""The command line: `python -m forwarder …`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from forwarder import __version__
from forwarder.errors import ConfigError, ForwarderError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Whatever goes wrong is one sentence on standard error, and code 2."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.command(arguments)
    except ForwarderError as error:
        print(f"forwarder: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("forwarder: interrupted; run the same command again to go on where it stopped", file=sys.stderr)
        return 2
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="forwarder", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("send", help="send files and folders to the archive")
    command.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    command.add_argument("--profile", help="AWS profile whose role signs the requests")
    command.add_argument("--api", help="address of the archive (or CONTENITORE_API)")
    command.add_argument("--region", help="AWS region of the archive")
    command.add_argument("--parallel", type=int, default=8, metavar="N", help="uploads at once (default 8)")
    command.set_defaults(command=_send)
    return parser


def _send(arguments: argparse.Namespace) -> int:
    from forwarder import progress
    from forwarder.archive import Archive, new_http
    from forwarder.send import send
    from forwarder.signing import Signer

    api = arguments.api or os.environ.get("CONTENITORE_API")
    if not api:
        raise ConfigError("Which archive? Give --api URL (or set CONTENITORE_API).")
    if not 1 <= arguments.parallel <= 64:
        raise ConfigError("--parallel should be between 1 and 64.")
    archive = Archive(
        api, Signer(arguments.profile, arguments.region), new_http(connections=arguments.parallel)
    )
    console = Console()
    with progress.shown(console) as on_progress:
        summary = send(arguments.paths, archive, on_progress, parallel=arguments.parallel)
    progress.print_summary(console, summary)
    return summary.exit_code


if __name__ == "__main__":
    sys.exit(main())
